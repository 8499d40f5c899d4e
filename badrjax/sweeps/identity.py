"""What a store holds: which function, of which code, on which arrays."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

_DEEPEST = 5  # closures inside closures


def identify(run: Partial) -> dict[str, str]:
    """Name, code and bound arrays of a function, so that results of different ones are never mixed.

    Args:
        run: `run(key, **settings)`, what it binds among its leaves.

    Returns:
        `function` its name in its module, `code` a SHA-256 of its own source, defaults and what it closes over (not
        of the functions that it calls by name), `arrays` one of the arrays that it binds.
    """
    function = run.func
    # Without its module: the same script is `__main__` when it is run and has a name when it is imported.
    name = getattr(function, "__qualname__", type(function).__qualname__)
    digest = hashlib.sha256()
    leaves, structure = jax.tree.flatten((run.args, run.keywords))
    digest.update(str(structure).encode())
    for leaf in leaves:
        array = _host(leaf)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return {"function": name, "code": _code(function), "arrays": digest.hexdigest()}


def _host(leaf: Any) -> np.ndarray:
    if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _code(function: Any) -> str:
    digest = hashlib.sha256()
    for part in _parts(function, depth=0):
        digest.update(part)
    return digest.hexdigest()


def _parts(function: Any, depth: int) -> Iterator[bytes]:
    """Source, defaults and closed-over values of a function, and of the functions that it closes over."""
    code = getattr(function, "__code__", None)
    if code is None:
        yield repr(type(function)).encode()
        return
    yield _text(function, code)
    yield repr((getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None))).encode()
    for name, cell in zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=True):
        yield name.encode()
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet, as in a function that calls itself
            continue
        if callable(value) and hasattr(value, "__code__") and depth < _DEEPEST:
            yield from _parts(value, depth + 1)
        elif isinstance(value, np.ndarray | jax.Array):
            yield np.ascontiguousarray(_host(value)).tobytes()
        elif isinstance(value, int | float | complex | str | bytes | tuple | None):
            yield repr(value).encode()
        else:
            yield repr(type(value)).encode()


def _text(function: Any, code: CodeType) -> bytes:
    """The source; the bytecode of a lambda, which may share its line with others, or where there is no source."""
    if code.co_name != "<lambda>":
        try:
            return inspect.getsource(function).encode()
        except (OSError, TypeError):
            pass
    return code.co_code + repr((code.co_consts, code.co_names)).encode()
