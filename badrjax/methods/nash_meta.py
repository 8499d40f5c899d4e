"""The published meta-reweighting methods by name: Learning to Reweight, FORML, Meta-gDRO, Nash-Meta-Learning."""

from __future__ import annotations

from typing import Any, Literal

from jaxtyping import Array, Int

from badrjax.bargaining import legacy_nash_weights_from_gradients
from badrjax.batches import Batch
from badrjax.checks import unknown_name
from badrjax.methods.base import Method
from badrjax.methods.meta_reweighting import meta_reweighting

Protocol = Literal["paper", "code"]

PROTOCOLS: dict[str, dict[str, Any]] = {
    "paper": {
        "cells": "groups",
        "lookahead": "sgd",
        "lookahead_dropout": "same",
        "validation_dropout": False,
        "fallback": "goal",
    },
    "code": {
        "cells": "cells",
        "lookahead": "optimizer",
        "lookahead_dropout": "fresh",
        "validation_dropout": True,
        "fallback": "goal",
    },
}
"""Options of `meta_reweighting` as the text of the Nash-Meta-Learning paper has them, and as its published code does.

The text does not mention dropout, an F1 term in the validation loss, or the fallback of LtR; for that and for how the
code solves the bargain see `nash_meta`.
"""


def learning_to_reweight(
    losses: Any, optimizer: Any, validation: Batch, *, num_groups: int, protocol: Protocol | None = None, **options: Any
) -> Method:
    r"""Learning to Reweight (Ren et al. 2018): the goal is the mean of the group validation losses.

    Differs from the original, as in the Nash-Meta-Learning code: weights have unit L2 (not L1) norm, the whole
    validation set is used, and the lookahead is the optimiser's own step (`lookahead="sgd"` undoes that).

    Args:
        losses: `ExampleLosses` of the training rows.
        optimizer: an optax transformation or `Partial(optax.sgd, learning_rate=...)`.
        validation: a small `Batch`, balanced over groups (and labels).
        num_groups: static number of sensitive groups K.
        protocol: sets the options of `PROTOCOLS` together; those that are given go before. With `"code"`,
            `validation_losses` must be given (see `badrjax.losses.cross_entropy_with_f1`).
        **options: see `meta_reweighting`.

    Raises:
        ValueError: as `meta_reweighting`, for an unknown protocol, and for what `"code"` needs.
    """
    options = _with_protocol(protocol, options)
    return meta_reweighting(losses, optimizer, validation, "learning_to_reweight", num_groups=num_groups, **options)


def forml(
    losses: Any, optimizer: Any, validation: Batch, *, num_groups: int, protocol: Protocol | None = None, **options: Any
) -> Method:
    """FORML (Yan et al. 2022): the goal is the gap between the largest and smallest group validation loss.

    Only the variant of the Nash-Meta-Learning paper is meant: the original trains with another weight update.
    Arguments as `learning_to_reweight`.
    """
    options = _with_protocol(protocol, options)
    return meta_reweighting(losses, optimizer, validation, "forml", num_groups=num_groups, **options)


def meta_group_dro(
    losses: Any, optimizer: Any, validation: Batch, *, num_groups: int, protocol: Protocol | None = None, **options: Any
) -> Method:
    """Meta-gDRO: the goal is the largest group validation loss. Arguments as `learning_to_reweight`."""
    options = _with_protocol(protocol, options)
    return meta_reweighting(losses, optimizer, validation, "meta_group_dro", num_groups=num_groups, **options)


def nash_meta(
    losses: Any,
    optimizer: Any,
    validation: Batch,
    *,
    goal: Any = "learning_to_reweight",
    num_groups: int,
    bargaining_epochs: Int[Array, ""] | int,
    protocol: Protocol | None = None,
    **options: Any,
) -> Method:
    """Nash-Meta-Learning (Zeng et al. 2024): bargaining epochs first, then any goal.

    Where a batch's bargain has no solution, `fallback` says what is used for that batch: the goal's protocol, or, as
    the published code does under the LtR goal, the aggregate of the batch before.

    Args:
        losses: `ExampleLosses` of the training rows.
        optimizer: an optax transformation or `Partial(optax.sgd, learning_rate=...)`.
        validation: a small `Batch`, balanced over groups (and labels).
        goal: a name in `GOALS`, or an objective `(losses f[K], *, present) -> f[]`.
        num_groups: static number of sensitive groups K.
        bargaining_epochs: how many epochs bargain. (The published code runs one fewer than it is told: tell this
            function what it runs.) A leaf, but under `vmap` over different lengths both stages run: sweep it outside.
        protocol: sets the options of `PROTOCOLS` together; those that are given go before. With `"code"`, the bargain
            is `badrjax.bargaining.legacy_nash_weights_from_gradients`, `validation_losses` must be given (see
            `badrjax.losses.cross_entropy_with_f1`), and under the LtR goal `batch_size`, for the fallback is then
            `"previous"`.
        **options: see `meta_reweighting`.

    Raises:
        ValueError: as `meta_reweighting`, for an unknown protocol, and for what `"code"` needs.
    """
    if protocol == "code":
        options = {"bargain": legacy_nash_weights_from_gradients} | options
    if protocol == "code" and isinstance(goal, str) and goal == "learning_to_reweight":
        options = {"fallback": "previous"} | options
        if options["fallback"] == "previous" and "batch_size" not in options:
            raise ValueError(
                "protocol='code' reuses the aggregate of the batch before where a bargain fails under the LtR goal: "
                "give batch_size=, the rows of a batch, or fallback='goal'"
            )
    options = _with_protocol(protocol, options)
    return meta_reweighting(
        losses,
        optimizer,
        validation,
        goal,
        num_groups=num_groups,
        bargaining_epochs=bargaining_epochs,
        **options,
    )


def _with_protocol(protocol: str | None, options: dict[str, Any]) -> dict[str, Any]:
    if protocol is None:
        return options
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", str(protocol), PROTOCOLS)
    if protocol == "code" and "validation_losses" not in options:
        raise ValueError(
            "protocol='code' adds a smooth F1 term to the validation losses: give "
            "validation_losses=badrjax.losses.cross_entropy_with_f1(model)"
        )
    return PROTOCOLS[protocol] | options
