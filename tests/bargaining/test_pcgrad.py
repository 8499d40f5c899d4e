"""Facts about PCGrad weights: the loop over gradients, the closed form of two, random orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax.bargaining import pcgrad_weights
from badrjax.bargaining.pcgrad import _orders, _projected
from tests.bargaining.bank import gram_of, hard_gradients

weigh = jax.jit(pcgrad_weights)
projected = jax.jit(_projected)
KEY = jax.random.key(0)


def by_loop(gradients, orders):
    """Algorithm 1 of the paper on the gradients themselves: the sum of the projected ones."""
    total = np.zeros(gradients.shape[1])
    for player, order in enumerate(orders):
        moved = gradients[player].copy()
        for other in order:
            square = gradients[other] @ gradients[other]
            if other != player and square > 0 and moved @ gradients[other] < 0:
                moved -= moved @ gradients[other] / square * gradients[other]
        total += moved
    return total


@pytest.mark.parametrize("num_players", [1, 3, 8])
def test_the_update_is_that_of_a_loop_over_gradients(x64, num_players):
    orders = np.asarray(jax.jit(_orders, static_argnums=1)(KEY, num_players))
    for name, gradients in hard_gradients(num_players).items():
        if name == "tiny and huge" or "opposed" in name or "same" in name or "dup" in name or "rank" in name:
            continue  # where the sign of an inner product is one of rounding, the loop and the weights may differ
        weights = np.asarray(weigh(KEY, gram_of(gradients)))
        expected = by_loop(gradients, orders) / num_players
        np.testing.assert_allclose(weights @ gradients, expected, rtol=1e-9, atol=1e-13 * np.abs(gradients).max())


@pytest.mark.parametrize("cosine", [-0.99, -0.4, 0.0, 0.7])
def test_two_players_have_a_closed_form(dtype, cosine):
    first, second = 3.0, 0.02
    across = cosine * first * second
    gram = np.array([[first**2, across], [across, second**2]], dtype)
    taken = np.array([max(-across / first**2, 0), max(-across / second**2, 0)])
    weights = weigh(KEY, gram)
    assert weights.dtype == dtype
    np.testing.assert_allclose(weights, (1 + taken) / 2, rtol=1e-5 if dtype is np.float32 else 1e-13)
    np.testing.assert_allclose(pcgrad_weights(KEY, gram, reduction="sum"), 1 + taken, rtol=1e-5)


def test_opposed_gradients_cancel(x64):
    gradients = np.array([[1.0, 2.0], [-2.0, -4.0]])
    np.testing.assert_allclose(np.asarray(weigh(KEY, gram_of(gradients))) @ gradients, 0, atol=1e-14)


def test_permuted_orders_permute_the_weights(x64):
    random = np.random.default_rng(0)
    gram, orders, new = gram_of(random.normal(size=(6, 4))), np.asarray(_orders(KEY, 6)), random.permutation(6)
    rank = np.argsort(new)
    permuted = projected(gram[np.ix_(new, new)], jnp.ones(6, bool), rank[orders[new]])
    np.testing.assert_allclose(permuted, projected(gram, jnp.ones(6, bool), orders)[new], rtol=1e-12)


def test_every_player_meets_all_in_a_fresh_uniform_order():
    orders = np.asarray(jax.jit(jax.vmap(lambda key: _orders(key, 3)))(jax.random.split(KEY, 2000)))
    np.testing.assert_array_equal(np.sort(orders, axis=2), np.broadcast_to(np.arange(3), orders.shape))
    codes = orders @ np.array([9, 3, 1])
    for player in range(3):
        _, counts = np.unique(codes[:, player], return_counts=True)
        assert len(counts) == 6
        assert np.all(np.abs(counts - 2000 / 6) < 5 * np.sqrt(2000 / 6))
    pairs = codes[:, 0] == codes[:, 1]
    assert abs(pairs.mean() - 1 / 6) < 0.05  # independent of one another


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
def test_absent_players_are_met_without_effect(x64, garbage):
    gradients = np.random.default_rng(5).normal(size=(4, 3))
    present = np.array([True, False, True, True])
    dirty = np.where(present[:, None] & present[None, :], gram_of(gradients), garbage)
    orders = np.asarray(_orders(KEY, 4))
    kept = np.array([[np.flatnonzero(present).tolist().index(j) for j in row if present[j]] for row in orders[present]])
    weights = np.asarray(weigh(KEY, dirty, present))
    assert weights[1] == 0
    np.testing.assert_allclose(weights[present] @ gradients[present], by_loop(gradients[present], kept) / 3, rtol=1e-10)
    np.testing.assert_array_equal(weigh(KEY, dirty, np.zeros(4, bool)), 0)


def test_zero_gradients_are_inert():
    gradients = hard_gradients(4)["a zero row"]
    weights = np.asarray(weigh(KEY, gram_of(gradients, np.float32)))
    assert weights[2] == 0.25
    others = gradients[[0, 1, 3]]
    orders = [[{0: 0, 1: 1, 3: 2}[j] for j in row if j != 2] for row in np.asarray(_orders(KEY, 4))[[0, 1, 3]]]
    np.testing.assert_allclose(weights @ gradients, by_loop(others, orders) / 4, rtol=1e-4, atol=1e-6)


def test_a_lane_with_nan_leaves_others_alone():
    good = gram_of(hard_gradients(3)["plain"], np.float32)
    bad = np.full_like(good, np.nan)
    lanes = np.asarray(jax.jit(jax.vmap(pcgrad_weights, (None, 0)))(KEY, np.stack([good, bad])))
    assert np.all(np.isnan(lanes[1]))
    np.testing.assert_allclose(lanes[0], weigh(KEY, good), rtol=1e-6)


def test_weights_are_constants_of_the_derivative():
    gram = jnp.asarray(gram_of(hard_gradients(3)["plain"], np.float32))
    slope = jax.jit(jax.grad(lambda m: jnp.sum(pcgrad_weights(KEY, m) ** 2)))(gram)
    np.testing.assert_array_equal(slope, np.zeros((3, 3)))


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="unknown reduction"):
        pcgrad_weights(KEY, jnp.eye(2), reduction="median")
