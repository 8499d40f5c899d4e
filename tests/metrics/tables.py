"""Tables that are often degenerate, all metrics of classes at once, and what scikit-learn makes of them."""

import warnings
from functools import partial

import fairlearn.metrics as fairlearn
import jax
import numpy as np
import pytest
import sklearn.metrics as sklearn
from hypothesis import strategies as st

from badrjax import metrics

N = 20


# Counts of few groups are one masked sum, of many a scatter.
NUMBERS = pytest.mark.parametrize("num_groups", [3, 20])


DIFFERENCES = {
    "demographic_parity": metrics.demographic_parity_difference,
    "equal_opportunity": metrics.equal_opportunity_difference,
    "predictive_equality": metrics.predictive_equality_difference,
    "equalized_odds": metrics.equalized_odds_difference,
}


FAIRLEARN = {
    "demographic_parity": fairlearn.demographic_parity_difference,
    "equal_opportunity": fairlearn.equal_opportunity_difference,
    "predictive_equality": fairlearn.false_positive_rate_difference,
    "equalized_odds": fairlearn.equalized_odds_difference,
}


# Functions of (labels, predictions, weight).
OVERALL = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "f1": metrics.f1,
    "f1_macro": partial(metrics.f1, average="macro"),
    "f1_weighted": partial(metrics.f1, average="weighted"),
}


SKLEARN = {
    "accuracy": sklearn.accuracy_score,
    "balanced_accuracy": sklearn.balanced_accuracy_score,
    "f1": partial(sklearn.f1_score, zero_division=0),
    "f1_macro": partial(sklearn.f1_score, average="macro", zero_division=0),
    "f1_weighted": partial(sklearn.f1_score, average="weighted", zero_division=0),
}


# Functions of (labels, predictions, groups, weight) with the number of groups bound.
BY_GROUP = DIFFERENCES | {
    "rates": metrics.by_group,
    "group_accuracy": metrics.group_accuracy,
    "group_balanced_accuracy": metrics.group_balanced_accuracy,
}


@partial(jax.jit, static_argnums=4)
def everything(labels, predictions, scores, rows, num_groups):
    """All metrics at once, so that there is one compilation for each shape."""
    groups, weight = rows
    overall = {name: metric(labels, predictions, weight) for name, metric in OVERALL.items()}
    grouped = {name: metric(labels, predictions, groups, num_groups, weight) for name, metric in BY_GROUP.items()}
    ranked = {
        "auc": metrics.auc(labels, scores, weight),
        "group_auc": metrics.group_auc(labels, scores, groups, num_groups, weight),
    }
    return overall | grouped | ranked


def assert_same(left, right, **tolerances):
    tolerances = {"rtol": 1e-5, "atol": 1e-6} | tolerances
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), left, right)


def arrays(*values):
    return st.lists(st.sampled_from(values), min_size=N, max_size=N).map(np.array)


def tables(num_groups):
    """Labels, predictions, scores with ties, and (groups, weights), often degenerate."""
    score = arrays(-np.inf, -1.5, -0.0, 0.0, 0.25, 0.5, 1e30).map(np.float32)
    weight = arrays(0.0, 0.0, 0.5, 1.0, 2.0, 3.0).map(np.float32)
    # Few groups of many, so that some hold more than a row or two.
    group = arrays(*{0, 1, num_groups // 2, num_groups - 1})
    return st.tuples(arrays(0, 1), arrays(0, 1), score, st.tuples(group, weight))


def quiet(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def expected_auc(labels, scores, weight):
    kept = weight > 0
    if len(np.unique(labels[kept])) < 2:
        return np.nan
    finite = np.nan_to_num(scores[kept].astype(float), posinf=1e300, neginf=-1e300)
    return sklearn.roc_auc_score(labels[kept], finite, sample_weight=weight[kept])
