"""What the experiments of BADR share: cells of data as the paper makes them, their bilevel problems, and measurements.

A cell is one data set with one split. The paper fits an intercept and leaves it out of the fairness objective; all
three readings are here. Cells of a table are padded to a common number of rows, so that they share one program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from sklearn.model_selection import train_test_split

import badrjax as bx
from badrjax import bilevel, metrics, objectives
from badrjax.checks import unknown_name
from badrjax.functions import Static
from badrjax.results import dataset_checksum
from badrjax.uncertainty import noise_floor_from_counts

Reading = Literal["published", "shared", "absent"]
Grouping = Literal["published", "shared"]
Split = Literal["published", "own"]

SURVEYS = {"employment": "acs_employment", "income": "acs_income", "travel_time": "acs_travel_time"}
"""Data sets by the name of their task."""
NUM_GROUPS = 2
FRACTIONS = (0.7, 0.0, 0.3)
MISSING = (FileNotFoundError, ConnectionError, PermissionError)
"""A file that is not there, and that cannot be downloaded either."""
_ROWS = 1024


def group_variance(
    scores: jax.Array,
    labels: jax.Array,
    groups: jax.Array,
    num_groups: int,
    weight: jax.Array | None = None,
    sharpness: Any = 1.0,
    variant: str | None = None,
) -> jax.Array:
    """Variance of the groups' logistic losses, called like the objectives of scores; the last two are not used."""
    losses = bx.losses.cross_entropy_of_scores(scores, labels)
    return objectives.variance(*objectives.group_losses(losses, groups, num_groups, weight))


METRICS: dict[str, Callable[..., jax.Array]] = {
    "demographic_parity": objectives.demographic_parity,
    "equalized_odds": objectives.equalized_odds,
    "equal_opportunity": objectives.equal_opportunity,
    "disparate_mistreatment": objectives.disparate_mistreatment,
    "group_variance": group_variance,
    "individual_fairness": objectives.individual_fairness,
}
"""The paper's six metrics of a classifier's scores."""
OFFSETS = {"demographic_parity": np.log(2), "equalized_odds": 2 * np.log(2), "equal_opportunity": 2 * np.log(2)}
"""What smoothing adds to metrics of two groups at sharpness 1, whatever the model; demographic parity keeps the
published 0.001 that stands under its root, as the recorded numbers do."""


def metric_objective(name: str, metrics: Mapping[str, Callable[..., jax.Array]] = METRICS) -> Partial:
    """A key of `metrics` as an upper objective, sharpness 1 and as published; all of them are one program."""
    return Partial(_chosen_metric, Static(tuple(metrics.values())), np.int32(list(metrics).index(name)))


def _chosen_metric(
    metrics: Static, which: Any, scores: Any, labels: Any, groups: Any, num_groups: int, weight: Any
) -> jax.Array:
    def branch(metric: Callable[..., jax.Array]) -> Callable[[], jax.Array]:
        return lambda: jnp.asarray(metric(scores, labels, groups, num_groups, weight, variant="badr"))

    return jax.lax.switch(which, [branch(metric) for metric in metrics.value])


class Cell(NamedTuple):
    """Rows to fit on and rows to report on, in NumPy arrays.

    Attributes:
        train: features scaled to mean 0 and deviation 1 here.
        test: scaled likewise.
        checksum: SHA-256 of what it was made of.
    """

    train: bx.Batch
    test: bx.Batch
    checksum: str


