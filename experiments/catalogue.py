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
    "nash_causes": Experiment(
        "experiments.nash_causes",
        "which difference between the paper's text and its code moves a cell of Tables 1 and 4",
    ),
    "nash_demo": Experiment(
        "experiments.nash_demo",
        "Nash-Meta-Learning against its one-stage twins, plain training and DRO on Adult (sex)",
    ),
    "nash_figure2": Experiment(
        "experiments.nash_figure2",
        "instability and alignment of one-stage meta-learning, Figure 2 of Nash-Meta-Learning",
    ),
    "nash_figure46": Experiment(
        "experiments.nash_figure46",
        "alignment and feasibility by epoch with and without bargaining, Figures 4 and 6",
    ),
    "nash_images": Experiment(
        "experiments.nash_images",
        "two-stage against one-stage meta-learning of a ResNet-18 on two classes of images, one of them rare",
    ),
    "nash_synthetic": Experiment(
        "experiments.nash_synthetic",
        "two-stage bargaining and other rules on a two-objective problem with a known Pareto front",
    ),
    "nash_table5": Experiment(
        "experiments.nash_table5",
        "mutual information of the validation rows by several estimators, Table 5",
    ),
    "badr_experiment1": Experiment(
        "experiments.badr_experiment1",
        "BADR's metric over the weights of two groups as curves and of three as simplices, with every method on them",
    ),
    "badr_convergence": Experiment(
        "experiments.badr_convergence",
        "how near BADR-GD and BADR-SGD come to the least of a grid, how fast, and how the published loop drifts",
    ),
    "badr_scalability": Experiment(
        "experiments.badr_scalability",
        "time, memory and suboptimality of BADR-SGD and of the exact search, up to a million rows and 32 groups",
    ),
    "badr_figure2": Experiment(
        "experiments.badr_figure2",
        "the Pareto front of two groups' risks, the regularisation path beside it, and BADR's metric over the weights",
    ),
    "badr_experiment2": Experiment(
        "experiments.badr_experiment2",
        "six fairness metrics on census data: BADR against five baselines in training and on test rows",
    ),
    "badr_experiment3": Experiment(
        "experiments.badr_experiment3",
        "what BADR costs in accuracy and error: individual fairness of classifiers, parity of regressions",
    ),
    "fairlab_table1": Experiment(
        "experiments.fairlab_table1", "Table 1 of FairLAB: it and its competitors under each two-way intersection"
    ),
    "fairlab_table2": Experiment(
        "experiments.fairlab_table2", "Table 2 of FairLAB: three-way intersections, at three budgets"
    ),
    "fairlab_table3": Experiment(
        "experiments.fairlab_table3", "Table 3 of FairLAB: seven constraints on demographic parity at once"
    ),
    "fairlab_table4": Experiment(
        "experiments.fairlab_table4", "Table 4 of FairLAB: seven constraints on equalised odds at once"
    ),
    "fairlab_table5": Experiment(
        "experiments.fairlab_table5", "Table 5 of FairLAB: training times by number of constraints"
    ),
    "fairlab_figure2": Experiment(
        "experiments.fairlab_figure2", "Figure 2 of FairLAB: what the bound on the outputs' movement does"
    ),
    "fairbinn_fronts": Experiment(
        "experiments.fairbinn_fronts",
        "accuracy against demographic parity of FairBiNN's four update rules, paired over seeds",
    ),
    "fairbinn_ablation": Experiment(
        "experiments.fairbinn_ablation",
        "FairBiNN by weight, depth and place of the fairness layers, and by step sizes",
    ),
    "fairbinn_curves": Experiment(
        "experiments.fairbinn_curves", "losses during training of FairBiNN's rules beside the Lagrangian"
    ),
    "fairbinn_time": Experiment("experiments.fairbinn_time", "seconds an epoch of FairBiNN's rules"),
    "fairbinn_game": Experiment(
        "experiments.fairbinn_game",
        "where FairBiNN's rules settle in a quadratic game, and where its Pareto claim holds and fails",
    ),
    "ledger": Experiment(
        "experiments.ledger",
        "every cell of every paper with its verdict, from records and stored results; trains nothing",
    ),
}


def load(name: str):
    """The module of an experiment; `ValueError` with the nearest names for one that does not exist."""
    from badrjax.checks import unknown_name

    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS)
    return import_module(EXPERIMENTS[name].module)
