"""Fronts of the FairLAB paper's methods from stored runs, and their differences at the same F1."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import badrjax as bx
from badrjax import pareto, results
from badrjax.results import contrasts
from experiments import fairlab_measures
from experiments.fairlab_data import FRACTIONS, SHORT
from experiments.fairlab_methods import PARTS, Point
from experiments.fairlab_runs import Run
from experiments.fairlab_tables import CONSTANT, ONE_DRAW, TITLES, constraints_of, grouped

REFERENCE_POINT, REFERENCE_FRONT = (1.0, 1.0), ((0.0, 0.0),)
"""Of hypervolume and IGD+, in 1 - F1 and the gap: the worst of both, and what no classifier is better than."""
AREA = 0.02
"""Differences in hypervolume and IGD+ that do not matter."""
GAINS = ("hypervolume_of_fairlab", "hypervolume_gain", "igd_plus_gain")
"""Values of a comparison of fronts, one a seed."""
USEFUL_F1, USEFUL_GAIN = 0.55, "useful_hypervolume_gain"
"""A gain in the hypervolume above this F1: models of little use do not count in it. No claim is about it."""
USEFUL_POINT = (1.0 - USEFUL_F1, 1.0)
_FEW = 3
_LABELS = ("dataset", "metric", "setting", "against", "FairLAB with")


class _Costs(NamedTuple):
    """Costs of a method's points and, last, of the constant, `f[m, 2]` each."""

    validation: np.ndarray
    test: np.ndarray


_Pair: TypeAlias = tuple[Sequence[_Costs], Sequence[_Costs]]
"""FairLAB's and the other's points, one a seed."""


def differences(runs: Sequence[Run], datasets: Mapping[str, bx.Dataset]) -> pd.DataFrame:
    """FairLAB beside each competitor on test rows, a value a seed.

    Of fronts these are `GAINS` and `USEFUL_GAIN`, at its F1 `f1_gain` and `gap_gain`.

    The constant predictor is on every front: it is there for everyone, and a method is not better for finding it. More
    points make a larger hypervolume, so where one has more than the other, or both more than three, they are
    compared a second time with as many each: those that are best by hypervolume on validation rows. A method with one
    point has no such row.
    """
    found: list[dict[str, Any]] = []
    for where, mine in grouped(runs):
        labels = dict(zip(("dataset", "metric", "setting"), where, strict=True))
        points = {name: _points(mine, name, datasets[where[0]]) for name in ("fairlab", *TITLES)}
        budgets = [point.name for run in mine if run.trial.method == "fairlab" for point in run.points]
        for method, title in TITLES.items():
            seeds = sorted(set(points["fairlab"]) & set(points[method]))
            ours, theirs = ([points[name][seed] for seed in seeds] for name in ("fairlab", method))
            if not seeds:
                continue
            for point, values in (*_fronts(ours, theirs), *_at_its_f1(ours, theirs, list(dict.fromkeys(budgets)))):
                found += [
                    {**labels, "method": title, "seed": seed, "point": point, "value_of": name, "value": float(value)}
                    for name, column in values.items()
                    for seed, value in zip(seeds, column, strict=True)
                ]
    columns = ["dataset", "metric", "setting", "method", "seed", "point", "value_of", "value"]
    return pd.DataFrame(found, columns=columns).assign(part="test", requirement="")


def fronts_markdown(frame: pd.DataFrame) -> str:
    """Hypervolume and IGD+ of the fronts in `differences`."""
    body = []
    for labels, wide in _wide(frame, "hypervolume_gain"):
        theirs = wide["hypervolume_of_fairlab"] - wide["hypervolume_gain"]
        body.append([
            *labels, str(len(wide)), f"{wide['hypervolume_of_fairlab'].mean():.3f}", f"{theirs.mean():.3f}",
            *(_spread(wide[name]) for name in (*GAINS[1:], USEFUL_GAIN)),
        ])  # fmt: skip
    gains = ("gain in hypervolume", "gain in IGD+", f"gain in hypervolume, F1 above {USEFUL_F1}")
    head = [*_LABELS, "seeds", "hypervolume of FairLAB", "of the other", *gains]
    return results.markdown_table(head, body)


def matched_markdown(frame: pd.DataFrame) -> str:
    """At FairLAB's F1 on validation rows, less at most 0.005, each competitor's fairest point there; on test rows.

    Where a competitor has no such point it is the one with the best F1, so that its F1 is the lower one.
    """
    body = [
        [*labels, str(len(wide)), _spread(wide["f1_gain"]), _spread(wide["gap_gain"])]
        for labels, wide in _wide(frame, "gap_gain")
    ]
    return results.markdown_table([*_LABELS, "seeds", "F1, ours minus theirs", "gap, theirs minus ours"], body)


def claims(frame: pd.DataFrame) -> pd.DataFrame | None:
    """That FairLAB's front is the larger and the nearer one, judged over splits together; `None` of fewer than two."""
    found = [
        ({**dict(zip(_LABELS, labels, strict=True)), "by": name.removesuffix("_gain")}, _over_splits(wide[name]))
        for labels, wide in _wide(frame, "hypervolume_gain")
        for name in GAINS[1:]
    ]
    return results.claim_table(found) if found else None


def why_none(frame: pd.DataFrame) -> str:
    """Why there is no claim, of a table's stored values or of `differences`."""
    gains = frame[frame["value_of"] == GAINS[1]]
    if len(gains):
        return "on one seed only, and a claim needs two"
    return "FairLAB and another method were not run together, or by a version that did not compare their fronts"


