"""Facts about accuracy, balanced accuracy and F1: agreement with scikit-learn, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from badrjax import metrics
from tests.metrics.tables import (
    BY_GROUP,
    OVERALL,
    SKLEARN,
    arrays,
    everything,
    expected_auc,
    quiet,
    tables,
)


@settings(deadline=None, max_examples=40)
@given(tables(3))
def test_overall_metrics_agree_with_scikit_learn(table):
    labels, predictions, scores, (_, weight) = table
    ours = everything(*table, 3)
    kept = weight > 0
    for name, theirs in SKLEARN.items():
        expected = np.nan
        if kept.any():
            expected = quiet(theirs, labels[kept], predictions[kept], sample_weight=weight[kept])
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(ours["auc"], expected_auc(labels, scores, weight), rtol=1e-5, atol=1e-7)


@jax.jit
def with_five_classes(labels, predictions, weight):
    return (
        metrics.accuracy(labels, predictions, weight),
        metrics.balanced_accuracy(labels, predictions, weight, num_classes=5),
        metrics.f1(labels, predictions, weight, "macro", num_classes=5),
        metrics.f1(labels, predictions, weight, "weighted", num_classes=5),
    )


@settings(deadline=None, max_examples=30)
@given(arrays(0, 1, 2, 4), arrays(0, 1, 2, 3, 4), arrays(0.5, 1.0, 2.0))
def test_several_classes_agree_with_scikit_learn(labels, predictions, weight):
    ours = with_five_classes(labels, predictions, weight)
    names = "accuracy", "balanced_accuracy", "f1_macro", "f1_weighted"
    expected = [quiet(SKLEARN[name], labels, predictions, sample_weight=weight) for name in names]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


def test_the_number_of_classes_is_counted_where_it_can_be():
    labels, predictions = np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1])
    for name in ("balanced_accuracy", "f1_macro", "f1_weighted"):
        expected = SKLEARN[name](labels, predictions)
        np.testing.assert_allclose(OVERALL[name](labels, predictions), expected, rtol=1e-6)
        # Under tracing it is two, and a third class makes the result NaN, not another number.
        assert np.isnan(jax.jit(OVERALL[name])(labels, predictions))
    np.testing.assert_array_equal(metrics.group_accuracy(labels, predictions, [0, 0, 1, 1], 2), [0.5, 0.5])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64])
def test_classes_of_any_integer_type(dtype):
    labels, predictions = np.array([0, 1, 1, 0], dtype), jnp.asarray(np.array([0, 1, 0, 0], dtype))
    assert metrics.accuracy(labels, predictions) == 0.75
    assert metrics.balanced_accuracy(labels, predictions) == 0.75
    assert metrics.f1(labels, predictions) == pytest.approx(2 / 3)
    assert metrics.auc(labels, [0.1, 0.2, 0.3, 0.0]) == 1
    assert metrics.equal_opportunity_difference(labels, predictions, [0, 0, 1, 1], 2) == 1


def test_labels_coded_minus_one_and_one_are_refused_or_nan():
    labels, predictions = np.array([-1, 1, 1, -1]), np.array([0, 1, 0, 1])
    scores, groups = np.array([0.1, 0.2, 0.3, 0.0], np.float32), np.array([0, 0, 1, 1])
    for metric in OVERALL.values():
        with pytest.raises(ValueError, match=r"labels must be .*row 0 has -1; labels coded -1 and 1"):
            metric(labels, predictions)
        with pytest.raises(ValueError, match=r"predictions must be .*row 0 has -1"):
            metric(predictions, labels)
    for metric in BY_GROUP.values():
        with pytest.raises(ValueError, match="labels coded -1 and 1"):
            metric(labels, predictions, groups, 2)
    with pytest.raises(ValueError, match="labels must be 0 or 1, but row 0 has -1"):
        metrics.auc(labels, scores)
    traced = everything(labels, predictions, scores, (groups, np.ones(4)), 2)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(traced))


LABELS, PREDICTED, SCORES, GROUPS = [0, 1, 1], [0, 1, 0], [0.2, 0.7, 0.1], [0, 1, 1]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, r"labels must hold classes.*swapped", lambda: metrics.accuracy(SCORES, PREDICTED)),
        (TypeError, r"predictions must hold classes.*logits > 0", lambda: metrics.accuracy(LABELS, SCORES)),
        (TypeError, r"predictions must hold classes", lambda: metrics.balanced_accuracy(LABELS, SCORES)),
        (TypeError, r"predictions must hold classes", lambda: metrics.f1(LABELS, SCORES, average="macro")),
        (TypeError, r"astype\(int\)", lambda: metrics.f1(np.float32(LABELS), PREDICTED)),
        (TypeError, r"scores must hold floats.*swapped", lambda: metrics.auc(SCORES, LABELS)),
        (TypeError, r"scores must hold floats", lambda: metrics.auc(LABELS, PREDICTED)),
        (TypeError, r"scores must hold floats", lambda: metrics.auc(LABELS, np.array([True, False, True]))),
        (TypeError, r"labels must hold classes", lambda: metrics.group_auc(SCORES, SCORES, GROUPS, 2)),
        (ValueError, r"scores has 2", lambda: metrics.auc(LABELS, [0.1, 0.2])),
        (ValueError, r"scores must have one axis", lambda: metrics.auc(LABELS, np.ones((3, 1)))),
        (ValueError, r"labels must have one axis", lambda: metrics.accuracy(np.ones((3, 1), int), PREDICTED)),
        (ValueError, r"predictions has 2", lambda: metrics.accuracy(LABELS, [0, 1])),
        (ValueError, r"weight has 2", lambda: metrics.f1(LABELS, PREDICTED, [1.0, 1.0], "macro")),
        (ValueError, r"weight must hold frequencies", lambda: metrics.accuracy(LABELS, PREDICTED, [1, 1, -1])),
        (ValueError, r"in \[0, 1\)", lambda: metrics.group_auc(LABELS, SCORES, GROUPS, 1)),
        (TypeError, r"integer ids", lambda: metrics.group_accuracy(LABELS, PREDICTED, SCORES, 2)),
        (ValueError, r"num_groups must be", lambda: metrics.by_group(LABELS, PREDICTED, GROUPS, 0)),
        (ValueError, r"unknown average 'macr'.*'macro'", lambda: metrics.f1(LABELS, PREDICTED, None, "macr")),
        (ValueError, r"has two classes", lambda: metrics.f1(LABELS, PREDICTED, num_classes=3)),
        (ValueError, r"predictions must be 0 or 1", lambda: metrics.f1(LABELS, [0, 2, 1])),
        (ValueError, r"in \[0, 3\)", lambda: metrics.balanced_accuracy([3, 0, 1], PREDICTED, num_classes=3)),
    ],
)
def test_wrong_input_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_swapped_arguments_are_caught_under_tracing_too():
    labels, scores = jnp.array(LABELS), jnp.array(SCORES)
    with pytest.raises(TypeError, match="swapped"):
        jax.jit(metrics.auc)(scores, labels)
    with pytest.raises(TypeError, match="swapped"):
        jax.jit(metrics.accuracy)(labels, scores)
