"""Images with binary attributes in the format of CelebA, which is not fetched: its terms forbid it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from badrjax.datasets.dataset import Dataset
from badrjax.extras import require
from badrjax.groups import encode_groups

_SAMPLED = 5


def celeba_from_files(
    attributes: str | os.PathLike[str],
    images: str | os.PathLike[str],
    *,
    label: str,
    sensitive: str = "Male",
    size: tuple[int, int] = (64, 64),
    num_images: int | None = None,
) -> Dataset:
    """Faces of CelebA (Liu et al. 2015), or any images with a list of attributes in its format.

    Args:
        attributes: text file, `list_attr_celeba.txt`: the number of images, the names of the attributes, then a line an
            image, its file name and 1 or -1 for each attribute.
        images: directory of the image files.
        label: name of the attribute to predict, such as `"Attractive"`, `"Smiling"` or `"Wavy_Hair"`.
        sensitive: name of the attribute whose two values are the groups.
        size: height and width that images are brought to.
        num_images: how many are read, the first of the list; `None` is all.

    Returns:
        A `Dataset` of pixels in [0, 1], `feature_shape` `(height, width, 3)`, as `badrjax.models.resnet18` takes them.

    Raises:
        ValueError: for an attribute that is not there (with those that are) or has one value, values other than 1 and
            -1, a list that ends early, or more images than it has.
        FileNotFoundError: for an image that is not there (which).
        ModuleNotFoundError: where Pillow is not installed.
    """
    image_module = require("PIL.Image", "reading images")
    names, files, values = _read_list(Path(attributes), num_images)
    for name in (label, sensitive):
        if name not in names:
            raise ValueError(f"{attributes} has no attribute {name!r}; it has {', '.join(names)}")
    y, group = (values[:, names.index(name)] > 0 for name in (label, sensitive))
    if label == sensitive:
        raise ValueError(f"label and sensitive must be two attributes, and both are {label!r}")
    for name, column in ((label, y), (sensitive, group)):
        if np.unique(column).size < 2:
            raise ValueError(f"attribute {name!r} has one value in the {len(files)} images read; read more of them")
    height, width = size
    x = np.empty((len(files), height * width * 3), np.float32)
    for row, file in enumerate(files):
        path = Path(images) / file
        if not path.is_file():
            raise FileNotFoundError(f"{path} is in the list of {attributes} and not in its directory")
        with image_module.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((width, height)), np.float32)
        x[row] = pixels.reshape(-1) / 255
    groups = encode_groups(np.where(group, sensitive, f"not {sensitive}"))
    columns = tuple(f"{c}_{i}_{j}" for i in range(height) for j in range(width) for c in ("red", "green", "blue"))
    return Dataset(
        x=x,
        y=y.astype(np.int32),
        group=groups.ids,
        feature_names=columns,
        group_names=groups.names,
        name="celeba",
        source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        licence="non-commercial research only",
        label_name=label,
        sensitive=(sensitive,),
        attributes={sensitive: groups},
        feature_shape=(height, width, 3),
    )


def _read_list(path: Path, num_images: int | None) -> tuple[list[str], list[str], np.ndarray]:
    lines = path.read_text(encoding="utf-8").splitlines()
    number = int(lines[0]) if lines and lines[0].strip().isdigit() else -1
    if number < 1 or len(lines) < number + 2:
        raise ValueError(
            f"{path} must begin with the number of its images and the names of their attributes, and have a line for "
            f"each; it has {len(lines)} lines and begins {lines[:1]}"
        )
    wanted = number if num_images is None else num_images
    if not 1 <= wanted <= number:
        raise ValueError(f"num_images must be from 1 to {number}, the images of {path}, got {num_images}")
    names = lines[1].split()
    rows = [line.split() for line in lines[2 : wanted + 2]]
    return names, [row[0] for row in rows if row], _values(rows, names, path)


def _values(rows: Sequence[Sequence[str]], names: Sequence[str], path: Path) -> np.ndarray:
    for number, row in enumerate(rows):
        if len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1"}:
            raise ValueError(
                f"image {number + 1} of {path} must have a file name and {len(names)} values 1 or -1, and is "
                f"{' '.join(row[:_SAMPLED])} ..."
            )
    return np.array([row[1:] for row in rows]).astype(int)
