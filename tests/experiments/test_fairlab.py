"""The experiments of the FairLAB paper: measures from counts, choices, the store, and a whole small table."""

import itertools
import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from sklearn.metrics import f1_score

import badrjax as bx
from badrjax.constraints import CellCounts, cell_counts
from experiments import (
    fairlab_data,
    fairlab_figure2,
    fairlab_fronts,
    fairlab_measures,
    fairlab_methods,
    fairlab_run_table,
    fairlab_runs,
    fairlab_table2,
    fairlab_table5,
    fairlab_tables,
)
from experiments.fairlab_data import SOURCES
from experiments.fairlab_methods import PARTS
from experiments.fairlab_runs import RunOptions

N = 400


def made_up(seed=0):
    generator = np.random.default_rng(seed)
    attributes = {"sex": generator.integers(0, 2, N), "race": generator.integers(0, 3, N)}
    labels, predictions = generator.integers(0, 2, N), generator.integers(0, 2, N)
    constraints, cells = bx.fairness_constraints(
        [("demographic_parity", ("sex", "race"), 0.2), ("equalized_odds", "sex", 0.1)], attributes, labels
    )
    counts = cell_counts(jnp.asarray(predictions, jnp.float32), labels, cells.ids, cells.num_groups)
    return constraints, counts, labels, predictions, cells, attributes


def test_measures_are_those_of_the_rows():
    constraints, counts, labels, predictions, cells, attributes = made_up()
    found = fairlab_measures.measure(constraints, counts, 0)
    for average, value in found.f1.items():
        np.testing.assert_allclose(value, bx.metrics.f1(labels, predictions, average=average), rtol=1e-6)
    expected = [
        bx.metrics.demographic_parity_difference(labels, predictions, cells.ids, cells.num_groups),
        bx.metrics.equalized_odds_difference(labels, predictions, attributes["sex"], 2),
    ]
    np.testing.assert_allclose(found.gaps, expected, atol=1e-6)
    np.testing.assert_allclose(found.positive, predictions.mean(), rtol=1e-6)
    floor = bx.noise_floor(jax.random.key(5), labels, predictions, cells.ids, cells.num_groups)
    np.testing.assert_allclose(found.floors[0], floor.demographic_parity.mean, rtol=0.05)


def test_upper_bounds_are_the_bootstraps_over_rows():
    constraints, counts, _labels, predictions, cells, _ = made_up(1)
    found = fairlab_measures.measure(constraints, counts, 0).bounds[0]
    generator = np.random.default_rng(0)
    gaps = []
    for _ in range(1000):
        rows = generator.integers(0, N, N)
        rates = [predictions[rows][cells.ids[rows] == group].mean() for group in range(cells.num_groups)]
        gaps.append(max(rates) - min(rates))
    np.testing.assert_allclose(found, np.quantile(gaps, 0.95), atol=0.02)


def test_the_constant_predictor_has_no_gap_and_the_commoner_label():
    constraints, counts, labels, *_ = made_up(2)
    constant = fairlab_measures.measure(constraints, fairlab_measures.constant(counts), 0)
    assert not constant.gaps.any()
    expected = bx.metrics.f1(labels, np.full(N, int(labels.mean() >= 0.5)), average="weighted")
    np.testing.assert_allclose(constant.f1["weighted"], expected, rtol=1e-6)


def test_the_point_with_the_best_score_on_validation_rows_is_chosen():
    constraints, counts, *_ = made_up(3)
    good = CellCounts(counts.total, counts.total * jnp.array([[0.0], [1.0]]))  # every label right
    points = [
        fairlab_methods.Point(name, {"validation": one, "test": other}, {})
        for name, one, other in (("a", counts, good), ("b", good, counts), ("c", good, counts))
    ]
    expected = 0.5 - 0.5 * np.sum(
        np.maximum(fairlab_measures.gaps_of(constraints, good) - np.asarray(constraints.thresholds), 0) ** 2
    )
    np.testing.assert_allclose(fairlab_measures.score(constraints, good), expected, rtol=1e-6)
    assert fairlab_measures.choose(constraints, points).name == "b"


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("num_requirements", [1, 7])
def test_preferences_give_the_task_its_share_on_average(share, num_requirements):
    concentration = fairlab_methods.concentration_of(share, num_requirements)
    drawn = np.random.default_rng(0).dirichlet(concentration, 20_000)
    np.testing.assert_allclose(drawn[:, 0].mean(), share, atol=0.01)
    np.testing.assert_allclose(concentration[1:], 0.5)
    if share == 0.5 and num_requirements == 1:
        np.testing.assert_allclose(concentration, 0.5)  # the published one


