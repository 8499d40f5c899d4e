"""The HTML page of an experiment: what it printed and drew, with its settings and where its numbers come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from badrjax import reports
from badrjax.reports import Block, Figure, Page, Section, Table, Text
from experiments.catalogue import EXPERIMENTS


def write(
    settings: Any, *parts: str | RichTable | Section, figures: Mapping[str, Any] | None = None, out: Path | None = None
) -> Path:
    """Write `report.html` beside an experiment's `results.csv` and `provenance.json`.

    Args:
        settings: of the experiment, whose module names it.
        parts: in order: Markdown with headings, tables of rich, whole sections, or lines of text. The first heading
            of Markdown is the title.
        figures: of matplotlib by caption.
        out: the directory, where it is not that of the settings; `provenance.json` in it is read.

    Returns:
        The path of the page.
    """
    out = out or settings.out
    name = type(settings).__module__.rpartition(".")[2]
    title, sections = _sections(parts)
    drawn = tuple(Figure(figure, caption, describe(caption, figure)) for caption, figure in (figures or {}).items())
    if drawn:
        sections.append(Section("Figures" if len(drawn) > 1 else "Figure", drawn))
    origin = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    used = origin.pop("settings", {})
    summary = EXPERIMENTS[name].summary if name in EXPERIMENTS else name
    summary = summary[:1].upper() + summary[1:]
    lead = f"{summary}.\n\nMade by `python -m experiments {name}`."
    heading = title or name.replace("_", " ").capitalize()
    return reports.write_page(Page(heading, lead, tuple(sections), used, origin), out / "report.html")


def describe(caption: str, figure: Any) -> str:
    """What a figure shows, from what is written in it: panels with their axes, and the lines that have names."""
    panels = []
    for axes in figure.axes:
        words = [axes.get_ylabel(), "against", axes.get_xlabel()]
        axis = " ".join(words) if words[0] and words[2] else words[0] or words[2]
        panels.append(": ".join(filter(None, (axes.get_title() or axes.get_title("left"), axis))))
    named = dict.fromkeys(label for axes in figure.axes for label in axes.get_legend_handles_labels()[1])
    text = f"{caption}. Panels: {'; '.join(dict.fromkeys(filter(None, panels)))}." if any(panels) else f"{caption}."
    return " ".join((text + (f" Drawn are {', '.join(named)}." if named else "")).split())


def of_rich(shown: RichTable, section: str = "of") -> Table:
    """A table of rich as one of a page; its rows that only name a section become a column of their own.

    Args:
        shown: as it is printed.
        section: the head of that column.
    """
    columns = [str(column.header) for column in shown.columns]
    rows = [[str(cell) for cell in row] for row in zip(*(column.cells for column in shown.columns), strict=True)]
    headings = [bool(row[0].strip()) and not any(cell.strip() for cell in row[1:]) for row in rows]
    caption, note = (str(text) if text else "" for text in (shown.title, shown.caption))
    if not any(headings):
        return Table(columns, [[cell.strip() for cell in row] for row in rows], caption, note)
    found, under = [], ""
    for row, is_heading in zip(rows, headings, strict=True):
        if is_heading:
            under = row[0].strip()
        else:
            found.append([under, *(cell.strip() for cell in row)])
    return Table([section, *columns], found, caption, note)


def _sections(parts: Sequence[str | RichTable | Section]) -> tuple[str, list[Section]]:
    """A title, and the parts as sections: what is not Markdown with headings, or a section, stands under Results."""
    title, sections = "", []
    loose: list[Block] = []
    for part in parts:
        if isinstance(part, Section):
            sections.append(part)
        elif isinstance(part, RichTable):
            loose.append(of_rich(part))
        elif part.lstrip().startswith(("#", "|")):
            found, more = reports.sections_of_markdown(part)
            title = title or found
            sections += more
        else:
            loose.append(Text(part))
    if loose:
        sections.insert(0, Section("Results", tuple(loose)))
    return title, sections
