"""One program for a block of seeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array

import badrjax as bx


@partial(jax.jit, static_argnames=("num_epochs", "sampler"))
def fit_seeds(
    keys: Array,
    model: bx.Model,
    method: bx.Method,
    data: bx.Batch,
    rows: Array,
    evaluate: Any,
    *,
    num_epochs: int,
    sampler: bx.Sampler,
) -> bx.FitResult:
    """`badrjax.fit` from new parameters for each of the keys `[S]`; every leaf of the result leads with S.

    Everything that may change between runs of the same shapes is an argument, so a method and a number of seeds
    are one compilation whatever the numbers.
    """

    def one(key: Array) -> bx.FitResult:
        init_key, fit_key = jax.random.split(key)
        return bx.fit(
            fit_key,
            method,
            model.init(init_key),
            data,
            num_epochs=num_epochs,
            sampler=sampler,
            rows=rows,
            evaluate=evaluate,
        )

    return jax.vmap(one)(keys)


def use_compilation_cache(directory: str = ".jax_cache") -> None:
    """Keep compiled programs between runs of the scripts (the library itself never does)."""
    jax.config.update("jax_compilation_cache_dir", str(Path(directory).resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
