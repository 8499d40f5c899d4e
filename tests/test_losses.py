"""Facts about losses of single examples: closed forms, scikit-learn and optax, extreme logits, wrong input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

import badrjax as bx
from badrjax import losses, models
from badrjax.batches import Batch
from badrjax.losses import binary_logits, cross_entropy_of_scores

# A model whose scores are its parameters.
ECHO = models.Model(init=abs, apply=lambda params, x, *, key=None: params)
FACTORIES = {
    "cross_entropy": losses.cross_entropy,
    "logistic": losses.logistic,
    "squared": losses.squared,
    "squared_hinge": losses.squared_hinge,
    "cross_entropy_with_f1": losses.cross_entropy_with_f1,
}
CLASSES = [name for name in FACTORIES if name != "squared"]
# Those of the score's sign and size alone: two columns are their difference.
OF_DIFFERENCE = ["cross_entropy", "logistic", "squared_hinge"]
LABEL_TYPES = [bool, np.int8, np.uint8, np.int32]


@partial(jax.jit, static_argnums=0)
def evaluate(name, scores, labels):
    return FACTORIES[name](ECHO)(scores, Batch(jnp.zeros((labels.shape[0], 1)), labels, None), None)


@partial(jax.jit, static_argnums=0)
def slopes_of(name, scores, labels):
    return jax.grad(lambda s: jnp.sum(evaluate(name, s, labels)))(scores)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(name, logits, labels):
    """Textbook formulas in NumPy, for moderate logits."""
    sign = 2 * labels - 1.0
    entropy = np.log1p(np.exp(-sign * logits))
    chance = sigmoid(sign * logits)
    return {
        "cross_entropy": entropy,
        "logistic": entropy,
        "squared": (logits - labels) ** 2,
        "squared_hinge": np.maximum(0, 1 - sign * logits) ** 2,
        "cross_entropy_with_f1": entropy + sigmoid(-2 * chance / (1 + chance)),
    }[name]


@pytest.mark.parametrize("name", FACTORIES)
@settings(deadline=None, max_examples=40)
@given(
    logits=st.lists(st.floats(-15, 15), min_size=8, max_size=8), labels=st.lists(st.booleans(), min_size=8, max_size=8)
)
def test_values_are_the_textbook_formulas(name, logits, labels):
    logits, labels = np.array(logits, np.float32), np.array(labels)
    expected = reference(name, logits.astype(float), labels.astype(float))
    np.testing.assert_allclose(evaluate(name, logits, labels.astype(int)), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", FACTORIES)
def test_derivatives_are_those_of_the_formulas(x64, name):
    logits = np.array([-3.0, -0.4, 0.7, 2.5, -1.1, 0.2])
    labels = np.array([0, 1, 0, 1, 1, 0])
    step = 1e-6
    upper, lower = (reference(name, logits + sign * step, labels) for sign in (1, -1))
    difference = (upper - lower) / (2 * step)
    slope = slopes_of(name, logits, labels)
    assert slope.dtype == np.float64
    np.testing.assert_allclose(slope, difference, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_mean_cross_entropy_is_scikit_learns_log_loss(x64, num_classes):
    random = np.random.default_rng(num_classes)
    scores = 3 * random.normal(size=(50, num_classes))
    labels = np.r_[np.arange(num_classes), random.integers(0, num_classes, 50 - num_classes)]
    weight = random.integers(0, 4, 50)
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    each = np.asarray(evaluate("cross_entropy", scores, labels))
    expected = log_loss(labels, chances, sample_weight=weight, labels=np.arange(num_classes))
    np.testing.assert_allclose(np.average(each, weights=weight), expected, rtol=1e-10)
    np.testing.assert_allclose(each, -np.log(chances[np.arange(50), labels]), rtol=1e-10)


def test_mean_logistic_loss_is_scikit_learns(x64):
    random = np.random.default_rng(0)
    logits, labels = 4 * random.normal(size=40), random.integers(0, 2, 40)
    for name in ("logistic", "cross_entropy"):
        np.testing.assert_allclose(np.mean(evaluate(name, logits, labels)), log_loss(labels, sigmoid(logits)))


def test_optax_agrees():
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=20).astype(np.float32), random.integers(0, 2, 20)
    hinge = np.square(optax.losses.hinge_loss(logits, 2 * labels - 1))
    np.testing.assert_allclose(evaluate("squared_hinge", logits, labels), hinge, rtol=1e-6)
    entropy = optax.losses.sigmoid_binary_cross_entropy(jnp.asarray(logits), labels)
    np.testing.assert_allclose(evaluate("cross_entropy", logits, labels), entropy, rtol=1e-6)


@pytest.mark.parametrize("name", OF_DIFFERENCE)
@pytest.mark.parametrize("shift", [-300.0, 0.0, 5.0])
def test_two_columns_are_their_difference(name, shift):
    random = np.random.default_rng(2)
    logits, labels = random.normal(size=30).astype(np.float32) * 4, random.integers(0, 2, 30)
    columns = np.stack([np.full(30, shift), shift + logits], axis=1).astype(np.float32)
    np.testing.assert_allclose(
        evaluate(name, columns, labels), evaluate(name, logits, labels), rtol=1e-3, atol=1e-3 if shift else 1e-6
    )
    np.testing.assert_allclose(binary_logits(columns), logits, atol=1e-4)
    assert binary_logits(logits) is logits


@pytest.mark.parametrize(("name", "columns"), [("squared", 1), *((name, c) for name in CLASSES for c in (1, 2))])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_have_finite_values_and_derivatives(name, columns, size):
    scores = np.array([-size, size, -size, size, 0.0, 0.0], np.float32)
    labels = np.array([0, 0, 1, 1, 0, 1])
    if columns == 2:
        scores = np.stack([-scores, scores], axis=1) / 2
    each = evaluate(name, scores, labels)
    slopes = slopes_of(name, scores, labels)
    assert np.all(np.isfinite(each))
    assert np.all(np.isfinite(slopes))
    if name in ("cross_entropy", "logistic"):
        np.testing.assert_allclose(each, [0, size, size, 0, np.log(2), np.log(2)], rtol=1e-6)
        logit_slopes = slopes if columns == 1 else slopes[:, 1]
        np.testing.assert_allclose(logit_slopes, [0, 1, -1, 0, 0.5, -0.5], atol=1e-6)
    if name == "cross_entropy_with_f1":
        true = np.where(labels, 1, -1) * (scores if columns == 1 else scores[:, 1])
        term = sigmoid(np.where(true > 0, -1.0, np.where(true < 0, 0.0, -2 / 3)))
        np.testing.assert_allclose(each - evaluate("cross_entropy", scores, labels), term, atol=1e-3)


def test_extreme_scores_of_many_classes():
    scores = 1e4 * np.array([[1, 0, -1], [1, 0, -1], [0, 0, 0], [-1, -1, -1]], np.float32)
    labels = np.array([0, 2, 1, 1])
    # Beside scores of 1e4 a loss has an absolute error of their rounding.
    np.testing.assert_allclose(evaluate("cross_entropy", scores, labels), [0, 2e4, np.log(3), np.log(3)], atol=1e-3)
    slopes = slopes_of("cross_entropy", scores, labels)
    np.testing.assert_allclose(slopes[:2], [[0, 0, 0], [1, 0, -1]], atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(logit=st.floats(-50, 50, width=32), label=st.integers(0, 1))
def test_the_f1_term_lies_between_its_limits(logit, label):
    with jax.enable_x64(True):
        logits, labels = jnp.array([logit], jnp.float64), jnp.array([label])
        term = evaluate("cross_entropy_with_f1", logits, labels) - evaluate("cross_entropy", logits, labels)
        term = float(term[0])
    assert sigmoid(-1) - 1e-12 <= term <= 0.5 + 1e-12


def test_the_f1_term_falls_with_the_true_classs_logit_and_sees_one_column(x64):
    logits = jnp.linspace(-6, 6, 13)
    ones = jnp.ones(13, int)
    term = evaluate("cross_entropy_with_f1", logits, ones) - evaluate("cross_entropy", logits, ones)
    assert np.all(np.diff(term) < 0)
    # Of two columns only the true class's own counts.
    columns = jnp.stack([logits, jnp.full(13, 2.0)], axis=1)
    for label, true in ((0, logits), (1, jnp.full(13, 2.0))):
        labels = jnp.full(13, label)
        chance = sigmoid(true)
        found = evaluate("cross_entropy_with_f1", columns, labels) - evaluate("cross_entropy", columns, labels)
        np.testing.assert_allclose(found, sigmoid(-2 * chance / (1 + chance)), rtol=1e-9)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("dtype", LABEL_TYPES)
def test_labels_of_any_class_type(name, dtype):
    scores = np.array([-1.0, 2.0, 0.3], np.float32)
    labels = np.array([0, 1, 1])
    found = evaluate(name, scores, labels.astype(dtype))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, evaluate(name, scores, labels), rtol=1e-6)


def test_regression_takes_real_and_class_labels():
    scores = np.array([0.5, -1.0], np.float32)
    np.testing.assert_allclose(evaluate("squared", scores, np.array([0.25, 2.0])), [0.0625, 9])
    np.testing.assert_allclose(evaluate("squared", scores, np.array([True, False])), [0.25, 1])


@pytest.mark.parametrize("name", FACTORIES)
def test_under_jit_and_vmap(name):
    random = np.random.default_rng(3)
    scores = random.normal(size=(4, 6)).astype(np.float32)
    labels = random.integers(0, 2, 6)
    each = FACTORIES[name](ECHO)
    batch = Batch(jnp.zeros((6, 1)), jnp.asarray(labels), None)
    lanes = jax.jit(jax.vmap(each, (0, None, None)))(scores, batch, None)
    np.testing.assert_allclose(lanes, np.stack([evaluate(name, row, labels) for row in scores]), rtol=1e-5, atol=1e-6)


def test_a_loss_is_a_tree_of_the_models_numbers_and_one_program():
    traces = []

    @jax.jit
    def total(each, params, batch, key):
        traces.append(None)
        return jnp.sum(each(params, batch, key))

    params = models.mlp(3, (16,)).init(jax.random.key(0))
    batch = Batch(jax.random.normal(jax.random.key(2), (5, 3)), jnp.array([0, 1, 0, 1, 1]), None)
    values = []
    for rate in (0.1, 0.5, 0.9):
        each = losses.cross_entropy(models.mlp(3, (16,), dropout=rate))
        assert jax.tree.leaves(each) == [rate]
        values.append(total(each, params, batch, jax.random.key(1)))
    assert len(traces) == 1
    assert len(set(map(float, values))) == 3
    # Without a key there is no dropout, whatever the rate.
    still = [losses.cross_entropy(models.mlp(3, (16,), dropout=r))(params, batch, None) for r in (0.0, 0.9)]
    np.testing.assert_array_equal(still[0], still[1])


ROW = np.zeros(3, np.float32)
INTEGERS = np.array([0, 1, 1])


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("error", "message", "scores", "labels"),
    [
        (TypeError, "labels must be integers or booleans", ROW, INTEGERS.astype(np.float32)),
        (ValueError, r"one column \[n, 1\]; squeeze", ROW[:, None], INTEGERS),
        (ValueError, r"scores must be \[n\] or \[n, C\] with n = 3, got shape \(2,\)", ROW[:2], INTEGERS),
        (ValueError, r"scores must be .*got shape \(3, 2, 1\)", np.zeros((3, 2, 1)), INTEGERS),
        (ValueError, r"labels must be one class an example, \[n\], got shape \(3, 1\)", ROW, INTEGERS[:, None]),
        (ValueError, r"labels must be one class an example", np.zeros((3, 2)), np.eye(3, 2, dtype=int)),
    ],
)
def test_wrong_scores_and_labels_are_named(name, error, message, scores, labels):
    with pytest.raises(error, match=message):
        evaluate(name, scores, labels)


@pytest.mark.parametrize("name", ["logistic", "squared_hinge", "cross_entropy_with_f1"])
def test_more_than_two_columns_are_refused_by_binary_losses(name):
    with pytest.raises(ValueError, match=r"binary scores must be logits \[n\] or two columns.*\(3, 3\)"):
        evaluate(name, np.zeros((3, 3), np.float32), INTEGERS)


@pytest.mark.parametrize("shape", [(), (3, 1), (3, 3), (3, 2, 2)])
def test_binary_logits_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="binary scores must be"):
        binary_logits(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("scores", "labels"), [(ROW[:, None], ROW), (ROW, ROW[:, None]), (ROW[:, None], ROW[:, None]), (ROW[:2], ROW)]
)
def test_squared_needs_one_score_an_example(scores, labels):
    with pytest.raises(ValueError, match="squared needs one score an example"):
        evaluate("squared", scores, labels)


def test_the_loss_of_scores_alone():
    scores, labels = jnp.array([[1.0, 2.0, 0.5]]), jnp.array([2])
    expected = jax.nn.logsumexp(scores[0]) - 0.5
    np.testing.assert_allclose(cross_entropy_of_scores(scores, labels), [expected], rtol=1e-6)


def test_a_fairness_loss_is_its_objective_of_the_models_scores():
    model = bx.models.mlp(3, (4,), 2)
    params = model.init(jax.random.key(0))
    random = np.random.default_rng(0)
    batch = bx.Batch(
        jnp.asarray(random.normal(size=(20, 3)), jnp.float32), jnp.arange(20) % 2, jnp.arange(20) % 3, jnp.ones(20)
    )
    loss = losses.fairness(bx.objectives.equalized_odds, model, num_groups=3, sharpness=4.0, variant="badr")
    columns = model.apply(params, batch.x)
    expected = bx.objectives.equalized_odds(
        columns[:, 1] - columns[:, 0], batch.y, batch.group, 3, batch.weight, sharpness=4.0, variant="badr"
    )
    np.testing.assert_allclose(jax.jit(lambda f: f(params, batch, None))(loss), expected, rtol=1e-6)
    assert jax.tree.leaves(loss) == [4.0]  # a number to sweep, and the rest part of the program
    with pytest.raises(TypeError, match="objective must be a function"):
        losses.fairness("equalized_odds", model, num_groups=3)
    with pytest.raises(ValueError, match="num_groups"):
        losses.fairness(bx.objectives.equalized_odds, model, num_groups=0)
