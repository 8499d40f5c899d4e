"""Facts about the distance of two samples: SciPy's, the axioms of a metric, frequencies, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

import badrjax as bx
from badrjax.ordering import value_order
from badrjax.transport import wasserstein1

M, N = 9, 6
distance = jax.jit(wasserstein1)
gradients = jax.jit(jax.grad(wasserstein1, (0, 1, 2, 3)))
hessian = jax.jit(jax.hessian(wasserstein1, (0, 1, 2, 3)))
NAN, INF = np.nan, np.inf


def samples(rows):
    """Values with many ties, and weights of which some are 0 but never all."""
    value = st.one_of(st.sampled_from([-1.0, 0.0, -0.0, 0.5, 2.0]), st.floats(-50, 50, width=32))
    weight = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]), min_size=rows, max_size=rows).filter(any)
    values = st.lists(value, min_size=rows, max_size=rows).map(lambda v: np.array(v, "f"))
    return st.tuples(values, weight.map(lambda w: np.array(w, "f")))


def scipy_distance(u, v, u_weight=None, v_weight=None):
    """In double precision, over the rows that have weight."""
    sides = []
    for values, weight in ((u, u_weight), (v, v_weight)):
        weight = np.ones(len(values)) if weight is None else np.asarray(weight, float)
        sides.append((np.asarray(values, float)[weight > 0], weight[weight > 0]))
    (u, u_weight), (v, v_weight) = sides
    return wasserstein_distance(u, v, u_weight, v_weight)


# Values


@settings(deadline=None, max_examples=40)
@given(first=samples(M), second=samples(N))
def test_the_distance_is_scipys(first, second):
    (u, u_weight), (v, v_weight) = first, second
    np.testing.assert_allclose(
        distance(u, v, u_weight, v_weight), scipy_distance(u, v, u_weight, v_weight), rtol=2e-6, atol=2e-5
    )
    np.testing.assert_allclose(distance(u, v), scipy_distance(u, v), rtol=2e-6, atol=2e-5)


def test_agreement_is_to_the_last_digits_in_double_precision(x64):
    random = np.random.default_rng(0)
    for rows in ((1, 7), (200, 33)):
        (u, u_weight), (v, v_weight) = ((random.normal(size=n), random.random(n)) for n in rows)
        found = distance(u, v, u_weight, v_weight)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, scipy_distance(u, v, u_weight, v_weight), rtol=1e-13)


def test_many_rows_far_from_zero_keep_their_digits_in_single_precision():
    offset = 1e4
    random = np.random.default_rng(1)
    u = (random.normal(size=200_000) + offset).astype("f")
    v = (1.1 * random.normal(size=150_001) + offset).astype("f")
    u_weight, v_weight = (random.random(x.size).astype("f") for x in (u, v))
    np.testing.assert_allclose(distance(u, v), scipy_distance(u, v), rtol=3e-6)
    # Weighted, each value of the distribution functions is good to about 1e-6.
    expected = scipy_distance(u, v, u_weight, v_weight)
    np.testing.assert_allclose(distance(u, v, u_weight, v_weight), expected, atol=3e-6)


@settings(deadline=None, max_examples=40)
@given(first=samples(M), second=samples(M), third=samples(M))
def test_it_is_a_metric(first, second, third):
    pairs = {}
    for name, (u, u_weight), (v, v_weight) in (
        ("ab", first, second),
        ("ba", second, first),
        ("bc", second, third),
        ("ac", first, third),
        ("aa", first, first),
    ):
        pairs[name] = float(distance(u, v, u_weight, v_weight))
    assert min(pairs.values()) >= 0
    np.testing.assert_allclose(pairs["ab"], pairs["ba"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(pairs["aa"], 0, atol=1e-5)
    assert pairs["ac"] <= pairs["ab"] + pairs["bc"] + 1e-4


@settings(deadline=None, max_examples=40)
@given(first=samples(M), second=samples(N), shift=st.integers(-64, 64), power=st.integers(-8, 8), sign=st.booleans())
def test_shifts_cancel_and_scales_factor_out(first, second, shift, power, sign):
    (u, u_weight), (v, v_weight) = first, second
    # On a grid, so that nothing is rounded.
    u, v = (np.round(x * 8) / 8 for x in (u, v))
    plain = distance(u, v, u_weight, v_weight)
    factor = np.float32((-1 if sign else 1) * 2.0**power)
    np.testing.assert_allclose(distance(u + np.float32(shift), v + np.float32(shift), u_weight, v_weight), plain)
    np.testing.assert_allclose(distance(factor * u, factor * v, u_weight, v_weight), abs(factor) * plain, rtol=1e-5)
    # Of one sample and its shift it is the length of the shift.
    np.testing.assert_allclose(distance(u, u + np.float32(shift), u_weight, u_weight), abs(shift), rtol=1e-5)


def padded(values, weight, rows):
    """As many rows as the compiled functions take, the last of them without weight."""
    fill = rows - len(values)
    return np.append(values, np.full(fill, NAN)).astype("f"), np.append(weight, np.zeros(fill)).astype("f")


@pytest.mark.parametrize(
    ("u", "v", "u_weight", "v_weight", "expected"),
    [
        ([0], [3], [1], [1], 3),
        ([0, 1], [0, 1], [1, 3], [3, 1], 0.5),
        ([0, 0, 4], [1], [1, 1, 1], [9], 5 / 3),
        ([0, 2], [1], [1, 0], [0.2], 1),
        ([5, 1, 3, 5], [1, 5, 3], [1, 2, 4, 2], [2, 3, 4], 0),
    ],
)
def test_closed_forms(u, v, u_weight, v_weight, expected):
    (u, u_weight), (v, v_weight) = padded(u, u_weight, M), padded(v, v_weight, N)
    np.testing.assert_allclose(distance(u, v, u_weight, v_weight), expected, rtol=2e-7)


# Frequencies


@settings(deadline=None, max_examples=40)
@given(data=st.data(), garbage=st.sampled_from([NAN, INF, -INF, 1e30]))
def test_rows_without_weight_are_inert_and_whole_weights_are_repeats(data, garbage):
    counts = st.lists(st.integers(0, 3), min_size=M, max_size=M).filter(any).map(np.array)
    (u, _), (v, v_weight), count = data.draw(samples(M)), data.draw(samples(N)), data.draw(counts)
    dirty = np.where(count > 0, u, np.float32(garbage))
    count = count.astype("f")
    found = distance(dirty, v, count, v_weight)
    np.testing.assert_allclose(found, scipy_distance(np.repeat(u, count.astype(int)), v, None, v_weight), atol=2e-5)
    clean, soiled = gradients(u, v, count, v_weight), gradients(dirty, v, count, v_weight)
    for ours, theirs in zip(soiled, clean, strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    for ours in (soiled[0], soiled[2]):
        np.testing.assert_array_equal(np.asarray(ours)[count == 0], 0)


def test_a_repeated_row_moves_as_one_of_so_much_weight(x64):
    random = np.random.default_rng(2)
    u, v, weight = random.normal(size=5), random.normal(size=N), np.ones(N)
    count = np.array([1, 2, 1, 3, 2])
    fill = np.zeros(M - 5)
    by_value, _, by_weight, _ = map(np.asarray, gradients(np.append(u, fill), v, np.append(count, fill), weight))
    repeated, _, each, _ = map(np.asarray, gradients(np.repeat(u, count), v, np.ones(M), weight))
    np.testing.assert_allclose(np.add.reduceat(repeated, np.cumsum(count) - count), by_value[:5], atol=1e-14)
    np.testing.assert_allclose(each, np.repeat(by_weight[:5], count), atol=1e-14)


def test_only_shares_of_weight_matter(x64):
    random = np.random.default_rng(3)
    args = random.normal(size=M), random.normal(size=N), random.random(M), random.random(N)
    np.testing.assert_allclose(distance(*args[:2], 7 * args[2], args[3] / 3), distance(*args), rtol=1e-13)
    by_u, by_v = gradients(*args)[2:]
    np.testing.assert_allclose([by_u @ args[2], by_v @ args[3]], 0, atol=1e-14)


# Derivatives


def smooth_problem(seed):
    random = np.random.default_rng(seed)
    return random.normal(size=M), random.normal(size=N) + 0.3, random.random(M) + 0.2, random.random(N) + 0.2


def quantile_gradient(u, v, u_weight, v_weight):
    """By `u`, from the optimal coupling: mass that goes to the left minus mass that goes to the right."""
    gradient = np.zeros(len(u))
    i_order, j_order = np.argsort(u), np.argsort(v)
    mass_u, mass_v = (u_weight / u_weight.sum())[i_order], (v_weight / v_weight.sum())[j_order]
    i = j = 0
    while i < len(u) and j < len(v):
        moved = min(mass_u[i], mass_v[j])
        gradient[i_order[i]] += moved * np.sign(u[i_order[i]] - v[j_order[j]])
        mass_u[i] -= moved
        mass_v[j] -= moved
        i, j = (i + 1, j) if mass_u[i] <= mass_v[j] else (i, j + 1)
    return gradient


@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_right_three_ways(x64, seed):
    args = smooth_problem(seed)
    found = gradients(*args)
    np.testing.assert_allclose(found[0], quantile_gradient(*args), atol=1e-14)
    swapped = args[1], args[0], args[3], args[2]
    np.testing.assert_allclose(found[1], quantile_gradient(*swapped), atol=1e-14)
    step = 1e-6
    for position, gradient in enumerate(found):
        for row in range(len(gradient)):
            ends = []
            for sign in (1, -1):
                moved = [x.copy() for x in args]
                moved[position][row] += sign * step
                ends.append(scipy_distance(*moved))
            np.testing.assert_allclose(gradient[row], (ends[0] - ends[1]) / (2 * step), atol=1e-8)


def test_second_derivatives_agree_with_differences_of_the_first(x64):
    args = smooth_problem(0)
    second = hessian(*args)
    step = 1e-5
    for position in range(4):
        for row in range(len(args[position])):
            ends = []
            for sign in (1, -1):
                moved = [x.copy() for x in args]
                moved[position][row] += sign * step
                ends.append(gradients(*moved))
            for other in range(4):
                difference = (np.asarray(ends[0][other]) - np.asarray(ends[1][other])) / (2 * step)
                np.testing.assert_allclose(second[other][position][:, row], difference, atol=1e-8)


def test_forward_mode_agrees_with_reverse(x64):
    args = smooth_problem(5)
    tangents = smooth_problem(6)
    _, forward = jax.jvp(distance, args, tangents)
    reverse = sum(g @ t for g, t in zip(gradients(*args), tangents, strict=True))
    np.testing.assert_allclose(forward, reverse, atol=1e-14)


def test_rows_of_one_sample_that_tie_share_the_derivative(x64):
    ones_u, ones_v = np.ones(4), np.ones(3)
    # No kink here: half of the mass of u is at 0, all of v is to its right.
    by_u, by_v, *_ = gradients(np.array([0.0, 0.0, 5.0, 5.0]), np.array([1.0, 2.0, 3.0]), ones_u, ones_v)
    np.testing.assert_allclose(by_u, [-0.25, -0.25, 0.25, 0.25])
    np.testing.assert_allclose(by_v, [1 / 3, 0, -1 / 3], atol=1e-15)
    # A kink: the median of v may lie anywhere in the tie.
    by_u, *_ = gradients(np.zeros(4), np.array([-1.0, 0.5, 1.0]), ones_u, ones_v)
    np.testing.assert_allclose(by_u, np.full(4, by_u[0]))
    by_u, by_v, *_ = gradients(np.zeros(4), np.zeros(3), ones_u, ones_v)
    np.testing.assert_array_equal(by_u, 0)
    np.testing.assert_array_equal(by_v, 0)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_gradients_do_not_depend_on_the_order_of_rows(seed):
    random = np.random.default_rng(seed)
    u, v = (random.integers(0, 4, n).astype("f") for n in (M, N))
    u_weight, v_weight = (random.integers(1, 4, n).astype("f") for n in (M, N))
    order = random.permutation(M)
    plain = gradients(u, v, u_weight, v_weight)
    moved = gradients(u[order], v, u_weight[order], v_weight)
    np.testing.assert_allclose(moved[0], plain[0][order], atol=1e-6)
    np.testing.assert_allclose(moved[1], plain[1], atol=1e-6)
    np.testing.assert_allclose(moved[2], plain[2][order], atol=1e-6)
    # A shift of both samples changes nothing.
    np.testing.assert_allclose(plain[0].sum() + plain[1].sum(), 0, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_equal_samples_are_at_distance_zero_with_derivative_zero(seed):
    random = np.random.default_rng(seed)
    values, count, order = random.normal(size=N), random.integers(1, 9, N), random.permutation(N)
    u, u_weight = padded(values, count, M)
    v, v_weight = padded(values[order], 3 * count[order], N)
    assert distance(u, v, u_weight, v_weight) == 0
    for gradient in gradients(u, v, u_weight, v_weight):
        np.testing.assert_array_equal(gradient, 0)


# Bad input


def test_lanes_equal_a_loop_and_a_bad_one_leaves_the_others_alone():
    random = np.random.default_rng(8)
    u, v = random.normal(size=(5, M)).astype("f"), random.normal(size=(5, N)).astype("f")
    u_weight, v_weight = np.ones((5, M), "f"), np.ones((5, N), "f")
    u[1, 3], v[2, 0], u_weight[3] = NAN, INF, 0.0
    value = np.asarray(jax.vmap(distance)(u, v, u_weight, v_weight))
    assert np.isnan(value).tolist() == [False, True, True, True, False]
    lanes = jax.vmap(gradients)(u, v, u_weight, v_weight)
    for lane in (0, 4):
        alone = u[lane], v[lane], u_weight[lane], v_weight[lane]
        np.testing.assert_allclose(value[lane], distance(*alone), rtol=1e-6)
        for ours, theirs in zip(lanes, gradients(*alone), strict=True):
            np.testing.assert_allclose(ours[lane], theirs, atol=1e-6)
    assert np.isnan(lanes[0][1]).any()
    assert np.isnan(lanes[1][2]).any()


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("u must have one axis.*\\(2, 1\\)", lambda: wasserstein1([[1.0], [2.0]], [1.0])),
        ("v must have at least one row", lambda: wasserstein1([1.0], np.zeros(0))),
        ("v has 1, v_weight has 2", lambda: wasserstein1([1.0], [1.0], None, [1.0, 1.0])),
        ("u_weight must hold frequencies >= 0.*row 1 has -1", lambda: wasserstein1([1.0, 2.0], [1.0], [1.0, -1.0])),
        ("v_weight is 0 in every row", lambda: wasserstein1([1.0], [1.0, 2.0], None, [0.0, 0.0])),
    ],
)
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_dtype_follows_the_values(x64):
    def dtype(*dtypes):
        return jax.eval_shape(wasserstein1, *(jax.ShapeDtypeStruct((2,), d) for d in dtypes)).dtype

    assert dtype(jnp.float32, jnp.float32) == jnp.float32
    assert dtype(jnp.float32, jnp.float64) == jnp.float64
    assert dtype(jnp.bfloat16, jnp.float32, jnp.float64) == jnp.float32
    assert dtype(jnp.int32, jnp.float32) == jnp.float64


@pytest.mark.parametrize("scale", [1e-37, 1e38])
def test_only_shares_of_extreme_weights_matter(scale):
    weight = (np.array([1.0, 2.0, 0.0]) * scale).astype(np.float32)
    u, v = np.float32([0.0, 1.0, 9.0]), np.float32([0.0, 3.0])
    np.testing.assert_allclose(wasserstein1(u, v, weight), wasserstein1(u, v, np.float32([1, 2, 0])), rtol=1e-5)


def test_a_traced_negative_weight_is_nan():
    u = np.float32([0.0, 1.0])
    assert np.isnan(jax.jit(lambda weight: wasserstein1(u, u + 1, weight))(np.float32([2.0, -1.0])))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), rounded=st.booleans(), whole=st.booleans())
def test_distances_by_group_are_those_of_each_group_alone(seed, rounded, whole):
    """Values against SciPy, derivatives against `wasserstein1`, with ties, absent groups, padding and odd ids."""
    generator = np.random.default_rng(seed)
    groups = generator.integers(-1, 4, M)
    u, v = (np.round(generator.normal(size=M), 1 if rounded else 6).astype(np.float32) for _ in range(2))
    weight = (generator.integers(0, 3, M) if whole else generator.random(M)).astype(np.float32)
    groups = np.where(groups == 2, 1, groups)
    u[weight == 0] = np.nan
    distances, slopes = by_group(u, v, groups, weight)
    assert np.isfinite(slopes).all()
    for group in range(4):
        inside = (groups == group) & (weight > 0)
        if not inside.any():
            assert np.isnan(distances[group])
            continue
        expected = wasserstein_distance(u[inside], v[inside], weight[inside], weight[inside])
        np.testing.assert_allclose(distances[group], expected, rtol=1e-5, atol=1e-6)
        masked = jnp.asarray(np.where(inside, weight, 0))
        np.testing.assert_allclose(
            np.asarray(slopes)[:, inside], np.asarray(alone(u, v, masked))[:, inside], rtol=1e-4, atol=1e-5
        )


@jax.jit
def by_group(u, v, groups, weight):
    def total(u, v):
        distances = bx.wasserstein1_by_group(u, v, groups, 4, weight)
        return jnp.nansum(distances), distances

    slopes, distances = jax.grad(total, argnums=(0, 1), has_aux=True)(u, v)
    return distances, jnp.stack(slopes)


alone = jax.jit(lambda u, v, w: jnp.stack(jax.grad(lambda u, v: bx.wasserstein1(u, v, w, w), argnums=(0, 1))(u, v)))


def test_a_broken_value_spoils_its_own_group_only():
    u = np.linspace(0, 1, M).astype(np.float32)
    groups = np.arange(M) % 2
    broken = u.copy()
    broken[0] = np.inf
    distances, _ = by_group(broken, u[::-1].copy(), groups, np.ones(M, np.float32))
    assert np.isnan(distances[0])
    assert np.isfinite(distances[1])


def test_value_order_is_numpys_stable_argsort(x64):
    for dtype in (np.float32, np.float64):
        generator = np.random.default_rng(0)
        values = (generator.normal(size=500) * 10.0 ** generator.integers(-30, 30, 500)).astype(dtype)
        values[::7] = 0.0
        values[3::7] = -0.0
        values[5::11] = np.inf
        values[6::50] = -np.inf
        np.testing.assert_array_equal(value_order(jnp.asarray(values)), np.argsort(values, kind="stable"))


def test_a_small_group_after_a_large_one_keeps_its_digits():
    generator = np.random.default_rng(0)
    groups = np.r_[np.zeros(50_000, int), np.ones(10, int)]
    weight = generator.uniform(0.3, 0.7, groups.size).astype(np.float32)
    u, v = (generator.random(groups.size).astype(np.float32) for _ in range(2))
    found = bx.wasserstein1_by_group(u, v, groups, 2, weight)
    inside = groups == 1
    expected = wasserstein_distance(u[inside], v[inside], weight[inside], weight[inside])
    np.testing.assert_allclose(found[1], expected, rtol=1e-4)
