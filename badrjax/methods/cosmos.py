r"""COSMOS: one network for the whole front, conditioned on the preference between its objectives.

After Ruchte and Grabocka (2021), "Scalable Pareto Front Approximation for Deep Multi-Objective Learning", ICDM. The
first objective is the task's loss, and each fairness requirement is one more. A step draws one preference for its batch
and descends on

    sum_k a_k L_k - lamda cos(L, a),    a ~ Dirichlet(alpha0),    L = losses of the model at the inputs (x, a)

whose second term pulls the loss vector towards the preference's direction, so that the front is spread out. The two
terms disagree: where `a_k` is large the sum wants `L_k` small and the cosine wants it large. So `lamda` must be small;
a large one turns the front around. After training, `badrjax.cosmos_front` measures the network at any preferences, and
`badrjax.select_preference` picks one.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.checks import is_concrete, unknown_name
from badrjax.constraints import (
    CellCounts,
    FairnessConstraints,
    cell_counts,
    check_constraints,
    pair_gaps,
    requirement_gaps,
)
from badrjax.functions import Static, as_partial
from badrjax.groups import as_float, unit_of
from badrjax.losses import binary_logits, cross_entropy_of_scores
from badrjax.methods.base import Method, descend, mean_loss, optimiser_pytree
from badrjax.methods.cosmos_preferences import draw_preference, preference_inputs

Gap = Literal["max", "mean", "published"]
GAPS = ("max", "mean", "published")


class COSMOSState(NamedTuple):
    """Parameters and the optimiser's state."""

    params: Any
    opt_state: Any


class COSMOSInfo(NamedTuple):
    """What one step saw, before it moved.

    Attributes:
        losses: the objectives on the batch, `f[K]`: the task's loss, then the requirements' smooth gaps.
        preference: that was drawn, `f[K]` on the simplex.
        cosine: of the two, `f[]` in `[0, 1]` for losses `>= 0`; 0 where all losses are 0.
        loss: what the step descends on, `f[]`.
    """

    losses: Float[Array, "K"]
    preference: Float[Array, "K"]
    cosine: Float[Array, ""]
    loss: Float[Array, ""]


class _Problem(NamedTuple):
    """What the step is bound to; a pytree."""

    apply: Partial
    loss: Static
    gap: Static
    mapping: Static
    optimizer: Partial
    constraints: FairnessConstraints
    concentration: Array
    cosine_weight: Array


def cosmos(
    model: Any,
    optimizer: Any,
    constraints: FairnessConstraints,
    *,
    concentration: Float[Array, "*K"] | float = 0.5,
    cosine_weight: Float[Array, ""] | float = 0.01,
    gap: Gap = "max",
    mapping: Any = None,
    loss: Any = cross_entropy_of_scores,
) -> Method:
    r"""COSMOS as a `Method`; the module's text has the objective.

    There are `K = 1 + R` objectives for R requirements: the mean loss of the task, and for each requirement its smooth
    gap on the batch. A requirement that cannot be measured on a batch is 0 there, with derivative 0.

    | `gap` | objective of a requirement |
    | --- | --- |
    | `"max"` | largest difference of mean probabilities among its pairs of groups |
    | `"mean"` | mean difference over its pairs that can be measured |
    | `"published"` | `(1/n) abs(sum_{i in first} t_i - sum_{i in second} t_i)`, `t_i = tanh(relu(sigmoid(z_i)))` |

    The rates are those of the requirement's metric: of all rows for demographic parity, of rows labelled 1 for equal
    opportunity (the two that were published), of rows labelled 0 for predictive equality, and the larger of the last
    two for equalised odds. The published form divides by the size of the batch, not by those of the groups. So with
    groups of unequal size it is positive at equal rates, and zero where rates differ by the ratio of the sizes; and a
    group without rows counts as one of sum 0.

    The published settings: `Partial(optax.adam, learning_rate=1e-3)`, batches of 256 rows, 50 epochs, a network of
    60-25-1, `concentration=0.5` (one data set: 0.1), `cosine_weight=0.01`.

    Args:
        model: with `apply(params, x, *, key=None)` on `F + K` inputs, see `badrjax.preference_inputs`; logits `f[n]`,
            or two columns that are reduced to their difference.
        optimizer: an optax transformation or `Partial(optax.adam, learning_rate=...)`.
        constraints: of `badrjax.fairness_constraints`. Batches must carry its cells as groups; thresholds play no part
            in training.
        concentration: `alpha0 > 0` of the Dirichlet distribution, one number or `f[K]`, a leaf. Small ones draw near
            the corners, 1 is uniform. With one number and R requirements the task has `1 / (1 + R)` of the weight on
            average, which for seven of them left a constant classifier on COMPAS; `[R a, a, ..., a]` gives it half.
        cosine_weight: `lamda >= 0`, a leaf. Small: at 1 more weight on a requirement made its gap larger, see above.
        gap: see the table.
        mapping: from two scores `f[n, 2]`, the first 0, to probabilities, for the smooth rates; `None` is
            `jax.nn.softmax`, which is the sigmoid of the logit. The published form has its own.
        loss: `(logits f[n], labels) -> f[n]`.

    Returns:
        A `Method` whose state is `COSMOSState`, with `COSMOSInfo` a step.

    Raises:
        ValueError: (outside tracing) for numbers out of range or of the wrong shape, an unknown `gap`, a mapping beside
            `gap="published"`, or more than two groups to a requirement with it.
        TypeError: for constraints of another kind, or an optimizer that is neither form.
    """
    check_constraints(constraints)
    _check_gap(gap, mapping, constraints)
    num_objectives = 1 + constraints.thresholds.shape[-1]
    _check_numbers(concentration, cosine_weight, num_objectives)
    problem = _Problem(
        apply=as_partial(model.apply),
        loss=Static(loss),
        gap=Static(gap),
        mapping=Static(mapping),
        optimizer=optimiser_pytree(optimizer),
        constraints=constraints,
        concentration=jnp.broadcast_to(as_float(concentration), (num_objectives,)),
        cosine_weight=as_float(cosine_weight),
    )
    return Method(Partial(_init, problem), Partial(_step, problem))


