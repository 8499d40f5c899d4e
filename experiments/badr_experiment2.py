"""Experiment 2 of BADR: six fairness metrics of a logistic regression on persons of nine states, against baselines.

A cell is a task, a state and a year. On each, for each metric, BADR's group weights are found exactly and by the grid
of the published results, beside fixed weightings, the better fit to one group and the minimax model. Finished cells are
kept in files, and a second call runs the others.

The recorded results are of ten states and five years. Those of Puerto Rico and of the years 2014 to 2017 are not here,
and no recorded number of a single cell is: rates, means and orders are compared. (Figure 2 has single cells.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product, starmap
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from badrjax import bilevel, plotting, results
from experiments import badr_cells, badr_problems, badr_tables, nash_curves, pages, running
from experiments.badr_problems import METRICS, OFFSETS, SURVEYS, Grouping, Reading, Split

STATES = ("WY", "VT", "ND", "SD", "DE", "MT", "ME", "WV", "ID")
"""The paper's, but for Puerto Rico."""
YEARS = tuple(range(2014, 2019))
SOLVERS = {"exact": "badr", "grid": "badr_grid"}
PENALTIES = tuple(float(penalty) for penalty in np.logspace(-6, -0.7, 10))
"""On individual fairness, as in the paper's figure 2."""
COMPARED = (*badr_cells.BASELINES, "badr_grid", "badr")
LINES = {
    "uniform": ("-.", plotting.COLOURS[3]),
    "sample": ("--", plotting.COLOURS[5]),
    "balanced": (":", plotting.COLOURS[4]),
    "minimax": ("--", plotting.COLOURS[2]),
    "one_group": ("-", plotting.COLOURS[1]),
    "badr": ("-", plotting.COLOURS[0]),
}
"""Style and colour of the figure's lines, the uppermost last."""


@dataclass(frozen=True)
class Settings:
    """BADR against five baselines on census data: six fairness metrics in training and on test rows."""

    tasks: tuple[str, ...] = tuple(SURVEYS)
    """Which of the three tasks."""
    states: tuple[str, ...] = STATES
    """Postal codes; those whose files are missing are left out."""
    years: tuple[int, ...] = (2018,)
    """Years of the survey, 2014 to 2018."""
    solver: Literal["exact", "grid"] = "exact"
    """Which search stands for BADR in rates and claims: to a stationary point, or the published grid of 101 points."""
    reading: Reading = "published"
    """Of the intercept: published fits one that the metric does not see, shared lets it see, absent has none."""
    groups: Grouping = "published"
    """Whether small groups are merged in training and test rows apart, as published, or once over all rows."""
    split: Split = "published"
    """The rows of the published results, or this project's split."""
    seed: int = 42
    """Seed of the splits."""
    out: Path = field(default_factory=lambda: Path("outputs/badr_experiment2"))
    """Directory for report.html, results.csv, provenance.json, tables.md and the figure, and of the finished cells."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


class Place(NamedTuple):
    """What names a cell."""

    data: str
    state: str
    year: int


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run the cells that are missing, print tables and claims, write the files, and return the tidy frame."""
    jobs = make_jobs(settings)
    console = running.begin(settings, console)
    with jax.enable_x64(True):
        done, missing = badr_cells.finish(jobs, partial(console.print, markup=False))
        if not done:
            raise FileNotFoundError("; ".join(sorted(set(missing.values()))))
        frame = badr_cells.tidy((place._asdict(), cell.records) for place, cell in done.items())
        frame = frame.assign(paper="badr", table="experiment 2")
        data = {jobs[place].path.stem: cell.checksum for place, cell in done.items()}
        results.write_results(frame, results.provenance(settings=asdict(settings), data=data), settings.out)
    text = report(frame, SOLVERS[settings.solver], sorted(missing))
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    drawn = figure(frame)
    drawn.savefig(settings.out / "metrics.png", dpi=150)
    pages.write(settings, text, figures={"Share of cells with a metric at most as large, by method": drawn})
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"wrote report.html, results.csv, provenance.json, tables.md and metrics.png in {settings.out}", markup=False
    )
    return frame


