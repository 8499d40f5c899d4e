"""Trade-offs of two methods, paired by seed: points picked on validation rows and scored on test rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from badrjax import pareto
from badrjax.results.recording import Interval, mean_interval


class FrontComparison(NamedTuple):
    """Two methods' fronts, one value a seed.

    Attributes:
        first_hypervolume: `f[S]`, higher is better.
        second_hypervolume: `f[S]`.
        first_igd_plus: `f[S]`, lower is better.
        second_igd_plus: `f[S]`.
        hypervolume_gain: the first's minus the second's, paired: positive where the first is better. The interval is
            of one split for all seeds; where each has its own, give the differences to `compare_over_splits`.
        igd_plus_gain: the second's minus the first's, paired: positive where the first is better; likewise.
    """

    first_hypervolume: np.ndarray
    second_hypervolume: np.ndarray
    first_igd_plus: np.ndarray
    second_igd_plus: np.ndarray
    hypervolume_gain: Interval
    igd_plus_gain: Interval


def score_picked(validation: Any, test: Any, pick: Callable[[np.ndarray], int | None]) -> tuple[int | None, np.ndarray]:
    """The point that is picked by its validation figures, with its test figures.

    Args:
        validation: `f[n, m]`, one row a setting, one column an objective.
        test: the same settings on the test rows, `f[n, m]`.
        pick: function of the validation figures to the row it wants, or `None` for none of them.

    Returns:
        The row, and its test figures `f[m]`, NaN where none was picked.

    Raises:
        ValueError: for shapes that differ or are not `[n, m]`.
    """
    validation, test = np.asarray(validation, float), np.asarray(test, float)
    if validation.ndim != 2 or validation.shape != test.shape:
        raise ValueError(f"validation and test must both be [n, m], got shapes {validation.shape} and {test.shape}")
    row = pick(validation)
    return row, np.full(test.shape[1], np.nan) if row is None else test[row]


def compare_fronts(
    first: tuple[Any, Any], second: tuple[Any, Any], *, reference_point: Any, reference_front: Any
) -> FrontComparison:
    """Hypervolume and IGD+ of two methods' fronts, seed by seed.

    Which settings are on a method's front is decided on validation rows, and these are scored on test rows, where
    some may turn out dominated. The reference point and front must be fixed before the runs are looked at.

    Args:
        first: validation and test figures of the first method, each `f[S, n, m]`, all to be minimised.
        second: those of the second, for the same seeds; its number of settings may differ.
        reference_point: `f[m]`, worse than every solution of interest, with `m` 2 or 3.
        reference_front: `f[r, m]`.

    Returns:
        `FrontComparison`. A setting with NaN takes no part; a seed without any has hypervolume 0 and an infinite
        IGD+, and its pair counts as diverged in `igd_plus_gain`.

    Raises:
        ValueError: for arrays that are not `[S, n, m]`, methods with different seeds, or what `badrjax.pareto`
            refuses.
    """
    scores = [_scores(name, pair, reference_point, reference_front) for name, pair in (("first", first),
                                                                                      ("second", second))]  # fmt: skip
    (first_volume, first_distance), (second_volume, second_distance) = scores
    if first_volume.shape != second_volume.shape:
        raise ValueError(f"pairs need the same seeds, got {first_volume.size} and {second_volume.size}")
    with np.errstate(invalid="ignore"):
        shortfall = second_distance - first_distance
    return FrontComparison(
        first_volume,
        second_volume,
        first_distance,
        second_distance,
        mean_interval(first_volume - second_volume),
        mean_interval(shortfall),
    )


def _scores(
    name: str, pair: tuple[Any, Any], reference_point: Any, reference_front: Any
) -> tuple[np.ndarray, np.ndarray]:
    validation, test = (jnp.asarray(array, float) for array in pair)
    if validation.ndim != 3 or validation.shape != test.shape:
        raise ValueError(f"{name} must be a pair of [S, n, m], got shapes {validation.shape} and {test.shape}")
    point, ideal = jnp.asarray(reference_point, float), jnp.asarray(reference_front, float)

    def of_seed(validation: jax.Array, test: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = pareto.front(validation)
        return pareto.hypervolume(test, point, chosen), pareto.igd_plus(test, ideal, chosen)

    volume, distance = jax.vmap(of_seed)(validation, test)
    return np.asarray(volume, float), np.asarray(distance, float)
