"""Processes that die, and processes that share: nothing is lost, nothing runs twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .script import TRIALS, go
from .test_sweep import assert_same

ROOT = Path(__file__).parents[2]


def start(store, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sweeps.script", str(store)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finished(store):
    folder = store / "blocks"
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*")} if folder.is_dir() else {}


def trials_stored(store):
    import pyarrow.parquet

    return [
        trial
        for name in finished(store)
        for trial in pyarrow.parquet.read_table(store / "blocks" / name)["trial"].to_pylist()
    ]


@pytest.fixture(scope="module")
def undisturbed():
    return go().frame()


def wait_for_blocks(store, number, process, seconds=60):
    deadline = time.monotonic() + seconds
    while len(finished(store)) < number and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def check(store, undisturbed, before):
    frame = go(store=store).frame()
    assert_same(frame, undisturbed)
    after = finished(store)
    assert {name: after[name] for name in before} == before
    stored = trials_stored(store)
    assert len(stored) == len(set(stored)) == len(TRIALS["seed"])


def test_a_killed_process_loses_its_block_alone(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for_blocks(tmp_path, 2, process)
    process.kill()
    process.wait()
    before = finished(tmp_path)
    assert 2 <= len(before) < 12
    check(tmp_path, undisturbed, before)


def test_an_interrupt_gives_the_lease_back(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for_blocks(tmp_path, 1, process)
    process.send_signal(signal.SIGINT)
    process.wait()
    assert list((tmp_path / "leases").glob("[!.]*")) == []
    check(tmp_path, undisturbed, finished(tmp_path))


def test_two_processes_share_the_work(tmp_path, undisturbed):
    processes = [start(tmp_path) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    check(tmp_path, undisturbed, finished(tmp_path))
    assert len(list((tmp_path / "plans").iterdir())) == 2


@pytest.mark.slow
def test_one_of_three_is_killed_at_random_twenty_times(tmp_path, undisturbed):
    chance = random.Random(0)
    for number in range(20):
        store = tmp_path / str(number)
        processes = [start(store) for _ in range(3)]
        wait_for_blocks(store, chance.randrange(0, 8), processes[0])
        time.sleep(chance.uniform(0, 0.5))
        processes[0].kill()
        for process in processes:
            _, errors = process.communicate()
            assert process is processes[0] or process.returncode == 0, errors.decode()
        check(store, undisturbed, finished(store))


@pytest.mark.slow
def test_a_process_killed_twenty_times_gets_there(tmp_path, undisturbed):
    """Between two blocks, within one, and, now and then, before it has run any."""
    chance = random.Random(1)
    kills, stores = 0, [tmp_path / "0"]
    while kills < 20:
        process = start(stores[-1])
        if chance.random() < 0.7:
            wait_for_blocks(stores[-1], len(finished(stores[-1])) + 1, process)
        time.sleep(chance.uniform(0, 0.3 if finished(stores[-1]) else 3))
        kills += process.poll() is None
        process.kill()
        process.wait()
        if len(finished(stores[-1])) == 12:
            stores.append(tmp_path / str(len(stores)))
    for store in stores:
        check(store, undisturbed, finished(store))
        assert len(finished(store)) == 12


@pytest.mark.slow
def test_lanes_over_eight_devices_are_those_of_one(tmp_path, undisturbed):
    """Eight lanes over eight devices run as eight blocks of one lane, and resume so on one device."""
    program = "\n".join(
        [
            "import sys, jax; from tests.sweeps.script import go",
            "assert len(jax.devices()) == 8",
            "go(store=sys.argv[1], block=8)",
        ]
    )
    environment = os.environ | {
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    }
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    plan = json.loads(next((tmp_path / "plans").iterdir()).read_text())
    assert (plan["width"], plan["devices"]) == (8, 8)
    eight = go(store=tmp_path, block=8).frame()
    one = go(block=1).frame()
    assert_same(eight, one)
    lost = next((tmp_path / "blocks").iterdir())
    lost.unlink()
    assert_same(go(store=tmp_path).frame(), eight)


def test_more_devices_than_planned_change_no_bit(tmp_path, undisturbed):
    go(store=tmp_path)
    for lost in sorted((tmp_path / "blocks").iterdir())[:5]:
        lost.unlink()
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=3"
    program = "import sys; from tests.sweeps.script import go; go(store=sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert_same(go(store=tmp_path).frame(), undisturbed)
