"""Learners: a method by name, fitted to a table of people, kept in a directory and used again (host code).

`train` fits any of `METHODS` to a `Dataset`; `scores`, `probabilities` and `predictions` use what it returns on other
rows; `save` and `load` keep it. `badrjax.sklearn` and `badrjax train` are made of these.
"""

from badrjax.learners.saving import load, save
from badrjax.learners.settings import METHODS, About, Settings
from badrjax.learners.trained import Trained, describe, predictions, probabilities, scores, train

__all__ = [
    "METHODS", "About", "Settings", "Trained", "describe", "load", "predictions", "probabilities", "save", "scores",
    "train",
]  # fmt: skip
