"""Functions as pytrees: what makes a method's numbers leaves and its code static."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial


@jax.tree_util.register_static
class Static:
    """A hashable Python value that a pytree carries as structure, not as a leaf."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"Static({self.value!r})"


def as_partial(function: Callable[..., Any]) -> Partial:
    """`function` as a `jax.tree_util.Partial`: unchanged when it is one, else with no bound arguments.

    A lambda or a nested function works, but each new one is a new program; arrays it closes over are baked into
    it. Bind arrays with `Partial(function, array)` instead.

    Raises:
        TypeError: for anything that cannot be called.
    """
    if isinstance(function, Partial):
        return function
    if not callable(function):
        raise TypeError(f"expected a function, got {type(function).__name__}")
    return Partial(function)


def is_number(value: Any) -> bool:
    """Whether an option is a float or an array, which may be traced, and not a choice such as a flag or a count."""
    if isinstance(value, bool | int):
        return False
    return isinstance(value, float | np.ndarray | np.floating | jax.Array)


def static_value(value: Any) -> Any:
    """The value inside a `Static`, or the value itself."""
    return value.value if isinstance(value, Static) else value
