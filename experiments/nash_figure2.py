"""Figure 2 of Nash-Meta-Learning: one-stage methods against the baseline, and how often their updates help all groups.

Prints a table like Figure 2(a) with the change against the baseline beside the paper's, how much of training was
aligned, and the paper's claims with what was measured; writes `results.csv`, `provenance.json` and a figure. All runs
are rows of a sweep and are kept as they finish, so a second call runs what is missing.

What the paper calls AUC is the balanced accuracy of hard predictions, and so it is here under either protocol. It
prints a change of -96% for LtR's gap on Adult (race), where -60% follows from its own 0.225 and 0.090.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from badrjax import plotting
from experiments import nash, nash_curves, pages, running
from experiments.nash_curves import Curves, interval_text, mean_over, share_below, verdict

ONE_STAGE = tuple(nash.GOALS)
METRICS = {"overall": "overall", "gap": "gap between groups", "worst": "worst group"}
STYLES = {"Baseline": ":", "FORML": "--", "Meta-gDRO": "-."}
"""Line styles other than solid, for lines that lie on each other."""
FEW = 0.03
"""An epoch with a smaller share of aligned batches is one of conflict."""
START = 5
"""Epochs that count as the start of training."""


@dataclass(frozen=True)
class Settings(nash_curves.Options):
    """Instability and alignment of one-stage meta-learning, Figure 2 of the paper."""

    datasets: tuple[str, ...] = ("adult_race", "titanic_sex", "bank_age")
    """Which of the seven settings; the first two are those of Figure 2(a)."""
    methods: tuple[str, ...] = ("baseline", *ONE_STAGE)
    """Which methods; changes are against the baseline."""
    out: Path = field(default_factory=lambda: Path("outputs/nash_figure2"))
    """Directory for report.html, results.csv, provenance.json and the figure."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run the sweeps, print tables and claims, write the files, and return the tidy frame."""
    nash_curves.check(settings, settings.datasets, settings.methods)
    console = running.begin(settings, console)
    rule = settings.chosen_protocol().epoch
    every, shown = [], []
    for curves in nash_curves.run_each(console, settings, settings.methods):
        shown.append(changes(curves, rule))
        console.print(shown[-1])
        every.append(curves)
    said = [*([alignment(every)] if any(aligned(curves) for curves in every) else []), *claims(every)]
    for part in said:
        console.print(part)
    frames = [nash_curves.tidy(curves, "Figure 2") for curves in every]
    written = [*nash_curves.write(frames, every, settings, settings.out), settings.out / "figure2.png"]
    drawn = figure(every)
    drawn.savefig(written[-1], dpi=150)
    written.append(pages.write(settings, *shown, *said, figures={"One-stage methods over epochs": drawn}))
    console.print("wrote " + ", ".join(map(str, written)))
    return pd.concat(frames, ignore_index=True)


def changes(curves: Curves, rule: Any) -> Table:
    """A method a row, a section a metric: ours at the last epoch and at the protocol's, and the paper's.

    Args:
        curves: of one setting.
        rule: which epoch the protocol reports.
    """
    shown = Table(
        title=f"{curves.title}: balanced accuracy on the test rows, and change against the baseline",
        caption="mean ± 95% Student interval over seeds; "
        + ("best epoch: by the mean test value, the paper's rule" if rule == "test" else f"epoch: {rule}"),
    )
    shown.add_column("method", no_wrap=True)
    for header in ("last epoch", "best epoch" if rule != "last" else "reported epoch", "paper"):
        shown.add_column(header, justify="right", no_wrap=True)
    paper = nash.paper_cells(curves.name)
    methods = list(curves.values)
    for metric, title in METRICS.items():
        shown.add_row(title, style="bold")
        at = {which: read(curves.values, metric, which) for which in ("last", rule)}
        for method in methods:
            ours = [_with_change(interval_text(at[which][method]), _means(at[which]), method) for which in at]
            if rule == "last":
                ours.append(ours[0])
            printed = {name: paper[name, metric][0] for name in nash.METHODS}
            cell = _with_change(f"{printed[method]:.3f}", printed, method)
            shown.add_row(f"  {_title(method)}", *ours, cell, end_section=method == methods[-1])
    return shown


def read(values: Mapping[str, Mapping[str, np.ndarray]], metric: str, rule: Any) -> dict[str, np.ndarray]:
    """A test metric of every method at the epoch of a rule, `f[S]` each."""
    return {
        method: mine[f"test.{metric}"][:, nash_curves.reported_epoch(mine, rule)] for method, mine in values.items()
    }


