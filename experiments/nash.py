"""The eight methods of the Nash-Meta-Learning paper under either protocol, and what is measured of them."""

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
from badrjax.bargaining import NashSolution, legacy_nash_weights_from_gradients
from badrjax.checks import unknown_name
from experiments.nash_protocol import CODE, HyperParameters, Protocol

GOALS = {"learning_to_reweight": "LtR", "forml": "FORML", "meta_group_dro": "Meta-gDRO"}
METHODS = {
    "baseline": "Baseline",
    "dro": "DRO",
    **{name: f"{title}, one stage" for name, title in GOALS.items()},
    **{f"nash_{name}": f"{title}, two stages" for name, title in GOALS.items()},
}
"""The columns of Tables 1 and 4, by name and title."""

ONE_STAGE: dict[str, Callable[..., bx.Method]] = {
    "learning_to_reweight": bx.learning_to_reweight,
    "forml": bx.forml,
    "meta_group_dro": bx.meta_group_dro,
}
DRO: dict[str, dict[str, Any]] = {
    # The paper gives no share of the smallest group: one in five is safe here.
    "chi_square": {"ball": "chi_square", "fraction": 0.2},
    "tail_mean": {"fraction": 0.4, "whole_rows": True},
    "tail_sum": {"fraction": 0.4, "whole_rows": True, "reduction": "sum"},
}


def failed_bargain(gradients: jax.Array, present: jax.Array) -> NashSolution:
    """No bargain ever: equal weights `f[K]` that are not feasible."""
    weights = (present / jnp.sum(present)).astype(gradients.dtype)
    return NashSolution(weights, jnp.zeros((), bool), jnp.ones((), gradients.dtype), jnp.zeros((), jnp.int32))


BARGAINS = {"exact": None, "legacy": legacy_nash_weights_from_gradients, "fails": failed_bargain}


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
    protocol: Protocol = CODE,
    diagnostics: Any = 8,
) -> bx.Method:
    """One of `METHODS` under a protocol.

    Args:
        name: a key of `METHODS`.
        model: see `make_model`.
        validation: the balanced validation rows.
        num_groups: number of sensitive groups.
        chosen: hyper-parameters, with the bargaining epochs that are run.
        protocol: see `experiments.nash_protocol`.
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
        return bx.erm(losses, optimizer, reduction=protocol.baseline)
    if name == "dro":
        return bx.dro(losses, optimizer, **DRO[protocol.dro])
    goal = name.removeprefix("nash_")
    options: dict[str, Any] = {
        "num_groups": num_groups,
        "cells": protocol.cells,
        "validation_losses": bx.losses.cross_entropy_with_f1(model) if protocol.f1_term else losses,
        "lookahead": protocol.lookahead,
        "lookahead_dropout": protocol.lookahead_dropout,
        "validation_dropout": protocol.validation_dropout,
        "diagnostics": diagnostics,
    }
    if name == goal:
        return ONE_STAGE[goal](losses, optimizer, validation, **options)
    if goal == "learning_to_reweight" and protocol.fallback == "previous":  # the code has it under this goal only
        options |= {"fallback": "previous", "batch_size": chosen.batch_size}
    options["bargain"] = BARGAINS[protocol.bargain]
    # An array, so that other lengths are the same program.
    epochs = jnp.int32(chosen.bargaining_epochs)
    return bx.nash_meta(losses, optimizer, validation, goal=goal, bargaining_epochs=epochs, **options)


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
