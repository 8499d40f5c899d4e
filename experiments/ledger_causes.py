"""Likely causes of cells that do not come out; each was found by the runs that `docs/reproduction.md` describes.

A cause is no verdict: it is shown only beside a cell that the stored results do not reproduce.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from badrjax.results import verdicts

CODE: tuple[tuple[Mapping[str, str], str], ...] = (
    (
        {"dataset": "student_sex", "method": "FORML, two stages"},
        "comes out where every bargain fails (`--changes bargain=fails`), and under no other of 14 changes, so "
        "failures of the published conic solver are a possible cause",
    ),
    (
        {"dataset": "credit_sex", "method": "FORML, two stages"},
        "comes out with the hyper-parameters of the text and with an exact bargain, so it lies within what is open "
        "about epochs and solver",
    ),
    (
        {"dataset": "credit_sex", "method": "FORML, one stage"},
        "comes out where runs are cut at the 50 epochs of the text",
    ),
    (
        {"dataset": "credit_sex", "method": "LtR, one stage"},
        "no one option brings it out; it falls below the printed number when validation losses are computed without "
        "dropout",
    ),
    (
        {"dataset": "credit_sex"},
        "the number of epochs is open: 50 instead of those of the code move the rows of this setting in both "
        "directions",
    ),
)
"""Of the cells of Nash-Meta-Learning under the protocol of the code, the first that fits."""

BADR: tuple[tuple[Mapping[str, str], str], ...] = (
    ({"data": "student"}, "how the recorded run chose its columns is not known"),
    ({"data": "crime"}, "how the recorded run chose its columns is not known"),
)
"""Of BADR's experiment 3."""

_UNKNOWN = "cause unknown; its settings are not printed"
FAIRLAB: tuple[tuple[Mapping[str, str], str], ...] = (
    ({"method": "COSMOS"}, _UNKNOWN),
    ({"method": "Adversarial"}, _UNKNOWN),
    ({}, "cause unknown"),
)
"""Of FairLAB's tables of one requirement."""

_CHANGED = (
    "Vanilla's row agrees with ours in both tables of seven where Gender and Race change places in all four columns, "
    "within the half-widths: the printed columns may be exchanged"
)
_CONSTANT = "ends constant with the published settings, which give the task an eighth of the weight"
FAIRLAB_SEVEN: tuple[tuple[Mapping[str, str], str], ...] = (
    *(({"method": "Vanilla", "attributes": name}, _CHANGED) for name in ("Gender", "Race", "Gender*Age", "Race*Age")),
    ({"method": "COSMOS", "constraint": "DP"}, f"{_CONSTANT}; with more none of this row is rejected, or confirmed"),
    ({"method": "COSMOS"}, f"{_CONSTANT}; with more four of this row's eight cells are rejected"),
    *FAIRLAB,
)
"""Of FairLAB's tables of seven requirements at once."""

TEXT = "the printed numbers are those of the published code, which differs from the text"
"""Of those under the protocol of the text."""


def explained(frame: pd.DataFrame, causes: Sequence[tuple[Mapping[str, str], str]]) -> pd.DataFrame:
    """Cells with the likely cause where they do not come out.

    Args:
        frame: cells with their labels, `verdict` and `reason`.
        causes: labels and texts; the first whose labels fit is taken.
    """
    reasons = []
    for row in frame.to_dict("records"):
        reason = row["reason"]
        if row["verdict"] in (verdicts.NOT_REPRODUCED, verdicts.CLOSE):
            fits = (text for labels, text in causes if all(row[name] == value for name, value in labels.items()))
            cause = next(fits, "")
            known = [part for part in reason.split("; ") if part and (part != "cause unknown" or not cause)]
            reason = "; ".join([*known, *filter(None, [cause])]) or "cause unknown"
        reasons.append(reason)
    return frame.assign(reason=reasons)
