"""Rows dealt out at random, whatever their group and label or evenly over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from badrjax.datasets.dataset import Dataset, Splits
from badrjax.datasets.splits.drawing import (
    check_fractions,
    generator_of,
    number_of_units,
    rows_of_units,
    strata_of,
)


def random_split(
    dataset: Dataset,
    seed: int = 0,
    *,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    whole: str | None = None,
) -> Splits:
    """Rows dealt out at random, each to one part, whatever their group and label.

    Args:
        dataset: what to split.
        seed: non-negative integer.
        fractions: sizes of training, validation and test, summing to 1; a size of 0 leaves validation or test
            empty. Sizes are rounded by the largest remainder, training first.
        whole: a domain (`dataset.domains`) whose rows stay together, such as the subject of repeated
            measurements; then the fractions are of its values.

    Returns:
        Disjoint parts without repeats, in random order.

    Raises:
        ValueError: for fractions that are negative or do not sum to 1, or that give no row to a part of
            positive size; for an unknown domain.
        TypeError: for a seed that is not an integer.
    """
    sizes = check_fractions(fractions)
    generator = generator_of(seed)
    parts = _dealt(generator.permutation(number_of_units(dataset, whole)), sizes)
    for name, size, part in zip(Splits._fields, sizes, parts, strict=True):
        if part.size == 0 and (size > 0 or name == "train"):
            raise ValueError(
                f"fractions {tuple(fractions)} leave no {name} row of {sum(map(len, parts))}; choose another fraction"
            )
    return Splits(*(rows_of_units(dataset, whole, part) for part in parts))


def stratified_split(
    dataset: Dataset,
    seed: int = 0,
    *,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
) -> Splits:
    """Rows of each cell of group and label dealt out by the same fractions; of each group in a regression.

    Args:
        dataset: what to split.
        seed: non-negative integer.
        fractions: sizes of training, validation and test, summing to 1. They are rounded in each cell by the
            largest remainder, training first: a cell of one row is in the part with the largest fraction.

    Returns:
        Disjoint parts without repeats, in random order.

    Raises:
        ValueError: for fractions that are negative or do not sum to 1, or that leave a part of positive size
            empty.
        TypeError: for a seed that is not an integer.
    """
    sizes = check_fractions(fractions)
    generator = generator_of(seed)
    dealt = [_dealt(generator.permutation(rows), sizes) for rows in strata_of(dataset)]
    parts = [generator.permutation(np.concatenate(part)) for part in zip(*dealt, strict=True)]
    for name, size, part in zip(Splits._fields, sizes, parts, strict=True):
        if part.size == 0 and (size > 0 or name == "train"):
            raise ValueError(f"fractions {tuple(fractions)} leave no {name} row in any cell; split at random")
    return Splits(*(part.astype(np.int32) for part in parts))


def _dealt(units: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parts within one of their shares; what rounding down leaves goes to the largest remainders, training first."""
    shares = sizes / sizes.sum() * units.size
    # The small term keeps a product such as 0.3 * 10 from falling below the whole number it stands for.
    counts = np.floor(shares + 1e-9).astype(int)
    order = np.argsort(-np.round(shares - counts, 9), kind="stable")
    counts[order[: units.size - counts.sum()]] += 1
    _, num_validation, num_test = counts
    return units[num_validation + num_test :], units[:num_validation], units[num_validation:][:num_test]
