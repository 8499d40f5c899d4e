"""Runs of the FairLAB paper, each kept in a file as soon as it is done, so that a call goes on where another ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from badrjax import results
from badrjax.constraints import CellCounts
from badrjax.results.recording import write_atomically
from experiments import fairlab_data, fairlab_methods, nash_curves, running
from experiments.fairlab_data import SOURCES, Metric, Problem
from experiments.fairlab_methods import METHODS, PARTS, Options, Point, Start

_FORMAT = 1


@dataclass(frozen=True)
class RunOptions:
    """Which runs are made, and where they are kept."""

    datasets: tuple[str, ...] = ("compas", "acs", "meps")
    """Which of compas, acs (14 states of 2018, which stand in for California 2014), acs17 (three more) and meps."""
    metrics: tuple[Metric, ...] = ("demographic_parity", "equalized_odds")
    """Which of the two metrics."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Which of the methods."""
    seeds: int = 5
    """How many seeds, of the split and of training; verdicts on cells need 50."""
    first_seed: int = 0
    """The first of them. K > 0 writes to from_K below --out, and the ledger judges all that is there together."""
    protocol: Literal["default", "paper", "code"] = "default"
    """Of FairLAB, see badrjax.fairlab."""
    budgets: tuple[float, ...] | None = None
    """How much F1 FairLAB may give up, a model each; 0.05, 0.1 and 0.15 (0.1 with --quick) where none is given."""
    minimum_count: int = 1
    """Fewest training rows, of each label that the metric compares, of a group; smaller ones are in no constraint and
    no gap, which then is another than the paper's."""
    quick: bool = False
    """Fewer epochs, budgets and settings of the competitors, to try things out."""
    store: Path = field(default_factory=lambda: Path("outputs/fairlab/runs"))
    """Directory of the runs, which the tables share."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


class Trial(NamedTuple):
    """What names a run."""

    dataset: str
    metric: Metric
    setting: str
    method: str
    seed: int


class Run(NamedTuple):
    """A finished run.

    Attributes:
        trial: what it is of.
        points: what came out.
        checksum: of the dataset.
        minimum_count: of the groups that are measured.
    """

    trial: Trial
    points: tuple[Point, ...]
    checksum: str
    minimum_count: int = 1


def options_of(settings: RunOptions) -> Options:
    """How the methods are trained."""
    options = Options(protocol=settings.protocol, minimum_count=settings.minimum_count)
    if settings.quick:
        options = _quicker(options)
    return options if settings.budgets is None else options._replace(budgets=settings.budgets)


def one_budget(settings: RunOptions, default: float) -> tuple[float]:
    """The budget of an experiment that has one; raises `ValueError` for several."""
    given = (default,) if settings.budgets is None else settings.budgets
    if len(given) != 1:
        raise ValueError(f"budgets must be one here, got {given}")
    return (given[0],)


def _quicker(options: Options) -> Options:
    return options._replace(
        budgets=(0.10,), gaps=(1.0,), ffvae=((100.0, 10.0),), rays=9, shares=(0.5,), hidden=(32,), epochs=10, rounds=4,
        local_epochs=6, cosmos_epochs=10, ffvae_epochs=10, oracle_epochs=2,
    )  # fmt: skip


def check(settings: RunOptions) -> None:
    """Raise `ValueError` with the remedy for settings that cannot be run."""
    nash_curves.check_names("dataset", settings.datasets, SOURCES)
    nash_curves.check_names("metric", settings.metrics, dict.fromkeys(fairlab_data.SHORT))
    nash_curves.check_names("method", settings.methods, METHODS)
    running.check_seeds(seeds_of(settings))
    if settings.minimum_count < 1:
        raise ValueError(f"minimum_count must be at least 1, got {settings.minimum_count}")
    budgets = options_of(settings).budgets
    names = {f"{budget:g}" for budget in budgets}  # as models are called by them
    if not budgets or not all(0 <= budget < float("inf") for budget in budgets) or len(names) < len(budgets):
        raise ValueError(f"budgets must be finite and >= 0, at least one, and differ in six digits, got {budgets}")


def seeds_of(settings: RunOptions) -> range:
    """The seeds of a call."""
    return range(settings.first_seed, settings.first_seed + settings.seeds)


def run_all(
    kinds: Sequence[Literal["two_way", "three_way", "mixed"]],
    settings: RunOptions,
    tell: Callable[[str], None],
    options: Options | None = None,
) -> tuple[list[Run], dict[str, str]]:
    """The runs of some kinds of settings: read where they are stored, made where they are not.

    Args:
        kinds: of settings.
        settings: which datasets, metrics, methods and seeds.
        tell: told of each run that was made.
        options: of training, where not those of the settings.

    Returns:
        The runs, and for datasets whose files are not there, why.
    """
    options = options or options_of(settings)
    runs: list[Run] = []
    missing: dict[str, str] = {}
    for name in settings.datasets:
        source = SOURCES[name]
        try:
            dataset = fairlab_data.load(source, settings.data_home)
        except fairlab_data.MISSING as error:
            missing[name] = str(error)
            tell(f"{name}: NOT RUN, {error}")
            continue
        checksum = results.dataset_checksum([dataset.x, dataset.y, dataset.group])
        for metric in settings.metrics:
            chosen = [setting for kind in kinds for setting in fairlab_data.settings_of(source, kind)]
            trials = _trials(name, metric, chosen, settings)
            runs += _finish(trials, dataset, checksum, options, settings.store, tell)
    return runs, missing


def _trials(name: str, metric: Metric, chosen: Iterable[str], settings: RunOptions) -> list[Trial]:
    """Seed by seed, so that a call that is interrupted leaves whole seeds."""
    return [
        Trial(name, metric, setting, method, seed)
        for seed in seeds_of(settings)
        for setting in chosen
        for method in settings.methods
        if not (method == "expgrad" and setting == "mixed")  # fairlearn has one constraint on one grouping
    ]


def _finish(
    trials: Sequence[Trial], dataset: Any, checksum: str, options: Options, store: Path, tell: Callable[[str], None]
) -> list[Run]:
    runs = []
    problems: dict[tuple[Metric, str, int], Problem] = {}
    starts: dict[int, Start] = {}
    for trial in trials:
        trained = same_training(trial)
        path = path_of(trained, options, store)
        about = _about(trained, options, checksum)
        if not path.is_file():
            where = trained.metric, trained.setting, trained.seed
            if where not in problems:
                source, fewest = SOURCES[trained.dataset], options.minimum_count
                problems = {where: fairlab_data.prepare(dataset, source, *where, fewest)}
            problem = problems[where]
            if trial.seed not in starts:  # it knows no requirement, so the settings of a seed share it
                starts = {trial.seed: fairlab_methods.vanilla(jax.random.key(trial.seed), problem, options)}
            key = jax.random.fold_in(jax.random.key(trial.seed), list(METHODS).index(trial.method) + 1)
            points = tuple(METHODS[trial.method](key, problem, options, starts[trial.seed]))
            write_run(path, about, Run(trained, points, checksum))
            # Points of one training share its time.
            seconds = sum({id(point.about): point.about["seconds"] for point in points}.values())
            tell(f"{path.stem}: {seconds:.1f} s of training")
        runs.append(read_run(path, about)._replace(trial=trial, minimum_count=options.minimum_count))
    return runs


def same_training(trial: Trial) -> Trial:
    """The trial whose run serves for this one: Vanilla knows no requirement, FFVAE only the attributes they are on."""
    if trial.method not in ("vanilla", "ffvae"):
        return trial
    source = SOURCES[trial.dataset]
    named = {name for names in fairlab_data.subsets(source, trial.setting) for name in names}
    whole = trial.method == "vanilla" or named == set(source.attributes)
    return trial._replace(metric="demographic_parity", setting="mixed" if whole else trial.setting)


def path_of(trial: Trial, options: Options, store: Path) -> Path:
    """The file of a run: what changes its training is part of the directory's name."""
    mine = used(options, trial.method)
    protocol = mine.get("protocol", Options().protocol)
    whole = used(Options(protocol=protocol), trial.method)
    changed = {name: value for name, value in mine.items() if value != whole[name]}
    parts = [f"{name}_{value}" for name, value in changed.items()]
    if len(parts) > 2 or any(isinstance(value, tuple) for value in changed.values()):
        parts = [hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]]
    folder = "-".join([protocol, *parts])
    short = fairlab_data.SHORT[trial.metric]
    return (
        store / folder / f"{trial.dataset}-{short}-{trial.setting.replace('*', '+')}-{trial.method}-{trial.seed}.json"
    )


