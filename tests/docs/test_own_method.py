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
    """The method's file and its line of `CASES`, as the page has them; and one that takes every row for one row."""
    blocks = pages.blocks_of(PAGE)
    method = next(block for block in blocks if block.language == "python").code
    line = next(block for block in blocks if block.mark == "conformance").code
    without_weights = method.replace("weight = frequencies(batch)", "weight = jnp.ones(batch.y.shape)")
    assert without_weights != method
    added = {}
    for name, code in (("own_method", method), ("own_method_without_weights", without_weights)):
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(code + line, str(PAGE), "exec"), vars(module))
        added[name] = module.case["group_tilt"]
    assert not set(added) & set(cases.CASES)
    cases.CASES.update(added)
    yield
    for name in added:
        del cases.CASES[name], sys.modules[name]


def arguments(name):
    """What a conformance test takes."""
    code = TESTS[name].__code__
    return code.co_varnames[: code.co_argcount]


def conform(name, case, tmp_path):
    """Run one conformance test, whose own asserts judge the method."""
    given = {"case": case, "tmp_path": tmp_path}
    TESTS[name](**{argument: given[argument] for argument in arguments(name)})


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in WHOLE_RUNS else []) for name in TESTS],
)
def test_it_conforms(name, tmp_path, request):
    if any("x64" in mark.args for mark in getattr(TESTS[name], "pytestmark", []) if mark.name == "usefixtures"):
        request.getfixturevalue("x64")
    assert "case" in arguments(name), f"{name} is of no case, so that it would say nothing of this one"
    conform(name, "own_method", tmp_path)


@pytest.mark.parametrize("name", ["test_padding_changes_nothing", "test_a_row_of_weight_two_is_the_row_twice"])
def test_a_method_that_ignores_weights_does_not(name, tmp_path):
    with pytest.raises(AssertionError):
        conform(name, "own_method_without_weights", tmp_path)
