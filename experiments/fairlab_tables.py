"""Tables of the FairLAB paper from stored runs: measures by seed, fronts, matched differences, verdicts on cells."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import badrjax as bx
from badrjax import pareto, results
from badrjax.constraints import FairnessConstraints
from experiments import fairlab_data, fairlab_measures
from experiments.fairlab_data import SHORT, SOURCES
from experiments.fairlab_measures import Measures
from experiments.fairlab_methods import PARTS, Point
from experiments.fairlab_runs import Run

TITLES = {"vanilla": "Vanilla", "ffvae": "FFVAE", "expgrad": "ExpGrad", "cosmos": "COSMOS"}
PRINTED = {"FFVAE": "Adversarial"}
"""Names of methods in the paper's tables where they differ."""
CONSTANT = "constant"
REFERENCE_POINT, REFERENCE_FRONT = (1.0, 1.0), ((0.0, 0.0),)
"""Of hypervolume and IGD+, in 1 - F1 and the gap: the worst of both, and the best."""
NO_RUNS = "no such runs"
"""The note of a cell that was not run."""
_FEWEST_SEEDS, _SEEDS_OF_A_VERDICT = 10, 50


class Chosen(NamedTuple):
    """A model that a table has a row for.

    Attributes:
        run: that it came from.
        title: of the method, with FairLAB's budget.
        point: the model.
        constraints: of the run's setting.
        measures: by part.
    """

    run: Run
    title: str
    point: Point
    constraints: FairnessConstraints
    measures: dict[str, Measures]


def constraints_of(run: Run, dataset: bx.Dataset) -> FairnessConstraints:
    """The requirements of a run's setting."""
    trial = run.trial
    return fairlab_data.constraints_of(dataset, SOURCES[trial.dataset], trial.metric, trial.setting, trial.seed)


def rows_of(runs: Iterable[Run], datasets: Mapping[str, bx.Dataset]) -> list[Chosen]:
    """The rows of the tables: FairLAB at each budget, of others the point with the best score on validation rows.

    A constant predictor is a row of every setting.
    """
    found = []
    for run in runs:
        constraints = constraints_of(run, datasets[run.trial.dataset])
        if run.trial.method == "fairlab":
            picked = [(f"FairLAB ({point.name.removeprefix('beta=')})", point) for point in run.points]
        else:
            expected = [point for point in run.points if not point.name.endswith("one draw")]
            picked = [(TITLES[run.trial.method], fairlab_measures.choose(constraints, expected))]
        if run.trial.method == "vanilla":
            counts = {part: fairlab_measures.constant(run.points[0].counts[part]) for part in PARTS}
            picked.append((CONSTANT, Point(CONSTANT, counts, {"seconds": 0.0})))
        for title, point in picked:
            measures = {
                part: fairlab_measures.measure(constraints, point.counts[part], run.trial.seed) for part in PARTS
            }
            found.append(Chosen(run, title, point, constraints, measures))
    return found


def tidy(rows: Iterable[Chosen]) -> pd.DataFrame:
    """One value a row; `requirement` is empty for what is of the whole model."""
    found: list[dict[str, Any]] = []
    for row in rows:
        labels = {**row.run.trial._asdict(), "method": row.title, "point": row.point.name}
        for part, measures in row.measures.items():
            whole = {f"f1_{name}": value for name, value in measures.f1.items()} | {"positive": measures.positive}
            for name, value in whole.items():
                found.append({**labels, "part": part, "requirement": "", "value_of": name, "value": value})
            for number, requirement in enumerate(row.constraints.requirement_names):
                for name in ("gaps", "bounds", "floors"):
                    value = getattr(measures, name)[number]
                    found.append({**labels, "part": part, "requirement": requirement, "value_of": name, "value": value})
            for group, rate in zip(row.constraints.group_names, measures.rates, strict=True):
                found.append({**labels, "part": part, "requirement": group, "value_of": "positive_rate", "value": rate})
        for name, value in row.point.about.items():
            found.append({**labels, "part": "training", "requirement": "", "value_of": name, "value": value})
    return pd.DataFrame(found).assign(paper="fairlab")


