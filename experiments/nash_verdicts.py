"""Tables 1 and 4 of the Nash-Meta-Learning paper beside our runs: a verdict a cell, and one a claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

import badrjax as bx
from badrjax import metrics, results
from experiments import nash, nash_runs
from experiments.nash_protocol import SETTINGS, Protocol

METRICS = ("overall", "gap", "worst")
"""The three metrics of the tables: Overall AUC, Max-gAUCD and Worst-gAUC."""
TITLES = {
    "labels": {"overall": "balanced accuracy", "gap": "its largest gap", "worst": "that of the worst group"},
    "scores": {"overall": "AUC", "gap": "its largest gap", "worst": "that of the worst group"},
}
"""What they are called, by what the AUC is taken of: of predicted labels it is the balanced accuracy."""
ADULT = {"adult_sex": "adult", "adult_race": "adult"}
"""Settings that are one witness of a claim."""

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
        split: whether that is the paper's split.
        epochs: how many, where not the paper's.
    """

    name: str
    frame: pd.DataFrame
    dataset: bx.Dataset
    splits: bx.Splits
    split: Literal["official", "balanced"] = "official"
    epochs: int | None = None


def entries(runs: Runs, protocol: Protocol) -> list[results.Entry]:
    """The 24 cells of a setting, eight methods by three metrics.

    Cells on other rows or after other epochs than the paper's, and those of too few seeds, are not run, with our
    number in the note.
    """
    paper = nash.paper_cells(runs.name)
    return [_entry(runs, protocol, method, metric, paper) for metric in METRICS for method in nash.METHODS]


def entries_not_run(name: str, protocol: Protocol, reason: str) -> list[results.Entry]:
    """The 24 cells of a setting that could not be run, and why."""
    paper = nash.paper_cells(name)
    found = []
    for metric in METRICS:
        for method in nash.METHODS:
            entry = _printed(name, protocol, method, metric, paper)
            found.append(entry if entry.misprint else _noted(entry, reason))
    return found


def values(runs: Runs, protocol: Protocol, method: str) -> dict[str, np.ndarray]:
    """Each metric of a method as `f[N, E]`, by the AUC that the protocol means, and its scores for the epoch."""
    mine = _of_method(runs, method)
    found = {name.removeprefix("test."): np.stack(mine[name]) for name in mine.columns if name.startswith("test.")}
    if protocol.auc == "scores":
        by_group = found["auc_by_group"]
        chosen = {"overall": found["auc"], "gap": np.ptp(by_group, axis=-1), "worst": by_group.min(axis=-1)}
    else:
        chosen = {name: found[name] for name in METRICS}
    return chosen | {"validation": -np.stack(mine["validation.loss"])}


def claims(runs: Runs) -> list[tuple[Mapping[str, str], results.Claim]]:
    """That two stages are better than one, for each goal and metric: balanced accuracy at the last epoch, by rows.

    Goals of which fewer than ten seeds are there in both stages are left out.
    """
    dataset, test = runs.dataset, runs.splits.test
    labels, groups = jnp.asarray(dataset.y[test]), jnp.asarray(dataset.group[test])
    strata = 2 * np.asarray(groups) + np.asarray(labels)
    found = []
    for goal, title in nash.GOALS.items():
        first, second = (_last_predictions(runs, name, len(test)) for name in (f"nash_{goal}", goal))
        paired = first.index.intersection(second.index)
        if len(paired) < _FEWEST_SEEDS:
            continue
        for metric in METRICS:
            claim = results.compare_methods(
                _metric(metric, labels, groups, dataset.num_groups),
                np.stack(list(first[paired])),
                np.stack(list(second[paired])),
                seed=0,
                tolerance=_tolerance(runs, metric),
                better="lower" if metric == "gap" else "higher",
                rows=test,
                strata=strata,
                num_resamples=_RESAMPLED_ROWS,
            )
            found.append(({"dataset": runs.name, "goal": title, "metric": TITLES["labels"][metric]}, claim))
    return found


def agreement(claimed: pd.DataFrame) -> pd.DataFrame:
    """Each claim across the settings: verdicts counted, and a sign test in which Adult has one vote."""
    rows = []
    for (goal, metric), one in claimed.groupby(["goal", "metric"], sort=False):
        found = results.across_datasets(one, {name: ADULT[name] for name in one.dataset if name in ADULT})
        signs = found.signs._asdict()
        rows.append({"goal": goal, "metric": metric, **found.counts, **signs})
    return pd.DataFrame(rows)


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

    def shown(mean: float, half_width: float) -> str:
        return f"{mean:.3f}" if np.isnan(half_width) else f"{mean:.3f} ± {half_width:.3f}"

    rows = [
        [row["dataset"], row["method"], row["metric"]] + [shown(row[rule], row[f"{rule}_half_width"]) for rule in rules]
        for row in chosen.to_dict("records")
    ]
    return results.markdown_table(["dataset", "method", "metric", *rules], rows)


