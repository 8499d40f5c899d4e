"""The exact oracle against finite differences of the solved problem and an implicit solve in plain NumPy."""

import importlib

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import badrjax as bx
from badrjax import bilevel
from badrjax.models import linear
from badrjax.status import Status
from tests.bilevel import cases
from tests.bilevel.cases import CENTRE, D, K, flat
from tests.objectives import references

MU, STEP = 0.05, 1e-5
PAIRS = [(0, 1), (1, 2), (2, 0)]
MOVES = np.array([np.eye(K)[a] - np.eye(K)[b] for a, b in PAIRS])
POINTS = np.concatenate([CENTRE[None], CENTRE + STEP * MOVES, CENTRE - STEP * MOVES])
SCORE_OBJECTIVES = [(name, variant) for name in bilevel.SCORE_OBJECTIVES for variant in (None, "badr")]
OBJECTIVES = SCORE_OBJECTIVES + [(name, None) for name in bilevel.LOSS_OBJECTIVES]
NEED_CLASSES = {("equal_opportunity", None), ("equal_opportunity", "badr"), ("equalized_odds", None),
                ("equalized_odds", "badr"), ("disparate_mistreatment", None)}  # fmt: skip
OF_TARGETS = [one for one in OBJECTIVES if one not in NEED_CLASSES]
# An intercept that loss and objective share, none, or one that the objective leaves out.
INTERCEPTS = ["shared", "absent", "dropped"]
FAST = [
    ("logistic", "shared", OBJECTIVES),
    ("squared_hinge", "absent", [("disparate_mistreatment", None), ("hsic", None), ("variance", None)]),
    ("squared", "dropped", [("demographic_parity", "badr"), ("individual_fairness", None), ("gap", None)]),
]
EVERY = [
    (loss, intercept, OF_TARGETS if loss == "squared" else OBJECTIVES)
    for loss in ("logistic", "squared_hinge", "squared")
    for intercept in INTERCEPTS
]
CASES = [
    pytest.param(case, id="-".join(case[:2]) + f"-{len(case[2])}", marks=() if case in FAST else pytest.mark.slow)
    for case in FAST + EVERY[1:]
]


def example_losses(loss, scores, labels):
    """For real or complex scores."""
    if loss == "squared":
        return (scores - labels) ** 2
    margin = (2 * labels - 1) * scores
    return np.log1p(np.exp(-margin)) if loss == "logistic" else np.where(margin.real < 1, 1 - margin, 0) ** 2


def curvatures(loss, scores, labels):
    if loss == "squared":
        return np.full(scores.shape, 2.0)
    margin = (2 * labels - 1) * scores
    return references.sigmoid(scores) * references.sigmoid(-scores) if loss == "logistic" else 2.0 * (margin < 1)


class Implicit:
    """Everything at given parameters, `[bias, kernel]` or `[kernel]`, in NumPy; derivatives are complex steps."""

    def __init__(self, loss, intercept, data, mu=MU):
        self.loss, self.intercept, self.data, self.mu = loss, intercept, data, mu
        ones = np.ones((data.y.size, 1))
        self.rows = data.x if intercept == "absent" else np.concatenate([ones, data.x], axis=1)
        self.penalised = np.ones(D) if intercept == "absent" else np.r_[0.0, np.ones(D)]

    def risks(self, point):
        losses = example_losses(self.loss, self.rows @ point, self.data.y)
        return np.array([losses[self.data.group == a].mean() for a in range(K)])

    def objective(self, name, variant, point):
        if self.intercept == "dropped":
            point = point * self.penalised
        if name in bilevel.SCORE_OBJECTIVES:
            return getattr(references, name)(self.rows @ point, self.data.y, self.data.group, 1.0, variant)
        risks = self.risks(point)
        largest, smallest = risks[np.argmax(risks.real)], risks[np.argmin(risks.real)]
        return {
            "mean": risks.mean(), "worst": largest, "gap": largest - smallest,
            "variance": np.mean((risks - risks.mean()) ** 2),
        }[name]  # fmt: skip

    def slope(self, function, point):
        steps = 1e-30j * np.eye(point.size)
        return np.stack([np.imag(function(point + step)) for step in steps], axis=-1) / 1e-30

    def hessian(self, point, weights):
        share = weights / np.bincount(self.data.group)
        bent = share[self.data.group] * curvatures(self.loss, self.rows @ point, self.data.y)
        return self.rows.T @ (bent[:, None] * self.rows) + self.mu * np.diag(self.penalised)

    def adjoint(self, name, variant, point, weights):
        slope = self.slope(lambda w: self.objective(name, variant, w), point)
        return np.linalg.solve(self.hessian(point, weights), -slope)


