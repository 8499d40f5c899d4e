"""The objectives of scores as plain NumPy loops over rows without weight, written for real or complex scores.

Each takes `(scores, labels, groups, sharpness, variant)`. Complex scores give derivatives to rounding: for an analytic
function the imaginary part of `f(s + i h)` is `h f'(s)`, and no difference is taken.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rates(decisions, groups):
    return np.array([decisions[groups == g].mean() for g in np.unique(groups)])


def log_sum_exp(x):
    return np.log(np.sum(np.exp(x)))


def demographic_parity(scores, labels, groups, sharpness, variant):
    p = rates(scores if labels.dtype.kind == "f" else sigmoid(sharpness * scores), groups)
    value = log_sum_exp(sharpness * np.sqrt((p - p.mean()) ** 2 + 1e-6)) / sharpness
    return value if variant == "badr" else value - np.log(p.size) / sharpness - 1e-3


def rate_gap(scores, groups, sharpness, variant):
    p = rates(sigmoid(sharpness * scores), groups)
    if p.size < 2:
        return 0.0
    value = log_sum_exp(sharpness * p) / sharpness + log_sum_exp(-sharpness * p) / sharpness
    return value if variant == "badr" else value - 2 * np.log(p.size) / sharpness


def equal_opportunity(scores, labels, groups, sharpness, variant):
    return rate_gap(scores[labels == 1], groups[labels == 1], sharpness, variant)


def equalized_odds(scores, labels, groups, sharpness, variant):
    return sum(rate_gap(scores[labels == y], groups[labels == y], sharpness, variant) for y in (0, 1)) / 2


def squared_covariances(values, groups, variant, denominator):
    if variant == "badr":
        return (np.sum((groups - groups.mean()) * (values - values.mean())) / denominator) ** 2
    members = [(groups == g).astype(float) for g in np.unique(groups)]
    return sum((np.sum((m - m.mean()) * (values - values.mean())) / denominator) ** 2 for m in members) / 2


def hsic(scores, labels, groups, sharpness, variant):
    return squared_covariances(scores, groups, variant, scores.size - 1)


def disparate_mistreatment(scores, labels, groups, sharpness, variant):
    margin = (2 * labels - 1) * scores
    values = scores if variant == "badr" else np.where(margin.real < 0, margin, 0)
    return squared_covariances(values, groups, variant, scores.size)


def individual_fairness(scores, labels, groups, sharpness, variant):
    total, ordered_pairs = 0.0, 0
    labels = labels.astype(float)
    for i in range(scores.size):
        for j in range(scores.size):
            if groups[i] < groups[j]:
                total += np.exp(-abs(labels[i] - labels[j])) * (scores[i] - scores[j]) ** 2
            ordered_pairs += groups[i] != groups[j]
    return total / ordered_pairs


def of_frequencies(function, scores, labels, groups, weight, sharpness=1.0, variant=None):
    """`function` of each row repeated `weight` times; 0 where fewer than two groups are left."""
    scores, labels, groups = (np.repeat(x, weight) for x in (scores, labels, groups))
    if np.unique(groups).size < 2:
        return 0.0
    return function(scores, labels, groups, sharpness, variant)


def gradient(function, scores, *args, **options):
    """Derivatives of `of_frequencies` by the scores, from complex steps."""
    steps = 1e-30j * np.eye(scores.size)
    return np.array([np.imag(of_frequencies(function, scores + step, *args, **options)) for step in steps]) / 1e-30
