"""Fits against scikit-learn and closed forms, and what is kept is what comes back."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import badrjax as bx
from badrjax import learners
from badrjax.datasets import take
from badrjax.learners.fronts import _plain
from badrjax.learners.rows import Rows, balanced_holdout, held_out, stratified_holdout
from badrjax.learners.settings import checked


def made_up(n=240, seed=0, classes=True):
    """Rows whose label follows the features, with a group that the first feature tells of."""
    rng = np.random.default_rng(seed)
    sex, race = rng.integers(0, 2, n), rng.integers(0, 2, n)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 0] += 0.8 * sex
    logits = 1.5 * x[:, 0] - x[:, 1] + 0.5
    y = (rng.uniform(size=n) < 1 / (1 + np.exp(-logits))).astype(np.int32)
    if not classes:
        y = (2 * x[:, 0] - x[:, 1] + 5 + 0.1 * rng.normal(size=n)).astype(np.float32)
    attributes = {"sex": bx.encode_groups(sex), "race": bx.encode_groups(race)}
    groups = bx.encode_groups(sex, race)
    return bx.Dataset(
        x=x, y=y, group=groups.ids, feature_names=("a", "b", "c"), group_names=groups.names, name="made up",
        source="here", licence="none", label_name="y", favourable="1", sensitive=("sex", "race"),
        attributes=attributes,
    )  # fmt: skip


def test_erm_is_scikit_learns_logistic_regression():
    data = made_up()
    found = learners.train(data, num_epochs=400, learning_rate=0.05)
    reference = LogisticRegression(C=np.inf).fit(data.x, data.y)
    np.testing.assert_allclose(learners.scores(found, data.x), reference.decision_function(data.x), atol=0.02)
    np.testing.assert_allclose(learners.probabilities(found, data.x), reference.predict_proba(data.x)[:, 1], atol=5e-3)


def test_a_regression_is_least_squares_in_the_targets_own_units():
    data = made_up(classes=False)
    found = learners.train(data, num_epochs=400, learning_rate=0.05)
    reference = LinearRegression().fit(data.x, data.y).predict(data.x)
    np.testing.assert_allclose(learners.predictions(found, data.x), reference, atol=0.02)


def test_badr_is_no_worse_in_its_objective_than_equal_weights_or_shares():
    data = made_up()
    by_sex = dataclasses.replace(data, group=data.attributes["sex"].ids, group_names=("0", "1"))
    found = learners.train(by_sex, method="badr", objective="demographic_parity")
    info = found.info
    assert info["objective on training rows"] <= info["objective at equal weights"] + 1e-6
    assert info["objective on training rows"] <= info["objective at the groups' shares"] + 1e-6
    weights = [value for name, value in info.items() if name.startswith("weight of ")]
    assert len(weights) == 2
    assert sum(weights) == pytest.approx(1, abs=1e-4)


def test_units_of_features_do_not_matter():
    data = made_up()
    scaled = made_up()
    object.__setattr__(scaled, "x", data.x * np.array([1e3, 1e-3, 7], np.float32) + np.float32(2))
    first, second = (learners.train(one, num_epochs=5) for one in (data, scaled))
    np.testing.assert_allclose(learners.scores(first, data.x), learners.scores(second, scaled.x), atol=2e-3)


def test_the_number_of_rows_at_prediction_does_not_matter():
    data = made_up()
    found = learners.train(data, num_epochs=2)
    whole = learners.scores(found, data.x)
    np.testing.assert_allclose(learners.scores(found, data.x[:7]), whole[:7], rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "erm", "model": "mlp", "hidden": (4,)},
        {"method": "group_dro"},
        {"method": "nash_meta", "batch_size": 64},
        {"method": "fairbinn", "objective": "equal_opportunity", "hidden": (4,)},
        {"method": "badr", "objective": "variance", "model": "mlp", "hidden": (4,)},
    ],
)
def test_what_is_kept_is_what_comes_back(options, tmp_path):
    data = made_up()
    found = learners.train(data, num_epochs=2, **options)
    learners.save(found, tmp_path)
    back = learners.load(tmp_path)
    np.testing.assert_array_equal(learners.scores(back, data.x), learners.scores(found, data.x))
    assert back.settings == found.settings
    assert learners.describe(back) == learners.describe(found)
    assert {file.name for file in tmp_path.iterdir()} == {"model.json", "model.safetensors"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fairlab", "expgrad"])
def test_methods_with_constraints(method, tmp_path):
    data = made_up(600)
    constraint = ("demographic_parity", "sex", 0.1)
    options = {"rounds": 4, "local_epochs": 5} if method == "fairlab" else {"max_iter": 5}
    found = learners.train(data, method=method, constraints=[constraint], options=options)
    plain = learners.train(data)

    def gap(trained):
        predicted = learners.predictions(trained, data.x)
        return abs(np.diff([predicted[data.attributes["sex"].ids == sex].mean() for sex in (0, 1)])[0])

    assert gap(found) < gap(plain)
    learners.save(found, tmp_path)
    np.testing.assert_array_equal(
        learners.predictions(learners.load(tmp_path), data.x), learners.predictions(found, data.x)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about | {"format": 99}, "format 99"),
        (lambda about: about | {"badrjax": "7.3.0"}, "was written by badrjax 7.3.0"),
        (lambda about: about | {"sha256": "0" * 64}, "has been changed since it was written"),
        (lambda about: about | {"favourable": "0"}, "has been changed since it was written"),
        (lambda about: about | {"badrjax": None}, "was written by badrjax None"),
        (lambda about: {k: v for k, v in about.items() if k != "sha256"}, "cannot be read as a model"),
    ],
)
def test_what_does_not_match_is_refused(change, message, tmp_path):
    learners.save(learners.train(made_up(), num_epochs=1), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=message):
        learners.load(tmp_path)


def test_arrays_that_changed_are_refused(tmp_path):
    learners.save(learners.train(made_up(), num_epochs=1), tmp_path)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not the file that model.json was written with"):
        learners.load(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        learners.load(tmp_path)


def test_bad_rows_are_refused():
    data = made_up()
    one_class = take(data, np.flatnonzero(data.y == 1))
    with pytest.raises(ValueError, match="one class only"):
        learners.train(one_class)
    one_group = take(data, np.flatnonzero(data.group == 0))
    with pytest.raises(ValueError, match="make one only"):
        learners.train(one_group, method="group_dro")
    with pytest.raises(ValueError, match="no row has any weight"):
        learners.train(data, weight=np.zeros(240))
    few = take(data, np.concatenate([np.flatnonzero(data.group != 3), np.flatnonzero(data.group == 3)[:1]]))
    with pytest.raises(ValueError, match="group '1 & 1' and label"):
        learners.train(few, method="forml")
    found = learners.train(data, num_epochs=1)
    with pytest.raises(ValueError, match="must have 3 features"):
        learners.scores(found, data.x[:, :2])
    with pytest.raises(ValueError, match="b"):
        learners.scores(found, np.where(np.arange(3) == 1, np.nan, data.x))


def test_weights_are_frequencies():
    data = made_up(60)
    times = np.arange(60) % 3
    repeated = take(data, np.repeat(np.arange(60), times))
    options = {"num_epochs": 30, "batch_size": 10_000, "learning_rate": 0.1}
    weighted = learners.train(data, weight=times, **options)
    again = learners.train(repeated, **options)
    np.testing.assert_allclose(learners.scores(weighted, data.x), learners.scores(again, data.x), atol=1e-4)


def test_rows_held_out_are_shares_of_every_cell_or_as_many_of_each():
    data = made_up()
    groups = bx.Groups(data.group, data.group_names, 4)
    rows = Rows(data.x, data.y, groups, data.attributes)
    settings = checked("classification", "forml")
    cell = data.group * 2 + data.y
    sizes = np.bincount(cell, minlength=8)
    train, held = stratified_holdout(rows, settings)
    assert (np.bincount(cell[held], minlength=8) == (0.2 * sizes).astype(int)).all()
    assert np.array_equal(np.union1d(train, held), np.arange(240))
    train, held = balanced_holdout(rows, settings)
    assert (np.bincount(cell[held], minlength=8) == int(0.2 * sizes.min())).all()
    assert np.intersect1d(train, held).size == 0


def test_a_randomised_predictor_says_so_and_draws_for_each_row_by_itself():
    data = made_up(2000)
    found = learners.train(data, num_epochs=1)
    params = jax.tree.map(lambda leaf: np.stack([leaf, -leaf]), found.params)
    mixed = found._replace(params=params, mixture=(np.array([0.25, 0.75], np.float32), np.array([-1, -1], np.int32)))
    assert mixed.randomised
    assert learners.describe(mixed)["prediction"] == "drawn among several models"
    chance = learners.probabilities(mixed, data.x)
    positive = learners.scores(found, data.x) > 0
    np.testing.assert_allclose(chance, np.where(positive, 0.25, 0.75), atol=1e-6)
    drawn = learners.predictions(mixed, data.x)
    # The same row is told the same, alone or among others; over rows the shares are the chances.
    np.testing.assert_array_equal(learners.predictions(mixed, data.x[40:50]), drawn[40:50])
    for one in (positive, ~positive):
        assert drawn[one].mean() == pytest.approx(chance[one][0], abs=4 * np.sqrt(0.1875 / one.sum()))


def test_rows_to_measure_on_are_the_share_that_was_asked_for():
    data = made_up(403)
    cell = data.group * 2 + data.y
    chosen = np.zeros(403)
    for seed in range(40):
        train, test = held_out(data, 0.25, seed)
        assert test.size in (100, 101)
        assert np.array_equal(np.union1d(train, test), np.arange(403))
        assert np.abs(np.bincount(cell[test], minlength=8) - np.bincount(cell, minlength=8) / 4).max() <= 1
        chosen[test] += 1
    # Every row has the same chance, those of small cells too.
    assert np.bincount(cell, chosen).sum() == pytest.approx(40 * 403 / 4, rel=0.01)
    by_cell = np.bincount(cell, chosen) / np.bincount(cell) / 40
    np.testing.assert_allclose(by_cell, 0.25, atol=0.03)


def test_plain_training_on_the_front_has_the_methods_model_and_epochs():
    chosen = checked("classification", "fairbinn", objective="hsic", num_epochs=3, hidden=(4,))
    options = {"objective": "hsic", "num_epochs": 3, "hidden": (4,), "model": None}
    assert _plain(chosen, options) == {"num_epochs": 3, "hidden": (4,), "model": "mlp"}
    chosen = checked("classification", "badr", objective="hsic", num_epochs=3, model="mlp")
    assert _plain(chosen, {"objective": "hsic", "num_epochs": 3}) == {"model": "mlp"}
