"""One cell of BADR's experiments: all methods solved and measured, and finished cells kept in files.

One walk over many weights serves the fixed weightings, the fit to one group and the published searches at once. The
exact search starts from the best weights of that walk, from equal ones and near each vertex, so it ends above none of
them. Nearly all of the time goes into compiling, so models are taken one by one and a program is compiled once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import pandas as pd

import badrjax as bx
from badrjax import bilevel, results
from badrjax.results.recording import write_atomically
from experiments import badr_problems
from experiments.badr_problems import NUM_GROUPS, Cell, Reading

FIXED = ("uniform", "sample", "balanced", "minimax")
"""Weightings that do not look at the fairness objective."""
BASELINES = (*FIXED, "one_group")
TITLES = {
    "uniform": "uniform",
    "sample": "sample shares",
    "balanced": "balanced",
    "minimax": "minimax",
    "one_group": "one group",
    "badr": "BADR",
    "badr_grid": "BADR, best of a grid",
    "badr_draws": "BADR, best of draws",
}
PENALTY = "penalty "
"""What the names of models on the regularisation path begin with."""
_FORMAT = 1


class Task(NamedTuple):
    """What is solved on a cell.

    Attributes:
        objectives: fairness objectives by name, see `badrjax.bilevel.problem`. Functions that differ in bound numbers
            only are one program.
        measure: `(model, params, rows)` to numbers by name.
        published: name of the published search, a key of `TITLES`.
        candidates: the weights it tries, `f[P, K]`.
        reading: of the intercept.
        loss: of the lower problem.
        regularisation: of the lower problem, in the convention of `badrjax.bilevel.problem`.
        balance: variant of the balanced weights.
        penalised: objective of the regularisation path; `None` for no path.
        penalties: on that objective.
    """

    objectives: Mapping[str, Any]
    measure: Callable[..., Mapping[str, Any]]
    published: str
    candidates: np.ndarray
    reading: Reading = "published"
    loss: str = "logistic"
    regularisation: float = 1e-2
    balance: str = "inverse"
    penalised: str | None = None
    penalties: tuple[float, ...] = ()


Key = TypeVar("Key", bound=Hashable)
Record = dict[str, Any]
"""A method on an objective: `objective`, `method`, `weights`, numbers on `train` and `test`, and of the `solver`."""


def solve(cell: Cell, task: Task) -> list[Record]:
    """All methods on all objectives of a cell, in plain values."""
    problems = {name: _problem(cell, task, objective) for name, objective in task.objectives.items()}
    model = badr_problems.make_model(cell, task.reading)
    first, start = next(iter(problems.values())), _start(model)
    fixed, gap = _fixed_weights(first, cell, task)
    front = jax.device_get(_walk(first, np.concatenate([fixed, np.eye(NUM_GROUPS), task.candidates]), start))
    records = []
    for name, problem in problems.items():
        for one in _of_methods(problem, front, start, task.published):
            records.append({"objective": name, **_measured(one, problem, model, cell, task.measure)})
    for record in records:
        if record["method"] == "minimax":
            record["solver"]["duality_gap"] = gap
    if task.penalised is not None:
        for one in _of_penalties(problems[task.penalised], start, task.penalties):
            found = _measured(one, problems[task.penalised], model, cell, task.measure)
            records.append({"objective": task.penalised, **found})
    return records


class Job(NamedTuple):
    """A cell that is to be solved.

    Attributes:
        path: of the file that keeps it.
        about: what it is of and how it is made, in JSON's types.
        task: what is solved.
        load: returns the `Cell`, or raises one of `badr_problems.MISSING`.
    """

    path: Path
    about: dict[str, Any]
    task: Task
    load: Callable[[], Cell]


class Finished(NamedTuple):
    """A solved cell.

    Attributes:
        records: of all methods.
        checksum: of its rows.
        seconds: that solving took, with compiling.
    """

    records: list[Record]
    checksum: str
    seconds: float


def finish(jobs: Mapping[Key, Job], tell: Callable[[str], None]) -> tuple[dict[Key, Finished], dict[Key, str]]:
    """Solve the cells that have no file yet, all of them padded to one shape, and read the others.

    Args:
        jobs: by name.
        tell: told of each cell that was solved or is missing.

    Returns:
        The finished cells in the order of the jobs, and for those whose data are missing, why.

    Raises:
        ValueError: for a file that is no finished cell, or one of something else.
    """
    finished = {name: read_cell(job.path, job.about) for name, job in jobs.items() if job.path.is_file()}
    loaded, missing = {}, {}
    for name, job in jobs.items():
        if name not in finished:
            try:
                loaded[name] = job.load()
            except badr_problems.MISSING as error:
                missing[name] = str(error)
                tell(f"{job.path.stem}: NOT RUN, {error}")
    for name, cell in zip(loaded, badr_problems.padded(loaded.values()), strict=True):
        begun = time.perf_counter()
        records = solve(cell, jobs[name].task)
        finished[name] = Finished(records, cell.checksum, time.perf_counter() - begun)
        write_cell(jobs[name].path, jobs[name].about, finished[name])
        tell(f"{jobs[name].path.stem}: {finished[name].seconds:.1f} s")
    return {name: finished[name] for name in jobs if name in finished}, missing


def write_cell(path: Path, about: Mapping[str, Any], cell: Finished) -> None:
    """Write a finished cell, with where it comes from; the file appears whole or not at all."""
    origin = results.provenance(settings=about, data={path.stem: cell.checksum})
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {"format": _FORMAT, "about": dict(about), **cell._asdict(), "origin": origin}
    write_atomically(path, json.dumps(stored, indent=1) + "\n")


def read_cell(path: Path, about: Mapping[str, Any]) -> Finished:
    """The finished cell in a file.

    Raises:
        ValueError: for a file that is none, or is about something else.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != _FORMAT:
            raise ValueError(f"its format is {stored['format']}, and this version reads {_FORMAT}")
        found, cell = stored["about"], Finished(*(stored[name] for name in Finished._fields))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no finished cell: {error}; remove it to have it run again") from error
    differing = sorted(name for name in {*found, *about} if found.get(name) != about.get(name))
    if differing:
        raise ValueError(f"{path} differs in {', '.join(differing)}; remove it, or choose another directory with --out")
    return cell


