"""What a store holds: which function, of which code, on which values, under which settings of JAX."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from badrjax.environment import settings

_DEEPEST = 20


def identify(run: Partial) -> dict[str, str]:
    """Name, code, values and settings of a function, so that results of different ones are never mixed.

    Args:
        run: `run(key, **settings)`, what it binds among its leaves.

    Returns:
        `function` its name in its module, `code` a SHA-256 of its source, its defaults and what it closes over (not
        of the functions that it calls by name), `arrays` one of what it binds, `settings` of JAX.

    Raises:
        TypeError: for a function that closes over, or binds, something whose value cannot be read off.
    """
    return {
        "function": str(getattr(run.func, "__qualname__", type(run.func).__qualname__)),
        "code": _digest(_value(run.func, 0)),
        "arrays": _digest(_value((run.args, run.keywords), 0)),
        "settings": str(settings()),
    }


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _value(value: Any, depth: int) -> Iterator[bytes]:
    """Everything that tells a value from another, without addresses, the same in every process."""
    if depth > _DEEPEST:
        raise TypeError("run closes over something too deep to be told from others; bind arrays with Partial")
    if not isinstance(value, np.ndarray | np.generic | jax.Array):  # of which one kind is as good as another
        yield type(value).__qualname__.encode()
    if isinstance(value, int | float | complex | str | bytes | None):
        yield repr(value).encode()
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        yield from _array(value)
    elif isinstance(value, Mapping):
        for key, entry in sorted(value.items(), key=lambda item: repr(item[0])):
            yield from _value(key, depth + 1)
            yield from _value(entry, depth + 1)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _value(entry, depth + 1)
    elif isinstance(value, functools.partial):  # and JAX's Partial
        yield from _value((value.func, value.args, value.keywords), depth + 1)
    elif isinstance(value, type | ModuleType):
        yield f"{getattr(value, '__module__', '')}.{value.__name__}".encode()
    elif hasattr(value, "__self__") and hasattr(value, "__func__"):
        yield from _value((value.__func__, value.__self__), depth + 1)
    elif hasattr(value, "__wrapped__"):  # jax.jit and other decorators
        yield from _value(value.__wrapped__, depth + 1)
    elif hasattr(value, "__code__"):
        yield from _function(value, depth)
    elif hasattr(value, "__dict__") or hasattr(value, "__slots__"):
        yield from _object(value, depth)
    elif callable(value):  # of a compiled library
        yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}".encode()
    elif jax.tree.leaves(value) != [value]:
        yield from _value(jax.tree.leaves(value), depth + 1)
    else:
        raise TypeError(
            f"a store cannot tell one {type(value).__name__} from another, and run closes over one; bind arrays with "
            "jax.tree_util.Partial, or leave the store out"
        )


def _array(value: Any) -> Iterator[bytes]:
    if hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    yield f"{array.dtype.str}{array.shape}".encode()
    yield np.ascontiguousarray(array).tobytes()


def _function(function: Any, depth: int) -> Iterator[bytes]:
    """Source, defaults and closed-over values of a function."""
    code = function.__code__
    yield from _code(function, code)
    yield from _value((function.__defaults__, function.__kwdefaults__), depth + 1)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield name.encode()
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        if value is not function:  # a function may call itself
            yield from _value(value, depth + 1)


def _code(function: Any, code: CodeType) -> Iterator[bytes]:
    """The source; the bytecode of a lambda, which may share its line with others, or where there is no source."""
    if code.co_name != "<lambda>":
        try:
            yield inspect.getsource(function).encode()
            return
        except (OSError, TypeError):
            pass
    yield from _bytecode(code)


def _bytecode(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _bytecode(constant)
        else:
            yield repr(constant).encode()


def _object(value: Any, depth: int) -> Iterator[bytes]:
    """A callable or a plain object: its class, and what it carries."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    carried = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    yield from _value(carried | dict(getattr(value, "__dict__", {})), depth + 1)
    call = vars(type(value)).get("__call__")
    if hasattr(call, "__code__"):
        yield from _value(call, depth + 1)
