"""Sweeps on Ray: the same bits as without, and whoever is killed, nothing is lost and nothing is stored twice."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from badrjax.sweeps import ray_executor, sweep
from badrjax.sweeps.ray_worker import SpreadWorker
from badrjax.sweeps.trials import as_columns, group_trials

from . import cases, ray_script
from .script import go
from .test_processes import ROOT, check, finished, wait_for_blocks
from .test_sweep import assert_same

local = partial(sweep, progress=False)
on_ray = partial(sweep, progress=False, executor="ray")
on_one = partial(on_ray, resources={"num_cpus": 2})  # one process only, which starts sooner


@pytest.fixture(scope="module")
def cluster():
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def undisturbed():
    return go().frame()


def drive(store, *address):
    """A driver in a process of its own."""
    command = [sys.executable, "-m", "tests.sweeps.ray_script", str(store), *address]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def holders(store):
    """The processes at work."""
    found = []
    for path in (store / "leases").glob("[!.]*-*.json"):
        try:
            found.append(json.loads(path.read_text())["pid"])
        except (FileNotFoundError, ValueError):
            continue
    return found


def kill_one_at_work(store, driver):
    """SIGKILL for a process that holds a block; whether there was one."""
    while driver.poll() is None:
        for pid in holders(store):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def test_the_results_are_those_without_ray_to_the_bit(cluster, tmp_path):
    table = cases.trials(kind=["plain", "double"], steps=[3])
    frame = on_ray(cases.run, table, store=tmp_path, block=4).frame()
    assert_same(frame, local(cases.run, table, block=4).frame())
    assert list((tmp_path / "leases").iterdir()) == []
    before = finished(tmp_path)
    assert len(before) == 8
    assert_same(on_ray(cases.run, table, store=tmp_path).frame(), frame)
    assert_same(local(cases.run, table, store=tmp_path).frame(), frame)
    assert finished(tmp_path) == before


@pytest.mark.slow
def test_what_is_bound_and_the_settings_of_jax_reach_the_processes(cluster, tmp_path):
    with jax.enable_x64(True):
        run = Partial(
            ray_script.bound,
            table=jnp.linspace(0, 1, 64).reshape(8, 8),
            offset=jnp.asarray(0.1),
            other=jax.random.key(7),
        )
        wide = on_one(run, cases.trials(seeds=2), store=tmp_path, block=4).frame()
        assert_same(wide, local(run, cases.trials(seeds=2), block=4).frame())
    assert np.float32(wide["value"][0]) != wide["value"][0]


def test_a_worker_of_several_leaves_the_others_their_share():
    worker = SpreadWorker(Partial(cases.run), group_trials(as_columns(cases.trials())), jax.devices()[:1])
    worker.processes = 2
    assert worker.width_of(worker.groups[0], 15) == 8
    worker.processes = 1
    assert worker.width_of(worker.groups[0], 15) == 15


@pytest.mark.slow
def test_blocks_of_automatic_width_are_enough_for_all_processes(cluster, tmp_path):
    frame = on_ray(cases.run, cases.trials(), store=tmp_path).frame()
    assert len(finished(tmp_path)) == 2
    assert_same(frame, local(cases.run, cases.trials(), block=8).frame())


def test_what_cannot_be_sent_is_said_before_ray_is_asked(tmp_path):
    lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot tell one lock from another"):
        on_ray(lambda key, rate: rate * bool(lock), cases.trials(), store=tmp_path)


@pytest.mark.slow
def test_a_killed_worker_loses_its_block_alone(cluster, tmp_path, undisturbed):
    driver = drive(tmp_path, cluster)
    wait_for_blocks(tmp_path, 2, driver)
    assert kill_one_at_work(tmp_path, driver)
    _, errors = driver.communicate()
    assert driver.returncode == 0, errors.decode()
    assert len(finished(tmp_path)) == 12
    check(tmp_path, undisturbed, finished(tmp_path))


@pytest.mark.slow
def test_a_killed_driver_is_taken_up_where_it_was(cluster, tmp_path, undisturbed):
    driver = drive(tmp_path, cluster)
    wait_for_blocks(tmp_path, 3, driver)
    driver.kill()
    driver.communicate()
    before = finished(tmp_path)
    assert 3 <= len(before) < 12
    frame = go(store=tmp_path, executor="ray").frame()
    assert_same(frame, undisturbed)
    check(tmp_path, undisturbed, before)


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_finished_and_gives_the_leases_back(cluster, tmp_path, undisturbed):
    driver = drive(tmp_path, cluster)
    wait_for_blocks(tmp_path, 2, driver)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate()
    assert driver.returncode != 0
    assert b"KeyboardInterrupt" in errors
    before = finished(tmp_path)
    assert 2 <= len(before) < 12
    assert list((tmp_path / "leases").glob("[!.]*")) == []
    check(tmp_path, undisturbed, before)


@pytest.mark.slow
def test_ray_is_started_where_it_is_not_running_and_stopped_then(tmp_path, undisturbed):
    driver = drive(tmp_path)
    output, errors = driver.communicate()
    assert driver.returncode == 0, errors.decode()
    assert output.split()[-1] == b"stopped"
    check(tmp_path, undisturbed, finished(tmp_path))


def test_an_error_of_the_run_reaches_the_caller_and_finished_blocks_are_kept(cluster, tmp_path):
    import ray

    both = cases.trials(kind=["good", "bad"])
    with pytest.raises(ValueError, match="kind 'bad' is not to be had"):
        on_one(ray_script.picky, both, store=tmp_path, block=4)
    assert ray.is_initialized()
    before = finished(tmp_path)
    assert len(before) == 4
    good = cases.trials(kind=["good"])
    assert_same(local(ray_script.picky, good, store=tmp_path).frame(), local(ray_script.picky, good, block=4).frame())
    assert finished(tmp_path) == before


@pytest.mark.slow
def test_an_error_that_cannot_be_pickled_still_says_what_it_said(cluster, tmp_path):
    with pytest.raises(Exception, match="this and that"):
        on_one(ray_script.awkward, cases.trials(seeds=1), store=tmp_path, block=4)


@pytest.mark.slow
def test_memory_that_runs_out_halves_what_is_left(cluster, tmp_path, capsys):
    table = cases.trials(seeds=4)
    frame = on_one(ray_script.roomy, table, store=tmp_path, block=8, progress="json").frame()
    assert_same(frame, local(ray_script.plain, table, block=2).frame())
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any("memory ran out at 8" in event.get("text", "") for event in events)
    assert (events[-1]["event"], events[-1]["done"], events[-1]["total"]) == ("end", 12, 12)


@pytest.mark.slow
def test_a_block_that_ends_every_process_is_given_up(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "_RETRIES", 1)
    with pytest.raises(RuntimeError, match=r"block .* ended its Ray process 2 times in a row"):
        on_one(ray_script.deadly, cases.trials(seeds=1), store=tmp_path, block=4)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"store": None}, "needs store="),
        ({"devices": []}, "takes no devices"),
        ({"resources": {"num_cpus": 0}}, "resources must ask for something"),
        ({"resources": {"num_gpus": 64}}, "fit on no node of the Ray cluster"),
        ({"ray_options": {"num_cpus": 1}}, "Ray is running already"),
        ({"executor": "local", "resources": {"num_cpus": 1}}, "are for executor 'ray'"),
    ],
)
def test_bad_requests_are_answered_before_anything_runs(cluster, tmp_path, keywords, message):
    with pytest.raises(ValueError, match=message):
        on_ray(cases.run, cases.trials(), **({"store": tmp_path} | keywords))
    assert finished(tmp_path) == {}


def test_without_ray_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'badrjax\[ray\]'"):
        ray_executor.RayExecutor(tmp_path)


@pytest.mark.slow
def test_a_worker_is_killed_at_random_twenty_times(cluster, tmp_path, undisturbed):
    chance = random.Random(0)
    kills = 0
    for number in range(30):
        store = tmp_path / str(number)
        driver = drive(store, cluster)
        wait_for_blocks(store, chance.randrange(0, 8), driver)
        time.sleep(chance.uniform(0, 0.5))
        kills += kill_one_at_work(store, driver)
        _, errors = driver.communicate()
        assert driver.returncode == 0, errors.decode()
        check(store, undisturbed, finished(store))
        if kills == 20:
            break
    assert kills == 20


@pytest.mark.slow
def test_the_driver_is_killed_at_random_twenty_times(cluster, tmp_path, undisturbed):
    chance = random.Random(1)
    for number in range(20):
        store = tmp_path / str(number)
        driver = drive(store, cluster)
        wait_for_blocks(store, chance.randrange(0, 8), driver)
        time.sleep(chance.uniform(0, 0.5))
        driver.kill()
        driver.communicate()
        before = finished(store)
        assert_same(go(store=store, executor="ray").frame(), undisturbed)
        check(store, undisturbed, before)
