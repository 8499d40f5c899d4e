"""The experiment on the two-objective problem, shortened: what it stores, prints and writes."""

import dataclasses
import io
import json

import jax
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import nash_synthetic, synthetic, synthetic_figures, synthetic_rules, synthetic_runs, synthetic_tables
from tests.experiments.tables import row

FRONT = synthetic.Front(np.array([[-7.0, -8], [0, -8], [7, -8]]), np.array([[0.0, -20], [-15, -15], [-20, 0]]))


def settings(folder, **changes):
    small = {
        "rules": ("nash_learning_to_reweight", "pcgrad"),
        "starts": (1, 5),
        "learning_rates": (0.05, 0.1),
        "steps": 30,
        "bargaining_steps": 10,
        "seeds": (0, 1),
        "out": folder / "out",
        "store": folder / "store",
        "cache": False,
    }
    return nash_synthetic.Settings(**small | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    console = Console(width=80, file=io.StringIO())
    frame = nash_synthetic.main(settings(folder), console)
    return folder, frame, console.file.getvalue()


@pytest.mark.slow
def test_the_frame_is_tidy_and_stored(finished):
    folder, frame, _ = finished
    stored = pd.read_csv(folder / "out" / "results.csv")
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    assert frame.groupby("metric").size().eq(2 * 2 * 2 * 2).all()
    assert {"on_front", "aligned", "distance_to_fair_point", "end_difference"} <= set(frame.metric)
    origin = json.loads((folder / "out" / "provenance.json").read_text())
    assert origin["settings"]["bargaining_steps"] == 10


@pytest.mark.slow
def test_going_on_from_a_store_gives_the_same_frame(finished, tmp_path, monkeypatch):
    folder, frame, _ = finished
    # What is stored is not run again.
    monkeypatch.setattr("badrjax.sweeps.worker.Worker.results", lambda *_: pytest.fail("a trial ran again"))
    again = nash_synthetic.main(settings(folder, out=tmp_path), Console(quiet=True))
    pd.testing.assert_frame_equal(again, frame)


@pytest.mark.slow
@pytest.mark.slow
def test_a_store_of_half_the_rules_is_gone_on_with(finished, tmp_path):
    console = Console(quiet=True)
    nash_synthetic.main(settings(tmp_path, rules=("pcgrad",)), console)
    frame = nash_synthetic.main(settings(tmp_path), console)
    pd.testing.assert_frame_equal(frame, finished[1])


@pytest.mark.slow
def test_moved_starts_stay_near(finished):
    frame = finished[1]
    ends = frame[(frame.metric == "end_x") & (frame.method == "nash_learning_to_reweight")]
    apart = ends.pivot_table(index=["rate", "start_x", "start_y"], columns="seed", values="value")
    difference = (apart[0] - apart[1]).abs()
    assert (difference > 0).all()
    assert (difference < 1e-6).all()


@pytest.mark.slow
def test_what_is_printed(finished):
    _, _, shown = finished
    assert "NBS, then LtR" in shown
    assert "NBS, all rates and seeds: 80 of 80 tries find an update, 80 help both losses" in " ".join(shown.split())
    assert "of 2: PCGrad" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.slow
def test_figures_are_written(finished):
    for name in ("trajectories", "losses", "alignment"):
        assert (finished[0] / "out" / f"{name}.png").stat().st_size > 10_000


def test_ends_are_measured_by_the_front():
    runs = pd.DataFrame({"end_x": [0.0, 5, 0], "end_y": [-8.0, -8, 3], "end_loss_1": [1.0, 2, 3], "end_loss_2": 2.5})
    found = nash_synthetic.measured(runs, FRONT)
    assert found.on_front.tolist() == [True, True, False]
    assert found.distance_to_front.tolist() == [0, 2, 11]
    assert found.distance_to_fair_point.tolist() == [0, 5, 11]
    assert found.end_difference.tolist() == [1.5, 0.5, 0.5]


def test_numbers_of_a_run_are_read_off_its_steps(monkeypatch):
    cosine = np.array([-1.0, np.nan, -0.75, 0.5])  # a gradient of 0 has none
    bargained, aligned = np.array([[0, 0, 0, 1], [1, 0, 0, 1]], bool)
    info = synthetic_runs.StepInfo(np.zeros((4, 2)), np.zeros((4, 2)), aligned, bargained, cosine)
    losses = np.array([[5.0, 5], [4, 4], [3, 6], [2, 5], [3, 6]])
    monkeypatch.setattr(synthetic_runs, "_followed", lambda *_: (np.array([1.0, 2]), info, losses))
    found = synthetic_runs.numbers(jax.random.key(0), 0.1, 0.0, 0.0, 0.0, rule="nash", num_steps=4, bargaining_steps=9)
    expected = {"lowered": 0.5, "failed_margin": 0.25, "tried": 1, "bargained": 0.25, "bargained_aligned": 0.25}
    expected |= {"aligned": 0.5, "end_x": 1, "end_y": 2, "end_loss_1": 3, "end_loss_2": 6}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)
    monkeypatch.setattr(
        synthetic_runs, "_followed", lambda *_: (np.zeros(2), info._replace(bargained=~aligned), losses)
    )
    none = synthetic_runs.numbers(jax.random.key(0), 0.1, 0.0, 0.0, 0.0, rule="pcgrad", num_steps=4, bargaining_steps=9)
    assert np.isnan(none["failed_margin"])


