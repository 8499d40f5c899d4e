"""UCI Adult: does a person of the 1994 census earn more than 50,000 dollars a year?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from badrjax.datasets.dataset import Dataset, min_max_scale, standardise
from badrjax.datasets.delimited import check_known, read_csv
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, OfficialSplit, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.known_values import ADULT
from badrjax.datasets.packing import unpack_table
from badrjax.datasets.sources import nash_split, uci
from badrjax.datasets.tables import (
    Categories,
    Column,
    Table,
    categories,
    encode_features,
    is_missing,
    take_rows,
    text_column,
)

# In the order of the raw files; numbers and text.
NUMERIC = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country",
    "income",
)  # fmt: skip
MISSING = "?"
FAVOURABLE = ">50K"
TEST_ROWS = 16_281

# adult.test comes first: that is the row order the published splits index.
TEST_FILE = uci("adult/adult.test", "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05")
TRAIN_FILE = uci("adult/adult.data", "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d")
BUNDLE = DataFile("adult.npz", "3b818bff0c97c81d8cbe3786092db7e41c8767ba3369b3c0876025bbe6fe34af")


def read_raw(contents: Mapping[str, bytes]) -> dict[str, Column]:
    """The raw table: the rows of adult.test, then those of adult.data.

    Values lose the spaces around them and labels their trailing full stop; "?" is a missing value.

    Args:
        contents: bytes of both raw files, by path.

    Raises:
        ValueError: for rows of another width, unknown values, values that are no numbers, a test part of another
            length; the file and the column are named.
        ModuleNotFoundError: where pandas is not installed, which the bundled copy does not need.
    """
    parts = {file.path: _read_part(contents[file.path], file.path) for file in (TEST_FILE, TRAIN_FILE)}
    test, train = parts[TEST_FILE.path], parts[TRAIN_FILE.path]
    if len(test["age"]) != TEST_ROWS:
        raise ValueError(f"{TEST_FILE.path} has {len(test['age'])} rows, not {TEST_ROWS}; get the official file")
    return {name: _joined(test[name], train[name]) for name in COLUMNS}


def _read_part(content: bytes, where: str) -> dict[str, Column]:
    # adult.test opens with a comment, and its labels end in a full stop.
    lines = [line.removesuffix(b".") for line in content.splitlines() if not line.startswith(b"|")]
    text = [name for name in COLUMNS if name not in NUMERIC]
    table = read_csv(b"\n".join(lines), where, numbers=NUMERIC, text=text, missing=(MISSING,), names=list(COLUMNS))
    check_known(table, ADULT, where, missing=True)
    for name in (*NUMERIC, "income", "race", "sex"):
        if is_missing(table[name]).any():
            raise ValueError(f"{where}: column {name!r} has no value in row {is_missing(table[name]).argmax()}")
    return table


def _joined(first: Column, second: Column) -> Column:
    if isinstance(first, Categories) and isinstance(second, Categories):
        return categories(np.concatenate([first.text(MISSING), second.text(MISSING)]), (MISSING,))
    return np.concatenate([np.asarray(first), np.asarray(second)])


def prepare(contents: Mapping[str, bytes], *, variant: str) -> Prepared:
    """Adult as the papers prepare it; see `ENTRY.variants`."""
    table = unpack_table(contents[BUNDLE.path]) if BUNDLE.path in contents else read_raw(contents)
    part = np.where(np.arange(len(table["age"])) < TEST_ROWS, "test", "train")
    table["part"] = categories(part)
    notes: tuple[str, ...] = ()
    if variant == "fairbinn":
        complete = ~np.any([is_missing(column) for column in table.values()], axis=0)
        notes = (f"dropped {(~complete).sum():,} rows with a missing value",)
        table = {name: take_rows(column, complete) for name, column in table.items()}
    income = text_column(table, "income")
    return Prepared(
        features=encode_features(_feature_columns(table, variant)),
        label=income.codes == income.values.index(FAVOURABLE),
        label_name="income",
        positive=FAVOURABLE,
        attributes={
            "sex": Attribute(table["sex"], ("sex", "relationship")),  # a husband or a wife tells
            "race": Attribute(table["race"], ("race",)),
        },
        domains={"part": table["part"]},
        scale={"nash": standardise, "fairbinn": _min_max_part_by_part}.get(variant),
        notes=notes,
    )


def _feature_columns(table: Table, variant: str) -> dict[str, Column]:
    left_out = {"income", "part"} if variant == "nash" else {"income", "part", "fnlwgt"}
    columns = {name: column for name, column in table.items() if name not in left_out}
    if variant == "fairbinn":
        sex, country = text_column(table, "sex"), text_column(table, "native-country")
        columns["sex"] = (sex.codes == sex.values.index("Female")).astype(np.float64)
        columns["native-country"] = categories(country.text(), ("Holand-Netherlands",))
    return columns


def _min_max_part_by_part(dataset: Dataset) -> Dataset:
    """Each published part scaled by its own ranges, as the FairBiNN code does."""
    part = dataset.domains["part"].ids
    x = np.empty_like(dataset.x)
    for number in range(dataset.domains["part"].num_groups):
        rows = np.flatnonzero(part == number)
        x[rows] = min_max_scale(dataset, rows).x[rows]
    return dataclasses.replace(dataset, x=x)


ENTRY = Entry(
    name="adult",
    title="persons of the 1994 US census; label: income above 50,000 dollars",
    prepare=prepare,
    variants={
        "default": "every row; missing text is 0 in all its features; the census weight left out; raw numbers",
        "nash": "as the default, with the census weight as a feature, standardised over all rows: 105 features",
        "fairbinn": "rows with missing values dropped, sex 0/1, one country left out, each part min-max scaled alone",
    },
    sensitive={"sex": "Female, Male", "race": "five values"},
    source="UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/2/adult",
    licence="CC BY 4.0",
    citation="Becker, B. and Kohavi, R. (1996). Adult. UCI Machine Learning Repository. doi:10.24432/C5XW20",
    files=((TEST_FILE, TRAIN_FILE),),
    bundle=BUNDLE,
    positive="income above 50,000 dollars (favourable)",
    flaws=(
        Flaw(
            "rows with a missing value are left out, which earn less: the base rate is 0.2478 instead of 0.2393",
            ("fairbinn",),
            "keeps them",
        ),
        Flaw("persons from the Netherlands (one) have no feature of their country", ("fairbinn",), "has one"),
        Flaw("fnlwgt, a sampling weight of the census, is a feature", ("nash",), "leaves it out"),
        Flaw("scaling looks at validation and test rows", ("nash", "fairbinn"), "leaves numbers raw"),
        Flaw("test rows are scaled by the ranges of the test rows alone", ("fairbinn",), "leaves numbers raw"),
    ),
    facts={
        "default": Facts(48_842, 104, 0.2393),
        "nash": Facts(48_842, 105, 0.2393),
        "fairbinn": Facts(45_222, 101, 0.2478),
    },
    official_splits={
        "adult_sex": OfficialSplit(
            ("sex",),
            nash_split("adult_sex", "adult/sex", "7959d64ad0d594c0e512956d94e4f0d40f414720780ab3f29f54e33861f75d50"),
        ),
        "adult_race": OfficialSplit(
            ("race",),
            nash_split("adult_race", "adult/race", "a392329af886624c9d733759f4348ee2fa46ec85032c779c5b3634700098df60"),
        ),
    },
)

ENTRIES = (ENTRY,)
