"""Which files of a dataset are at hand, and whether they are the published ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from badrjax.datasets.entry import Entry
from badrjax.datasets.files import BUNDLED_DIRECTORY, DataFile, find, first_use_sha256, sha256


class FileState(NamedTuple):
    """A file and what was found of it.

    Attributes:
        file: the file.
        path: where it lies; `None` where it is nowhere.
        state: "verified" (the pinned SHA-256), "unpinned" (there, with none but that of its download to hold
            against it), "wrong" (another SHA-256, or no file that can be read) or "missing".
        sha256: what was found.
    """

    file: DataFile
    path: Path | None
    state: Literal["verified", "unpinned", "wrong", "missing"]
    sha256: str = ""


def check_files(
    entry: Entry, options: Mapping[str, Any], data_home: str | os.PathLike[str] | None = None
) -> list[FileState]:
    """The state of each file of a dataset, of the bundled copy too, without loading it."""
    states = [
        _state(file, find(file, data_home, clean=False)) for files in entry.alternatives(options) for file in files
    ]
    splits = [_state(split.file, find(split.file, data_home, clean=False)) for split in entry.official_splits.values()]
    bundle = [] if entry.bundle is None else [_state(entry.bundle, BUNDLED_DIRECTORY / entry.bundle.path)]
    return [*states, *bundle, *splits]


def _state(file: DataFile, path: Path | None) -> FileState:
    if path is None or not os.path.lexists(path):
        return FileState(file, None, "missing")
    try:
        found = sha256(path.read_bytes())
    except OSError as error:
        return FileState(file, path, "wrong", f"({error.strerror})")
    expected = file.sha256 or first_use_sha256(path)
    if expected and found != expected:
        return FileState(file, path, "wrong", found)
    return FileState(file, path, "verified" if file.sha256 else "unpinned", found)
