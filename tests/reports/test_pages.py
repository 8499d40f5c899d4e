"""What a page holds, as text: everything escaped, the same each time, and nothing from outside."""

import html.parser
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Drawing

from badrjax import reports
from badrjax.reports import Facts, Figure, Notice, Page, Section, Table, Text
from badrjax.reports.tables import cell_text, sort_key

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(html.parser.HTMLParser):
    """Collects what a page holds, and fails where tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def drawing(title="a"):
    figure = Drawing(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1, 2], [2.0, 0.5, 1.0], label="loss & more")
    axes.set(xlabel="epoch", ylabel="loss", title=title)
    axes.legend()
    return figure


def rendered(*blocks, **options):
    return reports.render(Page("Title", "Lead.", (Section("Heading", blocks),), **options))


def test_a_page_is_whole_and_everything_is_escaped():
    nasty = '<script>alert("x")</script> & <b>'
    table = Table([nasty, "b"], [[nasty, 1.5]], nasty, nasty)
    blocks = (Text(nasty), table, Facts({nasty: nasty}), Notice(nasty), Figure(drawing(), nasty, nasty))
    page = Page(nasty, nasty, (Section(nasty, blocks),), {nasty: nasty}, {nasty: nasty})
    found = Reader(reports.render(page))
    assert len(found.all("script")) == 1
    assert not found.all("b")
    # Title and h1, lead, heading, text, head, cell, caption, note, notice, caption; names and values of three lists.
    assert found.text.count(nasty) == 11 + 2 * 3


def test_the_same_page_is_the_same_text_also_with_figures():
    figure = drawing()
    one = rendered(Figure(figure, "a", "a"), Figure(figure, "b", "b"))
    assert one == rendered(Figure(figure, "a", "a"), Figure(figure, "b", "b"))
    assert one == rendered(Figure(drawing(), "a", "a"), Figure(drawing(), "b", "b"))
    assert not re.search(r"<dc:date|<metadata|<\?xml|<!DOCTYPE svg", one)


def test_identifiers_are_unique_and_every_reference_within_a_drawing_is_met():
    figures = [Figure(drawing(title), title, title) for title in "ab"]
    text = rendered(*figures)
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    references = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text)
    assert references
    assert set(references) <= set(identifiers)


def test_nothing_comes_from_outside():
    text = rendered(Text("see [here](https://example.org/a?b=1&c=2)"), Figure(drawing(), "a", "a"))
    found = Reader(text)
    assert [one["href"] for one in found.all("a")] == ["https://example.org/a?b=1&c=2"]
    assert not any("src" in attributes for _, attributes in found.tags)
    assert not found.all("link")
    assert "@import" not in text
    assert "@font-face" not in text
    policy = next(one["content"] for one in found.all("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")


def test_little_markdown_is_understood_and_no_link_runs_a_script():
    found = Reader(rendered(Text("`a<b` **bold** [x](javascript:alert(1)) a\\|b\n\nsecond")))
    assert not found.all("a")
    assert len(found.all("strong")) == 1
    assert "a<b bold [x](javascript:alert(1)) a|b" in found.text
    assert "second" in found.text


def test_verdicts_have_a_class_and_keep_their_word():
    rows = [["0.8 | 0.7 ± 0.1 | NOT REPRODUCED"], ["REPRODUCED"], ["BELOW FLOOR"], ["REPRODUCEDNESS"], ["closely"]]
    found = Reader(rendered(Table(["cell"], rows)))
    classes = [one["class"] for one in found.all("span")]
    assert classes == ["verdict not-reproduced", "verdict reproduced", "verdict below-floor"]
    assert "NOT REPRODUCED" in found.text


@pytest.mark.parametrize(
    ("cell", "key"),
    [(1.5, 1.5), (3, 3.0), ("0.775 ± 0.003", 0.775), ("24,130", 24130.0), ("-2%", -0.02), ("+1e-3 (2)", 0.001),
     ("\N{MINUS SIGN}4", -4.0), ("≤ 0.20", 0.2), ("BADR", None), ("", None), (None, None), (float("nan"), None),
     ("2nd", None), (".5", 0.5)],
)  # fmt: skip
def test_a_cell_is_sorted_by_the_number_that_it_begins_with(cell, key):
    assert sort_key(cell) == key


def test_numbers_keep_their_digits_for_sorting_and_small_ones_are_not_hidden():
    assert [cell_text(value, 3) for value in (0.12345, 1e-5, 0.0, 2, None, float("nan"), float("inf"))] == [
        "0.123", "1e-05", "0.000", "2", "", "NaN", "inf"
    ]  # fmt: skip
    found = Reader(rendered(Table(["a"], [[0.12345], [0.12341]])))
    assert [one["data-value"] for one in found.all("td")] == ["0.12345", "0.12341"]


def test_a_column_of_words_is_sorted_as_words():
    found = Reader(rendered(Table(["a", "b"], [["10 bins", "x"], ["values", "2 y"], ["neighbours", "z"]])))
    assert not any("data-value" in one for one in found.all("td"))


def test_a_frame_becomes_a_table():
    frame = pd.DataFrame({"a": np.array([1, 2]), "b": [0.5, np.nan], "c": [True, False], "d": [("x",), None]})
    table = Table.of_frame(frame, "caption", decimals=2)
    assert table.columns == ["a", "b", "c", "d"]
    assert table.rows[0] == [1, 0.5, "yes", "('x',)"]
    assert np.isnan(table.rows[1][1])
    assert type(table.rows[0][0]) is int


def test_markdown_becomes_sections():
    text = (
        "# Title\n\nfirst\n\n## One\n\n### Sub\n\n| a | b |\n| --- | --- |\n| x \\| y | 1 |\n\n## Two\n\nlast\nline\n"
    )
    title, sections = reports.sections_of_markdown(text)
    assert title == "Title"
    assert sections == (
        Section("", (Text("first"),)),
        Section("One", (Table(["a", "b"], [["x | y", "1"]], "Sub"),)),
        Section("Two", (Text("last\nline"),)),
    )


def test_settings_and_provenance_stand_at_the_end_folded():
    text = rendered(Text("x"), settings={"seeds": (0, 1), "deep": {"rate": 0.1, "none": None}}, provenance={"a": "b"})
    found = Reader(text)
    assert [attributes for tag, attributes in found.tags if tag == "details"] == [{}, {}]
    assert text.index("<summary>Settings") < text.index("<summary>Provenance")
    for shown in ("seeds", "0, 1", "deep.rate", "0.1", "deep.none", "none"):
        assert shown in found.text


def test_four_sections_get_a_list_of_contents():
    sections = tuple(Section(name, (Text(name),)) for name in "abcd")
    found = Reader(reports.render(Page("t", "l", sections)))
    targets = {one["id"] for one in found.all("section")}
    assert {one["href"].removeprefix("#") for one in found.all("a")} == targets
    assert not Reader(reports.render(Page("t", "l", sections[:3]))).all("nav")


def test_mistakes_are_told_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="has 1 cells and not 2"):
        rendered(Table(["a", "b"], [["x"]]))
    with pytest.raises(ValueError, match="needs an alternative"):
        rendered(Figure(drawing(), "a", " "))
    with pytest.raises(TypeError, match="got str"):
        reports.write_page(Page("t", "l", (Section("h", ("text",)),)), tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
    path = reports.write_page(Page("t", "l", ()), tmp_path / "new" / "page.html")
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]


def test_a_sweep_shows_the_best_settings_and_every_trial():
    frame = pd.DataFrame({
        "method": ["erm", "erm"], "learning_rate": np.array([0.1, 0.01], np.float32), "seed": [0, 1],
        "test.loss": [0.5, 0.6], "curve": [np.zeros(3), np.zeros(3)],
    })  # fmt: skip
    best = [{"method": "erm", "learning_rate": 0.1, "validation": "0.51 ± 0.01", "test loss": "0.5"}]
    page = reports.sweep_page("Sweep", best, frame, metric="loss", origin={"settings": {"a": 1}, "commit": "c"})
    found = Reader(reports.render(page))
    assert "curve" not in found.text
    assert "0.5000" in found.text
    cells = [one.get("data-value") for one in found.all("td")]
    assert cells.count("0.1") == 2  # with the digits that it was given with, in both tables
    assert page.settings == {"a": 1}
    assert page.provenance == {"commit": "c"}
