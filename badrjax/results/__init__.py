"""Results on the host: tidy frames, where a number came from, and verdicts on papers' tables and claims.

`compare_cell` sets one printed mean beside many seeds, `ledger_table` judges a table of them, `compare_methods` and
`claim_table` say whether one method is better than another, `compare_selections` what the choice of the epoch does,
`check_threshold` whether a gap is held, `gap_beside_floor` what parity would show, and `compare_fronts` whose
trade-offs are better. `write_record` keeps what verdicts start from for a table that several sittings run.
"""

from badrjax.results.cells import Cell, Printed, compare_cell
from badrjax.results.claim_tables import Agreement, across_datasets, claim_table
from badrjax.results.claims import Claim, compare_methods, compare_over_splits
from badrjax.results.contrasts import Contrast
from badrjax.results.floors import GapBesideFloor, balanced_accuracy_gap_floor, gap_beside_floor
from badrjax.results.frames import seed_values
from badrjax.results.fronts import FrontComparison, compare_fronts, score_picked
from badrjax.results.identities import breaks_worst_identity, rows_behind, worst_from_gap
from badrjax.results.multiplicity import SignTest, benjamini_hochberg, holm, holm_levels, sign_test
from badrjax.results.recording import Interval, dataset_checksum, mean_interval, provenance, write_results
from badrjax.results.records import Record, check_record, read_record, write_record
from badrjax.results.rendering import (
    claims_markdown,
    counts_sentence,
    ledger_grid_markdown,
    ledger_markdown,
    markdown_table,
)
from badrjax.results.selection import Bounds, Selections, compare_selections, seeds_or_rows
from badrjax.results.tables import Entry, ledger_table, verdict_counts
from badrjax.results.thresholds import ThresholdCheck, check_threshold, constant_predictions
from badrjax.results.verdicts import tolerance
from badrjax.results.wilson import WilsonInterval, wilson_interval

__all__ = [
    # what was measured
    "Interval", "dataset_checksum", "WilsonInterval", "mean_interval", "provenance", "seed_values", "wilson_interval",
    "write_results",
    "Record", "check_record", "read_record", "write_record",
    # a paper's table
    "Cell", "Entry", "Printed", "compare_cell", "counts_sentence", "ledger_grid_markdown", "ledger_markdown",
    "ledger_table", "markdown_table", "tolerance", "verdict_counts",
    "breaks_worst_identity", "rows_behind", "worst_from_gap",
    # claims
    "Agreement", "Claim", "Contrast", "SignTest", "across_datasets", "benjamini_hochberg", "claim_table",
    "claims_markdown", "compare_methods", "compare_over_splits", "holm", "holm_levels", "sign_test",
    # the choice of the epoch
    "Bounds", "Selections", "compare_selections", "seeds_or_rows",
    # gaps
    "GapBesideFloor", "ThresholdCheck", "balanced_accuracy_gap_floor", "check_threshold", "constant_predictions",
    "gap_beside_floor",
    # trade-offs
    "FrontComparison", "compare_fronts", "score_picked",
]  # fmt: skip
