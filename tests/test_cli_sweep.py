"""`badrjax sweep`: the example of the documentation, resuming, and how it fails and ends."""

import argparse
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from badrjax import cli_sweep
from badrjax.sweeps import config
from badrjax.sweeps.plans import plan_from_json
from badrjax.sweeps.training_runs import METRICS

ROOT = Path(__file__).parents[1]
EXAMPLE = inspect.getdoc(config).split("```toml\n")[1].split("```")[0]
SMALL = """
[dataset]
name = "german"
[model]
kind = "linear"
[method]
name = "erm"
[optimizer]
name = "sgd"
learning_rate = [0.01, 0.1]
[training]
num_epochs = 1
sampler = {kind = "full_batch"}
[seeds]
count = 3
[sweep]
block = 2
metric = "loss"
"""


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BADRJAX_DATA", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def call(*arguments):
    parser = argparse.ArgumentParser()
    cli_sweep.add_to(parser.add_subparsers())
    options = parser.parse_args(["sweep", *map(str, arguments)])
    return options.run(options)


def written(directory, text):
    path = directory / "sweep.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A finished sweep: its file and its store."""
    directory = tmp_path_factory.mktemp("small")
    path = written(directory, SMALL)
    assert call(path, "--store", directory / "store", "--quiet") == 0
    return path, directory / "store"


def results_of(store):
    """The first table of results in a store."""
    return min((store / "results").glob("*/results.csv"), key=lambda path: path.stat().st_mtime_ns)


def test_a_page_of_the_sweep_lies_beside_its_results(small):
    path, store = small
    text = results_of(store).with_name("report.html").read_text("utf-8")
    assert f"<h1>Sweep: {path.name}</h1>" in text
    assert "Best settings of each method by loss on the validation rows" in text
    assert text.count("<tr><td") == 1 + 2 * 3  # the best of the one method, and every trial


def test_the_example_runs_beside_its_file(tmp_path, capsys):
    path = written(tmp_path, EXAMPLE)
    assert call(path) == 0
    shown = capsys.readouterr()
    for text in ("erm: 8 trials", "nash_meta: 8 trials", "balanced_accuracy", "momentum", "test loss"):
        assert text in shown.out
    frame = pd.read_csv(results_of(tmp_path / "german-sweep"))
    assert len(frame) == 16
    assert frame.learning_rate.between(0.001, 0.1).all()
    assert sorted(frame.seed.unique()) == [0, 1]
    assert set(frame.hidden) == {"32-16"}
    for part in ("validation", "test"):
        assert np.isfinite(frame[[f"{part}.{name}" for name in METRICS]]).all(axis=None)
    origin = json.loads(results_of(tmp_path / "german-sweep").with_name("provenance.json").read_text())
    assert origin["settings"]["config"]["optimizer"]["momentum"] == [0.0, 0.9]
    assert list(origin["data_sha256"]) == ["german"]


def test_what_is_finished_is_not_run_again(small, capsys):
    path, store = small
    blocks = {block.name: block.stat().st_mtime_ns for block in (store / "blocks").iterdir()}
    assert call(path, "--store", store) == 0
    assert "nothing left to run" in capsys.readouterr().out
    assert {block.name: block.stat().st_mtime_ns for block in (store / "blocks").iterdir()} == blocks


def test_more_seeds_keep_what_is_there(small, tmp_path, capsys):
    path, store = small
    before = pd.read_csv(results_of(store))
    more = written(tmp_path, SMALL.replace("count = 3", "count = 4"))
    assert call(more, "--store", store, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0] == {"event": "method", "method": "erm", "trials": 8, "stored": 6}
    assert [event["event"] for event in events[-2:]] == ["best", "results"]
    after = pd.read_csv(events[-1]["path"])
    kept = after[after.seed < 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before, check_exact=True)
    assert call(path, "--store", store, "--quiet") == 0


def test_results_are_those_of_the_function_itself(small):
    """A linear model begins at zero, so all seeds agree, and one full-batch step is one step by hand."""
    _, store = small
    frame = pd.read_csv(results_of(store))
    data, _ = config.read_config(small[0], store).load()
    x, y = (np.asarray(values, np.float64) for values in (data.train.x, data.train.y))
    for rate in (0.01, 0.1):
        step = -rate * (0.5 - y) @ np.column_stack([x, np.ones(len(y))]) / len(y)
        logits = np.asarray(data.test.x, np.float64) @ step[:-1] + step[-1]
        loss = np.mean(np.logaddexp(0, logits) - np.asarray(data.test.y) * logits)
        rows = frame[np.isclose(frame.learning_rate, rate)]
        np.testing.assert_allclose(rows["test.loss"], loss, rtol=1e-5)
        right = (logits > 0) == np.asarray(data.test.y)
        np.testing.assert_allclose(rows["test.accuracy"], right.mean(), rtol=1e-6)
        worst = min(right[np.asarray(data.test.group) == group].mean() for group in range(2))
        np.testing.assert_allclose(rows["test.worst_group_accuracy"], worst, rtol=1e-6)


def test_best_is_chosen_on_validation_rows(small, capsys):
    path, store = small
    assert call(path, "--store", store, "--json") == 0
    best = json.loads(capsys.readouterr().out.splitlines()[-2])
    frame = pd.read_csv(results_of(store))
    means = frame.groupby("learning_rate")["validation.loss"].mean()
    assert means[0.1] < means[0.01] < np.log(2)
    assert best["learning_rate"] == 0.1  # the least loss, which is not the first row
    assert best["validation"].startswith(f"{means[0.1]:.4f}")
    chosen = frame[frame.learning_rate == 0.1]
    assert best["test loss"].startswith(f"{chosen['test.loss'].mean():.4f}")


