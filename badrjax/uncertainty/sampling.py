"""Many random evaluations in blocks of bounded memory, and what is read off them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from badrjax.checks import is_concrete
from badrjax.groups import as_float

# Numbers that a block of samples may hold, over all its rows.
_BLOCK_ENTRIES = 2**20


class Floor(NamedTuple):
    """What a gap comes to where groups are treated alike; each entry a pytree like what was measured.

    Attributes:
        mean: mean over the finite samples.
        quantile: their quantile at the confidence asked for.
        num_finite: how many samples were finite, `int32`.
        samples: all samples, along a leading axis `S`; the share of them at or above a measured gap is the p-value
            of parity.
    """

    mean: Any
    quantile: Any
    num_finite: Any
    samples: Any


def sampled(
    key: Array, evaluate: Callable[[Array], Any], num_samples: int, num_rows: int, batch_size: int | None
) -> Any:
    """`evaluate(key_i)` for `num_samples` keys, as floats along a leading axis, `batch_size` at a time.

    Sample `i` has the key `fold_in(key, i)`, whatever the batch size.
    """
    if batch_size is None:
        batch_size = max(_BLOCK_ENTRIES // max(num_rows, 1), 1)
    size = min(batch_size, num_samples)
    blocks = -(-num_samples // size)
    index = jnp.arange(blocks * size, dtype=jnp.uint32).reshape(blocks, size)

    def block(index: Array) -> Any:
        return jax.vmap(lambda i: jax.tree.map(as_float, evaluate(jax.random.fold_in(key, i))))(index)

    samples = jax.lax.map(block, index)
    return jax.tree.map(lambda leaf: leaf.reshape(blocks * size, *leaf.shape[2:])[:num_samples], samples)


def finite_only(samples: Any) -> tuple[Any, Any]:
    """The samples with NaN for each entry that is not finite, and how many are finite, `int32`."""
    finite = jax.tree.map(jnp.isfinite, samples)
    kept = jax.tree.map(lambda leaf, known: jnp.where(known, leaf, jnp.nan), samples, finite)
    return kept, jax.tree.map(lambda known: jnp.sum(known, axis=0, dtype=jnp.int32), finite)


def quantiles(samples: Any, probabilities: list[Any]) -> list[Any]:
    """Quantiles over the leading axis without the NaN entries, from one sort; NaN where none is left.

    NaN for a (traced) probability outside `[0, 1]`.
    """

    def of(leaf: Array) -> Array:
        wanted = jnp.stack([jnp.asarray(p, leaf.dtype) for p in probabilities])
        inside = (wanted >= 0) & (wanted <= 1)
        found = jnp.nanquantile(leaf, jnp.where(inside, wanted, 0.5), axis=0)
        return jnp.where(inside.reshape((-1,) + (1,) * (found.ndim - 1)), found, jnp.nan)

    all_of_them = jax.tree.map(of, samples)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], all_of_them) for i in range(len(probabilities))]


def floor_of(samples: Any, confidence: Any) -> Floor:
    """The `Floor` of samples that were drawn at parity."""
    kept, num_finite = finite_only(samples)
    return Floor(
        mean=jax.tree.map(lambda leaf: jnp.nanmean(leaf, axis=0), kept),
        quantile=quantiles(kept, [confidence])[0],
        num_finite=num_finite,
        samples=samples,
    )


def check_sampling(key: Any, num_samples: int, confidence: Any, batch_size: int | None = None) -> None:
    """Raise unless the arguments that all samplers share are in order."""
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("key must be a typed key, jax.random.key(seed), not an integer or a raw uint32 array")
    if np.ndim(key):
        raise ValueError(f"key must be one key, got an array of shape {np.shape(key)}; use jax.vmap over keys")
    for name, size in {"num_samples": num_samples, "batch_size": 1 if batch_size is None else batch_size}.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"{name} must be a positive Python int (it fixes a shape), got {size!r}")
    if is_concrete(confidence) and not 0 < float(confidence) < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95, got {confidence}")


def check_metric(metric: Any, argument: str) -> None:
    """Raise `TypeError` unless `metric` can be called."""
    if not callable(metric):
        raise TypeError(
            f"metric must be a function of the {argument} alone, such as lambda {argument}: "
            f"metrics.accuracy(...), got {type(metric).__name__}"
        )


def encoded(ids: Any) -> Array:
    """Any integers as ids that fit into 32 bits; traced ones as they are."""
    if is_concrete(ids):
        return jnp.asarray(np.unique(np.asarray(ids), return_inverse=True)[1].astype(np.int32).reshape(np.shape(ids)))
    return jnp.asarray(ids).astype(jnp.int32) if jnp.result_type(ids) == jnp.bool_ else jnp.asarray(ids)


def check_ids(ids: Any, name: str) -> None:
    """Raise `TypeError` unless `ids` (`None` is skipped) holds integers or booleans."""
    if ids is None:
        return
    dtype = ids.dtype if hasattr(ids, "dtype") else np.asarray(ids).dtype
    if not (jax.dtypes.issubdtype(dtype, np.integer) or dtype == np.bool_):
        raise TypeError(f"{name} must hold integer ids and has {dtype}; encode names with badrjax.encode_groups")
