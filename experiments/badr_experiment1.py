"""Experiment 1 of BADR: what the upper problem looks like, a curve over two groups' weights and a simplex over three's.

Curves: logistic regression, mu = 0.01, three metrics, 101 weights. Simplices: squared hinge, mu = 1, three other
metrics, 125 points a side. On each the exact search is shown beside fixed weightings, with the best point of the grid
and how many local minima the grid has. No numbers of this experiment are recorded. A panel whose year is not at hand is
run on another year and named so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from badrjax import bilevel, plotting, results
from experiments import badr_problems, badr_tables, pages, running
from experiments.badr_problems import OFFSETS, Cell, Reading, Split

SEED = 42
MARKERS = {"uniform": "s", "balanced": "D", "minimax": "^", "one_group": "v", "badr": "*"}


class Study(NamedTuple):
    """One row of the figure.

    Attributes:
        num_groups: K.
        loss: of the lower problem.
        regularisation: of the lower problem.
        metrics: keys of `badr_problems.METRICS`.
        places: task, state and recorded year.
    """

    num_groups: int
    loss: str
    regularisation: float
    metrics: tuple[str, ...]
    places: tuple[tuple[str, str, int], ...]


STUDIES = {
    "curves": Study(
        2, "logistic", 1e-2, ("demographic_parity", "disparate_mistreatment", "equal_opportunity"),
        (("employment", "SD", 2014), ("employment", "WY", 2016), ("travel_time", "VT", 2015)),
    ),
    "simplices": Study(
        3, "squared_hinge", 1.0, ("individual_fairness", "equalized_odds", "equal_opportunity"),
        (("travel_time", "VT", 2016), ("employment", "ND", 2018), ("employment", "WV", 2015)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """BADR's metric over the weights of two groups and of three, with the solutions of each method."""

    studies: tuple[str, ...] = tuple(STUDIES)
    """Curves over two groups, simplices over three, or both."""
    curve_steps: int = 100
    """Steps of the grid for two groups."""
    simplex_steps: int = 124
    """Steps of the grid for three groups."""
    reading: Reading = "published"
    """Of the intercept: published fits one that the metric does not see, shared lets it see, absent has none."""
    split: Split = "published"
    """The rows of the published results, or this project's split."""
    stand_in: int = 2018
    """Year that stands in where the file of a paper's year is missing."""
    out: Path = field(default_factory=lambda: Path("outputs/badr_experiment1"))
    """Directory for report.html, results.csv, provenance.json, tables.md and the figures."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


class Landscape(NamedTuple):
    """One metric on one set of persons.

    Attributes:
        place: title of the data.
        metric: a key of `badr_problems.METRICS`.
        weights: of the grid, `f[M, K]`.
        values: of the metric there, `f[M]`; NaN where the lower problem was not solved.
        methods: weights and value by method.
        info: of the exact search.
    """

    place: str
    metric: str
    weights: np.ndarray
    values: np.ndarray
    methods: dict[str, tuple[np.ndarray, float]]
    info: bilevel.SimplexInfo


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Solve all panels, print a table, write the files, and return the tidy frame."""
    _check(settings)
    console = running.begin(settings, console)
    landscapes: dict[str, list[Landscape]] = {}
    missing: dict[str, str] = {}
    data = {}
    with jax.enable_x64(True):
        for name in settings.studies:
            cells, absent = load_cells(STUDIES[name], settings)
            missing |= absent
            data |= {f"{name}: {title}": cell.checksum for title, cell in cells.items()}
            landscapes[name] = solve(STUDIES[name], cells, settings)
    if not any(landscapes.values()):
        raise FileNotFoundError("; ".join(missing.values()))
    frame = tidy(landscapes)
    results.write_results(frame, results.provenance(settings=asdict(settings), data=data), settings.out)
    text = report(landscapes, list(missing))
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    draw = {"curves": curves_figure, "simplices": simplices_figure}
    figures = {name: draw[name](found, STUDIES[name].metrics) for name, found in landscapes.items() if found}
    for name, drawn in figures.items():
        drawn.savefig(settings.out / f"{name}.png", dpi=150)
    pages.write(settings, text, figures={f"The metric over the weights: {name}": one for name, one in figures.items()})
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"wrote report.html, results.csv, provenance.json, tables.md and the figures in {settings.out}", markup=False
    )
    return frame