def invented():
    """Two starts each under a rule of two stages, exact and moved, and under two rules of the gradients, exact."""
    rules = ["nash_forml"] * 4 + ["pcgrad"] * 2 + ["harmonic"] * 2
    return pd.DataFrame(
        {
            "rule": rules,
            "rate": 0.1,
            "num_steps": 100,
            "seed": [0, 0, 1, 1, 0, 0, 0, 0],
            "start_x": [1.0, 3] * 4,
            "start_y": [2.0, 4] * 4,
            "on_front": [True, False, True, True, True, False, True, True],
            "aligned": [0.5, 0.7, 0.4, 0.4, 0.9, 0.9, 0.2, 0.2],
            "lowered": 0.25,
            "tried": [0.1] * 4 + [0] * 4,
            "bargained": [0.1, 0.05, 0.1, 0.1] + [0] * 4,
            "bargained_aligned": [0.1, 0.03, 0.1, 0.1] + [0] * 4,
            "failed_margin": [np.nan, 1e-9, *[np.nan] * 6],
            "distance_to_front": [0.1, 0.3, 0.1, 0.1, 0, 8, 0, 0],
            "distance_to_fair_point": [0.4, 3.0, 0.4, 0.4, 6, 9, 6, 6],
            "end_difference": [1.0, 2, 1, 1, 5, 9, 0, 1],
        }
    )


def test_tables_hold_what_was_measured():
    chosen = dataclasses.replace(nash_synthetic.Settings(), starts=(0, 1))
    reached = synthetic_tables.reached(invented(), chosen)
    assert row(reached, "NBS, then FORML") == ["1 (1-2)", "", "0.60 (0.40-0.60)", "", ""]
    assert row(reached, "PCGrad") == ["1", "", "0.90", "", ""]
    ends = synthetic_tables.ends(invented(), chosen)
    assert row(ends, "NBS, then FORML") == ["1.0-2.0", "", "0.20, 0.30", "1.70, 3.00"]
    assert row(synthetic_tables.by_rate(invented()), "GM, p = -1") == ["2"]
    whole = synthetic_tables.reached(invented(), nash_synthetic.Settings())
    assert row(whole, "NBS, then FORML") == ["1 (1-2)", "4", "0.60 (0.40-0.60)", "0.37", "no"]


def test_claims_are_decided_by_what_was_measured():
    two_stages, bargains, off_front = synthetic_tables.claims(invented(), nash_synthetic.Settings())
    assert "within 0.5 of the fair point: does not hold; 1 of 2 starts, farthest 3.00 (not from (3, 4))" in two_stages
    assert "35 of 40 tries find an update, 33 help both losses; where none is found, 1 + cos <= 1e-09" in bargains
    assert off_front.endswith("of 2: PCGrad 1, GM, p = -1 0 (the claim holds in part)")
    frame = invented().assign(distance_to_fair_point=0.4, on_front=False)
    two_stages, _, off_front = synthetic_tables.claims(frame, nash_synthetic.Settings())
    assert "fair point: holds; 2 of 2" in two_stages
    assert off_front.endswith("PCGrad 2, GM, p = -1 2 (the claim holds)")
    *_, off_front = synthetic_tables.claims(frame.assign(on_front=True), nash_synthetic.Settings())
    assert off_front.endswith("PCGrad 0, GM, p = -1 0 (the claim does not hold)")


