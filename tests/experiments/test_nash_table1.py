"""Tables 1 and 4: what a trial measures, resuming, and verdicts on made-up runs whose truth is known."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
from jax.tree_util import Partial
from rich.console import Console

import badrjax as bx
from badrjax import metrics
from badrjax.functions import Static
from experiments import nash, nash_protocol, nash_runs, nash_table1, nash_verdicts
from experiments.nash_protocol import CODE, PAPER, HyperParameters


def made_up_dataset(num_rows=120, seed=0):
    """Rows of two groups, balanced over groups and labels."""
    rng = np.random.default_rng(seed)
    label, group = np.tile([0, 1], num_rows // 2), np.repeat([0, 1], num_rows // 2)
    x = rng.normal(size=(num_rows, 4)).astype(np.float32) + 1.5 * label[:, None]
    frame = pd.DataFrame(x, columns=list("abcd")).assign(label=label, group=np.array(["f", "m"])[group])
    return bx.dataset_from_frame(frame, label="label", sensitive="group")


@pytest.fixture(scope="module")
def dataset():
    return made_up_dataset()


@pytest.fixture(scope="module")
def splits(dataset):
    return bx.datasets.split(dataset, "balanced", 0, test_fraction=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nash_learning_to_reweight", "baseline"])
def test_a_trial_measures_every_epoch(dataset, splits, method):
    rows = nash_runs.to_rows(dataset, splits)
    chosen = HyperParameters(0.05, 0.0, 16, num_epochs=3, bargaining_epochs=1, hidden=(8,))
    run = Partial(nash_runs.trial, settings=Static((nash_protocol.of_training(CODE), chosen, 1)), rows=rows)
    found = jax.jit(lambda key: run(key, method))(jax.random.key(0))
    predictions = nash_runs.unpacked(found["predictions"], len(splits.test))
    labels, groups = dataset.y[splits.test], dataset.group[splits.test]
    for epoch in range(3):
        expected = metrics.balanced_accuracy(labels, predictions[epoch])
        np.testing.assert_allclose(found["test"]["overall"][epoch], expected, rtol=1e-6)
        by_group = [metrics.balanced_accuracy(labels[groups == k], predictions[epoch][groups == k]) for k in (0, 1)]
        np.testing.assert_allclose(found["test"]["worst"][epoch], min(by_group), rtol=1e-6)
    assert found["test"]["auc_by_group"].shape == (3, 2)
    assert np.all(found["validation"]["loss"] > 0)
    assert ("aligned" in found["steps"]) == method.startswith("nash_")


def test_scaling_follows_the_protocol():
    by_all, splits = nash_runs.load("adult_sex", CODE, "balanced", 0, None)
    by_train, _ = nash_runs.load("adult_sex", PAPER, "balanced", 0, None)
    varied = by_all.x.std(axis=0) > 0
    np.testing.assert_allclose(by_all.x.mean(axis=0)[varied], 0, atol=1e-3)
    np.testing.assert_allclose(by_train.x[splits.train].mean(axis=0)[varied], 0, atol=1e-3)
    assert np.abs(by_train.x[splits.test].mean(axis=0)).max() > 0.05


def made_up_runs(dataset, splits, means, num_seeds=60, num_epochs=4, spread=0.01, name="titanic_sex"):
    """Runs whose balanced accuracy at the best epoch scatters about given means; predictions are right that often."""
    rng = np.random.default_rng(1)
    labels = dataset.y[splits.test]
    rows = []
    for method, mean in means.items():
        for seed in range(num_seeds):
            overall = np.r_[np.full(num_epochs - 1, 0.5), mean + spread * rng.normal()]
            gap = np.abs(0.02 * rng.normal(size=num_epochs))
            right = rng.random((num_epochs, labels.size)) < mean
            rows.append({
                "method": method, "seed": seed, "test.overall": overall, "test.gap": gap,
                "test.worst": overall - gap / 2, "test.auc": overall, "test.loss": np.ones(num_epochs),
                "test.auc_by_group": np.stack([overall, overall - gap], axis=1),
                "validation.loss": np.linspace(1, 0.5, num_epochs),
                "predictions": np.packbits(np.where(right, labels == 1, labels == 0), axis=-1),
            })  # fmt: skip
    return nash_verdicts.Runs(name, pd.DataFrame(rows), dataset, splits)


def printed_overall(name):
    return {method: nash.paper_cells(name)[method, "overall"][0] for method in nash.METHODS}


def verdicts_of(runs, protocol):
    return bx.results.ledger_table(nash_verdicts.entries(runs, protocol))


@pytest.mark.parametrize("protocol", [PAPER, CODE], ids=["paper", "code"])
def test_runs_that_agree_with_the_paper_are_reproduced_and_others_not(dataset, splits, protocol):
    true = printed_overall("titanic_sex")
    frame = verdicts_of(made_up_runs(dataset, splits, true), protocol)
    overall = frame[frame.metric.isin(["AUC", "balanced accuracy"])]
    assert (overall.verdict == "REPRODUCED").all()
    off = {method: mean - 0.2 for method, mean in true.items()}
    frame = verdicts_of(made_up_runs(dataset, splits, off), protocol)
    overall = frame[frame.metric.isin(["AUC", "balanced accuracy"])]
    assert (overall.verdict == "NOT REPRODUCED").all()


def test_the_two_known_misprints_leave_the_count(dataset, splits):
    wrong, odd = [], []
    for name in nash_protocol.SETTINGS:
        if name == "adult_race":  # five groups, to which the identity does not apply
            continue
        runs = made_up_runs(dataset, splits, printed_overall(name), num_seeds=10, name=name)
        frame = verdicts_of(runs, CODE)
        wrong += [(name, method) for method in frame[frame.verdict == "MISPRINT"].method]
        odd += [(name, note) for note in frame[frame.metric == "balanced accuracy"].note if "imply" in note]
    assert wrong == [("adult_sex", "Meta-gDRO, one stage"), ("bank_age", "DRO")]
    # The other two numbers of each give what the third should be.
    assert [(name, note) for name, note in odd] == [
        ("adult_sex", "the printed gap and worst imply 0.835"), ("bank_age", "the printed gap and worst imply 0.703")
    ]  # fmt: skip


def test_too_few_seeds_are_not_judged_and_few_are_said(dataset, splits):
    frame = verdicts_of(made_up_runs(dataset, splits, printed_overall("titanic_sex"), num_seeds=4), CODE)
    assert (frame.verdict == "NOT RUN").all()
    assert frame.note.str.contains("4 seeds, and a comparison needs 10; ours 0").all()
    assert nash_verdicts.claims(made_up_runs(dataset, splits, printed_overall("titanic_sex"), num_seeds=9)) == []
    frame = verdicts_of(made_up_runs(dataset, splits, printed_overall("titanic_sex"), num_seeds=12), CODE)
    frame = nash_verdicts.note_few_seeds(frame)
    assert frame[frame.verdict == "REPRODUCED"].note.str.contains("12 seeds only").all()


def test_other_rows_and_other_epochs_are_no_targets(dataset, splits):
    runs = made_up_runs(dataset, splits, printed_overall("titanic_sex"), num_seeds=12)
    frame = verdicts_of(runs._replace(split="balanced", epochs=4), CODE)
    assert (frame.verdict == "NOT RUN").all()
    assert frame.note.str.startswith("on a split drawn here; 4 epochs; ours 0.").all()


def test_settings_without_data_stay_in_the_count():
    for protocol in (PAPER, CODE):
        frame = bx.results.ledger_table(nash_verdicts.entries_not_run("bank_age", protocol, "no file"))
        assert frame.verdict.value_counts().to_dict() == {"NOT RUN": 23, "MISPRINT": 1}
        assert frame[frame.verdict == "NOT RUN"].note.str.startswith("no file").all()


def test_the_floor_is_that_of_the_rates_that_were_reached(dataset, splits):
    # Everything is called positive, so every group has the balanced accuracy 1/2 by whatever chance.
    runs = made_up_runs(dataset, splits, {"baseline": 0.9}, num_seeds=12)
    every = np.packbits(np.ones((4, len(splits.test)), bool), axis=-1)
    runs.frame["predictions"] = [every] * len(runs.frame)
    frame = verdicts_of(runs, CODE).set_index(["method", "metric"])
    assert frame.floor["Baseline", "its largest gap"] == 0
    half = verdicts_of(made_up_runs(dataset, splits, {"baseline": 0.5}, num_seeds=12), CODE)
    counts = np.full(2, len(splits.test) // 4)
    expected = bx.results.balanced_accuracy_gap_floor(
        counts, counts, true_positive_rate=0.5, true_negative_rate=0.5, seed=0
    )
    assert half.floor.max() == pytest.approx(expected, rel=0.02)


def test_claims_pair_seeds_and_not_positions(dataset, splits, monkeypatch):
    monkeypatch.setattr(nash_verdicts, "_RESAMPLED_ROWS", 50)
    monkeypatch.setattr(nash_verdicts, "METRICS", ("overall",))
    runs = made_up_runs(dataset, splits, {"forml": 0.7, "nash_forml": 0.9}, num_seeds=20)
    frame = runs.frame[~((runs.frame.method == "forml") & (runs.frame.seed < 5))]
    frame = frame[~((frame.method == "nash_forml") & (frame.seed > 16))]
    ((_, claim),) = nash_verdicts.claims(runs._replace(frame=frame))
    both = runs.frame[(runs.frame.seed >= 5) & (runs.frame.seed <= 16)]
    ((_, expected),) = nash_verdicts.claims(runs._replace(frame=both))
    assert claim.num_seeds == 12
    np.testing.assert_allclose(claim.seeds, expected.seeds)


def test_adult_has_one_vote(dataset, splits):
    rows = [
        {"dataset": name, "goal": "LtR", "metric": "overall", "estimate": estimate, "verdict": "UNDECIDED"}
        for name, estimate in (("adult_sex", 0.1), ("adult_race", 0.1), ("bank_age", 0.1), ("crime_blackgt6pct", -0.1))
    ]
    across = nash_verdicts.agreement(pd.DataFrame(rows)).iloc[0]
    assert (across.num_positive, across.num_negative, across.UNDECIDED) == (2, 1, 4)


def test_a_method_that_was_not_asked_for_is_not_run(dataset, splits):
    runs = made_up_runs(dataset, splits, {"baseline": 0.9}, num_seeds=10)
    frame = verdicts_of(runs, CODE)
    assert set(frame[frame.method != "Baseline"].verdict) <= {"NOT RUN", "BELOW FLOOR", "MISPRINT"}


def test_claims_compare_the_stages_of_each_goal(dataset, splits, monkeypatch):
    monkeypatch.setattr(nash_verdicts, "_RESAMPLED_ROWS", 50)
    monkeypatch.setattr(nash_verdicts, "METRICS", ("overall",))  # each compiles a bootstrap of its own
    means = dict.fromkeys(nash.GOALS, 0.7) | {f"nash_{goal}": 0.95 for goal in nash.GOALS}
    means["nash_forml"] = 0.45
    table = bx.results.claim_table(nash_verdicts.claims(made_up_runs(dataset, splits, means, num_seeds=10)))
    overall = table[table.metric == "balanced accuracy"].set_index("goal").verdict
    assert overall.to_dict() == {"LtR": "SUPPORTED", "FORML": "REFUTED", "Meta-gDRO": "SUPPORTED"}


def settings(folder, **changes):
    defaults = {
        "datasets": ("adult_sex",), "methods": ("baseline",), "seeds": 2, "epochs": 1, "block": 2,
        "split": "balanced", "store": folder / "runs", "out": folder, "cache": False,
    }  # fmt: skip
    return nash_table1.Settings(**defaults | changes)


def test_the_script_runs_resumes_and_writes(tmp_path, capsys):
    console = Console(width=200, force_terminal=False)
    first = nash_table1.main(settings(tmp_path), console)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert len(files) == 1
    again = nash_table1.main(settings(tmp_path), console)
    pd.testing.assert_frame_equal(first, again)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == files
    (folder,) = tmp_path.glob("code*")
    assert folder.name == "code-adult_sex-baseline-seeds_2-epochs_1-split_balanced"
    text = (folder / "verdicts.md").read_text()
    assert "| adult_sex | Baseline | balanced accuracy | 0.778 |" in text
    origin = json.loads((folder / "provenance.json").read_text())
    assert origin["settings"]["options"]["cells"] == "cells"
    assert origin["settings"]["splits"] == {"adult_sex": "balanced"}
    assert "on a split drawn here; 1 epochs; 2 seeds, and a comparison needs 10; ours" in text
    chosen = pd.read_csv(folder / "selections.csv")
    assert chosen.metric.tolist() == list(nash_verdicts.TITLES["labels"].values())
    np.testing.assert_allclose(chosen.optimism, chosen.test - chosen.validation, atol=1e-12)
    assert text.count("| adult_sex | Baseline | balanced accuracy |") == 2
    assert "| adult_sex | Baseline | 0.778 \\| NOT RUN |" in text
    assert nash_table1.main(settings(tmp_path, runs_only=True), console) is None


@pytest.mark.slow
def test_settings_of_several_sittings_are_one_table(dataset, splits, tmp_path, monkeypatch):
    names = ("titanic_sex", "student_sex")
    means = {"forml": 0.7, "nash_forml": 0.9}
    made = {name: made_up_runs(dataset, splits, means, num_seeds=12, name=name) for name in names}
    asked = []

    def run(name, *_):
        asked.append(name)
        return made[name]

    monkeypatch.setattr(nash_verdicts, "_RESAMPLED_ROWS", 50)
    monkeypatch.setattr(nash_table1, "run", run)
    same = {"methods": tuple(means), "seeds": 12, "epochs": None, "split": "auto"}
    console = Console(quiet=True)
    whole = nash_table1.main(settings(tmp_path / "whole", datasets=names, **same), console)
    nash_table1.main(settings(tmp_path / "first", datasets=names[:1], **same), console)
    (records,) = (tmp_path / "first").rglob("records")
    assert [path.name for path in records.iterdir()] == ["titanic_sex.json"]
    assert str(tmp_path) not in (records / "titanic_sex.json").read_text()  # it is to be shared
    asked.clear()
    again = settings(tmp_path / "second", datasets=names, recorded=records, **same)
    pd.testing.assert_frame_equal(nash_table1.main(again, console), whole)
    assert asked == ["student_sex"]
    for name in ("claims.csv", "selections.csv"):
        tables = [next((tmp_path / sitting).rglob(name)).read_text() for sitting in ("whole", "second")]
        assert tables[0] == tables[1]
    with pytest.raises(ValueError, match="recorded with options"):
        nash_table1.main(settings(tmp_path, datasets=names, recorded=records, protocol="paper", **same), console)
    with pytest.raises(FileNotFoundError, match="a record of none of bank_age"):
        nash_table1.main(settings(tmp_path, datasets=("bank_age",), recorded=records, **same), console)
    printed = nash.paper_cells("titanic_sex")
    changed = {cell: (mean + 0.001, half) for cell, (mean, half) in printed.items()}
    monkeypatch.setattr(nash, "paper_cells", lambda name: changed)
    with pytest.raises(ValueError, match="other printed numbers"):
        nash_table1.main(settings(tmp_path, datasets=names, recorded=records, **same), console)


def test_data_that_are_not_there_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("BADRJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def absent(*_, **__):
        raise FileNotFoundError("titanic needs titanic3.xls")

    monkeypatch.setattr(nash_runs.bx, "load_dataset", absent)
    console = Console(width=200, force_terminal=False)
    frame = nash_table1.main(settings(tmp_path, datasets=("titanic_sex",)), console)
    assert (frame.verdict == "NOT RUN").all()
    assert (frame.note == "titanic needs titanic3.xls").all()
    assert "titanic_sex: NOT RUN, titanic needs titanic3.xls" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ("adult",)}, "did you mean 'adult_"),
        ({"methods": ("nash",)}, "unknown method"),
        ({"methods": ()}, "methods must name at least one"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"datasets": ("adult_sex", "adult_sex")}, "each once"),
        ({"protocol": "notebook"}, "unknown protocol"),
    ],
)
def test_bad_requests_are_answered_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        nash_table1.main(settings(tmp_path, **changes), Console(quiet=True))
    assert not (tmp_path / "runs").exists()
