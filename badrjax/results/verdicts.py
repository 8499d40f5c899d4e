"""The words a cell of a table or a claim may earn, and the tolerances they are earned by."""

from __future__ import annotations

from typing import Literal

REPRODUCED = "REPRODUCED"
INCONCLUSIVE = "INCONCLUSIVE"
CLOSE = "CLOSE"
NOT_REPRODUCED = "NOT REPRODUCED"
NOT_RUN = "NOT RUN"
MISPRINT = "MISPRINT"
BELOW_FLOOR = "BELOW FLOOR"

# Those that count, and those that leave the count.
TARGETS = (REPRODUCED, INCONCLUSIVE, CLOSE, NOT_REPRODUCED, NOT_RUN)
NO_TARGETS = (MISPRINT, BELOW_FLOOR)

SUPPORTED = "SUPPORTED"
NON_INFERIOR = "NON-INFERIOR"
REFUTED = "REFUTED"
UNDECIDED = "UNDECIDED"

CLAIMS = (SUPPORTED, NON_INFERIOR, REFUTED, UNDECIDED)

# Beyond this share of diverged seeds the others no longer stand for the method.
MOST_DIVERGED = 0.1

_TOLERANCES = {"performance": 0.02, "gap": 0.03}


def tolerance(kind: Literal["performance", "gap"], *, row_effect: float = 0.0) -> float:
    """Largest difference that does not matter: 0.02 for AUC, accuracy and F1, 0.03 for gaps, and at least a test row.

    Args:
        kind: `"performance"` or `"gap"`.
        row_effect: by how much one test row can move the metric: `1 / n` for accuracy over n rows, `1 / (2 m)` for
            balanced accuracy with m rows in the smaller class, `1 / m` for a gap in rates with m rows in the smallest
            cell.

    Raises:
        ValueError: for another kind, or a row effect outside `[0, 1]`.
    """
    if kind not in _TOLERANCES:
        raise ValueError(f"kind must be 'performance' or 'gap', got {kind!r}")
    if not 0 <= row_effect <= 1:
        raise ValueError(f"row_effect must lie in [0, 1], got {row_effect}")
    return max(_TOLERANCES[kind], row_effect)
