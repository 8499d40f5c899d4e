"""UCI Default of Credit Card Clients: does a client in Taiwan default on the next payment?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from badrjax.datasets.dataset import standardise
from badrjax.datasets.delimited import one_of, read_csv, recode
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, OfficialSplit, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.sources import nash_split
from badrjax.datasets.tables import Categories, Column, Table, categories, encode_features, number_column, text_column

LABEL = "default.payment.next.month"
NUMERIC = (
    "ID", "LIMIT_BAL", "AGE",
    "PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6",
    "BILL_AMT1", "BILL_AMT2", "BILL_AMT3", "BILL_AMT4", "BILL_AMT5", "BILL_AMT6",
    "PAY_AMT1", "PAY_AMT2", "PAY_AMT3", "PAY_AMT4", "PAY_AMT5", "PAY_AMT6",
)  # fmt: skip
# The description of the data says nothing of the codes 0, 5 and 6.
MEANINGS = {
    "SEX": {"1": "male", "2": "female"},
    "EDUCATION": {
        "1": "graduate school", "2": "university", "3": "high school", "4": "others",
        "0": "undocumented", "5": "undocumented", "6": "undocumented",
    },
    "MARRIAGE": {"1": "married", "2": "single", "3": "others", "0": "undocumented"},
}  # fmt: skip

FILE = DataFile(
    "default_credit/UCI_Credit_Card.csv", "a0f0ab49d6326671d6cd83be5c88dcf18007025fe9a53ecd699119c871176ca1"
)


def read_raw(contents: Mapping[str, bytes]) -> dict[str, Column]:
    """The raw table, with the codes of sex, education, marriage and label as text; labels are checked."""
    table = read_csv(contents[FILE.path], FILE.path, numbers=NUMERIC, text=(*MEANINGS, LABEL))
    # A label that is not there becomes the category "", which is none of the known ones.
    one_of(categories(text_column(table, LABEL).text()), ("0", "1"), LABEL, FILE.path)
    return table


def prepare(contents: Mapping[str, bytes], *, variant: str) -> Prepared:
    """Default of Credit Card Clients; see `ENTRY.variants`."""
    table = read_raw(contents)
    meant = {name: recode(text_column(table, name), MEANINGS[name], name, FILE.path) for name in MEANINGS}
    nash = variant == "nash"
    positive = "0" if nash else "1"
    age = number_column(table, "AGE")
    return Prepared(
        features=encode_features(_as_numbers(table) if nash else _as_categories(table, meant)),
        label=text_column(table, LABEL).text() == positive,
        label_name=LABEL,
        positive=positive,
        attributes={
            "sex": Attribute(meant["SEX"], ("SEX",)),
            "education": Attribute(meant["EDUCATION"], ("EDUCATION",)),
            "marriage": Attribute(meant["MARRIAGE"], ("MARRIAGE",)),
            "age": Attribute(categories(np.where(age > 25, "over 25", "up to 25")), ("AGE",)),
        },
        scale=standardise if nash else None,
    )


def _as_categories(table: Table, meant: Mapping[str, Categories]) -> dict[str, Column]:
    return {name: table[name] for name in NUMERIC if name != "ID"} | dict(meant)


def _as_numbers(table: Table) -> dict[str, Column]:
    """Every column but the label, codes as the numbers they look like."""
    columns = {name: table[name] for name in NUMERIC}
    for name in MEANINGS:
        column = text_column(table, name)
        columns[name] = np.array([*map(float, column.values), np.nan])[column.codes]
    return columns


ENTRY = Entry(
    name="default_credit",
    title="holders of credit cards in Taiwan, 2005; label: default on the next payment",
    prepare=prepare,
    variants={
        "default": "every row; sex, education and marriage by their names, codes without a documented meaning as "
        "undocumented; the row number left out; raw numbers",
        "nash": "y = 1 for no default, the row number a feature, codes as numbers, standardised over all rows: "
        "24 features",
    },
    sensitive={
        "sex": "female, male",
        "education": "graduate school, high school, others, undocumented, university",
        "marriage": "married, others, single, undocumented",
        "age": "over 25, up to 25",
    },
    source="UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/350/default+of+credit+card+clients",
    licence="CC BY 4.0",
    citation="Yeh, I. (2009). Default of Credit Card Clients. UCI Machine Learning Repository. doi:10.24432/C55S3H",
    files=((FILE,),),
    positive="default on the next payment (unfavourable)",
    flaws=(
        Flaw("ID, the number of the row, is a feature", ("nash",), "leaves it out"),
        Flaw("codes of sex, education and marriage count as numbers", ("nash",), "one 0/1 feature a category"),
        Flaw("y = 1 means no default, against the usual reading", ("nash",), "y = 1 for default"),
        Flaw("scaling looks at validation and test rows", ("nash",), "leaves numbers raw"),
    ),
    facts={"default": Facts(30_000, 31, 0.2212), "nash": Facts(30_000, 24, 0.7788)},
    obtain='get UCI_Credit_Card.csv from "Default of Credit Card Clients Dataset" at Kaggle (with an account) and '
    f"put it at {FILE.path} below a data directory; UCI itself gives the same values as an .xls, which is not read",
    official_splits={
        "default_credit_sex": OfficialSplit(
            ("sex",),
            nash_split(
                "default_credit_sex",
                "default_credit/sex",
                "049b2d55d94b2aec16eeae210312fc172cc7dcb1096c8512e7e1af81c5adc513",
            ),
        ),
    },
)

ENTRIES = (ENTRY,)
