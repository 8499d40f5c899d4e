"""The published splits of the Nash meta-learning paper."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import Int

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset, Splits
from badrjax.datasets.entry import OfficialSplit
from badrjax.datasets.fetching import fetch_file
from badrjax.datasets.files import ENVIRONMENT_VARIABLE, DataFile, data_directories, find, read_file
from badrjax.datasets.registry import dataset_info, list_datasets


def official_split(
    dataset: Dataset,
    *,
    name: str | None = None,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Splits:
    """The published split of the Nash meta-learning paper, read from its index file.

    The file `nash_splits/<name>.npz` is looked for as `load_dataset` looks for its files, checked by its
    SHA-256, and downloaded from the authors' repository where it is nowhere.

    `validation` stays as published, in blocks of one cell each; groups come in the order of their first row
    in the data, not in that of the ids, and the labels in the paper's coding, which some variants invert: so
    take cells from `group` and `y`.

    Args:
        dataset: a registered dataset as it was loaded, every row in its place.
        name: which split, of `dataset_info(dataset.name).official_splits`; `None` takes the first that was
            made for the dataset's groups.
        data_home: directory to look in first.
        download: whether a missing index file may be downloaded.

    Raises:
        ValueError: where no split was published for the dataset with these groups, for a file with another
            SHA-256, or for a dataset whose rows are not those the split was made for.
        FileNotFoundError: where the file is nowhere to be found.
    """
    file = _published(dataset, name).file
    remedy = "take the index file from data_idx/ of github.com/reds-lab/Nash-Meta-Learning"
    path = find(file, data_home)
    if path is None:
        path = _fetched(file, data_home, remedy, download)
    content = read_file(path, file, remedy)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        splits = Splits(*(arrays[key].astype(np.int32) for key in ("ind_train", "val_idx", "ind_test")))
    _check_official(dataset, splits)
    return splits


def _fetched(file: DataFile, data_home: str | os.PathLike[str] | None, remedy: str, download: bool) -> Path:
    failure = "downloads are off"
    if download:
        try:
            return fetch_file(file)
        except (ValueError, ConnectionError, ModuleNotFoundError) as error:
            failure = str(error)
    looked = " or ".join(map(str, data_directories(data_home))) or "no directory, for none was named"
    raise FileNotFoundError(
        f"the official split needs {file.path}, which is not there (looked in {looked}) and could not be "
        f"downloaded ({failure}); {remedy}, name it so, and name its directory in data_home or "
        f"{ENVIRONMENT_VARIABLE}"
    )


def _published(dataset: Dataset, name: str | None) -> OfficialSplit:
    of_dataset = dataset_info(dataset.name).official_splits if dataset.name in list_datasets() else {}
    if name is not None and name not in of_dataset:
        raise unknown_name(f"official split of {dataset.name}", name, of_dataset)
    for key, split in of_dataset.items():
        if split.sensitive == dataset.sensitive and name in (None, key):
            return split
    listing = ", ".join(
        f"{known} by {' and '.join(split.sensitive)}"
        for known in list_datasets()
        for split in dataset_info(known).official_splits.values()
    )
    wanted = f"{dataset.name!r} by {' and '.join(dataset.sensitive) or 'unnamed attributes'}"
    raise ValueError(f"no official split was published for {wanted}; there is {listing}")


def _check_official(dataset: Dataset, splits: Splits) -> None:
    """Raise unless the split fits the dataset's rows, which blocks and counts of its cells give away."""
    indexed = np.sort(np.concatenate([splits.train, splits.validation, np.unique(splits.test)]))
    if not np.array_equal(indexed, np.arange(dataset.y.size)):
        raise ValueError(
            f"the official split deals out {indexed.size} rows, and the dataset has {dataset.y.size}; "
            "load it with load_dataset and leave its rows as they are"
        )
    in_blocks = _in_blocks(dataset.group[splits.validation], dataset.y[splits.validation], dataset.num_groups)
    cells = np.bincount((2 * dataset.group + dataset.y)[splits.test], minlength=2 * dataset.num_groups)
    if not in_blocks or np.ptp(cells) > 0:
        raise ValueError(
            "the rows of the official split are not as many of each group and label, in blocks, so the "
            "dataset's rows, groups or labels are not those it was made for; load it with load_dataset and "
            "leave its rows in order"
        )


def _in_blocks(groups: Int[np.ndarray, "n"], labels: Int[np.ndarray, "n"], num_groups: int) -> bool:
    """Whether equal blocks hold one cell each, each cell once, and the labels alternate in one order."""
    num_cells = 2 * num_groups
    if groups.size % num_cells:
        return False
    group_blocks, label_blocks = groups.reshape(num_cells, -1), labels.reshape(num_cells, -1)
    constant = (np.ptp(group_blocks, axis=1) == 0).all() and (np.ptp(label_blocks, axis=1) == 0).all()
    pairs, order = group_blocks[:, 0].reshape(num_groups, 2), label_blocks[:, 0].reshape(num_groups, 2)
    each_group_once = (pairs[:, 0] == pairs[:, 1]).all() and np.unique(pairs).size == num_groups
    both_labels = order[0, 0] != order[0, 1] and (order == order[0]).all()
    return bool(constant and each_group_once and both_labels)
