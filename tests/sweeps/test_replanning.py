"""Plans and blocks that other processes make, finish or replace while this one looks, runs or halves."""

import dataclasses
from contextlib import contextmanager
from functools import partial

import jax
from jax.tree_util import Partial

from badrjax.sweeps import Store, programs, running, sweep
from badrjax.sweeps import store as store_module
from badrjax.sweeps.identity import identify
from badrjax.sweeps.leases import Lease
from badrjax.sweeps.progress import Progress
from badrjax.sweeps.running import try_block
from badrjax.sweeps.trials import as_columns, group_trials
from badrjax.sweeps.worker import Worker

from . import cases
from .test_sweep import assert_same

quiet = partial(sweep, progress=False)


def test_a_plan_that_came_too_late_is_made_again(tmp_path, monkeypatch):
    """A process that hangs while it plans, past its lease, must not plan what another has planned meanwhile."""
    real, calls = Store.add_plan, []

    def late(self, plan, after):
        if not calls:
            calls.append(1)  # before the other process, which comes this way, too
            other = cases.trials(rates=(0.1, 0.2, 0.4))
            quiet(cases.run, other, store=tmp_path, block=2)
        return real(self, plan, after)

    @contextmanager
    def unguarded(self):
        yield

    monkeypatch.setattr(Store, "add_plan", late)
    monkeypatch.setattr(Store, "planning", unguarded)
    quiet(cases.run, cases.trials(), store=tmp_path, block=4)
    plans = Store(tmp_path, identify(Partial(cases.run))).plans()
    assert [(plan.width, len(plan.trials)) for plan in plans] == [(2, 15), (4, 5)]
    ids = [identity for plan in plans for identity in plan.ids]
    assert len(ids) == len(set(ids)) == 20


def halving(store, monkeypatch, meanwhile):
    """A sweep of sixteen trials whose block 1 runs out of memory; `meanwhile(other, plan)` is another process."""
    real, calls = programs.run_block, []

    def short_of_memory(program, *arguments):
        calls.append(program.width)
        if program.width == 4 and calls.count(4) == 2:
            other = Store(store, identify(Partial(cases.run)))
            meanwhile(other, other.plans()[0])
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
        return real(program, *arguments)

    monkeypatch.setattr(programs, "run_block", short_of_memory)
    monkeypatch.setattr(store_module, "_own_place", lambda: 0.0)
    result = quiet(cases.run, cases.trials(rates=[0.1, 0.2], seeds=8), store=store, block=4).frame()
    monkeypatch.setattr(programs, "run_block", real)
    return result


def trials_stored(store):
    import pyarrow.parquet

    return [t for path in (store / "blocks").iterdir() for t in pyarrow.parquet.read_table(path)["trial"].to_pylist()]


def finish(keeper, plan, index):
    """Another process runs a block."""
    groups = group_trials(as_columns(cases.trials(rates=[0.1, 0.2], seeds=8)))
    assert try_block(Worker(Partial(cases.run), groups, jax.devices()[:1]), keeper, plan, index, Progress(0))


def test_halving_leaves_a_block_that_is_finished_meanwhile(tmp_path, monkeypatch):
    real = running._take

    def slow(keeper, block, taken):
        """Another process finishes the block, and gives its lease back, just before this one takes it."""
        if block.number == 3 and not keeper.has(block):
            monkeypatch.setattr(running, "_take", real)
            acquire = Lease.acquire

            def after_it_is_finished(lease):
                monkeypatch.setattr(Lease, "acquire", acquire)
                finish(keeper, keeper.plans()[0], 3)
                return acquire(lease)

            monkeypatch.setattr(Lease, "acquire", after_it_is_finished)
        return real(keeper, block, taken)

    monkeypatch.setattr(running, "_take", slow)
    halving(tmp_path, monkeypatch, lambda other, plan: None)
    stored = trials_stored(tmp_path)
    assert len(stored) == len(set(stored)) == 16


def test_a_block_that_another_process_replaced_is_not_stored(tmp_path, monkeypatch):
    real, calls = programs.run_block, []

    monkeypatch.setattr(store_module, "_own_place", lambda: 0.0)

    def slow(program, *arguments):
        calls.append(program.width)
        if len(calls) == 1:  # while it runs, another process thinks this one dead, and memory runs out there
            other = Store(tmp_path, identify(Partial(cases.run)))
            assert running._replace(other, other.plans()[0], 0, 2, other.plans()[0].origin)
        return real(program, *arguments)

    monkeypatch.setattr(programs, "run_block", slow)
    frame = quiet(cases.run, cases.trials(rates=[0.1, 0.2], seeds=8), store=tmp_path, block=4).frame()
    stored = trials_stored(tmp_path)
    assert len(stored) == len(set(stored)) == 16
    monkeypatch.setattr(programs, "run_block", real)
    assert_same(quiet(cases.run, cases.trials(rates=[0.1, 0.2], seeds=8), store=tmp_path).frame(), frame)


def test_what_another_process_has_replaced_or_finished_is_not_replaced_again(tmp_path, monkeypatch):
    def replaced(other, plan):
        assert running._replace(other, plan, 1, 2, plan.origin)

    halving(tmp_path / "a", monkeypatch, replaced)
    halving(tmp_path / "b", monkeypatch, lambda other, plan: finish_unleased(other, plan))
    for name, plans in (("a", 2), ("b", 1)):
        stored = trials_stored(tmp_path / name)
        assert len(stored) == len(set(stored)) == 16
        assert len(list((tmp_path / name / "plans").iterdir())) == plans


def finish_unleased(keeper, plan):
    """Another process, which took the lease for lost, stores block 1."""
    groups = group_trials(as_columns(cases.trials(rates=[0.1, 0.2], seeds=8)))
    assert keeper.write(plan, 1, *Worker(Partial(cases.run), groups, jax.devices()[:1]).results(plan, 1), 0.0)


def test_a_plan_between_looking_and_halving_makes_it_look_again(tmp_path, monkeypatch):
    real, calls = Store.add_plan, []

    def late(self, plan, after):
        if plan.replaces and not calls:
            calls.append(1)
            other = Store(tmp_path, identify(Partial(cases.run)))
            foreign = dataclasses.replace(plan, replaces="", void=(), trials=({"id": "x", "seed": 1, "settings": {}},))
            assert real(other, foreign, other.plans())
        return real(self, plan, after)

    monkeypatch.setattr(Store, "add_plan", late)
    halving(tmp_path, monkeypatch, lambda other, plan: None)
    plans = Store(tmp_path, identify(Partial(cases.run))).plans()
    assert [bool(plan.replaces) for plan in plans] == [False, False, True]
