"""How BADR's solvers scale: time, memory and what they leave, over the number of rows and of groups.

Three parts. `census`: individual fairness on two merged groups of persons, mu = 0.1, 150 iterations of BADR-SGD on
batches of a twentieth of the rows, as recorded for California 2018, whose features are not at hand; other states of
2018 stand in. `rows`: the same on made-up rows up to a million. `groups`: made-up rows, 2 to 32 groups, demographic
parity. Beside BADR-SGD stand the loop with the published constants and the exact search.

Times are of second calls, so without compilation, which is a column of its own, and of one machine: they are to compare
columns with. Memory is the largest of the process so far, so sizes go up.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial
from rich.console import Console

import badrjax as bx
from badrjax import bilevel, plotting, results
from experiments import badr_made_up, badr_problems, badr_tables, pages, running

Part = Literal["census", "rows", "groups"]
PARTS = ("census", "rows", "groups")
SOLVERS = {"sgd": "BADR-SGD", "sgd_published": "SGD as published", "exact": "exact search"}
STEPS = 150
MU = 0.1
NEAR = 1e-3
"""Relative distance from the least value that counts as there, as recorded."""
PUBLISHED_RATES = (0.1, 2.0)
"""Step of w and v, and of the weights, of the recorded runs."""
_GRID_STEPS = 120


@dataclass(frozen=True)
class Settings:
    """Seconds, memory and suboptimality of BADR-SGD and of the exact search over numbers of rows and of groups."""

    parts: tuple[Part, ...] = PARTS
    """Persons of the census, made-up rows, numbers of groups."""
    census_rows: tuple[int, ...] = (5_000, 10_000, 20_000, 40_000, 70_000)
    """Sizes of subsamples of persons."""
    rows: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Numbers of made-up rows of two groups."""
    groups: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Numbers of groups, of `group_rows` made-up rows."""
    group_rows: int = 20_000
    """Rows of the part on groups."""
    seeds: tuple[int, ...] = (100, 101, 102)
    """Of subsamples, made-up rows and batches."""
    states: tuple[str, ...] = ("WY", "VT", "ND", "SD", "DE", "MT", "ME", "WV", "ID", "RI", "NH", "HI", "NM", "NE")
    """Whose persons stand in for California's."""
    out: Path = field(default_factory=lambda: Path("outputs/badr_scalability"))
    """Directory for report.html, results.csv, provenance.json, tables.md and the figure."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA."""
    cache: bool = False
    """Keep compiled programs in .jax_cache between runs; times of compilation are then those of loading."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run all parts, print tables, write the files, and return the tidy frame."""
    _check(settings)
    console = running.begin(settings, console)
    rows, missing, checksums = [], [], {}
    for part in (one for one in PARTS if one in settings.parts):
        try:
            for labels, data, num_groups, metric in _cells(part, settings):
                checksums[f"{part} {labels}"] = results.dataset_checksum(list(data[:3]))
                found = measure(data, num_groups, metric, labels["seed"])
                rows += _tidy({"paper": "badr", "table": f"scalability: {part}", **labels}, found)
                done = ", ".join(f"{name} {one['seconds']:.2f} s" for name, one in found.items())
                console.print(f"{part}, {labels}: {done}", markup=False)
        except badr_problems.MISSING as error:
            if settings.parts == ("census",):
                raise
            missing.append(part)
            console.print(f"{part}: NOT RUN, {error}", markup=False)
    frame = pd.DataFrame(rows)
    results.write_results(frame, results.provenance(settings=asdict(settings), data=checksums), settings.out)
    text = report(frame, missing)
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    drawn = figure(frame)
    drawn.savefig(settings.out / "scalability.png", dpi=150)
    pages.write(settings, text, figures={"Seconds an iteration or evaluation, over rows and over groups": drawn})
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"wrote report.html, results.csv, provenance.json, tables.md and scalability.png in {settings.out}",
        markup=False,
    )
    return frame


