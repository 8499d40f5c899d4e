"""Medical Expenditure Panel Survey 2015 (HC-181): does a person need much medical care?"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Mapping

import numpy as np

from badrjax.datasets.archives import find_member, read_member
from badrjax.datasets.dataset import standardise_numbers
from badrjax.datasets.delimited import one_of, recode
from badrjax.datasets.entry import Attribute, Entry, Flaw, Option, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.tables import Categories, Column, categories, encode_features
from badrjax.extras import require

# Columns of codes that are features; negative codes say that a value is missing, and why.
CODED = (
    "REGION53", "FTSTU53X", "ACTDTY53", "HONRDC53", "RTHLTH53", "MNHLTH53", "HIBPDX", "CHDDX", "ANGIDX", "MIDX",
    "OHRTDX", "STRKDX", "EMPHDX", "CHBRON53", "CHOLDX", "CANCERDX", "DIABDX", "JTPAIN53", "ARTHDX", "ARTHTYPE",
    "ASTHDX", "ADHDADDX", "PREGNT53", "WLKLIM53", "ACTLIM53", "SOCLIM53", "COGLIM53", "DFHEAR42", "DFSEE42",
    "ADSMOK42", "EMPST53", "POVCAT15", "INSCOV15",
)  # fmt: skip
NUMBERS = ("AGE53X", "PCS42", "MCS42", "K6SUM42")
# The score of two questions on low mood, 0 to 6: AIF360 takes it for a code.
MOOD = "PHQ242"
# Education is no feature of AIF360, only a reason to drop a row.
SCHOOLING = ("EDUCYR", "HIDEG")
EXPENSES = "TOTEXP15"
VISITS = ("OBTOTV15", "OPTOTV15", "ERTOT15", "IPNGTD15", "HHTOTD15")
MANY_VISITS = 10
WEIGHT = "PERWT15F"
NEVER_NEGATIVE = (EXPENSES, *VISITS, WEIGHT)
# Codes, though no features as they are.
PERSONS = ("PANEL", "SEX", "RACEV2X", "RACETHX", "HISPANX", "MARRY53X")
WHOLE = (*CODED, MOOD, *SCHOOLING, *PERSONS)
COLUMNS = (*WHOLE, *NUMBERS, EXPENSES, *VISITS, WEIGHT)

PANELS = {"19": "19", "20": "20"}
SEX = {"1": "male", "2": "female"}
RACE = {"1": "Hispanic", "2": "White", "3": "Black", "4": "Asian", "5": "Other"}
FOUR_RACES = {"Hispanic": "Hispanic", "White": "White", "Black": "Black", "Asian": "Other", "Other": "Other"}
# Codes 7 to 10 are changes within the round.
MARITAL = {
    "1": "married", "2": "widowed", "3": "divorced", "4": "separated", "5": "never married", "6": "under 16",
    "7": "married", "8": "widowed", "9": "divorced", "10": "separated",
}  # fmt: skip
THREE_MARITAL = {
    "married": "Married", "widowed": "Other", "divorced": "Other", "separated": "Other",
    "never married": "Never", "under 16": "Never",
}  # fmt: skip

FILE = DataFile("meps/h181ssp.zip", "", "https://meps.ahrq.gov/data_files/pufs/h181ssp.zip")
MEMBER = "h181.ssp"
_CARD = 80  # a transport file comes in records of so many bytes, the last filled up with blanks
_ROWS_AT_ONCE = 4_000  # the file has some 1,900 columns, of which about sixty are used


def read_raw(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """The columns `COLUMNS` of the SAS transport file, `f64[n]` each, missing ones as negative codes.

    Args:
        contents: bytes of the archive, by path.

    Raises:
        ValueError: for an archive without the one file, a file that is no whole transport file, a column that is
            not there or holds no numbers, a code that is not whole, an expense or a count below 0.
    """
    pandas = require("pandas", "reading this dataset")
    archive = contents[FILE.path]
    content = read_member(archive, find_member(archive, MEMBER, FILE.path), FILE.path)
    try:
        _check_length(content)
        with pandas.read_sas(
            io.BytesIO(content), format="xport", encoding="ISO-8859-1", chunksize=_ROWS_AT_ONCE
        ) as reader:
            _check_end(content, reader.record_start, reader.record_length)
            parts = [part[part.columns.intersection(COLUMNS)] for part in reader]
    except (ValueError, TypeError, KeyError, ZeroDivisionError, struct.error) as error:
        raise ValueError(
            f"{FILE.path}: {MEMBER} is no SAS transport file, or not a whole one ({error}); get the official file"
        ) from error
    if not parts:
        raise ValueError(f"{FILE.path}: {MEMBER} has no rows; get the official file")
    for column in COLUMNS:
        if column not in parts[0].columns:
            raise ValueError(f"{FILE.path}: {MEMBER} has no column {column!r}; get the official file of 2015, HC-181")
    return {column: _numbers([part[column].to_numpy() for part in parts], column) for column in COLUMNS}


def _check_length(content: bytes) -> None:
    # Where pandas only warns, it would leave out the rows that are cut off.
    if len(content) % _CARD:
        raise ValueError(f"its length, {len(content):,} bytes, is no multiple of {_CARD}")


def _check_end(content: bytes, start: int, row_length: int) -> None:
    """Raise `ValueError` unless whole rows fill the file from `start`, but for blanks up to a multiple of 80 bytes."""
    rest = (len(content) - start) % row_length
    # The file is as long as it should be where a cut fell on such a multiple, but it ends within a row.
    if row_length > _CARD and (rest >= _CARD or content[len(content) - rest :].strip(b" ")):
        raise ValueError(f"its last row has {rest} of {row_length} bytes")


def prepare(contents: Mapping[str, bytes], *, variant: str, target: str, panel: str) -> Prepared:
    """MEPS as the papers prepare it; see `ENTRY.variants`."""
    table = read_raw(contents)
    one_of(_codes(table["PANEL"]), PANELS, "PANEL", FILE.path)
    table, notes = _rows(table, variant, panel)
    label, label_name, positive, label_note = _label(table, _target(variant, target))
    attributes = _attributes(table, variant)
    return Prepared(
        features=encode_features(_feature_columns(table, attributes, variant), missing="indicator"),
        label=label,
        label_name=label_name,
        positive=positive,
        attributes=attributes,
        domains={"panel": _codes(table["PANEL"])},
        scale=functools.partial(standardise_numbers, names=NUMBERS) if variant == "fairlab" else None,
        notes=(*notes, label_note),
    )


def _numbers(parts: list[np.ndarray], name: str) -> np.ndarray:
    if any(part.dtype.kind not in "iuf" for part in parts):
        raise ValueError(f"{FILE.path}: column {name!r} holds text where numbers should be; get the official file")
    values = np.concatenate(parts).astype(np.float64)
    # The zero of the transport format comes out of pandas as a number next to zero.
    values = np.where(np.abs(values) < 1e-70, 0.0, values)
    bad = ~np.isfinite(values) if name not in WHOLE else ~(np.floor(values) == values)
    if bad.any():
        row = int(np.argmax(bad))
        kind = "whole number" if name in WHOLE else "number"
        raise ValueError(f"{FILE.path} has {values[row]} in column {name!r}, row {row}, where a {kind} should be")
    if name in NEVER_NEGATIVE and values.min() < 0:
        row = int(np.argmin(values))
        raise ValueError(
            f"{FILE.path} has {values[row]:g} in column {name!r}, row {row}, which is never negative; get the official "
            "file"
        )
    return values


def _rows(table: dict[str, np.ndarray], variant: str, panel: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The rows of the variant and the panel, with notes on those left out."""
    chosen = ("19" if variant == "aif360" else "both") if panel == "auto" else panel
    in_panel = np.ones(table["PANEL"].shape, bool) if chosen == "both" else table["PANEL"] == int(chosen)
    if variant == "default":
        kept, why = table[WEIGHT] > 0, "that stand for nobody of the population (weight 0)"
    else:
        kept, why = _answered(table), "with a missing value where AIF360 allows none"
    rows = in_panel & kept
    if not rows.any():
        raise ValueError(f"{FILE.path} has no row of panel {chosen} that the variant {variant!r} keeps")
    notes = [] if chosen == "both" else [f"panel {chosen} only"]
    dropped = int((in_panel & ~kept).sum())
    if dropped:
        notes.append(f"dropped {dropped:,} rows {why}")
    return {name: column[rows] for name, column in table.items()}, notes


