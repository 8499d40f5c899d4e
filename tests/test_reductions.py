"""`expgrad`: that it plays fairlearn's game, that its learner solves the weighted problem, and what it refuses."""

import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fairlearn.reductions import DemographicParity, EqualizedOdds, ExponentiatedGradient
from jax.tree_util import Partial
from sklearn.linear_model import LogisticRegression

import badrjax as bx
from badrjax.reductions.oracle import Oracle

FEATURES = ("age", "credit_amount", "duration_months", "checking_account_A11", "installment_rate", "housing_A151")
NUM_ROWS = 400
# Full-batch descent that ends at the optimum of these few features.
CONVERGED = {
    "optimizer": Partial(optax.sgd, learning_rate=1.0, momentum=0.9),
    "num_epochs": 300,
    "sampler": bx.full_batch(),
}
# Three rounds without a look at the larger multipliers: what an invariance needs.
SHORT = {"max_iter": 3, "nu": 0.0, "gap": 0.02}
LINEAR = bx.models.linear(len(FEATURES))
# By constraint: the labels whose rows its rates are taken over, one event after the other.
EVENTS = {
    "demographic_parity": [(0, 1)],
    "equal_opportunity": [(1,)],
    "predictive_equality": [(0,)],
    "equalized_odds": [(0,), (1,)],
}


@pytest.fixture(scope="module")
def german():
    """Rows of German credit in two groups whose rates of good credit differ: by what is on the checking account."""
    data = bx.load_dataset("german", standardise="all")
    column = data.feature_names.index
    x = data.x[:NUM_ROWS, [column(name) for name in FEATURES]]
    return bx.Batch(x, data.y[:NUM_ROWS], (data.x[:NUM_ROWS, column("checking_account_A14")] > 0).astype(np.int32))


@pytest.fixture(scope="module")
def small():
    """A few rows in three groups."""
    rng = np.random.default_rng(0)
    group = np.arange(60) % 3
    x = rng.normal(size=(60, len(FEATURES))).astype(np.float32) + 0.5 * group[:, None].astype(np.float32)
    return bx.Batch(x, (x[:, 0] + rng.normal(size=60) > 0.5).astype(np.int32), group)


def expected_gap(expected, train, constraint):
    """Largest difference of expected rates between two groups, over the events of the constraint."""
    gaps = []
    for labels in EVENTS[constraint]:
        inside = np.isin(train.y, labels)
        rates = [expected[inside & (train.group == group)].mean() for group in np.unique(train.group)]
        gaps.append(max(rates) - min(rates))
    return max(gaps)


def mini_batches(train, seed=0, **changes):
    settings = {"num_epochs": 2, "sampler": bx.shuffled(16), "optimizer": Partial(optax.sgd, learning_rate=0.5)} | SHORT
    return bx.expgrad(jax.random.key(seed), LINEAR, train, **settings | changes)


@pytest.fixture(scope="module")
def short_run(small):
    return mini_batches(small)


@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:fairlearn")
@pytest.mark.parametrize(
    ("constraint", "moment", "gap", "rounds"),
    [("demographic_parity", DemographicParity, 0.04, {}), ("equalized_odds", EqualizedOdds, 0.05, {"max_iter": 3})],
)
def test_with_a_converged_learner_it_is_fairlearn_around_scikit_learn(german, constraint, moment, gap, rounds):
    train = german._replace(x=german.x.astype(np.float64))
    ours = bx.expgrad(jax.random.key(0), LINEAR, train, constraint=constraint, gap=gap, **rounds, **CONVERGED)
    learner = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky")
    theirs = ExponentiatedGradient(learner, moment(difference_bound=gap / 2), **rounds)
    theirs.fit(train.x, train.y, sensitive_features=train.group)
    expected = bx.expected_positive(ours, LINEAR, train.x)
    np.testing.assert_allclose(expected, theirs._pmf_predict(train.x)[:, 1], atol=1e-6)
    assert ours.best_gap == pytest.approx(theirs.best_gap_, abs=1e-6)
    assert (ours.num_oracle_calls, ours.num_iterations) == (theirs.n_oracle_calls_, theirs.last_iter_ + 1)
    assert len(ours.probabilities) > 1


@pytest.fixture(scope="module")
def unconstrained(german):
    return bx.expgrad(jax.random.key(0), LINEAR, german, gap=1.0, **CONVERGED)


