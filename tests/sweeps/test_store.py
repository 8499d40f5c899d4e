"""What a store refuses, and what stays intact."""

import errno
import json
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from badrjax.sweeps import StoreError, store, sweep
from badrjax.sweeps.identity import identify

from . import cases
from .test_sweep import assert_same, blocks_of

quiet = partial(sweep, progress=False)
resume = partial(quiet, cases.run, cases.trials())


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A finished sweep of four blocks."""
    directory = tmp_path_factory.mktemp("sweep")
    return directory, quiet(cases.run, cases.trials(), store=directory, block=4).frame()


@pytest.fixture
def finished(original, tmp_path):
    import shutil

    directory = tmp_path / "copy"
    shutil.copytree(original[0], directory)
    return directory


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_block_is_named_and_its_trials_alone_run_again(finished, original, kept):
    path = finished / "blocks" / blocks_of(finished)[1]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=rf"{path.name} cannot be read .*only its \d trials are run again"):
        resume(store=finished)
    before = {name: (finished / "blocks" / name).stat().st_mtime_ns for name in blocks_of(finished)}
    path.unlink()
    assert_same(resume(store=finished).frame(), original[1])
    changed = {name for name in before if (finished / "blocks" / name).stat().st_mtime_ns != before[name]}
    assert changed == {path.name}


def test_a_block_under_another_name_is_noticed(finished):
    first, second = (finished / "blocks" / name for name in blocks_of(finished)[:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(StoreError, match="it holds other trials than its name says"):
        resume(store=finished)


@pytest.mark.parametrize("place", ["blocks/notes.txt", "blocks/more.parquet", "plans/other.json", "plans/00009.json"])
def test_a_foreign_file_is_named(finished, original, place):
    (finished / place).write_text("{}")
    with pytest.raises(StoreError, match=rf"{place.split('/')[1]}.* the rest of the store is intact"):
        resume(store=finished)
    (finished / place).unlink()
    assert_same(resume(store=finished).frame(), original[1])


def test_a_finished_store_is_read_where_nothing_can_be_written(finished, original, monkeypatch):
    def never(*_, **__):
        raise OSError(errno.EROFS, "read-only")

    for module, name in ((os, "link"), (os, "utime"), (Path, "write_text"), (Path, "touch")):
        monkeypatch.setattr(module, name, never)
    assert_same(resume(store=finished).frame(), original[1])
    with pytest.raises(StoreError, match="it cannot be written"):
        quiet(cases.run, cases.trials(rates=[0.7]), store=finished)


def test_a_directory_that_cannot_be_entered_is_named(tmp_path, monkeypatch):
    def locked(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self.directory))

    monkeypatch.setattr(store.Store, "_check_own", locked)
    with pytest.raises(StoreError, match="it may not be written"):
        resume(store=tmp_path / "locked")


def test_blocks_that_come_while_others_are_listed_are_not_foreign(tmp_path, monkeypatch):
    quiet(cases.run, cases.trials(rates=[0.1]), store=tmp_path, block=4)
    looking = store.Store(tmp_path, identify(Partial(cases.run)))
    real = store.Store.plans

    def slow(self):
        known = real(self)
        if self is looking:  # and now another process plans and finishes more
            monkeypatch.setattr(store.Store, "plans", real)
            quiet(cases.run, cases.trials(rates=[0.2]), store=tmp_path, block=4)
        return known

    monkeypatch.setattr(store.Store, "plans", slow)
    assert len(looking.finished()) == 2
    assert len(looking.finished()) == 4


def test_what_a_killed_process_left_half_written_is_passed_over(finished, original):
    (finished / "blocks" / ".abc.parquet.123").write_bytes(b"half")
    (finished / "plans" / ".abc.json.123").write_text("{")
    assert_same(resume(store=finished).frame(), original[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [("not json", "is not the description of a sweep"), (json.dumps({"format": 99}), "has format 99")],
)
def test_another_description_is_refused(finished, content, message):
    (finished / "sweep.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        resume(store=finished)


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match=r"holds 'thesis\.tex' and no sweep\.json"):
        resume(store=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the store "):
        resume(store=tmp_path / "file")


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written")]
)
def test_a_disk_that_fills_up_leaves_what_is_finished(tmp_path, monkeypatch, original, number, message):
    real, calls = store.write_block, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(store, "write_block", full)
    with pytest.raises(StoreError, match=f"{message}; the blocks that are finished are intact"):
        resume(store=tmp_path, block=4)
    assert len(blocks_of(tmp_path)) == 2
    assert list((tmp_path / "leases").iterdir()) == []
    assert_same(resume(store=tmp_path).frame(), original[1])


def test_results_of_every_type_and_shape_come_back_bit_for_bit(tmp_path):
    def kinds(key, rate):
        bits = jax.random.bits(key, (3,))
        return {
            "int": jnp.int32(7) + bits[0].astype(jnp.int32),
            "bits": bits,
            "flag": rate > 0.15,
            "table": rate * jnp.ones((2, 3)),
            "half": jnp.bfloat16(rate),
            "halves": jnp.full(2, rate, jnp.float16),
            "small": jnp.full(2, rate, jnp.float8_e4m3fn),
            "nan": jnp.array([jnp.nan, jnp.inf, -0.0]),
            "nothing": jnp.zeros((0,)),
            "pair": (rate, [rate * 2]),
        }

    memory, stored = (quiet(kinds, cases.trials(), store=place, block=4).frame() for place in (None, tmp_path))
    assert list(memory.columns) == list(stored.columns)
    assert {"pair.0", "pair.1.0"} < set(stored.columns)
    for name in memory.columns:
        for mine, theirs in zip(memory[name], stored[name], strict=True):
            np.testing.assert_array_equal(np.asarray(mine, np.float64), np.asarray(theirs, np.float64))
            assert np.shape(mine) == np.shape(theirs)
            assert type(mine) is type(theirs)
            assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None)
    assert stored["table"][0].shape == (2, 3)
    assert np.signbit(stored["nan"][0][2])