def _answered(table: Mapping[str, np.ndarray]) -> np.ndarray:
    """AIF360's rows: "inapplicable" (-1) counts as an answer, except to four questions."""
    strict = np.all([table[name] >= 0 for name in ("REGION53", "AGE53X", "MARRY53X", "ASTHDX")], axis=0)
    return strict & np.all([table[name] >= -1 for name in (*CODED, MOOD, *SCHOOLING)], axis=0)


def _target(variant: str, target: str) -> str:
    return ("utilization" if variant == "aif360" else "expenses") if target == "auto" else target


def _label(table: Mapping[str, np.ndarray], target: str) -> tuple[np.ndarray, str, str, str]:
    """The label, its name, its value that is 1, and a note."""
    if target == "utilization":
        visits = np.sum([table[name] for name in VISITS], axis=0)
        meaning = f"at least {MANY_VISITS}"
        return visits >= MANY_VISITS, "visits", meaning, f"label: {' + '.join(VISITS)} of {meaning}"
    quartile = float(np.quantile(table[EXPENSES], 0.75))
    note = f"label: {EXPENSES} above {quartile:,.2f} dollars, the third quartile of these rows"
    return table[EXPENSES] > quartile, EXPENSES, "above the third quartile", note


def _attributes(table: Mapping[str, np.ndarray], variant: str) -> dict[str, Attribute]:
    if variant == "aif360":
        hispanic = recode(_codes(table["HISPANX"]), {"1": "yes", "2": "no"}, "HISPANX", FILE.path).text()
        race = categories(np.where((hispanic == "no") & (table["RACEV2X"] == 1), "White", "Non-White"))
    else:
        race = recode(_race(table), FOUR_RACES, "RACETHX", FILE.path)
    # Pregnancy is asked of women only.
    return {
        "race": Attribute(race, ("race",)),
        "sex": Attribute(recode(_codes(table["SEX"]), SEX, "SEX", FILE.path), ("sex", "PREGNT53")),
        "marital": Attribute(recode(_marital(table), THREE_MARITAL, "MARRY53X", FILE.path), ("marital",)),
    }