@pytest.mark.parametrize("constraint", EVENTS)
def test_the_gap_asked_for_is_kept_and_accuracy_with_it(german, unconstrained, constraint):
    fair = bx.expgrad(jax.random.key(0), LINEAR, german, constraint=constraint, gap=0.02, **CONVERGED)
    expected = [
        np.asarray(bx.expected_positive(result, LINEAR, german.x), np.float64) for result in (unconstrained, fair)
    ]
    before, after = (expected_gap(each, german, constraint) for each in expected)
    errors = [np.abs(each - german.y).mean() for each in expected]
    assert before > 0.05
    assert after <= 0.02 + 2 * 0.01 * (1 + 2 * fair.best_gap)
    assert errors[1] < errors[0] + 0.05
    assert jnp.sum(fair.probabilities) == pytest.approx(1)
    assert fair.best_gap < 0.05


@pytest.mark.parametrize("warm_start", [True, False])
def test_a_gap_of_one_is_the_unconstrained_learner(small, warm_start):
    result = mini_batches(small, gap=1.0, warm_start=warm_start, max_iter=50, nu=None)
    key = jax.random.key(0)
    method = bx.erm(bx.losses.cross_entropy(LINEAR), Partial(optax.sgd, learning_rate=0.5))
    batch = bx.Batch(*(jnp.asarray(leaf) for leaf in small[:3]))
    start = LINEAR.init(jax.random.fold_in(key, 0))
    alone = bx.fit(jax.random.fold_in(key, 1), method, start, batch, num_epochs=2, sampler=bx.shuffled(16))
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[0], result.params), alone.state.params, rtol=1e-5)
    assert (result.probabilities.tolist(), result.constants.tolist(), result.num_iterations) == ([1.0], [-1], 1)


def oracle(train, sampler, *, model=LINEAR, learning_rate=0.1, momentum=None, num_epochs=1, warm_start=True):
    optimizer = Partial(optax.sgd, learning_rate=learning_rate, momentum=momentum)
    groups = np.zeros(len(train.y), np.int32)
    key = jax.random.key(0)
    return Oracle(key, model, None, optimizer, train.x, groups, num_epochs, sampler, warm_start)


@pytest.mark.usefixtures("x64")
def test_the_learner_solves_the_weighted_problem_as_scikit_learn_does(german):
    # Half of the rows cost nothing, and the others unequally much.
    costs = np.random.default_rng(1).normal(size=NUM_ROWS) * (np.arange(NUM_ROWS) % 2) + 0.3 * german.x[:, 0]
    costs[::4] = 0
    costs /= np.abs(costs).mean()
    answer = oracle(german, bx.full_batch(), learning_rate=1.0, momentum=0.9, num_epochs=1000)
    params, predictions = answer(costs)
    learner = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky")
    learner.fit(german.x.astype(np.float64), costs > 0, sample_weight=np.abs(costs))
    np.testing.assert_allclose(
        LINEAR.apply(params, german.x), learner.decision_function(german.x.astype(np.float64)), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(predictions, learner.predict(german.x.astype(np.float64)))


def test_a_step_follows_the_mean_over_the_batch_of_cost_times_gradient(small):
    # Neither a heavy nor a light batch is scaled to the others' weight, nor the last one, which has 12 rows of 16.
    costs = np.linspace(-1, 3, 60)
    kernel, bias = np.zeros(len(FEATURES)), 0.0
    for start in range(0, 60, 16):
        x, cost = small.x[start : start + 16], costs[start : start + 16]
        slope = np.abs(cost) * (1 / (1 + np.exp(-(x @ kernel + bias))) - (cost > 0))
        kernel, bias = kernel - 0.1 * (slope[:, None] * x).mean(axis=0), bias - 0.1 * slope.mean()
    params, _ = oracle(small, bx.in_order(16), learning_rate=0.1)(costs)
    np.testing.assert_allclose(params["output"]["kernel"][:, 0], kernel, rtol=1e-5)
    np.testing.assert_allclose(params["output"]["bias"][0], bias, rtol=1e-5)


def test_a_run_starts_where_the_last_ended_or_at_the_start(small):
    costs = np.where(small.y == 1, 1.0, -1.0)
    moves = {}
    for warm in (True, False):
        answer = oracle(small, bx.full_batch(), learning_rate=0.1, warm_start=warm)
        first, second = answer(costs)[0], answer(costs)[0]
        moves[warm] = jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first, second))
    assert min(moves[True]) > 0
    assert max(moves[False]) == 0


