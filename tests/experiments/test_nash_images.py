"""The experiment on images, made small: what it draws, stores, prints and writes."""

import dataclasses
import io
import json
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import badrjax as bx
from badrjax import plotting
from badrjax.datasets import cifar, registry
from badrjax.models import resnet18
from experiments import image_reports, image_runs, image_subsets, nash_images, nash_protocol, reading
from tests.datasets.test_cifar import records, tar
from tests.experiments.tables import row

NAMES = ("fish", "apple", "bear")
PAIR = ("learning_to_reweight", "nash_learning_to_reweight")
NUM_TRAIN, NUM_TEST = 20, 4  # of each class


def pictures(classes, seed):
    """Planes of noise, of which the first class has more red and the second more green."""
    planes = np.random.default_rng(seed).integers(0, 160, (len(classes), 3, 32, 32))
    planes[np.arange(len(classes)), classes] += 90
    return planes.astype(np.uint8)


def archive():
    train, test = (np.tile(np.arange(3), number) for number in (NUM_TRAIN, NUM_TEST))
    return tar(
        {
            "cifar-100-binary/train.bin": records(pictures(train, 0), train, 2),
            "cifar-100-binary/test.bin": records(pictures(test, 1), test, 2),
            "cifar-100-binary/fine_label_names.txt": "\n".join(NAMES).encode() + b"\n",
        }
    )


@pytest.fixture(scope="module")
def data_home(tmp_path_factory):
    """A directory with a CIFAR-100 of three classes, in place of the real one."""
    directory = tmp_path_factory.mktemp("images")
    file = dataclasses.replace(cifar.CIFAR100_ARCHIVE, sha256="")
    (directory / file.path).parent.mkdir()
    (directory / file.path).write_bytes(archive())
    with pytest.MonkeyPatch.context() as patch:
        entry = dataclasses.replace(cifar.CIFAR100, files=((file,),))
        patch.setitem(registry._ENTRIES, "cifar100", entry)
        patch.delenv("BADRJAX_DATA", raising=False)
        yield directory


def settings(folder, data_home, **changes):
    small = {
        "dataset": "cifar100",
        "classes": ("0", "apple"),
        "majority_share": 0.75,
        "train_size": 16,
        "methods": PAIR,
        "seeds": (0, 1),
        "epochs": 3,
        "bargaining_epochs": 1,
        "batch_size": 8,
        "width": 2,
        "blocks": (1,),
        "learning_rate": 0.05,
        "out": folder / "out",
        "data_home": data_home,
        "cache": False,
    }
    return nash_images.Settings(**small | changes)


def load(data_home, **changes):
    asked = {"majority_share": 0.75, "train_size": 16, "validation_per_class": 5, "seed": 0, "data_home": data_home}
    return image_subsets.load("cifar100", ("fish", "apple"), **asked | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_home):
    folder = tmp_path_factory.mktemp("run")
    console = Console(width=80, file=io.StringIO())
    frame = nash_images.main(settings(folder, data_home), console)
    return folder, frame, " ".join(console.file.getvalue().split()), console.file.getvalue()


def test_a_subset_has_the_share_asked_for_and_disjoint_parts(data_home):
    subset = load(data_home)
    dataset, splits = subset.dataset, subset.splits
    assert dataset.group_names == ("fish", "apple")  # the rare one last, though its name comes first
    np.testing.assert_array_equal(dataset.group, dataset.y)
    assert np.bincount(dataset.y[splits.train]).tolist() == [12, 4] == list(subset.wanted)
    assert np.bincount(dataset.y[splits.validation]).tolist() == [5, 5]
    assert np.bincount(dataset.y[splits.test]).tolist() == [NUM_TEST, NUM_TEST]
    parts = [set(part.tolist()) for part in splits]
    assert sum(map(len, parts)) == len(set.union(*parts))
    fish = dataset.x.reshape(-1, 1024, 3)[dataset.y == 0].mean((0, 1))
    assert fish.argmax() == 0


