"""The networks of FFVAE, the layout of its code, and the fair representation read off it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from badrjax.checks import check_positive_integer
from badrjax.functions import static_value
from badrjax.models import Model, mlp


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class FFVAESizes:
    """What fixes the shapes, static: a code is `z` of `latent` columns, then a block of columns for each attribute.

    Attributes:
        num_features: width F of the features.
        cardinalities: number of values of each attribute, `C_0, ..., C_{J-1}`, each `>= 2`.
        latent: width of `z` alone, `>= 1`.
    """

    num_features: int
    cardinalities: tuple[int, ...]
    latent: int

    @property
    def block_widths(self) -> tuple[int, ...]:
        """Columns of each block: the one logit of a binary attribute, `C_j` logits of another."""
        return tuple(1 if size == 2 else size for size in self.cardinalities)

    @property
    def code_width(self) -> int:
        """Columns of a whole code, D."""
        return self.latent + sum(self.block_widths)

    def block(self, attribute: int) -> slice:
        """The columns of a code that hold block `attribute`."""
        start = self.latent + sum(self.block_widths[:attribute])
        return slice(start, start + self.block_widths[attribute])


class FFVAEParams(NamedTuple):
    """Parameters of the three networks."""

    encoder: Any
    decoder: Any
    discriminator: Any


class FFVAENetworks(NamedTuple):
    """Three `Model`s and their sizes. Networks of one's own fit in as long as they keep these shapes.

    Attributes:
        encoder: `f[n, F] -> f[n, 2 D]`, means of the code and then logarithms of its variances.
        decoder: `f[n, D] -> f[n, F]`, means or logits of the features (`f[n]` will do where F is 1).
        discriminator: `f[n, D] -> f[n]`, the log odds that a code is drawn jointly.
        sizes: `FFVAESizes`, static.
    """

    encoder: Model
    decoder: Model
    discriminator: Model
    sizes: FFVAESizes

    def init(self, key: Array) -> FFVAEParams:
        """Starting parameters of all three, for `badrjax.fit`."""
        models = (self.encoder, self.decoder, self.discriminator)
        return FFVAEParams(*(model.init(part) for model, part in zip(models, jax.random.split(key, 3), strict=True)))


def ffvae_networks(
    num_features: int,
    cardinalities: Sequence[int],
    latent: int = 16,
    hidden: Sequence[int] = (128, 64),
    discriminator_hidden: Sequence[int] | None = None,
) -> FFVAENetworks:
    """Perceptrons for `badrjax.ffvae`: an encoder, its mirror image as the decoder, and a discriminator.

    Args:
        num_features: width F of the features, `>= 1`.
        cardinalities: number of values of each sensitive attribute, each `>= 2`, at least one attribute. A binary
            attribute has a block of one column, which is its logit; another has `C_j` columns, its logits.
        latent: width of `z`, which the blocks come on top of, `>= 1`.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        discriminator_hidden: those of the discriminator; `None` means `hidden`.

    Returns:
        `FFVAENetworks`, a pytree without leaves; `networks.init(key)` makes `FFVAEParams`, float32 by default.

    Raises:
        ValueError: for widths that are not positive integers, no attribute, or one of fewer than two values.
    """
    check_positive_integer(num_features=num_features, latent=latent)
    _check_hidden("hidden", hidden)
    _check_hidden("discriminator_hidden", discriminator_hidden or ())
    sizes = FFVAESizes(int(num_features), _checked_cardinalities(cardinalities), int(latent))
    width = sizes.code_width
    return FFVAENetworks(
        mlp(sizes.num_features, tuple(hidden), 2 * width),
        mlp(width, tuple(hidden)[::-1], sizes.num_features),
        mlp(width, tuple(hidden if discriminator_hidden is None else discriminator_hidden), 1),
        sizes,
    )


def ffvae_encoder(
    networks: FFVAENetworks, params: FFVAEParams, x: Float[Array, "n F"]
) -> tuple[Float[Array, "n D"], Float[Array, "n D"]]:
    """Means and logarithms of variances of `q(z, b | x)`, two of `f[n, D]`: `z`, then the blocks in their order.

    Args:
        networks: of `badrjax.ffvae_networks`.
        params: `state.params` of `badrjax.ffvae`.
        x: features, `f[n, F]`.

    Returns:
        `(means, log_variances)`, of the dtype of the parameters. With `blocks="point"` the variances of the blocks
        mean nothing.

    Raises:
        TypeError: for parameters that are not `FFVAEParams`. ValueError: for features that are not `[n, F]`.
    """
    check_params(params)
    check_features(networks.sizes, x, "x")
    both = networks.encoder.apply(params.encoder, x)
    width = networks.sizes.code_width
    if both.shape != (x.shape[0], 2 * width):
        raise ValueError(f"the encoder must return f[n, {2 * width}], means and log variances, and has {both.shape}")
    return both[:, :width], both[:, width:]


def fair_features(
    networks: FFVAENetworks,
    params: FFVAEParams,
    x: Float[Array, "n F"],
    drop: Sequence[int] = (),
    *,
    key: Array | None = None,
) -> Float[Array, "n R"]:
    """The representation to train an ordinary network on: the code without the blocks of some attributes.

    To be fair by a conjunction of attributes, drop all of them (Creager et al., 2019). Columns left out are gone, not
    zeroed, so the width depends on `drop`, which is static: inside `jit` name it in `static_argnames`, and bind it to
    a `Partial` as `badrjax.functions.Static((0, 2))`.

    Without a key these are the means of `q(z, b | x)`, deterministic. But what FFVAE makes independent are samples: a
    column that is mostly noise may carry a dropped attribute in its mean, on a small scale, and a network trained
    on means can scale it up. With a key they are samples, noisier and as independent as training made them.

    Args:
        networks: of `badrjax.ffvae_networks`.
        params: `state.params` of `badrjax.ffvae`.
        x: features, `f[n, F]`.
        drop: the attributes whose blocks are left out, positions in `[0, J)`; a repeated one counts once.
        key: draws one sample of the code for each row; `None` gives the means. Not for `blocks="point"`, where the
            blocks have no variances; `z` alone, with all of them dropped, may be drawn.

    Returns:
        `f[n, R]`: `z`, then the blocks that are left, of the dtype of the parameters.

    Raises:
        ValueError: for an attribute outside `[0, J)`, or features that are not `[n, F]`.
        TypeError: for `drop` that is not a sequence of integers, or parameters that are not `FFVAEParams`.
    """
    kept = kept_columns(networks.sizes, static_value(drop))
    means, log_variances = ffvae_encoder(networks, params, x)
    if key is not None:
        means = means + jnp.exp(0.5 * log_variances) * jax.random.normal(key, means.shape, means.dtype)
    return means[:, kept]


def kept_columns(sizes: FFVAESizes, drop: Sequence[int]) -> np.ndarray:
    """Columns of a code without the blocks of the attributes in `drop`, `int[R]`, rising."""
    num_attributes = len(sizes.cardinalities)
    if not isinstance(drop, tuple | list) or not all(_is_integer(attribute) for attribute in drop):
        raise TypeError(f"drop must be a tuple of integers such as (0,), the attributes to leave out, got {drop!r}")
    kept = np.ones(sizes.code_width, bool)
    for attribute in drop:
        if not 0 <= attribute < num_attributes:
            raise ValueError(f"drop must hold attributes in [0, {num_attributes}), got {attribute}")
        kept[sizes.block(int(attribute))] = False
    return np.flatnonzero(kept)


def check_params(params: Any) -> None:
    """Raise `TypeError` unless parameters are those of the three networks."""
    if not isinstance(params, FFVAEParams):
        raise TypeError(f"params must be FFVAEParams, as networks.init(key) makes, got {type(params).__name__}")


def check_features(sizes: FFVAESizes, x: Any, name: str) -> None:
    """Raise `ValueError` unless features are `[n, F]`, traced or not."""
    if np.ndim(x) != 2 or np.shape(x)[1] != sizes.num_features:
        raise ValueError(
            f"{name} must be features [n, {sizes.num_features}], the num_features of the networks, got {np.shape(x)}"
        )


def row_numbers(weight: Float[Array, "n"]) -> Array:
    """The number of each row among those that count, `int32[n]`, so that padding shifts no row's random numbers."""
    return jnp.maximum(jnp.cumsum(weight > 0, dtype=jnp.int32) - 1, 0)


def _checked_cardinalities(cardinalities: Any) -> tuple[int, ...]:
    given = tuple(cardinalities) if isinstance(cardinalities, Sequence | np.ndarray) else None
    if not given or not all(_is_integer(size) and size >= 2 for size in given):
        raise ValueError(
            "cardinalities must hold the number of values of each sensitive attribute, integers >= 2, at least one, "
            f"got {cardinalities!r}; leave out an attribute with a single value"
        )
    return tuple(int(size) for size in given)


def _check_hidden(name: str, hidden: Sequence[int]) -> None:
    check_positive_integer(**{f"{name}[{index}]": width for index, width in enumerate(hidden)})


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
