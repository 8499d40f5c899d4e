"""Figures of matplotlib as SVG that stands within a page."""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

from badrjax.reports.blocks import Figure
from badrjax.reports.inline import escape, inline

# Nothing that changes from one drawing to the next.
_OPTIONS: Any = {"svg.hashsalt": "badrjax", "svg.fonttype": "path", "svg.image_inline": True, "path.simplify": True}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_IDENTIFIERS = re.compile(r'(\bid="|url\(#|href="#)([^")]+)')
_SIZE = re.compile(r'<svg[^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>')
_STYLE = re.compile(r"\s*<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_PIXELS_PER_POINT = 4 / 3


def figure_html(figure: Figure, prefix: str) -> str:
    """A figure on a card of its own, which scrolls where the page is much narrower.

    Args:
        figure: what to draw.
        prefix: of all identifiers within, so that several figures can stand in one page.

    Raises:
        ValueError: for a figure without an alternative.
    """
    if not figure.alternative.strip():
        raise ValueError("a figure needs an alternative: what it shows, for who cannot see it")
    caption = f"<figcaption>{inline(figure.caption)}</figcaption>\n" if figure.caption else ""
    return (
        f'<figure class="drawing">\n<div class="scroll" tabindex="0" role="region" aria-label="figure: '
        f'{escape(figure.caption or figure.alternative)}">\n{svg(figure, prefix)}</div>\n{caption}</figure>\n'
    )


def svg(figure: Figure, prefix: str) -> str:
    """The drawing as an `svg` element: the same text for the same figure, its letters drawn as paths."""
    import matplotlib  # whoever has a figure has it

    buffer = io.StringIO()
    with matplotlib.rc_context(_OPTIONS):
        # Tight, so that no title or legend that is wider than the figure is cut off.
        _copy(figure.figure).savefig(
            buffer, format="svg", metadata=_NO_METADATA, facecolor="none", bbox_inches="tight", pad_inches=0.05
        )
    drawn = buffer.getvalue()
    drawn = _IDENTIFIERS.sub(rf"\g<1>{prefix}-\g<2>", drawn[drawn.index("<svg") :])
    size = _SIZE.match(drawn)
    if size is None:
        raise ValueError("matplotlib drew an SVG without a size, which this version cannot place in a page")
    width, height = (round(float(points) * _PIXELS_PER_POINT) for points in size.groups())
    head = (
        f'<svg role="img" aria-label="{escape(figure.alternative)}" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {size[1]} {size[2]}" width="{width}" height="{height}" '
        f'style="max-width:{width}px;min-width:min({width}px,34rem)">'
    )
    # Its style would be that of the whole page; the page has it for drawings only.
    return head + _STYLE.sub("", drawn[size.end() :])


def _copy(figure: Any) -> Any:
    """A figure that can be drawn without moving the parts of the given one, which a layout does a little each time."""
    try:
        return pickle.loads(pickle.dumps(figure))
    except (AttributeError, TypeError, pickle.PicklingError):  # something in it, such as a local function, has no copy
        return figure
