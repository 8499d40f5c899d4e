"""UCI Parkinsons Telemonitoring: how far has the disease gone, told from the voice?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from badrjax.datasets.delimited import read_csv, recode
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, Option, Prepared
from badrjax.datasets.sources import uci
from badrjax.datasets.tables import Column, categories, encode_features, is_missing, number_column, text_column

SUBJECT = "subject#"
SCORES = ("total_UPDRS", "motor_UPDRS")
VOICE = (
    "Jitter(%)", "Jitter(Abs)", "Jitter:RAP", "Jitter:PPQ5", "Jitter:DDP", "Shimmer", "Shimmer(dB)",
    "Shimmer:APQ3", "Shimmer:APQ5", "Shimmer:APQ11", "Shimmer:DDA", "NHR", "HNR", "RPDE", "DFA", "PPE",
)  # fmt: skip
FEATURES = ("age", "sex", "test_time", *VOICE)
SEXES = {"0": "male", "1": "female"}
MEDIAN_AGE = 65

FILE = uci(
    "parkinsons/parkinsons_updrs.data",
    "f2c7d5025dec4e92e7feae367a5f7ccf58789a10ac6b54bdf15976c599f9dd39",
    remote="parkinsons/telemonitoring/parkinsons_updrs.data",
)


def prepare(contents: Mapping[str, bytes], *, variant: str, target: str) -> Prepared:
    """The recordings; see `ENTRY.variants`."""
    table = read_raw(contents[FILE.path])
    age, sex = number_column(table, "age"), text_column(table, "sex")
    columns = {**table, "sex": sex.text() == "female"}
    used = (SUBJECT, *FEATURES) if variant == "badr" else FEATURES
    return Prepared(
        features=encode_features({name: columns[name] for name in used}),
        label=number_column(table, target),
        label_name=target,
        positive="",
        attributes={
            "sex": Attribute(sex, ("sex", SUBJECT)),
            "over_65": Attribute(categories(np.where(age > MEDIAN_AGE, "over 65", "up to 65")), ("age", SUBJECT)),
        },
        domains={"subject": number_column(table, SUBJECT).astype(np.int64)},
    )


def read_raw(content: bytes) -> dict[str, Column]:
    """The table, with the two sexes by name.

    Raises:
        ValueError: for a missing column or value, an unknown sex or a value that is no number.
    """
    numbers = (SUBJECT, "age", "test_time", *SCORES, *VOICE)
    table = read_csv(content, FILE.path, numbers=numbers, text=("sex",))
    for name, column in table.items():
        if is_missing(column).any():
            row = np.argmax(is_missing(column))
            raise ValueError(f"{FILE.path} has no value in column {name!r}, row {row}; get the official file")
    return table | {"sex": recode(text_column(table, "sex"), SEXES, "sex", FILE.path)}


ENTRY = Entry(
    name="parkinsons",
    title="voice recordings of 42 people with early Parkinson's disease; label: a score of the disease (UPDRS)",
    prepare=prepare,
    variants={
        "default": "every row; age, sex, time since the start of the trial and 16 measures of the voice; raw numbers",
        "badr": "as the default, with the number of the subject as a feature: 20 features",
    },
    sensitive={"sex": "female, male", "over_65": "over 65, up to 65; the median age is 65"},
    source="UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/189/parkinsons+telemonitoring",
    licence="CC BY 4.0",
    citation=(
        "Tsanas, A. and Little, M. (2009). Parkinsons Telemonitoring. UCI Machine Learning Repository. "
        "doi:10.24432/C5ZS3N"
    ),
    files=((FILE,),),
    options={"target": Option(SCORES[0], "the score: of all parts of the scale, or of its motor part", values=SCORES)},
    positive="no class: a score of the disease, the higher the worse",
    flaws=(
        Flaw("the number of the subject is a feature", ("badr",), "leaves it out"),
        Flaw(
            "scores were taken three times in half a year and are linear in between, so rows are not independent",
            ("default", "badr"),
            "has the subject as a domain, by which to split",
        ),
    ),
    facts={"default": Facts(5_875, 19, None), "badr": Facts(5_875, 20, None)},
)

ENTRIES = (ENTRY,)