def requirement_objectives(
    constraints: FairnessConstraints,
    logits: Float[Array, "n"],
    batch: Batch,
    *,
    gap: Gap = "max",
    mapping: Any = None,
) -> Float[Array, "R"]:
    """The smooth gap of each requirement, as `badrjax.cosmos` has it.

    Args:
        constraints: of R requirements.
        logits: of class 1, `f[n]`.
        batch: labels, cells and frequencies of the rows; its features are not read.
        gap, mapping: as for `badrjax.cosmos`.

    Returns:
        `f[R]` in `[0, 1]`; 0, with derivative 0, where a requirement cannot be measured.
    """
    counts = cell_counts(
        _probabilities(logits, gap, mapping), batch.y, batch.group, constraints.membership.shape[1], frequencies(batch)
    )
    gaps = _published_gaps(constraints, counts) if gap == "published" else pair_gaps(constraints, counts)
    if gap == "mean":
        return _mean_of_pairs(constraints, gaps)
    largest = requirement_gaps(constraints, gaps)
    return jnp.where(jnp.isnan(largest), 0.0, largest)


def cosine_similarity(losses: Float[Array, "K"], preference: Float[Array, "K"]) -> Float[Array, ""]:
    """Cosine of the angle between the losses and a preference on the simplex; 0, with derivative 0, at zero losses."""
    # In units of the largest loss, for squares of small ones underflow; the cosine does not see units.
    losses = losses / unit_of(losses)
    square = jnp.sum(losses**2)
    some = square != 0  # NaN passes, to show
    length = jnp.sqrt(jnp.where(some, square, 1.0) * jnp.sum(preference**2))
    return jnp.where(some, jnp.sum(losses * preference) / length, 0.0)


def _init(problem: _Problem, key: Any, params: Any) -> COSMOSState:
    return COSMOSState(params, problem.optimizer().init(params))


