"""Tables as HTML that a script sorts, with the verdicts marked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Integral, Real

from badrjax.reports.blocks import Cell, Table
from badrjax.reports.inline import escape, inline
from badrjax.results import verdicts

WORDS = (*verdicts.TARGETS, *verdicts.NO_TARGETS, *verdicts.CLAIMS)
# Longer words first, for one of them ends with another.
_VERDICT = re.compile(r"\b(?:" + "|".join(sorted(WORDS, key=len, reverse=True)) + r")\b")
_MINUS = "\N{MINUS SIGN}"
_NUMBER = re.compile(
    rf"[<>≤≥~]?\s*(?P<number>[+\-{_MINUS}]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][+\-]?\d+)?)(?P<percent>\s?%)?(?![\w.])"
)
# Characters beyond which a cell is broken into lines, and columns beyond which print is small.
_LONG, _WIDE = 28, 7


def table_html(table: Table) -> str:
    """A table in a box of its own, which scrolls where it is wider than the page.

    Raises:
        ValueError: for a row with another number of cells than there are columns.
    """
    width = len(table.columns)
    for row in table.rows:
        if len(row) != width:
            raise ValueError(f"a row of the table has {len(row)} cells and not {width}: {list(row)!r}")
    numeric = [_is_numeric([row[column] for row in table.rows]) for column in range(width)]
    head = "".join(map(_head_html, table.columns, numeric))
    body = "".join(f"<tr>{_row_html(row, numeric, table.decimals)}</tr>\n" for row in table.rows)
    caption = f"<figcaption>{inline(table.caption)}</figcaption>\n" if table.caption else ""
    note = f'<p class="note">{inline(table.note)}</p>\n' if table.note else ""
    label = escape(table.caption or "table: " + ", ".join(filter(None, map(str, table.columns))))
    return (
        f'<figure class="table {"wide" if width > _WIDE else "narrow"}">\n{caption}'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n{note}</figure>\n"
    )


def sort_key(cell: Cell) -> float | None:
    """The number by which a cell is sorted, or `None` where it has none.

    Args:
        cell: a number, or text, which is sorted by the number that it begins with (`0.775 ± 0.003`, `24,130`, `-2%`).
    """
    if isinstance(cell, Real):
        return float(cell) if math.isfinite(cell) else None
    found = _NUMBER.match(str(cell or "").strip())
    if not found:
        return None
    value = float(found["number"].replace(",", "").replace(_MINUS, "-"))
    return value / 100 if found["percent"] else value


def cell_text(cell: Cell, decimals: int) -> str:
    """A cell as it is shown: nothing for `None`, and three digits where so few decimals would hide a number."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    if isinstance(cell, Integral):
        return str(cell)
    value = float(cell)
    if value and math.isfinite(value) and (abs(value) < 10.0**-decimals or abs(value) >= 1e7):
        return f"{value:.3g}"
    return f"{value:.{decimals}f}" if math.isfinite(value) else {True: "NaN"}.get(math.isnan(value), str(value))


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """Whether most of the cells that are not empty begin with a number."""
    filled = [cell for cell in cells if cell is not None and str(cell).strip()]
    return 2 * sum(isinstance(cell, Real) or sort_key(cell) is not None for cell in filled) > len(filled)


def _head_html(name: str, numeric: bool) -> str:
    named = ' class="number"' if numeric else ""
    return f'<th scope="col"{named}>{inline(str(name))}</th>'


def _row_html(row: Sequence[Cell], numeric: Sequence[bool], decimals: int) -> str:
    return "".join(_cell_html(cell, of, decimals) for cell, of in zip(row, numeric, strict=True))


def _cell_html(cell: Cell, numeric: bool, decimals: int) -> str:
    text = cell_text(cell, decimals)
    key = sort_key(cell) if numeric else None
    value = "" if key is None else f' data-value="{key!r}"'
    classes = [name for name, on in (("number", numeric and len(text) <= _LONG), ("long", len(text) > _LONG)) if on]
    named = f' class="{" ".join(classes)}"' if classes else ""
    return f"<td{named}{value}>{_with_verdicts(text)}</td>"


def _with_verdicts(text: str) -> str:
    """Text with each verdict set off: by its word, and by a class that gives it a colour besides."""
    parts, at = [], 0
    for found in _VERDICT.finditer(text):
        name = found[0].lower().replace(" ", "-")
        parts += [inline(text[at : found.start()]), f'<span class="verdict {name}">{found[0]}</span>']
        at = found.end()
    return "".join([*parts, inline(text[at:])])
