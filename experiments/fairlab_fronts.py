"""Fronts of the FairLAB paper's methods from stored runs, and their differences at the same F1."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import badrjax as bx
from badrjax import pareto, results
from experiments import fairlab_measures
from experiments.fairlab_data import SHORT
from experiments.fairlab_methods import PARTS, Point
from experiments.fairlab_runs import Run
from experiments.fairlab_tables import CONSTANT, ONE_DRAW, TITLES, constraints_of, grouped

REFERENCE_POINT, REFERENCE_FRONT = (1.0, 1.0), ((0.0, 0.0),)
"""Of hypervolume and IGD+, in 1 - F1 and the gap: the worst of both, and the best."""
_FEW = 3


def fronts_markdown(runs: Sequence[Run], datasets: Mapping[str, bx.Dataset]) -> str:
    """FairLAB's front over its budgets against each competitor's over its settings, paired by seed.

    The constant predictor is on every front: it is there for everyone, and a method is not better for finding it. More
    points make a larger hypervolume, so where either has more than three (or than FairLAB has budgets), a second row
    has as many of each: those that are best by hypervolume on validation rows.
    """
    body = []
    for where, mine in grouped(runs):
        ours = _front_points(mine, "fairlab", datasets[where[0]], with_constant=True)
        number = min([_FEW, *(len(validation) - 1 for validation, _ in ours.values())])
        for method, title in TITLES.items():
            theirs = _front_points(mine, method, datasets[where[0]], with_constant=True)
            seeds = sorted(set(ours) & set(theirs))
            if len(seeds) < 2:
                continue
            body.append(_compared(where, title, ours, theirs, seeds))
            if any(len(side[seed][0]) - 1 > number for side in (ours, theirs) for seed in seeds):
                few = [{seed: _fewer(side[seed], number) for seed in seeds} for side in (ours, theirs)]
                body.append(_compared(where, f"{title}, {number} points each", *few, seeds))
    head = ["dataset", "metric", "setting", "against", "seeds", "hypervolume of FairLAB", "of the other",
            "gain in hypervolume", "gain in IGD+"]  # fmt: skip
    return results.markdown_table(head, body)


def _compared(where: tuple[str, str, str], title: str, ours: Any, theirs: Any, seeds: Sequence[int]) -> list[str]:
    """A row of the table."""
    dataset, metric, setting = where
    found = results.compare_fronts(
        _stacked(ours, seeds), _stacked(theirs, seeds), reference_point=REFERENCE_POINT, reference_front=REFERENCE_FRONT
    )
    return [
        dataset, SHORT[metric], setting, title, str(len(seeds)),
        f"{found.first_hypervolume.mean():.3f}", f"{found.second_hypervolume.mean():.3f}",
        _interval(found.hypervolume_gain), _interval(found.igd_plus_gain),
    ]  # fmt: skip


def matched_markdown(runs: Sequence[Run], datasets: Mapping[str, bx.Dataset]) -> str:
    """At FairLAB's F1 on validation rows, less at most 0.005, each competitor's fairest point there; on test rows."""
    body = []
    for (dataset, metric, setting), mine in grouped(runs):
        costs = {method: _front_points(mine, method, datasets[dataset]) for method in ("fairlab", *TITLES)}
        for number in range(min((len(v) for v, _ in costs["fairlab"].values()), default=0)):
            for method, title in TITLES.items():
                seeds = sorted(set(costs["fairlab"]) & set(costs[method]))
                if len(seeds) < 2:
                    continue
                differences = np.array([_matched(costs["fairlab"][s], number, costs[method][s]) for s in seeds])
                budget = next(run for run in mine if run.trial.method == "fairlab").points[number].name
                less_f1, less_gap = (results.mean_interval(column) for column in differences.T)
                body.append([dataset, SHORT[metric], setting, f"FairLAB ({budget.removeprefix('beta=')})", title,
                             _interval(less_f1), _interval(less_gap)])  # fmt: skip
    head = ["dataset", "metric", "setting", "FairLAB", "against", "F1, ours minus theirs", "gap, theirs minus ours"]
    return results.markdown_table(head, body)


def _matched(ours: tuple[Any, Any], number: int, theirs: tuple[Any, Any]) -> tuple[float, float]:
    """Differences in F1 and in the gap on test rows, positive where FairLAB is better."""
    (validation, test), (other_validation, other_test) = ours, theirs
    near = other_validation[:, 0] <= validation[number, 0] + 0.005
    order = np.where(near, other_validation[:, 1], np.inf) if near.any() else other_validation[:, 0]
    chosen = int(np.argmin(order))
    return other_test[chosen, 0] - test[number, 0], other_test[chosen, 1] - test[number, 1]


def _front_points(
    runs: Sequence[Run], method: str, dataset: bx.Dataset, *, with_constant: bool = False
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Costs of a method's points on validation and on test rows, `f[m, 2]` each, by seed."""
    found = {}
    for run in runs:
        if run.trial.method != method:
            continue
        constraints = constraints_of(run, dataset)
        points = [point for point in run.points if not point.name.endswith(ONE_DRAW)]
        if with_constant:
            counts = {part: fairlab_measures.constant(points[0].counts[part]) for part in PARTS}
            points.append(Point(CONSTANT, counts, {}))
        found[run.trial.seed] = tuple(
            np.array([fairlab_measures.trade_off(constraints, point.counts[part]) for point in points])
            for part in ("validation", "test")
        )
    return found  # type: ignore[return-value]


def _fewer(both: tuple[np.ndarray, np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Some points and the last, the constant: those with the largest hypervolume on validation rows."""
    validation, test = both
    last = len(validation) - 1
    subsets = np.array([(*chosen, last) for chosen in itertools.combinations(range(last), min(number, last))])
    volumes = _hypervolumes(jnp.asarray(validation)[subsets], jnp.asarray(REFERENCE_POINT))
    kept = subsets[int(np.argmax(volumes))]
    return validation[kept], test[kept]


_hypervolumes = jax.jit(jax.vmap(pareto.hypervolume, (0, None)))


def _stacked(points: Mapping[int, tuple[np.ndarray, np.ndarray]], seeds: Sequence[int]) -> tuple[Any, Any]:
    return tuple(np.stack([points[seed][part] for seed in seeds]) for part in range(2))  # type: ignore[return-value]


def _interval(interval: Any) -> str:
    return f"{interval.mean:+.3f} ± {interval.half_width:.3f}"
