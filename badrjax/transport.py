"""Distance between two samples on the line by optimal transport."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from badrjax.checks import check_same_length, check_vector, check_weight, is_concrete
from badrjax.groups import as_float, as_frequencies, group_sum, unit_of
from badrjax.ordering import stable_order, value_order


def wasserstein1(
    u: Shaped[Array, "m"],
    v: Shaped[Array, "n"],
    u_weight: Float[Array, "m"] | None = None,
    v_weight: Float[Array, "n"] | None = None,
) -> Float[Array, ""]:
    r"""Exact 1-Wasserstein (earth mover's) distance between two weighted samples on the line.

    `W_1 = \int |F_u(x) - F_v(x)| dx` with the weighted distribution functions `F`, each of total mass 1 (Vallender,
    1974). One sort of all values: `(m + n) log(m + n)` steps and memory for `m + n` numbers.

    Derivatives are exact wherever there is one. By a value it is the row's mass times the sign of what lies beyond;
    by a weight it is the Kantorovich potential `\int_x^\infty sign(F_u - F_v)`, taken off its mean. Where the
    distance has a kink, rows of equal value share the derivative by mass, and equal samples have derivative 0.

    In float32 with whole weights (none given, say) of a total up to 2^24 the value is right to six digits. With
    others each `F` is, its sums being added in pairs, so that the value is right to about 1e-6 of the range of the
    bulk of the values. Only differences of neighbouring values enter: an offset common to both samples costs no
    more digits than storing them does, and none are centred.

    Args:
        u: values of one sample, `f[m]` (integers are taken as floats), `m >= 1`.
        v: values of the other, `f[n]`, `n >= 1`.
        u_weight: frequencies `>= 0` of the rows of `u`, `f[m]`; only their shares matter. A row of weight 0 takes
            no part, whatever it holds, and its derivatives are 0.
        v_weight: the same for `v`, `f[n]`.

    Returns:
        A scalar `>= 0`; NaN if a row that has weight holds NaN or infinity, or (under tracing) if a sample has no
        weight.

    Raises:
        ValueError: for empty samples or more than one axis, weights of another length, or (outside tracing)
            weights that are negative or all 0.
    """
    check_vector(u=u, v=v, u_weight=u_weight, v_weight=v_weight)
    check_same_length(u=u, u_weight=u_weight)
    check_same_length(v=v, v_weight=v_weight)
    for name, values, weight in (("u", u, u_weight), ("v", v, v_weight)):
        if np.shape(values)[0] == 0:
            raise ValueError(f"{name} must have at least one row")
        check_weight(weight, f"{name}_weight")
        if weight is not None and is_concrete(weight) and not np.asarray(weight).any():
            raise ValueError(f"{name}_weight is 0 in every row, so there is no sample; leave such a pair out")
    u, v = as_float(u), as_float(v)
    dtype = jnp.promote_types(u.dtype, v.dtype)
    values = jnp.concatenate([u.astype(dtype), v.astype(dtype)])
    of_u, of_v = _weights(u_weight, u.shape[0], dtype), _weights(v_weight, v.shape[0], dtype)
    counted = jnp.concatenate([of_u, of_v]) > 0
    usable = counted & jnp.isfinite(values)
    # Inert rows go where another row is, so that no distance to them enters.
    place = jnp.max(jnp.where(usable, values, -jnp.inf))
    values = jnp.where(usable, values, jax.lax.stop_gradient(jnp.where(jnp.isfinite(place), place, 0.0)))
    known = jnp.all(usable == counted) & jnp.any(of_u > 0) & jnp.any(of_v > 0)
    # A factor, unlike where, gives the derivative NaN too.
    return _distance(values, of_u, of_v) * jnp.where(known, 1.0, jnp.nan).astype(dtype)


def _weights(weight: Any, rows: int, dtype: Any) -> Array:
    """Weights up to a factor, 0 with derivative 0 in padding, NaN where they are no frequencies."""
    if weight is None:
        return jnp.ones(rows, dtype)
    # Only shares matter, and those of the largest neither overflow nor underflow. NaN counts, to show.
    weight = as_frequencies(weight).astype(dtype)
    return weight / unit_of(weight)


def wasserstein1_by_group(
    u: Float[Array, "n"],
    v: Float[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K"]:
    r"""`wasserstein1` between two values of the same rows, within each group: one sort for all groups.

    This is how far a model's outputs have moved from another's, group by group. Differentiable in `u` and `v` as
    `wasserstein1` is (equal samples have derivative 0); the weights are constants.

    Args:
        u: one number a row, `f[n]`.
        v: another number a row, `f[n]`.
        groups: ids, `int[n]`; rows with ids outside `[0, num_groups)` take no part.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`; a row of weight 0 takes no part, whatever it holds.

    Returns:
        `f[K]`, `>= 0`; NaN for a group without rows, or with a NaN or infinite value in a row that has weight.

    Raises:
        ValueError: for more than one axis, unequal lengths, or (outside tracing) negative weights.
    """
    check_vector(u=u, v=v, groups=groups, weight=weight)
    check_same_length(u=u, v=v, groups=groups, weight=weight)
    check_weight(weight)
    u, v = as_float(u), as_float(v)
    weight = jnp.ones_like(u) if weight is None else jax.lax.stop_gradient(as_frequencies(weight)).astype(u.dtype)
    groups = jnp.asarray(groups).astype(jnp.int32)
    counted = (weight != 0) & (groups >= 0) & (groups < num_groups)
    weight, groups = jnp.where(counted, weight, 0.0), jnp.where(counted, groups, num_groups)
    broken = counted & ~(jnp.isfinite(u) & jnp.isfinite(v) & jnp.isfinite(weight))
    # Rows that do not count make a group of their own. (Their values stay, so that under a vmap over groups, of
    # several partitions, the values are sorted once.)
    usable = counted & ~broken
    weight = jnp.where(usable, weight, 0.0)
    distances = _distances(u, v, jnp.where(usable, groups, num_groups), num_groups, weight)
    known = (group_sum(weight, groups, num_groups) > 0) & (group_sum(broken, groups, num_groups) == 0)
    return jnp.where(known, distances, jnp.nan)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _distances(u: Array, v: Array, groups: Array, num_groups: int, weight: Array) -> Float[Array, "K"]:
    ordered, owner, excess, _, _ = _ordered_by_group(u, v, groups, num_groups, weight)
    same_group = owner[1:] == owner[:-1]
    areas = jnp.where(same_group, jnp.abs(excess[:-1]) * jnp.diff(ordered), 0.0)
    return group_sum(areas, owner[:-1], num_groups)


@_distances.defjvp
def _distances_jvp(num_groups: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    u, v, groups, weight = primals
    ordered, owner, excess, mass, order = _ordered_by_group(u, v, groups, num_groups, weight)
    new = (ordered != jnp.roll(ordered, 1)) | (owner != jnp.roll(owner, 1))
    before, after = _around_runs(new.at[0].set(True), excess)
    either = jnp.abs(before) + jnp.abs(after)
    fall = (before + after) / jnp.where(either > 0, either, 1.0)
    change = jnp.where(mass == 0, 0.0, -mass * fall * jnp.concatenate([tangents[0], tangents[1]])[order])
    return _distances(u, v, groups, num_groups, weight), group_sum(change, owner, num_groups)


def _ordered_by_group(
    u: Array, v: Array, groups: Array, num_groups: int, weight: Array
) -> tuple[Array, Array, Float[Array, "2n"], Float[Array, "2n"], Array]:
    """Values, groups, `F_u - F_v` up to each value, signed mass and positions, group by group.

    The groups follow each other, and each has as much of `u` as of `v`, so that sums may run on from one to the next.
    Whole weights are added exactly. Others are added as shares of their group, and what is left of a difference within
    the rounding of that is none: a sign made of it would be one of chance.
    """
    values, owners = jnp.concatenate([u, v]), jnp.concatenate([groups, groups])
    order = value_order(values)
    order = order[stable_order(owners[order].astype(jnp.uint32), num_groups.bit_length())]
    owner, ordered = owners[order], values[order]
    total = _divisor(group_sum(weight, groups, num_groups + 1))[owner]
    from_u = order < weight.shape[0]
    counted = jnp.concatenate([weight, weight])[order]
    mass = jnp.where(from_u, counted, -counted) / total
    exact = jnp.cumsum(jnp.where(from_u, counted, 0.0)) - jnp.cumsum(jnp.where(from_u, 0.0, counted))
    added = jnp.cumsum(mass)
    rounding = 8 * jnp.finfo(mass.dtype).eps * values.shape[0].bit_length()
    whole = jnp.all(weight == jnp.round(weight))
    excess = jnp.where(whole, exact / total, jnp.where(jnp.abs(added) <= rounding, 0.0, added))
    return ordered, owner, excess, mass, order


@jax.custom_jvp
def _distance(values: Float[Array, "m+n"], of_u: Float[Array, "m"], of_v: Float[Array, "n"]) -> Float[Array, ""]:
    order = jnp.argsort(values)
    excess, _ = _excess(of_u, of_v, order)
    return jnp.sum(jnp.abs(excess[:-1]) * jnp.diff(values[order]))


@_distance.defjvp
def _distance_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    r"""`dW = \sum_i (ds_i f_i - s_i \sigma_i dx_i)`: signed masses `s`, potential `f`, its falls `\sigma`."""
    values, of_u, of_v = primals
    order = jnp.argsort(values)
    excess, mass = _excess(of_u, of_v, order)
    ordered = values[order]
    potential = _sums_to_the_right(jnp.sign(excess[:-1]) * jnp.diff(ordered))
    before, after = _around_ties(ordered, excess)
    either = jnp.abs(before) + jnp.abs(after)
    fall = (before + after) / jnp.where(either > 0, either, 1.0)

    mass_change = jnp.concatenate([_share_change(of_u, tangents[1]), -_share_change(of_v, tangents[2])])
    change = mass_change[order] * potential - mass * fall * tangents[0][order]
    return _distance(*primals), jnp.sum(change)


def _excess(of_u: Array, of_v: Array, order: Array) -> tuple[Float[Array, "m+n"], Float[Array, "m+n"]]:
    """`F_u - F_v` up to each row, and the signed mass of the row, in the given order."""
    weight_u = jnp.concatenate([of_u, jnp.zeros_like(of_v)])[order]
    weight_v = jnp.concatenate([jnp.zeros_like(of_u), of_v])[order]
    # Each is summed apart and then divided by its own last sum, so that whole weights are exact up to there and
    # both end at 1. What is left of a difference within the rounding of that division is no excess, and a sign
    # made of it would be one of chance.
    up_to_u, up_to_v = jnp.cumsum(weight_u), jnp.cumsum(weight_v)
    total_u, total_v = _divisor(up_to_u[-1]), _divisor(up_to_v[-1])
    below_u, below_v = up_to_u / total_u, up_to_v / total_v
    excess = below_u - below_v
    rounding = 4 * jnp.finfo(excess.dtype).eps * jnp.maximum(below_u, below_v)
    return jnp.where(jnp.abs(excess) <= rounding, 0.0, excess), weight_u / total_u - weight_v / total_v


def _share_change(weight: Array, tangent: Array) -> Array:
    """Tangent of `weight / sum(weight)`, 0 in rows without weight."""
    tangent = jnp.where(weight == 0, 0.0, tangent)
    total = _divisor(jnp.sum(weight))
    return (tangent - weight / total * jnp.sum(tangent)) / total


def _sums_to_the_right(steps: Float[Array, "n-1"]) -> Float[Array, "n"]:
    return jnp.append(jnp.cumsum(steps[::-1])[::-1], jnp.zeros(1, steps.dtype))


def _around_ties(ordered: Array, excess: Array) -> tuple[Array, Array]:
    """The excess before and after the run of equal values that each row is in."""
    return _around_runs((ordered != jnp.roll(ordered, 1)).at[0].set(True), excess)


def _around_runs(new: Bool[Array, "n"], excess: Array) -> tuple[Array, Array]:
    """The excess before and after the run that each row is in; `new` marks the first row of each run."""
    position = jnp.arange(new.shape[0], dtype=jnp.int32)
    start = jax.lax.cummax(jnp.where(new, position, 0))
    ends = jnp.roll(new, -1).at[-1].set(True)
    end = jax.lax.cummin(jnp.where(ends, position, new.shape[0] - 1), reverse=True)
    return jnp.where(start == 0, 0.0, excess[jnp.maximum(start - 1, 0)]), excess[end]


def _divisor(total: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(total == 0, 1.0, total)
