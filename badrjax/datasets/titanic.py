"""Titanic3: who survived the sinking of the Titanic?"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from badrjax.datasets.dataset import standardise
from badrjax.datasets.delimited import one_of, read_csv
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, OfficialSplit, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.sources import nash_split
from badrjax.datasets.tables import Column, Features, Table, categories, encode_features, fill_missing, text_column
from badrjax.extras import require

NUMERIC = ("age", "sibsp", "parch", "fare", "body")
# Tickets and boats are text that often looks like a number.
TEXT = ("pclass", "survived", "sex", "ticket", "cabin", "embarked", "boat", "home.dest")
# Known only afterwards, or the name of a person or a thing.
LEFT_OUT = ("survived", "ticket", "cabin", "boat", "body", "home.dest")

CSV = DataFile("titanic/titanic3.csv", "8fdc8c6dc02406d864e4e10eaf2a931808ce4c331246e147f527368dacc9462a")
XLS = DataFile(
    "titanic/titanic3.xls",
    "0c26eaf2a8c2221cf1ecc783a32dda97b0a4569096ec196235f529795b257af0",
    "https://hbiostat.org/data/repo/titanic3.xls",
)


def read_raw(contents: Mapping[str, bytes]) -> dict[str, Column]:
    """The raw table without names, from either form; sex, class and label are checked."""
    (where, content), *_ = contents.items()
    text = _sheet_as_csv(content, where) if where == XLS.path else content
    table = read_csv(text, where, numbers=NUMERIC, text=TEXT)
    one_of(text_column(table, "sex"), ("female", "male"), "sex", where)
    one_of(text_column(table, "pclass"), ("1", "2", "3"), "pclass", where)
    # A label that is not there becomes the category "", which is none of the known ones.
    one_of(categories(text_column(table, "survived").text()), ("0", "1"), "survived", where)
    return table


def prepare(contents: Mapping[str, bytes], *, variant: str) -> Prepared:
    """Titanic3; see `ENTRY.variants`."""
    table = read_raw(contents)
    nash = variant == "nash"
    return Prepared(
        features=_nash_features(table) if nash else _features(table),
        label=text_column(table, "survived").text() == "1",
        label_name="survived",
        positive="1",
        attributes={name: Attribute(table[name], (name,)) for name in ("sex", "pclass")},
        scale=standardise if nash else None,
    )


def _features(table: Table) -> Features:
    columns = {name: column for name, column in table.items() if name not in LEFT_OUT}
    return encode_features(columns, missing="indicator")


def _nash_features(table: Table) -> Features:
    columns = {name: fill_missing(column, 0) for name, column in table.items() if name != "survived"}
    columns["pclass"] = text_column(table, "pclass").text(missing="0").astype(float)
    return encode_features(columns)


def _sheet_as_csv(content: bytes, where: str) -> bytes:
    """The Excel sheet as text, so that both forms go the same way from here."""
    # Not by way of pandas, which is giving up this format.
    xlrd = require("xlrd", f"reading {where}")
    try:
        sheet = xlrd.open_workbook(file_contents=content).sheet_by_index(0)
    except Exception as error:  # of many kinds, TypeError and AssertionError among them, for a damaged file
        raise ValueError(f"{where} is not the table it should be ({error}); get the official file") from error
    text = io.StringIO()
    csv.writer(text).writerows([_cell_text(value) for value in sheet.row_values(row)] for row in range(sheet.nrows))
    return text.getvalue().encode()


def _cell_text(value: str | float) -> str:
    """What a cell shows: Excel keeps the ticket 24160 as the number 24160.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


ENTRY = Entry(
    name="titanic",
    title="passengers of the Titanic; label: survived",
    prepare=prepare,
    variants={
        "default": "every row; class as a category; names, ticket, cabin, boat, body and home left out; missing age "
        "and fare 0 with an indicator; raw numbers",
        "nash": "the text columns and, with them, the leaks kept; missing values as 0; standardised over all rows: "
        "1,526 features",
    },
    sensitive={"sex": "female, male", "pclass": "1, 2, 3"},
    source="Vanderbilt biostatistics datasets (titanic3), https://hbiostat.org/data",
    licence="public; free use with acknowledgement of the source",
    citation="Harrell, F. E. and Cason, T. titanic3. Vanderbilt University Department of Biostatistics, "
    "https://hbiostat.org/data",
    files=((CSV,), (XLS,)),
    positive="survived (favourable)",
    flaws=(
        Flaw("boat (who got into one) and body (whose was found) give the label away", ("nash",), "leaves them out"),
        Flaw("ticket, cabin and home make features of one or two rows each, mostly", ("nash",), "leaves them out"),
        Flaw("a missing age counts as 0 years, a missing fare as 0 pounds", ("nash",), "0 with an indicator"),
        Flaw("class counts as a number", ("nash",), "one 0/1 feature a class"),
        Flaw("scaling looks at validation and test rows", ("nash",), "leaves numbers raw"),
    ),
    facts={"default": Facts(1_309, 14, 0.382), "nash": Facts(1_309, 1_526, 0.382)},
    official_splits={
        "titanic_sex": OfficialSplit(
            ("sex",),
            nash_split(
                "titanic_sex", "titanic/sex", "2c4bda59d4a9341d292d23bfaca35453c1e06d2c27088526c46d988a5cd08dd9"
            ),
        ),
    },
)

ENTRIES = (ENTRY,)
