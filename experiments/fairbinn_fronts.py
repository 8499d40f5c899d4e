"""Accuracy against demographic parity of FairBiNN's four update rules, paired over seeds.

A rule's candidates are its settings at every epoch. By validation: those on the front of the validation rows, scored on
the test rows. By the paper's filter: those on the front of the test rows themselves, which flatters every rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from rich.console import Console

from badrjax import pareto, plotting, results
from experiments import fairbinn_runs, running
from experiments.fairbinn_runs import ETAS, FOLLOWER_RATES, RULES, Loaded, RunOptions

LEVELS = (0.01, 0.02, 0.05, 0.10, 0.15)
"""Demographic parity at which accuracies are compared."""
GAPS = {"soft_dp": "soft DP", "hard_dp": "hard DP", "equalized_odds": "equalized odds"}
WORST_GAP = 0.2
"""With the error of the majority class, the corner from which hypervolumes are measured, fixed before any run."""
PAIRS = (
    ("accumulated", "lagrangian"), ("accumulated_fast", "lagrangian"), ("separated", "lagrangian"),
    ("total", "lagrangian"), ("total", "separated"), ("accumulated", "separated"),
)  # fmt: skip
NAMES = {"none": "none", "separated": "A", "accumulated": "B", "accumulated_fast": "B fast", "lagrangian": "C",
         "total": "D"}  # fmt: skip


@dataclass(frozen=True)
class Settings(RunOptions):
    """Fronts of FairBiNN's update rules, compared by hypervolume and by accuracy at matched demographic parity."""

    etas: tuple[float, ...] = ETAS
    """Weights of the fairness loss, of the rules that depend on it (accumulated, Lagrangian)."""
    follower_rates: tuple[float, ...] = FOLLOWER_RATES
    """Step sizes of the fairness layers, of the rules that do not depend on eta under Adam (separated, total)."""
    out: Path = field(default_factory=lambda: Path("outputs/fairbinn_fronts"))
    """Directory for report.html, results.csv, provenance.json, tables.md and the figure."""


class Curves(NamedTuple):
    """What one rule's candidates do, all seeds: `f[S, n]` by name, n settings times epochs."""

    validation: dict[str, np.ndarray]
    test: dict[str, np.ndarray]


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame | None:
    """Run what is missing, compare, draw, print and write; the tidy frame, one value a row."""
    fairbinn_runs.check_positive(etas=settings.etas, follower_rates=settings.follower_rates)
    console = running.begin(settings, console)
    tell = partial(console.print, markup=False, soft_wrap=True)
    trials = fairbinn_runs.front_trials(settings.etas, settings.follower_rates)
    loaded, missing = fairbinn_runs.run_all(settings, trials, tell)
    if settings.runs_only:
        return None
    figures = {}
    frames, parts = [], ["# FairBiNN: fronts\n", *(f"{reason}\n" for reason in missing)]
    for one in loaded:
        curves = {rule: curves_of(one.runs, rule) for rule in RULES}
        corner = corner_of(one)
        frames.append(scores(curves, corner).assign(dataset=one.name))
        parts.append(report(one, curves, frames[-1], settings))
        drawn = figures[f"{one.name}: accuracy against parity of each seed's validation front"] = figure(one, curves)
        drawn.savefig(settings.out / f"fronts-{one.name}.png", dpi=150)
    return fairbinn_runs.write("fronts", pd.concat(frames), "\n".join(parts), loaded, settings, console, figures)


def curves_of(runs: pd.DataFrame, rule: str) -> Curves:
    """The candidates of a rule from every seed."""
    mine = runs[runs["rule"] == rule]
    seeds = sorted(mine["seed"].unique())
    names = ("accuracy", *GAPS)

    def stacked(part: str) -> dict[str, np.ndarray]:
        return {
            name: np.stack([np.concatenate(list(mine[mine["seed"] == seed][f"{part}.{name}"])) for seed in seeds])
            for name in names
        }

    return Curves(stacked("validation"), stacked("test"))


def corner_of(one: Loaded) -> np.ndarray:
    """The error of the majority class and the worst gap."""
    positive = float(jnp.mean(one.rows.test.y))
    return np.array([min(positive, 1 - positive), WORST_GAP])


def scores(curves: Mapping[str, Curves], corner: np.ndarray) -> pd.DataFrame:
    """Hypervolumes and accuracies at matched parity, a row for each rule, gap, way of choosing and seed."""
    rows: list[dict[str, Any]] = []
    for rule, mine in curves.items():
        for gap in GAPS:
            for chosen_on in ("validation", "test"):
                judged = mine.validation if chosen_on == "validation" else mine.test
                volumes = hypervolumes(judged, mine.test, gap, corner)
                rows += _rows(rule, gap, chosen_on, "hypervolume", np.nan, volumes)
                for level in LEVELS:
                    for name, values in matched(judged, mine.test, gap, level).items():
                        rows += _rows(rule, gap, chosen_on, name, level, values)
    return pd.DataFrame(rows)


def _rows(rule: str, gap: str, chosen_on: str, name: str, level: float, values: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"method": rule, "gap": gap, "chosen_on": chosen_on, "metric": name, "level": level, "seed": seed,
         "value": float(value)}
        for seed, value in enumerate(values)
    ]  # fmt: skip


def _points(values: Mapping[str, np.ndarray], gap: str) -> jax.Array:
    """Error and gap, `f[S, n, 2]`."""
    return jnp.stack([1 - jnp.asarray(values["accuracy"]), jnp.asarray(values[gap])], axis=-1)


