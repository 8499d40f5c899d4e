"""Our own networks: a multi-layer perceptron and linear models, on flax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array

from badrjax.checks import is_concrete
from badrjax.functions import Static
from badrjax.models.base import Model
from badrjax.models.dropout import MaskGenerator
from badrjax.models.dropout import dropout as drop_out


def mlp(
    num_features: int,
    hidden: Sequence[int] = (128, 64),
    num_outputs: int = 1,
    *,
    dropout: float | Array = 0.0,
    masks: MaskGenerator = "hash",
) -> Model:
    """Multi-layer perceptron with ReLU and dropout after each hidden layer.

    Weights and biases start uniform in `±1/sqrt(fan_in)`.

    Args:
        num_features: width of the input, `>= 1`.
        hidden: widths of the hidden layers.
        num_outputs: 1 gives logits `f[n]`; `C >= 2` gives `f[n, C]`.
        dropout: rate in `[0, 1)`; a leaf of the model, so it may be traced and swept.
        masks: where dropout's bits come from, see `badrjax.models.dropout`.

    Raises:
        ValueError: for widths that are not positive or a rate outside `[0, 1)`.
    """
    return _perceptron(num_features, tuple(hidden), num_outputs, dropout, masks)


def _perceptron(
    num_features: int,
    widths: tuple[int, ...],
    num_outputs: int,
    dropout: float | Array,
    masks: MaskGenerator,
    names: tuple[str, ...] = (),
) -> Model:
    _check_widths(
        num_features=num_features,
        num_outputs=num_outputs,
        **{f"hidden[{i}]": width for i, width in enumerate(widths)},
    )
    if is_concrete(dropout) and not np.all((np.asarray(dropout) >= 0) & (np.asarray(dropout) < 1)):
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    if masks not in ("hash", "threefry"):
        raise ValueError(f"masks must be 'hash' or 'threefry', got {masks!r}")
    # A rate of exactly 0 that is not swept needs no masks at all.
    static_zero = isinstance(dropout, int | float) and dropout == 0
    module = _MLP(widths, num_outputs, _fan_in_uniform, names=names)
    return _of_module(module, num_features, None if static_zero else dropout, masks)


def mlp_with_fairness(
    num_features: int,
    hidden: Sequence[int] = (128, 128, 128),
    fairness: Sequence[int] = (128,),
    *,
    position: int = 1,
    dropout: float | Array = 0.0,
    masks: MaskGenerator = "hash",
) -> Model:
    """The network of FairBiNN: a perceptron with a block of fairness layers among its hidden ones.

    The layers are `hidden_0`, ..., the block `fairness_0`, ... after `position` of them, and `output`, one logit. So
    `badrjax.follower_layers("fairness")` tells the block from the others. Linear layers with ReLU throughout, started
    as those of `mlp`. The published network of Adult is `hidden=(101, 101, 101), fairness=(101,)`, that of Health
    `hidden=(125,) * 4, fairness=(125,)`.

    Args:
        num_features: width of the input, `>= 1`.
        hidden: widths of the accuracy layers.
        fairness: widths of the fairness layers, at least one.
        position: how many accuracy layers come before them, 0 to `len(hidden)`.
        dropout: as for `mlp`, after each hidden layer of either kind.
        masks: as for `mlp`.

    Raises:
        ValueError: for widths that are not positive, no fairness layer, a position outside the network, or a rate
            outside `[0, 1)`.
    """
    if not fairness:
        raise ValueError("fairness must give the width of at least one layer; use badrjax.models.mlp without any")
    if isinstance(position, bool) or not isinstance(position, int | np.integer) or not 0 <= position <= len(hidden):
        raise ValueError(f"position must be from 0 to {len(hidden)}, the number of accuracy layers, got {position!r}")
    for kind, widths in (("hidden", hidden), ("fairness", fairness)):
        _check_widths(**{f"{kind}[{i}]": width for i, width in enumerate(widths)})
    named = [(f"hidden_{i}", width) for i, width in enumerate(hidden)]
    named[position:position] = [(f"fairness_{i}", width) for i, width in enumerate(fairness)]
    names, sizes = zip(*named, strict=True)
    return _perceptron(num_features, sizes, 1, dropout, masks, names)


def linear(num_features: int, num_outputs: int = 1, *, intercept: bool = True) -> Model:
    """Linear scores `x W + b`, started at zero.

    Args:
        num_features: width of the input, `>= 1`.
        num_outputs: 1 gives logits `f[n]`; `C >= 2` gives `f[n, C]`.
        intercept: whether `b` is there.
    """
    _check_widths(num_features=num_features, num_outputs=num_outputs)
    return _of_module(_MLP((), num_outputs, _zeros, intercept), num_features, None, "hash")


def is_linear(model: Any) -> bool:
    """Whether a model is one of `linear` with one output: its scores are linear in its parameters."""
    apply = getattr(model, "apply", None)
    if not (isinstance(apply, Partial) and apply.func is _mlp_apply):
        return False
    module = apply.args[0].value[0]
    return not module.hidden and module.num_outputs == 1


class _MLP(nn.Module):
    hidden: tuple[int, ...]
    num_outputs: int
    initialiser: Callable[[int], Any]
    intercept: bool = True
    names: tuple[str, ...] = ()  # of the hidden layers, where not hidden_0, hidden_1, ...

    @nn.compact
    def __call__(self, x: Array, key: Any, rate: Any, masks: MaskGenerator) -> Array:
        for index, width in enumerate(self.hidden):
            x = nn.relu(self._dense(width, x, self.names[index] if self.names else f"hidden_{index}"))
            if key is not None and rate is not None:
                x = drop_out(jax.random.fold_in(key, index), x, rate, masks)
        scores = self._dense(self.num_outputs, x, "output")
        return scores[:, 0] if self.num_outputs == 1 else scores

    def _dense(self, width: int, x: Array, name: str) -> Array:
        initialise = self.initialiser(x.shape[-1])
        return nn.Dense(
            width,
            self.intercept,
            kernel_init=initialise,
            bias_init=initialise,
            param_dtype=jnp.result_type(float),
            name=name,
        )(x)


def _fan_in_uniform(fan_in: int) -> Any:
    # Symmetric uniform; flax's own `uniform` starts at 0.
    bound = 1 / math.sqrt(fan_in)

    def initialise(key: Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


def _zeros(fan_in: int) -> Any:
    return nn.initializers.zeros_init()


def _of_module(module: _MLP, num_features: int, rate: Any, masks: MaskGenerator) -> Model:
    return Model(Partial(_mlp_init, Static((module, num_features))), Partial(_mlp_apply, Static((module, masks)), rate))


def _mlp_init(config: Static, key: Array) -> Any:
    module, num_features = config.value
    example = jnp.zeros((1, num_features), jnp.result_type(float))
    return module.init(key, example, None, None, "hash")["params"]


def _mlp_apply(config: Static, rate: Any, params: Any, x: Array, *, key: Any = None) -> Array:
    module, masks = config.value
    return module.apply({"params": params}, x, key, rate, masks)


def _check_widths(**widths: int) -> None:
    for name, width in widths.items():
        if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
            raise ValueError(f"{name} must be a positive integer, got {width!r}")
