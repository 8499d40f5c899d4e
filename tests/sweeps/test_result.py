"""Results: the best settings against a plain search, intervals against SciPy, refusals that name what is wrong."""

import itertools
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from badrjax.sweeps import cross, grid, sweep
from badrjax.sweeps.result import SweepResult

SETTINGS = ("method", "rate", "seed")
METRICS = ("validation.accuracy", "validation.loss", "test.accuracy", "test.rates")


def make_result(accuracy=None):
    """Two methods, three rates, four seeds."""
    rows = list(itertools.product(["erm", "nash"], [0.1, 0.2, 0.4], range(4)))
    frame = pd.DataFrame(rows, columns=list(SETTINGS))
    random = np.random.default_rng(0)
    frame["validation.accuracy"] = random.random(24) if accuracy is None else accuracy
    frame["validation.loss"] = random.random(24)
    frame["test.accuracy"] = random.random(24)
    frame["test.rates"] = list(random.random((24, 3)))
    return SweepResult(frame, SETTINGS, METRICS)


accuracies = st.lists(
    st.one_of(st.integers(0, 4).map(lambda count: count / 10), st.just(math.nan), st.just(math.inf)),
    min_size=24,
    max_size=24,
)


def search(frame, combination, maximise):
    """The best setting of a combination, by hand."""
    best = None
    for rate in (0.1, 0.2, 0.4):
        for method in combination:
            values = frame[(frame.method == method) & (frame.rate == rate)]["validation.accuracy"].tolist()
            if all(math.isfinite(value) for value in values):
                mean = math.fsum(values) / 4
                better = best is None or (mean > best[0] + 1e-9 if maximise else mean < best[0] - 1e-9)
                best = (mean, method, rate) if better else best
    return best


@settings(max_examples=60, deadline=None)
@given(accuracies, st.booleans())
def test_the_best_rate_of_each_method_agrees_with_a_search(accuracy, maximise):
    result = make_result(accuracy)
    expected = [search(result.table, [method], maximise) for method in ("erm", "nash")]
    if None in expected:
        with pytest.raises(ValueError, match="diverged seed"):
            result.best("accuracy", split="validation", by="method", maximise=maximise)
        return
    best = result.best("accuracy", split="validation", by="method", maximise=maximise)
    assert best.method.tolist() == ["erm", "nash"]
    np.testing.assert_allclose(best["mean"], [row[0] for row in expected])
    assert best.rate.tolist() == [row[2] for row in expected]
    assert best.num.tolist() == [4, 4]
    assert best.num_diverged.tolist() == [0, 0]


def test_the_best_of_all_is_one_row_with_its_interval():
    result = make_result()
    best = result.best("accuracy", split="validation")
    assert list(best.columns) == ["method", "rate", "mean", "half_width", "num", "num_diverged"]
    means = result.table.groupby(["method", "rate"])["validation.accuracy"].mean()
    assert len(best) == 1
    assert (best.method[0], best.rate[0]) == means.idxmax()
    values = result.table.set_index(["method", "rate"]).loc[means.idxmax(), "validation.accuracy"]
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([best["mean"][0], best.half_width[0]], [(low + high) / 2, (high - low) / 2])
    least = result.best("accuracy", split="validation", maximise=False)
    assert (least.method[0], least.rate[0]) == means.idxmin()


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(24)))
def test_the_best_does_not_depend_on_the_order_of_trials(order):
    result = make_result()
    shuffled = SweepResult(result.table.iloc[order], SETTINGS, METRICS)
    one, other = (r.best("accuracy", split="validation", by=["rate"]).sort_values("rate") for r in (result, shuffled))
    pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True))


def test_of_equals_the_first_wins_though_its_seeds_are_in_another_order():
    # In floating point 0.1 + 0.2 + 0.3 depends on the order.
    frame = pd.DataFrame({"rate": [1.0] * 3 + [2.0] * 3, "seed": [0, 1, 2] * 2})
    for values in ([0.3, 0.2, 0.1, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.3, 0.2, 0.1]):
        result = SweepResult(frame.assign(**{"validation.loss": values}), ("rate", "seed"), ("validation.loss",))
        for maximise in (True, False):
            assert result.best("loss", split="validation", maximise=maximise).rate.tolist() == [1.0]


def test_a_setting_with_a_diverged_seed_never_wins():
    accuracy = np.full(24, 0.5)
    accuracy[:4] = [0.9, 0.9, 0.9, np.nan]
    accuracy[4:8] = [0.9, 0.9, 0.9, np.inf]
    best = make_result(accuracy).best("accuracy", split="validation")
    assert (best.method[0], best.rate[0]) == ("erm", 0.4)


