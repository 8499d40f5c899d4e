"""The site as it is built: no warnings, no dead link, nothing from outside, every public name."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import badrjax as bx

from . import pages

MODULES = (
    "bargaining", "bilevel", "constraints", "datasets", "hypergradients", "learners", "losses", "methods", "metrics",
    "models", "objectives", "pareto", "plotting", "reductions", "reports", "results", "sklearn", "surrogates",
    "sweeps", "uncertainty",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of the built site, and what the build said."""
    pytest.importorskip("mkdocstrings", reason="the site is built with the locked development environment")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=pages.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


class Links(HTMLParser):
    """Where a page leads to, what it loads, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        resource = found.get("src") or (
            found.get("href") if tag == "link" and found.get("rel") != "canonical" else None
        )
        if resource:
            self.loaded.append(resource)


@pytest.fixture(scope="module")
def read(built):
    return {path: Links(path.read_text()) for path in built[0].rglob("*.html")}


def is_outside(link):
    return bool(re.match(r"(?:[a-z]+:)?//", link))


def test_the_strict_build_says_nothing(built):
    assert built[1] == ""


def test_no_link_is_dead(read):
    dead = []
    for path, page in read.items():
        if path.name == "404.html":  # served for any address, so its links are absolute
            continue
        for link in [*page.links, *page.loaded]:
            if is_outside(link) or link.startswith(("mailto:", "data:")):
                continue
            target, _, anchor = unquote(link).partition("#")
            file = (path.parent / target).resolve() if target else path
            if not file.is_file() or (anchor and file.suffix == ".html" and anchor not in read[file].anchors):
                dead.append((path.name, link))
    assert dead == []


def test_nothing_is_loaded_from_outside(read, built):
    assert {link for page in read.values() for link in page.loaded if is_outside(link)} == set()
    for sheet in built[0].rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


def documented(folder):
    """Objects by path in the inventory that mkdocstrings writes; what is no such object is left out.

    Four lines of text and the rest compressed, `name role priority address title` a line. Where a function has the
    name of the module that it is in, the path of the one can be written as the other's, which would show neither.
    """
    content = (folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
    kinds = {"py:module": inspect.ismodule, "py:class": inspect.isclass, "py:function": callable}
    found = {}
    for line in zlib.decompress(content).decode().splitlines():
        path, role = line.split()[:2]
        thing = thing_at(path)
        if role not in kinds or (thing is not None and kinds[role](thing)):
            found[path] = thing
    return found


def public_names(module):
    """Names of `__all__`; of a module without it, what is defined there under a name without an underscore."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return listed
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    ]


def thing_at(path):
    """The object of a dotted path, looked up from the innermost module, or None."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            thing = getattr(thing, name, None)
        return thing


def test_every_public_name_is_in_the_reference(built):
    found = documented(built[0])
    things = {id(thing) for thing in found.values() if callable(thing) or inspect.ismodule(thing)}
    wanted = {f"badrjax.{name}": getattr(bx, name) for name in bx.__all__}
    for module in MODULES:
        module = importlib.import_module(f"badrjax.{module}")
        wanted |= {f"{module.__name__}.{name}": getattr(module, name) for name in public_names(module)}
    assert len(wanted) > 350
    assert [path for path, thing in wanted.items() if path not in found and id(thing) not in things] == []


def test_no_page_is_left_out_of_the_navigation(built):
    # mkdocs warns of a page that is in no menu; here, that every Markdown file below docs/ is a page.
    for path in (pages.ROOT / "docs").rglob("*.md"):
        assert (built[0] / path.relative_to(pages.ROOT / "docs").with_suffix(".html")).is_file(), path


def test_the_project_says_that_it_is_independent():
    for path in (Path("docs/index.md"), Path("CITATION.cff")):
        assert "ndependent of the badr package" in (pages.ROOT / path).read_text().replace("`", "").replace("\n", " ")
