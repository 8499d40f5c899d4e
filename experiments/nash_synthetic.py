"""Eleven rules on the two-objective problem with a known front, as in Figures 2(b), 3 and 5 of Nash-Meta-Learning.

Prints what each rule reaches beside what an independent NumPy program found, by learning rate too, and the paper's
claims with what was measured; writes `results.csv`, `provenance.json` and three figures. All runs are rows of two
sweeps and are kept as they finish, so a second call runs what is missing.

The paper prints neither starts nor learning rate. Some numbers hang on the last digits: paths that oscillate across a
narrow valley are chaotic. So each start is run exactly (seed 0) and moved by 1e-9 in random directions (the other
seeds), and the tables show the range.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd
from rich.console import Console

import badrjax as bx
from badrjax import results
from experiments import pages, running, synthetic, synthetic_figures, synthetic_runs, synthetic_tables
from experiments.synthetic_rules import GOALS, GRADIENT_RULES, RULES


@dataclass(frozen=True)
class Settings:
    """Two-stage bargaining and eight other rules on a two-objective problem with a known Pareto front."""

    rules: tuple[str, ...] = tuple(RULES)
    """Which of the eleven rules."""
    starts: tuple[int, ...] = tuple(range(len(synthetic.STARTS)))
    """Which of the six starts, by number: (-8.5, 7.5), (0, 0), (9, 9), (-7.5, -0.5), (9, -1), (-8.5, -5)."""
    learning_rates: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    """Learning rates that are swept."""
    learning_rate: float = 0.1
    """The learning rate of the first table and the figures."""
    steps: int = 1000
    """Steps of a run."""
    bargaining_steps: int = 100
    """How many of them the rules of two stages bargain."""
    step_length: Literal["bargain", "nash_mtl", "unit"] = "bargain"
    """Length of a bargain's update: sqrt(2) as it comes out, as in the code of Nash-MTL (at most 1), or 1."""
    reading: Literal["A", "B"] = "A"
    """Scale of the losses: A as they are, B both times 0.1."""
    seeds: tuple[int, ...] = tuple(range(6))
    """Seed 0 is the exact start, every other one moves it by 1e-9 in a direction of its own."""
    out: Path = field(default_factory=lambda: Path("outputs/nash_synthetic"))
    """Directory for report.html, results.csv, provenance.json and the figures."""
    store: Path | None = None
    """Directory that keeps finished runs, so that another call goes on where one ended; OUT/store if not given."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run the sweeps, print tables and claims, write the files, and return the tidy frame."""
    _check(settings)
    console = running.begin(settings, console)
    # Two numbers a run cost nothing in double precision, and narrow valleys need it.
    with jax.enable_x64(True):
        front = synthetic.pareto_front()
        runs = measured(sweep_numbers(settings), front)
        paths = sweep_paths(settings)
        frame = tidy(runs)
        origin = results.provenance(settings=asdict(settings), data={})
        written = [results.write_results(frame, origin, settings.out), settings.out / "provenance.json"]
        figures = _figures(settings, paths, front)
    for name, drawn in figures.items():
        written.append(settings.out / f"{name}.png")
        drawn.savefig(written[-1], dpi=150)
    parts = list(synthetic_tables.everything(runs, settings))
    for part in parts:
        console.print(part)
    written.append(pages.write(settings, *parts, figures={name.capitalize(): one for name, one in figures.items()}))
    console.print("wrote " + ", ".join(map(str, written)))
    return frame


def sweep_numbers(settings: Settings) -> pd.DataFrame:
    """All rules, learning rates, starts and seeds: a row each, with what `synthetic_runs.numbers` returns."""
    trials = _trials(settings, settings.learning_rates, settings.seeds)
    trials["nudge"] = np.where(trials["seed"] == 0, 0.0, synthetic_runs.NUDGE)
    return _sweep(synthetic_runs.numbers, trials, settings, "numbers")


def sweep_paths(settings: Settings) -> pd.DataFrame:
    """All rules from the exact starts at the one learning rate: a row each, with their paths."""
    return _sweep(synthetic_runs.path, _trials(settings, (settings.learning_rate,), (0,)), settings, "paths")


def measured(runs: pd.DataFrame, front: synthetic.Front) -> pd.DataFrame:
    """The rows with the end's distances in the plane, whether it is on the front, and the difference of its losses."""
    end = runs[["end_x", "end_y"]].to_numpy(float)
    return runs.assign(
        on_front=synthetic.on_front(front, end),
        distance_to_front=synthetic.distance_to_front(front, end),
        distance_to_fair_point=synthetic.distance_to_fair_point(front, end),
        end_difference=(runs.end_loss_1 - runs.end_loss_2).abs(),
    )