def test_where_all_diverged_the_combination_is_named():
    accuracy = np.full(24, 0.5)
    accuracy[[1, 5, 9]] = np.nan
    result = make_result(accuracy)
    with pytest.raises(ValueError, match="with method='erm' has a diverged seed"):
        result.best("accuracy", split="validation", by="method")
    assert result.best("accuracy", split="validation").method.tolist() == ["nash"]
    with pytest.raises(ValueError, match="every setting has a diverged seed"):
        make_result(np.full(24, np.nan)).best("accuracy", split="validation")


def test_a_sweep_over_seeds_only_has_one_setting():
    frame = pd.DataFrame({"seed": [0, 1], "validation.loss": [0.25, 0.75]})
    best = SweepResult(frame, ("seed",), ("validation.loss",)).best("loss", split="validation")
    assert best["mean"].tolist() == [0.5]
    assert best.num.tolist() == [2]


@pytest.mark.parametrize("split", ["test", "Test", "test_shifted", "testing", "outer.test"])
def test_choosing_on_a_test_split_is_refused(split):
    frame = pd.DataFrame({"rate": [0.1, 0.2], "seed": [0, 0], f"{split}.accuracy": [0.5, 0.6]})
    result = SweepResult(frame, ("rate", "seed"), (f"{split}.accuracy",))
    with pytest.raises(ValueError, match="allow_test=True"):
        result.best("accuracy", split=split)
    assert result.best("accuracy", split=split, allow_test=True).rate.tolist() == [0.2]


@pytest.mark.parametrize(
    ("split", "metric"),
    [
        ("last", "test.accuracy"),
        ("accuracy", "test"),
        ("final_test", "accuracy"),
        ("ood-test", "accuracy"),
        ("eval", "test_accuracy"),
        (" test", "accuracy"),
        ("accuracy", "test_iid"),
        ("finalTest", "accuracy"),
        ("XTest", "accuracy"),
    ],
)
@pytest.mark.parametrize("allow_test", [False, "False", 1])
def test_the_test_split_cannot_be_reached_by_another_name(split, metric, allow_test):
    column = f"{split}.{metric}"
    result = SweepResult(pd.DataFrame({"seed": [0], column: [0.5]}), ("seed",), (column,))
    with pytest.raises(ValueError, match="allow_test=True"):
        result.best(metric, split=split, allow_test=allow_test)
    assert result.best(metric, split=split, allow_test=True)["mean"].tolist() == [0.5]


@pytest.mark.parametrize("split", ["latest", "fastest", "contested"])
def test_words_that_only_contain_test_are_no_test_split(split):
    column = f"{split}.accuracy"
    result = SweepResult(pd.DataFrame({"seed": [0], column: [0.5]}), ("seed",), (column,))
    assert result.best("accuracy", split=split)["mean"].tolist() == [0.5]


@pytest.mark.parametrize("split", [None, "", 3])
def test_the_split_must_name_something(split):
    with pytest.raises(ValueError, match="split must name"):
        make_result().best("test.accuracy", split=split)


def test_a_result_that_is_not_reported_is_not_diverged():
    def run(key, rate, kind):
        return {"validation": {"a": rate} if kind == "x" else {"b": rate}}

    result = sweep(run, cross(grid(kind=["x", "y"], rate=[0.1]), seed=[0, 1]), progress=False)
    for ask in (partial(result.best, split="validation"), partial(result.summarise, split="validation", by="kind")):
        with pytest.raises(ValueError, match=r"2 of 4 trials report no 'validation\.a' \(the first in row 2\)"):
            ask("a")


def test_settings_with_fewer_seeds_are_said():
    frame = pd.DataFrame({"rate": [0.1, 0.1, 0.2], "seed": [0, 1, 0], "validation.a": [0.5, 0.6, 0.7]})
    result = SweepResult(frame, ("rate", "seed"), ("validation.a",))
    with pytest.warns(UserWarning, match="from 1 to 2 seeds"):
        assert result.best("a", split="validation").rate.tolist() == [0.2]


def test_the_split_must_be_said():
    with pytest.raises(TypeError, match="split"):
        make_result().best("accuracy")


@pytest.mark.parametrize("ci", [0.5, 0.95])
def test_summaries_agree_with_scipy(ci):
    result = make_result()
    summary = result.summarise("accuracy", split="test", by=["method", "rate"], ci=ci)
    assert list(summary.columns) == ["method", "rate", "mean", "half_width", "num", "num_diverged"]
    for _, row in summary.iterrows():
        table = result.table
        values = table[(table.method == row.method) & (table.rate == row.rate)]["test.accuracy"]
        low, high = stats.t.interval(ci, 3, loc=values.mean(), scale=stats.sem(values))
        np.testing.assert_allclose([row["mean"], row.half_width], [(low + high) / 2, (high - low) / 2])
    pd.testing.assert_frame_equal(summary, result.summarise("test.accuracy", by=["method", "rate"], ci=ci))


