"""What BADR's experiments say: who wins how often, means beside the recorded ones, certificates, and claims.

A claim is a number a cell, averaged by state; states are the witnesses, since tasks of a state share their people. So a
claim rests on few witnesses, and on one year.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from badrjax import results
from badrjax.results.contrasts import over_seeds
from experiments.badr_cells import BASELINES, FIXED, PENALTY, TITLES

TIE = 1e-9
"""Values of a metric that are as near as this are equal, for solvers leave less."""
RECORDED = ("uniform", "balanced", "one_group", "minimax")
"""Baselines of the recorded results."""
OFF_FRONT = 1e-6
"""Relative length of the shortest convex combination of the groups' gradients above which a model is off the front."""
APART = 0.1
"""How far apart two weights must be to count as different."""
_NOT_LABELS = ("paper", "table", "method", "split", "metric", "value")


def targets(name: str) -> dict[str, Any]:
    """The recorded numbers of an experiment."""
    return json.loads(resources.files("experiments").joinpath(f"targets/{name}.json").read_text("utf-8"))


def by_method(frame: pd.DataFrame, split: str, metric: str = "objective") -> pd.DataFrame:
    """A number of the tidy frame with a cell and objective a row and a method a column; NaN where there is none."""
    chosen = frame[(frame["split"] == split) & (frame["metric"] == metric)]
    names = [name for name in frame.columns if name not in _NOT_LABELS]
    wide = chosen.pivot(index=names, columns="method", values="value")
    # Pandas sorts both, and the frame's order is that of the paper.
    return wide.reindex(pd.MultiIndex.from_frame(chosen[names].drop_duplicates()), columns=chosen["method"].unique())


def wins(frame: pd.DataFrame, badr: str, split: str, groupby: str = "objective") -> pd.DataFrame:
    """How often BADR's metric is the lower one.

    Args:
        frame: tidy, see `badr_cells.tidy`.
        badr: which search stands for BADR.
        split: `train` or `test`.
        groupby: a label.

    Returns:
        A frame with the columns `groupby`, `against`, `cells`, `won`, `tied`, `lost`; within `TIE` is tied.
    """
    values = by_method(frame, split)
    rows = []
    for name, mine in values.groupby(groupby, sort=False):
        for against in (method for method in BASELINES if method in values):
            ahead = mine[against] - mine[badr]
            won, lost = int((ahead > TIE).sum()), int((ahead < -TIE).sum())
            rows.append([name, against, len(mine), won, int((ahead.abs() <= TIE).sum()), lost])
    return pd.DataFrame(rows, columns=[groupby, "against", "cells", "won", "tied", "lost"])


def certificates(frame: pd.DataFrame) -> str:
    """The largest of what each solver leaves, as Markdown."""
    solver = frame[(frame["split"] == "solver") & ~frame["metric"].str.startswith("weight_")]
    exact = solver[~solver["method"].str.startswith(PENALTY)]
    found = exact.groupby(["metric", "method"], sort=False)["value"].agg(["max", "size"])
    rows = [
        [metric, title(method), f"{row['max']:.2g}", str(int(row["size"]))]
        for (metric, method), row in found.iterrows()
    ]
    return results.markdown_table(["number", "of", "largest", "models"], rows)


def left_by_published(frame: pd.DataFrame, published: str) -> str:
    """How far the published search stays above the exact one in training, by objective, as Markdown."""
    values = by_method(frame, "train")
    ahead = (values[published] - values["badr"]).groupby("objective", sort=False)
    rows = [[name, f"{mine.median():.2g}", f"{mine.max():.2g}", f"{mine.min():.2g}"] for name, mine in ahead]
    return results.markdown_table(["objective", "median", "largest", "least"], rows)


def means(frame: pd.DataFrame, split: str, methods: Sequence[str], offsets: Mapping[str, float], then: Any) -> str:
    """Mean of the objective by task and for all, ours and the recorded one, less what smoothing adds, as Markdown.

    Args:
        frame: tidy.
        split: `train` or `test`.
        methods: the columns.
        offsets: by objective.
        then: recorded means by (task, objective, method).
    """
    values = by_method(frame, split)
    whole = [("all", name, mine) for name, mine in values.groupby("objective", sort=False)]
    by_task = [(*name, mine) for name, mine in values.groupby(["data", "objective"], sort=False)]
    rows = []
    for task, objective, mine in (*whole, *by_task):
        less = offsets.get(objective, 0.0)
        cells = [_beside(mine[method].mean() - less, then.get((task, objective, method)), less) for method in methods]
        rows.append([str(task), str(objective), *cells])
    return results.markdown_table(["data", "objective", *map(title, methods)], rows)


