"""Tables of the FairLAB paper from stored runs: measures by seed, fronts, matched differences, verdicts on cells."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

import badrjax as bx
from badrjax import results
from badrjax.constraints import FairnessConstraints
from experiments import fairlab_data, fairlab_measures
from experiments.fairlab_data import SHORT, SOURCES
from experiments.fairlab_measures import Measures
from experiments.fairlab_methods import PARTS, Point
from experiments.fairlab_runs import Run

TITLES = {
    "vanilla": "Vanilla", "ffvae": "FFVAE", "expgrad": "ExpGrad", "cosmos": "COSMOS", "cosmos_tuned": "COSMOS, tuned",
}  # fmt: skip
PRINTED = {"FFVAE": "Adversarial"}
"""Names of methods in the paper's tables where they differ."""
CONSTANT, ONE_DRAW = "constant", "one draw"
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
    where = trial.metric, trial.setting, trial.seed
    return fairlab_data.constraints_of(dataset, SOURCES[trial.dataset], *where, run.minimum_count)


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
            expected = [point for point in run.points if not point.name.endswith(ONE_DRAW)]
            chosen = fairlab_measures.choose(constraints, expected)
            picked = [(TITLES[run.trial.method], chosen)]
            # What a randomised classifier does in expectation, and what one draw of its decisions does.
            draws = [point for point in run.points if point.name == f"{chosen.name}, {ONE_DRAW}"]
            picked += [(f"{TITLES[run.trial.method]}, {ONE_DRAW}", point) for point in draws]
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
    """A table a setting: F1, gaps beside floors and bounds, how often thresholds are met, and seconds of training."""
    parts = []
    for (dataset, metric, setting), mine in grouped(rows):
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
            seconds = np.mean([row.point.about["seconds"] for row in mine if row.title == title])
            body.append([title, *cells, f"{np.mean(met):.1f}", f"{np.mean(held):.1f}", f"{seconds:.0f}"])
        gaps = [
            f"{name} ≤ {threshold:.2f}: gap (floor; bound)" for name, threshold in zip(names, thresholds, strict=True)
        ]
        parts.append(results.markdown_table([*head, *gaps, "met", "met by bound", "seconds"], body))
    return "\n".join(parts)


def rates_markdown(rows: Sequence[Chosen], part: str = "test") -> str:
    """A table a setting: the share of each group that is predicted 1, by method, means over seeds."""
    parts = []
    for (dataset, metric, setting), mine in grouped(rows):
        titles = list(dict.fromkeys(row.title for row in mine))
        # Which groups have the training rows may differ from split to split.
        rates: dict[str, dict[str, list[float]]] = {}
        for row in mine:
            for group, rate in zip(row.constraints.group_names, row.measures[part].rates, strict=True):
                rates.setdefault(group, {}).setdefault(row.title, []).append(rate)
        body = [[group, *(_mean_rate(found.get(title, [])) for title in titles)] for group, found in rates.items()]
        parts.append(f"### {dataset}, {SHORT[metric]}, {setting}: share predicted 1, {part} rows\n")
        parts.append(results.markdown_table(["group", *titles], body))
    return "\n".join(parts)


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
            name = source_of(printed["dataset"], datasets, {row.run.trial.dataset for row in rows})
            found.append(_entry(rows, name, printed, attribute, label, value))
    return found


def source_of(paper: str, datasets: Iterable[str], run: Container[str]) -> str:
    """The dataset that stands for one of the paper's: the first that was run, or the first."""
    names = [name for name in datasets if SOURCES[name].paper == paper]
    return next((name for name in names if name in run), names[0])


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
        return entry._replace(note=f"other rows than the paper's, {source.rows}; {note}")
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


def grouped(rows: Sequence[Any]) -> list[tuple[tuple[str, str, str], list[Any]]]:
    """Rows or runs by dataset, metric and setting, in their order."""
    found: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows:
        trial = (row.run if isinstance(row, Chosen) else row).trial
        found.setdefault((trial.dataset, trial.metric, trial.setting), []).append(row)
    return list(found.items())


def _mean_rate(values: Sequence[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    return f"{np.mean(known):.2f}" if known else ""


def _spread(values: Sequence[float]) -> str:
    interval = results.mean_interval(np.asarray(values))
    return f"{interval.mean:.3f}" + (f" ± {interval.half_width:.3f}" if len(values) > 1 else "")
