"""Named properties of every rule on one bank of hard matrices, and the axioms of the Nash bargain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax.bargaining import cagrad_weights, min_norm_weights, nash_weights, pcgrad_weights
from tests.bargaining.bank import gram_of, hard_grams

KEY = jax.random.key(0)
RULES = {
    "nash": lambda gram, present=None: nash_weights(gram, present).weights,
    "min norm": min_norm_weights,
    "cagrad": lambda gram, present=None: cagrad_weights(gram, 0.5, present),
    "pcgrad": lambda gram, present=None: pcgrad_weights(KEY, gram, present),
}
EVERY = {name: jax.jit(jax.vmap(rule)) for name, rule in RULES.items()}
MASKED = {name: jax.jit(jax.vmap(rule, (0, None))) for name, rule in RULES.items()}
ALONE = {name: jax.jit(rule) for name, rule in RULES.items()}
bargain = jax.jit(jax.vmap(nash_weights))


def updates(gradients, weights):
    return np.einsum("bk,bkn->bn", np.asarray(weights, float), gradients)


def relative(gradients, one, other):
    """Distance of two batches of updates in units of the longest gradient that either contains."""
    scale = np.abs(one).max(1) + np.abs(other).max(1) + 1e-300
    return np.abs(one - other).max(1) / scale


@pytest.mark.parametrize("num_players", [1, 4, 64])
@pytest.mark.parametrize("rule", RULES)
def test_weights_are_finite_and_not_negative_on_every_hard_matrix(dtype, rule, num_players):
    _, _, gram = hard_grams(dtype, num_players)
    weights = EVERY[rule](gram)
    assert weights.dtype == dtype
    assert np.all(np.isfinite(weights))
    assert np.all(np.asarray(weights) >= 0)


@pytest.mark.parametrize("rule", RULES)
def test_a_lane_does_not_depend_on_its_neighbours(dtype, rule):
    _, _, gram = hard_grams(dtype)
    together = np.asarray(EVERY[rule](gram))
    spoilt = gram.copy()
    spoilt[1::2] = np.nan
    np.testing.assert_array_equal(np.asarray(EVERY[rule](spoilt))[::2], together[::2])


@pytest.mark.parametrize("rule", ["nash", "min norm", "cagrad"])
def test_renaming_players_changes_no_update(x64, rule):
    names, gradients, gram = hard_grams(np.float64)
    order = np.array([2, 0, 3, 1])
    plain = updates(gradients, EVERY[rule](gram))
    renamed = updates(gradients[:, order], EVERY[rule](gram[:, order][:, :, order]))
    apart = relative(gradients, plain, renamed)
    # Where the shortest vector is 0, only rounding is left of it.
    apart = np.where(np.linalg.norm(plain, axis=1) < 1e-5 * np.abs(gradients).max((1, 2)), 0.0, apart)
    assert np.all(apart < 1e-5), dict(zip(names, apart, strict=True))


@pytest.mark.parametrize(("rule", "power"), [("nash", -1), ("min norm", 0), ("cagrad", 0), ("pcgrad", 0)])
def test_a_common_scale_has_its_law(dtype, rule, power):
    _, _, gram = hard_grams(dtype)
    scale = 2.0**10
    plain, scaled = np.asarray(EVERY[rule](gram)), np.asarray(EVERY[rule](gram * dtype(scale**2)))
    feasible = np.asarray(bargain(gram).feasible)
    lanes = feasible if rule == "nash" else np.ones(len(gram), bool)
    np.testing.assert_allclose(scaled[lanes], plain[lanes] * scale**power, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["nash", "min norm", "cagrad"])
def test_absent_players_leave_the_smaller_problem(x64, rule):
    _, gradients, gram = hard_grams(np.float64)
    present = np.array([True, True, False, True])
    whole = updates(gradients, MASKED[rule](gram, present))
    small = updates(gradients[:, present], EVERY[rule](gram[:, present][:, :, present]))
    size = np.abs(gradients).max((1, 2))
    loose = np.maximum(np.linalg.norm(whole, axis=1), 1e-5 * size + 1e-300)
    assert np.all(np.abs(whole - small).max(1) <= 1e-5 * loose)


@pytest.mark.parametrize("rule", ["nash", "min norm"])
def test_nobody_loses(dtype, rule):
    names, gradients, gram = hard_grams(dtype)
    weights = np.asarray(EVERY[rule](gram), float)
    gains = np.einsum("bjk,bk->bj", gram_of(gradients), weights)
    feasible = np.asarray(bargain(gram).feasible)
    norms = np.linalg.norm(gradients, axis=2)
    length = np.linalg.norm(updates(gradients, weights), axis=1)
    slack = (1e-3 if dtype is np.float32 else 1e-8) * norms * np.maximum(length, norms.min(1))[:, None]
    lanes = feasible if rule == "nash" else np.ones(len(gram), bool)
    assert np.all((gains >= -slack)[lanes]), names


def test_cagrad_improves_the_worst_off_at_least_as_much_as_the_mean_does(x64):
    names, gradients, gram = hard_grams(np.float64)
    weights = np.asarray(EVERY["cagrad"](gram))
    worst, of_mean = (gram @ weights[:, :, None])[..., 0].min(1), gram.mean(2).min(1)
    size = np.abs(gradients).max((1, 2)) ** 2
    assert np.all(worst >= of_mean - 1e-10 * size), names


@pytest.mark.parametrize("num_players", [1, 2, 7, 64])
def test_the_bargain_meets_the_corollaries(x64, num_players):
    _, gradients, gram = hard_grams(np.float64, num_players)
    solution = bargain(gram)
    lanes = np.asarray(solution.feasible)
    assert lanes.sum() >= 5 if num_players <= 2 else lanes.sum() >= 2
    weights, gradients, gram = np.asarray(solution.weights)[lanes], gradients[lanes], gram[lanes]
    gains = np.einsum("bkn,bn->bk", gradients, updates(gradients, weights))
    norms = np.linalg.norm(gradients, axis=2)
    assert np.all(gains > 0)
    np.testing.assert_allclose(gains * weights, 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(updates(gradients, weights), axis=1) ** 2, num_players, rtol=1e-6)
    assert np.all(weights * norms * np.sqrt(num_players) >= 1 - 1e-9)


# The axioms of Nash (1950), of the utilities <g_k, d> over the ball |d| <= sqrt(K) with disagreement 0.


def aligned_problem(seed, num_players=3, size=4):
    random = np.random.default_rng(seed)
    return random.normal(size=(num_players, size)) + 1.5 * random.normal(size=size)


SEEDS = [seed for seed in range(60) if np.all(gram_of(aligned_problem(seed)).min() > 0.1)][:8]


@pytest.mark.parametrize("seed", SEEDS)
def test_pareto_efficiency_no_update_of_that_length_gains_more_for_all(x64, seed):
    gradients = aligned_problem(seed)
    update = np.asarray(ALONE["nash"](gram_of(gradients))) @ gradients
    random = np.random.default_rng(seed)
    others = update + 10.0 ** random.uniform(-4, 0, (5000, 1)) * random.normal(size=(5000, len(update)))
    others *= np.linalg.norm(update) / np.linalg.norm(others, axis=1, keepdims=True)
    better = np.all(others @ gradients.T > gradients @ update + 1e-9, axis=1)
    assert not better.any()


def test_symmetry_players_whose_roles_can_be_exchanged_gain_the_same(x64):
    gram = np.array([[2.0, 0.3, -0.4], [0.3, 2.0, -0.4], [-0.4, -0.4, 1.0]])
    weights = np.asarray(ALONE["nash"](gram))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-13)


@pytest.mark.parametrize("seed", SEEDS)
def test_scale_invariance_the_units_of_one_utility_do_not_move_the_update(x64, seed):
    gradients = aligned_problem(seed)
    scaled = gradients * np.array([[1e-3], [1.0], [50.0]])
    update, same = (np.asarray(ALONE["nash"](gram_of(g))) @ g for g in (gradients, scaled))
    np.testing.assert_allclose(same, update, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_independence_of_irrelevant_alternatives(x64, seed):
    """Updates confined to a subspace that holds the bargain: the bargain over the projected gradients is the same."""
    gradients = aligned_problem(seed)
    update = np.asarray(ALONE["nash"](gram_of(gradients))) @ gradients
    other = np.random.default_rng(seed + 1).normal(size=len(update))
    basis = np.linalg.qr(np.stack([update, other], axis=1))[0]
    confined = gradients @ basis @ basis.T
    np.testing.assert_allclose(np.asarray(ALONE["nash"](gram_of(confined))) @ confined, update, rtol=1e-8, atol=1e-10)


def test_the_bank_has_lanes_that_fail_beside_lanes_that_do_not(dtype):
    names, _, gram = hard_grams(dtype)
    feasible = dict(zip(names, np.asarray(bargain(gram).feasible).tolist(), strict=True))
    assert not any(feasible[name] for name in ("opposed", "a zero row", "all zero"))
    assert all(feasible[name] for name in ("aligned", "orthogonal", "all the same", "tiny and huge"))


def test_one_key_gives_one_update():
    gram = jnp.asarray(gram_of(aligned_problem(0) - 2, np.float32))
    np.testing.assert_array_equal(ALONE["pcgrad"](gram), ALONE["pcgrad"](gram))
