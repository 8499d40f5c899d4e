"""UCI Statlog German Credit: is a person a good credit risk?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from badrjax.datasets.delimited import check_known
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.known_values import GERMAN
from badrjax.datasets.packing import unpack_table
from badrjax.datasets.sources import uci
from badrjax.datasets.tables import Column, categories, encode_features, number_column, text_column

COLUMNS = (
    "checking_account", "duration_months", "credit_history", "purpose", "credit_amount", "savings",
    "employment_since", "installment_rate", "personal_status", "other_debtors", "residence_since", "property",
    "age", "other_installments", "housing", "existing_credits", "job", "dependants", "telephone",
    "foreign_worker", "risk",
)  # fmt: skip
NUMERIC = (
    "duration_months", "credit_amount", "installment_rate", "residence_since", "age", "existing_credits",
    "dependants", "risk",
)  # fmt: skip
# Codes of personal status, as the file's description reads them.
FEMALE = ("A92", "A95")
GOOD, BAD = 1, 2

FILE = uci(
    "german/german.data",
    "b21f3d81db8071257d5ff1deaeba1fd4303b62712e6fcc9715c7a86202cb5871",
    remote="statlog/german/german.data",
)
BUNDLE = DataFile("german.npz", "5c9e1e6b171059dc1c40fa6015fb00c2a35dc2384a725b6b1d09901141995645")


def read_raw(contents: Mapping[str, bytes]) -> dict[str, Column]:
    """The raw table of the codes as published, by the column names of the file's description.

    Args:
        contents: bytes of the raw file, by path.

    Raises:
        ValueError: for a row with another number of values, a value that is no number where one should
            be, or an unknown code.
    """
    rows = [line.split() for line in contents[FILE.path].decode("ascii", "replace").splitlines() if line.strip()]
    widths = sorted({len(row) for row in rows})
    if widths != [len(COLUMNS)]:
        raise ValueError(f"{FILE.path} has rows of {widths} values, not {len(COLUMNS)}; get the official file")
    columns = zip(COLUMNS, zip(*rows, strict=True), strict=True)
    table = {name: _numbers(name, values) if name in NUMERIC else categories(values) for name, values in columns}
    check_known(table, GERMAN, FILE.path)
    return table


def _numbers(name: str, values: tuple[str, ...]) -> np.ndarray:
    try:
        return np.array(values, np.float64)
    except ValueError as error:
        raise ValueError(f"{FILE.path}, column {name!r}: {error}; get the official file") from error


def prepare(contents: Mapping[str, bytes], *, variant: str) -> Prepared:
    """German Credit; see `ENTRY.variants`."""
    del variant
    table = unpack_table(contents[BUNDLE.path]) if BUNDLE.path in contents else read_raw(contents)
    age, risk = number_column(table, "age"), number_column(table, "risk")
    if not np.isin(risk, (GOOD, BAD)).all():
        raise ValueError(f"{FILE.path} has a risk other than {GOOD} (good) and {BAD} (bad); get the official file")
    female = np.isin(text_column(table, "personal_status").text(), FEMALE)
    return Prepared(
        features=encode_features({name: column for name, column in table.items() if name != "risk"}),
        label=risk == GOOD,
        label_name="risk",
        positive="good",
        attributes={
            "sex": Attribute(categories(np.where(female, "female", "male")), ("personal_status",)),
            "age": Attribute(categories(np.where(age > 25, "over 25", "up to 25")), ("age",)),
        },
    )


ENTRY = Entry(
    name="german",
    title="applicants for credit in Germany, 1973-1975; label: good risk",
    prepare=prepare,
    variants={"default": "every row; the published codes as 0/1 features; raw numbers"},
    sensitive={"sex": "female, male; read off personal status", "age": "over 25, up to 25"},
    source="UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/144/statlog+german+credit+data",
    licence="CC BY 4.0",
    citation="Hofmann, H. (1994). Statlog (German Credit Data). UCI Machine Learning Repository. doi:10.24432/C5NC77",
    files=((FILE,),),
    bundle=BUNDLE,
    positive="good credit risk (favourable)",
    flaws=(
        Flaw(
            "the published description of the codes is wrong in places, among them personal status: A92, read as "
            "women, holds single men too, and A94, read as men, single women (Groemping 2019), so sex is uncertain",
            ("default",),
            "keeps the codes as published",
        ),
    ),
    facts={"default": Facts(1_000, 61, 0.7)},
)

ENTRIES = (ENTRY,)
