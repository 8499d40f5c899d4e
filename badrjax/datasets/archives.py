"""Members of archives, read in memory, so that no path in an archive can lead anywhere."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# The largest member that any of the datasets has is CIFAR's 154 MB; an archive that unpacks to more than this
# is not one of them.
_LARGEST_MEMBER = 2_000_000_000
_GZIP = b"\x1f\x8b"
_UNREADABLE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError,
)  # fmt: skip


def member_names(content: bytes, where: str) -> list[str]:
    """Names of the files in a zip or tar archive; links and folders are left out.

    Raises:
        ValueError: for bytes that are no such archive, or only the beginning of one.
    """
    with _opened(content, where) as archive:
        return _names(archive)


def find_member(content: bytes, base_name: str, where: str) -> str:
    """The whole name of the one file with a base name, whatever its case and its folder.

    Raises:
        ValueError: for a damaged archive, or one with no such file, or several.
    """
    names = member_names(content, where)
    own = [name for name in names if not name.startswith("__MACOSX/")]  # a shadow of each file, made by macOS
    found = [name for name in own if name.rsplit("/", 1)[-1].lower() == base_name.lower()]
    if len(found) == 1:
        return found[0]
    number = len(found) or "no"
    raise ValueError(f"{where} has {number} file {base_name!r} ({_shown(names)}); get the official archive")


def read_member(content: bytes, name: str, where: str) -> bytes:
    """The bytes of one file in a zip or tar archive; see `read_members`."""
    return read_members(content, [name], where)[name]


def read_members(content: bytes, names: Iterable[str], where: str) -> dict[str, bytes]:
    """The bytes of some files in a zip or tar archive, by their whole names.

    Nothing is written to disk, links are not followed, and the checksums of zip and gzip are checked.

    Args:
        content: the archive.
        names: whole names of the members.
        where: what the archive is called, for messages.

    Raises:
        ValueError: for a damaged archive, one without a member, or a member that is implausibly large.
    """
    with _opened(content, where) as archive:
        there = _names(archive)
        for name in names:
            if name not in there:
                raise ValueError(f"{where} has no file {name!r} ({_shown(there)}); get the official archive")
        return {name: _read(archive, name, where) for name in names}


def check_zip(content: bytes, where: str) -> None:
    """Raise `ValueError` unless bytes are a whole zip archive with every checksum right."""
    with _opened(content, where) as archive:
        whole = isinstance(archive, zipfile.ZipFile) and bool(archive.namelist())
        broken = archive.testzip() if isinstance(archive, zipfile.ZipFile) and whole else "all of it"
    if broken is not None:
        raise ValueError(f"{where} is not a whole zip archive ({broken} is damaged); download it again")


@contextmanager
def _opened(content: bytes, where: str) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                yield archive
        else:
            # Unpacked first: tarfile would take a stream whose end, with its checksum, is cut off.
            tar = gzip.decompress(content) if content.startswith(_GZIP) else content
            with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                yield archive
    except _UNREADABLE as error:
        raise ValueError(f"{where} is not a whole zip or tar archive ({error}); download it again") from error


def _names(archive: zipfile.ZipFile | tarfile.TarFile) -> list[str]:
    if isinstance(archive, zipfile.ZipFile):
        return [member.filename for member in archive.infolist() if not member.is_dir()]
    return [member.name for member in archive.getmembers() if member.isfile()]


def _read(archive: zipfile.ZipFile | tarfile.TarFile, name: str, where: str) -> bytes:
    if isinstance(archive, zipfile.ZipFile):
        _check_size(archive.getinfo(name).file_size, name, where)
        return archive.read(name)
    _check_size(archive.getmember(name).size, name, where)
    stream = archive.extractfile(name)
    assert stream is not None  # only plain files have names here
    return stream.read()


def _check_size(size: int, name: str, where: str) -> None:
    if size > _LARGEST_MEMBER:
        raise ValueError(f"{name!r} in {where} would unpack to {size:,} bytes, which no dataset here has")


def _shown(names: list[str]) -> str:
    return ("it has " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")) if names else "it is empty"