def test_the_settings_are_the_papers():
    compas = SOURCES["compas"]
    assert fairlab_data.settings_of(compas, "two_way") == ["Gender*Race", "Gender*Age", "Race*Age"]
    assert fairlab_data.settings_of(compas, "three_way") == ["Gender*Race*Age"]
    assert [len(names) for names in fairlab_data.subsets(compas, "mixed")] == [3, 2, 2, 2, 1, 1, 1]
    assert [r.threshold for r in fairlab_data.requirements(compas, "equalized_odds", "mixed")] == [0.2] * 4 + [0.1] * 3
    with pytest.raises(ValueError, match="none of Compas"):
        fairlab_data.subsets(compas, "Job*Race")


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_every_printed_cell_has_its_entry(table):
    rows = fairlab_tables.targets(table)
    found = fairlab_tables.entries([], table, ("compas", "acs", "meps"), tuple(fairlab_data.SHORT))
    cells_a_row = 2 if table < 3 else 8
    assert len(found) == cells_a_row * len(rows)
    assert {entry.note for entry in found} == {"no such runs"}
    # The 17 states stand in for the same printed cells as the 14.
    assert len(fairlab_tables.entries([], table, ("acs17", "compas", "meps"), tuple(fairlab_data.SHORT))) == len(found)
    only = fairlab_tables.entries([], table, ("compas",), ("demographic_parity",))
    assert {entry.labels["dataset"] for entry in only} <= {"Compas"}


def test_runs_are_read_back_and_others_are_refused(tmp_path):
    _, counts, *_ = made_up()
    parts = {part: CellCounts(*(np.asarray(leaf) for leaf in counts)) for part in fairlab_methods.PARTS}
    trial = fairlab_runs.Trial("compas", "demographic_parity", "mixed", "vanilla", 3)
    run = fairlab_runs.Run(trial, (fairlab_methods.Point("x", parts, {"seconds": 1.0}),), "abc")
    path = tmp_path / "run.json"
    about = {**trial._asdict(), "options": {}, "checksum": "abc"}
    fairlab_runs.write_run(path, about, run)
    again = fairlab_runs.read_run(path, about)
    assert again.trial == trial
    jax.tree.map(np.testing.assert_array_equal, again.points[0].counts, parts)
    with pytest.raises(ValueError, match="differs in seed"):
        fairlab_runs.read_run(path, about | {"seed": 4})
    path.write_text(json.dumps({"format": 1}))
    with pytest.raises(ValueError, match="is no finished run"):
        fairlab_runs.read_run(path, about)


def test_methods_without_requirements_are_trained_once_for_all_of_them():
    trial = fairlab_runs.Trial("compas", "equalized_odds", "Gender*Race", "vanilla", 1)
    once = ("compas", "demographic_parity", "mixed")
    assert fairlab_runs.same_training(trial)[:3] == once
    ffvae = trial._replace(method="ffvae")
    assert fairlab_runs.same_training(ffvae)[:3] == ("compas", "demographic_parity", "Gender*Race")
    assert fairlab_runs.same_training(ffvae._replace(setting="Gender*Race*Age"))[:3] == once
    for method in ("expgrad", "cosmos", "cosmos_tuned", "fairlab"):
        assert fairlab_runs.same_training(trial._replace(method=method)) == trial._replace(method=method)


