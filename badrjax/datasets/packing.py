"""Raw tables as NumPy archives, the form in which the bundled copies come."""

from __future__ import annotations

import io

import numpy as np

from badrjax.datasets.tables import Categories, Column, Table

_CODES, _VALUES = ":codes", ":values"


def pack_table(table: Table) -> bytes:
    """A table as the bytes of a compressed `.npz` without pickled objects.

    Whole numbers take the smallest integer type that holds them, text its codes and its values.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, column in table.items():
        if isinstance(column, Categories):
            arrays[name + _CODES] = _compact(column.codes)
            arrays[name + _VALUES] = np.array(column.values, np.str_)
        else:
            arrays[name] = _compact(column)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def unpack_table(content: bytes) -> dict[str, Column]:
    """The table in the bytes of a `.npz`, its columns in their order."""
    table: dict[str, Column] = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for key in arrays.files:
            if key.endswith(_CODES):
                name = key.removesuffix(_CODES)
                values = tuple(arrays[name + _VALUES].tolist())
                table[name] = Categories(arrays[key].astype(np.int64), values)
            elif not key.endswith(_VALUES):
                table[key] = arrays[key].astype(np.float64)
    return table


def _compact(numbers: np.ndarray) -> np.ndarray:
    if not np.array_equal(numbers, np.round(numbers)):
        return numbers
    return numbers.astype(np.result_type(*(np.min_scalar_type(int(end)) for end in (numbers.min(), numbers.max()))))
