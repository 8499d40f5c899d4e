"""Facts about the metrics: agreement with scikit-learn and fairlearn, invariances, and what is undefined."""

import warnings
from functools import partial

import fairlearn.metrics as fairlearn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sklearn
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax import metrics

N = 20
# Counts of few groups are one masked sum, of many a scatter.
NUMBERS = pytest.mark.parametrize("num_groups", [3, 20])

DIFFERENCES = {
    "demographic_parity": metrics.demographic_parity_difference,
    "equal_opportunity": metrics.equal_opportunity_difference,
    "predictive_equality": metrics.predictive_equality_difference,
    "equalized_odds": metrics.equalized_odds_difference,
}
FAIRLEARN = {
    "demographic_parity": fairlearn.demographic_parity_difference,
    "equal_opportunity": fairlearn.equal_opportunity_difference,
    "predictive_equality": fairlearn.false_positive_rate_difference,
    "equalized_odds": fairlearn.equalized_odds_difference,
}
# Functions of (labels, predictions, weight).
OVERALL = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "f1": metrics.f1,
    "f1_macro": partial(metrics.f1, average="macro"),
    "f1_weighted": partial(metrics.f1, average="weighted"),
}
SKLEARN = {
    "accuracy": sklearn.accuracy_score,
    "balanced_accuracy": sklearn.balanced_accuracy_score,
    "f1": partial(sklearn.f1_score, zero_division=0),
    "f1_macro": partial(sklearn.f1_score, average="macro", zero_division=0),
    "f1_weighted": partial(sklearn.f1_score, average="weighted", zero_division=0),
}
# Functions of (labels, predictions, groups, weight) with the number of groups bound.
BY_GROUP = DIFFERENCES | {
    "rates": metrics.by_group,
    "group_accuracy": metrics.group_accuracy,
    "group_balanced_accuracy": metrics.group_balanced_accuracy,
}


@partial(jax.jit, static_argnums=4)
def everything(labels, predictions, scores, rows, num_groups):
    """All metrics at once, so that there is one compilation for each shape."""
    groups, weight = rows
    overall = {name: metric(labels, predictions, weight) for name, metric in OVERALL.items()}
    grouped = {name: metric(labels, predictions, groups, num_groups, weight) for name, metric in BY_GROUP.items()}
    ranked = {
        "auc": metrics.auc(labels, scores, weight),
        "group_auc": metrics.group_auc(labels, scores, groups, num_groups, weight),
    }
    return overall | grouped | ranked


def assert_same(left, right, **tolerances):
    tolerances = {"rtol": 1e-5, "atol": 1e-6} | tolerances
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), left, right)


def arrays(*values):
    return st.lists(st.sampled_from(values), min_size=N, max_size=N).map(np.array)


