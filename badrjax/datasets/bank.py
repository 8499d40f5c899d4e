"""UCI Bank Marketing: does a client subscribe to a term deposit after a call?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from badrjax.datasets.dataset import standardise
from badrjax.datasets.delimited import check_known, read_csv
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, OfficialSplit, Prepared
from badrjax.datasets.known_values import BANK
from badrjax.datasets.sources import nash_split, uci
from badrjax.datasets.tables import Categories, Column, categories, encode_features, number_column, text_column

NUMERIC = ("age", "balance", "day", "duration", "campaign", "pdays", "previous")
TEXT = ("job", "marital", "education", "default", "housing", "loan", "contact", "month", "poutcome", "y")
NEVER_CONTACTED = -1

FILE = uci(
    "bank/bank-full.csv",
    "d1513ec63b385506f7cfce9f2c5caa9fe99e7ba4e8c3fa264b3aaf0f849ed32d",
    remote="00222/bank.zip",
    member="bank-full.csv",
)


def read_raw(contents: Mapping[str, bytes]) -> dict[str, Column]:
    """The raw table, its values checked; "unknown" is a category of the file's own."""
    table = read_csv(contents[FILE.path], FILE.path, numbers=NUMERIC, text=TEXT, sep=";")
    check_known(table, BANK, FILE.path)
    return table


def prepare(contents: Mapping[str, bytes], *, variant: str) -> Prepared:
    """Bank Marketing; see `ENTRY.variants`."""
    table = read_raw(contents)
    nash = variant == "nash"
    positive = "no" if nash else "yes"
    columns = {name: column for name, column in table.items() if name != "y"}
    if not nash:
        del columns["duration"]
        pdays = number_column(table, "pdays")
        columns["pdays"] = np.where(pdays == NEVER_CONTACTED, np.nan, pdays)
    return Prepared(
        features=encode_features(columns, missing="refuse" if nash else "indicator"),
        label=text_column(table, "y").text() == positive,
        label_name="y",
        positive=positive,
        attributes={
            "age": Attribute(_by_age(number_column(table, "age")), ("age",)),
            "marital": Attribute(table["marital"], ("marital",)),
        },
        scale=standardise if nash else None,
    )


def _by_age(age: np.ndarray) -> Categories:
    group = np.where(age > 25, "over 25", "up to 25")
    return categories(np.where(np.isnan(age), "", group), missing=("",))


ENTRY = Entry(
    name="bank",
    title="clients called by a Portuguese bank, 2008-2010; label: subscribed to a term deposit",
    prepare=prepare,
    variants={
        "default": "every row; length of the call left out; days since an earlier campaign missing where there was "
        "none; raw numbers",
        "nash": "y = 1 for no subscription, all 16 columns, standardised over all rows: 51 features",
    },
    sensitive={"age": "over 25, up to 25", "marital": "divorced (or widowed), married, single"},
    source="UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/222/bank+marketing",
    licence="CC BY 4.0",
    citation="Moro, S., Rita, P. and Cortez, P. (2014). Bank Marketing. UCI Machine Learning Repository. "
    "doi:10.24432/C5K306",
    files=((FILE,),),
    positive="subscribed to a term deposit; a success for the bank, neither good nor bad for the person",
    flaws=(
        Flaw("duration, the length of the call, is known only after it", ("nash",), "leaves it out"),
        Flaw("pdays = -1 (never contacted) counts as a number of days", ("nash",), "0 with an indicator"),
        Flaw("y = 1 means no subscription, against the usual reading", ("nash",), "y = 1 for yes"),
        Flaw("scaling looks at validation and test rows", ("nash",), "leaves numbers raw"),
    ),
    facts={"default": Facts(45_211, 51, 0.117), "nash": Facts(45_211, 51, 0.883)},
    official_splits={
        "bank_age": OfficialSplit(
            ("age",),
            nash_split("bank_age", "bank/age", "6727a94eca3356a120cc06be8fac100a0f1116238cb2e790e30fecc1114717e1"),
        ),
    },
)

ENTRIES = (ENTRY,)