def test_one_program_answers_all(small):
    traces = []

    def apply(params, x, *, key=None):
        traces.append(x.shape)
        return LINEAR.apply(params, x)

    answer = oracle(small, bx.full_batch(), model=bx.Model(LINEAR.init, apply))
    answer(np.where(small.y == 1, 1.0, -1.0))
    after_one = len(traces)
    answer(np.linspace(-2, 2, 60))
    assert len(traces) == after_one > 0


def test_the_same_key_gives_the_same_bits_and_numpy_draws_nothing(small, short_run):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    start = LINEAR.init(jax.random.fold_in(jax.random.key(0), 0))
    chex.assert_trees_all_equal(mini_batches(small, params=start), short_run)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    other = mini_batches(small, seed=1)
    assert not np.array_equal(other.params["output"]["bias"], short_run.params["output"]["bias"])


def test_weights_repeat_rows_padding_is_nothing_and_ids_are_names(small):
    repeats = np.where(np.arange(60) % 4 == 0, 3, 1)
    repeated = small._replace(**{f: np.repeat(getattr(small, f), repeats, axis=0) for f in ("x", "y", "group")})
    pad = np.full((5, len(FEATURES)), np.nan, np.float32)
    weighted = bx.Batch(
        jnp.concatenate([pad, small.x]),
        jnp.concatenate([np.full(5, 9), small.y]),
        jnp.concatenate([np.full(5, -1), np.asarray([7, 2, 4])[small.group]]),
        jnp.concatenate([np.zeros(5), repeats]),
    )
    chex.assert_trees_all_equal(mini_batches(weighted), mini_batches(repeated))


def test_where_all_costs_ask_for_one_class_the_answer_is_that_class():
    # One group has no positives, so parity at a gap of 0 is to call nobody positive.
    group = np.asarray([0] * 12 + [1] * 28)
    y = np.asarray([1] * 8 + [0] * 32)
    x = np.stack([y, group], axis=1).astype(np.float32)
    model = bx.models.linear(2)
    result = bx.expgrad(jax.random.key(0), model, bx.Batch(x, y, group), gap=0.0, max_iter=8, **CONVERGED)
    assert 0 in result.constants.tolist()
    never = result.constants == 0
    assert jnp.sum(jnp.where(never, result.probabilities, 0)) > 0.9
    np.testing.assert_allclose(bx.expected_positive(result, model, x), 0, atol=0.1)


@pytest.fixture(scope="module")
def mixture():
    """Three predictors of one feature: positive above 0, positive above 1, and always positive."""
    params = {"output": {"kernel": jnp.ones((3, 1, 1)), "bias": jnp.asarray([[0.0], [-1.0], [-9.0]])}}
    return bx.ExpGradResult(params, jnp.asarray([0.5, 0.3, 0.2]), jnp.asarray([-1, -1, 1]), 0.0, 3, 3)


def test_expected_positive_adds_up_the_probabilities_of_those_that_say_yes(mixture):
    model = bx.models.linear(1)
    x = jnp.asarray([[-1.0], [0.5], [2.0]])
    want = np.asarray([0.2, 0.7, 1.0])
    np.testing.assert_allclose(bx.expected_positive(mixture, model, x), want, rtol=1e-6)
    assert bx.expected_positive(mixture, model, x)[2] == 1
    np.testing.assert_allclose(jax.jit(bx.expected_positive)(mixture, model, x), want, rtol=1e-6)
    each = jax.vmap(bx.expected_positive, (None, None, 0))(mixture, model, x[:, None])
    np.testing.assert_allclose(each[:, 0], want, rtol=1e-6)
    # Two columns are one logit, their difference.
    columns = bx.Model(
        model.init, lambda params, x, *, key=None: jnp.pad(model.apply(params, x)[:, None], ((0, 0), (1, 0)))
    )
    np.testing.assert_allclose(bx.expected_positive(mixture, columns, x), want, rtol=1e-6)


