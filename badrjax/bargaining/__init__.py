"""Weights for K conflicting gradients from their Gram matrix, and how to apply them.

Three steps are kept apart: `gramian(gradients)`, a rule that turns `[K, K]` into weights `[K]`, and
`combine(gradients, weights)`. Rules see no model, so they are small, testable and cheap under `vmap`;
`as_optax(rule)` joins the three for an optax chain.
"""

from badrjax.bargaining.cagrad import cagrad_weights
from badrjax.bargaining.generalized_mean import generalized_mean_weights
from badrjax.bargaining.gram import alignment, combine, gramian
from badrjax.bargaining.legacy import legacy_nash_weights, legacy_nash_weights_from_gradients
from badrjax.bargaining.min_norm import min_norm_weights
from badrjax.bargaining.nash import NashSolution, nash_weights, nash_weights_from_gradients
from badrjax.bargaining.optax_adapter import AggregationState, Weights, as_optax
from badrjax.bargaining.pcgrad import pcgrad_weights

__all__ = [
    "AggregationState",
    "NashSolution",
    "Weights",
    "alignment",
    "as_optax",
    "cagrad_weights",
    "combine",
    "generalized_mean_weights",
    "gramian",
    "legacy_nash_weights",
    "legacy_nash_weights_from_gradients",
    "min_norm_weights",
    "nash_weights",
    "nash_weights_from_gradients",
    "pcgrad_weights",
]