def _step(problem: _Problem, key: Any, state: COSMOSState, batch: Batch) -> tuple[COSMOSState, COSMOSInfo]:
    batch = fill_padding(batch)
    preference_key, model_key = jax.random.split(key)
    preference = draw_preference(preference_key, problem.concentration)
    inputs = preference_inputs(batch.x, preference)

    def objective(params: Any) -> tuple[Array, tuple[Array, Array]]:
        logits = binary_logits(problem.apply(params, inputs, key=model_key))
        losses = _losses(problem, logits, batch)
        cosine = cosine_similarity(losses, preference)
        return jnp.sum(preference * losses) - problem.cosine_weight * cosine, (losses, cosine)

    (loss, (losses, cosine)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    params, opt_state = descend(problem.optimizer, gradient, state.opt_state, state.params, frequencies(batch))
    return COSMOSState(params, opt_state), COSMOSInfo(losses, preference, cosine, loss)


def _losses(problem: _Problem, logits: Float[Array, "n"], batch: Batch) -> Float[Array, "K"]:
    """The mean loss of the task, and the smooth gap of each requirement."""
    task = mean_loss(problem.loss.value(logits, batch.y), frequencies(batch))
    gap, mapping = problem.gap.value, problem.mapping.value
    gaps = requirement_objectives(problem.constraints, logits, batch, gap=gap, mapping=mapping)
    return jnp.concatenate([task[None], gaps])


def _probabilities(logits: Float[Array, "n"], gap: Gap, mapping: Any) -> Float[Array, "n"]:
    if gap == "published":
        return jnp.tanh(jax.nn.sigmoid(logits))  # of the relu nothing is left: a sigmoid is positive
    mapping = jax.nn.softmax if mapping is None else mapping
    return mapping(jnp.stack([jnp.zeros_like(logits), logits], axis=-1))[:, 1]


def _published_gaps(constraints: FairnessConstraints, counts: CellCounts) -> Float[Array, "P"]:
    """Differences of the groups' sums, over the size of the batch."""
    member = constraints.membership.astype(counts.positive.dtype)
    sums = jnp.matmul(counts.positive, member.T, precision="highest")
    of_group = jnp.stack([sums[0] + sums[1], sums[1], sums[0]], axis=1)  # in the order of `compares`
    rows = jnp.sum(counts.total)
    apart = jnp.abs(of_group[constraints.left] - of_group[constraints.right]) / jnp.where(rows > 0, rows, 1.0)
    return jnp.max(jnp.where(constraints.compares, apart, 0.0), axis=1)


def _mean_of_pairs(constraints: FairnessConstraints, gaps: Float[Array, "P"]) -> Float[Array, "R"]:
    """Mean over the pairs of each requirement that are known, 0 where none is."""
    numbers = jnp.arange(constraints.thresholds.shape[0], dtype=jnp.int32)
    counted = (constraints.requirement[None, :] == numbers[:, None]) & ~jnp.isnan(gaps)[None, :]
    total = jnp.sum(jnp.where(counted, gaps[None, :], 0.0), axis=1)
    return total / jnp.maximum(jnp.sum(counted, axis=1), 1).astype(total.dtype)


def _check_gap(gap: Any, mapping: Any, constraints: FairnessConstraints) -> None:
    if gap not in GAPS:
        raise unknown_name("gap", gap, GAPS)
    if gap != "published":
        if mapping is not None and not callable(mapping):
            raise TypeError(f"mapping must be a function of scores [n, 2], got {type(mapping).__name__}")
        return
    if mapping is not None:
        raise ValueError('mapping must be None with gap="published", which has its own; use gap="max" with a mapping')
    if constraints.left.shape[-1] != constraints.thresholds.shape[-1]:
        raise ValueError(
            'gap="published" compares two groups and a requirement of constraints has more; use gap="max" or gap="mean"'
        )


def _check_numbers(concentration: Any, cosine_weight: Any, num_objectives: int) -> None:
    if np.shape(concentration) not in ((), (num_objectives,)):
        raise ValueError(
            f"concentration must be one number or one for each of {num_objectives} objectives (the task, then the "
            f"requirements), and has shape {np.shape(concentration)}; use jax.vmap over several"
        )
    if np.shape(cosine_weight):
        raise ValueError(
            f"cosine_weight must be one number and has shape {np.shape(cosine_weight)}; use jax.vmap over several"
        )
    if is_concrete(concentration) and not _within(concentration, lambda value: value > 0):
        raise ValueError(f"concentration must be positive and finite, got {concentration}")
    if is_concrete(cosine_weight) and not _within(cosine_weight, lambda value: value >= 0):
        raise ValueError(f"cosine_weight must be >= 0 and finite, got {cosine_weight}; 0 leaves the cosine out")


def _within(value: Any, holds: Any) -> bool:
    value = np.asarray(value)
    return bool(np.all(holds(value) & np.isfinite(value)))