def test_draws_have_the_expected_mean_and_rows_are_drawn_apart(mixture):
    model = bx.models.linear(1)
    x = jnp.asarray([[-1.0], [0.5], [2.0], [0.5]])
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = jax.vmap(bx.draw_predictions, (0, None, None, None))(keys, mixture, model, x)
    assert draws.dtype == jnp.int32
    np.testing.assert_allclose(draws.mean(axis=0), [0.2, 0.7, 1.0, 0.7], atol=0.03)
    assert draws[:, 2].min() == 1
    assert (draws[:, 1] == draws[:, 3]).mean() == pytest.approx(0.7**2 + 0.3**2, abs=0.03)
    chex.assert_trees_all_equal(jax.jit(bx.draw_predictions)(keys[0], mixture, model, x), draws[0])
    with pytest.raises(TypeError, match="typed key"):
        bx.draw_predictions(jax.random.PRNGKey(0), mixture, model, x)


def never(*arguments, **options):
    raise AssertionError("training began")


def refused(train, key=None, **changes):
    model = bx.Model(never, never)
    return bx.expgrad(jax.random.key(0) if key is None else key, model, train, **{"gap": 0.1} | changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"constraint": "demographic_party"}, "did you mean 'demographic_parity'"),
        ({"gap": 1.5}, r"gap must lie in \[0, 1\]"),
        ({"gap": -0.1}, r"gap must lie in \[0, 1\]"),
        ({"gap": np.nan}, r"gap must lie in \[0, 1\]"),
        ({"eps": 0.0}, "eps must be positive"),
        ({"eta0": np.nan}, "eta0 must be positive"),
        ({"nu": -1.0}, "nu must be at least 0"),
        ({"max_iter": 0}, "max_iter must be a positive integer"),
        ({"num_epochs": 0}, "num_epochs must be a positive integer"),
        ({"sampler": bx.shuffled(100)}, "batch_size 100 is larger than the 60"),
    ],
)
def test_settings_out_of_range_are_refused(small, changes, match):
    with pytest.raises(ValueError, match=match):
        refused(small, **changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda b: {"y": np.ones_like(b.y)}, "class 1 only"),
        (lambda b: {"y": b.y + 1}, "train.y must be 0 or 1"),
        (lambda b: {"group": np.full_like(b.group, 3)}, "one group only, id 3"),
        (lambda b: {"group": b.group - 1}, "ids >= 0"),
        (lambda b: {"x": np.where(np.arange(6) == 4, np.nan, b.x)}, "train.x has NaN .* column '4'"),
        (lambda b: {"y": b.y[1:]}, "one entry per example"),
        (lambda b: {"weight": np.where(np.arange(60) == 7, 1.5, 1.0)}, "whole numbers, .* row 7 has 1.5"),
        (lambda b: {"weight": np.zeros(60)}, "no rows of positive weight"),
        (lambda b: {"weight": -np.ones(60)}, "frequencies >= 0"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(small, change, match):
    with pytest.raises(ValueError, match=match):
        refused(small._replace(**change(small)))


@pytest.mark.parametrize(
    ("constraint", "lacking"), [("equal_opportunity", 1), ("predictive_equality", 0), ("equalized_odds", 0)]
)
def test_a_group_without_the_rows_that_the_constraint_needs_is_named(small, constraint, lacking):
    y = np.where(small.group == 2, 1 - lacking, small.y)
    with pytest.raises(
        ValueError, match=f"{constraint} needs rows of class {lacking} in each group, and group 2 has none"
    ):
        refused(small._replace(y=y), constraint=constraint)


def test_other_kinds_of_arguments_are_refused(small):
    with pytest.raises(TypeError, match=r"train\.y must hold classes"):
        refused(small._replace(y=small.y.astype(np.float32)))
    with pytest.raises(TypeError, match="typed key"):
        refused(small, key=jax.random.PRNGKey(0))
    with pytest.raises(TypeError, match="optimizer must be"):
        refused(small, optimizer=0.1)
    with pytest.raises(TypeError, match="sampler must be"):
        refused(small, sampler=16)
    with pytest.raises(ValueError, match="outside of jit"):
        jax.jit(lambda x: refused(small._replace(x=x)))(small.x)


def test_without_fairlearn_it_says_how_to_get_it(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "fairlearn.reductions", None)
    with pytest.raises(ModuleNotFoundError, match=r"expgrad needs fairlearn: pip install 'badrjax\[experiments\]'"):
        refused(small)
