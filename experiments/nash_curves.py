"""Runs of the Nash-Meta-Learning settings as arrays by epoch: what the experiments on whole curves share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console

import badrjax as bx
from badrjax import results
from badrjax.checks import unknown_name
from experiments import nash, nash_demo, nash_protocol, nash_runs, reading, running
from experiments.nash_protocol import SETTINGS, HyperParameters, Protocol

FEWEST_SEEDS = 5
"""With fewer, nothing is decided."""

interval_text = partial(reading.interval_text, nothing="-")
"""`reading.interval_text` with a dash where nothing was measured."""


@dataclass(frozen=True)
class Options:
    """How the runs behind curves are made, whatever is read off them."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of initial weights, order of rows and dropout; the same for all methods, so that they are paired."""
    protocol: Literal["paper", "code"] = "code"
    """The text of the paper, or its published code, which its numbers are from."""
    changes: tuple[str, ...] = ()
    """Options of the protocol set otherwise, such as cells=groups."""
    split: Literal["auto", "official", "balanced"] = "auto"
    """The paper's index file, a balanced split drawn here, or the first where its file is there and else the second."""
    split_seed: int = 0
    """Seed of the balanced split."""
    epochs: int | None = None
    """Another number of epochs, for shorter runs; bargaining cannot outlast them."""
    diagnostics: int = 1
    """Measure the alignment of one-stage methods on every n-th batch."""
    block: int = 5
    """Seeds side by side."""
    store: Path | None = None
    """Directory that keeps finished runs, so that another call goes on where one ended; OUT/store if not given."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA and the bundled copy."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""

    def chosen_protocol(self) -> Protocol:
        """The protocol with its changes."""
        return nash_protocol.changed(self.protocol, self.changes)


class Loaded(NamedTuple):
    """A dataset, its split, and which of the two kinds that is."""

    dataset: bx.Dataset
    splits: bx.Splits
    split: str


class Curves(NamedTuple):
    """All runs of a setting.

    Attributes:
        name: a key of `nash_protocol.SETTINGS`.
        values: by method and then metric (`test.overall`, `steps.aligned`, ...), `f[S, E]` or, by group, `f[S, E, K]`.
        seeds: the S seeds.
        chosen: hyper-parameters, with the epochs that were run.
        split: which split it is.
        num_batches: batches an epoch.
        checksum: SHA-256 of the scaled data and the split.
    """

    name: str
    values: Mapping[str, Mapping[str, np.ndarray]]
    seeds: tuple[int, ...]
    chosen: HyperParameters
    split: str
    num_batches: int
    checksum: str

    @property
    def title(self) -> str:
        """The setting as a person would name it."""
        return SETTINGS[self.name].title

    def described(self) -> str:
        """A line on the rows and the epochs."""
        chosen = self.chosen
        return (
            f"{self.title}: {self.split} split, {self.num_batches} batches of {chosen.batch_size} an epoch, "
            f"{chosen.num_epochs} epochs ({chosen.bargaining_epochs} of them bargaining, in two stages), "
            f"{len(self.seeds)} seeds"
        )


def run_each(console: Console, settings: Any, methods: Sequence[str]) -> Iterator[Curves]:
    """Every method from every seed on each of the settings whose data are there, all of which are loaded first.

    Args:
        console: for a line on each setting.
        settings: `Options`, and which `datasets`; runs are kept in the store or, without one, in `out`.
        methods: keys of `nash.METHODS`.

    Raises:
        FileNotFoundError: where the data of no setting are there.
    """
    store = settings.store or settings.out / "store"
    for name, loaded in load_each(console, settings.datasets, settings).items():
        curves = run(name, methods, settings, loaded, store)
        announce(console, curves)
        yield curves


def load_each(console: Console, names: Sequence[str], options: Options) -> dict[str, Loaded]:
    """The settings whose data are there, and a line for each that is left out.

    Raises:
        FileNotFoundError: where none is left.
    """
    there = {}
    for name in names:
        try:
            there[name] = load(name, options)
        except nash_runs.MISSING as error:
            console.print(f"{SETTINGS[name].title} is left out: {error}", markup=False)
    if not there:
        raise FileNotFoundError("no setting is left: put their files under BADRJAX_DATA or --data-home")
    return there


def run(name: str, methods: Sequence[str], options: Options, loaded: Loaded, store: Path) -> Curves:
    """Every method from every seed on one setting; see `nash_runs.sweep`."""
    protocol = options.chosen_protocol()
    dataset, splits, split = loaded
    rows = nash_runs.to_rows(dataset, splits)
    chosen = nash_protocol.hyper_parameters(name, protocol)
    if options.epochs is not None:
        chosen = nash_demo.replace_epochs(chosen, options.epochs)
    swept = nash_runs.sweep(
        name,
        protocol,
        rows,
        methods,
        options.seeds,
        store=store / _name_of(name, split, options),
        block=min(options.block, len(options.seeds)),
        epochs=options.epochs,
        diagnostics=options.diagnostics,
    )
    checksum = results.dataset_checksum([dataset.x, dataset.y, dataset.group, *splits])
    num_batches = splits.train.size // chosen.batch_size
    return Curves(name, arrays(swept), tuple(options.seeds), chosen, split, num_batches, checksum)


def load(name: str, options: Options) -> Loaded:
    """The dataset of a setting, its split, and which of the two kinds that is.

    Raises:
        ValueError: for an unknown setting or an official split that does not fit.
        FileNotFoundError, ConnectionError, PermissionError: where files of the dataset, or of a split that was asked
            for, are missing.
    """
    where = options.split, options.split_seed, options.data_home
    return Loaded(*nash_runs.load_any(name, options.chosen_protocol(), *where))


def arrays(swept: bx.SweepResult) -> dict[str, dict[str, np.ndarray]]:
    """What a sweep over methods and seeds gave: by method and metric, `[S, E, ...]` in the order of the seeds.

    Packed predictions, and what a method does not report, are left out.
    """
    names = [name for name in swept.metrics if name != "predictions"]
    found: dict[str, dict[str, np.ndarray]] = {}
    for method, mine in swept.frame().groupby("method", sort=False):
        kept = [name for name in names if mine[name].notna().all()]
        found[str(method)] = {name: np.stack(list(mine[name])).astype(float) for name in kept}
    return found


def tidy(curves: Curves, table: str) -> pd.DataFrame:
    """One value a row: every metric of every method, epoch and seed."""
    num_epochs = curves.chosen.num_epochs
    named = {"paper": "nash_meta_learning", "table": table, "dataset": curves.name, "split": curves.split}
    at = {
        "seed": np.repeat(curves.seeds, num_epochs),
        "epoch": np.tile(np.arange(1, num_epochs + 1), len(curves.seeds)),
    }
    frames = []
    for method, metrics in curves.values.items():
        for metric, values in metrics.items():
            columns = {metric: values}
            if values.ndim == 3:
                columns = {f"{metric}_{k}": values[:, :, k] for k in range(values.shape[2])}
            for column, of_column in columns.items():
                labels = {**named, "method": method, "metric": column}
                frames.append(pd.DataFrame({**labels, **at, "value": of_column.reshape(-1)}))
    return pd.concat(frames, ignore_index=True)


def reported_epoch(metrics: Mapping[str, np.ndarray], rule: Literal["last", "validation", "test"]) -> int:
    """Position of the epoch that is read: the last, or the one that is best over seeds on those rows.

    Selection on test rows is the paper's rule, and optimistic.
    """
    return -1 if rule == "last" else reading.best_epoch(metrics[f"{rule}.overall"])


def mean_over(values: np.ndarray, epochs: slice) -> np.ndarray:
    """Mean of `f[S, E]` over some epochs, `f[S]`; what was not measured (NaN) takes no part, NaN where nothing was."""
    part = np.asarray(values, float)[:, epochs]
    known = np.isfinite(part)
    total, number = np.where(known, part, 0.0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, number, out=np.full(len(part), np.nan), where=number > 0)


def share_below(values: np.ndarray, level: float) -> np.ndarray:
    """Share of the measured epochs of `f[S, E]` that are below a level, `f[S]`."""
    values = np.asarray(values, float)
    return mean_over(np.where(np.isfinite(values), values < level, np.nan), slice(None))


def verdict(differences: np.ndarray) -> str:
    """Whether a difference `f[S]` is above 0 by Student's 95% interval over paired seeds.

    That is over seeds only: another split, and other test rows, may say otherwise.
    """
    interval = results.mean_interval(differences)
    if interval.num_finite < FEWEST_SEEDS:
        return "undecided"
    if interval.mean - interval.half_width > 0:
        return "holds"
    return "does not hold" if interval.mean + interval.half_width < 0 else "undecided"


def write(frames: Sequence[pd.DataFrame], curves: Sequence[Curves], settings: Any, out: Path) -> list[Path]:
    """Write the tidy frames of all settings with their provenance; returns the paths of both files."""
    chosen = {one.name: {"split": one.split, "hyper_parameters": one.chosen._asdict()} for one in curves}
    origin = results.provenance(
        settings=asdict(settings) | {"resolved_protocol": asdict(settings.chosen_protocol()), "runs": chosen},
        data={one.name: one.checksum for one in curves},
    )
    path = results.write_results(pd.concat(frames, ignore_index=True), origin, out)
    return [path, path.with_name("provenance.json")]


def check(options: Options, datasets: Sequence[str], methods: Sequence[str]) -> None:
    """Refuse what cannot be run, before any work.

    Raises:
        ValueError: for unknown or repeated names, none at all, or numbers out of range.
    """
    options.chosen_protocol()
    check_names("dataset", datasets, SETTINGS)
    check_names("method", methods, nash.METHODS)
    running.check_seeds(options.seeds)
    for name in ("epochs", "diagnostics", "block"):
        number = getattr(options, name)
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")


def announce(console: Console, curves: Curves) -> None:
    """Say what was run, and what it cannot show."""
    console.print(curves.described())
    if curves.split == "balanced":
        console.print("  the split is drawn here, so the paper's numbers are of other test rows")
    if len(curves.seeds) < FEWEST_SEEDS:
        console.print(f"  {len(curves.seeds)} seeds decide nothing; {FEWEST_SEEDS} are needed")


def check_names(kind: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    """Raise `ValueError` for unknown names of a kind, with the nearest, for repeated ones, or for none."""
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{kind}s must name at least one, each once, got {list(names)}")


def _name_of(name: str, split: str, options: Options) -> str:
    of_runs = nash_runs.store_name(name, options.protocol, options.changes, split, options.split_seed, options.epochs)
    return f"{of_runs}-every{options.diagnostics}"
