"""What every method must do, whatever it is. Methods join in `cases.py`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import badrjax as bx

from . import cases


def of_cases(*slow, but=()):
    marks = dict.fromkeys(slow, pytest.mark.slow)
    each = [case for case in cases.EACH if case not in but]
    return pytest.mark.parametrize("case", [pytest.param(case, marks=marks.get(case, ())) for case in each])


EACH = of_cases(*cases.VARIANTS)


NO_DROPOUT = jnp.float32(0)  # an array, so that the program is the one with dropout


def start(case, seed=0, **options):
    method = cases.make(case, **options)
    return method, cases.init_state(
        method, jax.random.key(seed + 1), cases.init_params(jax.random.key(seed), case=case)
    )


def without_residual(info):
    """The residual of a bargain is rounding noise; everything else is compared."""
    return info._replace(residual=jnp.zeros_like(info.residual)) if hasattr(info, "residual") else info


def assert_same_step(first, second, **tolerance):
    chex.assert_trees_all_close(first[0], second[0], **tolerance)
    chex.assert_trees_all_close(without_residual(first[1]), without_residual(second[1]), **tolerance)


def train(case, key, num_epochs=2, **options):
    method = cases.make(case, **options)
    return bx.fit(
        key,
        method,
        cases.init_params(key, case=case),
        cases.rows(1, 100),
        num_epochs=num_epochs,
        sampler=bx.shuffled(10),
    )


@EACH
def test_state_keeps_its_structure_and_types_under_scan(case):
    method, state = start(case)
    batch = cases.rows(1, 12)
    state = jax.tree.map(jnp.asarray, state)
    after, info = jax.eval_shape(method.step, jax.random.key(0), state, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    assert hasattr(state, "params")
    assert hasattr(info, "_fields")
    assert all(jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool for leaf in jax.tree.leaves(info))
    final, _ = jax.lax.scan(lambda s, k: method.step(k, s, batch), state, jax.random.split(jax.random.key(0), 3))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, final)


@EACH
def test_another_learning_rate_is_the_same_program(case):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(method, key, state, batch):
        return method.step(key, state, batch)

    results = []
    for learning_rate in (0.01, 0.1, 0.3):
        method, state = start(case, learning_rate=learning_rate, dropout=learning_rate)
        results.append(cases.moving(step(method, jax.random.key(0), state, cases.rows(1, 12))[0]))
    assert not np.allclose(results[0], results[1])
    assert not np.allclose(results[1], results[2])


@of_cases(*cases.VARIANTS, *cases.OF_ONE_FAMILY)
def test_vmap_over_methods_and_seeds_agrees_with_single_runs(case):
    rates = jnp.array([0.01, 0.05])
    keys = jax.random.split(jax.random.key(3), 2)

    def run(rate, key):
        result = train(case, key, learning_rate=rate)
        return result.state.params, without_residual(result.steps)

    # Twenty steps: ten batches in each of two epochs.
    together = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(rates, keys)
    for i, rate in enumerate(rates):
        for j, key in enumerate(keys):
            alone = run(rate, key)
            chex.assert_trees_all_close(
                jax.tree.map(lambda leaf, at=(i, j): leaf[at], together), alone, rtol=1e-3, atol=2e-4
            )


@EACH
def test_padding_changes_nothing(case):
    method, state = start(case)
    batch = cases.rows(1, 12)
    junk = cases.rows(2, 4)._replace(weight=jnp.zeros(4))
    padded = jax.tree.map(
        lambda a, b: jnp.concatenate([a, 1e3 * b if b.dtype == a.dtype == jnp.float32 else b]),
        batch._replace(weight=None),
        junk._replace(weight=None),
    )
    padded = padded._replace(weight=jnp.concatenate([batch.weight, junk.weight]))
    for _ in range(2):
        plain = cases.take_step(method, jax.random.key(5), state, batch)
        with_padding = cases.take_step(method, jax.random.key(5), state, padded)
        assert_same_step(plain, with_padding, rtol=1e-4, atol=1e-5)
        state = plain[0]


@EACH
def test_nan_in_padding_reaches_nothing(case):
    method, state = start(case)
    batch = cases.rows(1, 12)
    batch = batch._replace(weight=batch.weight.at[jnp.array([0, 5])].set(0.0))
    broken = batch._replace(x=batch.x.at[0].set(jnp.nan).at[5].set(jnp.inf), y=batch.y.at[0].set(-9))
    plain = cases.take_step(method, jax.random.key(5), state, batch)
    assert_same_step(plain, cases.take_step(method, jax.random.key(5), state, broken), rtol=1e-6)


@EACH
def test_a_batch_of_padding_only_moves_nothing(case):
    method, state = start(case)
    state, _ = cases.take_step(method, jax.random.key(5), state, cases.rows(1, 12))  # momentum is now nonzero
    empty = cases.rows(1, 12)._replace(weight=jnp.zeros(12))
    after, info = cases.take_step(method, jax.random.key(6), state, empty)
    np.testing.assert_array_equal(cases.moving(after), cases.moving(state))
    assert np.isfinite(info.loss)


@of_cases(*cases.VARIANTS, but=cases.SAMPLED_BY_ROW)
def test_a_row_of_weight_two_is_the_row_twice(case):
    method, state = start(case, dropout=NO_DROPOUT)
    batch = cases.rows(1, 12)
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:4]]), batch)
    weighted = batch._replace(weight=batch.weight.at[:4].set(2.0))
    repeated = cases.take_step(method, jax.random.key(0), state, twice)
    counted = cases.take_step(method, jax.random.key(0), state, weighted)
    assert_same_step(repeated, counted, rtol=1e-4, atol=1e-6)


@of_cases(*cases.VARIANTS, but=cases.SAMPLED_BY_ROW)
def test_the_order_of_rows_does_not_matter(case):
    method, state = start(case, dropout=NO_DROPOUT)
    batch = cases.rows(1, 12)
    order = jax.random.permutation(jax.random.key(9), 12)
    assert_same_step(
        cases.take_step(method, jax.random.key(0), state, batch),
        cases.take_step(method, jax.random.key(0), state, jax.tree.map(lambda leaf: leaf[order], batch)),
        rtol=1e-4,
        atol=1e-6,
    )


@of_cases(*cases.VARIANTS, *cases.OF_ONE_FAMILY)
def test_runs_are_reproducible_and_depend_on_the_key(case):
    first, again, other = (train(case, jax.random.key(seed)).state for seed in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(cases.moving(first), cases.moving(other))


@EACH
def test_state_survives_a_checkpoint(case, tmp_path):
    method, state = start(case)
    state, _ = cases.take_step(method, jax.random.key(1), state, cases.rows(1, 12))
    leaves, structure = jax.tree.flatten(state)
    np.savez(tmp_path / "state.npz", *leaves)
    with np.load(tmp_path / "state.npz") as stored:
        restored = jax.tree.unflatten(structure, [jnp.asarray(stored[name]) for name in stored.files])
    batch = cases.rows(2, 12)
    chex.assert_trees_all_equal(
        cases.take_step(method, jax.random.key(2), restored, batch),
        cases.take_step(method, jax.random.key(2), state, batch),
    )


@EACH
@pytest.mark.usefixtures("x64")
def test_double_precision_is_kept(case):
    method, state = start(case)
    after, info = cases.take_step(method, jax.random.key(1), state, cases.rows(1, 12))
    floats = [leaf for leaf in jax.tree.leaves((after, info)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float64")}
    assert info.loss.dtype == cases.moving(after).dtype == jnp.float64
