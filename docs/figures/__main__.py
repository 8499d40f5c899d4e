"""Make the figures of the site from runs on bundled data: `python docs/figures [NAME ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

import front_page
import infos
import matplotlib as mpl

IMAGES = Path(__file__).parents[1] / "images"
PARTS = {"front_page": front_page.make, **infos.PARTS}


def main(names: list[str]) -> None:
    """Make the named parts, or all, and write what they draw."""
    mpl.rcParams["svg.hashsalt"] = "badrjax"  # the same picture is the same file
    for part in names or PARTS:
        for name, figure in PARTS[part]().items():
            figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
            print(IMAGES / f"{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
