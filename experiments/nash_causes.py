"""Which difference between the paper's text and its code moves a cell of Tables 1 and 4: one option at a time.

Every option of a protocol is set to what it is otherwise, with the methods that it can change trained again, and the
printed number is compared with those runs too. An option under which a cell comes out that does not under the protocol
itself is a possible cause; an option that leaves it as it was is none. Runs go through the store of `nash_table1`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from badrjax import results
from badrjax.checks import unknown_name
from experiments import nash, nash_protocol, nash_table1, nash_verdicts, pages, running
from experiments.nash_protocol import Protocol

META = tuple(name for name in nash.METHODS if name.removeprefix("nash_") in nash.GOALS)
TWO_STAGES = tuple(name for name in META if name.startswith("nash_"))
AFFECTED = {
    "cells": TWO_STAGES,
    "f1_term": META,
    "lookahead": META,
    "lookahead_dropout": META,
    "validation_dropout": META,
    "bargain": TWO_STAGES,
    "fallback": ("nash_learning_to_reweight",),
    "one_epoch_fewer": TWO_STAGES,
    "hyper_parameters": tuple(nash.METHODS),
    "baseline": ("baseline",),
    "dro": ("dro",),
    "scaling": tuple(nash.METHODS),
    "auc": tuple(nash.METHODS),
    "epoch": tuple(nash.METHODS),
}
"""The methods that an option can change; the others are as under the protocol itself."""
AGREES = ("REPRODUCED", "INCONCLUSIVE")


@dataclass(frozen=True)
class Settings(nash_table1.RunOptions):
    """Tables 1 and 4 again with one option of the protocol changed at a time."""

    datasets: tuple[str, ...] = ("student_sex", "titanic_sex")
    """Which of the seven settings."""
    options: tuple[str, ...] = tuple(AFFECTED)
    """Which options are changed, each to all its other values."""
    out: Path = field(default_factory=lambda: Path("outputs/nash_causes"))
    """Directory of the tables."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame | None:
    """Run what is missing, judge, print and write; a frame with a row a cell and change."""
    console = console or Console()
    protocol = _check(settings)
    if settings.cache:
        running.use_compilation_cache()
    frames = []
    for name in settings.datasets:
        frames += list(_tables(name, protocol, settings, console))
    if settings.runs_only or not frames:
        return None
    frame = pd.concat(frames, ignore_index=True)
    origin = results.provenance(settings=asdict(settings) | {"options": asdict(protocol)}, data={})
    results.write_results(frame, origin, settings.out)
    shown = moved(frame)
    (settings.out / "causes.md").write_text(to_markdown(shown), encoding="utf-8")
    page = "## Cells that do not come out, and the changes under which they do\n\n"
    pages.write(settings, page + to_markdown(shown))
    with pd.option_context("display.max_rows", None, "display.width", 200, "display.max_colwidth", None):
        console.print(shown.to_string(index=False), markup=False, highlight=False, soft_wrap=True)
    return frame


def changes_of(protocol: str, options: Sequence[str]) -> Iterator[str]:
    """Every value of the options that is not the protocol's own, as `"cells=groups"`."""
    own = nash_protocol.PROTOCOLS[protocol]
    for option in options:
        for text, value in nash_protocol.allowed(option).items():
            if value != getattr(own, option):
                yield f"{option}={text}"


def moved(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells that do not come out under the protocol itself, and the changes under which they do."""
    labels = ["dataset", "method", "metric"]
    base = frame[frame.change == ""]
    rows = []
    for cell in base[base.verdict.isin(["NOT REPRODUCED", "CLOSE"])].itertuples():
        others = frame[(frame[labels] == [getattr(cell, label) for label in labels]).all(axis=1) & (frame.change != "")]
        tried = [change for change in others.change if cell.method in _titles(change)]
        others = others[others.change.isin(tried)]
        agreeing = [
            f"{row.change} ({row.ours:.3f}, {row.verdict})" for row in others.itertuples() if row.verdict in AGREES
        ]
        rows.append({
            **{label: getattr(cell, label) for label in labels},
            "paper": cell.paper,
            "ours": cell.ours,
            "comes out under": ", ".join(agreeing) or "none",
            "of changes": len(others),
            "range": f"{others.ours.min():.3f} to {others.ours.max():.3f}" if len(others) else "",
        })  # fmt: skip
    return pd.DataFrame(rows, columns=[*labels, "paper", "ours", "comes out under", "of changes", "range"])


def to_markdown(shown: pd.DataFrame) -> str:
    """The frame of `moved` as Markdown."""
    rows = [
        [*map(str, (row[0], row[1], row[2])), f"{row[3]:.3f}", f"{row[4]:.3f}", row[5], str(row[6]), row[7]]
        for row in shown.itertuples(index=False)
    ]
    return results.markdown_table(list(shown.columns), rows)


def _titles(change: str) -> set[str]:
    return {nash.METHODS[name] for name in AFFECTED[change.split("=")[0]]}


def _tables(name: str, protocol: Protocol, settings: Settings, console: Console) -> Iterator[pd.DataFrame]:
    """The ledger of a setting under the protocol itself, and under each change."""
    asked = _asked(settings, (name,))
    base = nash_table1.run(name, protocol, asked, console)
    if isinstance(base, str):
        return
    yield _ledger(base, protocol, "")
    for change in changes_of(settings.protocol, settings.options):
        methods = tuple(method for method in AFFECTED[change.split("=")[0]] if method in settings.methods)
        if not methods:
            continue
        option = nash_protocol.changed(settings.protocol, (change,))
        if change.startswith("hyper_parameters") and _numbers(name, option) == _numbers(name, protocol):
            continue
        found = nash_table1.run(name, option, replace(asked, changes=(change,), methods=methods), console)
        assert not isinstance(found, str), "the data were there a moment ago"
        same = base.frame[~base.frame.method.isin(methods)]
        runs = found._replace(frame=pd.concat([same, found.frame], ignore_index=True))
        yield _ledger(runs, option, change)


def _numbers(name: str, protocol: Protocol) -> nash_protocol.HyperParameters:
    return nash_protocol.hyper_parameters(name, protocol)


def _ledger(runs: nash_verdicts.Runs, protocol: Protocol, change: str) -> pd.DataFrame:
    frame = results.ledger_table(nash_verdicts.entries(runs, protocol))
    # Scores and labels have other names for what is the same cell of the table.
    names = {title: key for titles in nash_verdicts.TITLES.values() for key, title in titles.items()}
    frame["metric"] = frame.metric.map(names)
    frame.insert(0, "change", change)
    return frame


def _check(settings: Settings) -> Protocol:
    if not settings.options:
        raise ValueError("options must name at least one")
    for option in settings.options:
        if option not in AFFECTED:
            raise unknown_name("option of the protocol", option, AFFECTED)
    return nash_table1.check(_asked(settings, settings.datasets))


def _asked(settings: Settings, datasets: tuple[str, ...]) -> nash_table1.Settings:
    """What `nash_table1` is asked for."""
    shared: Any = {option.name: getattr(settings, option.name) for option in fields(nash_table1.RunOptions)}
    return nash_table1.Settings(datasets=datasets, **shared)
