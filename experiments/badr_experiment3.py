"""Experiment 3 of BADR: what fairness costs in accuracy and error, of classifiers and of regressions.

Classifiers of persons by state are made individually fair, a split each; ridge regressions on four data sets are
brought to demographic parity of the mean prediction, ten splits each. BADR's group weights are found exactly and, as
published, as the best of 200 random draws. The paper's data leak: two targets are among the features, and one data set
has rows of a person in training and test rows. So regressions run as published and without leaks.

The published ridge model minimises `mean r^2 + mu ||w||^2` with a standardised target. Its scale cancels in that, so
targets are kept in their unit here, and `mu` is doubled for a penalty of `mu/2 ||w||^2`. The recorded results are of 38
states and 37; the 14 whose files have a known checksum are the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
from rich.console import Console

import badrjax as bx
from badrjax import results
from experiments import badr_cells, badr_problems, badr_tables, nash_curves, pages, running
from experiments.badr_problems import NUM_GROUPS, Grouping, Reading

CLASSIFICATIONS = ("employment", "travel_time")
STATES = ("DE", "HI", "ID", "ME", "MT", "ND", "NE", "NH", "NM", "RI", "SD", "VT", "WV", "WY")
YEAR = 2018
NUM_DRAWS = 200
SOLVERS = {"exact": "badr", "draws": "badr_draws"}
COMPARED = (*badr_cells.BASELINES, "badr_draws", "badr")
SCORES = {"classification": "accuracy", "regression": "rmse"}
OBJECTIVES = {"classification": "individual_fairness", "regression": "demographic_parity"}
GAPS = {
    "classification": ("demographic_parity_gap", "equal_opportunity_gap", "equalized_odds_gap"),
    "regression": ("r2", "mean_gap", "wasserstein_gap", "kolmogorov_smirnov_gap", "rmse_gap"),
}
COST = 0.001
"""By how much accuracy may fall for the paper's "within 0.001"."""


class Source(NamedTuple):
    """A data set of the regressions.

    Attributes:
        name: what `badrjax.load_dataset` takes.
        leak_free: its options without leaks.
        whole: the domain that a split without leaks does not divide; `None` for none.
    """

    name: str
    leak_free: dict[str, Any]
    whole: str | None = None


REGRESSIONS = {
    "law_school": Source("law_school", {"target": "zgpa", "sensitive": ("gender", "race")}),
    "parkinsons": Source("parkinsons", {}, "subject"),
    "communities_crime": Source("communities_crime", {"sensitive": "race"}),
    "student": Source("student_mat", {"target": "grade"}),
}