def hypervolumes(
    judged: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], gap: str, corner: np.ndarray
) -> np.ndarray:
    """Area that the chosen candidates dominate on the test rows, `f[S]`: chosen are those on the front of `judged`."""

    def of_seed(judged: jax.Array, test: jax.Array) -> jax.Array:
        return pareto.hypervolume(test, jnp.asarray(corner, test.dtype), pareto.front(judged))

    return np.asarray(jax.jit(jax.vmap(of_seed))(_points(judged, gap), _points(test, gap)))


def matched(
    judged: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], gap: str, level: float
) -> dict[str, np.ndarray]:
    """Accuracy and gap on the test rows of the most accurate candidate whose gap is within a level, `f[S]`.

    NaN for a seed without any.
    """
    within = judged[gap] <= level
    best = np.argmax(np.where(within, judged["accuracy"], -np.inf), axis=1)[:, None]
    found = within.any(axis=1)
    return {
        name: np.where(found, np.take_along_axis(test[which], best, axis=1)[:, 0], np.nan)
        for name, which in (("accuracy", "accuracy"), ("gap", gap))
    }


def report(one: Loaded, curves: Mapping[str, Curves], frame: pd.DataFrame, settings: Settings) -> str:
    """The tables of a dataset as Markdown."""
    sizes = ", ".join(f"{name} {curve.test['accuracy'].shape[1]}" for name, curve in curves.items())
    parts = [
        f"## {one.name}\n",
        f"{settings.seeds} seeds, {settings.epochs} epochs, protocol {settings.protocol}; candidates: {sizes}."
        f"{fairbinn_runs.refused_sentence(one)}\n",
    ]
    for chosen_on in ("validation", "test"):
        part = frame[frame["chosen_on"] == chosen_on]
        what = "chosen on validation rows" if chosen_on == "validation" else "the paper's filter on test rows"
        parts += [f"### Hypervolume, {what}\n", _volumes(part), f"### Differences, {what}\n", _differences(part)]
        parts += [f"### Accuracy at matched soft DP, {what}\n", _matched(part)]
    return "\n".join(parts)


def _values(frame: pd.DataFrame, rule: str, gap: str, metric: str, level: float | None = None) -> np.ndarray:
    mine = frame[(frame["method"] == rule) & (frame["gap"] == gap) & (frame["metric"] == metric)]
    mine = mine if level is None else mine[mine["level"] == level]
    return mine.sort_values("seed")["value"].to_numpy()


def _volumes(frame: pd.DataFrame) -> str:
    body = [
        [title, *(fairbinn_runs.interval(_values(frame, rule, gap, "hypervolume"), 5) for gap in GAPS)]
        for rule, title in RULES.items()
    ]
    return results.markdown_table(["rule", *GAPS.values()], body)


def _differences(frame: pd.DataFrame) -> str:
    """Paired differences, a star where Bonferroni's interval over the whole table leaves out 0."""
    columns = [(gap, "hypervolume", None, 5) for gap in GAPS]
    columns += [("soft_dp", "accuracy", level, 4) for level in LEVELS]
    level = 0.05 / (len(PAIRS) * len(columns))
    body = []
    for pair in PAIRS:
        cells = []
        for gap, metric, at, decimals in columns:
            first, second = (_values(frame, rule, gap, metric, at) for rule in pair)
            cells.append(_difference(first, second, decimals, level))
        body.append([f"{NAMES[pair[0]]} - {NAMES[pair[1]]}", *cells])
    names = (*(f"hypervolume, {gap}" for gap in GAPS.values()), *(f"accuracy at {at:g}" for at in LEVELS))
    note = f"\n± at 95% for each cell alone; * where the interval at {100 * (1 - level):.2f}% leaves out 0.\n"
    return results.markdown_table(["pair", *names], body) + note


def _matched(frame: pd.DataFrame) -> str:
    body = []
    for rule, title in RULES.items():
        cells = []
        for level in LEVELS:
            accuracy, gap = (_values(frame, rule, "soft_dp", name, level) for name in ("accuracy", "gap"))
            cells.append(
                f"{fairbinn_runs.interval(accuracy, 4)} at {np.nanmean(gap):.3f}"
                if np.isfinite(accuracy).any()
                else "none"
            )
        body.append([title, *cells])
    return results.markdown_table(["rule", *(f"within {level:g}" for level in LEVELS)], body)


def _difference(first: np.ndarray, second: np.ndarray, decimals: int, level: float) -> str:
    """Mean of the paired differences with its half-width, and of how many seeds where some lack a pair."""
    apart = first - second
    known = apart[np.isfinite(apart)]
    if known.size < 2:
        return "none"
    far = abs(np.mean(known)) > results.mean_interval(known, ci=1 - level).half_width
    return fairbinn_runs.interval(apart, decimals, sign="+") + (" *" if far else "")


def figure(one: Loaded, curves: Mapping[str, Curves]) -> Any:
    """Test accuracy against soft and hard parity: candidates chosen on validation rows, all seeds."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4.2), layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    for axes, gap in zip(panels, ("soft_dp", "hard_dp"), strict=True):
        for colour, (rule, mine) in zip(plotting.COLOURS, curves.items(), strict=False):
            points = chosen_points(mine, gap)
            axes.plot(points[:, 1], points[:, 0], ".", color=colour, label=RULES[rule], ms=4, alpha=0.6)
        axes.set_xlabel(f"{GAPS[gap]} on test rows")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on test rows")
    panels[0].set_title(f"{one.name}: on each seed's validation front", fontsize=10)
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return drawing


def chosen_points(curves: Curves, gap: str) -> np.ndarray:
    """Accuracy and gap on the test rows of every seed's validation front, `f[m, 2]`."""
    chosen = np.asarray(jax.vmap(pareto.front)(_points(curves.validation, gap)))
    return np.stack([curves.test["accuracy"], curves.test[gap]], axis=-1)[chosen]
