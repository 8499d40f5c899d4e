"""A fitted method with all that is needed to use it on other rows."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from badrjax.checks import check_finite, unknown_name
from badrjax.datasets import Dataset
from badrjax.datasets.encodings import Encoding
from badrjax.groups import Groups
from badrjax.learners import recipes
from badrjax.learners.rows import Rows, check_rows
from badrjax.learners.settings import METHODS, Settings, checked
from badrjax.losses import binary_logits
from badrjax.models import Model
from badrjax.reductions import ExpGradResult, expected_positive


class Trained(NamedTuple):
    """A predictor.

    Attributes:
        settings: it was fitted with.
        params: of its model; stacked for a randomised predictor.
        mixture: probabilities `f[T]` and constants `int[T]` of a randomised predictor, see
            `badrjax.reductions.ExpGradResult`; else `None`.
        shift, scale: features are `(x - shift) / scale` for the model, `f64[F]`.
        target: mean and deviation of a regression's targets, which the model is fitted to after scaling; (0, 1) else.
        feature_names: one a feature.
        group_names: one a group that it was fitted on.
        sensitive: the attributes that made the groups.
        label_name: what is predicted.
        favourable: the value of the label that is class 1.
        encoding: how columns of a table become features; `None` where it was fitted to arrays.
        info: numbers of the run by name.
        history: by name, `f[T, ...]` over epochs or iterations.
        labels: names along the last axis of a history.
    """

    settings: Settings
    params: Any
    mixture: tuple[Array, Array] | None
    shift: Float[np.ndarray, "F"]
    scale: Float[np.ndarray, "F"]
    target: tuple[float, float]
    feature_names: tuple[str, ...]
    group_names: tuple[str, ...]
    sensitive: tuple[str, ...] = ()
    label_name: str = ""
    favourable: str = ""
    encoding: Encoding | None = None
    info: Mapping[str, Any] = {}
    history: Mapping[str, np.ndarray] = {}
    labels: Mapping[str, tuple[str, ...]] = {}

    @property
    def randomised(self) -> bool:
        """Whether a prediction is a draw."""
        return self.mixture is not None

    @property
    def model(self) -> Model:
        """Of the settings, for as many features."""
        return recipes.build_model(self.settings, len(self.feature_names))


def train(
    dataset: Dataset, *, method: str = "erm", encoding: Encoding | None = None, weight: Any = None, **options: Any
) -> Trained:
    """Fit a method to the rows of a dataset.

    Features are brought to mean 0 and deviation 1 over these rows; the last parameters are kept.

    Args:
        dataset: all of its rows are trained on; labels 0 and 1 are classified, floats regressed on.
        method: a name in `badrjax.learners.METHODS`.
        encoding: how its columns became features, where the predictor is to read tables.
        weight: frequencies `>= 0`, `f[n]`, a row of weight w counting as w rows; `None` is 1 each.
        **options: `objective`, `constraints`, `model`, `hidden`, `options`, `learning_rate`, `batch_size`,
            `num_epochs`, `validation_fraction`, `seed`, see `badrjax.learners.Settings`.

    Returns:
        `Trained`.

    Raises:
        ValueError: for settings that do not fit together, labels other than 0 and 1, one class only, too few rows or
            groups for the method, or a run that diverged.
        TypeError: for constraints of another form.
    """
    classes = np.issubdtype(dataset.y.dtype, np.integer)
    if classes and not np.isin(dataset.y, (0, 1)).all():
        raise ValueError(f"the labels of {dataset.name} must be 0 and 1, or floats for regression")
    settings = checked("classification" if classes else "regression", method, **options)
    check_attributes(settings, dataset)
    attributes = dict(dataset.attributes) or {"group": Groups(dataset.group, dataset.group_names, dataset.num_groups)}
    groups = Groups(np.asarray(dataset.group, np.int32), dataset.group_names, dataset.num_groups)
    weight = None if weight is None else np.asarray(weight, np.float32)
    found = fit_arrays(np.asarray(dataset.x), dataset.y, groups, attributes, weight, settings)
    return found._replace(
        feature_names=dataset.feature_names, sensitive=dataset.sensitive, label_name=dataset.label_name,
        favourable=dataset.favourable, encoding=encoding,
    )  # fmt: skip


def check_attributes(settings: Settings, dataset: Dataset) -> None:
    """Raise `ValueError` for a constraint on an attribute that the dataset does not have, with the nearest."""
    for requirement in settings.constraints:
        for name in requirement.attributes:
            if name not in dataset.attributes:
                raise unknown_name("attribute", name, tuple(dataset.attributes))


def fit_arrays(
    x: np.ndarray,
    y: np.ndarray,
    groups: Groups,
    attributes: Mapping[str, Groups],
    weight: np.ndarray | None,
    settings: Settings,
) -> Trained:
    """Fit the method of the settings to arrays.

    Args:
        x: features, `f[n, F]`.
        y: labels 0 and 1, `int[n]`, or targets, `f[n]`.
        groups: of the intersections.
        attributes: each sensitive attribute by itself.
        weight: frequencies, `f[n]`, or `None`.
        settings: of `badrjax.learners.settings.checked`.

    Returns:
        `Trained` with columns numbered in place of names.

    Raises:
        ValueError: as `train`.
    """
    if settings.task == "classification":
        y = np.asarray(y, np.int32)
    check_rows(Rows(x, y, groups, attributes, weight), settings)
    shift, scale = _moments(x, weight)
    features = ((x - shift) / scale).astype(np.float32)
    target = (0.0, 1.0)
    if settings.task == "regression":
        mean, deviation = _moments(np.asarray(y, np.float64)[:, None], weight)
        target = (float(mean[0]), float(deviation[0]))
        y = ((y - target[0]) / target[1]).astype(np.float32)
    rows = Rows(features, y, groups, attributes, weight)
    found = recipes.fit_rows(jax.random.key(settings.seed), rows, settings)
    names = tuple(f"x{i}" for i in range(x.shape[1]))
    return Trained(
        settings, found.params, found.mixture, shift, scale, target, names, groups.names, tuple(attributes),
        info=found.info, history=found.history, labels=found.labels,
    )  # fmt: skip


def scores(trained: Trained, x: Float[np.ndarray, "n F"]) -> Float[np.ndarray, "n"]:
    """What the predictor says of rows: logits, for regression predicted values.

    A randomised predictor has no logits: its chance of class 1 stands there, less a half.

    Args:
        trained: of `train`, or loaded.
        x: features as the dataset's, not scaled, `f[n, F]`.

    Returns:
        `f32[n]` for logits, `f64[n]` for predicted values.

    Raises:
        ValueError: for another number of features, or ones that are not finite.
    """
    if trained.mixture is not None:
        return probabilities(trained, x) - 0.5
    found = np.asarray(_apply(trained.model, trained.params, _padded(features_of(trained, x))))[: np.shape(x)[0]]
    if trained.settings.task == "classification":
        return found
    return found.astype(np.float64) * trained.target[1] + trained.target[0]


def probabilities(trained: Trained, x: Float[np.ndarray, "n F"]) -> Float[np.ndarray, "n"]:
    """Chance of class 1, by the model's own account (it is not calibrated), `f[n]` in [0, 1]; see `scores`."""
    if trained.mixture is None:
        return np.asarray(jax.nn.sigmoid(jnp.asarray(scores(trained, x))))
    padded = _padded(features_of(trained, x))
    return np.asarray(expected_positive(_mixture(trained), trained.model, padded))[: np.shape(x)[0]]


