"""Figure 2 of BADR: the front of both groups' risks, the regularisation path beside it, and the metric over weights.

Individual fairness of a logistic regression on two groups, mu = 0.01. Above, the Pareto front that weights trace, with
the models of a path of penalties on the metric; below, the metric over the weight of the second group. A panel whose
recorded year is not at hand is run on another year and named so; numbers are compared where the data are the recorded
ones. There, the lower problem is also solved as the toolbox solves it, by scikit-learn at its default tolerance.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from rich.console import Console
from sklearn.linear_model import LogisticRegression

import badrjax as bx
from badrjax import bilevel, plotting, results
from experiments import badr_cells, badr_problems, badr_tables, pages, running
from experiments.badr_experiment2 import PENALTIES
from experiments.badr_problems import Cell, Split

METRIC = "individual_fairness"
MU = 1e-2
SEED = 42
RECORDED = (("employment", "SD", 2014), ("employment", "ND", 2018), ("travel_time", "VT", 2015))
"""Task, state and year of the paper's panels."""
SHOWN = ("uniform", "balanced", "minimax", "one_group", "badr_grid", "badr")
MARKERS = {"uniform": "s", "balanced": "D", "minimax": "^", "one_group": "v", "badr_grid": "P", "badr": "*"}
EQUAL = 5e-6
"""Relative difference up to which two numbers are of the same computation: features are float32 here."""
_READING: badr_problems.Reading = "published"


@dataclass(frozen=True)
class Settings:
    """Front of two risks, regularisation path, and individual fairness over the weights, on three sets of persons."""

    split: Split = "published"
    """The rows of the recorded results, or this project's split."""
    stand_in: int = 2018
    """Year that stands in where the file of a recorded year is missing."""
    num_steps: int = 100
    """Steps between the weights 0 and 1."""
    out: Path = field(default_factory=lambda: Path("outputs/badr_figure2"))
    """Directory for report.html, results.csv, provenance.json, tables.md, verdicts.csv, path.csv and the figure."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


class Panel(NamedTuple):
    """One column of the figure.

    Attributes:
        name: as the recorded numbers call it.
        title: with the year that it is of, and the one it stands in for.
        recorded: whether data and split are the recorded ones.
        cell: its rows.
        front: metric, weights and risks along the weights.
        records: of all methods and of the path, see `badr_cells.solve`.
    """

    name: str
    title: str
    recorded: bool
    cell: Cell
    front: bilevel.Front
    records: list[badr_cells.Record]


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Solve the panels, print tables beside the recorded numbers, write the files, and return the tidy frame."""
    if settings.num_steps < 2:
        raise ValueError(f"num_steps must be 2 or more, got {settings.num_steps}")
    badr_problems.check_choices(settings)
    badr_problems.check_places(["WY"], [settings.stand_in])
    console = running.begin(settings, console)
    with jax.enable_x64(True):
        panels, missing = make_panels(settings)
        frame = badr_cells.tidy(({"data": panel.title}, panel.records) for panel in panels)
        frame = frame.assign(paper="badr", table="figure 2")
        data = {panel.title: panel.cell.checksum for panel in panels}
        results.write_results(frame, results.provenance(settings=asdict(settings), data=data), settings.out)
        text = report(panels, missing)
        _write_beside(panels, settings.out)
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    drawn = figure(panels)
    drawn.savefig(settings.out / "fronts.png", dpi=150)
    pages.write(settings, text, figures={"Fronts with the path above, the metric over the weights below": drawn})
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"wrote report.html, results.csv, provenance.json, tables.md and fronts.png in {settings.out}", markup=False
    )
    return frame


def make_panels(settings: Settings) -> tuple[list[Panel], list[str]]:
    """The panels whose data are here, and which cells are missing.

    Raises:
        FileNotFoundError: where there is none at all.
    """
    places, missing = badr_problems.load_places(
        RECORDED, settings.stand_in, SEED, settings.data_home, split=settings.split
    )
    if not places:
        raise FileNotFoundError("; ".join(missing.values()))
    panels = []
    for place in places:
        recorded = place.year == place.recorded and settings.split == "published"
        front, records = solve(place.cell, settings.num_steps)
        name = f"{place.state} {place.recorded}"
        panels.append(Panel(name, place.title, recorded, place.cell, front, records))
    return panels, list(missing)


def solve(cell: Cell, num_steps: int) -> tuple[bilevel.Front, list[badr_cells.Record]]:
    """The front along the weights, and the records of all methods and of the path with their risks."""
    grid = bilevel.simplex_grid(badr_problems.NUM_GROUPS, num_steps)
    objective = badr_problems.metric_objective(METRIC)
    task = badr_cells.Task(
        {METRIC: objective}, group_risks, "badr_grid", grid, _READING, penalised=METRIC, penalties=PENALTIES
    )
    problem = badr_problems.make_problem(cell, _READING, objective, regularisation=MU)
    start = badr_problems.make_model(cell, _READING).init(jax.random.key(0))
    front = _front(problem, grid, start)
    return jax.device_get(front), badr_cells.solve(cell, task)


