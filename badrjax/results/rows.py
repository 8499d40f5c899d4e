"""Metrics of many seeds on shared test rows, and their bootstrap over the rows that are distinct."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from badrjax.checks import check_positive_integer
from badrjax.uncertainty import Bootstrap, bootstrap

# metric(outputs[rows], weight[rows]) -> scalar
Metric = Callable[[Array, Array], Any]

_BLOCK_ENTRIES = 2**22


def metric_by_seed(metric: Metric, outputs: Shaped[Array, "S n"], weight: Float[Array, "n"]) -> Float[Array, "S"]:
    """A metric of each seed's outputs at the same weights, `f[S]`."""
    return jax.vmap(lambda one: jnp.asarray(metric(one, weight)), in_axes=0)(outputs)


def resample_rows(
    key: Array,
    statistic: Callable[[Float[Array, "n"]], Any],
    weight: Float[Array, "n"],
    clusters: Int[Array, "n"],
    num_clusters: int,
    *,
    strata: Int[Array, "n"] | None = None,
    num_seeds: int = 1,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> Bootstrap:
    """`badrjax.bootstrap` over distinct rows, a repeated one drawn with all its copies, in blocks that fit memory."""
    return bootstrap(
        key,
        statistic,
        weight,
        num_samples=num_resamples,
        confidence=confidence,
        strata=strata,
        clusters=clusters,
        num_clusters=num_clusters,
        batch_size=max(_BLOCK_ENTRIES // max(weight.shape[0] * num_seeds, 1), 1),
    )


def checked_rows(
    num_rows: int, rows: Any, weight: Any, strata: Any, num_resamples: int
) -> tuple[np.ndarray, int, Array, np.ndarray | None]:
    """Clusters `int[n]` and their number, weights `f[n]`, and strata: copies of a row are one cluster.

    Raises:
        ValueError: for arrays without one entry a test row, or no resamples.
    """
    check_positive_integer(num_resamples=num_resamples)
    for name, array in (("rows", rows), ("weight", weight), ("strata", strata)):
        if array is not None and np.shape(array) != (num_rows,):
            raise ValueError(f"{name} must have one entry for each of {num_rows} rows, got shape {np.shape(array)}")
    distinct, clusters = np.unique(np.arange(num_rows) if rows is None else np.asarray(rows), return_inverse=True)
    weight = jnp.ones(num_rows) if weight is None else jnp.asarray(weight, float)
    return clusters, distinct.size, weight, None if strata is None else np.asarray(strata)


def checked_outputs(**outputs: Any) -> list[np.ndarray]:
    """Outputs `[S, n]`, as many of each.

    Raises:
        ValueError: unless all have the same two axes and something in them.
    """
    arrays = {name: np.asarray(array) for name, array in outputs.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or any(array.ndim != 2 or array.size == 0 for array in arrays.values()):
        listing = ", ".join(f"{name} has {array.shape}" for name, array in arrays.items())
        raise ValueError(f"outputs must be [seeds, rows], one row of outputs a seed, but {listing}")
    return list(arrays.values())


def finite_seeds(outputs: np.ndarray) -> np.ndarray:
    """Which seeds have nothing but finite outputs, `bool[S]`."""
    return np.isfinite(outputs.astype(float)).all(axis=1)