def _about(trial: Trial, options: Options, checksum: str) -> dict[str, Any]:
    return json.loads(json.dumps({**trial._asdict(), "options": used(options, trial.method), "checksum": checksum}))


def used(options: Options, method: str) -> dict[str, Any]:
    """The options that a method has, so that a run is not one of another option of another method."""
    return {name: getattr(options, name) for name in fairlab_methods.USED[method]}


def write_run(path: Path, about: dict[str, Any], run: Run) -> None:
    """Write a finished run, with where it comes from; the file appears whole or not at all."""
    points = [
        {
            "name": point.name,
            "about": point.about,
            "counts": {part: [np.asarray(leaf).tolist() for leaf in point.counts[part]] for part in PARTS},
        }
        for point in run.points
    ]
    origin = results.provenance(settings=about, data={run.trial.dataset: run.checksum})
    stored = {"format": _FORMAT, "about": about, "points": points, "origin": origin}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(stored) + "\n")


def read_run(path: Path, about: dict[str, Any]) -> Run:
    """The run in a file.

    Raises:
        ValueError: for a file that is no run, or one of something else.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != _FORMAT:
            raise ValueError(f"its format is {stored['format']}, and this version reads {_FORMAT}")
        found = dict(stored["about"])
        points = tuple(
            Point(
                point["name"],
                {part: CellCounts(*(np.asarray(leaf) for leaf in point["counts"][part])) for part in PARTS},
                point["about"],
            )
            for point in stored["points"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no finished run: {error}; remove it to have it run again") from error
    differing = sorted(name for name in {*found, *about} if found.get(name) != about.get(name))
    if differing:
        raise ValueError(
            f"{path} differs in {', '.join(differing)}; remove it, or choose another directory with --store"
        )
    trial = Trial(*(about[name] for name in Trial._fields))
    return Run(trial, points, about["checksum"])