def alignment(every: Sequence[Curves]) -> Table:
    """How much of training was aligned: a method a row, a section a setting."""
    shown = Table(
        title="share of batches whose update helps every cell",
        caption=f"clipped: after weights below 0 are cut; under {FEW:.0%}: share of the epochs with so few",
    )
    shown.add_column("method", no_wrap=True)
    for header in (f"first {START}", "all epochs", "clipped", f"under {FEW:.0%}"):
        shown.add_column(header, justify="right", no_wrap=True)
    for curves in every:
        shown.add_row(curves.title, style="bold")
        measured = aligned(curves)
        for method, values in measured.items():
            realised = curves.values[method]["steps.realised_aligned"]
            cells = (
                interval_text(mean_over(values, slice(START))),
                interval_text(mean_over(values, slice(None))),
                interval_text(mean_over(realised, slice(None))),
                interval_text(share_below(values, FEW), ".2f"),
            )
            shown.add_row(f"  {_title(method)}", *cells, end_section=method == list(measured)[-1])
    return shown


def aligned(curves: Curves) -> dict[str, np.ndarray]:
    """Share of aligned batches by method that has one, `f[S, E]` each."""
    return {name: mine["steps.aligned"] for name, mine in curves.values.items() if "steps.aligned" in mine}


def claims(every: Sequence[Curves]) -> Iterator[str]:
    """The paper's claims on these settings, each with what was measured at the last epoch or over epochs."""
    for curves in every:
        paper = nash.paper_cells(curves.name)
        last = {metric: read(curves.values, metric, "last") for metric in METRICS}
        for method in (name for name in ONE_STAGE if {name, "baseline"} <= set(curves.values)):
            moves = []
            for metric in METRICS:
                printed = paper[method, metric][0] - paper["baseline", metric][0]
                ours = last[metric][method] - last[metric]["baseline"]
                same = f"direction {verdict(ours * np.sign(printed))}" if printed else "no direction"
                moves.append(f"{metric} {interval_text(ours, '+.3f')} (paper {printed:+.3f}; {same})")
            named = f"{curves.title}, {_title(method)} against the baseline"
            yield f"{named}, last epoch, over seeds only: {', '.join(moves)}"
        yield from _conflict(curves)


def figure(every: Sequence[Curves]) -> Any:
    """Test accuracy and gap of each method over epochs, and the share of aligned batches; a column a setting."""
    rows = {
        "test.overall": "test balanced\naccuracy",
        "test.gap": "gap between\ngroups",
        "steps.aligned": "share of batches with\nevery cell aligned",
    }
    if not any(aligned(curves) for curves in every):
        del rows["steps.aligned"]
    columns = {
        curves.title: {
            row: {_title(method): mine[row] for method, mine in curves.values.items() if row in mine} for row in rows
        }
        for curves in every
    }
    return plotting.curves_figure(
        columns,
        rows=rows,
        rates=("steps.aligned",),
        styles=STYLES,
        title=f"One-stage methods, {len(every[0].seeds)} seeds (bands: range over seeds)",
    )


def _conflict(curves: Curves) -> Iterator[str]:
    measured = aligned(curves)
    for method in (name for name in ONE_STAGE if name in measured):
        share = share_below(measured[method], FEW)
        yield (
            f"{curves.title}, {_title(method)}: most epochs have under {FEW:.0%} of their batches aligned: "
            f"{verdict(share - 0.5)} ({interval_text(share, '.2f')} of the epochs; over seeds only)"
        )
    first = {method: mean_over(values, slice(START)) for method, values in measured.items()}
    for method in (name for name in ("forml", "meta_group_dro") if {name, "learning_to_reweight"} <= set(first)):
        more = first["learning_to_reweight"] - first[method]
        yield (
            f"{curves.title}, {_title(method)} starts with more conflict than LtR: {verdict(more)} "
            f"(aligned {interval_text(-more, '+.3f')} against LtR in the first {START} epochs; over seeds only)"
        )


def _title(method: str) -> str:
    return nash.METHODS[method].removesuffix(", one stage")


def _means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {method: float(of_seeds[np.isfinite(of_seeds)].mean()) if np.isfinite(of_seeds).any() else np.nan
            for method, of_seeds in values.items()}  # fmt: skip


def _with_change(text: str, means: Mapping[str, float], method: str) -> str:
    """A cell with the relative change against the baseline's mean, where there is one."""
    if method == "baseline" or not means.get("baseline"):
        return f"{text}     "
    change = round(means[method] / means["baseline"] - 1, 2) + 0.0  # no minus before a zero
    return f"{text} {change:+4.0%}"