@jax.jit
def _front(problem: bilevel.Problem, grid: Any, start: Any) -> bilevel.Front:
    return bilevel.pareto_path(problem, grid, start, batch_size=1)


def group_risks(model: bx.Model, params: Any, rows: bx.Batch) -> dict[str, Any]:
    """Logistic loss of each group, the intercept included."""
    losses = bx.losses.cross_entropy_of_scores(model.apply(params, rows.x), rows.y)
    risks = bx.group_mean(losses, rows.group, badr_problems.NUM_GROUPS, rows.weight)
    return {f"risk_{group}": risk for group, risk in enumerate(risks)}


def excess(risks: np.ndarray, front: np.ndarray) -> np.ndarray:
    """By how much all risks of points `f[P, K]` can fall at once on a front `f[M, K]`; below 0 where they cannot."""
    return np.max(np.min(risks[:, None] - front[None], axis=-1), axis=-1)


def as_recorded(cell: Cell, weights: np.ndarray) -> dict[str, float]:
    """A model fitted by scikit-learn at its default tolerance, as the recorded ones were, in the numbers of a record.

    The metric leaves the intercept out and the risks do not.
    """
    parts = {part: _unpadded(rows) for part, rows in (("train", cell.train), ("test", cell.test))}
    train = parts["train"]
    of_rows = (np.asarray(weights) / np.bincount(train.group))[train.group]
    fitted = LogisticRegression(C=1 / MU, max_iter=200).fit(train.x, train.y, sample_weight=of_rows)
    model = badr_problems.make_model(cell, _READING)
    # `bias` comes before `kernel` in the order of the leaves.
    params = jax.tree.unflatten(jax.tree.structure(model.init(jax.random.key(0))), [fitted.intercept_, fitted.coef_.T])
    problem = badr_problems.make_problem(Cell(*parts.values(), cell.checksum), _READING, METRIC, regularisation=MU)
    values = {part: float(problem.objective(params, rows)) for part, rows in parts.items()}
    return values | {name: float(risk) for name, risk in group_risks(model, params, train).items()}


def _unpadded(rows: bx.Batch) -> bx.Batch:
    real = np.flatnonzero(np.asarray(rows.weight) > 0)
    return bx.Batch(*(np.asarray(leaf)[real] for leaf in rows[:3]))


def models_beside(panel: Panel) -> pd.DataFrame:
    """The recorded models of a panel beside ours at their weights: exact, and by the recorded lower solver."""
    rows = []
    for data, method, train, test, weights, _ in badr_tables.targets("badr_figure2")["models"]:
        if data != panel.name:
            continue
        mine = next(one for one in panel.records if one["method"] == method)
        then = as_recorded(panel.cell, np.array(weights))
        for part, recorded in (("train", train), ("test", test)):
            exact = mine[part]["objective"]
            rows.append([data, method, part, exact, then[part], recorded, mine["weights"][1], weights[1]])
    names = ["data", "method", "part", "exact", "default_tolerance", "recorded", "weight", "recorded_weight"]
    frame = pd.DataFrame(rows, columns=names)
    same = (frame["default_tolerance"] / frame["recorded"] - 1).abs() <= EQUAL
    return frame.assign(verdict=np.where(same, "REPRODUCED", "NOT REPRODUCED"))


def path_beside(panel: Panel) -> pd.DataFrame:
    """The regularisation path of a panel with what its models are above the front, and the recorded numbers."""
    path = [one for one in panel.records if one["method"].startswith(badr_cells.PENALTY)]
    risks = np.array([[one["train"][f"risk_{group}"] for group in (0, 1)] for one in path])
    frame = pd.DataFrame(
        {
            "penalty": PENALTIES,
            "risk_0": risks[:, 0],
            "risk_1": risks[:, 1],
            "metric": [one["train"]["objective"] for one in path],
            "excess": excess(risks, panel.front.risks),
            "pareto_residual": [one["solver"]["pareto_residual"] for one in path],
        }
    )
    recorded = [row[1:] for row in badr_tables.targets("badr_figure2")["path"] if row[0] == panel.name]
    then = pd.DataFrame(recorded, columns=["penalty", "risk_0", "risk_1", "metric", "excess"])
    return frame.join(then.drop(columns="penalty").add_suffix("_recorded"))


