"""Runs of the Nash-Meta-Learning paper as a sweep: a trial trains one method from one seed, measuring every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import badrjax as bx
from badrjax import metrics
from badrjax.functions import Static
from experiments import nash, running
from experiments.nash_protocol import READ_OFF, SETTINGS, Protocol, hyper_parameters, of_training

OFFICIAL_SPLIT = {"crime_blackgt6pct": "us_crime_blackgt6pct"}
"""Settings with more than one official split, and the one that the paper's tables are of."""


MISSING = (FileNotFoundError, ConnectionError, PermissionError)
"""A file that is not there, and that cannot be downloaded either."""


class Rows(NamedTuple):
    """The rows of a run, on the device.

    Attributes:
        data: all rows.
        train: positions of the training rows, `int[m]`.
        validation: the balanced validation rows.
        test: the test rows, some of them drawn more than once.
        groups: `int[K]`, for the number of groups alone.
    """

    data: bx.Batch
    train: Any
    validation: bx.Batch
    test: bx.Batch
    groups: Any


def load(
    name: str, protocol: Protocol, split: Literal["official", "balanced"], split_seed: int, data_home: Path | None
) -> tuple[bx.Dataset, bx.Splits]:
    """The dataset of a setting, scaled as the protocol says, and its split.

    Raises:
        ValueError: for an unknown setting, or an official split whose file is not there.
    """
    setting = SETTINGS[name]
    dataset = bx.load_dataset(
        setting.dataset, sensitive=setting.sensitive, variant="nash", data_home=data_home, standardise="none"
    )
    if split == "official":
        options = {"name": OFFICIAL_SPLIT[name]} if name in OFFICIAL_SPLIT else {}
        splits = bx.datasets.split(dataset, "official", split_seed, data_home=data_home, **options)
    else:
        sizes = {"validation_per_cell": setting.validation_per_cell, "test_fraction": setting.test_fraction}
        splits = bx.datasets.split(dataset, "balanced", split_seed, **sizes)
    fitted = None if protocol.scaling == "all" else splits.train
    return bx.datasets.standardise(dataset, fitted), splits


def load_any(
    name: str,
    protocol: Protocol,
    split: Literal["auto", "official", "balanced"],
    split_seed: int,
    data_home: Path | None,
) -> tuple[bx.Dataset, bx.Splits, Literal["official", "balanced"]]:
    """`load` by the split that is asked for, and which one that is: `"auto"` is official where its file is there.

    Raises:
        ValueError: as `load`.
        FileNotFoundError, ConnectionError, PermissionError: where files of the dataset, or of a split that was asked
            for, are missing (`MISSING`).
    """
    if split != "balanced":
        try:
            return *load(name, protocol, "official", split_seed, data_home), "official"
        except MISSING:
            if split == "official":
                raise
    return *load(name, protocol, "balanced", split_seed, data_home), "balanced"


def store_name(
    name: str, protocol: str, changes: Sequence[str], split: str, split_seed: int, epochs: int | None
) -> str:
    """A directory for each sweep: what is changed of the training is part of its name."""
    parts = [name, protocol]
    parts += sorted(change.replace("=", "_") for change in changes if change.split("=")[0] not in READ_OFF)
    if split == "balanced":
        parts.append(f"balanced{split_seed}")
    if epochs is not None:
        parts.append(f"{epochs}epochs")
    return "-".join(parts)


def to_rows(dataset: bx.Dataset, splits: bx.Splits) -> Rows:
    """The rows of a dataset and its split as device arrays."""
    data, validation, test = (bx.to_batch(dataset, rows) for rows in (None, splits.validation, splits.test))
    return Rows(data, jnp.asarray(splits.train), validation, test, jnp.arange(dataset.num_groups))


def sweep(
    name: str,
    protocol: Protocol,
    rows: Rows,
    methods: Sequence[str],
    seeds: Sequence[int],
    *,
    store: Path | None,
    block: int,
    epochs: int | None = None,
    diagnostics: int = 16,
    progress: Any = True,
) -> bx.SweepResult:
    """Every method from every seed; see `trial`.

    Args:
        name: of the setting.
        protocol: how it is run.
        rows: of `to_rows`.
        methods: keys of `nash.METHODS`.
        seeds: of initial weights, order of rows and dropout; the same for all methods, so that they are paired.
        store: directory of the results of this setting under this protocol; several processes may share it.
        block: seeds side by side.
        epochs: a number other than Table 3's.
        diagnostics: alignment is measured on every n-th batch.
        progress: as for `badrjax.sweep`.
    """
    chosen = hyper_parameters(name, protocol)
    if epochs is not None:
        chosen = chosen._replace(num_epochs=epochs, bargaining_epochs=min(chosen.bargaining_epochs, epochs))
    bx.shuffled(chosen.batch_size, "drop").check(int(rows.train.shape[0]))
    run = Partial(trial, settings=Static((of_training(protocol), chosen, diagnostics)), rows=rows)
    trials = bx.sweeps.grid(method=list(methods), seed=list(seeds))
    return bx.sweep(run, trials, store=store, block=block, progress=progress)


def trial(key: jax.Array, method: str, *, settings: Static, rows: Rows) -> dict[str, Any]:
    """Train once and measure after every epoch.

    Args:
        key: of initial weights, order of rows and dropout; the same for all methods.
        method: a key of `nash.METHODS`.
        settings: options of `nash_protocol.of_training`, the hyper-parameters, and how often alignment is measured.
        rows: to train, validate and test on.

    Returns:
        By epoch, `[E]` each: `test` and `validation`, the fields of `nash.Measurements` (`by_group` and, of the test,
        `auc_by_group` `[E, K]`); `steps`, means of what the method's steps reported; and `predictions` on the test
        rows, packed eight to a byte.
    """
    options, chosen, diagnostics = settings.value
    model = nash.make_model(rows.data.x.shape[1], chosen)
    num_groups = rows.groups.shape[0]
    protocol = Protocol(**dict(options))
    made = nash.make_method(
        method, model, rows.validation, num_groups, chosen, protocol=protocol, diagnostics=diagnostics
    )
    evaluate = Partial(measure, model, rows.validation, rows.test, rows.groups)
    how = {"num_epochs": chosen.num_epochs, "sampler": bx.shuffled(chosen.batch_size, "drop")}
    return running.by_epoch(running.fit_new(key, model, made, rows.data, rows.train, evaluate, **how))


def measure(model: bx.Model, validation: bx.Batch, test: bx.Batch, groups: jax.Array, state: Any) -> dict[str, Any]:
    """Measurements of a state on both parts, and what it predicts on the test rows."""
    logits = bx.losses.binary_logits(model.apply(state.params, test.x))
    of_test = nash.measure(model, test, groups, state)._asdict()
    by_group = metrics.group_auc(test.y, logits, test.group, groups.shape[0], test.weight)
    return {
        # As everything else of a run that has diverged.
        "test": of_test | {"auc_by_group": jnp.where(jnp.isfinite(of_test["loss"]), by_group, jnp.nan)},
        "validation": nash.measure(model, validation, groups, state)._asdict(),
        "predictions": jnp.packbits(logits > 0),
    }


def unpacked(predictions: np.ndarray, num_rows: int) -> np.ndarray:
    """Predictions `bool[..., n]` from packed ones, `uint8[..., ceil(n / 8)]`."""
    return np.unpackbits(np.asarray(predictions), axis=-1, count=num_rows).astype(bool)
