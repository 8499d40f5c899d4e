"""Table 2 of the FairLAB paper: three-way intersections, threshold 0.20."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.console import Console

from experiments.fairlab_run_table import default_out, run_table
from experiments.fairlab_runs import RunOptions


@dataclass(frozen=True)
class Settings(RunOptions):
    """Table 2 of FairLAB: three-way intersections, threshold 0.20."""

    out: Path = field(default_factory=lambda: default_out(2))
    """Directory for report.html, results.csv, provenance.json and tables.md."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run what is missing, print the tables and write the files; the tidy frame."""
    return run_table(2, "three_way", "FairLAB, Table 2: three-way intersections, threshold 0.20", settings, console)
