"""Facts about rules as optax transformations: chains, scans, states, random rules, absent players."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.experimental import aggregating

from badrjax.bargaining import (
    as_optax,
    cagrad_weights,
    combine,
    gramian,
    min_norm_weights,
    nash_weights,
    pcgrad_weights,
)

PARAMS = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}


def gradients(seed, num_players=3):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(random.normal(size=(num_players, *p.shape)), p.dtype), PARAMS)


@pytest.mark.parametrize("rule", [nash_weights, min_norm_weights, cagrad_weights])
def test_a_chain_follows_the_combined_gradient(rule):
    optimizer = optax.chain(as_optax(rule, num_players=3), optax.sgd(0.1))
    state = optimizer.init(PARAMS)
    np.testing.assert_array_equal(optax.tree.get(state, "weights"), np.zeros(3))
    updates, state = jax.jit(optimizer.update)(gradients(0), state, PARAMS)
    solution = rule(gramian(gradients(0)))
    weights = getattr(solution, "weights", solution)
    np.testing.assert_allclose(optax.tree.get(state, "weights"), weights, rtol=1e-4)
    expected = combine(gradients(0), weights)
    for name in PARAMS:
        np.testing.assert_allclose(updates[name], -0.1 * expected[name], rtol=1e-3, atol=1e-6)


def test_the_state_tells_whether_the_players_could_agree():
    optimizer = optax.chain(as_optax(nash_weights, num_players=2), optax.sgd(0.1))
    agree, opposed = jnp.eye(2), jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    state = optimizer.init(jnp.zeros(2))
    assert not optax.tree.get(state, "feasible")
    _, state = optimizer.update(agree, state)
    assert optax.tree.get(state, "feasible")
    _, state = optimizer.update(opposed, state)
    assert not optax.tree.get(state, "feasible")


def test_with_the_number_of_players_updates_can_be_scanned():
    optimizer = optax.chain(as_optax(nash_weights, num_players=2), optax.adam(0.05))
    targets = jnp.array([[1.0, 0.0], [0.0, 1.0]])

    def step(carry, _):
        params, state = carry
        grads = jax.vmap(jax.grad(lambda p, t: jnp.sum((p - t) ** 2)), (None, 0))(params, targets)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), optax.tree.get(state, "feasible")

    start = jnp.array([3.0, 3.0])
    run = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), None, length=40))
    (params, _), feasible = run(start)
    params, start, targets = np.asarray(params), np.asarray(start), np.asarray(targets)
    assert np.all(feasible)
    assert np.all(np.linalg.norm(params - targets, axis=1) < np.linalg.norm(start - targets, axis=1))


def test_without_the_number_of_players_the_solution_is_none_until_the_first_update():
    transform = as_optax(nash_weights)
    state = transform.init(PARAMS)
    assert state.solution is None
    for num_players in (2, 3):
        _, state = transform.update(gradients(1, num_players), state)
        assert state.solution.weights.shape == (num_players,)


def test_a_random_rule_gets_a_fresh_key_each_time():
    seen = []

    def rule(key, gram):
        seen.append(jax.random.key_data(key).tolist())
        return pcgrad_weights(key, gram)

    transform = as_optax(rule, key=jax.random.key(3))
    state = transform.init(PARAMS)
    for _ in range(3):
        _, state = transform.update(gradients(2), state)
    assert len({tuple(k) for k in seen}) == 3
    fixed = as_optax(pcgrad_weights, num_players=3, key=jax.random.key(3))
    start = fixed.init(PARAMS)
    _, after = fixed.update(gradients(2), start)
    assert jax.tree.structure(start) == jax.tree.structure(after)


def test_absent_players_reach_the_rule_and_nothing_of_them_the_update():
    optimizer = optax.chain(as_optax(nash_weights, num_players=3), optax.sgd(1.0))
    present = jnp.array([True, False, True])
    dirty = jax.tree.map(lambda rows: rows.at[1].set(jnp.nan), gradients(0))
    updates, state = jax.jit(optimizer.update)(dirty, optimizer.init(PARAMS), PARAMS, present=present)
    alone = nash_weights(gramian(jax.tree.map(lambda rows: rows[present], dirty)))
    np.testing.assert_allclose(optax.tree.get(state, "weights")[present], alone.weights, rtol=1e-4)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(updates))


def test_other_arguments_go_to_the_rest_of_the_chain():
    seen = {}

    def update(updates, state, params=None, *, value, **_):
        seen["value"] = value
        return updates, state

    last = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    optimizer = optax.chain(as_optax(nash_weights), last)
    optimizer.update(gradients(0), optimizer.init(PARAMS), PARAMS, value=7.0)
    assert seen == {"value": 7.0}


def test_it_is_an_aggregator_to_optax():
    optimizer = aggregating.process(optax.identity(), as_optax(nash_weights, num_players=3), optax.sgd(0.1))
    updates, _ = jax.jit(optimizer.update)(gradients(0), optimizer.init(PARAMS), PARAMS)
    expected = combine(gradients(0), nash_weights(gramian(gradients(0))).weights)
    np.testing.assert_allclose(updates["bias"], -0.1 * expected["bias"], rtol=1e-4)


def test_half_precision_gradients_give_half_precision_updates():
    transform = as_optax(nash_weights, num_players=2)
    params = jnp.zeros(3, jnp.bfloat16)
    updates, state = transform.update(jnp.eye(2, 3, dtype=jnp.bfloat16), transform.init(params), params)
    assert updates.dtype == jnp.bfloat16
    assert optax.tree.get(state, "weights").dtype == jnp.float32


def test_wrong_numbers_of_players_and_rules_are_named():
    for wrong in (0, True, 2.0):
        with pytest.raises(ValueError, match="num_players must be a positive"):
            as_optax(nash_weights, num_players=wrong)
    transform = as_optax(nash_weights, num_players=2)
    with pytest.raises(ValueError, match="updates lead with 3 players, but num_players is 2"):
        transform.update(gradients(0), transform.init(PARAMS))
    with pytest.raises(TypeError, match="rule must return weights"):
        as_optax(lambda gram: gram).update(gradients(0), as_optax(nash_weights).init(PARAMS))


def test_a_donated_state_does_not_take_the_key_with_it():
    transform = as_optax(pcgrad_weights, num_players=2, key=jax.random.key(0))
    gradients = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
    update = jax.jit(lambda state: transform.update(gradients, state), donate_argnums=0)
    first, _ = update(transform.init(jnp.zeros(2)))
    np.testing.assert_array_equal(update(transform.init(jnp.zeros(2)))[0], first)


def test_an_untyped_key_is_refused_at_once():
    with pytest.raises(TypeError, match="typed key"):
        as_optax(pcgrad_weights, key=0)
