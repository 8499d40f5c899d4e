"""Verdicts on tables of cells, their counts and their Markdown."""

import numpy as np
import pytest

from badrjax import results
from badrjax.results import Cell, Entry, Printed


def cell(printed, mean, p_value, half_width=0.01, num_seeds=50, num_diverged=0):
    low, high = mean - half_width, mean + half_width
    return Cell(printed, mean, mean - printed.mean, p_value, low, high, half_width, num_seeds, num_diverged)


def entry(name, paper, mean=None, p_value=1.0, *, tolerance=0.02, floor=None, misprint=False, note="", **options):
    printed = Printed(paper, 3, 5)
    ours = None if mean is None else cell(printed, mean, p_value, **options)
    return Entry({"method": name}, printed, tolerance, ours, floor, misprint, note)


def verdicts(*entries):
    frame = results.ledger_table(entries)
    return dict(zip(frame["method"], frame["verdict"], strict=True))


def test_each_verdict():
    found = verdicts(
        entry("same", 0.8, 0.801, 0.6),
        entry("wide", 0.8, 0.81, 0.6, half_width=0.03),
        entry("near", 0.8, 0.82, 1e-6),
        entry("far", 0.8, 0.83, 1e-6),
        entry("missing", 0.8, note="no images here"),
        entry("wrong", 0.8, 0.9, 1e-6, misprint=True, note="breaks the identity"),
        entry("small", 0.01, 0.05, 1e-6, floor=0.04),
        entry("gone", 0.8, 0.8, np.nan, num_diverged=45),
        entry("some", 0.8, 0.8, 0.9, num_diverged=6),
        entry("one", 0.8, 0.8, 0.9, num_diverged=5),
    )
    assert found == {
        "same": "REPRODUCED", "wide": "INCONCLUSIVE", "near": "CLOSE", "far": "NOT REPRODUCED", "missing": "NOT RUN",
        "wrong": "MISPRINT", "small": "BELOW FLOOR", "gone": "NOT REPRODUCED", "some": "INCONCLUSIVE",
        "one": "REPRODUCED",
    }  # fmt: skip


def test_p_values_are_adjusted_over_the_targets_alone():
    lone = [entry("a", 0.8, 0.9, 0.04)]
    crowd = [entry(f"fine {i}", 0.8, 0.8, 0.9) for i in range(9)]
    left_out = [entry(f"no {i}", 0.8, 0.8, 0.9, misprint=True, note="why") for i in range(9)]
    assert verdicts(*lone)["a"] == "NOT REPRODUCED"
    assert verdicts(*lone, *left_out)["a"] == "NOT REPRODUCED"
    assert verdicts(*lone, *crowd)["a"] == "REPRODUCED"


def test_counts_leave_out_what_is_no_target():
    frame = results.ledger_table(
        [
            entry("same", 0.8, 0.801, 0.6),
            entry("missing", 0.8, note="too dear"),
            entry("wrong", 0.8, misprint=True, note="w"),
            entry("small", 0.01, 0.05, floor=0.04),
        ]
    )
    counts = results.verdict_counts(frame)
    assert counts["targets"] == 2
    assert {name for name, number in counts.items() if number == 1} == {
        "REPRODUCED", "NOT RUN", "MISPRINT", "BELOW FLOOR"
    }  # fmt: skip
    assert results.counts_sentence(frame) == (
        "2 targets: 1 REPRODUCED, 1 NOT RUN; no targets: 1 MISPRINT, 1 BELOW FLOOR."
    )


def test_notes_say_what_a_reader_must_know():
    printed = Printed(0.8)
    frame = results.ledger_table(
        [
            Entry({"method": "a"}, printed, 0.02, cell(printed, 0.9, 1e-6, num_diverged=2)),
            entry("b", 0.8, 0.9, 1e-6, note="another split"),
        ]
    )
    assert frame["note"].tolist() == [
        "cause unknown; 2 of 50 seeds diverged; the paper's seeds assumed to be 5", "another split"
    ]  # fmt: skip


