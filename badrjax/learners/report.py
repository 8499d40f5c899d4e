"""The page of a trained predictor: what it does to groups, with counts, intervals and noise floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from badrjax import plotting
from badrjax.datasets import Dataset
from badrjax.extras import require
from badrjax.learners.fronts import Point
from badrjax.learners.measures import FEWEST, GAPS, Estimate, Measures, Partition
from badrjax.learners.settings import METHODS
from badrjax.learners.trained import Trained, describe
from badrjax.reports import Block, Facts, Figure, Notice, Page, Section, Table, Text

_FEW = 30  # rows below which a group's rates say little
_NAMES = {
    "positive_rate": "share predicted 1",
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mean_prediction": "mean prediction",
    "mean_error": "mean of prediction less target",
    "rmse": "root mean squared error",
    **{gap: gap.replace("_", " ") for gap in GAPS},
}
_GAP_NOTE = (
    "Gap: largest minus smallest rate of the groups, as measured. Interval: 95% bootstrap over rows; it excludes 0 "
    f"even at parity, and is left out where a group has fewer than {FEWEST} rows to compare. Bound: one-sided, 95%: a "
    "threshold is met where the bound is at or below it. Floor: what the gap comes to on average, and stays below in "
    "95% of samples, where all groups are treated alike, at these counts: a gap below it is no sign of a difference."
)


_GROUP_NOTE = (
    "95% intervals over rows: Wilson's of shares; of balanced accuracy, errors and means the bootstrap's, where "
    f"{FEWEST} rows (of each class) stand behind the number."
)


def page(
    trained: Trained,
    measures: Measures,
    points: Sequence[Point],
    training: Dataset,
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Page:
    """The report of a predictor.

    Args:
        trained: fitted to the training rows.
        measures: of its predictions on other rows.
        points: its trade-off front on these, or none.
        training: the training rows.
        settings: of the command.
        provenance: see `badrjax.results.provenance`.

    Returns:
        A `badrjax.reports.Page`.

    Raises:
        ModuleNotFoundError: without matplotlib.
    """
    require("matplotlib.figure", "a report")
    task = trained.settings.task
    what = f"class 1 is {trained.favourable!r}" if task == "classification" else "a number"
    lead = (
        f"`{trained.settings.method}` fitted to {len(training.y):,} rows of `{training.name}` to predict "
        f"`{trained.label_name}` ({what}), and measured on {measures.num_rows:,} other rows. Groups by "
        f"{', '.join(trained.sensitive)}. What stands here describes this predictor on these rows; whether it may be "
        "used is not for numbers to say."
    )
    sections = [
        Section("The predictor", (*_notices(trained, training, measures), *_about(trained, training))),
        Section("All rows", (_overall(measures),)),
        Section("Gaps between groups", (*_constraints(trained, measures), _gaps(measures), *_gap_figure(measures))),
        Section("Groups", tuple(block for part in measures.partitions for block in _groups(part))),
    ]
    if points:
        sections.append(Section("Trade-off", _front(points, measures, trained)))
    if trained.history:
        sections.append(Section("Training", _history(trained)))
    title = f"{trained.label_name} by {trained.settings.method}"
    return Page(title, lead, tuple(sections), settings, provenance)


def groups_rows(measures: Measures) -> list[dict[str, Any]]:
    """One value a row: partition, group, metric, estimate and ends of its interval, with the group's rows."""
    found: list[dict[str, Any]] = []
    for part in measures.partitions:
        for rate, estimate in part.by_group.items():
            for place, group in enumerate(part.group_names):
                found.append({
                    "partition": part.name, "group": group, "metric": rate, "rows": int(part.counts[place]),
                    **{end: float(getattr(estimate, end)[place]) for end in Estimate._fields},
                })  # fmt: skip
        for gap, value in part.gaps.items():
            found.append({"partition": part.name, "group": "", "metric": f"{gap} difference",
                          "rows": int(part.counts.sum()), **value._asdict()})  # fmt: skip
    for name, estimate in measures.overall.items():
        found.append({"partition": "", "group": "", "metric": name, "rows": measures.num_rows, **estimate._asdict()})
    return found


def front_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """One point a row: series, setting, error, and a column a gap."""
    return [
        {"series": p.series, "setting": p.setting, "error": p.error}
        | {f"{gap} of {part}": value for (part, gap), value in p.gaps.items()}
        for p in points
    ]


