"""What scripts begin with, and runs from new parameters: one, or a block of seeds as one program."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array
from rich.console import Console

import badrjax as bx


def begin(settings: Any, console: Console | None) -> Console:
    """A console, the directory of the results, and the cache of compiled programs where there is one.

    Args:
        settings: of an experiment, with `out` and perhaps `cache`.
        console: another than the terminal.

    Raises:
        PermissionError: where the directory cannot be written to, for after the runs it is too late to learn that.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    if not os.access(settings.out, os.W_OK):
        raise PermissionError(f"cannot write to {settings.out}; choose another directory with --out")
    if getattr(settings, "cache", False):
        use_compilation_cache()
    return console or Console()


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise `ValueError` for no seeds, repeated ones, or such as make no key."""
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise ValueError(f"seeds must be distinct, not negative and below 2**32, got {list(seeds)}")


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

    options = {"num_epochs": num_epochs, "sampler": sampler}
    return jax.vmap(lambda key: fit_new(key, model, method, data, rows, evaluate, **options))(keys)


def fit_new(
    key: Array,
    model: bx.Model,
    method: bx.Method,
    data: bx.Batch,
    rows: Array,
    evaluate: Any,
    *,
    num_epochs: int,
    sampler: bx.Sampler,
) -> bx.FitResult:
    """`badrjax.fit` from new parameters; the key is split between these and the run, whatever the method."""
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


def by_epoch(result: bx.FitResult) -> dict[str, Any]:
    """What was evaluated after each epoch, and `steps`: what the steps reported as one number an epoch, `[E]` each."""
    steps = {name: value for name, value in result.steps._asdict().items() if value.ndim == 1}
    return {**result.evaluations, "steps": steps}


def use_compilation_cache(directory: str = ".jax_cache") -> None:
    """Keep compiled programs between runs of the scripts (the library itself never does)."""
    jax.config.update("jax_compilation_cache_dir", str(Path(directory).resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
