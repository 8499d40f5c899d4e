"""Facts about the checks of concrete input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax import checks


def test_concrete_means_no_leaf_is_traced():
    assert checks.is_concrete(np.ones(2), [jnp.ones(1), 3.0], None, {"a": "b"})
    seen = []
    jax.jit(lambda x: seen.append(checks.is_concrete({"deep": [x]})))(1.0)
    jax.vmap(lambda x: seen.append(checks.is_concrete(x)) or x)(jnp.ones(2))
    jax.grad(lambda x: seen.append(checks.is_concrete(np.ones(1), x)) or x)(1.0)
    assert seen == [False, False, False]


def test_lengths():
    checks.check_same_length(a=np.ones(2), b=[1, 2], c=None, d=np.ones((2, 5)))
    checks.check_same_length()
    with pytest.raises(ValueError, match="a has 2, b has 3"):
        checks.check_same_length(a=np.ones(2), b=np.ones(3))
    with pytest.raises(ValueError, match="b must have one entry per example, and a scalar"):
        checks.check_same_length(a=np.ones(2), b=1.0)


def test_vectors():
    checks.check_vector(a=[1], b=None, c=jnp.ones(3))
    with pytest.raises(ValueError, match=r"logits must have one axis .* shape \(3, 1\); squeeze"):
        checks.check_vector(logits=jnp.ones((3, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.float16, jnp.bfloat16])
def test_not_finite_is_found_in_every_precision(dtype):
    values = np.ones((3, 2), dtype)
    checks.check_finite(values, "x")
    values[2, 1] = np.inf
    with pytest.raises(ValueError, match=r"x has NaN or infinite values in column '1' \(row 2\); impute"):
        checks.check_finite(values, "x")
    with pytest.raises(ValueError, match="column 'age'"):
        checks.check_finite(values, "x", ["sex", "age"])
    with pytest.raises(ValueError, match="row 1;"):
        checks.check_finite(values[1:, 1], "y")
    with pytest.raises(ValueError, match="its only entry"):
        checks.check_finite(values[2, 1], "step_size")


def test_several_columns_are_counted_and_integers_are_finite():
    with pytest.raises(ValueError, match=r"column '0' \(row 0\) and 2 more columns"):
        checks.check_finite(np.full((2, 3), np.nan), "x")
    checks.check_finite(np.ones(3, int), "y")
    jax.jit(lambda x: checks.check_finite(x, "x"))(np.nan)


def test_classes_and_scores_are_told_apart():
    checks.check_classes(labels=np.ones(2, bool), predictions=[0, 1], others=jnp.ones(2, jnp.uint8))
    checks.check_scores([0.5, 1.0])
    checks.check_scores(jnp.ones(1, jnp.bfloat16))
    with pytest.raises(TypeError, match=r"labels must hold classes.*float32.*swapped"):
        checks.check_classes(labels=jnp.ones(2))
    for labels in (np.ones(2, int), np.ones(2, bool), [0, 1], ["a"]):
        with pytest.raises(TypeError, match=r"scores must hold floats.*swapped"):
            checks.check_scores(labels)


def test_classes_in_padding_are_not_looked_at():
    weight = np.array([1.0, 0.0])
    checks.check_class_range(np.array([1, -1]), 2, weight=weight)
    with pytest.raises(ValueError, match="labels must be 0 or 1, but row 1 has -1; labels coded -1 and 1"):
        checks.check_class_range(np.array([1, -1]), 2)
    with pytest.raises(ValueError, match=r"y must be in \[0, 3\), but row 0 has 3"):
        checks.check_class_range(np.array([3, 0]), 3, "y", weight)
    with pytest.raises(ValueError, match="labels must be >= 0"):
        checks.check_class_range(np.array([-1, 7]), None)
    checks.check_class_range(np.array([True, False]), 2)
    checks.check_class_range(np.array([255], np.uint8), 300)


def test_unknown_names_suggest_the_nearest():
    error = checks.unknown_name("dataset", "Adlt", ["adult", "bank", "german"])
    assert str(error) == "unknown dataset 'Adlt': did you mean 'adult'?"
    error = checks.unknown_name("dataset", "zzzz", ["bank", "adult"])
    assert str(error) == "unknown dataset 'zzzz': known are adult, bank"
