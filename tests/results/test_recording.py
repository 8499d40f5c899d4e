"""Intervals, provenance and files."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from badrjax import results


def test_student_interval_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=7)
    interval = results.mean_interval(values, ci=0.9)
    low, high = stats.t.interval(0.9, 6, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([interval.mean - interval.half_width, interval.mean + interval.half_width], [low, high])


def test_paper_interval_is_normal_with_population_spread():
    values = np.array([0.1, 0.2, 0.4, 0.2, 0.3])
    interval = results.mean_interval(values, kind="paper")
    np.testing.assert_allclose(interval.half_width, 1.959964 * values.std() / np.sqrt(5), rtol=1e-6)


@pytest.mark.slow
def test_paper_interval_covers_less_than_it_says():
    draws = np.random.default_rng(1).normal(size=(4000, 5))
    intervals = [results.mean_interval(row, kind="paper") for row in draws]
    coverage = np.mean([abs(i.mean) <= i.half_width for i in intervals])
    assert 0.825 < coverage < 0.865  # 84.5%


def test_diverged_seeds_are_counted_and_left_out():
    interval = results.mean_interval([0.5, np.nan, 0.7, np.inf])
    assert (interval.num_finite, interval.num_diverged) == (2, 2)
    assert interval.mean == pytest.approx(0.6)
    alone = results.mean_interval([np.nan, 0.5])
    assert alone.mean == 0.5
    assert np.isnan(alone.half_width)
    assert np.isnan(results.mean_interval([np.nan]).mean)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [([1.0], {"ci": 1.0}, "ci"), ([1.0], {"kind": "exact"}, "kind"), ([[1.0]], {}, "one number a seed")],
)
def test_bad_interval_arguments(values, options, message):
    with pytest.raises(ValueError, match=message):
        results.mean_interval(values, **options)


def test_results_and_provenance_are_written_whole(tmp_path):
    frame = pd.DataFrame({"method": ["erm"], "value": [0.1 + 0.2]})
    origin = results.provenance(settings={"seeds": (0, 1)}, data={"adult": "abc"})
    path = results.write_results(frame, origin, tmp_path / "new" / "folder")
    pd.testing.assert_frame_equal(pd.read_csv(path), frame)
    stored = json.loads((path.parent / "provenance.json").read_text())
    assert stored["settings"] == {"seeds": [0, 1]}
    assert stored["data_sha256"] == {"adult": "abc"}
    assert stored["libraries"]["jax"][0].isdigit()
    assert sorted(p.name for p in path.parent.iterdir()) == ["provenance.json", "results.csv"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    frame = pd.DataFrame({"value": [1.0]})
    results.write_results(frame, {}, tmp_path)

    class Broken:
        def to_csv(self, index):
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        results.write_results(Broken(), {}, tmp_path)
    assert pd.read_csv(tmp_path / "results.csv").value.tolist() == [1.0]


def test_checksums_tell_data_apart():
    x = np.arange(6.0)
    assert results.dataset_checksum([x]) == results.dataset_checksum([x.copy()])
    others = [x.reshape(2, 3), x.astype(np.float32), x + 1e-9]
    assert len({results.dataset_checksum([a]) for a in [x, *others]}) == 4


def test_others_may_read_the_files_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        results.write_results(pd.DataFrame({"value": [1]}), {}, tmp_path / "a folder")
    finally:
        os.umask(before)
    names = sorted(path.name for path in (tmp_path / "a folder").iterdir())
    assert names == ["provenance.json", "results.csv"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a folder").iterdir()} == {0o644}
