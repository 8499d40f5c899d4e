"""Counts of labels against predictions by group: what every measure on hard predictions is made of."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from badrjax.checks import (
    check_class_range,
    check_classes,
    check_groups,
    check_same_length,
    check_vector,
    check_weight,
    is_concrete,
)
from badrjax.groups import as_frequencies, group_sum


def confusion_by_group(
    labels: Any, predictions: Any, groups: Any, num_groups: int, weight: Any, num_classes: int
) -> Float[Array, "K C C"]:
    """Weight of the rows of each group with label `i` and prediction `j`, from one sum over the rows.

    All NaN if a row that has weight holds a class outside `[0, num_classes)` (which raises outside tracing).
    """
    (labels, predictions), groups, weight = checked_rows(
        {"labels": labels, "predictions": predictions}, groups, num_groups, weight, num_classes
    )
    cell = (groups * num_classes + labels) * num_classes + predictions
    counts = group_sum(weight, cell, num_groups * num_classes**2)
    return counts.reshape(num_groups, num_classes, num_classes)


def confusion(labels: Any, predictions: Any, weight: Any, num_classes: int | None) -> Float[Array, "C C"]:
    """`confusion_by_group` of one group. `num_classes=None` means 2, or as many as concrete arrays show."""
    classes = {"labels": labels, "predictions": predictions}
    if num_classes is None:
        _check_rows(classes, weight=weight)
        num_classes = _classes_shown(classes, weight) if is_concrete(classes, weight) else 2
    return confusion_by_group(labels, predictions, one_group(labels), 1, weight, num_classes)[0]


def checked_rows(
    classes: dict[str, Any], groups: Any, num_groups: int, weight: Any, num_classes: int | None
) -> tuple[list[Array], Array, Array]:
    """Named class arrays and ids as `int32[n]` and weights `f[n]`, all checked.

    Classes out of range become 0 in padding; in a row that has weight they make all weights NaN. With
    `num_classes=None` only negative classes are out of range.
    """
    _check_rows(classes, groups=groups, weight=weight)
    check_groups(groups, num_groups)
    check_weight(weight)
    for name, array in classes.items():
        check_class_range(array, num_classes, name, weight)

    groups = jnp.asarray(groups).astype(jnp.int32)
    weight = jnp.ones(groups.shape, jnp.result_type(float)) if weight is None else as_frequencies(weight)
    clean, wrong = [], jnp.zeros((), bool)
    for array in classes.values():
        array = jnp.asarray(array).astype(jnp.int32)
        outside = array < 0 if num_classes is None else (array < 0) | (array >= num_classes)
        wrong |= jnp.any(outside & (weight > 0))
        clean.append(jnp.where(outside, 0, array))
    return clean, groups, jnp.where(wrong, jnp.nan, weight)


def _check_rows(classes: dict[str, Any], **others: Any) -> None:
    check_classes(**classes)
    check_vector(**classes, **others)
    check_same_length(**classes, **others)


def _classes_shown(classes: dict[str, Any], weight: Any) -> int:
    """One more than the highest concrete class that counts, at least 2."""
    counted = True if weight is None else np.asarray(weight) > 0
    return max(int(np.max(np.asarray(array), initial=1, where=counted)) for array in classes.values()) + 1


def one_group(labels: Any) -> Array:
    """Ids that put every row into group 0."""
    return jnp.zeros(np.shape(labels)[:1], jnp.int32)