def test_a_run_is_filed_by_the_options_that_its_method_has():
    whole = fairlab_methods.Options()
    trial = fairlab_runs.Trial("compas", "equalized_odds", "mixed", "vanilla", 1)

    def changed(**given):
        both = whole, whole._replace(**given)
        return {
            method
            for method in fairlab_methods.METHODS
            if len({fairlab_runs.path_of(trial._replace(method=method), one, Path()) for one in both}) == 2
        }

    assert changed(protocol="code", budgets=(0.2,), rays=9) == {"cosmos", "cosmos_tuned", "fairlab"}
    assert changed(minimum_count=80) == {"cosmos", "cosmos_tuned", "expgrad", "fairlab"}
    assert changed(shares=(0.5,)) == {"cosmos_tuned"}


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("method", fairlab_methods.METHODS)
def test_the_options_of_a_method_are_those_that_it_reads(method):
    read = set()

    class Watched(fairlab_methods.Options):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    options = Watched(*fairlab_runs.options_of(RunOptions(quick=True)))
    dataset = fairlab_data.load(SOURCES["compas"], None)
    problem = fairlab_data.prepare(dataset, SOURCES["compas"], "demographic_parity", "Gender*Race", 0)
    start = fairlab_methods.vanilla(jax.random.key(0), problem, options)
    if method.startswith("cosmos"):
        read.clear()  # these have networks of their own, and no use for the start
    list(fairlab_methods.METHODS[method](jax.random.key(1), problem, options, start))
    # The constraints are set up before, with that of their groups.
    assert read == set(fairlab_methods.USED[method]) - {"minimum_count"}


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("method", ["vanilla", "ffvae"])
def test_such_a_method_does_the_same_under_other_requirements(method):
    dataset = fairlab_data.load(SOURCES["compas"], None)
    options = fairlab_runs.options_of(RunOptions(quick=True))
    found = []
    for metric, setting in (("demographic_parity", "mixed"), ("equalized_odds", "Gender*Race*Age")):
        problem = fairlab_data.prepare(dataset, SOURCES["compas"], metric, setting, 0)
        start = fairlab_methods.vanilla(jax.random.key(0), problem, options)
        found.append([p.counts for p in fairlab_methods.METHODS[method](jax.random.key(1), problem, options, start)])
    assert found[0]
    chex.assert_trees_all_equal(*found)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_ffvae_on_features_of_any_size_says_that_it_diverged():
    options = fairlab_runs.options_of(RunOptions(quick=True))
    problem = fairlab_data.prepare(
        fairlab_data.load(SOURCES["compas"], None), SOURCES["compas"], "demographic_parity", "mixed", 0
    )
    raw = problem._replace(data=problem.data._replace(x=1e4 * problem.data.x))
    with pytest.raises(FloatingPointError, match="are the features standardised"):
        list(fairlab_methods.of_ffvae(jax.random.key(1), raw, options, None))


def test_wrong_settings_are_named(tmp_path):
    for options, message in (
        ({"datasets": ("adult",)}, "adult"),
        ({"methods": ("adversary",)}, "adversary"),
        ({"seeds": 0}, "seeds"),
        ({"minimum_count": 0}, "minimum_count"),
        ({"budgets": (0.1, -0.1)}, "budgets"),
        ({"budgets": (0.1, float("nan"))}, "budgets"),
        ({"budgets": (float("inf"),)}, "budgets"),
        ({"budgets": (0.1, 0.1000001)}, "budgets"),
    ):
        with pytest.raises(ValueError, match=message):
            fairlab_table2.main(fairlab_table2.Settings(out=tmp_path, cache=False, **options))
    for experiment in (fairlab_figure2, fairlab_table5):
        settings = {"metrics": ("demographic_parity",), "budgets": (0.1, 0.2), "out": tmp_path, "cache": False}
        with pytest.raises(ValueError, match="budgets must be one"):
            experiment.main(experiment.Settings(**settings))
    with pytest.raises(ValueError, match="deltas"):
        fairlab_figure2.main(fairlab_figure2.Settings(out=tmp_path, cache=False, deltas=(0.1, 0.1)))


def test_a_dataset_that_is_not_there_is_not_run(tmp_path, monkeypatch):
    monkeypatch.delenv("BADRJAX_DATA", raising=False)
    settings = {"datasets": ("meps",), "data_home": tmp_path, "cache": False, "out": tmp_path / "out"}
    with pytest.raises(FileNotFoundError, match="meps"):
        fairlab_table2.main(fairlab_table2.Settings(store=tmp_path / "runs", **settings), Console(quiet=True))


