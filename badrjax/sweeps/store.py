"""A directory that holds a sweep: what was planned, what is finished, who is at work on what."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from badrjax.extras import require
from badrjax.sweeps.blocks import PURPOSE, BlockResults, read_block, write_block
from badrjax.sweeps.errors import StoreError, store_error
from badrjax.sweeps.leases import DEFAULT_SECONDS, Lease, held
from badrjax.sweeps.plans import Block, Plan, is_void, plan_from_json

FORMAT = 1
_ABOUT = "sweep.json"
_FOLDERS = ("plans", "blocks", "leases")
_BLOCK_SUFFIX = ".parquet"
_PLAN_NAME = re.compile(r"\d{5,}\.json")


class Store:
    """A directory of finished blocks that several processes share.

    `sweep.json` says what is run; `plans/`, a numbered log, how the trials are cut into blocks; `blocks/` holds one
    Parquet file a finished block; `leases/` says who is at work. Files appear whole, under their name, or not at all,
    and none is ever changed.

    Args:
        directory: where it lies; made if it does not exist.
        about: what is run, as `badrjax.sweeps.identity.identify` describes it; must be the same in every call.
        lease_seconds: age at which the work of a silent process is taken over.

    Attributes:
        place: where among the blocks this process begins, in `[0, 1)`; no result depends on it.

    Raises:
        StoreError: for a directory that cannot be written, holds something else, or a sweep of another function.
    """

    def __init__(
        self, directory: str | os.PathLike[str], about: Mapping[str, Any], lease_seconds: float = DEFAULT_SECONDS
    ) -> None:
        require("pyarrow.parquet", PURPOSE)  # before anything runs
        self.directory, self.lease_seconds = Path(directory).expanduser(), lease_seconds
        self.place = _own_place()
        self._plans: dict[int, Plan] = {}  # plans never change, so each is read once
        try:
            self._check_own()
            for folder in _FOLDERS:
                (self.directory / folder).mkdir(parents=True, exist_ok=True)
            if not (self.directory / _ABOUT).exists():  # else nothing need be written
                self._write_once(self.directory / _ABOUT, json.dumps({"format": FORMAT, **about}, indent=2))
        except OSError as error:
            raise store_error(self.directory, error) from error
        self._check_about(about)

    def plans(self) -> list[Plan]:
        """All plans, in the order in which they were made.

        Raises:
            StoreError: for a file that is no plan.
        """
        for path in (self.directory / "plans").iterdir():
            if path.name.startswith("."):  # being written, or left by a process that died
                continue
            try:
                if not _PLAN_NAME.fullmatch(path.name):
                    raise ValueError("no plan of a sweep")
                if int(path.stem) not in self._plans:
                    self._plans[int(path.stem)] = plan_from_json(path.read_text())
            except (ValueError, OSError) as error:
                raise StoreError(
                    f"{path}: {error}; the rest of the store is intact. Move away what does not belong here; restore a "
                    "damaged plan from a copy, for without it its finished blocks must go, too, and run again"
                ) from error
        return [self._plans[number] for number in sorted(self._plans)]

    def planning(self) -> AbstractContextManager[None]:
        """Held while plans are made, so that other processes wait for them and do not make their own."""
        return held(self.directory / "leases" / "planning.json", self.lease_seconds)

    def add_plan(self, plan: Plan, after: Sequence[Plan]) -> bool:
        """Write a plan down as the next after those it rests on, unless another process was quicker; whether it is.

        So a plan always knows all that were made before it, and no trial is planned twice.
        """
        # Numbers only grow, so those that were known then are the first of those that are known now.
        number = sorted(self._plans)[len(after) - 1] + 1 if after else 0
        try:
            added = self._write_once(self.directory / "plans" / f"{number:05d}.json", plan.to_json())
        except OSError as error:
            raise store_error(self.directory, error) from error
        if added:
            self._plans[number] = plan
        return added

    def finished(self) -> set[str]:
        """Names of the finished blocks.

        Raises:
            StoreError: for a file that is no block of this sweep.
        """
        found = list((self.directory / "blocks").iterdir())
        # Read after the blocks: the plan of each of them was there before it.
        known = {block.name for plan in self.plans() for block in plan.blocks()}
        names = set()
        for path in found:
            if path.name.startswith("."):  # being written, or left by a process that died
                continue
            if path.suffix != _BLOCK_SUFFIX or path.stem not in known:
                raise StoreError(f"{path} is no block of this sweep; move it away, the rest of the store is intact")
            names.add(path.stem)
        return names

    def has(self, block: Block) -> bool:
        """Whether a block is finished."""
        return self._path(block).exists()

    def lease(self, block: Block) -> Lease:
        """The lease of a block, not yet acquired."""
        return Lease(self.directory / "leases" / f"{block.name}.json", self.lease_seconds)

    def write(self, plan: Plan, index: int, names: list[str], leaves: list[np.ndarray], seconds: float) -> bool:
        """Store a finished block; whether it was ours to store (another may have finished or replaced it meanwhile).

        Raises:
            StoreError: for a full disk or a directory that cannot be written; nothing else is touched.
        """
        path = self._path(Block(plan.name, index))
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            write_block(draft, plan, index, names, leaves, seconds)
            return not is_void(self.plans(), plan, index) and _publish(draft, path)
        except OSError as error:
            raise store_error(self.directory, error) from error
        finally:
            draft.unlink(missing_ok=True)

    def read(self, plan: Plan, index: int) -> BlockResults:
        """A finished block.

        Raises:
            StoreError: for a file that is truncated or not what it should be.
        """
        path = self._path(Block(plan.name, index))
        try:
            return read_block(path, plan, index)
        except (ValueError, OSError, KeyError) as error:
            raise StoreError(
                f"{path} cannot be read ({error}); remove it and call sweep again: only its "
                f"{len(plan.trials_of(index))} trials are run again"
            ) from error

    def _path(self, block: Block) -> Path:
        return self.directory / "blocks" / f"{block.name}{_BLOCK_SUFFIX}"

    def _write_once(self, path: Path, text: str) -> bool:
        """Write a file that is not there yet; one that is there stays. Whether it is ours."""
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with draft.open("x", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            return _publish(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def _check_own(self) -> None:
        """Refuse a directory of something else, before anything is written into it."""
        if not self.directory.is_dir() or (self.directory / _ABOUT).exists():
            return
        # A process that is just making the store has made its folders first.
        foreign = sorted(path.name for path in self.directory.iterdir() if path.name not in _FOLDERS)
        foreign = [name for name in foreign if not name.startswith(f".{_ABOUT}.")]
        if foreign and not (self.directory / _ABOUT).exists():
            raise StoreError(
                f"{self.directory} holds {foreign[0]!r} and no {_ABOUT}, so it is no store; take a directory of its own"
            )

    def _check_about(self, about: Mapping[str, Any]) -> None:
        path = self.directory / _ABOUT
        try:
            there = json.loads(path.read_text())
        except ValueError as error:
            raise StoreError(f"{path} is not the description of a sweep ({error}); take another directory") from error
        if there.get("format") != FORMAT:
            raise StoreError(f"{path} has format {there.get('format')!r}, and this badrjax reads {FORMAT}")
        what = {"function": "of another function", "code": "by other code", "arrays": "on other data"}
        for name, value in json.loads(json.dumps(dict(about))).items():
            if there.get(name) != value:
                raise StoreError(
                    f"{self.directory} holds a sweep {what.get(name, name)} ({name} {there.get(name)!r}, not "
                    f"{value!r}); results of both must not be mixed, so take another directory"
                )


def _own_place() -> float:
    return int(uuid.uuid4()) / 2**128


def _publish(draft: Path, path: Path) -> bool:
    """Give a finished file its name, unless the name is taken; and make sure that both outlive a crash."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True