def load_cells(study: Study, settings: Settings) -> tuple[dict[str, Cell], dict[str, str]]:
    """The cells of a study by title, of one shape, and by what is missing, why."""
    options: dict[str, Any] = {"split": settings.split, "num_groups": study.num_groups}
    places, missing = badr_problems.load_places(study.places, settings.stand_in, SEED, settings.data_home, **options)
    return {place.title: place.cell for place in places}, missing


def solve(study: Study, cells: dict[str, Cell], settings: Settings) -> list[Landscape]:
    """All panels of a study; the lower problems of a grid are solved once for all metrics."""
    steps = settings.curve_steps if study.num_groups == 2 else settings.simplex_steps
    grid = bilevel.simplex_grid(study.num_groups, steps)
    found = []
    for title, cell in cells.items():
        problems = {
            metric: badr_problems.make_problem(
                cell, settings.reading, badr_problems.metric_objective(metric), loss=study.loss,
                regularisation=study.regularisation, num_groups=study.num_groups,
            )
            for metric in study.metrics
        }  # fmt: skip
        first = problems[study.metrics[0]]
        start = badr_problems.make_model(cell, settings.reading).init(jax.random.key(0))
        uppers = [problem.objective for problem in problems.values()]
        values, solved = jax.device_get(_walk(first, uppers, grid, start))
        values = np.where(solved[:, None], values, np.nan)
        fixed = jax.device_get(_fixed(first, start))
        for i, (metric, problem) in enumerate(problems.items()):
            found.append(_landscape(title, metric, problem, grid, values[:, i], fixed, start))
    return found


@jax.jit
def _walk(problem: bilevel.Problem, uppers: Any, grid: Any, start: Any) -> tuple[Any, Any]:
    """Every metric at the model of each point of a grid, `f[M, metrics]`, and whether it was solved, `bool[M]`."""

    def one(params: Any, weights: Any) -> tuple[Any, Any]:
        # The neighbour's solution is near.
        params, info = bilevel.solve_lower(problem, weights, params)
        values = [upper(params, problem.data) for upper in uppers]
        return params, (jax.numpy.stack(values), info.status == 0)

    return jax.lax.scan(one, start, grid)[1]


@jax.jit
def _fixed(problem: bilevel.Problem, start: Any) -> dict[str, Any]:
    return {
        "uniform": bilevel.uniform_weights(problem),
        "balanced": bilevel.balanced_weights(problem, "inverse"),
        "minimax": bilevel.minimax(problem, start).weights,
    }


@jax.jit
def _search(problem: bilevel.Problem, points: Any, starts: Any, start: Any) -> tuple[Any, bilevel.SimplexSolution]:
    """The metric at some weights, and the best solution from several."""
    values = jax.lax.map(lambda weights: bilevel.evaluate(problem, weights, start).value, points)
    return values, bilevel.multi_start(problem, start, starts, batch_size=1).best


def _landscape(
    title: str, metric: str, problem: bilevel.Problem, grid: np.ndarray, values: np.ndarray, fixed: Any, start: Any
) -> Landscape:
    num_groups = grid.shape[1]
    points = np.concatenate([np.stack(list(fixed.values())), np.eye(num_groups)])
    usual = bilevel.starts(jax.random.key(0), num_groups)
    starts = np.concatenate([grid[[int(np.nanargmin(values))]], usual])
    at_points, best = jax.device_get(_search(problem, points, starts, start))
    vertex = len(fixed) + int(np.argmin(at_points[len(fixed) :]))
    methods = {name: (points[i], float(at_points[i])) for i, name in enumerate(fixed)}
    methods["one_group"] = (points[vertex], float(at_points[vertex]))
    methods["badr"] = (best.weights, float(best.value))
    return Landscape(title, metric, grid, values, methods, best.info)


