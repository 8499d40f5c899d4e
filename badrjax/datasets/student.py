"""UCI Student Performance: does a pupil pass the Portuguese or the mathematics course, and with what grade?"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from badrjax.datasets.dataset import standardise
from badrjax.datasets.delimited import check_known, read_csv, recode
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, OfficialSplit, Option, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.known_values import STUDENT
from badrjax.datasets.sources import nash_split, uci
from badrjax.datasets.tables import Column, Table, categories, encode_features, number_column, text_column

NUMERIC = (
    "age", "Medu", "Fedu", "traveltime", "studytime", "failures", "famrel", "freetime", "goout", "Dalc", "Walc",
    "health", "absences", "G1", "G2", "G3",
)  # fmt: skip
TEXT = (
    "school", "sex", "address", "famsize", "Pstatus", "Mjob", "Fjob", "reason", "guardian", "schoolsup",
    "famsup", "paid", "activities", "nursery", "higher", "internet", "romantic",
)  # fmt: skip
SEX = {"F": "female", "M": "male"}
ADDRESS = {"R": "rural", "U": "urban"}
PASS = 10
# What each paper predicts; its preprocessing is made for that target alone.
TARGET_OF = {"nash": "pass", "badr": "grade"}

POR_FILE = uci(
    "student/student-por.csv",
    "a7594a11d7771c0efe1a740824e0e833da9c4cad07c39a9766a874575563fb3f",
    remote="00320/student.zip",
    member="student-por.csv",
)
MAT_FILE = uci(
    "student/student-mat.csv",
    "e47f9ee225e1ee6e69b7564e6dac7123e80b8486677fe111f351964cef5dec80",
    remote="00320/student.zip",
    member="student-mat.csv",
)


def prepare(contents: Mapping[str, bytes], *, variant: str, target: str = "auto") -> Prepared:
    """Student Performance, of whichever course the file is; see the entries' `variants`.

    Raises:
        ValueError: for a file that is not one of these, or a target that is not the paper's in its variant.
    """
    (where, content), *_ = contents.items()
    table = read_csv(content, where, numbers=NUMERIC, text=TEXT, sep=";")
    check_known(table, STUDENT, where)
    target = _target(variant, target)
    grade, age = number_column(table, "G3"), number_column(table, "age")
    if np.isnan(grade).any():
        raise ValueError(f"{where}: column 'G3' has no grade in row {np.isnan(grade).argmax()}; get the official file")
    return Prepared(
        features=encode_features(_feature_columns(table, variant)),
        label=grade >= PASS if target == "pass" else grade,
        label_name="G3",
        positive=f">= {PASS}" if target == "pass" else "",
        attributes={
            "sex": Attribute(recode(text_column(table, "sex"), SEX, "sex", where), ("sex",)),
            "age": Attribute(categories(np.where(age >= 18, "18 and over", "under 18")), ("age",)),
            "address": Attribute(recode(text_column(table, "address"), ADDRESS, "address", where), ("address",)),
        },
        scale=standardise if variant == "nash" else None,
    )


def _target(variant: str, target: str) -> str:
    own = TARGET_OF.get(variant, "pass")
    if variant in TARGET_OF and target not in ("auto", own):
        raise ValueError(f"variant {variant!r} has the target {own!r}, not {target!r}; take the default variant for it")
    return own if target == "auto" else target


def _feature_columns(table: Table, variant: str) -> dict[str, Column]:
    if variant == "badr":
        return {name: table[name] for name in NUMERIC}
    return {name: column for name, column in table.items() if name != "G3"}


def _absences(*variants: str) -> Flaw:
    return Flaw(
        "absences are those of the whole year, and all who dropped out (a final grade of 0) have none",
        variants,
        "keeps them, as the paper does",
    )


def _entry(
    name: str,
    course: str,
    file: DataFile,
    facts: Mapping[str, Facts],
    variants: Mapping[str, str],
    flaws: tuple[Flaw, ...] = (),
    official_splits: Mapping[str, OfficialSplit] = MappingProxyType({}),
) -> Entry:
    return Entry(
        name=name,
        title=f"pupils of two Portuguese schools in the {course} course, 2005-2006; label: passed, or the final grade",
        prepare=prepare,
        variants={
            "default": "every row; the grades of the first two periods are features, the final one is not; raw numbers",
            **variants,
        },
        sensitive={"sex": "female, male", "age": "18 and over, under 18", "address": "rural, urban"},
        source="UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/320/student+performance",
        licence="CC BY 4.0",
        citation="Cortez, P. (2008). Student Performance. UCI Machine Learning Repository. doi:10.24432/C5TG7T",
        files=((file,),),
        options={
            "target": Option(
                "auto",
                "pass (G3 >= 10), grade (G3 from 0 to 20, a regression), or auto, the variant's own: pass by default",
                values=("auto", "pass", "grade"),
            )
        },
        positive="passed the course (favourable)",
        flaws=flaws,
        facts=facts,
        official_splits=official_splits,
    )


POR = _entry(
    "student_por",
    "Portuguese",
    POR_FILE,
    facts={
        "default": Facts(649, 58, 0.8459),
        "nash": Facts(649, 58, 0.8459),
    },
    variants={
        "nash": "as the default, standardised over all rows: 58 features",
    },
    flaws=(
        Flaw("scaling looks at validation and test rows", ("nash",), "leaves numbers raw"),
        _absences("default", "nash"),
    ),
    official_splits={
        "student_por_sex": OfficialSplit(
            ("sex",),
            nash_split(
                "student_por_sex",
                "student_por/sex",
                "1cf610d9fb52f9663e153c9654e0f7fc8556c3cbe11f9631eaf51f0c562966a2",
            ),
        ),
    },
)

MAT = _entry(
    "student_mat",
    "mathematics",
    MAT_FILE,
    facts={"default": Facts(395, 58, 0.6709), "badr": Facts(395, 16, None)},
    variants={
        "badr": "the numeric columns alone, the final grade both target and feature; raw numbers (the paper scales by "
        "the training rows): 16 features",
    },
    flaws=(
        Flaw("G3, the target, is among the features", ("badr",), "leaves it out"),
        Flaw(
            "which columns the paper takes is inferred: a ridge model with equal group weights has a test error of "
            "0.61 on these, and the paper's records say 0.34",
            ("badr",),
            "is our own choice",
        ),
        _absences("default", "badr"),
    ),
)

ENTRIES = (POR, MAT)
