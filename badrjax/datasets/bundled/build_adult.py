"""Rebuild the bundled copy of Adult from the two raw files.

    python -m badrjax.datasets.bundled.build_adult RAW_DIR [--output FILE]

`RAW_DIR` holds `adult.data` and `adult.test` as the UCI repository publishes them; files with another SHA-256
are refused. The copy is the plain CSV of `badrjax.datasets.adult.canonical_csv`, compressed with xz: `xzcat`
or `pandas.read_csv` read it too. The same liblzma gives the same bytes; another version may compress
differently, so the loader pins the SHA-256 of the CSV and not that of the compressed file.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Sequence
from pathlib import Path

from badrjax.datasets.adult import BUNDLE, TEST_FILE, TRAIN_FILE, canonical_csv
from badrjax.datasets.files import BUNDLED_DIRECTORY, sha256


def build(raw_directory: Path, output: Path) -> None:
    """Write the compressed copy of the raw files in `raw_directory` to `output`.

    Raises:
        ValueError: for a raw file, or a result, with another SHA-256 than the pinned one.
        FileNotFoundError: for a missing raw file.
    """
    contents = {}
    for file in (TEST_FILE, TRAIN_FILE):
        path = raw_directory / Path(file.path).name
        contents[file.path] = path.read_bytes()
        _check(str(path), contents[file.path], file.sha256)
    table = canonical_csv(contents)
    _check("the table built from them", table, BUNDLE.sha256)
    output.write_bytes(lzma.compress(table, format=lzma.FORMAT_XZ, preset=9 | lzma.PRESET_EXTREME))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description="Rebuild the bundled copy of Adult from the raw UCI files.")
    parser.add_argument("raw_directory", metavar="RAW_DIR", type=Path, help="holds adult.data and adult.test")
    parser.add_argument("--output", type=Path, default=BUNDLED_DIRECTORY / BUNDLE.path, help="default: %(default)s")
    options = parser.parse_args(arguments)
    build(options.raw_directory, options.output)
    print(f"{options.output}: {options.output.stat().st_size} bytes")


def _check(what: str, content: bytes, expected: str) -> None:
    found = sha256(content)
    if found != expected:
        raise ValueError(
            f"{what} has SHA-256 {found}, not {expected}; take the files from "
            "https://archive.ics.uci.edu/dataset/2/adult unchanged (line endings included)"
        )


if __name__ == "__main__":
    main()