@pytest.fixture
def small(monkeypatch):
    """A made-up dataset with three attributes, in the place of the paper's."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({name: generator.normal(size=900) for name in "uvw"})
    for name, size in (("sex", 2), ("race", 3), ("age", 2)):
        frame[name] = generator.choice([f"{name}{value}" for value in range(size)], 900)
    frame["label"] = (frame.u + (frame.race == "race1") + 0.5 * generator.normal(size=900) > 0.5).astype(int)
    dataset = bx.dataset_from_frame(frame, label="label", sensitive=["sex", "race", "age"])
    source = fairlab_data.Source("small", {}, {"Gender": "sex", "Race": "race", "Age": "age"}, "Compas", True)
    monkeypatch.setitem(SOURCES, "compas", source)
    monkeypatch.setattr(fairlab_data, "load", lambda source, data_home: dataset)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("metric", "fewest"), [("demographic_parity", 60), ("equalized_odds", 20)])
def test_groups_below_the_minimum_count_are_in_no_constraint_and_no_gap(metric, fewest):
    source = SOURCES["compas"]
    dataset = fairlab_data.load(source, None)
    problem = fairlab_data.prepare(dataset, source, metric, "Gender*Race*Age", 0, fewest)
    train = problem.splits.train
    rows = pd.DataFrame({name: dataset.attributes[name].ids[train] for name in ("age", "race", "sex")})
    counts = rows.groupby(["age", "race", "sex"]).size()
    if metric == "equalized_odds":
        counts = rows.assign(y=dataset.y[train]).groupby(["age", "race", "sex", "y"]).size().unstack().min(axis=1)
    large = int((counts >= fewest).sum())
    assert 2 <= large < len(counts)
    assert len(problem.constraints.group_names) == large
    assert len(problem.constraints.left_out) == len(counts) - large
    run = fairlab_runs.Run(fairlab_runs.Trial("compas", metric, "Gender*Race*Age", "fairlab", 0), (), "abc", fewest)
    again = fairlab_tables.constraints_of(run, dataset)
    assert again.group_names == problem.constraints.group_names
    chex.assert_trees_all_equal(again, problem.constraints)


@pytest.mark.usefixtures("small")
def test_a_run_without_small_groups_is_trained_and_read_without_them(tmp_path, monkeypatch):
    fewest, seen = 60, []

    def method(key, problem, options, start):
        seen.append(problem)
        zero = {part: CellCounts(np.ones((2, problem.num_cells)), np.zeros((2, problem.num_cells))) for part in PARTS}
        yield fairlab_methods.Point("x", zero, {"seconds": 0.0})

    monkeypatch.setitem(fairlab_methods.METHODS, "cosmos", method)
    monkeypatch.setattr(fairlab_methods, "vanilla", lambda *_: None)
    given = {"datasets": ("compas",), "metrics": ("demographic_parity",), "methods": ("cosmos",), "seeds": 1}
    settings = RunOptions(**given, minimum_count=fewest, store=tmp_path)
    runs, _ = fairlab_runs.run_all(["three_way"], settings, lambda _: None)
    whole, _ = fairlab_runs.run_all(["three_way"], RunOptions(**given, store=tmp_path), lambda _: None)
    dataset = fairlab_data.load(SOURCES["compas"], None)
    left_out = [problem.constraints.left_out for problem in seen]
    assert [len(names) > 0 for names in left_out] == [True, False]
    assert fairlab_tables.constraints_of(runs[0], dataset).left_out == left_out[0]
    assert fairlab_tables.constraints_of(whole[0], dataset).left_out == ()
    assert not any(problem.every.left_out for problem in seen)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_tuned_cosmos_weighs_the_task_by_its_share():
    options = fairlab_runs.options_of(RunOptions(quick=True))._replace(shares=(0.1, 0.9), cosmos_epochs=20)
    dataset = fairlab_data.load(SOURCES["compas"], None)
    problem = fairlab_data.prepare(dataset, SOURCES["compas"], "demographic_parity", "mixed", 0)
    points = list(fairlab_methods.of_cosmos_tuned(jax.random.key(1), problem, options, None))
    assert len(points) == 2 * options.rays
    f1 = [float(bx.constraints.f1_of_counts(point.counts["train"])) for point in points]
    assert np.mean(f1[: options.rays]) < np.mean(f1[options.rays :]) - 0.05


def test_without_small_groups_no_printed_cell_is_judged():
    assert "Not judged" in fairlab_run_table._verdicts([], 2, RunOptions(minimum_count=80))
    assert "NOT RUN" in fairlab_run_table._verdicts([], 2, RunOptions())


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_small_table_runs_resumes_and_is_written(tmp_path):
    options = {"datasets": ("compas",), "metrics": ("demographic_parity",), "seeds": 2, "quick": True, "cache": False}
    settings = fairlab_table2.Settings(store=tmp_path / "runs", out=tmp_path / "out", **options)
    frame = fairlab_table2.main(settings, Console(quiet=True))
    expgrad = {"ExpGrad", "ExpGrad, one draw"}
    assert set(frame.method) == {"Vanilla", "constant", "FFVAE", "COSMOS", "COSMOS, tuned", "FairLAB (0.1)"} | expgrad
    files = {path: path.stat().st_mtime_ns for path in Path(tmp_path / "runs").rglob("*.json")}
    again = fairlab_table2.main(settings, Console(quiet=True))
    assert files == {path: path.stat().st_mtime_ns for path in Path(tmp_path / "runs").rglob("*.json")}
    np.testing.assert_array_equal(frame.value, again.value)
    text = (tmp_path / "out" / "tables.md").read_text()
    for heading in ("Test rows", "Fronts on test rows", "Validation rows", "Training rows", "Groups"):
        assert f"## {heading}" in text
    assert "A quick run" in text
    times = fairlab_table5.main(
        fairlab_table5.Settings(out=tmp_path / "times", **(options | {"seeds": 1, "methods": ("vanilla", "fairlab")})),
        Console(quiet=True),
    )
    assert (times.seconds > 0).all()
    figure = fairlab_figure2.Settings(
        store=tmp_path / "runs", out=tmp_path / "figure", deltas=(0.02, 0.1), **(options | {"seeds": 1})
    )
    fairlab_figure2.main(figure, Console(quiet=True))
    assert (tmp_path / "figure" / "figure2.png").stat().st_size > 10_000


@pytest.mark.parametrize("loss", [1.0, 0.45])
def test_fewer_points_are_those_with_the_largest_area_on_validation_rows(loss):
    points = [[0.1, 0.95], [0.3, 0.8], [0.42, 0.7], [0.6, 0.3], [0.7, 0.1], [0.9, 0.05], [1.0, 0.0]]
    validation, test = np.array(points), np.random.default_rng(0).uniform(size=(7, 2))
    kept, scored = fairlab_fronts._fewer(fairlab_fronts._Costs(validation, test), 2, (loss, 1.0))
    assert kept.shape == scored.shape == (3, 2)
    np.testing.assert_array_equal(kept[-1], validation[-1])  # the constant stays
    best = max(itertools.combinations(range(6), 2), key=lambda pair: area(validation[[*pair, 6]], loss))
    assert (max(validation[list(best), 0]) < 0.45) == (loss < 1.0)  # other points are the best ones there
    np.testing.assert_array_equal(kept, validation[[*best, 6]])
    np.testing.assert_array_equal(scored, test[[*best, 6]])


def area(points, largest_loss=1.0):
    """Of the unit square, what some point dominates, up to a first cost, counted on a fine grid."""
    grid = np.stack(np.meshgrid(*[(np.arange(400) + 0.5) / 400] * 2), -1).reshape(-1, 1, 2)
    return ((grid >= points).all(-1).any(-1) & (grid[:, 0, 0] < largest_loss)).mean()


@pytest.fixture
def two_methods(small):
    """FairLAB and COSMOS on three splits of made-up data, as labels with more and less noise; and costs by rows."""
    source = SOURCES["compas"]
    dataset = fairlab_data.load(source, None)
    runs, costs = [], {}
    for seed in range(3):
        problem = fairlab_data.prepare(dataset, source, "demographic_parity", "Gender*Race", seed)
        for method, rates in (("fairlab", (0.1, 0.2, 0.3)), ("cosmos", (0.15, 0.25, 0.35, 0.45))):
            rng = np.random.default_rng([seed, len(rates)])
            counts = {rate: {} for rate in rates}
            for part in fairlab_methods.PARTS:
                rows = problem.part(part)
                for rate in rates:
                    wrong = rng.uniform(size=rows.y.shape[0]) < rate
                    decided = np.where(wrong, 1 - rows.y, rows.y).astype(np.float32)
                    counts[rate][part] = jax.device_get(cell_counts(decided, rows.y, rows.group, problem.num_cells))
                    costs.setdefault((seed, method, part), []).append(costs_of(dataset, problem, part, decided))
                most = np.full(rows.y.shape[0], float(rows.y.mean() >= 0.5))
                costs[seed, method, part].append(costs_of(dataset, problem, part, most))
            points = tuple(fairlab_methods.Point(f"{method} {rate}", counts[rate], {"seconds": 0.0}) for rate in rates)
            trial = fairlab_runs.Trial("compas", "demographic_parity", "Gender*Race", method, seed)
            runs.append(fairlab_runs.Run(trial, points, "abc"))
    return runs, {"compas": dataset}, costs


def costs_of(dataset, problem, part, decided):
    """1 - F1 and the gap, from the rows."""
    rows = np.asarray(getattr(problem.splits, part))
    groups = 10 * dataset.attributes["sex"].ids[rows] + dataset.attributes["race"].ids[rows]
    rates = [decided[groups == group].mean() for group in np.unique(groups)]
    return 1 - f1_score(dataset.y[rows], decided, average="weighted"), max(rates) - min(rates)


def test_differences_of_fronts_are_those_of_the_rows(two_methods):
    runs, datasets, costs = two_methods
    frame = fairlab_fronts.differences(runs, datasets)
    assert set(frame.point) == {"all points", "3 points each", "fairlab 0.1", "fairlab 0.2", "fairlab 0.3"}

    def value(point, name):
        return frame[(frame.seed == 0) & (frame.point == point) & (frame.value_of == name)].value.item()

    volumes, useful, distances = [], [], []
    for method in ("fairlab", "cosmos"):
        seen = costs[0, method, "validation"]
        on_front = [number for number, one in enumerate(seen) if not any(dominates(other, one) for other in seen)]
        volumes.append(area(np.array(costs[0, method, "test"])[on_front]))
        useful.append(area(np.array(costs[0, method, "test"])[on_front], 0.45))
        distances.append(np.linalg.norm(np.array(costs[0, method, "test"])[on_front], axis=1).min())
    np.testing.assert_allclose(value("all points", "hypervolume_of_fairlab"), volumes[0], atol=5e-3)
    np.testing.assert_allclose(value("all points", "hypervolume_gain"), volumes[0] - volumes[1], atol=5e-3)
    np.testing.assert_allclose(value("all points", "useful_hypervolume_gain"), useful[0] - useful[1], atol=5e-3)
    # The reference front is one point, the origin, so IGD+ is the distance of the nearest point.
    np.testing.assert_allclose(value("all points", "igd_plus_gain"), distances[1] - distances[0], atol=1e-5)

    ours = [costs[0, "fairlab", part][1] for part in ("validation", "test")]
    theirs = list(zip(*(costs[0, "cosmos", part][:-1] for part in ("validation", "test")), strict=True))
    near = [pair for pair in theirs if pair[0][0] <= ours[0][0] + 0.005]
    assert near
    fairest = min(near, key=lambda pair: pair[0][1])[1]
    found = [value("fairlab 0.2", name) for name in ("f1_gain", "gap_gain")]
    np.testing.assert_allclose(found, np.subtract(fairest, ours[1]), atol=1e-5)


def dominates(first, second):
    return all(np.less_equal(first, second)) and any(np.less(first, second))


def test_claims_on_fronts_know_that_splits_overlap(two_methods):
    runs, datasets, _ = two_methods
    frame = fairlab_fronts.differences(runs, datasets)
    table = fairlab_fronts.claims(frame)
    assert list(table["FairLAB with"]) == ["all points"] * 2 + ["3 points each"] * 2
    values = frame[(frame.point == "all points") & (frame.value_of == "hypervolume_gain")].value
    half = stats.t.isf(0.025, 2) * values.std() * np.sqrt(1 / 3 + 1 / 8)  # ten percent beside eighty
    row = table.iloc[0]
    np.testing.assert_allclose([row.wide_low, row.wide_high], [values.mean() - half, values.mean() + half])
    assert f"{values.mean():+.3f} ± {half:.3f}" in fairlab_fronts.fronts_markdown(frame)
    one_seed = frame[frame.seed == 0]
    assert fairlab_fronts.claims(one_seed) is None
    assert "one seed only" in fairlab_fronts.why_none(one_seed)
    alone = fairlab_fronts.differences([run for run in runs if run.trial.method == "fairlab"], datasets)
    assert fairlab_fronts.claims(alone) is None
    assert "not run together" in fairlab_fronts.why_none(alone)


def test_without_a_point_at_its_f1_the_nearest_is_taken_and_nan_never():
    ours = fairlab_fronts._Costs(np.array([[0.2, 0.5], [0.6, 0.0]]), np.array([[0.21, 0.4], [0.6, 0.0]]))
    worse = np.array([[0.4, 0.1], [0.3, 0.3], [0.6, 0.0]])
    found = fairlab_fronts._matched(ours, 0, fairlab_fronts._Costs(worse, worse))
    np.testing.assert_allclose(found, [0.3 - 0.21, 0.3 - 0.4])
    near = np.array([[0.2, np.nan], [0.2, 0.3], [0.6, 0.0]])
    found = fairlab_fronts._matched(ours, 0, fairlab_fronts._Costs(near, near))
    np.testing.assert_allclose(found, [0.2 - 0.21, 0.3 - 0.4])
