"""Facts about the squared disparity: closed forms, the published form written out, groups that are missing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from badrjax.objectives import squared_disparity
from badrjax.objectives.squared import METRICS, VARIANTS

disparity = jax.jit(squared_disparity, static_argnums=(3, 5, 6))


def rows(seed, num_groups=3, n=60):
    random = np.random.default_rng(seed)
    cells = np.arange(n) % (2 * num_groups)  # every group with both labels
    return random.normal(size=n), cells % 2, cells // 2


def published(scores, groups, num_groups, reduction):
    """The code's matrix, row by row: every odd and even row is the first group less, and more than, all."""
    out = expit(expit(scores))
    means = np.array([out[groups == g].mean() for g in range(num_groups)] + [out.mean()])
    matrix = np.zeros((2 * num_groups, num_groups + 1))
    for row in range(2 * num_groups):
        sign = 1 if row % 2 == 0 else -1
        matrix[row, 0], matrix[row, -1] = sign, -sign
    return reduction(np.maximum(matrix @ means, 0) ** 2)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_sum_of_squares(seed, x64):
    scores, labels, groups = rows(seed)
    p = expit(scores)

    def expected(chosen):
        return sum((p[chosen & (groups == g)].mean() - p[chosen].mean()) ** 2 for g in range(3))

    everyone, positive = np.ones(60, bool), labels == 1
    odds = expected(positive) + expected(~positive)
    for metric, value in zip(METRICS, (expected(everyone), expected(positive), odds), strict=True):
        np.testing.assert_allclose(disparity(scores, labels, groups, 3, None, metric, None), value, rtol=1e-12)


def test_two_groups_have_a_closed_form(x64):
    scores, labels, _ = rows(1)
    groups = (np.arange(60) < 20).astype(int)
    p = expit(scores)
    gap = p[groups == 1].mean() - p[groups == 0].mean()
    value = (1 / 3**2 + (2 / 3) ** 2) * gap**2
    np.testing.assert_allclose(disparity(scores, labels, groups, 2, None, METRICS[0], None), value, rtol=1e-12)


@pytest.mark.parametrize("num_groups", [2, 3, 9])
@pytest.mark.parametrize(("variant", "reduction"), [("fairbinn", np.mean), ("fairbinn_sum", np.sum)])
def test_published_form_is_the_codes_matrix(num_groups, variant, reduction, x64):
    scores, labels, groups = rows(2, num_groups, 90)
    value = disparity(scores, labels, groups, num_groups, None, METRICS[0], variant)
    np.testing.assert_allclose(value, published(scores, groups, num_groups, reduction), rtol=1e-12)


def test_for_two_groups_the_forms_differ_by_a_factor_where_probabilities_are_near_a_half(x64):
    # sigma(sigma(s)) has slope 0.235 at s = 0, and (p_0 - p) = q_1 (p_0 - p_1).
    scores, labels, groups = rows(3, 2)
    scores = 1e-4 * scores
    intended = disparity(scores, labels, groups, 2, None, METRICS[0], None)
    coded = disparity(scores, labels, groups, 2, None, METRICS[0], "fairbinn")
    slope = expit(0.5) * (1 - expit(0.5))
    np.testing.assert_allclose(coded / intended, 0.5**2 * slope**2 / 2 / 0.5, rtol=1e-3)


@pytest.mark.parametrize("variant", [None, *VARIANTS])
def test_a_missing_group_takes_no_part(variant, x64):
    scores, labels, groups = rows(4)
    present = groups != 1
    some = disparity(scores, labels, groups, 3, present.astype(float), METRICS[0], variant)
    fewer = squared_disparity(
        scores[present], labels[present], np.array([0, -1, 1])[groups[present]], 2, None, METRICS[0], variant
    )
    factor = 3 / 2 if variant == "fairbinn_sum" else 1.0  # its sum is over the groups there could be
    np.testing.assert_allclose(some, factor * fewer, rtol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_one_group_alone_or_none_gives_zero_with_derivative_zero(metric):
    scores, labels, groups = rows(5)
    scores = jnp.asarray(scores, jnp.float32)
    for weight in (jnp.asarray(groups == 2, jnp.float32), jnp.zeros(60)):
        value, slope = jax.value_and_grad(squared_disparity)(scores, labels, groups, 3, weight, metric)
        assert value == 0
        np.testing.assert_array_equal(slope, 0)


def test_the_published_form_without_its_first_group_is_zero_and_not_nan():
    scores, labels, groups = rows(5)
    for variant in VARIANTS:
        value = disparity(scores, labels, groups, 3, (groups != 0).astype(np.float32), METRICS[0], variant)
        assert value == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(METRICS))
def test_invariances(seed, metric):
    random = np.random.default_rng(seed)
    with jax.enable_x64(True):
        scores, labels, groups = rows(seed)
        weight = random.integers(0, 3, 60).astype(float)
        value = disparity(scores, labels, groups, 3, weight, metric, None)
        assert 0 <= value < 3
        order, names = random.permutation(60), random.permutation(3)
        shuffled = disparity(scores[order], labels[order], names[groups][order], 3, weight[order], metric, None)
        np.testing.assert_allclose(shuffled, value, rtol=1e-10, atol=1e-16)
        repeated = np.repeat(np.arange(60), weight.astype(int))
        twice = squared_disparity(scores[repeated], labels[repeated], groups[repeated], 3, None, metric)
        np.testing.assert_allclose(twice, value, rtol=1e-10, atol=1e-16)
        broken = np.where(weight > 0, scores, np.nan)
        np.testing.assert_allclose(disparity(broken, labels, groups, 3, weight, metric, None), value, rtol=1e-12)


@pytest.mark.parametrize(("metric", "variant"), [*((m, None) for m in METRICS), *((METRICS[0], v) for v in VARIANTS)])
def test_gradient_by_finite_differences(metric, variant, x64):
    scores, labels, groups = rows(6)
    direction = np.random.default_rng(0).normal(size=60)
    slope = jax.grad(squared_disparity)(jnp.asarray(scores), labels, groups, 3, None, metric, variant) @ direction
    ahead, behind = (disparity(scores + h * direction, labels, groups, 3, None, metric, variant) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-7)


def test_vmap_agrees_with_single_calls():
    scores, labels, groups = rows(7)
    several = np.stack([scores, 2 * scores]).astype(np.float32)
    together = jax.vmap(lambda s: squared_disparity(s, labels, groups, 3))(several)
    np.testing.assert_allclose(together, [squared_disparity(s, labels, groups, 3) for s in several], rtol=1e-6)


def test_wrong_calls_say_what_to_do():
    scores, labels, groups = rows(0)
    with pytest.raises(ValueError, match="num_groups must be 2 or more"):
        squared_disparity(scores, labels, 0 * groups, 1)
    with pytest.raises(ValueError, match="demographic_parity only"):
        squared_disparity(scores, labels, groups, 3, metric="equalized_odds", variant="fairbinn")
    with pytest.raises(ValueError, match="variant"):
        squared_disparity(scores, labels, groups, 3, variant="badr")
    with pytest.raises(ValueError, match="metric"):
        squared_disparity(scores, labels, groups, 3, metric="parity")
    with pytest.raises(TypeError, match="labels"):
        squared_disparity(scores, scores, groups, 3, metric="equal_opportunity")
    with pytest.raises(ValueError, match="labels"):
        squared_disparity(scores, labels + 1, groups, 3, metric="equal_opportunity")
