"""Reductions: fair classification as a sequence of cost-sensitive problems, driven from the host.

`expgrad` lets fairlearn play the game of multipliers and answers each of its questions by a compiled training run.
What it returns is a classifier that draws one of several predictors; `expected_positive` and `draw_predictions` are
pure functions of it.
"""

from badrjax.reductions.exponentiated_gradient import expgrad
from badrjax.reductions.randomised import ExpGradResult, draw_predictions, expected_positive

__all__ = ["ExpGradResult", "draw_predictions", "expected_positive", "expgrad"]
