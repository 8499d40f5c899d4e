"""Facts about the notebook's bargaining scheme: SciPy's solvers on each round, closed forms, quirks, hostile input."""

import chex
import jax
import numpy as np
import pytest
import scipy.optimize

from badrjax.bargaining import legacy_nash_weights, legacy_nash_weights_from_gradients, nash_weights
from badrjax.status import Status
from tests.bargaining.bank import MASKS, best_direction, gram_of, hard_gradients, instance

solve = jax.jit(legacy_nash_weights)
solve_all = jax.jit(jax.vmap(legacy_nash_weights))
one_round = jax.jit(jax.vmap(lambda gram: legacy_nash_weights(gram, max_rounds=1)))
exact_all = jax.jit(jax.vmap(nash_weights))
from_gradients = jax.jit(jax.vmap(legacy_nash_weights_from_gradients))


def problems(num_players, nus=(1e-8, 1e-5, 1e-2, 1.0)):
    """Random gradients `[B, K, n]` with `||M||_F` from the list."""
    random = np.random.default_rng(num_players)
    lanes = []
    for kind in ("random", "aligned", "opposed"):
        for nu in nus:
            for _ in range(3):
                gradients = instance(random, num_players, 24, kind).astype(float)
                lanes.append(gradients * np.sqrt(nu / np.linalg.norm(gram_of(gradients))))
    return np.stack(lanes)


def cost_at(matrix, nu, a):
    return matrix.sum(1) + (1 / a + matrix @ (1 / (matrix @ a))) / nu


def is_bounded(matrix, cost):
    """Whether no direction that the constraints leave free costs less than 0."""
    free = {"A_ub": -matrix, "b_ub": np.zeros(len(matrix)), "bounds": [(0, 1)] * len(matrix)}
    return scipy.optimize.linprog(cost / np.abs(cost).max(), **free, method="highs").fun > -1e-9


