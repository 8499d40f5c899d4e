"""Validation and test with equally many rows of each cell of group and label."""

from __future__ import annotations

from typing import Literal

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset, Splits
from badrjax.datasets.splits.drawing import Cell, cells_of, generator_of, with_remaining_rows_as_train


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
    cells = list(cells_of(dataset, "a balanced split"))
    test_per_cell = _test_per_cell(test_fraction, dataset.y.size, len(cells))
    generator = generator_of(seed)
    validation, test = [], []
    for cell in cells:
        # Validation first: a draw for the test in a small cell could leave it none.
        _check_size(cell, validation_per_cell)
        shuffled = generator.permutation(cell.rows)
        rest = shuffled[validation_per_cell:]
        repeat = replacement == "always" or rest.size < test_per_cell
        validation.append(shuffled[:validation_per_cell])
        test.append(generator.choice(rest, test_per_cell, replace=repeat))
    return with_remaining_rows_as_train(dataset, np.concatenate(validation), np.concatenate(test))


def _test_per_cell(test_fraction: float, num_rows: int, num_cells: int) -> int:
    if not isinstance(test_fraction, int | float | np.number) or not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, got {test_fraction!r}")
    # The small term keeps a product such as 0.3 * 10 from falling below the whole number it stands for.
    per_cell = int(test_fraction * num_rows / num_cells + 1e-9)
    if per_cell < 1:
        raise ValueError(
            f"test_fraction {test_fraction} of {num_rows} rows gives no row to each of {num_cells} cells; "
            f"take at least {num_cells / num_rows:.3g}"
        )
    return per_cell


def _check_size(cell: Cell, validation_per_cell: int) -> None:
    if cell.rows.size <= validation_per_cell:
        raise ValueError(
            f"cell {cell.name} has {cell.rows.size} rows, too few for {validation_per_cell} in the "
            "validation and at least one to draw the test from; lower validation_per_cell, merge groups, or "
            "split at random"
        )
