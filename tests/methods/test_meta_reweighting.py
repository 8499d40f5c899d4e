"""Meta-reweighting against a lookahead written out by hand."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import badrjax as bx
from badrjax.bargaining import NashSolution, legacy_nash_weights_from_gradients
from badrjax.methods import GOALS
from tests.methods import cases


@partial(jax.jit, static_argnames=("goal", "optimizer", "plain"))
def by_hand(goal, optimizer, opt_state, params, batch, validation, model, plain):
    """Example weights and parameters after a one-stage step: the lookahead is written out and differentiated."""
    losses = bx.losses.cross_entropy(model)

    def upper(weights):
        gradient = jax.grad(lambda p: jnp.dot(weights, losses(p, batch, None)))(params)
        if plain:
            ahead = jax.tree.map(lambda p, g: p - g, params, gradient)
        else:
            ahead = optax.apply_updates(params, optimizer.update(gradient, opt_state, params)[0])
        values = losses(ahead, validation, None)
        return GOALS[goal](values.reshape(2, 4).mean(axis=1))  # the rows of group 0 come first

    slope = jax.grad(upper)(jnp.zeros(batch.y.shape[0]))
    weights = jnp.maximum(-slope, 0)
    weights = weights / jnp.linalg.norm(weights)
    gradient = jax.grad(lambda p: jnp.dot(weights, losses(p, batch, None)))(params)
    updates, _ = optimizer.update(gradient, opt_state, params)
    return weights, optax.apply_updates(params, updates)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("nesterov", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("lookahead", ["optimizer", pytest.param("sgd", marks=pytest.mark.slow)])
@pytest.mark.parametrize("goal", GOALS)
def test_the_step_is_the_one_written_out_by_hand(goal, lookahead, nesterov):
    model = cases.network(0.0)
    optimizer = optax.chain(optax.add_decayed_weights(5e-2), optax.sgd(0.3, momentum=0.9, nesterov=nesterov))
    batch, validation = (jax.tree.map(as_double, rows) for rows in (cases.rows(1, 16), cases.validation_rows()))
    method = bx.meta_reweighting(
        bx.losses.cross_entropy(model), optimizer, validation, goal, num_groups=2, lookahead=lookahead
    )
    state = method.init(jax.random.key(0), model.init(jax.random.key(0)))
    for number in range(3):  # so that there is momentum
        weights, expected = by_hand(
            goal, optimizer, state.opt_state, state.params, batch, validation, model, lookahead == "sgd"
        )
        state, info = cases.take_step(method, jax.random.key(number), state, batch)
        np.testing.assert_allclose(info.used_share, np.mean(weights > 0), rtol=1e-12)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), state.params, expected)


def as_double(leaf):
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf


def step(method, seed=0, batch=None):
    state = cases.init_state(method, jax.random.key(seed), cases.init_params(jax.random.key(seed)))
    return cases.take_step(method, jax.random.key(5), state, cases.rows(1, 24) if batch is None else batch)


def meta(goal="forml", **options):
    options = {"num_groups": 2, "diagnostics": "step"} | options
    losses = bx.losses.cross_entropy(cases.network(0.0))
    return bx.meta_reweighting(losses, cases.sgd(), cases.validation_rows(), goal, **options)


@pytest.mark.slow
def test_protocols_of_the_goals():
    for goal, expected in (("learning_to_reweight", [0.5, 0.5]), ("forml", [1, -1]), ("meta_group_dro", [1, 0])):
        _, info = step(meta(goal))
        worst = int(np.argmax(info.cell_losses))
        np.testing.assert_allclose(info.protocol, np.roll(expected, worst), atol=1e-6)


@pytest.mark.slow
def test_goals_see_groups_and_bargaining_sees_cells():
    _, info = step(meta("forml", cells="cells"))
    # A group's loss is the mean of its two cells, so each gets half of +1 and -1.
    assert sorted(np.round(np.asarray(info.protocol), 5).tolist()) == [-0.5, -0.5, 0.5, 0.5]


def test_the_bargain_helps_every_cell():
    _, info = step(meta("forml", cells="cells", bargaining_epochs=1))
    assert info.bargaining == 1
    assert info.feasible == 1
    assert info.aligned == 1
    assert (np.asarray(info.alignment) > 0).all()
    # Everybody gains 1 / a_k, and the aggregate has length sqrt(K).
    np.testing.assert_allclose(info.alignment * info.protocol, 1.0, rtol=1e-3)


def test_an_infeasible_bargain_falls_back_to_the_goal():
    # The two groups hold the same rows with opposite labels: whatever helps one hurts the other.
    rows = cases.rows(3, 4)
    validation = bx.Batch(
        jnp.concatenate([rows.x, rows.x]),
        jnp.concatenate([rows.y, 1 - rows.y]),
        jnp.repeat(jnp.arange(2), 4),
        jnp.ones(8),
    )
    model = bx.models.linear(cases.NUM_FEATURES)  # at zero, where both gradients are opposite
    method = bx.nash_meta(
        bx.losses.cross_entropy(model), cases.sgd(), validation, goal="learning_to_reweight", num_groups=2,
        bargaining_epochs=3,
    )  # fmt: skip
    state = method.init(None, model.init(jax.random.key(0)))
    _, info = cases.take_step(method, None, state, cases.rows(1, 24))
    assert info.feasible == 0
    np.testing.assert_allclose(info.protocol, [0.5, 0.5])
    assert info.aligned == 0


def equal_bargain(gradients, present, feasible):
    weights = present / present.sum()
    return NashSolution(weights, feasible > 0, jnp.zeros(()), jnp.zeros((), jnp.int32))


def test_another_bargain_can_be_asked():
    def after(method):
        return step(method)[0].params

    # Equal weights are what LtR aims at, and one that always fails leaves the goal.
    found = after(meta("forml", bargaining_epochs=1, bargain=Partial(equal_bargain, feasible=1.0)))
    chex.assert_trees_all_close(found, after(meta("learning_to_reweight")), rtol=1e-6)
    failed = after(meta("forml", bargaining_epochs=1, bargain=Partial(equal_bargain, feasible=0.0)))
    chex.assert_trees_all_close(failed, after(meta("forml")), rtol=1e-6)


def test_stages_follow_the_epochs():
    method = bx.nash_meta(
        bx.losses.cross_entropy(cases.network()), cases.sgd(), cases.validation_rows(), num_groups=2,
        goal="forml", bargaining_epochs=2, diagnostics=2,
    )  # fmt: skip
    result = bx.fit(
        jax.random.key(0), method, cases.init_params(jax.random.key(0)), cases.rows(1, 40),
        num_epochs=4, sampler=bx.shuffled(10), record="step",
    )  # fmt: skip
    np.testing.assert_array_equal(result.steps.bargaining, [[1] * 4] * 2 + [[0] * 4] * 2)
    np.testing.assert_array_equal(np.isnan(result.steps.feasible), [[False] * 4] * 2 + [[True] * 4] * 2)
    # After bargaining, every second batch of an epoch is measured.
    np.testing.assert_array_equal(np.isnan(result.steps.aligned[2]), [False, True, False, True])
    np.testing.assert_array_equal(result.epochs.epoch, [1, 2, 3, 4])


@pytest.mark.parametrize(("diagnostics", "measured"), [("off", 0), ("epoch", 1), (np.int64(3), 2), ("step", 4)])
def test_alignment_is_measured_as_often_as_asked(diagnostics, measured):
    result = bx.fit(
        jax.random.key(0), meta(diagnostics=diagnostics), cases.init_params(jax.random.key(0)), cases.rows(1, 40),
        num_epochs=1, sampler=bx.in_order(10), record="step",
    )  # fmt: skip
    assert np.isfinite(result.steps.aligned).sum() == measured


def test_diagnostics_do_not_change_the_run():
    params = cases.init_params(jax.random.key(0))
    ends = [
        bx.fit(
            jax.random.key(0), meta(diagnostics=d), params, cases.rows(1, 40), num_epochs=2, sampler=bx.shuffled(10)
        ).state.params
        for d in ("off", "step")
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *ends)


def test_weights_have_unit_length_over_repeated_rows():
    batch = cases.rows(1, 24)
    params = cases.init_params(jax.random.key(0))
    method = bx.meta_reweighting(
        bx.losses.cross_entropy(cases.network(0.0)), optax.sgd(1.0), cases.validation_rows(), "forml", num_groups=2
    )
    state = cases.init_state(method, None, params)
    moved, _ = cases.take_step(method, None, state, batch)
    scaled, _ = cases.take_step(method, None, state, batch._replace(weight=4 * batch.weight))
    # Four copies of each row: unit length makes each copy's weight half, so the step is twice as long.
    jax.tree.map(
        lambda a, b, p: np.testing.assert_allclose(2 * (a - p), b - p, atol=1e-5), moved.params, scaled.params, params
    )


@pytest.mark.slow
def test_the_methods_are_one_family():
    named = {"learning_to_reweight": bx.learning_to_reweight, "forml": bx.forml, "meta_group_dro": bx.meta_group_dro}
    losses = bx.losses.cross_entropy(cases.network(0.0))
    for goal, factory in named.items():
        one, _ = step(factory(losses, cases.sgd(), cases.validation_rows(), num_groups=2))
        nash, _ = step(
            bx.nash_meta(losses, cases.sgd(), cases.validation_rows(), goal=goal, num_groups=2, bargaining_epochs=0)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one.params, nash.params)


@pytest.mark.parametrize("method", [bx.learning_to_reweight, bx.meta_group_dro])
def test_with_identical_groups_the_mean_and_the_worst_follow_the_mean_gradient(method):
    train, held_out = np.array([[1.0, 2], [3, -1], [-2, 0.5]]), np.array([[2.0, 1], [-1, 1]])
    zeros = jnp.zeros(3, jnp.int32)
    twice = bx.Batch(jnp.asarray(np.tile(held_out, (2, 1))), jnp.array([0, 1, 0, 1]), jnp.array([0, 0, 1, 1]))
    made = method(lambda params, batch, key: batch.x @ params, optax.sgd(0.5), twice, num_groups=2)
    state, _ = made.step(jax.random.key(0), made.init(None, jnp.ones(2)), bx.Batch(jnp.asarray(train), zeros, zeros))
    weights = np.maximum(train @ held_out.mean(axis=0), 0)
    expected = 1 - 0.5 * weights / np.linalg.norm(weights) @ train
    np.testing.assert_allclose(state.params, expected, rtol=1e-5)


def test_relabelling_the_groups_changes_nothing():
    validation = cases.validation_rows()
    losses = bx.losses.cross_entropy(cases.network(0.0))
    ends = [
        step(bx.nash_meta(losses, cases.sgd(), v, goal="forml", num_groups=2, bargaining_epochs=1))[0].params
        for v in (validation, validation._replace(group=1 - validation.group))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *ends)


BAD = [
    ({"goal": "from"}, "did you mean 'forml'"),
    ({"cells": "group"}, "did you mean 'groups'"),
    ({"lookahead": "adam"}, "lookahead"),
    ({"lookahead_dropout": "new"}, "lookahead_dropout"),
    ({"diagnostics": "epochs"}, "did you mean 'epoch'"),
    ({"diagnostics": 0}, "diagnostics"),
    ({"bargaining_epochs": -1}, "bargaining_epochs"),
    ({"bargain": equal_bargain}, "give bargaining_epochs too"),
    ({"num_groups": 3}, "no row of group 2"),
    ({"num_groups": 1}, r"must lie in \[0, 1\)"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_name_the_remedy(options, message):
    with pytest.raises(ValueError, match=message):
        meta(**options)


def test_bad_validation_rows_are_named():
    validation = cases.validation_rows()
    losses = bx.losses.cross_entropy(cases.network())
    one_label = validation._replace(y=jnp.where(validation.group == 1, 1, validation.y))
    with pytest.raises(ValueError, match="group 1 with label 0"):
        bx.forml(losses, cases.sgd(), one_label, num_groups=2, cells="cells")
    with pytest.raises(ValueError, match="labels 0 and 1"):
        bx.forml(losses, cases.sgd(), validation._replace(y=2 * validation.y), num_groups=2, cells="cells")
    with pytest.raises(ValueError, match=r"validation\.y must be >= 0, but row 0 has -1"):
        bx.forml(losses, cases.sgd(), validation._replace(y=2 * validation.y - 1), num_groups=2)
    with pytest.raises(ValueError, match=r"validation\.x has NaN .* column '2' \(row 3\)"):
        bx.forml(losses, cases.sgd(), validation._replace(x=validation.x.at[3, 2].set(jnp.nan)), num_groups=2)
    unweighted = validation._replace(weight=jnp.where(validation.group == 0, 0.0, 1.0))
    with pytest.raises(ValueError, match="no row of group 0"):
        bx.forml(losses, cases.sgd(), unweighted, num_groups=2)
    with pytest.raises(ValueError, match=r"validation\.y has 7"):
        bx.forml(losses, cases.sgd(), validation._replace(y=validation.y[:7]), num_groups=2)


def test_an_optimiser_without_derivative_at_zero_is_refused_and_the_remedies_work():
    losses, validation = bx.losses.cross_entropy(cases.network(0.0)), cases.validation_rows()
    with pytest.raises(ValueError, match="eps_root"):
        bx.forml(losses, optax.adam(1e-2), validation, num_groups=2)
    for optimizer, lookahead in ((optax.adam(1e-2, eps_root=1e-8), "optimizer"), (optax.adam(1e-2), "sgd")):
        _, info = step(bx.forml(losses, optimizer, validation, num_groups=2, lookahead=lookahead))
        assert info.used_share > 0


@pytest.mark.slow
def test_an_optimiser_for_one_structure_of_parameters_is_accepted():
    by_layer = optax.partition({"a": optax.sgd(0.1), "b": optax.sgd(0.1)}, {"output": "a", "hidden_0": "b"})
    losses, validation = bx.losses.cross_entropy(cases.network(0.0)), cases.validation_rows()
    ends = [
        step(bx.forml(losses, optimizer, validation, num_groups=2))[0].params
        for optimizer in (by_layer, optax.sgd(0.1))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *ends)


@pytest.mark.parametrize("lookahead_dropout", ["same", "fresh"])
def test_a_model_in_half_precision_is_reweighted_in_float32(lookahead_dropout):
    halved = lambda tree: jax.tree.map(  # noqa: E731
        lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf, tree
    )
    params = cases.init_params(jax.random.key(0))
    method = bx.nash_meta(
        bx.losses.cross_entropy(cases.network(0.0)), optax.sgd(0.1), halved(cases.validation_rows()), goal="forml",
        num_groups=2, bargaining_epochs=1, lookahead_dropout=lookahead_dropout,
    )  # fmt: skip
    result = bx.fit(
        jax.random.key(0), method, halved(params), halved(cases.rows(1, 20)), num_epochs=2, sampler=bx.in_order(10)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(result.state.params)} == {jnp.dtype(jnp.bfloat16)}
    assert result.steps.alignment.dtype == jnp.float32
    assert np.isfinite(result.steps.loss).all()


@pytest.mark.slow
def test_the_bargaining_length_can_be_traced():
    def bargained(length):
        method = bx.nash_meta(
            bx.losses.cross_entropy(cases.network(0.0)), cases.sgd(), cases.validation_rows(), num_groups=2,
            goal=Partial(bx.objectives.cvar, fraction=0.5), bargaining_epochs=length,
        )  # fmt: skip
        return bx.fit(
            jax.random.key(0), method, cases.init_params(jax.random.key(0)), cases.rows(1, 20), num_epochs=3,
            sampler=bx.in_order(10),
        ).steps.bargaining  # fmt: skip

    np.testing.assert_array_equal(jax.vmap(bargained)(jnp.array([0, 2])), [[0, 0, 0], [1, 1, 0]])


def test_a_method_with_fixed_numbers_can_be_made_inside_jit():
    def loss(key):
        method = meta()
        state = method.init(key, cases.init_params(jax.random.key(0)))
        return method.step(key, state, cases.rows(1, 8))[1].loss

    assert np.isfinite(jax.jit(loss)(jax.random.key(1)))

    losses, validation = bx.losses.cross_entropy(cases.network(0.0)), cases.validation_rows()
    with pytest.raises(ValueError, match="needs an optimizer whose update has a nonzero derivative"):
        jax.jit(lambda key: bx.forml(losses, optax.adam(0.1), validation, num_groups=2) and key)(jax.random.key(1))


def opposed(params, batch, key):
    """Losses that a step on one row raises for the rows of the other group, unless the label says otherwise."""
    sign = jnp.where((batch.group == 1) & (batch.y == 1), -1.0, 1.0)
    return sign * params * batch.x[:, 0]


def one_step(fallback, labels, state=None, **options):
    """A step with two validation rows that pull apart where their labels are (0, 1), and together where (0, 0)."""
    validation = bx.Batch(jnp.ones((2, 1)), jnp.array(labels), jnp.arange(2))
    method = bx.nash_meta(
        opposed, optax.sgd(0.1), validation, goal="meta_group_dro", num_groups=2, bargaining_epochs=5,
        fallback=fallback, **options,
    )  # fmt: skip
    state = method.init(jax.random.key(0), jnp.float32(1)) if state is None else state
    x = jnp.array([[1.0], [-2.0], [0.5]])
    return method.step(jax.random.key(1), state, bx.Batch(x, jnp.zeros(3, jnp.int32), jnp.zeros(3, jnp.int32)))


def test_a_failed_bargain_reuses_the_aggregate_before_where_it_is_asked_to():
    first, info = one_step("previous", (0, 0), batch_size=3)
    assert info.feasible == 1
    np.testing.assert_allclose(first.previous / first.previous[0], [1, -2, 0.5], rtol=1e-6)
    opposite = first._replace(previous=-first.previous)  # so that the reused one is told from the goal's
    stale, info = one_step("previous", (0, 1), opposite, batch_size=3)
    assert info.feasible == 0
    np.testing.assert_array_equal(stale.previous, opposite.previous)
    goal, info = one_step("goal", (0, 1), first._replace(previous=None))
    assert info.feasible == 0
    moved = [float(end.params - first.params) for end in (stale, goal)]
    assert moved[0] * moved[1] < 0


def test_the_first_failed_bargain_of_a_run_uses_the_goal():
    fresh, _ = one_step("previous", (0, 1), batch_size=3)
    goal, _ = one_step("goal", (0, 1))
    np.testing.assert_allclose(fresh.params, goal.params, rtol=1e-6)
    assert np.isfinite(fresh.previous).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fallback": "previous"}, "go together"),
        ({"batch_size": 3}, "go together"),
        ({"fallback": "stale"}, "unknown fallback"),
        ({"fallback": "previous", "batch_size": 0}, "batch_size must be a positive integer"),
        ({"protocol": "notebook"}, "unknown protocol"),
        ({"protocol": "code"}, "give batch_size="),
        ({"protocol": "code", "batch_size": 8}, "give validation_losses="),
    ],
)
def test_fallbacks_and_protocols_that_cannot_be_are_refused(options, message):
    losses = bx.losses.cross_entropy(cases.network(0.0))
    with pytest.raises(ValueError, match=message):
        bx.nash_meta(losses, cases.sgd(), cases.validation_rows(), num_groups=2, bargaining_epochs=1, **options)


def test_batches_of_another_size_than_was_said_are_refused():
    with pytest.raises(ValueError, match="batch_size is 4 and the batch has 3 rows"):
        one_step("previous", (0, 0), batch_size=4)


def settings_of(method):
    return method.step.args[0].value


@pytest.mark.parametrize("factory", ["learning_to_reweight", "forml", "meta_group_dro", "nash_meta"])
def test_protocols_set_their_options_together(factory):
    network = cases.network()
    losses, with_f1 = bx.losses.cross_entropy(network), bx.losses.cross_entropy_with_f1(network)
    options = {"num_groups": 2} | ({"bargaining_epochs": 1} if factory == "nash_meta" else {})
    make = partial(getattr(bx, factory), losses, cases.sgd(), cases.validation_rows(), **options)
    paper = settings_of(make(protocol="paper"))
    assert paper[3:6] == ("sgd", "same", False)
    assert (paper.cells, paper.batch_size) == ("groups", None)
    stale = {"batch_size": 8} if factory == "nash_meta" else {}
    code = settings_of(make(protocol="code", validation_losses=with_f1, **stale))
    assert code[3:6] == ("optimizer", "fresh", True)
    assert (code.cells, code.batch_size) == ("cells", stale.get("batch_size"))
    if factory == "nash_meta":
        legacy = make(protocol="code", validation_losses=with_f1, **stale)
        assert legacy.step.args[1].bargain.func is legacy_nash_weights_from_gradients
        assert make(protocol="paper").step.args[1].bargain.func is bx.nash_weights_from_gradients
    mixed = settings_of(make(protocol="code", validation_losses=with_f1, cells="groups", fallback="goal"))
    assert (mixed.cells, mixed.batch_size, mixed.lookahead) == ("groups", None, "optimizer")
