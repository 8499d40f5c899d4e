"""Tables 1 and 4 of the Nash-Meta-Learning paper beside our runs: a verdict a cell, and one a claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

import badrjax as bx
from badrjax import metrics, results
from experiments import nash, nash_runs
from experiments.nash_protocol import Protocol

METRICS = ("overall", "gap", "worst")
"""The three metrics of the tables: Overall AUC, Max-gAUCD and Worst-gAUC."""
TITLES = {
    "labels": {"overall": "balanced accuracy", "gap": "its largest gap", "worst": "that of the worst group"},
    "scores": {"overall": "AUC", "gap": "its largest gap", "worst": "that of the worst group"},
}
"""What they are called, by what the AUC is taken of: of predicted labels it is the balanced accuracy."""

NUM_SEEDS_OF_PAPER = 5
_RESAMPLED_ROWS = 1000
# Twice the paper's, below which nothing can be said; and what a verdict should rest on.
_FEWEST_SEEDS, _SEEDS_OF_A_VERDICT = 2 * NUM_SEEDS_OF_PAPER, 50


class Runs(NamedTuple):
    """The runs of one setting.

    Attributes:
        name: of the setting.
        frame: a row a trial, see `experiments.nash_runs.trial`.
        dataset: what they were trained on.
        splits: and how it was split.
    """

    name: str
    frame: pd.DataFrame
    dataset: bx.Dataset
    splits: bx.Splits


def entries(runs: Runs, protocol: Protocol) -> list[results.Entry]:
    """The 24 cells of a setting, eight methods by three metrics."""
    paper = nash.paper_cells(runs.name)
    return [_entry(runs, protocol, method, metric, paper) for metric in METRICS for method in nash.METHODS]


def values(runs: Runs, protocol: Protocol, method: str) -> dict[str, np.ndarray]:
    """Each metric of a method as `f[N, E]`, by the AUC that the protocol means, and its scores for the epoch."""
    mine = runs.frame[runs.frame.method == method].sort_values("seed")
    found = {name.removeprefix("test."): np.stack(mine[name]) for name in mine.columns if name.startswith("test.")}
    if protocol.auc == "scores":
        by_group = found["auc_by_group"]
        chosen = {"overall": found["auc"], "gap": np.ptp(by_group, axis=-1), "worst": by_group.min(axis=-1)}
    else:
        chosen = {name: found[name] for name in METRICS}
    return chosen | {"validation": -np.stack(mine["validation.loss"])}


def claims(runs: Runs) -> list[tuple[Mapping[str, str], results.Claim]]:
    """That two stages are better than one, for each goal and metric: balanced accuracy at the last epoch, by rows."""
    dataset, test = runs.dataset, runs.splits.test
    labels, groups = jnp.asarray(dataset.y[test]), jnp.asarray(dataset.group[test])
    strata = 2 * np.asarray(groups) + np.asarray(labels)
    found = []
    for goal, title in nash.GOALS.items():
        first, second = (_last_predictions(runs, name, len(test)) for name in (f"nash_{goal}", goal))
        if first is None or second is None:
            continue
        for metric in METRICS:
            claim = results.compare_methods(
                _metric(metric, labels, groups, dataset.num_groups),
                first,
                second,
                seed=0,
                tolerance=_tolerance(runs, metric),
                better="lower" if metric == "gap" else "higher",
                rows=test,
                strata=strata,
                num_resamples=_RESAMPLED_ROWS,
            )
            found.append(({"dataset": runs.name, "goal": title, "metric": TITLES["labels"][metric]}, claim))
    return found


def selections(runs: Runs, protocol: Protocol) -> list[dict[str, Any]]:
    """Each cell at the last epoch, at each seed's best validation loss and at a group's best test epoch, a row each."""
    found = []
    for method in (name for name in nash.METHODS if name in set(runs.frame.method)):
        measured = values(runs, protocol, method)
        for metric in METRICS:
            chosen = results.compare_selections(measured[metric], measured["validation"], measured["overall"], seed=0)
            row = {"dataset": runs.name, "method": nash.METHODS[method], "metric": TITLES[protocol.auc][metric]}
            for rule, interval in chosen._asdict().items():
                row |= {rule: interval.mean, f"{rule}_half_width": interval.half_width}
            found.append(row)
    return found


def selections_markdown(chosen: pd.DataFrame) -> str:
    """`selections` as Markdown: mean ± half-width of the 95% interval over seeds."""
    rules = ("last", "validation", "test", "optimism")
    rows = [
        [row["dataset"], row["method"], row["metric"]]
        + [f"{row[rule]:.3f} ± {row[f'{rule}_half_width']:.3f}" for rule in rules]
        for row in chosen.to_dict("records")
    ]
    return results.markdown_table(["dataset", "method", "metric", *rules], rows)


def _entry(
    runs: Runs, protocol: Protocol, method: str, metric: str, paper: Mapping[tuple[str, str], tuple[float, float]]
) -> results.Entry:
    printed = results.Printed(paper[method, metric][0], 3, NUM_SEEDS_OF_PAPER)
    labels = {"dataset": runs.name, "method": nash.METHODS[method], "metric": TITLES[protocol.auc][metric]}
    overall, gap, worst = (paper[method, name][0] for name in METRICS)
    broken = runs.dataset.num_groups == 2 and bool(results.breaks_worst_identity(overall, gap, worst))
    if metric == "worst" and broken:
        note = f"breaks worst = overall - gap / 2 = {overall - gap / 2:.3f}"
        return results.Entry(labels, printed, _tolerance(runs, metric), misprint=True, note=note)
    floor = _floor(runs, overall) if metric == "gap" else None
    if method not in set(runs.frame.method):
        return results.Entry(labels, printed, _tolerance(runs, metric), floor=floor, note="not asked for")
    num_seeds = runs.frame.seed.nunique()
    if num_seeds < _FEWEST_SEEDS:
        note = f"{num_seeds} seeds, and a comparison needs {_FEWEST_SEEDS}"
        return results.Entry(labels, printed, _tolerance(runs, metric), floor=floor, note=note)
    found = values(runs, protocol, method)
    how: dict[str, Any] = {"epoch": "last"}
    if protocol.epoch != "last":
        how = {"epoch": "group_mean", "scores": found["overall" if protocol.epoch == "test" else "validation"]}
    cell = results.compare_cell(found[metric], printed, seed=0, min_seeds=_FEWEST_SEEDS, **how)
    note = "" if num_seeds >= _SEEDS_OF_A_VERDICT else f"{num_seeds} seeds only"
    return results.Entry(labels, printed, _tolerance(runs, metric), cell, floor, note=note)


def _tolerance(runs: Runs, metric: str) -> float:
    groups = 1 if metric == "overall" else runs.dataset.num_groups
    # A row is one of half of the rows, or of those of a group, by its label; their two rates are averaged.
    return results.tolerance("gap" if metric == "gap" else "performance", row_effect=groups / len(runs.splits.test))


def _floor(runs: Runs, rate: float) -> float:
    """What the gap comes to where all groups share the printed balanced accuracy, on the distinct test rows."""
    once = np.unique(runs.splits.test)
    labels, groups = runs.dataset.y[once], runs.dataset.group[once]
    counts = [np.bincount(groups[labels == y], minlength=runs.dataset.num_groups) for y in (1, 0)]
    return results.balanced_accuracy_gap_floor(*counts, true_positive_rate=rate, true_negative_rate=rate, seed=0)


def _last_predictions(runs: Runs, method: str, num_rows: int) -> np.ndarray | None:
    """Predictions of the last epoch, `f[S, n]`, with NaN for a seed that has diverged."""
    mine = runs.frame[runs.frame.method == method].sort_values("seed")
    if mine.empty:
        return None
    last = np.stack([packed[-1] for packed in mine["predictions"]])
    diverged = ~np.isfinite(np.stack(mine["test.loss"])[:, -1])
    return np.where(diverged[:, None], np.nan, nash_runs.unpacked(last, num_rows).astype(np.float32))


def _metric(metric: str, labels: Any, groups: Any, num_groups: int) -> Any:
    def measured(outputs: Any, weight: Any) -> Any:
        predictions = outputs > 0.5
        if metric == "overall":
            return metrics.balanced_accuracy(labels, predictions, weight)
        by_group = metrics.group_balanced_accuracy(labels, predictions, groups, num_groups, weight)
        return jnp.max(by_group) - jnp.min(by_group) if metric == "gap" else jnp.min(by_group)

    return measured