def tables(num_groups):
    """Labels, predictions, scores with ties, and (groups, weights), often degenerate."""
    score = arrays(-np.inf, -1.5, -0.0, 0.0, 0.25, 0.5, 1e30).map(np.float32)
    weight = arrays(0.0, 0.0, 0.5, 1.0, 2.0, 3.0).map(np.float32)
    # Few groups of many, so that some hold more than a row or two.
    group = arrays(*{0, 1, num_groups // 2, num_groups - 1})
    return st.tuples(arrays(0, 1), arrays(0, 1), score, st.tuples(group, weight))


def quiet(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def expected_auc(labels, scores, weight):
    kept = weight > 0
    if len(np.unique(labels[kept])) < 2:
        return np.nan
    finite = np.nan_to_num(scores[kept].astype(float), posinf=1e300, neginf=-1e300)
    return sklearn.roc_auc_score(labels[kept], finite, sample_weight=weight[kept])


@settings(deadline=None, max_examples=80)
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


@NUMBERS
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_each_group_agrees_with_scikit_learn(num_groups, data):
    labels, predictions, scores, (groups, weight) = table = data.draw(tables(num_groups))
    ours = everything(*table, num_groups)
    for k in range(num_groups):
        mine = (groups == k) & (weight > 0)
        y, p, w = labels[mine], predictions[mine], weight[mine]
        rates = {name: column[k] for name, column in ours["rates"]._asdict().items()}
        mean = lambda values, rows=slice(None), w=w: (  # noqa: E731
            np.average(values[rows], weights=w[rows]) if w[rows].size else np.nan
        )
        expected = {
            "count": w.sum(),
            "num_positive": w[y == 1].sum(),
            "num_negative": w[y == 0].sum(),
            "base_rate": mean(y),
            "positive_rate": mean(p),
            "true_positive_rate": mean(p, y == 1),
            "false_positive_rate": mean(p, y == 0),
            "accuracy": mean(p == y),
            "balanced_accuracy": (mean(p, y == 1) + 1 - mean(p, y == 0)) / 2,
        }
        assert_same(rates, expected)
        np.testing.assert_array_equal(ours["group_accuracy"][k], rates["accuracy"])
        np.testing.assert_array_equal(ours["group_balanced_accuracy"][k], rates["balanced_accuracy"])
        np.testing.assert_allclose(
            ours["group_auc"][k], expected_auc(labels[mine], scores[mine], w), rtol=1e-5, atol=1e-7
        )


NEEDED = {
    "demographic_parity": lambda y: y >= 0,
    "equal_opportunity": lambda y: y == 1,
    "predictive_equality": lambda y: y == 0,
}


def expected_difference(name, labels, predictions, groups, weight):
    """fairlearn's, on the groups that can be assessed."""
    if name == "equalized_odds":
        parts = (
            expected_difference(part, labels, predictions, groups, weight)
            for part in ("equal_opportunity", "predictive_equality")
        )
        return np.max(list(parts))
    able = np.unique(groups[NEEDED[name](labels) & (weight > 0)])
    if able.size < 2:
        return np.nan
    kept = np.isin(groups, able) & (weight > 0)
    return quiet(
        FAIRLEARN[name],
        labels[kept],
        predictions[kept],
        sensitive_features=groups[kept],
        sample_weight=weight[kept],
    )


@NUMBERS
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_differences_agree_with_fairlearn_on_the_groups_that_can_be_assessed(num_groups, data):
    labels, predictions, _, rows = table = data.draw(tables(num_groups))
    ours = everything(*table, num_groups)
    for name in DIFFERENCES:
        expected = expected_difference(name, labels, predictions, *rows)
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("num_groups", [2, 5, 30])
def test_differences_equal_fairlearn_on_ordinary_data(num_groups):
    random = np.random.default_rng(num_groups)
    labels, predictions = random.integers(0, 2, (2, 3000))
    groups = random.integers(0, num_groups, 3000)
    weight = random.uniform(0.1, 2, 3000)
    for name, metric in DIFFERENCES.items():
        for given_weight in (None, weight):
            expected = FAIRLEARN[name](labels, predictions, sensitive_features=groups, sample_weight=given_weight)
            ours = metric(labels, predictions, groups, num_groups, given_weight)
            np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_a_group_without_positives_takes_no_part():
    labels = np.array([0, 1, 1, 1, 0, 1, 0, 0])
    predictions = np.array([0, 1, 1, 0, 0, 1, 0, 0])
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    arguments = labels, predictions, groups, 3
    np.testing.assert_allclose(metrics.equal_opportunity_difference(*arguments), 1 / 3, rtol=1e-6)
    # fairlearn gives group 2 the rate 0 of no rows.
    assert FAIRLEARN["equal_opportunity"](labels, predictions, sensitive_features=groups) == 1
    # Its false positive rate counts all the same.
    worse = np.where(groups == 2, 1, predictions)
    assert metrics.equalized_odds_difference(labels, worse, groups, 3) == 1


def test_half_of_equalized_odds_is_not_equalized_odds():
    labels, predictions = np.array([1, 0, 0, 0]), np.array([1, 0, 1, 0])
    groups = np.array([0, 0, 1, 1])
    for call in (lambda f: f, lambda f: jax.jit(f, static_argnums=3)):
        arguments = labels, predictions, groups, 2
        assert np.isnan(call(metrics.equal_opportunity_difference)(*arguments))
        assert call(metrics.predictive_equality_difference)(*arguments) == 0.5
        assert np.isnan(call(metrics.equalized_odds_difference)(*arguments))


def test_one_group_cannot_differ():
    for metric in DIFFERENCES.values():
        assert np.isnan(metric(np.array([0, 1]), np.array([0, 1]), np.array([1, 1]), 3))


def test_no_rows_and_no_weight_are_undefined():
    none = np.zeros(0, int)
    results = everything(none, none, np.zeros(0, np.float32), (none, np.zeros(0, np.float32)), 2)
    padding = np.zeros(4, int), np.ones(4, int), np.zeros(4, np.float32), (np.zeros(4, int), np.zeros(4))
    for result in (results, everything(*padding, 2)):
        counts = result["rates"]
        np.testing.assert_array_equal([counts.count, counts.num_positive, counts.num_negative], 0)
        result["rates"] = counts[3:]
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(result))


@settings(deadline=None, max_examples=25)
@given(tables(3), arrays(0, 1, 2, 3))
def test_a_weight_is_a_number_of_repetitions(table, times):
    *columns, (groups, _) = table
    padding = 3 * N - times.sum()
    # Padded to one length, for one compilation.
    labels, predictions, scores, groups_repeated, ones = (
        np.pad(np.repeat(column, times), (0, padding)) for column in (*columns, groups, np.ones(N, np.float32))
    )
    weighted = everything(*columns, (groups, times.astype(np.float32)), 3)
    assert_same(weighted, everything(labels, predictions, scores, (groups_repeated, ones), 3))


@NUMBERS
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_padding_is_not_looked_at(num_groups, data):
    labels, predictions, scores, (groups, weight) = table = data.draw(tables(num_groups))
    clean = everything(*table, num_groups)
    garbage = np.where(weight > 0, labels, -7), np.where(weight > 0, predictions, 99)
    scores = np.where(weight > 0, scores, np.float32(np.nan))
    for groups_of in (groups, np.where(weight > 0, groups, num_groups - 1)):
        dirty = everything(*garbage, scores, (groups_of, weight), num_groups)
        assert_same(clean, dirty, rtol=0, atol=1e-7)


def test_padding_is_not_looked_at_outside_tracing_either():
    labels, predictions = np.array([0, 1, -1]), np.array([0, 0, 10**9])
    scores, weight = np.array([0.1, 0.9, np.nan], np.float32), np.array([1.0, 1.0, 0.0])
    assert metrics.accuracy(labels, predictions, weight) == 0.5
    assert metrics.balanced_accuracy(labels, predictions, weight) == 0.5
    assert metrics.f1(labels, predictions, weight, "macro") == pytest.approx(1 / 3)
    assert metrics.auc(labels, scores, weight) == 1


@settings(deadline=None, max_examples=20)
@given(tables(3), st.permutations(range(N)), st.permutations(range(3)))
def test_row_order_and_group_numbers_do_not_matter(table, order, names):
    order, names = np.array(order), np.array(names)
    *columns, (groups, weight) = table
    original = everything(*table, 3)
    moved = everything(*(column[order] for column in columns), (names[groups[order]], weight[order]), 3)
    renamed = jax.tree.map(lambda leaf: leaf[names] if np.ndim(leaf) else leaf, moved)
    assert_same(original, renamed)


@settings(deadline=None, max_examples=15)
@given(tables(3))
def test_empty_groups_change_nothing(table):
    *columns, (groups, weight) = table
    few = everything(*table, 3)
    many = everything(*columns, (groups + 8, weight), 20)
    assert_same(few, jax.tree.map(lambda leaf: leaf[8:11] if np.ndim(leaf) else leaf, many))
    empty = jax.tree.leaves(jax.tree.map(lambda leaf: leaf[11:] if np.ndim(leaf) else 0.0, many))
    assert all(np.nan_to_num(leaf, nan=0.0).max() == 0 for leaf in empty)


@pytest.mark.parametrize("num_groups", [3, 20])
def test_lanes_equal_a_loop_and_outside_jit(num_groups):
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 2, (2, 4, N))
    scores = random.normal(size=(4, N)).round(1).astype(np.float32)
    groups = random.integers(0, num_groups, (4, N))
    weight = random.integers(0, 3, (4, N)).astype(np.float32)
    labels[1], weight[2] = 1, 0
    lanes = jax.vmap(lambda *table: everything(*table, num_groups))(labels, predictions, scores, (groups, weight))
    for lane in range(4):
        table = labels[lane], predictions[lane], scores[lane], (groups[lane], weight[lane])
        alone = everything(*table, num_groups)
        assert_same(jax.tree.map(lambda leaf, i=lane: leaf[i], lanes), alone)
        if lane == 0 and num_groups == 3:
            assert_same(everything.__wrapped__(*table, num_groups), alone)


def test_float64_keeps_its_digits(x64):
    random = np.random.default_rng(3)
    labels, predictions = random.integers(0, 2, (2, 500))
    scores, weight = random.normal(size=500), random.uniform(0.1, 1, 500)
    groups = random.integers(0, 3, 500)
    ours = everything(labels, predictions, scores, (groups, weight), 3)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(ours))
    for name, theirs in SKLEARN.items():
        expected = theirs(labels, predictions, sample_weight=weight)
        np.testing.assert_allclose(ours[name], expected, rtol=1e-12)
    np.testing.assert_allclose(ours["auc"], expected_auc(labels, scores, weight), rtol=1e-12)
    # These differ in float64 only.
    near = np.array([1.0, 1.0 + 1e-12])
    assert metrics.auc(np.array([0, 1]), near) == 1


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighting", ["none", "equal", "spread"])
def test_auc_of_many_rows_in_float32(ties, weighting):
    random = np.random.default_rng(4)
    n, num_groups = 200_000, 50
    labels = random.integers(0, 2, n)
    scores = (random.normal(size=n) + 0.5 * labels).astype(np.float32)
    scores = scores.round(1) if ties else scores
    groups = random.integers(0, num_groups, n)
    weight = {
        "none": None,
        "equal": np.full(n, 0.1, np.float32),
        "spread": random.exponential(size=n).astype(np.float32),
    }[weighting]
    expected = sklearn.roc_auc_score(labels, scores, sample_weight=weight)
    assert abs(metrics.auc(labels, scores, weight) - expected) < 5e-7
    ours = metrics.group_auc(labels, scores, groups, num_groups, weight)
    for k in range(0, num_groups, 7):
        mine = groups == k
        expected = sklearn.roc_auc_score(
            labels[mine], scores[mine], sample_weight=None if weight is None else weight[mine]
        )
        assert abs(ours[k] - expected) < 1e-6


