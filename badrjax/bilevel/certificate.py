"""A certificate of Pareto stationarity for solutions of the lower problem."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from badrjax.bilevel.checks import check_weights
from badrjax.bilevel.problem import Problem, group_risks, regularised_risks
from badrjax.pareto import StationarityCertificate, pareto_stationarity_from_gradients


class Certificate(NamedTuple):
    """How near to 0 convex combinations of the gradients of the risks come.

    Attributes:
        regularised: of the `R_a`. Its `weighted_norm` is that of the lower gradient, over the longest gradient of one
            `R_a`: 0 up to the lower solver's tolerance at `w*(lambda)` with its weights.
        raw: of the `F_a`, with the same weights.
    """

    regularised: StationarityCertificate
    raw: StationarityCertificate


def certify(problem: Problem, params: Any, weights: Float[Array, "K"]) -> Certificate:
    r"""Whether parameters are Pareto stationary for the risks `R_a = F_a + mu/2 ||w||^2`, and for the raw `F_a`.

    The certificate is the one about the `R_a`. At `w*(lambda)` the gradient of the lower objective is
    `\sum_a lambda_a grad R_a`, a convex combination that vanishes; where all weights are positive and the `R_a` convex,
    `w*(lambda)` is then Pareto efficient for them. That of the `F_a` is `-mu w*` there (0 for intercepts): for `mu > 0`
    some other model can have a lower `F_a` in every group, and `raw` says how fast they can fall at once.

    Args:
        problem: see `badrjax.bilevel.problem`.
        params: such as `w*(lambda)`.
        weights: `lambda`, `f[K]` on the simplex.

    Raises:
        ValueError: for weights of another shape or, outside tracing, off the simplex.
    """
    weights = check_weights(weights, problem.num_groups)
    flat, unravel = ravel_pytree(params)

    def both(vector: Array) -> tuple[Array, Array]:
        return regularised_risks(problem, unravel(vector)), group_risks(problem, unravel(vector))

    certificates = (pareto_stationarity_from_gradients(slopes, weights=weights) for slopes in jax.jacrev(both)(flat))
    return Certificate(*certificates)
