"""Table 3 of the FairLAB paper: seven constraints on demographic parity at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.console import Console

from experiments.fairlab_run_table import default_out, run_table
from experiments.fairlab_runs import RunOptions


@dataclass(frozen=True)
class Settings(RunOptions):
    """Table 3 of FairLAB: seven constraints on demographic parity at once."""

    out: Path = field(default_factory=lambda: default_out(3))
    """Directory for report.html, results.csv, provenance.json and tables.md."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run what is missing, print the tables and write the files; the tidy frame."""
    return run_table(
        3,
        "mixed",
        "FairLAB, Table 3: seven constraints on demographic parity at once",
        settings,
        console,
        ("demographic_parity",),
    )
