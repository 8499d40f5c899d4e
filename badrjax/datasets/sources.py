"""Addresses of files at the sources that several datasets share."""

from __future__ import annotations

from badrjax.datasets.files import DataFile

_UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/"
_NASH = "https://raw.githubusercontent.com/reds-lab/Nash-Meta-Learning/main/data_idx/"


def uci(path: str, sha256: str, *, remote: str = "", member: str = "") -> DataFile:
    """A file of the UCI Machine Learning Repository.

    Args:
        path: where it lies below a data directory.
        sha256: of its bytes.
        remote: its place at the repository; `None` where it is `path`.
        member: its name in the archive at `remote`.
    """
    return DataFile(path, sha256, _UCI + (remote or path), member)


def nash_split(name: str, remote: str, sha256: str) -> DataFile:
    """An index file of the Nash meta-learning paper, `nash_splits/<name>.npz` below a data directory."""
    return DataFile(f"nash_splits/{name}.npz", sha256, f"{_NASH}{remote}/combined_arrays.npz")