def markdown(rows: Sequence[Chosen], part: str = "test") -> str:
    """A table a dataset and metric: F1, gaps beside floors and bounds, and how often thresholds are met."""
    parts = []
    for (dataset, metric, setting), mine in _grouped(rows):
        names = ["*".join(names) for names in fairlab_data.subsets(SOURCES[dataset], setting)]
        thresholds = np.asarray(mine[0].constraints.thresholds)
        num_seeds = len({row.run.trial.seed for row in mine})
        parts.append(f"### {dataset}, {SHORT[metric]}, {setting}: {part} rows, {num_seeds} seeds\n")
        head = ["method", "F1 weighted", "macro", "binary", "predicted 1"]
        body = []
        for title in dict.fromkeys(row.title for row in mine):
            seeds = [row.measures[part] for row in mine if row.title == title]
            cells = [_spread([m.f1[kind] for m in seeds]) for kind in ("weighted", "macro", "binary")]
            cells.append(f"{np.mean([m.positive for m in seeds]):.2f}")
            for number in range(len(names)):
                gap, floor, bound = (
                    np.nanmean([getattr(m, name)[number] for m in seeds]) for name in ("gaps", "floors", "bounds")
                )
                cells.append(f"{gap:.2f} ({floor:.2f}; {bound:.2f})")
            met = [np.sum(m.gaps <= thresholds) for m in seeds]
            held = [np.sum(m.bounds <= thresholds) for m in seeds]
            body.append([title, *cells, f"{np.mean(met):.1f}", f"{np.mean(held):.1f}"])
        gaps = [
            f"{name} ≤ {threshold:.2f}: gap (floor; bound)" for name, threshold in zip(names, thresholds, strict=True)
        ]
        parts.append(results.markdown_table([*head, *gaps, "met", "met by bound"], body))
    return "\n".join(parts)


def fronts_markdown(runs: Sequence[Run], datasets: Mapping[str, bx.Dataset]) -> str:
    """FairLAB's front over its budgets against each competitor's over its settings, paired by seed.

    The constant predictor is on every front: it is there for everyone, and a method is not better for finding it. More
    points make a larger hypervolume, so a competitor that has more settings than FairLAB has budgets gets a second row,
    with as many: the best by hypervolume on validation rows.
    """
    body = []
    for (dataset, metric, setting), mine in _grouped(runs):
        points = {
            method: _front_points(mine, method, datasets[dataset], with_constant=True)
            for method in ("fairlab", *TITLES)
        }
        fewest = min((len(validation) for validation, _ in points["fairlab"].values()), default=0)
        for method in TITLES:
            if any(len(validation) > fewest for validation, _ in points[method].values()) and fewest > 1:
                points[f"{method}, fewer"] = {s: _fewer(both, fewest - 1) for s, both in points[method].items()}
        for method, others in points.items():
            seeds = sorted(set(points["fairlab"]) & set(others))
            if len(seeds) < 2 or method == "fairlab":
                continue
            name, few, _ = method.partition(", fewer")
            title = TITLES[name] + (f", {fewest - 1} points" if few else "")
            first, second = (_stacked(chosen, seeds) for chosen in (points["fairlab"], others))
            found = results.compare_fronts(
                first, second, reference_point=REFERENCE_POINT, reference_front=REFERENCE_FRONT
            )
            body.append([
                dataset, SHORT[metric], setting, title, str(len(seeds)),
                f"{found.first_hypervolume.mean():.3f}", f"{found.second_hypervolume.mean():.3f}",
                _interval(found.hypervolume_gain), _interval(found.igd_plus_gain),
            ])  # fmt: skip
    head = ["dataset", "metric", "setting", "against", "seeds", "hypervolume of FairLAB", "of the other",
            "gain in hypervolume", "gain in IGD+"]  # fmt: skip
    return results.markdown_table(head, body)


def matched_markdown(runs: Sequence[Run], datasets: Mapping[str, bx.Dataset]) -> str:
    """At FairLAB's F1 on validation rows, less at most 0.005, each competitor's fairest point there; on test rows."""
    body = []
    for (dataset, metric, setting), mine in _grouped(runs):
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


def targets(table: int) -> list[dict[str, Any]]:
    """The rows of a table of the paper."""
    text = resources.files("experiments").joinpath(f"targets/fairlab_table{table}.json").read_text("utf-8")
    return json.loads(text)["rows"]


def entries(rows: Sequence[Chosen], table: int, datasets: Sequence[str], metrics: Sequence[str]) -> list[results.Entry]:
    """The printed cells of a table beside ours, F1 (weighted) and gaps, of the datasets and metrics asked for."""
    asked = {(SOURCES[name].paper, SHORT[metric]) for name in datasets for metric in metrics}
    found = []
    for printed in targets(table):
        if (printed["dataset"], printed["constraint"]) not in asked:
            continue
        for attribute, label, value in printed_values(printed):
            name = next(name for name in datasets if SOURCES[name].paper == printed["dataset"])
            found.append(_entry(rows, name, printed, attribute, label, value))
    return found


