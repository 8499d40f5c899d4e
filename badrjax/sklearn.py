"""The scikit-learn face: `FairClassifier` and `FairRegressor` fit any method of `badrjax.learners` to arrays.

The names are those of their arguments' field, and promise nothing: a fitted estimator has whatever gaps it has, which
`fairlearn.metrics.MetricFrame` or `badrjax.metrics` measure. Needs scikit-learn (`pip install 'badrjax[estimators]'`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from badrjax.groups import Groups, encode_groups
from badrjax.learners import METHODS, Trained, predictions, probabilities, scores
from badrjax.learners.settings import Task, checked
from badrjax.learners.trained import fit_arrays

__all__ = ["FairClassifier", "FairRegressor"]


class _Learner(BaseEstimator):
    """What both share: parameters, the fit, and the groups."""

    def __init__(
        self,
        method: str = "erm",
        *,
        objective: Any = None,
        constraints: Any = None,
        model: str | None = None,
        hidden: Any = (64, 32),
        options: Mapping[str, Any] | None = None,
        learning_rate: float | None = None,
        batch_size: int = 256,
        num_epochs: int | None = None,
        validation_fraction: float = 0.2,
        random_state: Any = 0,
    ) -> None:
        self.method = method
        self.objective = objective
        self.constraints = constraints
        self.model = model
        self.hidden = hidden
        self.options = options
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def _fit(self, task: Task, x: Any, y: Any, sensitive_features: Any, sample_weight: Any) -> None:
        settings = checked(
            task, self.method, objective=self.objective, constraints=self.constraints, model=self.model,
            hidden=self.hidden, options=self.options, learning_rate=self.learning_rate, batch_size=self.batch_size,
            num_epochs=self.num_epochs, validation_fraction=self.validation_fraction, seed=self._seed(),
        )  # fmt: skip
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, x, ensure_non_negative=True).astype(np.float32)
        attributes = _attributes(sensitive_features, x.shape[0])
        if not attributes and METHODS[self.method].groups:
            raise ValueError(
                f"method {self.method!r} compares groups: give fit(..., sensitive_features=), a column, a frame of "
                "columns or a dict of them, one entry a row"
            )
        groups = _intersections(attributes) if attributes else encode_groups(np.full(x.shape[0], "all"))
        found = fit_arrays(x, y, groups, attributes, weight, settings)
        names = getattr(self, "feature_names_in_", None)
        self.trained_: Trained = found if names is None else found._replace(feature_names=tuple(map(str, names)))
        self.groups_ = groups.names if attributes else ()
        self.info_ = dict(found.info)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        if isinstance(self.random_state, np.random.Generator):
            return int(self.random_state.integers(2**31))
        return int(check_random_state(self.random_state).randint(2**31))

    def _features(self, x: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, x, reset=False, dtype=np.float64)


class FairClassifier(ClassifierMixin, _Learner):
    """A classifier of two classes, fitted by a method of `badrjax.learners.METHODS`.

    Features are scaled within; text must be encoded before (`sklearn.preprocessing.OneHotEncoder`). A model sees the
    sensitive features only where they are among the columns of X too. `predict` does not take them.

    Args:
        method: a name in `badrjax.learners.METHODS`; which of them look at groups is told there.
        objective: of `"badr"` and `"fairbinn"`: a name, or `(scores, labels, groups, num_groups, weight) -> f[]`.
        constraints: of `"fairlab"` and `"expgrad"`: `(metric, attributes, threshold)` each, where attributes are
            columns of `sensitive_features` by name (`"sensitive"` for a single column without one).
        model: `"linear"` or `"mlp"`; `None` is linear, but for `"fairbinn"`.
        hidden: widths of a perceptron's hidden layers.
        options: further arguments of the method, by name.
        learning_rate: `> 0`; `None` is the method's.
        batch_size: rows a batch, at most all.
        num_epochs: passes over the rows; `None` is as many as make 1000 steps, and 30 at least (for `"badr"`, 300
            iterations).
        validation_fraction: of the rows that methods which steer by held-out rows keep for that.
        random_state: an integer, a generator, or `None` for another result every time.

    Attributes:
        classes_: both classes; the second is class 1 of gaps and objectives.
        groups_: names of the groups it was fitted on.
        info_: numbers of the run.
        trained_: `badrjax.learners.Trained`, for `badrjax.learners.save`.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    def fit(self, X: Any, y: Any, sensitive_features: Any = None, sample_weight: Any = None) -> FairClassifier:
        """Fit to rows.

        Args:
            X: numbers, `[n, F]`.
            y: labels of two classes, `[n]`.
            sensitive_features: a column `[n]`, columns `[n, A]`, a frame, or a dict of columns (which searches cannot
                cut into folds: give them a frame); methods that look at groups need it, others check it only.
            sample_weight: frequencies `>= 0`, `[n]`: a row of weight w counts as w rows.

        Returns:
            Itself.

        Raises:
            ValueError: for settings that do not fit together, other than two classes, missing values, unequal
                lengths, missing groups, or rows that the method cannot use.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        self.classes_, coded = np.unique(y, return_inverse=True)
        if self.classes_.size < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}; a classifier needs rows of two")
        self._fit("classification", X, coded.astype(np.int32), sensitive_features, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Classes `[n]`: the second where the logit is above 0; for a randomised method one draw, by `random_state`."""
        rows = self._features(X)
        return self.classes_[predictions(self.trained_, rows)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Chances of both classes by the model's own account, `f[n, 2]`; they are not calibrated."""
        rows = self._features(X)
        second = np.asarray(probabilities(self.trained_, rows), np.float64)
        return np.column_stack([1 - second, second])

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits of the second class `[n]`; for a randomised method its chance less a half."""
        rows = self._features(X)
        return scores(self.trained_, rows)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class FairRegressor(RegressorMixin, _Learner):
    """A regression on squared losses, fitted by a method of `badrjax.learners.METHODS`.

    Arguments and attributes as of `FairClassifier`, with the methods and objectives that are for regression. Targets
    are scaled within.
    """

    def fit(self, X: Any, y: Any, sensitive_features: Any = None, sample_weight: Any = None) -> FairRegressor:
        """Fit to rows; arguments and errors as of `FairClassifier.fit`, with numbers `[n]` for y."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self._fit("regression", X, np.asarray(y, np.float64), sensitive_features, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicted values, `f[n]`."""
        rows = self._features(X)
        return scores(self.trained_, rows)


def _attributes(sensitive_features: Any, num_rows: int) -> dict[str, Groups]:
    """Sensitive features as groups by name.

    Raises:
        ValueError: for another number of rows, missing values, or more than two axes.
    """
    if sensitive_features is None:
        return {}
    columns = _columns(sensitive_features)
    for name, column in columns.items():
        if column.shape != (num_rows,):
            raise ValueError(
                f"sensitive_features must have one entry a row: X has {num_rows} rows, and {name!r} has shape "
                f"{column.shape}"
            )
    try:
        return {name: encode_groups(column) for name, column in columns.items()}
    except (ValueError, TypeError) as error:
        raise type(error)(f"sensitive_features: {error}") from error


def _columns(given: Any) -> dict[str, np.ndarray]:
    if isinstance(given, Mapping):
        return {str(name): np.asarray(column) for name, column in given.items()}
    if hasattr(given, "columns"):
        return {str(name): np.asarray(given[name]) for name in given.columns}
    name = getattr(given, "name", None)
    values = np.asarray(given)
    if values.ndim == 2 and values.shape[1] > 1:
        return {f"sensitive_{i}": values[:, i] for i in range(values.shape[1])}
    return {"sensitive" if name is None else str(name): values[:, 0] if values.ndim == 2 else values}


def _intersections(attributes: Mapping[str, Groups]) -> Groups:
    if len(attributes) == 1:
        return next(iter(attributes.values()))
    found = encode_groups(*(np.array(groups.names)[groups.ids] for groups in attributes.values()))
    if len(set(found.names)) < len(found.names):
        twice = next(name for name in found.names if found.names.count(name) > 1)
        raise ValueError(f"sensitive_features: two groups are named {twice!r}; rename values that contain ' & '")
    return found
