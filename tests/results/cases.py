"""Simulated runs with a known truth."""

import numpy as np


def learning_curves(generator, num_seeds, num_epochs=20):
    """A metric `[S, E]` that rises to a plateau, with noise of each seed and of each epoch."""
    rise = 0.8 + 0.02 * (1 - np.exp(-np.arange(num_epochs) / 5))
    noise = generator.normal(size=(num_seeds, 1)) + generator.normal(size=(num_seeds, num_epochs))
    return rise + 0.01 * noise


def best_epoch_mean(values, scores):
    """What a paper prints that reads all its seeds at the epoch with their best mean score."""
    return values[:, np.argmax(scores.mean(axis=0))].mean()


def balanced_rows(generator, per_cell=50):
    """Labels and groups `[n]` of two groups with as many rows of either label."""
    groups, labels = np.repeat([0, 0, 1, 1], per_cell), np.tile(np.repeat([0, 1], per_cell), 2)
    order = generator.permutation(len(labels))
    return labels[order], groups[order]
