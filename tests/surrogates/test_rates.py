"""Facts about soft rates and soft F1: what they are on hard predictions, invariances, derivatives, degenerate cases."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sklearn
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax import metrics, objectives
from badrjax.surrogates import Rates, entmax15, rates_present, soft_f1, soft_rates, sparsemax

N, K, C = 14, 3, 3
NAN = np.nan
AVERAGES = ("binary", "macro", "weighted")


def hard(z):
    return jax.nn.one_hot(jnp.argmax(z, axis=-1), z.shape[-1], dtype=z.dtype)


MAPPINGS = {"entmax15": entmax15, "sparsemax": sparsemax, "softmax": jax.nn.softmax, "hard": hard}
SMOOTH = pytest.mark.parametrize("mapping", ["entmax15", "sparsemax", "softmax"])


def soft_scores_of(mapping):
    """All rates and F1s of binary logits at once."""

    def compute(scores, labels, groups, weight):
        rates = soft_rates(scores, labels, groups, K, weight, mapping)
        f1 = [soft_f1(scores, labels, weight, average, mapping) for average in AVERAGES]
        return jnp.concatenate([*rates, jnp.stack(f1)])

    return compute


EVERYTHING = {name: jax.jit(soft_scores_of(f)) for name, f in MAPPINGS.items()}
JACOBIANS = {name: jax.jit(jax.jacrev(soft_scores_of(f))) for name, f in MAPPINGS.items()}
PRESENT = jax.jit(partial(rates_present, num_groups=K))


@jax.jit
def hard_metrics(labels, predictions, groups, weight):
    rates = metrics.by_group(labels, predictions, groups, K, weight)
    f1 = [metrics.f1(labels, predictions, weight, average) for average in AVERAGES]
    return jnp.stack([rates.positive_rate, rates.true_positive_rate, rates.false_positive_rate]), jnp.stack(f1)


@jax.jit
def f1_of_classes(scores, labels, weight):
    """By average and mapping, and the hard metric."""
    soft = [[soft_f1(scores, labels, weight, average, f) for f in (entmax15, hard)] for average in AVERAGES[1:]]
    predictions = jnp.argmax(scores, axis=-1)
    metric = [metrics.f1(labels, predictions, weight, average, num_classes=C) for average in AVERAGES[1:]]
    return jnp.array(soft), jnp.stack(metric), entmax15(scores)


def arrays(*values):
    return st.lists(st.sampled_from(values), min_size=N, max_size=N).map(np.array)


SCORES = arrays(-3.0, -1.0, -0.4, 0.3, 1.2, 2.5).map(np.float32)
WEIGHTS = arrays(0.0, 0.0, 0.5, 1.0, 2.0, 3.0).map(np.float32)
TABLES = st.tuples(SCORES, arrays(0, 1), arrays(*range(K)), WEIGHTS)


def probability(scores, mapping):
    """Closed forms for two classes, in double precision."""
    scores = np.asarray(scores, float)
    if mapping == "entmax15":
        half = np.clip(scores / 2, -1, 1)
        return ((half + np.sqrt(2 - half**2)) / 2) ** 2
    return {
        "sparsemax": np.clip((1 + scores) / 2, 0, 1),
        "softmax": 1 / (1 + np.exp(-scores)),
        "hard": (scores > 0).astype(float),
    }[mapping]


def expected_rates(p, labels, groups, weight):
    """A loop over groups; 0 where there are no rows."""
    rates = np.zeros((3, K))
    for k in range(K):
        for r, needed in enumerate((labels >= 0, labels == 1, labels == 0)):
            rows = (groups == k) & needed & (weight > 0)
            if rows.any():
                rates[r, k] = np.average(p[rows], weights=weight[rows])
    return rates


def expected_f1(p, labels, weight, average):
    """A loop over rows; `p` is `[n, C]`."""
    if weight.sum() == 0:
        return NAN
    counts = np.zeros((p.shape[1], 3))
    for row, label, w in zip(p, labels, weight, strict=True):
        for c in range(p.shape[1]):
            counts[c] += w * np.array([row[c] * (label == c), row[c] * (label != c), (1 - row[c]) * (label == c)])
    right, false_positive, false_negative = counts.T
    whole = 2 * right + false_positive + false_negative
    scores = 2 * right / np.where(whole > 0, whole, 1)
    if average == "binary":
        return scores[1]
    if average == "macro":
        return scores[whole > 0].mean()
    return np.average(scores, weights=right + false_negative)


# Values


@pytest.mark.parametrize("mapping", MAPPINGS)
@settings(deadline=None, max_examples=40)
@given(table=TABLES)
def test_values_are_those_of_loops(mapping, table):
    scores, labels, groups, weight = table
    p = probability(scores, mapping)
    expected = expected_rates(p, labels, groups, weight).ravel()
    two = np.stack([1 - p, p], axis=-1)
    expected = np.append(expected, [expected_f1(two, labels, weight, average) for average in AVERAGES])
    np.testing.assert_allclose(EVERYTHING[mapping](*table), expected, atol=2e-6)


@settings(deadline=None, max_examples=40)
@given(table=TABLES)
def test_hard_predictions_give_the_hard_metrics(table):
    scores, labels, groups, weight = table
    predictions = (scores > 0).astype(int)
    found = np.asarray(EVERYTHING["hard"](*table))
    rates, scores_of_f1 = map(np.asarray, hard_metrics(labels, predictions, groups, weight))
    present = np.stack(PRESENT(labels, groups, weight=weight))
    np.testing.assert_array_equal(present, ~np.isnan(rates))
    np.testing.assert_allclose(found[: 3 * K].reshape(3, K), np.where(present, rates, 0), atol=1e-6)
    kept = weight > 0
    np.testing.assert_allclose(found[3 * K :], scores_of_f1, atol=1e-6)
    for average, f1 in zip(AVERAGES, found[3 * K :], strict=True):
        if kept.any():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = sklearn.f1_score(
                    labels[kept], predictions[kept], sample_weight=weight[kept], average=average, zero_division=0
                )
            np.testing.assert_allclose(f1, theirs, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), labels=arrays(0, 0, 1, C - 1), weight=WEIGHTS.filter(np.any))
def test_f1_of_several_classes(seed, labels, weight):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(N, C)).astype("f")
    if seed % 2:
        scores[:, 2] -= 10  # a class that nothing predicts
    soft, metric, p = map(np.asarray, f1_of_classes(scores, labels, weight))
    predictions, kept = scores.argmax(-1), weight > 0
    np.testing.assert_allclose(soft[:, 1], metric, atol=1e-6)
    for average, (smooth, sharp) in zip(AVERAGES[1:], soft, strict=True):
        np.testing.assert_allclose(smooth, expected_f1(p.astype(float), labels, weight, average), atol=2e-6)
        theirs = sklearn.f1_score(
            labels[kept], predictions[kept], sample_weight=weight[kept], average=average, zero_division=0
        )
        np.testing.assert_allclose(sharp, theirs, atol=1e-6)


@SMOOTH
def test_sharper_mappings_tend_to_the_hard_rates(mapping):
    random = np.random.default_rng(0)
    table = random.normal(size=N).astype("f"), random.integers(0, 2, N), random.integers(0, K, N), np.ones(N, "f")
    scores, *rest = table
    far = np.float32(100 / np.abs(scores).min()) * scores
    np.testing.assert_allclose(EVERYTHING[mapping](far, *rest), EVERYTHING["hard"](*table), atol=1e-6)


@SMOOTH
def test_two_columns_and_no_weights_are_the_same_as_logits_and_ones(mapping):
    random = np.random.default_rng(1)
    scores, labels, groups = random.normal(size=N).astype("f"), random.integers(0, 2, N), random.integers(0, K, N)
    columns = jnp.stack([jnp.zeros(N), scores], axis=-1)
    np.testing.assert_allclose(
        jax.jit(soft_scores_of(MAPPINGS[mapping]))(columns + 3, labels == 1, groups, None),
        EVERYTHING[mapping](scores, labels, groups, np.ones(N, "f")),
        atol=1e-6,
    )


# Invariances


@settings(deadline=None, max_examples=30)
@given(table=TABLES, garbage=st.sampled_from([NAN, np.inf, -np.inf, 1e30]), bad_label=st.sampled_from([-1, 2, 99]))
def test_rows_without_weight_reach_neither_values_nor_derivatives(table, garbage, bad_label):
    scores, labels, groups, weight = table
    dirty = np.where(weight > 0, scores, np.float32(garbage)), np.where(weight > 0, labels, bad_label), groups, weight
    for mapping in ("entmax15", "softmax"):
        np.testing.assert_array_equal(EVERYTHING[mapping](*dirty), EVERYTHING[mapping](*table))
        jacobian = np.asarray(JACOBIANS[mapping](*dirty))
        np.testing.assert_array_equal(jacobian, JACOBIANS[mapping](*table))
        assert np.isfinite(jacobian).all()
        np.testing.assert_array_equal(jacobian[:, weight == 0], 0)


@settings(deadline=None, max_examples=25)
@given(table=TABLES, order=st.permutations(range(N)), names=st.permutations(range(K)))
def test_row_order_and_names_of_groups_do_not_matter(table, order, names):
    scores, labels, groups, weight = table
    order, names = np.array(order), np.array(names)
    moved = np.asarray(EVERYTHING["entmax15"](scores[order], labels[order], names[groups[order]], weight[order]))
    plain = np.asarray(EVERYTHING["entmax15"](*table))
    np.testing.assert_allclose(moved[: 3 * K].reshape(3, K)[:, names], plain[: 3 * K].reshape(3, K), atol=1e-6)
    np.testing.assert_allclose(moved[3 * K :], plain[3 * K :], atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_whole_weights_are_repeats(data):
    short = 5
    count = data.draw(st.lists(st.integers(0, 2), min_size=short, max_size=short).map(np.array))
    table = [column[:short] for column in data.draw(TABLES)[:3]]
    fill = N - short
    weighted = [np.append(column, np.zeros(fill, column.dtype)) for column in (*table, count.astype("f"))]
    total = int(count.sum())
    repeated = [np.append(np.repeat(column, count), np.zeros(N - total, column.dtype)) for column in table]
    ones = (np.arange(N) < total).astype("f")
    np.testing.assert_allclose(EVERYTHING["entmax15"](*weighted), EVERYTHING["entmax15"](*repeated, ones), atol=1e-6)


def test_absent_groups_are_left_to_the_masks():
    scores, labels, groups = np.array([0.5, -0.5, 1.0], "f"), np.array([1, 1, 0]), np.array([0, 0, 2])
    rates = jax.jit(soft_rates, static_argnums=3)(scores, labels, groups, K)
    present = rates_present(labels, groups, K)
    assert [np.asarray(mask).tolist() for mask in present] == [
        [True, False, True],
        [True, False, False],
        [False, False, True],
    ]
    for rate, mask in zip(rates, present, strict=True):
        np.testing.assert_array_equal(np.asarray(rate)[~np.asarray(mask)], 0)
    # Group 1 does not count as one of rate 0.
    gap = objectives.gap(rates.positive, present.positive)
    np.testing.assert_allclose(gap, probability(1.0, "entmax15") - 0.5, rtol=1e-6)
    assert isinstance(present, Rates)


# Derivatives


@SMOOTH
def test_derivatives_are_right_three_ways(mapping, x64):
    random = np.random.default_rng(2)
    scores = random.choice([-0.8, -0.33, 0.21, 0.6, 0.95, 1.4, -2.6], N) + 0.01 * random.normal(size=N)
    labels, groups, weight = random.integers(0, 2, N), random.integers(0, K - 1, N), random.integers(0, 3, N) + 0.0
    jacobian = np.asarray(JACOBIANS[mapping](scores, labels, groups, weight))
    step = 1e-6
    # Independently: the derivative of the loops' means, by differences of the closed form of the probability.
    slope = (probability(scores + step, mapping) - probability(scores - step, mapping)) / (2 * step)
    for k in range(K):
        for r, needed in enumerate((labels >= 0, labels == 1, labels == 0)):
            rows = weight * ((groups == k) & needed)
            expected = rows * slope / max(rows.sum(), 1)
            np.testing.assert_allclose(jacobian[r * K + k], expected, atol=1e-8)
    for row, unit in enumerate(np.eye(N)):
        up, down = (np.asarray(EVERYTHING[mapping](scores + h * unit, labels, groups, weight)) for h in (step, -step))
        np.testing.assert_allclose(jacobian[:, row], (up - down) / (2 * step), atol=1e-8)
    # F1 = 2 TP / (support + mass) of class 1, by the quotient rule.
    p, positive = probability(scores, mapping), labels == 1
    whole, right = weight @ (p + positive), weight @ (p * positive)
    np.testing.assert_allclose(jacobian[3 * K], 2 * weight * slope * (positive / whole - right / whole**2), atol=1e-8)


def test_forward_mode_and_float32_agree_with_reverse_in_float64(x64):
    random = np.random.default_rng(3)
    table = random.normal(size=N), random.integers(0, 2, N), random.integers(0, K, N), np.ones(N)
    reverse = JACOBIANS["entmax15"](*table)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(soft_scores_of(entmax15)))(*table), reverse, atol=1e-14)
    single = JACOBIANS["entmax15"](table[0].astype("f"), *table[1:3], table[3].astype("f"))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, reverse, atol=1e-6)


# Degenerate and bad input


def test_f1_without_the_class_is_zero_with_derivative_zero():
    scores, zeros = np.full(N, -5, "f"), np.zeros(N, int)
    # entmax15 gives class 1 no mass at all: binary 0, macro over class 0 alone.
    found = np.asarray(EVERYTHING["entmax15"](scores, zeros, zeros, np.ones(N, "f")))
    np.testing.assert_allclose(found[3 * K :], [0, 1, 1])
    np.testing.assert_array_equal(JACOBIANS["entmax15"](scores, zeros, zeros, np.ones(N, "f")), 0)
    # softmax gives it some, so that it counts.
    found = np.asarray(EVERYTHING["softmax"](scores, zeros, zeros, np.ones(N, "f")))
    np.testing.assert_allclose(found[3 * K :], [0, 0.5, 1], atol=4e-3)


def test_no_weight_at_all_is_nan_for_f1_with_derivative_zero():
    table = np.full(N, NAN, "f"), np.full(N, 7), np.zeros(N, int), np.zeros(N, "f")
    found = np.asarray(EVERYTHING["entmax15"](*table))
    np.testing.assert_array_equal(found[: 3 * K], 0)
    assert np.isnan(found[3 * K :]).all()
    np.testing.assert_array_equal(JACOBIANS["entmax15"](*table), 0)


def test_a_wrong_label_under_tracing_is_nan_and_stays_in_its_lane():
    random = np.random.default_rng(4)
    scores, labels = random.normal(size=(3, N)).astype("f"), random.integers(0, 2, (3, N))
    groups, weight = random.integers(0, K, (3, N)), np.ones((3, N), "f")
    labels[1, 4] = -1
    found = np.asarray(jax.vmap(EVERYTHING["entmax15"])(scores, labels, groups, weight))
    assert np.isnan(found[1]).all()
    gradient = np.asarray(jax.vmap(JACOBIANS["entmax15"])(scores, labels, groups, weight))
    assert np.isnan(gradient[1]).any(axis=-1).all()
    for lane in (0, 2):
        alone = scores[lane], labels[lane], groups[lane], weight[lane]
        np.testing.assert_allclose(found[lane], EVERYTHING["entmax15"](*alone), atol=1e-6)
        np.testing.assert_allclose(gradient[lane], JACOBIANS["entmax15"](*alone), atol=1e-6)
    assert np.all(PRESENT(labels[1], groups[1], weight=weight[1]))


def test_a_nan_score_that_counts_shows_in_its_group():
    scores, labels, groups = np.zeros(N, "f"), np.arange(N) % 2, np.arange(N) % K
    scores[4] = NAN
    found = np.asarray(EVERYTHING["entmax15"](scores, labels, groups, np.ones(N, "f")))
    by_group = found[: 3 * K].reshape(3, K)
    assert np.isnan(by_group[:, 1]).tolist() == [True, False, True]
    assert np.isfinite(by_group[:, [0, 2]]).all()
    assert np.isnan(found[3 * K :]).all()


F = np.array([0.5, -0.5], "f")
Y = np.array([1, 0])


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "scores must hold floats.*swapped", lambda: soft_rates(Y, F, Y, 2)),
        (TypeError, "labels must hold classes", lambda: soft_rates(F, F, Y, 2)),
        (TypeError, "groups must hold integer ids", lambda: soft_rates(F, Y, F, 2)),
        (ValueError, "labels must be 0 or 1, but row 0 has 2", lambda: soft_rates(F, Y + 1, Y, 2)),
        (ValueError, "groups must lie in \\[0, 1\\)", lambda: soft_rates(F, Y, Y, 1)),
        (ValueError, "groups must lie in \\[0, 1\\)", lambda: rates_present(Y, Y, 1)),
        (ValueError, "scores has 1, labels has 2", lambda: soft_rates(F[:1], Y, Y, 2)),
        (ValueError, "scores must be logits.*\\(2, 1\\); squeeze", lambda: soft_rates(F[:, None], Y, Y, 2)),
        (ValueError, "mapping must keep the shape \\(2, 2\\) and gave", lambda: soft_rates(F, Y, Y, 2, None, jnp.sum)),
        (ValueError, "weight must hold frequencies", lambda: soft_f1(F, Y, np.array([1.0, -1.0]))),
        (ValueError, "average must be|unknown average", lambda: soft_f1(F, Y, average="micro")),
        (ValueError, 'average="binary" has two classes', lambda: soft_f1(np.zeros((2, 3), "f"), Y)),
        (ValueError, "labels must be in \\[0, 3\\)", lambda: soft_f1(np.zeros((2, 3), "f"), Y + 2, average="macro")),
        (TypeError, "scores must hold floats.*swapped", lambda: soft_f1(Y, F)),
    ],
)
def test_wrong_input_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()
