"""Adapters that make a `Model` of a linen, nnx or equinox module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from badrjax.functions import Static
from badrjax.models.base import Model


def from_linen(module: nn.Module, example: Any, *, training_argument: str | None = None, **call: Any) -> Model:
    """A `Model` of a flax linen module.

    Args:
        module: has parameters only; running statistics would make examples depend on each other.
        example: an input (only its shape and dtype are used) or a `jax.ShapeDtypeStruct`.
        training_argument: the name of the call's flag, if it has one: `"deterministic"` is passed as
            `key is None`, any other name (`"train"`, `"training"`) as `key is not None`.
        **call: further static keyword arguments of the call.

    Raises:
        ValueError: when the module has collections other than `params`.
    """
    shape = jax.ShapeDtypeStruct(jnp.shape(example), example.dtype)
    config = Static((module, training_argument, tuple(sorted(call.items())), (shape.shape, shape.dtype)))
    variables = jax.eval_shape(Partial(_linen_variables, config), jax.random.key(0))
    extra = sorted(set(variables) - {"params"})
    if extra:
        raise ValueError(
            f"the module keeps {', '.join(extra)} beside its parameters; examples would depend on each other or on "
            "hidden state: use group or layer normalisation instead, or freeze the statistics"
        )
    return Model(Partial(_linen_init, config), Partial(_linen_apply, config))


def from_nnx(build: Callable[..., Any]) -> Model:
    """A `Model` of a flax nnx module.

    Args:
        build: `build(rngs: nnx.Rngs) -> nnx.Module`, a module-level function or class, called with `x` only.
            Dropout inside draws from the model's key; `key=None` switches it off.

    Raises:
        TypeError: for a module in place of a function that builds it.
        ValueError: when the module has state other than parameters and random streams.
    """
    from flax import nnx

    if isinstance(build, nnx.Module):
        raise TypeError(f"build must be a function of nnx.Rngs, got a {type(build).__name__} already built")
    # The structure holds no arrays, so it can be part of the program; one for training and one for evaluation,
    # for `deterministic` flags are structure in nnx.
    structures = []
    for mode in ("train", "eval"):
        abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
        getattr(abstract, mode)()
        parts: Any = nnx.split(abstract, nnx.Param, nnx.RngState, ...)
        structure, _, streams, rest = parts
        if jax.tree.leaves(rest):
            raise ValueError(
                "the module keeps state beside its parameters (batch statistics, caches); use group or layer "
                "normalisation instead, or freeze the statistics"
            )
        structures.append((structure, streams))
    frozen = Static(_Hashed((build, *(s for s, _ in structures))))
    streams = jax.tree.structure(structures[0][1])
    kinds = tuple(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(structures[0][1]))
    return Model(Partial(_nnx_init, Static(build)), Partial(_nnx_apply, frozen, Static((streams, kinds))))


def from_equinox(build: Callable[..., Any]) -> Model:
    """A `Model` of an equinox module, which takes one example and is vmapped over rows.

    Args:
        build: `build(key) -> eqx.Module`. A module whose call has a `key` argument is given one an example;
            `key=None` switches its inference mode on.

    Raises:
        TypeError: when `build` returns anything but a module (a module with its state, say).
    """
    import equinox as eqx

    skeleton = eqx.filter_eval_shape(build, jax.random.key(0))
    if not isinstance(skeleton, eqx.Module):
        raise TypeError(f"build(key) must return an equinox module, got {type(skeleton).__name__}")
    leaves, structure = jax.tree.flatten(
        jax.tree.map(lambda leaf: None if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, skeleton),
        is_leaf=lambda leaf: leaf is None,
    )
    takes_key = "key" in inspect.signature(type(skeleton).__call__).parameters
    return Model(
        Partial(_equinox_init, Static(build)),
        Partial(_equinox_apply, Static((tuple(leaves), structure, takes_key))),
    )


def _linen_variables(config: Static, key: Array) -> Any:
    module, training, call, (shape, dtype) = config.value
    flags = {} if training is None else {training: training == "deterministic"}
    return module.init(key, jnp.zeros(shape, dtype), **flags, **dict(call))


def _linen_init(config: Static, key: Array) -> Any:
    return _linen_variables(config, key).get("params", {})


def _linen_apply(config: Static, params: Any, x: Array, *, key: Any = None) -> Array:
    module, training, call, _ = config.value
    flags = {} if training is None else {training: (key is None) == (training == "deterministic")}
    rngs = None if key is None else {"dropout": key}
    return module.apply({"params": params}, x, rngs=rngs, **flags, **dict(call))


class _Hashed:
    """A tuple hashed by its first member's identity and compared member by member (nnx graphs hash slowly)."""

    def __init__(self, members: tuple[Any, ...]) -> None:
        self.members = members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and self.members == other.members

    def __hash__(self) -> int:
        return hash(self.members[0])


def _nnx_init(build: Static, key: Array) -> Any:
    from flax import nnx

    return nnx.to_pure_dict(nnx.state(build.value(nnx.Rngs(key)), nnx.Param))


def _nnx_apply(frozen: Static, streams: Static, params: Any, x: Array, *, key: Any = None) -> Array:
    from flax import nnx

    _, training, evaluation = frozen.value.members
    structure, kinds = streams.value
    seed = jax.random.key(0) if key is None else key
    leaves = [jax.random.fold_in(seed, i) if is_key else jnp.zeros((), jnp.uint32) for i, is_key in enumerate(kinds)]
    module = nnx.merge(
        evaluation if key is None else training, nnx.State(params), jax.tree.unflatten(structure, leaves)
    )
    return module(x)


def _equinox_init(build: Static, key: Array) -> Any:
    import equinox as eqx

    return eqx.filter(build.value(key), eqx.is_array)


def _equinox_apply(config: Static, params: Any, x: Array, *, key: Any = None) -> Array:
    import equinox as eqx

    leaves, structure, takes_key = config.value
    module = eqx.combine(params, jax.tree.unflatten(structure, leaves))
    module = eqx.nn.inference_mode(module, key is None)
    if not takes_key or key is None:
        return jax.vmap(module)(x)
    return jax.vmap(lambda row, row_key: module(row, key=row_key))(x, jax.random.split(key, x.shape[0]))
