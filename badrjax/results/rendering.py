"""Ledger tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from badrjax.results import verdicts
from badrjax.results.tables import verdict_counts


def ledger_markdown(frame: Any) -> str:
    """A table of `ledger_table` as Markdown: paper and ours side by side, and the counts beneath.

    Args:
        frame: as returned by `ledger_table`.

    Returns:
        The text, its last character a line break. Ours is shown with the half-width of the prediction interval, which
        is for a mean of the paper's number of seeds.
    """
    labels = list(frame.columns[: frame.columns.get_loc("paper")])
    header = [*labels, "paper", "ours", "difference", "p (BH)", "floor", "verdict", "note"]
    rows = [_cells(record, labels) for record in frame.to_dict("records")]
    return f"{markdown_table(header, rows)}\n{counts_sentence(frame)}\n"


def ledger_grid_markdown(frame: Any, column: str) -> str:
    """A table of `ledger_table` as Markdown with one of its labels across, and the counts beneath.

    Args:
        frame: as returned by `ledger_table`; the other labels name the rows.
        column: the label whose values become columns, such as `"metric"`.

    Returns:
        The text. A cell reads `paper | ours ± half-width of the prediction interval | verdict`, divided by bars.

    Raises:
        ValueError: where the column is no label of the frame.
    """
    labels = list(frame.columns[: frame.columns.get_loc("paper")])
    if column not in labels:
        raise ValueError(f"column must be a label of the frame, one of {', '.join(labels)}; got {column!r}")
    across = list(dict.fromkeys(frame[column]))
    grid: dict[tuple[str, ...], dict[str, str]] = {}
    for record in frame.to_dict("records"):
        row = tuple(str(record[name]) for name in labels if name != column)
        paper, ours, verdict = (_cells(record, ())[index] for index in (0, 1, -2))
        grid.setdefault(row, {})[record[column]] = " | ".join(filter(None, (paper, ours, verdict)))
    rows = [[*row, *(cells.get(name, "") for name in across)] for row, cells in grid.items()]
    header = [*(name for name in labels if name != column), *map(str, across)]
    return f"{markdown_table(header, rows)}\n{counts_sentence(frame)}\n"


def claims_markdown(frame: Any) -> str:
    """A table of `claim_table` as Markdown.

    Args:
        frame: as returned by `claim_table`.
    """
    labels = list(frame.columns[: frame.columns.get_loc("estimate")])
    header = [*labels, "difference", "95%, over seeds", "95%, wider", "adjusted", "p (Holm)", "verdict", "note"]
    rows = [
        [
            *(str(record[name]) for name in labels),
            _number(record["estimate"], 3, signed=True),
            _range(record["seeds_low"], record["seeds_high"]),
            _range(record["wide_low"], record["wide_high"]),
            _range(record["low"], record["high"]),
            _number(record["p_holm"], 3),
            record["verdict"],
            record["note"],
        ]
        for record in frame.to_dict("records")
    ]
    return markdown_table(header, rows)


def counts_sentence(frame: Any) -> str:
    """How many of the targets earned each verdict, and what was left out, as one sentence."""
    counts = verdict_counts(frame)
    shares = ", ".join(f"{counts[name]} {name}" for name in verdicts.TARGETS if counts[name])
    left_out = ", ".join(f"{counts[name]} {name}" for name in verdicts.NO_TARGETS if counts[name])
    sentence = f"{counts['targets']} targets: {shares}" if counts["targets"] else "No targets"
    return sentence + (f"; no targets: {left_out}." if left_out else ".")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table that ends with a line break; bars and line breaks within cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def _cells(record: dict[str, Any], labels: Sequence[str]) -> list[str]:
    decimals = max(int(record["decimals"]), 3)
    ours = _number(record["ours"], decimals)
    if ours and not math.isnan(record["half_width"]):
        ours += f" ± {record['half_width']:.{decimals}f}"
    return [
        *(str(record[name]) for name in labels),
        _number(record["paper"], int(record["decimals"])),
        ours,
        _number(record["difference"], decimals, signed=True),
        _number(record["p_adjusted"], 3),
        _number(record["floor"], 3),
        record["verdict"],
        record["note"],
    ]


def _number(value: float, decimals: int, *, signed: bool = False) -> str:
    return "" if math.isnan(value) else f"{value:{'+' if signed else ''}.{decimals}f}"


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"


def _escaped(cell: str) -> str:
    return str(cell).replace("|", "\\|").replace("\n", " ")
