"""The toy method of the page "Your own method" passes the conformance tests that methods of the package pass."""

import sys
import types

import pytest

from tests.docs import pages
from tests.methods import cases, test_conformance

PAGE = pages.ROOT / "docs" / "own_method.md"
TESTS = {name: test for name, test in vars(test_conformance).items() if name.startswith("test_")}
WHOLE_RUNS = (
    "test_vmap_over_methods_and_seeds_agrees_with_single_runs",
    "test_runs_are_reproducible_and_depend_on_the_key",
)


@pytest.fixture(scope="module", autouse=True)
def _registered():
    """The method's file and its line of `CASES`, as the page has them."""
    module = types.ModuleType("own_method")
    sys.modules[module.__name__] = module
    blocks = pages.blocks_of(PAGE)
    method = next(block for block in blocks if block.language == "python")
    line = next(block for block in blocks if block.mark == "conformance")
    exec(compile(method.code + line.code, str(PAGE), "exec"), vars(module))
    cases.CASES.update(module.case)
    yield
    for name in module.case:
        del cases.CASES[name]
    del sys.modules[module.__name__]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in WHOLE_RUNS else []) for name in TESTS],
)
def test_it_conforms(name, tmp_path, request):
    test = TESTS[name]
    if any("x64" in mark.args for mark in getattr(test, "pytestmark", []) if mark.name == "usefixtures"):
        request.getfixturevalue("x64")
    given = {"case": "group_tilt", "tmp_path": tmp_path}
    takes = test.__code__.co_varnames[: test.__code__.co_argcount]
    test(**{argument: given[argument] for argument in takes})
