"""Imbalanced subsets of two classes of images: few of one to train on, equally many of both to validate and test on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import badrjax as bx


class Subset(NamedTuple):
    """Images of two classes, and which of them are used for what.

    Attributes:
        dataset: all images of both classes; the class is both the label and the group, and 1 is the rare one.
        splits: positions of the images to train, validate and test on.
        wanted: training images that were asked for, of the common and the rare class.
        taken: training images that there are, of the common and the rare class.
        stored: training images of each class in the files.
    """

    dataset: bx.Dataset
    splits: bx.Splits
    wanted: tuple[int, int]
    taken: tuple[int, int]
    stored: tuple[int, int]


def load(
    name: str,
    classes: Sequence[str] | None,
    *,
    majority_share: float,
    train_size: int,
    validation_per_class: int,
    seed: int,
    data_home: Path | None = None,
) -> Subset:
    """A subset drawn from the training images of two classes; the test images of both are all kept.

    Where the files hold too few images of a class, the training part is the largest of the same share that they allow.

    Args:
        name: "cifar10" or "cifar100".
        classes: the common and the rare class, by name or number; `None` takes the dataset's own choice.
        majority_share: share of the common class among the training images, in `[0.5, 1)`.
        train_size: training images, at least one of each class.
        validation_per_class: validation images of each class, `>= 1`; drawn first, and not trained on.
        seed: of the draw, not negative.
        data_home: directory with raw files, searched before `BADRJAX_DATA`.

    Raises:
        ValueError: for an unknown class, or where a class would have no image to train on.
        OSError: where the files are neither there nor to be downloaded.
    """
    options = {} if classes is None else {"classes": tuple(classes)}
    # A share of one half keeps every image of both classes, to draw from.
    dataset = _grouped_by_label(bx.load_dataset(name, data_home=data_home, majority_share=0.5, **options))
    official = bx.datasets.split(dataset, "domain", domain="part", train="train", test="test")
    generator = np.random.default_rng(seed)
    of_class = [generator.permutation(official.train[dataset.y[official.train] == label]) for label in (0, 1)]
    stored = (of_class[0].size, of_class[1].size)
    wanted = counts(train_size, majority_share)
    left = (stored[0] - validation_per_class, stored[1] - validation_per_class)
    size = largest_size(train_size, majority_share, left)
    if size is None:
        raise ValueError(
            f"{name} has {stored[0]} and {stored[1]} training images of {' and '.join(dataset.group_names)}: with "
            f"{validation_per_class} of each to validate on, none of a class would be left to train on with "
            f"majority_share={majority_share} and train_size={train_size}; choose others"
        )
    taken = counts(size, majority_share)
    first = validation_per_class
    validation = np.concatenate([rows[:first] for rows in of_class])
    train = np.sort(np.concatenate([rows[first : first + n] for rows, n in zip(of_class, taken, strict=True)]))
    return Subset(dataset, bx.Splits(train, validation, official.test), wanted, taken, stored)


def counts(train_size: int, majority_share: float) -> tuple[int, int]:
    """Training images of the common and of the rare class."""
    common = round(train_size * majority_share)
    return common, train_size - common


def largest_size(train_size: int, majority_share: float, left: tuple[int, int]) -> int | None:
    """The largest number of training images, up to the wanted, that classes of `left` images allow.

    `None` where that leaves a class with none.
    """
    for size in range(train_size, 1, -1):
        number = counts(size, majority_share)
        if number[0] <= left[0] and number[1] <= left[1]:
            return size if min(number) >= 1 else None
    return None


def _grouped_by_label(dataset: bx.Dataset) -> bx.Dataset:
    """The dataset with the label as the group: as loaded, groups are in the order of the classes' names."""
    names = tuple(dataset.group_names[dataset.group[np.argmax(dataset.y == label)]] for label in (0, 1))
    return dataclasses.replace(dataset, group=dataset.y, group_names=names)


def describe(subset: Subset) -> str:
    """What there is to train, validate and test on, and what was asked for where that is more."""
    common, rare = subset.dataset.group_names
    splits = subset.splits
    text = (
        f"{subset.dataset.name}: {subset.taken[0]:,} training images of {common} and {subset.taken[1]:,} of {rare}, "
        f"{splits.validation.size // 2} of each to validate on, {splits.test.size:,} to test on"
    )
    if subset.taken == subset.wanted:
        return text
    return (
        f"{text}. Asked for were {subset.wanted[0]:,} and {subset.wanted[1]:,}: the files hold {subset.stored[0]:,} "
        f"training images of {common} and {subset.stored[1]:,} of {rare}, so {sum(subset.taken):,} of the "
        f"{sum(subset.wanted):,} images that were asked for are trained on, in the same shares"
    )


def standardise_channels(dataset: bx.Dataset, rows: np.ndarray | None) -> bx.Dataset:
    """The dataset with each colour at mean 0 and deviation 1 over all pixels of `rows`; `None` takes every row."""
    pixels = dataset.x.reshape(*dataset.x.shape[:1], -1, dataset.feature_shape[-1])
    fitted = pixels if rows is None else pixels[rows]
    mean, deviation = fitted.mean((0, 1), np.float64), fitted.std((0, 1), np.float64)
    scaled = (pixels - mean) / np.where(deviation > 0, deviation, 1.0)
    return dataclasses.replace(dataset, x=scaled.reshape(dataset.x.shape).astype(dataset.x.dtype))
