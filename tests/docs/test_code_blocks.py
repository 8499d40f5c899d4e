"""Every block of code on every page runs: doctests by pytest's own collection, all others here."""

import contextlib
import doctest
import io
import re
import shlex

import matplotlib as mpl
import pytest

from badrjax import cli
from experiments.catalogue import EXPERIMENTS

from . import pages

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RUN = [
    path
    for path in pages.PAGES
    if any(block.language in ("python", "console") and not block.is_doctest for block in pages.blocks_of(path))
]


def whole_page(path):
    return any(block.reason for block in pages.blocks_of(path))


def cases():
    for path in RUN:
        name = str(path.relative_to(pages.ROOT))
        yield pytest.param(path, False, id=name)
        if whole_page(path):
            yield pytest.param(path, True, id=f"{name}, slow blocks too", marks=pytest.mark.slow)


@pytest.mark.parametrize(("path", "slow"), list(cases()))
def test_the_blocks_of_a_page_run_in_an_empty_folder(path, slow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BADRJAX_DATA", raising=False)  # a reader has the bundled data
    monkeypatch.setitem(mpl.rcParams, "backend", "agg")
    page = {"__name__": "__main__"}  # as in a script of the reader's
    blocks = [block for block in pages.blocks_of(path) if block.language in ("python", "console")]
    chosen = [block for block in blocks if slow or not block.reason]
    for block in chosen:
        if block.language == "python":  # whose asserts, and any error, fail here
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("\n" * block.line + python_of(block), str(path), "exec"), page)
        else:
            assert run_console(block) > 0
    assert chosen or all(block.reason for block in blocks)
    assert len(page) > 1 or not any(block.language == "python" for block in chosen)


def python_of(block):
    """Code to run; of a doctest what it defines, for the blocks below it."""
    if not block.is_doctest:
        return block.code
    return "".join(example.source for example in doctest.DocTestParser().get_examples(block.code))


def run_console(block):
    """Run each `$ badrjax ...` of a block; what it prints must match the lines below it, as in a doctest.

    Returns how many commands ran.
    """
    for command, expected in commands(block.code):
        words = shlex.split(command)
        assert words[0] == "badrjax", f"{block.name}: only badrjax commands are run, not {command!r}"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = cli.main(words[1:])
        got = printed.getvalue()
        assert status == 0, f"{block.name}: {command}\n{got}"
        if expected.strip():
            same = doctest.OutputChecker().check_output(expected, got, OPTIONS)
            assert same, f"{block.name}: {command}\nexpected:\n{expected}\ngot:\n{got}"
    return sum(1 for _ in commands(block.code))


def commands(code):
    """Each command with what it should print; a line that ends in a backslash goes on."""
    parts = re.split(r"^\$ ", code.replace("\\\n", " "), flags=re.MULTILINE)
    assert not parts[0].strip(), f"a console block begins with a command after '$ ', got {parts[0]!r}"
    for part in parts[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def test_commands_that_are_not_run_could_be():
    """Of plain blocks, which need the network, other files or hours: commands, options and experiments exist."""
    seen = set()
    for block in pages.all_blocks():
        for line in block.code.replace("\\\n", " ").splitlines() if not block.language else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["badrjax"]:
                cli._parser().parse_args(words[1:])
                seen.add(words[1])
            elif words[:3] == ["python", "-m", "experiments"] and words[3:]:
                assert words[3] in EXPERIMENTS, f"{block.name}: {line}"
                seen.add(words[3])
    assert {"train", "data", "nash_table1", "ledger"} <= seen


def test_no_block_escapes():
    for block in pages.all_blocks():
        assert block.language in pages.LANGUAGES, f"{block.name}: language {block.language!r} is not looked at"
        assert block.mark.startswith("slow:") <= bool(block.reason), f"{block.name}: a slow block must say why"
        if block.language == "python" and not block.is_doctest:
            assert ">>> " not in block.code, f"{block.name}: half a doctest is run by nobody"
        assert block.language or ">>> " not in block.code, f"{block.name}: a doctest needs the language python"


def test_doctests_are_fenced_so_that_the_site_shows_them():
    for path in pages.PAGES:
        inside = sum(line.startswith(">>> ") for block in pages.blocks_of(path) for line in block.code.splitlines())
        assert inside == len(re.findall(r"^>>> ", path.read_text(), re.MULTILINE)), path
