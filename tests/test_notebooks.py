"""Notebooks run, their rendered twins are those of the text, and nothing in them belongs elsewhere."""

import json
import re
import runpy
import sys
from pathlib import Path

import jupytext
import matplotlib
import pytest

from badrjax.plotting import COLOURS

FOLDER = Path(__file__).parent.parent / "notebooks"
TEXTS = sorted(FOLDER.glob("[0-9]*.py"))
MOST_BYTES = 150_000
# What a quick run prints with and without the dataset that is not bundled.
SOURCES = ("COMPAS: 1 is a new charge", "COMPAS was not found: what follows is about German Credit")


def twin(text):
    return json.loads(text.with_suffix(".ipynb").read_text(encoding="utf-8"))


def outputs(text):
    return [output for cell in twin(text)["cells"] for output in cell.get("outputs", [])]


def shown(output):
    """The text of an output, pictures left out."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    return "".join(output.get("text", [])) + json.dumps(data)


def test_there_are_five_with_a_twin_each():
    assert len(TEXTS) == 5
    assert [twin.stem for twin in sorted(FOLDER.glob("*.ipynb"))] == [text.stem for text in TEXTS]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_a_quick_run_states_its_facts(text, monkeypatch, capsys):
    # As a script: asserts of the notebook fail here, and warnings are errors.
    monkeypatch.setenv("BADRJAX_NOTEBOOKS_QUICK", "1")
    monkeypatch.setattr(sys, "argv", [str(text)])
    with matplotlib.rc_context():
        left = runpy.run_path(str(text), run_name="__main__")
    assert left["QUICK"] is True
    printed = capsys.readouterr().out
    assert sum(source in printed for source in SOURCES) == (text.stem == "03_constraints")


@pytest.mark.slow
def test_without_the_dataset_that_is_not_bundled_the_notebook_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("BADRJAX_NOTEBOOKS_QUICK", "1")
    monkeypatch.delenv("BADRJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nor in the cache
    with matplotlib.rc_context():
        runpy.run_path(str(FOLDER / "03_constraints.py"), run_name="__main__")
    assert SOURCES[1] in capsys.readouterr().out


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_the_quick_profile_shrinks_numbers_only(text):
    source = text.read_text(encoding="utf-8")
    (names,) = re.findall(r"^([A-Z_]+(?:, [A-Z_]+)+) = \(?\s*\([\d ,.\[\]]+\) if QUICK else", source, re.MULTILINE)
    assert len(names.split(", ")) >= 4
    assert "BADRJAX_NOTEBOOKS_QUICK" in source
    assert re.findall(r"^ *assert |np.testing", source, re.MULTILINE)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_the_twin_is_of_this_text(text):
    cells = jupytext.read(text, fmt="py:percent").cells
    rendered = twin(text)["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in rendered] == [
        (cell.cell_type, cell.source) for cell in cells
    ]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_the_twin_is_small_and_changes_only_with_its_results(text):
    assert text.with_suffix(".ipynb").stat().st_size <= MOST_BYTES
    notebook = twin(text)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert [cell["id"] for cell in notebook["cells"]] == [f"cell-{n:02}" for n in range(1, len(notebook["cells"]) + 1)]
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        assert cell.get("execution_count") is None
        assert all(output.get("execution_count") is None for output in cell.get("outputs", []))


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_the_twin_shows_figures_and_no_errors_warnings_or_paths_of_a_machine(text):
    found = outputs(text)
    assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in found)
    assert sum("image/png" in output.get("data", {}) for output in found) >= 2
    path = r"(?<![\w.:/])/\w[\w.-]*/\w[\w.-]*/\w|[A-Z]:\\\\|\.venv|~/"
    machine = re.compile(path + r"|(Error|Warning)\b|0x[0-9a-f]{6}")
    assert [text for text in map(shown, found) if machine.search(text)] == []


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_numbers_come_with_intervals_seeds_and_floors_and_nobody_is_called_fair(text):
    source = text.read_text(encoding="utf-8")
    assert "bootstrap" in source
    assert "floor=" in source
    assert "counts=" in source
    assert re.search(r"\{(SEEDS|DRAWS)\}", source)  # how many are told beside the numbers
    assert (
        re.search(
            r"\bun?fair\b", re.sub(r"[\w./-]*fair(learn|lab|ness)[\w./-]*|mathrm\{Fair\}", "", source, flags=re.I)
        )
        is None
    )


def test_pictures_are_drawn_by_the_plots_of_the_package():
    for text in TEXTS:
        source = text.read_text(encoding="utf-8")
        assert "plotting.group_metrics(" in source
        assert re.findall("#[0-9A-Fa-f]{6}", source) == []  # colours are those of the package
    assert len(COLOURS) == 7