def test_a_dry_run_counts_and_writes_nothing(small, tmp_path, capsys):
    path, store = small
    assert call(path, "--store", tmp_path / "new", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["trials"], found["stored"], found["programs"], found["blocks"]) == (6, 0, 1, 3)
    assert found["num_bytes"] > 1000 * 61 * 4  # the rows themselves
    assert not (tmp_path / "new").exists()
    assert call(path, "--store", store, "--dry-run") == 0
    assert "left are 0 programs and 0 blocks" in capsys.readouterr().out


def test_a_dry_run_sees_what_is_left_of_a_plan(small, tmp_path, capsys):
    path, store = small
    copied = tmp_path / "store"
    subprocess.run(["cp", "-r", str(store), str(copied)], check=True)
    plan = plan_from_json((copied / "plans" / "00000.json").read_text())
    block = next(file for file in (copied / "blocks").iterdir() if file.name.startswith(plan.name))
    block.unlink()
    assert call(path, "--store", copied, "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["stored"], found["programs"], found["blocks"]) == (4, 1, 1)


def test_files_that_share_a_store_have_results_of_their_own(small, tmp_path, capsys):
    _, store = small
    first = results_of(store)
    before = first.read_bytes(), first.with_name("provenance.json").read_bytes()
    other = written(tmp_path, SMALL.replace("[0.01, 0.1]", "0.1"))
    assert call(other, "--store", store, "--json") == 0
    path = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["path"])
    assert path != first
    assert len(pd.read_csv(path)) == 3
    assert (first.read_bytes(), first.with_name("provenance.json").read_bytes()) == before


def test_tables_of_one_method_are_told_apart(tmp_path, capsys):
    table = SMALL[SMALL.index("[method]") : SMALL.index("[optimizer]")]
    tables = ['[[method]]\nname = "erm"\nreduction = "sum"\n', '[[method]]\nname = "erm"\nreduction = "root"\n']
    path = written(tmp_path, SMALL.replace(table, "".join(tables) + '[[method]]\nname = "dro"\nfraction = 0.5\n'))
    assert call(path, "--store", tmp_path / "store", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    best = [event for event in events if event["event"] == "best"]
    assert [(row["method"], row.get("reduction")) for row in best] == [("erm", "sum"), ("erm", "root"), ("dro", None)]
    assert ["learning_rate" in row for row in best] == [True] * 3


def test_a_store_of_something_else_is_refused(small, tmp_path, capsys):
    _, store = small
    other = written(tmp_path, SMALL + "\n[split]\nseed = 1\n")
    assert call(other, "--store", store) == 2
    assert "on other data" in capsys.readouterr().err


def test_the_cache_is_for_the_command_alone(small):
    assert jax.config.jax_compilation_cache_dir is None
    with cli_sweep.compilation_cache():
        directory = jax.config.jax_compilation_cache_dir
        assert Path(directory).parts[-2:] == ("badrjax", "jax")
    assert jax.config.jax_compilation_cache_dir is None


def test_a_method_that_diverges_everywhere_is_said_after_its_results_are_kept(tmp_path, capsys):
    path = written(tmp_path, SMALL.replace("[0.01, 0.1]", "1e38").replace("num_epochs = 1", "num_epochs = 9"))
    assert call(path, "--store", tmp_path / "store", "--json") == 0
    best = json.loads(capsys.readouterr().out.splitlines()[-2])
    assert (best["method"], best["not_measured"]) == ("erm", 3)
    assert pd.read_csv(results_of(tmp_path / "store"))["test.accuracy"].isna().all()


def test_the_plain_table_says_what_the_rich_one_does(monkeypatch, capsys):
    rows = [
        {"method": "erm", "rate": 0.1, "validation": "0.5", "test loss": "1 [red]"},
        {"method": "dro", "fraction": 0.25},
    ]
    cli_sweep.print_table(rows)
    rich = capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "rich", None)
    cli_sweep.print_table(rows)
    plain = capsys.readouterr().out
    assert plain.split() == [word for word in rich.split() if "─" not in word]
    assert [line.split()[0] for line in plain.splitlines()] == ["method", "rate", "fraction", "validation", "test"]


@pytest.mark.slow  # the interpreter now and then drops an interrupt that strikes inside a callback
def test_an_interrupt_keeps_blocks_and_says_how_to_go_on(tmp_path):
    path = written(tmp_path, SMALL.replace("count = 3", "count = 300").replace("block = 2", "block = 1"))
    store = tmp_path / "store"
    program = (
        "import argparse, sys; from badrjax import cli_sweep; parser = argparse.ArgumentParser(); "
        "cli_sweep.add_to(parser.add_subparsers()); options = parser.parse_args(); sys.exit(options.run(options))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "sweep", str(path), "--store", str(store), "--json"],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if json.loads(line)["event"] == "block":
            break
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"finished blocks are kept in {store}" in errors
    assert f"`badrjax sweep {path} --store {store}` goes on" in errors
    assert "Traceback" not in errors
    assert any((store / "blocks").glob("[!.]*"))
    assert not any((store / "leases").glob("[!.]*"))
    assert time.monotonic() - started < 30