def options(loss, intercept):
    return {"loss": loss, "regularisation": MU, "intercept_in_objective": intercept != "dropped"}


class Found:
    """The oracle for J objectives at 7 weights: the centre, and both sides of it along each pair."""

    def __init__(self, loss, intercept, objectives):
        self.objectives, data = objectives, cases.dataset(targets=loss == "squared")
        problem = cases.mixed(data, self.objectives, intercept=intercept != "absent", **options(loss, intercept))
        params = cases.start(intercept != "absent")

        def at(coefficients, weights):
            return bilevel.evaluate(cases.with_coefficients(problem, coefficients), weights, params)

        call = jax.jit(jax.vmap(jax.vmap(at, in_axes=(None, 0)), in_axes=(0, None)))
        self.all = jax.tree.map(np.asarray, call(np.eye(len(self.objectives)), POINTS))
        self.centre = [jax.tree.map(lambda leaf, j=j: leaf[j, 0], self.all) for j in range(len(self.objectives))]
        self.implicit, self.point = Implicit(loss, intercept, data), flat(self.centre[0].params)
        self.risk_slopes = self.implicit.slope(self.implicit.risks, self.point)

    def named(self):
        return zip(self.objectives, self.centre, strict=True)


@pytest.fixture(scope="module", params=CASES)
def found(request):
    with jax.enable_x64(True):
        return Found(*request.param)


def test_the_lower_problem_is_solved(found):
    assert (found.all.info.status == Status.SUCCESS).all()
    lower_slope = CENTRE @ found.risk_slopes + MU * found.implicit.penalised * found.point
    assert np.abs(lower_slope).max() < 1e-12
    assert found.all.info.inner_grad_norm.max() < 1e-10
    # It does not depend on the objective.
    for leaf in jax.tree.leaves(found.all.params):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))


def test_values_are_those_of_the_loops_in_numpy(found):
    for (name, variant), centre in found.named():
        expected = found.implicit.objective(name, variant, found.point)
        np.testing.assert_allclose(centre.value, expected, rtol=1e-10, err_msg=f"{name}, {variant}")


def test_hypergradients_are_those_of_an_implicit_solve(found):
    for (name, variant), centre in found.named():
        adjoint = found.implicit.adjoint(name, variant, found.point, CENTRE)
        expected = found.risk_slopes @ adjoint
        np.testing.assert_allclose(flat(centre.adjoint), adjoint, rtol=1e-8, atol=1e-10, err_msg=f"{name}, {variant}")
        np.testing.assert_allclose(centre.gradient, expected - expected.mean(), rtol=1e-8, atol=1e-12)
        assert abs(centre.gradient.sum()) < 1e-12


def test_hypergradients_are_finite_differences_along_the_simplex(found):
    ahead, back = found.all.value[:, 1 : 1 + len(PAIRS)], found.all.value[:, 1 + len(PAIRS) :]
    expected = (ahead - back) / (2 * STEP)
    along = np.stack([centre.gradient for centre in found.centre]) @ MOVES.T
    largest = np.abs(along).max(axis=1, keepdims=True)
    np.testing.assert_allclose(along / largest, expected / largest, rtol=0, atol=1e-5)
    # Relative to itself too, where one is not small by chance.
    moderate = np.abs(along) > 0.01 * largest
    np.testing.assert_allclose(along[moderate], expected[moderate], rtol=1e-5)
    assert moderate.mean() > 0.8


def test_sensitivities_are_finite_differences_of_the_solutions(found):
    params = np.stack([flat(jax.tree.map(lambda leaf, i=i: leaf[0, i], found.all.params)) for i in range(len(POINTS))])
    by_difference = (params[1 : 1 + len(PAIRS)] - params[1 + len(PAIRS) :]) / (2 * STEP)
    sensitivity = np.stack(
        [flat(jax.tree.map(lambda leaf, a=a: leaf[a], found.centre[0].sensitivity)) for a in range(K)]
    )
    np.testing.assert_allclose(MOVES @ sensitivity, by_difference, rtol=1e-5, atol=1e-7)


