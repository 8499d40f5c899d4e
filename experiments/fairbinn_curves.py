"""Cross-entropy during training of FairBiNN's rules beside the Lagrangian and no fairness, at the published weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from badrjax import plotting, results
from experiments import fairbinn_runs, running
from experiments.fairbinn_runs import RULES, Loaded, RunOptions

SHOWN = {
    "steps.loss": "training cross-entropy",
    "test.loss": "test cross-entropy",
    "test.soft_dp": "soft DP on test rows",
}
LAST = 0.1
"""Share of the epochs, the last, over which means are compared."""


@dataclass(frozen=True)
class Settings(RunOptions):
    """Losses during training: is the bilevel cross-entropy below the Lagrangian's?"""

    etas: tuple[float, ...] = (50.0,)
    """Weights of the fairness loss; 50 is about the published 10000 of the published loss."""
    out: Path = field(default_factory=lambda: Path("outputs/fairbinn_curves"))
    """Directory for report.html, results.csv, provenance.json, tables.md and the figures."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame | None:
    """Run what is missing, draw, print and write; means over the last epochs, one value a row."""
    fairbinn_runs.check_positive(etas=settings.etas)
    console = running.begin(settings, console)
    fair = [fairbinn_runs.trial_of(rule, eta=eta) for rule in RULES if rule != "none" for eta in settings.etas]
    trials = [fairbinn_runs.trial_of("none"), *fair]
    loaded, missing = fairbinn_runs.run_all(settings, trials, partial(console.print, markup=False, soft_wrap=True))
    if settings.runs_only:
        return None
    parts = ["# FairBiNN: losses during training\n", *(f"{reason}\n" for reason in missing)]
    frames, figures = [], {}
    for one in loaded:
        for eta in settings.etas:
            runs = one.runs[one.runs["eta"].isin([0.0, eta])]
            frames.append(last_epochs(runs).assign(dataset=one.name, eta=eta))
            title = f"{one.name}, eta = {eta:g}"
            parts += [f"## {title}\n", f"{fairbinn_runs.refused_sentence(one)}\n".lstrip(), table(frames[-1], settings)]
            drawn = figures[f"{title}: mean and range over seeds"] = figure(one, runs, title)
            drawn.savefig(settings.out / f"curves-{one.name}-{eta:g}.png", dpi=150)
    return fairbinn_runs.write("curves", pd.concat(frames), "\n".join(parts), loaded, settings, console, figures)


def last_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the last tenth of the epochs, a row for each rule, seed and curve."""
    rows = []
    for run in runs.to_dict("records"):
        for name in SHOWN:
            number = max(1, round(LAST * run[name].size))
            value = float(np.mean(run[name][-number:]))
            rows.append({"method": run["rule"], "metric": name, "seed": run["seed"], "value": value})
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame, settings: Settings) -> str:
    """Means over seeds, and the difference to the Lagrangian, paired."""
    wide = frame.pivot(index=["method", "seed"], columns="metric", values="value")
    body = []
    for rule, title in RULES.items():
        cells = []
        for name in SHOWN:
            mine, theirs = (wide.loc[which, name].to_numpy() for which in (rule, "lagrangian"))
            apart = "" if rule == "lagrangian" else fairbinn_runs.interval(mine - theirs, 4, sign="+")
            cells += [fairbinn_runs.interval(mine, 4), apart]
        body.append([title, *cells])
    head = [cell for label in SHOWN.values() for cell in (label, "less C's")]
    note = f"Means over the last tenth of {settings.epochs} epochs, ± half-width over {settings.seeds} seeds.\n"
    return note + "\n" + results.markdown_table(["rule", *head], body)


def figure(one: Loaded, runs: pd.DataFrame, title: str) -> Any:
    """Each curve's mean and range over seeds, a panel a quantity."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(12, 3.8), layout="constrained")
    panels = drawing.subplots(1, len(SHOWN))
    for axes, (name, label) in zip(panels, SHOWN.items(), strict=True):
        for colour, (rule, rule_title) in zip(plotting.COLOURS, RULES.items(), strict=False):
            values = np.stack(list(runs[runs["rule"] == rule][name]))
            plotting.mean_and_range(axes, values, colour=colour, label=rule_title)
        axes.set(xlabel="epoch", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    panels[0].set_title(title, fontsize=10)
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return drawing
