"""BADR's single loop: its step against the formulas, its fixed points, where it ends, what happens when it fails."""

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import badrjax as bx
from badrjax import bilevel
from badrjax.status import Status

NUM_GROUPS = 3


def made_up(num_rows=90, num_groups=NUM_GROUPS, seed=0):
    """Rows whose label depends on the features in another way in each group."""
    rng = np.random.default_rng(seed)
    group = np.arange(num_rows) % num_groups
    x = rng.normal(size=(num_rows, 3)) + 0.3 * group[:, None]
    slope = rng.normal(size=(num_groups, 3)) + 1
    y = (np.sum(x * slope[group], axis=1) + rng.normal(size=num_rows) > group).astype(np.int32)
    return bx.Batch(jnp.asarray(x), jnp.asarray(y), jnp.asarray(group), None)


def problem_of(data, num_groups=NUM_GROUPS, objective="variance", **options):
    options = {"regularisation": 0.1} | options
    return bilevel.problem(bx.models.linear(3), data, num_groups=num_groups, objective=objective, **options)


def plain(rate):
    return Partial(optax.sgd, learning_rate=rate)


def method_of(problem, **options):
    defaults = {"optimizer": plain(0.1), "weights_optimizer": plain(1.0), "data": problem.data}
    options = defaults | {"regularisation": problem.regularisation, "num_groups": problem.num_groups} | options
    return bx.badr(problem.losses, options.pop("optimizer"), problem.objective, **options)


def some_params(seed=0):
    rng = np.random.default_rng(seed)
    return {"output": {"bias": jnp.asarray(rng.normal(size=1)), "kernel": jnp.asarray(rng.normal(size=(3, 1)))}}


take_step = jax.jit(lambda method, state, batch: method.step(None, state, batch))
init_state = jax.jit(lambda method, params: method.init(None, params))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("clip", [1e-3, np.inf])
def test_a_step_is_that_of_the_formulas(clip):
    """Against dense derivatives of the few lines of the brief; all directions at the old values, then all moves."""
    problem = problem_of(made_up())
    weights, adjoint, params = jnp.array([0.5, 0.2, 0.3]), some_params(1), some_params()
    method = method_of(
        problem, optimizer=plain(0.1), adjoint_optimizer=plain(0.03), weights_optimizer=plain(0.7), clip=clip,
        weights=weights, adjoint=adjoint, damping=0.05,
    )  # fmt: skip
    state, info = take_step(method, init_state(method, params), problem.data)

    flat, _ = jax.flatten_util.ravel_pytree(params)
    v = jax.flatten_util.ravel_pytree(adjoint)[0]
    x, y, group = problem.data.x, problem.data.y, problem.data.group

    def risks(w):
        loss = jnp.logaddexp(0.0, (1 - 2 * y) * (x @ w[1:] + w[0]))
        return jnp.array([jnp.mean(loss[np.asarray(group) == k]) for k in range(NUM_GROUPS)])

    def lower(w):
        return weights @ risks(w) + 0.05 * jnp.sum(w[1:] ** 2)

    slope, hessian = jax.grad(lower)(flat), jax.hessian(lower)(flat)
    fair = jax.grad(lambda w: jnp.var(risks(w)))(flat)
    h = jax.jacobian(risks)(flat) @ v
    h -= h.mean()
    np.testing.assert_allclose(info.hypergradient_norm, jnp.linalg.norm(h), rtol=1e-9)
    h *= min(1, clip / float(jnp.linalg.norm(h)))
    expected = flat - 0.1 * slope, v - 0.03 * (fair + hessian @ v + 0.05 * v), bx.project_simplex(weights - 0.7 * h)
    for found, wanted in zip((state.params, state.adjoint, state.weights), expected, strict=True):
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found)[0], wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(info.value, jnp.var(risks(flat)) + v @ slope, rtol=1e-9)
    np.testing.assert_allclose(info.inner_grad_norm, jnp.linalg.norm(slope), rtol=1e-9)
    assert info.clipped == (clip < 1)