def test_a_light_group_beside_a_heavy_one_keeps_its_digits():
    random = np.random.default_rng(5)
    groups = np.repeat([0, 1, 2], [5000, 50, 5000])
    labels = random.integers(0, 2, groups.size)
    scores = random.normal(size=groups.size).astype(np.float32)
    for scale in (1e-12, 1e12):
        weight = np.where(groups == 1, np.float32(scale), np.float32(1))
        ours = metrics.group_auc(labels, scores, groups, 3, weight)[1]
        np.testing.assert_allclose(ours, sklearn.roc_auc_score(labels[groups == 1], scores[groups == 1]), rtol=1e-6)


def test_auc_at_its_corners():
    scores = np.arange(1000, dtype=np.float32)
    weight = np.random.default_rng(4).uniform(0.1, 3, 1000).astype(np.float32)
    for negatives in range(100, 1000, 100):
        labels = np.repeat([0, 1], [negatives, 1000 - negatives])
        for given_weight in (np.ones_like(weight), weight):
            worst = metrics.auc(labels, -scores, given_weight)
            best = metrics.auc(labels, scores, given_weight)
            assert 0 <= worst <= 5e-7
            assert 1 - 5e-7 <= best <= 1
            ties = metrics.auc(labels, np.ones(1000, np.float32), given_weight)
            np.testing.assert_allclose(ties, 0.5, rtol=1e-6)
            # Counts are exact.
            assert given_weight is weight or (worst, best, ties) == (0, 1, 0.5)


