"""Runs of the FairBiNN paper as a sweep: a trial trains one network under one rule, measuring every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax.tree_util import Partial
from rich.console import Console

import badrjax as bx
from badrjax import metrics, results
from badrjax.functions import Static
from experiments import fairbinn_data, pages, running
from experiments.fairbinn_data import SOURCES, Protocol, Rows

LEADER_RATE, FOLLOWER_RATE = 1e-3, 1e-5
"""The published step sizes."""
BATCH_SIZE, EPOCHS = 200, 200
CODE_SCALE = 200.0
"""eta of the published loss over that of the intended one, about, on Adult: 10000 for 50."""
ETAS = tuple(float(eta) for eta in np.logspace(-1, 3, 9))
FOLLOWER_RATES = tuple(float(rate) for rate in np.logspace(-6, -2, 9))

RULES = {
    "none": "no fairness",
    "separated": "A, separated (text)",
    "accumulated": "B, accumulated (code)",
    "accumulated_fast": "B, fairness layers as fast",
    "lagrangian": "C, Lagrangian",
    "total": "D, one unrolled step",
}
"""What is compared. B has the published step size of its fairness layers, and once that of all others, as C."""


@dataclass(frozen=True)
class RunOptions:
    """How the runs are made, whatever is read off them."""

    datasets: tuple[str, ...] = tuple(SOURCES)
    """Which of adult and health, whose file has to be fetched by hand."""
    seeds: int = 10
    """Seeds 0, 1, ... of initial weights and of the order of rows; the same for all rules, so that they are paired."""
    protocol: Protocol = "default"
    """The intended loss on shuffled rows scaled by the training ones; or the published loss, eta as the code has it,
    rows in the order of the file and each part scaled alone. Either way validation rows are held out."""
    epochs: int = EPOCHS
    """Passes over the training rows."""
    split_seed: int = 0
    """Seed of the validation rows."""
    block: int = 1
    """Seeds side by side."""
    store: Path = Path("outputs/fairbinn/runs")
    """Directory of the runs, which the experiments share; a call goes on where another ended."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA and the bundled copy."""
    runs_only: bool = False
    """Run and store, and leave the tables to another call: for processes that help."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


class Loaded(NamedTuple):
    """A dataset with its runs.

    Attributes:
        name: of the dataset.
        groups: names of its groups.
        checksum: of its arrays.
        rows: on the device.
        runs: a row for each trial, results by epoch.
    """

    name: str
    groups: tuple[str, ...]
    checksum: str
    rows: Rows
    runs: pd.DataFrame


def trial_of(rule: str, **changes: Any) -> dict[str, Any]:
    """A row of the table of trials but for the seed: the published settings, and what is changed of them."""
    row = {
        "rule": rule,
        "eta": 0.0 if rule == "none" else 50.0,
        "follower_rate": FOLLOWER_RATE if rule in ("separated", "accumulated", "total") else LEADER_RATE,
        "follower_steps": 1,
        "follower": "adam",
        "num_fairness": 1,
        "position": 1,
    }
    unknown = sorted(set(changes) - set(row))
    if unknown:
        raise ValueError(f"a trial has no {unknown[0]!r}; it has {', '.join(row)}")
    return {**row, **changes}


def front_trials(etas: Sequence[float], follower_rates: Sequence[float]) -> list[dict[str, Any]]:
    """The settings of each rule's front: over eta where it has a say, over the follower's step size elsewhere."""
    by_eta = [trial_of(rule, eta=eta) for rule in ("accumulated", "accumulated_fast", "lagrangian") for eta in etas]
    by_rate = [trial_of(rule, follower_rate=rate) for rule in ("separated", "total") for rate in follower_rates]
    return [trial_of("none"), *by_eta, *by_rate]


def run_all(settings: RunOptions, trials: Sequence[Mapping[str, Any]], tell: Any) -> tuple[list[Loaded], list[str]]:
    """The runs of every dataset that is here.

    Args:
        settings: how they are made.
        trials: of `trial_of`; each is run from every seed.
        tell: told of datasets that are not here.

    Returns:
        The datasets with their runs, and why others are missing.

    Raises:
        FileNotFoundError: where there is none at all.
    """
    check(settings)
    loaded, missing = [], []
    for name in settings.datasets:
        try:
            rows, groups, checksum = fairbinn_data.load(
                name, settings.protocol, settings.split_seed, settings.data_home
            )
        except fairbinn_data.MISSING as error:
            missing.append(f"{name} was not run: {error}")
            tell(missing[-1])
            continue
        loaded.append(Loaded(name, groups, checksum, rows, sweep(name, rows, trials, settings)))
    if not loaded:
        raise FileNotFoundError("; ".join(missing))
    return loaded, missing


def write(
    table: str,
    frame: pd.DataFrame,
    text: str,
    loaded: Sequence[Loaded],
    settings: Any,
    console: Console,
    figures: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Write report.html, results.csv, provenance.json and tables.md, print the tables, and return the tidy frame."""
    frame = frame.assign(paper="fairbinn", table=table)
    checksums = {one.name: one.checksum for one in loaded}
    results.write_results(frame, results.provenance(settings=asdict(settings), data=checksums), settings.out)
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    pages.write(settings, text, figures=figures)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return frame


