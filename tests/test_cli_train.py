"""`badrjax train`, `predict` and `doctor` as they are typed, on a file of one's own."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from badrjax import cli_train
from badrjax.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with a file in it, and a cache of its own."""
    rng = np.random.default_rng(0)
    n = 300
    sex, race = rng.choice(["f", "m"], n), rng.choice(["a", "b"], n)
    years = rng.integers(0, 20, n)
    job = rng.choice(["cook", "clerk", "nurse"], n)
    chance = 1 / (1 + np.exp(-(0.3 * years - 3 + 1.0 * (sex == "m"))))
    hired = np.where(rng.uniform(size=n) < chance, "yes", "no")
    frame = pd.DataFrame({"sex": sex, "race": race, "years": years, "job": job, "hired": hired})
    frame.to_csv(tmp_path / "people.csv", index=False)
    frame.drop(columns="hired").head(20).to_csv(tmp_path / "new.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


BASE = ["train", "people.csv", "--label", "hired", "--favourable", "yes", "--sensitive", "sex,race", "--out", "run"]


def test_a_file_becomes_a_model_a_report_and_predictions(folder, capsys):
    assert main([*BASE, "--epochs", "5", "--no-front"]) == 0
    said = capsys.readouterr().out
    assert "225 rows to train on, 75 to measure on" in said
    assert "at parity" in said
    assert "sex, race is used at prediction" in said
    assert {file.name for file in (folder / "run").iterdir()} == {
        "model.json", "model.safetensors", "report.html", "groups.csv", "provenance.json",
    }  # fmt: skip
    groups = pd.read_csv("run/groups.csv")
    parts = groups[groups["metric"] == "accuracy"].groupby("partition")["rows"].sum()
    assert parts.to_dict() == {"sex": 75, "race": 75, "sex & race": 75}
    assert json.loads((folder / "run/model.json").read_text())["favourable"] == "yes"
    page = (folder / "run/report.html").read_text()
    assert "sex &amp; race" in page
    assert "The sensitive attribute is used at prediction" in page
    for verdict in (" unfair", "is fair"):
        assert verdict not in page

    assert main(["predict", "run", "new.csv", "--out", "predictions.csv"]) == 0
    predictions = pd.read_csv("predictions.csv")
    assert predictions.shape == (20, 2)
    assert ((predictions["probability"] > 0.5) == (predictions["prediction"] == 1)).all()


@pytest.mark.slow
def test_the_front_has_plain_training_and_a_constant_beside_the_method(folder):
    assert main([*BASE, "--method", "badr", "--objective", "equalized_odds", "--drop-sensitive"]) == 0
    front = pd.read_csv("run/front.csv")
    assert set(front["series"]) == {"badr", "erm", "constant"}
    assert (front["series"] == "badr").sum() == 5
    constant = front[front["series"] == "constant"].iloc[0]
    assert constant["demographic_parity of sex"] == 0
    assert "The sensitive attribute is used" not in (folder / "run/report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--method", "badr"], "needs an objective"),
        (["--method", "fairlab", "--constraint", "parity of sex"], "must read 'METRIC:ATTRIBUTES<=GAP'"),
        (["--method", "fairlab", "--constraint", "demographic_parity:sex<=2"], r"lie in \[0, 1\]"),
        (["--method", "fairlab", "--constraint", "demographic_parity:job<=0.1"], "unknown attribute 'job'"),
        (["--hidden", "wide"], "--hidden must be widths"),
        (["--option", "fraction"], "NAME=VALUE"),
        (["--method", "dro", "--option", "fraction=some"], "option fraction of dro must be a number"),
        (["--test-fraction", "0.05"], "leaves 15 rows to measure on"),
        (["--task", "regression"], "--favourable is of a label with two values"),
        (["--out", "people.csv"], "is a file; give a directory"),
        (["--out", "."], "holds other things than a model"),
        (["--option", "fraction=1"], "unknown option of erm"),
        (["--test-fraction", "1"], "--test-fraction must lie in"),
        (["--sensitive", "gender"], "unknown sensitive column 'gender'"),
        (["--favourable", "maybe"], "does not occur"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(changed, message, folder, capsys):
    assert main([*BASE, *changed]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (folder / "run").exists()


def test_a_second_model_leaves_nothing_of_the_first(folder):
    (folder / "run").mkdir()
    for name in ("model.json", "front.csv", "results.csv"):
        (folder / "run" / name).write_text("of another model, or of one's own")
    cli_train._prepare(folder / "run")
    assert (folder / "run" / "model.json").exists()  # should the training fail, it is still there
    cli_train._clear(folder / "run")
    assert not (folder / "run" / "model.json").exists()
    assert not (folder / "run" / "front.csv").exists()
    assert (folder / "run" / "results.csv").read_text() == "of another model, or of one's own"


def test_whole_numbers_are_regressed_on_when_asked(folder, capsys):
    base = ["train", "people.csv", "--label", "years", "--sensitive", "sex", "--out", "run", "--epochs", "20"]
    assert main(base) == 2
    assert main([*base, "--task", "classification"]) == 2
    two = pd.read_csv("people.csv").assign(hired=lambda frame: (frame["hired"] == "yes").astype(int))
    two.to_csv("two.csv", index=False)
    capsys.readouterr()
    assert (
        main(["train", "two.csv", "--label", "hired", "--sensitive", "sex", "--out", "r", "--task", "regression"]) == 2
    )
    assert "makes a classification of it" in capsys.readouterr().err
    assert main([*base, "--task", "regression", "--no-front"]) == 0
    assert "root mean squared error" in capsys.readouterr().out
    assert main(["predict", "run", "people.csv", "--out", "p.csv"]) == 0
    assert pd.read_csv("p.csv")["prediction"].between(-5, 25).all()


def test_names_with_spaces_and_commas():
    columns = ["the sex", "race, told", "job"]
    assert cli_train._attribute_names(["race, told", "the sex, job"], columns) == ["race, told", "the sex", "job"]
    read = cli_train._requirement("equalized_odds: the sex * job <= 0.1")
    assert read == ("equalized_odds", ("the sex", "job"), 0.1)


def test_predict_refuses_what_the_model_does_not_know(folder, capsys):
    assert main(["predict", "nowhere", "new.csv"]) == 2
    assert "holds no model.json" in capsys.readouterr().err


def test_doctor_tells_versions_devices_and_data(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "core: jax " in said
    assert "devices: " in said
    assert "adult" in said.split("data at hand: ")[1].split("\n")[0]
