"""The published meta-reweighting methods by name: Learning to Reweight, FORML, Meta-gDRO, Nash-Meta-Learning."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Int

from badrjax.batches import Batch
from badrjax.methods.base import Method
from badrjax.methods.meta_reweighting import meta_reweighting


def learning_to_reweight(losses: Any, optimizer: Any, validation: Batch, *, num_groups: int, **options: Any) -> Method:
    r"""Learning to Reweight (Ren et al. 2018): the goal is the mean of the group validation losses.

    Differs from the original, as in the Nash-Meta-Learning code: weights have unit L2 (not L1) norm, the whole
    validation set is used, and the lookahead is the optimiser's own step (`lookahead="sgd"` undoes that).

    Args:
        losses: `ExampleLosses` of the training rows.
        optimizer: an optax transformation or `Partial(optax.sgd, learning_rate=...)`.
        validation: a small `Batch`, balanced over groups (and labels).
        num_groups: static number of sensitive groups K.
        **options: see `meta_reweighting`.
    """
    return meta_reweighting(losses, optimizer, validation, "learning_to_reweight", num_groups=num_groups, **options)


def forml(losses: Any, optimizer: Any, validation: Batch, *, num_groups: int, **options: Any) -> Method:
    """FORML (Yan et al. 2022): the goal is the gap between the largest and smallest group validation loss.

    Only the variant of the Nash-Meta-Learning paper is meant: the original trains with another weight update.
    Arguments as `learning_to_reweight`.
    """
    return meta_reweighting(losses, optimizer, validation, "forml", num_groups=num_groups, **options)


def meta_group_dro(losses: Any, optimizer: Any, validation: Batch, *, num_groups: int, **options: Any) -> Method:
    """Meta-gDRO: the goal is the largest group validation loss. Arguments as `learning_to_reweight`."""
    return meta_reweighting(losses, optimizer, validation, "meta_group_dro", num_groups=num_groups, **options)


def nash_meta(
    losses: Any,
    optimizer: Any,
    validation: Batch,
    *,
    goal: Any = "learning_to_reweight",
    num_groups: int,
    bargaining_epochs: Int[Array, ""] | int,
    **options: Any,
) -> Method:
    """Nash-Meta-Learning (Zeng et al. 2024): bargaining epochs first, then any goal.

    Where a batch's bargain has no solution the goal's protocol is used for that batch. (The published code reuses
    the batch before under the LtR goal; that option is not built yet.)

    Args:
        losses: `ExampleLosses` of the training rows.
        optimizer: an optax transformation or `Partial(optax.sgd, learning_rate=...)`.
        validation: a small `Batch`, balanced over groups (and labels).
        goal: a name in `GOALS`, or an objective `(losses f[K], *, present) -> f[]`.
        num_groups: static number of sensitive groups K.
        bargaining_epochs: how many epochs bargain. (The published code runs one fewer than it is told.) A leaf,
            but under `vmap` over different lengths both stages run: sweep it outside.
        **options: see `meta_reweighting`.
    """
    return meta_reweighting(
        losses,
        optimizer,
        validation,
        goal,
        num_groups=num_groups,
        bargaining_epochs=bargaining_epochs,
        **options,
    )
