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
    """Names in the inventory that mkdocstrings writes for cross-references: four lines of text, the rest compressed."""
    content = (folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(content).decode().splitlines()}


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
    """The object of a dotted path, or None."""
    thing = bx
    for name in path.split(".")[1:]:
        thing = getattr(thing, name, None)
    return thing


def test_every_public_name_is_in_the_reference(built):
    names = documented(built[0])
    things = {id(thing) for path in names if callable(thing := thing_at(path)) or inspect.ismodule(thing)}
    wanted = {f"badrjax.{name}": getattr(bx, name) for name in bx.__all__}
    for module in MODULES:
        module = importlib.import_module(f"badrjax.{module}")
        wanted |= {f"{module.__name__}.{name}": getattr(module, name) for name in public_names(module)}
    assert len(wanted) > 350
    assert [path for path, thing in wanted.items() if path not in names and id(thing) not in things] == []


def test_no_page_is_left_out_of_the_navigation(built):
    # mkdocs warns of a page that is in no menu; here, that every Markdown file below docs/ is a page.
    for path in (pages.ROOT / "docs").rglob("*.md"):
        assert (built[0] / path.relative_to(pages.ROOT / "docs").with_suffix(".html")).is_file(), path


def test_the_project_says_that_it_is_independent():
    for path in (Path("docs/index.md"), Path("CITATION.cff")):
        assert "ndependent of the badr package" in (pages.ROOT / path).read_text().replace("`", "").replace("\n", " ")
