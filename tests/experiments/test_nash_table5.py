"""Mutual information of validation rows: the estimators, and the experiment on small data."""

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

import badrjax as bx
from experiments import information, nash_curves, nash_table5
from tests.experiments.tables import cells

RNG = np.random.default_rng(0)


def test_counts_agree_with_scikit_learn():
    label, group = RNG.integers(0, 2, 30), RNG.integers(0, 3, 30)
    x = np.column_stack([RNG.normal(size=30), RNG.integers(0, 2, 30), np.ones(30)]).astype(np.float32)
    found = information.counted(x.T, {"label": label, "group": group}, information.LEVELS)
    for (name, target, normalised), values in found.items():
        score = normalized_mutual_info_score if normalised else mutual_info_score
        true = {"label": label, "group": group}[target]
        expected = [score(true, information.LEVELS[name](column)) for column in x.T]
        if normalised:
            expected[2] = 0.0  # a constant column, which counts as uninformative
        np.testing.assert_allclose(values, expected, atol=1e-12)


def test_information_of_a_copy_and_of_an_independent_column():
    label = np.array([0, 0, 1, 1])
    assert information.mutual_information(label, label) == pytest.approx((np.log(2), np.log(2)))
    assert information.mutual_information(np.array([0, 1, 0, 1]), label)[0] == 0


