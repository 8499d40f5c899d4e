"""What a person sees of a page in a browser: on a phone, on a desk, in the dark, and when a head is clicked."""

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing

from badrjax import reports
from badrjax.reports import Facts, Figure, Notice, Page, Section, Table, Text
from tests.reports import browser

pytestmark = pytest.mark.skipif(bool(browser.why_missing()), reason=browser.why_missing() or "there is a browser")

WIDTHS = {"phone": 390, "desktop": 1280}
# Sorted as text: 10, 2.5, 9; the dash and the empty cell are no numbers.
VALUES = ["10 ± 1", "2.5", "-", "9", ""]
VERDICTS = ("REPRODUCED", "CLOSE", "INCONCLUSIVE", "NOT REPRODUCED", "NOT RUN", "MISPRINT", "BELOW FLOOR", "SUPPORTED",
            "NON-INFERIOR", "REFUTED", "UNDECIDED")  # fmt: skip


def drawing():
    figure = Drawing(figsize=(8, 4), layout="constrained")
    for axes in figure.subplots(1, 2):
        axes.plot(np.arange(20), np.random.default_rng(0).normal(size=20), label="loss")
        axes.scatter(np.arange(20), np.arange(20), label="points")
        axes.set(xlabel="epoch", ylabel="loss", title="a panel")
        axes.legend()
    return figure


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    wide = Table([f"column_{k}" for k in range(14)], [[k + 0.123456 for k in range(14)]] * 3, "A wide table", "a note")
    sortable = Table(["name", "value"], [[f"row {k}", value] for k, value in enumerate(VALUES)], "To be sorted")
    verdicts = Table(["cell", "verdict", "why"], [[f"c{k}", v, "words " * 20] for k, v in enumerate(VERDICTS)])
    sections = (
        Section("Tables", (Text("`code` and **bold** and [a link](https://example.org)."), sortable, wide, verdicts)),
        Section("Figures", (Figure(drawing(), "One", "two panels"), Figure(drawing(), "Two", "two panels"))),
        Section(
            "A heading_that_is_a_very_long_name_without_any_place_to_break_it_for_a_phone", (Notice("Mind this."),)
        ),
        Section("Facts", (Facts({"a_long_name_of_a_setting_without_breaks": "x" * 200, "b": {"c": 1}}),)),
    )
    page = Page("A page", "What it is about.", sections, {"seeds": (0, 1), "out": "/a" * 90}, {"sha256": "f" * 64})
    return reports.write_page(page, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def driver():
    with browser.opened() as one:
        yield one


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_overlaps_or_is_hard_to_read(driver, path, width, dark):
    browser.show(driver, path, WIDTHS[width], dark=dark)
    driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true;")
    assert driver.execute_script(browser.STICKING_OUT) == []
    assert driver.execute_script("return document.documentElement.scrollWidth") <= WIDTHS[width]
    assert driver.execute_script(browser.OVERLAPPING) == []
    contrast, where = driver.execute_script(browser.CONTRAST)
    assert contrast >= 4.5, where
    paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") != dark


@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_is_empty(driver, path, width):
    browser.show(driver, path, WIDTHS[width])
    drawings = driver.execute_script(browser.DRAWINGS)
    assert len(drawings) == 2
    for one in drawings:
        assert one["paths"] > 20
        assert one["lost"] == 0
        assert one["width"] >= 300
        assert one["height"] >= 150


def test_a_title_wider_than_its_figure_is_not_cut_off(driver, tmp_path):
    figure = Drawing(figsize=(2, 2))
    figure.subplots().plot([0, 1])
    figure.suptitle("a title that is a good deal wider than the figure below it")
    page = Page("t", "l", (Section("", (Figure(figure, "a", "a"),)),))
    browser.show(driver, reports.write_page(page, tmp_path / "page.html"), 1280)
    cut = """
    const outer = document.querySelector("svg").getBoundingClientRect();
    return [...document.querySelectorAll("svg use")].filter(one => {
      const box = one.getBoundingClientRect();
      return box.left < outer.left - 1 || box.right > outer.right + 1;
    }).length;
    """
    assert driver.execute_script(cut) == 0


def column(driver, table, at):
    rows = driver.execute_script(f"return [...document.querySelectorAll('table')[{table}].tBodies[0].rows]")
    return [row.find_elements("css selector", "td")[at].text for row in rows]


def test_a_click_sorts_numbers_as_numbers_and_a_second_one_turns_them(driver, path):
    browser.show(driver, path, 1280)
    head = driver.find_elements("css selector", "table")[0].find_elements("css selector", "th")[1]
    button = head.find_element("css selector", "button")
    assert head.get_attribute("aria-sort") is None
    assert column(driver, 0, 1) == VALUES
    button.click()
    assert column(driver, 0, 1) == ["2.5", "9", "10 ± 1", "-", ""]
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(driver, 0, 0) == ["row 1", "row 3", "row 0", "row 2", "row 4"]  # whole rows move
    button.click()
    assert column(driver, 0, 1)[-1] == ""
    assert [value for value in column(driver, 0, 1) if value not in ("-", "")] == ["10 ± 1", "9", "2.5"]
    assert head.get_attribute("aria-sort") == "descending"


def test_keys_sort_as_well(driver, path):
    from selenium.webdriver.common.keys import Keys

    browser.show(driver, path, 1280)
    buttons = driver.find_elements("css selector", "table th button")
    buttons[1].send_keys(Keys.ENTER)
    assert column(driver, 0, 1)[0] == "2.5"
    buttons[0].send_keys(Keys.SPACE)
    assert column(driver, 0, 0) == [f"row {k}" for k in range(5)]
    heads = driver.find_elements("css selector", "table th")
    assert [head.get_attribute("aria-sort") for head in heads[:2]] == ["ascending", None]


def test_no_request_leaves_the_page_and_the_console_is_silent(driver, path):
    browser.show(driver, path, 1280)
    assert browser.requests(driver) == []
    assert driver.get_log("browser") == []


def test_print_shows_what_is_folded_and_cuts_no_table(driver, path):
    browser.show(driver, path, 700)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert driver.execute_script(browser.STICKING_OUT) == []
    boxes = driver.execute_script(
        "return [...document.querySelectorAll('.scroll')].map(one => [one.scrollWidth, one.clientWidth])"
    )
    assert all(inner <= outer + 1 for inner, outer in boxes)
    driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert driver.execute_script("return document.querySelectorAll('details:not([open])').length") == 0
    driver.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert driver.execute_script("return document.querySelectorAll('details[open]').length") == 0