def tidy(cells: Iterable[tuple[Mapping[str, Any], list[Record]]]) -> pd.DataFrame:
    """One value a row, from pairs of labels and records.

    `split` is `train`, `test`, or `solver` for weights and what the solvers say of themselves.
    """
    rows = []
    for labels, records in cells:
        for record in records:
            named = {**labels, "objective": record["objective"], "method": record["method"]}
            weights = {f"weight_{group}": weight for group, weight in enumerate(record["weights"])}
            parts = {"train": record["train"], "test": record["test"], "solver": weights | record["solver"]}
            rows += [
                {**named, "split": split, "metric": metric, "value": value}
                for split, values in parts.items()
                for metric, value in values.items()
            ]
    return pd.DataFrame(rows)


class _Solution(NamedTuple):
    """A model by some method, with numbers that its solver says of itself."""

    method: str
    weights: np.ndarray
    params: Any
    solver: dict[str, float]


def _problem(cell: Cell, task: Task, objective: Any, reading: Reading | None = None) -> bilevel.Problem:
    options: dict[str, Any] = {"loss": task.loss, "regularisation": task.regularisation}
    return badr_problems.make_problem(cell, reading or task.reading, objective, **options)


def _start(model: bx.Model) -> Any:
    """Parameters of 0, which is where linear models start."""
    return model.init(jax.random.key(0))


def _fixed_weights(problem: bilevel.Problem, cell: Cell, task: Task) -> tuple[np.ndarray, float]:
    """Weights of `FIXED`, `f[4, K]`, and the duality gap of the minimax model over its worst risk.

    As published, the logistic minimax model has no intercept, and lends its weights to the model that has one.
    """
    reading: Reading = "absent" if task.loss == "logistic" and task.reading == "published" else task.reading
    objective = next(iter(task.objectives.values()))
    worst = _minimax(_problem(cell, task, objective, reading), _start(badr_problems.make_model(cell, reading)))
    weights = [bilevel.uniform_weights(problem), bilevel.sample_weights(problem)]
    weights += [bilevel.balanced_weights(problem, task.balance), worst.weights]
    return np.stack(jax.device_get(weights)), float(worst.gap / worst.value)


