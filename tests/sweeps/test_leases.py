import errno
import json
import linecache
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from badrjax.sweeps import leases
from badrjax.sweeps.errors import StoreError
from badrjax.sweeps.leases import Lease, held

LEASES = leases.__file__


@pytest.fixture
def path(tmp_path):
    return tmp_path / "block.json"


def test_only_one_holds_a_lease(path):
    first, second = Lease(path), Lease(path)
    assert first.acquire()
    assert not second.acquire()
    assert (first.is_ours(), second.is_ours()) == (True, False)
    second.release()
    assert first.is_ours()
    first.release()
    assert second.acquire()
    second.release()
    assert list(path.parent.iterdir()) == []


def test_of_many_threads_one_gets_it(path):
    start, won = threading.Barrier(16), []

    def race():
        lease = Lease(path)
        start.wait()
        if lease.acquire():
            won.append(lease)

    threads = [threading.Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].release()


def test_a_heartbeat_keeps_it_and_silence_loses_it(path):
    lease = Lease(path, seconds=0.2)
    assert lease.acquire()
    time.sleep(0.5)
    assert not Lease(path, seconds=0.2).acquire()
    lease._stop.set()  # as in a process that hangs
    _other_host(path)
    time.sleep(0.5)
    successor = Lease(path, seconds=0.2)
    assert successor.acquire()
    assert not lease.is_ours()
    lease.release()  # must not take the successor's away
    assert successor.is_ours()
    successor.release()


def _other_host(path):
    """Let the holder be on another machine, whose processes cannot be looked at."""
    content = json.loads(path.read_text())
    age = path.stat().st_mtime
    path.write_text(json.dumps(content | {"host": "elsewhere", "world": "another kernel"}))
    os.utime(path, (age, age))


def test_the_lease_of_a_dead_process_is_taken_at_once(path):
    program = f"from pathlib import Path; from badrjax.sweeps.leases import Lease; import os; \
Lease(Path({str(path)!r})).acquire(); os._exit(1)"
    subprocess.run([sys.executable, "-c", program], check=False)
    assert path.exists()
    lease = Lease(path, seconds=1000)
    assert lease.acquire()
    lease.release()


@pytest.mark.parametrize("world", ["another kernel", "", None])
def test_a_lease_on_another_machine_is_waited_for(path, world):
    # Its host may have this one's name: containers do not always differ in it.
    path.write_text(json.dumps({"token": "x", "host": socket.gethostname(), "world": world, "pid": 1, "started": "1"}))
    assert not Lease(path, seconds=1000).acquire()
    os.utime(path, (0, 0))
    lease = Lease(path, seconds=1000)
    assert lease.acquire()
    lease.release()


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_file_that_is_no_lease_expires_like_one(path, content):
    path.write_text(content)
    assert not Lease(path, seconds=1000).acquire()
    os.utime(path, (0, 0))
    lease = Lease(path, seconds=1000)
    assert lease.acquire()
    lease.release()


def test_held_waits_its_turn(path):
    order = []

    def work(name):
        with held(path, poll=0.01):
            order.append(name + " in")
            time.sleep(0.05)
            order.append(name + " out")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.split()[1] for entry in order] == ["in", "out"] * 3
    assert not path.exists()


def test_of_two_takers_of_an_expired_lease_one_gets_it(path, monkeypatch):
    path.write_text(json.dumps({"token": "x", "host": "elsewhere", "pid": 1, "started": "1", "seconds": 1}))
    os.utime(path, (0, 0))
    quick, slow = Lease(path), Lease(path)

    def judged(holder):
        """The slow one finds the lease expired, and then the quick one takes it."""
        assert holder["token"] == "x"
        assert quick.acquire()
        return True

    monkeypatch.setattr(slow, "_left_behind", judged)
    assert not slow.acquire()
    assert quick.is_ours()
    quick.release()
    assert list(path.parent.iterdir()) == []


def lines_of_leases(interrupt_at, action):
    """How many lines of leases.py an action runs; the one of that number is interrupted."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename != LEASES:
            return None
        # Giving it back cannot itself be guarded.
        if event == "line" and "release" not in (frame.f_code.co_name + linecache.getline(LEASES, frame.f_lineno)):
            count += 1
            if count == interrupt_at:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
    return count


def test_an_interrupt_at_any_line_leaves_no_lease(path):
    def hold():
        with held(path, seconds=5):
            pass

    for number in range(1, lines_of_leases(None, hold) + 1):
        with pytest.raises(KeyboardInterrupt):
            lines_of_leases(number, hold)
        assert not path.exists(), number
    for _ in range(100):  # heartbeats end by themselves
        if not any(thread.name == "heartbeat of a lease" for thread in threading.enumerate()):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("a heartbeat goes on")


def test_the_holders_patience_counts_and_not_the_others(path):
    patient = Lease(path, seconds=100)
    assert patient.acquire()
    patient._stop.set()
    _other_host(path)
    os.utime(path, (time.time() - 10,) * 2)
    assert not Lease(path, seconds=0.1).acquire()
    patient.release()


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "written")]
)
def test_a_lease_that_cannot_be_written_is_named(path, monkeypatch, number, message):
    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match=message):
        Lease(path).acquire()
    assert list(path.parent.iterdir()) == []


def test_a_lease_that_cannot_be_removed_is_left_to_expire(path, monkeypatch):
    lease = Lease(path, seconds=0.05)
    assert lease.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
        lease.release()
    assert path.exists()
    time.sleep(0.2)
    other = Lease(path)
    assert other.acquire()
    other.release()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_lease_of_no_length_is_refused(path, seconds):
    with pytest.raises(ValueError, match="lease_seconds must be a positive number"):
        Lease(path, seconds)
