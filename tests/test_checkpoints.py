"""Checkpoints: a run that was cut, killed or damaged comes to the bits of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jax.tree_util import Partial

import badrjax as bx
from badrjax import checkpoints, training
from badrjax.checkpoints import CheckpointError
from tests.methods import cases
from tests.test_training import CountingInfo, EpochInfo, numbered

NUM_EPOCHS = 7


class State(NamedTuple):
    params: Any
    key: Any
    keys: Any
    half: Any
    nothing: Any
    weak: Any
    epoch: Any


def init(key, params):
    half = jnp.ones(3, jnp.bfloat16)
    return State(params, key, jax.random.split(key, 2), half, jnp.zeros((0, 2)), jnp.asarray(0.0), jnp.int32(0))


def step(rate, key, state, batch):
    """Adds noise of a key that the state carries, so that nothing but the same bits goes unnoticed."""
    carried, drawn = jax.random.split(state.key)
    total = jnp.sum(batch.weight * batch.x[:, 0])
    params = state.params + rate * total + jax.random.normal(drawn) + jax.random.normal(key)
    info = CountingInfo(jnp.sum(batch.weight), params, batch.x.max(), carried)
    # `weak * half` would be of another dtype if the number were of strong type.
    half = state.half * (1 + state.weak * 0.01)
    return state._replace(params=params, key=carried, half=half, weak=state.weak), info


def end_epoch(key, state, train):
    keys = jax.vmap(lambda one: jax.random.fold_in(one, state.epoch))(state.keys)
    return state._replace(epoch=state.epoch + 1, keys=keys), EpochInfo(jnp.sum(train.weight))


def is_done(stop_after, state):
    return state.epoch >= stop_after


def evaluate(state):
    return {"params": state.params, "key": state.key, "half": state.half}


def method(rate=0.1, stop_after=None):
    done = None if stop_after is None else Partial(is_done, jnp.int32(stop_after))
    return bx.Method(Partial(init), Partial(step, rate), Partial(end_epoch), done)


def last_info(infos):
    return infos.first[-1]


def without_keys(infos):
    return infos._replace(sometimes=infos.largest)


SETTINGS: dict[str, Any] = {"num_epochs": NUM_EPOCHS, "evaluate": evaluate, "record": last_info}


def run(directory=None, every=3, *, seed=0, rate=0.1, stop_after=None, data=None, start=0.0, **options):
    settings = {"sampler": bx.shuffled(4), **SETTINGS, **options}
    cut = {} if directory is None else {"checkpoint": directory, "every": every}
    data = numbered(10) if data is None else data
    return bx.fit(jax.random.key(seed), method(rate, stop_after), jnp.float32(start), data, **settings, **cut)


def bits(tree):
    """Everything about a tree of arrays that could differ."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.dtype, leaf.shape, checkpoints.pack([leaf])[0].tobytes()) for leaf in leaves]


def stored(directory):
    return sorted(path.name for path in directory.iterdir() if path.name.startswith("epoch"))


def saves_until(monkeypatch, count):
    """Let the process die, as it were, after `count` checkpoints."""
    save, left = checkpoints._save, [count]

    def dying(*arguments):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        save(*arguments)

    monkeypatch.setattr(checkpoints, "_save", dying)


@pytest.fixture(scope="module")
def whole():
    return run()


@pytest.mark.parametrize("every", [1, 3, 20])
def test_a_run_in_pieces_has_the_bits_of_a_run_at_once(tmp_path, whole, every):
    assert bits(run(tmp_path, every)) == bits(whole)
    assert bits(run(tmp_path, every)) == bits(whole)  # from its last checkpoint
    assert stored(tmp_path)[-1] == "epoch_00000007"


@pytest.mark.parametrize("case", ["erm", pytest.param("nash_meta", marks=pytest.mark.slow)])
def test_methods_in_pieces_have_the_bits_of_a_run_at_once(tmp_path, case):
    made, params, data = cases.make(case), cases.init_params(jax.random.key(0)), cases.rows(1, 40)
    settings = {"num_epochs": 4, "sampler": bx.shuffled(12)}
    at_once = bx.fit(jax.random.key(1), made, params, data, **settings)
    in_pieces = bx.fit(jax.random.key(1), made, params, data, **settings, checkpoint=tmp_path, every=3)
    assert bits(in_pieces) == bits(at_once)


