"""Models as pairs of pure functions, ours on flax, and adapters for linen, nnx and equinox modules."""

from badrjax.models.adapters import from_equinox, from_linen, from_nnx
from badrjax.models.base import Model, as_model
from badrjax.models.dropout import dropout
from badrjax.models.graphs import graph_with_fairness
from badrjax.models.networks import is_linear, linear, mlp, mlp_with_fairness
from badrjax.models.residual import resnet18

__all__ = [
    "Model",
    "as_model",
    "dropout",
    "from_equinox",
    "from_linen",
    "from_nnx",
    "graph_with_fairness",
    "is_linear",
    "linear",
    "mlp",
    "mlp_with_fairness",
    "resnet18",
]
