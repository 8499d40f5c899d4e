"""Fairness requirements on one attribute or on intersections, as constraints on pairs of groups."""

from badrjax.constraints.counts import CellCounts, cell_counts, cell_factors, f1_of_counts, group_rates
from badrjax.constraints.pairs import (
    group_violations,
    owned_pairs,
    pair_gaps,
    pair_violations,
    requirement_gaps,
)
from badrjax.constraints.report import RequirementCheck, check_requirements
from badrjax.constraints.requirements import (
    METRICS,
    FairnessConstraints,
    Requirement,
    check_constraints,
    every_intersection,
    fairness_constraints,
)
from badrjax.constraints.scores import SCORE_WEIGHTS, penalised_score

__all__ = [
    "METRICS",
    "SCORE_WEIGHTS",
    "CellCounts",
    "FairnessConstraints",
    "Requirement",
    "RequirementCheck",
    "cell_counts",
    "cell_factors",
    "check_constraints",
    "check_requirements",
    "every_intersection",
    "f1_of_counts",
    "fairness_constraints",
    "group_rates",
    "group_violations",
    "owned_pairs",
    "pair_gaps",
    "pair_violations",
    "penalised_score",
    "requirement_gaps",
]
