"""Splits by where rows come from: train on one state, test on others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset, Splits
from badrjax.datasets.splits.drawing import domain_of, generator_of


def domain_split(
    dataset: Dataset,
    seed: int = 0,
    *,
    domain: str,
    train: str | Sequence[str] | None = None,
    test: str | Sequence[str] | None = None,
    validation_fraction: float = 0.0,
) -> Splits:
    """Rows of some values of a domain to train on, of others to test on.

    Args:
        dataset: what to split.
        seed: non-negative integer, for the rows of the validation.
        domain: name of a domain (`dataset.domains`, such as "state", "year" or "part") or of a sensitive
            attribute.
        train: values to train on; `None` takes all that are not for the test.
        test: values to test on; `None` takes all that are not for training.
        validation_fraction: share of the training rows, drawn at random, that become the validation.

    Returns:
        Disjoint parts; rows of values that neither names are in none.

    Raises:
        ValueError: for an unknown domain or value, for a value on both sides, for neither side named, for a
            side without values, or a fraction outside [0, 1).
        TypeError: for a seed that is not an integer.
    """
    if train is None and test is None:
        raise ValueError(f"name the values of {domain} to train on, or those to test on, or both")
    if isinstance(validation_fraction, str) or not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must lie in [0, 1), got {validation_fraction!r}")
    groups = domain_of(dataset, domain)
    named = {"train": _values(groups.names, domain, train), "test": _values(groups.names, domain, test)}
    both = sorted(named["train"] & named["test"])
    if both:
        raise ValueError(f"{domain} {both[0]!r} is both for training and for the test; choose one")
    rest = set(groups.names)
    named["train"] = named["train"] if train is not None else rest - named["test"]
    named["test"] = named["test"] if test is not None else rest - named["train"]
    for side, values in named.items():
        if not values:
            raise ValueError(f"no value of {domain} is left for {side}; there are {', '.join(groups.names)}")
    rows = {side: _rows_of(groups.ids, groups.names, values) for side, values in named.items()}
    shuffled = generator_of(seed).permutation(rows["train"])
    num_validation = round(validation_fraction * shuffled.size)
    parts = (np.sort(shuffled[num_validation:]), np.sort(shuffled[:num_validation]), rows["test"])
    if parts[0].size == 0 or (parts[1].size == 0 and validation_fraction > 0):
        raise ValueError(
            f"validation_fraction {validation_fraction} of {shuffled.size} rows leaves {parts[0].size} to train on and "
            f"{parts[1].size} for the validation; choose another"
        )
    return Splits(*(part.astype(np.int32) for part in parts))


def _values(names: tuple[str, ...], domain: str, asked: str | Sequence[str] | None) -> set[str]:
    given = [] if asked is None else np.atleast_1d(np.asarray(asked, object)).tolist()
    values = [str(value) for value in given]  # years may be given as numbers
    for value in values:
        if value not in names:
            raise unknown_name(f"value of {domain}", value, names)
    return set(values)


def _rows_of(ids: np.ndarray, names: tuple[str, ...], values: set[str]) -> np.ndarray:
    return np.flatnonzero(np.isin(ids, [i for i, name in enumerate(names) if name in values]))
