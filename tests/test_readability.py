"""Facts about the source itself: short functions and files, and docstrings that say what they must."""

import ast
import inspect
from pathlib import Path

import pytest

import badrjax as bx

PACKAGE = Path(bx.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_FUNCTION_LINES = 60
MOST_FILE_LINES = 400
MODULES = (bx, bx.hypergradients, bx.metrics, bx.objectives, bx.pareto, bx.surrogates)
HIGHER_FLOORS = (
    "blocks", "checkpoints", "datasets", "incoming", "methods", "models", "samplers", "sharding", "streaming", "sweeps",
    "training",
)  # fmt: skip
# Floors 0 and 1: what a researcher composes by hand.
PRIMITIVES = {
    f"{thing.__module__}.{name}": thing
    for module in MODULES
    for name in module.__all__
    if inspect.isfunction(thing := getattr(module, name)) and thing.__module__.split(".")[1] not in HIGHER_FLOORS
}


def code_lines(function):
    """Lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_and_files_are_short(path):
    text = path.read_text()
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if code_lines(f) > MOST_FUNCTION_LINES] == []
    assert len(text.splitlines()) <= MOST_FILE_LINES


@pytest.mark.parametrize("name", PRIMITIVES)
def test_public_functions_say_what_they_take_return_and_raise(name):
    text = " ".join((inspect.getdoc(PRIMITIVES[name]) or "").split()).lower()
    assert text
    # The sections themselves, or one sentence that points to the twin that has them.
    assert "args:" in text or "arguments" in text or "args," in text
    assert "returns" in text
    assert "raises" in text or "errors" in text


@pytest.mark.parametrize("name", bx.__all__)
def test_every_public_name_is_documented(name):
    assert inspect.getdoc(getattr(bx, name))
