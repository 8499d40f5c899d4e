"""Facts about the weighted batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax.batches import Batch, check_batch, fill_padding, frequencies, take
from badrjax.groups import group_mean


def example(weight=None):
    return Batch(
        x=np.arange(8, dtype=np.float32).reshape(4, 2),
        y=np.array([0, 1, 1, 0]),
        group=np.array([0, 1, 2, 1]),
        weight=weight,
    )


def test_frequencies_are_ones_unless_given():
    np.testing.assert_array_equal(frequencies(example()), np.ones(4))
    given = np.array([0.0, 2.0, 1.0, 1.0])
    np.testing.assert_array_equal(frequencies(example(given)), given)


def test_a_batch_is_a_pytree_with_or_without_weights():
    assert len(jax.tree.leaves(example())) == 3
    doubled = jax.tree.map(lambda leaf: 2 * leaf, example(np.ones(4)))
    np.testing.assert_array_equal(doubled.weight, 2 * np.ones(4))


@pytest.mark.parametrize("weight", [None, np.array([1.0, 0.0, 3.0, 0.5], np.float32), np.array([1, 0, 3, 2])])
def test_take_picks_rows_with_their_weights(weight):
    batch = example(weight)
    rows = np.array([3, 0, 3])
    for taken in (take(batch, rows), jax.jit(take)(batch, rows)):
        np.testing.assert_array_equal(taken.x, batch.x[rows])
        np.testing.assert_array_equal(taken.y, batch.y[rows])
        np.testing.assert_array_equal(taken.group, batch.group[rows])
        np.testing.assert_array_equal(taken.weight, np.asarray(frequencies(batch))[rows])
        assert jnp.issubdtype(taken.weight.dtype, jnp.floating)


def test_negative_positions_are_padding():
    batch = example(np.array([5.0, 1.0, 1.0, 1.0]))
    taken = take(batch, [2, -1, -7])
    np.testing.assert_array_equal(taken.weight, [1, 0, 0])
    np.testing.assert_array_equal(taken.x[1:], batch.x[[0, 0]])
    mean = group_mean(taken.x[:, 0], taken.group, 3, taken.weight)
    np.testing.assert_array_equal(mean, [0, 0, 4])


def test_rows_may_be_constants_of_a_program():
    rows = jnp.array([2, -1])
    np.testing.assert_array_equal(jax.jit(lambda batch: take(batch, rows))(example()).weight, [1, 0])


def test_no_rows_are_taken_as_none():
    assert take(example(), np.zeros(0, int)).x.shape == (0, 2)


def test_take_of_lanes_equals_a_loop():
    batch = example()
    rows = np.array([[0, 1], [3, -1], [2, 2]])
    lanes = jax.vmap(take, in_axes=(None, 0))(batch, rows)
    for lane in range(3):
        alone = take(batch, rows[lane])
        for many, one in zip(lanes, alone, strict=True):
            np.testing.assert_array_equal(many[lane], one)


def test_take_keeps_trailing_axes_and_the_gradient():
    batch = Batch(jnp.ones((3, 2, 2)), jnp.zeros(3), jnp.zeros(3, int))
    assert take(batch, jnp.array([0, 2])).x.shape == (2, 2, 2)
    gradient = jax.grad(lambda x: jnp.sum(take(batch._replace(x=x), jnp.array([2, 2])).x))(batch.x)
    np.testing.assert_array_equal(gradient[:, 0, 0], [0, 0, 2])


def test_take_refuses_masks_and_rows_beyond_the_end():
    with pytest.raises(TypeError, match="rows must be integer positions, got bool"):
        take(example(), np.array([True, False, True, False]))
    with pytest.raises(TypeError, match="integer positions, got float32"):
        take(example(), np.array([0.0, 1.0], np.float32))
    with pytest.raises(IndexError, match="below the number of rows 4, but one is 4"):
        take(example(), [0, 4])


def test_a_sound_batch_passes():
    check_batch(example(), 3)
    check_batch(example(np.array([0.0, 1.0, 2.0, 0.0])))
    jax.jit(lambda batch: check_batch(batch, 1))(example())


@pytest.mark.parametrize(
    ("changes", "num_groups", "message"),
    [
        ({"y": np.zeros(3)}, None, "train.x has 4, train.y has 3"),
        ({"weight": np.ones(5)}, None, "train.weight has 5"),
        ({"weight": np.array([1.0, -0.5, 1.0, 1.0])}, None, "train.weight.*row 1 has -0.5"),
        ({}, 2, r"train.group must lie in \[0, 2\), but row 2 has id 2"),
        ({"y": np.float32(1.0)}, None, "train.y must have one entry per example, and a scalar"),
        (
            {"x": np.zeros((0, 2)), "y": np.zeros(0), "group": np.zeros(0, int)},
            None,
            "train has no rows",
        ),
    ],
)
def test_unsound_batches_are_named(changes, num_groups, message):
    with pytest.raises(ValueError, match=message):
        check_batch(example()._replace(**changes), num_groups, name="train")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"group": np.array([0, 1, -1, 0])}, ValueError, "train.group must hold ids >= 0, but row 2 has -1"),
        ({"group": np.zeros(4)}, TypeError, "train.group must hold integer ids"),
        ({"group": None}, TypeError, "train.group must be an array, got NoneType"),
        ({"y": np.array([1, -1, 1, -1])}, ValueError, "train.y must be >= 0, but row 1 has -1"),
        ({"y": [0, 1, 0, 1]}, TypeError, "train.y must be an array, got list"),
    ],
)
def test_what_would_pass_for_padding_or_another_class_is_named(changes, error, message):
    with pytest.raises(error, match=message):
        check_batch(example()._replace(**changes), name="train")


def test_rows_without_weight_may_hold_anything():
    marked = example(np.array([1.0, 0.0, 1.0, 1.0]))._replace(
        y=np.array([0, -1, 1, 0]), group=np.array([0, -1, 1, 0], np.int8)
    )
    check_batch(marked)
    check_batch(marked._replace(y=np.array([-0.5, 1.0, 2.0, 3.0])))  # a regression


def test_filled_padding_is_a_row_that_counts():
    batch = example(np.array([0.0, 1.0, 0.0, 2.0]))
    batch = batch._replace(x=batch.x.astype(float))
    batch.x[[0, 2]] = np.nan
    for fill in (fill_padding, jax.jit(fill_padding)):
        filled = fill(batch)
        np.testing.assert_allclose(filled.x, batch.x[[1, 1, 1, 3]])
        np.testing.assert_array_equal(filled.y, batch.y[[1, 1, 1, 3]])
        np.testing.assert_array_equal(filled.group, batch.group[[1, 1, 1, 3]])
        np.testing.assert_array_equal(filled.weight, batch.weight)


def test_names_for_groups_are_refused():
    with pytest.raises(TypeError, match=r"data\.group must hold integer ids"):
        check_batch(example()._replace(group=np.array(["a", "b", "a", "b"])), 2)