def measure(data: bx.Batch, num_groups: int, metric: str, seed: int) -> dict[str, dict[str, float]]:
    """What each solver takes and leaves on some rows, by solver.

    Args:
        data: NumPy arrays, features `f[n, d]` scaled.
        num_groups: K.
        metric: a key of `badr_made_up.METRICS`.
        seed: of the batches.
    """
    found, kept = {}, {}
    single = data._replace(x=np.asarray(data.x, np.float32))
    rates = tuple(map(np.float32, PUBLISHED_RATES))
    key = jax.random.key(seed)
    for name in ("sgd", "sgd_published"):
        options = {"num_groups": num_groups, "metric": metric, "published": name == "sgd_published"}
        compiled, compiling = _timed(_loop.lower(key, single, rates, **options).compile)
        compiled(key, single, rates)  # the first call reads memory that the second finds near
        (path, weights), seconds = _timed(partial(compiled, key, single, rates))
        kept[name] = np.asarray(path), np.asarray(weights)
        found[name] = {"seconds": seconds, "compiling": compiling, "iterations": STEPS}
    with jax.enable_x64(True):
        problem = _problem(data, num_groups, metric)
        start = bx.models.linear(data.x.shape[1]).init(jax.random.key(0))
        compiled, compiling = _timed(_search.lower(problem, start).compile)
        compiled(problem, start)
        exact, seconds = _timed(partial(compiled, problem, start))
        found["exact"] = {
            "seconds": seconds, "compiling": compiling, "iterations": int(exact.info.num_evaluations),
            "stationarity": float(exact.info.stationarity), "value": float(exact.value),
        }  # fmt: skip
        judged = _judge(problem, start, num_groups, kept, exact, _offset(metric, num_groups))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {name: {**found[name], **judged[name], "peak_gib": peak} for name in found}


def _judge(
    problem: bilevel.Problem,
    start: Any,
    num_groups: int,
    kept: dict[str, Any],
    exact: bilevel.SimplexSolution,
    offset: float,
) -> dict[str, dict[str, float]]:
    """How far each solver is above the least value, relative to it; for two groups also when it was first near.

    What smoothing adds to the metric at parity (`offset`) is taken off first: relative to it anything would be near.
    """
    chosen = {name: weights for name, (_, weights) in kept.items()}
    values = {name: float(_value(problem, weights, exact.params)) - offset for name, weights in chosen.items()}
    values["exact"] = float(exact.value) - offset
    if num_groups > 2:
        least = min(values.values())
        return {name: {"above_least": value / least - 1} for name, value in values.items()}
    grid = bilevel.simplex_grid(2, _GRID_STEPS)
    places, truth = np.asarray(grid[:, 1]), np.asarray(_walk(problem, grid, start)) - offset
    order = np.argsort(places)
    least = min(truth.min(), *values.values())
    judged = {name: {"above_least": value / least - 1} for name, value in values.items()}
    for name, (path, _) in kept.items():
        along = np.interp(path[:, 1], places[order], truth[order]) / least - 1
        near = np.flatnonzero(along <= NEAR)
        judged[name]["first_near"] = float(near[0]) if near.size else np.inf
        judged[name]["last_above_least"] = float(along[-1])
        judged[name]["last_over_own_best"] = float((1 + along[-1]) / (1 + along.min()) - 1)
    return judged


def _offset(metric: str, num_groups: int) -> float:
    """What the published formula of a metric is at exact parity."""
    return float(np.log(num_groups)) + 1e-3 if metric == "demographic_parity" else 0.0


