"""Searches over the simplex against grids, SciPy, and changes of the data that cannot change their result."""

from functools import partial

import jax
import numpy as np
import pytest
import scipy.optimize

from badrjax import bilevel
from badrjax.models import linear, mlp
from badrjax.status import Status
from tests.bilevel import cases
from tests.bilevel.cases import NUM_ROWS, D, K, rows_of

MU = 0.02
# The first three have their minimum at positive weights of both groups, the fourth at a vertex, the last nowhere.
TWO = ["demographic_parity", "mean", "variance"]
TWO_LANES = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [np.nan, 0, 0]])
THREE = ["demographic_parity", "individual_fairness", "variance"]
THREE_LANES = np.eye(3)
STARTS = np.array([[1 / 3, 1 / 3, 1 / 3], [0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98], [0.1, 0.5, 0.4]])


def two_groups():
    data = cases.dataset()
    return cases.mixed(rows_of(data, data.group < 2), [(name, None) for name in TWO], num_groups=2, regularisation=MU)


def three_groups(data=None):
    data = cases.dataset() if data is None else data
    return cases.mixed(data, [(name, None) for name in THREE], regularisation=MU)


@partial(jax.jit, static_argnames=("rule", "max_evaluations"))
def search(problem, lanes, tolerance, rule, max_evaluations=200):
    """From uniform weights, a lane for each objective."""

    def one(lane):
        return bilevel.minimise_over_simplex(
            cases.with_coefficients(problem, lane), cases.start(), rule=rule, tolerance=tolerance,
            max_evaluations=max_evaluations,
        )  # fmt: skip

    return jax.lax.map(one, lanes)


@jax.jit
def search_from_each(problem, lanes, starts):
    def one(lane):
        return bilevel.multi_start(cases.with_coefficients(problem, lane), cases.start(), starts)

    return jax.lax.map(one, lanes)


@jax.jit
def oracle(problem, lane, weights):
    return bilevel.evaluate(cases.with_coefficients(problem, lane), weights, cases.start())


@pytest.fixture(scope="module")
def grid():
    """Values of the first four objectives, `f[4, 1001]`, at 1001 weights of two groups."""

    @jax.jit
    def path(problem, lanes, weights):
        def one(lane):
            return bilevel.pareto_path(cases.with_coefficients(problem, lane), weights, cases.start(), batch_size=91)

        return jax.lax.map(one, lanes)

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, path(two_groups(), TWO_LANES[:4], bilevel.simplex_grid(2, 1000)))


@pytest.fixture(scope="module")
def best_of_three():
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, search_from_each(three_groups(), THREE_LANES, STARTS))


def test_the_grid_has_one_minimum_each(grid):
    values = grid.evaluations.value
    assert (grid.evaluations.info.status == Status.SUCCESS).all()
    turns = np.diff(np.sign(np.diff(values[:3], axis=1)), axis=1) != 0
    np.testing.assert_array_equal(turns.sum(axis=1), 1)
    assert (np.argmin(values, axis=1)[:3] % 1000 != 0).all()
    assert np.argmin(values[3]) % 1000 == 0


@pytest.mark.parametrize("rule", bilevel.RULES)
def test_each_rule_ends_at_the_minimum_of_the_grid(rule, grid, x64):
    found = search(two_groups(), TWO_LANES, 1e-7, rule)
    values = grid.evaluations.value
    assert ((found.value[:4] - values.min(axis=1)) / np.ptp(values, axis=1) < 1e-6).all()
    np.testing.assert_allclose(found.weights[:4, 0], np.argmin(values, axis=1) / 1000, atol=1e-3)
    np.testing.assert_array_equal(found.info.status, [Status.SUCCESS] * 4 + [Status.NOT_FINITE])
    assert (found.info.stationarity[:4] <= 1e-7).all()
    assert (found.info.frank_wolfe_gap[:4] < 1e-6 * np.ptp(values, axis=1)).all()
    assert found.info.num_evaluations.max() <= 60
    # An objective without a value at the start ends there.
    assert np.isnan(found.value[4])
    assert found.info.num_evaluations[4] == 1


def test_fronts_know_their_best_point_and_their_risks(grid):
    best = [int(jax.tree.map(lambda leaf, i=i: leaf[i], grid).best()) for i in range(3)]
    np.testing.assert_array_equal(best, np.argmin(grid.evaluations.value[:3], axis=1))
    # Weight on a group lowers its own risk and raises the other's.
    assert (np.diff(grid.regularised_risks[0, :, 0]) < 0).all()
    assert (np.diff(grid.regularised_risks[0, :, 1]) > 0).all()
    kernel = grid.evaluations.params["output"]["kernel"][0, :, :, 0]
    expected = grid.risks[0] + MU / 2 * np.sum(kernel**2, axis=1, keepdims=True)
    np.testing.assert_allclose(grid.regularised_risks[0], expected, rtol=1e-12)


def test_scipy_finds_nothing_better(best_of_three, x64):
    problem = three_groups()
    for lane, found in enumerate(best_of_three.best.value):

        def value_and_slope(weights, lane=lane):
            there = oracle(problem, THREE_LANES[lane], weights)
            return float(there.value), np.asarray(there.gradient)

        starts = (STARTS[0], np.asarray(best_of_three.best.weights[lane]))
        values = [
            scipy.optimize.minimize(
                value_and_slope, start, jac=True, method="SLSQP", bounds=[(0, 1)] * K,
                constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}, options={"ftol": 1e-12},
            ).fun
            for start in starts
        ]  # fmt: skip
        assert found <= min(values) + 1e-8 * abs(found)


