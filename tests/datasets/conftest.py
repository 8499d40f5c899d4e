"""Adult, and its raw files made again from the bundled copy, so that no test needs a download."""

import os
from pathlib import Path

import pytest

from badrjax.datasets import load_dataset
from badrjax.datasets.adult import BUNDLE, TEST_FILE, TRAIN_FILE
from badrjax.datasets.files import read_bundled

TEST_ROWS = 16_281
REAL_DATA = os.environ.get("BADRJAX_DATA")  # read before the tests take it away


@pytest.fixture(autouse=True)
def no_data_directory(monkeypatch):
    """The bundled copy is what a test gets, unless it asks for another."""
    monkeypatch.delenv("BADRJAX_DATA", raising=False)


@pytest.fixture(scope="session")
def real_data():
    """The directory of real data files, where this machine has one."""
    if not REAL_DATA:
        pytest.skip("BADRJAX_DATA is not set: no real data files to compare with")
    return Path(REAL_DATA)


@pytest.fixture(scope="session")
def raw_adult(tmp_path_factory):
    """A data directory with adult.data and adult.test as they were published."""
    _, *rows = read_bundled(BUNDLE, "").decode().splitlines()
    lines = [row.replace(",", ", ") + "\n" for row in rows]
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
        return load_dataset("adult")