def tidy(runs: pd.DataFrame) -> pd.DataFrame:
    """One value a row."""
    named = ["rule", "rate", "start_x", "start_y", "seed"]
    settings = ["nudge", "num_steps", "bargaining_steps", "step_length", "reading"]
    values = runs.drop(columns=settings).astype({"on_front": float})
    long = values.melt(id_vars=named, var_name="metric", value_name="value").rename(columns={"rule": "method"})
    return long.assign(paper="nash_meta_learning", table="Figures 2(b), 3, 5", dataset="synthetic")


def _trials(settings: Settings, rates: tuple[float, ...], seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    grid = bx.sweeps.grid(rule=settings.rules, rate=rates, start=settings.starts, seed=seeds)
    starts = np.asarray(synthetic.STARTS)[grid.pop("start")]
    number = len(starts)
    return grid | {
        "start_x": starts[:, 0],
        "start_y": starts[:, 1],
        "num_steps": np.full(number, settings.steps),
        "bargaining_steps": np.full(number, settings.bargaining_steps),
        "step_length": np.full(number, settings.step_length),
        "reading": np.full(number, settings.reading),
    }


def _sweep(run: Any, trials: dict[str, np.ndarray], settings: Settings, name: str) -> pd.DataFrame:
    # A rule is a program, and all its runs fit into one block.
    block = len(trials["rule"]) // len(settings.rules)
    store = settings.store or settings.out / "store"
    return bx.sweep(run, trials, store=store / name, block=block).frame()


def _figures(settings: Settings, runs: pd.DataFrame, front: synthetic.Front) -> dict[str, Any]:
    paths = {
        rule: {name: np.stack(list(mine[name])) for name in ("theta", "losses", "aligned", "bargained")}
        for rule, mine in runs.groupby("rule", sort=False)
    }
    titled = {RULES[rule]: run for rule, run in paths.items()}
    families = {
        "goals alone": tuple(GOALS),
        "bargaining, alone and before a goal": ("nash", *(f"nash_{goal}" for goal in GOALS)),
        "rules for conflicting gradients": GRADIENT_RULES,
    }
    curves = {name: {RULES[rule]: paths[rule] for rule in rules if rule in paths} for name, rules in families.items()}
    scale, what = synthetic.SCALES[settings.reading], f"learning rate {settings.learning_rate}, {settings.steps} steps"
    return {
        "trajectories": synthetic_figures.trajectories(titled, front, scale=scale, title=what),
        "losses": synthetic_figures.loss_planes(titled, front, scale=scale, title=what),
        "alignment": synthetic_figures.alignment(
            {name: run for name, run in curves.items() if run},
            bargaining_steps=settings.bargaining_steps,
            title=f"steps that help both losses, {what}",
        ),
    }


def _check(settings: Settings) -> None:
    for name in ("rules", "starts", "learning_rates", "seeds"):
        values = getattr(settings, name)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} must name at least one, each once, got {list(values)}")
    for rule in settings.rules:
        synthetic_runs.check_names(rule, settings.step_length, settings.reading)
    if not all(0 <= start < len(synthetic.STARTS) for start in settings.starts):
        raise ValueError(f"starts must be numbers from 0 to {len(synthetic.STARTS) - 1}, got {list(settings.starts)}")
    _check_rates(settings)
    running.check_seeds(settings.seeds)
    if 0 not in settings.seeds:
        raise ValueError(f"seeds must contain 0, which is the exact start, got {list(settings.seeds)}")
    if settings.steps < 1:
        raise ValueError(f"steps must be at least 1, got {settings.steps}")
    if settings.bargaining_steps < 0:
        raise ValueError(f"bargaining_steps must not be negative, got {settings.bargaining_steps}")


def _check_rates(settings: Settings) -> None:
    rates = settings.learning_rates
    if not all(0 < rate < np.inf for rate in (*rates, settings.learning_rate)):
        raise ValueError(f"learning rates must be positive and finite, got {settings.learning_rate}, {list(rates)}")
    for i, rate in enumerate(rates):
        if synthetic_tables.same_rate(rates[:i], rate).any():
            raise ValueError(f"learning_rates must name each once, got {rate} twice in {list(rates)}")
    if not synthetic_tables.same_rate(rates, settings.learning_rate).any():
        raise ValueError(f"learning_rate {settings.learning_rate} must be one of {list(rates)}")
