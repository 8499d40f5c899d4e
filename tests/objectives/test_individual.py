"""Facts about individual fairness: the double loop, its Laplacian, accuracy in float32, ties and far labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax import objectives as ob
from tests.objectives import references

FAIRNESS = jax.jit(ob.individual_fairness, static_argnums=(3, 6))
WITH_GRADIENT = jax.jit(jax.value_and_grad(ob.individual_fairness), static_argnums=3)


@jax.jit
def value_gradient_hessian(scores, labels, groups, weight):
    def objective(s):
        return ob.individual_fairness(s, labels, groups, 8, weight)

    return objective(scores), jax.grad(objective)(scores), jax.hessian(objective)(scores)


def pair_weights(labels, groups, weight=None):
    """`f[n, n]`: weights of the pairs over Z, each pair twice."""
    labels = np.asarray(labels, float)
    weight = np.ones(labels.size) if weight is None else weight
    apart = (groups[:, None] != groups[None, :]) * np.outer(weight, weight)
    return apart * np.exp(-np.abs(labels[:, None] - labels[None, :])) / apart.sum()


def dense(scores, labels, groups, block=1000):
    """The double loop in float64, some rows at a time."""
    scores, labels = np.asarray(scores, float), np.asarray(labels, float)
    total, pairs = 0.0, 0.0
    for start in range(0, scores.size, block):
        rows = slice(start, start + block)
        apart = groups[rows, None] != groups[None, :]
        near = np.exp(-np.abs(labels[rows, None] - labels[None, :]))
        total += np.sum(apart * near * (scores[rows, None] - scores[None, :]) ** 2)
        pairs += apart.sum()
    return total / 2 / pairs


LABELS = {
    "classes": lambda random, n: random.integers(0, 2, n),
    "normal": lambda random, n: random.normal(size=n).astype(np.float32),
    "ties": lambda random, n: random.integers(0, 5, n).astype(np.float32),
    "one value": lambda random, n: np.full(n, 3.0, np.float32),
    "wide": lambda random, n: random.uniform(0, 1e6, n).astype(np.float32),
    "grid": lambda random, n: np.linspace(0, 1, n, dtype=np.float32),
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("K", [2, 3, 8])
def test_value_gradient_and_hessian_are_those_of_the_laplacian(labels, K, x64):
    random = np.random.default_rng(K)
    n = 25
    scores, groups, weight = random.normal(size=n), random.integers(0, K, n), random.integers(0, 4, n)
    targets = LABELS[labels](random, n)
    pairs = pair_weights(targets, groups, weight)
    laplacian = np.diag(pairs.sum(axis=1)) - pairs
    value, gradient, hessian = value_gradient_hessian(scores, targets, groups, weight)
    np.testing.assert_allclose(value, scores @ laplacian @ scores, rtol=1e-12)
    np.testing.assert_allclose(gradient, 2 * laplacian @ scores, atol=1e-14)
    np.testing.assert_allclose(hessian, 2 * laplacian, atol=1e-14)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("relation", ["independent", "offset", "of the label"])
def test_float32_is_accurate_with_a_tiny_group(labels, relation):
    random = np.random.default_rng(0)
    n = 3000
    groups = np.zeros(n, int)
    groups[random.choice(n, 10, replace=False)] = np.arange(10) % 2 + 1
    targets = LABELS[labels](random, n)
    noise = random.normal(size=n)
    scores = {"independent": noise, "offset": 1e4 + noise, "of the label": targets + 0.1 * noise}[relation]
    scores = scores.astype(np.float32)
    expected = dense(scores, targets, groups)
    np.testing.assert_allclose(FAIRNESS(scores, targets, groups, 3, None, 1.0, None), expected, rtol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("labels", LABELS)
def test_float32_is_accurate_with_ten_rows_among_twenty_thousand(labels):
    random = np.random.default_rng(0)
    n = 20_000
    groups = np.zeros(n, int)
    groups[random.choice(n, 10, replace=False)] = 1
    targets, scores = LABELS[labels](random, n), random.normal(size=n).astype(np.float32)
    expected = dense(scores, targets, groups)
    np.testing.assert_allclose(FAIRNESS(scores, targets, groups, 2, None, 1.0, None), expected, rtol=5e-6)


def test_classes_as_targets_give_the_same(x64):
    random = np.random.default_rng(1)
    scores, labels, groups = random.normal(size=30), random.integers(0, 2, 30), random.integers(0, 4, 30)
    by_class = FAIRNESS(scores, labels, groups, 4, None, 1.0, None)
    np.testing.assert_allclose(FAIRNESS(scores, labels.astype(float), groups, 4, None, 1.0, None), by_class, rtol=1e-13)
    np.testing.assert_allclose(by_class, references.individual_fairness(scores, labels, groups, 1.0, None), rtol=1e-13)


def test_equal_labels_leave_half_the_mean_squared_difference():
    # Rows 0 | 3, 5: pairs differ by 3 and 5, and Z counts each twice.
    scores, groups = jnp.array([0.0, 3.0, 5.0]), jnp.array([0, 1, 1])
    for labels in (jnp.zeros(3, int), jnp.full(3, 7.5)):
        np.testing.assert_allclose(WITH_GRADIENT(scores, labels, groups, 2)[0], (9 + 25) / 4, rtol=1e-6)
    by_class = WITH_GRADIENT(scores, jnp.array([0, 1, 0]), groups, 2)[0]
    np.testing.assert_allclose(by_class, (9 * np.exp(-1) + 25) / 4, rtol=1e-6)


def test_labels_too_far_apart_to_matter():
    scores, groups = jnp.array([0.0, 3.0, 5.0, 9.0]), jnp.array([0, 1, 1, 0])
    labels = jnp.array([-3e38, 3e38, 1e6, 1e6])
    value, slope = WITH_GRADIENT(scores, labels, groups, 2)
    np.testing.assert_allclose(value, 16 / 8, rtol=1e-6)
    np.testing.assert_allclose(slope, [0, 0, -1, 1], rtol=1e-6)
    # No pair is near: exactly nothing, with derivatives.
    value, slope = WITH_GRADIENT(scores, labels * jnp.array([1, 1, 1, -1]), groups, 2)
    assert value == 0
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("weight", [1e-30, 1e30])
def test_frequencies_of_any_size_neither_vanish_nor_overflow(weight):
    random = np.random.default_rng(2)
    scores, groups = random.normal(size=20).astype(np.float32), np.arange(20) % 3
    for labels in (random.integers(0, 2, 20), random.normal(size=20).astype(np.float32)):
        value, slope = WITH_GRADIENT(scores, labels, groups, 3, np.full(20, weight, np.float32))
        np.testing.assert_allclose(value, dense(scores, labels, groups), rtol=1e-5)
        assert np.isfinite(slope).all()


def test_derivatives_by_weight_agree_with_differences(x64):
    random = np.random.default_rng(3)
    scores, groups, weight = random.normal(size=15), np.arange(15) % 3, random.uniform(0.5, 2, 15)
    targets = random.normal(size=15)
    slope = jax.grad(FAIRNESS, argnums=4)(scores, targets, groups, 3, weight, 1.0, None)
    steps = 1e-5 * np.eye(15)
    plus, minus = (
        np.array([FAIRNESS(scores, targets, groups, 3, weight + sign * step, 1.0, None) for step in steps])
        for sign in (1, -1)
    )
    np.testing.assert_allclose(slope, (plus - minus) / 2e-5, atol=1e-8)


def test_no_memory_for_pairs_is_taken():
    n = 50_000
    shapes = [jax.ShapeDtypeStruct((n,), dtype) for dtype in (np.float32, np.float32, np.int32)]
    compiled = jax.jit(jax.grad(ob.individual_fairness), static_argnums=3).lower(*shapes, 40).compile()
    # All pairs would take 10 GB.
    assert compiled.memory_analysis().temp_size_in_bytes < 1000 * n


def test_wrong_labels_are_named():
    scores, groups = jnp.array([0.1, -1.0, 2.0]), jnp.array([0, 1, 0])
    with pytest.raises(ValueError, match=r"integer labels are classes 0 and 1, but row 2 has 3.*pass them as floats"):
        ob.individual_fairness(scores, jnp.array([0, 1, 3]), groups, 2)
    with pytest.raises(ValueError, match=r"labels must be finite, but row 1 has nan"):
        ob.individual_fairness(scores, jnp.array([0.0, jnp.nan, 3.0]), groups, 2)
    # Padding may hold anything.
    weight = jnp.array([1.0, 1.0, 0.0])
    assert ob.individual_fairness(scores, jnp.array([0, 1, 3]), groups, 2, weight) > 0
    assert ob.individual_fairness(scores, jnp.array([0.0, 1.0, jnp.inf]), groups, 2, weight) > 0
