"""Batches on their way from the host to the device: read, checked, padded and copied ahead of their step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from badrjax.batches import Batch, check_batch
from badrjax.checks import check_finite

Batches = Callable[[int], Iterable[Batch]]
_END = object()


class StreamError(RuntimeError):
    """A batch that did not come, or is none; the cause is chained.

    Attributes:
        epoch: of the batch.
        batch: its number in the epoch.
        partial: see `badrjax.fit_stream`.
    """

    def __init__(self, message: str, epoch: int, batch: int) -> None:
        super().__init__(message, epoch, batch)
        self.epoch, self.batch = epoch, batch
        self.partial: Any = None

    def __str__(self) -> str:
        return str(self.args[0])


def stream_from_arrays(
    x: Any, y: Any, group: Any, weight: Any = None, *, batch_size: int, seed: int | None
) -> Callable[[int], Iterator[Batch]]:
    """Batches of arrays that may lie in files, for `fit_stream`: each row once an epoch, in a new random order.

    Args:
        x: features `[n, ...]`: anything with `shape` that can be indexed by sorted positions (an array, a memory map,
            a data set of HDF5); never copied as a whole, unless it is a list or of pandas.
        y: labels `[n]`.
        group: group ids `int[n]`.
        weight: frequencies `f[n]`; `None` means ones.
        batch_size: rows a batch, `>= 1`; the last may have fewer.
        seed: of NumPy's generator; epoch `e` draws from `(seed, e)`. `None` keeps the order of the rows.

    Returns:
        `batches(epoch) -> iterator of Batch`.

    Raises:
        ValueError: for lengths that differ, no rows, a scalar, or a batch size that is not in `[1, n]`.
    """
    given = {"x": x, "y": y, "group": group, "weight": weight}
    arrays = {name: _indexed_by_position(array) for name, array in given.items()}
    for name, array in arrays.items():
        if array is not None and len(array.shape) == 0:
            raise ValueError(f"{name} must have one row per example, got a scalar")
    lengths = {name: array.shape[0] for name, array in arrays.items() if array is not None}
    num_rows = lengths["x"]
    if len(set(lengths.values())) > 1:
        raise ValueError("x, y, group and weight must have one row per example, but " + str(lengths))
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or not 1 <= batch_size <= num_rows:
        raise ValueError(f"batch_size must be an integer from 1 to the {num_rows} rows, got {batch_size!r}")

    def batches(epoch: int) -> Iterator[Batch]:
        order = None if seed is None else np.random.default_rng((seed, epoch)).permutation(num_rows)
        for start in range(0, num_rows, batch_size):
            chosen: Any = slice(start, start + batch_size)
            if order is not None:
                chosen = np.sort(order[chosen])  # files are read forwards
            rows = {name: None if array is None else np.asarray(array[chosen]) for name, array in arrays.items()}
            yield Batch(**rows)  # type: ignore[arg-type]

    return batches


def _indexed_by_position(array: Any) -> Any:
    """Frames and series of pandas, which are indexed by their labels, and lists as arrays; all else as it is."""
    if hasattr(array, "to_numpy"):
        return array.to_numpy()
    return array if array is None or hasattr(array, "shape") else np.asarray(array)


def ahead(items: Iterator[Batch], size: int) -> Iterator[Batch | StreamError]:
    """`items` with `size` of them taken in advance; an error comes last, as an item, after all before it."""
    waiting: deque[Batch | StreamError] = deque()
    try:
        for item in items:
            waiting.append(item)
            if len(waiting) > size:
                yield waiting.popleft()
    except StreamError as error:
        waiting.append(error)
    yield from waiting


def checked(batches: Batches, epoch: int, like: Batch | None) -> Iterator[Batch]:
    """The batches of an epoch on the device, checked and padded to the shapes of `like`, or of the first one."""
    number, last_rows = 0, None
    iterator = None
    while True:
        name = f"batch {number} of epoch {epoch}"
        try:
            iterator = iter(batches(epoch)) if iterator is None else iterator
            given = next(iterator, _END)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise StreamError(f"the iterator raised in place of {name}: {what}", epoch, number) from error
        if given is _END:
            break
        try:
            batch = _on_host(given, name)
            like = shapes(batch) if like is None else like
            _check_alike(batch, like, last_rows, name)
        except (TypeError, ValueError) as error:
            if hasattr(iterator, "close"):  # a generator may hold files open
                iterator.close()
            raise StreamError(str(error), epoch, number) from error
        last_rows, number = batch.y.shape[0], number + 1
        yield jax.device_put(_padded(batch, like.y.shape[0]))
    if number == 0:
        raise StreamError(f"batches({epoch}) gave no batch: each epoch needs at least one", epoch, 0)


def _on_host(given: Any, name: str) -> Any:
    """A checked copy of the batch, for iterators may use their buffers again while it is on its way to the device."""
    if not isinstance(given, Batch):
        raise TypeError(f"{name} must be a badrjax.Batch of NumPy arrays, got {type(given).__name__}")
    check_batch(given, name=name)
    check_finite(given.x, f"{name}: x")
    check_finite(given.y, f"{name}: y")
    given = given._replace(weight=_host_weight(given))
    return jax.tree.map(lambda field: _narrowed(field, name), given)


def _narrowed(field: Any, name: str) -> np.ndarray:
    """A copy in the precision of the run, which must hold its whole numbers."""
    narrow = np.array(field, jax.dtypes.canonicalize_dtype(field.dtype))
    if jnp.issubdtype(narrow.dtype, jnp.integer) and not np.array_equal(narrow, field):
        raise ValueError(f"{name} has whole numbers too large for {narrow.dtype}; number the classes or groups anew")
    return narrow


def _host_weight(batch: Batch) -> Any:
    default = jnp.result_type(float)
    if batch.weight is None:
        return np.ones(batch.y.shape[0], default)
    weight = np.asarray(batch.weight)
    return weight if jnp.issubdtype(weight.dtype, jnp.inexact) else weight.astype(default)


def _check_alike(batch: Any, like: Any, last_rows: int | None, name: str) -> None:
    rows = like.y.shape[0]
    if batch.y.shape[0] > rows or (last_rows is not None and last_rows < rows):
        found = batch.y.shape[0] if batch.y.shape[0] > rows else f"{last_rows} before it"
        raise ValueError(f"{name}: batches must have {rows} rows each, only the last may have fewer; found {found}")
    for field, array, first in zip(Batch._fields, batch, like, strict=True):
        if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
            raise ValueError(
                f"{name}: {field} is {array.dtype} with rows of shape {array.shape[1:]}, and {first.dtype} with "
                f"{first.shape[1:]} in the first batch; all batches must be alike"
            )


def _padded(batch: Any, rows: int) -> Batch:
    missing = rows - batch.y.shape[0]
    if missing == 0:
        return batch
    longer: Batch = jax.tree.map(lambda field: np.concatenate([field, np.repeat(field[:1], missing, axis=0)]), batch)
    return longer._replace(weight=np.concatenate([batch.weight, np.zeros(missing, batch.weight.dtype)]))  # type: ignore[arg-type]


def shapes(batch: Any) -> Any:
    """The batch with a `ShapeDtypeStruct` for each array."""
    return jax.tree.map(lambda field: jax.ShapeDtypeStruct(field.shape, field.dtype), batch)