@settings(deadline=None, max_examples=20)
@given(tables(3))
def test_auc_depends_on_the_ranking_alone_and_turns_with_it(table):
    labels, predictions, scores, rows = table
    ours = everything(*table, 3)
    up = everything(labels, predictions, np.float32(2) * np.cbrt(scores), rows, 3)
    down = everything(labels, predictions, -scores, rows, 3)
    swapped = everything(1 - labels, predictions, scores, rows, 3)
    for name in ("auc", "group_auc"):
        assert_same(ours[name], up[name])
        assert_same(ours[name], 1 - down[name])
        assert_same(ours[name], 1 - swapped[name])


def test_a_nan_score_that_counts_shows_in_its_group_only():
    labels, groups = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2])
    for row, bad in ((2, 1), (3, 1), (5, 2), (0, 0)):
        scores = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0], np.float32)
        scores[row] = np.nan
        ours = metrics.group_auc(labels, scores, groups, 4)
        np.testing.assert_array_equal(np.isnan(ours), [bad == 0, bad == 1, bad == 2, True])
        assert np.isnan(metrics.auc(labels, scores))


def test_the_smallest_differences_between_scores_count():
    # Below the normal range of float32, and next to each other.
    for low, high in (
        (1e-40, 2e-40),
        (-1e-40, 0.0),
        (-2e-40, -1e-40),
        (1.0, np.nextafter(np.float32(1), np.float32(2))),
    ):
        scores = np.array([low, high], np.float32)
        assert metrics.auc(np.array([0, 1]), scores) == 1
        assert metrics.auc(np.array([1, 0]), scores) == 0
    assert metrics.auc(np.array([0, 1]), np.array([0.0, -0.0])) == 0.5


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_scores_of_any_float_type(dtype):
    labels = np.array([0, 1, 1, 0, 1])
    scores = np.array([0.0, 0.5, 2.0, 0.5, 1.0]).astype(dtype)
    assert metrics.auc(labels, scores) == pytest.approx(5.5 / 6)


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


def test_what_left_a_group_out_is_told():
    rates = metrics.by_group(
        labels=np.array([1, 0, 1, 0]),
        predictions=np.array([1, 0, 1, 1]),
        groups=np.array([0, 0, 1, 2]),
        num_groups=4,
    )
    assert rates.left_out == {
        "base_rate": (3,),
        "positive_rate": (3,),
        "true_positive_rate": (2, 3),
        "false_positive_rate": (1, 3),
        "accuracy": (3,),
        "balanced_accuracy": (1, 2, 3),
    }
    np.testing.assert_array_equal(rates.count, [2, 1, 1, 0])
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), rates)
    with pytest.raises(ValueError, match="left_out is of one set of rates"):
        _ = lanes.left_out


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
