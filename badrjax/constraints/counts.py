"""Weighted counts of the finest cells, from which every rate of every coarser group follows.

The cells are the intersections of all constrained attributes. A group of any requirement is a union of cells, so one
sum over the rows serves any number of requirements, and what is left is arithmetic on `[2, C]` tables.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from badrjax.checks import check_classes, check_same_length, check_vector, check_weight
from badrjax.groups import as_float, as_frequencies, group_sum
from badrjax.surrogates.rates import Rates, f1_from_masses


class CellCounts(NamedTuple):
    """Weights of the rows of C cells by label (first axis: 0, 1).

    Attributes:
        total: weight of the rows, `f[2, C]`.
        positive: weight of the rows times the probability that they are predicted 1, `f[2, C]`.
    """

    total: Float[Array, "2 C"]
    positive: Float[Array, "2 C"]


def cell_counts(
    probabilities: Float[Array, "n"],
    labels: Int[Array, "n"],
    cells: Int[Array, "n"],
    num_cells: int,
    weight: Float[Array, "n"] | None = None,
) -> CellCounts:
    """Counts of the rows and of their probability mass, by label and cell.

    Args:
        probabilities: of predicting 1, `f[n]` in `[0, 1]`; hard predictions as 0.0 and 1.0.
        labels: 0 or 1, `int[n]` or `bool[n]`; a row with another label takes no part.
        cells: ids in `[0, num_cells)`, `int[n]`; a row with another id takes no part.
        num_cells: static number of cells `C`.
        weight: frequencies `>= 0`, `f[n]`; a row of weight 0 takes no part, whatever it holds.

    Returns:
        `CellCounts`, differentiable in the probabilities.

    Raises:
        TypeError: for labels that are not classes (swapped?), or ids that are not integers.
        ValueError: for unequal lengths, or (outside tracing) negative weights.
    """
    check_vector(probabilities=probabilities, cells=cells, weight=weight)
    check_classes(labels=labels)
    check_same_length(probabilities=probabilities, labels=labels, cells=cells, weight=weight)
    check_weight(weight)
    probabilities = as_float(probabilities)
    weight = jnp.ones_like(probabilities) if weight is None else as_frequencies(weight).astype(probabilities.dtype)
    labels, cells = jnp.asarray(labels).astype(jnp.int32), jnp.asarray(cells).astype(jnp.int32)
    known = (labels >= 0) & (labels <= 1) & (cells >= 0) & (cells < num_cells)
    bins = jnp.where(known, labels * num_cells + cells, 2 * num_cells)
    mass = jnp.where(weight == 0, 0.0, weight * jnp.where(weight == 0, 0.0, probabilities))
    total, positive = (group_sum(values, bins, 2 * num_cells).reshape(2, num_cells) for values in (weight, mass))
    return CellCounts(total, positive)


def cell_factors(counts: CellCounts, sizes: Float[Array, "C"]) -> Float[Array, "C"]:
    """What the rows of each cell must be weighted by to make up the cell's size, as post-stratification does.

    A batch that is dealt more rows of small cells than there should be then counts as one of the whole data would.

    Args:
        counts: of a batch.
        sizes: weight of each cell in the whole data, `f[C]`, `>= 0`.

    Returns:
        `f[C]`, 0 for a cell without rows.
    """
    rows = jnp.sum(counts.total, axis=0)
    return jnp.where(rows > 0, sizes.astype(rows.dtype) / jnp.where(rows > 0, rows, 1.0), 0.0)


def group_rates(counts: CellCounts, membership: Bool[Array, "V C"]) -> tuple[Rates, Rates]:
    """Positive, true positive and false positive rates of groups that are unions of cells.

    Args:
        counts: of C cells.
        membership: which cells make up each of V groups, `bool[V, C]`.

    Returns:
        `Rates` of `f[V]` in `[0, 1]`, 0 (with derivative 0) where a group lacks the rows, and `Rates` of `bool[V]`
        that tells where it has them.
    """
    member = membership.astype(counts.total.dtype)
    total = jnp.matmul(counts.total, member.T, precision="highest")
    positive = jnp.matmul(counts.positive, member.T, precision="highest")
    rows = (total[0] + total[1], total[1], total[0])
    masses = (positive[0] + positive[1], positive[1], positive[0])
    rates = (mass / jnp.where(count > 0, count, 1.0) for mass, count in zip(masses, rows, strict=True))
    return Rates(*rates), Rates(*(count > 0 for count in rows))


def f1_of_counts(counts: CellCounts, average: str = "weighted") -> Float[Array, ""]:
    """F1 of the rows counted, as `badrjax.metrics.f1` (hard predictions) or `badrjax.soft_f1` (probabilities) has it.

    Args:
        counts: of any number of cells.
        average: `"binary"`, `"macro"` or `"weighted"`.

    Returns:
        A scalar in `[0, 1]`; NaN if no row counts.
    """
    support = jnp.sum(counts.total, axis=1)
    predicted_one = jnp.sum(counts.positive, axis=1)
    predicted_zero = support - predicted_one
    true_positive = jnp.stack([predicted_zero[0], predicted_one[1]])
    mass = jnp.stack([jnp.sum(predicted_zero), jnp.sum(predicted_one)])
    return f1_from_masses(true_positive, support, mass, average)


def positive_share(counts: CellCounts) -> Float[Array, ""]:
    """Share of the rows that are predicted 1, `f[]`: near 0 or 1 where a constraint made the classifier constant."""
    rows = jnp.sum(counts.total)
    return jnp.sum(counts.positive) / jnp.where(rows > 0, rows, 1.0)
