"""The chi-square ball against SciPy, and group DRO against a loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

import badrjax as bx
from badrjax.methods.dro import chi_square_weights
from tests.methods.test_erm import one_parameter, step


def worst_case(losses, share, fraction):
    """The largest expected loss over the ball, by a solver that knows nothing of duality."""
    bound = 2 * (1 / fraction - 1) ** 2
    found = optimize.minimize(
        lambda q: -q @ losses,
        share,
        jac=lambda q: -losses,
        method="SLSQP",
        bounds=[(0, 1)] * len(losses),
        constraints=[
            {"type": "eq", "fun": lambda q: q.sum() - 1, "jac": lambda q: np.ones_like(q)},
            {
                "type": "ineq",
                "fun": lambda q: bound - share @ (q / share - 1) ** 2,
                "jac": lambda q: -2 * (q / share - 1),
            },
        ],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    return -found.fun


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_chi_square_weights_are_the_worst_of_the_ball(fraction, seed, x64):
    generator = np.random.default_rng(seed)
    losses, weight = generator.exponential(size=9), generator.integers(1, 4, 9).astype(float)
    found = np.asarray(chi_square_weights(jnp.asarray(losses), fraction, jnp.asarray(weight)))
    share = weight / weight.sum()
    q = found / weight.sum()
    assert share @ (q / share - 1) ** 2 <= 2 * (1 / fraction - 1) ** 2 + 1e-9
    np.testing.assert_allclose(q.sum(), 1)
    np.testing.assert_allclose(q @ losses, worst_case(losses, share, fraction), rtol=1e-6)


jitted_chi_square_weights = jax.jit(chi_square_weights)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 5, width=32), min_size=6, max_size=6),
    st.lists(st.integers(0, 3), min_size=6, max_size=6),
    st.sampled_from([0.1, 0.4, 0.9, 1.0]),
)
def test_chi_square_weights_are_those_of_repeated_rows(losses, repeats, fraction):
    repeats = np.array(repeats)
    repeats[0] = max(repeats[0], 1)
    losses = np.array(losses, np.float32)
    found = np.asarray(jitted_chi_square_weights(losses, fraction, repeats.astype(np.float32)))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(), repeats.sum(), rtol=1e-4)
    repeated = np.zeros(18, np.float32)  # the rest is padding, so that all are one program
    repeated[: repeats.sum()] = np.repeat(losses, repeats)
    real = np.arange(18) < repeats.sum()
    each = np.asarray(jitted_chi_square_weights(repeated, fraction, real.astype(np.float32)))
    np.testing.assert_allclose(found @ losses, each @ repeated, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("losses", [[1.0] * 5, [0.0, 0.0, 0.0, 0.0, 1e-30], [3.0, 3.0, 3.0, 3.0, 3.000001]])
@pytest.mark.parametrize("fraction", [1e-3, 0.5, 1.0])
def test_nearly_equal_losses_have_finite_weights(losses, fraction):
    found = chi_square_weights(jnp.asarray(losses), fraction, jnp.ones(5))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(), 5, rtol=1e-5)


def test_a_ball_that_is_a_point_is_erm_and_a_large_one_the_worst_row():
    method = lambda fraction: bx.dro(one_parameter, optax.sgd(1.0), fraction=fraction, ball="chi_square")  # noqa: E731
    assert step(method(1.0), [1, 4, 2, 3])[0] == pytest.approx(2.5)
    gradient, info = step(method(0.01), [1, 4, 2, 3])
    assert gradient == pytest.approx(4)
    assert info.share == pytest.approx(0.25)  # one row of four keeps its weight


def test_fractions_of_the_ball_can_be_swept():
    def gradient(fraction):
        method = bx.dro(one_parameter, optax.sgd(1.0), fraction=fraction, ball="chi_square")
        zeros = jnp.zeros(4, jnp.int32)
        batch = bx.Batch(jnp.array([[1.0], [4.0], [2.0], [3.0]]), zeros, zeros)
        return 1 - method.step(None, method.init(None, jnp.float32(1)), batch)[0].params

    np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(jnp.array([0.01, 1.0])), [4, 2.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ball": "wasserstein"}, "unknown ball"),
        ({"ball": "chi_square", "whole_rows": True}, "whole_rows"),
        ({"ball": "chi_square", "fraction": 0.0}, "fraction"),
    ],
)
def test_bad_balls_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bx.dro(one_parameter, optax.sgd(1.0), **options)


def group_dro_by_hand(batches, rate, step_size, adjustment, sizes):
    """Parameters, weights and group losses after each batch `(x, group)`, for the loss `params * x`."""
    params, weights = 1.0, np.full(len(sizes), 1 / len(sizes))
    for x, group in batches:
        mean = np.array([params * x[group == k].mean() if (group == k).any() else 0 for k in range(len(sizes))])
        weights = weights * np.exp(step_size * (mean + adjustment / np.sqrt(sizes)))
        weights /= weights.sum()
        slopes = np.array([x[group == k].mean() if (group == k).any() else 0 for k in range(len(sizes))])
        params -= rate * weights @ slopes
        yield params, weights, mean


@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_group_dro_is_the_loop_by_hand(adjustment):
    generator, sizes = np.random.default_rng(0), np.array([100.0, 10.0, 1.0])
    batches = [(generator.exponential(size=8), generator.integers(0, 3, 8)) for _ in range(5)]
    batches[2][1][:] = 0  # two groups without rows
    method = bx.group_dro(
        one_parameter, optax.sgd(0.1), num_groups=3, step_size=0.5, adjustment=adjustment, group_sizes=sizes
    )
    state = method.init(None, jnp.float32(1))
    for (x, group), (params, weights, mean) in zip(
        batches, group_dro_by_hand(batches, 0.1, 0.5, adjustment, sizes), strict=True
    ):
        batch = bx.Batch(jnp.asarray(x, jnp.float32)[:, None], jnp.zeros(8, jnp.int32), jnp.asarray(group))
        state, info = jax.jit(method.step)(None, state, batch)
        np.testing.assert_allclose(state.params, params, rtol=1e-5)
        np.testing.assert_allclose(info.group_weights, weights, rtol=1e-5)
        present = np.bincount(group, minlength=3) > 0
        np.testing.assert_allclose(info.group_losses, np.where(present, mean, np.nan), rtol=1e-5)


@pytest.mark.parametrize(("step_size", "expected"), [(0.0, (1.5 + 4) / 2), (1e6, 4.0)])
def test_group_dro_is_the_mean_of_groups_at_step_0_and_the_worst_at_a_large_one(step_size, expected):
    method = bx.group_dro(one_parameter, optax.sgd(1.0), num_groups=2, step_size=step_size)
    batch = bx.Batch(jnp.array([[1.0], [2], [4]]), jnp.zeros(3, jnp.int32), jnp.array([0, 0, 1]))
    state, _ = method.step(None, method.init(None, jnp.float32(1)), batch)
    np.testing.assert_allclose(1 - state.params, expected, rtol=1e-6)


def test_group_dro_finds_the_point_where_the_worst_group_is_best():
    """Losses (p - 1)^2 and 4 (p + 1)^2 are equal, and their maximum smallest, at p = -1/3."""

    def losses(params, batch, key):
        return jnp.where(batch.group == 0, (params - 1) ** 2, 4 * (params + 1) ** 2)

    group = jnp.array([0, 1])
    data = bx.Batch(jnp.zeros((2, 1)), jnp.zeros(2, jnp.int32), group)
    method = bx.group_dro(losses, optax.sgd(0.01), num_groups=2, step_size=0.05)
    result = bx.fit(jax.random.key(0), method, jnp.float32(0.5), data, num_epochs=4000, sampler=bx.full_batch())
    assert float(jnp.mean(result.steps.group_losses[-1000:, 0])) == pytest.approx(16 / 9, abs=0.05)
    assert float(result.state.params) == pytest.approx(-1 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": -1.0}, "step_size"),
        ({"adjustment": 1.0}, "needs group_sizes"),
        ({"group_sizes": [1.0, 2.0]}, "one number for each of 3 groups"),
        ({"group_sizes": [1.0, 2.0, 0.0]}, "must be positive"),
    ],
)
def test_bad_settings_of_group_dro_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bx.group_dro(one_parameter, optax.sgd(0.1), num_groups=3, **options)