@dataclass(frozen=True)
class Settings:
    """What BADR costs: individual fairness of classifiers, demographic parity of ridge regressions."""

    classifications: tuple[str, ...] = CLASSIFICATIONS
    """Which of the two tasks on census data; none may be named."""
    states: tuple[str, ...] = STATES
    """Postal codes for them, each with its position as the seed of its split."""
    regressions: tuple[str, ...] = tuple(REGRESSIONS)
    """Which of the four data sets; none may be named."""
    variants: tuple[Literal["published", "leak_free"], ...] = ("published", "leak_free")
    """The data of the regressions: as published, and without leaks."""
    seeds: int = 10
    """Splits of each data set of the regressions, seeds 0, 1, ..."""
    solver: Literal["exact", "draws"] = "exact"
    """Which search stands for BADR in rates and claims: to a stationary point, or the published best of 200 draws."""
    reading: Reading = "published"
    """Of the intercept: published fits one that the metric does not see, shared lets it see, absent has none."""
    groups: Grouping = "published"
    """Whether small groups are merged in training and test rows apart, as published, or once over all rows."""
    out: Path = field(default_factory=lambda: Path("outputs/badr_experiment3"))
    """Directory for report.html, results.csv, provenance.json and tables.md, and of the finished cells."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


class Place(NamedTuple):
    """What names a cell; `state` is empty for a regression."""

    kind: str
    data: str
    variant: str
    state: str
    seed: int


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run the cells that are missing, print tables and claims, write the files, and return the tidy frame."""
    jobs = make_jobs(settings)
    console = running.begin(settings, console)
    tell = partial(console.print, markup=False)
    done: dict[Place, badr_cells.Finished] = {}
    missing: dict[Place, str] = {}
    with jax.enable_x64(True):
        for _, alike in groupby(jobs, _shape):
            found, lacking = badr_cells.finish({place: jobs[place] for place in alike}, tell)
            done, missing = done | found, missing | lacking
        if not done:
            raise FileNotFoundError("; ".join(sorted(set(missing.values()))))
        frame = badr_cells.tidy((place._asdict(), cell.records) for place, cell in done.items())
        frame = frame.assign(paper="badr", table="experiment 3")
        data = {jobs[place].path.stem: cell.checksum for place, cell in done.items()}
        results.write_results(frame, results.provenance(settings=asdict(settings), data=data), settings.out)
    text = report(frame, SOLVERS[settings.solver], sorted(missing))
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    pages.write(settings, text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote report.html, results.csv, provenance.json and tables.md in {settings.out}", markup=False)
    return frame


def make_jobs(settings: Settings) -> dict[Place, badr_cells.Job]:
    """The cells that are asked for, those of one shape side by side.

    Raises:
        ValueError: for settings that cannot be run.
    """
    if not settings.classifications and not settings.regressions:
        raise ValueError("classifications or regressions must name at least one")
    if settings.classifications:
        nash_curves.check_names("classification", settings.classifications, dict.fromkeys(CLASSIFICATIONS))
    if settings.regressions:
        nash_curves.check_names("regression", settings.regressions, REGRESSIONS)
        nash_curves.check_names("variant", settings.variants, dict.fromkeys(("published", "leak_free")))
    badr_problems.check_choices(settings, SOLVERS)
    running.check_seeds(range(settings.seeds))
    how = {"reading": settings.reading, "groups": settings.groups}
    folder = settings.out / "cells" / "-".join(how.values())
    jobs = {}
    for place in _places(settings):
        path = folder / ("_".join(filter(None, map(str, place[1:]))) + ".json")
        load = partial(_load, place, settings)
        jobs[place] = badr_cells.Job(path, place._asdict() | how, make_task(place, settings), load)
    return jobs


def make_task(place: Place, settings: Settings) -> badr_cells.Task:
    """What is solved on a cell; the draws are those of its seed."""
    objective = OBJECTIVES[place.kind]
    draws = np.random.default_rng(place.seed).dirichlet(np.ones(NUM_GROUPS), NUM_DRAWS)
    common: dict[str, Any] = {"published": "badr_draws", "candidates": draws, "balance": "complement"}
    common |= {"objectives": {objective: objective}, "reading": settings.reading}
    if place.kind == "classification":
        return badr_cells.Task(measure=badr_problems.classified, **common)
    return badr_cells.Task(measure=badr_problems.regressed, loss="squared", regularisation=2 * 0.1, **common)


def claims(frame: pd.DataFrame, badr: str) -> pd.DataFrame:
    """Claim 4 with verdicts; `badr` names the search that stands for BADR."""
    found: list[tuple[dict[str, str], results.Claim]] = []
    for kind, mine in frame.groupby("kind", sort=False):
        found += (_classification_claims if kind == "classification" else _regression_claims)(mine, badr)
    return results.claim_table(found)


def _classification_claims(frame: pd.DataFrame, badr: str) -> badr_tables.Claims:
    accuracy, unfair = (badr_tables.by_method(frame, "test", metric) for metric in ("accuracy", "objective"))
    what = f"BADR's accuracy, within {COST}, is at least that"
    yield badr_tables.labels("4", what, "uniform"), badr_tables.claim(accuracy[badr] - accuracy["uniform"], COST)
    for against in ("uniform", "one_group"):
        ahead = unfair[against] - unfair[badr]
        yield badr_tables.labels("4", "BADR is individually fairer", against), badr_tables.claim(ahead)
    travel = unfair[unfair.index.get_level_values("data") == "travel_time"]
    if len(travel):
        behind = badr_tables.claim(travel["one_group"] - travel["uniform"])
        yield badr_tables.labels("4", "travel_time: one group is individually less fair", "uniform"), behind


def _regression_claims(frame: pd.DataFrame, badr: str) -> badr_tables.Claims:
    """Splits overlap, so their differences are not independent; see `badrjax.results.compare_over_splits`."""
    unfair, error = (badr_tables.by_method(frame, "test", metric) for metric in ("objective", "rmse"))
    sizes = {"num_train": 7, "num_test": 3, "tolerance": 0.0}  # the correction takes their ratio
    for (data, variant), mine in unfair.groupby(["data", "variant"], sort=False):
        where = f"{data}, {variant}"
        for against in ("uniform", "one_group"):
            ahead = results.compare_over_splits(mine[against] - mine[badr], **sizes)
            yield badr_tables.labels("4", f"{where}: BADR is nearer parity", against), ahead
        cost = error.loc[mine.index]
        dearer = results.compare_over_splits(cost[badr] - cost["uniform"], **sizes)
        yield badr_tables.labels("4", f"{where}: BADR's error is larger", "uniform"), dearer


def report(frame: pd.DataFrame, badr: str, missing: Sequence[Place]) -> str:
    """All tables as Markdown."""
    parts = [f"# BADR, experiment 3\n\n{coverage(frame, missing)}\n"]
    for kind, mine in frame.groupby("kind", sort=False):
        parts += [
            f"## {kind.capitalize()}: mean ± deviation, beside it the recorded\n",
            scores_markdown(mine, kind),
            f"### Wins and ties of BADR in {OBJECTIVES[kind]}: ours (won of the recorded runs)\n",
            wins_markdown(mine, kind, badr),
            "### Other measures on test rows\n",
            gaps_markdown(mine, kind),
            "### What the draws leave in training, above the exact search\n",
            badr_tables.left_by_published(mine, "badr_draws"),
        ]
    if "regression" in set(frame["kind"]):
        parts += ["## Where the gap between uniform weights and BADR is\n", shares_sentence(frame, badr)]
    parts += ["## Claims\n", badr_tables.claims_markdown(claims(frame, badr))]
    return "\n".join([*parts, "## Certificates\n", badr_tables.certificates(frame)])


def coverage(frame: pd.DataFrame, missing: Sequence[Place]) -> str:
    """How many cells there are of what, and which are not."""
    here = frame[["data", "variant", "state", "seed"]].drop_duplicates()
    counts = here.groupby(["data", "variant"], sort=False).size()
    text = "; ".join(f"{data}, {variant}: {count}" for (data, variant), count in counts.items())
    states = " ".join(sorted(set(here["state"]) - {""}))
    text = f"Cells: {text}." + (f" States: {states}." if states else "")
    text += " The recorded results are of 38 states of employment, 37 of travel time and ten seeds a regression."
    if missing:
        names = ", ".join(" ".join(filter(None, map(str, place[1:]))) for place in missing)
        text += f" Not run for want of their files: {names}."
    return text


def scores_markdown(frame: pd.DataFrame, kind: str) -> str:
    """Score and metric by data set and method, ours beside the recorded; BADR's were found by draws."""
    wanted = {"score": ("test", SCORES[kind]), "metric": ("test", "objective"), "train": ("train", "objective")}
    tables = {name: badr_tables.by_method(frame, *which) for name, which in wanted.items()}
    rows = []
    for (data, variant), at in _families(tables["score"]):
        for method in COMPARED:
            ours = [_spread(table.loc[at, method]) for table in tables.values()]
            runs, *recorded = _recorded(kind, data, method) if variant == "published" else _NOT_RECORDED
            both = [cell for pair in zip(ours, recorded, strict=True) for cell in pair]
            rows.append([data, variant, badr_tables.title(method), str(int(np.sum(at))), runs, *both])
    score = SCORES[kind]
    header = ["data", "variant", "method", "runs", "recorded runs", f"test {score}", "recorded"]
    return results.markdown_table([*header, "test metric", "recorded", "training metric", "recorded"], rows)


def wins_markdown(frame: pd.DataFrame, kind: str, badr: str) -> str:
    """How often BADR's metric is the lower one, by variant of the data."""
    recorded = {tuple(row[:2]): row[2:] for row in badr_tables.targets("badr_experiment3")["wins"]}
    both = {split: badr_tables.wins(frame, badr, split, groupby="variant") for split in ("train", "test")}
    rows = []
    for (_, train), (_, test) in zip(both["train"].iterrows(), both["test"].iterrows(), strict=True):
        then = recorded.get((kind, train["against"])) if train["variant"] == "published" else None
        shown = [f"{one['won']} + {one['tied']} of {one['cells']}" for one in (train, test)]
        if then:
            shown = [f"{cell} ({number} of {then[0]})" for cell, number in zip(shown, then[1:], strict=True)]
        rows.append([train["variant"], badr_tables.title(train["against"]), *shown])
    return results.markdown_table(["variant", "against", "training, won + tied", "test, won + tied"], rows)


def gaps_markdown(frame: pd.DataFrame, kind: str) -> str:
    """Means of what else is measured, by data set and method."""
    names = (*GAPS[kind], *(name.replace("_gap", "_floor") for name in GAPS[kind] if kind == "classification"))
    tables = [badr_tables.by_method(frame, "test", name) for name in names]
    rows = [
        [data, variant, badr_tables.title(method), *(f"{table.loc[at, method].mean():.4g}" for table in tables)]
        for (data, variant), at in _families(tables[0])
        for method in COMPARED
    ]
    return results.markdown_table(["data", "variant", "method", *(name.replace("_", " ") for name in names)], rows)


def shares_sentence(frame: pd.DataFrame, badr: str) -> str:
    """How much of the summed gap in the regressions' metric each data set has, as published."""
    unfair = badr_tables.by_method(frame[(frame["kind"] == "regression")], "test")
    unfair = unfair[unfair.index.get_level_values("variant") == "published"]
    if unfair.empty:
        return "No regression ran as published.\n"
    gap = (unfair["uniform"] - unfair[badr]).groupby("data", sort=False).mean()
    return "As published, mean gap by data set: " + ", ".join(f"{data} {x:.3g}" for data, x in gap.items()) + ".\n"


_NOT_RECORDED = ("", "", "", "")


def _recorded(kind: str, data: str, method: str) -> tuple[str, ...]:
    """Recorded runs, score, metric on test and in training of a data set and method; empty where there are none."""
    then = {tuple(row[:3]): row[3:] for row in badr_tables.targets("badr_experiment3")["rows"]}
    name = {"badr_draws": "badr", "badr": None}.get(method, method)
    if (kind, data, name) not in then:
        return _NOT_RECORDED
    runs, score, its_deviation, metric, other_deviation, train = then[kind, data, name]
    return str(runs), _pair(score, its_deviation), _pair(metric, other_deviation), _pair(train)


def _families(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Data sets by variant with where their rows are, those of a variant together first."""
    data, variants = (table.index.get_level_values(name) for name in ("data", "variant"))
    for variant in dict.fromkeys(variants):
        yield ("all", variant), np.asarray(variants == variant)
    for name, variant in dict.fromkeys(zip(data, variants, strict=True)):
        yield (name, variant), np.asarray((data == name) & (variants == variant))


def _spread(values: pd.Series) -> str:
    return _pair(values.mean(), values.std() if len(values) > 1 else None)


def _pair(mean: float, deviation: float | None = None) -> str:
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def _places(settings: Settings) -> list[Place]:
    states, _ = badr_problems.check_places(settings.states, (YEAR,)) if settings.classifications else ((), ())
    seeds = list(range(settings.seeds))
    places = [
        Place("classification", task, "published", state, seed)
        for task in settings.classifications
        for seed, state in enumerate(states)
    ]
    return places + [
        Place("regression", data, variant, "", seed)
        for data in settings.regressions
        for variant in settings.variants
        for seed in seeds
    ]


def _shape(place: Place) -> tuple[str, ...]:
    """Cells that share a program: all classifications, and the splits of a regression."""
    return (place.kind,) if place.kind == "classification" else (place.data, place.variant)


def _load(place: Place, settings: Settings) -> badr_problems.Cell:
    options: dict[str, Any] = {"groups": settings.groups}
    if place.kind == "classification":
        dataset = badr_problems.load_survey(place.data, place.state, YEAR, settings.data_home)
        return badr_problems.make_cell(dataset, place.seed, **options)
    source = REGRESSIONS[place.data]
    chosen = {"variant": "badr"} if place.variant == "published" else source.leak_free
    dataset = bx.load_dataset(source.name, data_home=settings.data_home, **chosen)
    if place.variant == "leak_free":
        options = {"groups": "shared", "whole": source.whole}
    return badr_problems.make_cell(dataset, place.seed, **options)
