"""Data of the FairBiNN experiments: Adult and Heritage Health in three parts, scaled, with the sensitive groups."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

import badrjax as bx
from badrjax import results
from badrjax.datasets.dataset import min_max_scale, take
from experiments.nash_runs import MISSING, Rows

__all__ = ["MISSING", "SOURCES", "Protocol", "Rows", "Source", "check", "load", "split"]
Protocol = Literal["default", "code"]
VALIDATION = 0.2
"""Share of the training part that is held out to choose by; the paper holds out nothing."""
TEST = 0.2
"""Share that is tested on where no test part is published (Health)."""


class Source(NamedTuple):
    """A dataset of the paper.

    Attributes:
        sensitive: the attribute whose groups are compared.
        first: the group that the published loss compares; `None` is the first by name.
        hidden: widths of the accuracy layers.
        width: of a fairness layer.
        published_test: whether a test part is published.
    """

    sensitive: str
    first: str | None
    hidden: tuple[int, ...]
    width: int
    published_test: bool


SOURCES = {
    "adult": Source("sex", "Male", (101,) * 3, 101, True),
    "health": Source("age", None, (125,) * 4, 125, False),
}


def load(name: str, protocol: Protocol, split_seed: int, data_home: Path | None) -> tuple[Rows, tuple[str, ...], str]:
    """The rows of a dataset, the names of its groups and its checksum.

    Features are brought to [0, 1] by the ranges of the training rows, or under the protocol of the code by those of
    each published part alone.

    Raises:
        ValueError: for an attribute with one value, or labels of one class.
        FileNotFoundError, ConnectionError, PermissionError: where the files are missing (`MISSING`).
    """
    source = SOURCES[name]
    scaling = {"standardise": "none"} if protocol == "default" and name == "adult" else {}
    dataset = bx.load_dataset(name, variant="fairbinn", sensitive=source.sensitive, data_home=data_home, **scaling)
    check(dataset)
    splits = split(dataset, source, split_seed)
    if protocol == "default":
        dataset = min_max_scale(dataset, splits.train)
    order = np.arange(dataset.num_groups)
    if source.first is not None:
        chosen = dataset.group_names.index(source.first)
        order[[0, chosen]] = order[[chosen, 0]]
    data = bx.to_batch(dataset)
    data = data._replace(group=jnp.asarray(np.argsort(order)[dataset.group].astype(np.int32)))
    validation, test = (bx.Batch(*(leaf[part] for leaf in data[:3])) for part in splits[1:])
    rows = Rows(data, jnp.asarray(splits.train), validation, test, jnp.arange(dataset.num_groups))
    checksum = results.dataset_checksum([dataset.x, dataset.y, dataset.group])
    return rows, tuple(dataset.group_names[i] for i in order), checksum


def split(dataset: bx.Dataset, source: Source, seed: int) -> bx.Splits:
    """The three parts, each in the order of the file; validation rows are drawn, stratified by label and group."""
    if not source.published_test:
        fractions = (1 - TEST - VALIDATION * (1 - TEST), VALIDATION * (1 - TEST), TEST)
        drawn = bx.datasets.split(dataset, "stratified", seed, fractions=fractions)
        return bx.Splits(*(np.sort(part) for part in drawn))
    published = dataset.domains["part"]
    train = np.flatnonzero(published.ids == published.names.index("train"))
    test = np.flatnonzero(published.ids == published.names.index("test"))
    inside = bx.datasets.split(take(dataset, train), "stratified", seed, fractions=(1 - VALIDATION, VALIDATION, 0.0))
    return bx.Splits(np.sort(train[inside.train]), np.sort(train[inside.validation]), test)


def check(dataset: bx.Dataset) -> None:
    """Raise `ValueError` for a dataset on which there is nothing to learn or to compare."""
    if dataset.num_groups < 2:
        raise ValueError(
            f"the sensitive attribute of {dataset.name} has one value, {dataset.group_names[0]!r}; choose another"
        )
    classes = np.unique(dataset.y)
    if not np.array_equal(classes, [0, 1]):
        raise ValueError(f"labels of {dataset.name} must be 0 and 1, got {classes[:5].tolist()}")
