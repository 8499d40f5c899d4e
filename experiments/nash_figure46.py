"""Figures 4 and 6 of Nash-Meta-Learning: alignment and feasibility by epoch, with a bargaining stage and without.

For each goal, one-stage beside two-stage runs from the same seeds: the share of batches whose update helps every cell,
that share after negative weights are cut, and how often a bargain exists. Prints tables and the paper's claims with
what was measured, the stuck case of Figure 6(d) among them; writes `results.csv`, `provenance.json` and a figure a
setting. All runs are rows of a sweep and are kept as they finish, so a second call runs what is missing.

A feasible bargain is aligned by construction, so that the first claim is one on feasibility; what cutting leaves of it
is not. With the exact solver (`--changes bargain=exact`, or the protocol of the paper) a bargain exists wherever the
hypergradients of the cells are linearly independent, as a few vectors with an entry for each row of a batch almost
always are. The protocol `code` bargains by the scheme of the published code, which may find none where one exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from badrjax import plotting
from experiments import nash, nash_curves, pages, reading, running
from experiments.nash_curves import Curves, interval_text, mean_over, share_below, verdict

RATES = {"steps.aligned": "aligned", "steps.realised_aligned": "clipped"}
PRINTED = {("bank_age", "forml"): (0.0, 0.769), ("bank_age", "learning_to_reweight"): (0.60, 0.80)}
"""Shares of aligned batches that the paper's text names, in one stage and in two."""
RARE = 0.03
"""An epoch of bargaining with a smaller share of feasible bargains is stuck."""


@dataclass(frozen=True)
class Settings(nash_curves.Options):
    """Alignment and feasibility by epoch, one stage beside two, Figures 4 and 6 of the paper."""

    datasets: tuple[str, ...] = ("adult_race", "bank_age", "titanic_sex", "crime_blackgt6pct")
    """Which of the seven settings."""
    goals: tuple[str, ...] = tuple(nash.GOALS)
    """Which of the goals learning_to_reweight, forml and meta_group_dro."""
    out: Path = field(default_factory=lambda: Path("outputs/nash_figure46"))
    """Directory for report.html, results.csv, provenance.json and the figures."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run the sweeps, print tables and claims, write the files, and return the tidy frame."""
    _check(settings)
    console = running.begin(settings, console)
    methods = [name for goal in settings.goals for name in (goal, f"nash_{goal}")]
    every, written, shown, figures = [], [], [], {}
    for curves in nash_curves.run_each(console, settings, methods):
        shown.append(stages(curves))
        console.print(shown[-1])
        written.append(settings.out / f"figure46_{curves.name}.png")
        drawn = figures[f"{curves.title}: shares of batches over epochs"] = figure(curves)
        drawn.savefig(written[-1], dpi=150)
        every.append(curves)
    lines = [line for curves in every for line in claims(curves)]
    for line in lines:
        console.print(line)
    frames = [nash_curves.tidy(curves, "Figures 4, 6") for curves in every]
    written = nash_curves.write(frames, every, settings, settings.out) + written
    written.append(pages.write(settings, *shown, *lines, figures=figures))
    console.print("wrote " + ", ".join(map(str, written)))
    return pd.concat(frames, ignore_index=True)


def stages(curves: Curves) -> Table:
    """A goal a row, a section a rate: one stage and two, in the bargaining epochs and after them."""
    bargaining = curves.chosen.bargaining_epochs
    shown = Table(
        title=f"{curves.title}: share of batches, mean over epochs",
        caption="mean ± 95% Student interval over seeds; clipped: aligned once negative weights are cut; feasible: "
        "batches whose bargain has a solution",
    )
    shown.add_column("", no_wrap=True)
    spans = {f"epochs 1-{bargaining}": slice(bargaining), "later epochs": slice(bargaining, None)}
    for span in spans:
        for stage in ("one", "two"):
            shown.add_column(f"{span},\n{stage} stage{'s' * (stage == 'two')}", justify="right", no_wrap=True)
    goals = goals_of(curves)
    for rate, title in RATES.items():
        shown.add_row(title, style="bold")
        for goal in goals:
            cells = [
                interval_text(mean_over(curves.values[method][rate], span), ".2f")
                for span in spans.values()
                for method in (goal, f"nash_{goal}")
            ]
            shown.add_row(f"  {nash.GOALS[goal]}", *cells, end_section=goal == goals[-1])
    shown.add_row("feasible", style="bold")
    for goal in goals:
        feasible = mean_over(_feasible(curves, goal), slice(bargaining))
        shown.add_row(f"  {nash.GOALS[goal]}", "", interval_text(feasible, ".2f"))
    return shown