def claims_markdown(table: pd.DataFrame) -> str:
    """Verdicts on the claims, as Markdown."""
    body = [
        [*(one[name] for name in (*_LABELS, "by")), f"{one['estimate']:+.3f}",
         f"[{one['low']:+.3f}, {one['high']:+.3f}]", f"{one['p_holm']:.2g}", one["verdict"]]
        for one in table.to_dict("records")
    ]  # fmt: skip
    return results.markdown_table([*_LABELS, "by", "gain", "adjusted interval", "p (Holm)", "verdict"], body)


def _fronts(ours: Sequence[_Costs], theirs: Sequence[_Costs]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """All points, and where their numbers differ as many each."""
    yield "all points", _compared((ours, theirs), (ours, theirs))
    sizes = [len(one.validation) - 1 for one in (*ours, *theirs)]
    number = min(_FEW, *sizes)
    if 1 < number < max(sizes):
        few, useful = (
            tuple([_fewer(one, number, point) for one in side] for side in (ours, theirs))
            for point in (REFERENCE_POINT, USEFUL_POINT)
        )
        yield f"{number} points each", _compared(few, useful)


def _compared(points: _Pair, useful: _Pair) -> dict[str, np.ndarray]:
    """The values of a comparison: of points, and above an F1 of those that are picked for it."""
    whole, above = _beside(*points, REFERENCE_POINT), _beside(*useful, USEFUL_POINT)
    larger, more = (found.first_hypervolume - found.second_hypervolume for found in (whole, above))
    nearer = whole.second_igd_plus - whole.first_igd_plus
    return dict(zip((*GAINS, USEFUL_GAIN), (whole.first_hypervolume, larger, nearer, more), strict=True))


def _beside(ours: Sequence[_Costs], theirs: Sequence[_Costs], point: tuple[float, float]) -> results.FrontComparison:
    first, second = (tuple(np.stack(part) for part in zip(*side, strict=True)) for side in (ours, theirs))
    return results.compare_fronts(first, second, reference_point=point, reference_front=REFERENCE_FRONT)


def _at_its_f1(
    ours: Sequence[_Costs], theirs: Sequence[_Costs], budgets: Sequence[str]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """At each budget, the differences in F1 and in the gap, positive where FairLAB is better."""
    for number, budget in enumerate(budgets):
        pairs = [_matched(mine, number, other) for mine, other in zip(ours, theirs, strict=True)]
        yield budget, dict(zip(("f1_gain", "gap_gain"), np.array(pairs).T, strict=True))


def _matched(ours: _Costs, number: int, theirs: _Costs) -> tuple[float, float]:
    near = theirs.validation[:-1, 0] <= ours.validation[number, 0] + 0.005
    order = np.where(near, theirs.validation[:-1, 1], np.inf) if near.any() else theirs.validation[:-1, 0]
    chosen = int(np.argmin(np.nan_to_num(order, nan=np.inf)))  # what cannot be told is not chosen
    return tuple(theirs.test[chosen] - ours.test[number])


def _points(runs: Sequence[Run], method: str, dataset: bx.Dataset) -> dict[int, _Costs]:
    """Costs of a method's points by seed."""
    found = {}
    for run in (run for run in runs if run.trial.method == method):
        constraints = constraints_of(run, dataset)
        points = [point for point in run.points if not point.name.endswith(ONE_DRAW)]
        counts = {part: fairlab_measures.constant(points[0].counts[part]) for part in PARTS}
        points.append(Point(CONSTANT, counts, {}))
        found[run.trial.seed] = _Costs(*(
            np.array([fairlab_measures.trade_off(constraints, point.counts[part]) for point in points])
            for part in ("validation", "test")
        ))  # fmt: skip
    return found


def _fewer(costs: _Costs, number: int, point: tuple[float, float]) -> _Costs:
    """Some points and the last, the constant: those with the largest hypervolume on validation rows."""
    last = len(costs.validation) - 1
    subsets = np.array([(*chosen, last) for chosen in itertools.combinations(range(last), number)])
    volumes = _hypervolumes(jnp.asarray(costs.validation)[subsets], jnp.asarray(point))
    kept = subsets[int(np.argmax(volumes))]
    return _Costs(costs.validation[kept], costs.test[kept])


_hypervolumes = jax.jit(jax.vmap(pareto.hypervolume, (0, None)))


def _wide(frame: pd.DataFrame, name: str) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Comparisons that have this value, of two seeds or more: labels, and a column a value and a row a seed."""
    having = ["dataset", "metric", "setting", "method", "point"]
    for labels, mine in frame.groupby(having, sort=False):
        wide = mine.pivot(index="seed", columns="value_of", values="value")
        if name in wide and len(wide) > 1:
            yield [labels[0], SHORT[labels[1]], *labels[2:]], wide


def _over_splits(values: pd.Series) -> results.Claim:
    """Every seed has a split of its own, so that training rows of two seeds overlap."""
    train = round(FRACTIONS[0] / FRACTIONS[2])  # the correction takes their ratio
    return results.compare_over_splits(values.to_numpy(float), num_train=train, num_test=1, tolerance=AREA)


def _spread(values: pd.Series) -> str:
    low, high = contrasts.interval(_over_splits(values).wide)
    return f"{values.mean():+.3f} ± {(high - low) / 2:.3f}"
