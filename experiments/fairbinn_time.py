"""Seconds an epoch of FairBiNN's rules, of the Lagrangian and without fairness, in turn in one process."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.tree_util import Partial
from rich.console import Console

import badrjax as bx
from badrjax import results
from experiments import fairbinn_data, fairbinn_runs, running
from experiments.fairbinn_data import SOURCES, Protocol, Rows
from experiments.fairbinn_runs import BATCH_SIZE, LEADER_RATE, RULES, Loaded

EPOCHS = 2
"""In one call."""


@dataclass(frozen=True)
class Settings:
    """Seconds an epoch of each rule."""

    datasets: tuple[str, ...] = tuple(SOURCES)
    """Which of adult and health, whose file has to be fetched by hand."""
    repeats: int = 9
    """Calls that medians are taken over."""
    protocol: Protocol = "default"
    """The intended loss, or the published one."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA and the bundled copy."""
    out: Path = field(default_factory=lambda: Path("outputs/fairbinn_time"))
    """Directory for report.html, results.csv, provenance.json and tables.md."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Measure, print and write; one call's seconds an epoch a row."""
    if settings.repeats < 1:
        raise ValueError(f"repeats must be 1 or more, got {settings.repeats}")
    fairbinn_runs.check_datasets(settings.datasets)
    console = running.begin(settings, console)
    loaded, missing, frames = [], [], []
    for name in settings.datasets:
        try:
            rows, groups, checksum = fairbinn_data.load(name, settings.protocol, 0, settings.data_home)
        except fairbinn_data.MISSING as error:
            missing.append(f"{name} was not run: {error}")
            continue
        loaded.append(Loaded(name, groups, checksum, rows, pd.DataFrame()))
        frames.append(measure(name, rows, settings).assign(dataset=name))
    if not loaded:
        raise FileNotFoundError("; ".join(missing))
    frame = pd.concat(frames)
    parts = ["# FairBiNN: seconds an epoch\n", *(f"{reason}\n" for reason in missing)]
    parts += [
        f"Medians of {settings.repeats} calls of {EPOCHS} epochs, in turn; ratio to C with the quartiles of its pairs. "
        f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {platform.machine()}.\n"
    ]
    for one in loaded:
        parts += [f"## {one.name}, {one.rows.train.shape[0]} rows\n", table(frame[frame["dataset"] == one.name])]
    return fairbinn_runs.write("time", frame, "\n".join(parts), loaded, settings, console)


def measure(name: str, rows: Rows, settings: Settings) -> pd.DataFrame:
    """Seconds an epoch, a row for each rule and call; compilation is not in them."""
    calls = {rule: _call(rule, name, rows, settings.protocol) for rule in RULES}
    for call in calls.values():
        call()
    found = []
    for repeat in range(settings.repeats):
        for rule, call in calls.items():
            begun = time.perf_counter()
            call()
            seconds = (time.perf_counter() - begun) / EPOCHS
            found.append({"method": rule, "metric": "seconds an epoch", "seed": repeat, "value": seconds})
    return pd.DataFrame(found)


def _call(rule: str, name: str, rows: Rows, protocol: Protocol) -> Callable[[], Any]:
    source = SOURCES[name]
    model = bx.models.mlp_with_fairness(rows.data.x.shape[1], source.hidden, (source.width,))
    if rule == "none":
        adam = Partial(fairbinn_runs.adam_in_stages, learning_rate=LEADER_RATE, factor=0.5, every=10**6)
        made = bx.erm(bx.losses.logistic(model), adam)
    else:
        trial = fairbinn_runs.trial_of(rule)
        made = fairbinn_runs.make_method(model=model, protocol=protocol, num_groups=rows.groups.shape[0],
                                         steps_an_epoch=10**6, **trial)  # fmt: skip
    params = model.init(jax.random.key(0))
    run = jax.jit(partial(bx.fit, num_epochs=EPOCHS, sampler=bx.shuffled(BATCH_SIZE)))
    return lambda: jax.block_until_ready(run(jax.random.key(1), made, params, rows.data, rows=rows.train).state)


def table(frame: pd.DataFrame) -> str:
    """Medians, and ratios to the Lagrangian call by call."""
    wide = frame.pivot(index="seed", columns="method", values="value")
    body = []
    for rule, title in RULES.items():
        low, middle, high = np.quantile(wide[rule] / wide["lagrangian"], [0.25, 0.5, 0.75])
        body.append([title, f"{wide[rule].median():.3f}", f"{middle:.2f} ({low:.2f} to {high:.2f})"])
    return results.markdown_table(["rule", "seconds", "ratio to C"], body)
