"""The command line of sweeps: `badrjax sweep config.toml`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial

from badrjax import reports
from badrjax.extras import require, user_cache
from badrjax.results import dataset_checksum, mean_interval, provenance, write_results
from badrjax.sweeps.config import MethodTrials, SweepConfig, read_config
from badrjax.sweeps.errors import StoreError
from badrjax.sweeps.identity import identify
from badrjax.sweeps.plans import Block, valid_blocks
from badrjax.sweeps.result import SweepResult
from badrjax.sweeps.store import Store
from badrjax.sweeps.sweep import sweep
from badrjax.sweeps.training_runs import METRICS, train
from badrjax.sweeps.trials import SEED, as_columns, digest, group_trials
from badrjax.sweeps.worker import Worker

if TYPE_CHECKING:
    from badrjax.datasets import Dataset

# Shorter compilations are not worth a file.
_LEAST_SECONDS_CACHED = 0.5
_INTERRUPTED = 130


class Outlook(NamedTuple):
    """What is left of the trials of a table of methods.

    Attributes:
        trials: all of them.
        stored: those with a result.
        programs: to be compiled.
        blocks: to be run.
        num_bytes: that the largest block needs on a device.
    """

    trials: int
    stored: int
    programs: int
    blocks: int
    num_bytes: int


def add_to(commands: Any) -> None:
    """Add the command `sweep` to those of a parser (`argparse.ArgumentParser.add_subparsers`)."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sweep",
        help="train many times as a TOML file says, into a store that any number of calls share",
        description="Train many times as a TOML file says: methods, settings and seeds. What is finished is kept: the "
        "same call goes on where another ended, and several at once share the work. `python -m pydoc "
        "badrjax.sweeps.config` describes the file.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="what to run")
    parser.add_argument("--store", type=Path, metavar="DIR", help="where results are kept; goes before the file's own")
    parser.add_argument("--dry-run", action="store_true", help="say what is left to run and what memory it needs")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print a line of JSON an event")
    shown.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run_command)


def run_command(options: argparse.Namespace) -> int:
    """Run the command; the exit status: 2 for a file or a store that will not do, 130 for an interrupt."""
    require("pandas", "a table of results")
    config = read_config(options.config, options.store)
    try:
        with compilation_cache():
            data, dataset = config.load()
            # Bound as arrays, so that they are arguments of the program.
            run = Partial(train, data=data)
            if options.dry_run:
                _show_outlook(config, run, options.json)
            else:
                _run(config, run, dataset, options)
    except KeyboardInterrupt:
        again = ["badrjax", "sweep", str(options.config)]
        again += [] if options.store is None else ["--store", str(options.store)]
        print(
            f"badrjax: interrupted; the finished blocks are kept in {config.store}, and `{shlex.join(again)}` goes on "
            "from there",
            file=sys.stderr,
        )
        return _INTERRUPTED
    except StoreError as error:
        print(f"badrjax: {error}", file=sys.stderr)
        return 2
    return 0


@contextmanager
def compilation_cache() -> Iterator[None]:
    """Keep compiled programs in the user's cache, unless JAX was told of another place."""
    from jax.experimental.compilation_cache import compilation_cache as cache

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    cache_directory = user_cache()
    if cache_directory is None or before[names[0]] is not None:
        yield
        return
    for name, value in zip(names, (str(cache_directory / "jax"), _LEAST_SECONDS_CACHED), strict=True):
        jax.config.update(name, value)
    cache.reset_cache()  # JAX looks at its settings once
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        cache.reset_cache()


