"""Cross-validation: each row is tested once."""

from __future__ import annotations

import numpy as np

from badrjax.datasets.dataset import Dataset, Splits
from badrjax.datasets.splits.drawing import generator_of, number_of_units, rows_of_units, strata_of


def kfold_split(
    dataset: Dataset,
    seed: int = 0,
    *,
    fold: int = 0,
    num_folds: int = 5,
    validation: bool = False,
    whole: str | None = None,
) -> Splits:
    """One fold for the test, the others for training.

    The folds of one seed are disjoint and cover every row, so the `num_folds` splits of a seed test each row
    once. They are stratified by group and label (by group in a regression), unless a domain stays whole.

    Args:
        dataset: what to split.
        seed: non-negative integer; the same for all folds of one cross-validation.
        fold: which fold is the test, in `[0, num_folds)`.
        num_folds: at least 2, or 3 with `validation`.
        validation: whether the next fold is the validation; otherwise validation is empty.
        whole: a domain (`dataset.domains`) whose rows stay in one fold.

    Returns:
        Disjoint parts in rising order, which together cover every row.

    Raises:
        ValueError: for a fold outside its range, too few folds, or more folds than rows (or values of `whole`).
        TypeError: for numbers that are not integers.
    """
    for name, value in (("fold", fold), ("num_folds", num_folds)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} must be an integer, got {value!r}")
    fewest = 3 if validation else 2
    units = number_of_units(dataset, whole)
    if units < fewest:
        raise ValueError(f"{units} rows (or values of whole) cannot be dealt into {fewest} folds")
    if not fewest <= num_folds <= units:
        raise ValueError(f"num_folds must lie between {fewest} and {units}, got {num_folds}")
    if not 0 <= fold < num_folds:
        raise ValueError(f"fold must lie in [0, {num_folds}), got {fold}")
    fold_of = _folds(dataset, generator_of(seed), num_folds, whole)
    next_fold = (fold + 1) % num_folds if validation else -1
    train = np.flatnonzero((fold_of != fold) & (fold_of != next_fold))
    parts = (train, np.flatnonzero(fold_of == next_fold), np.flatnonzero(fold_of == fold))
    return Splits(*(rows_of_units(dataset, whole, part) for part in parts))


def _folds(dataset: Dataset, generator: np.random.Generator, num_folds: int, whole: str | None) -> np.ndarray:
    """The fold of each unit. Strata are dealt one after another in one round, so that folds differ by a row."""
    units = number_of_units(dataset, whole)
    strata = strata_of(dataset) if whole is None else [np.arange(units)]
    order = np.concatenate([generator.permutation(rows) for rows in strata])
    fold_of = np.empty(units, np.int64)
    fold_of[order] = np.arange(units) % num_folds
    return fold_of