def _feature_columns(
    table: Mapping[str, np.ndarray], attributes: Mapping[str, Attribute], variant: str
) -> dict[str, Column]:
    columns: dict[str, Column] = {"sex": attributes["sex"].values}
    if variant == "default":
        columns |= {"race": _race(table), "marital": _marital(table)}
        columns |= {name: np.where(table[name] < 0, np.nan, table[name]) for name in (*NUMBERS, MOOD)}
        return columns | {name: _codes(table[name]) for name in CODED}
    race, marital = attributes["race"].values, attributes["marital"].values
    if variant == "aif360":
        assert isinstance(race, Categories)
        race = (race.text() == "White").astype(np.float64)
        marital = _codes(table["MARRY53X"])
    columns |= {"race": race, "marital": marital} | {name: table[name] for name in NUMBERS}
    return columns | {name: _codes(table[name], missing=False) for name in (*CODED, MOOD)}


def _codes(column: np.ndarray, missing: bool = True) -> Categories:
    """Codes as text; with `missing` negative ones are missing values, otherwise values like the others."""
    codes = categories(column.astype(np.int64).astype(np.str_))
    return categories(codes.text(), [code for code in codes.values if code.startswith("-")]) if missing else codes


def _race(table: Mapping[str, np.ndarray]) -> Categories:
    return recode(_codes(table["RACETHX"]), RACE, "RACETHX", FILE.path)


