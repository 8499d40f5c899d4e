"""What the text of the Nash-Meta-Learning paper and its published code do differently, each difference an option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from badrjax.checks import unknown_name


@dataclass(frozen=True)
class Protocol:
    """How the experiments of the paper are run.

    The text is silent on dropout, on an F1 term and on how the epoch that is reported was chosen; there the first
    protocol has what a reader would expect.
    """

    cells: Literal["groups", "cells"] = "groups"
    """Who bargains: sensitive groups, or group x label cells."""
    f1_term: bool = False
    """Add a smooth F1 term to the validation losses."""
    lookahead: Literal["sgd", "optimizer"] = "sgd"
    """The step whose derivative is taken: a plain gradient step, or the optimiser's with momentum and weight decay."""
    lookahead_dropout: Literal["same", "fresh", "off"] = "same"
    """Dropout masks of the lookahead: those of the training step, fresh ones, or none."""
    validation_dropout: bool = False
    """Whether validation losses are computed with dropout."""
    bargain: Literal["exact", "legacy", "fails"] = "exact"
    """How the bargain is solved and found to have failed: exactly; by the code's scheme with its rounds solved exactly,
    see `badrjax.bargaining.legacy_nash_weights`; or never, so that the fallback is always used. The conic solver that
    the code leaves its rounds to fails on small gradients, so that the code is somewhere between the last two."""
    fallback: Literal["goal", "previous"] = "goal"
    """What a failed bargain uses under the LtR goal: the goal's weights, or the aggregate of the batch before."""
    one_epoch_fewer: bool = False
    """Bargain one epoch fewer than Table 3 says."""
    hyper_parameters: Literal["paper", "code"] = "paper"
    """Epochs, batch sizes and bargaining epochs of Table 3, or of the code, which differ for three datasets."""
    baseline: Literal["mean", "root"] = "mean"
    """Reduction of the baseline: the mean loss, or weights of unit L2 norm, whose step is sqrt(n) times larger."""
    dro: Literal["chi_square", "tail_mean", "tail_sum"] = "chi_square"
    """DRO: the chi-square ball that the paper cites, or the mean or sum of the worst 40% of a batch."""
    scaling: Literal["train", "all"] = "train"
    """Rows to which the scaling of features is fitted."""
    auc: Literal["scores", "labels"] = "scores"
    """AUC of scores, or of predicted labels, which is the balanced accuracy."""
    epoch: Literal["last", "validation", "test"] = "last"
    """Which epoch is reported: the last, or the one with the best mean over seeds on validation or on test rows."""


PAPER = Protocol()
CODE = Protocol(
    cells="cells",
    f1_term=True,
    lookahead="optimizer",
    lookahead_dropout="fresh",
    validation_dropout=True,
    bargain="legacy",
    fallback="previous",
    one_epoch_fewer=True,
    hyper_parameters="code",
    baseline="root",
    dro="tail_sum",
    scaling="all",
    auc="labels",
    epoch="test",
)
PROTOCOLS = {"paper": PAPER, "code": CODE}
READ_OFF = ("auc", "epoch")
"""Options of what is read off a run; the run is the same."""


def of_training(protocol: Protocol) -> tuple[tuple[str, Any], ...]:
    """The options that a run depends on, with their values, where these differ from the paper's text.

    `Protocol(**dict(...))` makes the run again. Runs are stored under these, so that one measured before an option
    existed stays what it is.
    """
    named = ((option.name, getattr(protocol, option.name)) for option in fields(Protocol))
    return tuple((name, value) for name, value in named if name not in READ_OFF and value != getattr(PAPER, name))


def changed(protocol: str, changes: tuple[str, ...]) -> Protocol:
    """A protocol by name with some options changed, each as text such as `"cells=groups"`.

    Raises:
        ValueError: for an unknown protocol, option or value, with the nearest ones.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    chosen = PROTOCOLS[protocol]
    for change in changes:
        name, found, text = change.partition("=")
        if not found:
            raise ValueError(f"a change reads option=value, such as cells=groups, got {change!r}")
        values = allowed(name)
        if text not in values:
            raise unknown_name(f"value of {name}", text, values)
        chosen = replace(chosen, **{name: values[text]})
    return chosen


def allowed(name: str) -> dict[str, Any]:
    """The values of an option, by their text."""
    kinds = get_type_hints(Protocol)
    if name not in kinds:
        raise unknown_name("option of the protocol", name, kinds)
    if kinds[name] is bool:
        return {"true": True, "false": False}
    return {value: value for value in get_args(kinds[name])}


class HyperParameters(NamedTuple):
    """Table 3 of the paper for one dataset; `bargaining_epochs` as they are stated."""

    learning_rate: float
    dropout: float
    batch_size: int
    num_epochs: int = 50
    bargaining_epochs: int = 15
    momentum: float = 0.9
    weight_decay: float = 5e-4
    hidden: tuple[int, ...] = (128, 64)


class Setting(NamedTuple):
    """A row of the paper's tables: a dataset, its sensitive attribute, and its hyper-parameters."""

    dataset: str
    sensitive: str
    title: str
    hyper_parameters: HyperParameters
    code: Mapping[str, int] = MappingProxyType({})
    """What the code sets otherwise."""
    validation_per_cell: int = 3
    """Validation rows of each group and label in the paper's split."""
    test_fraction: float = 0.03
    """Share of the rows in the paper's test split."""
    num_groups: int = 2
    """Values of the sensitive attribute."""


SETTINGS = {
    "adult_sex": Setting("adult", "sex", "Adult, sex", HyperParameters(0.001, 0.2, 512)),
    "adult_race": Setting("adult", "race", "Adult, race", HyperParameters(0.0005, 0.4, 512), num_groups=5),
    "bank_age": Setting("bank", "age", "Bank, age", HyperParameters(0.001, 0.3, 512)),
    "credit_sex": Setting(
        "default_credit",
        "sex",
        "Credit, sex",
        HyperParameters(0.001, 0.5, 512),
        {"num_epochs": 100, "bargaining_epochs": 100},
        validation_per_cell=4,
    ),
    "crime_blackgt6pct": Setting(
        "us_crime", "blackgt6pct", "Crime, race", HyperParameters(0.0001, 0.2, 32), validation_per_cell=1
    ),
    "titanic_sex": Setting(
        "titanic",
        "sex",
        "Titanic, sex",
        HyperParameters(0.001, 0.4, 32),
        {"batch_size": 128, "bargaining_epochs": 50},
        validation_per_cell=1,
    ),
    "student_sex": Setting(
        "student_por",
        "sex",
        "Student, sex",
        HyperParameters(0.001, 0.05, 32),
        {"bargaining_epochs": 10},
        validation_per_cell=2,
        test_fraction=0.1,
    ),
}
"""The seven rows of Tables 1, 3 and 4."""


def hyper_parameters(name: str, protocol: Protocol) -> HyperParameters:
    """Those of a setting under a protocol, with the bargaining epochs that are run.

    Raises:
        ValueError: for an unknown setting, with the nearest ones.
    """
    if name not in SETTINGS:
        raise unknown_name("dataset", name, SETTINGS)
    setting = SETTINGS[name]
    chosen = setting.hyper_parameters
    if protocol.hyper_parameters == "code":
        chosen = chosen._replace(**setting.code)
    fewer = 1 if protocol.one_epoch_fewer else 0
    return chosen._replace(bargaining_epochs=max(chosen.bargaining_epochs - fewer, 0))