def interval(values: np.ndarray, decimals: int, *, sign: str = "") -> str:
    """Mean and half-width over the seeds that have a value, and of how many where some have none."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return "none"
    found = results.mean_interval(known)
    half = f" ± {found.half_width:.{decimals}f}" if known.size > 1 else ""
    lacking = f" ({known.size} of {values.size})" if known.size < values.size else ""
    return f"{found.mean:{sign}.{decimals}f}{half}{lacking}"


def check_positive(**values: Sequence[float]) -> None:
    """Raise `ValueError` unless each is at least one number, all distinct and positive."""
    for name, given in values.items():
        if not given or not all(0 < value < np.inf for value in given) or len(set(given)) < len(given):
            raise ValueError(f"{name} must be distinct, finite and > 0, at least one, got {given}")


def check_datasets(datasets: Sequence[str]) -> None:
    """Raise `ValueError` for no datasets, or unknown ones."""
    if not datasets or not set(datasets) <= set(SOURCES) or len(set(datasets)) < len(datasets):
        raise ValueError(f"datasets must be among {', '.join(SOURCES)}, each once, got {datasets}")


def check(settings: RunOptions) -> None:
    """Raise `ValueError` with the remedy for settings that cannot be run."""
    check_datasets(settings.datasets)
    running.check_seeds(range(settings.seeds))
    if settings.epochs < 1:
        raise ValueError(f"epochs must be 1 or more, got {settings.epochs}")


def sweep(name: str, rows: Rows, trials: Sequence[Mapping[str, Any]], settings: RunOptions) -> pd.DataFrame:
    """Every trial from every seed, as one table whose results are arrays by epoch."""
    table = pd.DataFrame([{**trial, "seed": seed} for seed in range(settings.seeds) for trial in trials])
    table["eta"] = table["eta"].astype(float)
    fixed = Static((settings.protocol, settings.epochs, SOURCES[name].hidden, SOURCES[name].width))
    run = Partial(train, settings=fixed, rows=rows)
    where = settings.store / f"{name}-{settings.protocol}-{settings.epochs}epochs-split{settings.split_seed}"
    return without_refused(bx.sweep(run, table, store=where, block=settings.block, progress=True).frame())


def without_refused(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with NaN for all results from the first epoch on in which a step was refused, see `refused`."""
    names = [name for name in runs.columns if name.startswith(("test.", "validation.", "steps."))]
    runs = runs.copy()
    for row in runs.index[refused(runs)]:
        first = int(np.argmax(~(np.asarray(runs.at[row, "steps.status"]) == 0)))
        for name in names:
            values = np.array(runs.at[row, name], float)
            values[first:] = np.nan
            runs.at[row, name] = values
    return runs


def refused(runs: pd.DataFrame) -> np.ndarray:
    """Which runs had a step whose loss or result was not finite, `bool[len(runs)]`."""
    return np.array([bool(np.any(~(np.asarray(status) == 0))) for status in runs["steps.status"]])


def refused_sentence(one: Loaded) -> str:
    """How many runs had one, for the head of a report; nothing where none had."""
    mine = one.runs[refused(one.runs)]
    if mine.empty:
        return ""
    by_rule = ", ".join(f"{RULES[rule]} {count}" for rule, count in mine["rule"].value_counts(sort=False).items())
    return f" In {len(mine)} of {len(one.runs)} runs a step was not finite ({by_rule}): left out from there on."