def printed_values(printed: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Attributes, name and number of each cell of a printed row."""
    if "attribute" in printed:
        yield printed["attribute"], "F1", printed["F1"]
        yield printed["attribute"], printed["constraint"], printed["fairness"]
        return
    yield "mixed", "F1", printed["F1"]
    for name, value in printed.items():
        if isinstance(value, float) and name != "F1":
            yield name, printed["constraint"], value


def _entry(
    rows: Sequence[Chosen], source_name: str, printed: Mapping[str, Any], attribute: str, label: str, value: float
) -> results.Entry:
    source = SOURCES[source_name]
    labels = {"dataset": printed["dataset"], "constraint": printed["constraint"], "attributes": attribute,
              "method": printed["method"], "metric": label}  # fmt: skip
    setting = "mixed" if "attribute" not in printed else attribute
    mine = [
        row
        for row in rows
        if row.run.trial.dataset == source_name
        and SHORT[row.run.trial.metric] == printed["constraint"]
        and row.run.trial.setting == setting
        and PRINTED.get(row.title, row.title) == our_title(printed["method"])
    ]
    if not mine:
        return entry_of(labels, value, label, np.zeros(0), np.zeros(0), source)
    values, floors = zip(*(_value(row, source, attribute, label) for row in mine), strict=True)
    return entry_of(labels, value, label, np.asarray(values), np.asarray(floors), source)


def entry_of(
    labels: Mapping[str, str],
    printed: float,
    label: str,
    values: np.ndarray,
    floors: np.ndarray,
    source: fairlab_data.Source,
) -> results.Entry:
    """A printed cell beside one value a seed of ours, `f[S]`; no target on other rows, or of too few seeds.

    Args:
        labels: of the cell.
        printed: the paper's number.
        label: `"F1"`, or the metric of a gap.
        values: ours; empty where it was not run.
        floors: what gaps come to at exact parity, `f[S]`.
        source: of the dataset.
    """
    number = results.Printed(printed, 2)
    kind: Literal["performance", "gap"] = "performance" if label == "F1" else "gap"
    entry = results.Entry(labels, number, results.tolerance(kind))
    if not values.size:
        return entry._replace(note=NO_RUNS)
    note = f"ours: {np.mean(values):.3f} of {len(values)} seeds"
    if not source.same_rows:
        return entry._replace(note=f"other rows than the paper's; {note}")
    if len(values) < _FEWEST_SEEDS:
        return entry._replace(note=f"too few seeds; {note}")
    few = f"{len(values)} seeds only" if len(values) < _SEEDS_OF_A_VERDICT else ""
    floor = None if label == "F1" else float(np.mean(floors))
    cell = results.compare_cell(values, number, seed=0, min_seeds=_FEWEST_SEEDS)
    return entry._replace(cell=cell, floor=floor, note=few)


def our_title(method: str) -> str:
    """Budgets as ours are written."""
    return f"FairLAB ({float(method[9:-1]):g})" if method.startswith("FairLAB (") else method


def _value(row: Chosen, source: fairlab_data.Source, attribute: str, label: str) -> tuple[float, float]:
    """Our number for a cell and its noise floor, on the test rows."""
    measures = row.measures["test"]
    if label == "F1":
        return measures.f1["weighted"], 0.0
    names = ["*".join(names) for names in fairlab_data.subsets(source, row.run.trial.setting)]
    number = names.index(attribute)
    return float(measures.gaps[number]), float(measures.floors[number])


def _grouped(rows: Sequence[Any]) -> list[tuple[tuple[str, str, str], list[Any]]]:
    """Rows or runs by dataset, metric and setting, in their order."""
    found: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows:
        trial = (row.run if isinstance(row, Chosen) else row).trial
        found.setdefault((trial.dataset, trial.metric, trial.setting), []).append(row)
    return list(found.items())


def _front_points(
    runs: Sequence[Run], method: str, dataset: bx.Dataset, *, with_constant: bool = False
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Costs of a method's points on validation and on test rows, `f[m, 2]` each, by seed."""
    found = {}
    for run in runs:
        if run.trial.method != method:
            continue
        constraints = constraints_of(run, dataset)
        points = [point for point in run.points if not point.name.endswith("one draw")]
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


def _spread(values: Sequence[float]) -> str:
    interval = results.mean_interval(np.asarray(values))
    return f"{interval.mean:.3f}" + (f" ± {interval.half_width:.3f}" if len(values) > 1 else "")


def _interval(interval: Any) -> str:
    return f"{interval.mean:+.3f} ± {interval.half_width:.3f}"
