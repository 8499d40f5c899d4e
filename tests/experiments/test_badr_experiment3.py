"""Experiment 3 of BADR: which cells there are, the ridge model of the regressions, and what is said of the runs."""

import io
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import badr_cells, badr_experiment3, badr_problems, badr_tables
from experiments.badr_experiment3 import Place
from tests.experiments import badr_cases

METHODS = (*badr_cells.BASELINES, "badr_draws", "badr")


def settings(folder, **changes):
    return badr_experiment3.Settings(**{"out": folder / "out", "cache": False} | changes)


def regression_cell(seed):
    """Two groups of unlike size in a regression."""
    cell, rng = badr_cases.cell(seed), np.random.default_rng(seed)
    train, test = (rows._replace(y=rows.x @ [3.0, -2, 1] + rng.normal(size=len(rows.y))) for rows in cell[:2])
    mean = train.y.mean()
    return cell._replace(train=train._replace(y=train.y - mean), test=test._replace(y=test.y - mean))


def test_cells_have_the_seeds_of_the_paper(tmp_path):
    jobs = badr_experiment3.make_jobs(settings(tmp_path, states=("WY", "VT"), seeds=2))
    places = list(jobs)
    assert places[:4] == [
        Place("classification", task, "published", state, seed)
        for task in ("employment", "travel_time")
        for seed, state in enumerate(("WY", "VT"))
    ]
    assert len(places) == 4 + 4 * 2 * 2
    assert len({job.path for job in jobs.values()}) == len(jobs)
    one, other = (jobs[Place("regression", "student", "published", "", seed)].task for seed in (0, 1))
    assert one.candidates.shape == (200, 2)
    np.testing.assert_allclose(one.candidates.sum(axis=1), 1)
    assert not np.array_equal(one.candidates, other.candidates)
    assert (one.regularisation, one.loss, one.balance) == (0.2, "squared", "complement")
    assert jobs[places[0]].task.regularisation == 0.01
    only = badr_experiment3.make_jobs(settings(tmp_path, classifications=(), regressions=("student",), seeds=1))
    assert {place.kind for place in only} == {"regression"}


def test_regressions_are_centred_and_split_by_group_or_by_person():
    dataset = badr_cases.dataset(classes=False)
    cell = badr_problems.make_cell(dataset, 0)
    assert cell.train.y.mean() == pytest.approx(0, abs=1e-6)
    both = np.concatenate([cell.train.y, cell.test.y])
    np.testing.assert_allclose(np.sort(both - both.min()), np.sort(dataset.y - dataset.y.min()), atol=1e-5)
    whole = badr_problems.make_cell(dataset, 0, groups="shared", whole="person")
    assert not set(whole.train.x[:, 0]) & set(whole.test.x[:, 0])  # the first feature tells the person
    assert set(cell.train.x[:, 0]) & set(cell.test.x[:, 0])


def test_measures_of_a_regression():
    rows = regression_cell(1).test
    model = badr_problems.make_model(regression_cell(1), "published")
    kernel = np.array([[2.0], [-1.0], [0.5]])
    params = {"output": {"bias": jnp.array([0.3]), "kernel": jnp.asarray(kernel)}}
    found = badr_problems.regressed(model, params, jax.tree.map(jnp.asarray, rows))
    predicted = rows.x @ kernel[:, 0] + 0.3
    assert float(found["rmse"]) == pytest.approx(np.sqrt(np.mean((predicted - rows.y) ** 2)), rel=1e-5)
    assert float(found["r2"]) == pytest.approx(1 - np.mean((predicted - rows.y) ** 2) / rows.y.var(), rel=1e-4)
    means = [predicted[rows.group == group].mean() for group in (0, 1)]
    assert float(found["mean_gap"]) == pytest.approx(abs(means[1] - means[0]), rel=1e-4)
    assert float(found["wasserstein_gap"]) >= float(found["mean_gap"]) - 1e-5
    assert 0 < float(found["kolmogorov_smirnov_gap"]) <= 1