def train(key: jax.Array, rule: str, *, settings: Static, rows: Rows, **trial: Any) -> dict[str, Any]:
    """Train once and measure after every epoch.

    Args:
        key: of initial weights and order of rows; the same for all rules.
        rule: a key of `RULES`.
        settings: protocol, epochs, and the widths of the network.
        rows: to train, validate and test on.
        **trial: the other columns of `trial_of`.

    Returns:
        By epoch, `[E]` each: `test` and `validation`, see `measure`, and `steps`, means of what the steps reported.
    """
    protocol, epochs, hidden, width = settings.value
    model = bx.models.mlp_with_fairness(
        rows.data.x.shape[1], hidden, (width,) * trial["num_fairness"], position=trial["position"]
    )
    made = make_method(rule, model, protocol, rows.groups.shape[0], -(-rows.train.shape[0] // BATCH_SIZE), **trial)
    evaluate = Partial(evaluations, model, rows.validation, rows.test, rows.groups)
    sampler = bx.shuffled(BATCH_SIZE) if protocol == "default" else bx.in_order(BATCH_SIZE)
    result = running.fit_new(key, model, made, rows.data, rows.train, evaluate, num_epochs=epochs, sampler=sampler)
    return running.by_epoch(result)


def make_method(
    rule: str,
    model: bx.Model,
    protocol: Protocol,
    num_groups: int,
    steps_an_epoch: int,
    *,
    eta: Any,
    follower_rate: Any,
    follower_steps: int = 1,
    follower: str = "adam",
    **_: Any,
) -> bx.Method:
    """The method of a trial, with the published optimisers and schedules."""
    variant, scale = (None, 1.0) if protocol == "default" else ("fairbinn", CODE_SCALE)
    fairness = bx.losses.fairness(bx.objectives.squared_disparity, model, num_groups=num_groups, variant=variant)
    every = 50 * steps_an_epoch
    return bx.fairbinn(
        bx.losses.logistic(model),
        Partial(adam_in_stages, learning_rate=LEADER_RATE, factor=0.5, every=every),
        fairness,
        follower_optimizer=Partial(
            {"adam": adam_in_stages, "sgd": sgd_in_stages}[follower],
            learning_rate=follower_rate,
            # Of the Lagrangian all layers have one optimiser.
            factor=0.5 if rule in ("none", "lagrangian") else 0.9,
            every=every * follower_steps,
        ),
        rule={"none": "lagrangian", "accumulated_fast": "accumulated"}.get(rule, rule),  # type: ignore[arg-type]
        fairness_weight=scale * eta,
        follower_steps=follower_steps,
    )


def adam_in_stages(learning_rate: Any, factor: Any, every: int) -> optax.GradientTransformation:
    """Adam whose step size is multiplied by `factor` after every so many steps."""
    return optax.chain(optax.scale_by_adam(), _stages(factor, every), optax.scale(-learning_rate))


def sgd_in_stages(learning_rate: Any, factor: Any, every: int) -> optax.GradientTransformation:
    """Gradient descent, likewise."""
    return optax.chain(_stages(factor, every), optax.scale(-learning_rate))


def _stages(factor: Any, every: int) -> optax.GradientTransformation:
    return optax.scale_by_schedule(lambda count: jnp.power(factor, count // every))


def evaluations(
    model: bx.Model, validation: bx.Batch, test: bx.Batch, groups: jax.Array, state: Any
) -> dict[str, dict[str, Any]]:
    """What a state does on both parts."""
    parts = {"validation": validation, "test": test}
    return {name: measure(model.apply(state.params, part.x), part, groups.shape[0]) for name, part in parts.items()}


def measure(logits: jax.Array, rows: bx.Batch, num_groups: int) -> dict[str, Any]:
    """Accuracy and gaps of logits on rows.

    Returns:
        `accuracy`; `loss`, cross-entropy in nats; `soft_dp`, the largest difference of two groups' mean probabilities,
        which the paper reports; `hard_dp` and `equalized_odds`, of predictions `s > 0`. All NaN where a logit is.
    """
    decided = logits > 0
    means = bx.group_mean(jax.nn.sigmoid(logits), rows.group, num_groups, rows.weight)
    present = bx.group_present(rows.group, num_groups, rows.weight)
    arguments = rows.y, decided, rows.group, num_groups, rows.weight
    found = {
        "accuracy": metrics.accuracy(rows.y, decided, rows.weight),
        "loss": jnp.mean(bx.losses.cross_entropy_of_scores(logits, rows.y)),
        "soft_dp": bx.objectives.gap(means, present),
        "hard_dp": metrics.demographic_parity_difference(*arguments),
        "equalized_odds": metrics.equalized_odds_difference(*arguments),
    }
    return {name: jnp.where(jnp.all(jnp.isfinite(logits)), value, jnp.nan) for name, value in found.items()}
