"""A model as two pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from badrjax.functions import as_partial


class Model(NamedTuple):
    """A model as two pure functions.

    Attributes:
        init: `init(key) -> params`.
        apply: `apply(params, x, *, key=None) -> scores`, `f[n]` logits or `f[n, C]`; one example's score must not
            depend on another's (no batch statistics). `key=None` is the deterministic model (no dropout).
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]


def as_model(model: Any) -> Model:
    """`model` with its functions as `Partial`s, so that it is a pytree whose numbers are leaves."""
    return Model(as_partial(model.init), as_partial(model.apply))
