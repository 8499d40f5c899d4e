"""ResNet-18 for small images, with group normalisation, so that one image's score depends on no other image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from badrjax.checks import check_positive_integer, unknown_name
from badrjax.functions import Static
from badrjax.models.adapters import from_linen
from badrjax.models.base import Model

Convolutions = Literal["direct", "patches"]

_MOST_GROUPS = 32
_DEVIATION = 0.8796256610342398  # of a standard normal cut off at two deviations


def resnet18(
    image_shape: Sequence[int] = (32, 32, 3),
    num_outputs: int = 2,
    *,
    width: int = 64,
    groups: int | None = None,
    blocks: Sequence[int] = (2, 2, 2, 2),
    convolutions: Convolutions = "direct",
    fairness: Sequence[int] = (),
) -> Model:
    """ResNet-18 (He et al. 2016) in the form for small images: a 3x3 stem of stride 1 and no max-pooling.

    Batch normalisation would make the losses of a batch's rows depend on each other, which gradients by example
    weights do not allow, so group normalisation (Wu and He 2018) takes its place, with as many parameters. Stages are
    `width`, `2 width`, `4 width`, ... channels wide, and all but the first halve the image; a block whose shape
    changes has a 1x1 convolution in its shortcut. Convolutions have no bias and start normal with variance
    `2 / fan_in` (cut off at two deviations); the output layer starts with variance `1 / fan_in` and no bias.

    With `width=64` there are 11,173,962 parameters for 10 outputs and 11,169,858 for 2.

    Args:
        image_shape: height, width and channels of an image.
        num_outputs: 1 gives logits `f[n]`; `C >= 2` gives `f[n, C]`.
        width: channels of the first stage, `>= 1`; fewer than 64 make a smaller network.
        groups: of channels that are normalised together, in every layer; must divide `width`. `None` takes the
            largest divisor of `width` up to 32 that leaves two channels a group: 32 for `width=64`.
        blocks: residual blocks of each stage, two convolutions each; other numbers than these make it another network.
        convolutions: how they are computed, to the same numbers up to rounding: `"direct"` by XLA's convolution, the
            one for accelerators, or `"patches"` by a matrix product with the patches of the image, which takes nine
            times the memory of an activation; on a CPU it trains about ten times faster, and seeds can be mapped over.
        fairness: widths of linear layers with ReLU before the output, `fairness_0`, ...: the image form of FairBiNN,
            see `badrjax.follower_layers`.

    Returns:
        A `Model` whose `apply` takes images `[n, height, width, channels]`, or their rows
        `[n, height * width * channels]` in that order, as the image datasets have them. It has no dropout. Bring
        pixels to about mean 0 and deviation 1 first.

    Raises:
        ValueError: for sizes that are not positive integers, no stages, groups that do not divide `width`, or an
            unknown way of convolution; when called, for `x` of another shape.
    """
    shape = tuple(image_shape)
    if len(shape) != 3:
        raise ValueError(f"image_shape must be (height, width, channels), got {image_shape!r}")
    if len(blocks) == 0:
        raise ValueError("blocks must give the residual blocks of at least one stage")
    sizes = {f"image_shape[{i}]": size for i, size in enumerate(shape)} | {
        f"blocks[{i}]": b for i, b in enumerate(blocks)
    }
    sizes |= {f"fairness[{i}]": size for i, size in enumerate(fairness)}
    check_positive_integer(**sizes, num_outputs=num_outputs, width=width)
    if groups is None:
        groups = _default_groups(width)
    check_positive_integer(groups=groups)
    if width % groups:
        raise ValueError(f"groups must divide width {width}, got {groups}")
    if convolutions not in ("direct", "patches"):
        raise unknown_name("way of convolution", str(convolutions), ("direct", "patches"))
    module = _ResNet(shape, num_outputs, width, groups, tuple(blocks), convolutions, tuple(fairness))
    example = jax.ShapeDtypeStruct((1, math.prod(shape)), jnp.float32)
    apply = from_linen(module, example).apply
    return Model(Partial(_init, Static((module, example.shape))), apply)


def _init(config: Static, key: Array) -> Any:
    """Parameters as the module names them, every kernel cut out of a single draw.

    XLA's CPU compiler takes a second for each draw of another shape, which for twenty kernels is most of the time
    that a short run takes.
    """
    module, shape = config.value
    dtype = jnp.result_type(float)
    params = jax.eval_shape(module.init, key, jax.ShapeDtypeStruct(shape, dtype))["params"]
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    drawn = [path[-1].key == "kernel" for path, _ in leaves]
    total = sum(leaf.size for (_, leaf), is_drawn in zip(leaves, drawn, strict=True) if is_drawn)
    noise = jax.random.truncated_normal(key, -2.0, 2.0, (total,), dtype) / _DEVIATION
    start, filled = 0, []
    for (path, leaf), is_drawn in zip(leaves, drawn, strict=True):
        if not is_drawn:
            filled.append(jnp.full(leaf.shape, 1.0 if path[-1].key == "scale" else 0.0, dtype))
            continue
        gain = 2.0 if len(leaf.shape) == 4 else 1.0
        values = noise[start : start + leaf.size].reshape(leaf.shape)
        filled.append(values * math.sqrt(gain / math.prod(leaf.shape[:-1])))
        start += leaf.size
    return jax.tree.unflatten(structure, filled)


class _ResNet(nn.Module):
    image_shape: tuple[int, ...]
    num_outputs: int
    width: int
    groups: int
    blocks: tuple[int, ...]
    convolutions: Convolutions
    fairness: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _as_images(x, self.image_shape)
        x = _Convolution(self.width, 3, 1, self.convolutions, name="stem")(x)
        x = nn.relu(_norm(self.groups, "stem_norm")(x))
        for stage, number in enumerate(self.blocks):
            for block in range(number):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage_{stage}_block_{block}"
                x = _Block(self.width * 2**stage, stride, self.groups, self.convolutions, name=name)(x)
        x = jnp.mean(x, (1, 2))
        for index, size in enumerate(self.fairness):
            x = nn.relu(nn.Dense(size, param_dtype=jnp.result_type(float), name=f"fairness_{index}")(x))
        scores = nn.Dense(self.num_outputs, param_dtype=jnp.result_type(float), name="output")(x)
        return scores[:, 0] if self.num_outputs == 1 else scores


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    channels: int
    stride: int
    groups: int
    convolutions: Convolutions

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = _Convolution(self.channels, 3, self.stride, self.convolutions, name="convolution_0")(x)
        y = nn.relu(_norm(self.groups, "norm_0")(y))
        y = _Convolution(self.channels, 3, 1, self.convolutions, name="convolution_1")(y)
        y = _norm(self.groups, "norm_1")(y)
        if self.stride != 1 or x.shape[-1] != self.channels:
            x = _Convolution(self.channels, 1, self.stride, self.convolutions, name="shortcut")(x)
            x = _norm(self.groups, "shortcut_norm")(x)
        return nn.relu(x + y)


class _Convolution(nn.Module):
    """A convolution of odd `size` without bias, padded by zeros to the size of the image, then thinned by `stride`."""

    channels: int
    size: int
    stride: int
    how: Convolutions

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.zeros_init(), shape, jnp.result_type(float))
        x = jnp.asarray(x, jnp.promote_types(x.dtype, kernel.dtype))
        return (_direct if self.how == "direct" else _by_patches)(x, kernel, self.stride)


def _direct(x: Array, kernel: Array, stride: int) -> Array:
    # Not "SAME", which would pad a stride of 2 on one side only.
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _by_patches(x: Array, kernel: Array, stride: int) -> Array:
    size, num_out = kernel.shape[0], kernel.shape[-1]
    height, width = x.shape[1:3]
    margin = (size // 2, size // 2)
    padded = jnp.pad(x, ((0, 0), margin, margin, (0, 0)))
    shifted = [padded[:, i : i + height : stride, j : j + width : stride] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, num_out)


def _norm(groups: int, name: str) -> nn.GroupNorm:
    # The fast variance, E[x^2] - E[x]^2, cancels in float32 where a mean is large.
    return nn.GroupNorm(groups, epsilon=1e-5, use_fast_variance=False, param_dtype=jnp.result_type(float), name=name)


def _as_images(x: Array, image_shape: tuple[int, ...]) -> Array:
    if x.shape[1:] not in (image_shape, (math.prod(image_shape),)):
        raise ValueError(
            f"x must hold images [n, {', '.join(map(str, image_shape))}] or their rows, got shape {x.shape}"
        )
    return x.reshape(-1, *image_shape)


def _default_groups(width: int) -> int:
    return max(g for g in range(1, _MOST_GROUPS + 1) if width % g == 0 and (width // g >= 2 or g == 1))