def local_minima(weights: np.ndarray, values: np.ndarray, num_steps: int) -> int:
    """How many points of a grid lie below all neighbours, which differ by one step between two groups."""
    place = {tuple(point): i for i, point in enumerate(np.rint(weights * num_steps).astype(int))}
    moves = np.eye(weights.shape[1], dtype=int)
    steps = [a - b for a in moves for b in moves if (a != b).any()]
    count = 0
    for point, i in place.items():
        around = [place[near] for step in steps if (near := tuple(np.add(point, step))) in place]
        count += bool(np.isfinite(values[i]) and all(not values[j] <= values[i] for j in around))
    return count


def offset(one: Landscape) -> float:
    """What smoothing at sharpness 1 adds to the metric, whatever the model: a multiple of the logarithm of K."""
    return OFFSETS.get(one.metric, 0.0) * np.log2(one.weights.shape[1])


def tidy(landscapes: dict[str, list[Landscape]]) -> pd.DataFrame:
    """One value a row: metric and weights by method, and numbers of the grid and of the search."""
    rows = []
    for study, found in landscapes.items():
        for one in found:
            named = {"paper": "badr", "table": f"experiment 1: {study}", "data": one.place, "objective": one.metric}
            for method, (weights, value) in one.methods.items():
                numbers = {"objective": value} | {f"weight_{a}": float(w) for a, w in enumerate(weights)}
                rows += [
                    {**named, "method": method, "split": "train", "metric": name, "value": number}
                    for name, number in numbers.items()
                ]
            steps = round(1 / np.min(one.weights[one.weights > 0]))
            of_grid = {
                "least": float(np.nanmin(one.values)),
                "largest": float(np.nanmax(one.values)),
                "local_minima": local_minima(one.weights, one.values, steps),
                "unsolved": int(np.isnan(one.values).sum()),
            }
            of_search = {
                "stationarity": float(one.info.stationarity),
                "inner_grad_norm": float(one.info.oracle.inner_grad_norm),
                "num_evaluations": int(one.info.num_evaluations),
                "status": int(one.info.status),
            }
            for method, numbers in (("grid", of_grid), ("badr", of_search)):
                rows += [
                    {**named, "method": method, "split": "solver", "metric": name, "value": number}
                    for name, number in numbers.items()
                ]
    return pd.DataFrame(rows)


def report(landscapes: dict[str, list[Landscape]], missing: list[str]) -> str:
    """A table a study as Markdown."""
    parts = ["# BADR, experiment 1\n"]
    if missing:
        parts.append(f"Files not at hand: {', '.join(missing)}.\n")
    frame = tidy(landscapes)
    for study, found in landscapes.items():
        table = frame[frame["table"] == f"experiment 1: {study}"]
        rows = []
        for one in found:
            mine = table[(table["data"] == one.place) & (table["objective"] == one.metric)]
            numbers = mine[mine["split"] == "solver"].set_index("metric")["value"]
            less = offset(one)
            methods = [f"{one.methods[name][1] - less:.4g}" for name in MARKERS]
            weights = " ".join(f"{weight:.3f}" for weight in one.methods["badr"][0])
            rows.append(
                [one.place, one.metric, *methods, weights, f"{numbers['least'] - less:.4g}",
                 f"{numbers['largest'] - less:.4g}", f"{numbers['local_minima']:.0f}",
                 f"{numbers['stationarity']:.0e}"]
            )  # fmt: skip
        header = ["data", "metric", *map(badr_tables.title, MARKERS), "BADR's weights", "least of the grid",
                  "largest", "local minima", "stationarity"]  # fmt: skip
        parts += [f"## {study}\n", results.markdown_table(header, rows)]
    return "\n".join(parts)