@pytest.mark.parametrize("record", ["epoch", "step"])
@pytest.mark.parametrize("stop_after", [None, 4])
def test_all_ways_to_record_and_an_early_end(tmp_path, record, stop_after):
    def go(**cut):
        bare = method(stop_after=stop_after)._replace(step=Partial(step_without_keys))
        return bx.fit(
            jax.random.key(0), bare, jnp.float32(0), numbered(10), num_epochs=NUM_EPOCHS, sampler=bx.in_order(4),
            record=record, **cut,
        )  # fmt: skip

    at_once = go()
    for _ in range(2):
        assert bits(go(checkpoint=tmp_path, every=3)) == bits(at_once)
    assert stored(tmp_path)[-1] == ("epoch_00000007" if stop_after is None else "epoch_00000004")


def step_without_keys(key, state, batch):
    state, info = step(0.1, key, state, batch)
    return state, without_keys(info)


def test_no_epochs(tmp_path):
    assert bits(run(tmp_path, num_epochs=0)) == bits(run(num_epochs=0))


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, whole, monkeypatch):
    for count in (1, 0, 2):
        with monkeypatch.context() as patch:
            saves_until(patch, count)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path, 2)
    assert stored(tmp_path) == ["epoch_00000004", "epoch_00000006"]
    with monkeypatch.context() as patch:
        saves_until(patch, 1)  # one piece of one epoch is left
        assert bits(run(tmp_path, 2)) == bits(whole)
    with monkeypatch.context() as patch:
        saves_until(patch, 0)
        assert bits(run(tmp_path, 2)) == bits(whole)


def test_pieces_are_one_program(tmp_path, monkeypatch):
    before = training._fit_piece._cache_size()
    with monkeypatch.context() as patch:
        saves_until(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, 3, data=numbered(11))
    run(tmp_path, 3, data=numbered(11))  # from a state that was read, and with a shorter piece at the end
    assert training._fit_piece._cache_size() == before + 1


def test_two_checkpoints_are_kept_and_drafts_removed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        saves_until(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, 1)
    (tmp_path / ".draft-of-a-dead-process").mkdir()
    run(tmp_path, 1)
    left = ["epoch_00000006", "epoch_00000007", "lock", "run.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


OTHERS = {
    "seed": ({"seed": 1}, r"key is key<fry>"),
    "rate": ({"rate": 0.2}, r"method.* is 0\.2 .*, and was 0\.1"),
    "params": ({"start": 1.0}, r"params is 1\.0 .*, and was 0\.0"),
    "data": ({"data": numbered(10)._replace(y=jnp.ones(10, jnp.int32))}, r"data\.y is int32\[10\]"),
    "rows": ({"rows": jnp.arange(8)}, r"rows is int32\[8\]"),
    "every": ({"every": 2}, "every is 2, and was 3"),
    "sampler": ({"sampler": bx.in_order(4)}, "sampler is Sampler.*in_order.*was Sampler.*shuffled"),
    "record": ({"record": "step"}, "record"),
    "evaluate": ({"evaluate": None}, "evaluate"),
    "code": ({"evaluate": lambda state: {**evaluate(state), "half": state.half + 1}}, "evaluate"),
    "stop": ({"stop_after": 7}, "method"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    run(directory)
    return directory


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_with_other_arguments_is_refused(finished, name):
    options, message = OTHERS[name]
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(CheckpointError, match=f"other arguments: .*{message}"):
        run(finished, **options)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_changed_code_and_versions_are_refused(tmp_path):
    def evaluation(number):
        def evaluate(state):
            return state.params + number

        return evaluate

    run(tmp_path, evaluate=evaluation(1))
    with pytest.raises(CheckpointError, match="other arguments: the code of the method, of evaluate"):
        run(tmp_path, evaluate=evaluation(2))
    about = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**about, "version of jax": "0.1.0"}))
    with pytest.raises(CheckpointError, match=r"version of jax is .*, and was 0\.1\.0"):
        run(tmp_path, evaluate=evaluation(1))
    (tmp_path / "run.json").write_text(json.dumps(about)[:40])
    with pytest.raises(CheckpointError, match=r"run\.json cannot be read"):
        run(tmp_path, evaluate=evaluation(1))


