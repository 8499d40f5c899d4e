"""The demo, shortened: what it compiles, prints and writes."""

import builtins
import io
import json
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import badrjax as bx
import experiments.__main__
from badrjax import metrics
from experiments import __main__ as script
from experiments import nash, nash_demo, running

PAIR = ("baseline", "nash_forml")


def settings(tmp_path, **changes):
    return nash_demo.Settings(**{"methods": PAIR, "epochs": 1, "out": tmp_path, "cache": False} | changes)


@pytest.fixture
def no_last_value(monkeypatch):
    """Doctests in the same process leave their last value in `builtins._`, with which tyro may fail to import."""
    monkeypatch.delattr(builtins, "_", raising=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run with what it printed, and how many programs it compiled."""
    folder = tmp_path_factory.mktemp("demo")
    console = Console(width=80, file=io.StringIO())
    before = running.fit_seeds._cache_size()
    frame = nash_demo.main(settings(folder), console)
    return folder, console, frame, running.fit_seeds._cache_size() - before


@pytest.mark.slow
def test_each_method_and_block_of_seeds_is_one_compilation(finished, tmp_path):
    assert finished[3] == len(PAIR)
    before = running.fit_seeds._cache_size()
    nash_demo.main(settings(tmp_path, seeds=(7, 8, 9)), Console(quiet=True))
    assert running.fit_seeds._cache_size() == before


def test_the_frame_is_tidy_and_complete(finished):
    folder, _, frame, _ = finished
    stored = pd.read_csv(folder / "results.csv")
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    overall = frame[(frame.metric == "test_overall") & (frame.method == "nash_forml")]
    assert sorted(zip(overall.seed, overall.epoch, strict=True)) == [(0, 1), (1, 1), (2, 1)]
    assert overall.value.between(0.3, 1).all()
    assert set(frame.method) == set(PAIR)
    bargaining = frame[(frame.metric == "bargaining") & (frame.method == "nash_forml")]
    assert (bargaining.value == 1).all()  # the epoch lies in the bargaining stage


def test_provenance_tells_where_it_comes_from(finished):
    origin = json.loads((finished[0] / "provenance.json").read_text())
    assert origin["settings"]["seeds"] == [0, 1, 2]
    assert origin["settings"]["hyper_parameters"]["learning_rate"] == 0.001
    assert len(origin["data_sha256"]["adult"]) == 64
    assert origin["libraries"]["jax"] == jax.__version__


def test_the_table_shows_ours_beside_the_papers_within_80_columns(finished):
    console = Console(width=80, file=io.StringIO())
    console.print(nash_demo.table(finished[2], (0, 1, 2)))
    shown = console.file.getvalue()
    assert "…" not in shown
    assert "0.778 ±0.004" in shown  # the paper's baseline
    assert "FORML, two stages" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_figures_are_written(finished):
    for name in ("stages.png", "stages.svg"):
        assert (finished[0] / name).stat().st_size > 10_000


def test_selection_rules():
    rows = [
        {"method": "m", "metric": f"test_{metric}", "seed": seed, "epoch": epoch, "value": value}
        for metric in ("overall", "gap", "worst")
        for seed, values in enumerate([[0.7, 0.9, 0.6], [0.8, 0.7, 0.9]])
        for epoch, value in enumerate(values, 1)
    ]
    frame = pd.DataFrame(rows)
    np.testing.assert_allclose(nash_demo.selected(frame, "m", "last")["overall"], [0.6, 0.9])
    np.testing.assert_allclose(nash_demo.selected(frame, "m", "paper")["gap"], [0.9, 0.7])  # means .75 .80 .75


def test_a_diverged_seed_is_shown_as_diverged(finished):
    frame = finished[2].copy()
    broken = frame.seed == 1
    frame.loc[broken & frame.metric.str.startswith("test_"), "value"] = np.nan
    console = Console(width=120, file=io.StringIO())
    console.print(nash_demo.table(frame, (0, 1, 2)))
    assert "(1 diverged)" in console.file.getvalue()


def test_measurements_of_a_diverged_model_are_not_finite():
    model = bx.models.linear(3, 2)
    params = jax.tree.map(lambda leaf: leaf * np.nan, model.init(jax.random.key(0)))
    test = bx.Batch(np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), np.ones(4, np.float32))
    measured = nash.evaluation(model, test, 2)(type("State", (), {"params": params}))
    assert not np.isfinite(measured.overall)
    assert not np.isfinite(measured.loss)


def test_measurements_agree_with_the_metrics():
    rng = np.random.default_rng(0)
    model = bx.models.mlp(3, (4,), 2)
    state = type("State", (), {"params": model.init(jax.random.key(0))})
    test = bx.Batch(
        rng.normal(size=(40, 3)).astype(np.float32),
        rng.integers(0, 2, 40),
        rng.integers(0, 2, 40),
        np.ones(40, np.float32),
    )
    measured = nash.evaluation(model, test, 2)(state)
    predicted = np.argmax(model.apply(state.params, test.x), axis=1)
    by_group = [metrics.balanced_accuracy(test.y[test.group == k], predicted[test.group == k]) for k in (0, 1)]
    np.testing.assert_allclose(measured.by_group, by_group, rtol=1e-6)
    np.testing.assert_allclose(measured.gap, abs(by_group[0] - by_group[1]), rtol=1e-5)
    np.testing.assert_allclose(measured.worst, min(by_group), rtol=1e-6)


def test_targets_keep_the_papers_identity():
    cells = nash.paper_cells("adult_sex")
    assert len(cells) == 24
    off = [
        method
        for method in nash.METHODS
        if abs(cells[method, "worst"][0] - (cells[method, "overall"][0] - cells[method, "gap"][0] / 2)) > 0.002
    ]
    assert off == ["meta_group_dro"]  # the printed row that cannot be right


def test_redrawn_validation_rows_keep_their_cells_and_the_test_rows():
    dataset = bx.load_dataset("adult", sensitive="sex", variant="nash")
    splits = bx.datasets.split(dataset, "balanced", seed=0)
    other = nash_demo.redraw_validation(dataset, splits, 3)
    np.testing.assert_array_equal(other.test, splits.test)
    np.testing.assert_array_equal(dataset.group[other.validation], dataset.group[splits.validation])
    np.testing.assert_array_equal(dataset.y[other.validation], dataset.y[splits.validation])
    assert not set(other.validation) & set(splits.validation)
    assert sorted(np.concatenate([other.train, other.validation])) == sorted(
        np.concatenate([splits.train, splits.validation])
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("nash_form",)}, "nash_forml"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "distinct"),
        ({"seeds": (-1,)}, "not negative"),
        ({"seeds": (2**32,)}, r"below 2\*\*32"),
        ({"epochs": 0}, "epochs"),
        ({"diagnostics": 0}, "diagnostics"),
        ({"workers": 0}, "workers"),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        nash_demo.main(settings(tmp_path, **changes), Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    monkeypatch.setattr(nash_demo, "_run", lambda *_: pytest.fail("the runs began"))
    with pytest.raises(OSError, match="taken"):
        nash_demo.main(settings(tmp_path, out=taken), Console(quiet=True))


def test_after_an_error_the_methods_that_have_not_begun_are_not_run(tmp_path, monkeypatch):
    begun = []

    def fail(keys, model, method, *_, **__):
        begun.append(method)
        if len(begun) > 1:  # one may begin before the error is noticed
            time.sleep(1)
        raise RuntimeError("no memory")

    monkeypatch.setattr(nash_demo.running, "fit_seeds", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        nash_demo.main(settings(tmp_path, methods=tuple(nash.METHODS), workers=1), Console(quiet=True))
    assert len(begun) <= 2


def test_the_official_split_needs_its_file(tmp_path, monkeypatch):
    monkeypatch.delenv("BADRJAX_DATA", raising=False)
    with pytest.raises((ValueError, OSError), match="adult_sex"):
        nash_demo.main(settings(tmp_path, split="official"), Console(quiet=True))


def test_an_empty_directory_is_not_the_one_that_one_is_in(tmp_path, monkeypatch, capsys, no_last_value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nash_demo, "main", lambda _: None)
    for arguments in (["--out", ""], ["--out="]):
        monkeypatch.setattr(sys, "argv", ["experiments", "nash_demo", *arguments])
        assert script.main() == 2
        assert "--out is given nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [([], 0, "nash_demo"), (["nash_dem"], 2, "did you mean 'nash_demo'"), (["nash_demo", "--help"], 0, "--split-seed")],
)
def test_the_script_lists_explains_and_corrects(arguments, status, said, capsys, monkeypatch, no_last_value):
    monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
    try:
        ended = experiments.__main__.main()
    except SystemExit as exit:  # of the help
        ended = exit.code or 0
    printed = capsys.readouterr()
    assert ended == status
    assert said in printed.out + printed.err


def test_the_script_is_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "experiments"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "nash_demo" in done.stdout
