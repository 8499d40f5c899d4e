"""A page as HTML, and as a file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

from badrjax.reports.blocks import Block, Facts, Figure, Notice, Page, Section, Table, Text
from badrjax.reports.inline import escape, inline, paragraphs
from badrjax.reports.tables import table_html
from badrjax.reports.vectors import figure_html
from badrjax.results.recording import write_atomically

_FEWEST_FOR_CONTENTS = 4


def render(page: Page) -> str:
    """A page as one HTML document that asks nothing of the network: styles, script and figures are within.

    Args:
        page: what is shown.

    Returns:
        The document, the same for the same page. Its own policy refuses all requests and all scripts but the one
        that sorts tables.

    Raises:
        TypeError: for something in a section that is no block.
        ValueError: for a table with a row of another length than its head, or a figure without an alternative.
    """
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    prefixes = (f"figure-{number}" for number in count(1))
    body = [_section(section, number, prefixes) for number, section in enumerate(page.sections, start=1)]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(page.title)}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n<h1>{inline(page.title)}</h1>\n"
        f'<div class="lead">{paragraphs(page.lead)}</div>\n{_contents(page.sections)}{"".join(body)}'
        f"{_details('Settings', page.settings)}{_details('Provenance', page.provenance)}</main>\n"
        "<footer><p>Made by badrjax, which is independent of the <code>badr</code> package.</p></footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def write_page(page: Page, path: str | os.PathLike[str]) -> Path:
    """Write a page by an atomic rename; its directory is made where there is none.

    Args:
        page: see `render`, whose errors it raises before anything is written.
        path: of the file.

    Returns:
        The path.
    """
    text, path = render(page), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    return path


def flattened(items: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values as text, those of mappings within with their names joined by dots."""
    for name, value in items.items():
        named = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{named}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield named, ", ".join(map(str, value)) or "none"
        else:
            yield named, "none" if value is None or value == "" or value == {} else str(value)


def _section(section: Section, number: int, prefixes: Iterator[str]) -> str:
    heading = f"<h2>{inline(section.heading)}</h2>\n" if section.heading else ""
    blocks = "".join(_block(block, prefixes) for block in section.blocks)
    return f'<section id="section-{number}">\n{heading}{blocks}</section>\n'


def _block(block: Block, prefixes: Iterator[str]) -> str:
    match block:
        case Text():
            return paragraphs(block.text)
        case Table():
            return table_html(block)
        case Figure():
            return figure_html(block, next(prefixes))
        case Facts():
            return _facts(block.items)
        case Notice():
            return f'<aside class="notice" role="note">{paragraphs(block.text)}</aside>\n'
    raise TypeError(f"a section holds Text, Table, Figure, Facts and Notice, got {type(block).__name__}")


def _contents(sections: Sequence[Section]) -> str:
    headed = [(number, one.heading) for number, one in enumerate(sections, start=1) if one.heading]
    if len(headed) < _FEWEST_FOR_CONTENTS:
        return ""
    lines = "".join(f'<li><a href="#section-{number}">{inline(heading)}</a></li>\n' for number, heading in headed)
    return f'<nav aria-label="Contents">\n<ul>\n{lines}</ul>\n</nav>\n'


def _facts(items: Mapping[str, Any]) -> str:
    lines = "".join(f"<div><dt>{escape(name)}</dt><dd>{inline(value)}</dd></div>\n" for name, value in flattened(items))
    return f"<dl>\n{lines}</dl>\n"


def _details(summary: str, items: Mapping[str, Any]) -> str:
    if not items:
        return ""
    lines = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n" for name, value in flattened(items))
    return f"<details>\n<summary>{summary}</summary>\n<dl>\n{lines}</dl>\n</details>\n"


def _resource(name: str) -> str:
    return resources.files("badrjax.reports").joinpath(name).read_text("utf-8")
