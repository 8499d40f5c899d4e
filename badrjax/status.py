"""What a solve ended with, as a code that survives `jit` and `vmap`, and the sentence for it on the host."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from badrjax.checks import is_concrete


class Status(enum.IntEnum):
    """Codes of `status: int32[]` fields; 0 is success."""

    SUCCESS = 0
    MAX_STEPS = 1
    SINGULAR = 2
    NOT_POSITIVE_DEFINITE = 3
    NOT_FINITE = 4
    NOT_STATIONARY = 5
    NO_COMMON_DIRECTION = 6
    DIVERGED = 7


_SENTENCES = {
    Status.SUCCESS: "the solve met its tolerance.",
    Status.MAX_STEPS: (
        "the solver reached its limit of steps before its tolerance. Likely causes: an ill-conditioned Hessian "
        "(add damping or an L2 term, or scale the features), a tolerance below what the precision allows, or a "
        "limit that is too low. A singular Hessian can look like this too."
    ),
    Status.SINGULAR: (
        "the linear system broke down because its matrix is singular or nearly so. Likely causes: parameters "
        "the inner objective does not depend on, duplicated features without an L2 term, or an inner problem "
        "with no unique solution (separable data without regularisation). Add damping or an L2 term."
    ),
    Status.NOT_POSITIVE_DEFINITE: (
        "the Hessian of the inner objective is not positive definite along the direction solved for, so the "
        "parameters are not at a minimum. Likely causes: the inner problem was stopped early, or it is not "
        "convex (a network). Solve it further, add damping, or use truncated or unrolled estimates."
    ),
    Status.NOT_FINITE: (
        "NaN or infinity came up. Likely causes: NaN in the data or the parameters, a step size that made "
        "training diverge, or a loss without a derivative at this point."
    ),
    Status.NOT_STATIONARY: (
        "the inner gradient is not small, so the parameters do not solve the inner problem and derivatives "
        "through its solution are biased. Likely causes: too few inner steps, too small a step size, or an "
        "inner objective without a minimum (separable data without regularisation)."
    ),
    Status.NO_COMMON_DIRECTION: (
        "no update improves every player, so there is no bargain. Likely causes: two opposed gradients, a "
        "gradient that is zero (a group already at its optimum), NaN in one, a point that is Pareto "
        "stationary, nobody present, or a margin below what the precision can decide (try float64)."
    ),
    Status.DIVERGED: (
        "the iteration moved away from its solution. Likely causes: a step size above 2 over the largest "
        "curvature of the inner objective (features that are not scaled make it large), or an inner objective "
        "that is not convex here. Take a smaller step or fewer of them."
    ),
}


def explain(status: Any) -> str:
    """What a status code means, with likely causes; for an array of codes a line each, counted.

    Host code.

    Args:
        status: `int[...]` of `Status` codes, or anything with such a `status` (`NashSolution`,
            `HypergradientInfo`, ...).

    Returns:
        `"NAME: what happened. Likely causes: ..."`, with a line and a count for each code of an array.

    Raises:
        TypeError: for traced values, or what holds no integers.
        ValueError: for an unknown code or an empty array.
    """
    status = getattr(status, "status", status)
    if not is_concrete(status):
        raise TypeError("explain reads a status on the host; call it on what the compiled function returned")
    codes = np.asarray(status)
    if codes.size == 0:
        raise ValueError("status is empty: there is nothing to explain")
    if not np.issubdtype(codes.dtype, np.integer):
        raise TypeError(f"status must hold integer codes, got {codes.dtype}")
    known = [_status_of(code) for code in np.unique(codes)]
    if codes.size == 1:
        return _sentence(known[0])
    return "\n".join(f"{int((codes == code).sum())} of {codes.size}: {_sentence(code)}" for code in known)


def _status_of(code: int) -> Status:
    try:
        return Status(int(code))
    except ValueError:
        listing = ", ".join(f"{known.value} ({known.name})" for known in Status)
        raise ValueError(f"unknown status code {int(code)}; known are {listing}") from None


def _sentence(code: Status) -> str:
    return f"{code.name}: {_SENTENCES[code]}"
