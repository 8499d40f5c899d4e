"""Files with known SHA-256: where they are looked for, and how they are read."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from badrjax.extras import user_cache

BUNDLED_DIRECTORY = Path(__file__).parent / "bundled"
ENVIRONMENT_VARIABLE = "BADRJAX_DATA"
# Beside a downloaded file that has no published checksum: the SHA-256 it had when it came.
FIRST_USE_SUFFIX = ".sha256"


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A file and the only content that is accepted for it.

    Attributes:
        path: where it lies below a data directory, with forward slashes.
        sha256: of its bytes, in hexadecimal; empty where its source publishes none and no copy was at hand to
            take it from, so that only its structure can be checked.
        url: where it can be downloaded; empty where a person has to get it.
        member: its name inside the archive at `url`, where it comes in one.
    """

    path: str
    sha256: str = ""
    url: str = ""
    member: str = ""


def sha256(content: bytes) -> str:
    """The SHA-256 of `content`, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def cache_directory() -> Path | None:
    """The user's cache, where downloads are kept, or `None` without the library that knows where it is."""
    cache = user_cache()
    return None if cache is None else cache / "data"


def data_directories(data_home: str | os.PathLike[str] | None) -> list[Path]:
    """The user's own directories of files, in order: `data_home`, then the one that `BADRJAX_DATA` names.

    Raises:
        ValueError: for one that is no directory.
    """
    named = (("data_home", data_home), (ENVIRONMENT_VARIABLE, os.environ.get(ENVIRONMENT_VARIABLE)))
    return [_directory(name, directory) for name, directory in named if directory]


def find(file: DataFile, data_home: str | os.PathLike[str] | None, *, clean: bool = True) -> Path | None:
    """Where a file lies: the first of the user's directories that has it, then the cache.

    Args:
        file: what to look for.
        data_home: directory to look in first.
        clean: whether a file in the cache whose SHA-256 is known to be wrong is removed and not found; it is
            found if not.

    Raises:
        ValueError: for a named directory that is none.
    """
    for directory in data_directories(data_home):
        if os.path.lexists(directory / file.path):
            return directory / file.path
    cache = cache_directory()
    if cache is None:
        return None
    path = cache / file.path
    try:
        if not path.is_file() or (clean and not _as_it_came(path, file)):
            return None
    except PermissionError:  # somebody else's cache
        return None
    return path


def read_file(path: Path, file: DataFile, remedy: str) -> bytes:
    """The content of a file at a path, if it is the published one.

    Raises:
        ValueError: for another SHA-256, with what the file looks like instead.
        FileNotFoundError: for a link to nowhere.
        OSError: for a directory, or a file that may not be read; with the remedy.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise type(error)(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    check_content(str(path), content, file, remedy)
    first_use = "" if file.sha256 else first_use_sha256(path)
    if first_use and sha256(content) != first_use:
        raise ValueError(
            f"{path} is not what was downloaded: its SHA-256 is {sha256(content)}, not {first_use} as in "
            f"{path.name}{FIRST_USE_SUFFIX} beside it; remove both and get it again"
        )
    return content


def read_files(
    files: Sequence[DataFile], data_home: str | os.PathLike[str] | None, remedy: str
) -> dict[str, bytes] | None:
    """The contents of `files` by path, or `None` where one of them is not at hand.

    Raises:
        ValueError: for a file of the user's with another SHA-256; it is never passed over, for what is used
            must be what the reader of `data_home` believes it to be.
    """
    paths = [find(file, data_home) for file in files]
    if None in paths:
        return None
    return {file.path: read_file(path, file, remedy) for file, path in zip(files, paths, strict=True) if path}


def check_content(where: str, content: bytes, file: DataFile, remedy: str) -> None:
    """Raise `ValueError` unless `content` has the pinned SHA-256 of the file."""
    found = sha256(content)
    if file.sha256 and found != file.sha256:
        raise ValueError(
            f"{where} is not the published data and was not used: its SHA-256 is {found}, not {file.sha256} "
            f"({_appearance(content)}); {remedy}"
        )


def read_bundled(file: DataFile, remedy: str) -> bytes:
    """The content of a file that comes with the package.

    Raises:
        ValueError: for a damaged or altered file.
        FileNotFoundError: where the installation lacks it.
    """
    path = BUNDLED_DIRECTORY / file.path
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from the installation; {remedy}")
    return read_file(path, file, remedy)


def _directory(name: str, directory: str | os.PathLike[str]) -> Path:
    try:
        path = Path(directory).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name} {os.fspath(directory)!r}: {error}") from error
    if not path.is_dir():
        raise ValueError(f"{name} names {path}, which is no directory; make it, or name another")
    return path


def first_use_sha256(path: Path) -> str:
    """The SHA-256 that a file without a pinned one had when it was downloaded; empty where nobody wrote it down."""
    try:
        words = path.with_name(path.name + FIRST_USE_SUFFIX).read_text("ascii", "replace").lower().split()
    except FileNotFoundError:
        return ""
    # As `sha256sum` writes it, too; anything else says nothing.
    return words[0] if words and len(words[0]) == 64 and set(words[0]) <= set("0123456789abcdef") else ""


def _as_it_came(path: Path, file: DataFile) -> bool:
    """Whether a file in the cache has its pinned SHA-256; one that has not is removed, for it comes again.

    A file without one may be the user's, put there by hand: it is never removed.
    """
    if not file.sha256 or sha256(path.read_bytes()) == file.sha256:
        return True
    path.unlink(missing_ok=True)
    return False


def _appearance(content: bytes) -> str:
    """What a wrong file looks like, for its message."""
    if not content:
        return "it is empty"
    if looks_like_page(content):
        return "it is a web page, not data"
    return f"it has {len(content):,} bytes; altered copies with other line endings or values are about"


def looks_like_page(content: bytes) -> bool:
    """Whether bytes look like a web page, as servers send in place of a file."""
    start = content[:512].lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<?xml")) or b"<html" in start
