"""Fixed weights, minimax fits, the regularisation path and the certificate, by identities and against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.tree_util import Partial

import badrjax as bx
from badrjax import bilevel
from badrjax.models import linear, mlp
from badrjax.status import Status
from tests.bilevel import cases
from tests.bilevel.cases import CENTRE, NUM_ROWS, SIZES, D, K, flat, mixture

STRENGTHS = np.array([0.02, 0.5, 0.02])
PENALTIES = np.array([0.0, 0.1, 1.0, 10.0])
GRID = bilevel.simplex_grid(K, 10)
WORST, SCALARISED, UNFAIR = np.eye(3)


def plain(data=None, **options):
    data = cases.dataset() if data is None else data
    return bilevel.problem(linear(D), data, num_groups=K, objective="hsic", **options)


def three_labels(data):
    """Labels `[3, n]` of three problems; in the last the third group is hard to fit."""
    surprising = (data.group == 2) & (np.arange(NUM_ROWS) % 2 == 1)
    other = 3 * data.y if data.y.dtype.kind == "f" else 1 - data.y
    return np.stack([data.y, data.y, np.where(surprising, other, data.y)])


def changed(problem, labels, strength):
    return problem._replace(data=problem.data._replace(y=labels), regularisation=strength)


def first_problem():
    return plain(regularisation=STRENGTHS[0])


def worst_risk(problem, params, batch):
    # The derivative of `jnp.max` is 0 / 0 where XLA computes the risks twice, and rounds them apart.
    risks = bilevel.regularised_risks(problem._replace(data=batch), params)
    return risks[jnp.argmax(risks)]


def scalarised_risk(problem, params, batch):
    risks = bilevel.group_risks(problem._replace(data=batch), params)
    return jnp.sum(CENTRE * risks) + bilevel.penalty(problem, params)


def with_lane(problem, lane):
    """The problem with another objective: the worst risk, the risk at `CENTRE`, or its own."""
    objectives = (Partial(worst_risk, problem), Partial(scalarised_risk, problem), problem.objective)
    return problem._replace(objective=Partial(mixture, lane, objectives))


solve_minimax = jax.jit(
    jax.vmap(
        lambda problem, labels, strength: bilevel.minimax(changed(problem, labels, strength), cases.start()),
        in_axes=(None, 0, 0),
    )
)
certify = jax.jit(jax.vmap(bilevel.certify, in_axes=(None, 0, 0)))


@jax.jit
def walk(problem, lanes, weights):
    """A front for each objective."""

    def one(lane):
        return bilevel.pareto_path(with_lane(problem, lane), weights, cases.start(), batch_size=weights.shape[0])

    return jax.lax.map(one, lanes)


@jax.jit
def risks_and_slopes(problem, params):
    return bilevel.regularised_risks(problem, params), jax.jacrev(bilevel.regularised_risks, argnums=1)(problem, params)


@pytest.fixture(scope="module")
def least_worst():
    """Minimax solutions of the three problems."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, solve_minimax(plain(), three_labels(cases.dataset()), STRENGTHS))


@pytest.fixture(scope="module")
def front(least_worst):
    """Fronts of the first problem: the grid, its vertices among them, then `CENTRE`, uniform and minimax weights."""
    with jax.enable_x64(True):
        weights = np.concatenate([GRID, CENTRE[None], np.full((1, K), 1 / K), least_worst.weights[:1]])
        return jax.tree.map(np.asarray, walk(first_problem(), np.eye(3), weights))