@pytest.mark.usefixtures("x64")
def test_a_solution_of_the_problem_is_where_it_stays():
    problem = problem_of(made_up())
    found = jax.jit(bilevel.minimise_over_simplex)(problem, some_params())
    assert found.info.status == Status.SUCCESS
    at = jax.jit(bilevel.evaluate)(problem, found.weights, found.params)
    method = method_of(problem, weights=found.weights, adjoint=at.adjoint)
    state, info = take_step(method, init_state(method, at.params), problem.data)
    chex.assert_trees_all_close((state.params, state.adjoint), (at.params, at.adjoint), atol=1e-8)
    np.testing.assert_allclose(state.weights, found.weights, atol=1e-6)
    np.testing.assert_allclose(info.value, found.value, rtol=1e-8, atol=1e-12)
    assert info.adjoint_residual < 1e-7


@pytest.mark.usefixtures("x64")
def test_the_value_is_that_of_the_lower_solution_to_second_order():
    """Where `w` lags behind by e, `objective` is wrong by an order of e and `value` by one of its square."""
    problem = problem_of(made_up(), objective="demographic_parity")
    weights = jnp.array([0.6, 0.3, 0.1])
    at = jax.jit(bilevel.evaluate)(problem, weights, some_params())
    method = method_of(problem, weights=weights, adjoint=at.adjoint)
    wrong = []
    for lag in (1e-2, 1e-3):
        lagging = jax.tree.map(lambda leaf, by=lag: leaf + by, at.params)
        _, info = take_step(method, init_state(method, lagging), problem.data)
        wrong.append([abs(info.objective - at.value), abs(info.value - at.value)])
    first, second = np.array(wrong)
    np.testing.assert_allclose(first[0] / second[0], 10, rtol=0.2)
    np.testing.assert_allclose(first[1] / second[1], 100, rtol=0.5)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("demographic_parity", "individual_fairness")]


@pytest.mark.parametrize("objective", ["variance", *SLOW])
def test_full_batches_end_at_the_grids_best(objective):
    data = made_up(200, 2)
    problem = problem_of(data, 2, objective, regularisation=0.03)
    method, params = bx.badr_setup(problem, some_params())
    state = bx.fit(jax.random.key(0), method, params, data, num_epochs=500, sampler=bx.full_batch()).state
    points = np.r_[bilevel.simplex_grid(2, 97), [state.weights, state.average_weights]]
    values = np.asarray(of_points(problem, params, points))
    spread = np.ptp(values[:98])
    assert values[98:].max() - values[:98].min() < 0.01 * spread
    assert state.failed_at == -1


def test_the_solution_is_the_best_of_the_kept_weights_solved_exactly():
    data = made_up(200, 2)
    problem = problem_of(data, 2, "variance", regularisation=0.03)
    method, params = bx.badr_setup(problem, some_params())
    kept = [[0.5, 0.5], [0.1, 0.9], [0.8, 0.2]]
    state = method.init(jax.random.key(0), params)
    values = np.asarray(of_points(problem, params, np.array(kept)))
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        last, average, best = (jnp.asarray(kept[i]) for i in order)
        state = state._replace(weights=last, average_weights=average, best_weights=best)
        found = bx.badr_solution(problem, state)
        np.testing.assert_allclose(found.weights, kept[np.argmin(values)], rtol=1e-6)
        np.testing.assert_allclose(found.value, values.min(), rtol=1e-4)
        np.testing.assert_allclose(found.value, problem.objective(found.params, data), rtol=1e-4)
    network = bilevel.problem(bx.models.mlp(3, (4,)), data, num_groups=2)
    with pytest.raises(ValueError, match="linear"):
        bx.badr_solution(network, state)


@jax.jit
def of_points(problem, params, points):
    return bilevel.pareto_path(problem, points, params).evaluations.value


@pytest.mark.slow
def test_group_balanced_batches_come_near_the_grids_best():
    data = made_up(400, 2)
    problem = problem_of(data, 2, "demographic_parity", regularisation=0.03)
    method, params = bx.badr_setup(problem, some_params())
    sampler = bx.group_balanced(40)
    values = []
    for seed in range(3):
        state = bx.fit(jax.random.key(seed), method, params, data, num_epochs=50, sampler=sampler).state
        values.append([state.weights, state.average_weights])
    points = np.r_[bilevel.simplex_grid(2, 97), np.reshape(values, (6, 2)), np.full((2, 2), 0.5)]
    found = np.asarray(of_points(problem, params, points))
    # Rows are few: an eighth of what uniform weights leave to gain.
    assert found[98:104].max() - found[:98].min() < 0.125 * (found[-1] - found[:98].min())