def _about(trained: Trained, training: Dataset) -> tuple[Block, ...]:
    facts = {name: f"{v:.4g}" if isinstance(v, float) else v for name, v in describe(trained).items()}
    weights = {group: trained.info.get(f"weight of {group}") for group in training.group_names}
    if None in weights.values():
        return (Facts(facts),)
    counts = np.bincount(training.group, minlength=training.num_groups)
    rows = [[n, int(c), c / counts.sum(), w] for (n, w), c in zip(weights.items(), counts, strict=True)]
    head = ("group", "rows to train on", "share of rows", "weight of the group's mean loss")
    others = {name: value for name, value in facts.items() if not name.startswith("weight of ")}
    return Facts(others), Table(head, rows, "Weights that the method chose")


def _notices(trained: Trained, training: Dataset, measures: Measures) -> tuple[Block, ...]:
    found = []
    if trained.randomised:
        found.append(
            "This predictor is randomised: the same person may be told yes and no. Numbers are of one draw for each "
            "row; `predict_proba` and the column `probability` give the chance."
        )
    if used := sensitive_columns(trained):
        found.append(
            f"The sensitive attribute is used at prediction: among the features stands {', '.join(used)}. "
            "`--drop-sensitive` leaves it out; other columns may still tell of it."
        )
    counts = np.bincount(training.group, minlength=training.num_groups)
    if METHODS[trained.settings.method].groups and (counts < _FEW).any():
        few = [f"{training.group_names[k]} ({counts[k]})" for k in np.flatnonzero(counts < _FEW)]
        found.append(
            f"Groups with fewer than {_FEW} rows to train on steer this method as much as large ones do: "
            f"{', '.join(few)}. `--num-groups` merges the smallest, `--min-group-rows` leaves them out."
        )
    measured = measures.partitions[-1].group_names
    if lost := [name for name in training.group_names if len(measured) > 1 and name not in measured]:
        found.append(f"Groups without rows to measure on: {', '.join(lost)}. No gap knows of them.")
    small = [
        f"{name} ({count})"
        for part in measures.partitions
        for name, count in zip(part.group_names, part.counts, strict=True)
        if count < _FEW
    ]
    if small:
        found.append(f"Groups with fewer than {_FEW} rows to measure on: {', '.join(small)}. Their rates say little.")
    found += training.notes
    return tuple(Notice(text) for text in found)


def sensitive_columns(trained: Trained) -> list[str]:
    """Sensitive attributes that the predictor reads as features."""
    if trained.encoding is None:
        return []
    return [name for name in trained.encoding.column_names if name in trained.sensitive]


def _overall(measures: Measures) -> Table:
    rows = [[name, _number(e.value), _interval(e)] for name, e in measures.overall.items()]
    return Table(
        ("measure", "estimate", "95% interval"), rows, f"On {measures.num_rows:,} rows", "Bootstrap over rows."
    )


def _gaps(measures: Measures) -> Table:
    head = ("gap", "groups by", "groups", "fewest rows", "gap measured", "95% interval", "bound", "floor", "floor, 95%")
    rows = [
        [
            _NAMES[name], part.name, len(part.group_names), int(part.counts.min()), _number(gap.value),
            _interval(gap), _number(gap.upper_bound), _number(gap.floor), _number(gap.floor_95),
        ]
        for part in measures.partitions
        for name, gap in part.gaps.items()
    ]  # fmt: skip
    return Table(head, rows, "Largest differences between groups", _GAP_NOTE)


def _constraints(trained: Trained, measures: Measures) -> tuple[Block, ...]:
    """What was asked for beside what was measured, where anything was."""
    rows = []
    for metric, attributes, threshold in trained.settings.constraints:
        wanted = " & ".join(name for name in trained.sensitive if name in attributes)
        for part in measures.partitions:
            if part.name == wanted:
                gap = part.gaps[metric]
                cells = (_number(gap.value), _number(gap.upper_bound), _number(gap.floor))
                said = ["yes" if value <= threshold else "no" for value in (gap.value, gap.upper_bound)]
                rows.append([f"{_NAMES[metric]} of {part.name}", threshold, *cells, *said])
    if not rows:
        return ()
    head = ("constraint", "largest gap asked for", "gap measured", "bound", "floor", "gap below", "bound below")
    note = "A constraint is asked of the training rows, and may not be met on others, or at all."
    return (Table(head, rows, "Constraints", note),)


def _gap_figure(measures: Measures) -> tuple[Block, ...]:
    named = [
        (f"{_NAMES[name]}, {part.name}", gap, int(part.counts.sum()))
        for part in measures.partitions
        for name, gap in part.gaps.items()
        if np.isfinite(gap.value) and name in GAPS
    ]
    if not named:
        return ()
    names, gaps, counts = zip(*named, strict=True)
    values = np.array([(gap.value, gap.low, gap.high) for gap in gaps]).T
    axes = plotting.group_metrics(
        values[0], np.minimum(values[1], values[0]), np.maximum(values[2], values[0]), counts=counts, names=names,
        x_label="gap (0 to 1; 95% bootstrap)", floor=[g.floor for g in gaps],
    )  # fmt: skip
    said = "; ".join(f"{name}: {gap.value:.3f}, floor {gap.floor:.3f}" for name, gap in zip(names, gaps, strict=True))
    return (Figure(axes.figure, "Gaps, with the noise floor of each as a tick", said),)


