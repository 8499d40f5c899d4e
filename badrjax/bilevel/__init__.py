"""Weights of groups above, weighted risk minimisation below: the bilevel problem of BADR and its exact solution.

`problem` joins a model, a loss, a fairness objective and data; `evaluate` is the exact oracle; `minimise_over_simplex`
and `multi_start` search the simplex through it, and `pareto_path` walks over it. `certify` and the baselines say what
their solutions are worth.
"""

from badrjax.bilevel.baselines import (
    BALANCES,
    Fit,
    MinimaxSolution,
    Path,
    balanced_weights,
    minimax,
    one_group_fit,
    regularisation_path,
    sample_weights,
    uniform_weights,
)
from badrjax.bilevel.certificate import Certificate, certify
from badrjax.bilevel.front import Front, MultiStart, multi_start, pareto_path, simplex_grid, starts
from badrjax.bilevel.oracle import Evaluation, OracleInfo, evaluate, solve_lower
from badrjax.bilevel.problem import (
    LOSS_OBJECTIVES,
    LOSSES,
    SCORE_OBJECTIVES,
    Problem,
    group_risks,
    largest_curvature,
    penalty,
    problem,
    regularised_risks,
    upper_objective,
    weighted_hessian,
    weighted_risk,
)
from badrjax.bilevel.simplex import RULES, SimplexInfo, SimplexSolution, minimise_over_simplex

__all__ = [
    "LOSSES", "LOSS_OBJECTIVES", "SCORE_OBJECTIVES", "Problem", "group_risks", "largest_curvature", "penalty",
    "problem", "regularised_risks", "upper_objective", "weighted_hessian", "weighted_risk",
    "Evaluation", "OracleInfo", "evaluate", "solve_lower",
    "RULES", "SimplexInfo", "SimplexSolution", "minimise_over_simplex",
    "Front", "MultiStart", "multi_start", "pareto_path", "simplex_grid", "starts",
    "Certificate", "certify",
    "BALANCES", "Fit", "MinimaxSolution", "Path", "balanced_weights", "minimax", "one_group_fit",
    "regularisation_path", "sample_weights", "uniform_weights",
]  # fmt: skip
