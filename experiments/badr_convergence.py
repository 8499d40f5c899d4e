"""Whether BADR's single loop gets to the least of its upper problem, how fast, and which of its weights to keep.

Made-up rows of two groups (`badr_made_up`), logistic regression, seven metrics as published. Truth is a grid of 1001
weights, each solved exactly. Compared are BADR-GD and BADR-SGD with their defaults, and the published loop, whose step
for the weights is constant. Reported is how far `V` of the last, the average and the best weights is above the least
of the grid, in percent of its range, and how the stationarity residual of the weights falls with the iterations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial
from rich.console import Console

import badrjax as bx
from badrjax import bilevel, plotting, results
from experiments import badr_made_up, pages, running
from experiments.badr_made_up import METRICS

KEPT = ("last", "average", "best", "chosen")
"""Weights of the state that can be returned, and those of `badrjax.badr_solution`."""
LIMIT = 1.0
"""Percent of the range that the loop is to stay below."""
_TINY = 1e-12


class Algorithm(NamedTuple):
    """One way to run the loop.

    Attributes:
        title: in tables and figures.
        stochastic: whether on group-balanced batches of a twentieth of the rows.
        published: whether with the published constants, from the fit at equal weights, instead of the defaults.
    """

    title: str
    stochastic: bool
    published: bool


ALGORITHMS = {
    "gd": Algorithm("BADR-GD", False, False),
    "sgd": Algorithm("BADR-SGD", True, False),
    "gd_published": Algorithm("GD as published", False, True),
    "sgd_published": Algorithm("SGD as published", True, True),
}
PUBLISHED_RATES = {"gd_published": (0.5, 0.02), "sgd_published": (0.1, 2.0)}
"""Step of w and v, and of the weights: of the later driver, and of the recorded scalability runs."""


@dataclass(frozen=True)
class Settings:
    """Suboptimality and stationarity of BADR-GD and BADR-SGD against a grid, seven metrics, and the published loop."""

    metrics: tuple[str, ...] = tuple(METRICS)
    """Which of the seven metrics."""
    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    """Which loops."""
    seeds: tuple[int, ...] = tuple(range(5))
    """Of rows and batches alike."""
    num_rows: int = 10_000
    """Rows of each set."""
    num_steps: int = 500
    """Iterations, a multiple of 20."""
    grid_steps: int = 1000
    """Steps of the grid over the weights of two groups."""
    out: Path = field(default_factory=lambda: Path("outputs/badr_convergence"))
    """Directory for report.html, results.csv, provenance.json, tables.md and the figures."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


class Trace(NamedTuple):
    """Runs of one loop on one metric, S seeds.

    Attributes:
        values: `V` at the weights after each step, less the least of the grid, over its range, `f[S, T]`.
        residuals: stationarity of these weights, see `badrjax.bilevel.SimplexInfo`, `f[S, T]`.
        kept: the same of the weights in `KEPT`, `f[S]` each.
        over_best: `V` of the last weights less the least on the way, over its range, `f[S]`.
        failed: whether a run diverged, `bool[S]`.
    """

    values: np.ndarray
    residuals: np.ndarray
    kept: dict[str, np.ndarray]
    over_best: np.ndarray
    failed: np.ndarray