def test_markdown_sets_paper_beside_ours():
    frame = results.ledger_table([entry("a|b", 0.8, 0.8123, 0.6, half_width=0.0149), entry("c", 0.77, note="no data")])
    text = results.ledger_markdown(frame)
    assert text.splitlines()[2:4] == [
        "| a\\|b | 0.800 | 0.812 ± 0.015 | +0.012 | 0.600 |  | REPRODUCED |  |",
        "| c | 0.770 |  |  |  |  | NOT RUN | no data |",
    ]
    assert text.endswith("\n\n2 targets: 1 REPRODUCED, 1 NOT RUN.\n")
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines()[:4]}) == 1


def test_a_grid_has_one_label_across():
    printed = Printed(0.8)
    entries = [
        Entry({"method": method, "metric": metric}, printed, 0.02, cell(printed, mean, 0.6, half_width=0.0149))
        for method, metric, mean in (("a", "overall", 0.8123), ("a", "gap", 0.79), ("b", "overall", 0.8))
    ]
    frame = results.ledger_table(entries)
    text = results.ledger_grid_markdown(frame, "metric")
    assert text.splitlines() == [
        "| method | overall | gap |", "| --- | --- | --- |",
        r"| a | 0.800 \| 0.812 ± 0.015 \| REPRODUCED | 0.800 \| 0.790 ± 0.015 \| REPRODUCED |",
        r"| b | 0.800 \| 0.800 ± 0.015 \| REPRODUCED |  |", "", "3 targets: 3 REPRODUCED.",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="one of method, metric; got 'dataset'"):
        results.ledger_grid_markdown(frame, "dataset")


def test_tolerances():
    assert results.tolerance("performance") == 0.02
    assert results.tolerance("gap") == 0.03
    assert results.tolerance("gap", row_effect=1 / 9) == 1 / 9
    assert results.tolerance("performance", row_effect=0.001) == 0.02
    with pytest.raises(ValueError, match="kind"):
        results.tolerance("auc")
    with pytest.raises(ValueError, match="row_effect"):
        results.tolerance("gap", row_effect=2)


def simulated(generator, shifts):
    """A table of cells whose papers are as many standard deviations of a seed away as the shifts say."""
    entries = []
    for number, shift in enumerate(shifts):
        printed = Printed(round(0.8 + 0.02 * (generator.normal(size=5).mean() + shift), 3), 3, 5)
        ours = results.compare_cell(0.8 + 0.02 * generator.normal(size=50), printed, seed=0)
        entries.append(Entry({"cell": str(number)}, printed, 0.02, ours))
    return results.ledger_table(entries)


def test_a_table_of_identical_processes_is_reproduced():
    generator = np.random.default_rng(0)
    frames = [simulated(generator, np.zeros(168)) for _ in range(20)]
    false = [int(np.sum(frame["p_adjusted"] <= 0.05)) for frame in frames]
    assert np.mean(np.array(false) > 0) <= 0.2
    assert sum(false) <= 0.003 * 20 * 168


def test_a_single_cell_that_is_far_off_is_found_in_a_large_table():
    shifts = np.zeros(168)
    shifts[7] = 4.0
    frame = simulated(np.random.default_rng(1), shifts)
    assert frame["verdict"][7] == "NOT REPRODUCED"


def test_shifts_of_two_standard_deviations_are_found_and_few_others():
    shifts = np.repeat([0.0, 2.0], [120, 48])
    frame = simulated(np.random.default_rng(2), shifts)
    found = frame["p_adjusted"].to_numpy() <= 0.05
    assert found[shifts > 0].mean() > 0.9
    assert found[shifts == 0].mean() < 0.06


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "at least one"),
        ([entry("a", 0.8, 0.8), entry("a", 0.8, 0.8)], "two entries"),
        ([entry("a", 0.8, 0.8), entry("b", 0.8, 0.8)._replace(labels={"name": "b"})], "same label names"),
        ([entry("a", 0.8, 0.8)._replace(labels={"paper": "a"})], "column of the table"),
        ([entry("a", 0.8)], "says why"),
        ([entry("a", 0.8, 0.8, misprint=True)], "says why"),
        ([entry("a", 0.8, 0.8)._replace(printed=Printed(0.9))], "compared with"),
        ([entry("a", 0.8, 0.8, tolerance=-1.0)], "tolerance"),
    ],
)
def test_bad_tables(entries, message):
    with pytest.raises(ValueError, match=message):
        results.ledger_table(entries)


def test_bad_level():
    with pytest.raises(ValueError, match="level"):
        results.ledger_table([entry("a", 0.8, 0.8)], level=0)