def test_the_best_of_several_starts_is_not_above_any(best_of_three):
    every, best = best_of_three.all, best_of_three.best
    assert (every.info.status == Status.SUCCESS).all()
    np.testing.assert_array_equal(best.value, every.value.min(axis=1))
    np.testing.assert_allclose(best.weights.sum(axis=1), 1, rtol=1e-12)
    assert (best.weights >= 0).all()
    # On a face.
    assert (best.weights.min(axis=1) < 1e-12).all()
    assert (np.sort(best.weights, axis=1)[:, 1] > 0.1).all()


def test_order_of_rows_names_of_groups_and_repetition_do_not_matter(best_of_three, x64):
    data, random = cases.dataset(), np.random.default_rng(2)

    def check(found, expected, names=(0, 1, 2)):
        np.testing.assert_allclose(found.value, expected.value, rtol=1e-6)
        np.testing.assert_allclose(found.weights[:, np.array(names)], expected.weights, atol=1e-5)

    shuffled = rows_of(data, random.permutation(NUM_ROWS))
    check(search_from_each(three_groups(shuffled), THREE_LANES, STARTS).best, best_of_three.best)
    names = np.array([2, 0, 1], np.int32)
    renamed = data._replace(group=names[data.group])
    check(search_from_each(three_groups(renamed), THREE_LANES, STARTS).best, best_of_three.best, names)
    drawn = random.integers(0, NUM_ROWS, NUM_ROWS)
    repeated, counted = rows_of(data, drawn), data._replace(weight=np.bincount(drawn, minlength=NUM_ROWS).astype(float))
    assert (counted.weight == 0).any()
    expected = search_from_each(three_groups(repeated), THREE_LANES, STARTS).best
    check(search_from_each(three_groups(counted), THREE_LANES, STARTS).best, expected)


def test_what_is_not_solved_is_no_success(x64):
    # Classes that a plane separates have no minimiser without a penalty.
    problem = two_groups()
    separated = problem.data._replace(y=(problem.data.x[:, 0] > 0).astype(np.int32))
    found = search(problem._replace(data=separated, regularisation=np.zeros(())), TWO_LANES, 1e-7, "quasi_newton")
    assert (found.info.status != Status.SUCCESS).all()
    # No weights meet a tolerance below 0.
    found = search(problem, TWO_LANES, -1.0, "quasi_newton")
    assert (found.info.status[:4] == Status.MAX_STEPS).all()
    assert np.isfinite(found.value[:4]).all()
    assert (found.info.num_evaluations <= 200).all()


@pytest.mark.slow
def test_no_more_evaluations_than_allowed(x64):
    found = search(two_groups(), TWO_LANES, 1e-7, "frank_wolfe", max_evaluations=3)
    assert (found.info.num_evaluations[:3] == 3).all()
    assert (found.info.status[:3] == Status.MAX_STEPS).all()


def build(data=None, model=None, **options):
    return bilevel.problem(linear(D) if model is None else model, data or cases.dataset(), num_groups=K, **options)


def start_search(problem, weights=None, **options):
    return bilevel.minimise_over_simplex(problem, cases.start(), weights, **options)


DATA = cases.dataset()
UNKNOWN_X = np.where(np.arange(D) == 1, np.nan, DATA.x)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("weights must lie on the simplex", lambda p: start_search(p, np.array([0.5, 0.6, 0.2]))),
        ("weights must be one number", lambda p: start_search(p, np.array([0.5, 0.5]))),
        ("unknown rule 'newton': did you mean 'quasi_newton'", lambda p: start_search(p, rule="newton")),
        ("max_evaluations must be", lambda p: start_search(p, max_evaluations=0)),
        ("row 1 is", lambda p: bilevel.pareto_path(p, np.array([[1.0, 0, 0], [0.9, 0.2, -0.1]]), None)),
        (r"weights must be \[M, 3\]", lambda p: bilevel.pareto_path(p, np.ones(3) / 3, None)),
        ("batch_size must be", lambda p: bilevel.pareto_path(p, np.eye(3), None, batch_size=0)),
        ("row 0 is", lambda p: bilevel.multi_start(p, None, np.zeros((1, 3)))),
        ("num_steps must be", lambda p: bilevel.simplex_grid(3, 0)),
        ("group 1 of 3 has no rows", lambda p: build(rows_of(DATA, DATA.group != 1))),
        ("regularisation must be 0 or more", lambda p: build(regularisation=-0.1)),
        ("data.x has NaN or infinite values in column '1'", lambda p: build(DATA._replace(x=UNKNOWN_X))),
        ("unknown objective 'demographic_party'", lambda p: build(objective="demographic_party")),
        ("unknown loss 'hinge': did you mean", lambda p: build(loss="hinge")),
        ("unknown variant", lambda p: bilevel.upper_objective(build(variant="paper"), cases.start())),
        ("needs badrjax.models.linear", lambda p: build(model=mlp(D, (2,)), intercept_in_objective=False)),
    ],
)  # fmt: skip
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call(build())


def test_grids_and_starts_lie_on_the_simplex():
    points = bilevel.simplex_grid(3, 4)
    assert points.shape == (15, 3)
    assert len(np.unique(points, axis=0)) == 15
    np.testing.assert_allclose(points.sum(axis=1), 1)
    assert bilevel.simplex_grid(2, 1000).shape == (1001, 2)
    found = bilevel.starts(jax.random.key(0), K, 5)
    assert found.shape == (1 + K + 5, K)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert (found > 0).all()