def _of_methods(problem: bilevel.Problem, front: bilevel.Front, start: Any, published: str) -> Iterator[_Solution]:
    """The model of each method for one objective; the front's weights are the fixed, the vertices, the candidates."""
    models = front.evaluations.params
    values = np.array([_value(problem, _model(models, i), problem.data) for i in range(len(front.weights))])
    vertices, candidates = len(FIXED), len(FIXED) + NUM_GROUPS
    one_group = vertices + int(np.argmin(values[vertices:candidates]))
    best_candidate = candidates + int(np.argmin(values[candidates:]))
    for method, i in zip((*BASELINES, published), (*range(vertices), one_group, best_candidate), strict=True):
        norm = float(front.evaluations.info.inner_grad_norm[i])
        yield _Solution(method, front.weights[i], _model(models, i), {"inner_grad_norm": norm})
    usual = bilevel.starts(jax.random.key(0), NUM_GROUPS)
    best, residual = _search(problem, start, np.concatenate([front.weights[[np.argmin(values)]], usual]))
    yield _Solution("badr", np.asarray(best.weights), best.params, _solver_numbers(best, residual))


def _solver_numbers(best: bilevel.SimplexSolution, residual: jax.Array) -> dict[str, float]:
    """What certifies the exact solution."""
    return {
        "inner_grad_norm": float(best.info.oracle.inner_grad_norm),
        "adjoint_residual": float(best.info.oracle.relative_residual),
        "stationarity": float(best.info.stationarity),
        "num_evaluations": int(best.info.num_evaluations),
        "status": int(best.info.status),
        "pareto_residual": float(residual),
    }


def _of_penalties(problem: bilevel.Problem, start: Any, penalties: tuple[float, ...]) -> Iterator[_Solution]:
    """The models of the regularisation path, and how far each is from the Pareto front."""
    path, residuals = jax.device_get(_path(problem, start, np.array(penalties)))
    equal = np.full(NUM_GROUPS, 1 / NUM_GROUPS)
    for i, penalty in enumerate(penalties):
        numbers = {"inner_grad_norm": float(path.info.grad_norm[i]), "pareto_residual": float(residuals[i])}
        yield _Solution(f"{PENALTY}{penalty:.2g}", equal, _model(path.params, i), numbers)


def _model(models: Any, i: int) -> Any:
    """One of several models."""
    return jax.tree.map(lambda leaf: leaf[i], models)


def _measured(
    one: _Solution, problem: bilevel.Problem, model: bx.Model, cell: Cell, measure: Callable[..., Mapping[str, Any]]
) -> Record:
    """A solution with what it comes to on training and test rows."""
    parts = {}
    for part, rows in (("train", cell.train), ("test", cell.test)):
        found = {"objective": _value(problem, one.params, rows), **measure(model, one.params, rows)}
        parts[part] = {name: float(value) for name, value in found.items()}
    return {"method": one.method, "weights": one.weights.tolist(), **parts, "solver": one.solver}


_minimax = jax.jit(bilevel.minimax)


@jax.jit
def _value(problem: bilevel.Problem, params: Any, rows: bx.Batch) -> jax.Array:
    """The upper objective on some rows."""
    return problem.objective(params, rows)


@jax.jit
def _walk(problem: bilevel.Problem, weights: jax.Array, start: Any) -> bilevel.Front:
    return bilevel.pareto_path(problem, weights, start, batch_size=1)


@jax.jit
def _search(problem: bilevel.Problem, start: Any, weights: jax.Array) -> tuple[bilevel.SimplexSolution, jax.Array]:
    """The best solution from several weights, and how far it is from Pareto stationary, relative to a gradient."""
    best = bilevel.multi_start(problem, start, weights, batch_size=1).best
    return best, bilevel.certify(problem, best.params, best.weights).regularised.relative_norm


@jax.jit
def _path(problem: bilevel.Problem, start: Any, penalties: jax.Array) -> tuple[Any, jax.Array]:
    path = bilevel.regularisation_path(problem, start, penalties)
    equal = bilevel.uniform_weights(problem)

    def residual(params: Any) -> jax.Array:
        return bilevel.certify(problem, params, equal).regularised.relative_norm

    return path, jax.lax.map(residual, path.params)
