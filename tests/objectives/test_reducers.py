"""Facts about the reducers of group losses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from badrjax import objectives as ob

K = 7
OBJECTIVES = {
    "mean": ob.mean,
    "worst": ob.worst,
    "gap": ob.gap,
    "variance": ob.variance,
    "cvar": lambda losses, present=None: ob.cvar(losses, 0.35, present),
    "alpha_fair": lambda losses, present=None: ob.alpha_fair(losses, 1.7, present),
}
EACH = pytest.mark.parametrize("name", OBJECTIVES)
JITTED = {name: jax.jit(f) for name, f in OBJECTIVES.items()}
GRADIENTS = {name: jax.jit(jax.grad(f)) for name, f in OBJECTIVES.items()}
CVAR = jax.jit(ob.cvar)


def reference_cvar(losses, fraction):
    """Rockafellar and Uryasev: the least of `t + mean(max(L - t, 0)) / fraction`, attained at a loss."""
    return min(t + np.maximum(losses - t, 0).mean() / fraction for t in losses)


REFERENCES = {
    "mean": np.mean,
    "worst": np.max,
    "gap": np.ptp,
    "variance": np.var,
    "cvar": lambda losses: reference_cvar(losses, 0.35),
    "alpha_fair": lambda losses: np.sum(losses**2.7 / 2.7),
}

LOSSES = st.lists(st.one_of(st.floats(0, 10, width=32), st.sampled_from([0.0, 1.0, 2.0])), min_size=K, max_size=K).map(
    np.float32
)
MASKS = st.lists(st.booleans(), min_size=K, max_size=K).map(np.array)


@EACH
@settings(deadline=None, max_examples=60)
@given(losses=LOSSES, present=MASKS, garbage=st.sampled_from([np.nan, np.inf, -np.inf, -5.0, 3e38]))
def test_value_is_that_of_the_groups_present(name, losses, present, garbage):
    there = losses[present].astype(float)
    losses = np.where(present, losses, np.float32(garbage))
    expected = REFERENCES[name](there) if there.size else 0.0
    np.testing.assert_allclose(JITTED[name](losses, present), expected, rtol=2e-5, atol=2e-5)
    gradient = np.asarray(GRADIENTS[name](losses, present))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[~present], 0)


@EACH
def test_without_a_mask_all_groups_are_present(name):
    losses = jnp.array([0.3, 2.0, 1.0])
    np.testing.assert_allclose(OBJECTIVES[name](losses), REFERENCES[name](np.array([0.3, 2.0, 1.0])), rtol=1e-6)
    assert OBJECTIVES[name](losses) == OBJECTIVES[name](losses, jnp.ones(3, bool))


@EACH
def test_no_group_present_is_zero_with_derivative_zero(name):
    losses, absent = jnp.array([jnp.nan, jnp.inf, -1.0]), jnp.zeros(3, bool)
    assert JITTED[name](losses, absent) == 0
    np.testing.assert_array_equal(GRADIENTS[name](losses, absent), 0)
    np.testing.assert_array_equal(jax.hessian(JITTED[name])(losses, absent), 0)


@EACH
def test_a_nan_that_counts_shows(name):
    losses = jnp.array([1.0, jnp.nan, 2.0, 0.5])
    assert np.isnan(OBJECTIVES[name](losses))
    assert np.isfinite(OBJECTIVES[name](losses, jnp.array([True, False, True, True])))


@EACH
@settings(deadline=None, max_examples=30)
@given(losses=LOSSES, present=MASKS, order=st.permutations(range(K)))
def test_numbering_groups_otherwise_changes_nothing(name, losses, present, order):
    order = np.array(order)
    moved = losses[order], present[order]
    np.testing.assert_allclose(JITTED[name](losses, present), JITTED[name](*moved), rtol=1e-5, atol=1e-6)
    # Groups that tie share the derivative, so that it moves along, too.
    np.testing.assert_allclose(
        np.asarray(GRADIENTS[name](losses, present))[order], GRADIENTS[name](*moved), rtol=1e-4, atol=1e-5
    )


@EACH
def test_lanes_equal_a_loop(name):
    random = np.random.default_rng(0)
    losses = random.uniform(0, 3, (5, K)).astype(np.float32)
    present = random.random((5, K)) < 0.6
    present[3] = False
    loop = [JITTED[name](*lane) for lane in zip(losses, present, strict=True)]
    np.testing.assert_allclose(jax.vmap(JITTED[name])(losses, present), loop, rtol=1e-5, atol=1e-6)
    gradients = jax.vmap(GRADIENTS[name])(losses, present)
    loop = [GRADIENTS[name](*lane) for lane in zip(losses, present, strict=True)]
    np.testing.assert_allclose(gradients, np.stack(loop), rtol=1e-5, atol=1e-6)


@EACH
@pytest.mark.parametrize("mask", [None, [True, True, False, True, True]])
def test_derivatives_agree_with_differences(name, mask, x64):
    losses = jnp.array([0.7, 2.1, 1.3, 0.2, 1.9])
    present = None if mask is None else jnp.array(mask)
    assert losses.dtype == jnp.float64
    check_grads(lambda x: JITTED[name](x, present), (losses,), order=2, modes=["fwd", "rev"], eps=1e-5)


@EACH
def test_dtype_follows_the_losses(name, x64):
    for dtype in (jnp.float32, jnp.float64):
        assert OBJECTIVES[name](jnp.array([1.0, 2.0], dtype)).dtype == dtype
    assert OBJECTIVES[name]([1, 2]).dtype == jnp.float64


@EACH
def test_counts_serve_as_presence(name):
    losses = jnp.array([1.0, 2.0, 4.0])
    for present in (jnp.array([3.0, 0.0, 0.5]), np.array([2, 0, 1]), [True, False, True]):
        assert OBJECTIVES[name](losses, present) == OBJECTIVES[name](losses[jnp.array([0, 2])])


def test_ties_share_the_derivative():
    losses = jnp.array([2.0, 1.0, 2.0, 1.0])
    np.testing.assert_array_equal(jax.grad(ob.worst)(losses), [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(jax.grad(ob.gap)(losses), [0.5, -0.5, 0.5, -0.5])
    np.testing.assert_array_equal(jax.grad(ob.cvar)(losses, 0.25), [0.5, 0, 0.5, 0])
    np.testing.assert_allclose(jax.grad(ob.cvar)(losses, 0.75), np.array([2, 1, 2, 1]) / 6, rtol=1e-6)


def test_one_group_has_no_gap():
    for measure in (ob.gap, ob.variance):
        value, gradient = jax.value_and_grad(measure)(jnp.array([3.0, 8.0]), jnp.array([True, False]))
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


@settings(deadline=None, max_examples=100)
@given(losses=LOSSES, present=MASKS.filter(np.any), fraction=st.floats(0.01, 1))
def test_cvar_is_the_minimum_of_rockafellar_and_uryasev(losses, present, fraction):
    there = losses[present].astype(float)
    value = CVAR(losses, fraction, present)
    np.testing.assert_allclose(value, reference_cvar(there, fraction), rtol=2e-5, atol=2e-5)
    assert there.mean() - 1e-4 <= value <= there.max() + 1e-4
    assert value <= CVAR(losses, fraction / 2, present) + 1e-4


def test_cvar_of_sorted_losses_by_hand():
    losses = jnp.array([1.0, 5.0, 3.0, 2.0])
    for fraction, expected in [(1.0, 2.75), (0.75, 10 / 3), (0.5, 4.0), (0.375, 6.5 / 1.5), (0.25, 5.0)]:
        np.testing.assert_allclose(ob.cvar(losses, fraction), expected, rtol=1e-6)
    # Fractions are of the groups present.
    present = jnp.array([True, False, True, True])
    np.testing.assert_allclose(ob.cvar(losses, 0.5, present), (3 + 0.5 * 2) / 1.5, rtol=1e-6)


def test_cvar_runs_from_the_worst_to_the_mean():
    losses = jnp.array([0.4, 2.0, 1.1])
    for fraction in (0, 0.0, 1e-30, 1e-6, 1 / 3):
        value, gradient = jax.value_and_grad(ob.cvar)(losses, fraction)
        assert value == 2
        np.testing.assert_array_equal(gradient, [0, 1, 0])
    np.testing.assert_allclose(ob.cvar(losses, 1), ob.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(ob.cvar)(losses, 1.0), np.full(3, 1 / 3), rtol=1e-6)


def test_cvar_takes_a_traced_fraction(x64):
    losses = jnp.array([1.0, 5.0, 3.0, 2.0])
    fractions = jnp.array([0.3, 0.6, 0.9])
    lanes = jax.jit(jax.vmap(ob.cvar, in_axes=(None, 0)))(losses, fractions)
    np.testing.assert_allclose(lanes, [ob.cvar(losses, float(f)) for f in fractions], rtol=1e-12)
    check_grads(partial(CVAR, losses), (0.6,), order=1, modes=["fwd", "rev"], eps=1e-6)
    # Absent groups, which have no rank, do not spoil the derivative.
    masked = partial(CVAR, jnp.append(losses, jnp.nan), present=jnp.arange(5) < 4)
    np.testing.assert_allclose(jax.grad(masked)(0.6), jax.grad(partial(CVAR, losses))(0.6), rtol=1e-12)
    # Under tracing what lies beyond the range is the end of it.
    np.testing.assert_allclose(jax.jit(ob.cvar)(losses, 1.5), 2.75)


def test_cvar_of_many_losses_takes_little_memory():
    # Each example a group: K x K comparisons would need 10 GB.
    losses = np.random.default_rng(0).uniform(size=100_000).astype(np.float32)
    expected = np.sort(losses.astype(float))[-10_000:].mean()
    np.testing.assert_allclose(CVAR(losses, 0.1), expected, rtol=1e-5)


def test_cvar_with_infinite_losses():
    losses = jnp.array([jnp.inf, 1.0, 2.0])
    assert ob.cvar(losses, 0.5) == jnp.inf
    assert ob.worst(losses) == ob.mean(losses) == jnp.inf


def test_alpha_fair_closed_forms():
    losses = jnp.array([0.0, 1.0, 3.0])
    assert ob.alpha_fair(losses, 0) == 4
    assert ob.alpha_fair(losses, 1) == 5
    np.testing.assert_allclose(ob.alpha_fair(losses, 2.0), 28 / 3, rtol=1e-6)
    for alpha in (0.0, 0.5, 1.0, 3.0):
        gradient = jax.grad(ob.alpha_fair)(losses, alpha)
        np.testing.assert_allclose(gradient, np.array([0.0, 1.0, 3.0]) ** alpha, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5])
def test_alpha_fair_at_zero_loss_has_finite_derivatives(alpha, x64):
    losses = jnp.array([0.0, 2.0])
    value = jax.jit(ob.alpha_fair)
    by_loss, by_alpha = jax.grad(value, argnums=(0, 1))(losses, alpha)
    np.testing.assert_allclose(by_loss, [0.0**alpha, 2.0**alpha], rtol=1e-12)
    difference = (value(losses, alpha + 1e-6) - value(losses, alpha - 1e-6)) / 2e-6
    np.testing.assert_allclose(by_alpha, difference, rtol=1e-6)
    second = jax.hessian(value)(losses, alpha)
    np.testing.assert_allclose(second, np.diag([1.0 * (alpha == 1), alpha * 2.0 ** (alpha - 1)]), atol=1e-12)


def test_alpha_fair_takes_a_traced_alpha():
    losses, alphas = jnp.array([0.5, 2.0]), jnp.array([0.0, 1.0, 4.0])
    lanes = jax.vmap(ob.alpha_fair, in_axes=(None, 0))(losses, alphas)
    np.testing.assert_allclose(lanes, [ob.alpha_fair(losses, float(a)) for a in alphas], rtol=1e-6)


def test_alpha_fair_of_negative_losses_is_refused_or_nan():
    losses = jnp.array([1.0, -0.5])
    with pytest.raises(ValueError, match=r"losses must be >= 0, but group 1 has -0\.5"):
        ob.alpha_fair(losses, 1.0)
    # An even power would be a number, and hide it.
    assert np.isnan(jax.jit(ob.alpha_fair)(losses, 1.0))
    assert ob.alpha_fair(losses, 1.0, jnp.array([True, False])) == 0.5


@pytest.mark.parametrize("num_groups", [4, 20])
def test_group_losses_feed_every_objective(num_groups):
    example_losses = jnp.array([1.0, 3.0, 5.0, jnp.nan, jnp.inf])
    groups = jnp.array([0, 0, 2, 2, 3])
    weight = jnp.array([1.0, 1.0, 2.0, 0.0, 0.0])
    losses, present = ob.group_losses(example_losses, groups, num_groups, weight)
    np.testing.assert_array_equal(losses[:4], [2, 0, 5, 0])
    np.testing.assert_array_equal(np.flatnonzero(present), [0, 2])

    @jax.jit
    def objectives(x):
        reduced = ob.group_losses(x, groups, num_groups, weight)
        return {name: objective(*reduced) for name, objective in OBJECTIVES.items()}

    gradients = jax.jacrev(objectives)(example_losses)
    for name, value in objectives(example_losses).items():
        np.testing.assert_allclose(value, REFERENCES[name](np.array([2.0, 5.0])), rtol=1e-5)
        assert np.isfinite(gradients[name]).all()
        np.testing.assert_array_equal(gradients[name][3:], 0)
        assert gradients[name][2] != 0


def test_wrong_input_is_named():
    losses = jnp.ones(3)
    for objective in OBJECTIVES.values():
        with pytest.raises(ValueError, match=r"losses must have one axis with one entry per group .* \(1, 3\)"):
            objective(losses[None, :])
        with pytest.raises(ValueError, match="losses must have one axis"):
            objective(jnp.ones(0))
        with pytest.raises(ValueError, match=r"present must have one entry per group.*\(2,\).*\(3,\)"):
            objective(losses, jnp.ones(2, bool))
    for fraction in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"fraction must lie in \[0, 1\], got"):
            ob.cvar(losses, fraction)
    with pytest.raises(ValueError, match=r"fraction must be one number.*vmap"):
        ob.cvar(losses, jnp.array([0.5, 0.7]))
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, inf\], got -1"):
        ob.alpha_fair(losses, -1.0)