def invented():
    """Three states of two tasks, and two data sets in two variants with four splits, in which BADR is fairer."""
    values, cells = np.array([0.5, 0.5, 0.5, 0.4, 0.3, 0.21, 0.2]), []
    rng = np.random.default_rng(0)
    for data in badr_experiment3.CLASSIFICATIONS:
        for seed, state in enumerate(("WY", "VT", "ME")):
            moved = values + rng.uniform(0, 0.01, 7)
            if data == "travel_time":
                moved[4] += 0.25
            names = badr_experiment3.GAPS["classification"]
            numbers = {name: 0.1 for gap in names for name in (gap, gap.replace("_gap", "_floor"))}
            found = badr_cases.records(moved, methods=METHODS, accuracy=0.8, **numbers)
            found[-1]["test"]["accuracy"] -= 0.0001 * (1 + seed)
            cells.append((Place("classification", data, "published", state, seed)._asdict(), found))
    for data, scale in (("parkinsons", 2.0), ("student", 0.1)):
        for variant in ("published", "leak_free"):
            for seed in range(4):
                moved = scale * (values + rng.uniform(0, 0.01, 7))
                moved[-1] = moved[4] if data == "student" else moved[-1]
                numbers = dict.fromkeys(badr_experiment3.GAPS["regression"], 0.2)
                found = badr_cases.records(moved, "demographic_parity", methods=METHODS, rmse=1.0, **numbers)
                found[-1]["test"]["rmse"] += 0.1 + 0.01 * seed
                cells.append((Place("regression", data, variant, "", seed)._asdict(), found))
    return badr_cells.tidy(cells)


def test_claims_are_decided_by_the_frame():
    found = badr_experiment3.claims(invented(), "badr").set_index(["what", "against"])
    verdicts = found["verdict"]
    assert verdicts["BADR's accuracy, within 0.001, is at least that", "uniform"] == "NON-INFERIOR"
    assert verdicts["BADR is individually fairer", "uniform"] == "SUPPORTED"
    assert verdicts["travel_time: one group is individually less fair", "uniform"] == "SUPPORTED"
    assert verdicts["parkinsons, published: BADR is nearer parity", "one group"] == "SUPPORTED"
    assert verdicts["student, leak_free: BADR is nearer parity", "one group"] == "UNDECIDED"  # equal
    assert verdicts["student, leak_free: BADR's error is larger", "uniform"] == "SUPPORTED"
    estimate = found.loc[("student, published: BADR's error is larger", "uniform"), "estimate"]
    assert estimate == pytest.approx(0.115)


def test_the_report_sets_recorded_rows_beside_those_of_the_same_search():
    frame = invented()
    missing = [Place("classification", "employment", "published", "PR", 3)]
    text = badr_experiment3.report(frame, "badr", missing)
    lines = text.splitlines()
    draws = next(line for line in lines if line.startswith("| employment | published | BADR, best of draws |"))
    assert draws.split(" | ")[3:7] == ["3", "38", "0.8000 ± 0.0000", "0.8765 ± 0.0131"]
    exact = next(line for line in lines if line.startswith("| employment | published | BADR |"))
    assert exact.split(" | ")[4] == ""
    fixed = next(line for line in lines if line.startswith("| parkinsons | published | uniform |"))
    assert fixed.split(" | ")[6] == "9.4188 ± 0.1250"
    leak_free = next(line for line in lines if line.startswith("| parkinsons | leak_free | uniform |"))
    assert leak_free.split(" | ")[4] == ""
    assert "| published | one group | 4 + 4 of 8 (12 of 40) | 4 + 4 of 8 (14 of 40) |" in lines
    assert "As published, mean gap by data set: parkinsons 0.6" in text
    assert "Not run for want of their files: employment published PR 3." in text
    assert "employment, published: 3; travel_time, published: 3; parkinsons, published: 4" in text


def test_draws_may_stand_for_badr():
    frame = invented()
    found = badr_tables.wins(frame, "badr_draws", "test", groupby="variant").set_index(["variant", "against"])
    assert found.loc[("published", "one_group")].tolist() == [14, 14, 0, 0]
    claims = badr_experiment3.claims(frame, "badr_draws").set_index(["what", "against"])
    assert claims.loc[("student, published: BADR is nearer parity", "one group"), "verdict"] == "SUPPORTED"


