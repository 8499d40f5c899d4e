"""Verdicts on claims, with the chance of any false one held at 5%, and their agreement across data sets."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from badrjax.extras import require
from badrjax.results import verdicts
from badrjax.results.claims import Claim, wider_interval, wider_p_value
from badrjax.results.contrasts import interval
from badrjax.results.multiplicity import SignTest, holm, holm_levels, sign_test

LEVEL = 0.05


class Agreement(NamedTuple):
    """One claim across data sets.

    Attributes:
        counts: data sets by verdict, all verdicts in order.
        signs: the sign test over clusters of data sets.
    """

    counts: dict[str, int]
    signs: SignTest


def claim_table(claims: Sequence[tuple[Mapping[str, str], Claim]], *, level: float = LEVEL) -> Any:
    """Verdicts on claims that are made together, as a tidy frame.

    Each claim is decided by the wider of its two intervals, formed at the level at which Holm's procedure tests it:
    SUPPORTED where it lies above 0, REFUTED below 0, NON-INFERIOR above minus the tolerance, and else UNDECIDED. A
    claim of which more than a tenth of the pairs diverged, or fewer than two are left, is UNDECIDED.

    Args:
        claims: pairs of labels, such as `{"claim": "two stages > one", "dataset": "adult_sex"}`, and a `Claim`.
        level: chance of any false verdict, in `(0, 1)`.

    Returns:
        A pandas frame, one row a claim: its labels, then `estimate, seeds_low, seeds_high, wide_low, wide_high` (95%
        each), `low, high` (adjusted), `p_value, p_holm, tolerance, num_seeds, num_diverged, num_rows, verdict, note`.

    Raises:
        ModuleNotFoundError: without pandas or SciPy.
        ValueError: for no claims, labels that differ in their names, or a level outside `(0, 1)`.
    """
    pandas = require("pandas", "a table of claims")
    if not claims:
        raise ValueError("a table needs at least one claim")
    if any(list(labels) != list(claims[0][0]) for labels, _ in claims):
        raise ValueError("all claims need labels of the same names, in the same order")
    p_values = np.array([wider_p_value(claim) for _, claim in claims])
    adjusted, levels = holm(p_values), holm_levels(p_values, level)
    return pandas.DataFrame(
        [
            {**labels, **_record(claim, p, p_holm, at)}
            for (labels, claim), p, p_holm, at in zip(claims, p_values, adjusted, levels, strict=True)
        ]
    )


def claim_verdict(claim: Claim, low: float, high: float) -> str:
    """The verdict on a claim, given the ends of its adjusted interval; see `claim_table`."""
    if np.isnan(low) or claim.num_diverged > verdicts.MOST_DIVERGED * claim.num_seeds:
        return verdicts.UNDECIDED
    if low > 0:
        return verdicts.SUPPORTED
    if high < 0:
        return verdicts.REFUTED
    return verdicts.NON_INFERIOR if low > -claim.tolerance else verdicts.UNDECIDED


def across_datasets(frame: Any, clusters: Mapping[Hashable, Hashable] | None = None) -> Agreement:
    """How often one claim holds across data sets: verdicts counted, and the signs of the differences tested.

    Args:
        frame: rows of `claim_table` about one claim, one a data set, with a column `dataset`.
        clusters: which data sets are one witness, such as `{"adult_sex": "adult", "adult_race": "adult"}`; data sets
            that it does not list stand alone. A cluster has one vote, that of most of its members.

    Raises:
        ModuleNotFoundError: without SciPy.
        ValueError: for a data set that is listed twice, or is not there.
    """
    datasets = list(frame["dataset"])
    if len(set(datasets)) < len(datasets):
        raise ValueError("one row a data set: choose one claim and one metric first")
    unknown = set(clusters or {}) - set(datasets)
    if unknown:
        raise ValueError(f"clusters name data sets that are not in the table: {sorted(map(str, unknown))}")
    counts = {name: int(np.sum(frame["verdict"] == name)) for name in verdicts.CLAIMS}
    known = np.isfinite(frame["estimate"].to_numpy())
    # A cluster's name may be that of a data set outside it, so the two are told apart.
    names = [("cluster", clusters[d]) if d in (clusters or {}) else ("dataset", d) for d in datasets]  # type: ignore[index]
    kept = [name for name, use in zip(names, known, strict=True) if use]
    return Agreement(counts, sign_test(frame["estimate"].to_numpy()[known], kept))


def _record(claim: Claim, p: float, p_holm: float, level: float) -> dict[str, Any]:
    low, high = wider_interval(claim, level)
    verdict = claim_verdict(claim, low, high)
    seeds_low, seeds_high = interval(claim.seeds)
    wide_low, wide_high = interval(claim.wide)
    return {
        "estimate": claim.seeds.estimate,
        "seeds_low": seeds_low,
        "seeds_high": seeds_high,
        "wide_low": wide_low,
        "wide_high": wide_high,
        "low": low,
        "high": high,
        "p_value": p,
        "p_holm": p_holm,
        "tolerance": claim.tolerance,
        "num_seeds": claim.num_seeds,
        "num_diverged": claim.num_diverged,
        "num_rows": claim.num_rows,
        "verdict": verdict,
        "note": f"{claim.num_diverged} of {claim.num_seeds} pairs diverged" if claim.num_diverged else "",
    }
