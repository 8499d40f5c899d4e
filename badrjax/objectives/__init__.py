"""Objectives of fairness: numbers to minimise, smooth where the measures of `badrjax.metrics` are not.

Two families. Reducers take the losses of K groups, from any model: `mean`, `worst`, `gap`, `variance`, `cvar`,
`alpha_fair` (`group_losses` makes their arguments). The others take the scores of n rows, logits `f[n]`, with labels
and groups: `demographic_parity`, `equal_opportunity`, `equalized_odds` compare smooth rates,
`squared_disparity` mean probabilities, `hsic` and `disparate_mistreatment` are squared covariances with membership,
`individual_fairness` compares pairs of rows.

Objectives of scores read labels first by dtype: integers and booleans are classes 0 and 1, floats are targets of a
regression. Fewer than two groups that can be compared give 0 with derivative 0.
"""

from badrjax.objectives.dependence import disparate_mistreatment, hsic
from badrjax.objectives.individual import individual_fairness
from badrjax.objectives.rates import demographic_parity, equal_opportunity, equalized_odds
from badrjax.objectives.reducers import alpha_fair, cvar, gap, group_losses, mean, variance, worst
from badrjax.objectives.squared import squared_disparity

__all__ = [
    "alpha_fair",
    "cvar",
    "gap",
    "group_losses",
    "mean",
    "variance",
    "worst",
    "demographic_parity",
    "disparate_mistreatment",
    "equal_opportunity",
    "equalized_odds",
    "hsic",
    "individual_fairness",
    "squared_disparity",
]
