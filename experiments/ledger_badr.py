"""The recorded numbers and the claims of BADR, from stored results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from badrjax import results
from experiments import badr_experiment2, badr_experiment3, badr_tables, ledger_causes
from experiments.ledger_cells import Alike, PaperClaims, PaperTable, of_entries, of_numbers, stored

PAPER = "BADR"
SOLVER = 3e-4
"""How far the recorded models are from their optima, by the tolerance of the recorded solver."""
_PUBLISHED = {"reading": "published", "groups": "published"}
_FEWEST_RUNS = 10
_RELATIVE = 0.02
"""Share of a recorded number that does not matter, for errors and metrics of any scale."""


def tables(where: Mapping[str, Path]) -> tuple[list[PaperTable], list[PaperClaims]]:
    """Figure 2, experiments 2 and 3 and the scalability, and the claims of both experiments."""
    found = [models(where["badr_figure2"]), path(where["badr_figure2"])]
    found += [experiment2(where["badr_experiment2"]), experiment3(where["badr_experiment3"])]
    found.append(scalability(where["badr_scalability"]))
    claimed = [
        _claims("badr_experiment2", where["badr_experiment2"], badr_experiment2.claims),
        _claims("badr_experiment3", where["badr_experiment3"], badr_experiment3.claims),
    ]
    return found, claimed


def models(folder: Path) -> PaperTable:
    """The recorded models of Figure 2: individual fairness in training and on test rows."""
    frame, missing = stored(folder / "verdicts.csv", "badr_figure2")
    numbers = []
    for data, method, *both, _, _ in badr_tables.targets("badr_figure2")["models"]:
        for part, printed in zip(("train", "test"), both, strict=True):
            labels = {"data": data, "method": badr_tables.title(method), "part": part}
            ours = _only(frame, "default_tolerance", data=data, method=method, part=part)
            within = 5e-6 * abs(printed)
            numbers.append(Alike(labels, printed, 6, ours, _why(missing, data, ours), within, 0.02))
    about = "Recorded results that ship with the authors' toolbox. A number has no seeds: REPRODUCED is the recorded "
    about += "solver at its default tolerance giving the same to 5e-6 of it, on the recorded rows."
    return PaperTable(PAPER, "Figure 2: the models", of_numbers(numbers), about)


def path(folder: Path) -> PaperTable:
    """The recorded regularisation path of Figure 2."""
    frame, missing = stored(folder / "path.csv", "badr_figure2")
    if frame is not None:
        frame = frame.assign(penalty=frame["penalty"].map("{:.1e}".format))
    numbers = []
    for data, penalty, *values in badr_tables.targets("badr_figure2")["path"]:
        for name, printed in zip(("risk_0", "risk_1", "metric", "excess"), values, strict=True):
            labels = {"data": data, "penalty": f"{penalty:.1e}", "number": name.replace("_", " ")}
            ours = _only(frame, name, data=data, penalty=f"{penalty:.1e}")
            numbers.append(Alike(labels, printed, 6, ours, _why(missing, data, ours), SOLVER, 0.02))
    about = f"REPRODUCED within {SOLVER:g}, what the recorded solver's tolerance leaves; excess: above the front."
    return PaperTable(PAPER, "Figure 2: the regularisation path", of_numbers(numbers), about)


def experiment2(folder: Path) -> PaperTable:
    """The recorded means of six metrics, which are over more cells than are at hand."""
    frame, missing = stored(folder / "results.csv", "badr_experiment2", **_PUBLISHED, split="published")
    means = {} if frame is None else dict(_means(frame))
    there = 0 if frame is None else len(frame[["data", "state", "year"]].drop_duplicates())
    entries = []
    for data, metric, method, *both in badr_tables.targets("badr_experiment2")["means"]:
        for part, printed in zip(("train", "test"), both, strict=True):
            labels = {"data": data, "metric": metric, "method": badr_tables.title(method), "part": part}
            ours = means.get((data, metric, "badr_grid" if method == "badr" else method, part))
            reason = f"the recorded mean is over 150 cells and {there} of them are stored"
            reason = missing or (reason if ours is None else f"{reason}; ours {ours:.4g}")
            entries.append(results.Entry(labels, results.Printed(printed, 5), 0.0, note=reason))
    about = (
        "Means over ten states and five years, of which nine states of one year are at hand, so they are compared by "
    )
    about += "their claims."
    return PaperTable(PAPER, "Experiment 2: means of six metrics", of_entries(entries), about)


def experiment3(folder: Path) -> PaperTable:
    """The recorded scores and metrics; of the regressions the data sets are the recorded ones."""
    frame, missing = stored(folder / "results.csv", "badr_experiment3", **_PUBLISHED)
    entries = []
    for kind, data, method, runs, score, _, metric, _, train in badr_tables.targets("badr_experiment3")["rows"]:
        mine = "badr_draws" if method == "badr" else method
        numbers = {"test score": score, "test metric": metric, "training metric": train}
        for name, printed in numbers.items():
            labels = {"kind": kind, "data": data, "method": badr_tables.title(mine), "number": name}
            values = np.zeros(0) if frame is None else _runs(frame, kind, data, mine, name)
            entries.append(_of_runs(labels, kind, results.Printed(printed, 5, runs), values, missing))
    about = (
        "Of the classifications other states are at hand than the recorded ones. The regressions are on the recorded "
    )
    about += f"data sets: a comparison with a mean of {_FEWEST_RUNS} runs needs twice as many of ours (`--seeds 20`). "
    about += "What does not matter is 2% of the recorded number."
    frame = ledger_causes.explained(of_entries(entries), ledger_causes.BADR)
    return PaperTable(PAPER, "Experiment 3: scores and metrics", frame, about)


def scalability(folder: Path) -> PaperTable:
    """The recorded times and iterations, of persons that are not at hand, on another machine."""
    there = (folder / "results.csv").is_file()
    reason = "California 2018 is not at hand, and the times are of another machine"
    if there:
        reason += f"; {folder / 'results.csv'} has other persons and made-up rows"
    names = ("iterations to near", "seconds to there", "seconds in all", "last over the own best, less 1")
    entries = [
        results.Entry({"n": f"{n:,}", "number": name}, results.Printed(printed, 3), 0.0, note=reason)
        for n, *values in badr_tables.targets("badr_scalability")["rows"]
        for name, printed in zip(names, values, strict=True)
    ]
    return PaperTable(PAPER, "Scalability", of_entries(entries), "Recorded by the authors, five subsamples a size.")


def _only(frame: pd.DataFrame | None, column: str, **labels: Any) -> float | None:
    if frame is None:
        return None
    chosen = np.ones(len(frame), bool)
    for name, value in labels.items():
        chosen &= (frame[name].astype(str) == value).to_numpy()
    return float(frame.loc[chosen, column].iloc[0]) if chosen.any() else None


def _why(missing: str, data: str, ours: float | None) -> str:
    if ours is not None:
        return ""
    return missing or f"the stored run is not on the recorded rows of {data}: the survey's file was not at hand"


def _means(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], float]]:
    """Mean of each metric by task and for all, by method and part."""
    chosen = frame[frame["split"].isin(["train", "test"]) & (frame["metric"] == "objective")]
    for data, mine in (("all", chosen), *chosen.groupby("data")):
        for (metric, method, part), one in mine.groupby(["objective", "method", "split"]):
            yield (str(data), str(metric), str(method), str(part)), float(one["value"].mean())


def _runs(frame: pd.DataFrame, kind: str, data: str, method: str, number: str) -> np.ndarray:
    """One value a run, as published."""
    part = "train" if number == "training metric" else "test"
    metric = badr_experiment3.SCORES[kind] if number == "test score" else "objective"
    chosen = (frame["kind"] == kind) & (frame["variant"] == "published") & (frame["method"] == method)
    chosen &= (frame["split"] == part) & (frame["metric"] == metric)
    if data != "all":
        chosen &= frame["data"] == data
    return frame.loc[chosen, "value"].to_numpy(float)


def _of_runs(
    labels: Mapping[str, str], kind: str, printed: results.Printed, values: np.ndarray, missing: str
) -> results.Entry:
    entry = results.Entry(labels, printed, _RELATIVE * abs(printed.mean))
    size = printed.num_seeds or _FEWEST_RUNS
    if missing or not values.size:
        return entry._replace(note=missing or "no such runs are stored")
    if kind == "classification":
        return entry._replace(note=f"of other states than the recorded ones; ours {values.mean():.4f}")
    if labels["data"] == "all" or values.size < 2 * size:
        return entry._replace(note=f"{values.size} runs, and a comparison needs {2 * size}; ours {values.mean():.4f}")
    return entry._replace(cell=results.compare_cell(values, printed, seed=0, min_seeds=2 * size))


def _claims(name: str, folder: Path, judge: Callable[[pd.DataFrame, str], pd.DataFrame]) -> PaperClaims:
    frame, missing = stored(folder / "results.csv", name)
    title = f"Claims on {name.removeprefix('badr_').replace('experiment', 'experiment ')}"
    if frame is None:
        return PaperClaims(PAPER, title, None, missing)
    about = "By the exact search, over states (experiment 2) or splits; Holm's adjustment over all."
    return PaperClaims(PAPER, title, judge(frame, "badr"), about)
