"""Self-contained HTML pages of results: tables that sort, figures as vectors, settings and provenance.

A `Page` is data: sections of `Text`, `Table`, `Figure`, `Facts` and `Notice`. `render` makes HTML of it, `write_page` a
file, which asks nothing of the network, sorts by a click or a key, and reads on a phone, in the dark and on paper.
`sections_of_markdown` makes sections of the Markdown that tables of results are written as, `sweep_page` a page of a
sweep. Figures need matplotlib (`pip install "badrjax[experiments]"`).
"""

from badrjax.reports.blocks import Block, Facts, Figure, Notice, Page, Section, Table, Text
from badrjax.reports.markdown import sections_of_markdown
from badrjax.reports.rendering import render, write_page
from badrjax.reports.sweeps import sweep_page

__all__ = [
    "Block", "Facts", "Figure", "Notice", "Page", "Section", "Table", "Text",
    "render", "sections_of_markdown", "sweep_page", "write_page",
]  # fmt: skip