def make_jobs(settings: Settings) -> dict[Place, badr_cells.Job]:
    """The cells that are asked for.

    Raises:
        ValueError: for settings that cannot be run.
    """
    nash_curves.check_names("task", settings.tasks, SURVEYS)
    badr_problems.check_choices(settings, SOLVERS)
    running.check_seeds([settings.seed])
    states, years = badr_problems.check_places(settings.states, settings.years)
    how = {name: getattr(settings, name) for name in ("reading", "groups", "split", "seed")}
    folder = settings.out / "cells" / "-".join(map(str, how.values()))
    jobs, task = {}, make_task(settings)
    for place in starmap(Place, product(settings.tasks, states, years)):
        path = folder / f"{place.data}_{place.state}_{place.year}.json"
        jobs[place] = badr_cells.Job(path, place._asdict() | how, task, partial(_load, place, settings))
    return jobs


def make_task(settings: Settings) -> badr_cells.Task:
    """What is solved on each cell."""
    return badr_cells.Task(
        objectives={name: badr_problems.metric_objective(name) for name in METRICS},
        measure=badr_problems.classified,
        published="badr_grid",
        candidates=bilevel.simplex_grid(badr_problems.NUM_GROUPS, 100),
        reading=settings.reading,
        penalised="individual_fairness",
        penalties=PENALTIES,
    )


def claims(frame: pd.DataFrame, badr: str) -> pd.DataFrame:
    """Claims 1, 2, 3 and 5 with verdicts; `badr` names the search that stands for BADR."""
    kinds = (
        badr_tables.claim_on_training, badr_tables.claim_on_test, badr_tables.claim_on_means,
        badr_tables.claim_on_weightings,
    )  # fmt: skip
    return results.claim_table([one for kind in kinds for one in kind(frame, badr)])


def rates(frame: pd.DataFrame, badr: str) -> pd.DataFrame:
    """Wins and ties of BADR in percent of the cells, by metric and for all, ours beside the recorded ones."""
    then = pd.DataFrame(badr_tables.targets("badr_experiment2")["wins"])
    then.columns = ["objective", "against", "train won", "train tied", "test won", "test tied"]
    then = _with_all(then.assign(cells=150))
    ours = {split: _with_all(badr_tables.wins(frame, badr, split)) for split in ("train", "test")}
    rows = []
    for split, mine in ours.items():
        for (objective, against), one in mine.iterrows():
            recorded = then.loc[(objective, against)] if (objective, against) in then.index else None
            for kind in ("won", "tied"):
                shown = np.nan if recorded is None else 100 * recorded[f"{split} {kind}"] / recorded["cells"]
                rows.append([objective, against, split, kind, 100 * one[kind] / one["cells"], shown])
    return pd.DataFrame(rows, columns=["objective", "against", "split", "result", "ours", "recorded"])


def report(frame: pd.DataFrame, badr: str, missing: Sequence[Place]) -> str:
    """All tables as Markdown."""
    then = {}
    for task, metric, method, *both in badr_tables.targets("badr_experiment2")["means"]:
        then[task, metric, "badr_grid" if method == "badr" else method] = both
    means = [
        f"### {split}\n\n"
        + badr_tables.means(frame, split, COMPARED, OFFSETS, {key: both[i] for key, both in then.items()})
        for i, split in enumerate(("train", "test"))
    ]
    parts = [
        f"# BADR, experiment 2\n\n{coverage(frame, missing)}\n",
        "## Wins and ties of BADR, percent of cells: ours (recorded)\n",
        rates_markdown(rates(frame, badr)),
        "## Means, less what smoothing adds: ours (recorded)\n",
        *means,
        "## Claims\n",
        badr_tables.claims_markdown(claims(frame, badr)),
        "## Regularisation path\n",
        path_sentence(frame),
        "## What the grid leaves in training, above the exact search\n",
        badr_tables.left_by_published(frame, "badr_grid"),
        "## Gaps in rates of predictions on test rows | floor at parity\n",
        gaps_markdown(frame),
        "## Certificates\n",
        badr_tables.certificates(frame),
    ]
    return "\n".join(parts)


