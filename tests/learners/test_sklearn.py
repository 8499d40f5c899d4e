"""The scikit-learn face in scikit-learn's own hands."""

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, selection_rate
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import check_estimator

import badrjax as bx
from badrjax.learners.settings import Settings
from badrjax.sklearn import FairClassifier, FairRegressor
from tests.learners.test_learners import made_up

DATA = made_up()
SEX = np.array(["f", "m"])[DATA.attributes["sex"].ids]
LABELS = np.array(["no", "yes"])[DATA.y]


class ByFirstColumn(FairClassifier):
    """A method of groups under checks that know none: the first column tells them, or else the row's number."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y, sample_weight=sample_weight)

    def _fit(self, task, x, y, sensitive_features, sample_weight):
        groups = x[:, 0] > np.median(x[:, 0])
        groups = np.arange(len(x)) % 2 if len(set(groups)) < 2 else groups
        super()._fit(task, x, y, groups, sample_weight)


def test_classes_groups_and_shapes():
    model = FairClassifier("group_dro", num_epochs=3).fit(DATA.x, LABELS, sensitive_features=SEX)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.groups_ == ("f", "m")
    assert model.n_features_in_ == 3
    chances = model.predict_proba(DATA.x)
    assert chances.shape == (240, 2)
    np.testing.assert_allclose(chances.sum(1), 1)
    np.testing.assert_array_equal(model.predict(DATA.x) == "yes", model.decision_function(DATA.x) > 0)
    np.testing.assert_array_equal(model.predict(DATA.x) == "yes", chances[:, 1] > 0.5)


def test_the_same_seed_gives_the_same_model():
    first, second, other = (
        FairClassifier(num_epochs=2, batch_size=32, random_state=s).fit(DATA.x, LABELS).decision_function(DATA.x)
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_sensitive_features_in_any_form_make_the_same_groups():
    frame = pd.DataFrame({"sex": SEX, "race": DATA.attributes["race"].ids})
    forms = [frame, {"sex": SEX, "race": frame["race"]}, frame.to_numpy()]
    names = {FairClassifier(num_epochs=1).fit(DATA.x, LABELS, sensitive_features=form).groups_ for form in forms}
    assert names == {("f & 0", "f & 1", "m & 0", "m & 1")}
    column = FairClassifier("group_dro", num_epochs=1).fit(DATA.x, LABELS, sensitive_features=frame["sex"])
    assert column.trained_.sensitive == ("sex",)


def test_a_clone_has_the_same_parameters_and_no_fit():
    model = FairClassifier("fairlab", constraints=[("demographic_parity", "sex", 0.1)], options={"budget": 0.1})
    again = clone(model)
    assert again.get_params() == model.get_params()
    assert not hasattr(again, "trained_")


def test_parameters_are_those_of_the_learners():
    known = set(Settings._fields) - {"task", "seed"} | {"random_state"}
    assert set(FairClassifier().get_params()) == known
    assert set(FairRegressor().get_params()) == known


def test_in_a_pipeline_and_a_search():
    frame = pd.DataFrame({"sex": SEX, "a": np.digitize(DATA.x[:, 0], [-0.5, 0.5])})
    pipeline = make_pipeline(OneHotEncoder(sparse_output=False), FairClassifier(num_epochs=2))
    search = GridSearchCV(pipeline, {"fairclassifier__method": ["erm", "group_dro"]}, cv=2, error_score="raise")
    search.fit(frame, LABELS, fairclassifier__sensitive_features=SEX)
    assert search.best_score_ > 0.5
    predicted = search.predict(frame)
    table = MetricFrame(metrics=selection_rate, y_true=DATA.y, y_pred=predicted == "yes", sensitive_features=SEX)
    gap = bx.metrics.demographic_parity_difference(
        DATA.y, (predicted == "yes").astype(int), DATA.attributes["sex"].ids, 2
    )
    assert table.difference() == pytest.approx(float(gap), abs=1e-6)


def test_an_objective_of_ones_own():
    def squared_gap(scores, labels, groups, num_groups, weight=None):
        means = bx.group_mean(scores, groups, num_groups, weight)
        return (means[0] - means[1]) ** 2

    model = FairClassifier("badr", objective=squared_gap).fit(DATA.x, LABELS, sensitive_features=SEX)
    assert model.info_["objective on training rows"] <= model.info_["objective at the groups' shares"]


def test_regression_in_the_targets_own_units():
    data = made_up(classes=False)
    model = FairRegressor("group_dro", num_epochs=300, learning_rate=0.05).fit(
        data.x, data.y, sensitive_features=data.attributes["sex"].ids
    )
    assert model.score(data.x, data.y) > 0.99


@pytest.mark.parametrize(
    ("model", "fit", "message"),
    [
        (FairClassifier("forml"), {}, "give fit"),
        (FairClassifier("forml"), {"sensitive_features": SEX[:-1]}, "one entry a row"),
        (FairClassifier("forml"), {"sensitive_features": [None, *SEX[1:]]}, "missing value in row 0"),
        (FairClassifier("badr"), {"sensitive_features": SEX}, "needs an objective"),
        (FairClassifier("erm"), {"sample_weight": -np.ones(240)}, "[Nn]egative"),
        (FairRegressor("fairlab"), {}, "Unknown label|not for regression|could not convert"),
    ],
)
def test_refusals(model, fit, message):
    with pytest.raises(ValueError, match=message):
        model.fit(DATA.x, LABELS, **fit)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="one class"):
        FairClassifier().fit(DATA.x, np.zeros(240, int))


WEIGHTS_AS_ROWS = {
    "check_sample_weight_equivalence_on_dense_data": "equal to rounding in float32 (see test_learners), not to 1e-9",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [FairClassifier(num_epochs=100), FairRegressor(num_epochs=100), ByFirstColumn("group_dro", num_epochs=100)],
    ids=["classifier", "regressor", "groups"],
)
def test_scikit_learns_estimator_checks(model):
    results = check_estimator(model, expected_failed_checks=WEIGHTS_AS_ROWS, on_fail=None, on_skip=None)
    failed = {
        result["check_name"]: str(result["exception"])[:200] for result in results if result["status"] == "failed"
    }
    assert not failed
    assert sum(result["status"] == "passed" for result in results) >= 50
