"""FairBiNN by the weight of its fairness loss, the number and place of its fairness layers, and its step sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from badrjax import results
from experiments import fairbinn_fronts, fairbinn_runs, running
from experiments.fairbinn_curves import LAST
from experiments.fairbinn_runs import ETAS, RULES, Loaded, RunOptions, trial_of

NAMES = ("test.accuracy", "test.soft_dp", "test.hard_dp", "steps.loss")
FEW_ETAS = (1.0, 10.0, 100.0)
SGD_RATE = 1e-2


@dataclass(frozen=True)
class Settings(RunOptions):
    """Ablations: eta, depth, position, the ratio of step sizes, the follower's steps and optimiser."""

    seeds: int = 5
    """Seeds 0, 1, ..., the same for all settings, so that they are paired."""
    etas: tuple[float, ...] = ETAS
    """Weights of the fairness loss."""
    few_etas: tuple[float, ...] = FEW_ETAS
    """Those over which depths, places and ratios are compared, by the hypervolume of all of them."""
    out: Path = field(default_factory=lambda: Path("outputs/fairbinn_ablation"))
    """Directory for report.html, results.csv, provenance.json and tables.md."""


def families(settings: Settings) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Each ablation's rows, each with its trials: one trial of each eta."""
    few = settings.few_etas

    def over(etas: Sequence[float], rule: str = "accumulated", **changes: Any) -> list[dict[str, Any]]:
        return [trial_of(rule, eta=eta, **changes) for eta in etas]

    return {
        "eta": {
            f"{RULES[rule]}, eta = {eta:g}": over([eta], rule)
            for rule in ("accumulated", "lagrangian")
            for eta in settings.etas
        },
        "eta, rule A": {
            f"{kind}, eta = {eta:g}": over([eta], "separated", **changes)
            for kind, changes in (("Adam", {}), ("SGD", {"follower": "sgd", "follower_rate": SGD_RATE}))
            for eta in few
        },
        "number of fairness layers": {
            f"{RULES[rule]}, {number}": over(few, rule, num_fairness=number)
            for rule in ("accumulated", "lagrangian")
            for number in (1, 2, 3)
        },
        "accuracy layers before them": {f"{place}": over(few, position=place) for place in (0, 1, 2, 3)},
        "step size of the fairness layers": {f"{rate:g}": over(few, follower_rate=rate) for rate in (1e-5, 1e-4, 1e-3)},
        "steps of the follower, rule A": {
            f"{rate:g}, {steps}": over([few[0]], "separated", follower_rate=rate, follower_steps=steps)
            for rate in (1e-5, 1e-4)
            for steps in (1, 5)
        },
        "unrolled steps, rule D": {
            f"{rate:g}, {steps}": over([few[0]], "total", follower_rate=rate, follower_steps=steps)
            for rate in (1e-5, 1e-4)
            for steps in (1, 5)
        },
    }


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame | None:
    """Run what is missing, print and write; means over the last epochs and hypervolumes, one value a row."""
    fairbinn_runs.check_positive(etas=settings.etas, few_etas=settings.few_etas)
    console = running.begin(settings, console)
    asked = families(settings)
    trials = [trial for rows in asked.values() for row in rows.values() for trial in row]
    unique = [dict(pairs) for pairs in dict.fromkeys(tuple(trial.items()) for trial in trials)]
    loaded, missing = fairbinn_runs.run_all(settings, unique, partial(console.print, markup=False, soft_wrap=True))
    if settings.runs_only:
        return None
    frames, parts = [], ["# FairBiNN: ablations\n", *(f"{reason}\n" for reason in missing)]
    for one in loaded:
        parts += [
            f"## {one.name}\n",
            f"{settings.seeds} seeds, {settings.epochs} epochs; over the last tenth of them.\n",
        ]
        for name, rows in asked.items():
            frame = pd.concat([measured(one, trials).assign(row=row) for row, trials in rows.items()])
            frames.append(frame.assign(dataset=one.name, ablation=name))
            parts += [f"### {name}\n", table(frame, list(rows))]
    return fairbinn_runs.write("ablation", pd.concat(frames), "\n".join(parts), loaded, settings, console)


def measured(one: Loaded, trials: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Means over the last epochs of a row's only trial, or the hypervolume of several, a row for each seed."""
    runs = pd.concat([_of_trial(one.runs, trial) for trial in trials])
    if len(trials) == 1:
        rows = [
            {"metric": name, "seed": run["seed"], "value": float(np.mean(run[name][-_number(run[name].size):]))}
            for run in runs.to_dict("records")
            for name in NAMES
        ]  # fmt: skip
        return pd.DataFrame(rows)
    curves = fairbinn_fronts.curves_of(runs, trials[0]["rule"])
    corner = fairbinn_fronts.corner_of(one)
    rows = []
    for gap in ("soft_dp", "hard_dp"):
        volumes = fairbinn_fronts.hypervolumes(curves.validation, curves.test, gap, corner)
        rows += [{"metric": f"hypervolume, {gap}", "seed": s, "value": float(v)} for s, v in enumerate(volumes)]
    return pd.DataFrame(rows)


def _of_trial(runs: pd.DataFrame, trial: Mapping[str, Any]) -> pd.DataFrame:
    chosen = np.ones(len(runs), bool)
    for name, value in trial.items():
        chosen &= (runs[name] == value).to_numpy()
    return runs[chosen]


def _number(epochs: int) -> int:
    return max(1, round(LAST * epochs))


def table(frame: pd.DataFrame, rows: Sequence[str]) -> str:
    """Means with half-widths over seeds, a line a row."""
    names = list(dict.fromkeys(frame["metric"]))
    body = []
    for row in rows:
        mine = frame[frame["row"] == row]
        values = [mine[mine["metric"] == name]["value"].to_numpy() for name in names]
        body.append([row, *(fairbinn_runs.interval(value, 5) for value in values)])
    return results.markdown_table(["", *(name.replace("test.", "").replace("_", " ") for name in names)], body)
