"""Tables as HTML that a script sorts, with the verdicts marked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Integral, Real
from typing import NamedTuple

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
# Characters beyond which a cell is broken into lines; columns up to which print is large, and upright.
_LONG, _NARROW, _WIDE = 28, 7, 10


def table_html(table: Table) -> str:
    """A table in a box of its own, which scrolls where it is wider than the page.

    Raises:
        ValueError: for a row with another number of cells than there are columns.
    """
    width = len(table.columns)
    for row in table.rows:
        if len(row) != width:
            raise ValueError(f"a row of the table has {len(row)} cells and not {width}: {list(row)!r}")
    columns = [_column([row[at] for row in table.rows], table.decimals) for at in range(width)]
    head = "".join(
        f'<th scope="col"{_class(column.classes)}>{inline(str(name))}</th>'
        for name, column in zip(table.columns, columns, strict=True)
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>\n" for cells in zip(*(column.cells for column in columns), strict=True))
    caption = f"<figcaption>{inline(table.caption)}</figcaption>\n" if table.caption else ""
    note = f'<p class="note">{inline(table.note)}</p>\n' if table.note else ""
    size = "narrow" if width <= _NARROW else "wide" if width <= _WIDE else "widest"
    label = escape(table.caption or "table: " + ", ".join(filter(None, map(str, table.columns))))
    return (
        f'<figure class="table {size}">\n{caption}'
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


class _Column(NamedTuple):
    """Classes of a column's head, and its cells as HTML."""

    classes: tuple[str, ...]
    cells: list[str]


def _column(cells: Sequence[Cell], decimals: int) -> _Column:
    """Sorted by numbers where most of the cells that are not empty begin with one; to the right where all are short."""
    texts = [cell_text(cell, decimals) for cell in cells]
    keys = [sort_key(cell) for cell in cells]
    numbers = [isinstance(cell, Real) or key is not None for cell, key in zip(cells, keys, strict=True)]
    is_numeric = 2 * sum(numbers) > sum(bool(text.strip()) for text in texts)
    is_short = all(len(text) <= _LONG and not _VERDICT.search(text) for text in texts)
    classes = ("number",) if is_numeric and is_short else ()
    shown = []
    for text, key in zip(texts, keys, strict=True):
        value = f' data-value="{key!r}"' if is_numeric and key is not None else ""
        named = _class((*classes, "long") if len(text) > _LONG else classes)
        shown.append(f"<td{named}{value}>{_with_verdicts(text)}</td>")
    return _Column(classes, shown)


def _class(names: Sequence[str]) -> str:
    return f' class="{" ".join(names)}"' if names else ""


def _with_verdicts(text: str) -> str:
    """Text with each verdict set off: by its word, and by a class that gives it a colour besides."""
    parts, at = [], 0
    for found in _VERDICT.finditer(text):
        name = found[0].lower().replace(" ", "-")
        parts += [inline(text[at : found.start()]), f'<span class="verdict {name}">{found[0]}</span>']
        at = found.end()
    return "".join([*parts, inline(text[at:])])
