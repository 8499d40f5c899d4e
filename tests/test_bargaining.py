"""Facts about Nash and minimum-norm weights: closed forms, optimality conditions, SciPy's solvers, derivatives."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from badrjax.bargaining import (
    alignment,
    combine,
    gramian,
    min_norm_weights,
    nash_weights,
    nash_weights_from_gradients,
)

solve = jax.jit(nash_weights)
solve_all = jax.jit(jax.vmap(nash_weights))
from_gradients = jax.jit(nash_weights_from_gradients)
jacobian_from_gradients = jax.jit(jax.jacrev(lambda *g: nash_weights_from_gradients(*g).weights))
forward_from_gradients = jax.jit(jax.jacfwd(lambda *g: nash_weights_from_gradients(*g).weights))
shortest = jax.jit(min_norm_weights)
shortest_all = jax.jit(jax.vmap(min_norm_weights))
JACOBIANS = {mode: jax.jit(getattr(jax, mode)(lambda m: nash_weights(m).weights)) for mode in ("jacfwd", "jacrev")}
NAN, INF = np.nan, np.inf
# A margin, min s'Cs over the simplex, that each precision decides.
DECIDABLE = {np.float32: 1e-4, np.float64: 1e-10}


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def gram_of(gradients, dtype=np.float64):
    gradients = np.asarray(gradients, dtype)
    return gradients @ gradients.swapaxes(-1, -2)


def aligned(random, num_players, size, spread=1.0):
    """Gradients on one side of a hyperplane, with norms that differ by orders of magnitude."""
    common = 2 * random.normal(size=size)
    scale = np.exp(spread * random.normal(size=(num_players, 1)))
    return scale * (random.normal(size=(num_players, size)) + common)


# Closed forms and invariances


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


# Independent solvers


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


# Feasibility


def hull_margin(gradients):
    """`min s'Cs` over the simplex, by non-negative least squares on unit gradients."""
    unit = gradients / np.linalg.norm(np.asarray(gradients, float), axis=1, keepdims=True)
    return hull_margin_of(None, np.linalg.qr(unit.T)[1])


def hull_margin_of(gram, root=None):
    if root is None:
        norms = np.sqrt(np.diagonal(np.asarray(gram, float)))
        values, vectors = np.linalg.eigh(gram / np.outer(norms, norms))
        root = (vectors * np.sqrt(np.clip(values, 0, None))).T
    system = np.vstack([root, np.ones(root.shape[1])])
    target = np.zeros(len(system))
    target[-1] = 1
    shares = scipy.optimize.nnls(system, target, maxiter=10_000)[0]
    return float(np.sum(np.square(root @ shares / shares.sum())))


def best_direction(gradients):
    """The largest `t` with `<g_k / |g_k|, u> >= t` for some `u` in a box: positive when a common direction exists."""
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    coordinates = np.linalg.qr(unit.T)[1].T
    num_players, size = coordinates.shape
    result = scipy.optimize.linprog(
        np.r_[np.zeros(size), -1.0],
        A_ub=np.hstack([-coordinates, np.ones((num_players, 1))]),
        b_ub=np.zeros(num_players),
        bounds=[(-1, 1)] * size + [(None, 1)],
        method="highs",
    )
    assert result.success
    return -result.fun


def instance(random, num_players, size, kind):
    gradients = random.normal(size=(num_players, size))
    if kind == "aligned":
        gradients = gradients + 2 * random.normal(size=(1, size))
    if kind == "opposed":  # often a combination is 0, or nearly so
        noise = random.choice([0.0, 10 ** random.uniform(-3, 0)])
        gradients[-1] = -random.uniform(0.5, 2, num_players - 1) @ gradients[:-1] + noise * random.normal(size=size)
    return (gradients * np.exp(2 * random.normal(size=(num_players, 1)))).astype(np.float32)


@cache
def instances(num_players):
    """Random problems with the verdict of a linear program and the margin: 531 over the four numbers of players."""
    random = np.random.default_rng(num_players)
    problems = [
        instance(random, num_players, size, kind)
        for size in (3, 64, 512)
        for kind in ("random", "aligned", "opposed")
        for _ in range({2: 20, 4: 20, 10: 12, 30: 7}[num_players])
    ]
    directions = np.array([best_direction(p.astype(float)) for p in problems])
    return problems, directions, np.array([hull_margin(p) for p in problems])


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


def cosines_at_margin(margin, count=50):
    random = np.random.default_rng(0)
    cosines = -1 + 2 * margin * random.uniform(1, 2, count)
    norms = np.exp(2 * random.normal(size=(count, 2)))
    blocks = np.moveaxis(np.array([[np.ones(count), cosines], [cosines, np.ones(count)]]), 2, 0)
    return blocks * norms[:, :, None] * norms[:, None, :]


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


INFEASIBLE = {
    "opposed": [[1.0, -2.0, 0.1], [-2.0, 4.0, -0.2], [0.1, -0.2, 1.0]],
    "sum to zero": [[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]],
    "a zero gradient": [[1.0, 0.0, 0.2], [0.0, 0.0, 0.0], [0.2, 0.0, 1.0]],
    "only zero gradients": [[0.0] * 3] * 3,
    "all NaN": [[NAN] * 3] * 3,
    "one gradient NaN": [[1.0, NAN, 0.2], [NAN, NAN, NAN], [0.2, NAN, 1.0]],
    "NaN off the diagonal": [[1.0, NAN, 0.2], [NAN, 1.0, 0.1], [0.2, 0.1, 1.0]],
    "one norm overflowed": [[1.0, 0.0, 0.2], [0.0, INF, 0.0], [0.2, 0.0, 1.0]],
    "negative diagonal": [[1.0, 0.0, 0.2], [0.0, -1.0, 0.0], [0.2, 0.0, 1.0]],
}


@pytest.mark.parametrize("name", INFEASIBLE)
def test_an_infeasible_problem_gets_equal_weights_and_derivative_zero(dtype, name):
    gram = jnp.asarray(INFEASIBLE[name], dtype)
    solution = solve(gram)
    assert not solution.feasible
    np.testing.assert_array_equal(solution.weights, np.full(3, dtype(1) / dtype(3)))
    if "zero gradient" in name:  # which gains nothing
        assert solution.residual == 1
    for mode in JACOBIANS:
        np.testing.assert_array_equal(JACOBIANS[mode](gram), np.zeros((3, 3, 3)))


@pytest.mark.parametrize("name", ["opposed", "a zero gradient", "only zero gradients", "one gradient NaN"])
def test_infeasible_gradients_pass_no_derivative_either(name):
    gradients = {
        "opposed": [[1.0, 2.0], [-2.0, -4.0], [0.5, 0.1]],
        "a zero gradient": [[1.0, 2.0], [0.0, 0.0], [0.5, 0.1]],
        "only zero gradients": [[0.0, 0.0]] * 3,
        "one gradient NaN": [[1.0, 2.0], [NAN, 1.0], [0.5, 0.1]],
    }[name]
    gradients = jnp.asarray(gradients)
    solution = from_gradients(gradients)
    assert not solution.feasible
    np.testing.assert_array_equal(solution.weights, np.full(3, np.float32(1) / np.float32(3)))
    np.testing.assert_array_equal(jacobian_from_gradients(gradients), np.zeros((3, 3, 2)))


# Absent players


MASKS = np.array([[bool(code >> k & 1) for k in range(4)] for code in range(16)])


@pytest.mark.parametrize("garbage", [0.0, 7.0, NAN, INF, -1e30])
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


@pytest.mark.parametrize("garbage", [0.0, NAN, INF, 1e30])
def test_nothing_of_an_absent_gradient_reaches_weights_or_derivatives(garbage):
    gradients = jnp.asarray(aligned(np.random.default_rng(9), 4, 3), jnp.float32).at[1].set(garbage)
    present = jnp.array([True, False, True, True])
    solution = from_gradients(gradients, present)
    alone = from_gradients(gradients[present])
    assert solution.feasible
    np.testing.assert_allclose(solution.weights[present], alone.weights, rtol=1e-5)
    jacobian = jacobian_from_gradients(gradients, present)
    expected = jacobian_from_gradients(gradients[present])
    np.testing.assert_array_equal(jacobian[1], 0)
    np.testing.assert_array_equal(jacobian[:, 1], 0)
    np.testing.assert_allclose(jacobian[present][:, present], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(forward_from_gradients(gradients, present), jacobian, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("garbage", [NAN, INF])
def test_garbage_in_the_tangent_of_an_absent_player_is_ignored(garbage):
    gram = jnp.asarray(gram_of(aligned(np.random.default_rng(9), 3, 3)), jnp.float32)
    present = jnp.array([True, True, False])
    direction = jnp.ones((3, 3)).at[2].set(garbage).at[:, 2].set(garbage)
    _, tangent = jax.jvp(lambda m: solve(m, present).weights, (gram,), (direction,))
    _, expected = jax.jvp(lambda m: solve(m).weights, (gram[:2, :2],), (jnp.ones((2, 2)),))
    np.testing.assert_allclose(tangent, jnp.append(expected, 0.0), rtol=1e-4)


# Derivatives


def test_derivative_at_orthogonal_gradients_in_closed_form(x64):
    diagonal = np.array([0.5, 2.0, 9.0])
    jacobian = jax.jit(jax.jacfwd(lambda d: nash_weights(jnp.diag(d)).weights))(diagonal)
    np.testing.assert_allclose(jacobian, np.diag(-0.5 * diagonal**-1.5), rtol=1e-12, atol=1e-14)


def test_derivatives_by_the_gradients_agree_with_differences(x64):
    gradients = jnp.asarray(aligned(np.random.default_rng(11), 4, 3, spread=0.3))
    present = jnp.array([True, False, True, True])
    weights_of = jax.jit(lambda g: nash_weights_from_gradients(g, present).weights)
    check_grads(weights_of, (gradients,), order=1, atol=1e-6, rtol=1e-6)
    # By way of the Gram matrix, where that does not over- or underflow, it is the same function.
    by_gram = jax.jit(jax.jacrev(lambda g: nash_weights(gramian(g), present).weights))
    direct = jax.jit(jax.jacfwd(weights_of))(gradients)
    np.testing.assert_allclose(by_gram(gradients), direct, rtol=1e-8, atol=1e-10)


def test_first_derivative_to_eight_digits_and_modes_agree(x64):
    random = np.random.default_rng(12)
    gram = jnp.asarray(gram_of(aligned(random, 6, 8, spread=0.3)))
    direction = random.normal(size=(6, 6))
    direction = direction + direction.T
    weights_of = jax.jit(lambda m: nash_weights(m).weights)
    step = 1e-5
    difference = (weights_of(gram + step * direction) - weights_of(gram - step * direction)) / (2 * step)
    value, tangent = jax.jvp(weights_of, (gram,), (direction,))
    np.testing.assert_allclose(tangent, difference, rtol=1e-7, atol=1e-9)
    upstream = random.normal(size=6)
    (cotangent,) = jax.vjp(weights_of, gram)[1](upstream)
    np.testing.assert_allclose(jnp.sum(cotangent * direction), upstream @ tangent, rtol=1e-12)
    # The implicit rule itself: (M + diag(1/a^2)) da = -dM a.
    np.testing.assert_allclose((gram + jnp.diag(value**-2)) @ tangent, -direction @ value, rtol=1e-8, atol=1e-8)
    hessian = jax.jit(jax.hessian(lambda t: jnp.vdot(upstream, weights_of(gram + t * direction))))(0.0)
    slope = jax.jit(jax.grad(lambda t: jnp.vdot(upstream, weights_of(gram + t * direction))))
    np.testing.assert_allclose(hessian, (slope(step) - slope(-step)) / (2 * step), rtol=1e-6)


def test_failing_lanes_leave_good_ones_and_gradients_alone():
    good = [aligned(np.random.default_rng(seed), 3, 4).astype(np.float32) for seed in (1, 2)]
    lanes = np.stack([good[0], *(np.zeros((3, 4), np.float32),) * 4, good[1]])
    lanes[1] = np.outer([1.0, -2.0, 3.0], [1.0, 0.5, 0.1, 0.2])
    lanes[2, 0] = good[0][0]
    lanes[3] = np.nan
    lanes[4] = good[0]
    lanes[4, 1] = np.inf

    def score(gradients):
        return jnp.sum(jnp.square(nash_weights_from_gradients(gradients).weights))

    solution = jax.jit(jax.vmap(nash_weights_from_gradients))(lanes)
    np.testing.assert_array_equal(solution.feasible, [True, False, False, False, False, True])
    np.testing.assert_array_equal(solution.weights[1:5], np.full((4, 3), np.float32(1) / np.float32(3)))
    slopes, slope_alone = jax.jit(jax.vmap(jax.grad(score)))(lanes), jax.jit(jax.grad(score))
    np.testing.assert_array_equal(slopes[1:5], 0)
    for lane in (0, 5):
        np.testing.assert_allclose(solution.weights[lane], from_gradients(lanes[lane]).weights, rtol=1e-5)
        np.testing.assert_allclose(slopes[lane], slope_alone(lanes[lane]), rtol=1e-4, atol=1e-6)
        assert np.any(slopes[lane] != 0)


def test_lanes_of_a_gram_with_nan_beside_them(x64):
    gram = np.stack([gram_of(aligned(np.random.default_rng(0), 3, 4)), *map(np.array, INFEASIBLE.values())])
    total = jax.jit(jax.grad(lambda m: jnp.sum(jax.vmap(nash_weights)(m).weights)))(gram)
    np.testing.assert_array_equal(total[1:], 0)
    np.testing.assert_allclose(total[0], JACOBIANS["jacrev"](gram[0]).sum(0), rtol=1e-10)
    assert np.all(np.isfinite(total[0]))


def test_the_rest_of_the_solution_has_no_derivative():
    gram = jnp.asarray(gram_of(aligned(np.random.default_rng(0), 3, 4)), jnp.float32)
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda m: nash_weights(m).residual))(gram), np.zeros((3, 3)))


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


# Minimum norm


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


KINDS = ("random", "aligned", "opposed")


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


@pytest.mark.parametrize("garbage", [0.0, NAN, INF])
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


# Trees of gradients


def tree_of_gradients(num_players=3):
    random = np.random.default_rng(16)
    shapes = {"bias": (), "kernel": (4, 2), "none": (0,), "nested": [(3,)]}

    def leaf(shape):
        return jnp.asarray(random.normal(size=(num_players, *shape)))

    return jax.tree.map(leaf, shapes, is_leaf=lambda x: isinstance(x, tuple))


def test_a_tree_is_its_concatenation(x64):
    tree = tree_of_gradients()
    flat = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(tree)], axis=1)
    gram = jax.jit(gramian)
    np.testing.assert_allclose(gram(tree), flat @ flat.T, rtol=1e-13)
    weights = jnp.array([0.5, -1.0, 2.0])
    combined = jax.jit(combine)(tree, weights)
    chex.assert_trees_all_equal_structs(combined, tree)
    expected = jax.tree.map(lambda leaf: 0.5 * leaf[0] - leaf[1] + 2 * leaf[2], jax.device_get(tree))
    chex.assert_trees_all_close(combined, expected, rtol=1e-13)
    lanes = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), tree)
    np.testing.assert_allclose(jax.jit(jax.vmap(gramian))(lanes)[1], 4 * gram(tree), rtol=1e-13)
    np.testing.assert_allclose(alignment(flat, weights @ flat), flat @ flat.T @ weights, rtol=1e-12)


def test_half_precision_gradients_are_multiplied_in_float32():
    ones = {"w": jnp.ones((2, 1000), jnp.bfloat16), "b": jnp.full((2, 1), 0.125, jnp.bfloat16)}
    gram = gramian(ones)
    assert gram.dtype == jnp.float32
    np.testing.assert_array_equal(gram, np.full((2, 2), 1000.015625))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"gram must be a square matrix.*\(2, 3\)", lambda: nash_weights(jnp.ones((2, 3)))),
        (r"gram must be a square matrix.*\(3,\)", lambda: min_norm_weights(jnp.ones(3))),
        (r"gram must be a square matrix.*\(0, 0\)", lambda: nash_weights(jnp.ones((0, 0)))),
        (r"present must be bool\[2\]", lambda: nash_weights(jnp.eye(2), jnp.ones(3, bool))),
        (r"present must be bool\[2\]", lambda: min_norm_weights(jnp.eye(2), jnp.ones((2, 2), bool))),
        (r"gradients must be \[K, n\].*\(4,\)", lambda: nash_weights_from_gradients(jnp.ones(4))),
        (r"present must be bool\[2\]", lambda: nash_weights_from_gradients(jnp.ones((2, 4)), jnp.ones(3, bool))),
        (r"leaves of gradients must all lead", lambda: gramian({"a": jnp.ones((1, 2)), "b": jnp.ones((3, 2))})),
        (r"leaves of gradients must all lead", lambda: gramian({"a": jnp.ones(())})),
        (r"leaves of gradients must all lead", lambda: gramian({})),
    ],
)
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
