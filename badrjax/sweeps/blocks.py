"""A finished block as one Parquet file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from badrjax.extras import require
from badrjax.sweeps.plans import Plan

_METADATA = b"badrjax"
PURPOSE = "a store of results"


class BlockResults(NamedTuple):
    """Results of the trials of a block.

    Attributes:
        ids: identities of the trials.
        values: results by name, `[n, ...]`.
        about: plan, block, width, device, versions, seconds.
    """

    ids: tuple[str, ...]
    values: dict[str, np.ndarray]
    about: dict[str, Any]


def write_block(path: Path, plan: Plan, index: int, names: list[str], leaves: list[np.ndarray], seconds: float) -> None:
    """Write a block, and make sure that it is on the disk when this returns."""
    arrow, parquet = require("pyarrow", PURPOSE), require("pyarrow.parquet", PURPOSE)
    trials = plan.trials_of(index)
    columns: dict[str, Any] = {"trial": [trial["id"] for trial in trials], "seed": [trial["seed"] for trial in trials]}
    kinds = {}
    for name, values in zip(names, leaves, strict=True):
        kinds[name] = {"shape": list(values.shape[1:]), "dtype": str(values.dtype)}
        flat = values.reshape(len(trials), -1)
        columns[f"result.{name}"] = flat[:, 0] if values.ndim == 1 else list(flat)
    about = {
        "plan": plan.name, "block": index, "width": plan.width, "devices": plan.devices, "static": dict(plan.static),
        "origin": dict(plan.origin), "seconds": seconds, "results": kinds,
    }  # fmt: skip
    table = arrow.table(columns).replace_schema_metadata({_METADATA: json.dumps(about, default=str)})
    with path.open("xb") as file:
        parquet.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())


def read_block(path: Path, plan: Plan, index: int) -> BlockResults:
    """Read a block, bit for bit what was written.

    Raises:
        ValueError: for a file that is truncated, or of another block.
    """
    arrow, parquet = require("pyarrow", PURPOSE), require("pyarrow.parquet", PURPOSE)
    try:
        table = parquet.read_table(path)
        about = json.loads(table.schema.metadata[_METADATA])
    except (arrow.ArrowException, TypeError, KeyError) as error:
        raise ValueError(f"it is no whole block: {error}") from error
    ids = tuple(table["trial"].to_pylist())
    expected = tuple(trial["id"] for trial in plan.trials_of(index))
    if ids != expected:
        raise ValueError("it holds other trials than its name says")
    values = {}
    for name, kind in about["results"].items():
        column = table[f"result.{name}"].combine_chunks()
        flat = column.values.to_numpy(zero_copy_only=False) if kind["shape"] else column.to_numpy(zero_copy_only=False)
        values[name] = flat.astype(kind["dtype"]).reshape(len(ids), *kind["shape"])
    return BlockResults(ids, values, about)