def goals_of(curves: Curves) -> list[str]:
    """The goals that were run, in order."""
    return [goal for goal in nash.GOALS if goal in curves.values]


def claims(curves: Curves) -> Iterator[str]:
    """The paper's claims on one setting, each with what was measured."""
    bargaining = slice(curves.chosen.bargaining_epochs)
    for goal in goals_of(curves):
        one, two = (curves.values[name] for name in (goal, f"nash_{goal}"))
        for rate, what in (("steps.aligned", "alignment"), ("steps.realised_aligned", "alignment once clipped")):
            gain = mean_over(two[rate], bargaining) - mean_over(one[rate], bargaining)
            yield (
                f"{curves.title}, {nash.GOALS[goal]}: bargaining raises {what} while it lasts: {verdict(gain)} "
                f"({interval_text(gain, '+.3f')}; over seeds only)"
            )
        if (curves.name, goal) in PRINTED:
            before, after = PRINTED[curves.name, goal]
            shares = [interval_text(mean_over(runs["steps.aligned"], slice(None))) for runs in (one, two)]
            printed = f"{before:.1%} to {after:.1%} of batches aligned"
            yield f"  paper: {printed}; ours over all epochs: {' to '.join(shares)}"
        yield f"  {stuck(curves, goal)}"


def stuck(curves: Curves, goal: str) -> str:
    """How often the bargain has a solution, and what becomes of alignment where it has none."""
    feasible, bargaining = _feasible(curves, goal), slice(curves.chosen.bargaining_epochs)
    if not np.isfinite(feasible).any():
        return "no bargain was tried"
    mean, rare = mean_over(feasible, bargaining), share_below(feasible, RARE)
    text = f"bargains are feasible in {interval_text(mean)} of the batches of the stage"
    text += f", in under {RARE:.0%} of them in {interval_text(rare, '.2f')} of its epochs"
    return text + (": stuck, over seeds only" if verdict(rare - 0.5) == "holds" else "")


def figure(curves: Curves) -> Any:
    """Test accuracy, alignment, realised alignment and feasibility over epochs, a column a goal; bargaining shaded."""
    rows = {
        "test.overall": "test balanced\naccuracy",
        "steps.aligned": "share of batches\naligned",
        "steps.realised_aligned": "aligned after\nclipping",
        "steps.feasible": "bargain feasible",
    }
    stages_of = {"one stage": "{}", "two stages": "nash_{}"}
    columns = {
        nash.GOALS[goal]: {
            row: {
                stage: curves.values[name.format(goal)][row]
                for stage, name in stages_of.items()
                if row != "steps.feasible" or stage == "two stages"
            }
            for row in rows
        }
        for goal in goals_of(curves)
    }
    return plotting.curves_figure(
        columns,
        rows=rows,
        rates=tuple(row for row in rows if row.startswith("steps.")),
        shaded=dict.fromkeys(columns, curves.chosen.bargaining_epochs),
        styles={stage: style for stage, (style, _) in reading.STAGES.items()},
        colours={stage: colour for stage, (_, colour) in reading.STAGES.items()},
        title=f"{curves.title}, {len(curves.seeds)} seeds (shaded: bargaining; bands: range over seeds)",
    )


def _feasible(curves: Curves, goal: str) -> np.ndarray:
    return curves.values[f"nash_{goal}"]["steps.feasible"]


def _check(settings: Settings) -> None:
    nash_curves.check_names("goal", settings.goals, nash.GOALS)
    nash_curves.check(settings, settings.datasets, settings.goals)