def plain(data=None, **settings):
    """A problem as users write it, with one named objective."""
    return bilevel.problem(
        linear(D), cases.dataset() if data is None else data, num_groups=K, regularisation=MU, **settings
    )


@pytest.fixture(scope="module")
def direct():
    with jax.enable_x64(True):
        problem, params = plain(), cases.start()
        return jax.tree.map(np.asarray, jax.jit(bilevel.evaluate)(problem, CENTRE, params))


def test_one_named_objective_at_one_point(direct):
    """As users call it; all of the above are lanes."""
    implicit = Implicit("logistic", "shared", cases.dataset())
    point = flat(direct.params)
    expected = implicit.slope(implicit.risks, point) @ implicit.adjoint("demographic_parity", None, point, CENTRE)
    np.testing.assert_allclose(direct.gradient, expected - expected.mean(), rtol=1e-8)


def test_products_in_place_of_matrices_agree(direct, x64):
    @jax.jit
    def by_products(problem, weights, params):
        solver = lineax.CG(rtol=1e-12, atol=1e-12)
        return bilevel.evaluate(problem, weights, params, minimise=bx.lbfgs(), solver=solver)

    found = by_products(plain(), CENTRE, cases.start())
    assert found.info.status == Status.SUCCESS
    assert found.sensitivity is None
    np.testing.assert_allclose(flat(found.params), flat(direct.params), rtol=1e-7)
    np.testing.assert_allclose(found.value, direct.value, rtol=1e-8)
    np.testing.assert_allclose(found.gradient, direct.gradient, rtol=1e-7)
    np.testing.assert_allclose(flat(found.adjoint), flat(direct.adjoint), rtol=1e-7)


def test_single_precision(direct):
    found = jax.jit(bilevel.evaluate)(plain(cases.single(cases.dataset())), np.float32(CENTRE), cases.start())
    assert found.info.status == Status.SUCCESS
    assert found.value.dtype == found.gradient.dtype == np.float32
    np.testing.assert_allclose(found.value, direct.value, rtol=1e-4)
    np.testing.assert_allclose(found.gradient, direct.gradient, rtol=1e-3)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("loss", ["logistic", "squared_hinge", "squared"])
def test_passes_over_frequencies_by_blocks(loss, intercept, monkeypatch, x64):
    """Rows of weight 0 hold garbage, and rows of weight w are w rows."""
    problem_module = importlib.import_module("badrjax.bilevel.problem")
    monkeypatch.setattr(problem_module, "_BLOCK_ROWS", 16)
    data, random = cases.dataset(), np.random.default_rng(1)
    weight = random.integers(0, 4, data.y.size).astype(float)
    padded = data._replace(weight=weight, x=np.where(weight[:, None] > 0, data.x, 1e30))
    model = linear(D, intercept=intercept)
    problem = bilevel.problem(model, padded, num_groups=K, loss=loss, regularisation=MU)
    repeated = [np.repeat(leaf, weight.astype(int), axis=0) for leaf in (data.x, data.y, data.group)]

    def risks(point):
        x, y, group = map(jnp.asarray, repeated)
        scores, sign = x @ point[-D:] + (point[0] if intercept else 0.0), 2 * y - 1
        losses = {
            "logistic": jnp.logaddexp(0.0, -sign * scores), "squared": (scores - y) ** 2,
            "squared_hinge": jnp.maximum(0.0, 1 - sign * scores) ** 2,
        }[loss]  # fmt: skip
        return jnp.stack([jnp.mean(losses, where=group == a) for a in range(K)])

    def lower(point):
        return jnp.sum(CENTRE * risks(point)) + MU / 2 * jnp.sum(point[-D:] ** 2)

    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), cases.start(intercept))

    def everything(problem, params):
        columns = problem_module.columns_of(problem, params)
        at_once = problem_module.second_order(problem, CENTRE, columns)(params)
        slope = ravel_pytree(jax.grad(bilevel.weighted_risk, argnums=1)(problem, params, CENTRE))[0]
        hessian = bilevel.weighted_hessian(problem, params, CENTRE)
        return *at_once, slope, hessian, problem_module.group_slopes(problem, params, columns)

    point = flat(params)
    value, slope, hessian, slopes = jax.jit(
        lambda w: (lower(w), jax.grad(lower)(w), jax.hessian(lower)(w), jax.jacrev(risks)(w))
    )(point)
    for found, expected in zip(
        jax.jit(everything)(problem, params), (value, slope, hessian, slope, hessian, slopes), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
