"""Facts about the objectives that compare rates: closed forms, hard limits, rounding near parity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax import metrics
from badrjax import objectives as ob
from tests.objectives import references

DP = jax.jit(ob.demographic_parity, static_argnums=(3, 6))
EOPP = jax.jit(ob.equal_opportunity, static_argnums=(3, 6))
EO = jax.jit(ob.equalized_odds, static_argnums=(3, 6))
BOTH = pytest.mark.parametrize("variant", [None, "badr"])


def two_groups(seed, n=40):
    random = np.random.default_rng(seed)
    groups, labels = np.arange(n) % 2, np.arange(n) // 2 % 2
    return random.normal(size=n) + groups, labels, groups


def rates_of(decisions, labels, groups, chosen):
    return [decisions[(groups == g) & chosen(labels)].mean() for g in np.unique(groups)]


@pytest.mark.parametrize("seed", range(3))
def test_two_groups_have_closed_forms(seed, x64):
    scores, labels, groups = two_groups(seed)
    soft = references.sigmoid(scores)
    low, high = rates_of(soft, labels, groups, lambda y: y >= 0)
    distance = np.sqrt(((high - low) / 2) ** 2 + 1e-6)
    np.testing.assert_allclose(DP(scores, labels, groups, 2, None, 1.0, "badr"), np.log(2) + distance, rtol=1e-13)
    np.testing.assert_allclose(DP(scores, labels, groups, 2, None, 1.0, None), distance - 1e-3, rtol=1e-11)
    halves = []
    for value in (1, 0):
        low, high = rates_of(soft, labels, groups, lambda y, value=value: y == value)
        halves.append(2 * np.log(np.cosh((high - low) / 2)))
    offset = 2 * np.log(2)
    np.testing.assert_allclose(EOPP(scores, labels, groups, 2, None, 1.0, "badr"), offset + halves[0], rtol=1e-13)
    np.testing.assert_allclose(EOPP(scores, labels, groups, 2, None, 1.0, None), halves[0], rtol=1e-11)
    np.testing.assert_allclose(EO(scores, labels, groups, 2, None, 1.0, "badr"), offset + np.mean(halves), rtol=1e-13)
    np.testing.assert_allclose(EO(scores, labels, groups, 2, None, 1.0, None), np.mean(halves), rtol=1e-11)


@BOTH
def test_gradient_of_equal_opportunity_in_closed_form(variant, x64):
    scores, labels, groups = two_groups(5)
    chosen, sharpness = labels == 1, 1.7
    soft = references.sigmoid(sharpness * scores)
    p = np.array(rates_of(soft, labels, groups, lambda y: y == 1))
    up, down = np.exp(sharpness * p), np.exp(-sharpness * p)
    by_rate = up / up.sum() - down / down.sum()
    size = np.array([np.sum(chosen & (groups == g)) for g in (0, 1)])
    slope = chosen * (by_rate / size)[groups] * sharpness * soft * (1 - soft)
    got = jax.grad(EOPP)(scores, labels, groups, 2, None, sharpness, variant)
    np.testing.assert_allclose(got, slope, atol=1e-14)


@BOTH
def test_gradient_of_demographic_parity_in_closed_form(variant, x64):
    scores, labels, groups = two_groups(6)
    soft = references.sigmoid(scores)
    low, high = rates_of(soft, labels, groups, lambda y: y >= 0)
    # Of sqrt((gap/2)^2 + 1e-6), 20 rows a group.
    by_gap = (high - low) / 4 / np.sqrt(((high - low) / 2) ** 2 + 1e-6)
    slope = by_gap * np.where(groups == 1, 1, -1) / 20 * soft * (1 - soft)
    np.testing.assert_allclose(jax.grad(DP)(scores, labels, groups, 2, None, 1.0, variant), slope, atol=1e-14)


@BOTH
def test_sharp_objectives_tend_to_the_hard_metrics(variant):
    random = np.random.default_rng(1)
    n, K = 300, 5
    scores, labels, groups = random.normal(size=n), random.integers(0, 2, n), random.integers(0, K, n)
    scores = np.where(np.abs(scores) < 0.02, 0.02, scores).astype(np.float32)
    hard = scores > 0
    rows = (jnp.asarray(labels), jnp.asarray(hard), groups, K)
    opportunity = metrics.equal_opportunity_difference(*rows)
    equality = metrics.predictive_equality_difference(*rows)
    sharp = (scores, labels, groups, K, None, 3e4, variant)
    np.testing.assert_allclose(EOPP(*sharp), opportunity, atol=2e-4)
    np.testing.assert_allclose(EO(*sharp), (opportunity + equality) / 2, atol=2e-4)
    rates = np.array([hard[groups == g].mean() for g in range(K)])
    furthest = np.abs(rates - rates.mean()).max()
    np.testing.assert_allclose(DP(*sharp), furthest, atol=1.1e-3)
    pair = groups < 2
    half = metrics.demographic_parity_difference(labels[pair], hard[pair], groups[pair], 2) / 2
    np.testing.assert_allclose(DP(scores[pair], labels[pair], groups[pair], 2, None, 3e4, variant), half, atol=1.1e-3)


def test_regression_compares_mean_scores_without_a_sigmoid(x64):
    scores, _, groups = two_groups(2)
    targets = np.zeros(scores.size)
    low, high = (scores[groups == g].mean() for g in (0, 1))
    expected = np.log(2) + np.sqrt(((high - low) / 2) ** 2 + 1e-6)
    np.testing.assert_allclose(DP(scores, targets, groups, 2, None, 1.0, "badr"), expected, rtol=1e-13)


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3])
def test_near_parity_float32_keeps_digits(gap):
    # A plain difference of logarithms near log 2 would be off by 1e-7, which at 1e-3 is 0.4 of the value.
    scores = np.array([0.0, 4 * gap, 0.0, 4 * gap, 2 * gap, 0.0], np.float32)
    labels, groups = np.array([1, 1, 0, 0, 1, 0]), np.array([0, 1, 0, 1, 2, 2])
    for function in ("demographic_parity", "equal_opportunity", "equalized_odds"):
        exact = getattr(references, function)(scores.astype(float), labels, groups, 1.0, None)
        got = jax.jit(getattr(ob, function), static_argnums=3)(scores, labels, groups, 3)
        # The rates themselves are known to 3e-8.
        np.testing.assert_allclose(got, exact, rtol=2e-6 + 1.5e-7 / gap)


def test_groups_without_the_rows_take_no_part():
    # K in the offset counts the groups that have the rows.
    variant = "badr"
    scores = jnp.array([0.3, -1.0, 2.0, 0.5, 0.1, -0.7])
    labels, groups = jnp.array([1, 0, 1, 0, 0, 0]), jnp.array([0, 0, 1, 1, 2, 2])
    # Group 2 has no true positive rate, but a false positive rate.
    two = EOPP(scores[:4], labels[:4], groups[:4], 2, None, 1.0, variant)
    np.testing.assert_allclose(EOPP(scores, labels, groups, 3, None, 1.0, variant), two, rtol=1e-6)
    three = EOPP(scores, 1 - labels, groups, 3, None, 1.0, variant)
    np.testing.assert_allclose(EO(scores, labels, groups, 3, None, 1.0, variant), (two + three) / 2, rtol=1e-6)
    slope = jax.grad(EOPP)(scores, labels, groups, 3, None, 1.0, variant)
    np.testing.assert_array_equal(slope[jnp.array([1, 3, 4, 5])], 0)
    # One group has positives: that half adds 0.
    weight = jnp.array([0.0, 1, 1, 1, 1, 1])
    assert EOPP(scores, labels, groups, 3, weight, 1.0, variant) == 0
    half = EOPP(scores, 1 - labels, groups, 3, weight, 1.0, variant) / 2
    np.testing.assert_allclose(EO(scores, labels, groups, 3, weight, 1.0, variant), half, rtol=1e-6)


@pytest.mark.parametrize("function", [DP, EOPP, EO], ids=["dp", "eopp", "eo"])
def test_sharpness_may_be_traced_and_differentiated(function, x64):
    scores, labels, groups = two_groups(7)

    @jax.jit
    @jax.vmap
    def lanes(sharpness):
        # With its offset, which depends on the sharpness, too.
        return jax.value_and_grad(function, argnums=5)(scores, labels, groups, 2, None, sharpness, "badr")

    sharpness, step = np.array([0.5, 1.0, 20.0]), 1e-6
    values, slopes = lanes(sharpness)
    loop = [function(scores, labels, groups, 2, None, r, "badr") for r in sharpness]
    np.testing.assert_allclose(values, loop, rtol=1e-12)
    difference = (lanes(sharpness + step)[0] - lanes(sharpness - step)[0]) / (2 * step)
    np.testing.assert_allclose(slopes, difference, atol=1e-8)


@pytest.mark.parametrize("function", [DP, EOPP, EO], ids=["dp", "eopp", "eo"])
def test_any_sharpness_and_score_give_finite_derivatives(function):
    scores = jnp.array([0.0, 0.0, 50.0, -50.0, 1e6, -1e6])
    labels, groups = jnp.array([0, 1, 0, 1, 0, 1]), jnp.array([0, 0, 1, 1, 2, 2])
    with_gradient = jax.jit(jax.value_and_grad(function), static_argnums=(3, 6))
    for sharpness in (1e-4, 1.0, 1e4, 1e8):
        value, slope = with_gradient(scores, labels, groups, 4, None, sharpness, "badr")
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


def test_both_ways_to_a_soft_range_meet(x64):
    # Up to a spread of 1 (here in rates times sharpness) another formula is used than beyond.
    labels, groups = np.ones(3, int), np.arange(3)
    for sharpness in (1.0, 1.7, 1.72, 3.0, 30.0):
        scores = np.array([-40.0, -1.0, 40.0]) / sharpness
        exact = references.equal_opportunity(scores, labels, groups, sharpness, None)
        np.testing.assert_allclose(EOPP(scores, labels, groups, 3, None, sharpness, None), exact, rtol=1e-12)


def test_wrong_labels_and_sharpness_are_named():
    scores, labels, groups = jnp.array([0.1, -1.0]), jnp.array([0, 1]), jnp.array([0, 1])
    for function in (ob.equal_opportunity, ob.equalized_odds):
        with pytest.raises(TypeError, match="labels must hold classes"):
            function(scores, labels * 1.0, groups, 2)
    for function in (ob.demographic_parity, ob.equal_opportunity, ob.equalized_odds):
        with pytest.raises(ValueError, match=r"labels must be 0 or 1, but row 0 has -1"):
            function(scores, 2 * labels - 1, groups, 2)
        for sharpness in (0.0, -1.0, np.inf, np.nan):
            with pytest.raises(ValueError, match="sharpness must be positive and finite"):
                function(scores, labels, groups, 2, sharpness=sharpness)
        with pytest.raises(ValueError, match=r"sharpness must be one number.*vmap"):
            function(scores, labels, groups, 2, sharpness=jnp.ones(2))