def test_weights_of_groups():
    problem, sizes = plain(), np.array(SIZES)
    np.testing.assert_allclose(bilevel.uniform_weights(problem), 1 / K, rtol=1e-6)
    np.testing.assert_allclose(bilevel.sample_weights(problem), sizes / sizes.sum(), rtol=1e-6)
    np.testing.assert_allclose(bilevel.balanced_weights(problem), 1 / sizes / np.sum(1 / sizes), rtol=1e-6)
    complement = (sizes.sum() - sizes) / ((K - 1) * sizes.sum())
    np.testing.assert_allclose(bilevel.balanced_weights(problem, "complement"), complement, rtol=1e-6)
    for of in (bilevel.uniform_weights, bilevel.sample_weights, bilevel.balanced_weights):
        np.testing.assert_allclose(jnp.sum(of(problem)), 1, rtol=1e-6)
    # Sizes are sums of frequencies.
    counted = plain(cases.dataset()._replace(weight=np.where(np.arange(NUM_ROWS) < 45, 2.0, 0.0)))
    sizes = 2 * np.bincount(cases.dataset().group[:45])
    found = jax.jit(lambda problem: (bilevel.sample_weights(problem), bilevel.balanced_weights(problem)))(counted)
    np.testing.assert_allclose(found[0], sizes / sizes.sum(), rtol=1e-6)
    np.testing.assert_allclose(found[1], 1 / sizes / np.sum(1 / sizes), rtol=1e-6)


@pytest.mark.parametrize("num_groups", [1, 2])
def test_both_balances_agree_for_up_to_two_groups(num_groups):
    data = cases.dataset()._replace(group=np.minimum(cases.dataset().group, num_groups - 1))
    problem = bilevel.problem(linear(D), data, num_groups=num_groups)
    found = [bilevel.balanced_weights(problem, variant) for variant in bilevel.BALANCES]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(found[0]), 1, rtol=1e-6)


def least_worst_by_scipy(problem):
    """`min t` subject to `R_a(w) <= t`, with the intercept first in `w` and `t` last."""

    def slack(point):
        risks, slopes = risks_and_slopes(problem, as_params(point))
        by_params = np.concatenate([np.reshape(leaf, (K, -1)) for leaf in jax.tree.leaves(slopes)], axis=1)
        return point[-1] - np.asarray(risks), np.concatenate([-by_params, np.ones((K, 1))], axis=1)

    def as_params(point):
        return {"output": {"bias": point[:1], "kernel": point[1:-1, None]}}

    up = np.r_[np.zeros(1 + D), 1.0]
    return scipy.optimize.minimize(
        lambda point: (point[-1], up), up, jac=True, method="SLSQP", options={"ftol": 1e-13, "maxiter": 200},
        constraints={"type": "ineq", "fun": lambda point: slack(point)[0], "jac": lambda point: slack(point)[1]},
    )  # fmt: skip


def check_minimax(found, problem):
    np.testing.assert_array_equal(found.status, Status.SUCCESS)
    assert (found.num_evaluations <= 8).all()
    assert ((found.gap >= 0) & (found.gap <= 1e-8 * found.value)).all()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-12)
    for index, labels in enumerate(three_labels(problem.data)):
        problem = changed(problem, labels, STRENGTHS[index])
        # At so small a tolerance SLSQP can end with a line search that fails.
        expected = least_worst_by_scipy(problem)
        np.testing.assert_allclose(found.value[index], expected.fun, rtol=1e-7)
        params = jax.tree.map(lambda leaf, index=index: leaf[index], found.params)
        np.testing.assert_allclose(flat(params), expected.x[:-1], atol=1e-5)
        # Groups whose risk is below the worst have no weight.
        risks, _ = risks_and_slopes(problem, params)
        assert (found.weights[index][risks < found.value[index] - 1e-6] == 0).all()


def test_minimax_is_the_programme_of_its_epigraph(least_worst, x64):
    check_minimax(least_worst, plain())
    # Problems in which a group gets no weight, and one in which every group does.
    np.testing.assert_array_equal((least_worst.weights > 1e-6).sum(axis=1), [2, 2, 3])


@pytest.mark.slow
def test_minimax_of_squared_losses(x64):
    problem = plain(cases.dataset(targets=True), loss="squared")
    check_minimax(solve_minimax(problem, three_labels(problem.data), STRENGTHS), problem)


