"""The rows that fairlearn is given, and what is refused before any training."""

from __future__ import annotations

from typing import Any

import numpy as np

from badrjax.batches import Batch, check_batch
from badrjax.checks import check_class_range, check_classes, check_finite, unknown_name

# By constraint: fairlearn's moment, and the classes whose rows its rates are taken over (none named: all rows).
CONSTRAINTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "demographic_parity": ("DemographicParity", ()),
    "equal_opportunity": ("TruePositiveRateParity", (1,)),
    "equalized_odds": ("EqualizedOdds", (0, 1)),
    "predictive_equality": ("FalsePositiveRateParity", (0,)),
}


def repeated(train: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and groups of the rows, each as often as its weight says."""
    rows = np.repeat(np.arange(train.y.shape[0]), _frequencies(train).astype(np.int64))
    # Numbered as they first occur, so that no sum depends on how the groups happen to be numbered.
    _, first, ids = np.unique(np.asarray(train.group)[rows], return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first)).astype(np.int32)
    return np.asarray(train.x)[rows], np.asarray(train.y)[rows].astype(np.int32), order[ids]


def check_numbers(constraint: str, gap: Any, eps: Any, nu: Any, eta0: Any) -> None:
    """Raise `ValueError` for an unknown constraint or a number out of range."""
    if constraint not in CONSTRAINTS:
        raise unknown_name("constraint", constraint, CONSTRAINTS)
    # Written so that NaN fails each test.
    if not 0 <= gap <= 1:
        raise ValueError(f"gap must lie in [0, 1], a difference of two rates, got {gap}")
    for name, value in (("eps", eps), ("eta0", eta0)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if nu is not None and not nu >= 0:
        raise ValueError(f"nu must be at least 0, or None for one that follows the number of rows, got {nu}")


def check_train(train: Batch, constraint: str) -> None:
    """Raise for rows that cannot be trained on, see `badrjax.expgrad`."""
    check_batch(train, name="train")
    check_classes(**{"train.y": train.y})
    check_class_range(train.y, 2, "train.y", train.weight)
    weight = _frequencies(train)
    if (fractional := weight != np.floor(weight)).any():
        row = np.flatnonzero(fractional)[0]
        raise ValueError(
            f"train.weight must hold whole numbers, for expgrad repeats rows, but row {row} has {weight[row]}; "
            "scale the weights to counts, or draw rows in proportion to them"
        )
    real = weight > 0
    if not real.any():
        raise ValueError("train has no rows of positive weight")
    # Rows of padding may hold anything, and are not used.
    x = np.asarray(train.x)
    check_finite(np.where(real.reshape(-1, *(1,) * (x.ndim - 1)), x, np.zeros((), x.dtype)), "train.x")
    _check_cells(np.asarray(train.y)[real], np.asarray(train.group)[real], constraint)


def _check_cells(labels: np.ndarray, groups: np.ndarray, constraint: str) -> None:
    if np.unique(labels).size < 2:
        raise ValueError(f"train.y has class {int(labels[0])} only; a classifier needs rows of both")
    present = np.unique(groups)
    if present.size < 2:
        raise ValueError(f"train.group has one group only, id {present[0]}; a gap needs at least two")
    for needed in CONSTRAINTS[constraint][1]:
        lacking = np.setdiff1d(present, groups[labels == needed])
        if lacking.size:
            raise ValueError(
                f"{constraint} needs rows of class {needed} in each group, and group {lacking[0]} has none in train"
                + (f" (nor have {lacking.size - 1} more groups)" if lacking.size > 1 else "")
                + "; leave it out or merge it with another"
            )


def _frequencies(train: Batch) -> np.ndarray:
    return np.ones(train.y.shape[0]) if train.weight is None else np.asarray(train.weight)