@pytest.mark.slow
def test_a_network_gets_fairer_than_at_equal_weights():
    """Its Hessian is not positive definite everywhere, so the adjoint system is damped."""
    data = made_up(600)
    model = bx.models.mlp(3, (8,))
    problem = bilevel.problem(model, data, num_groups=NUM_GROUPS, regularisation=1e-3, objective="variance")

    @jax.jit
    def run(key, rate):
        method = method_of(
            problem, optimizer=plain(0.3), adjoint_optimizer=plain(0.1), weights_optimizer=plain(rate), damping=0.1
        )
        options = {"num_epochs": 2000, "sampler": bx.full_batch()}
        state = bx.fit(key, method, model.init(key), data, **options).state
        return problem.objective(state.params, data), state.failed_at

    for seed in range(3):
        fair, failed_at = run(jax.random.key(seed), 0.05)
        equal, _ = run(jax.random.key(seed), 0.0)
        assert failed_at == -1
        assert fair < equal / 2


def test_a_step_that_diverges_stops_where_it_was_finite_and_says_when():
    problem = problem_of(made_up(), loss="squared_hinge")
    method = method_of(problem, optimizer=plain(1e6))
    run = bx.fit(
        jax.random.key(0), method, some_params(), problem.data, num_epochs=60, sampler=bx.full_batch(), record="step"
    )
    status = np.asarray(run.steps.status).ravel()
    assert 0 < run.state.failed_at < 59
    assert (status[: run.state.failed_at] == Status.SUCCESS).all()
    assert (status[run.state.failed_at :] == Status.DIVERGED).all()
    for leaf in jax.tree.leaves(run.state):
        assert np.isfinite(leaf).all()
    np.testing.assert_allclose(run.state.weights.sum(), 1, rtol=1e-5)


@pytest.mark.slow
def test_lanes_equal_single_runs_and_step_sizes_are_swept():
    problem = problem_of(made_up())
    rates = jnp.array([0.03, 0.3])

    def run(rate):
        method = method_of(problem, weights_optimizer=Partial(bx.methods.adagrad_norm, learning_rate=rate))
        return bx.fit(jax.random.key(0), method, some_params(), problem.data, num_epochs=5, sampler=bx.full_batch())

    together = jax.jit(jax.vmap(run))(rates)
    for lane, rate in enumerate(rates):
        alone = jax.jit(run)(rate)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, at=lane: leaf[at], together), alone, rtol=1e-4, atol=1e-6)
    assert not np.allclose(*together.state.weights)


def test_relabelling_groups_permutes_the_weights():
    data = made_up()
    order = np.array([2, 0, 1])
    permuted = data._replace(group=jnp.asarray(np.argsort(order))[data.group])
    found = []
    for rows in (data, permuted):
        method = method_of(problem_of(rows))
        state = init_state(method, some_params())
        for _ in range(3):
            state, _ = take_step(method, state, rows)
        found.append(state)
    np.testing.assert_allclose(found[1].weights, found[0].weights[order], rtol=1e-5)
    chex.assert_trees_all_close(found[1].params, found[0].params, rtol=1e-5)


