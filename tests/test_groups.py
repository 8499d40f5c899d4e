"""Facts about the reduction by group and the encoder of groups."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.groups import encode_groups, group_count, group_mean, group_present, group_sum

N = 24
# One masked sum up to 16 groups, a scatter above.
BOTH_PATHS = pytest.mark.parametrize("num_groups", [1, 3, 16, 17, 40])


def arrays(elements):
    return st.lists(elements, min_size=N, max_size=N).map(np.array)


def rows(num_groups):
    """Values, ids, and weights with many zeros."""
    value = arrays(st.floats(-100, 100, width=32)).map(np.float32)
    ids = arrays(st.integers(0, num_groups - 1)).map(np.int32)
    weight = arrays(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 3.0])).map(np.float32)
    return st.tuples(value, ids, weight)


def expected_mean(values, ids, num_groups, weight):
    means = np.zeros(num_groups)
    for k in range(num_groups):
        mine = (ids == k) & (weight > 0)
        if mine.any():
            means[k] = np.average(values[mine].astype(float), weights=weight[mine])
    return means


@BOTH_PATHS
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_mean_count_and_presence_agree_with_a_loop_over_groups(num_groups, data):
    values, ids, weight = data.draw(rows(num_groups))
    count = np.array([weight[ids == k].sum() for k in range(num_groups)])
    np.testing.assert_allclose(
        jax.jit(group_mean, static_argnums=2)(values, ids, num_groups, weight),
        expected_mean(values, ids, num_groups, weight),
        rtol=1e-5,
        atol=1e-4,
    )
    np.testing.assert_array_equal(jax.jit(group_count, static_argnums=1)(ids, num_groups, weight), count)
    present = jax.jit(group_present, static_argnums=1)(ids, num_groups, weight)
    np.testing.assert_array_equal(present, count > 0)


@BOTH_PATHS
def test_without_weights_every_row_counts_once(num_groups):
    ids = np.arange(50) % num_groups
    values = np.arange(50)
    np.testing.assert_array_equal(group_count(ids, num_groups), np.bincount(ids, minlength=num_groups))
    np.testing.assert_allclose(
        group_mean(values, ids, num_groups), expected_mean(values, ids, num_groups, np.ones(50)), rtol=1e-6
    )


@pytest.mark.parametrize("num_groups", [3, 20])
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_weight_is_a_number_of_repetitions(num_groups, data):
    values, ids, _ = data.draw(rows(num_groups))
    times = data.draw(arrays(st.integers(0, 3)))
    # Padded to one length, for one compilation.
    padding = 3 * N - times.sum()
    repeated = np.pad(np.repeat(values, times), (0, padding), constant_values=np.nan)
    repeated_ids = np.pad(np.repeat(ids, times), (0, padding))
    ones = np.pad(np.ones(times.sum(), np.float32), (0, padding))
    count, mean = jax.jit(group_count, static_argnums=1), jax.jit(group_mean, static_argnums=2)
    np.testing.assert_array_equal(count(ids, num_groups, times), count(repeated_ids, num_groups, ones))
    np.testing.assert_allclose(
        mean(values, ids, num_groups, times),
        mean(repeated, repeated_ids, num_groups, ones),
        rtol=1e-5,
        atol=1e-4,
    )


@pytest.mark.parametrize("num_groups", [4, 20])
@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_padding_reaches_neither_the_mean_nor_its_derivative(num_groups, garbage):
    values = np.array([1.0, 2.0, garbage, 4.0, garbage], np.float32)
    ids = np.array([0, 0, 0, 1, 3])
    weight = np.array([1.0, 2.0, 0.0, 1.0, 0.0], np.float32)
    mean = partial(group_mean, groups=ids, num_groups=num_groups, weight=weight)
    np.testing.assert_allclose(mean(values)[:4], [5 / 3, 4, 0, 0], rtol=1e-6)
    jacobian = jax.jacrev(mean)(values)
    np.testing.assert_allclose(jacobian[0], [1 / 3, 2 / 3, 0, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(jacobian[2:], 0)
    np.testing.assert_array_equal(jax.jacfwd(mean)(values), jacobian)
    by_weight = jax.grad(lambda w: jnp.sum(mean(values, weight=w)))(weight)
    np.testing.assert_allclose(by_weight[np.array([0, 1, 3])], [-2 / 9, 1 / 9, 0], rtol=1e-5)
    assert np.isfinite(by_weight).all()


@pytest.mark.parametrize("num_groups", [4, 20])
def test_empty_groups_have_mean_and_derivative_exactly_zero(num_groups):
    ids = jnp.array([0, 0, 2])
    values = jnp.array([1.0, 3.0, 5.0])
    mean = partial(group_mean, groups=ids, num_groups=num_groups)
    empty = np.setdiff1d(np.arange(num_groups), [0, 2])
    np.testing.assert_array_equal(mean(values)[empty], 0)
    # Something steep of the empty groups' means stays finite.
    gradient = jax.grad(lambda v: jnp.sum(jnp.square(mean(v))))(values)
    np.testing.assert_allclose(gradient, [2.0, 2.0, 10.0])
    for mode in (jax.jacrev, jax.jacfwd):
        np.testing.assert_array_equal(mode(mean)(values)[empty], 0)


@pytest.mark.parametrize("num_groups", [4, 20])
def test_a_nan_that_counts_stays_in_its_group(num_groups):
    ids = jnp.array([0, 1, 1, 2])
    mean = partial(group_mean, groups=ids, num_groups=num_groups, weight=jnp.ones(4))
    values = jnp.array([1.0, jnp.nan, 2.0, 3.0])
    result = np.asarray(mean(values))
    assert np.isnan(result[1])
    np.testing.assert_array_equal(result[[0, 2, 3]], [1, 3, 0])
    np.testing.assert_array_equal(jax.grad(lambda v: mean(v)[0] + mean(v)[2])(values), [1, 0, 0, 1])


@pytest.mark.parametrize("num_groups", [4, 20])
def test_row_order_and_group_numbers_do_not_matter(num_groups):
    random = np.random.default_rng(0)
    ids = random.integers(0, num_groups, 2000)
    values = random.normal(size=2000).astype(np.float32)
    weight = random.integers(0, 3, 2000).astype(np.float32)
    mean = np.asarray(group_mean(values, ids, num_groups, weight))
    order, names = random.permutation(2000), random.permutation(num_groups)
    np.testing.assert_allclose(
        group_mean(values[order], ids[order], num_groups, weight[order]), mean, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(group_mean(values, names[ids], num_groups, weight)[names], mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_groups", [4, 20])
@pytest.mark.parametrize("length", [6, 2000])
def test_ids_out_of_range_take_no_part_under_tracing(num_groups, length):
    # Long enough for several blocks of a scatter, where a wrong id could land in the next block.
    ids = np.full(length, -1)
    ids[1::2] = num_groups
    ids[0], ids[-1] = 0, num_groups - 1
    expected = np.zeros(num_groups)
    expected[[0, -1]] = 1
    np.testing.assert_array_equal(jax.jit(group_count, static_argnums=1)(ids, num_groups), expected)


@pytest.mark.parametrize("num_groups", [4, 20])
def test_vmap_equals_a_loop(num_groups):
    random = np.random.default_rng(1)
    values = random.normal(size=(3, 700)).astype(np.float32)
    ids = random.integers(0, num_groups, (3, 700))
    weight = random.integers(0, 3, (3, 700)).astype(np.float32)
    mean = partial(group_mean, num_groups=num_groups)
    lanes = jax.vmap(lambda v, g, w: mean(v, g, weight=w))(values, ids, weight)
    loop = [mean(*row[:2], weight=row[2]) for row in zip(values, ids, weight, strict=True)]
    np.testing.assert_allclose(lanes, np.stack(loop), rtol=1e-5, atol=1e-6)
    shared = jax.vmap(lambda v: mean(v, ids[0]))(values)
    np.testing.assert_allclose(shared[2], mean(values[2], ids[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_groups", [4, 20])
@pytest.mark.parametrize("length", [3, 1500])
def test_gradient_is_the_share_of_the_row_in_its_group(x64, num_groups, length):
    random = np.random.default_rng(2)
    ids = random.integers(0, num_groups, length)
    weight = random.integers(0, 4, length).astype(float)
    upstream = random.normal(size=num_groups)
    gradient = jax.grad(lambda v: jnp.vdot(upstream, group_mean(v, ids, num_groups, weight)))(
        random.normal(size=length)
    )
    total = np.bincount(ids, weight, minlength=num_groups)
    share = np.divide(weight, total[ids], out=np.zeros(length), where=total[ids] > 0)
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, upstream[ids] * share, rtol=1e-12)


@pytest.mark.parametrize("num_groups", [2, 20])
def test_a_million_small_weights_add_up_in_float32(num_groups):
    # Row after row in float32 this is off by one in a hundred.
    weight = np.full(1_000_000, 0.1, np.float32)
    ids = np.ones(1_000_000, np.int32)
    exact = weight.astype(float).sum()
    assert abs(float(group_count(ids, num_groups, weight)[1]) / exact - 1) < 1e-5


@pytest.mark.parametrize("num_groups", [2, 20])
def test_half_precision_is_added_in_float32(num_groups):
    # bfloat16 has 8 bits: adding ones stops at 256.
    ones = jnp.ones(1000, jnp.bfloat16)
    ids = jnp.zeros(1000, int)
    assert group_count(ids, num_groups, ones)[0] == 1000
    mean = group_mean(ones, ids, num_groups, jnp.full(1000, 3, jnp.bfloat16))
    assert mean[0] == 1
    assert mean.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64, np.uint32])
@pytest.mark.parametrize("num_groups", [4, 300])
def test_any_integer_ids(dtype, num_groups):
    ids = np.array([0, 3, 3, 2], dtype)
    np.testing.assert_array_equal(group_count(ids, num_groups)[:4], [1, 0, 1, 2])


def test_integers_booleans_and_lists_are_values_too():
    np.testing.assert_allclose(group_mean([True, False, True], [0, 0, 1], 2), [0.5, 1.0])
    np.testing.assert_allclose(group_mean([1, 2, 5], [0, 0, 1], 2), [1.5, 5.0])
    np.testing.assert_array_equal(group_sum(jnp.array([1, 2, 5]), jnp.array([0, 0, 1]), 2), [3, 5])


@pytest.mark.parametrize("num_groups", [2, 20])
def test_no_rows_are_all_groups_empty(num_groups):
    none = np.zeros(0, np.float32), np.zeros(0, int)
    np.testing.assert_array_equal(group_mean(*none, num_groups), np.zeros(num_groups))
    np.testing.assert_array_equal(group_present(none[1], num_groups), np.zeros(num_groups, bool))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            r"groups must lie in \[0, 2\), but row 1 has id 2 and 1 more rows",
            lambda: group_count([0, 2, 5], 2),
        ),
        (ValueError, "row 0 has id -1", lambda: group_count([-1, 0], 2)),
        (TypeError, "integer ids.*encode_groups", lambda: group_count([0.0, 1.0], 2)),
        (TypeError, "integer ids.*encode_groups", lambda: group_count(["a", "b"], 2)),
        (TypeError, "integer ids", lambda: group_count([True, False], 2)),
        (ValueError, "num_groups must be a positive Python int", lambda: group_count([0], 0)),
        (ValueError, "num_groups must be a positive Python int", lambda: group_count([0], 2.0)),
        (ValueError, "groups has 2, weight has 1", lambda: group_count([0, 1], 2, [1.0])),
        (ValueError, "values has 3, groups has 2", lambda: group_mean([1.0, 2.0, 3.0], [0, 1], 2)),
        (ValueError, r"values must have one axis.*\(2, 1\)", lambda: group_mean([[1.0], [2.0]], [0, 1], 2)),
        (ValueError, "weight.*scalar was given|weight must have one axis", lambda: group_count([0, 1], 2, 1.0)),
        (ValueError, "weight must hold frequencies >= 0.*row 1 has -1", lambda: group_count([0, 1], 2, [1.0, -1.0])),
        (ValueError, "weight must hold frequencies >= 0.*row 0 has nan", lambda: group_mean([1.0], [0], 2, [np.nan])),
    ],
)
def test_wrong_input_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_shapes_are_checked_under_tracing_too():
    with pytest.raises(ValueError, match="groups has 2, weight has 3"):
        jax.jit(lambda g, w: group_count(g, 2, w))(jnp.array([0, 1]), jnp.ones(3))
    with pytest.raises(TypeError, match="integer ids"):
        jax.jit(lambda g: group_count(g, 2))(jnp.array([0.0, 1.0]))


def test_encoding_one_attribute():
    groups = encode_groups(["b", "a", "b", "c"])
    np.testing.assert_array_equal(groups.ids, [1, 0, 1, 2])
    assert groups.ids.dtype == np.int32
    assert groups.names == ("a", "b", "c")
    assert groups.num_groups == 3


def test_encoding_intersections_that_occur():
    groups = encode_groups(["f", "m", "m", "f"], np.array([True, False, False, False]))
    assert groups.names == ("f & False", "f & True", "m & False")
    np.testing.assert_array_equal(groups.ids, [1, 2, 2, 0])


def test_numbers_are_ordered_by_size():
    assert encode_groups([10, 9, 2]).names == ("2", "9", "10")


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 3), st.booleans()), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_encoding_names_each_row_and_ignores_row_order(table, random):
    columns = list(zip(*table, strict=True))
    groups = encode_groups(*columns)
    named = [groups.names[i] for i in groups.ids]
    assert named == [" & ".join(map(str, row)) for row in table]
    assert len(set(groups.names)) == groups.num_groups == len(set(table))
    assert set(groups.ids.tolist()) == set(range(groups.num_groups))
    order = list(range(len(table)))
    random.shuffle(order)
    shuffled = encode_groups(*([column[i] for i in order] for column in columns))
    assert shuffled.names == groups.names
    np.testing.assert_array_equal(shuffled.ids, groups.ids[order])


def test_encoding_takes_pandas_columns():
    frame = pd.DataFrame({"sex": pd.Categorical(["m", "f", "m"]), "old": [True, False, False]})
    assert encode_groups(frame["sex"], frame["old"]).names == ("f & False", "m & False", "m & True")


@pytest.mark.parametrize(
    "column",
    [
        ["a", None, "b"],
        np.array([1.0, np.nan, 2.0]),
        pd.array(["a", pd.NA, "b"], dtype="string"),
        pd.Series([1, None, 2], dtype="Int64"),
        pd.to_datetime(["2020-01-01", None, "2020-01-02"]),
    ],
)
def test_missing_values_are_refused_by_row(column):
    with pytest.raises(ValueError, match="attribute 1 has a missing value in row 1"):
        encode_groups(["x", "y", "z"], column)


def test_unusable_columns_are_named():
    with pytest.raises(ValueError, match="at least one attribute"):
        encode_groups()
    with pytest.raises(ValueError, match="attribute 0 must be a column"):
        encode_groups([])
    with pytest.raises(ValueError, match="attribute 0 must be a column"):
        encode_groups("sex")
    with pytest.raises(ValueError, match="attribute 1 has 2 rows, attribute 0 has 3"):
        encode_groups([1, 2, 3], [1, 2])
    with pytest.raises(TypeError, match="attribute 0 mixes values that have no order"):
        encode_groups(np.array(["a", 1], object))


@pytest.mark.parametrize("wrong", [-1.0, np.nan])
@BOTH_PATHS
def test_a_traced_weight_that_is_no_frequency_shows_in_its_group(num_groups, wrong):
    groups = np.zeros(4, int) if num_groups == 1 else np.array([0, 0, 1, 1])
    weight = np.array([wrong, 1.0, 1.0, 2.0], np.float32)
    means = jax.jit(lambda weight: group_mean(np.ones(4, np.float32), groups, num_groups, weight))(weight)
    assert np.isnan(means[0])
    assert jax.jit(lambda weight: group_present(groups, num_groups, weight))(weight)[0]
    if num_groups > 1:
        assert means[1] == 1


@BOTH_PATHS
def test_the_derivative_by_the_weight_of_padding_is_zero(num_groups):
    groups, weight = np.zeros(3, int), np.array([1.0, 0.0, 2.0], np.float32)
    values = np.array([1.0, np.nan, 4.0], np.float32)
    slopes = jax.jit(jax.grad(lambda weight: group_mean(values, groups, num_groups, weight)[0]))(weight)
    np.testing.assert_allclose(slopes, [(1 - 3) / 3, 0.0, (4 - 3) / 3], rtol=1e-6)


def test_infinite_weights_are_refused():
    with pytest.raises(ValueError, match="and finite"):
        group_mean(np.ones(2), np.zeros(2, int), 1, np.array([1.0, np.inf]))