def curves_figure(landscapes: list[Landscape], metrics: tuple[str, ...]) -> Any:
    """The metric over the weight of the second group, a row a metric and a column a set of persons."""
    drawing, grid, places = _panels(landscapes, metrics)
    for one in landscapes:
        axes = grid[metrics.index(one.metric), places.index(one.place)]
        less = offset(one)
        axes.plot(one.weights[:, 1], one.values - less, color=plotting.COLOURS[-1], linewidth=1.4)
        for name, (weights, value) in one.methods.items():
            axes.plot(weights[1], value - less, **_style(name))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    for axes in grid[-1]:
        axes.set_xlabel("weight of group 1")
    _finish(drawing, grid, "BADR's metric over the weights of two groups, less what smoothing adds")
    return drawing


def simplices_figure(landscapes: list[Landscape], metrics: tuple[str, ...]) -> Any:
    """The metric over the weights of three groups as shaded triangles, the vertices weight on one group alone."""
    drawing, grid, places = _panels(landscapes, metrics)
    for one in landscapes:
        axes = grid[metrics.index(one.metric), places.index(one.place)]
        x, y = _corners(one.weights)
        known = np.isfinite(one.values)
        shades = axes.tricontourf(x[known], y[known], one.values[known] - offset(one), levels=24, cmap="cividis")
        drawing.colorbar(shades, ax=axes, shrink=0.8, format="%.2g")
        for name, (weights, _) in one.methods.items():
            axes.plot(*_corners(weights), **_style(name), markeredgecolor="white", clip_on=False)
        for group, (across, up) in enumerate(zip(*_corners(np.eye(3)), strict=True)):
            axes.annotate(f"group {group}", (across, up), ha="center", va="bottom" if up else "top", fontsize=8,
                          xytext=(0, 6 if up else -6), textcoords="offset points")  # fmt: skip
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    _finish(drawing, grid, "BADR's metric over the weights of three groups, less what smoothing adds")
    return drawing


def _panels(landscapes: list[Landscape], metrics: tuple[str, ...]) -> tuple[Any, Any, list[str]]:
    from matplotlib.figure import Figure

    places = list(dict.fromkeys(one.place for one in landscapes))
    drawing = Figure(figsize=(3.9 * len(places) + 0.4, 2.9 * len(metrics) + 0.9), layout="constrained")
    grid = drawing.subplots(len(metrics), len(places), squeeze=False, sharex=False)
    for place, axes in zip(places, grid[0], strict=True):
        axes.set_title(place.replace(" (", "\n("), fontsize=10, pad=18)
    for metric, axes in zip(metrics, grid[:, 0], strict=True):
        axes.set_ylabel(metric.replace("_", " "))
    return drawing, grid, places


def _finish(drawing: Any, grid: Any, title: str) -> None:
    named = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    drawing.legend(named.values(), named.keys(), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    drawing.suptitle(title, fontsize=11)


def _style(name: str) -> dict[str, Any]:
    size = 12 if name == "badr" else 7
    colour = plotting.COLOURS[list(MARKERS).index(name)]
    return {
        "color": colour, "marker": MARKERS[name], "ms": size, "linestyle": "none", "label": badr_tables.title(name),
        "zorder": 3,
    }  # fmt: skip


def _corners(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where weights of three groups lie in a triangle of side 1, groups 0 and 1 below."""
    weights = np.asarray(weights)
    return weights[..., 1] + weights[..., 2] / 2, weights[..., 2] * np.sqrt(3) / 2


def _check(settings: Settings) -> None:
    unknown = [name for name in settings.studies if name not in STUDIES]
    if unknown or not settings.studies or len(set(settings.studies)) < len(settings.studies):
        raise ValueError(f"studies must be some of {', '.join(STUDIES)}, each once, got {settings.studies or 'none'}")
    for name in ("curve_steps", "simplex_steps"):
        if getattr(settings, name) < 2:
            raise ValueError(f"{name} must be 2 or more, got {getattr(settings, name)}")
    badr_problems.check_choices(settings)
    badr_problems.check_places(["WY"], [settings.stand_in])
