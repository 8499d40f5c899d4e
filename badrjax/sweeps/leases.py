"""Leases: which of several processes, on one file system, is at work on what."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from badrjax.sweeps.errors import store_error

DEFAULT_SECONDS = 60.0


class Lease:
    """A file that says who is at work, kept young by a heartbeat.

    It is made by exclusive creation, so only one process holds it. A holder that dies stops the heartbeat; after
    `seconds`, or at once where its process is known to be dead, another may take its place. A holder that was
    only slow may find its lease gone: nothing is lost then but work, for results are stored once.

    Args:
        path: where the file lies.
        seconds: age at which a lease counts as left behind.
    """

    def __init__(self, path: Path, seconds: float = DEFAULT_SECONDS) -> None:
        if not 0 < seconds < float("inf"):
            raise ValueError(f"lease_seconds must be a positive number, got {seconds!r}")
        self.path, self.seconds = path, seconds
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> bool:
        """Take the lease if it is free or left behind; whether it is ours now.

        Raises:
            StoreError: for a full disk, or a directory that cannot be written.
        """
        try:
            if self.path.exists() and not self._take_away():
                return False
            if not self._create():
                return False
            self._thread = threading.Thread(target=self._beat, name="heartbeat of a lease", daemon=True)
            self._thread.start()
        except OSError as error:
            raise store_error(self.path.parent, error) from error
        except BaseException:
            self._give_back()  # an interrupt in the middle must not leave a lease that nobody knows of
            raise
        return True

    def release(self) -> None:
        """Give it back; harmless if it is no longer ours."""
        try:
            self._give_back()
        except KeyboardInterrupt:
            self._give_back()  # first things first
            raise

    def _give_back(self) -> None:
        self._stop.set()
        if self.is_ours():
            with suppress(OSError):  # where it cannot be removed, it expires
                self.path.unlink()
        if self._thread is not None and self._thread.ident is not None:  # else it was never started
            self._thread.join()

    def is_ours(self) -> bool:
        """Whether the file is still the one that we made."""
        return _read(self.path).get("token") == self._token

    def _create(self) -> bool:
        content = {"token": self._token, **_who(), "seconds": self.seconds}
        # Written before it has its name: a lease that is there is never empty.
        draft = self.path.with_name(f".{self.path.name}.{self._token}")
        draft.write_text(json.dumps(content))
        try:
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _take_away(self) -> bool:
        """Move a lease that was left behind out of the way, if it is one; of several processes one succeeds."""
        holder = _read(self.path)
        if not self._left_behind(holder):
            return False
        grave = self.path.with_name(f".{self.path.name}.{self._token}.old")
        try:
            os.rename(self.path, grave)
        except FileNotFoundError:
            return not self.path.exists()
        try:
            if _read(grave).get("token") != holder.get("token"):
                # Another process was quicker, and this is its new lease: put it back.
                with suppress(FileExistsError):
                    os.link(grave, self.path)
                return False
        finally:
            grave.unlink(missing_ok=True)
        return True

    def _left_behind(self, holder: dict[str, Any]) -> bool:
        if _is_dead(holder):
            return True
        with suppress(FileNotFoundError):
            # The holder's own patience, which another process need not share.
            return self._now() - self.path.stat().st_mtime > float(holder.get("seconds", self.seconds))
        return True  # it has just been released

    def _now(self) -> float:
        """The time of the file system, which may not be this machine's."""
        probe = self.path.with_name(f".{self.path.name}.{self._token}.now")
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(self.seconds / 4):
            holder = _read(self.path)
            if holder and holder.get("token") != self._token:
                return  # another's; an unreadable one may only be late
            with suppress(OSError):
                os.utime(self.path)  # gone, if it has just been released


@contextmanager
def held(path: Path, seconds: float = DEFAULT_SECONDS, poll: float = 0.05) -> Iterator[None]:
    """Hold the lease at `path`, waiting for it while another process does."""
    lease = Lease(path, seconds)
    try:
        while not lease.acquire():
            time.sleep(poll)
        yield
    finally:
        lease.release()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _who() -> dict[str, Any]:
    """This process: its machine for people, its number, and all that makes the number mean something."""
    return {"host": socket.gethostname(), "world": _world(), "pid": os.getpid(), "started": _started("self")}


def _world() -> str:
    """Where numbers of processes are unique: a run of a kernel and, in it, what a container sees. Empty: unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder's process is known to be gone; its number may be another process's by now."""
    here = _world()
    return bool(here) and holder.get("world") == here and _started(str(holder.get("pid", ""))) != holder.get("started")


def _started(pid: str) -> str:
    """When a process started, in the kernel's ticks; empty for one that is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