def test_bins_are_of_equal_width_and_scale_does_not_matter():
    column = np.array([0.0, 1, 4, 5, 9, 10])
    np.testing.assert_array_equal(information.equal_width(column, 2), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(information.equal_width(3 * column - 7, 2), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(information.equal_width(np.ones(3), 2), [0, 0, 0])


def test_neighbours_tell_a_separated_feature_from_noise():
    label = np.repeat([0, 1], 20)
    x = np.column_stack([10 * label + RNG.normal(size=40), RNG.normal(size=40), np.zeros(40)])
    separated, noise, constant = information.neighbours(x, label)
    assert separated > 0.5 > noise
    assert constant == 0
    np.testing.assert_array_equal(information.neighbours(x[:2], np.array([0, 1])), 0.0)


def test_chance_of_the_best_of_several_correlations():
    theirs = np.array([1.0, 2, 3, 4])
    assert information.chance_of_correlation(theirs[None], theirs) == pytest.approx(1 / 24)
    both = np.stack([theirs, -theirs])
    assert information.chance_of_correlation(both, theirs) == pytest.approx(2 / 24)
    assert np.isnan(information.chance_of_correlation(np.ones((1, 4)), theirs))
    assert information.rank_correlation(theirs, theirs**2) == pytest.approx(1)
    ranks = information._standard_ranks(np.array([3.0, 3, 1, 7])) @ information._standard_ranks(theirs)
    assert ranks == pytest.approx(stats.spearmanr([3, 3, 1, 7], theirs).statistic)


def test_typical_factor():
    assert information.typical_factor(np.array([2.0, 0.5]), np.ones(2)) == pytest.approx(2)
    assert information.typical_factor(np.array([0.0, 1.0]), np.ones(2)) == np.inf


NAMES = ("adult_sex", "adult_race", "bank_age")
PLAIN, HALF = (information.Estimator("validation", "values", "label", True, s) for s in ("mean", "median"))
NOTHING, FAR = (information.Estimator("all", "2 bins", "group", False, s) for s in ("mean", "median"))


def invented():
    """An estimator that is nearly right, one at half of it and in another order, one that is 0, one far off."""
    printed = nash_table5.printed()
    factors = {PLAIN: (1.005, 1.02, 1), HALF: (0.5, 0.5, 0.01), NOTHING: (0, 0, 0), FAR: (100, 100, 100)}
    return {name: {e: printed[name] * f[i] for e, f in factors.items()} for i, name in enumerate(NAMES)}


def test_the_closest_estimator_comes_first():
    scores = nash_table5.scored(invented())
    assert [score.estimator for score in scores] == [PLAIN, HALF, FAR, NOTHING]
    assert [score.agreeing for score in scores] == [2, 0, 0, 0]
    assert scores[0].factor == pytest.approx(np.exp(np.sqrt((np.log(1.005) ** 2 + np.log(1.02) ** 2) / 3)))
    assert [score.correlation for score in scores[:3]] == pytest.approx([1, -0.5, 1])


def test_the_table_shows_them_beside_the_papers():
    table = nash_table5.table(invented(), nash_table5.scored(invented()))
    paper, plain, half, _, nothing = cells(table)
    assert paper == ["paper", "", "", "", "", "0.31", "0.433", "6.8", "", ""]
    assert plain == ["val.", "values", "label", "NMI", "mean", "0.312", "0.442", "6.8", "1.01x", "1.00"]
    assert half[4:8] == ["median", "0.155", "0.217", "0.068"]
    assert nothing == ["all", "2 bins", "group", "MI", "mean", "0", "0", "0", "-", "-"]


def test_estimates_are_of_the_rows_and_targets_that_they_name(monkeypatch):
    monkeypatch.setattr(information, "neighbours", lambda x, _: np.zeros(x.shape[1]))
    group, label = np.array([0, 0, 1, 1] * 3), np.array([0, 1, 0, 1] * 3)
    cell = np.where(np.arange(12) < 4, 2 * group + label, 0)  # constant in each later cell, so it says less there
    found = information.estimates(np.stack([cell, 7 * cell], 1), label, group, np.arange(4))

    def value(rows, target, summary="mean"):
        return found[information.Estimator(rows, "values", target, False, summary)]

    assert value("validation", "group x label") == pytest.approx(np.log(4))
    assert value("validation", "label") == pytest.approx(np.log(2)) == value("validation", "group")
    assert value("all", "group x label") < 1
    assert value("validation", "label", "mean / F") == pytest.approx(np.log(2) / 2)


def test_validation_rows_are_measured_as_the_papers_code_scales_them(tmp_path, monkeypatch):
    asked, measured = [], []
    dataset = SimpleNamespace(x=np.ones((6, 2)), y=np.zeros(6, int), group=np.zeros(6, int))
    splits = bx.Splits(np.array([0, 1]), np.array([2, 3]), np.array([4, 5]))

    def load(_, options):
        asked.append(options.chosen_protocol().scaling)
        return nash_curves.Loaded(dataset, splits, "official")

    monkeypatch.setattr(nash_curves, "load", load)
    monkeypatch.setattr(information, "estimates", lambda *of: measured.append(of[-1]) or {PLAIN: 1.0})
    nash_table5.main(nash_table5.Settings(datasets=("bank_age",), out=tmp_path), Console(quiet=True))
    assert asked == ["all"]
    np.testing.assert_array_equal(measured, [[2, 3]])


def test_the_experiment_on_bundled_data(tmp_path):
    console = Console(width=150, file=io.StringIO())
    settings = nash_table5.Settings(datasets=("adult_sex",), split="balanced", out=tmp_path, closest=3)
    frame = nash_table5.main(settings, console)
    shown = " ".join(console.file.getvalue().split())
    assert "0.31" in shown  # the paper's
    assert "its rows are not the paper's" in shown
    assert "that of 1 / F" not in shown  # one setting has no order
    stored = pd.read_csv(tmp_path / "results.csv")
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    assert not frame.duplicated(["rows", "levels", "target", "normalised", "summary"]).any()
    assert np.isfinite(frame.value).all()
    assert len(json.loads((tmp_path / "provenance.json").read_text())["data_sha256"]["adult_sex"]) == 64


def test_settings_without_files_are_left_out_and_named(tmp_path, monkeypatch):
    def missing(*_):
        raise FileNotFoundError("no such file")

    monkeypatch.setattr(nash_curves, "load", missing)
    console = Console(width=150, file=io.StringIO())
    with pytest.raises(FileNotFoundError, match="no setting is left"):
        nash_table5.main(nash_table5.Settings(datasets=("bank_age",), out=tmp_path), console)
    assert "Bank, age is left out: no such file" in console.file.getvalue()


def test_small_settings_agree_in_their_features(tmp_path):
    if not os.environ.get("BADRJAX_DATA"):
        pytest.skip("BADRJAX_DATA is not set: no raw files of Titanic and Student")
    home = Path(os.environ["BADRJAX_DATA"])
    for name in ("titanic_sex", "student_sex"):
        dataset, _, split = nash_curves.load(name, nash_curves.Options(data_home=home))
        assert dataset.x.shape[1] == nash_table5.features()[name]
        assert split == "official"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"datasets": ("adult",)}, "adult_sex"), ({"datasets": ()}, "at least one"), ({"closest": 0}, "closest")],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        nash_table5.main(nash_table5.Settings(**{"out": tmp_path / "out"} | changes), Console(quiet=True))
    assert not list(tmp_path.iterdir())
