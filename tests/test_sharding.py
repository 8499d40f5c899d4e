"""Rows sharded over eight devices and over two processes, against one device with the same order of rows."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import badrjax as bx
from badrjax import sharding
from badrjax.batches import take
from badrjax.blocks import in_blocks
from tests import sharding_worker as worker
from tests.methods import cases

ROOT = Path(__file__).parent.parent


def start_worker(folder, num_devices, *arguments):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={num_devices}"
    out = folder / "-".join(["worker", *arguments[:1]])
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.sharding_worker", str(out), *arguments]
    with open(f"{out}.log", "w") as log:
        return out, subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def read_worker(out, process):
    try:
        assert process.wait(timeout=300) == 0, Path(f"{out}.log").read_text()[-4000:]
    finally:
        process.kill()
    with np.load(f"{out}.npz") as found:
        return dict(found), json.loads(Path(f"{out}.json").read_text())


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory):
    return read_worker(*start_worker(tmp_path_factory.mktemp("eight"), 8))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    folder = tmp_path_factory.mktemp("two")
    started = [start_worker(folder, 4, str(i), "2", port) for i in range(2)]
    try:
        return [read_worker(*one) for one in started]
    finally:
        for _, process in started:
            process.kill()


def on_one_device(run):
    """The run, step by step, with batches taken as `reference_order` says."""
    key, method, params = worker.start(run)
    data = worker.rows(run.num_rows)
    init_key, run_key = jax.random.split(key)
    state, losses = cases.init_state(method, init_key, params), []
    for epoch in range(worker.NUM_EPOCHS):
        order = sharding.reference_order(key, run.num_rows, run.num_shards, run.sampler, epoch, seed=run.seed)
        _, step_key, end_key = jax.random.split(jax.random.fold_in(run_key, epoch), 3)
        infos = []
        for number, batch in enumerate(order):
            state, info = cases.take_step(method, jax.random.fold_in(step_key, number), state, take(data, batch))
            infos.append(info.loss)
        losses.append(np.mean(infos))
        if method.end_epoch is not None:
            state, _ = method.end_epoch(end_key, state, data)
    return np.concatenate([cases.moving(state), losses])


@pytest.mark.parametrize("name", worker.RUNS)
def test_shards_give_the_numbers_of_one_device_with_the_same_order(eight_devices, name):
    reference = on_one_device(worker.RUNS[name])
    start = jax.flatten_util.ravel_pytree(cases.init_params(jax.random.key(0)))[0]
    assert np.abs(reference[: start.size] - start).max() > 1e-2
    np.testing.assert_allclose(eight_devices[0][name], reference, atol=2e-5)


@pytest.mark.parametrize("name", ["erm shuffled", "erm full batch"])
def test_what_padding_holds_changes_nothing(eight_devices, name):
    found, _ = eight_devices
    np.testing.assert_array_equal(found[f"{name}, NaN"], found[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*worker.OF_TWO_PROCESSES, "dealt validation"])
def test_two_processes_give_the_numbers_of_one(eight_devices, two_processes, name):
    first, second = (found[name] for found, _ in two_processes)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, eight_devices[0][name], atol=2e-6)


@pytest.mark.slow
def test_what_one_process_refuses_all_refuse(two_processes):
    said = {"NaN": "data.x has NaN or infinite values in row 0", "few rows": "7 rows cannot be dealt to 8 shards"}
    for name, text in said.items():
        first, second = (facts[name] for _, facts in two_processes)
        assert text in first
        assert "process 0 has refused its arguments" in second
    for _, facts in two_processes:
        assert "the same key, method, parameters and settings" in facts["epochs"]
        assert "the same key, method, parameters and settings" in facts["sampler"]


@pytest.mark.slow
def test_processes_with_other_rows_or_keys_are_all_refused(two_processes):
    for _, facts in two_processes:
        assert "every process must give deal the same rows" in facts["rows"]
        assert "every process must give fit_sharded the same key" in facts["key"]


@pytest.mark.parametrize("name", ["erm shuffled", "erm full batch"])
def test_no_device_is_sent_rows_of_another(eight_devices, name):
    run = worker.RUNS[name]
    sent = [size for _, sizes in eight_devices[1]["collectives"][name] for size in sizes]
    num_params = jax.flatten_util.ravel_pytree(cases.init_params(jax.random.key(0)))[0].size
    # The gradient is added up, leaf by leaf; nothing that is sent grows with the rows of the batch.
    assert max(sent) <= num_params < (run.num_rows if run.sampler.batch_size is None else run.sampler.batch_size) * 5
    assert sum(size for _, sizes in eight_devices[1]["collectives"][name] for size in sizes) < 2 * num_params


def test_a_shard_holds_its_rows_and_padding_of_weight_0(eight_devices):
    _, facts = eight_devices
    data, order = worker.rows(67), sharding.deal_order(67, 8)
    np.testing.assert_array_equal(facts["x of shard 3"], data.x[np.append(order[3, :-1], order[3, 0])])
    np.testing.assert_array_equal(facts["weights"], np.where(order < 0, 0, data.weight[order]).ravel())


def test_what_cannot_be_is_refused_before_tracing(eight_devices):
    messages = eight_devices[1]["messages"]
    said = {
        "batch size": "batch_size 20 is not a multiple of the 8 shards of axis 'data'; take 16 or 24",
        "small batch size": "batch_size 5 is not a multiple of the 8 shards of axis 'data'; take 8",
        "large batch size": "batch_size 72 is larger than the 67 training rows",
        "axis": "mesh has no axis 'rows', it has 'data'",
        "deal axis": "mesh has no axis 'rows', it has 'data'",
        "mesh": "TypeError: mesh must be a jax.sharding.Mesh",
        "balanced": "a shard may hold none of a small group's rows",
        "not dealt": "deal the rows first",
        "other mesh": "deal the rows first",
        "traced": "must not be traced",
        "set mesh": "jax.set_mesh is in force",
        "few rows": "7 rows cannot be dealt to 8 shards",
        "not finite": "data.x has NaN or infinite values in row 13 (column '2')",
        "groups": "data.group must hold ids >= 0, but row 13",
        "too large": "data.x has a value too large for float32 in row 13 (column '2')",
        "group too large": "data.group has a value too large for int32 in row 13",
        "weights": "data.weight must have one axis, got shape (67, 1)",
        "seed": "seed must be an integer of at least 0",
        "inside jit": "call fit_sharded outside jit",
        "sampler": "TypeError: sampler must be",
        "record": "record must be 'epoch', 'step' or a function",
        "num_epochs": "num_epochs must be an integer",
    }
    assert set(said) == set(messages)
    assert {name: messages[name] for name, text in said.items() if text not in messages[name]} == {}


def test_losses_in_blocks_are_the_same_and_keep_less(eight_devices):
    difference, whole, blocks = eight_devices[1]["in blocks"]
    assert difference < 1e-6
    assert blocks < whole / 2


def test_a_run_may_be_mapped_over_keys(eight_devices):
    np.testing.assert_allclose(*eight_devices[1]["lanes"], atol=1e-6)


def test_a_run_that_is_done_stops(eight_devices):
    assert eight_devices[1]["done"] == [False, True]


def test_results_are_on_every_device(eight_devices):
    _, facts = eight_devices
    assert facts["replicated"]
    shape, seen = facts["steps"]
    assert shape == [worker.NUM_EPOCHS, 5]
    assert seen == [float(worker.rows(67).weight.sum())] * worker.NUM_EPOCHS


SAMPLERS = [bx.shuffled(16), bx.shuffled(16, "drop"), bx.in_order(16), bx.in_order(16, "drop"), bx.full_batch()]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.kind}-{s.remainder}")
@pytest.mark.parametrize("num_rows", [16, 33, 64, 67])
def test_an_epoch_takes_every_row_once_and_equally_from_all_shards(sampler, num_rows):
    num_shards = 8
    order = sharding.reference_order(jax.random.key(0), num_rows, num_shards, sampler, 1, seed=2)
    assert order.shape[0] == sampler.num_steps(num_rows)
    taken = order[order >= 0]
    wanted = num_rows - num_rows % 16 if sampler.remainder == "drop" else num_rows
    assert np.unique(taken).size == taken.size == wanted
    shard_of = np.zeros(num_rows, int)
    for shard, held in enumerate(sharding.deal_order(num_rows, num_shards, seed=2)):
        shard_of[held[held >= 0]] = shard
    by_shard = order.reshape(order.shape[0], num_shards, -1)
    for shard in range(num_shards):
        chosen = by_shard[:, shard]
        assert (shard_of[chosen[chosen >= 0]] == shard).all()


def test_batches_in_order_are_the_rows_in_order():
    order = sharding.reference_order(jax.random.key(0), 67, 4, bx.in_order(16), 0)
    for number, batch in enumerate(order):
        np.testing.assert_array_equal(np.sort(batch[batch >= 0]), np.arange(67)[16 * number : 16 * number + 16])


def test_epochs_are_shuffled_anew_and_shards_unlike_each_other():
    key = jax.random.key(0)
    first, second = (sharding.reference_order(key, 64, 2, bx.shuffled(64), epoch)[0] for epoch in (0, 1))
    assert (first != second).any()
    # Row 2 i + s is in slot i of shard s.
    assert (first[:32] // 2 != first[32:] // 2).any()


@pytest.mark.parametrize("sampler", [bx.shuffled(8), bx.in_order(8, "drop"), bx.full_batch()])
def test_one_shard_is_fit(sampler):
    data, params, method = cases.rows(1, 20), cases.init_params(jax.random.key(0)), cases.make("erm")
    mesh = jax.make_mesh((1,), ("data",))
    plain = bx.fit(jax.random.key(2), method, params, data, num_epochs=2, sampler=sampler)
    dealt = sharding.deal(data, mesh)
    sharded = sharding.fit_sharded(jax.random.key(2), method, params, dealt, num_epochs=2, sampler=sampler, mesh=mesh)
    chex.assert_trees_all_close(plain, sharded, atol=1e-6)


def test_rows_of_a_file_are_dealt_without_weights(tmp_path):
    x = np.memmap(tmp_path / "x", np.float64, "w+", shape=(5, 2))
    x[:] = np.arange(10).reshape(5, 2)
    y = np.zeros(5, np.int64)
    data = sharding.deal(bx.Batch(x, y, y), jax.make_mesh((1,), ("data",)), seed=0)
    np.testing.assert_array_equal(data.x, x[sharding.deal_order(5, 1, seed=0)[0]])
    np.testing.assert_array_equal(data.weight, np.ones(5))
    assert data.x.dtype == jnp.result_type(float)


@pytest.mark.parametrize("weight", [np.array([0, 2, 1]), np.array([-0.0, 2, 1], np.float32)])
def test_frequencies_are_floats_and_a_given_zero_is_no_padding(weight):
    y = np.zeros(3, np.int32)
    data = sharding.deal(bx.Batch(np.zeros((3, 1)), y, y, weight), jax.make_mesh((1,), ("data",)))
    assert data.weight.dtype == jnp.float32
    np.testing.assert_array_equal(data.weight, weight)
    assert not np.signbit(data.weight).any()


def test_losses_in_blocks_on_one_device():
    losses = bx.losses.cross_entropy(cases.network(0.0))
    data, params = cases.rows(3, 23), cases.init_params(jax.random.key(0))

    @jax.jit
    def with_gradient(example_losses):
        return jax.value_and_grad(lambda p: example_losses(p, data, None).sum())(params)

    for block_size in (4, 64):
        chex.assert_trees_all_close(with_gradient(in_blocks(losses, block_size)), with_gradient(losses), atol=1e-5)
    for block_size in (0, None, 2.5, True):
        with pytest.raises(ValueError, match="block_size must be a positive integer"):
            in_blocks(losses, block_size)


def test_a_small_batch_is_not_filled_up_to_a_block():
    losses, data = bx.losses.cross_entropy(cases.network(0.0)), cases.rows(3, 23)
    program = jax.make_jaxpr(lambda p: in_blocks(losses, 4096)(p, data, None))(cases.init_params(jax.random.key(0)))
    assert "4096" not in str(program)


@pytest.mark.slow
def test_the_example_of_two_hosts_gives_the_losses_of_one():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "examples/two_hosts.py", "--epochs", "1", "--coordinator", address]

    def run(devices, *arguments):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    started = [run(2, "--num-processes", "2", "--process", str(number)) for number in range(2)] + [run(4)]
    lines = [process.communicate(timeout=200)[0].splitlines()[-1] for process in started]
    told = [line.split(": validation loss by epoch ") for line in lines]
    assert [where for where, _ in told] == [f"process {i} of {n}, 4 devices" for i, n in ((0, 2), (1, 2), (0, 1))]
    assert told[0][1] == told[1][1]
    np.testing.assert_allclose(*(json.loads(losses) for _, losses in told[1:]), atol=2e-5)
