"""The experiment on the two-objective problem, shortened: what it stores, prints and writes."""

import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import nash_synthetic, synthetic_figures, synthetic_rules, synthetic_tables


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


def test_the_frame_is_tidy_and_stored(finished):
    folder, frame, _ = finished
    stored = pd.read_csv(folder / "out" / "results.csv")
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    assert frame.groupby("metric").size().eq(2 * 2 * 2 * 2).all()
    assert {"on_front", "aligned", "distance_to_fair_point", "end_difference"} <= set(frame.metric)
    origin = json.loads((folder / "out" / "provenance.json").read_text())
    assert origin["settings"]["bargaining_steps"] == 10


def test_going_on_from_a_store_gives_the_same_frame(finished, tmp_path, monkeypatch):
    folder, frame, _ = finished
    # What is stored is not run again.
    monkeypatch.setattr("badrjax.sweeps.worker.Worker.results", lambda *_: pytest.fail("a trial ran again"))
    again = nash_synthetic.main(settings(folder, out=tmp_path), Console(quiet=True))
    pd.testing.assert_frame_equal(again, frame)


@pytest.mark.slow
def test_a_store_of_half_the_rules_is_gone_on_with(finished, tmp_path):
    console = Console(quiet=True)
    nash_synthetic.main(settings(tmp_path, rules=("pcgrad",)), console)
    frame = nash_synthetic.main(settings(tmp_path), console)
    pd.testing.assert_frame_equal(frame, finished[1])


def test_moved_starts_stay_near(finished):
    frame = finished[1]
    ends = frame[(frame.metric == "end_x") & (frame.method == "nash_learning_to_reweight")]
    apart = ends.pivot_table(index=["rate", "start_x", "start_y"], columns="seed", values="value")
    difference = (apart[0] - apart[1]).abs()
    assert (difference > 0).all()
    assert (difference < 1e-6).all()


def test_what_is_printed(finished):
    _, _, shown = finished
    assert "NBS, then LtR" in shown
    assert "NBS, all rates and seeds: 80 of 80 tries find an update, 80 help both losses" in " ".join(shown.split())
    assert "of 2: PCGrad" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_figures_are_written(finished):
    for name in ("trajectories", "losses", "alignment"):
        assert (finished[0] / "out" / f"{name}.png").stat().st_size > 10_000


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
        ({"seeds": (1, 2)}, "exact start"),
        ({"steps": 0}, "steps"),
        ({"bargaining_steps": -1}, "bargaining_steps"),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        nash_synthetic.main(settings(tmp_path, **changes), Console(quiet=True))
    assert not list(tmp_path.iterdir())
