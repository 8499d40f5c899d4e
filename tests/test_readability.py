"""Facts about the source itself: short functions, documented names, one idea a file."""

import ast
import inspect
from pathlib import Path

import pytest

import badrjax as bx

PACKAGE = Path(bx.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_FUNCTION_LINES = 60
MOST_FILE_LINES = 400
# Floors 0 and 1: what a researcher composes by hand.
PRIMITIVES = [
    path
    for path in FILES
    if path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    in {
        "bargaining",
        "batches",
        "groups",
        "hypergradients",
        "lagrangian",
        "losses",
        "metrics",
        "objectives",
        "pareto",
        "status",
        "surrogates",
        "transport",
        "uncertainty",
    }
]


def functions_of(path):
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def code_lines(function):
    """Lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_and_files_are_short(path):
    assert [f.name for f in functions_of(path) if code_lines(f) > MOST_FUNCTION_LINES] == []
    assert len(path.read_text().splitlines()) <= MOST_FILE_LINES


@pytest.mark.parametrize("path", PRIMITIVES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_primitives_say_what_they_take_give_and_raise(path):
    tree = ast.parse(path.read_text())
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    for function in public:
        text = ast.get_docstring(function) or ""
        assert text, function.name
        if function.args.args or function.args.kwonlyargs:
            # Either the sections, or a pointer to the twin that has them.
            assert "Args:" in text or "rguments" in text or len(function.args.args) <= 3, function.name


@pytest.mark.parametrize("name", bx.__all__)
def test_every_public_name_is_documented(name):
    thing = getattr(bx, name)
    assert inspect.getdoc(thing), name
