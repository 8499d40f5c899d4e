"""States whose person files were not at hand: extracts of `acs_income` of 2018 that folktables made for others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from badrjax.datasets.acs.codes import check_codes
from badrjax.datasets.acs.problems import INCOME, Numbers
from badrjax.datasets.acs.states import FIPS, check_postal_codes, list_of_states, person_files
from badrjax.datasets.delimited import read_csv
from badrjax.datasets.files import DataFile
from badrjax.datasets.tables import text_column

EXTRACTS = {
    "CO": (
        DataFile(
            "acs/ACSIncome_CO_2018_features.csv", "5061e9763077bcee317203831fce88c37bff4d567a83f2f5253148b2d111834a"
        ),
        DataFile(
            "acs/ACSIncome_CO_2018_labels.csv", "107cf24857b6d49ed9b65916fbebafdbd568a78ba8839b3ec095082069da12b2"
        ),
    ),
    "AZ": (DataFile("acs/ACSIncome_AZ_2018.csv", "3572705c4e9d113ac41758ce2fb3a9118980c98af576517253fecafc2d3186ee"),),
    "UT": (DataFile("acs/ACSIncome_UT_2018.csv", "16e86bd9ce4fdd05d6b10efb0d444e12ea0b75f61774350952bc9e171c8b335e"),),
}
"""By state: one table, or one of features and one of labels."""
YEAR = 2018
_TRUTH = {"True": True, "1": True, "1.0": True, "False": False, "0": False, "0.0": False}


def check_extracts(value: str | Iterable[str]) -> tuple[str, ...]:
    """Postal codes of states that have an extract, none, one, several or separated by commas.

    Raises:
        ValueError: for a state without an extract, or one named twice.
        TypeError: for a set, or what are no texts.
    """
    given = list_of_states(value, "extracts")
    return check_postal_codes(given, "extracts", EXTRACTS) if any(given) else ()


def income_files(options: Mapping[str, Any]) -> tuple[tuple[DataFile, ...], ...]:
    """The archives that the options ask for, and then the extracts.

    Raises:
        ValueError: for extracts of what they do not hold, or of a state that is read from its archive besides.
    """
    (persons,) = person_files(options)
    extracts = options["extracts"]
    if extracts and options["year"] != (YEAR,):
        raise ValueError(f"extracts are of {YEAR}; leave year or extracts out")
    if extracts and options["target"] == "income":
        raise ValueError("extracts have no dollars, only whether they are above 50,000; leave them, or target, out")
    for state in extracts:
        if state in options["states"]:
            raise ValueError(f"{state} is among states and extracts; its persons would be rows twice")
    return ((*persons, *(file for state in extracts for file in EXTRACTS[state])),)


def read_extract(contents: Mapping[str, bytes], state: str) -> tuple[Numbers, np.ndarray]:
    """The persons of a state in an extract.

    Args:
        contents: of files, by path.
        state: postal code.

    Returns:
        Numbers `f64[n]` by column, NaN for none, with the state's number besides the features of `acs_income`; and
        the label, `bool[n]`.

    Raises:
        ValueError: for a table without one of the columns, values that are no code of theirs, features and labels
            of different numbers of rows, or a label that is neither true nor false (file, column and row are named).
        ModuleNotFoundError: where pandas is not installed.
    """
    features, labels = EXTRACTS[state][0].path, EXTRACTS[state][-1].path
    table = read_csv(contents[features], features, numbers=INCOME.features, text=())
    persons: Numbers = {name: np.asarray(values) for name, values in table.items()}
    check_codes(persons, ("AGEP", "COW", "MAR", "SEX", "RAC1P", "OCCP", "POBP", "RELP"), features)
    target = text_column(read_csv(contents[labels], labels, numbers=(), text=(INCOME.target.column,)), "PINCP")
    num_rows = len(persons["SEX"])
    if len(target.codes) != num_rows:
        raise ValueError(f"{features} has {num_rows} rows and {labels} {len(target.codes)}; get both files anew")
    unknown = [value for value in target.values if value not in _TRUTH]
    if unknown or (target.codes < 0).any():
        found = repr(unknown[0]) if unknown else f"no value in row {int(np.argmax(target.codes < 0))}"
        raise ValueError(f"{labels} has {found} in column 'PINCP', where True or False should be; get the file anew")
    truth = np.array([_TRUTH[value] for value in target.values])
    return {**persons, "ST": np.full(num_rows, float(FIPS[state]))}, truth[target.codes]
