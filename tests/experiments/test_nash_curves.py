"""The experiments on whole curves, shortened: what they store, print, draw and write."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import badrjax as bx
from experiments import nash_curves, nash_figure2, nash_figure46, nash_runs

GOAL = "learning_to_reweight"
SMALL = {"seeds": (0, 1), "epochs": 2, "split": "balanced", "diagnostics": 8, "cache": False}


@pytest.fixture(autouse=True, scope="module")
def few_rows():
    """A tenth of Adult, which is drawn and scaled as the whole is."""
    whole = nash_runs.load

    def load(*arguments):
        dataset, splits = whole(*arguments)
        return dataset, splits._replace(train=splits.train[::10])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nash_runs, "load", load)
        yield


@pytest.fixture(scope="module")
def figure2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure2")
    return finished(nash_figure2, settings2(folder), folder)


@pytest.fixture(scope="module")
def figure46(tmp_path_factory, figure2):
    folder = tmp_path_factory.mktemp("figure46")
    # The runs in one stage are those of the other figure.
    return finished(nash_figure46, settings46(folder, store=figure2[0] / "store"), folder)


def finished(module, settings, folder):
    console = Console(width=80, file=io.StringIO())
    frame = module.main(settings, console)
    return folder, frame, console.file.getvalue()


def settings2(folder, **changes):
    names = {"datasets": ("adult_sex",), "methods": ("baseline", GOAL)}
    return nash_figure2.Settings(**SMALL | names | {"out": folder / "out", "store": folder / "store"} | changes)


def settings46(folder, **changes):
    names = {"datasets": ("adult_sex",), "goals": (GOAL,)}
    return nash_figure46.Settings(**SMALL | names | {"out": folder / "out", "store": folder / "store"} | changes)


def test_frames_are_tidy_and_written_with_where_they_come_from(figure2, figure46):
    for (folder, frame, _), methods in ((figure2, {"baseline", GOAL}), (figure46, {GOAL, f"nash_{GOAL}"})):
        stored = pd.read_csv(folder / "out" / "results.csv")
        pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
        assert set(frame.method) == methods
        assert not frame.duplicated(["dataset", "method", "metric", "seed", "epoch"]).any()
        assert frame.groupby(["method", "metric"]).size().eq(2 * 2).all()
        origin = json.loads((folder / "out" / "provenance.json").read_text())
        assert origin["settings"]["runs"]["adult_sex"]["hyper_parameters"]["num_epochs"] == 2
        assert len(origin["data_sha256"]["adult_sex"]) == 64


def test_going_on_from_a_store_runs_nothing_again(figure2, tmp_path, monkeypatch):
    folder, frame, _ = figure2
    monkeypatch.setattr("badrjax.sweeps.worker.Worker.results", lambda *_: pytest.fail("a trial ran again"))
    again = nash_figure2.main(settings2(folder, out=tmp_path), Console(quiet=True))
    pd.testing.assert_frame_equal(again, frame)


def test_what_is_printed_fits_and_names_what_is_not_the_papers(figure2, figure46):
    for _, _, shown in (figure2, figure46):
        assert "…" not in shown
        assert all(len(line) <= 80 for line in shown.splitlines())
        assert "the split is drawn here" in shown
    assert "0.830  +7%" in figure2[2]  # the paper's LtR against its baseline
    assert "most epochs have under 3%" in " ".join(figure2[2].split())
    assert "bargaining raises alignment while it lasts" in " ".join(figure46[2].split())


def test_a_store_serves_both_figures(figure2, figure46):
    names = ["metric", "seed", "epoch"]
    one, other = (frame[frame.method == GOAL].set_index(names).value for _, frame, _ in (figure2, figure46))
    pd.testing.assert_series_equal(one.sort_index(), other.sort_index())


def test_figures_are_written(figure2, figure46):
    assert (figure2[0] / "out" / "figure2.png").stat().st_size > 10_000
    assert (figure46[0] / "out" / "figure46_adult_sex.png").stat().st_size > 10_000


def test_a_feasible_bargain_is_aligned(figure46):
    frame = figure46[1]
    mine = frame[(frame.method == f"nash_{GOAL}") & frame.metric.isin(["steps.aligned", "steps.feasible"])]
    rates = mine.pivot(index=["seed", "epoch"], columns="metric", values="value")
    assert (rates["steps.aligned"] >= rates["steps.feasible"] - 1e-6).all()


def curves(values, bargaining=2):
    chosen = nash_curves.nash_protocol.hyper_parameters("bank_age", nash_curves.nash_protocol.CODE)
    chosen = chosen._replace(num_epochs=4, bargaining_epochs=bargaining)
    return nash_curves.Curves("bank_age", values, (0, 1), chosen, "official", 86, "")


def stage(aligned, feasible):
    rates = {"steps.aligned": np.array(aligned), "steps.realised_aligned": np.array(aligned) / 2}
    return rates | {"steps.feasible": np.array(feasible), "test.overall": np.full((2, 4), 0.7)}


def test_the_stuck_case_is_told():
    nan = np.nan
    one = stage([[0.0, 0, 0, 0], [0.1, 0, 0, 0]], np.full((2, 4), nan))
    never = stage([[0.0, 0, 0.2, 0.2]] * 2, [[0.0, 0.01, nan, nan]] * 2)
    always = stage([[1.0, 1, 0.5, 0.7]] * 2, [[1.0, 1, nan, nan]] * 2)
    stuck = curves({"forml": one, "nash_forml": never})
    free = curves({"forml": one, "nash_forml": always})
    assert nash_figure46.stuck(stuck, "forml").endswith(": stuck")
    assert "feasible in 1.000" in nash_figure46.stuck(free, "forml")
    lines = list(nash_figure46.claims(free))
    assert "holds (+0.975" in lines[0]
    assert "paper: 0.0% to 76.9%" in lines[2]
    assert "ours over all epochs: 0.013" in lines[2]
    assert nash_figure46.stuck(curves({"nash_forml": one}), "forml") == "no bargain was tried"
    # An epoch in which nothing was measured draws no warning, and no line.
    assert len(nash_figure46.figure(stuck).axes) == 4


def test_means_and_shares_leave_out_what_was_not_measured():
    values = np.array([[0.0, np.nan, 0.5, 0.02], [np.nan] * 4])
    np.testing.assert_allclose(nash_curves.mean_over(values, slice(3)), [0.25, np.nan])
    np.testing.assert_allclose(nash_curves.share_below(values, 0.03), [2 / 3, np.nan])


def test_the_reported_epoch_follows_its_rule():
    values = {"test.overall": np.array([[0.6, 0.9, 0.7], [0.6, 0.7, 0.8]]), "validation.overall": np.full((2, 3), 0.5)}
    values["validation.overall"][:, 0] = 0.6
    assert [nash_curves.reported_epoch(values, rule) for rule in ("last", "test", "validation")] == [-1, 1, 0]
    assert nash_curves.reported_epoch({"test.overall": np.full((2, 3), np.nan)}, "test") == -1


def test_verdicts_are_by_students_interval_over_seeds():
    assert nash_curves.verdict(np.array([0.1, 0.11, 0.12])) == "holds"
    assert nash_curves.verdict(np.array([-0.1, -0.11, -0.12])) == "does not hold"
    assert nash_curves.verdict(np.array([-0.1, 0.2, 0.0])) == "undecided"
    assert nash_curves.verdict(np.array([0.3])) == "undecided"
    assert nash_curves.verdict(np.array([0.3, np.nan])) == "undecided"


def test_changes_are_relative_to_the_baseline():
    ours = {"baseline": 0.5, "forml": 0.6}
    values = {
        method: {f"test.{metric}": np.full((2, 4), value) for metric in ("overall", "gap", "worst")}
        for method, value in ours.items()
    }
    console = Console(width=100, file=io.StringIO())
    console.print(nash_figure2.changes(curves(values), "last"))
    shown = console.file.getvalue()
    assert "0.600 ±0.000 +20%" in shown
    lines = list(nash_figure2.claims([curves(values)]))
    assert "gap +0.100 ±0.000" in lines[0]


def test_one_split_is_not_taken_for_another(monkeypatch):
    def missing(name, protocol, kind, *_):
        if kind == "official":
            raise FileNotFoundError("no index file")
        return "dataset", "splits"

    monkeypatch.setattr(nash_runs, "load", missing)
    options = nash_curves.Options()
    assert nash_curves.load("adult_sex", options) == ("dataset", "splits", "balanced")
    with pytest.raises(FileNotFoundError, match="index file"):
        nash_curves.load("adult_sex", nash_curves.Options(split="official"))


def test_sweeps_lose_what_a_method_does_not_report():
    none = [None, np.zeros(3)]
    table = pd.DataFrame({"method": ["a", "b"], "seed": [0, 0], "steps.aligned": none, "test.auc": [np.ones(3)] * 2})
    found = nash_curves.arrays(bx.SweepResult(table, ("method", "seed"), ("steps.aligned", "test.auc")))
    assert set(found["a"]) == {"test.auc"}
    assert found["b"]["steps.aligned"].shape == (1, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ("adult",)}, "adult_sex"),
        ({"datasets": ()}, "at least one"),
        ({"seeds": (1, 1)}, "distinct"),
        ({"epochs": 0}, "epochs"),
        ({"diagnostics": 0}, "diagnostics"),
        ({"block": 0}, "block"),
        ({"changes": ("cells=none",)}, "cells"),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, changes, message):
    for module, settings in ((nash_figure2, settings2), (nash_figure46, settings46)):
        with pytest.raises(ValueError, match=message):
            module.main(settings(tmp_path, **changes), Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_unknown_methods_and_goals_are_corrected(tmp_path):
    with pytest.raises(ValueError, match="forml"):
        nash_figure2.main(settings2(tmp_path, methods=("form",)), Console(quiet=True))
    with pytest.raises(ValueError, match="forml"):
        nash_figure46.main(settings46(tmp_path, goals=("nash_forml",)), Console(quiet=True))