def test_paths_are_marked_where_they_begin_stop_to_bargain_and_end():
    losses = np.array([[[0.0, 1], [2, 3], [4, 5], [-15, -15]]])
    run = {"losses": losses, "bargained": np.array([[True, True, False]])}
    axes = synthetic_figures.loss_planes({"NBS, then LtR": run}, FRONT, scale=1.0, title="").axes[0]
    marked = {line.get_marker(): line for line in axes.lines if line.get_marker() != "None"}
    at = {marker: line.get_xydata()[0].tolist() for marker, line in marked.items()}
    assert at == {"o": [0, 1], "D": [4, 5], "s": [-15, -15], "*": [-15, -15]}
    assert marked["*"].get_zorder() < marked["s"].get_zorder()  # an end at the fair point stays in sight
    assert [synthetic_figures.stage_end(np.array(steps)) for steps in ([1, 1], [0, 0], [0, 1, 0])] == [None, None, 2]


def test_the_shaded_stage_is_named():
    path = {"LtR": {"aligned": np.ones((1, 4), bool)}}
    families = {"goals alone": path, "bargaining, alone and before a goal": path}
    alone, shaded = synthetic_figures.alignment(families, bargaining_steps=2, title="").axes
    names = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (alone, shaded)]
    assert names == [["LtR"], ["LtR", "stage before a goal"]]


def test_runs_are_kept_beside_the_results_unless_a_store_is_named(tmp_path, monkeypatch):
    stores = []
    monkeypatch.setattr(nash_synthetic.bx, "sweep", lambda *_, store, **__: stores.append(store) or pytest.fail("ran"))
    for chosen in (settings(tmp_path, store=None), settings(tmp_path)):
        with pytest.raises(pytest.fail.Exception, match="ran"):
            nash_synthetic.sweep_paths(chosen)
    assert stores == [tmp_path / "out" / "store" / "paths", tmp_path / "store" / "paths"]


def test_recorded_numbers_are_shown_only_for_their_settings(tmp_path):
    mine = settings(tmp_path)
    assert not synthetic_tables._is_recorded(mine)
    assert synthetic_tables._is_recorded(nash_synthetic.Settings())
    assert not synthetic_tables._is_recorded(dataclasses.replace(nash_synthetic.Settings(), step_length="unit"))
    assert set(synthetic_tables.recorded()) == set(synthetic_rules.RULES) - {"mean"}


def test_numbers_agree_within_the_range_over_seeds():
    then = synthetic_tables.Recorded(4, 0.61, "0")
    counts, aligned = pd.Series([4, 4]), pd.Series([0.6, 0.77])
    assert synthetic_tables.agrees(counts, aligned, then)
    assert not synthetic_tables.agrees(counts + 1, aligned, then)
    assert not synthetic_tables.agrees(counts, aligned + 0.3, then)


def test_moving_average():
    np.testing.assert_allclose(synthetic_figures.moving_average(np.array([1.0, 0, 1, 1]), 2), [1, 0.5, 0.5, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": ("pcgrd",)}, "pcgrad"),
        ({"rules": ()}, "at least one"),
        ({"starts": (6,)}, "from 0 to 5"),
        ({"starts": (1, 1)}, "each once"),
        ({"learning_rate": 0.3}, "must be one of"),
        ({"learning_rates": (0.05, 0.1, 0.1 + 1e-12)}, "each once"),
        *(({"learning_rates": (0.1, bad)}, "positive and finite") for bad in (0.0, -0.1, np.inf, np.nan)),
        ({"learning_rate": np.nan}, "positive and finite"),
        ({"seeds": (1, 2)}, "exact start"),
        ({"steps": 0}, "steps"),
        ({"bargaining_steps": -1}, "bargaining_steps"),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        nash_synthetic.main(settings(tmp_path, **changes), Console(quiet=True))
    assert not list(tmp_path.iterdir())