@partial(jax.jit, static_argnames=("num_groups", "metric", "published"))
def _loop(key: Any, data: bx.Batch, rates: Any, *, num_groups: int, metric: str, published: bool) -> tuple[Any, Any]:
    """The weights before each step and at the end, `f[T + 1, K]`, and those to keep."""
    problem = _problem(data, num_groups, metric)
    params = bx.models.linear(data.x.shape[1]).init(jax.random.key(0))
    method, params = bx.badr_setup(problem, params)
    if published:
        method = badr_made_up.published_loop(problem, rates)
    sampler = bx.group_balanced(data.y.shape[0] // 20, num_groups)
    epochs = -(-STEPS // sampler.num_steps(data.y.shape[0]))
    run = bx.fit(
        key, method, params, problem.data, num_epochs=epochs, sampler=sampler,
        record=Partial(lambda infos: infos.weights),
    )  # fmt: skip
    path = run.steps.reshape(-1, num_groups)[:STEPS]
    last = run.state.weights
    return jnp.concatenate([path, last[None]]), last if published else run.state.average_weights


@jax.jit
def _search(problem: bilevel.Problem, start: Any) -> bilevel.SimplexSolution:
    return bilevel.minimise_over_simplex(problem, start)


@jax.jit
def _value(problem: bilevel.Problem, weights: Any, start: Any) -> Any:
    return bilevel.evaluate(problem, bx.project_simplex(jnp.asarray(weights, float)), start).value


@jax.jit
def _walk(problem: bilevel.Problem, grid: Any, start: Any) -> Any:
    def turn(params: Any, weights: Any) -> tuple[Any, Any]:
        params, _ = bilevel.solve_lower(problem, weights, params)
        return params, bilevel.upper_objective(problem, params)

    return jax.lax.scan(turn, start, grid)[1]


def _problem(data: bx.Batch, num_groups: int, metric: str) -> bilevel.Problem:
    objective = metric if metric in bilevel.SCORE_OBJECTIVES else badr_problems.METRICS[metric]
    return bilevel.problem(
        bx.models.linear(data.x.shape[1]), data, num_groups=num_groups, objective=objective, variant="badr",
        regularisation=MU,
    )  # fmt: skip


def _cells(part: str, settings: Settings) -> Iterator[tuple[dict[str, Any], bx.Batch, int, str]]:
    """Labels, rows, number of groups and metric of the cells of a part, small ones first."""
    if part == "census":
        load = _census(settings)
        for num_rows in sorted(settings.census_rows):
            for seed in settings.seeds:
                yield {"n": num_rows, "groups": 2, "seed": seed}, load(num_rows, seed), 2, "individual_fairness"
    elif part == "rows":
        for num_rows in sorted(settings.rows):
            seed = settings.seeds[0]
            data = badr_made_up.rows(num_rows, 2, seed)
            yield {"n": num_rows, "groups": 2, "seed": seed}, data, 2, "individual_fairness"
    else:
        for num_groups in sorted(settings.groups):
            seed = settings.seeds[0]
            data = badr_made_up.rows(settings.group_rows, num_groups, seed)
            labels = {"n": settings.group_rows, "groups": num_groups, "seed": seed}
            yield labels, data, num_groups, "demographic_parity"


def _census(settings: Settings) -> Callable[[int, int], bx.Batch]:
    """Draws subsamples of employed and other persons of all states, two merged groups, features scaled."""
    dataset = bx.load_dataset(
        "acs_employment", variant="badr", states=settings.states, year=2018, data_home=settings.data_home
    )
    dataset = bx.datasets.drop_small_groups(dataset, dataset.x.shape[1] + 1)
    merged = bx.datasets.merge_small_groups(dataset, 2)

    if max(settings.census_rows) > len(merged.y):
        raise ValueError(
            f"census_rows has {max(settings.census_rows)}, and there are {len(merged.y)} persons; lower it"
        )

    def draw(num_rows: int, seed: int) -> bx.Batch:
        rows = np.random.default_rng(seed).choice(len(merged.y), num_rows, replace=False)
        scaled = bx.datasets.take(bx.datasets.standardise(merged, rows), rows)
        return bx.Batch(scaled.x, scaled.y, scaled.group)

    return draw


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - began


def _tidy(labels: dict[str, Any], found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    return [
        {**labels, "method": solver, "split": "train", "metric": name, "value": float(value)}
        for solver, numbers in found.items()
        for name, value in numbers.items()
    ]


def summary(frame: pd.DataFrame, part: str) -> pd.DataFrame:
    """Means over the seeds of a part, a row a size and number of groups, columns (metric, method)."""
    mine = frame[frame["table"] == f"scalability: {part}"]
    return mine.pivot_table(index=["n", "groups"], columns=["metric", "method"], values="value", aggfunc="mean")


def report(frame: pd.DataFrame, missing: list[str]) -> str:
    """A table a part as Markdown, with the recorded numbers beside the census."""
    parts = ["# BADR, scalability\n"]
    if missing:
        parts.append(f"Not run for want of files: {', '.join(missing)}.\n")
    for part in PARTS:
        if f"scalability: {part}" in set(frame["table"]):
            parts += [f"## {part}\n", _table(summary(frame, part))]
    if "scalability: census" in set(frame["table"]):
        parts += ["## Recorded, California 2018, another machine: BADR-SGD\n", _recorded()]
    return "\n".join(parts)


def _table(means: pd.DataFrame) -> str:
    columns = [
        ("ms an iteration, BADR-SGD", lambda one: f"{1e3 * one['seconds', 'sgd'] / STEPS:.2f}"),
        (f"s for {STEPS}", lambda one: f"{one['seconds', 'sgd']:.2f}"),
        ("first near", lambda one: _number(one, "first_near", "sgd", ".1f")),
        ("left", lambda one: _number(one, "above_least", "sgd", ".1e")),
        ("published: first near", lambda one: _number(one, "first_near", "sgd_published", ".1f")),
        ("published: last over own best", lambda one: _number(one, "last_over_own_best", "sgd_published", ".1%")),
        ("exact: s", lambda one: f"{one['seconds', 'exact']:.2f}"),
        ("evaluations", lambda one: f"{one['iterations', 'exact']:.1f}"),
        ("left", lambda one: _number(one, "above_least", "exact", ".1e")),
        ("compiling s: SGD, exact", lambda one: f"{one['compiling', 'sgd']:.1f}, {one['compiling', 'exact']:.1f}"),
        ("GiB so far", lambda one: f"{one['peak_gib', 'sgd']:.2f}"),
    ]
    rows = [
        [f"{n:,}", str(groups), *(show(one) for _, show in columns)]
        for ((n, groups), one) in means.iterrows()
    ]  # fmt: skip
    return results.markdown_table(["n", "K", *(name for name, _ in columns)], rows)


def _number(one: pd.Series, metric: str, method: str, how: str) -> str:
    value = one.get((metric, method), np.nan)
    return "" if np.isnan(value) else "never" if np.isinf(value) else format(value, how)


def _recorded() -> str:
    rows = [
        [f"{n:,}", f"{iterations:.1f}", f"{near:.1f}", f"{total:.0f}", f"{drift:.1%}"]
        for n, iterations, near, total, drift in badr_tables.targets("badr_scalability")["rows"]
    ]
    header = ["n", "iterations to near", "true s to near", f"true s for {STEPS}", "last over own best"]
    return results.markdown_table(header, rows)


def figure(frame: pd.DataFrame) -> Any:
    """Seconds an iteration over rows and over groups, in logarithms."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9.6, 3.9), layout="constrained")
    by_rows, by_groups = drawing.subplots(1, 2)
    for axes, parts, size in ((by_rows, ("census", "rows"), "n"), (by_groups, ("groups",), "groups")):
        for part in parts:
            if f"scalability: {part}" not in set(frame["table"]):
                continue
            means = summary(frame, part)
            for i, (name, title) in enumerate(SOLVERS.items()):
                each = means["seconds", name] / means["iterations", name]
                label = f"{title}, {'census' if part == 'census' else 'made-up rows'}"
                axes.plot(
                    means.index.get_level_values(size), each, "o--" if part == "census" else "o-",
                    color=plotting.COLOURS[i], label=label, linewidth=1.6,
                )  # fmt: skip
        axes.set(xscale="log", yscale="log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    by_rows.set(xlabel="rows", ylabel="seconds an iteration or evaluation")
    by_groups.set_xscale("log", base=2)
    by_groups.set_xlabel("groups")
    named = {}
    for axes in (by_rows, by_groups):
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    drawing.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return drawing


def _check(settings: Settings) -> None:
    running.check_seeds(settings.seeds)
    unknown = [part for part in settings.parts if part not in PARTS]
    if unknown or not settings.parts:
        raise ValueError(f"parts must be some of {', '.join(PARTS)}, got {unknown or 'none'}")
    for name in ("census_rows", "rows", "groups"):
        least = 2 if name == "groups" else 1000
        if not getattr(settings, name) or min(getattr(settings, name)) < least:
            raise ValueError(f"{name} must be {least} or more each, got {getattr(settings, name)}")
        if len(set(getattr(settings, name))) < len(getattr(settings, name)):
            raise ValueError(f"{name} names a number twice: {getattr(settings, name)}")
    if settings.group_rows < 40 * max(settings.groups):
        raise ValueError(f"group_rows must be 40 times the groups or more, got {settings.group_rows}")
    badr_problems.check_places(settings.states, [2018])
