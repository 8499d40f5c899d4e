"""Parameters in two blocks, the layers that lead and those that follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial, keystr

from badrjax.functions import Static

BLOCKS = ("leader", "follower")


def follower_layers(*prefixes: str) -> Static:
    """A label function: layers whose names begin with one of the prefixes follow, the others lead.

    Args:
        *prefixes: of names anywhere on the way to a parameter, such as `"fairness"` for `params["fairness_0"]`.

    Returns:
        What `badrjax.fairbinn` takes as `labels`: inside, a function from parameters to a pytree of `"leader"` and
        `"follower"`, which `optax.partition` takes too (`follower_layers("fairness").value`).

    Raises:
        ValueError: for no prefix, or an empty one, which every name begins with.
    """
    if not prefixes or not all(isinstance(prefix, str) and prefix for prefix in prefixes):
        raise ValueError(f"prefixes must be names of layers, at least one and none empty, got {prefixes}")
    return Static(_ByPrefix(tuple(prefixes)))


def _name(entry: Any) -> str:
    """Of a key of a dict or a field; nothing of a position in a list."""
    return str(getattr(entry, "key", getattr(entry, "name", "")))


class _ByPrefix:
    """Hashable, so that two label functions of the same prefixes are the same program."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes = prefixes

    def __call__(self, params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(self._label, params)

    def _label(self, path: Any, leaf: Any) -> str:
        return BLOCKS[any(_name(entry).startswith(self.prefixes) for entry in path)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByPrefix) and self.prefixes == other.prefixes

    def __hash__(self) -> int:
        return hash(self.prefixes)

    def __repr__(self) -> str:
        return f"follower_layers{self.prefixes!r}"


def split(params: Any, labels: Callable[[Any], Any] | Partial) -> tuple[Any, Any]:
    """The parameters that lead and those that follow, each with `None` where the other has a leaf.

    Args:
        params: pytree of arrays.
        labels: `labels(params) ->` pytree like `params`, or like its upper part, of `"leader"` and `"follower"`.

    Raises:
        ValueError: for labels that miss a parameter, name neither block, or leave one empty.
    """
    named, structure = jax.tree_util.tree_flatten_with_path(params)
    given = dict(jax.tree_util.tree_flatten_with_path(labels(params), is_leaf=lambda leaf: leaf is None)[0])
    layers = ", ".join(sorted({_name(path[0]) for path, _ in named if path}))
    found = {}
    for path, _ in named:
        # Its own label, or that of the nearest node above it.
        label = next((given[path[:i]] for i in range(len(path), -1, -1) if path[:i] in given), None)
        if label not in BLOCKS:
            what = "misses" if label is None else f"calls {label!r}"
            raise ValueError(
                f"labels {what} params{keystr(path)}: every parameter must be 'leader' or 'follower' (layers: {layers})"
            )
        found[path] = label
    for block in BLOCKS:
        if block not in found.values():
            raise ValueError(f"labels leave no parameter for the {block} (layers: {layers})")

    def part(block: str) -> Any:
        return jax.tree.unflatten(structure, [leaf if found[path] == block else None for path, leaf in named])

    return part("leader"), part("follower")


def join(leader: Any, follower: Any) -> Any:
    """The parameters again, from `split`."""
    return jax.tree.map(
        lambda first, second: second if first is None else first, leader, follower, is_leaf=lambda leaf: leaf is None
    )
