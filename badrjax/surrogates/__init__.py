"""Smooth stand-ins for hard decisions: maps onto the simplex, soft rates and soft F1, and a distance of samples.

A classifier's rates and its F1 are step functions of its scores. Replacing the step by a map onto the simplex
(`sparsemax`, `entmax15`, `entmax`, or `jax.nn.softmax`) gives rates with derivatives, which agree with the hard
ones as the scores grow: multiply the scores to sharpen.
"""

from badrjax.surrogates.rates import Rates, rates_present, soft_f1, soft_rates
from badrjax.surrogates.simplex import entmax, entmax15, project_simplex, sparsemax
from badrjax.transport import wasserstein1, wasserstein1_by_group

__all__ = [
    "Rates",
    "entmax",
    "entmax15",
    "project_simplex",
    "rates_present",
    "soft_f1",
    "soft_rates",
    "sparsemax",
    "wasserstein1",
    "wasserstein1_by_group",
]