def coverage(frame: pd.DataFrame, missing: Sequence[Place]) -> str:
    """Which cells there are, and which of the recorded ones are not."""
    here = frame[["data", "state", "year"]].drop_duplicates()
    states, years = sorted(set(here["state"])), sorted(set(here["year"]))
    text = f"{len(here)} cells: {', '.join(dict.fromkeys(here['data']))}; {' '.join(states)}; "
    text += f"{' '.join(map(str, years))}. The recorded results are of 150, the states {' '.join((*STATES, 'PR'))} and "
    text += f"the years {YEARS[0]} to {YEARS[-1]}, so rates and means are those of other cells."
    if missing:
        text += f" Not run for want of their files: {', '.join(' '.join(map(str, place)) for place in missing)}."
    return text


def rates_markdown(table: pd.DataFrame) -> str:
    """`rates` with the splits and results across."""
    cells = [_beside(ours, then) for ours, then in zip(table["ours"], table["recorded"], strict=True)]
    wide = table.assign(cell=cells).pivot_table(
        index=["objective", "against"], columns=["split", "result"], values="cell", aggfunc="first", sort=False
    )
    rows = [[objective, badr_tables.title(against), *row] for (objective, against), *row in wide.itertuples()]
    return results.markdown_table(["metric", "against", *(" ".join(name) for name in wide.columns)], rows)


def path_sentence(frame: pd.DataFrame) -> str:
    """How many models of the regularisation path are off the Pareto front."""
    off = badr_tables.off_front(frame)
    residuals = badr_tables.by_method(frame, "solver", "pareto_residual")["badr"]
    return (
        f"{int(off.sum())} of {len(off)} models are off the Pareto front: some convex combination of the groups' "
        f"gradients is as short as {badr_tables.OFF_FRONT:.0e} of the longer one at none of them, and at most "
        f"{residuals.max():.0e} at BADR's.\n"
    )


def gaps_markdown(frame: pd.DataFrame) -> str:
    """For metrics that smooth a gap in rates, that gap of the models' predictions, and its floor."""
    rows = []
    for name in OFFSETS:
        gaps, floors = (badr_tables.by_method(frame, "test", f"{name}_{what}") for what in ("gap", "floor"))
        gaps, floors = (table.xs(name, level="objective")[list(COMPARED)].mean() for table in (gaps, floors))
        rows.append([name, *(f"{gap:.4f} | {floor:.4f}" for gap, floor in zip(gaps, floors, strict=True))])
    return results.markdown_table(["gap", *map(badr_tables.title, COMPARED)], rows)


def figure(frame: pd.DataFrame) -> Any:
    """Distribution functions of the six metrics over the cells, in training and on test rows."""
    values = {split: badr_tables.by_method(frame, split) for split in ("train", "test")}
    columns = {
        _axis(name): {
            split: {
                badr_tables.title(method): table.xs(name, level="objective")[method] - OFFSETS.get(name, 0.0)
                for method in LINES
            }
            for split, table in values.items()
        }
        for name in METRICS
    }
    return plotting.distributions_figure(
        columns,
        rows=tuple(values),
        title=f"six fairness metrics on {len(values['test']) // len(METRICS)} cells (to the left is fairer)",
        share="cells",
        floor=1e-7,
        styles={badr_tables.title(method): style for method, (style, _) in LINES.items()},
        colours={badr_tables.title(method): colour for method, (_, colour) in LINES.items()},
    )


def _axis(name: str) -> str:
    times = round(OFFSETS.get(name, 0.0) / np.log(2))
    return name.replace("_", " ") + ("", "\nless ln 2", "\nless 2 ln 2")[times]


def _with_all(table: pd.DataFrame) -> pd.DataFrame:
    """A table of counts by objective and baseline, below one of all objectives together."""
    counts = table.drop(columns="objective").groupby("against", sort=False).sum()
    whole = counts.reset_index().assign(objective="all")
    return pd.concat([whole, table]).set_index(["objective", "against"])


def _beside(ours: float, then: float) -> str:
    return f"{ours:.1f}" + ("" if np.isnan(then) else f" ({then:.1f})")


def _load(place: Place, settings: Settings) -> badr_problems.Cell:
    dataset = badr_problems.load_survey(place.data, place.state, place.year, settings.data_home)
    return badr_problems.make_cell(dataset, settings.seed, groups=settings.groups, split=settings.split)