class Truth(NamedTuple):
    """The grid of one metric and seed: weights of the second group, `V`, and its slope along them, `f[M]` each."""

    places: Any
    values: Any
    slopes: Any


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run all loops, print tables, write the files, and return the tidy frame."""
    _check(settings)
    console = running.begin(settings, console)
    data = _stacked([badr_made_up.rows(settings.num_rows, 2, seed) for seed in settings.seeds])
    traces: dict[str, dict[str, Trace]] = {}
    for metric in settings.metrics:
        objective = badr_made_up.metric_objective(metric)
        truth = jax.device_get(_truth_in_double(data, objective, settings.grid_steps))
        keys = jax.vmap(jax.random.key)(jnp.asarray(settings.seeds, jnp.uint32))
        traces[metric] = {}
        for name in settings.algorithms:
            run = _run(keys, _single(data), objective, _rates(name), name=name, num_steps=settings.num_steps)
            traces[metric][name] = trace(jax.device_get(run), truth)
        console.print(f"{metric}: done", markup=False)
    frame = tidy(traces, settings.seeds)
    checksum = {"made up": results.dataset_checksum(list(data[:3]))}
    results.write_results(frame, results.provenance(settings=asdict(settings), data=checksum), settings.out)
    text = report(traces)
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    figures = {
        "How far above the least value, by iteration": values_figure(traces),
        "Stationarity residual, by iteration": residuals_figure(traces),
    }
    for name, drawn in zip(("suboptimality", "stationarity"), figures.values(), strict=True):
        drawn.savefig(settings.out / f"{name}.png", dpi=150)
    pages.write(settings, text, figures=figures)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"wrote report.html, results.csv, provenance.json, tables.md and two figures in {settings.out}", markup=False
    )
    return frame


def trace(run: Mapping[str, np.ndarray], truth: Truth) -> Trace:
    """Runs judged by the grid; `V` and its slope between two of its points are interpolated."""
    low = truth.values.min(axis=1)
    span = np.ptp(truth.values, axis=1)

    def value(seed: int, weights: np.ndarray) -> np.ndarray:
        return np.interp(weights[..., 1], truth.places[seed], truth.values[seed])

    def above(name: str) -> np.ndarray:
        return np.array([(value(s, run[name][s]) - low[s]) / span[s] for s in range(len(low))])

    path = run["path"]
    values = np.stack([value(s, path[s]) for s in range(len(low))])
    residuals = np.stack([_residual(path[s][:, 1], truth, s) for s in range(len(low))])
    over_best = (values[:, -1] - values.min(axis=1)) / span
    return Trace(
        (values - low[:, None]) / span[:, None], residuals, {name: above(name) for name in KEPT}, over_best,
        run["failed_at"] >= 0,
    )  # fmt: skip


def _residual(places: np.ndarray, truth: Truth, seed: int) -> np.ndarray:
    """How far a step along the slope, in units of the slope at equal weights, moves the second weight on [0, 1]."""
    # Along (-1, 1), half of which is the projected gradient of both weights.
    slopes = np.interp(places, truth.places[seed], truth.slopes[seed])
    unit = abs(np.interp(0.5, truth.places[seed], truth.slopes[seed]))
    return np.abs(np.clip(places - slopes / unit, 0, 1) - places)


def mean_square(residuals: np.ndarray) -> np.ndarray:
    """Mean of the squared residuals so far, `f[S, T]`: what theory bounds by 1/T, or 1/sqrt(T) with noise."""
    return np.cumsum(residuals**2, axis=1) / np.arange(1, residuals.shape[1] + 1)


def rate(residuals: np.ndarray) -> float:
    """Slope of the mean squared residual in the iterations, both in logarithms, over the last nine tenths."""
    means = np.median(mean_square(residuals), axis=0)
    late = np.arange(len(means) // 10, len(means))
    return float(np.polyfit(np.log(late + 1), np.log(np.maximum(means[late], _TINY)), 1)[0])


def tidy(traces: Mapping[str, Mapping[str, Trace]], seeds: tuple[int, ...]) -> pd.DataFrame:
    """One value a row: how far above the least by which weights, and what the last is above the best on the way."""
    rows = []
    for metric, loops in traces.items():
        for name, one in loops.items():
            numbers = {f"above_least_{kept}": values for kept, values in one.kept.items()}
            numbers |= {"least_on_the_way": one.values.min(axis=1), "over_own_best": one.over_best}
            numbers |= {"least_residual": one.residuals.min(axis=1), "diverged": one.failed.astype(float)}
            for what, values in numbers.items():
                for seed, number in zip(seeds, values, strict=True):
                    labels = {"paper": "badr", "table": "convergence", "objective": metric, "method": name}
                    rows.append({**labels, "seed": seed, "split": "train", "metric": what, "value": float(number)})
    return pd.DataFrame(rows)


def report(traces: Mapping[str, Mapping[str, Trace]]) -> str:
    """Tables as Markdown."""
    names = list(next(iter(traces.values())))
    header = ["metric", *(f"{ALGORITHMS[name].title}, {kept}" for name in names for kept in KEPT)]
    rows = [
        [metric, *(f"{100 * loops[name].kept[kept].max():.3g}" for name in names for kept in KEPT)]
        for metric, loops in traces.items()
    ]
    drift = [
        [metric, *(f"{100 * loops[name].over_best.mean():.3g} [{100 * loops[name].over_best.max():.3g}]"
                   for name in names)]
        for metric, loops in traces.items()
    ]  # fmt: skip
    rates = [[metric, *(f"{rate(loops[name].residuals):.2f}" for name in names)] for metric, loops in traces.items()]
    titles = [ALGORITHMS[name].title for name in names]
    seeds = len(next(iter(next(iter(traces.values())).values())).over_best)
    worst = {
        (name, kept): 100 * max(loops[name].kept[kept].max() for loops in traces.values())
        for name in names for kept in KEPT
    }  # fmt: skip
    below = [
        f"{ALGORITHMS[name].title}, {kept}: {'below' if value < LIMIT else 'NOT below'} {LIMIT:g}% ({value:.3g}%)"
        for (name, kept), value in worst.items()
    ]
    return "\n".join(
        [
            "# BADR's single loop against the grid\n",
            f"## Above the least, percent of the range, the largest of {seeds} seeds\n",
            results.markdown_table(header, rows),
            "Over all metrics and seeds: " + "; ".join(below) + ".\n",
            "## Last value above the least on the way, percent of the range: mean [largest]\n",
            results.markdown_table(["metric", *titles], drift),
            "## Rate: slope of the mean squared stationarity residual in the iterations, both in logarithms\n",
            results.markdown_table(["metric", *titles], rates),
        ]
    )


def values_figure(traces: Mapping[str, Mapping[str, Trace]]) -> Any:
    """How far the weights of each iteration are above the least, by metric."""
    return _figure(traces, lambda one: one.values, "above the least / range", "BADR's single loop against the grid")


def residuals_figure(traces: Mapping[str, Mapping[str, Trace]]) -> Any:
    """The mean squared stationarity residual so far, with the slopes 1/T and 1/sqrt(T)."""
    title = "stationarity of the weights: mean of the squared residuals so far (grey: 1/T and 1/sqrt(T))"
    figure = _figure(traces, lambda one: mean_square(one.residuals), "mean squared residual", title)
    for axes in (axes for axes in figure.axes if axes.lines):
        steps = np.array([1.0, axes.lines[0].get_xdata()[-1]])
        for power in (1, 0.5):
            axes.plot(steps, 0.3 * steps**-power, ":", color="0.6", linewidth=1.2, zorder=0)
    return figure


def _figure(traces: Any, of: Any, label: str, title: str, floor: float = 1e-8) -> Any:
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(traces) // columns)
    figure = Figure(figsize=(3.3 * columns + 0.4, 2.6 * rows + 1.1), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(traces) :]:
        axes.set_visible(False)
    for (metric, loops), axes in zip(traces.items(), grid.flat, strict=False):
        for name, one in loops.items():
            values = np.maximum(of(one), floor)
            steps = np.arange(1, values.shape[1] + 1)
            i = list(ALGORITHMS).index(name)
            options = {"color": plotting.COLOURS[i], "label": ALGORITHMS[name].title}
            style = "--" if ALGORITHMS[name].published else "-"
            axes.plot(steps, np.median(values, axis=0), style, linewidth=1.6, **options)
            axes.fill_between(steps, values.min(0), values.max(0), color=plotting.COLOURS[i], alpha=0.15, lw=0)
        axes.set(xscale="log", yscale="log", title=metric.replace("_", " "))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.set_xlabel("iteration")
        axes.xaxis.set_tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(label)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(f"{title} (lines: median, bands: range over seeds)", fontsize=11)
    return figure


def _rates(name: str) -> tuple[Any, Any]:
    rates = PUBLISHED_RATES.get(name, (0.0, 0.0))
    return tuple(np.float32(rate) for rate in rates)


@partial(jax.jit, static_argnames=("name", "num_steps"))
def _run(
    keys: Any, data: bx.Batch, objective: Any, rates: tuple[Any, Any], *, name: str, num_steps: int
) -> dict[str, Any]:
    """All seeds side by side: the weights before each step, `f[S, T, 2]`, and those that the state keeps."""
    algorithm = ALGORITHMS[name]
    size = data.y.shape[1] // 20
    sampler = bx.group_balanced(size, 2) if algorithm.stochastic else bx.full_batch()
    epochs = num_steps // sampler.num_steps(data.y.shape[1])

    def one(key: Any, rows: bx.Batch) -> dict[str, Any]:
        problem = badr_made_up.problem(rows, 2, objective)
        method, params = _method(problem, algorithm, rates)
        run = bx.fit(
            key, method, params, rows, num_epochs=epochs, sampler=sampler, record=Partial(lambda infos: infos.weights)
        )
        state = run.state
        path = jnp.concatenate([run.steps.reshape(-1, 2)[1:], state.weights[None]])
        kept = {"last": state.weights, "average": state.average_weights, "best": state.best_weights}
        kept["chosen"] = bx.badr_solution(problem, state).weights
        return {**kept, "path": path, "failed_at": state.failed_at}

    return jax.vmap(one)(keys, data)


def _method(problem: bilevel.Problem, algorithm: Algorithm, rates: tuple[Any, Any]) -> tuple[bx.Method, Any]:
    method, params = bx.badr_setup(problem, badr_made_up.start())
    if not algorithm.published:
        return method, params
    return badr_made_up.published_loop(problem, rates), params


def _truth_in_double(data: bx.Batch, objective: Any, num_steps: int) -> Truth:
    with jax.enable_x64(True):
        grid = jnp.asarray(bilevel.simplex_grid(2, num_steps))
        return jax.device_get(_truth(data, objective, grid, badr_made_up.start()))


@jax.jit
def _truth(data: bx.Batch, objective: Any, grid: Any, start: Any) -> Truth:
    def one(rows: bx.Batch) -> Truth:
        problem = badr_made_up.problem(rows, 2, objective)

        def turn(params: Any, weights: Any) -> tuple[Any, tuple[Any, Any]]:
            # The neighbour's solution is near.
            found = bilevel.evaluate(problem, weights, params)
            return found.params, (found.value, found.gradient[1] - found.gradient[0])

        _, (values, slopes) = jax.lax.scan(turn, start, grid)
        order = jnp.argsort(grid[:, 1])
        return Truth(grid[order, 1], values[order], slopes[order])

    return jax.lax.map(one, data)


def _stacked(parts: list[bx.Batch]) -> bx.Batch:
    return bx.Batch(*(np.stack(leaves) for leaves in zip(*(part[:3] for part in parts), strict=True)))


def _single(data: bx.Batch) -> bx.Batch:
    return data._replace(x=data.x.astype(np.float32))


def _check(settings: Settings) -> None:
    running.check_seeds(settings.seeds)
    for name, chosen, known in (
        ("metrics", settings.metrics, METRICS),
        ("algorithms", settings.algorithms, ALGORITHMS),
    ):
        unknown = [one for one in chosen if one not in known]
        if unknown or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"{name} must be some of {', '.join(known)}, each once, got {chosen or 'none'}")
    if settings.num_steps < 20 or settings.num_steps % 20:
        raise ValueError(f"num_steps must be a multiple of 20, got {settings.num_steps}")
    if settings.num_rows < 1000 or settings.num_rows % 20:
        raise ValueError(f"num_rows must be 1000 or more and a multiple of 20, got {settings.num_rows}")
    if settings.grid_steps < 10:
        raise ValueError(f"grid_steps must be 10 or more, got {settings.grid_steps}")
