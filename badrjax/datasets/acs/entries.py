"""The entries of the registry."""

from __future__ import annotations

import functools

from badrjax.datasets.acs.extracts import EXTRACTS, check_extracts, income_files
from badrjax.datasets.acs.extracts import YEAR as EXTRACT_YEAR
from badrjax.datasets.acs.problems import EMPLOYMENT, INCOME, MOBILITY, PUBLIC_COVERAGE, TRAVEL_TIME, Problem
from badrjax.datasets.acs.recipes import prepare
from badrjax.datasets.acs.states import DEFAULT_STATES, DEFAULT_YEAR, YEARS, check_states, check_years, person_files
from badrjax.datasets.entry import Entry, Facts, Flaw, Option

_OPTIONS = {
    "states": Option(
        DEFAULT_STATES,
        "postal codes of states, with DC and PR, in the order of the rows; one, a list, or text with commas",
        check=check_states,
    ),
    "year": Option(
        DEFAULT_YEAR,
        f"years of the survey, {YEARS[0]} to {YEARS[-1]}; one, a list, or text with commas",
        check=check_years,
    ),
}
_TARGET = Option(
    "above_50k",
    "above_50k: whether the income is above 50,000 dollars; income: the dollars, for a regression",
    values=("above_50k", "income"),
)
_EXTRACTS = Option(
    (),
    f"states besides, whose rows of {EXTRACT_YEAR} come from an extract of features and label: {', '.join(EXTRACTS)}; "
    "one, a list, or text with commas",
    check=check_extracts,
)
_OBTAIN_EXTRACTS = (
    f"; the extracts ({', '.join(file.path for files in EXTRACTS.values() for file in files)}, each with a pinned "
    "SHA-256) are tables that others made with folktables and cannot be downloaded by a program: without them, name "
    "the state among states, which reads its archive"
)

_VARIANTS = {
    "default": (
        "rows and label of folktables; codes as 0/1 features (occupations by major group, birthplaces by same "
        "state, elsewhere in the US, abroad; areas left out), the same for all states; a missing number is 0 with "
        "a 0/1 feature"
    ),
    "folktables": "the table of folktables: every code a number, missing values 0",
}
_BADR = (
    "as folktables, missing values -1 (the paper's groups: min_group_rows = number of features + 1, then num_groups)"
)
_FAIRLAB = (
    "fourteen 0/1 features of sex, job, race and marital status and six codes as numbers, standardised; persons who "
    "work without pay or have long been unemployed left out"
)

_SENSITIVE = {
    "sex": "Female, Male",
    "race": "nine values",
    "over_40": "age: over 40, up to 40",
    "state": "postal codes of the states asked for",
}
_TELLS_AGE = "sensitive_features='drop' leaves out, too, what only some ages are asked: "
_INCOME_SENSITIVE = {
    "job": "class of worker: Private, Public, Self; others have no value",
    "race_5": "race by five values: Asian, Black, Indigenous, Other, White",
    "marital": (
        "marital status: Divorced, Married, Never, Other; sensitive_features='drop' leaves out, too, the relation to "
        "the householder, whose husband or wife is married"
    ),
}

_CODES_AS_NUMBERS = "codes of categories (occupation, race, birthplace, ...) are numbers"
_FLAWS = (Flaw(_CODES_AS_NUMBERS, ("folktables", "badr", "fairlab"), "makes 0/1 features of them"),)
_MISSING_FLAW = Flaw(
    "missing values are a number like others: 0 in folktables (whose code was meant to write -1), -1 in BADR",
    ("folktables", "badr"),
    "gives numbers a 0/1 feature for missing, and a missing code 0 in all its features",
)
_INCOME_FLAWS = (
    Flaw(
        "the paper names jobs, races and marital statuses without their codes, so these are inferred: rows with "
        "COW 8 or 9 are left out, natives of the Pacific Islands are Indigenous, the widowed and separated Other",
        ("fairlab",),
        "keeps all rows and the published codes",
    ),
    Flaw("scaling looks at validation and test rows", ("fairlab",), "leaves numbers raw"),
)
_EMPLOYMENT_FLAWS = (
    _MISSING_FLAW,
    Flaw(
        "children, who have no employment status, are rows with the label 0",
        ("default", "folktables"),
        "keeps them, as folktables does",
    ),
    Flaw(
        "only persons with working hours and an income are kept, so nearly all have a job",
        ("badr",),
        "keeps everybody",
    ),
)
_TRAVEL_FLAWS = (
    _MISSING_FLAW,
    Flaw(
        "who works at home has no travel time and counts as up to 20 minutes, which JWTR tells",
        ("default", "folktables", "badr"),
        "keeps them, as folktables does",
    ),
    Flaw("areas have numbers that are unique only within a state", ("folktables", "badr"), "leaves areas out"),
    Flaw(
        "rows of small cells of sex, race and age in a state and year are left out, a choice that looks at all rows",
        ("badr",),
        "keeps all rows",
    ),
)


