"""Settings of the Nash-Meta-Learning paper: its hyper-parameters, its eight methods, its measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

import badrjax as bx
from badrjax import metrics
from badrjax.checks import unknown_name


class HyperParameters(NamedTuple):
    """Table 3 of the paper for one dataset; `bargaining_epochs` as the paper states them."""

    learning_rate: float
    dropout: float
    batch_size: int
    num_epochs: int = 50
    bargaining_epochs: int = 15
    momentum: float = 0.9
    weight_decay: float = 5e-4
    hidden: tuple[int, ...] = (128, 64)


HYPER_PARAMETERS = {"adult_sex": HyperParameters(learning_rate=0.001, dropout=0.2, batch_size=512)}

GOALS = {"learning_to_reweight": "LtR", "forml": "FORML", "meta_group_dro": "Meta-gDRO"}
METHODS = {
    "baseline": "Baseline",
    "dro": "DRO",
    **{name: f"{title}, one stage" for name, title in GOALS.items()},
    **{f"nash_{name}": f"{title}, two stages" for name, title in GOALS.items()},
}
"""The columns of Tables 1 and 4, by name and title."""


def momentum_sgd(learning_rate: Any, momentum: Any, weight_decay: Any) -> optax.GradientTransformation:
    """SGD with L2 weight decay inside the momentum."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum))


def make_model(num_features: int, chosen: HyperParameters) -> bx.Model:
    """The paper's network, two outputs."""
    # An array, so that other rates are the same program.
    return bx.models.mlp(num_features, chosen.hidden, 2, dropout=jnp.float32(chosen.dropout))


def make_method(
    name: str,
    model: bx.Model,
    validation: bx.Batch,
    num_groups: int,
    chosen: HyperParameters,
    *,
    diagnostics: Any = 8,
) -> bx.Method:
    """One of `METHODS` as the published code runs it.

    That is: bargaining over group x label cells, validation loss with the F1 term, lookahead by the optimiser's own
    step, three different dropout masks, one bargaining epoch fewer than stated, the baseline's equal weights of unit
    L2 norm, and DRO as the sum over the worst 40% of a batch. One difference is left: where a bargain has no
    solution the goal's weights are used under every goal, and the code's LtR reuses the batch before.

    Args:
        name: a key of `METHODS`.
        model: see `make_model`.
        validation: the balanced validation rows.
        num_groups: number of sensitive groups.
        chosen: hyper-parameters.
        diagnostics: see `badrjax.meta_reweighting`.

    Raises:
        ValueError: for an unknown name, with the nearest ones.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    losses = bx.losses.cross_entropy(model)
    optimizer = Partial(
        momentum_sgd,
        learning_rate=chosen.learning_rate,
        momentum=chosen.momentum,
        weight_decay=chosen.weight_decay,
    )
    if name == "baseline":
        return bx.erm(losses, optimizer, reduction="root")
    if name == "dro":
        return bx.dro(losses, optimizer, fraction=0.4, reduction="sum", whole_rows=True)
    options: dict[str, Any] = {
        "num_groups": num_groups,
        "cells": "cells",
        "validation_losses": bx.losses.cross_entropy_with_f1(model),
        "lookahead_dropout": "fresh",
        "validation_dropout": True,
        "diagnostics": diagnostics,
    }
    if name.startswith("nash_"):
        epochs = jnp.int32(max(chosen.bargaining_epochs - 1, 0))
        goal = name.removeprefix("nash_")
        return bx.nash_meta(losses, optimizer, validation, goal=goal, bargaining_epochs=epochs, **options)
    one_stage: dict[str, Callable[..., bx.Method]] = {
        "learning_to_reweight": bx.learning_to_reweight,
        "forml": bx.forml,
        "meta_group_dro": bx.meta_group_dro,
    }
    return one_stage[name](losses, optimizer, validation, **options)


class Measurements(NamedTuple):
    """Test measurements after one epoch.

    The paper's "AUC" is taken from hard predictions, so it is the balanced accuracy: `overall`, the `gap` between
    groups and the `worst` group are of that.

    Attributes:
        overall: balanced accuracy, `f[]`.
        gap: largest difference of balanced accuracy between groups, `f[]`.
        worst: balanced accuracy of the worst group, `f[]`.
        by_group: balanced accuracy of each group, `f[K]`.
        auc: area under the ROC curve of the scores, `f[]`.
        loss: cross-entropy, `f[]`; not finite when the run has diverged.
    """

    overall: Any
    gap: Any
    worst: Any
    by_group: Any
    auc: Any
    loss: Any


def measure(model: bx.Model, test: bx.Batch, groups: jax.Array, state: Any) -> Measurements:
    """`Measurements` of a state on the test rows; `groups` `[K]` only fixes the number of groups."""
    logits = bx.losses.binary_logits(model.apply(state.params, test.x))
    predictions = (logits > 0).astype(jnp.int32)
    by_group = metrics.group_balanced_accuracy(test.y, predictions, test.group, groups.shape[0], test.weight)
    loss = bx.losses.cross_entropy_of_scores(logits, test.y).mean()
    overall = metrics.balanced_accuracy(test.y, predictions, test.weight)
    # A diverged run predicts one class for every row, which would pass for a poor but finite result.
    finite = jnp.isfinite(loss)
    values = (overall, by_group.max() - by_group.min(), by_group.min(), by_group)
    overall, gap, worst, by_group = (jnp.where(finite, value, jnp.nan) for value in values)
    return Measurements(overall, gap, worst, by_group, metrics.auc(test.y, logits, test.weight), loss)


def evaluation(model: bx.Model, test: bx.Batch, num_groups: int) -> Partial:
    """`measure` bound to the test rows, for `badrjax.fit`."""
    return Partial(measure, model, test, jnp.arange(num_groups))


def paper_cells(dataset: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Means and half-widths that Table 4 prints for a dataset, by (method, metric)."""
    table = json.loads(resources.files("experiments").joinpath("targets/nash_table4.json").read_text("utf-8"))
    return {(method, metric): (mean, half) for name, method, metric, mean, half in table["cells"] if name == dataset}
