"""`fit`: what it runs, in which order, and what it refuses."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import badrjax as bx
from tests.methods import cases


class CountingState(NamedTuple):
    params: Any
    epoch: Any


class CountingInfo(NamedTuple):
    rows: Any
    first: Any
    largest: Any
    sometimes: Any


class EpochInfo(NamedTuple):
    total: Any


def counting_method(stop_after=None):
    """Adds up the weight of the rows it sees, and ends after `stop_after` epochs."""

    def init(key, params):
        return CountingState(params, jnp.int32(0))

    def step(key, state, batch):
        seen = state.params + jnp.sum(batch.weight)
        largest = jnp.max(jnp.where(batch.weight > 0, batch.x[:, 0], -1.0))
        sometimes = jnp.where(batch.x[0, 0] > 5, batch.x[0, 0], jnp.nan)
        return state._replace(params=seen), CountingInfo(jnp.sum(batch.weight), batch.x[0, 0], largest, sometimes)

    def end_epoch(key, state, train):
        return state._replace(epoch=state.epoch + 1), EpochInfo(jnp.sum(train.weight))

    def done(state):
        return state.epoch >= stop_after

    return bx.Method(Partial(init), Partial(step), Partial(end_epoch), None if stop_after is None else Partial(done))


def numbered(num_rows):
    """Row i has feature i."""
    x = jnp.arange(num_rows, dtype=jnp.float32)[:, None]
    return bx.Batch(x, jnp.zeros(num_rows, jnp.int32), jnp.zeros(num_rows, jnp.int32))


def run(num_rows=10, num_epochs=3, stop_after=None, sampler=None, **options):
    sampler = bx.in_order(4) if sampler is None else sampler
    return bx.fit(
        jax.random.key(0),
        counting_method(stop_after),
        jnp.float32(0),
        numbered(num_rows),
        num_epochs=num_epochs,
        sampler=sampler,
        **options,
    )


def test_every_row_is_seen_once_an_epoch_and_padding_never():
    assert run().state.params == 30
    assert run(sampler=bx.shuffled(4)).state.params == 30
    assert run(sampler=bx.full_batch()).state.params == 30
    assert run(sampler=bx.in_order(4, "drop")).state.params == 24


def test_infos_are_recorded_as_asked():
    by_epoch = run()
    np.testing.assert_allclose(by_epoch.steps.rows, [10 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(by_epoch.steps.first, [4.0] * 3)
    # Batches start at rows 0, 4 and 8; "not measured" (NaN) entries take no part in the mean.
    np.testing.assert_allclose(by_epoch.steps.sometimes, [8.0] * 3)
    np.testing.assert_allclose(by_epoch.epochs.total, [10.0] * 3)
    assert by_epoch.evaluations is None
    every = run(record="step")
    np.testing.assert_allclose(every.steps.rows, [[4, 4, 2]] * 3)
    largest = run(record=lambda infos: infos.first.max())
    np.testing.assert_allclose(largest.steps, [8.0] * 3)


def test_means_of_what_was_never_measured_are_nan():
    assert np.isnan(run(num_rows=4).steps.sometimes).all()


def test_evaluate_sees_the_state_after_each_epoch():
    result = run(evaluate=lambda state: {"seen": state.params, "epoch": state.epoch})
    np.testing.assert_allclose(result.evaluations["seen"], [10, 20, 30])
    np.testing.assert_array_equal(result.evaluations["epoch"], [1, 2, 3])


def test_done_ends_the_run_and_leaves_nan_for_epochs_that_did_not_run():
    result = run(num_epochs=5, stop_after=2, evaluate=lambda state: state.params)
    assert result.state.params == 20
    np.testing.assert_array_equal(result.evaluations, [10, 20, np.nan, np.nan, np.nan])
    whole, never = run(num_epochs=3), run(num_epochs=3, stop_after=99)
    chex.assert_trees_all_equal(whole, never)


def test_done_is_by_lane_under_vmap():
    def one(stop_after):
        method = counting_method()._replace(done=Partial(lambda stop, state: state.epoch >= stop, stop_after))
        return bx.fit(
            jax.random.key(0), method, jnp.float32(0), numbered(4), num_epochs=4, sampler=bx.in_order(2)
        ).state.params

    np.testing.assert_array_equal(jax.vmap(one)(jnp.array([1, 3, 9])), [4, 12, 16])


def test_rows_choose_a_split_and_negative_rows_are_padding():
    rows = jnp.array([3, 5, -1, 7, -1])
    for sampler in (bx.in_order(2), bx.shuffled(2), bx.full_batch(), bx.group_balanced(2, 1)):
        result = run(rows=rows, num_epochs=1, sampler=sampler, record="step")
        assert result.epochs.total == 3
        if sampler.kind != "group_balanced":  # which deals rows until its batches are full
            assert result.state.params == 3
        assert set(np.asarray(result.steps.largest).ravel()) <= {3.0, 5.0, 7.0, -1.0}  # -1: a batch of padding


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int8, np.int64])
def test_rows_and_groups_of_any_integer_type_are_the_same(dtype):
    rows = np.array([1, 2, 3, 4, 5], dtype)
    data = numbered(10)._replace(group=np.zeros(10, dtype))
    for sampler in (bx.in_order(4), bx.shuffled(4)):  # which pad, and -1 is no unsigned number
        result = bx.fit(
            jax.random.key(0), counting_method(), jnp.float32(0), data, num_epochs=1, sampler=sampler, rows=rows,
            record="step",
        )  # fmt: skip
        np.testing.assert_array_equal(result.steps.rows, [[4, 1]])
        assert set(np.asarray(result.steps.largest).ravel()) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_rows_may_be_a_list_and_numbers_of_numpy():
    assert run(rows=[0, 1, 9], sampler=bx.full_batch(), num_epochs=np.int64(2)).state.params == 6


def test_a_method_of_plain_functions_runs():
    bound = counting_method()
    plain = bx.Method(*(member if member is None else member.func for member in bound))
    result = bx.fit(jax.random.key(0), plain, jnp.float32(0), numbered(10), num_epochs=3, sampler=bx.in_order(4))
    assert result.state.params == 30


def test_done_is_asked_after_an_epoch_not_before_the_first():
    result = run(num_epochs=5, stop_after=0, evaluate=lambda state: state.params)
    np.testing.assert_array_equal(result.evaluations, [10, np.nan, np.nan, np.nan, np.nan])


def test_means_leave_out_batches_of_padding_only():
    rows = jnp.concatenate([jnp.arange(8), jnp.full(7, -1)])
    padded, alone = run(rows=rows), run(rows=rows[:8])
    np.testing.assert_allclose(padded.steps.rows, [4.0] * 3)
    chex.assert_trees_all_equal(padded.steps, alone.steps)


def test_lanes_with_splits_of_different_length_equal_single_runs():
    method = cases.make("erm", dropout=jnp.float32(0.0))
    params = cases.network().init(jax.random.key(0))
    data = cases.rows(1, 40)
    short, long = jnp.arange(20), jnp.arange(5, 29)
    padded = jnp.concatenate([short, jnp.full(4, -1)])

    def train(rows):
        return bx.fit(
            jax.random.key(1), method, params, data, num_epochs=2, sampler=bx.in_order(8), rows=rows
        ).state.params

    together = jax.vmap(train)(jnp.stack([padded, long]))
    for lane, rows in enumerate((short, long)):
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=lane: leaf[i], together), train(rows), atol=1e-5)


def test_a_method_and_a_block_of_seeds_is_one_compilation():
    chex.clear_trace_counter()
    params = cases.network().init(jax.random.key(0))
    data = cases.rows(1, 40)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def block(keys, method):
        return jax.vmap(lambda key: bx.fit(key, method, params, data, num_epochs=2, sampler=bx.shuffled(8)).steps.loss)(
            keys
        )

    first = block(jax.random.split(jax.random.key(0), 3), cases.make("nash_meta", learning_rate=0.1))
    second = block(jax.random.split(jax.random.key(1), 3), cases.make("nash_meta", learning_rate=0.01))
    assert first.shape == (3, 2)
    assert not np.allclose(first, second)


def test_fit_itself_is_traced_once_for_new_numbers():
    params = cases.network().init(jax.random.key(0))
    before = bx.training._fit._cache_size()
    for rate in (0.1, 0.2, 0.3):
        method = cases.make("erm", learning_rate=rate)
        bx.fit(jax.random.key(3), method, params, cases.rows(1, 44), num_epochs=1, sampler=bx.shuffled(11))
    assert bx.training._fit._cache_size() == before + 1


def test_the_users_parameters_are_not_donated():
    params = cases.network().init(jax.random.key(0))
    copy = jax.tree.map(np.array, params)
    bx.fit(jax.random.key(0), cases.make("erm"), params, cases.rows(1, 20), num_epochs=1, sampler=bx.shuffled(5))
    chex.assert_trees_all_equal(params, copy)


@pytest.mark.slow
def test_a_run_can_be_differentiated_by_the_learning_rate():
    params = cases.network().init(jax.random.key(0))
    data = cases.rows(1, 20)
    losses = bx.losses.cross_entropy(cases.network(0.0))

    def last_loss(rate):
        method = cases.make("erm", learning_rate=rate, dropout=jnp.float32(0.0))
        state = bx.fit(jax.random.key(0), method, params, data, num_epochs=2, sampler=bx.in_order(5)).state
        return losses(state.params, data, None).mean()

    step = 1e-2
    numeric = (last_loss(0.05 + step) - last_loss(0.05 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(last_loss)(0.05), numeric, rtol=2e-2)


def test_map_blocks_equals_one_pass():
    data = cases.rows(3, 23)
    params = cases.network().init(jax.random.key(0))
    scores = lambda batch: cases.network().apply(params, batch.x)  # noqa: E731
    for block_size in (1, 5, 23, 64):
        blocks = jax.jit(lambda d, size=block_size: bx.map_blocks(scores, d, block_size=size))(data)
        np.testing.assert_allclose(blocks, scores(data), atol=1e-6)
    with pytest.raises(ValueError, match="block_size"):
        bx.map_blocks(scores, data, block_size=0)


BAD = [
    ({"sampler": lambda: bx.shuffled(11)}, ValueError, "batch_size 11 is larger than the 10 training rows"),
    ({"sampler": lambda: bx.shuffled(0)}, ValueError, "batch_size must be a positive integer"),
    ({"sampler": lambda: bx.shuffled(-3)}, ValueError, "batch_size must be a positive integer"),
    ({"sampler": lambda: bx.shuffled(4, "keep")}, ValueError, "remainder"),
    ({"sampler": lambda: 4}, TypeError, "sampler must be"),
    ({"rows": lambda: jnp.array([0, 10])}, ValueError, "rows must lie below 10"),
    ({"rows": lambda: jnp.array([0.0])}, ValueError, "integer positions"),
    ({"rows": lambda: jnp.zeros((0,), jnp.int32)}, ValueError, "no training rows"),
    ({"record": lambda: "always"}, ValueError, "record"),
    ({"num_epochs": lambda: -1}, ValueError, "num_epochs"),
    ({"num_epochs": lambda: 1.5}, ValueError, "num_epochs"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_arguments_are_refused_before_tracing(options, error, message):
    with pytest.raises(error, match=message):
        run(**{name: make() for name, make in options.items()})


def test_bad_data_is_refused_before_tracing():
    good = cases.rows(1, 20)
    bad = {
        "column '3'": good._replace(x=good.x.at[4, 3].set(jnp.nan)),
        "column '0'": good._replace(x=good.x.at[4, 0].set(jnp.inf)),
        "data.y has 19": good._replace(y=good.y[:19]),
        "data.group must hold ids >= 0, but row 7": good._replace(group=good.group.at[7].set(-1)),
        r"data\.y must be >= 0, .*labels > 0": good._replace(y=2 * good.y - 1),
        "data has no rows": jax.tree.map(lambda leaf: leaf[:0], good),
    }
    for message, data in bad.items():
        with pytest.raises(ValueError, match=message):
            bx.fit(jax.random.key(0), cases.make("erm"), jnp.zeros(()), data, num_epochs=1, sampler=bx.full_batch())
    with pytest.raises(TypeError, match="typed key"):
        bx.fit(0, cases.make("erm"), jnp.zeros(()), good, num_epochs=1, sampler=bx.full_batch())


def test_a_diverged_run_says_so():
    params = cases.network().init(jax.random.key(0))
    method = cases.make("erm", learning_rate=1e20)
    result = bx.fit(jax.random.key(0), method, params, cases.rows(1, 40), num_epochs=3, sampler=bx.shuffled(8))
    assert not np.isfinite(result.steps.loss[-1])