def test_minimax_weights_are_best_for_the_worst_regularised_risk(least_worst, front):
    values = front.evaluations.value[0]
    assert np.argmin(values) == len(values) - 1
    np.testing.assert_allclose(values[-1], least_worst.value[0], rtol=1e-12)
    # No model is better than the bound of the gap.
    assert (values >= least_worst.value[0] - least_worst.gap[0]).all()
    np.testing.assert_allclose(values, front.regularised_risks[0].max(axis=1), rtol=1e-12)
    # It is not the raw risks that these weights make equal.
    assert np.ptp(front.regularised_risks[0, -1, :2]) < 1e-8


def test_minimax_that_fails_says_so(x64):
    # Classes that a plane separates have no minimiser without a penalty; nor has what is not a number.
    separated = np.broadcast_to(cases.dataset().x[:, 0] > 0, (K, NUM_ROWS)).astype(np.int32)
    found = solve_minimax(plain(), separated, np.array([0.0, 0.1, np.nan]))
    assert found.status[0] not in (Status.SUCCESS, Status.NOT_FINITE)
    assert found.status[1] == Status.SUCCESS
    assert found.status[2] == Status.NOT_FINITE


def test_the_risk_of_given_weights_is_least_at_these_weights(front):
    values, gradients = front.evaluations.value[1], front.evaluations.gradient[1]
    centre, distance = len(GRID), np.abs(GRID - CENTRE).max(axis=1)
    assert distance.min() < 1e-12
    np.testing.assert_array_equal(np.flatnonzero(values <= values[centre] + 1e-12), [np.argmin(distance), centre])
    np.testing.assert_allclose(gradients[centre], 0, atol=1e-12)
    assert (np.abs(gradients[:centre][distance > 0.05]).max(axis=1) > 1e-3).all()


def test_one_group_fit_is_the_best_vertex(front, x64):
    fit = jax.jit(bilevel.one_group_fit)(first_problem(), cases.start())
    vertices = [int(np.flatnonzero((vertex == GRID).all(axis=1))[0]) for vertex in np.eye(K)]
    values = front.evaluations.value[2][vertices]
    best = np.argmin(values)
    assert np.ptp(values) > 0.01
    np.testing.assert_array_equal(fit.weights, np.eye(K)[best])
    np.testing.assert_allclose(fit.value, values[best], rtol=1e-10)
    assert fit.info.status == Status.SUCCESS
    expected = jax.tree.map(lambda leaf: leaf[2, vertices[best]], front.evaluations.params)
    np.testing.assert_allclose(flat(fit.params), flat(expected), rtol=1e-9)


def test_solutions_are_stationary_for_regularised_risks_and_not_for_raw_ones(front, x64):
    problem, weights = first_problem(), front.weights[0]
    found = certify(problem, jax.tree.map(lambda leaf: leaf[2], front.evaluations.params), weights)
    positive = (weights > 0.05).all(axis=1)
    regularised, raw = found
    assert (regularised.weighted_norm <= regularised.rounding).all()
    # The shortest combination is as exact as the quadratic programme is solved.
    assert (regularised.relative_norm <= 1e-10).all()
    # Raw risks have another combination of gradients at these models, of length mu times the norm of the kernel.
    kernel = front.evaluations.params["output"]["kernel"][2, :, :, 0]
    longest = raw.norm / raw.relative_norm
    np.testing.assert_allclose(raw.weighted_norm * longest, STRENGTHS[0] * np.linalg.norm(kernel, axis=1), rtol=1e-6)
    assert (raw.relative_norm[positive] > 1e-4).all()
    np.testing.assert_allclose(regularised.weights[positive], weights[positive], atol=1e-5)
    # Other weights do not support these models.
    wrong = certify(problem, jax.tree.map(lambda leaf: leaf[2], front.evaluations.params), np.roll(weights, 1, axis=1))
    apart = np.abs(np.roll(weights, 1, axis=1) - weights).max(axis=1) > 0.05
    assert (wrong.regularised.weighted_norm[apart] > 1e-3).all()