Claims = Iterator[tuple[dict[str, str], results.Claim]]
"""Labels and claims, for `badrjax.results.claim_table`."""


def claim(values: pd.Series, tolerance: float = 0.0) -> results.Claim:
    """That a number is positive, from one a cell: states, each with the mean of its cells, are the witnesses."""
    by_state = values.groupby("state").mean().to_numpy(float)
    known = np.isfinite(by_state)
    contrast = over_seeds(by_state[known])
    return results.Claim(contrast, contrast, tolerance, len(by_state), int(np.sum(~known)))


def claim_on_training(frame: pd.DataFrame, badr: str) -> Claims:
    """Claim 1: in training BADR's metric is at most that of each baseline; 1 a cell where it is, else -1."""
    values = by_method(frame, "train")
    for against in BASELINES:
        at_most = _sign(values[badr] <= values[against] + TIE)
        yield labels("1", "in training, BADR is not above", against), claim(at_most)


def claim_on_test(frame: pd.DataFrame, badr: str) -> Claims:
    """Claim 2: on test rows it is more often below than above; 1, 0 or -1 a cell."""
    values = by_method(frame, "test")
    for against in BASELINES:
        ahead = values[against] - values[badr]
        yield labels("2", "on test, BADR is more often below", against), claim(_sign(ahead > TIE, ahead < -TIE))


def claim_on_means(frame: pd.DataFrame, badr: str) -> Claims:
    """Claim 3: on average over test rows BADR is below the fit to one group, and that below the fixed weightings."""
    values = by_method(frame, "test")
    pairs = [(badr, "one_group"), *(("one_group", fixed) for fixed in RECORDED if fixed != "one_group")]
    for objective, mine in values.groupby("objective", sort=False):
        for lower, upper in pairs:
            text = f"{objective}, mean on test: {title(lower)} is below"
            yield labels("3", text, upper), claim(mine[upper] - mine[lower])


def claim_on_weightings(frame: pd.DataFrame, badr: str) -> Claims:
    """Claim 5: no weighting is best for all metrics, minimax for few, and a penalty leaves the Pareto front."""
    values, weights = by_method(frame, "test"), by_method(frame, "solver", "weight_0")
    cell = [name for name in values.index.names if name != "objective"]
    fixed = values[list(FIXED)]
    best = fixed.sub(fixed.min(axis=1), axis=0) <= TIE
    for_all = best.groupby(cell).all().any(axis=1)
    yield labels("5", "on test, no fixed weighting is best for all metrics", ""), claim(_sign(~for_all))
    spread = weights[badr].groupby(cell).agg(np.ptp)
    text = f"BADR's weights for two metrics are more than {APART} apart"
    yield labels("5", text, ""), claim(_sign(spread > APART))
    above = (values["minimax"] > values[badr] + TIE).groupby(cell).mean()
    yield labels("5", "on test, for most metrics BADR is below", "minimax"), claim(_sign(above > 0.5))
    path = off_front(frame)
    if len(path):
        text = "a model on the regularisation path is off the Pareto front"
        yield labels("5", text, ""), claim(_sign(path.groupby(cell).any()))


def off_front(frame: pd.DataFrame) -> pd.Series:
    """Which models of the regularisation path are off the Pareto front, by cell and method."""
    residuals = by_method(frame, "solver", "pareto_residual")
    path = residuals[[name for name in residuals if name.startswith(PENALTY)]].stack().dropna()
    return path > OFF_FRONT


def claims_markdown(table: pd.DataFrame) -> str:
    """A table of `badrjax.results.claim_table` with numbers of any size, as Markdown."""
    header = ["claim", "what", "than", "mean", "adjusted interval", "p (Holm)", "verdict"]
    rows = [
        [*(str(one[name]) for name in ("claim", "what", "against")), f"{one['estimate']:.3g}",
         f"[{one['low']:.2g}, {one['high']:.2g}]", f"{one['p_holm']:.2g}", one["verdict"]]
        for one in table.to_dict("records")
    ]  # fmt: skip
    return results.markdown_table(header, rows)


def labels(number: str, text: str, against: str) -> dict[str, str]:
    """What names a claim: its number in the brief, what it says, and of which method."""
    return {"claim": number, "what": text, "against": title(against)}


def title(method: str) -> str:
    """What a method is called in tables."""
    return TITLES.get(method, method)


def _beside(ours: float, then: float | None, less: float) -> str:
    return f"{ours:.4g}" + ("" if then is None else f" ({then - less:.4g})")


def _sign(holds: pd.Series, fails: pd.Series | None = None) -> pd.Series:
    """1 where a statement holds, -1 where it fails, else 0."""
    return holds.astype(float) - (~holds if fails is None else fails).astype(float)