def _marital(table: Mapping[str, np.ndarray]) -> Categories:
    return recode(_codes(table["MARRY53X"]), MARITAL, "MARRY53X", FILE.path)


ENTRY = Entry(
    name="meps",
    title="persons of a US health survey of 2015; label: high medical expenses, or many visits",
    prepare=prepare,
    variants={
        "default": "both panels, persons with a positive weight; missing codes are 0 in all their features, missing "
        "numbers 0 with an indicator; raw numbers",
        "fairlab": "AIF360's rows of both panels; inferred inputs: its codes with -1 among them, four races, three "
        "marital states; numbers standardised over all rows",
        "aif360": "panel 19 as AIF360 prepares it: non-Hispanic white against the others, 10 or more visits",
    },
    sensitive={
        "race": "Black, Hispanic, Other, White; Non-White, White in the variant aif360",
        "sex": "female, male",
        "marital": "Married, Never, Other; persons under 16 are Never, which the age (AGE53X) tells, also with "
        "sensitive_features='drop', which leaves it in",
    },
    source="Agency for Healthcare Research and Quality, https://meps.ahrq.gov/mepsweb/data_stats/"
    "download_data_files_detail.jsp?cboPufNumber=HC-181",
    licence="public use file under AHRQ's data use agreement: statistical use only, no attempt to identify anybody",
    citation="Agency for Healthcare Research and Quality (2017). Medical Expenditure Panel Survey, HC-181: 2015 Full "
    "Year Consolidated Data File. Rockville, MD.",
    files=((FILE,),),
    options={
        "target": Option(
            "auto",
            "expenses (above the third quartile) or utilization (10 visits or more); auto: as the variant's paper",
            ("auto", "expenses", "utilization"),
        ),
        "panel": Option(
            "auto", "19, 20 or both; auto: 19 in the variant aif360, otherwise both", ("auto", "19", "20", "both")
        ),
    },
    positive="in need of much care (favourable where the label decides who is offered more of it)",
    flaws=(
        Flaw(
            "missing scores of health and distress (-1, -9) are used as if they were measured",
            ("fairlab", "aif360"),
            "puts 0 and adds a feature that says so",
        ),
        Flaw(
            "rows with a refused or unknown answer to any of forty questions are dropped, which selects persons",
            ("fairlab", "aif360"),
            "keeps them",
        ),
        Flaw("scaling looks at validation and test rows", ("fairlab",), "leaves numbers raw"),
        Flaw(
            "the quartile that makes the label is taken over all rows, test rows among them",
            ("default", "fairlab"),
            "does the same and notes it in dollars; target='utilization' has a fixed threshold",
        ),
        Flaw(
            "the features are of the year of the label, some asked after most of the care: a description of the "
            "year, no forecast",
            ("default", "fairlab", "aif360"),
            "does the same",
        ),
        Flaw(
            "persons were sampled with unequal chances; AIF360 weights them by PERWT15F, the paper does not say",
            ("default", "fairlab", "aif360"),
            "leaves the weight out of the features and weights all rows alike",
        ),
        Flaw(
            "the paper's 132 inputs are not published: the number of these differs from it",
            ("fairlab",),
            "makes no claim to them",
        ),
    ),
    obtain="download h181ssp.zip from https://meps.ahrq.gov/data_files/pufs/h181ssp.zip (data use agreement: "
    "https://meps.ahrq.gov/mepsweb/data_stats/data_use.jsp) and put it at meps/h181ssp.zip below a data directory",
)

ENTRIES = (ENTRY,)