def _sensitive(problem: Problem) -> dict[str, str]:
    texts = _SENSITIVE | (_INCOME_SENSITIVE if problem is INCOME else {})
    told_by = problem.tells_age()
    if told_by:
        texts["over_40"] += f"; {_TELLS_AGE}{', '.join(told_by)}"
    return texts


def _entry(
    problem: Problem,
    title: str,
    positive: str,
    facts: dict[str, Facts],
    *,
    flaws: tuple[Flaw, ...] = (),
    variants: dict[str, str] | None = None,
    default_sensitive: dict[str, tuple[str, ...]] | None = None,
) -> Entry:
    """An entry; what a variant keeps of the flaws is cut to the variants that there are."""
    offered = _VARIANTS | (variants or {})
    income = problem is INCOME
    kept_flaws = tuple(
        flaw._replace(kept_by=tuple(variant for variant in flaw.kept_by if variant in offered))
        for flaw in (*_FLAWS, *flaws)
    )
    return Entry(
        name=problem.name,
        title=title,
        prepare=functools.partial(prepare, problem=problem),
        variants=offered,
        sensitive=_sensitive(problem),
        source="U.S. Census Bureau, https://www2.census.gov/programs-surveys/acs/data/pums/"
        + ("; extracts: derived from it by others with folktables" if income else ""),
        licence="US Census Bureau public-use microdata, no copyright (cite source)",
        citation=(
            "Ding, F., Hardt, M., Miller, J. and Schmidt, L. (2021). Retiring Adult: New Datasets for Fair Machine "
            "Learning. NeurIPS. Data: U.S. Census Bureau, American Community Survey, Public Use Microdata Sample"
        ),
        files=person_files({"states": DEFAULT_STATES, "year": (DEFAULT_YEAR,)}),
        files_of=income_files if income else person_files,
        options=_OPTIONS | ({"target": _TARGET, "extracts": _EXTRACTS} if income else {}),
        default_sensitive=default_sensitive or {},
        positive=positive,
        flaws=kept_flaws,
        facts=facts,
        obtain=(
            "download csv_p<state>.zip of each state and year from the Census Bureau (by hand, or with `badrjax data "
            "fetch acs_income -o states=CA -o year=2014 --unpinned`: only the 14 files of 2018 that the default takes "
            "have a pinned SHA-256) and put it at acs/<year>_1-Year/ below a data directory"
            + (_OBTAIN_EXTRACTS if income else "")
        ),
    )


ENTRIES = (
    _entry(
        INCOME,
        "persons over 16 with work and an income, American Community Survey; label: income above 50,000 dollars",
        "income above 50,000 dollars (favourable)",
        {
            "default": Facts(90_636, 75, 0.3326),
            "folktables": Facts(90_636, 10, 0.3326),
            "badr": Facts(90_636, 10, 0.3326),
            "fairlab": Facts(90_253, 20, 0.3334),
        },
        flaws=_INCOME_FLAWS,
        variants={"badr": _BADR, "fairlab": _FAIRLAB},
        default_sensitive={"badr": ("sex", "race"), "fairlab": ("job", "race_5", "marital")},
    ),
    _entry(
        EMPLOYMENT,
        "persons of all ages, American Community Survey; label: a civilian at work",
        "a civilian at work (favourable)",
        {
            "default": Facts(173_916, 71, 0.454),
            "folktables": Facts(173_916, 16, 0.454),
            "badr": Facts(90_636, 16, 0.8647),
        },
        flaws=_EMPLOYMENT_FLAWS,
        variants={"badr": f"{_BADR}; the rows of acs_income"},
        default_sensitive={"badr": ("sex", "race")},
    ),
    _entry(
        TRAVEL_TIME,
        "persons over 16 at work, American Community Survey; label: more than 20 minutes to work",
        "more than 20 minutes to work (unfavourable)",
        {
            "default": Facts(78_521, 108, 0.3478),
            "folktables": Facts(78_521, 16, 0.3478),
            "badr": Facts(65_594, 16, 0.3474),
        },
        flaws=_TRAVEL_FLAWS,
        variants={"badr": f"{_BADR}; without the rows of a sex, race and age with at most 16 in their state and year"},
        default_sensitive={"badr": ("sex", "race", "over_40")},
    ),
    _entry(
        PUBLIC_COVERAGE,
        "persons under 65 with at most 30,000 dollars a year, American Community Survey; label: public health coverage",
        "covered by public health insurance (favourable)",
        {"default": Facts(59_317, 75, 0.3061), "folktables": Facts(59_317, 19, 0.3061)},
        flaws=(_MISSING_FLAW,),
    ),
    _entry(
        MOBILITY,
        "persons of 19 to 34 years, American Community Survey; label: same home as a year before",
        "lives in the same home as a year before (neither good nor bad)",
        {"default": Facts(31_129, 89, 0.7271), "folktables": Facts(31_129, 21, 0.7271)},
        flaws=(_MISSING_FLAW,),
    ),
)
