"""Facts about the weights of a generalised mean: the derivative they are, limits in p, extreme losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.bargaining import generalized_mean_weights

weigh = jax.jit(generalized_mean_weights)
jacobians = jax.jit(jax.jacfwd(generalized_mean_weights, (0, 1)))
slope_of_squares = jax.jit(jax.grad(lambda v, p, m: jnp.sum(generalized_mean_weights(v, p, m) ** 2)))
LOSSES = np.array([0.3, 1.0, 2.5, 0.7])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), p=st.floats(-5, 5).filter(lambda p: abs(p) > 0.05))
def test_weights_are_the_derivative_of_the_mean(seed, p):
    losses = np.exp(np.random.default_rng(seed).normal(size=4))
    total = np.mean(losses**p) ** (1 / p)
    np.testing.assert_allclose(weigh(np.float32(losses), p), (losses / total) ** (p - 1) / 4, rtol=1e-4)


@pytest.mark.parametrize("p", [-2.0, -1.0, 0.5, 3.0])
def test_weights_are_what_grad_gives(x64, p):
    slope = jax.grad(lambda v: jnp.mean(v**p) ** (1 / p))(LOSSES)
    np.testing.assert_allclose(weigh(LOSSES, p), slope, rtol=1e-12)
    np.testing.assert_allclose(weigh(LOSSES, p) @ LOSSES, np.mean(LOSSES**p) ** (1 / p), rtol=1e-12)


def test_special_exponents(dtype):
    losses = LOSSES.astype(dtype)
    np.testing.assert_array_equal(weigh(losses, 1.0), np.full(4, 0.25, dtype))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(weigh(losses, 0.0), np.exp(np.log(LOSSES).mean()) / LOSSES / 4, rtol=20 * eps)
    for tiny in (1e-30, -1e-30, 1e-9, -1e-9):
        np.testing.assert_allclose(weigh(losses, tiny), weigh(losses, 0.0), rtol=1e-6)
    np.testing.assert_allclose(weigh(losses, -1.0), (len(LOSSES) / np.sum(1 / LOSSES) / LOSSES) ** 2 / 4, rtol=20 * eps)


def test_infinite_exponents_share_ties():
    losses = np.array([3.0, 1.0, 3.0, 1.0, 2.0], np.float32)
    np.testing.assert_array_equal(weigh(losses, np.inf), [0.5, 0, 0.5, 0, 0])
    np.testing.assert_array_equal(weigh(losses, -np.inf), [0, 0.5, 0, 0.5, 0])


@pytest.mark.parametrize("p", [-100.0, -1.0, 0.0, 0.5, 2.0, 100.0])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_only_ratios_of_losses_matter(p, scale):
    expected = generalized_mean_weights(jnp.asarray(LOSSES, jnp.float32), p)
    np.testing.assert_allclose(weigh(np.float32(LOSSES * scale), p), expected, rtol=1e-4)


@pytest.mark.parametrize("p", [-100.0, 100.0, 0.5])
def test_losses_over_sixty_decades_agree_with_extended_precision(p):
    losses = np.array([1e-30, 1e-3, 1.0, 1.1, 1e30], np.float32)
    logs = np.log(losses.astype(np.longdouble))
    log_mean = (np.logaddexp.reduce(p * logs) - np.log(5)) / p
    expected = np.exp((p - 1) * (logs - log_mean)) / 5
    expected = np.where(expected < 1e-37, 0, expected).astype(float)
    np.testing.assert_allclose(weigh(losses, p), expected, rtol=1e-3, atol=1e-37)


@pytest.mark.parametrize("p", [-np.inf, -2.0, 0.0, 1.0, 3.0, np.inf])
@pytest.mark.parametrize("garbage", [0.0, -1.0, np.nan, np.inf])
def test_absent_losses_take_no_part(p, garbage):
    present = np.array([True, False, True, True])
    dirty = np.where(present, LOSSES, garbage).astype(np.float32)
    weights = np.asarray(weigh(dirty, p, present))
    assert weights[1] == 0
    np.testing.assert_allclose(weights[present], weigh(np.float32(LOSSES[present]), p), rtol=1e-6)
    slope = slope_of_squares(jnp.asarray(dirty), p, present)
    assert slope[1] == 0
    assert np.all(np.isfinite(slope))
    np.testing.assert_array_equal(weigh(dirty, p, np.zeros(4, bool)), 0)


@pytest.mark.parametrize("p", [-2.0, 0.0, 0.5, 3.0])
def test_weights_can_be_differentiated_in_losses_and_exponent(x64, p):
    weights = np.asarray(weigh(LOSSES, p))
    by_losses, by_exponent = jacobians(LOSSES, p)
    # The Hessian of the mean, in closed form: (p - 1) (diag(w / L) - w w' / L_p).
    expected = (p - 1) * (np.diag(weights / LOSSES) - np.outer(weights, weights) / (weights @ LOSSES))
    np.testing.assert_allclose(by_losses, expected, rtol=1e-11, atol=1e-13)
    for step in np.eye(4) * 1e-5:
        difference = (weigh(LOSSES + step, p) - weigh(LOSSES - step, p)) / 2e-5
        np.testing.assert_allclose(by_losses @ (step / 1e-5), difference, rtol=1e-7, atol=1e-8)
    difference = (weigh(LOSSES, p + 1e-5) - weigh(LOSSES, p - 1e-5)) / 2e-5
    np.testing.assert_allclose(by_exponent, difference, rtol=1e-7, atol=1e-8)


def test_relabelling_relabels(x64):
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(weigh(LOSSES[order], -3.0), weigh(LOSSES, -3.0)[order], rtol=1e-14)


def test_a_loss_that_is_not_positive_is_refused_or_gives_nan():
    for bad in (0.0, -1.0, np.nan, np.inf):
        losses = jnp.asarray(LOSSES, jnp.float32).at[2].set(bad)
        with pytest.raises(ValueError, match=r"player 2 .*shift them first"):
            generalized_mean_weights(losses, 2.0)
        lanes = jax.jit(jax.vmap(generalized_mean_weights, (0, None)))(jnp.stack([losses, losses.at[2].set(1.0)]), 2.0)
        np.testing.assert_array_equal(np.isnan(lanes), [[True] * 4, [False] * 4])


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("p must be one number", lambda: generalized_mean_weights(jnp.ones(2), np.nan)),
        ("p must be one number", lambda: generalized_mean_weights(jnp.ones(2), np.ones(2))),
        (r"losses must be f\[K\]", lambda: generalized_mean_weights(jnp.ones((2, 2)), 1.0)),
        (r"present must be bool\[2\]", lambda: generalized_mean_weights(jnp.ones(2), 1.0, np.ones(3, bool))),
    ],
)
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_exponent_beyond_the_precision_is_infinite():
    losses = np.float32([1e-30, 1.0, 1e30])
    np.testing.assert_array_equal(generalized_mean_weights(losses, 3e38), [0, 0, 1])


def test_subnormal_losses_are_refused():
    with pytest.raises(ValueError, match="positive and finite"):
        generalized_mean_weights(np.float32([1e-40, 1.0]), 1.0)
