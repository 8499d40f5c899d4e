"""The claims of FairBiNN, whose numbers are not public, from stored results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from badrjax import results
from badrjax.results.contrasts import over_seeds
from experiments import badr_tables, fairbinn_fronts
from experiments.fairbinn_runs import RULES
from experiments.ledger_cells import PaperClaims, settings_of, stored

Judge = Callable[[pd.DataFrame], Iterable[tuple[dict[str, str], results.Claim]]]
"""From a stored frame to labels and claims."""
PAPER = "FairBiNN"
AGAINST = "lagrangian"
ACCURACY = 0.01
"""Difference in accuracy, and in cross-entropy, that does not matter."""
JUDGED_BY = {
    0: ("fairbinn_time", ""),
    1: ("", "the published methods' numbers are not at hand"),
    2: ("fairbinn_curves", ""),
    3: ("fairbinn_fronts", ""),
    4: ("fairbinn_ablation", ""),
    5: ("fairbinn_ablation", ""),
    6: ("", "the graphs' files are not at hand"),
    7: ("", "CelebA's files are not at hand"),
    8: ("", "CelebA's files are not at hand"),
    9: ("", "the tuned values are not public; those of the published code are used"),
}
"""By position in the inventory of claims: the experiment that measures it, or why none does."""


def inventory(where: Mapping[str, Path]) -> pd.DataFrame:
    """What the paper shows, and where it is measured here: `item`, `claim`, `measured by`, `stored`."""
    rows = []
    for position, row in enumerate(badr_tables.targets("fairbinn_claims_inventory")["rows"]):
        name, why = JUDGED_BY.get(position, ("", "no experiment measures it"))
        path = where[name] / "results.csv" if name else None
        there = f"NOT RUN: {why}" if path is None else f"in {path}"
        if path is not None and not path.is_file():
            there = f"NOT RUN: no {path}: `python -m experiments {name}` makes it"
        rows.append([row["item"], row["claim"], name, there])
    return pd.DataFrame(rows, columns=["item", "claim", "measured by", "stored"])


def claims(where: Mapping[str, Path]) -> list[PaperClaims]:
    """That the rules are better than the Lagrangian: accuracy at matched parity, and cross-entropy in training."""
    return [
        _claims("fairbinn_fronts", where, "More accurate than the Lagrangian within a soft DP", _on_accuracy),
        _claims("fairbinn_curves", where, "Lower loss in training than the Lagrangian", _on_losses),
    ]


def _claims(name: str, where: Mapping[str, Path], title: str, found: Judge) -> PaperClaims:
    frame, missing = stored(where[name] / "results.csv", name)
    if frame is None:
        return PaperClaims(PAPER, title, None, missing)
    made = list(found(frame))
    if not made:
        return PaperClaims(PAPER, title, None, f"{where[name] / 'results.csv'} has no rule beside the Lagrangian")
    used = settings_of(where[name])
    about = f"Paired over seeds; {used.get('epochs', 'an unknown number of')} epochs, where the paper has 200. "
    about += "The difference is positive where the claim holds; Holm's adjustment over all."
    return PaperClaims(PAPER, title, results.claim_table(made), about)


def _on_accuracy(frame: pd.DataFrame) -> Iterator[tuple[dict[str, str], results.Claim]]:
    mine = frame[(frame["chosen_on"] == "validation") & (frame["gap"] == "soft_dp") & (frame["metric"] == "accuracy")]
    for dataset, of_dataset in mine.groupby("dataset", sort=False):
        for level in fairbinn_fronts.LEVELS:
            wide = of_dataset[of_dataset["level"] == level].pivot(index="seed", columns="method", values="value")
            for rule in (rule for rule in RULES if rule not in ("none", AGAINST) and rule in wide and AGAINST in wide):
                labels = {"dataset": str(dataset), "rule": RULES[rule], "within": f"{level:g}"}
                yield labels, _paired(wide[rule] - wide[AGAINST])


def _on_losses(frame: pd.DataFrame) -> Iterator[tuple[dict[str, str], results.Claim]]:
    mine = frame[frame["metric"] == "steps.loss"]
    for (dataset, eta), of_both in mine.groupby(["dataset", "eta"], sort=False):
        wide = of_both.pivot(index="seed", columns="method", values="value")
        for rule in (rule for rule in RULES if rule not in ("none", AGAINST) and rule in wide and AGAINST in wide):
            labels = {"dataset": str(dataset), "rule": RULES[rule], "eta": f"{eta:g}"}
            yield labels, _paired(wide[AGAINST] - wide[rule])


def _paired(differences: pd.Series) -> results.Claim:
    values = differences.to_numpy(float)
    known = np.isfinite(values)
    contrast = over_seeds(values[known])
    return results.Claim(contrast, contrast, ACCURACY, len(values), int(np.sum(~known)))
