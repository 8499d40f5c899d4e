"""Splits of a dataset's rows into training, validation and test."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset, Splits
from badrjax.datasets.splits.balanced import balanced_split
from badrjax.datasets.splits.domain import domain_split
from badrjax.datasets.splits.folds import kfold_split
from badrjax.datasets.splits.official import official_split
from badrjax.datasets.splits.random import random_split, stratified_split

__all__ = [
    "balanced_split", "domain_split", "kfold_split", "official_split", "random_split", "split", "stratified_split",
]  # fmt: skip

_KINDS: dict[str, Callable[..., Splits]] = {
    "balanced": balanced_split,
    "random": random_split,
    "stratified": stratified_split,
    "kfold": kfold_split,
    "domain": domain_split,
    "official": official_split,
}


def split(dataset: Dataset, kind: str = "balanced", seed: int = 0, **options: Any) -> Splits:
    """Split the rows of a dataset on the host.

    A split depends on the seed and on NumPy's generator, whose numbers may change between NumPy releases;
    store the split where it must outlive them.

    Args:
        dataset: what to split.
        kind: "balanced" (see `balanced_split`), "random" (`random_split`), "stratified" (`stratified_split`),
            "kfold" (`kfold_split`), "domain" (`domain_split`: by state, year or published part) or "official"
            (`official_split`, where the seed plays no part).
        seed: non-negative integer.
        **options: the keyword arguments of that function.

    Returns:
        Positions of rows; the three parts are disjoint and together cover every row (all but those of
        domains that a "domain" split does not name).

    Raises:
        ValueError: for an unknown kind or option, with the nearest known ones, and as the functions named
            say.
        TypeError: for a seed that is not an integer, or an option that the kind cannot do without.
    """
    if kind not in _KINDS:
        raise unknown_name("kind of split", kind, _KINDS)
    function = _KINDS[kind]
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    known = [parameter.name for parameter in parameters]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of the {kind} split", option, known)
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise TypeError(f"a {kind} split needs {parameter.name}=")
    return function(dataset, **options) if kind == "official" else function(dataset, seed, **options)
