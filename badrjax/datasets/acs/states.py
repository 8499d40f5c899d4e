"""Person files of the American Community Survey: which there are, and the options that choose them."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets.files import DataFile

FIPS = {
    "AL": 1, "AK": 2, "AZ": 4, "AR": 5, "CA": 6, "CO": 8, "CT": 9, "DE": 10, "DC": 11, "FL": 12, "GA": 13,
    "HI": 15, "ID": 16, "IL": 17, "IN": 18, "IA": 19, "KS": 20, "KY": 21, "LA": 22, "ME": 23, "MD": 24,
    "MA": 25, "MI": 26, "MN": 27, "MS": 28, "MO": 29, "MT": 30, "NE": 31, "NV": 32, "NH": 33, "NJ": 34,
    "NM": 35, "NY": 36, "NC": 37, "ND": 38, "OH": 39, "OK": 40, "OR": 41, "PA": 42, "RI": 44, "SC": 45,
    "SD": 46, "TN": 47, "TX": 48, "UT": 49, "VT": 50, "VA": 51, "WA": 53, "WV": 54, "WI": 55, "WY": 56,
    "PR": 72,
}  # fmt: skip
"""The number of each state, of the District of Columbia and of Puerto Rico, by postal code."""

YEARS = (2014, 2015, 2016, 2017, 2018)
DEFAULT_YEAR = 2018

# Of the files of 2018, by state; the others had no copy to take a checksum from.
_SHA256_2018 = {
    "WY": "236855a172f7c6fb5ac006ddd14f204b052823c084abdcd93c55d7f26751691c",
    "VT": "e354dc8484d234e7e328ceffb57495d3e0a8a0a8d4f2fc3cbc30b833c3ce0dde",
    "ND": "6707385427a4c0e3902661038192c10a27d3f0e6c7b79e7dda7400a7bf3c6192",
    "SD": "14a45f25ae73f68f3ab01307b111a3650cd997c0a93de174fe488de4b56c30a9",
    "DE": "a9f680033e3ce6f20b01fce916abdee68026429fd737f958f83281cb372719c5",
    "MT": "f20f67ad53ea1d9d17c9b1c7f1a3fe70ddbb84b96044b7c98f445e868989437e",
    "ME": "2a718c75dc732d2b4ca823bd0aee12c940b087494ef3b7a0caef0534165b7cc7",
    "WV": "f1a39b7be0b01aef6033ca6f3f32d954d3df07c8de12dd35da8d55be65c7cef8",
    "ID": "ea743376f02ef0a0b8b00599e238e47a6073e368e8bda97fa6305da8c5dbfa91",
    "RI": "c5a7155543b1e4296420955714e3160563c4bbe9682299c2761434e4007bd331",
    "NH": "17c68e50530b61197abb9fd78a1678a5360bf05654d105501f4a5f73dccc70c8",
    "HI": "574166f4fc904c90e9f38f8a00238fa52d613bce4494d570c18ec60174324088",
    "NM": "b4f0a7190a5a4a1e6102d1e3fef13d723cbd93bea46e2420ada5c70b593c9629",
    "NE": "f1f5a56c7bec8de9ef2b1d98fbc9ba6afd3f7ed936c959d6d3392c899fe2db7d",
}
DEFAULT_STATES = tuple(_SHA256_2018)

_CENSUS = "https://www2.census.gov/programs-surveys/acs/data/pums"


def check_states(value: str | Iterable[str]) -> tuple[str, ...]:
    """Postal codes, one, several or separated by commas, as a tuple of distinct ones in capitals.

    Raises:
        ValueError: for no state, an unknown one (with the nearest), or one named twice.
        TypeError: for a set, whose order, and with it the order of the rows, changes from run to run, and for
            what are no texts.
    """
    given = list_of_states(value, "states")
    if not given:
        raise ValueError("states must name at least one state")
    return check_postal_codes(given, "states", FIPS)


def list_of_states(value: str | Iterable[str], name: str) -> list[str]:
    """What an option names, in capitals.

    Raises:
        TypeError: for a set, or what are no texts.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    given = value.split(",") if isinstance(value, str) else _listed(value, name, "a postal code such as 'WY'")
    for state in given:
        if not isinstance(state, str):
            raise TypeError(f"{name} must be postal codes such as 'WY', got {state!r}")
    return [state.strip().upper() for state in given]


def check_postal_codes(states: list[str], name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The states, if all are known ones and none is named twice; else `ValueError`."""
    for state in states:
        if state not in known:
            raise unknown_name("state" if name == "states" else f"state of {name}", state, known)
    if len(set(states)) < len(states):
        repeated = next(state for position, state in enumerate(states) if state in states[:position])
        raise ValueError(f"{name} names {repeated} twice; its persons would be rows twice")
    return tuple(states)


def _listed(value: Any, name: str, wanted: str) -> list[Any]:
    """The members of a list, an array or a generator."""
    if isinstance(value, set | frozenset):
        raise TypeError(f"{name} must be {wanted}, or a list of them, and a set has no order: {value!r}")
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be {wanted}, or a list of them, got {value!r}")
    return list(value)


def check_years(value: float | str | Iterable[float | str]) -> tuple[int, ...]:
    """Years of the survey, one, several or separated by commas, as a tuple of distinct ones.

    Raises:
        ValueError: for no year, one whose files are not known, or one named twice.
        TypeError: for a set, whose order, and with it the order of the rows, changes from run to run, and for
            what is neither a year nor a list.
    """
    if isinstance(value, str):
        given: list[Any] = value.split(",")
    elif isinstance(value, numbers.Real | np.ndarray):
        given = np.atleast_1d(np.asarray(value)).tolist()
    else:
        given = _listed(value, "year", f"a year such as {DEFAULT_YEAR}")
    texts = [_year_text(year) for year in given]
    for text in texts:
        if text not in map(str, YEARS):
            raise ValueError(f"unknown year {text!r}: there are {', '.join(map(str, YEARS))}")
    if not texts:
        raise ValueError("year must name at least one year")
    if len(set(texts)) < len(texts):
        raise ValueError(f"year names one year twice, {', '.join(texts)}; its persons would be rows twice")
    return tuple(map(int, texts))


def _year_text(year: Any) -> str:
    whole = isinstance(year, numbers.Real) and not isinstance(year, bool) and float(year).is_integer()
    return str(int(year) if whole else year).strip()


def person_file(state: str, year: int) -> DataFile:
    """The archive of a state's persons in a year."""
    name = f"csv_p{state.lower()}.zip"
    pinned = _SHA256_2018.get(state, "") if year == DEFAULT_YEAR else ""
    return DataFile(f"acs/{year}_1-Year/{name}", pinned, f"{_CENSUS}/{year}/1-Year/{name}")


def person_files(options: Mapping[str, Any]) -> tuple[tuple[DataFile, ...], ...]:
    """The archives that the options ask for, year by year, in the order of the states."""
    return (tuple(person_file(state, year) for year in options["year"] for state in options["states"]),)


def member_name(state: str, year: int) -> str:
    """What the table is called inside its archive; the Census Bureau changed the names with 2017."""
    return f"psam_p{FIPS[state]:02}.csv" if year >= 2017 else f"ss{year % 100}p{state.lower()}.csv"
