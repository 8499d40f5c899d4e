"""What a person asks of a result: which requirements hold, and between which groups they do not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from badrjax.checks import is_concrete
from badrjax.constraints.counts import CellCounts
from badrjax.constraints.pairs import pair_gaps
from badrjax.constraints.requirements import FairnessConstraints


class RequirementCheck(NamedTuple):
    """A requirement on some rows (host).

    Attributes:
        requirement: its name.
        threshold: largest gap allowed.
        gap: largest gap between two groups that can be compared; NaN where there are none.
        satisfied: whether the gap is known and at most the threshold.
        groups: names of the two groups that are furthest apart; empty where the gap is NaN.
        num_pairs: pairs of groups it is over.
        num_missing: pairs of them that lack rows to be compared.
    """

    requirement: str
    threshold: float
    gap: float
    satisfied: bool
    groups: tuple[str, ...]
    num_pairs: int
    num_missing: int


def check_requirements(constraints: FairnessConstraints, counts: CellCounts) -> tuple[RequirementCheck, ...]:
    """Each requirement with its gap, and the groups that make it (host code).

    A gap on a few rows is large at exact parity, too: see `badrjax.noise_floor`.

    Args:
        constraints: of R requirements.
        counts: of rows, see `cell_counts`; `state.best.validation` of `badrjax.fairlab`, say.

    Returns:
        R `RequirementCheck`s, in the order in which the requirements were given.

    Raises:
        ValueError: for counts that are traced, or of another number of cells.
    """
    if not is_concrete(counts, constraints):
        raise ValueError("check_requirements is for a person to read: call it outside of jit, vmap and grad")
    num_cells = constraints.membership.shape[-1]
    if np.shape(counts.total) != (2, num_cells):
        raise ValueError(f"counts must be of {num_cells} cells, shape (2, {num_cells}), got {np.shape(counts.total)}")
    gaps = np.asarray(pair_gaps(constraints, counts), float)
    owner, left, right = (np.asarray(leaf) for leaf in (constraints.requirement, constraints.left, constraints.right))
    found = []
    for number, (name, threshold) in enumerate(
        zip(constraints.requirement_names, np.asarray(constraints.thresholds, float), strict=True)
    ):
        mine = np.flatnonzero(owner == number)
        known = mine[~np.isnan(gaps[mine])]
        worst = known[np.argmax(gaps[known])] if known.size else None
        gap = float("nan") if worst is None else float(gaps[worst])
        pair = () if worst is None else (constraints.group_names[left[worst]], constraints.group_names[right[worst]])
        found.append(RequirementCheck(name, float(threshold), gap, bool(gap <= threshold), pair, mine.size,
                                      mine.size - known.size))  # fmt: skip
    return tuple(found)
