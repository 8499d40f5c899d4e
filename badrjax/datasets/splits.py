"""Splits of a dataset's rows into training, validation and test."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset, Splits
from badrjax.datasets.files import ENVIRONMENT_VARIABLE, DataFile, data_directories, read_files
from badrjax.datasets.registry import dataset_info, list_datasets


class _Cell(NamedTuple):
    name: str
    rows: np.ndarray


def split(dataset: Dataset, kind: str = "balanced", seed: int = 0, **options: Any) -> Splits:
    """Split the rows of a dataset on the host.

    A split depends on the seed and on NumPy's generator, whose numbers may change between NumPy releases;
    store the split where it must outlive them.

    Args:
        dataset: what to split.
        kind: "balanced" (see `balanced_split`), "random" (`random_split`) or "official" (`official_split`,
            where the seed plays no part).
        seed: non-negative integer.
        **options: the keyword arguments of that function.

    Returns:
        Positions of rows; the three parts are disjoint and together cover every row.

    Raises:
        ValueError: for an unknown kind or option, with the nearest known ones, and as the functions named
            say.
        TypeError: for a seed that is not an integer.
    """
    if kind not in _KINDS:
        raise unknown_name("kind of split", kind, _KINDS)
    function = _KINDS[kind]
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of the {kind} split", option, known)
    return function(dataset, **options) if kind == "official" else function(dataset, seed, **options)


def balanced_split(
    dataset: Dataset,
    seed: int = 0,
    *,
    validation_per_cell: int = 3,
    test_fraction: float = 0.03,
    replacement: Literal["always", "needed"] = "always",
) -> Splits:
    """The protocol of the Nash meta-learning paper: validation and test hold equally many rows of each cell.

    A cell is a group with a label. First `validation_per_cell` distinct rows of each cell are set aside, so
    that small cells have them; then `floor(test_fraction n / cells)` rows of each cell are drawn for the test
    from the rest of it; the training rows are all others, in their order.

    `validation` is laid out in blocks, group by group in the order of the ids and within a group label by
    label in rising order; so is `test`. A small cell may leave no training row.

    Args:
        dataset: with class labels.
        seed: non-negative integer.
        validation_per_cell: rows of each cell for validation, at least 1.
        test_fraction: size of the test as a fraction of all rows.
        replacement: "always" draws the test with replacement in every cell, as the published splits were (in
            cells of thousands of rows, too, some of their rows repeat); "needed" only in cells with too few
            rows, at the price that a cell with just enough is used up.

    Raises:
        ValueError: for a cell without a row for validation and one for the test (the cell is named),
            regression targets, a single class, a fraction that gives no row or leaves nothing to train on.
        TypeError: for a seed that is not an integer.
    """
    if isinstance(validation_per_cell, bool) or not isinstance(validation_per_cell, int | np.integer):
        raise TypeError(f"validation_per_cell must be an integer, got {validation_per_cell!r}")
    if validation_per_cell < 1:
        raise ValueError(f"validation_per_cell must be at least 1, got {validation_per_cell}")
    if replacement not in ("always", "needed"):
        raise unknown_name("value of replacement", replacement, ("always", "needed"))
    cells = list(_cells(dataset))
    test_per_cell = _test_per_cell(test_fraction, dataset.y.size, len(cells))
    generator = _generator(seed)
    validation, test = [], []
    for cell in cells:
        # Validation first: a draw for the test in a small cell could leave it none.
        _check_size(cell, validation_per_cell)
        shuffled = generator.permutation(cell.rows)
        rest = shuffled[validation_per_cell:]
        repeat = replacement == "always" or rest.size < test_per_cell
        validation.append(shuffled[:validation_per_cell])
        test.append(generator.choice(rest, test_per_cell, replace=repeat))
    return _with_remaining_rows_as_train(dataset, np.concatenate(validation), np.concatenate(test))


def random_split(
    dataset: Dataset,
    seed: int = 0,
    *,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
) -> Splits:
    """Rows dealt out at random, each to one part, whatever their group and label.

    Args:
        dataset: what to split.
        seed: non-negative integer.
        fractions: sizes of training, validation and test, summing to 1; a size of 0 leaves validation or test
            empty. Sizes are rounded, and training takes what rounding leaves.

    Returns:
        Disjoint parts without repeats, in random order.

    Raises:
        ValueError: for fractions that are negative or do not sum to 1, or that give no row to a part of
            positive size.
        TypeError: for a seed that is not an integer.
    """
    sizes = np.asarray(fractions, np.float64)
    if sizes.shape != (3,) or not (sizes >= 0).all() or abs(sizes.sum() - 1) > 1e-6:
        raise ValueError(
            f"fractions must be three numbers >= 0 with sum 1 (train, validation, test), got {fractions!r}"
        )
    rows = _generator(seed).permutation(dataset.y.size)
    num_validation, num_test = (round(size * rows.size) for size in sizes[1:])
    parts = (rows[num_validation + num_test :], rows[:num_validation], rows[num_validation:][:num_test])
    for name, size, part in zip(Splits._fields, sizes, parts, strict=True):
        if part.size == 0 and (size > 0 or name == "train"):
            raise ValueError(
                f"fractions {tuple(fractions)} leave no {name} row of {rows.size}; choose another fraction"
            )
    return Splits(*(part.astype(np.int32) for part in parts))


def official_split(dataset: Dataset, *, data_home: str | os.PathLike[str] | None = None) -> Splits:
    """The published split of the Nash meta-learning paper, read from its index file.

    The file `nash_splits/<dataset>_<attribute>.npz` is looked for below `data_home`, then below the directory
    that `BADRJAX_DATA` names, and checked by its SHA-256.

    `validation` stays as published, in blocks of one cell each, label 0 before 1 within a group; groups come
    in the order of their first row in the data, not in that of the ids, so take cells from `group` and `y`.

    Args:
        dataset: a registered dataset as it was loaded, every row in its place.
        data_home: directory to look in first.

    Raises:
        ValueError: where no split was published for the dataset with these groups, for a file with another
            SHA-256, or for a dataset whose rows are not those the split was made for.
        FileNotFoundError: where the file is nowhere to be found.
    """
    file = _official_file(dataset)
    remedy = "take the index file from data_idx/ of github.com/reds-lab/Nash-Meta-Learning"
    contents = read_files((file,), data_home, remedy)
    if contents is None:
        looked = " or ".join(map(str, data_directories(data_home))) or "no directory, for none was named"
        raise FileNotFoundError(
            f"the official split needs {file.path}, which is not there (looked in {looked}); {remedy}, "
            f"name it so, and name its directory in data_home or {ENVIRONMENT_VARIABLE}"
        )
    with np.load(io.BytesIO(contents[file.path]), allow_pickle=False) as arrays:
        splits = Splits(*(arrays[key].astype(np.int32) for key in ("ind_train", "val_idx", "ind_test")))
    _check_official(dataset, splits)
    return splits


_KINDS: dict[str, Callable[..., Splits]] = {
    "balanced": balanced_split,
    "random": random_split,
    "official": official_split,
}


def _generator(seed: int) -> np.random.Generator:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed must be a non-negative integer, got {seed!r}")
    if seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed}")
    return np.random.default_rng(int(seed))


def _cells(dataset: Dataset) -> Iterator[_Cell]:
    """Rows of each group with each label, group by group and label by label in rising order."""
    if not np.issubdtype(dataset.y.dtype, np.integer):
        raise ValueError("a balanced split needs class labels, and y holds regression targets; use the random split")
    labels = np.unique(dataset.y)
    if labels.size < 2:
        raise ValueError(f"a balanced split needs at least two classes, and every label is {labels[0]}")
    for group, group_name in enumerate(dataset.group_names):
        for label in labels:
            rows = np.flatnonzero((dataset.group == group) & (dataset.y == label))
            yield _Cell(f"(group {group_name!r}, label {label})", rows)


def _test_per_cell(test_fraction: float, num_rows: int, num_cells: int) -> int:
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, got {test_fraction!r}")
    # The small term keeps a product such as 0.3 * 10 from falling below the whole number it stands for.
    per_cell = int(test_fraction * num_rows / num_cells + 1e-9)
    if per_cell < 1:
        raise ValueError(
            f"test_fraction {test_fraction} of {num_rows} rows gives no row to each of {num_cells} cells; "
            f"take at least {num_cells / num_rows:.3g}"
        )
    return per_cell


def _check_size(cell: _Cell, validation_per_cell: int) -> None:
    if cell.rows.size <= validation_per_cell:
        raise ValueError(
            f"cell {cell.name} has {cell.rows.size} rows, too few for {validation_per_cell} in the "
            "validation and at least one to draw the test from; lower validation_per_cell, merge groups, or "
            "split at random"
        )


def _with_remaining_rows_as_train(dataset: Dataset, validation: np.ndarray, test: np.ndarray) -> Splits:
    remaining = np.ones(dataset.y.size, bool)
    remaining[validation] = False
    remaining[test] = False
    train = np.flatnonzero(remaining)
    if train.size == 0:
        raise ValueError("validation and test take every row and leave none to train on; lower test_fraction")
    return Splits(*(rows.astype(np.int32) for rows in (train, validation, test)))


def _official_file(dataset: Dataset) -> DataFile:
    published: dict[tuple[str, tuple[str, ...]], DataFile] = {}
    for name in list_datasets():
        for attributes, split_file in dataset_info(name).official_splits.items():
            published[name, attributes] = split_file
    file = published.get((dataset.name, dataset.sensitive))
    if file is None:
        listing = ", ".join(f"{name} by {' and '.join(attributes)}" for name, attributes in published)
        wanted = f"{dataset.name!r} by {' and '.join(dataset.sensitive) or 'unnamed attributes'}"
        raise ValueError(f"no official split was published for {wanted}; there is {listing}")
    return file


def _check_official(dataset: Dataset, splits: Splits) -> None:
    """Raise unless the split fits the dataset's rows, which the blocks of the validation give away."""
    indexed = np.sort(np.concatenate([splits.train, splits.validation, np.unique(splits.test)]))
    if not np.array_equal(indexed, np.arange(dataset.y.size)):
        raise ValueError(
            f"the official split deals out {indexed.size} rows, and the dataset has {dataset.y.size}; "
            "load it with load_dataset and leave its rows as they are"
        )
    if not _in_blocks(dataset.group[splits.validation], dataset.y[splits.validation], dataset.num_groups):
        raise ValueError(
            "the validation rows of the official split are not in blocks of one group and label each, so the "
            "dataset's rows, groups or labels are not those it was made for; load it with load_dataset and "
            "leave its rows in order"
        )


def _in_blocks(groups: Int[np.ndarray, "n"], labels: Int[np.ndarray, "n"], num_groups: int) -> bool:
    """Whether equal blocks hold one cell each, each cell once, and label 0 comes before 1 in a group."""
    num_cells = 2 * num_groups
    if groups.size % num_cells:
        return False
    group_blocks, label_blocks = groups.reshape(num_cells, -1), labels.reshape(num_cells, -1)
    constant = (np.ptp(group_blocks, axis=1) == 0).all() and (np.ptp(label_blocks, axis=1) == 0).all()
    pairs = group_blocks[:, 0].reshape(num_groups, 2)
    each_group_once = (pairs[:, 0] == pairs[:, 1]).all() and np.unique(pairs).size == num_groups
    return bool(constant and each_group_once and (label_blocks[:, 0] == np.tile([0, 1], num_groups)).all())
