"""CITATION.cff says what the package says."""

import pytest

import badrjax as bx

from . import pages

yaml = pytest.importorskip("yaml", reason="it comes with what builds the site")
CITATION = yaml.safe_load((pages.ROOT / "CITATION.cff").read_text())


def test_the_version_is_that_of_the_package():
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["version"] == bx.__version__
    assert CITATION["license"] == "Apache-2.0"


def test_it_has_what_the_format_asks_for():
    assert {"message", "title", "authors", "references"} <= set(CITATION)
    assert all(author.get("name") or author.get("family-names") for author in CITATION["authors"])


def test_the_four_papers_are_cited():
    assert len(CITATION["references"]) == 4
    for paper in CITATION["references"]:
        assert {"type", "title", "authors", "year"} <= set(paper)
        assert all(author["family-names"] for author in paper["authors"])
