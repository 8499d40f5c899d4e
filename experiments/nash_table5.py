"""Table 5 of Nash-Meta-Learning: how informative the validation rows of each setting are.

The paper prints a normalised mutual information a setting and no formula. So this computes every combination of what
a reader may guess - which rows, how a feature becomes discrete, against what, how it is normalised and summarised -
and prints those that come closest beside the paper's numbers, with how far off they are. Nothing is trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from badrjax import results
from experiments import information, nash_curves, pages, running
from experiments.information import Estimator
from experiments.nash_protocol import SETTINGS

Found = Mapping[str, Mapping[Estimator, float]]
"""Every estimator by setting."""

AGREES = 0.01
"""Relative difference at which a number counts as the paper's."""


@dataclass(frozen=True)
class Settings:
    """Mutual information of the validation rows by many estimators, Table 5 of the paper."""

    datasets: tuple[str, ...] = tuple(SETTINGS)
    """Which of the seven settings; those whose files are missing are left out."""
    split: Literal["auto", "official", "balanced"] = "auto"
    """The paper's index file, a balanced split drawn here, or the first where its file is there and else the second."""
    split_seed: int = 0
    """Seed of the balanced split."""
    closest: int = 12
    """How many estimators are printed; all are in results.csv."""
    out: Path = field(default_factory=lambda: Path("outputs/nash_table5"))
    """Directory for report.html, results.csv and provenance.json."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA and the bundled copy."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Compute, print the table, write the files, and return the tidy frame."""
    _check(settings)
    console = running.begin(settings, console)
    options = nash_curves.Options(
        split=settings.split, split_seed=settings.split_seed, data_home=settings.data_home, changes=("scaling=all",)
    )
    found: dict[str, dict[Estimator, float]] = {}
    checksums = {}
    loaded = nash_curves.load_each(console, settings.datasets, options)
    for name, (dataset, splits, split) in loaded.items():
        if split == "balanced":
            console.print(f"{SETTINGS[name].title}: the split is drawn here, so its rows are not the paper's")
        found[name] = information.estimates(dataset.x, dataset.y, dataset.group, splits.validation)
        checksums[name] = results.dataset_checksum([dataset.x, dataset.y, dataset.group, splits.validation])
    frame, scores = tidy(found), scored(found)
    parts = [table(found, scores[: settings.closest]), *conclusions(found, scores)]
    for part in parts:
        console.print(part)
    used = asdict(settings) | {"splits": {name: one.split for name, one in loaded.items()}}
    path = results.write_results(frame, results.provenance(settings=used, data=checksums), settings.out)
    page = pages.write(settings, *parts)
    console.print(f"wrote {path}, {path.with_name('provenance.json')}, {page}")
    return frame


class Score(NamedTuple):
    """How near an estimator comes to the paper's numbers.

    Attributes:
        estimator: which.
        factor: by what factor it is typically off, `>= 1`.
        correlation: Spearman's, over the settings.
        agreeing: numbers that are within `AGREES` of the paper's.
    """

    estimator: Estimator
    factor: float
    correlation: float
    agreeing: int


def printed() -> dict[str, float]:
    """The paper's numbers by setting."""
    return {name: value for name, _, value in _cells()}


def features() -> dict[str, int]:
    """The number of features F by setting."""
    return {name: number for name, number, _ in _cells()}


def scored(found: Found) -> list[Score]:
    """All estimators, the closest first."""
    theirs = np.array([printed()[name] for name in found])
    scores = []
    for estimator in next(iter(found.values())):
        ours = np.array([of[estimator] for of in found.values()])
        factor = information.typical_factor(ours, theirs)
        agreeing = int(np.sum(np.abs(ours / theirs - 1) < AGREES))
        scores.append(Score(estimator, factor, information.rank_correlation(ours, theirs), agreeing))
    return sorted(scores, key=lambda score: score.factor)


def table(found: Found, scores: Sequence[Score]) -> Table:
    """The paper's numbers above those of the estimators, a setting a column."""
    shown = Table(
        title="normalised mutual information, in thousandths",
        caption="features: how they become discrete; F: number of features; NMI: over the mean of both entropies, MI: "
        "in nats; off by: typical factor; rank: Spearman's correlation with the paper over the settings; -: "
        "where one of ours is 0, or the order says nothing",
    )
    for header in ("rows", "features", "with", "", "summary"):
        shown.add_column(header, no_wrap=True)
    for header in (*(SETTINGS[name].title.replace(", ", "\n") for name in found), "off by", "rank"):
        shown.add_column(header, justify="right", no_wrap=True)
    shown.add_row("paper", "", "", "", "", *(f"{1000 * printed()[name]:.3g}" for name in found), end_section=True)
    for estimator, factor, correlation, _ in scores:
        rows, levels, target, normalised, summary = estimator
        shown.add_row(
            {"validation": "val."}.get(rows, rows),
            levels,
            {"group x label": "cell"}.get(target, target),
            "NMI" if normalised else "MI",
            summary,
            *(f"{1000 * of[estimator]:.3g}" for of in found.values()),
            f"{factor:.2f}x" if np.isfinite(factor) else "-",
            f"{correlation:.2f}" if np.isfinite(correlation) else "-",
        )
    return shown


def conclusions(found: Found, scores: Sequence[Score]) -> list[str]:
    """Whether an estimator gives the paper's numbers, and how that compares with what the features' number says."""
    number = len(found)
    most = max(scores, key=lambda score: score.agreeing)
    ranked = [score for score in scores if np.isfinite(score.correlation)]
    lines = [
        f"{len(scores)} estimators; the most numbers that agree within {AGREES:.0%} with one of them: "
        f"{most.agreeing} of {number}"
        + (f" ({_words(most.estimator)})" if most.agreeing else "")
        + ("" if most.agreeing == number else ", so none is the paper's")
    ]
    if ranked:
        best = max(ranked, key=lambda score: score.correlation)
        theirs = np.array([printed()[name] for name in found])
        every = np.array([[of[score.estimator] for of in found.values()] for score in scores])
        chance = information.chance_of_correlation(every, theirs)
        lines.append(
            f"highest rank correlation: {best.correlation:.2f} ({_words(best.estimator)}); with the printed numbers "
            f"shuffled, the best of so many is as high in {chance:.0%} of the orders"
        )
        alone = information.rank_correlation(np.array([1 / features()[name] for name in found]), theirs)
        lines.append(f"that of 1 / F, which knows nothing of the rows: {alone:.2f}")
    return lines


def tidy(found: Found) -> pd.DataFrame:
    """One value a row: every estimator on every setting, with the paper's number."""
    rows = [
        {
            "paper": "nash_meta_learning",
            "table": "Table 5",
            "dataset": name,
            "metric": "mutual_information",
            **estimator._asdict(),
            "value": value,
            "printed": printed()[name],
        }
        for name, of in found.items()
        for estimator, value in of.items()
    ]
    return pd.DataFrame(rows)


def _cells() -> list[tuple[str, int, float]]:
    text = resources.files("experiments").joinpath("targets/nash_table5.json").read_text("utf-8")
    return json.loads(text)["cells"]


def _words(estimator: Estimator) -> str:
    kind = "NMI" if estimator.normalised else "MI"
    return f"{kind} of {estimator.rows} rows, {estimator.levels}, with the {estimator.target}, {estimator.summary}"


def _check(settings: Settings) -> None:
    nash_curves.check_names("dataset", settings.datasets, SETTINGS)
    if settings.closest < 1:
        raise ValueError(f"closest must be at least 1, got {settings.closest}")
