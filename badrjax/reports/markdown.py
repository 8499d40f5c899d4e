"""Sections of a page from the Markdown that tables of results are written as."""

from __future__ import annotations

import re
from collections.abc import Iterator

from badrjax.reports.blocks import Block, Section, Table, Text

_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\s*:?-{3,}:?\s*")


def sections_of_markdown(text: str) -> tuple[str, tuple[Section, ...]]:
    """A title and sections from Markdown of headings, paragraphs and tables.

    Headings of the second level begin sections. Deeper ones become the caption of the table that follows, or a line of
    text where none does.

    Args:
        text: as `badrjax.results.markdown_table` and the like write it.

    Returns:
        The heading of the first level, empty where there is none, and the sections; what comes before the first
        heading of the second level is a section without a heading.

    Raises:
        ValueError: for a table with a row of another length than its head.
    """
    title, heading, caption = "", "", ""
    sections: list[Section] = []
    blocks: list[Block] = []

    def close() -> None:
        if blocks or heading:
            sections.append(Section(heading, tuple(blocks)))

    def caption_as_text() -> None:
        if caption:
            blocks.append(Text(f"**{caption}**"))

    for kind, level, content in _pieces(text):
        if kind == "heading":
            caption_as_text()
            caption = content if level > 2 else ""
            if level == 1:
                title = title or content
            elif level == 2:
                close()
                heading, blocks = content, []
        elif kind == "table":
            blocks.append(_table(content, caption))
            caption = ""
        else:
            caption_as_text()
            caption = ""
            blocks.append(Text(content))
    caption_as_text()
    close()
    return title, tuple(sections)


def _pieces(text: str) -> Iterator[tuple[str, int, str]]:
    """Headings with their levels, tables and paragraphs, in order."""
    waiting: list[str] = []
    for line in [*text.splitlines(), ""]:
        found = _HEADING.match(line)
        is_row = line.lstrip().startswith("|")
        if waiting and (not line.strip() or found or is_row != waiting[0].lstrip().startswith("|")):
            yield "table" if waiting[0].lstrip().startswith("|") else "text", 0, "\n".join(waiting)
            waiting = []
        if found:
            yield "heading", len(found[1]), found[2].strip()
        elif line.strip():
            waiting.append(line)


def _table(text: str, caption: str) -> Block:
    head, *rows = (_cells(line) for line in text.splitlines())
    if rows and all(_RULE.fullmatch(cell) for cell in rows[0]):
        rows = rows[1:]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"a row of a Markdown table has {len(row)} cells and its head {len(head)}: {row}")
    return Table(head, rows, caption)


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _BAR.split(line.strip())[1:-1]]
