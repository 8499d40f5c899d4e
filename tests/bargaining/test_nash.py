"""Facts about Nash weights: closed forms, optimality conditions, feasibility, SciPy's solvers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.bargaining import alignment, combine, min_norm_weights, nash_weights, nash_weights_from_gradients
from badrjax.status import Status, explain
from tests.bargaining.bank import MASKS, aligned, gram_of, hull_margin, hull_margin_of, instances

solve = jax.jit(nash_weights)


solve_all = jax.jit(jax.vmap(nash_weights))


from_gradients = jax.jit(nash_weights_from_gradients)


shortest = jax.jit(min_norm_weights)


# A margin, min s'Cs over the simplex, that each precision decides.
DECIDABLE = {np.float32: 1e-4, np.float64: 1e-10}


def cosines_at_margin(margin, count=50):
    random = np.random.default_rng(0)
    cosines = -1 + 2 * margin * random.uniform(1, 2, count)
    norms = np.exp(2 * random.normal(size=(count, 2)))
    blocks = np.moveaxis(np.array([[np.ones(count), cosines], [cosines, np.ones(count)]]), 2, 0)
    return blocks * norms[:, :, None] * norms[:, None, :]


def test_weights_of_orthogonal_gradients_are_one_over_their_norms(dtype):
    norms = np.array([1e-3, 0.5, 1.0, 40.0], dtype)
    solution = solve(np.diag(norms**2))
    assert solution.feasible
    assert solution.weights.dtype == dtype
    np.testing.assert_allclose(solution.weights, 1 / norms, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("cosine", [-0.9, -0.3, 0.0, 0.4, 0.99, 1.0])
def test_two_players_have_a_closed_form(dtype, cosine):
    first, second = dtype(3.0), dtype(0.02)
    across = cosine * first * second
    solution = solve(np.array([[first**2, across], [across, second**2]], dtype))
    expected = np.array([1 / first, 1 / second]) / np.sqrt(1 + cosine)
    assert solution.feasible
    np.testing.assert_allclose(solution.weights, expected, rtol=20 * np.finfo(dtype).eps / (1 + cosine))


def test_one_player_gets_one_over_the_norm(dtype):
    solution = solve(np.array([[9.0]], dtype))
    assert solution.feasible
    np.testing.assert_allclose(solution.weights, [1 / 3], rtol=1e-6)


# Damped Newton steps from a fixed start would need one step a player here.
@pytest.mark.parametrize("num_players", [2, 33, 130])
def test_copies_of_one_gradient_share_its_weight(dtype, num_players):
    norms = np.resize(np.array([0.1, 1.0, 7.0]), num_players).astype(dtype)
    solution = solve(np.outer(norms, norms))
    assert solution.feasible
    assert solution.num_steps <= 3
    np.testing.assert_allclose(solution.weights, 1 / (norms * np.sqrt(num_players)), rtol=50 * np.finfo(dtype).eps)


def test_a_duplicated_gradient_splits_into_equal_weights(x64):
    gradients = aligned(np.random.default_rng(0), 4, 6)
    weights = np.asarray(solve(gram_of(gradients[[0, 1, 2, 3, 1]])).weights)
    np.testing.assert_allclose(weights[1], weights[4], rtol=1e-12)


@pytest.mark.parametrize(("num_players", "size"), [(30, 3), (64, 2)])
def test_linearly_dependent_gradients_can_bargain(dtype, num_players, size):
    for seed in range(5):
        gradients = aligned(np.random.default_rng(seed), num_players, size)
        gradients = gradients[gradients @ gradients.sum(0) > 0]
        gradients = np.resize(gradients, (num_players, size)).astype(dtype)
        margin = hull_margin(gradients)
        solution = solve(gram_of(gradients, dtype))
        assert bool(solution.feasible) == (margin > 0) or margin < DECIDABLE[dtype]
        if margin > 1e-2:
            gains = solution.weights * (gram_of(gradients) @ np.asarray(solution.weights, float))
            np.testing.assert_allclose(gains, 1, atol=1e-4 if dtype is np.float32 else 1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), exponents=st.lists(st.integers(-20, 20), min_size=6, max_size=6))
def test_scaling_a_gradient_divides_its_weight(seed, exponents):
    gram = gram_of(aligned(np.random.default_rng(seed), 6, 4), np.float32)
    scale = np.float32(2.0) ** np.array(exponents, np.float32)
    plain, scaled = solve(gram), solve(gram * np.outer(scale, scale))
    assert plain.feasible == scaled.feasible
    if plain.feasible:
        np.testing.assert_allclose(scaled.weights * scale, plain.weights, rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_relabelling_players_relabels_their_weights(seed):
    random = np.random.default_rng(seed)
    gram, order = gram_of(aligned(random, 7, 5), np.float32), random.permutation(7)
    plain, permuted = solve(gram), solve(gram[np.ix_(order, order)])
    present = random.random(7) < 0.7
    rtol = 1e-3 if hull_margin_of(gram) > 1e-2 else 0.2
    np.testing.assert_allclose(permuted.weights, plain.weights[order], rtol=rtol)
    shortest_permuted = shortest(gram[np.ix_(order, order)], present[order])
    shortest_plain = np.asarray(shortest(gram, present))
    values = [w @ gram_of_order @ w for w, gram_of_order in ((shortest_permuted, gram[np.ix_(order, order)]),)]
    np.testing.assert_allclose(values, [shortest_plain @ gram @ shortest_plain], rtol=1e-4, atol=1e-6)


def test_the_update_is_sqrt_k_long_and_gains_one_over_the_weights(x64):
    gradients = jnp.asarray(aligned(np.random.default_rng(3), 6, 9))
    weights = solve(gram_of(gradients)).weights
    update = combine(gradients, weights)
    np.testing.assert_allclose(weights @ gram_of(gradients) @ weights, 6, rtol=1e-12)
    np.testing.assert_allclose(jnp.linalg.norm(update), np.sqrt(6), rtol=1e-12)
    np.testing.assert_allclose(alignment(gradients, update), 1 / weights, rtol=1e-11)


@pytest.mark.parametrize("seed", range(4))
def test_weights_agree_with_a_maximum_of_the_log_utilities(x64, seed):
    gradients = aligned(np.random.default_rng(seed), 5, 4, spread=0.5)

    def regret(update):
        gains = gradients @ update
        return update @ update / 2 - np.sum(np.log(gains)) if (gains > 0).all() else np.inf

    start = 0.1 * gradients.sum(0)
    start = start if (gradients @ start > 0).all() else gradients.mean(0)
    best = scipy.optimize.minimize(regret, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    weights = solve(gram_of(gradients)).weights
    np.testing.assert_allclose(1 / (gradients @ best.x), weights, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_a_root_found_by_another_method(x64, seed):
    gram = gram_of(aligned(np.random.default_rng(10 + seed), 6, 8, spread=0.3))
    weights = np.asarray(solve(gram).weights)
    start = np.log(weights) + np.random.default_rng(seed).normal(size=6) * 0.1
    root = scipy.optimize.root(lambda log: np.exp(log) * (gram @ np.exp(log)) - 1, start, method="lm", tol=1e-14)
    np.testing.assert_allclose(root.fun, 0, atol=1e-11)
    np.testing.assert_allclose(np.exp(root.x), weights, rtol=1e-9)


@pytest.mark.parametrize("num_players", [2, 4, 10, 30])
def test_feasible_exactly_when_a_linear_program_finds_a_common_direction(dtype, num_players):
    problems, directions, margins = instances(num_players)
    gram = np.stack([gram_of(p, dtype) for p in problems])
    feasible = np.asarray(solve_all(gram).feasible)
    # Where the dtype cannot decide, the answer is no: it is never wrongly yes.
    np.testing.assert_array_equal(feasible[directions <= 1e-9], False)
    np.testing.assert_array_equal(feasible[margins > DECIDABLE[dtype]], True)
    assert np.all(directions[margins > DECIDABLE[dtype]] > 1e-9)  # the two references agree
    assert feasible.sum() >= 30
    assert (~feasible).sum() >= 10


@pytest.mark.parametrize("num_players", [2, 4, 10, 30])
def test_residuals_are_at_the_rounding_level_and_small_at_a_clear_margin(dtype, num_players):
    problems, _, margins = instances(num_players)
    gram = np.stack([gram_of(p, dtype) for p in problems])
    solution = solve_all(gram)
    feasible = np.asarray(solution.feasible)
    # Judged in extended precision, not by the sums of the solver.
    weights, exact = np.asarray(solution.weights, np.longdouble), gram.astype(np.longdouble)
    residual = np.max(np.abs(weights * np.einsum("bij,bj->bi", exact, weights) - 1), axis=1)
    sums = np.max(weights * np.einsum("bij,bj->bi", np.abs(exact), weights), axis=1)
    assert np.all((residual <= 32 * np.finfo(dtype).eps * sums)[feasible])
    # 1e-9 at a margin of 1e-8 would be below the rounding of the weights themselves.
    margin, bound = (1e-2, 1e-4) if dtype is np.float32 else (1e-6, 1e-9)
    assert np.all(residual[margins > margin] <= bound)
    assert np.all(weights[feasible] > 0)


@pytest.mark.parametrize("margin", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_two_players_close_to_a_conflict(dtype, margin):
    solution = solve_all(cosines_at_margin(margin).astype(dtype))
    if margin > np.finfo(dtype).eps * 4:
        assert np.all(solution.feasible)
        assert np.all(np.asarray(solution.residual) <= 16 * np.finfo(dtype).eps / margin)
    elif margin < np.finfo(dtype).eps / 16:
        assert not np.any(solution.feasible)


def test_gradients_that_add_up_to_zero_are_infeasible(dtype):
    random = np.random.default_rng(4)
    first, second = random.normal(size=(2, 200, 20)).astype(dtype)
    scale = np.exp(2 * random.normal(size=(200, 3, 1))).astype(dtype)
    triples = scale * np.stack([first, second, -(first + second)], axis=1)
    others = random.normal(size=(200, 2, 20)).astype(dtype)
    for gradients in (triples, np.concatenate([triples, others], axis=1)):
        solution = solve_all(gram_of(gradients, dtype))
        assert not np.any(solution.feasible)
        np.testing.assert_array_equal(solution.weights, np.full_like(solution.weights, 1 / gradients.shape[1]))


@pytest.mark.parametrize("num_players", [2, 5])
def test_norms_from_1e_minus_8_to_1e8(num_players):
    random = np.random.default_rng(5)
    unit = aligned(random, num_players, 4, spread=0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    norms = 10.0 ** random.uniform(-8, 8, (100, num_players, 1))
    norms[0], norms[1] = 1e-8, 1e8
    gram = gram_of(norms * unit).astype(np.float32)
    solution = solve_all(gram)
    weights = np.asarray(solution.weights, float)
    assert np.all(solution.feasible)
    gains = weights * np.einsum("bij,bj->bi", gram.astype(float), weights)
    np.testing.assert_allclose(gains, 1, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1.0, 1e25, 1e30])
def test_gradients_beyond_the_range_of_their_squares(scale):
    gradients = aligned(np.random.default_rng(6), 4, 7).astype(np.float32)
    plain, scaled = from_gradients(gradients), from_gradients(gradients * np.float32(scale))
    assert scaled.feasible
    np.testing.assert_allclose(scaled.weights * np.float32(scale), plain.weights, rtol=1e-5)
    np.testing.assert_allclose(plain.weights, solve(gram_of(gradients, np.float32)).weights, rtol=1e-5)


def test_gradients_both_tiny_and_huge():
    gradients = aligned(np.random.default_rng(7), 3, 5, spread=0)
    scale = np.array([1e-30, 1.0, 1e30])
    solution = from_gradients((gradients * scale[:, None]).astype(np.float32))
    assert solution.feasible
    plain = from_gradients(gradients.astype(np.float32)).weights
    np.testing.assert_allclose(np.asarray(solution.weights, float) * scale, plain, rtol=1e-5)


@pytest.mark.parametrize("garbage", [0.0, 7.0, np.nan, np.inf, -1e30])
def test_absent_players_take_no_part(dtype, garbage):
    gram = gram_of(aligned(np.random.default_rng(8), 4, 3), dtype)
    dirty = np.where(MASKS[:, :, None] & MASKS[:, None, :], gram[None], dtype(garbage))
    solution = solve_all(dirty, MASKS)
    for mask, weights, feasible in zip(MASKS, solution.weights, solution.feasible, strict=True):
        np.testing.assert_array_equal(np.asarray(weights)[~mask], 0)
        assert bool(feasible) == mask.any()
        if mask.any():
            alone = solve(gram[np.ix_(mask, mask)]).weights
            np.testing.assert_allclose(np.asarray(weights)[mask], alone, rtol=1e3 * np.finfo(dtype).eps)


def test_infeasible_weights_are_shared_by_those_present():
    opposed = gram_of([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.3, 0.3]], np.float32)
    masks = MASKS[MASKS[:, 0] & MASKS[:, 1]]
    solution = jax.jit(jax.vmap(nash_weights, (None, 0)))(opposed, masks)
    assert not np.any(solution.feasible)
    np.testing.assert_array_equal(solution.weights, masks / masks.sum(1, keepdims=True).astype(np.float32))


def test_nobody_present_is_infeasible_with_no_weights():
    nobody = np.zeros(2, bool)
    solution = solve(np.eye(2, dtype=np.float32), nobody)
    assert not solution.feasible
    np.testing.assert_array_equal(solution.weights, [0, 0])
    np.testing.assert_array_equal(shortest(np.eye(2, dtype=np.float32), nobody), [0, 0])
    np.testing.assert_array_equal(from_gradients(np.eye(2, dtype=np.float32), nobody).weights, [0, 0])


def test_the_solution_has_the_documented_types():
    solution = solve(jnp.eye(3))
    chex.assert_shape(solution, [(3,), (), (), ()])
    assert [leaf.dtype for leaf in solution] == [jnp.float32, bool, jnp.float32, jnp.int32]
    # Integers and half precision are solved in float32.
    assert solve(2 * jnp.eye(3, dtype=int)).weights.dtype == jnp.float32
    half = solve(4 * jnp.eye(3, dtype=jnp.bfloat16))
    assert half.feasible
    np.testing.assert_allclose(half.weights, 0.5, rtol=1e-6)
    np.testing.assert_allclose(shortest(4 * jnp.eye(2, dtype=jnp.bfloat16)), 0.5, rtol=1e-6)


def test_the_status_explains_the_solution():
    lanes = solve_all(np.stack([np.eye(2), [[1, -1], [-1, 1]]]).astype(np.float32))
    assert lanes.status.dtype == jnp.int32
    np.testing.assert_array_equal(lanes.status, [Status.SUCCESS, Status.NO_COMMON_DIRECTION])
    assert explain(lanes).splitlines()[1].startswith("1 of 2: NO_COMMON_DIRECTION")
    assert explain(solve(jnp.eye(2))).startswith("SUCCESS")