def outlook(run: Partial, table: MethodTrials, config: SweepConfig) -> Outlook:
    """What is left to run of a table of methods; compiles, but runs and writes nothing."""
    groups = group_trials(as_columns(table.columns))
    worker = Worker(run, groups, jax.local_devices(), config.block, config.memory_budget)
    wanted = worker.wanted
    plans = []
    if store := _existing_store(config, run):
        finished = store.finished()
        plans = [(plan, index, Block(plan.name, index).name in finished) for plan, index in valid_blocks(store.plans())]
    stored = _ids_in([(plan, index) for plan, index, done in plans if done], wanted)
    # Blocks that a plan names already, and those of trials that no plan holds.
    waiting = [(plan, index) for plan, index, done in plans if not done and _ids_in([(plan, index)], wanted)]
    lanes = [(plan.group, plan.width // plan.devices * min(plan.devices, len(worker.devices))) for plan, _ in waiting]
    num_blocks = len(waiting)
    for group in groups:
        missing = len(set(group.ids) - stored - _ids_in(waiting, wanted))
        if missing:
            width = worker.width_of(group, missing)
            lanes.append((group.name, width))
            num_blocks += -(-missing // width)
    by_name = {group.name: group for group in groups}
    programs = sorted(set(lanes))
    largest = max((worker.program(by_name[name], width).num_bytes for name, width in programs), default=0)
    return Outlook(len(wanted), len(stored), len(programs), num_blocks, largest)


def _run(config: SweepConfig, run: Partial, dataset: Dataset, options: argparse.Namespace) -> None:
    """Run what is left, write the results down, and show the best settings."""
    pandas = require("pandas", "a table of results")
    say = _Speaker(options.json, options.quiet)
    stored = _ids_in(_finished(_existing_store(config, run)), None)
    results = []
    for table in config.methods:
        ids = {identity for group in group_trials(as_columns(table.columns)) for identity in group.ids}
        say.begin(table.method, len(ids), len(ids & stored), config.store)
        results.append(
            sweep(
                run,
                table.columns,
                store=config.store,
                block=config.block,
                memory_budget=config.memory_budget,
                progress="json" if options.json else not options.quiet,
            )
        )
    # Written before anything is made of them.
    frame = pandas.concat([result.frame() for result in results], ignore_index=True)
    settings = {"config": config.content, "trials": len(frame)}
    data = {dataset.name: dataset_checksum([np.asarray(leaf) for leaf in jax.tree.leaves(run.keywords)])}
    # A folder for each file, for several may share a store.
    folder = config.store / "results" / f"{options.config.stem}-{digest(config.content)[:8]}"
    origin = provenance(settings=settings, data=data)
    path = write_results(frame, origin, folder)
    best = [best_settings(result, table, config.metric) for result, table in zip(results, config.methods, strict=True)]
    best = [row | told for row, told in zip(told_apart(config.methods), best, strict=True)]
    page = reports.sweep_page(f"Sweep: {options.config.name}", best, frame, metric=config.metric, origin=origin)
    reports.write_page(page, folder / "report.html")
    say.end(best, config.metric, path, config.store)


def best_settings(result: SweepResult, table: MethodTrials, metric: str) -> dict[str, Any]:
    """The settings of a method that are best on the validation rows, with the test metrics of the same trials.

    Returns:
        `method`, the settings that were varied, `validation`, and each metric of the test: text "mean ± half-width";
        only `method` and `not_measured`, the number of trials, where no setting has finite results from all seeds.
    """
    frame = result.frame()
    try:
        winner = result.best(metric, split="validation", maximise=METRICS[metric]).iloc[0]
    except ValueError:  # every setting has a seed that diverged, or rows on which the metric has no value
        return {"method": table.method, "not_measured": len(frame)}
    mine = np.ones(len(frame), bool)
    for name in table.varied:
        mine &= (frame[name] == winner[name]).to_numpy()
    row: dict[str, Any] = {"method": table.method, **{name: _plain(winner[name]) for name in table.varied}}
    row["validation"] = _interval(frame.loc[mine, f"validation.{metric}"])
    return row | {f"test {name}": _interval(frame.loc[mine, f"test.{name}"]) for name in METRICS}


def told_apart(tables: Sequence[MethodTrials]) -> list[dict[str, Any]]:
    """For each table its method and the settings that it alone, or with some of the others of its method, fixes."""
    told: list[dict[str, Any]] = []
    for table in tables:
        others = [other for other in tables if other.method == table.method and other is not table]
        fixed = {
            name: _plain(values[0])
            for name, values in table.columns.items()
            if name != SEED and name not in table.varied
        }
        differing = {
            name: value
            for name, value in fixed.items()
            if any(name not in other.columns or np.any(other.columns[name] != value) for other in others)
        }
        told.append({"method": table.method, **differing})
    return told


class _Speaker:
    """What the command says as it goes: text, lines of JSON, or nothing."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self._json, self._quiet = as_json, quiet

    def begin(self, method: str, trials: int, stored: int, store: Path) -> None:
        if self._json:
            _print_event("method", method=method, trials=trials, stored=stored)
        elif not self._quiet:
            left = f"{stored} are stored" if stored < trials else f"nothing left to run, all are stored in {store}"
            print(f"{method}: {trials} trials; {left}", flush=True)

    def end(self, best: Sequence[Mapping[str, Any]], metric: str, path: Path, store: Path) -> None:
        if self._json:
            for row in best:
                _print_event("best", metric=metric, **row)
            _print_event("results", path=str(path), store=str(store))
        elif not self._quiet:
            print(f"\nbest settings by {metric} on the validation rows, and those trials on the test rows:")
            print_table(best)
            print(f"store: {store}\nresults: {path}, with provenance.json and report.html beside it")


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of results as the columns of a table, by rich where it is at hand."""
    settings = dict.fromkeys(name for row in rows for name in row)
    results = [name for name in settings if name == "validation" or name.startswith("test ")]
    names = [*(name for name in settings if name not in results), *results]
    lines = [[name, *(_text(row.get(name, "")) for row in rows)] for name in names]
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            print("  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)).rstrip())
        return
    # Text as it is: a bracket in a string would be markup.
    table = Table(box=box.SIMPLE_HEAD)
    for header in lines[0]:
        table.add_column(Text(header))
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    Console().print(table)


def _show_outlook(config: SweepConfig, run: Partial, as_json: bool) -> None:
    for table in config.methods:
        found = outlook(run, table, config)
        if as_json:
            _print_event("outlook", method=table.method, **found._asdict())
            continue
        print(
            f"{table.method}: {found.trials:,} trials, {found.stored:,} of them stored; left are {found.programs:,} "
            f"programs and {found.blocks:,} blocks, of at most {found.num_bytes / 1e6:,.1f} MB a device"
        )
    if not as_json:
        print(f"store: {config.store}")


def _existing_store(config: SweepConfig, run: Partial) -> Store | None:
    """The store if it is there; looking makes none."""
    return Store(config.store, identify(run)) if (config.store / "sweep.json").exists() else None


def _finished(store: Store | None) -> list[tuple[Any, int]]:
    if store is None:
        return []
    finished = store.finished()
    return [(plan, index) for plan, index in valid_blocks(store.plans()) if Block(plan.name, index).name in finished]


def _ids_in(blocks: Sequence[tuple[Any, int]], wanted: Collection[str] | None) -> set[str]:
    """Identities of the trials of some blocks that are wanted, all for `None`."""
    ids = {str(trial["id"]) for plan, index in blocks for trial in plan.trials_of(index)}
    return ids if wanted is None else ids.intersection(wanted)


def _interval(values: Any) -> str:
    found = mean_interval(values.to_numpy())
    half_width = "" if np.isnan(found.half_width) else f" ± {found.half_width:.4f}"
    diverged = f" ({found.num_diverged} not measured)" if found.num_diverged else ""
    return f"{found.mean:.4f}{half_width}{diverged}"


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _print_event(event: str, **content: Any) -> None:
    print(json.dumps({"event": event, **content}), flush=True)