def predictions(trained: Trained, x: Float[np.ndarray, "n F"]) -> Int[np.ndarray, "n"] | Float[np.ndarray, "n"]:
    """Classes `int32[n]` (1 where the logit is above 0), or predicted values `f[n]`.

    Those of a randomised predictor are draws by the seed of its settings and the row itself: the same row gets the
    same class, alone or among others.
    """
    if trained.settings.task == "regression":
        return scores(trained, x)
    if trained.mixture is None:
        return (scores(trained, x) > 0).astype(np.int32)
    rows = features_of(trained, x)
    chance = probabilities(trained, x)
    tags = jnp.asarray([zlib.crc32(row.tobytes()) for row in rows], jnp.uint32)
    key = jax.random.fold_in(jax.random.key(trained.settings.seed), 1)
    drawn = jax.vmap(lambda tag: jax.random.uniform(jax.random.fold_in(key, tag)))(tags)
    return (np.asarray(drawn) < chance).astype(np.int32)


def features_of(trained: Trained, x: Float[np.ndarray, "n F"]) -> Float[np.ndarray, "n F"]:
    """Features as the model takes them.

    Raises:
        ValueError: for another number of features, or ones that are not finite.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != len(trained.feature_names):
        raise ValueError(f"x must have {len(trained.feature_names)} features, [n, {len(trained.feature_names)}], "
                         f"got shape {x.shape}")  # fmt: skip
    check_finite(x, "x", trained.feature_names)
    return ((x - trained.shift) / trained.scale).astype(np.float32)


def describe(trained: Trained) -> dict[str, Any]:
    """What a person should know of the predictor before its numbers, by name."""
    settings = trained.settings
    requirements = "; ".join(f"{m} of {' & '.join(a)} at most {t:g}" for m, a, t in settings.constraints)
    objective = settings.objective
    about = {
        "method": f"{settings.method}: {METHODS[settings.method].summary}",
        "objective": getattr(objective, "__name__", objective),
        "constraints": requirements,
        "model": settings.model if settings.model == "linear" else f"perceptron {settings.hidden}",
        "prediction": "drawn among several models" if trained.randomised else "the same for the same row",
        **trained.info,
    }
    return {name: value for name, value in about.items() if value not in (None, "")}


@jax.jit
def _apply(model: Model, params: Any, x: Array) -> Array:
    found = model.apply(params, x)
    return found if found.ndim == 1 else binary_logits(found)


def _padded(x: np.ndarray) -> Array:
    """Rows up to a power of two, so that few programs serve any number of rows."""
    rows = max(64, 1 << (max(x.shape[0], 1) - 1).bit_length())
    return jnp.asarray(np.pad(x, ((0, rows - x.shape[0]), (0, 0))))


def _mixture(trained: Trained) -> ExpGradResult:
    assert trained.mixture is not None
    chances, constants = (jnp.asarray(leaf) for leaf in trained.mixture)
    return ExpGradResult(trained.params, chances, constants, float("nan"), 0, 0)


def _moments(x: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of columns in double precision, 1 for constant ones."""
    wide = np.asarray(x, np.float64)
    mean = np.average(wide, axis=0, weights=weight)
    deviation = np.sqrt(np.average((wide - mean) ** 2, axis=0, weights=weight))
    # Rounding leaves a constant column a tiny deviation, by which nothing should be divided.
    constant = deviation <= 1e-12 * np.maximum(np.abs(mean), 1.0)
    return mean, np.where(constant, 1.0, deviation)
