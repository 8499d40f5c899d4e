"""Runs on imbalanced images as a table and a figure, one stage beside two."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from rich.table import Table

from badrjax import plotting, results
from experiments import nash, reading

EpochRule = Literal["last", "validation", "test"]

_RULES = {
    "last": "at the last epoch",
    "validation": "at the epoch with the best mean accuracy over seeds on the validation images",
    "test": "at the epoch with the best mean accuracy over seeds on the test images, which is optimistic",
}
_STAGES = {"one stage": "", "two stages": "nash_"}


def reported(frame: pd.DataFrame, method: str, metric: str, rule: EpochRule) -> np.ndarray:
    """One value a seed, `f[S]`, of a test metric at the epoch that a rule chooses for a method."""
    values = results.seed_values(frame, method=method, metric=f"test_{metric}")
    if rule == "last":
        return values[:, -1]
    scores = results.seed_values(frame, method=method, metric=f"{rule}_accuracy")
    return values[:, reading.best_epoch(scores)]


def table(frame: pd.DataFrame, rule: EpochRule) -> Table:
    """A goal a row with one stage, two stages and the difference; sections for accuracy, spread and the worst class.

    Args:
        frame: tidy, of `nash_images.tidy`.
        rule: which epoch is reported.
    """
    number = frame.seed.nunique()
    shown = Table(
        title=f"accuracy on the test images, {_RULES[rule]}",
        caption=f"mean ± 95% Student interval over {number} seeds; differences are paired by seed; spread: standard "
        "deviation over seeds of the mean of both classes",
    )
    shown.add_column("", no_wrap=True)
    for header in ("one stage", "two stages", "two - one"):
        shown.add_column(header, justify="right")
    present = set(frame.method)
    alone = [name for name in ("baseline", "dro") if name in present]
    goals = [goal for goal in nash.GOALS if present & {goal, f"nash_{goal}"}]
    for metric, title in (("accuracy", "mean of both classes"), ("worst", "worst class")):
        shown.add_row(title, style="bold")
        for name in alone:
            shown.add_row(f"  {nash.METHODS[name]}", _mean(reported(frame, name, metric, rule)), "", "")
        for goal in goals:
            one, two = _both(frame, goal, metric, rule)
            difference = "" if one is None or two is None else _mean(two - one, signed=True)
            shown.add_row(f"  {nash.GOALS[goal]}", _mean(one), _mean(two), difference)
        shown.add_section()
    shown.add_row("spread over seeds", style="bold")
    for name in alone:
        shown.add_row(f"  {nash.METHODS[name]}", _spread(reported(frame, name, "accuracy", rule)), "", "")
    for goal in goals:
        shown.add_row(f"  {nash.GOALS[goal]}", *map(_spread, _both(frame, goal, "accuracy", rule)), "")
    return shown


def figure(frame: pd.DataFrame, *, bargaining_epochs: int, title: str) -> Any:
    """Accuracy and worst class on the test images over epochs, a column a goal, with the range over seeds.

    Args:
        frame: tidy, of `nash_images.tidy`.
        bargaining_epochs: the epochs that are shaded.
        title: of the figure.

    Returns:
        A matplotlib `Figure`, or `None` where no method with a goal was run.
    """
    present = set(frame.method)
    goals = [goal for goal in nash.GOALS if present & {goal, f"nash_{goal}"}]
    if not goals:
        return None
    rows = {"accuracy": "test accuracy,\nmean of both classes", "worst": "test accuracy,\nworst class"}
    baseline = nash.METHODS["baseline"]
    return plotting.curves_figure(
        {nash.GOALS[goal]: {metric: _lines(frame, goal, metric) for metric in rows} for goal in goals},
        rows=rows,
        title=f"{title} (shaded: bargaining; bands: range over seeds)",
        shaded={nash.GOALS[goal]: bargaining_epochs for goal in goals if f"nash_{goal}" in present},
        styles={baseline: ":"} | {stage: style for stage, (style, _) in reading.STAGES.items()},
        colours={baseline: "0.45"} | {stage: colour for stage, (_, colour) in reading.STAGES.items()},
    )


def _lines(frame: pd.DataFrame, goal: str, metric: str) -> dict[str, np.ndarray]:
    """The baseline and both stages of a goal, those that were run, `f[S, E]` by name."""
    names = {nash.METHODS["baseline"]: "baseline"} | {stage: prefix + goal for stage, prefix in _STAGES.items()}
    return {
        label: results.seed_values(frame, method=method, metric=f"test_{metric}")
        for label, method in names.items()
        if method in set(frame.method)
    }


def _both(frame: pd.DataFrame, goal: str, metric: str, rule: EpochRule) -> list[np.ndarray | None]:
    """Values of one and of two stages; `None` for one that was not run."""
    present = set(frame.method)
    names = [prefix + goal for prefix in _STAGES.values()]
    return [reported(frame, name, metric, rule) if name in present else None for name in names]


def _mean(values: np.ndarray | None, *, signed: bool = False) -> str:
    return "" if values is None else reading.interval_text(values, "+.3f" if signed else ".3f")


def _spread(values: np.ndarray | None) -> str:
    finite = np.array([]) if values is None else values[np.isfinite(values)]
    return f"{finite.std(ddof=1):.3f}" if finite.size > 1 else ""