def _groups(part: Partition) -> tuple[Block, ...]:
    classes = part.positives is not None
    head = ["group", "rows", "labelled 1" if classes else "mean target", *(_NAMES[rate] for rate in part.by_group)]
    rows = []
    for place, name in enumerate(part.group_names):
        base = f"{part.base[place]:.3f}" if part.positives is None else int(part.positives[place])
        cells = [_of_group(estimate, place) for estimate in part.by_group.values()]
        rows.append([name, int(part.counts[place]), base, *cells])
    caption = f"Groups by {part.name}"
    table = Table(head, rows, caption, _GROUP_NOTE)
    shown = "positive_rate" if classes else "mean_error"
    estimate, gap = part.by_group[shown], part.gaps["demographic_parity" if classes else "mean_error"]
    low, high = np.minimum(estimate.low, estimate.value), np.maximum(estimate.high, estimate.value)
    floor = gap.floor if np.isfinite(gap.floor) else None
    axes = plotting.group_metrics(
        estimate.value, low, high, counts=part.counts, names=part.group_names, floor=floor,
        x_label=f"{_NAMES[shown]} ({'0 to 1; ' if classes else ''}95% interval)",
    )  # fmt: skip
    said = "; ".join(f"{n}: {v:.3f}" for n, v in zip(part.group_names, estimate.value, strict=True))
    return table, Figure(axes.figure, f"{_NAMES[shown].capitalize()} by {part.name}", said)


def _front(points: Sequence[Point], measures: Measures, trained: Trained) -> tuple[Block, ...]:
    settings = trained.settings
    gap = "demographic_parity" if settings.task == "classification" else "rmse"
    wanted = settings.constraints[0].metric if settings.constraints else settings.objective
    if isinstance(wanted, str) and wanted in GAPS:
        gap = wanted
    rows = front_rows(points)
    table = Table(list(rows[0]), [[_cell(v) for v in row.values()] for row in rows], "Every point")
    text = Text(
        "The method is fitted again with other values of its one number, beside plain training (`erm`) and one "
        "prediction for all. Points are measured on the rows of this report: choose among them on others. Below the "
        "floor no two points can be told apart."
    )
    return text, *(_front_figure(points, part, gap, settings.task) for part in measures.partitions), table


def _front_figure(points: Sequence[Point], part: Partition, gap: str, task: str) -> Figure:
    error = "error (share of rows predicted wrong)" if task == "classification" else "root mean squared error"
    series = dict.fromkeys(point.series for point in points)
    drawn = {name: [(p.error, p.gaps[part.name, gap]) for p in points if p.series == name] for name in series}
    axes = plotting.fronts(drawn, x_label=error, y_label=f"{_NAMES[gap]} gap, {part.name}")
    floor = part.gaps[gap].floor
    if np.isfinite(floor):
        axes.axhline(floor, color="0.45", linestyle=":", linewidth=1)
        axes.annotate("floor", (1, floor), xycoords=("axes fraction", "data"), fontsize=8, ha="right", va="bottom")
    caption = f"Error and {_NAMES[gap]} gap by {part.name}"
    return Figure(axes.figure, caption, "The points are in the table below.")


def _history(trained: Trained) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for name, values in trained.history.items():
        if not np.isfinite(values).any() or len(values) < 2:
            continue
        if name in trained.labels:
            axes = plotting.weights_over_time(values, trained.labels[name])
        else:
            axes = plotting.trajectory({name: values}, y_label=name)
        blocks.append(Figure(axes.figure, name.capitalize(), f"From {values[0]} to {values[-1]}"))
    return tuple(blocks)


def _number(value: float) -> str | float:
    return float(value) if np.isfinite(value) else "not assessed"


def _interval(estimate: Any) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}" if np.isfinite(estimate.low) else "none"


def _of_group(estimate: Estimate, place: int) -> str:
    value, low, high = (float(np.asarray(end)[place]) for end in estimate)
    if not np.isfinite(value):
        return "not assessed"
    return f"{value:.3f} ({low:.3f} to {high:.3f})" if np.isfinite(low) else f"{value:.3f} (few rows)"


def _cell(value: Any) -> Any:
    return _number(value) if isinstance(value, float) else value