def _write_beside(panels: list[Panel], out: Path) -> None:
    """Write the recorded models and paths beside ours, for the ledger; nothing is left of another call."""
    for name, beside in (("verdicts.csv", models_beside), ("path.csv", path_beside)):
        (out / name).unlink(missing_ok=True)
        found = [beside(panel).assign(data=panel.name) for panel in panels if panel.recorded]
        if found:
            pd.concat(found).to_csv(out / name, index=False)


def report(panels: list[Panel], missing: list[str]) -> str:
    """All tables as Markdown."""
    parts = ["# BADR, figure 2\n"]
    if missing:
        parts.append(f"Files not at hand: {', '.join(missing)}.\n")
    for panel in panels:
        parts += [f"## {panel.title}\n", _methods_markdown(panel)]
        path = path_beside(panel)
        parts += ["### Regularisation path (recorded)\n", _path_markdown(path, panel.recorded)]
        if panel.recorded:
            parts += ["### Beside the recorded numbers\n", _models_markdown(models_beside(panel))]
    return "\n".join(parts)


def _methods_markdown(panel: Panel) -> str:
    rows = []
    for name in SHOWN:
        one = next(record for record in panel.records if record["method"] == name)
        rows.append(
            [badr_tables.title(name), f"{one['weights'][1]:.4f}", f"{one['train']['objective']:.5f}",
             f"{one['test']['objective']:.5f}", f"{one['train']['risk_0']:.5f}", f"{one['train']['risk_1']:.5f}"]
        )  # fmt: skip
    return results.markdown_table(["method", "weight of group 1", "train", "test", "risk 0", "risk 1"], rows)


def _path_markdown(path: pd.DataFrame, recorded: bool) -> str:
    shown = [("risk_0", ".5f"), ("risk_1", ".5f"), ("metric", ".5f"), ("excess", ".1e")]
    rows = []
    for one in path.to_dict("records"):
        cells = [
            format(one[name], how) + (f" ({one[f'{name}_recorded']:{how}})" if recorded else "") for name, how in shown
        ]
        rows.append([f"{one['penalty']:.1e}", *cells, f"{one['pareto_residual']:.1e}"])
    return results.markdown_table(["penalty", "risk 0", "risk 1", "metric", "excess", "residual"], rows)


def _models_markdown(table: pd.DataFrame) -> str:
    rows = [
        [badr_tables.title(one["method"]), one["part"], f"{one['weight']:.4f} ({one['recorded_weight']:.4f})",
         f"{one['exact']:.6f}", f"{one['default_tolerance']:.12f}", f"{one['recorded']:.12f}", one["verdict"]]
        for one in table.to_dict("records")
    ]  # fmt: skip
    header = ["method", "part", "weight (recorded)", "exact", "scikit-learn's fit", "recorded", "verdict"]
    return results.markdown_table(header, rows)


def figure(panels: list[Panel]) -> Any:
    """Fronts with the path above, the metric over the weights below."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(3.9 * len(panels) + 0.4, 7.0), layout="constrained")
    grid = drawing.subplots(2, len(panels), squeeze=False)
    for panel, (upper, lower) in zip(panels, grid.T, strict=True):
        _draw_front(upper, panel)
        _draw_metric(lower, panel)
        upper.set_title(panel.title.replace(" (", "\n("), fontsize=10)
    grid[0, 0].set_ylabel("risk of group 1")
    grid[1, 0].set_ylabel("individual fairness, training")
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    named = dict(
        pair[::-1] for axes in grid.flat for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    )  # fmt: skip
    drawing.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return drawing


def _draw_front(axes: Any, panel: Panel) -> None:
    axes.plot(*panel.front.risks.T, color=plotting.COLOURS[-1], label="Pareto front", linewidth=1.4)
    path = path_beside(panel)
    axes.plot(path["risk_0"], path["risk_1"], "o--", color=plotting.COLOURS[5], label="regularisation path", ms=4)
    _draw_methods(axes, panel, lambda one: (one["train"]["risk_0"], one["train"]["risk_1"]))
    axes.set_xlabel("risk of group 0")


def _draw_metric(axes: Any, panel: Panel) -> None:
    values = panel.front.evaluations.value
    axes.plot(panel.front.weights[:, 1], values, color=plotting.COLOURS[-1], linewidth=1.4)
    _draw_methods(axes, panel, lambda one: (one["weights"][1], one["train"]["objective"]))
    axes.set_xlabel("weight of group 1")


def _draw_methods(axes: Any, panel: Panel, place: Any) -> None:
    for i, name in enumerate(name for name in SHOWN if name != "badr_grid"):
        one = next(record for record in panel.records if record["method"] == name)
        style = {"color": plotting.COLOURS[i], "marker": MARKERS[name], "ms": 11 if name == "badr" else 7}
        axes.plot(*place(one), linestyle="none", label=badr_tables.title(name), zorder=3, **style)
