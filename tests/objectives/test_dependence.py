"""Facts about the squared covariances: equalities of the variants, closed-form derivatives, frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax import objectives as ob

HSIC = jax.jit(ob.hsic, static_argnums=(3, 6))
DM = jax.jit(ob.disparate_mistreatment, static_argnums=(3, 6))


def problem(K, seed=0, n=30):
    random = np.random.default_rng(seed)
    return random.normal(size=n), random.integers(0, 2, n), np.arange(n) % K


def test_for_two_groups_both_variants_of_hsic_are_the_squared_covariance(x64):
    scores, labels, groups = problem(2)
    expected = np.cov(groups, scores)[0, 1] ** 2
    for variant in (None, "badr"):
        np.testing.assert_allclose(HSIC(scores, labels, groups, 2, None, 1.0, variant), expected, rtol=1e-12)


def test_hsic_is_half_the_squared_norm_of_the_cross_covariance(x64):
    scores, labels, groups = problem(4)
    cross = np.cov(np.vstack([np.eye(4)[groups].T, scores]))[:4, 4]
    np.testing.assert_allclose(HSIC(scores, labels, groups, 4, None, 1.0, None), np.sum(cross**2) / 2, rtol=1e-12)
    # Also the trace of the product of the centred kernels, the textbook definition, in units of (n - 1)^2.
    n = scores.size
    centring = np.eye(n) - 1 / n
    same_group = (groups[:, None] == groups[None, :]).astype(float)
    trace = np.trace(same_group @ centring @ np.outer(scores, scores) @ centring)
    np.testing.assert_allclose(HSIC(scores, labels, groups, 4, None, 1.0, None), trace / (n - 1) ** 2 / 2, rtol=1e-12)


@pytest.mark.parametrize("K", [2, 5])
def test_badr_mistreatment_is_badr_hsic_up_to_its_denominator(K, x64):
    scores, labels, groups = problem(K)
    ratio = (29 / 30) ** 2
    hsic = HSIC(scores, labels, groups, K, None, 1.0, "badr")
    np.testing.assert_allclose(DM(scores, labels, groups, K, None, 1.0, "badr"), ratio * hsic, rtol=1e-12)
    np.testing.assert_allclose(
        DM(scores, labels, groups, K, None, 1.0, "badr"), np.cov(groups, scores, ddof=0)[0, 1] ** 2
    )
    # Labels, float ones too, are not used.
    assert DM(scores, np.full(30, np.nan), groups, K, None, 1.0, "badr") == DM(
        scores, labels, groups, K, None, 1.0, "badr"
    )


def test_mistreatment_of_two_groups_is_the_squared_covariance_of_zafar(x64):
    scores, labels, groups = problem(2)
    margins = np.minimum(0, (2 * labels - 1) * scores)
    expected = np.cov(groups, margins, ddof=0)[0, 1] ** 2
    np.testing.assert_allclose(DM(scores, labels, groups, 2, None, 1.0, None), expected, rtol=1e-12)


def test_rows_classified_right_do_not_count_as_mistreated():
    scores, labels, groups = problem(3)
    right = np.abs(scores) * (2 * labels - 1)
    value, slope = jax.value_and_grad(DM)(right.astype(np.float32), labels, groups, 3, None, 1.0, None)
    assert value == 0
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("function", [HSIC, DM], ids=["hsic", "mistreatment"])
@pytest.mark.parametrize("variant", [None, "badr"])
def test_gradients_and_hessians_in_closed_form(function, variant, x64):
    scores, labels, groups = problem(4)
    n = scores.size
    count = n - 1 if function is HSIC else n
    if variant == "badr":
        covector = (groups - groups.mean())[None, :] / count * np.sqrt(2)
    else:
        members = np.eye(4)[groups].T
        covector = (members - members.mean(axis=1, keepdims=True)) / count
    # Half a sum of squares of `covector @ values`, with values = slopes * scores.
    sign = 2 * labels - 1
    slopes = (sign * scores < 0) * sign if function is DM and variant is None else np.ones(n)
    jacobian = covector * slopes
    gradient, hessian = jacobian.T @ (jacobian @ scores), jacobian.T @ jacobian
    args = (scores, labels, groups, 4, None, 1.0, variant)
    np.testing.assert_allclose(function(*args), np.sum((jacobian @ scores) ** 2) / 2, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(function)(*args), gradient, atol=1e-14)
    np.testing.assert_allclose(jax.hessian(function)(*args), hessian, atol=1e-14)


def test_badr_depends_on_the_numbering_and_can_vanish_without_parity(x64):
    # Group means 1, 0, 1 are uncorrelated with the ids 0, 1, 2, but not with 1, 0, 2.
    scores, groups = np.array([1.0, 0.0, 1.0] * 4), np.arange(12) % 3
    renumbered = np.array([1, 0, 2])[groups]
    labels = np.zeros(12, int)
    assert HSIC(scores, labels, groups, 3, None, 1.0, "badr") < 1e-30
    assert HSIC(scores, labels, renumbered, 3, None, 1.0, "badr") > 0.01
    assert HSIC(scores, labels, groups, 3, None, 1.0, None) > 0.01


@pytest.mark.parametrize("variant", [None, "badr"])
def test_present_groups_keep_their_ids_beside_absent_ones(variant, x64):
    scores, labels, groups = problem(3)
    for function in (HSIC, DM):
        kept = function(scores, labels, groups, 3, None, 1.0, variant)
        np.testing.assert_allclose(function(scores, labels, groups, 40, None, 1.0, variant), kept, rtol=1e-12)


def test_large_float32_samples_keep_their_digits():
    random = np.random.default_rng(0)
    n = 100_000
    groups = (random.random(n) < 1e-3).astype(int)
    scores = (1e4 + random.normal(size=n) + groups).astype(np.float32)
    labels = np.zeros(n, int)
    expected = np.cov(groups, scores.astype(float))[0, 1] ** 2
    for variant in (None, "badr"):
        np.testing.assert_allclose(HSIC(scores, labels, groups, 2, None, 1.0, variant), expected, rtol=1e-5)


def test_shares_in_place_of_frequencies_are_refused_or_nan():
    scores, labels, groups = jnp.array([0.1, -1.0, 2.0, 0.0]), jnp.array([0, 1, 1, 0]), jnp.array([0, 1, 0, 1])
    shares = jnp.full(4, 0.25)
    with pytest.raises(ValueError, match=r"weight sums to 1, and a sample covariance divides by the sum less 1"):
        ob.hsic(scores, labels, groups, 2, shares)
    assert np.isnan(HSIC(scores, labels, groups, 2, shares, 1.0, None))
    assert np.isfinite(ob.disparate_mistreatment(scores, labels, groups, 2, shares))


def test_labels_are_checked_only_where_they_are_used():
    scores, labels, groups = jnp.array([0.1, -1.0]), jnp.array([0, 1]), jnp.array([0, 1])
    with pytest.raises(TypeError, match="labels must hold classes"):
        ob.disparate_mistreatment(scores, labels * 1.0, groups, 2)
    with pytest.raises(ValueError, match="labels must be 0 or 1, but row 0 has -1"):
        ob.disparate_mistreatment(scores, 2 * labels - 1, groups, 2)
    expected = ob.hsic(scores, labels, groups, 2)
    for other in (labels * 0.5, 7 * labels, labels == 1):
        assert ob.hsic(scores, other, groups, 2) == expected