def test_a_run_writes_its_files_and_goes_on(tmp_path, monkeypatch):
    loaded = []
    numbers = dict.fromkeys(badr_experiment3.GAPS["regression"], 0.2)

    def solve(cell, task):
        assert task.loss == "squared"
        return badr_cases.records(np.arange(7.0)[::-1], "demographic_parity", methods=METHODS, rmse=1.0, **numbers)

    def load(place, _):
        loaded.append((place.data, place.variant, place.seed))
        return badr_cases.cell(place.seed)

    monkeypatch.setattr(badr_cells, "solve", solve)
    monkeypatch.setattr(badr_experiment3, "_load", load)
    given = {"classifications": (), "regressions": ("student", "parkinsons"), "variants": ("leak_free",)}
    console = Console(width=200, file=io.StringIO())
    badr_experiment3.main(settings(tmp_path, seeds=1, **given), console)
    assert loaded == [("student", "leak_free", 0), ("parkinsons", "leak_free", 0)]
    frame = badr_experiment3.main(settings(tmp_path, seeds=2, **given), console)
    assert loaded[2:] == [("student", "leak_free", 1), ("parkinsons", "leak_free", 1)]
    out = tmp_path / "out"
    stored = pd.read_csv(out / "results.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    assert json.loads((out / "provenance.json").read_text())["data_sha256"]["student_leak_free_1"] == "checksum of 1"
    assert {path.name for path in out.iterdir()} == {
        "cells", "provenance.json", "report.html", "results.csv", "tables.md"
    }  # fmt: skip
    assert "No regression ran as published." in (out / "tables.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifications": ("income",)}, "employment"),
        ({"classifications": (), "regressions": ()}, "at least one"),
        ({"states": ("WX",)}, "WX"),
        ({"regressions": ("studnt",)}, "student"),
        ({"variants": ()}, "variants must name"),
        ({"variants": ("leaky",)}, "leak_free"),
        ({"seeds": 0}, "seeds"),
        ({"solver": "grid"}, "solver"),
        ({"reading": "B"}, "reading"),
        ({"groups": "none"}, "groups"),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        badr_experiment3.main(settings(tmp_path, **changes), Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_real_data_are_read_as_published_and_without_leaks(tmp_path):
    if not os.environ.get("BADRJAX_DATA"):
        pytest.skip("BADRJAX_DATA is not set: no raw files of Wyoming, Parkinsons and Student")
    chosen = settings(tmp_path, data_home=Path(os.environ["BADRJAX_DATA"]))
    cells = {
        (data, variant): badr_experiment3._load(Place("regression", data, variant, "", 0), chosen)
        for data in ("parkinsons", "student")
        for variant in chosen.variants
    }
    features = {name: cell.train.x.shape[1] for name, cell in cells.items()}
    assert features == {
        ("parkinsons", "published"): 20, ("parkinsons", "leak_free"): 19,
        ("student", "published"): 16, ("student", "leak_free"): 58,
    }  # fmt: skip
    place = Place("classification", "employment", "published", "WY", 13)
    assert len(badr_experiment3._load(place, chosen).train.y) == 2102


@pytest.mark.slow
def test_the_ridge_model_is_the_published_one():
    cell, place = regression_cell(2), Place("regression", "student", "published", "", 2)
    task = badr_experiment3.make_task(place, badr_experiment3.Settings())
    (padded,) = badr_problems.padded([cell])
    with jax.enable_x64(True):
        found = badr_cells.solve(padded, task._replace(candidates=task.candidates[:5]))
    values = {record["method"]: record["train"]["objective"] for record in found}
    assert min(values.values()) == pytest.approx(values["badr"], abs=1e-12)
    # The published convention: a standardised target, weights that sum to 1, and mu |w|^2.
    x, y, group = cell.train[:3]
    scale = y.std()
    weight = np.where(group == 0, 0.5 / np.sum(group == 0), 0.5 / np.sum(group == 1))
    away = x - weight @ x
    target = (y - y.mean()) / scale
    kernel = np.linalg.solve((away.T * weight) @ away + 0.1 * np.eye(3), (away.T * weight) @ (target - weight @ target))
    scores = scale * (x @ kernel)
    half = abs(scores[group == 0].mean() - scores[group == 1].mean()) / 2
    assert values["uniform"] == pytest.approx(np.log(2) + np.sqrt(half**2 + 1e-6), rel=1e-9)
