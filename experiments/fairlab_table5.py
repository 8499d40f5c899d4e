"""Table 5 of the FairLAB paper: training times, without compilation.

Each method is trained twice in one process and the second time counts, so that nothing is compiled in it. FairLAB,
ExpGrad and COSMOS start from the unconstrained model or a new one as in the other tables; the time of the unconstrained
model is its own row and is in no other. The paper's times are of 16 cores of a Xeon Gold 5120.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import pandas as pd
from rich.console import Console

from badrjax import results
from badrjax.results.recording import write_atomically
from experiments import fairlab_data, fairlab_methods, fairlab_runs, fairlab_tables, pages, running
from experiments.fairlab_data import SOURCES
from experiments.fairlab_methods import METHODS, Options
from experiments.fairlab_runs import RunOptions

KINDS = {"INT2": "two_way", "INT3": "three_way", "MIXED": "mixed"}
COLUMNS = ["dataset", "setting", "pairs", "method", "seconds", "epochs", "paper"]


@dataclass(frozen=True)
class Settings(RunOptions):
    """Table 5 of FairLAB: seconds of training, for the first two-way intersection, the three-way and all seven."""

    seeds: int = 1
    """How many seeds, each timed."""
    metrics: tuple[fairlab_data.Metric, ...] = ("demographic_parity",)
    """Of the constraints."""
    out: Path = field(default_factory=lambda: Path("outputs/fairlab_table5"))
    """Directory for report.html, results.csv, provenance.json and tables.md, and of the finished times."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Time what is missing, print and write; a time a row."""
    fairlab_runs.check(settings)
    if len(settings.metrics) != 1:
        raise ValueError(f"metrics must be one, of which the constraints are, got {settings.metrics}")
    console = running.begin(settings, console)
    options = fairlab_runs.options_of(settings)
    budget = fairlab_runs.one_budget(settings, options.budgets[0])
    first = {name: getattr(options, name)[:1] for name in ("gaps", "ffvae", "shares")}
    options = options._replace(budgets=budget, **first)
    rows: list[dict[str, Any]] = []
    checksums: dict[str, str] = {}
    for name in settings.datasets:
        try:
            dataset = fairlab_data.load(SOURCES[name], settings.data_home)
        except fairlab_data.MISSING as error:
            console.print(f"{name}: NOT RUN, {error}", markup=False)
            continue
        checksums[name] = results.dataset_checksum([dataset.x, dataset.y, dataset.group])
        for kind in KINDS:
            rows += _times(name, kind, dataset, checksums[name], settings, options, console)
    if not rows:
        raise FileNotFoundError("the files of no dataset are there")
    frame = pd.DataFrame(rows)
    results.write_results(
        frame.assign(paper_name="fairlab", table=5), results.provenance(settings=asdict(settings), data=checksums),
        settings.out,
    )  # fmt: skip
    text = markdown(frame)
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    pages.write(settings, text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return frame


def _times(
    name: str, kind: str, dataset: Any, checksum: str, settings: Settings, options: Options, console: Console
) -> list[dict[str, Any]]:
    found = []
    setting = fairlab_data.settings_of(SOURCES[name], KINDS[kind])[0]  # type: ignore[arg-type]
    for metric in settings.metrics:
        for seed in fairlab_runs.seeds_of(settings):
            problem = fairlab_data.prepare(dataset, SOURCES[name], metric, setting, seed, options.minimum_count)
            key = jax.random.key(seed)
            start = None
            for method in settings.methods:
                if method == "expgrad" and kind == "MIXED":
                    continue
                path = settings.out / "times" / f"{name}-{metric}-{kind}-{method}-{seed}.json"
                used = fairlab_runs.used(options, method)
                about = json.loads(json.dumps({"options": used, "checksum": checksum}))
                if not path.is_file():
                    if start is None:
                        begin = partial(fairlab_methods.vanilla, key, problem, options)
                        begin()
                        start = begin()
                    if method != "vanilla":
                        list(METHODS[method](key, problem, options, start))
                    point = next(iter(METHODS[method](key, problem, options, start)))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, json.dumps({"of": about, "about": point.about}) + "\n")
                    console.print(f"{path.stem}: {point.about['seconds']:.1f} s", markup=False)
                stored = json.loads(path.read_text(encoding="utf-8"))
                if stored["of"] != about:
                    raise ValueError(f"{path} is of other options or data; remove it, or choose another --out")
                found.append({
                    "dataset": name, "setting": kind, "pairs": int(problem.constraints.left.shape[0]), "seed": seed,
                    "method": fairlab_tables.TITLES.get(method, f"FairLAB ({options.budgets[0]:g})"),
                    **stored["about"],
                })  # fmt: skip
    return found


def markdown(frame: pd.DataFrame) -> str:
    """Means over seeds beside the printed times."""
    printed = {(row["dataset"], row["setting"], row["method"]): row["printed"] for row in fairlab_tables.targets(5)}
    body = []
    for (name, setting, pairs, method), mine in frame.groupby(["dataset", "setting", "pairs", "method"], sort=False):
        theirs = fairlab_tables.PRINTED.get(method, method)
        paper = printed.get((SOURCES[name].paper, setting, theirs), "")
        epochs = f"{mine['epochs'].mean():.0f}" if "epochs" in mine and mine["epochs"].notna().all() else ""
        body.append([name, setting, str(pairs), method, f"{mine['seconds'].mean():.1f}", epochs, paper])
    return "# FairLAB, Table 5: seconds of training\n\n" + results.markdown_table(COLUMNS, body)