def programme(matrix, cost, start):
    """`argmin cost.b` with `b_k (C b)_k >= 1`."""

    def slack(b):
        return np.log(np.maximum(b, 1e-12)) + np.log(np.maximum(matrix @ b, 1e-12))

    result = scipy.optimize.minimize(
        lambda b: cost @ b,
        start,
        jac=lambda b: cost,
        constraints={
            "type": "ineq",
            "fun": slack,
            "jac": lambda b: np.diag(1 / b) + matrix / (matrix @ b)[:, None],
        },
        bounds=[(1e-6, None)] * len(start),
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return result.x


def published(gram, exact, rounds=100):
    """The scheme as the brief has it, `(weights, feasible, rounds)`; `exact` is where SciPy starts."""
    nu = np.linalg.norm(gram)
    matrix, a = gram / nu, np.ones(len(gram))
    inside = 1.1 * np.sqrt(nu) * exact
    for count in range(1, rounds + 1):
        cost = cost_at(matrix, nu, a)
        if count == 1 and not is_bounded(matrix, cost):
            return a, False, count
        found = programme(matrix, cost / (np.abs(cost) @ inside), inside) / np.sqrt(nu)
        if np.linalg.norm(matrix @ a - 1 / a) < 1e-3 or np.linalg.norm(found - a) < 1e-3:
            return a, count > 1, count
        a = found
    return a, True, rounds


@pytest.mark.parametrize("num_players", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_whole_scheme_is_the_one_scipy_runs(x64, num_players):
    grams = gram_of(problems(num_players))
    solution, exact = solve_all(grams), exact_all(grams)
    decided = 0
    for lane, gram in enumerate(grams):
        if not exact.feasible[lane] or np.linalg.cond(gram) > 1e8:
            continue
        weights, feasible, rounds = published(gram, np.asarray(exact.weights[lane]))
        assert feasible == bool(solution.feasible[lane])
        if feasible:
            np.testing.assert_allclose(solution.weights[lane], weights, rtol=2e-5)
        # At a smaller nu the test on the change is finer than what SciPy solves to.
        if np.linalg.norm(gram) > 1e-3:
            assert rounds == solution.num_steps[lane]
        decided += 1
    assert decided > 20


@pytest.mark.parametrize("num_players", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_a_single_round_minimises_its_programme(x64, num_players):
    grams = gram_of(problems(num_players, nus=(1e-4, 1.0, 100.0)))
    solution, exact = one_round(grams), exact_all(grams)
    compared = inactive = 0
    for lane, gram in enumerate(grams):
        if not solution.feasible[lane]:
            continue
        nu, found = np.linalg.norm(gram), np.asarray(solution.weights[lane])
        cost = cost_at(gram / nu, nu, np.ones(num_players))
        root = np.sqrt(nu)
        reference = programme(gram / nu, cost / np.abs(cost).max(), 1.1 * root * np.asarray(exact.weights[lane]))
        gains = found * (gram @ found)
        assert gains.min() >= 1 - 1e-9
        if (reference * (gram @ reference)).min() < nu * (1 - 1e-8):
            continue  # SciPy left the constraints
        compared += 1
        # Where SciPy stalls, it stalls above.
        assert cost @ found <= cost @ reference / root * (1 + 1e-7)
        inactive += int((gains > 1.01).sum())
    assert compared > 15
    assert inactive > 0  # not every round is the exact solution


@pytest.mark.parametrize("num_players", [4, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 10))])
def test_the_first_round_fails_exactly_without_a_minimum_or_a_bargain(x64, num_players):
    gradients = problems(num_players)
    solution = solve_all(gram_of(gradients))
    failures = 0
    for lane, rows in enumerate(gradients):
        matrix = gram_of(rows)
        nu = np.linalg.norm(matrix)
        margin = best_direction(rows)
        if 0 < margin < 1e-6:
            continue  # an exact conflict but for the rounding of its entries
        bargain = margin > 0
        bounded = is_bounded(matrix / nu, cost_at(matrix / nu, nu, np.ones(num_players)))
        assert bool(solution.feasible[lane]) == (bargain and bounded)
        failures += bargain and not bounded
    assert failures > 0 or num_players == 2


@pytest.mark.parametrize("cosine", [-0.8, 0.0, 0.6])
def test_two_players_of_one_length_get_the_exact_weights(dtype, cosine):
    gram = dtype(1e-3) * np.array([[1, cosine], [cosine, 1]], dtype)
    solution = solve(gram)
    assert solution.feasible
    assert solution.status == Status.SUCCESS
    assert solution.weights.dtype == dtype
    np.testing.assert_allclose(solution.weights, np.full(2, 1 / np.sqrt(1e-3 * (1 + cosine))), rtol=1e-4)
    assert solution.residual < 1e-4
    assert solution.num_steps == 2


@pytest.mark.parametrize("size", [1, 2])
def test_a_bargain_that_the_start_solves_counts_as_failed(dtype, size):
    solution = solve(np.full((size, size), 0.3, dtype))  # C 1 = 1
    assert not solution.feasible
    assert solution.status == Status.NO_COMMON_DIRECTION
    assert solution.num_steps == 1
    np.testing.assert_allclose(solution.weights, np.full(size, 1 / size), rtol=1e-6)
    assert solution.residual < 1e-5


# Three gradients with a common direction, whose Gram matrix has a negative row sum.
LEFT_OUT = np.array([[0.9, -1.1, 0.9], [0.0, -1.2, -0.3], [0.1, 0.3, -1.0]])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_a_bargain_exists_but_negative_row_sums_may_leave_the_first_round_unbounded(x64, scale):
    gram = gram_of(scale * LEFT_OUT)
    nu = np.linalg.norm(gram)
    assert gram.sum(1).min() < 0
    bounded = is_bounded(gram / nu, cost_at(gram / nu, nu, np.ones(3)))
    assert bounded == (scale == 100)  # the scale of the gradients matters
    assert jax.jit(nash_weights)(gram).feasible
    assert solve(gram).feasible == bounded


def test_relabelling_players_relabels_weights(x64):
    grams = gram_of(problems(4))
    order = np.array([2, 0, 3, 1])
    solution, relabelled = solve_all(grams), solve_all(grams[:, order][:, :, order])
    np.testing.assert_array_equal(solution.feasible, relabelled.feasible)
    np.testing.assert_allclose(solution.weights[:, order], relabelled.weights, rtol=1e-6)


def test_absent_players_take_no_part(dtype):
    gradients = problems(4)[6].astype(dtype)
    for mask in MASKS[MASKS.sum(1) == 2]:
        gram = np.where(mask[:, None] & mask[None, :], gram_of(gradients, dtype), np.nan)
        solution, alone = solve(gram, mask), solve(gram_of(gradients[mask], dtype))
        assert solution.feasible == alone.feasible
        if dtype == np.float64:  # the last round may hang on rounding in float32
            assert solution.num_steps == alone.num_steps
        np.testing.assert_array_equal(solution.weights[~mask], 0)
        np.testing.assert_allclose(solution.weights[mask], alone.weights, rtol=3e-4)
    nobody = solve(gram_of(gradients, dtype), MASKS[0])
    assert not nobody.feasible
    assert nobody.num_steps == 0
    np.testing.assert_array_equal(nobody.weights, 0)


def test_lanes_equal_a_loop_and_float32_agrees_with_float64(x64):
    grams = gram_of(problems(4, nus=(1e-2, 1.0))[:12])  # opposed gradients are beyond float32
    lanes = solve_all(grams)
    loop = [solve(gram) for gram in grams]
    chex.assert_trees_all_close(lanes, jax.tree.map(lambda *leaves: np.stack(leaves), *loop), rtol=1e-7, atol=1e-8)
    single = solve_all(grams.astype(np.float32))
    np.testing.assert_array_equal(single.feasible, lanes.feasible)
    np.testing.assert_allclose(single.weights, lanes.weights, rtol=1e-3)


def test_gradients_and_their_gram_matrix_agree_at_any_norm(dtype):
    gradients = problems(4, nus=(1e-2, 1.0))[:12].astype(dtype)
    chex.assert_trees_all_close(
        from_gradients(gradients).weights, solve_all(gram_of(gradients, dtype)).weights, rtol=3e-4
    )
    # With nu near 0 the length of a is all that is left of the scale.
    tiny, tinier = from_gradients(gradients * dtype(1e-12)), from_gradients(gradients * dtype(1e-25))
    np.testing.assert_array_equal(tiny.feasible, tinier.feasible)
    assert tiny.feasible.any()
    moved = np.asarray(tiny.feasible)
    np.testing.assert_allclose(np.asarray(tinier.weights)[moved] * 1e-13, np.asarray(tiny.weights)[moved], rtol=3e-4)


def test_hostile_gradients_give_finite_weights_and_the_right_verdict(dtype):
    bank = hard_gradients()
    broken = {name: bank["plain"].copy() for name in ("nan", "infinite", "as it is")}
    broken["nan"][1, 2], broken["infinite"][1, 2] = np.nan, np.inf
    names, gradients = [*bank, *broken], np.stack([*bank.values(), *broken.values()]).astype(dtype)
    with np.errstate(all="ignore"):
        grams = gram_of(gradients, dtype)
    for solution in (from_gradients(gradients), solve_all(grams)):
        chex.assert_tree_all_finite(solution)
        verdict = dict(zip(names, np.asarray(solution.feasible), strict=True))
        assert not any(verdict[name] for name in ("opposed", "a zero row", "all zero", "nan", "infinite"))
        assert not verdict["all the same"]
        assert not verdict["orthogonal"]  # a = 1 again
        assert verdict["aligned"]


def test_weights_are_constants(x64):
    gram = gram_of(problems(2)[15])
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda m: legacy_nash_weights(m).weights.sum()))(gram), 0)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="square"):
        legacy_nash_weights(np.ones((2, 3)))
    with pytest.raises(ValueError, match="present"):
        legacy_nash_weights(np.eye(2), np.ones(3, bool))
    with pytest.raises(ValueError, match=r"gradients must be \[K, n\]"):
        legacy_nash_weights_from_gradients(np.ones(3))