def check_places(states: Sequence[str], years: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Distinct postal codes in capitals and years of the survey.

    Raises:
        ValueError: for none, unknown ones, with the nearest, or one named twice.
    """
    options = bx.datasets.dataset_info("acs_income").options
    return tuple(check(value) for check, value in ((options["states"].check, states), (options["year"].check, years)))


def check_choices(settings: Any, solvers: Collection[str] = ()) -> None:
    """Raise `ValueError` for an unknown solver, reading, grouping or split in an experiment's settings."""
    kinds = {"solver": solvers, "reading": get_args(Reading), "groups": get_args(Grouping), "split": get_args(Split)}
    for name, known in kinds.items():
        if hasattr(settings, name) and getattr(settings, name) not in known:
            raise unknown_name(f"value of {name}", getattr(settings, name), known)


def load_survey(task: str, state: str, year: int, data_home: Path | None = None) -> bx.Dataset:
    """A state's persons in a year, as the paper prepares them, in groups that are not merged yet.

    Groups are sex by race, with travel time sex by race by age over 40, those with more rows than features.

    Raises:
        ValueError: for an unknown task, state or year.
        FileNotFoundError, ConnectionError, PermissionError: where the file is missing (`MISSING`).
    """
    if task not in SURVEYS:
        raise unknown_name("task", task, SURVEYS)
    dataset = bx.load_dataset(SURVEYS[task], variant="badr", states=state, year=year, data_home=data_home)
    return bx.datasets.drop_small_groups(dataset, dataset.x.shape[1] + 1)


class Placed(NamedTuple):
    """A cell of one of the paper's places.

    Attributes:
        task: a key of `SURVEYS`.
        state: postal code.
        recorded: the paper's year.
        year: the one that the rows are of.
        cell: the rows, padded to the shape of all.
    """

    task: str
    state: str
    recorded: int
    year: int
    cell: Cell

    @property
    def title(self) -> str:
        """Names the data, and the year that they stand in for."""
        stands = "" if self.year == self.recorded else f" (in place of {self.recorded})"
        return f"{self.state} {self.year}, {self.task.replace('_', ' ')}{stands}"


def load_places(
    places: Iterable[tuple[str, str, int]], stand_in: int, seed: int, data_home: Path | None = None, **options: Any
) -> tuple[list[Placed], dict[str, str]]:
    """The cells of places whose files are here, of one shape, another year in place of one that is not.

    Args:
        places: task, state and year of each.
        stand_in: the other year.
        seed: of the splits.
        data_home: see `load_survey`.
        **options: of `make_cell`.

    Returns:
        The cells, and by what is missing, why.
    """
    found: list[Placed] = []
    missing = {}
    for task, state, recorded in places:
        for year in dict.fromkeys((recorded, stand_in)):
            try:
                dataset = load_survey(task, state, year, data_home)
            except MISSING as error:
                missing[f"{task} {state} {year}"] = str(error)
                continue
            found.append(Placed(task, state, recorded, year, make_cell(dataset, seed, **options)))
            break
    cells = padded(place.cell for place in found)
    return [place._replace(cell=cell) for place, cell in zip(found, cells, strict=True)], missing


def make_cell(
    dataset: bx.Dataset,
    seed: int,
    *,
    groups: Grouping = "published",
    split: Split = "own",
    whole: str | None = None,
    num_groups: int = NUM_GROUPS,
) -> Cell:
    """Split a data set 70 to 30, merge its groups, and scale it by its training rows.

    Args:
        dataset: with `num_groups` groups or more; the smallest are merged.
        seed: of the split.
        groups: `"published"` merges the groups of training and test rows each for itself, by their own sizes, so that
            a group may hold others in the test rows; `"shared"` merges once, over all rows.
        split: `"published"` draws the rows of the published results (see `published_split`), drops from each part the
            groups with no more rows than features, and numbers groups as `merged_behind`; `"own"` is this project's.
        whole: a domain of the data set whose rows stay together, such as a subject; `None` splits each group's rows
            alike, as the paper does.
        num_groups: that are left, 2 or more.

    Raises:
        ValueError: for an unknown `groups` or `split`, for `whole` with a published split, or too few groups in a part.
    """
    for name, value, kind in (("groups", groups, Grouping), ("split", split, Split)):
        if value not in get_args(kind):
            raise unknown_name(f"value of {name}", value, get_args(kind))
    if split == "published" and whole is not None:
        raise ValueError('split="published" keeps no rows together; leave whole out, or choose split="own"')
    merged = bx.datasets.merge_small_groups(dataset, num_groups)
    if split == "published":
        splits = published_split(dataset, seed, num_groups)
    elif whole is None:
        # A target of numbers is split by group alone, as the paper splits; classes would be split by label too.
        by_group = dataclasses.replace(merged, y=merged.y.astype(np.float32))
        splits = bx.datasets.stratified_split(by_group, seed, fractions=FRACTIONS)
    else:
        splits = bx.datasets.random_split(merged, seed, fractions=FRACTIONS, whole=whole)
    scaled = bx.datasets.standardise(dataset if groups == "published" else merged, splits.train)
    parts = [bx.datasets.take(scaled, rows) for rows in (splits.train, splits.test)]
    if split == "published":
        parts = [bx.datasets.drop_small_groups(part, part.x.shape[1] + 1) for part in parts]
    if groups == "published":
        ids = [
            merged_behind(part.group, num_groups)
            if split == "published"
            else bx.datasets.merge_small_groups(part, num_groups).group
            for part in parts
        ]
    else:
        ids = [part.group for part in parts]
    train, test = _centred([bx.Batch(part.x, part.y, group) for part, group in zip(parts, ids, strict=True)])
    checksum = dataset_checksum([*train[:3], *test[:3]])
    return Cell(train, test, checksum)


def published_split(dataset: bx.Dataset, seed: int, num_groups: int = NUM_GROUPS) -> bx.Splits:
    """The rows of the published results: scikit-learn's 70 to 30, stratified by merged groups.

    The draw depends on the order of the groups: here a merged group goes behind the others. So ordered, North Dakota
    2018 has the recorded sizes of both groups and, fitted as recorded in float64, the recorded metric to 14 digits;
    other orders and rules that were tried did not. No other recorded cell's data are here.

    Args:
        dataset: with `num_groups` groups or more, small ones dropped.
        seed: of the split, below 2**32.
        num_groups: that are left, 2 or more.

    Raises:
        ValueError: as scikit-learn's, for groups of a single row.
    """
    ids = merged_behind(dataset.group, num_groups)
    train, test = train_test_split(np.arange(len(ids)), test_size=FRACTIONS[2], random_state=seed, stratify=ids)
    return bx.Splits(train, np.zeros(0, int), test)


def merged_behind(groups: np.ndarray, num_groups: int) -> np.ndarray:
    """Ids of groups whose two smallest are merged again and again, each merged one going behind the others."""
    members = [[group] for group in np.unique(groups)]
    counts = dict(zip(*np.unique(groups, return_counts=True), strict=True))
    while len(members) > num_groups:
        order = sorted(range(len(members)), key=lambda i: sum(counts[group] for group in members[i]))[:2]
        rest = [one for i, one in enumerate(members) if i not in order]
        members = [*rest, [*members[order[0]], *members[order[1]]]]
    ids = {group: number for number, one in enumerate(members) for group in one}
    return np.array([ids[group] for group in groups])


def _centred(parts: list[bx.Batch]) -> list[bx.Batch]:
    """Targets of a regression less their mean over the training rows, so that no intercept is missed; classes as is."""
    if not np.issubdtype(parts[0].y.dtype, np.floating):
        return parts
    mean = parts[0].y.mean(dtype=np.float64)
    return [part._replace(y=part.y - mean) for part in parts]


def padded(cells: Iterable[Cell]) -> list[Cell]:
    """The cells with rows of weight 0 and features of 0 added, so that all rows of all cells have one shape.

    Neither changes a penalised model. The number of rows is rounded up, so that a few cells of a table have the shapes
    of all.
    """
    cells = list(cells)
    if not cells:
        return []
    parts = [part for cell in cells for part in (cell.train, cell.test)]
    num_rows = -(-max(len(part.y) for part in parts) // _ROWS) * _ROWS
    num_features = max(part.x.shape[1] for part in parts)
    return [
        cell._replace(**{name: _padded(getattr(cell, name), num_rows, num_features) for name in ("train", "test")})
        for cell in cells
    ]


def _padded(batch: bx.Batch, num_rows: int, num_features: int) -> bx.Batch:
    rows = np.arange(num_rows)
    real = rows < len(batch.y)
    x, y, group = (leaf[np.where(real, rows, 0)] for leaf in batch[:3])
    x = np.pad(x, ((0, 0), (0, num_features - x.shape[1])))
    return bx.Batch(x, y, group, real.astype(float))


def make_model(cell: Cell, reading: Reading) -> bx.Model:
    """The linear model of a reading of the intercept.

    `"published"` fits an intercept that the fairness objective does not see, `"shared"` has both see it, and `"absent"`
    has none.

    Raises:
        ValueError: for an unknown reading.
    """
    if reading not in get_args(Reading):
        raise unknown_name("reading", reading, get_args(Reading))
    return bx.models.linear(cell.train.x.shape[1], intercept=reading != "absent")


def make_problem(
    cell: Cell,
    reading: Reading,
    objective: Any,
    *,
    loss: str = "logistic",
    regularisation: float = 1e-2,
    num_groups: int = NUM_GROUPS,
) -> bilevel.Problem:
    """The bilevel problem of a cell's training rows; see `badrjax.bilevel.problem`."""
    return bilevel.problem(
        make_model(cell, reading),
        cell.train,
        num_groups=num_groups,
        loss=loss,
        objective=objective,
        regularisation=regularisation,
        variant="badr",
        intercept_in_objective=reading != "published",
    )


def classified(model: bx.Model, params: Any, rows: bx.Batch) -> dict[str, Any]:
    """Accuracy, and the gaps in rates with what each comes to at parity on average, of predictions.

    A score of 0 or more, its intercept included, predicts 1. Gaps are the differences of `badrjax.metrics`.
    """
    accuracy, gaps, counts = _classified(model, params, rows)
    floors = _floors(*counts)
    beside = {f"{name}_gap": gap for name, gap in gaps.items()}
    return {"accuracy": accuracy, **beside, **{f"{name}_floor": getattr(floors, name).mean for name in gaps}}


@jax.jit
def _classified(model: bx.Model, params: Any, rows: bx.Batch) -> tuple[Any, dict[str, Any], tuple[Any, ...]]:
    """Accuracy, gaps, and what `noise_floor_from_counts` takes."""
    predictions = (model.apply(params, rows.x) >= 0).astype(jnp.int32)
    by_group = (rows.y, predictions, rows.group, NUM_GROUPS, rows.weight)
    gaps = {
        "demographic_parity": metrics.demographic_parity_difference(*by_group),
        "equal_opportunity": metrics.equal_opportunity_difference(*by_group),
        "equalized_odds": metrics.equalized_odds_difference(*by_group),
    }
    rates = metrics.by_group(*by_group)
    everyone = metrics.by_group(rows.y, predictions, jnp.zeros_like(rows.group), 1, rows.weight)
    shared = (everyone.true_positive_rate[0], everyone.false_positive_rate[0])
    return metrics.accuracy(rows.y, predictions, rows.weight), gaps, (rates.num_positive, rates.num_negative, *shared)


@jax.jit
def _floors(*counts: jax.Array) -> Any:
    return noise_floor_from_counts(jax.random.key(0), *counts, num_samples=500)


@jax.jit
def regressed(model: bx.Model, params: Any, rows: bx.Batch) -> dict[str, Any]:
    """Errors, and gaps in the mean, the distribution and the error of the predictions, of a regression."""
    predictions = model.apply(params, rows.x)
    errors, by_group = (rows.y, predictions), (rows.group, NUM_GROUPS, rows.weight)
    return {
        "rmse": metrics.rmse(*errors, rows.weight),
        "r2": metrics.r2(*errors, rows.weight),
        "mean_gap": metrics.mean_difference(predictions, *by_group),
        "wasserstein_gap": metrics.distribution_difference(predictions, *by_group),
        "kolmogorov_smirnov_gap": metrics.distribution_difference(
            predictions, *by_group, distance="kolmogorov_smirnov"
        ),
        "rmse_gap": metrics.rmse_difference(*errors, *by_group),
    }
