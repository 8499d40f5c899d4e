"""Figure 2 of the FairLAB paper: F1 and demographic parity of three-way intersections against delta, at beta = 0.05."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from badrjax import results
from badrjax.plotting import COLOURS
from experiments import fairlab_data, fairlab_measures, fairlab_runs, fairlab_tables, pages, running
from experiments.fairlab_data import SOURCES
from experiments.fairlab_runs import RunOptions

BUDGET = 0.05
LABELS = {"f1": "F1 (weighted)", "gap": "gap, three-way"}


@dataclass(frozen=True)
class Settings(RunOptions):
    """Figure 2 of FairLAB: what the bound on the outputs' movement (delta) does."""

    deltas: tuple[float, ...] = (0.01, 0.02, 0.05, 0.10, 0.20)
    """Largest W1 distance from the last model in groups that are satisfied."""
    metrics: tuple[fairlab_data.Metric, ...] = ("demographic_parity",)
    """Of the constraint."""
    out: Path = field(default_factory=lambda: Path("outputs/fairlab_figure2"))
    """Directory for report.html, results.csv, provenance.json, figure2.png and figure2.md."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run what is missing, draw, print and write; one value a row."""
    fairlab_runs.check(settings)
    if len(settings.metrics) != 1:
        raise ValueError(f"metrics must be one, that of the figure, got {settings.metrics}")
    if not settings.deltas or min(settings.deltas) <= 0 or len(set(settings.deltas)) < len(settings.deltas):
        raise ValueError(f"deltas must be distinct and > 0, at least one, got {settings.deltas}")
    budget = fairlab_runs.one_budget(settings, BUDGET)
    console = running.begin(settings, console)
    only = replace(settings, methods=("fairlab",))
    rows: list[dict[str, Any]] = []
    checksums: dict[str, str] = {}
    missing: dict[str, str] = {}
    for delta in settings.deltas:
        options = fairlab_runs.options_of(settings)._replace(budgets=budget, proximity_bound=delta)
        runs, missing = fairlab_runs.run_all(["three_way"], only, partial(console.print, markup=False), options)
        checksums |= {run.trial.dataset: run.checksum for run in runs}
        rows += _rows(runs, delta, settings)
    if not rows:
        raise FileNotFoundError("; ".join(missing.values()))
    frame = pd.DataFrame(rows).assign(paper="fairlab", table="figure 2")
    results.write_results(frame, results.provenance(settings=asdict(settings), data=checksums), settings.out)
    text = markdown(frame)
    (settings.out / "figure2.md").write_text(text, encoding="utf-8")
    drawn = figure(frame)
    drawn.savefig(settings.out / "figure2.png", dpi=150)
    pages.write(settings, text, figures={"F1 and the gap against delta, with the range over seeds": drawn})
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return frame


def _rows(runs: list[Any], delta: float, settings: Settings) -> list[dict[str, Any]]:
    datasets = {name: fairlab_data.load(SOURCES[name], settings.data_home) for name in {r.trial.dataset for r in runs}}
    rows = []
    for run in runs:
        constraints = fairlab_tables.constraints_of(run, datasets[run.trial.dataset])
        for part in ("validation", "test"):
            loss, gap = fairlab_measures.trade_off(constraints, run.points[0].counts[part])
            floor = fairlab_measures.measure(constraints, run.points[0].counts[part], run.trial.seed).floors[0]
            for name, value in (("f1", 1 - loss), ("gap", gap), ("floor", floor)):
                rows.append({
                    "dataset": run.trial.dataset, "metric": run.trial.metric, "delta": delta, "seed": run.trial.seed,
                    "part": part, "value_of": name, "value": float(value),
                })  # fmt: skip
    return rows


def markdown(frame: pd.DataFrame) -> str:
    """Means with Student's half-widths over seeds."""
    body = []
    for (dataset, delta), mine in frame.groupby(["dataset", "delta"], sort=False):
        cells = []
        for part in ("validation", "test"):
            for name in ("f1", "gap", "floor"):
                values = mine[(mine["part"] == part) & (mine["value_of"] == name)]["value"].to_numpy()
                interval = results.mean_interval(values)
                cells.append(f"{interval.mean:.3f}" + (f" ± {interval.half_width:.3f}" if values.size > 1 else ""))
        body.append([dataset, f"{delta:g}", *cells])
    head = [f"{part} {name}" for part in ("validation", "test") for name in ("F1", "gap", "floor")]
    return "# FairLAB, Figure 2\n\n" + results.markdown_table(["dataset", "delta", *head], body)


def figure(frame: pd.DataFrame) -> Any:
    """F1 and the gap against delta, a row a dataset, with the seeds' range."""
    from matplotlib.figure import Figure

    test = frame[frame["part"] == "test"]
    names = list(dict.fromkeys(test["dataset"]))
    drawn = Figure(figsize=(8, 2.8 * len(names)), layout="constrained")
    panels = drawn.subplots(len(names), 2, squeeze=False, sharex=True)
    for row, dataset in zip(panels, names, strict=True):
        for axes, (name, label) in zip(row, LABELS.items(), strict=True):
            mine = test[(test["dataset"] == dataset) & (test["value_of"] == name)]
            wide = mine.pivot(index="delta", columns="seed", values="value").sort_index()
            axes.plot(wide.index, wide.mean(axis=1), marker="o", color=COLOURS[0])
            axes.fill_between(wide.index, wide.min(axis=1), wide.max(axis=1), color=COLOURS[0], alpha=0.2, linewidth=0)
            if name == "gap":
                axes.axhline(fairlab_data.INTERSECTION, color="black", linewidth=0.8, linestyle=":", label="threshold")
                floor = test[(test["dataset"] == dataset) & (test["value_of"] == "floor")].groupby("delta")["value"]
                axes.plot(np.asarray(floor.mean().index), floor.mean(), color="grey", linestyle="--", label="at parity")
                axes.legend(fontsize="small")
            axes.set(xscale="log", xlabel="delta", ylabel=label, title=dataset)
    return drawn