def files_of(checkpoint):
    return [path for path in sorted(checkpoint.rglob("*")) if path.is_file()]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """One bit of every byte: some bytes of a file are never read, so one alone may do no damage."""
    path.write_bytes(bytes(byte ^ 0x10 for byte in path.read_bytes()))


def flip_one(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, whole, damage):
    run(tmp_path, 2)
    last = tmp_path / stored(tmp_path)[-1]
    largest = max(files_of(last), key=lambda path: path.stat().st_size if path.parent.name == "d" else 0)
    damage(largest)
    with pytest.warns(UserWarning, match=f"{last.name} cannot be read"):
        again = run(tmp_path, 2)
    assert bits(again) == bits(whole)
    assert bits(run(tmp_path, 2)) == bits(whole)  # and it is whole again


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_damage_to_any_file_changes_no_bit(tmp_path, whole):
    run(tmp_path, 3)
    for number in range(len(files_of(tmp_path / "epoch_00000007"))):
        files = files_of(tmp_path / "epoch_00000007")  # of which orbax does not always write as many
        truncate(files[number % len(files)])
        assert bits(run(tmp_path, 3)) == bits(whole)


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_a_flipped_bit_anywhere_changes_no_bit_of_the_result(tmp_path, whole):
    run(tmp_path, 3)
    for number in range(8):
        files = files_of(tmp_path / "epoch_00000007")
        largest = max(files, key=lambda path: path.stat().st_size if path.parent.name == "d" else 0)
        flip_one(largest, largest.stat().st_size * number // 8)
        assert bits(run(tmp_path, 3)) == bits(whole)


def test_an_empty_checkpoint_is_as_good_as_a_damaged_one(tmp_path, whole):
    run(tmp_path, 5)
    (tmp_path / "epoch_00000006").mkdir()  # of no piece, but of a name that counts
    (tmp_path / "epoch_00000007").rename(tmp_path.parent / f"{tmp_path.name}-away")
    with pytest.warns(UserWarning, match="epoch_00000006 cannot be read"):
        assert bits(run(tmp_path, 5)) == bits(whole)


def test_no_readable_checkpoint_is_an_error(tmp_path):
    run(tmp_path, 3)
    for name in stored(tmp_path):
        for file in files_of(tmp_path / name):
            file.unlink()
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read"),
    ):
        run(tmp_path, 3)
    assert stored(tmp_path) == ["epoch_00000006", "epoch_00000007"]


@pytest.mark.parametrize(("first", "every"), [(2, 5), (5, 3), (6, 3)])
def test_a_run_may_be_made_longer(tmp_path, whole, first, every):
    assert bits(run(tmp_path, every, num_epochs=first)) == bits(run(num_epochs=first))
    assert bits(run(tmp_path, every)) == bits(whole)
    with pytest.raises(CheckpointError, match="holds 7 epochs and num_epochs is 3"):
        run(tmp_path, every, num_epochs=3)


@pytest.mark.parametrize("stop_after", [3, 4])
def test_a_run_that_is_done_writes_nothing_again(tmp_path, monkeypatch, stop_after):
    first = run(tmp_path, 3, stop_after=stop_after)
    assert bits(first) == bits(run(stop_after=stop_after))
    assert stored(tmp_path)[-1] == f"epoch_{stop_after:08d}"
    with monkeypatch.context() as patch:
        saves_until(patch, 0)
        assert bits(run(tmp_path, 3, stop_after=stop_after)) == bits(first)


def test_another_processor_or_other_flags_are_said(tmp_path, whole, monkeypatch):
    run(tmp_path, num_epochs=3)
    monkeypatch.setattr(checkpoints, "compiler", lambda: {"XLA_FLAGS": "--xla_other", "processor": "another"})
    with pytest.warns(UserWarning, match=r"another compiler or processor \(XLA_FLAGS is '--xla_other', and was"):
        assert bits(run(tmp_path)) == bits(whole)


def test_settings_of_jax_are_named(tmp_path):
    run(tmp_path)
    with (
        jax.default_matmul_precision("float32"),
        pytest.raises(CheckpointError, match="jax_default_matmul_precision is float32, and was None"),
    ):
        run(tmp_path)


