"""BADR's experiment 1 and figure 2: the published rows, the grids, and what is said of them."""

import io
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console
from sklearn.model_selection import train_test_split

from badrjax import bilevel
from experiments import badr_experiment1, badr_figure2, badr_problems
from tests.experiments import badr_cases


def north_dakota():
    if not os.environ.get("BADRJAX_DATA"):
        pytest.skip("BADRJAX_DATA is not set: no person file of North Dakota")
    dataset = badr_problems.load_survey("employment", "ND", 2018, Path(os.environ["BADRJAX_DATA"]))
    return badr_problems.make_cell(dataset, 42, split="published")


@pytest.mark.parametrize(
    ("counts", "num_groups", "ids"),
    [
        ([10, 60, 12], 2, [1, 0, 1]),
        ([60, 30, 15, 16], 2, [0, 1, 1, 1]),
        ([60, 40, 15, 16], 3, [0, 1, 2, 2]),
        ([5, 50, 6, 40], 2, [1, 0, 1, 1]),
        ([5, 6], 2, [0, 1]),
    ],
)
def test_merged_groups_go_behind_the_others(counts, num_groups, ids):
    groups = np.repeat(np.arange(len(counts)), counts)
    np.testing.assert_array_equal(badr_problems.merged_behind(groups, num_groups), np.repeat(ids, counts))


def test_the_published_split_is_scikit_learns_and_drops_small_groups():
    dataset = badr_cases.dataset(400)
    splits = badr_problems.published_split(dataset, 3)
    ids = badr_problems.merged_behind(dataset.group, 2)
    train, test = train_test_split(np.arange(400), test_size=0.3, random_state=3, stratify=ids)
    np.testing.assert_array_equal(splits.train, train)
    np.testing.assert_array_equal(splits.test, test)
    cell = badr_problems.make_cell(dataset, 3, split="published")
    np.testing.assert_array_equal(cell.train.group, ids[train])
    np.testing.assert_array_equal(cell.train.y, dataset.y[train])
    np.testing.assert_allclose(cell.train.x.mean(0), 0, atol=1e-5)
    three = badr_problems.make_cell(dataset, 3, split="published", num_groups=3)
    assert set(three.train.group) == set(three.test.group) == {0, 1, 2}
    with pytest.raises(ValueError, match="keeps no rows together"):
        badr_problems.make_cell(dataset, 3, split="published", whole="person")
    with pytest.raises(ValueError, match="split"):
        badr_problems.make_cell(dataset, 3, split="official")


def test_the_recorded_cell_has_its_recorded_groups_and_numbers():
    cell = north_dakota()
    counts = np.bincount(cell.train.group)
    # The recorded balanced weights are (n_1, n_0) / n.
    np.testing.assert_allclose(counts[::-1] / counts.sum(), [0.4874633669814392, 0.5125366330185607], rtol=1e-12)
    with jax.enable_x64(True):
        (padded,) = badr_problems.padded([cell])
        found = badr_figure2.as_recorded(padded, np.array([0.5, 0.5]))
    assert found["train"] == pytest.approx(0.39604151766505324, rel=badr_figure2.EQUAL)
    assert found["test"] == pytest.approx(0.352615663352894, rel=badr_figure2.EQUAL)
    assert found["risk_0"] == pytest.approx(0.33817198354787376, rel=badr_figure2.EQUAL)
    assert found["risk_1"] == pytest.approx(0.36968636042077424, rel=badr_figure2.EQUAL)


def test_another_year_stands_in_and_is_named(monkeypatch):
    def load(task, state, year, data_home):
        if year != 2018 or state == "SD":
            raise FileNotFoundError(f"no file of {state} {year}")
        return badr_cases.dataset(400)

    monkeypatch.setattr(badr_problems, "load_survey", load)
    places = [("employment", "SD", 2014), ("employment", "ND", 2018), ("travel_time", "VT", 2015)]
    found, missing = badr_problems.load_places(places, 2018, 42, split="published")
    assert [place.title for place in found] == ["ND 2018, employment", "VT 2018, travel time (in place of 2015)"]
    assert list(missing) == ["employment SD 2014", "employment SD 2018", "travel_time VT 2015"]
    assert found[0].cell.train.x.shape == found[1].cell.test.x.shape  # padded to one shape


def test_the_excess_is_how_far_all_risks_can_fall_at_once():
    front = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    risks = np.array([[0.5, 0.5], [0.7, 0.6], [0.2, 1.3], [0.4, 0.5]])
    np.testing.assert_allclose(badr_figure2.excess(risks, front), [0.0, 0.1, 0.2, -0.1], atol=1e-12)


