"""The trade-off front of a method: its one number varied, beside plain training and a constant prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from badrjax import bilevel, metrics
from badrjax.constraints import Requirement
from badrjax.datasets import Dataset
from badrjax.groups import Groups
from badrjax.learners import recipes
from badrjax.learners.measures import GAPS, partitions_of_dataset
from badrjax.learners.rows import Rows
from badrjax.learners.settings import META, Settings
from badrjax.learners.trained import Trained, features_of, predictions, train

KNOBS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "dro": ("fraction", (0.1, 0.2, 0.4, 0.7)),
    "group_dro": ("step_size", (0.001, 0.01, 0.1, 1.0)),
    "fairlab": ("budget", (0.01, 0.05, 0.1, 0.2)),
    "fairbinn": ("fairness_weight", (0.1, 1.0, 10.0, 100.0)),
}
"""The number of a method that moves it along its front, and values to try."""
_MIXES = (0.25, 0.5, 0.75)
_SHARES = (0.25, 0.5, 2.0)


class Point(NamedTuple):
    """A predictor on the front.

    Attributes:
        series: which line it belongs to: the method, `"erm"`, or `"constant"`.
        setting: what was varied.
        error: share of rows predicted wrong, or the root mean squared error.
        gaps: by partition and name of the gap.
    """

    series: str
    setting: str
    error: float
    gaps: Mapping[tuple[str, str], float]


def trade_off(trained: Trained, training: Dataset, reported: Dataset, **options: Any) -> list[Point]:
    """Points of error and gaps on rows that were not trained on.

    The method is fitted again with other values of its one number: the tail of `dro`, the step of `group_dro`, the
    budget of `fairlab`, the weight of `fairbinn`, the largest gap of `expgrad`, and for `badr` with a linear model the
    weights on the way from the groups' shares to its own. Others have no such number: they are one point.

    Args:
        trained: fitted to the training rows.
        training: these.
        reported: the rows to measure on.
        **options: that `trained` was fitted with, see `badrjax.learners.train`.

    Returns:
        Points, the fitted one first. Which of them to take is to be decided on other rows than these.

    Raises:
        ValueError: as `badrjax.learners.train`.
    """
    method = trained.settings.method
    partitions = partitions_of_dataset(reported)
    found = [_point(method, "as trained", predictions(trained, reported.x), reported, partitions)]
    for setting, other in _others(trained, training, options):
        found.append(_point(method, setting, predictions(other, reported.x), reported, partitions))
    if method != "erm":
        plain = train(training, **_plain(trained.settings, options))
        found.append(_point("erm", "plain training", predictions(plain, reported.x), reported, partitions))
    return [*found, _point("constant", "one prediction for all", _constant(training, reported), reported, partitions)]


def _plain(settings: Settings, options: Mapping[str, Any]) -> dict[str, Any]:
    """What plain training shares with a method: the model, the epochs and the rate, where these are of such steps."""
    own = {"method", "objective", "constraints", "options"}
    if settings.method == "badr":  # whose epochs are iterations
        own |= {"num_epochs", "learning_rate"}
    elif settings.method in META:
        own |= {"learning_rate"}  # of SGD, where plain training has Adam
    return {name: value for name, value in options.items() if name not in own} | {"model": settings.model}


def _others(trained: Trained, training: Dataset, options: dict[str, Any]) -> Iterator[tuple[str, Trained]]:
    settings = trained.settings
    if settings.method in KNOBS:
        name, values = KNOBS[settings.method]
        for value in values:
            changed = {**options, "options": {**settings.options, name: value}}
            yield f"{name} {value:g}", train(training, **changed)
    elif settings.method == "expgrad":
        (requirement,) = settings.constraints
        for share in _SHARES:
            gap = min(share * requirement.threshold, 1.0)
            changed = {**options, "constraints": [Requirement(requirement.metric, requirement.attributes, gap)]}
            yield f"largest gap {gap:g}", train(training, **changed)
    elif settings.method == "badr" and settings.model == "linear":
        yield from _mixed(trained, training)


def _mixed(trained: Trained, training: Dataset) -> Iterator[tuple[str, Trained]]:
    """Weights on the way from the groups' shares to those that BADR chose, the lower problem solved at each."""
    settings, num_groups = trained.settings, training.num_groups
    groups = Groups(np.asarray(training.group, np.int32), training.group_names, num_groups)
    y = np.asarray(training.y)
    if settings.task == "regression":
        y = ((y - trained.target[0]) / trained.target[1]).astype(np.float32)
    rows = Rows(features_of(trained, training.x), y, groups, training.attributes)
    problem = recipes.badr_problem(rows, settings, trained.model)
    shares = np.bincount(groups.ids, minlength=num_groups) / groups.ids.size
    chosen = np.array([trained.info[f"weight of {name}"] for name in groups.names])
    mixes = np.array([(1 - mix) * shares + mix * chosen / chosen.sum() for mix in (0.0, *_MIXES)])
    start = trained.model.init(jax.random.key(0))
    solved = jax.jit(bilevel.pareto_path)(problem, jnp.asarray(mixes, jnp.result_type(float)), start)
    for place, mix in enumerate((0.0, *_MIXES)):
        params = jax.tree.map(lambda leaf, place=place: leaf[place], solved.evaluations.params)
        yield f"weights {mix:.0%} of the way from the groups' shares", trained._replace(params=params)


def _constant(training: Dataset, reported: Dataset) -> np.ndarray:
    """The commoner class, or the mean target."""
    mean = float(np.mean(training.y))
    classes = np.issubdtype(training.y.dtype, np.integer)
    value = int(mean >= 0.5) if classes else mean
    return np.full(reported.y.shape[0], value, np.int32 if classes else np.float64)


def _point(
    series: str, setting: str, predicted: np.ndarray, reported: Dataset, partitions: Mapping[str, Groups]
) -> Point:
    labels, guess = jnp.asarray(reported.y), jnp.asarray(predicted)
    gaps = {}
    if np.issubdtype(reported.y.dtype, np.integer):
        error = 1 - float(metrics.accuracy(labels, guess))
        for name, groups in partitions.items():
            for gap in GAPS:
                difference = getattr(metrics, f"{gap}_difference")
                gaps[name, gap] = float(difference(labels, guess, jnp.asarray(groups.ids), groups.num_groups))
    else:
        error = float(metrics.rmse(labels, guess))
        for name, groups in partitions.items():
            ids = jnp.asarray(groups.ids)
            gaps[name, "mean_prediction"] = float(metrics.mean_difference(guess, ids, groups.num_groups))
            gaps[name, "rmse"] = float(metrics.rmse_difference(labels, guess, ids, groups.num_groups))
    return Point(series, setting, error, gaps)
