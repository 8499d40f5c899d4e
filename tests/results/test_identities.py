"""What printed numbers must satisfy."""

import json
from pathlib import Path

import numpy as np
import pytest

from badrjax import metrics, results
from tests.results.cases import balanced_rows

TABLE = Path(__file__).parents[2] / "experiments" / "targets" / "nash_table4.json"
# Overall, gap and worst as Table 1 of the Nash-Meta-Learning paper prints them.
PRINTED = {
    ("adult_sex", "Meta-gDRO, one stage"): (0.810, 0.052, 0.809),
    ("bank_age", "DRO"): (0.686, 0.025, 0.691),
    ("adult_sex", "Baseline"): (0.778, 0.016, 0.770),
    ("adult_sex", "DRO"): (0.761, 0.029, 0.747),
    ("adult_sex", "LtR, one stage"): (0.830, 0.050, 0.805),
    ("adult_sex", "LtR, two stages"): (0.830, 0.047, 0.807),
    ("adult_sex", "FORML, one stage"): (0.801, 0.075, 0.763),
    ("adult_sex", "FORML, two stages"): (0.810, 0.031, 0.795),
    ("adult_sex", "Meta-gDRO, two stages"): (0.837, 0.046, 0.814),
}


def test_the_worst_of_two_balanced_groups_is_overall_less_half_the_gap():
    generator = np.random.default_rng(0)
    labels, groups = balanced_rows(generator, 11)
    predictions = generator.integers(0, 2, labels.size)
    by_group = np.asarray(metrics.group_balanced_accuracy(labels, predictions, groups, 2))
    overall = metrics.balanced_accuracy(labels, predictions)
    np.testing.assert_allclose(results.worst_from_gap(overall, np.ptp(by_group)), by_group.min(), rtol=1e-6)


def test_the_two_misprints_are_found_and_no_others():
    broken = results.breaks_worst_identity(*np.array(list(PRINTED.values())).T)
    assert [name for name, wrong in zip(PRINTED, broken, strict=True) if wrong] == list(PRINTED)[:2]
    implied = results.worst_from_gap(*np.array(list(PRINTED.values()))[:2, :2].T)
    np.testing.assert_allclose(implied, [0.784, 0.6735])


def test_rounding_alone_breaks_nothing():
    generator = np.random.default_rng(1)
    groups = generator.uniform(size=(20000, 2))
    printed = np.round([groups.mean(axis=1), np.ptp(groups, axis=1), groups.min(axis=1)], 3)
    assert not results.breaks_worst_identity(*printed).any()
    assert results.breaks_worst_identity(*printed, decimals=5).any()


def test_the_whole_table_has_two_misprints_where_there_are_two_groups():
    printed = json.loads(TABLE.read_text())["cells"]
    cells = {(dataset, method, metric): mean for dataset, method, metric, mean, _ in printed}
    methods = sorted({(dataset, method) for dataset, method, _ in cells if dataset != "adult_race"})
    triples = {name: [cells[*name, metric] for metric in ("overall", "gap", "worst")] for name in methods}
    broken = [name for name, triple in triples.items() if results.breaks_worst_identity(*triple)]
    assert len(triples) == 48
    assert broken == [("adult_sex", "meta_group_dro"), ("bank_age", "dro")]


def test_a_large_drop_may_be_two_rows():
    assert results.rows_behind(0.033, num_rows=18) == pytest.approx(3, abs=0.05)
    assert results.rows_behind(0.011, num_rows=18) == pytest.approx(1, abs=0.05)
