"""What a page is made of: plain data, without any HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

Cell = str | float | int | None
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Text(NamedTuple):
    """Paragraphs, divided by empty lines.

    Attributes:
        text: plain, with `code`, **bold** and [links](https://example.org); everything else is shown as it is.
    """

    text: str


class Table(NamedTuple):
    """A table that the reader can sort.

    Attributes:
        columns: the heads.
        rows: as many cells each as there are columns. Numbers are shown with `decimals` and sorted by all their
            digits; text that begins with a number, such as `0.775 ± 0.003`, is sorted by it; `None` is empty.
        caption: what the table shows.
        note: what stands below it.
        decimals: of numbers that are no integers.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    note: str = ""
    decimals: int = 3

    @classmethod
    def of_frame(cls, frame: Any, caption: str = "", decimals: int = 3, note: str = "") -> Table:
        """The columns of a pandas frame, without its index.

        Args:
            frame: any number of rows.
            caption: what the table shows.
            decimals: of numbers that are no integers, `>= 0`.
            note: what stands below it.

        Returns:
            The table; what is neither a number nor text is shown as its text.
        """
        rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
        return cls([str(name) for name in frame.columns], rows, caption, note, decimals)


class Figure(NamedTuple):
    """A figure, drawn as vectors.

    Attributes:
        figure: of matplotlib; it is not changed.
        caption: what it shows.
        alternative: the same for who cannot see it.
    """

    figure: Any
    caption: str
    alternative: str


class Facts(NamedTuple):
    """Names and values, one below the other.

    Attributes:
        items: values of any kind; mappings within are shown with their names joined by dots.
    """

    items: Mapping[str, Any]


class Notice(NamedTuple):
    """A remark that is set off, such as that a predictor is randomised.

    Attributes:
        text: as in `Text`.
    """

    text: str


Block = Text | Table | Figure | Facts | Notice


class Section(NamedTuple):
    """A heading and what stands below it.

    Attributes:
        heading: plain text; empty for none.
        blocks: in order.
    """

    heading: str
    blocks: tuple[Block, ...]


class Page(NamedTuple):
    """A report.

    Attributes:
        title: of the page.
        lead: what it is about, as in `Text`.
        sections: in order; four or more get a list of contents.
        settings: of the run, shown at the end.
        provenance: where the numbers come from, see `badrjax.results.provenance`, shown at the end.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
    settings: Mapping[str, Any] = _NOTHING
    provenance: Mapping[str, Any] = _NOTHING


def _cell(value: Any) -> Cell:
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    return plain if plain is None or isinstance(plain, str | int | float) else str(plain)
