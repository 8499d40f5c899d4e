"""Runs the notebooks, which are kept as text, and writes what they show beside them.

    python notebooks/render.py [NAME ...]        # all, or those named, such as 02_fronts

Each `.py` here in jupytext's percent format is executed from top to bottom in a fresh kernel, and its `.ipynb` twin
written only where no cell fails. Twins hold no times of cells, counts or random names, so that they change only where
text or results do.
"""

import base64
import io
import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
MOST_BYTES = 150_000
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def texts() -> list[Path]:
    """The notebooks' texts in order."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def as_notebook(text: Path) -> nbformat.NotebookNode:
    """The text as a notebook without outputs, its cells named by their place."""
    notebook = jupytext.read(text, fmt="py:percent")
    notebook.metadata = nbformat.NotebookNode(kernelspec=_KERNEL, language_info={"name": "python"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for place, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{place:02}", nbformat.NotebookNode()
    return notebook


def executed(text: Path) -> nbformat.NotebookNode:
    """The notebook with what its cells show, run where a reader would: beside the text.

    Raises:
        CellExecutionError: where a cell fails.
        RuntimeError: where a cell warns, or shows an object that could not be drawn, which no cell fails for.
    """
    # XLA tells on a busy machine that compiling took long, which is no part of what a notebook shows.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    notebook = as_notebook(text)
    options = {"timeout": 1800, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
    client = NotebookClient(notebook, **options)
    client.resources = {"metadata": {"path": str(FOLDER)}}
    client.execute()
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_plain(_shown(output)) for output in cell.outputs]
    notebook.metadata = nbformat.NotebookNode(kernelspec=_KERNEL, language_info={"name": "python"})
    return notebook


def main(names: list[str]) -> None:
    """Run and write the notebooks of these names, or all."""
    known = {text.stem: text for text in texts()}
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.exit(f"no notebook is called {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names or known:
        content = nbformat.writes(executed(known[name])) + "\n"
        size = len(content.encode())
        if size > MOST_BYTES:
            sys.exit(f"{name}.ipynb would have {size:,} bytes, more than {MOST_BYTES:,}: draw fewer or smaller figures")
        known[name].with_suffix(".ipynb").write_text(content, encoding="utf-8")
        print(f"{name}.ipynb: {size:,} bytes")


def _shown(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    if output.get("name") == "stderr":
        raise RuntimeError(f"a cell wrote to stderr: {output.text}")
    if "<Figure" in output.get("data", {}).get("text/plain", "") and "image/png" not in output.data:
        raise RuntimeError("a figure was not drawn; is the line '# %matplotlib inline' in the first cell?")
    return output


def _plain(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    if "execution_count" in output:
        output.execution_count = None
    if "metadata" in output:
        output.metadata = nbformat.NotebookNode()
    if "image/png" in output.get("data", {}):
        output.data.pop("text/plain", None)  # the size in pixels, which no reader needs
        output.data["image/png"] = _smaller(output.data["image/png"])
    return output


def _smaller(picture: str) -> str:
    """The same PNG with few colours, which takes a third of the bytes."""
    small = io.BytesIO()
    drawn = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    drawn.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    main(sys.argv[1:])