@pytest.mark.parametrize(
    ("directory", "error", "message"),
    [
        ("gs://bucket/run", ValueError, "a directory of this machine's file systems"),
        (3, TypeError, "the path of a directory, got 3"),
        (False, TypeError, "the path of a directory"),
        (b"run", TypeError, "the path of a directory"),
    ],
)
def test_what_is_no_local_directory_is_refused(directory, error, message):
    with pytest.raises(error, match=message):
        bx.fit(
            jax.random.key(0), method(), jnp.float32(0), numbered(4), num_epochs=1, sampler=bx.full_batch(),
            checkpoint=directory, every=1,
        )  # fmt: skip


def test_a_disk_that_fills_up_inside_orbax_is_left_as_it_was(tmp_path, whole, monkeypatch):
    run(tmp_path, 3, num_epochs=3)

    def full(self, draft, stored):
        half = Path(f"{draft}.orbax-checkpoint-tmp")
        half.mkdir()
        (half / "data").write_bytes(bytes(100))
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

    before = sorted(path.name for path in tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("orbax.checkpoint.PyTreeCheckpointer.save", full)
        with pytest.raises(CheckpointError, match=r"RESOURCE_EXHAUSTED.*the checkpoints before are intact"):
            run(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert bits(run(tmp_path, 3)) == bits(whole)


def test_other_peoples_directories_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(CheckpointError, match=r"holds 'thesis\.tex' and no run\.json"):
        run(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be written"):
        run(tmp_path / "thesis.tex")


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        saves_until(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, 3)

    def full(path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_sync", full)
        with pytest.raises(CheckpointError, match=r"epoch_00000006 cannot be .*No space left.*before are intact"):
            run(tmp_path, 3)
    assert stored(tmp_path) == ["epoch_00000003"]
    assert not list(tmp_path.glob(".draft*"))
    assert bits(run(tmp_path, 3)) == bits(whole)


def test_two_processes_do_not_share_a_directory(tmp_path):
    run(tmp_path)
    with checkpoints._only_process(tmp_path), pytest.raises(CheckpointError, match="another process"):
        run(tmp_path)
    run(tmp_path)


def test_a_traced_run_is_refused(tmp_path):
    def train(rate):
        return run(tmp_path, rate=rate).state.params

    for transformed, rate in ((jax.jit(train), 1.0), (jax.vmap(train), jnp.ones(2)), (jax.grad(train), 1.0)):
        with pytest.raises(ValueError, match="checkpoint writes files"):
            transformed(rate)
    with pytest.raises(ValueError, match="checkpoint writes files"):
        jax.jit(lambda: run(tmp_path).state.params)()  # nothing that is given is traced
    assert not list(tmp_path.iterdir())


def test_checkpoint_and_every_go_together(tmp_path):
    fixed = (jax.random.key(0), method(), jnp.float32(0), numbered(4))
    for options, message in [
        ({"checkpoint": tmp_path}, "checkpoint needs every"),
        ({"every": 3}, "every needs checkpoint"),
        ({"checkpoint": tmp_path, "every": 0}, "every must be a positive integer"),
        ({"checkpoint": tmp_path, "every": 1.5}, "every must be a positive integer"),
    ]:
        with pytest.raises(ValueError, match=message):
            bx.fit(*fixed, num_epochs=1, sampler=bx.full_batch(), **options)


def test_without_orbax_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'badrjax\[checkpoints\]'"):
        run(tmp_path)


@pytest.mark.slow
def test_a_killed_run_comes_to_the_same_bits(tmp_path):
    """SIGKILL at random moments; the last process ends by itself."""
    generator, kills = random.Random(0), 0
    directory = tmp_path / "run"
    while kills < 6:
        process = subprocess.Popen([sys.executable, __file__, str(directory)], cwd=Path(__file__).parents[1])
        before = stored(directory) if directory.exists() else []
        while process.poll() is None and (stored(directory) if directory.exists() else []) == before:
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.4))
        assert process.poll() is None, "the run ended before it could be killed: it must be made longer"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kills += 1
    subprocess.run([sys.executable, __file__, str(directory)], cwd=Path(__file__).parents[1], check=True)
    assert bits(long_run(directory)) == bits(long_run())


def long_run(directory=None):
    return run(directory, 2, num_epochs=200)


if __name__ == "__main__":
    long_run(Path(sys.argv[1]))
