"""Derivatives of upper-level objectives through lower-level training: one step, the implicit rule, estimators."""

from badrjax.hypergradients.argmin import argmin, argmin_with_info
from badrjax.hypergradients.estimators import Estimator, implicit, neumann, single_loop, unrolled
from badrjax.hypergradients.implicit_gradient import (
    HypergradientInfo,
    implicit_hypergradient,
    implicit_hypergradient_with_info,
)
from badrjax.hypergradients.minimise import MinimiseInfo, lbfgs, newton
from badrjax.hypergradients.one_step import (
    alignments_from,
    example_alignments,
    linearised_losses,
    one_step_hypergradients,
)

__all__ = [
    # one gradient step
    "alignments_from",
    "example_alignments",
    "linearised_losses",
    "one_step_hypergradients",
    # the solution of an inner problem
    "HypergradientInfo",
    "implicit_hypergradient",
    "implicit_hypergradient_with_info",
    # estimators for loops
    "Estimator",
    "implicit",
    "neumann",
    "single_loop",
    "unrolled",
    # differentiable arg-min
    "MinimiseInfo",
    "argmin",
    "argmin_with_info",
    "lbfgs",
    "newton",
]