def test_the_seed_draws_the_images(data_home):
    one, same, other = (load(data_home, seed=seed) for seed in (0, 0, 1))
    for part, again, different in zip(one.splits, same.splits, other.splits, strict=True):
        np.testing.assert_array_equal(part, again)
        assert part.shape == different.shape
    assert set(one.splits.validation) != set(other.splits.validation)
    np.testing.assert_array_equal(one.splits.test, other.splits.test)


def test_too_few_images_are_told_with_what_is_run_instead(data_home):
    assert "Asked for" not in image_subsets.describe(load(data_home))
    subset = load(data_home, train_size=500)
    assert (subset.wanted, subset.taken) == ((375, 125), (15, 5))
    text = image_subsets.describe(subset)
    for told in ("15 training images of fish and 5 of apple", "375 and 125", "hold 20", "20 of the 500"):
        assert told in text


def test_the_largest_size_keeps_the_share():
    assert image_subsets.counts(5000, 0.99) == (4950, 50)
    assert image_subsets.counts(500, 0.95) == (475, 25)
    assert image_subsets.largest_size(5000, 0.99, (4995, 4995)) == 5000
    size = image_subsets.largest_size(5000, 0.99, (655, 655))
    assert image_subsets.counts(size, 0.99) == (655, 7)
    assert image_subsets.largest_size(40, 0.99, (655, 655)) is None


