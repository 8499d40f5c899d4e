"""The FairBiNN experiments: the data's facts, what is measured and compared, and whole runs on made-up rows."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from fairlearn import metrics as fairlearn_metrics
from rich.console import Console
from sklearn.metrics import log_loss

import badrjax as bx
from experiments import (
    fairbinn_ablation,
    fairbinn_curves,
    fairbinn_data,
    fairbinn_fronts,
    fairbinn_game,
    fairbinn_runs,
    fairbinn_time,
)

TARGETS = Path(fairbinn_data.__file__).parent / "targets"
NUM_ROWS = 400


def made_up(name, protocol, split_seed, data_home):
    """Rows of three features whose labels follow the first, the sensitive attribute the second."""
    if name == "health":
        raise FileNotFoundError("health/HHP_release3.zip")
    random = np.random.default_rng(split_seed)
    x = random.normal(size=(NUM_ROWS, 3)).astype(np.float32)
    group = (x[:, 1] > 0).astype(np.int32)
    y = (x[:, 0] + 0.8 * group + 0.5 * random.normal(size=NUM_ROWS) > 0.4).astype(np.int32)
    data = bx.Batch(*(jnp.asarray(leaf) for leaf in (x, y, group)))
    validation, test = (bx.Batch(*(leaf[part] for leaf in data[:3])) for part in (slice(200, 300), slice(300, 400)))
    return fairbinn_data.Rows(data, jnp.arange(200), validation, test, jnp.arange(2)), ("a", "b"), "0" * 64


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(fairbinn_data, "load", made_up)
    source = fairbinn_data.SOURCES["adult"]._replace(hidden=(6, 6), width=6)
    monkeypatch.setitem(fairbinn_data.SOURCES, "adult", source)
    monkeypatch.setattr(fairbinn_runs, "BATCH_SIZE", 50)
    monkeypatch.setattr(fairbinn_runs, "LEADER_RATE", 0.05)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def quiet():
    return Console(quiet=True)


def test_adult_is_the_published_one():
    stats = {row["split"]: row for row in json.loads((TARGETS / "fairbinn_adult_stats.json").read_text())["rows"]}
    rows, groups, _ = fairbinn_data.load("adult", "default", 0, None)
    assert groups == ("Male", "Female")
    assert rows.data.x.shape[1] == 101
    assert rows.train.shape[0] + rows.validation.y.shape[0] == stats["train"]["n_after_dropping_missing"]
    inside = np.concatenate([np.asarray(rows.data.y)[np.asarray(rows.train)], rows.validation.y])
    np.testing.assert_allclose(inside.mean(), stats["train"]["positive_rate"], rtol=1e-6)
    test = rows.test
    assert test.y.shape[0] == stats["test"]["n_after_dropping_missing"]
    assert int(np.sum(np.asarray(test.group) == 1)) == stats["test"]["n_female"]
    rates = [np.mean(np.asarray(test.y)[np.asarray(test.group) == g]) for g in (0, 1)]
    np.testing.assert_allclose(rates, [stats["test"]["positive_rate_male"], stats["test"]["positive_rate_female"]])
    train = np.asarray(rows.data.x)[np.asarray(rows.train)]
    assert train.min() == 0
    assert train.max() == 1


def test_parts_do_not_meet_and_depend_on_the_seed():
    dataset = bx.load_dataset("adult", variant="fairbinn", sensitive="sex")
    first, second = (fairbinn_data.split(dataset, fairbinn_data.SOURCES["adult"], seed) for seed in (0, 1))
    assert np.array_equal(np.sort(np.concatenate(first)), np.arange(dataset.x.shape[0]))
    assert not np.array_equal(first.validation, second.validation)
    np.testing.assert_array_equal(first.test, second.test)
    assert np.all(np.diff(first.train) > 0)  # in the order of the file


def test_the_published_settings_are_the_codes():
    tabular = json.loads((TARGETS / "fairbinn_code_hparams.json").read_text())["rows"][:2]
    for row in tabular:
        source = fairbinn_data.SOURCES[row["dataset"].lower()]
        assert [*source.hidden, 1] == row["acc_layers"][1:]
        assert source.width == row["fairness_layers"][0]
        published = row["lr_accuracy"], row["lr_fairness"], row["batch_size"], row["epochs"], row["eta_default"]
        ours = fairbinn_runs.LEADER_RATE, fairbinn_runs.FOLLOWER_RATE, fairbinn_runs.BATCH_SIZE, fairbinn_runs.EPOCHS
        assert published == (*ours, fairbinn_runs.trial_of("accumulated")["eta"] * fairbinn_runs.CODE_SCALE)


def test_datasets_with_nothing_to_compare_are_refused():
    dataset = bx.load_dataset("adult", variant="fairbinn", sensitive="sex")
    lone = bx.datasets.take(dataset, np.flatnonzero(dataset.group == 0)[:50])
    with pytest.raises(ValueError, match="has one value, 'Female'"):
        fairbinn_data.check(lone)
    one_class = bx.datasets.take(dataset, np.flatnonzero(dataset.y == 0)[:500])
    with pytest.raises(ValueError, match="labels of adult must be 0 and 1"):
        fairbinn_data.check(one_class)


def test_measures_are_fairlearns():
    random = np.random.default_rng(0)
    logits, labels, groups = random.normal(size=200), random.integers(0, 2, 200), random.integers(0, 3, 200)
    rows = bx.Batch(np.zeros((200, 1)), jnp.asarray(labels), jnp.asarray(groups))
    found = jax.jit(fairbinn_runs.measure, static_argnums=2)(jnp.asarray(logits), rows, 3)
    decided, probability = logits > 0, 1 / (1 + np.exp(-logits))
    means = [probability[groups == g].mean() for g in range(3)]
    expected = {
        "accuracy": np.mean(decided == labels),
        "loss": log_loss(labels, probability),
        "soft_dp": max(means) - min(means),
        "hard_dp": fairlearn_metrics.demographic_parity_difference(labels, decided, sensitive_features=groups),
        "equalized_odds": fairlearn_metrics.equalized_odds_difference(labels, decided, sensitive_features=groups),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-6, err_msg=name)
    diverged = fairbinn_runs.measure(jnp.asarray(logits).at[0].set(jnp.nan), rows, 3)
    assert all(np.isnan(value) for value in diverged.values())


def test_step_sizes_fall_in_stages():
    adam = fairbinn_runs.adam_in_stages(1e-2, 0.5, 3)
    plain = optax.adam(1e-2)
    params = jnp.ones(2)
    state, other = adam.init(params), plain.init(params)
    for count in range(7):
        slope = jnp.array([1.0, -2.0]) + count
        update, state = adam.update(slope, state, params)
        expected, other = plain.update(slope, other, params)
        np.testing.assert_allclose(update, expected * 0.5 ** (count // 3), rtol=1e-5)


def test_fronts_find_what_was_put_in():
    # Two seeds, three candidates: on the validation rows the second is dominated.
    values = {"accuracy": np.array([[0.8, 0.7, 0.85]] * 2), "soft_dp": np.array([[0.05, 0.06, 0.1]] * 2)}
    test = {"accuracy": values["accuracy"] - 0.1, "soft_dp": values["soft_dp"]}
    corner = np.array([0.4, 0.2])
    expected = (0.4 - 0.3) * (0.2 - 0.05) + (0.3 - 0.25) * (0.2 - 0.1)
    np.testing.assert_allclose(fairbinn_fronts.hypervolumes(values, test, "soft_dp", corner), expected, rtol=1e-5)
    best = fairbinn_fronts.matched(values, test, "soft_dp", 0.07)
    np.testing.assert_allclose(best["accuracy"], 0.7)
    np.testing.assert_allclose(best["gap"], 0.05)
    assert np.isnan(fairbinn_fronts.matched(values, test, "soft_dp", 0.01)["accuracy"]).all()


@pytest.mark.slow
def test_whole_fronts_and_curves(small, store, tmp_path):
    options = {"seeds": 2, "epochs": 3, "store": store, "cache": False}
    settings = fairbinn_fronts.Settings(**options, etas=(1.0, 30.0), follower_rates=(0.01,), out=tmp_path / "fronts")
    frame = fairbinn_fronts.main(settings, quiet())
    assert set(frame["method"]) == set(fairbinn_runs.RULES)
    text = (tmp_path / "fronts" / "tables.md").read_text()
    assert "health was not run: health/HHP_release3.zip" in text
    assert "B - C" in text
    assert (tmp_path / "fronts" / "fronts-adult.png").stat().st_size > 10_000
    volumes = frame[(frame["metric"] == "hypervolume") & (frame["chosen_on"] == "test")]
    assert np.isfinite(volumes["value"]).all()
    by_test = volumes.set_index(["method", "gap", "seed"])["value"]
    by_validation = frame[(frame["metric"] == "hypervolume") & (frame["chosen_on"] == "validation")]
    by_validation = by_validation.set_index(["method", "gap", "seed"])["value"]
    assert (by_test >= by_validation - 1e-6).all()  # the paper's filter can only flatter
    again = fairbinn_fronts.main(settings, quiet())
    pd.testing.assert_frame_equal(frame, again)  # read back from the store

    curves = fairbinn_curves.Settings(**options, etas=(30.0,), out=tmp_path / "curves")
    last = fairbinn_curves.main(curves, quiet())
    assert len(last) == 6 * 2 * 3
    assert "less C's" in (tmp_path / "curves" / "tables.md").read_text()


@pytest.mark.slow
def test_whole_ablation(small, store, tmp_path, monkeypatch):
    source = fairbinn_data.SOURCES["adult"]._replace(hidden=(6, 6, 6))
    monkeypatch.setitem(fairbinn_data.SOURCES, "adult", source)
    settings = fairbinn_ablation.Settings(
        datasets=("adult",), seeds=2, epochs=3, etas=(1.0,), few_etas=(1.0, 10.0), store=tmp_path / "runs", cache=False,
        out=tmp_path / "out",
    )  # fmt: skip
    frame = fairbinn_ablation.main(settings, quiet())
    of_eta = frame[(frame["ablation"] == "eta, rule A") & (frame["metric"] == "steps.loss")]
    wide = of_eta.pivot(index="seed", columns="row", values="value")
    np.testing.assert_allclose(wide["Adam, eta = 1"], wide["Adam, eta = 10"], atol=1e-3)  # the no-op it is
    assert (wide["SGD, eta = 1"] != wide["SGD, eta = 10"]).all()


def test_runs_count_up_to_the_first_refused_step():
    status = [np.zeros(4), np.array([0.0, 0.0, 0.25, 4.0]), np.array([0.0, np.nan, np.nan, np.nan])]
    runs = pd.DataFrame({"rule": ["total"] * 3, "steps.status": status, "test.accuracy": [np.ones(4)] * 3})
    np.testing.assert_array_equal(fairbinn_runs.refused(runs), [False, True, True])
    kept = fairbinn_runs.without_refused(runs)["test.accuracy"]
    assert [int(np.isfinite(values).sum()) for values in kept] == [4, 2, 1]
    loaded = fairbinn_runs.Loaded("adult", (), "", None, runs)
    assert "In 2 of 3 runs a step was not finite (D, one unrolled step 2)" in fairbinn_runs.refused_sentence(loaded)


@pytest.mark.slow
def test_times_are_of_every_rule(small, tmp_path):
    frame = fairbinn_time.main(fairbinn_time.Settings(("adult",), repeats=2, out=tmp_path), quiet())
    assert (frame.groupby("method").size() == 2).all()
    assert (frame["value"] > 0).all()
    assert "| C, Lagrangian |" in (tmp_path / "tables.md").read_text()


def test_the_game_says_where_the_claim_fails(tmp_path):
    frame = fairbinn_game.main(fairbinn_game.Settings(out=tmp_path), quiet()).set_index(["game", "method"])
    assert frame["distance"].max() < 1e-6
    general, zero = fairbinn_game.GAMES
    dominated = frame["dominated"]
    assert [rule for rule in fairbinn_game.RULES if not dominated[general, rule]] == ["lagrangian"]
    assert [rule for rule in fairbinn_game.RULES if not dominated[zero, rule]] == ["lagrangian", "total"]
    assert (tmp_path / "game.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ("german",)}, "datasets must be among adult, health"),
        ({"seeds": 0}, "seeds"),
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"etas": (1.0, 1.0)}, "etas must be distinct"),
        ({"etas": (np.inf,)}, "etas must be distinct, finite"),
        ({"follower_rates": (np.nan,)}, "follower_rates must be distinct, finite"),
        ({"datasets": ("adult", "adult")}, "each once"),
        ({"follower_rates": (0.0,)}, "follower_rates must be distinct, finite and > 0"),
    ],
)
def test_wrong_settings(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fairbinn_fronts.main(
            fairbinn_fronts.Settings(**options, out=tmp_path, store=tmp_path / "runs", cache=False), quiet()
        )


def test_without_any_data_the_reason_is_told(small, tmp_path):
    settings = fairbinn_fronts.Settings(("health",), out=tmp_path, store=tmp_path / "runs", cache=False)
    with pytest.raises(FileNotFoundError, match=r"HHP_release3\.zip"):
        fairbinn_fronts.main(settings, quiet())


def test_a_trial_has_no_other_columns():
    with pytest.raises(ValueError, match="no 'depth'"):
        fairbinn_runs.trial_of("separated", depth=2)
