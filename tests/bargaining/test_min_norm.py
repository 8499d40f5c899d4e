"""Facts about minimum-norm weights: closed forms, optimality conditions, SciPy's solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.bargaining import min_norm_weights, nash_weights
from tests.bargaining.bank import KINDS, MASKS, gram_of, instance

solve = jax.jit(nash_weights)


shortest = jax.jit(min_norm_weights)


shortest_all = jax.jit(jax.vmap(min_norm_weights))


def check_minimum(gram, weights, tolerance, present=None):
    """Optimality: `(M s)_k >= s'Ms`, with equality where `s_k > 0`, in units of the norms."""
    gram, weights = np.asarray(gram, float), np.asarray(weights, float)
    present = np.ones(len(weights), bool) if present is None else present
    norms = np.sqrt(np.diagonal(gram))
    smallest = norms[present].min()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    assert np.all(weights >= 0)
    assert np.all(weights[~present] == 0)
    slack = (gram @ weights - weights @ gram @ weights)[present]
    assert np.all(slack >= -tolerance * smallest * norms[present])
    assert weights[present] @ np.abs(slack) <= tolerance * smallest**2 * len(weights)


@pytest.mark.parametrize(("num_players", "size"), [(1, 3), (4, 100), (10, 3), (64, 3)])
def test_shortest_vectors_satisfy_the_optimality_conditions(dtype, num_players, size):
    random = np.random.default_rng(num_players + size)
    problems = np.stack([instance(random, max(num_players, 2), size, kind)[:num_players] for kind in KINDS * 6])
    problems[:, num_players // 2 :] = problems[:, : num_players - num_players // 2] * (1 + (random.random() < 0.5))
    fresh = np.stack([instance(random, max(num_players, 2), size, kind)[:num_players] for kind in KINDS * 6])
    problems = np.concatenate([problems, fresh]).astype(dtype)
    gram = gram_of(problems, dtype)
    for matrix, weights in zip(gram, shortest_all(gram), strict=True):
        check_minimum(matrix, weights, 2e-4 if dtype is np.float32 else 1e-9)


@settings(deadline=None, max_examples=60)
@given(first=st.floats(1e-3, 1e3), second=st.floats(1e-3, 1e3), cosine=st.floats(-1, 1))
def test_two_players_share_in_closed_form(first, second, cosine):
    across = cosine * first * second
    gram = np.array([[first**2, across], [across, second**2]], np.float32)
    spread = first**2 + second**2 - 2 * across
    share = np.clip((second**2 - across) / spread, 0, 1) if spread > 0 else 0.5
    found = np.asarray(shortest(gram), float)
    # Where the gradients are nearly equal any share is as good: compare the lengths.
    best = np.array([share, 1 - share])
    smallest = min(first, second) ** 2
    np.testing.assert_allclose(found @ gram @ found, best @ gram @ best, atol=1e-5 * smallest, rtol=1e-5)
    if cosine < 0.9:
        np.testing.assert_allclose(found, best, atol=1e-4)


def test_orthogonal_gradients_share_by_their_inverse_squares(dtype):
    squares = np.array([0.25, 1.0, 4.0, 100.0], dtype)
    np.testing.assert_allclose(shortest(np.diag(squares)), (1 / squares) / np.sum(1 / squares), rtol=1e-5)


@pytest.mark.parametrize("num_players", [3, 12])
def test_shortest_vectors_agree_with_scipy(x64, num_players):
    random = np.random.default_rng(num_players)
    for kind in KINDS:
        gram = gram_of(instance(random, num_players, 5, kind))
        gram = gram / np.min(np.diagonal(gram))
        best = scipy.optimize.minimize(
            lambda s, gram=gram: s @ gram @ s / 2,
            np.full(num_players, 1 / num_players),
            jac=lambda s, gram=gram: gram @ s,
            bounds=[(0, 1)] * num_players,
            constraints={"type": "eq", "fun": lambda s: s.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        weights = np.asarray(shortest(gram))
        assert weights @ gram @ weights <= 2 * best.fun + 1e-9
        assert weights @ gram @ weights >= 2 * best.fun - 1e-6


def test_opposed_gradients_cancel_exactly_where_they_can(dtype):
    weights = shortest(np.array([[1.0, -2.0], [-2.0, 4.0]], dtype))
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3], rtol=1e-5)
    # Vertices of a triangle around 0, beside gradients that are far from it.
    angles = 2 * np.pi * np.arange(3) / 3
    gradients = np.vstack([np.stack([np.cos(angles), np.sin(angles)], 1), [[5.0, 5.0], [6.0, 5.0]]])
    weights = np.asarray(shortest(gram_of(gradients, dtype)), float)
    assert np.linalg.norm(weights @ gradients) < 1e-4


def test_a_shortest_vector_of_zero_is_a_common_direction_denied(x64):
    random = np.random.default_rng(13)
    for kind in KINDS * 10:
        gradients = instance(random, 4, 3, kind).astype(float)
        gradients = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
        gram = gram_of(gradients)
        weights = np.asarray(shortest(gram))
        assert bool(solve(gram).feasible) == (weights @ gram @ weights > 1e-12)


def test_copies_weigh_what_the_original_does(dtype):
    gradients = np.array([[1.0, 0.0], [0.0, 2.0], [1.5, 1.5]], dtype)
    single = np.asarray(shortest(gram_of(gradients, dtype)))
    doubled = np.asarray(shortest(gram_of(gradients[[0, 1, 2, 0, 1]], dtype)))
    np.testing.assert_allclose(doubled[:2] + doubled[3:], single[:2], rtol=1e-4)
    np.testing.assert_allclose(single, [0.8, 0.2, 0.0], atol=1e-5)
    for count in (2, 40):
        np.testing.assert_allclose(shortest(np.ones((count, count), dtype)), 1 / count, rtol=1e-4)


def test_a_zero_gradient_is_the_shortest_vector():
    gram = np.diag(np.array([1.0, 0.0, 2.0, 0.0], np.float32))
    np.testing.assert_array_equal(shortest(gram), [0, 0.5, 0, 0.5])
    np.testing.assert_allclose(shortest(gram, np.array([True, False, True, False])), [2 / 3, 0, 1 / 3, 0], rtol=1e-5)
    np.testing.assert_array_equal(shortest(gram, np.array([True, True, True, False])), [0, 1, 0, 0])


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
def test_absent_gradients_are_not_in_the_hull(dtype, garbage):
    gram = gram_of(instance(np.random.default_rng(14), 4, 3, "aligned"), dtype)
    dirty = np.where(MASKS[:, :, None] & MASKS[:, None, :], gram[None], dtype(garbage))
    found = np.asarray(shortest_all(dirty, MASKS), float)
    for mask, weights in zip(MASKS[1:], found[1:], strict=True):
        check_minimum(gram, weights, 1e-4 if dtype is np.float32 else 1e-9, present=mask)


@pytest.mark.parametrize("num_players", [2, 64])
def test_shortest_vectors_of_gradients_of_wildly_different_norms(num_players):
    random = np.random.default_rng(15)
    norms = 10.0 ** random.uniform(-8, 8, (30, num_players, 1))
    gram = gram_of((norms * random.normal(size=(30, num_players, 100))).astype(np.float32), np.float32)
    for matrix, weights in zip(gram, shortest_all(gram), strict=True):
        check_minimum(matrix, weights, 2e-4)


def test_nan_of_an_absent_player_does_not_reach_the_derivatives_of_the_others():
    small = np.array([[1, 0.2, -0.5], [0.2, 2, 0.1], [-0.5, 0.1, 1]], np.float32)
    present = jnp.array([True, True, True, False])
    slope = jax.jit(jax.grad(lambda gram: min_norm_weights(gram, present) @ jnp.arange(4.0)))
    broken, clean = np.full((4, 4), np.nan, np.float32), np.eye(4, dtype=np.float32)
    broken[:3, :3] = clean[:3, :3] = small
    np.testing.assert_array_equal(slope(broken)[:3, :3], slope(clean)[:3, :3])
    assert np.abs(slope(clean)).max() > 0.01


@pytest.mark.parametrize("broken", [[[np.nan, 0], [0, 1]], [[np.inf, 0], [0, 1]], [[1, np.nan], [np.nan, 1]]])
def test_a_present_player_that_is_not_finite_shows(broken):
    assert np.isnan(shortest(np.array(broken, np.float32))).all()
    alone = shortest(np.array(broken, np.float32), jnp.array([False, True]))
    np.testing.assert_array_equal(alone, [0.0, 1.0])
