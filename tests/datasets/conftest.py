"""Adult, and its raw files made again from the bundled copy, so that no test needs a download."""

import os
from pathlib import Path

import numpy as np
import pytest

from badrjax.datasets import load_dataset
from badrjax.datasets.adult import BUNDLE, COLUMNS, MISSING, NUMERIC, TEST_FILE, TEST_ROWS, TRAIN_FILE
from badrjax.datasets.files import read_bundled
from badrjax.datasets.packing import unpack_table

REAL_DATA = os.environ.get("BADRJAX_DATA")  # read before the tests take it away


@pytest.fixture(autouse=True)
def no_data_directory(monkeypatch, tmp_path_factory):
    """The bundled copy is what a test gets, unless it asks for another; the user's cache is out of its reach."""
    monkeypatch.delenv("BADRJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def real_data():
    """The directory of real data files, where this machine has one."""
    if not REAL_DATA:
        pytest.skip("BADRJAX_DATA is not set: no real data files to compare with")
    return Path(REAL_DATA)


@pytest.fixture(scope="session")
def raw_adult(tmp_path_factory):
    """A data directory with adult.data and adult.test as they were published."""
    table = unpack_table(read_bundled(BUNDLE, ""))
    texts = [
        table[name].astype(np.int64).astype(str) if name in NUMERIC else table[name].text(MISSING) for name in COLUMNS
    ]
    lines = [", ".join(values) + "\n" for values in zip(*texts, strict=True)]
    directory = tmp_path_factory.mktemp("data")
    (directory / "adult").mkdir()
    test = "|1x3 Cross validator\n" + "".join(line.replace("\n", ".\n") for line in lines[:TEST_ROWS]) + "\n"
    (directory / TEST_FILE.path).write_bytes(test.encode())
    (directory / TRAIN_FILE.path).write_bytes("".join([*lines[TEST_ROWS:], "\n"]).encode())
    return directory


@pytest.fixture(scope="session")
def adult():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BADRJAX_DATA", raising=False)
        return load_dataset("adult", variant="nash")
