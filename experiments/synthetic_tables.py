"""What the runs on the two-objective problem come to: tables beside recorded numbers, and claims with measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.table import Table

from experiments.synthetic_rules import GOALS, GRADIENT_RULES, RULES

NEAR = 0.5
"""How near to the fair point a run counts as having reached it."""

_ROUNDING = 0.01


class Recorded(NamedTuple):
    """What an independent NumPy program found: see `targets/nash_synthetic.json`.

    Attributes:
        on_front: how many of six starts end on the front.
        aligned: share of all steps.
        difference: of the losses at the end, in words.
    """

    on_front: int
    aligned: float
    difference: str


def recorded() -> dict[str, Recorded]:
    """The recorded numbers by rule."""
    text = resources.files("experiments").joinpath("targets/nash_synthetic.json").read_text("utf-8")
    return {rule: Recorded(*values) for rule, *values in json.loads(text)["cells"]}


def everything(runs: pd.DataFrame, settings: Any) -> Iterator[Any]:
    """All tables and lines to print, in order."""
    chosen = runs[_at(runs, settings.learning_rate)]
    yield reached(chosen, settings)
    yield ends(chosen, settings)
    yield by_rate(runs)
    yield from claims(runs, settings)


def reached(runs: pd.DataFrame, settings: Any) -> Table:
    """A rule a row: ends on the front and aligned steps from the exact starts, over seeds, and as recorded.

    Args:
        runs: the rows of one learning rate.
        settings: of the experiment.
    """
    table = Table(
        title=f"{len(settings.starts)} starts, learning rate {settings.learning_rate}, {settings.steps} steps",
        caption="in brackets the range over starts moved by 1e-9; NumPy: recorded of another program of the "
        "same rules, whose weights under GM, p = -1, are known up to their sum",
    )
    table.add_column("rule", no_wrap=True)
    for header in ("on front", "NumPy", "aligned steps", "NumPy", "agrees"):
        table.add_column(header, justify="right", no_wrap=True)
    known = recorded() if _is_recorded(settings) else {}
    for rule, mine in runs.groupby("rule", sort=False):
        counts, aligned = mine.groupby("seed").on_front.sum(), mine.groupby("seed").aligned.mean()
        then = known.get(rule)
        table.add_row(
            RULES[rule],
            _with_range(counts),
            str(then.on_front) if then else "",
            _with_range(aligned, ".2f"),
            f"{then.aligned:.2f}" if then else "",
            ("yes" if agrees(counts, aligned, then) else "no") if then else "",
        )
    return table


def ends(runs: pd.DataFrame, settings: Any) -> Table:
    """A rule a row: where the exact starts end, and the recorded difference of the losses there; as `reached`."""
    table = Table(title="ends", caption="distances in the plane: median over starts, largest")
    table.add_column("rule", no_wrap=True)
    for header in ("|L1 - L2|", "NumPy", "to front", "to fair point"):
        table.add_column(header, justify="right")
    known = recorded() if _is_recorded(settings) else {}
    for rule, mine in runs[runs.seed == 0].groupby("rule", sort=False):
        table.add_row(
            RULES[rule],
            f"{mine.end_difference.min():.1f}-{mine.end_difference.max():.1f}",
            known[rule].difference if rule in known else "",
            _median_and_largest(mine.distance_to_front),
            _median_and_largest(mine.distance_to_fair_point),
        )
    return table


def agrees(counts: pd.Series, aligned: pd.Series, then: Recorded) -> bool:
    """Whether both recorded numbers lie in the range over seeds, up to their rounding."""
    reach = counts.min() <= then.on_front <= counts.max()
    return bool(reach and aligned.min() - _ROUNDING <= then.aligned <= aligned.max() + _ROUNDING)


def by_rate(runs: pd.DataFrame) -> Table:
    """How many starts end on the front, a rule a row and a learning rate a column."""
    table = Table(title="ends on the front, by learning rate", caption="in brackets the range over moved starts")
    table.add_column("rule", no_wrap=True)
    rates = sorted(runs.rate.unique())
    for rate in rates:
        table.add_column(f"{rate:g}", justify="right")
    for rule, mine in runs.groupby("rule", sort=False):
        cells = [mine[_at(mine, rate)].groupby("seed").on_front.sum() for rate in rates]
        table.add_row(RULES[rule], *(_with_range(cell) for cell in cells))
    return table


def claims(runs: pd.DataFrame, settings: Any) -> Iterator[str]:
    """The claims that the runs can bear on, each with what was measured."""
    chosen = runs[_at(runs, settings.learning_rate)]
    for goal in GOALS:
        mine = chosen[chosen.rule == f"nash_{goal}"]
        if len(mine):
            yield _two_stage(mine)
    bargains = runs[runs.tried > 0]
    if len(bargains):
        yield _bargains(bargains)
    for rate in sorted(runs.rate.unique()):
        yield from _off_front(runs[_at(runs, rate) & runs.rule.isin(GRADIENT_RULES)], rate)


def _two_stage(runs: pd.DataFrame) -> str:
    exact = runs[runs.seed == 0]
    near = exact.distance_to_fair_point < NEAR
    verdict = "holds" if near.all() else "does not hold"
    far = ", ".join(f"({x:g}, {y:g})" for x, y in exact.loc[~near, ["start_x", "start_y"]].to_numpy())
    return (
        f"{RULES[exact.rule.iloc[0]]} ends within {NEAR} of the fair point: {verdict}; {near.sum()} of {len(exact)} "
        f"starts, farthest {exact.distance_to_fair_point.max():.2f}" + (f" (not from {far})" if far else "")
    )


def _bargains(runs: pd.DataFrame) -> str:
    tried, found, helped = ((runs[name] * runs.num_steps).sum() for name in ("tried", "bargained", "bargained_aligned"))
    text = f"NBS, all rates and seeds: {found:,.0f} of {tried:,.0f} tries find an update"
    text += f", {helped:,.0f} help both losses"
    if found < tried:
        text += f"; where none is found, 1 + cos <= {runs.failed_margin.max():.0e}"
    throughout = runs[runs.rule == "nash"]
    shares = ", ".join(f"{share:.0%} at {rate:g}" for rate, share in throughout.groupby("rate").lowered.mean().items())
    return text + (f"; both losses fall in {shares} of the steps (NBS throughout), the others overshoot" * bool(shares))


def _off_front(runs: pd.DataFrame, rate: float) -> Iterator[str]:
    if runs.empty:
        return
    exact = runs[runs.seed == 0]
    missed = (~exact.on_front.astype(bool)).groupby(exact.rule, sort=False).sum()
    verdict = "holds" if (missed > 0).all() else "holds in part" if (missed > 0).any() else "does not hold"
    counts = ", ".join(f"{RULES[rule]} {count}" for rule, count in missed.items())
    number = len(exact) // len(missed)
    yield f"points left off the front at learning rate {rate:g}, of {number}: {counts} (the claim {verdict})"


def _with_range(by_seed: pd.Series, form: str = "d") -> str:
    """The value of seed 0, and the range over seeds where there is one."""
    low, value, high = (format(number, form) for number in (by_seed.min(), by_seed[0], by_seed.max()))
    return value if low == high else f"{value} ({low}-{high})"


def _median_and_largest(values: pd.Series) -> str:
    return f"{values.median():.2f}, {values.max():.2f}"


def _at(runs: pd.DataFrame, rate: float) -> pd.Series:
    return pd.Series(same_rate(runs.rate, rate), runs.index)


def same_rate(rates: Any, rate: float) -> np.ndarray:
    """Which learning rates are this one, up to the digits of float32, `bool[...]`."""
    return np.isclose(np.asarray(rates, float), rate, rtol=1e-6, atol=0.0)


def _is_recorded(settings: Any) -> bool:
    """Whether the recorded numbers are of these settings."""
    numbers = (settings.steps, settings.bargaining_steps, len(settings.starts))
    names = (settings.step_length, settings.reading)
    return bool(same_rate(settings.learning_rate, 0.1)) and numbers == (1000, 100, 6) and names == ("bargain", "A")