def test_the_best_weights_are_those_of_the_least_value_seen():
    problem = problem_of(made_up())
    method = method_of(problem)
    run = bx.fit(
        jax.random.key(0), method, some_params(), problem.data, num_epochs=30, sampler=bx.full_batch(), record="step"
    )
    objective, value = (np.asarray(getattr(run.steps, name)).ravel() for name in ("objective", "value"))
    seen = objective + np.abs(value - objective)
    np.testing.assert_allclose(run.state.best_value, seen.min(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(run.state.best_weights, np.asarray(run.steps.weights).reshape(-1, 3)[seen.argmin()])


def test_adagrad_norm_has_no_unit_and_falls_with_the_root_of_the_steps():
    for unit in (1e-6, 1.0, 1e6):
        optimizer = bx.methods.adagrad_norm(0.5)
        gradient = unit * jnp.array([0.6, 0.8])
        state, lengths = optimizer.init(gradient), []
        for _ in range(4):
            step, state = optimizer.update(gradient, state)
            lengths.append(float(jnp.linalg.norm(step)))
        np.testing.assert_allclose(lengths, 0.5 / np.sqrt([1, 2, 3, 4]), rtol=1e-5)
    still, _ = optimizer.update(jnp.zeros(2), optimizer.init(jnp.zeros(2)))
    np.testing.assert_array_equal(still, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [0.5, 0.5, 0.5]}, "weights must lie on the simplex"),
        ({"weights": [0.5, 0.5]}, "one number for each of 3 groups"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"damping": -1.0}, "damping must be 0 or more"),
        ({"regularisation": -1.0}, "regularisation must be 0 or more"),
        ({"averaging": -0.5}, "averaging must be 0 or more"),
    ],
)
def test_bad_settings_are_answered_before_anything_is_traced(options, message):
    with pytest.raises(ValueError, match=message):
        method_of(problem_of(made_up()), **options)


def test_networks_choose_their_own_steps():
    problem = bilevel.problem(bx.models.mlp(3, (4,)), made_up(), num_groups=NUM_GROUPS, objective="variance")
    with pytest.raises(ValueError, match=r"needs badrjax\.models\.linear"):
        bx.badr_setup(problem, None)


def test_data_without_a_group_or_with_nan_are_refused():
    data = made_up()
    problem = problem_of(data)
    lacking = data._replace(group=jnp.where(data.group == NUM_GROUPS - 1, 0, data.group))
    options = {"num_groups": NUM_GROUPS, "regularisation": 0.1}
    with pytest.raises(ValueError, match=f"group {NUM_GROUPS - 1} of {NUM_GROUPS} has no rows"):
        bx.badr(problem.losses, optax.sgd(0.1), problem.objective, data=lacking, **options)
    with pytest.raises(ValueError, match=r"data\.x"):
        bx.badr(
            problem.losses, optax.sgd(0.1), problem.objective, data=data._replace(x=data.x.at[0, 0].set(jnp.nan)),
            **options,
        )  # fmt: skip


@pytest.mark.parametrize("labels", [(0, 2), (1, 2)])
@pytest.mark.parametrize("loss", ["logistic", "cross_entropy", "squared_hinge"])
def test_labels_of_other_classes_are_refused_by_every_loss_of_classes(loss, labels):
    data = made_up()
    data = data._replace(y=jnp.where(data.y == 1, labels[1], labels[0]))
    with pytest.raises(ValueError, match=r"data\.y"):
        problem_of(data, loss=loss)
    problem_of(data._replace(y=data.y.astype(jnp.float32)), loss="squared")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "bader"}, "unknown variant"),
        ({"sharpness": -1.0}, "sharpness must be positive"),
        ({"regularisation": [0.1, 0.2]}, "use jax.vmap"),
    ],
)
def test_wrong_numbers_of_a_problem_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        problem_of(made_up(), **options)


def test_a_singular_problem_is_refused_before_the_run():
    data = made_up()
    data = data._replace(x=data.x.at[:, 0].set(1.0))
    problem = problem_of(data, regularisation=0.0)
    with pytest.raises(ValueError, match="raise the problem's regularisation"):
        bx.badr_setup(problem, some_params())


def test_a_run_that_diverged_is_judged_by_what_it_kept():
    data = made_up()
    problem = problem_of(data)
    method = method_of(problem, optimizer=Partial(optax.sgd, learning_rate=1e3))
    run = bx.fit(jax.random.key(0), method, some_params(), data, num_epochs=80, sampler=bx.full_batch())
    assert int(run.state.failed_at) >= 0
    found = bx.badr_solution(problem, run.state)
    assert int(found.info.status) == Status.SUCCESS
    assert np.isfinite(found.value)


def test_starts_refuse_numbers_that_are_none():
    for num_groups, num_random in ((0, 0), (2, -1)):
        with pytest.raises(ValueError, match="num_"):
            bilevel.starts(jax.random.key(0), num_groups, num_random)
