"""Downloads: whole and checked, or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from badrjax.datasets.archives import check_zip, read_member
from badrjax.datasets.files import FIRST_USE_SUFFIX, DataFile, cache_directory, check_content, looks_like_page, sha256
from badrjax.extras import require

_TIMEOUT_SECONDS = 30  # without a single byte
_PART = "part-"
_A_DAY = 86_400


def fetch_file(file: DataFile, *, unpinned: bool = False, progress: bool | None = None) -> Path:
    """Download a file into the user's cache.

    It is written beside its place, checked, and then moved there at once, so that nobody ever finds a part of
    it. A file without a published SHA-256 is taken only with `unpinned`; the SHA-256 it comes with is written
    down, and held against it from then on.

    Args:
        file: what to download.
        unpinned: whether a file without a published SHA-256 may be taken.
        progress: whether a bar is shown on the terminal; `None` shows it where there is one.

    Returns:
        Where it lies now.

    Raises:
        ValueError: for a file without an address, without a SHA-256 unless `unpinned`, or for a download with
            other content than the pinned one.
        ConnectionError: where the download fails or breaks off.
        ModuleNotFoundError: where pooch is not installed.
    """
    if not file.url:
        raise ValueError(f"{file.path} has no address that a program may download it from")
    if not file.sha256 and not unpinned:
        raise ValueError(
            f"no SHA-256 is published for {file.path}, so a download of it cannot be checked against anything; "
            f"get it from {file.url} yourself, or accept what comes (`badrjax data fetch --unpinned`)"
        )
    pooch = require("pooch", "downloading")
    directory = cache_directory()
    assert directory is not None  # platformdirs comes with pooch
    bar = sys.stderr.isatty() if progress is None else progress
    try:
        return _into(directory, file, lambda workplace: _download(pooch, file.url, workplace, bar))
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        raise ConnectionError(
            f"{file.path} could not be put into the cache {directory} ({type(error).__name__}: {error}); make it "
            "writable, or name another with XDG_CACHE_HOME"
        ) from error


def _into(directory: Path, file: DataFile, download: Callable[[Path], bytes]) -> Path:
    place = directory / file.path
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_old_parts(directory)
    with tempfile.TemporaryDirectory(dir=directory, prefix=_PART) as workplace:
        content = download(Path(workplace))
        if file.member:
            content = read_member(content, file.member, file.url)
        check_content(f"what came from {file.url}", content, file, "try again later, or get the file by hand")
        if not file.sha256:
            _check_structure(content, file)
        part = Path(workplace) / "checked"
        part.write_bytes(content)
        if not file.sha256:
            (Path(workplace) / "sum").write_text(sha256(content) + "\n")
            os.replace(Path(workplace) / "sum", place.with_name(place.name + FIRST_USE_SUFFIX))
        os.replace(part, place)
    return place


def _check_structure(content: bytes, file: DataFile) -> None:
    """Without a SHA-256, what comes must at least be whole, and no web page."""
    if not content or looks_like_page(content):
        what = "a web page" if content else "nothing"
        raise ValueError(f"{what} came from {file.url}, and not {file.path}; try again later, or get it by hand")
    if file.path.endswith(".zip"):
        check_zip(content, f"what came from {file.url}")


def _remove_old_parts(directory: Path) -> None:
    """What a killed process left behind; a download of the last day may still be under way."""
    for part in directory.glob(_PART + "*"):
        if time.time() - part.stat().st_mtime > _A_DAY:
            shutil.rmtree(part, ignore_errors=True)


def _download(pooch: ModuleType, url: str, workplace: Path, progress: bool) -> bytes:
    path = workplace / "download"
    try:
        pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT_SECONDS)(url, str(path), None)
    except Exception as error:
        # requests, urllib3 and the operating system each have errors of their own for a lost connection.
        reason = f"{type(error).__name__}: {error}"
        raise ConnectionError(f"{url} could not be downloaded ({reason[:200]})") from error
    return path.read_bytes()
