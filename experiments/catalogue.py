"""The experiments by name. A new one joins by one line in `EXPERIMENTS`."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple


class Experiment(NamedTuple):
    """Where an experiment lives: a module with a dataclass `Settings` and a function `main(settings)`."""

    module: str
    summary: str


EXPERIMENTS = {
    "nash_table1": Experiment(
        "experiments.nash_table1",
        "Tables 1 and 4 of Nash-Meta-Learning: seven settings, eight methods, a verdict for each cell and claim",
    ),
    "nash_demo": Experiment(
        "experiments.nash_demo",
        "Nash-Meta-Learning against its one-stage twins, plain training and DRO on Adult (sex)",
    ),
    "nash_synthetic": Experiment(
        "experiments.nash_synthetic",
        "two-stage bargaining and other rules on a two-objective problem with a known Pareto front",
    ),
}


def load(name: str):
    """The module of an experiment; `ValueError` with the nearest names for one that does not exist."""
    from badrjax.checks import unknown_name

    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS)
    return import_module(EXPERIMENTS[name].module)