def note_few_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with rows marked that rest on fewer seeds than a verdict should."""
    few = (frame.num_seeds > 0) & (frame.num_seeds < _SEEDS_OF_A_VERDICT)
    said = frame.num_seeds.map("{} seeds only".format)
    note = np.where(frame.note == "", said, frame.note + "; " + said)
    return frame.assign(note=np.where(few, note, frame.note))


def _printed(
    name: str, protocol: Protocol, method: str, metric: str, paper: Mapping[tuple[str, str], tuple[float, float]]
) -> results.Entry:
    """A cell as it is printed, and whether it can be right."""
    printed = results.Printed(paper[method, metric][0], 3, NUM_SEEDS_OF_PAPER)
    labels = {"dataset": name, "method": nash.METHODS[method], "metric": TITLES[protocol.auc][metric]}
    overall, gap, worst = (paper[method, one][0] for one in METRICS)
    # The identity is of two groups.
    broken = SETTINGS[name].num_groups == 2 and bool(results.breaks_worst_identity(overall, gap, worst))
    if metric == "worst" and broken:
        note = f"breaks worst = overall - gap / 2 = {overall - gap / 2:.3f}"
        return results.Entry(labels, printed, 0.0, misprint=True, note=note)
    # Of three numbers that disagree any may be the wrong one.
    note = f"the printed gap and worst imply {worst + gap / 2:.3f}" if metric == "overall" and broken else ""
    return results.Entry(labels, printed, 0.0, note=note)


def _entry(
    runs: Runs, protocol: Protocol, method: str, metric: str, paper: Mapping[tuple[str, str], tuple[float, float]]
) -> results.Entry:
    entry = _printed(runs.name, protocol, method, metric, paper)._replace(tolerance=_tolerance(runs, metric))
    if entry.misprint:
        return entry
    num_seeds = len(_of_method(runs, method))
    if num_seeds == 0:
        return _noted(entry, "not asked for")
    found = values(runs, protocol, method)
    epoch = _reported_epoch(found, protocol)
    reason = _no_target(runs, num_seeds)
    if reason:
        return _noted(entry, f"{reason}; ours {np.nanmean(found[metric][:, epoch]):.3f}")
    how: dict[str, Any] = {"epoch": "last"}
    if protocol.epoch != "last":
        how = {"epoch": "group_mean", "scores": found["overall" if protocol.epoch == "test" else "validation"]}
    cell = results.compare_cell(found[metric], entry.printed, seed=0, min_seeds=_FEWEST_SEEDS, **how)
    return entry._replace(cell=cell, floor=_floor(runs, method, epoch) if metric == "gap" else None)


def _noted(entry: results.Entry, note: str) -> results.Entry:
    return entry._replace(note="; ".join(filter(None, (note, entry.note))))


def _no_target(runs: Runs, num_seeds: int) -> str:
    """Why runs cannot be set beside the paper's numbers, or nothing."""
    reasons = []
    if runs.split == "balanced":
        reasons.append("on a split drawn here")
    if runs.epochs is not None:
        reasons.append(f"{runs.epochs} epochs")
    if num_seeds < _FEWEST_SEEDS:
        reasons.append(f"{num_seeds} seeds, and a comparison needs {_FEWEST_SEEDS}")
    return "; ".join(reasons)


def _reported_epoch(found: Mapping[str, np.ndarray], protocol: Protocol) -> int:
    """Position of the epoch with the best mean over all seeds, or the last."""
    if protocol.epoch == "last":
        return -1
    scores = found["overall" if protocol.epoch == "test" else "validation"]
    finite = scores[np.isfinite(scores).all(axis=1)]
    return int(np.argmax(finite.mean(axis=0))) if len(finite) else -1


def _of_method(runs: Runs, method: str) -> pd.DataFrame:
    return runs.frame[runs.frame.method == method].sort_values("seed")


def _tolerance(runs: Runs, metric: str) -> float:
    groups = 1 if metric == "overall" else runs.dataset.num_groups
    # A row is one of half of the rows, or of those of a group, by its label; their two rates are averaged.
    return results.tolerance("gap" if metric == "gap" else "performance", row_effect=groups / len(runs.splits.test))


def _floor(runs: Runs, method: str, epoch: int) -> float:
    """What the gap comes to where all groups share the rates that ours has overall, on as many test rows."""
    test = runs.splits.test
    labels, groups = runs.dataset.y[test], runs.dataset.group[test]
    packed = np.stack([one[epoch] for one in _of_method(runs, method)["predictions"]])
    predictions = nash_runs.unpacked(packed, len(test))
    counts = [np.bincount(groups[labels == y], minlength=runs.dataset.num_groups) for y in (1, 0)]
    return results.balanced_accuracy_gap_floor(
        *counts,
        true_positive_rate=float(predictions[:, labels == 1].mean()),
        true_negative_rate=float(1 - predictions[:, labels == 0].mean()),
        seed=0,
    )


def _last_predictions(runs: Runs, method: str, num_rows: int) -> pd.Series:
    """Predictions of the last epoch by seed, `f[n]` each, with NaN for a seed that has diverged."""
    mine = _of_method(runs, method)
    found = {}
    for seed, packed, loss in zip(mine.seed, mine.get("predictions", ()), mine.get("test.loss", ()), strict=True):
        predicted = nash_runs.unpacked(packed[-1], num_rows).astype(np.float32)
        found[int(seed)] = predicted if np.isfinite(loss[-1]) else np.full(num_rows, np.nan, np.float32)
    return pd.Series(found, dtype=object)


def _metric(metric: str, labels: Any, groups: Any, num_groups: int) -> Any:
    def measured(outputs: Any, weight: Any) -> Any:
        predictions = outputs > 0.5
        if metric == "overall":
            return metrics.balanced_accuracy(labels, predictions, weight)
        by_group = metrics.group_balanced_accuracy(labels, predictions, groups, num_groups, weight)
        return jnp.max(by_group) - jnp.min(by_group) if metric == "gap" else jnp.min(by_group)

    return measured
