"""Training runs as a function to sweep: a network, a method, an optimiser and a sampler by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Int

from badrjax import losses, metrics
from badrjax.batches import Batch, map_blocks
from badrjax.datasets import Dataset, load_dataset, split, standardise, to_batch
from badrjax.methods import (
    GOALS,
    Method,
    dro,
    erm,
    forml,
    learning_to_reweight,
    meta_group_dro,
    nash_meta,
)
from badrjax.models import Model, linear, mlp
from badrjax.samplers import Sampler, full_batch, group_balanced, in_order, shuffled
from badrjax.sweeps.trials import TrialGroup
from badrjax.training import fit

METRICS = {
    "accuracy": True,
    "balanced_accuracy": True,
    "worst_group_accuracy": True,
    "demographic_parity_difference": False,
    "equalized_odds_difference": False,
    "loss": False,
}
"""What is measured of each part, and whether more of it is better."""

# Rows whose activations are held at once when a network is measured.
_ROWS_AT_ONCE = 4096


class TrainingData(NamedTuple):
    """The rows of a training run, on the device.

    Attributes:
        train: rows to fit on.
        validation: rows to choose settings on; the meta-learning methods steer by them, too.
        test: rows to report on.
        groups: `int[K]`, for the number of groups alone.
    """

    train: Batch
    validation: Batch
    test: Batch
    groups: Int[Array, "K"]


class Setting(NamedTuple):
    """What a setting may be.

    Attributes:
        kind: `float`, `int`, `bool`, `str`, or `tuple` for a list of widths.
        allowed: bounds in words, such as "above 0".
        fits: whether a value is allowed.
        choices: the values of a text.
    """

    kind: type
    allowed: str = ""
    fits: Callable[[Any], bool] | None = None
    choices: tuple[str, ...] = ()


class Choice(NamedTuple):
    """A method, optimiser, network or sampler that can be named.

    Attributes:
        build: what makes it, given its settings by name.
        settings: what can be set, by name.
        needed: settings that have no default.
    """

    build: Callable[..., Any]
    settings: Mapping[str, Setting]
    needed: tuple[str, ...] = ()


def _sgd(
    learning_rate: Any, momentum: Any = None, weight_decay: Any = None, nesterov: bool = False
) -> optax.GradientTransformation:
    """SGD with L2 weight decay inside the momentum."""
    plain = optax.sgd(learning_rate, momentum, nesterov)
    return plain if weight_decay is None else optax.chain(optax.add_decayed_weights(weight_decay), plain)


def text(*choices: str) -> Setting:
    """A setting that is one of some words."""
    return Setting(str, choices=choices)


_POSITIVE = Setting(float, "above 0", lambda value: value > 0)
_NOT_NEGATIVE = Setting(float, "at least 0", lambda value: value >= 0)
_BELOW_ONE = Setting(float, "in [0, 1)", lambda value: 0 <= value < 1)
_SHARE = Setting(float, "in (0, 1]", lambda value: 0 < value <= 1)
_COUNT = Setting(int, "in [1, 2**31)", lambda value: 1 <= value < 2**31)
_WIDTHS = Setting(tuple, "widths in [1, 2**31)", lambda value: len(value) > 0 and 1 <= min(value) <= max(value) < 2**31)
_FLAG = Setting(bool)

_REDUCTION = text("mean", "sum", "root")
_META = {
    "cells": text("groups", "cells"),
    "validation_losses": text("cross_entropy", "cross_entropy_with_f1"),
    "lookahead": text("optimizer", "sgd"),
    "lookahead_dropout": text("same", "fresh", "off"),
    "validation_dropout": _FLAG,
    "diagnostics": text("epoch", "step", "off"),
}
_NASH = {"goal": text(*GOALS), "bargaining_epochs": Setting(int, "in [0, 2**31)", lambda value: 0 <= value < 2**31)}

METHODS = {
    "erm": Choice(erm, {"reduction": _REDUCTION}),
    "dro": Choice(dro, {"fraction": _SHARE, "reduction": _REDUCTION, "whole_rows": _FLAG}),
    "learning_to_reweight": Choice(learning_to_reweight, _META),
    "forml": Choice(forml, _META),
    "meta_group_dro": Choice(meta_group_dro, _META),
    "nash_meta": Choice(nash_meta, _NASH | _META, ("bargaining_epochs",)),
}
_RATE = {"learning_rate": _POSITIVE}
_ADAM = _RATE | {"b1": _BELOW_ONE, "b2": _BELOW_ONE, "eps": _NOT_NEGATIVE, "eps_root": _NOT_NEGATIVE}
OPTIMIZERS = {
    "sgd": Choice(
        _sgd,
        _RATE | {"momentum": _BELOW_ONE, "weight_decay": _NOT_NEGATIVE, "nesterov": _FLAG},
        ("learning_rate",),
    ),
    "adam": Choice(optax.adam, _ADAM, ("learning_rate",)),
    "adamw": Choice(optax.adamw, _ADAM | {"weight_decay": _NOT_NEGATIVE}, ("learning_rate",)),
}
MODELS = {
    "mlp": Choice(mlp, {"hidden": _WIDTHS, "dropout": _BELOW_ONE}),
    "linear": Choice(linear, {"intercept": _FLAG}),
}
_BATCH_SIZE = {"batch_size": _COUNT}
_BATCHES = _BATCH_SIZE | {"remainder": text("pad", "drop")}
SAMPLERS = {
    "shuffled": Choice(shuffled, _BATCHES, ("batch_size",)),
    "in_order": Choice(in_order, _BATCHES, ("batch_size",)),
    "group_balanced": Choice(group_balanced, _BATCH_SIZE, ("batch_size",)),
    "full_batch": Choice(full_batch, {}),
}
EPOCHS = {"num_epochs": _COUNT}


def train(
    key: Array,
    *,
    data: TrainingData,
    method: str,
    model: str,
    optimizer: str,
    sampler: str,
    num_epochs: int,
    **settings: Any,
) -> dict[str, dict[str, Array]]:
    """Train once, from new parameters, and measure the network after the last epoch.

    Args:
        key: of the parameters, the order of rows and dropout; consumed.
        data: the rows.
        method: a name in `METHODS`.
        model: a name in `MODELS`.
        optimizer: a name in `OPTIMIZERS`.
        sampler: a name in `SAMPLERS`.
        num_epochs: passes over the training rows.
        **settings: of these four, by their own names; `hidden` as text, such as "128-64".

    Returns:
        `METRICS` of the parts "validation" and "test"; NaN for a run that has diverged.
    """
    init_key, fit_key = jax.random.split(key)
    num_groups = data.groups.shape[0]
    network = make_model(model, data, settings)
    fitted = fit(
        fit_key,
        make_method(method, optimizer, network, data, settings),
        network.init(init_key),
        data.train,
        num_epochs=num_epochs,
        sampler=make_sampler(sampler, num_groups, settings),
    )
    parts = {"validation": data.validation, "test": data.test}
    return {name: measure(network, fitted.state.params, rows, num_groups) for name, rows in parts.items()}


def make_model(name: str, data: TrainingData, settings: Mapping[str, Any]) -> Model:
    """A network with one output, for the features of some rows."""
    chosen = _of(MODELS[name], settings)
    if "hidden" in chosen:
        chosen["hidden"] = tuple(int(width) for width in chosen["hidden"].split("-"))
    return MODELS[name].build(data.train.x.shape[1], **chosen)


def make_method(name: str, optimizer: str, network: Model, data: TrainingData, settings: Mapping[str, Any]) -> Method:
    """A method of `METHODS` with an optimiser of `OPTIMIZERS`."""
    chosen = _of(METHODS[name], settings)
    steps = Partial(OPTIMIZERS[optimizer].build, **_of(OPTIMIZERS[optimizer], settings))
    if METHODS[name].settings.keys() >= _META.keys():
        chosen |= {"validation": data.validation, "num_groups": data.groups.shape[0]}
        if "validation_losses" in chosen:
            chosen["validation_losses"] = getattr(losses, chosen["validation_losses"])(network)
    return METHODS[name].build(losses.cross_entropy(network), steps, **chosen)


def make_sampler(name: str, num_groups: int, settings: Mapping[str, Any]) -> Sampler:
    """A sampler of `SAMPLERS`."""
    sampler = SAMPLERS[name].build(**_of(SAMPLERS[name], settings))
    return sampler.for_groups(num_groups) if name == "group_balanced" else sampler


def measure(network: Model, params: Any, rows: Batch, num_groups: int) -> dict[str, Array]:
    """`METRICS` of a network on some rows; NaN where its loss is not finite."""
    logits = map_blocks(Partial(_logits, network, params), rows, block_size=min(_ROWS_AT_ONCE, rows.y.shape[0]))
    predictions = (logits > 0).astype(jnp.int32)
    loss = jnp.mean(losses.cross_entropy_of_scores(logits, rows.y))
    by_group = metrics.group_accuracy(rows.y, predictions, rows.group, num_groups)
    grouped = (rows.y, predictions, rows.group, num_groups)
    values = {
        "accuracy": metrics.accuracy(rows.y, predictions),
        "balanced_accuracy": metrics.balanced_accuracy(rows.y, predictions),
        "worst_group_accuracy": jnp.nanmin(by_group),
        "demographic_parity_difference": metrics.demographic_parity_difference(*grouped),
        "equalized_odds_difference": metrics.equalized_odds_difference(*grouped),
        "loss": loss,
    }
    # A diverged network predicts one class for every row, which would pass for a poor but finite result.
    return {name: jnp.where(jnp.isfinite(loss), value, jnp.nan) for name, value in values.items()}


def load_data(
    dataset: Mapping[str, Any], kind: str, seed: int, options: Mapping[str, Any], scale: Literal["train", "none"]
) -> tuple[TrainingData, Dataset]:
    """The rows of a dataset, split, and the dataset itself.

    Args:
        dataset: arguments of `badrjax.load_dataset`.
        kind: of the split, see `badrjax.datasets.split`.
        seed: of the split.
        options: of the split.
        scale: "train" brings features to mean 0 and standard deviation 1 over the training rows.

    Raises:
        ValueError: as these two; for a part without rows, and for labels other than 0 and 1.
    """
    loaded = load_dataset(**dataset)
    if not np.isin(loaded.y, (0, 1)).all() or not np.issubdtype(loaded.y.dtype, np.integer):
        raise ValueError(f"{loaded.name} has labels other than 0 and 1, and a sweep of a file trains on two classes")
    parts = split(loaded, kind, seed, **options)
    for part, rows in parts._asdict().items():
        if len(rows) == 0:
            remedy = "give it options = {validation = true}" if kind == "kfold" else "change its options"
            raise ValueError(f"the {kind} split leaves the {part} part without rows; {remedy}")
    scaled = standardise(loaded, parts.train) if scale == "train" else loaded
    fitted, chosen, reported = (to_batch(scaled, rows) for rows in parts)
    return TrainingData(fitted, chosen, reported, jnp.arange(loaded.num_groups)), scaled


def check_settings(data: TrainingData, group: TrialGroup) -> None:
    """Build what the trials of a program train with, at the ends of every number, before anything is compiled.

    Raises:
        ValueError: as the factories do, for what no single setting shows: an adaptive optimiser under a method
            that differentiates its first step, a group that the validation rows lack, too large a batch.
    """
    rows = {0, *(int(place(values)) for values in group.traced.values() for place in (np.argmin, np.argmax))}
    for row in sorted(rows):
        numbers = {name: float(values[row]) for name, values in group.traced.items()}
        settings = {**group.static, **numbers}
        network = make_model(settings["model"], data, settings)
        make_method(settings["method"], settings["optimizer"], network, data, settings)
        make_sampler(settings["sampler"], data.groups.shape[0], settings).check(data.train.y.shape[0])


def widths_as_text(widths: Sequence[int]) -> str:
    """Widths of hidden layers as a value of a column."""
    return "-".join(map(str, widths))


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, which a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _logits(network: Model, params: Any, rows: Batch) -> Array:
    return network.apply(params, rows.x)


def _of(choice: Choice, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some settings that a choice takes."""
    return {name: settings[name] for name in choice.settings if name in settings}