def test_the_regularisation_path_starts_at_the_uniform_fit_and_leaves_the_front(front, x64):
    problem = first_problem()
    path = jax.jit(lambda problem, penalties: bilevel.regularisation_path(problem, cases.start(), penalties))(
        problem, PENALTIES
    )
    np.testing.assert_array_equal(path.info.status, Status.SUCCESS)
    uniform = jax.tree.map(lambda leaf: leaf[2, len(GRID) + 1], front.evaluations)
    np.testing.assert_allclose(flat(jax.tree.map(lambda leaf: leaf[0], path.params)), flat(uniform.params), rtol=1e-7)
    np.testing.assert_allclose(path.values[0], uniform.value, rtol=1e-9)
    np.testing.assert_allclose(path.risks[0], front.risks[2, len(GRID) + 1], rtol=1e-9)
    # A convex objective falls as its price rises, at the cost of the risk.
    assert (np.diff(path.values) < 0).all()
    assert (np.diff(np.mean(path.regularised_risks, axis=1)) > 0).all()
    found = certify(problem, path.params, np.full((len(PENALTIES), K), 1 / K)).regularised
    assert found.weighted_norm[0] <= 1e-9
    assert (found.relative_norm[1:] > 1e-3).all()
    assert (np.diff(found.relative_norm) > 0).all()


def test_wrong_input_is_named():
    problem, params = plain(), cases.start()
    network = bilevel.problem(mlp(D, (2,)), cases.dataset(), num_groups=K)
    for message, call in (
        ("unknown variant 'inverted': did you mean 'inverse'", lambda: bilevel.balanced_weights(problem, "inverted")),
        ("needs badrjax.models.linear", lambda: bilevel.minimax(network, params)),
        ("max_evaluations must be", lambda: bilevel.minimax(problem, params, max_evaluations=0)),
        ("entry 1 is -1", lambda: bilevel.regularisation_path(problem, params, np.array([0.0, -1.0]))),
        ("entry 0 is nan", lambda: bilevel.regularisation_path(problem, params, np.array([np.nan]))),
        ("must be a vector", lambda: bilevel.regularisation_path(problem, params, 0.1)),
        ("on the simplex", lambda: bilevel.regularisation_path(problem, params, PENALTIES, weights=np.ones(K))),
        ("batch_size must be", lambda: bilevel.regularisation_path(problem, params, PENALTIES, batch_size=0)),
        ("on the simplex", lambda: bilevel.certify(problem, params, np.array([0.5, 0.6, -0.1]))),
        ("one number for each of 3", lambda: bilevel.certify(problem, params, np.ones(2) / 2)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.slow
def test_single_precision(least_worst):
    data = cases.single(cases.dataset())
    found = solve_minimax(plain(data), three_labels(data), np.float32(STRENGTHS))
    np.testing.assert_array_equal(found.status, Status.SUCCESS)
    assert found.value.dtype == np.float32
    np.testing.assert_allclose(found.value, least_worst.value, rtol=1e-4)
    np.testing.assert_allclose(found.weights, least_worst.weights, atol=1e-2)


@pytest.mark.slow
def test_searches_find_the_weights_that_identities_name(least_worst, x64):
    """The scalarised risk is smooth; the worst one has a kink at its minimum, where a search can only come near."""

    @jax.jit
    def search(problem, lanes):
        return jax.lax.map(lambda lane: bilevel.minimise_over_simplex(with_lane(problem, lane), cases.start()), lanes)

    found = search(first_problem(), np.stack([WORST, SCALARISED]))
    np.testing.assert_allclose(found.weights[1], CENTRE, atol=1e-5)
    assert found.info.status[1] == Status.SUCCESS
    assert found.value[0] >= least_worst.value[0] - least_worst.gap[0]
    np.testing.assert_allclose(found.value[0], least_worst.value[0], rtol=1e-4)


@pytest.mark.slow
def test_the_minimiser_of_the_path_may_be_chosen(x64):
    problem = first_problem()
    found, expected = (
        jax.jit(lambda problem, solver=solver: bilevel.regularisation_path(
            problem, cases.start(), PENALTIES, weights=CENTRE, minimise=solver, batch_size=1))(problem)
        for solver in (bx.newton(), None)
    )  # fmt: skip
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-7)
    np.testing.assert_allclose(found.risks, expected.risks, rtol=1e-7)