def test_colours_are_scaled_by_the_rows_that_are_named(data_home):
    subset = load(data_home)
    scaled = image_subsets.standardise_channels(subset.dataset, subset.splits.train)
    pixels = scaled.x.reshape(-1, 1024, 3)
    np.testing.assert_allclose(pixels[subset.splits.train].mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(pixels[subset.splits.train].std((0, 1)), 1, atol=1e-5)
    assert np.abs(pixels[subset.splits.test].mean((0, 1))).max() > 1e-3
    everything = image_subsets.standardise_channels(subset.dataset, None).x.reshape(-1, 1024, 3)
    np.testing.assert_allclose(everything.mean((0, 1)), 0, atol=1e-5)


def test_measurements_agree_with_numpy(data_home):
    rows = image_runs.to_rows(load(data_home))
    model = resnet18(width=2, blocks=(1,), convolutions="patches")
    params = jax.jit(model.init)(jax.random.key(3))
    scores = np.asarray(jax.jit(model.apply)(params, rows.test.x))
    right = scores.argmax(1) == np.asarray(rows.test.y)
    by_class = [right[np.asarray(rows.test.y) == label].mean() for label in (0, 1)]
    measured = jax.jit(lambda p: image_runs.measure(model, rows.test, p))(params)
    np.testing.assert_allclose(measured.by_class, by_class, rtol=1e-6)
    np.testing.assert_allclose(measured.accuracy, right.mean(), rtol=1e-6)  # equally many of both
    np.testing.assert_allclose([measured.worst, measured.gap], [min(by_class), np.ptp(by_class)], rtol=1e-6)
    true = np.take_along_axis(scores, np.asarray(rows.test.y)[:, None], 1)[:, 0]
    np.testing.assert_allclose(measured.loss, (np.log(np.exp(scores).sum(1)) - true).mean(), rtol=1e-4)
    broken = image_runs.measure(model, rows.test, jax.tree.map(lambda leaf: leaf * np.nan, params))
    assert np.isnan(broken.accuracy)


@pytest.mark.slow
def test_a_run_is_the_loop_over_its_batches(finished, data_home):
    """One program of a run against steps called one by one, for compilers have been seen to freeze loops."""
    _, frame, _, _ = finished
    chosen = settings(finished[0], data_home)
    size, protocol = nash_images.sizes(chosen), nash_images.protocol_of(chosen)
    subset = load(data_home)
    dataset = image_subsets.standardise_channels(subset.dataset, subset.splits.train)
    rows = image_runs.to_rows(subset._replace(dataset=dataset))
    network = nash_images.network_of(size, dataset)
    model = resnet18(num_outputs=2, **network._asdict())
    method = image_runs.nash.make_method(
        PAIR[1], model, rows.validation, 2, nash_images.hyper_parameters(size, protocol), protocol=protocol
    )
    init_key, fit_key = jax.random.split(jax.random.key(1))
    init_key, (first, run_key) = jax.jit(model.init)(init_key), jax.random.split(fit_key)
    state, step = method.init(first, init_key), jax.jit(method.step)
    measured = []
    for epoch in range(3):
        shuffle, steps, end = bx.training.epoch_keys(run_key, epoch)
        positions = bx.shuffled(8, "drop").positions(shuffle, rows.data.group[rows.train])
        for number, chosen_rows in enumerate(positions):
            batch = bx.batches.take(rows.data, rows.train[chosen_rows])
            state, _ = step(jax.random.fold_in(steps, number), state, batch)
        state, _ = method.end_epoch(end, state, rows.data)
        measured.append(float(image_runs.measure(model, rows.test, state.params).loss))
    stored = frame[(frame.method == PAIR[1]) & (frame.seed == 1) & (frame.metric == "test_loss")].value
    np.testing.assert_allclose(stored, measured, rtol=1e-3)
    assert len(set(np.round(measured, 5))) == 3  # nothing stands still


@pytest.mark.slow
def test_the_frame_is_tidy_and_stored(finished):
    folder, frame, _, _ = finished
    stored = pd.read_csv(folder / "out" / "results.csv")
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    assert frame.groupby("metric").size().eq(2 * 2 * 3).all()
    assert {"test_accuracy", "test_by_class_1", "validation_worst", "aligned", "feasible"} <= set(frame.metric)
    assert frame[frame.metric == "test_accuracy"].value.between(0, 1).all()
    bargained = frame[(frame.metric == "bargaining") & (frame.method == PAIR[1])]
    assert bargained.groupby("epoch").value.mean().tolist() == [1, 0, 0]
    origin = json.loads((folder / "out" / "provenance.json").read_text())
    assert origin["settings"]["train_taken"] == [12, 4]
    assert origin["settings"]["protocol_options"]["cells"] == "groups"
    assert len(origin["data_sha256"]["cifar100"]) == 64


@pytest.mark.slow
def test_what_is_printed(finished):
    _, _, text, shown = finished
    assert "12 training images of fish and 4 of apple" in text
    assert "Not the paper's size" in text
    for told in ("training images 16, not 500", "learning rate 0.05, not 0.0005", "common class 0.75, not 0.95"):
        assert told in text
    assert "LtR" in text
    assert all(len(line) <= 80 for line in shown.splitlines() if "│" in line or "┃" in line)


def test_what_is_not_the_papers_is_told():
    paper = nash_images.Settings()
    size = nash_images.sizes(paper)
    assert nash_images.not_the_papers(paper, size) == []
    other = dataclasses.replace(paper, majority_share=0.9, validation_per_class=6)
    assert nash_images.not_the_papers(other, size._replace(learning_rate=0.1, blocks=(1,))) == [
        "residual blocks (1,), not (2, 2, 2, 2)",
        "learning rate 0.1, not 0.0005",
        "share of the common class 0.9, not 0.99",
        "validation images of each class 6, not 5",
    ]


def test_runs_are_known_by_what_training_depends_on(data_home, monkeypatch):
    """Which epoch is reported makes no other run, and no other store."""
    rows, stores = image_runs.to_rows(load(data_home)), []
    monkeypatch.setattr(image_runs.bx, "sweep", lambda *_, store, **__: stores.append(store))
    chosen = nash_protocol.HyperParameters(0.1, 0.0, 8)
    for changes in ((), ("epoch=test",), ("f1_term=true",)):
        protocol = nash_protocol.changed("paper", changes)
        options = {"network": None, "protocol": protocol, "chosen": chosen, "diagnostics": 1, "block": 1}
        image_runs.sweep(rows, PAIR, (0,), store=data_home, **options)
    assert stores[0] == stores[1] != stores[2]


@pytest.mark.slow
def test_going_on_from_the_store_runs_only_what_is_missing(finished, data_home, tmp_path, monkeypatch):
    folder, frame, _, _ = finished
    quiet = Console(quiet=True)
    again = settings(tmp_path, data_home, store=folder / "out" / "store")
    monkeypatch.setattr("badrjax.sweeps.worker.Worker.results", lambda *_: pytest.fail("a trial ran again"))
    pd.testing.assert_frame_equal(nash_images.main(again, quiet), frame)
    # Other settings beside them are other runs, not an error and not these.
    with pytest.raises(pytest.fail.Exception, match="ran again"):
        nash_images.main(dataclasses.replace(again, learning_rate=0.1), quiet)


@pytest.mark.slow
def test_the_figure_is_written(finished):
    assert (finished[0] / "out" / "accuracy.png").stat().st_size > 10_000


def invented(**accuracy):
    """A frame of methods with test accuracies `[S, E]`."""
    rows = [
        {"method": method, "metric": metric, "seed": seed, "epoch": epoch, "value": value}
        for method, runs in accuracy.items()
        for metric in ("test_accuracy", "test_worst", "validation_accuracy")
        for seed, values in enumerate(runs)
        for epoch, value in enumerate(values if metric != "validation_accuracy" else values[::-1], 1)
    ]
    return pd.DataFrame(rows)


def shown(table):
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_the_epoch_rules():
    frame = invented(forml=[[0.7, 0.9, 0.6], [0.8, 0.7, 0.5]])
    expected = {"last": [0.6, 0.5], "test": [0.9, 0.7], "validation": [0.9, 0.7]}
    for rule, values in expected.items():
        np.testing.assert_allclose(image_reports.reported(frame, "forml", "accuracy", rule), values)
    diverged = invented(forml=[[0.7, 0.9, 0.6], [np.nan] * 3])
    np.testing.assert_allclose(image_reports.reported(diverged, "forml", "accuracy", "test"), [0.9, np.nan])


def test_the_table_shows_one_stage_beside_two():
    frame = invented(
        baseline=[[0.5], [0.6]], forml=[[0.7], [0.72]], nash_forml=[[0.8], [np.nan]], meta_group_dro=[[0.6], [0.6]]
    )
    table = image_reports.table(frame, "last")
    accuracy, worst, spread = (row(table, "FORML", section) for section in range(3))
    assert accuracy == worst == ["0.710 ±0.127", "0.800 (1 diverged)", "+0.100 (1 diverged)"]
    assert spread == ["0.014", "", ""]
    assert row(table, "Baseline") == ["0.550 ±0.635", "", ""]
    assert row(table, "Baseline", 2) == ["0.071", "", ""]
    assert row(table, "Meta-gDRO") == ["0.600 ±0.000", "", ""]
    assert "…" not in shown(table)


def test_the_figure_has_a_column_a_goal_and_shades_bargaining():
    frame = invented(baseline=[[0.5, 0.6]], forml=[[0.7, 0.7]], nash_forml=[[0.8, 0.8]], meta_group_dro=[[0.6, 0.6]])
    drawn = image_reports.figure(frame, bargaining_epochs=1, title="images")
    upper = drawn.axes[:2]
    assert [axes.get_title() for axes in upper] == ["FORML", "Meta-gDRO"]
    assert [line.get_label() for line in upper[0].lines] == ["Baseline", "one stage", "two stages"]
    drawn_as = {line.get_label(): (line.get_linestyle(), line.get_color()) for line in upper[0].lines}
    assert drawn_as["one stage"] == ("--", plotting.COLOURS[1])
    assert {stage: drawn_as[stage] for stage in reading.STAGES} == reading.STAGES
    np.testing.assert_allclose([line.get_ydata()[0] for line in upper[0].lines], [0.5, 0.7, 0.8])
    assert [len(axes.patches) for axes in upper] == [1, 0]
    assert image_reports.figure(invented(baseline=[[0.5]]), bargaining_epochs=1, title="") is None


def test_sizes_are_the_papers_unless_quick_or_given():
    assert nash_images.sizes(nash_images.Settings()) == nash_images.FULL["cifar10"]
    full = nash_images.sizes(nash_images.Settings(dataset="cifar100"))
    assert full[:7] == (500, 100, 30, 128, 64, (2, 2, 2, 2), 5e-4)
    quick = nash_images.sizes(nash_images.Settings(quick=True, width=16))
    assert quick == nash_images.QUICK["cifar10"]._replace(width=16)
    assert nash_images.sizes(nash_images.Settings(epochs=20)).bargaining_epochs == 20


def test_under_the_code_protocol_groups_bargain_one_epoch_fewer():
    chosen = nash_images.Settings(protocol="code", changes=("epoch=last",))
    protocol = nash_images.protocol_of(chosen)
    assert (protocol.cells, protocol.lookahead, protocol.epoch) == ("groups", "optimizer", "last")
    assert nash_images.hyper_parameters(nash_images.sizes(chosen), protocol).bargaining_epochs == 29


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("nash_form",)}, "nash_forml"),
        ({"methods": ()}, "at least one"),
        ({"seeds": (1, 1)}, "distinct"),
        ({"seeds": (-1,)}, "not negative"),
        ({"epochs": 0}, "epochs"),
        ({"blocks": (0,)}, "blocks must be"),
        ({"blocks": ()}, "blocks must be"),
        ({"learning_rate": np.inf}, "finite"),
        ({"learning_rate": np.nan}, "finite"),
        ({"majority_share": np.nan}, "majority_share"),
        ({"changes": ("cells=cells",)}, "no effect here: every group has one label"),
        ({"changes": ("validation_dropout=true",)}, "no dropout"),
        ({"bargaining_epochs": 4}, "between 0 and the 3 epochs"),
        ({"train_size": 1}, "train_size"),
        ({"majority_share": 1.0}, "majority_share"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"block": 0}, "block"),
        ({"split_seed": -1}, "split_seed"),
        ({"changes": ("epoch",)}, "option=value"),
    ],
)
def test_bad_settings_are_refused_before_any_image_is_read(tmp_path, data_home, monkeypatch, changes, message):
    monkeypatch.setattr(image_subsets, "load", lambda *_, **__: pytest.fail("images were read"))
    with pytest.raises(ValueError, match=message):
        nash_images.main(settings(tmp_path, data_home, **changes), Console(quiet=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 17}, "batch_size 17"),
        ({"classes": ("fish", "boat")}, "boat"),
        ({"validation_per_class": 20}, "none of a class would be left"),
        ({"train_size": 8, "majority_share": 0.99}, "none of a class would be left"),
    ],
)
def test_bad_settings_are_refused_before_any_run(tmp_path, data_home, monkeypatch, changes, message):
    monkeypatch.setattr("badrjax.sweep", lambda *_, **__: pytest.fail("the sweep began"))
    with pytest.raises(ValueError, match=message):
        nash_images.main(settings(tmp_path, data_home, **changes), Console(quiet=True))


@pytest.mark.slow
def test_the_script_runs_on_the_stored_images(tmp_path):
    command = ["nash_images", "--quick", "--epochs", "1", "--width", "2", "--blocks", "1", "--seeds", "0"]
    command += ["--methods", "nash_forml", "--no-cache", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *command], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results.csv").exists()
