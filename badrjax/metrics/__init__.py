"""Measures of accuracy and of group fairness as scikit-learn and fairlearn define them.

`labels` and `predictions` are classes: integers or booleans, 0 and 1 unless said otherwise; the metrics of
regression take numbers and those of calibration probabilities. `weight` is a frequency: a row of weight 0 takes
no part, whatever label, prediction or score it holds. What cannot be measured (a rate over no rows, an AUC with
one class) is NaN, never a number that looks like a result. Classes outside the range raise where the arrays are
concrete and give NaN under tracing, so that labels coded -1 and 1 never pass in silence.

Counts are added in float32: exact for whole weights up to a total of 2^24 (16.7 million), rounded above.
"""

from badrjax.metrics.calibration import (
    GroupCalibration,
    calibration_by_group,
    calibration_difference,
    group_brier,
    group_calibration_error,
)
from badrjax.metrics.classification import accuracy, auc, balanced_accuracy, f1
from badrjax.metrics.disparities import (
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
    predictive_equality_difference,
)
from badrjax.metrics.distributions import distribution_difference
from badrjax.metrics.group_rates import GroupRates, by_group, group_accuracy, group_auc, group_balanced_accuracy
from badrjax.metrics.regression import (
    group_mean_absolute_error,
    group_rmse,
    mean_absolute_error,
    mean_difference,
    r2,
    rmse,
    rmse_difference,
)

__all__ = [
    # classes
    "accuracy",
    "auc",
    "balanced_accuracy",
    "f1",
    # classes by group
    "GroupRates",
    "by_group",
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "group_accuracy",
    "group_auc",
    "group_balanced_accuracy",
    "predictive_equality_difference",
    # numbers
    "distribution_difference",
    "group_mean_absolute_error",
    "group_rmse",
    "mean_absolute_error",
    "mean_difference",
    "r2",
    "rmse",
    "rmse_difference",
    # probabilities
    "GroupCalibration",
    "calibration_by_group",
    "calibration_difference",
    "group_brier",
    "group_calibration_error",
]
