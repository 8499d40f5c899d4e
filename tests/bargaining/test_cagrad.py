"""Facts about CAGrad weights: closed forms, the max-min they solve, SciPy's solvers, degenerate lanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from badrjax.bargaining import cagrad_weights
from tests.bargaining.bank import MASKS, gram_of, hard_grams

solve = jax.jit(cagrad_weights)
solve_all = jax.jit(jax.vmap(cagrad_weights, (0, None)))


def dual(gram, c, shares):
    mean = np.full(len(gram), 1 / len(gram))
    length = np.sqrt(max(shares @ gram @ shares, 0))
    return shares @ gram @ mean + c * np.sqrt(mean @ gram @ mean) * length


def check_optimum(gram, weights, c, tolerance):
    """The update lies on the ball, and its worst gain is the dual value of its own shares: no duality gap."""
    gram, weights = np.asarray(gram, np.longdouble), np.asarray(weights, np.longdouble)
    mean = np.full(len(gram), np.longdouble(1) / len(gram))
    step, radius = weights - mean, c * np.sqrt(mean @ gram @ mean)
    np.testing.assert_allclose(float(np.sqrt(step @ gram @ step)), float(radius), rtol=100 * tolerance)
    worst = dual(gram, c, np.clip(step, 0, None) / np.clip(step, 0, None).sum())
    scale = np.sqrt(np.diagonal(gram)) * np.sqrt(mean @ gram @ mean) + abs(worst)
    assert np.all(gram @ weights >= worst - tolerance * scale)


@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("num_players", "size"), [(2, 3), (10, 4), pytest.param(64, 3, marks=pytest.mark.slow), (64, 100)]
)
def test_the_worst_gain_has_no_duality_gap(dtype, num_players, size, c):
    random = np.random.default_rng(num_players + size)
    gram = gram_of(random.normal(size=(12, num_players, size)), dtype)
    for matrix, weights in zip(gram, solve_all(gram, c), strict=True):
        check_optimum(matrix, weights, c, 2e-5 if dtype is np.float32 else 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("num_players", [2, 10])
def test_norms_over_sixteen_decades_have_no_duality_gap_either(dtype, num_players):
    random = np.random.default_rng(3)
    norms = 10.0 ** random.uniform(-8, 8, (20, num_players, 1))
    gram = gram_of(norms * random.normal(size=(20, num_players, 12)), dtype)
    for matrix, weights in zip(gram, solve_all(gram, 0.5), strict=True):
        check_optimum(matrix, weights, 0.5, 2e-5 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_two_players_agree_with_a_bounded_search(x64, seed):
    gram = gram_of(np.random.default_rng(seed).normal(size=(2, 4)))

    def value(share):
        return dual(gram, 0.5, np.array([share, 1 - share]))

    found = scipy.optimize.minimize_scalar(value, bounds=(0, 1), method="bounded", options={"xatol": 1e-12})
    best = min([found.x, 0.0, 1.0], key=value)
    shares = np.array([best, 1 - best])
    expected = 0.5 + 0.5 * np.sqrt(gram.mean() / (shares @ gram @ shares)) * shares
    np.testing.assert_allclose(solve(gram, 0.5), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_worst_gain_is_the_minimum_that_slsqp_finds(x64, seed):
    gram = gram_of(np.random.default_rng(seed).normal(size=(6, 8)))
    best = scipy.optimize.minimize(
        lambda s: dual(gram, 0.7, s),
        np.full(6, 1 / 6),
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda s: s.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(np.min(gram @ np.asarray(solve(gram, 0.7))), best.fun, rtol=1e-6)


def test_equal_orthogonal_gradients_keep_equal_weights(dtype):
    weights = solve(np.eye(4, dtype=dtype), 0.5)
    assert weights.dtype == dtype
    np.testing.assert_allclose(weights, 1.5 / 4, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(solve(np.array([[9.0]], dtype), 0.5), [1.5], rtol=8 * np.finfo(dtype).eps)


def test_a_radius_of_zero_is_the_mean_and_small_radii_approach_it(dtype):
    _, _, gram = hard_grams(dtype)
    np.testing.assert_array_equal(solve_all(gram, 0.0), np.full((len(gram), 4), 0.25))
    np.testing.assert_allclose(solve(gram[0], 1e-7), 0.25, rtol=1e-5)


@pytest.mark.parametrize(("rescale", "divisor"), [("1+c", 1.4), ("1+c^2", 1.16)])
def test_published_codes_rescale_the_update(rescale, divisor):
    gram = gram_of(np.random.default_rng(0).normal(size=(3, 5)), np.float32)
    np.testing.assert_allclose(
        divisor * jax.jit(cagrad_weights, static_argnames="rescale")(gram, 0.4, rescale=rescale),
        solve(gram, 0.4),
        rtol=1e-5,
    )


def test_where_nothing_in_the_ball_helps_everybody_the_weights_are_those_of_the_mean(dtype):
    tied = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])  # only a combination of length 0 is the worst off
    stuck = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.5]])  # a zero gradient gains nothing anywhere
    for gradients in (tied, stuck, np.zeros((3, 2))):
        np.testing.assert_allclose(solve(gram_of(gradients, dtype), 0.5), 1 / 3, rtol=1e-6)
    # Opposed gradients cancel in the mean, and the ball is a point.
    np.testing.assert_array_equal(solve(np.array([[1, -1], [-1, 1]], dtype), 0.5), [0.5, 0.5])


def test_a_zero_gradient_does_not_bind_where_somebody_is_harmed_anyway(x64):
    gram = gram_of([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
    # F is least at the first player alone: d = g_0 + c |g_0| g_1 with g_0 = (-1/3, 0).
    np.testing.assert_allclose(solve(gram, 0.5), [1 / 3 + 0.5 / 3, 1 / 3, 1 / 3], rtol=1e-12)


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
def test_absent_players_take_no_part(dtype, garbage):
    gram = gram_of(np.random.default_rng(1).normal(size=(4, 5)), dtype)
    dirty = np.where(MASKS[:, :, None] & MASKS[:, None, :], gram[None], dtype(garbage))
    found = np.asarray(jax.jit(jax.vmap(cagrad_weights, (0, None, 0)))(dirty, 0.5, MASKS))
    for mask, weights in zip(MASKS, found, strict=True):
        np.testing.assert_array_equal(weights[~mask], 0)
        if mask.sum() in (1, 3):
            alone = solve(gram[np.ix_(mask, mask)], 0.5)
            np.testing.assert_allclose(weights[mask], alone, rtol=2e-3 if dtype is np.float32 else 1e-9)


def test_what_is_not_finite_spoils_its_own_lane_only():
    good = gram_of(np.random.default_rng(2).normal(size=(3, 5)), np.float32)
    bad = good.copy()
    bad[0, 1] = bad[1, 0] = np.nan
    lanes = np.asarray(solve_all(np.stack([good, bad, good]), 0.5))
    assert np.all(np.isnan(lanes[1]))
    np.testing.assert_allclose(lanes[[0, 2]], np.stack([solve(good, 0.5)] * 2), rtol=1e-5)
    assert np.all(np.isnan(solve(good, 1.0)))
    assert np.all(np.isnan(solve(good, -0.1)))


def test_weights_are_constants_of_the_derivative():
    gram = jnp.asarray(gram_of(np.random.default_rng(2).normal(size=(3, 5)), np.float32))
    slopes = jax.jit(jax.grad(lambda m, c: jnp.sum(cagrad_weights(m, c) ** 2), (0, 1)))(gram, 0.5)
    np.testing.assert_array_equal(slopes[0], np.zeros((3, 3)))
    assert slopes[1] == 0


@pytest.mark.parametrize("c", [-0.1, 1.0, np.nan, np.array([0.5, 0.5])])
def test_a_radius_outside_its_range_is_refused(c):
    with pytest.raises(ValueError, match="c must be a number in"):
        cagrad_weights(jnp.eye(2), c)


def test_an_unknown_rescaling_is_refused():
    with pytest.raises(ValueError, match="unknown rescale"):
        cagrad_weights(jnp.eye(2), rescale="1-c")
