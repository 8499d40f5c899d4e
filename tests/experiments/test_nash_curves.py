"""The experiments on whole curves, shortened: what they store, print, draw and write."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import badrjax as bx
from badrjax import plotting
from experiments import nash, nash_curves, nash_figure2, nash_figure46, nash_runs, reading
from tests.experiments.tables import cells, row

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_going_on_from_a_store_runs_nothing_again(figure2, tmp_path, monkeypatch):
    folder, frame, _ = figure2
    monkeypatch.setattr("badrjax.sweeps.worker.Worker.results", lambda *_: pytest.fail("a trial ran again"))
    again = nash_figure2.main(settings2(folder, out=tmp_path), Console(quiet=True))
    pd.testing.assert_frame_equal(again, frame)


@pytest.mark.slow
def test_what_is_printed_fits_and_names_what_is_not_the_papers(figure2, figure46):
    for _, _, shown in (figure2, figure46):
        assert "…" not in shown
        assert all(len(line) <= 80 for line in shown.splitlines())
        assert "the split is drawn here" in shown
    assert "0.830  +7%" in figure2[2]  # the paper's LtR against its baseline
    assert "most epochs have under 3%" in " ".join(figure2[2].split())
    assert "bargaining raises alignment while it lasts" in " ".join(figure46[2].split())
    for shown, name in ((figure2[2], "figure2"), (figure46[2], "figure46_adult_sex")):
        assert all(written in "".join(shown.split()) for written in ("results.csv", "provenance.json", f"{name}.png"))


@pytest.mark.slow
def test_a_store_serves_both_figures(figure2, figure46):
    names = ["metric", "seed", "epoch"]
    one, other = (frame[frame.method == GOAL].set_index(names).value for _, frame, _ in (figure2, figure46))
    pd.testing.assert_series_equal(one.sort_index(), other.sort_index())


@pytest.mark.slow
def test_figures_are_written(figure2, figure46):
    assert (figure2[0] / "out" / "figure2.png").stat().st_size > 10_000
    assert (figure46[0] / "out" / "figure46_adult_sex.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_feasible_bargain_is_aligned(figure46):
    frame = figure46[1]
    mine = frame[(frame.method == f"nash_{GOAL}") & frame.metric.isin(["steps.aligned", "steps.feasible"])]
    rates = mine.pivot(index=["seed", "epoch"], columns="metric", values="value")
    assert (rates["steps.aligned"] >= rates["steps.feasible"] - 1e-6).all()


def curves(values, bargaining=2):
    chosen = nash_curves.nash_protocol.hyper_parameters("bank_age", nash_curves.nash_protocol.CODE)
    num_seeds, num_epochs = next(iter(next(iter(values.values())).values())).shape
    chosen = chosen._replace(num_epochs=num_epochs, bargaining_epochs=bargaining)
    return nash_curves.Curves("bank_age", values, tuple(range(num_seeds)), chosen, "official", 86, "")


def stage(aligned, feasible, repeats=3):
    """Rates of a few seeds, each so many times."""
    aligned, feasible = (np.tile(np.array(values, float), (repeats, 1)) for values in (aligned, feasible))
    rates = {"steps.aligned": aligned, "steps.realised_aligned": aligned / 2}
    return rates | {"steps.feasible": feasible, "test.overall": np.full(aligned.shape, 0.7)}


def test_rows_of_the_stages_are_where_their_headers_say():
    nan = np.nan
    one = stage([[0.1, 0.22, 0.3, 0.5]] * 2, [[nan] * 4] * 2)
    two = stage([[0.9, 0.78, 0.6, 0.72]] * 2, [[0.7, 0.8, nan, nan]] * 2)
    table = nash_figure46.stages(curves({"forml": one, "nash_forml": two}))
    assert [column.header for column in table.columns[1:]] == [
        "epochs 1-2,\none stage", "epochs 1-2,\ntwo stages", "later epochs,\none stage", "later epochs,\ntwo stages"
    ]  # fmt: skip
    exact = "{:.2f} ±0.00".format
    assert row(table, "FORML") == [exact(0.16), exact(0.84), exact(0.40), exact(0.66)]
    assert row(table, "FORML", 1) == [exact(0.08), exact(0.42), exact(0.20), exact(0.33)]
    assert row(table, "FORML", 2) == ["", exact(0.75), "", ""]
    lines = list(nash_figure46.claims(curves({"forml": two, "nash_forml": one})))
    assert "raises alignment while it lasts: does not hold (-0.680 ±0.000; over seeds only)" in lines[0]
    assert "raises alignment once clipped while it lasts: does not hold (-0.340" in lines[1]
    drawn = nash_figure46.figure(curves({"forml": one, "nash_forml": two})).axes[1]
    stages = {line.get_label(): (line.get_linestyle(), line.get_color()) for line in drawn.lines}
    assert stages == reading.STAGES  # as in the figure of the images


def test_rows_of_alignment_are_where_their_headers_say():
    measured = stage([[0.0, 0.1, 0.2, 0.3, 0.4, 1, 1]] * 2, [[0.0] * 7] * 2)
    measured["steps.realised_aligned"] = np.full((6, 7), 0.5)
    table = nash_figure2.alignment([curves({"baseline": {"test.overall": np.ones((6, 7))}, "forml": measured})])
    assert [column.header for column in table.columns[1:]] == ["first 5", "all epochs", "clipped", "under 3%"]
    assert row(table, "FORML") == ["0.200 ±0.000", "0.429 ±0.000", "0.500 ±0.000", "0.14 ±0.00"]
    assert len(cells(table)) == 2  # the baseline has no alignment


def test_conflict_is_decided_by_what_was_measured():
    values = {"learning_to_reweight": 0.5, "forml": 0.0, "meta_group_dro": 0.9}
    every = curves({name: stage([[share] * 4] * 2, [[0.0] * 4] * 2) for name, share in values.items()})
    lines = list(nash_figure2._conflict(every))
    assert "LtR: most epochs have under 3% of their batches aligned: does not hold (0.00" in lines[0]
    assert (
        "FORML: most epochs have under 3% of their batches aligned: holds (1.00 ±0.00 of the epochs; over" in lines[1]
    )
    assert "FORML starts with more conflict than LtR: holds (aligned -0.500" in lines[3]
    assert "Meta-gDRO starts with more conflict than LtR: does not hold (aligned +0.400" in lines[4]


@pytest.mark.parametrize(("towards", "verdict"), [(1, "holds"), (-1, "does not hold")])
def test_directions_are_those_of_the_paper(towards, verdict):
    paper = nash.paper_cells("bank_age")
    values = {"baseline": {}, "forml": {}}
    for metric in nash_figure2.METRICS:
        printed = paper["forml", metric][0] - paper["baseline", metric][0]
        values["baseline"][f"test.{metric}"] = np.full((5, 4), 0.5)
        values["forml"][f"test.{metric}"] = np.full((5, 4), 0.5 + 0.1 * towards * np.sign(printed))
    line = next(nash_figure2.claims([curves(values)]))
    assert "last epoch, over seeds only" in line
    assert line.count(f"direction {verdict}") == 3


def test_stores_are_named_by_what_makes_a_run_another():
    names = {
        nash_curves._name_of("adult_sex", split, nash_curves.Options(**options))
        for split, options in [
            ("official", {}), ("balanced", {}), ("balanced", {"split_seed": 1}), ("official", {"diagnostics": 2}),
            ("official", {"epochs": 3}), ("official", {"protocol": "paper"}),
            ("official", {"changes": ("cells=groups",)}),
        ]
    }  # fmt: skip
    assert len(names) == 7


def test_all_data_are_loaded_before_the_first_run_and_the_missing_are_named(tmp_path, monkeypatch):
    done = []

    def load(name, _):
        done.append(f"load {name}")
        if name == "adult_race":
            raise FileNotFoundError("no index file")
        return name

    def run(name, methods, options, loaded, store):
        done.append(f"run {loaded}, kept in {store.relative_to(tmp_path)}")
        return curves({"forml": stage([[0.5]], [[0.5]])})

    monkeypatch.setattr(nash_curves, "load", load)
    monkeypatch.setattr(nash_curves, "run", run)
    console = Console(width=200, file=io.StringIO())
    settings = settings2(tmp_path, datasets=("adult_sex", "adult_race", "bank_age"), store=None)
    assert len(list(nash_curves.run_each(console, settings, ("forml",)))) == 2
    assert done[:3] == ["load adult_sex", "load adult_race", "load bank_age"]
    assert done[3:] == ["run adult_sex, kept in out/store", "run bank_age, kept in out/store"]
    assert "Adult, race is left out: no index file" in console.file.getvalue()
    for module, chosen in ((nash_figure2, settings2), (nash_figure46, settings46)):
        with pytest.raises(FileNotFoundError, match="no setting is left"):
            module.main(chosen(tmp_path, datasets=("adult_race",)), Console(quiet=True))


def test_batches_are_counted_by_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(nash_runs, "to_rows", lambda *_: None)
    monkeypatch.setattr(nash_runs, "sweep", lambda *_, **__: None)
    monkeypatch.setattr(nash_curves, "arrays", lambda _: {})
    dataset = type("Dataset", (), dict.fromkeys(("x", "y", "group"), np.zeros(1)))
    splits = bx.Splits(np.arange(1100), np.arange(2), np.arange(2))
    options = nash_curves.Options(epochs=3)
    found = nash_curves.run("adult_sex", ("forml",), options, nash_curves.Loaded(dataset, splits, "official"), tmp_path)
    assert (found.num_batches, found.chosen.num_epochs, found.chosen.bargaining_epochs) == (2, 3, 3)


def test_a_figure_without_alignment_has_no_panel_for_it():
    values = {"baseline": {"test.overall": np.ones((2, 4)), "test.gap": np.ones((2, 4))}}
    drawn = nash_figure2.figure([curves(values)])
    assert len(drawn.axes) == 2
    assert "2 seeds" in drawn._suptitle.get_text()
    values |= dict.fromkeys(nash_figure2.ONE_STAGE, values["baseline"])
    styles = [line.get_linestyle() for line in nash_figure2.figure([curves(values)]).axes[0].lines]
    assert len(set(styles)) == len(styles) <= len(plotting.COLOURS)


def test_the_stuck_case_is_told():
    nan = np.nan
    one = stage([[0.0, 0, 0, 0], [0.1, 0, 0, 0]], np.full((2, 4), nan))
    never = stage([[0.0, 0, 0.2, 0.2]] * 2, [[0.0, 0.01, nan, nan]] * 2)
    always = stage([[1.0, 1, 0.5, 0.7]] * 2, [[1.0, 1, nan, nan]] * 2)
    stuck = curves({"forml": one, "nash_forml": never})
    free = curves({"forml": one, "nash_forml": always})
    assert nash_figure46.stuck(stuck, "forml").endswith(": stuck, over seeds only")
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
    diverged = {"test.overall": np.array([[0.6, 0.9, 0.7], [np.nan] * 3])}
    assert nash_curves.reported_epoch(diverged, "test") == 1


def test_verdicts_are_by_students_interval_over_seeds():
    several = np.array([0.1, 0.11, 0.12, 0.1, 0.11])
    assert nash_curves.verdict(several) == "holds"
    assert nash_curves.verdict(-several) == "does not hold"
    assert nash_curves.verdict(several - 0.11) == "undecided"
    # Four that agree are luck one time in eight.
    assert nash_curves.verdict(several[:4]) == "undecided"
    assert nash_curves.verdict(np.append(several[:4], np.nan)) == "undecided"


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
    for goals in ((), ("forml", "forml")):
        with pytest.raises(ValueError, match="goals must name"):
            nash_figure46.main(settings46(tmp_path, goals=goals), Console(quiet=True))
