"""Files with known SHA-256: where they are looked for, and how they are read."""

from __future__ import annotations

import dataclasses
import hashlib
import lzma
import os
from collections.abc import Sequence
from pathlib import Path

BUNDLED_DIRECTORY = Path(__file__).parent / "bundled"
ENVIRONMENT_VARIABLE = "BADRJAX_DATA"


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A file and the only content that is accepted for it.

    Attributes:
        path: where it lies below a data directory, with forward slashes.
        sha256: of its bytes, in hexadecimal; of a bundled file, of what it decompresses to.
    """

    path: str
    sha256: str


def sha256(content: bytes) -> str:
    """The SHA-256 of `content`, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def data_directories(data_home: str | os.PathLike[str] | None) -> list[Path]:
    """Where files are looked for, in order: `data_home`, then the directory that `BADRJAX_DATA` names."""
    named = (data_home, os.environ.get(ENVIRONMENT_VARIABLE))
    return [Path(directory).expanduser() for directory in named if directory]


def read_files(
    files: Sequence[DataFile], data_home: str | os.PathLike[str] | None, remedy: str
) -> dict[str, bytes] | None:
    """The contents of `files` from the first data directory that holds any of them.

    A directory that holds only some of the files, or one with another content, is an error and never passed
    over: what is used must be what the reader of `data_home` believes it to be.

    Args:
        files: what to read.
        data_home: directory to look in before that of `BADRJAX_DATA`.
        remedy: what to do about a wrong file, the end of the message.

    Returns:
        Contents by path, or `None` where no directory holds any of the files.

    Raises:
        ValueError: for a file with another SHA-256.
        FileNotFoundError: where only some of the files are present.
    """
    for directory in data_directories(data_home):
        present = [file for file in files if (directory / file.path).exists()]
        if present:
            return {file.path: _read(directory / file.path, file.sha256, remedy) for file in files}
    return None


def read_bundled(file: DataFile, remedy: str) -> bytes:
    """The decompressed content of a file that comes with the package.

    The SHA-256 checked is that of the content, not of the compressed file: different versions of liblzma may
    write the same content differently.

    Raises:
        ValueError: for a damaged or altered file.
        FileNotFoundError: where the installation lacks it.
    """
    path = BUNDLED_DIRECTORY / file.path
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from the installation; {remedy}")
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        content = decompressor.decompress(path.read_bytes())
    except lzma.LZMAError as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError(f"{path} is damaged (its end is cut off or has bytes appended); {remedy}")
    _check_sha256(path, content, file.sha256, remedy)
    return content


def _read(path: Path, expected: str, remedy: str) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though other files of the same dataset are there; {remedy}")
    content = path.read_bytes()
    _check_sha256(path, content, expected, remedy)
    return content


def _check_sha256(path: Path, content: bytes, expected: str, remedy: str) -> None:
    found = sha256(content)
    if found != expected:
        raise ValueError(
            f"{path} is not the published data and was not used: its SHA-256 is {found}, not {expected} "
            f"(altered copies with other line endings or values are about); {remedy}"
        )
