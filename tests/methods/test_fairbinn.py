"""FairBiNN on a network: what its rules share and how they differ, blocks, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import badrjax as bx
from badrjax.methods.layers import join, split
from tests.methods import cases

MODEL = bx.models.mlp_with_fairness(cases.NUM_FEATURES, (6, 6), (5,), position=1)
FAIRNESS = bx.losses.fairness(bx.objectives.squared_disparity, MODEL, num_groups=cases.NUM_GROUPS)
LOSSES = bx.losses.cross_entropy(MODEL)
ADAM = Partial(optax.adam, learning_rate=1e-2)
take_step = jax.jit(lambda method, state, batch: method.step(jax.random.key(0), state, batch))


@pytest.fixture(scope="module")
def params():
    return jax.jit(MODEL.init)(jax.random.key(0))


def make(rule="separated", **options):
    return bx.fairbinn(LOSSES, options.pop("optimizer", ADAM), options.pop("fairness", FAIRNESS), rule=rule, **options)


def step(params, batch=None, num_steps=1, **options):
    method = make(**options)
    state = method.init(jax.random.key(0), params)
    for _ in range(num_steps):
        state, info = take_step(method, state, cases.rows(1, 30) if batch is None else batch)
    return state.params, info


def layers(tree, *prefixes):
    return {name: tree[name] for name in tree if name.startswith(prefixes)}


def test_the_network_has_its_block_where_it_was_asked_for():
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(MODEL.init, jax.random.key(0)))
    assert shapes["hidden_0"]["kernel"] == (cases.NUM_FEATURES, 6)
    assert shapes["fairness_0"]["kernel"] == (6, 5)
    assert shapes["hidden_1"]["kernel"] == (5, 6)
    assert shapes["output"]["kernel"] == (6, 1)
    first = jax.eval_shape(bx.models.mlp_with_fairness(4, (6,), (5, 3), position=0).init, jax.random.key(0))
    assert [first[name]["kernel"].shape for name in ("fairness_0", "fairness_1", "hidden_0")] == [
        (4, 5),
        (5, 3),
        (3, 6),
    ]


def test_the_published_network_of_adult_is_five_layers_of_101():
    model = bx.models.mlp_with_fairness(101, (101,) * 3, (101,))
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4 * (101 * 101 + 101) + 101 + 1


def test_the_network_computes_what_its_layers_say(params):
    params = jax.tree.map(np.asarray, params)
    x = np.asarray(cases.rows(0, 4).x)
    out = x
    for name in ("hidden_0", "fairness_0", "hidden_1"):
        out = np.maximum(out @ params[name]["kernel"] + params[name]["bias"], 0)
    expected = (out @ params["output"]["kernel"] + params["output"]["bias"])[:, 0]
    np.testing.assert_allclose(MODEL.apply(params, x), expected, rtol=1e-5, atol=1e-6)


def test_separated_rule_is_two_optimisers_in_turn(params):
    batch = cases.rows(1, 30)
    found, info = step(params, fairness_weight=3.0, follower_optimizer=Partial(optax.adam, learning_rate=1e-3))
    leader, follower = split(params, bx.follower_layers("fairness").value)
    slow, fast = optax.adam(1e-3), optax.adam(1e-2)
    fair = jax.grad(lambda f: 3.0 * FAIRNESS(join(leader, f), batch, None))(follower)
    follower = optax.apply_updates(follower, slow.update(fair, slow.init(follower))[0])
    loss, slope = jax.value_and_grad(lambda a: jnp.mean(LOSSES(join(a, follower), batch, None)))(leader)
    leader = optax.apply_updates(leader, fast.update(slope, fast.init(leader))[0])
    chex.assert_trees_all_close(found, join(leader, follower), atol=1e-6)
    np.testing.assert_allclose([info.loss, info.fairness], [loss, FAIRNESS(params, batch, None)], rtol=1e-5)
    np.testing.assert_allclose(info.leader_norm, optax.tree.norm(slope), rtol=1e-4)
    np.testing.assert_allclose(info.follower_norm, optax.tree.norm(fair), rtol=1e-4)


def test_accumulated_rule_keeps_the_old_fairness_gradient(params):
    # One step of plain gradient descent: the difference of the rules is that gradient, taken before the follower moved.
    batch = cases.rows(1, 30)
    sgd = Partial(optax.sgd, learning_rate=1.0)
    options = {"optimizer": sgd, "fairness_weight": 3.0}
    apart = jax.tree.map(jnp.subtract, step(params, **options)[0], step(params, rule="accumulated", **options)[0])
    slope = jax.grad(lambda p: 3.0 * FAIRNESS(p, batch, None))(params)
    chex.assert_trees_all_close(layers(apart, "hidden", "output"), layers(slope, "hidden", "output"), atol=1e-6)
    np.testing.assert_array_equal(apart["fairness_0"]["kernel"], 0)


def test_lagrangian_rule_is_one_optimiser_on_the_sum(params):
    found, _ = step(params, rule="lagrangian", fairness_weight=3.0, num_steps=5)
    adam, batch = optax.adam(1e-2), cases.rows(1, 30)
    state, expected = adam.init(params), params
    total = jax.jit(jax.grad(lambda p: jnp.mean(LOSSES(p, batch, None)) + 3.0 * FAIRNESS(p, batch, None)))
    for _ in range(5):
        updates, state = adam.update(total(expected), state)
        expected = optax.apply_updates(expected, updates)
    chex.assert_trees_all_close(found, expected, atol=1e-5)


def test_without_weight_the_lagrangian_is_risk_minimisation_and_the_others_leave_the_follower(params):
    erm = bx.erm(LOSSES, ADAM)
    state = erm.init(jax.random.key(0), params)
    state, _ = take_step(erm, state, cases.rows(1, 30))
    found, info = step(params, rule="lagrangian", fairness_weight=0.0)
    chex.assert_trees_all_close(found, state.params, atol=1e-6)
    assert info.fairness > 0  # it is still told
    for rule in ("separated", "accumulated", "total"):
        found, _ = step(params, rule=rule, fairness_weight=0.0)
        chex.assert_trees_all_equal(found["fairness_0"], params["fairness_0"])


@pytest.mark.parametrize(
    "optimizer", [pytest.param(ADAM, marks=pytest.mark.slow), Partial(optax.sgd, learning_rate=0.1)]
)
def test_unrolled_total_derivative_by_finite_differences(optimizer, x64):
    # Through the follower's optimiser, Adam too, and past ReLUs that are dead for all rows.
    params = MODEL.init(jax.random.key(0))
    dead = params["fairness_0"]["bias"].at[1].set(-50.0)
    params = {**params, "fairness_0": {**params["fairness_0"], "bias": dead}}
    batch = cases.rows(1, 30)
    made = make("total", optimizer=Partial(optax.sgd, learning_rate=1.0), follower_optimizer=optimizer,
                follower_steps=2, fairness_weight=2.0)  # fmt: skip
    state = made.init(jax.random.key(0), params)
    moved = jax.tree.map(jnp.subtract, params, made.step(jax.random.key(0), state, batch)[0].params)

    def after(kernel):
        changed = {**params, "hidden_1": {**params["hidden_1"], "kernel": kernel}}
        return float(made.step(jax.random.key(0), made.init(jax.random.key(0), changed), batch)[1].loss)

    kernel = params["hidden_1"]["kernel"]
    direction = jax.random.normal(jax.random.key(3), kernel.shape)
    expected = (after(kernel + 1e-6 * direction) - after(kernel - 1e-6 * direction)) / 2e-6
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(moved))
    np.testing.assert_allclose(jnp.sum(moved["hidden_1"]["kernel"] * direction), expected, rtol=1e-5)


def test_implicit_response_says_when_its_system_has_no_solution(params):
    batch = cases.rows(1, 30)
    wrong = make("total", response="implicit")  # the Hessian of a network is singular and indefinite
    state, info = take_step(wrong, wrong.init(jax.random.key(0), params), batch)
    assert info.status != bx.Status.SUCCESS
    damped = make("total", response="implicit", damping=1.0)
    state, info = take_step(damped, damped.init(jax.random.key(0), params), batch)
    assert info.status == bx.Status.SUCCESS
    assert info.relative_residual < 1e-4
    assert np.isfinite(state.params["output"]["kernel"]).all()


def test_a_batch_without_a_group_is_fine(params):
    batch = cases.rows(1, 30)
    lone = batch._replace(group=jnp.zeros_like(batch.group))
    for rule in ("separated", "accumulated", "lagrangian", "total"):
        found, info = step(params, lone, rule=rule)
        assert info.fairness == 0
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(found))


def test_many_groups_and_two_blocks_of_fairness_layers():
    model = bx.models.mlp_with_fairness(cases.NUM_FEATURES, (6,), (6, 6), position=1)
    fairness = bx.losses.fairness(bx.objectives.squared_disparity, model, num_groups=9, metric="equalized_odds")
    data = cases.rows(1, 200)
    data = data._replace(group=jnp.arange(200) % 9)
    made = bx.fairbinn(bx.losses.cross_entropy(model), ADAM, fairness, rule="lagrangian", fairness_weight=300.0)
    run = jax.jit(lambda method: bx.fit(jax.random.key(0), method, model.init(jax.random.key(1)), data, num_epochs=60,
                                        sampler=bx.full_batch()))  # fmt: skip
    fair, unfair = run(made), run(made._replace(step=_without_weight(made.step)))
    assert fair.steps.fairness[-1] < 0.2 * unfair.steps.fairness[-1]


def _without_weight(bound):
    problem = bound.args[0]
    return Partial(bound.func, problem._replace(fairness_weight=jnp.float32(0)))


def test_a_step_that_is_not_finite_moves_nothing_and_says_so(params):
    broken = Partial(optax.sgd, learning_rate=jnp.inf)
    found, info = step(params, optimizer=broken, follower_optimizer=ADAM)
    chex.assert_trees_all_equal(found, params)
    assert info.status == bx.Status.NOT_FINITE


def test_a_whole_front_is_one_program(params):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def front(etas, rates, keys):
        def run(eta, rate, key):
            made = make("accumulated", fairness_weight=eta, follower_optimizer=Partial(optax.adam, learning_rate=rate))
            data = cases.rows(2, 60)
            return bx.fit(key, made, params, data, num_epochs=3, sampler=bx.shuffled(20)).steps

        return jax.vmap(jax.vmap(run, (None, None, 0)), (0, 0, None))(etas, rates, keys)

    keys = jax.random.split(jax.random.key(0), 3)
    steps = front(jnp.array([0.1, 10.0]), jnp.array([1e-3, 1e-2]), keys)
    assert steps.loss.shape == (2, 3, 3)
    assert not np.allclose(steps.loss[0], steps.loss[1])
    front(jnp.array([0.2, 5.0]), jnp.array([1e-3, 1e-2]), keys)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda params: jax.tree.map(lambda _: "leader", params), "no parameter for the follower"),
        (lambda params: jax.tree.map(lambda _: "follower", params), "no parameter for the leader"),
        (
            lambda params: {"hidden_0": {"kernel": "leader", "bias": "leader"}},
            r"misses params\['fairness_0'\]\['bias'\]",
        ),
        (lambda params: jax.tree.map(lambda _: None, params), "misses"),
        (lambda params: jax.tree.map(lambda _: "fair", params), "calls 'fair'"),
        (bx.follower_layers("fairnes_"), "no parameter for the follower.*hidden_0"),
    ],
)
def test_labels_that_are_none(params, labels, message):
    with pytest.raises(ValueError, match=message):
        make(labels=labels).init(jax.random.key(0), params)


def test_a_label_stands_for_all_below_it(params):
    by_layer = lambda params: {name: "follower" if name == "output" else "leader" for name in params}  # noqa: E731
    leader, follower = split(params, by_layer)
    chex.assert_trees_all_equal(follower["output"], params["output"])
    assert jax.tree.leaves(leader["output"]) == []
    chex.assert_trees_all_equal(join(leader, follower), params)
    nested = {"layers": [params["hidden_0"], (params["output"],)]}
    _, follower = split(nested, lambda _: {"layers": ["leader", ("follower",)]})
    assert len(jax.tree.leaves(follower)) == 2


def test_an_implicit_response_does_not_depend_on_the_weight(params):
    moved = [
        step(params, rule="total", response="implicit", damping=1.0, fairness_weight=eta,
             follower_optimizer=Partial(optax.sgd, learning_rate=0.0))
        for eta in (0.0, 5.0)
    ]  # fmt: skip
    assert all(info.status == bx.Status.SUCCESS for _, info in moved)
    chex.assert_trees_all_close(moved[0][0], moved[1][0], atol=1e-6)


def test_labels_serve_optax(params):
    labels = bx.follower_layers("fairness").value
    frozen = optax.partition({"leader": optax.sgd(1.0), "follower": optax.set_to_zero()}, labels)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = frozen.update(ones, frozen.init(params))
    np.testing.assert_array_equal(updates["fairness_0"]["bias"], 0)
    np.testing.assert_array_equal(updates["output"]["bias"], -1)
    assert bx.follower_layers("fairness") == bx.follower_layers("fairness")
    with pytest.raises(ValueError, match="prefixes"):
        bx.follower_layers("")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fairness_weight": -1.0}, ValueError, "fairness_weight must be >= 0"),
        ({"fairness_weight": np.nan}, ValueError, "fairness_weight"),
        ({"fairness_weight": np.inf}, ValueError, "fairness_weight must be finite"),
        ({"fairness_weight": np.ones(3)}, ValueError, "vmap"),
        ({"damping": -1.0}, ValueError, "damping"),
        ({"rule": "bilevel"}, ValueError, "rule"),
        ({"response": "exact"}, ValueError, "response"),
        ({"follower_steps": 0}, ValueError, "follower_steps"),
        ({"rule": "lagrangian", "follower_steps": 2}, ValueError, "follower_steps must be 1"),
        ({"optimizer": "adam"}, TypeError, "optimizer"),
        ({"solver": "cg"}, TypeError, "solver"),
        ({"fairness": None}, TypeError, "function"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


def test_wrong_data(params):
    lone = bx.losses.fairness(bx.objectives.squared_disparity, MODEL, num_groups=1)
    with pytest.raises(ValueError, match="num_groups must be 2 or more"):
        step(params, fairness=lone)
    batch = cases.rows(1, 30)
    with pytest.raises(ValueError, match="labels"):
        FAIRNESS(params, batch._replace(y=batch.y.at[3].set(2)), None)
    _, info = step(params, batch._replace(y=batch.y.at[3].set(2)))  # where labels are traced
    assert info.status == bx.Status.NOT_FINITE
    with pytest.raises(TypeError, match="labels must be integers"):
        step(params, batch._replace(y=batch.y.astype(jnp.float32)))


def test_wrong_networks():
    for arguments, message in (
        (((6,), ()), "fairness must give"),
        (((6,), (0,)), r"fairness\[0\]"),
        (((0,), (6,)), r"hidden\[0\]"),
    ):
        with pytest.raises(ValueError, match=message):
            bx.models.mlp_with_fairness(5, *arguments)
    with pytest.raises(ValueError, match="position must be from 0 to 1"):
        bx.models.mlp_with_fairness(5, (6,), (6,), position=2)