def test_diverged_seeds_are_counted():
    accuracy = np.full(24, 0.5)
    accuracy[:4] = [0.1, np.nan, 0.3, -np.inf]
    summary = make_result(accuracy).summarise("accuracy", split="validation", by=["method", "rate"])
    assert summary.num.tolist() == [4] * 6
    assert summary.num_diverged.tolist() == [2, 0, 0, 0, 0, 0]
    assert summary["mean"][0] == pytest.approx(0.2)


def test_summaries_pool_what_is_not_named():
    result = make_result()
    assert result.summarise("accuracy", split="test", by="method").num.tolist() == [12, 12]
    whole = result.summarise("test.accuracy", by=())
    assert whole.num.tolist() == [24]
    assert whole["mean"][0] == pytest.approx(result.table["test.accuracy"].mean())
    assert result.summarise("test.accuracy", by="seed").seed.tolist() == [0, 1, 2, 3]


def test_flags_and_missing_results_count_as_numbers():
    # A trial whose program has no such result is missing, which counts as diverged.
    frame = pd.DataFrame({"seed": [0, 1, 2], "done": [True, False, True], "validation.loss": [0.1, None, 0.3]})
    result = SweepResult(frame.astype({"validation.loss": object}), ("seed",), ("done", "validation.loss"))
    assert result.summarise("done", by=())["mean"][0] == pytest.approx(2 / 3)
    assert result.summarise("validation.loss", by=()).num_diverged.tolist() == [1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.best("acuracy", split="validation"), "did you mean 'accuracy'"),
        (lambda r: r.best("accuracy", split="valid"), "unknown split 'valid': did you mean 'validation'"),
        (lambda r: r.best("accuracy", split="validation", by="metod"), "did you mean 'method'"),
        (lambda r: r.best("accuracy", split="validation", by="seed"), "by cannot contain 'seed'"),
        (lambda r: r.best("rates", split="test", allow_test=True), r"arrays of shape \(3,\)"),
        (lambda r: r.summarise("test.acuracy", by=()), "did you mean 'test.accuracy'"),
        (lambda r: r.summarise("accuracy", split="tset", by=()), "did you mean 'test'"),
        (lambda r: r.summarise("test.rates", by="method"), r"'test.rates' holds arrays of shape \(3,\)"),
        (lambda r: r.summarise("test.accuracy", by=["method", "rat"]), "did you mean 'rate'"),
        (lambda r: r.summarise("test.accuracy", by=(), ci=95), "ci must be a level"),
        (lambda r: r.summarise("test.accuracy", by=(), ci="0.95"), "ci must be a level"),
        (lambda r: r.summarise("test.accuracy", by=(), ci=None), "ci must be a level"),
    ],
)
def test_bad_questions_are_answered_with_what_there_is(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_result())


def test_results_without_splits_say_how_to_get_them():
    result = SweepResult(pd.DataFrame({"seed": [0], "loss": [0.5]}), ("seed",), ("loss",))
    with pytest.raises(ValueError, match="let run return them by split"):
        result.best("loss", split="validation")


@pytest.mark.parametrize(
    ("columns", "names", "metrics", "message"),
    [
        ({"seed": [0], "loss": [1.0]}, ("seed", "loss"), ("loss",), "'loss' is the name of a setting and of a result"),
        ({"rate": [0], "loss": [1.0]}, ("rate",), ("loss",), "must contain 'seed'"),
        ({"seed": [0]}, ("seed",), ("loss",), "no column 'loss'"),
    ],
)
def test_bad_tables_are_refused(columns, names, metrics, message):
    with pytest.raises(ValueError, match=message):
        SweepResult(pd.DataFrame(columns), names, metrics)


def test_a_setting_that_hides_a_column_of_the_summary_is_refused():
    frame = pd.DataFrame({"num": [1, 2], "seed": [0, 0], "validation.loss": [0.1, 0.2]})
    result = SweepResult(frame, ("num", "seed"), ("validation.loss",))
    with pytest.raises(ValueError, match="setting 'num'"):
        result.best("loss", split="validation")
    assert result.summarise("validation.loss", by=()).num.tolist() == [2]


def test_the_frame_is_a_copy_with_its_arrays():
    result = make_result()
    frame = result.frame()
    pd.testing.assert_frame_equal(frame, result.table)
    frame.loc[0, "rate"] = 7.0
    frame["test.rates"][0][:] = 7.0
    assert result.table.rate[0] == 0.1
    assert (result.table["test.rates"][0] < 1).all()


def test_the_repr_is_short():
    text = repr(make_result())
    assert text == (
        "SweepResult(24 trials; settings method, rate, seed; "
        "metrics validation.accuracy, validation.loss, test.accuracy, test.rates)"
    )
    names = tuple(f"validation.metric_{number}" for number in range(300))
    wide = SweepResult(pd.DataFrame({"seed": [0], **{name: [0.0] for name in names}}), ("seed",), names)
    assert repr(wide).endswith("validation.metric_3, and 296 more)")
