"""Rebuild the bundled copies from the raw files.

    python -m badrjax.datasets.bundled.build RAW_DIR [--output DIRECTORY]

`RAW_DIR` holds `adult/adult.data`, `adult/adult.test` and `german/german.data` as the UCI repository publishes
them; files with another SHA-256 are refused. Each copy is a compressed NumPy archive without pickled objects:
numbers in the smallest integer type, text as codes and values, no row and no value left out. Another version
of zlib may compress differently; then the tables are the same and the pinned SHA-256 of the archives, in
`badrjax/datasets/adult.py` and `german.py`, have to be set to what this script prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from badrjax.datasets import adult, german
from badrjax.datasets.files import BUNDLED_DIRECTORY, read_file, sha256
from badrjax.datasets.packing import pack_table

REMEDY = "take the file from the UCI Machine Learning Repository unchanged (line endings included)"


def build(raw_directory: Path, output: Path) -> list[Path]:
    """Write the copies of the raw files in `raw_directory` into `output`, and return their paths.

    Raises:
        ValueError: for a raw file with another SHA-256 than the pinned one.
        FileNotFoundError: for a missing raw file.
    """
    written = []
    for module in (adult, german):
        files = module.ENTRY.files[0]
        contents = {file.path: read_file(raw_directory / file.path, file, REMEDY) for file in files}
        path = output / module.BUNDLE.path
        path.write_bytes(pack_table(module.read_raw(contents)))
        written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description="Rebuild the bundled datasets from the raw UCI files.")
    parser.add_argument("raw_directory", metavar="RAW_DIR", type=Path, help="holds adult/ and german/")
    parser.add_argument("--output", type=Path, default=BUNDLED_DIRECTORY, help="default: %(default)s")
    options = parser.parse_args(arguments)
    for path in build(options.raw_directory, options.output):
        content = path.read_bytes()
        print(f"{path}: {len(content)} bytes, SHA-256 {sha256(content)}")


if __name__ == "__main__":
    main()