def test_local_minima_of_a_curve_and_of_a_simplex():
    curve = bilevel.simplex_grid(2, 6)
    values = np.array([0.0, 1.0, 0.5, 1.0, 2.0, 1.5, 1.6])
    assert badr_experiment1.local_minima(curve, values, 6) == 3
    grid = bilevel.simplex_grid(3, 8)
    bowl = np.sum((grid - [0.5, 0.25, 0.25]) ** 2, axis=1)
    assert badr_experiment1.local_minima(grid, bowl, 8) == 1
    assert badr_experiment1.local_minima(grid, -bowl, 8) == 3  # the corners
    bowl[np.argmin(bowl)] = np.nan
    assert badr_experiment1.local_minima(grid, bowl, 8) == 0  # its neighbours are all equal


def test_corners_of_the_triangle():
    x, y = badr_experiment1._corners(np.eye(3))
    np.testing.assert_allclose([x, y], [[0, 1, 0.5], [0, 0, 3**0.5 / 2]])
    x, y = badr_experiment1._corners(np.full(3, 1 / 3))
    np.testing.assert_allclose([x, y], [0.5, 3**0.5 / 6])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"studies": ("curve",)}, "studies"),
        ({"studies": ()}, "studies"),
        ({"curve_steps": 1}, "curve_steps"),
        ({"simplex_steps": 0}, "simplex_steps"),
        ({"reading": "A"}, "reading"),
        ({"split": "official"}, "split"),
        ({"stand_in": 2020}, "2014"),
    ],
)
def test_bad_settings_of_experiment_1(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        badr_experiment1.main(badr_experiment1.Settings(out=tmp_path / "out", **changes), Console(quiet=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_steps": 1}, "num_steps"), ({"split": "official"}, "split"), ({"stand_in": 2020}, "2014")],
)
def test_bad_settings_of_figure_2(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        badr_figure2.main(badr_figure2.Settings(out=tmp_path / "out", **changes), Console(quiet=True))


@pytest.mark.slow
def test_experiment_1_from_data_to_figures(tmp_path, monkeypatch):
    def cells(study, settings):
        rng = np.random.default_rng(0)
        made = [badr_cases.rows(rng, 150) for _ in range(2)]
        groups = [np.arange(150, dtype=np.int32) % study.num_groups for _ in made]
        rows = [one._replace(group=group) for one, group in zip(made, groups, strict=True)]
        return {"made up": badr_problems.padded([badr_problems.Cell(*rows, "0")])[0]}, {"somewhere": "no file"}

    monkeypatch.setattr(badr_experiment1, "load_cells", cells)
    written = io.StringIO()
    settings = badr_experiment1.Settings(curve_steps=20, simplex_steps=6, out=tmp_path, cache=False)
    frame = badr_experiment1.main(settings, Console(file=written, width=300))
    assert "Files not at hand: somewhere." in written.getvalue()
    assert {path.name for path in tmp_path.iterdir()} >= {"results.csv", "curves.png", "simplices.png", "tables.md"}
    values = frame[frame["metric"] == "objective"].pivot_table(
        index=["table", "objective"], columns="method", values="value"
    )
    least = frame[frame["metric"] == "least"].set_index(["table", "objective"])["value"]
    least = least.loc[values.index]  # which is sorted
    assert len(values) == 6
    # The search starts from the best point of the grid, and the vertices are points of it.
    assert (values["badr"] <= least + 1e-12).all()
    assert (values["one_group"] >= least - 1e-12).all()


@pytest.mark.slow
def test_figure_2_from_a_cell_to_tables():
    (cell,) = badr_problems.padded([badr_cases.cell(2, (300, 100))])
    with jax.enable_x64(True):
        front, records = badr_figure2.solve(cell, 20)
        panel = badr_figure2.Panel("ND 2018", "made up", True, cell, front, records)
        text = badr_figure2.report([panel], ["employment SD 2014"])
    assert "Files not at hand: employment SD 2014." in text
    assert "NOT REPRODUCED" in text  # other rows than the recorded ones
    by_method = {one["method"]: one for one in records}
    middle = np.flatnonzero(front.weights[:, 0] == 0.5)[0]
    uniform = by_method["uniform"]["train"]
    np.testing.assert_allclose(front.risks[middle], [uniform["risk_0"], uniform["risk_1"]], rtol=1e-9)
    assert front.evaluations.value[middle] == pytest.approx(uniform["objective"], rel=1e-9)
    path = badr_figure2.path_beside(panel)
    assert path["metric"].is_monotonic_decreasing
    assert path["excess"].iloc[-1] > 0
    assert len(badr_figure2.figure([panel]).axes) == 2
