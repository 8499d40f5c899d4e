"""Rules for groups of few rows: drop them, or merge the smallest."""

from __future__ import annotations

import dataclasses

import numpy as np

from badrjax.datasets.dataset import Dataset, take

MERGED = " + "
"""Joins the names of merged groups."""


def drop_small_groups(dataset: Dataset, min_rows: int) -> Dataset:
    """The dataset without the rows of groups that have fewer than `min_rows`; `notes` names them.

    Args:
        dataset: what to take from.
        min_rows: the fewest rows a group may have, at least 1.

    Raises:
        ValueError: for `min_rows` below 1, or larger than every group.
        TypeError: for a `min_rows` that is not an integer.
    """
    _check_count("min_rows", min_rows)
    counts = np.bincount(dataset.group, minlength=dataset.num_groups)
    small = counts < min_rows
    if not small.any():
        return dataset
    if small.all():
        raise ValueError(
            f"min_rows {min_rows} leaves no group: the largest, {dataset.group_names[int(counts.argmax())]!r}, has "
            f"{counts.max()} rows; lower it"
        )
    note = "dropped the rows of " + ", ".join(
        f"{name!r} ({count})" for name, count in zip(dataset.group_names, counts, strict=True) if count < min_rows
    )
    kept = take(dataset, np.flatnonzero(~small[dataset.group]))
    classes = np.issubdtype(dataset.y.dtype, np.integer)
    if classes and np.ptp(kept.y) == 0 and np.ptp(dataset.y) > 0:
        raise ValueError(
            f"min_rows {min_rows} leaves rows of a single class, y = {kept.y[0]}; lower it, or merge groups"
        )
    return dataclasses.replace(kept, notes=(*dataset.notes, note))


def merge_small_groups(dataset: Dataset, num_groups: int) -> Dataset:
    """The dataset with its two smallest groups merged, again and again until `num_groups` are left.

    This is how the BADR experiments make two or three groups of many intersections: the result is a merger by
    size, not "women and men". A merged group is named by its members, `"a + b"`, and stands where its first
    member stood; `notes` says what was merged. Of equally small groups the one with the lower id goes first.

    Args:
        dataset: what to merge groups of; its single `attributes` stay as they are.
        num_groups: how many groups to leave, from 1 to as many as there are.

    Raises:
        ValueError: for a number of groups below 1 or above what there is.
        TypeError: for a number that is not an integer.
    """
    _check_count("num_groups", num_groups)
    if num_groups > dataset.num_groups:
        raise ValueError(f"num_groups {num_groups} is more than the {dataset.num_groups} groups there are")
    if num_groups == dataset.num_groups:
        return dataset
    counts = np.bincount(dataset.group, minlength=dataset.num_groups).tolist()
    merged = [(count, [group]) for group, count in enumerate(counts)]
    while len(merged) > num_groups:
        # Python's sort keeps the order of equal counts, which is that of the ids.
        first, second, *rest = sorted(merged, key=lambda item: item[0])
        members = sorted(first[1] + second[1])
        merged = sorted([*rest, (first[0] + second[0], members)], key=lambda item: item[1][0])
    new_id = np.empty(dataset.num_groups, np.int32)
    for position, (_, members) in enumerate(merged):
        new_id[members] = position
    names = tuple(MERGED.join(dataset.group_names[group] for group in members) for _, members in merged)
    note = "merged the smallest groups: " + "; ".join(
        f"{name} ({count} rows)" for name, (count, members) in zip(names, merged, strict=True) if len(members) > 1
    )
    return dataclasses.replace(dataset, group=new_id[dataset.group], group_names=names, notes=(*dataset.notes, note))


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
