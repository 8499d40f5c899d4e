"""`fit_stream`: the same numbers as `fit`, one compilation, and what it says of batches that are none."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.tree_util import Partial

import badrjax as bx
from badrjax import streaming
from badrjax.batches import frequencies
from badrjax.streaming import StreamError, blockwise_value_and_grad, fit_stream, stream_from_arrays
from tests.methods import cases
from tests.test_training import counting_method, numbered

NUM_ROWS, BATCH = 50, 16


def host(batch):
    return jax.tree.map(np.asarray, batch)


DATA = host(cases.rows(1, NUM_ROWS))


def in_order(epoch=0):
    return stream_from_arrays(*DATA, batch_size=BATCH, seed=None)(epoch)


def stream(batches=None, *, case="erm", num_epochs=2, **options):
    batches = in_order if batches is None else batches
    params = cases.init_params(jax.random.key(0))
    return fit_stream(jax.random.key(3), cases.make(case), params, batches, num_epochs=num_epochs, **options)


def count(batches, *, num_epochs=2, method=None, **options):
    """The counting method, which takes a moment to compile."""
    method = counting_method()._replace(end_epoch=None) if method is None else method
    return fit_stream(jax.random.key(0), method, jnp.float32(0), batches, num_epochs=num_epochs, **options)


def blocks(*sizes):
    """Batches of consecutive numbers."""
    ends = np.cumsum(sizes)
    rows = host(numbered(int(ends[-1])))
    return [
        jax.tree.map(lambda leaf, a=end - size, b=end: leaf[a:b], rows) for size, end in zip(sizes, ends, strict=True)
    ]


@pytest.mark.parametrize("case", ["erm", "nash_meta"])
def test_a_stream_gives_the_numbers_of_fit_on_the_same_order(case):
    options = {"num_epochs": 2, "evaluate": lambda state: state.params}
    params = cases.init_params(jax.random.key(0))
    whole = bx.fit(jax.random.key(3), cases.make(case), params, DATA, sampler=bx.in_order(BATCH), **options)
    streamed = stream(case=case, **options)
    chex.assert_trees_all_close(streamed, whole, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_equal_shapes_and_dtypes(streamed, whole)


def test_a_random_order_is_that_of_its_seed_and_epoch():
    batches = stream_from_arrays(*DATA, batch_size=BATCH, seed=4)
    first, again, second = (np.concatenate([batch.x for batch in batches(epoch)]) for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(DATA.x, axis=0))
    assert [batch.y.size for batch in batches(0)] == [16, 16, 16, 2]


def test_rows_of_a_batch_stay_together():
    columns = [np.arange(20) + 100 * i for i in range(3)]
    for batch in stream_from_arrays(*columns, columns[0].astype(float), batch_size=6, seed=0)(3):
        np.testing.assert_array_equal(batch.y, batch.x + 100)
        np.testing.assert_array_equal(batch.group, batch.x + 200)
        np.testing.assert_array_equal(batch.weight, batch.x)


class OnDisk:
    """Rows that can only be read few at a time, at sorted positions, as a data set of HDF5."""

    def __init__(self, array):
        self.array, self.shape, self.most = array, array.shape, 0

    def __getitem__(self, chosen):
        rows = self.array[chosen]
        self.most = max(self.most, len(rows))
        assert isinstance(chosen, slice) or (np.diff(chosen) > 0).all()
        return rows

    def __array__(self, *args, **kwargs):
        raise AssertionError("read as a whole")


def test_arrays_are_never_read_as_a_whole():
    arrays = [OnDisk(field) for field in DATA[:3]]
    for seed in (None, 1):
        for _ in stream_from_arrays(*arrays, batch_size=BATCH, seed=seed)(0):
            pass
    assert [array.most for array in arrays] == [BATCH] * 3


def test_memory_maps_stream(tmp_path):
    np.save(tmp_path / "x.npy", DATA.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    batches = stream_from_arrays(mapped, *DATA[1:], batch_size=BATCH, seed=None)
    for ours, theirs in zip(batches(0), in_order(), strict=True):
        chex.assert_trees_all_equal(ours, theirs)


def test_bad_arrays_are_refused():
    with pytest.raises(ValueError, match=r"one row per example.*'y': 49"):
        stream_from_arrays(DATA.x, DATA.y[:49], DATA.group, batch_size=4, seed=0)
    for size in (0, 51, 2.5):
        with pytest.raises(ValueError, match="from 1 to the 50 rows"):
            stream_from_arrays(*DATA, batch_size=size, seed=0)


def test_one_compilation_of_the_step():
    before = streaming._step._cache_size()
    for prefetch in (1, 3):
        stream(num_epochs=3, prefetch=prefetch, batches=stream_from_arrays(*DATA, batch_size=12, seed=1))
    assert streaming._step._cache_size() == before + 1
    # Numbers of weak type in the first state.
    weak = Partial(lambda key, params: counting_method().init(key, params)._replace(epoch=jnp.asarray(0)))
    before = streaming._step._cache_size()
    count(lambda epoch: blocks(5, 5), method=counting_method()._replace(init=weak), end_epoch_data=numbered(3))
    assert streaming._step._cache_size() == before + 1


def test_padding_takes_no_part_and_infos_are_recorded_as_asked():
    batches = lambda epoch: blocks(4, 4, 2)  # noqa: E731
    result = count(batches)
    assert result.state.params == 20
    np.testing.assert_allclose(result.steps.rows, [10 / 3] * 2, rtol=1e-6)
    np.testing.assert_allclose(result.steps.first, [4.0] * 2)
    np.testing.assert_allclose(count(batches, record="step").steps.rows, [[4, 4, 2]] * 2)
    np.testing.assert_allclose(count(batches, record=lambda infos: infos.largest.max()).steps, [9.0] * 2)
    assert count(batches).evaluations is None


def test_epochs_may_differ_in_their_number_of_batches():
    result = count(lambda epoch: blocks(*[4] * (epoch + 1)), record="step")
    np.testing.assert_array_equal(result.steps.rows, [[4, np.nan], [4, 4]])


def test_done_ends_the_run():
    method = counting_method(2)
    given = {"end_epoch_data": numbered(7), "evaluate": lambda state: state.epoch}
    result = count(lambda epoch: blocks(4, 4), method=method, num_epochs=4, **given)
    assert result.state.params == 16
    np.testing.assert_array_equal(result.epochs.total, [7, 7, np.nan, np.nan])
    np.testing.assert_array_equal(result.evaluations, [1, 2, 0, 0])


def ends_by(end_epoch):
    return counting_method()._replace(end_epoch=end_epoch)


@pytest.mark.parametrize(
    "method",
    [
        counting_method(),
        ends_by(lambda key, state, train: (state, train.y.shape[0])),
        ends_by(lambda key, state, train: (state, jnp.zeros_like(train.y))),
    ],
)
def test_an_end_of_epoch_that_looks_at_rows_needs_them(method):
    with pytest.raises(ValueError, match="give end_epoch_data="):
        count(lambda epoch: blocks(4, 4), method=method)
    count(lambda epoch: blocks(4, 4), method=method, end_epoch_data=numbered(3))


def test_an_end_of_epoch_that_does_not_look_at_rows_needs_none():
    method = ends_by(jax.jit(lambda key, state, train: (state._replace(epoch=state.epoch + 1), state.epoch)))
    np.testing.assert_array_equal(count(lambda epoch: blocks(4, 4), method=method).epochs, [0, 1])


def test_no_epochs_leave_the_state_of_the_start():
    result = count(lambda epoch: blocks(4), num_epochs=0)
    assert result.state.params == 0
    assert result.steps is None


def test_the_users_parameters_are_not_donated():
    """Steps donate the state, and `init` hands `params` on: it rests on `jit` copying what it returns as it came."""
    params = cases.init_params(jax.random.key(0))
    copy = jax.tree.map(np.array, params)
    fit_stream(jax.random.key(3), cases.make("erm"), params, in_order, num_epochs=2)
    chex.assert_trees_all_equal(params, copy)


def test_an_iterator_may_use_its_buffers_again():
    def reusing(epoch):
        buffer = jax.tree.map(np.copy, blocks(4)[0])._replace(weight=np.ones(4, np.float32))
        for block in blocks(4, 4, 4):
            buffer.x[:] = block.x
            yield buffer
        buffer.x[:] = np.nan

    np.testing.assert_array_equal(count(reusing, record="step", prefetch=2).steps.first, [[0, 4, 8]] * 2)


@pytest.mark.parametrize("prefetch", [1, 3])
def test_the_host_waits_for_the_step_that_lies_back(monkeypatch, prefetch):
    """So at most `prefetch` batches wait and as many steps are under way."""
    pulled, waited = 0, []

    def numbers(epoch):
        nonlocal pulled
        for block in blocks(*[2] * 8):
            pulled += 1
            yield block._replace(weight=np.full(2, pulled % 2, np.float32))

    monkeypatch.setattr(jax, "block_until_ready", lambda real: waited.append((pulled, bool(real))))
    count(numbers, num_epochs=1, prefetch=prefetch)
    steps = range(prefetch, 8)
    assert waited == [(min(step + 1 + prefetch, 8), (step - prefetch) % 2 == 0) for step in steps]


def broken(change, at=2):
    """Three batches an epoch, of which number `at` of epoch 1 is changed."""

    def batches(epoch):
        for number, block in enumerate(blocks(4, 4, 4)):
            yield change(block) if (epoch, number) == (1, at) else block

    return batches


def raising(block):
    raise OSError("the disk is gone")


BAD = {
    "raises": (raising, "in place of batch 2 of epoch 1: OSError: the disk is gone"),
    "no batch": (lambda block: tuple(block), "batch 2 of epoch 1 must be a badrjax.Batch"),
    "NaN": (lambda block: block._replace(x=block.x * np.nan), "batch 2 of epoch 1: x has NaN"),
    "columns": (lambda block: block._replace(x=np.ones((4, 2), np.float32)), r"epoch 1: x is float32 .*\(2,\), and"),
    "dtype": (lambda block: block._replace(y=np.ones(4, np.float32)), "batch 2 of epoch 1: y is float32"),
    "long": (lambda block: jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=0), block), "must have 4 rows each"),
    "groups": (lambda block: block._replace(group=block.group - 1), "batch 2 of epoch 1.group must hold ids >= 0"),
    "weight": (lambda block: block._replace(weight=-np.ones(4)), "batch 2 of epoch 1.weight must hold"),
    "lengths": (lambda block: block._replace(y=block.y[:3]), r"batch 2 of epoch 1\.y has 3"),
    "empty": (lambda block: jax.tree.map(lambda leaf: leaf[:0], block), "batch 2 of epoch 1 has no rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_batch_is_named_and_what_was_trained_is_kept(case):
    change, message = BAD[case]
    with pytest.raises(StreamError, match=message) as caught:
        count(broken(change), num_epochs=3, evaluate=lambda state: state.params)
    error = caught.value
    assert (error.epoch, error.batch) == (1, 2)
    assert error.partial.state.params == 12 + 8
    np.testing.assert_array_equal(error.partial.evaluations, [12])
    assert case != "raises" or isinstance(error.__cause__, OSError)


BAD_NUMBERS = {
    "too large": (lambda block: block._replace(x=np.full((4, 1), 1e300)), "x has values too large for float32"),
    "group": (lambda block: block._replace(group=np.full(4, 2**32 + 1)), "whole numbers too large for int32"),
}


@pytest.mark.parametrize("case", BAD_NUMBERS)
def test_numbers_that_the_run_cannot_hold_are_refused(case):
    change, message = BAD_NUMBERS[case]
    with pytest.raises(StreamError, match=message):
        count(lambda epoch: [change(block) for block in blocks(4, 4)])


def test_an_interrupt_leaves_what_was_trained():
    def endless(epoch):
        yield from blocks(4, 4)
        if epoch == 1:
            raise KeyboardInterrupt
        yield from blocks(4)

    with pytest.raises(KeyboardInterrupt) as caught:
        count(endless, num_epochs=3, evaluate=lambda state: state.params, prefetch=1)
    # The interrupt comes when batch 2 of epoch 1 is fetched: batch 1 still waits.
    assert caught.value.partial.state.params == 12 + 4
    np.testing.assert_array_equal(caught.value.partial.evaluations, [12])


def test_a_step_that_fails_leaves_the_epochs_before():
    def step(key, state, batch):
        state, info = counting_method().step(key, state, batch)
        params = jax.pure_callback(failing, jax.ShapeDtypeStruct((), jnp.float32), state.params)
        return state._replace(params=params), info

    def failing(params):
        if params > 20:
            raise OSError("the simulator is gone")
        return params

    method = counting_method()._replace(end_epoch=None, step=Partial(step))
    with pytest.raises(Exception, match="the simulator is gone") as caught:
        count(lambda epoch: blocks(4, 4), num_epochs=4, method=method, evaluate=lambda state: state.params)
    np.testing.assert_array_equal(caught.value.partial.evaluations, [8, 16])


def test_the_error_survives_pickling():
    with pytest.raises(StreamError) as caught:
        count(broken(raising))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.epoch, again.batch) == (str(caught.value), 1, 2)


def test_a_generator_is_closed_where_its_batch_is_refused():
    closed = []

    def batches(epoch):
        try:
            yield from [blocks(4)[0], (1, 2)]
        finally:
            closed.append(epoch)

    with pytest.raises(StreamError) as caught:
        count(batches)
    assert (closed, caught.value.batch) == ([0], 1)


def test_a_state_that_changes_its_dtype_is_refused():
    def step(key, state, batch):
        return state._replace(params=state.params + jnp.float32(1)), counting_method().step(key, state, batch)[1]

    method = counting_method()._replace(end_epoch=None, step=Partial(step))
    with pytest.raises(ValueError, match=r"state\.params goes from bfloat16\[\] to float32\[\]"):
        fit_stream(jax.random.key(0), method, jnp.bfloat16(0), lambda epoch: blocks(4), num_epochs=1)


def test_a_stream_inside_a_program_is_refused():
    with pytest.raises(ValueError, match="call it outside jit and vmap"):
        jax.jit(lambda: count(lambda epoch: blocks(4)).state.params)()


def test_pandas_and_lists_are_taken_by_position():
    order = np.random.default_rng(0).permutation(20)
    frame = pd.DataFrame({"x": np.arange(20.0)}, index=order)
    labels = pd.Series(np.arange(20), index=order)
    for x, y in ((frame, labels), ([[float(row)] for row in range(20)], list(range(20)))):
        batch = next(stream_from_arrays(x, y, np.zeros(20, int), batch_size=20, seed=0)(0))
        np.testing.assert_array_equal(batch.x[:, 0], batch.y)
    with pytest.raises(ValueError, match="y must have one row per example, got a scalar"):
        stream_from_arrays(np.zeros((3, 1)), np.int32(1), np.zeros(3, int), batch_size=1, seed=0)


def test_only_the_last_batch_may_be_short():
    with pytest.raises(StreamError, match=r"batch 2 of epoch 1.*only the last may have fewer; found 3 before it"):
        count(broken(lambda block: jax.tree.map(lambda leaf: leaf[:3], block), at=1))


def test_an_empty_iterator_is_refused():
    with pytest.raises(StreamError, match=r"batches\(0\) gave no batch") as caught:
        count(lambda epoch: [])
    assert caught.value.partial.state.params == 0
    with pytest.raises(StreamError, match=r"batches\(1\) gave no batch") as caught:
        count(lambda epoch: blocks(4) if epoch == 0 else [])
    assert caught.value.partial.state.params == 4
    with pytest.raises(StreamError, match="in place of batch 0 of epoch 0: TypeError"):
        count(lambda epoch: None)


def test_bad_settings_are_refused():
    for options, error, message in [
        ({"prefetch": 0}, ValueError, "prefetch"),
        ({"num_epochs": -1}, ValueError, "num_epochs"),
        ({"record": "always"}, ValueError, "record"),
        ({"end_epoch_data": numbered(3)._replace(x=jnp.full((3, 1), jnp.nan))}, ValueError, "end_epoch_data.x has NaN"),
    ]:
        with pytest.raises(error, match=message):
            count(lambda epoch: blocks(4), **options)
    with pytest.raises(TypeError, match="function of the epoch"):
        count(blocks(4))
    with pytest.raises(TypeError, match="typed key"):
        fit_stream(0, counting_method(), jnp.float32(0), in_order, num_epochs=1)


def test_blocks_add_up_to_the_full_pass():
    losses = bx.losses.cross_entropy(cases.network(0.0))
    params = cases.init_params(jax.random.key(0))
    weighted = DATA._replace(weight=np.linspace(0, 3, NUM_ROWS, dtype=np.float32))
    loss = Partial(lambda params, batch: losses(params, batch, None))
    sums = blockwise_value_and_grad(loss, params, stream_from_arrays(*weighted, batch_size=16, seed=2)(0))
    value, gradient = jax.jit(jax.value_and_grad(lambda p: frequencies(weighted) @ losses(p, weighted, None)))(params)
    np.testing.assert_allclose(sums.value, value, rtol=1e-6)
    np.testing.assert_allclose(sums.weight, weighted.weight.sum(), rtol=1e-6)
    chex.assert_trees_all_close(sums.gradient, gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "feature"), [(jnp.bfloat16, 1.0), (jnp.float16, 0.1)])
def test_sums_of_half_precision_do_not_stall(dtype, feature):
    block = blocks(4)[0]._replace(x=np.full((4, 1), feature, np.float32))
    sums = blockwise_value_and_grad(lambda params, batch: batch.x[:, 0] * params, dtype(1), [block] * 1000)
    assert sums.gradient.dtype == jnp.float32
    np.testing.assert_allclose(sums.gradient, 4000 * feature, rtol=1e-3)


@pytest.mark.parametrize("losses", [lambda p, b: b.x * p, lambda p, b: jnp.mean(b.x * p)])
def test_losses_that_are_not_one_a_row_are_refused(losses):
    with pytest.raises(ValueError, match="losses must be one number a row"):
        blockwise_value_and_grad(losses, jnp.float32(1), blocks(4))
    data = jax.tree.map(jnp.asarray, blocks(4)[0])
    for block_size in (2, 4):
        with pytest.raises(ValueError, match="losses must be one number a row"):
            bx.in_blocks(lambda params, batch, key: losses(params, batch), block_size)(1.0, data, None)


def test_blocks_are_checked():
    with pytest.raises(StreamError, match="gave no batch"):
        blockwise_value_and_grad(lambda params, batch: batch.x[:, 0] * params, jnp.float32(1), [])
    wide = blocks(4)[0]._replace(x=np.ones((4, 3), np.float32))
    with pytest.raises(StreamError, match="batch 1 of epoch 0: x is"):
        blockwise_value_and_grad(lambda params, batch: batch.x[:, 0] * params, jnp.float32(1), [*blocks(4), wide])
