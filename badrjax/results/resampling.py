"""What a paper's few seeds would have shown: groups drawn from many seeds, and the epoch each of them reads."""

from __future__ import annotations

import operator
import zlib
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Epoch = Literal["last", "group_mean", "per_seed"]
EPOCHS = ("last", "group_mean", "per_seed")


@lru_cache(maxsize=8)
def memberships(num_seeds: int, group_size: int, num_resamples: int, seed: int) -> np.ndarray:
    """Groups of seeds drawn without replacement, as `f[B, N]` with 1 for a member.

    Cells of the same size share their groups, which is why these are kept; the array cannot be written to.
    """
    draws = np.random.default_rng(seed).random((num_resamples, num_seeds))
    members = np.zeros((num_resamples, num_seeds))
    np.put_along_axis(members, np.argpartition(draws, group_size - 1, axis=1)[:, :group_size], 1.0, axis=1)
    members.setflags(write=False)
    return members


def selected_epochs(scores: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The epoch with the best mean score over each group's seeds, `int[B]`; the first of those that tie.

    Args:
        scores: `f[N, E]`, higher is better.
        members: `f[B, N]`, see `memberships`.
    """
    means = members @ scores / members.sum(axis=1, keepdims=True)
    # On a small test set many epochs tie exactly, and rounding errors must not choose among them.
    return np.argmax(np.round(means, 12), axis=1)


def group_means(
    values: np.ndarray, members: np.ndarray, epoch: Epoch = "last", scores: np.ndarray | None = None
) -> np.ndarray:
    """Mean of each group at the epoch that is read, `f[B]`.

    Args:
        values: `f[N]` or `f[N, E]`, finite.
        members: `f[B, N]`, see `memberships`.
        epoch: as in `compare_cell`.
        scores: `f[N, E]`, higher is better; for any epoch but the last.
    """
    sizes = members.sum(axis=1)
    if epoch == "group_mean" and scores is not None:
        chosen = selected_epochs(scores, members)
        return np.take_along_axis(members @ values, chosen[:, None], axis=1)[:, 0] / sizes
    return members @ values_read(values, epoch, scores) / sizes


def values_read(values: np.ndarray, epoch: Epoch, scores: np.ndarray | None) -> np.ndarray:
    """One value a seed, `f[N]`: at the last epoch, or where its own score is best (the first of those that tie)."""
    if values.ndim == 1:
        return values
    if epoch == "last" or scores is None:
        return values[:, -1]
    return np.take_along_axis(values, np.argmax(scores, axis=1)[:, None], axis=1)[:, 0]


def values_read_in_groups(values: np.ndarray, members: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """One value a seed, `f[N]`, averaged over the groups it is in, each read at the group's best epoch.

    NaN for a seed that is in none of the groups.
    """
    chosen = selected_epochs(scores, members)
    total = np.einsum("bn,nb->n", members, values[:, chosen])
    with np.errstate(invalid="ignore"):
        return total / members.sum(axis=0)


def checked_runs(values: Any, epoch: str, scores: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Values, scores and which seeds converged: those whose every number that may be read is finite.

    Returns:
        Values `f[N]` or `f[N, E]`, scores `f[N, E]` or `None`, and a mask `bool[N]`.

    Raises:
        ValueError: for an unknown epoch rule, scores missing or given in vain, or shapes that do not fit.
    """
    if epoch not in EPOCHS:
        raise ValueError(f"epoch must be one of {', '.join(map(repr, EPOCHS))}, got {epoch!r}")
    values = np.asarray(values, float)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"values must be [N], one a seed, or [N, epochs], got shape {values.shape}")
    if (scores is None) != (epoch == "last"):
        raise ValueError(f"scores are what an epoch is selected by: epoch={epoch!r} takes {_scores_taken(epoch)}")
    if scores is None:
        read = values if values.ndim == 1 else values[:, -1]
        return values, None, np.isfinite(read)
    scores = np.asarray(scores, float)
    if values.ndim != 2 or scores.shape != values.shape:
        raise ValueError(f"selection needs values and scores [N, epochs], got shapes {values.shape} and {scores.shape}")
    return values, scores, np.isfinite(values).all(axis=1) & np.isfinite(scores).all(axis=1)


def shuffled_seeds(seed: int, *arrays: np.ndarray) -> list[np.ndarray]:
    """The seeds in an order drawn from a number and their values, so that how they were listed changes nothing.

    Left in ascending order, all cells would share the Monte Carlo error of the same groups of the same ranks.

    Args:
        seed: of the order.
        *arrays: `f[N]` or `f[N, E]`, the same seeds in each.
    """
    columns = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
    ascending = np.lexsort(columns.T)
    digest = zlib.crc32(np.ascontiguousarray(columns[ascending]).tobytes())
    order = ascending[np.random.default_rng([seed, digest]).permutation(len(ascending))]
    return [array[order] for array in arrays]


def check_seed(seed: Any) -> int:
    """The seed of a host generator as an `int`.

    Raises:
        TypeError: unless it is a whole number.
        ValueError: if it is negative.
    """
    if isinstance(seed, bool):
        raise TypeError(f"seed must be a whole number, got {seed!r}")
    seed = operator.index(seed)
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return seed


def _scores_taken(epoch: str) -> str:
    return "none" if epoch == "last" else "scores [N, epochs], higher is better"
