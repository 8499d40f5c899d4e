"""Facts about the maps onto the simplex: a root-finding reference, invariances, derivatives three ways."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.surrogates import entmax, entmax15, project_simplex, sparsemax

NAN, INF = np.nan, np.inf
ORDERS = [1.001, 1.01, 1.1, 1.25, 1.5, 1.75, 1.9, 1.99, 2.0]
# Jitted once; the order is an argument, so that all orders share a program.
JITTED = {"sparsemax": jax.jit(sparsemax), "entmax15": jax.jit(entmax15), "entmax": jax.jit(entmax)}
MAPS = {
    "sparsemax": (JITTED["sparsemax"], 2.0),
    "entmax15": (JITTED["entmax15"], 1.5),
    "entmax of 1.01": (lambda z: JITTED["entmax"](z, 1.01), 1.01),
    "entmax of 1.3": (lambda z: JITTED["entmax"](z, 1.3), 1.3),
}
# Jacobian forward and in reverse, and the derivative of the first in reverse.
DERIVATIVES = {
    name: (jax.jit(jax.jacfwd(f)), jax.jit(jax.jacrev(f)), jax.jit(jax.jacrev(jax.jacfwd(f))))
    for name, f in JITTED.items()
}
BY_ORDER = {
    "forward": jax.jit(jax.jacfwd(entmax, 1)),
    "reverse": jax.jit(jax.jacrev(entmax, 1)),
    "second": jax.jit(jax.jacfwd(lambda z, alpha: jax.jacrev(entmax, (0, 1))(z, alpha), 1)),
}
EACH = pytest.mark.parametrize("name", MAPS)
SIZES = pytest.mark.parametrize("size", [1, 2, 5, 400])


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param is np.float64):
        yield request.param


def reference(z, alpha):
    """The threshold by Brent's method on the definition, in double precision."""
    z = np.asarray(z, np.float64)
    scaled = (alpha - 1) * (z - z.max())

    def excess(threshold):
        return np.sum(np.maximum(scaled - threshold, 0) ** (1 / (alpha - 1))) - 1

    low, high = -1.0, -(float(z.size) ** (1 - alpha))
    if excess(low) > 0:
        low = scipy.optimize.brentq(excess, low, high + 1e-12, xtol=1e-16, rtol=1e-15)
    return np.maximum(scaled - low, 0) ** (1 / (alpha - 1))


def references(z, alpha):
    return np.stack([reference(row, alpha) for row in z])


def dense_jacobian(p, alpha):
    slopes = np.where(p > 0, np.where(p > 0, p, 1.0) ** (2 - alpha), 0)
    return np.diag(slopes) - np.outer(slopes, slopes) / slopes.sum()


def rounded(alpha, dtype):
    return float(dtype(alpha))


def derivatives_at(alpha):
    """The derivatives, as functions of the scores, of every map that is of this order."""
    of_entmax = tuple(partial(f, alpha=alpha) for f in DERIVATIVES["entmax"])
    named = {2.0: [DERIVATIVES["sparsemax"]], 1.5: [DERIVATIVES["entmax15"]]}
    return [of_entmax, *named.get(alpha, [])]


# Values


@SIZES
@pytest.mark.parametrize("alpha", ORDERS)
def test_entmax_agrees_with_a_root_found_by_another_method(dtype, size, alpha):
    random = np.random.default_rng(size)
    # Brent's threshold itself is only good to eps, which the power 1 / (alpha - 1) blows up.
    tolerance = 4e-7 if dtype is np.float32 else max(2e-14, 1e-15 / (alpha - 1))
    for scale in (1e-3, 1.0, 10.0, 1e4):
        z = (scale * random.normal(size=(2, size))).astype(dtype)
        expected = references(z, rounded(alpha, dtype))
        p = JITTED["entmax"](z, alpha)
        assert p.dtype == dtype
        np.testing.assert_allclose(p, expected, atol=tolerance)
        if alpha == 2.0:
            np.testing.assert_allclose(JITTED["sparsemax"](z), expected, atol=tolerance)
        if alpha == 1.5:
            np.testing.assert_allclose(JITTED["entmax15"](z), expected, atol=tolerance)


def test_sparsemax_is_the_projection():
    z = np.random.default_rng(3).normal(size=(2, 5)).astype("f")
    np.testing.assert_array_equal(jax.jit(project_simplex)(z), JITTED["sparsemax"](z))


def test_two_classes_have_closed_forms(dtype):
    gap = np.array([-3.0, -2.0, -1.0, -0.3, 0.0, 0.5, 1.0, 1.9, 2.0, 5.0], dtype)
    z = np.stack([np.zeros_like(gap), gap], axis=-1)
    sparse, smooth = np.asarray(JITTED["sparsemax"](z)), np.asarray(JITTED["entmax15"](z))
    np.testing.assert_allclose(sparse[:, 1], np.clip((1 + gap) / 2, 0, 1), rtol=2e-7)
    half = np.clip(gap / 2, -1, 1)
    root = (half + np.sqrt(2 - half**2)) / 2
    np.testing.assert_allclose(smooth[:, 1], root**2, atol=3e-7)
    # The same as the sort finds when a third class is out of the race.
    third = np.concatenate([z, np.full((len(z), 1), -100, dtype)], axis=-1)
    of_three = np.asarray(JITTED["entmax15"](third))
    np.testing.assert_allclose(of_three[:, :2], smooth, atol=3e-7)
    np.testing.assert_array_equal(of_three[:, 2], 0)


def test_near_certainty_small_probabilities_keep_their_digits(x64):
    short = jnp.array([1e-3, 1e-6, 1e-9])
    z = jnp.stack([2.0 * (1 - short), jnp.zeros(3)], axis=-1)
    gap = z[:, 0] / 2
    expected = ((1 - gap) * (1 + gap) / (gap + jnp.sqrt(2 - gap**2))) ** 2
    np.testing.assert_allclose(JITTED["entmax15"](z)[:, 1], expected, rtol=1e-13)


@pytest.mark.parametrize("excess", [1e-2, 1e-4, 1e-6])
def test_entmax_tends_to_softmax_as_the_order_tends_to_one(dtype, excess):
    z = np.random.default_rng(0).normal(size=(3, 9)).astype(dtype)
    np.testing.assert_allclose(JITTED["entmax"](z, 1 + excess), jax.nn.softmax(z), atol=excess + 1e-6)


@pytest.mark.parametrize("alpha", [1.0 + 2.0**-52, 1.0 + 2.0**-40, 1.0 + 1e-9])
def test_orders_next_to_one_are_as_accurate_as_any(x64, alpha):
    z = np.random.default_rng(1).normal(size=(3, 9)) * 3
    np.testing.assert_allclose(JITTED["entmax"](z, alpha), jax.nn.softmax(z), atol=20 * (alpha - 1) + 1e-15)


@EACH
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), exponent=st.floats(-3, 4), size=st.sampled_from([1, 2, 5]), ties=st.booleans())
def test_the_result_is_on_the_simplex_and_keeps_the_order(name, seed, exponent, size, ties):
    random = np.random.default_rng(seed)
    z = (10**exponent * (random.integers(-2, 3, (2, size)) if ties else random.normal(size=(2, size)))).astype("f")
    p = np.asarray(MAPS[name][0](z))
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
    for row, q in zip(z, p, strict=True):
        assert (np.diff(q[np.argsort(row, kind="stable")]) >= -1e-7).all()
        assert np.ptp(q[row == row.max()]) == 0


@EACH
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([2, 5]), shift=st.sampled_from([0.0, -7.0, 1e6, -1e6]))
def test_shifts_change_nothing_and_permutations_go_through(name, seed, size, shift):
    random = np.random.default_rng(seed)
    mapping = MAPS[name][0]
    # Multiples of 1/8, which float32 adds to a million without rounding.
    z = (random.integers(-24, 24, (2, size)) / 8).astype("f")
    p = mapping(z)
    np.testing.assert_array_equal(mapping(z + np.float32(shift)), p)
    order = random.permutation(size)
    np.testing.assert_allclose(mapping(z[:, order]), p[:, order], atol=2e-7)


def test_sparse_support():
    np.testing.assert_allclose(JITTED["sparsemax"](np.array([1.0, 0.5, -0.4, -3.0], "f")), [0.75, 0.25, 0, 0])
    inside = np.array([0.25, 0.375, 0.125, 0.25], "f")
    np.testing.assert_allclose(JITTED["sparsemax"](inside), inside, rtol=2e-7)
    for mapping, _ in MAPS.values():
        np.testing.assert_array_equal(mapping(np.array([900.0, 1.0, -3.0, 700.0], "f")), [1, 0, 0, 0])


def test_many_equal_columns_share_to_the_last_digits():
    z = np.zeros((1, 20_000), "f")
    for mapping in (JITTED["sparsemax"], JITTED["entmax15"], partial(JITTED["entmax"], alpha=1.2)):
        np.testing.assert_allclose(mapping(z), np.full_like(z, 5e-5), rtol=1e-6)


@EACH
def test_any_leading_axes_are_lanes(name):
    mapping = MAPS[name][0]
    z = np.random.default_rng(2).normal(size=(2, 3, 5)).astype("f")
    together = mapping(z)
    assert together.shape == z.shape
    loop = [[mapping(row) for row in block] for block in z]
    np.testing.assert_allclose(together, loop, atol=1e-7)
    np.testing.assert_allclose(jax.vmap(jax.vmap(mapping))(z), together, atol=1e-7)
    assert jax.eval_shape(mapping, np.zeros((0, 4), "f")).shape == (0, 4)


def test_integers_and_half_precision_are_taken_as_float32():
    for mapping in (sparsemax, entmax15, partial(entmax, alpha=1.3)):
        for dtype in (jnp.int32, jnp.bfloat16):
            assert jax.eval_shape(mapping, jax.ShapeDtypeStruct((2, 3), dtype)).dtype == jnp.float32


def test_a_lane_does_not_move_on_while_its_neighbours_do(x64):
    random = np.random.default_rng(10)
    for _ in range(100):
        easy, slow = random.normal(size=5), random.uniform(-4, 0, size=5)
        lanes, alone = np.stack([easy, slow]), np.stack([easy, easy])
        np.testing.assert_array_equal(JITTED["entmax"](lanes, 1.3)[0], JITTED["entmax"](alone, 1.3)[0])


# Masked and bad scores


@EACH
def test_masked_scores_get_nothing_and_move_nothing(name, x64):
    mapping, alpha = MAPS[name]
    z = jnp.array([0.3, -INF, 0.1, -INF, 0.5])
    p = np.asarray(mapping(z))
    np.testing.assert_allclose(p[[0, 2, 4]], reference(z[jnp.array([0, 2, 4])], alpha), atol=1e-13)
    np.testing.assert_array_equal(p[[1, 3]], 0)
    first, reverse, second = derivatives_at(alpha)[-1 if name in DERIVATIVES else 0]
    for jacobian in (first, reverse):
        jacobian = np.asarray(jacobian(z))
        np.testing.assert_array_equal(jacobian[:, [1, 3]], 0)
        np.testing.assert_array_equal(jacobian[[1, 3]], 0)
        np.testing.assert_allclose(jacobian, dense_jacobian(p, alpha), atol=1e-13)
    assert np.isfinite(second(z)).all()


@EACH
@pytest.mark.parametrize("bad", [[NAN, 1.0, 2.0], [INF, 1.0, 2.0], [-INF, -INF, -INF]])
def test_a_bad_lane_is_nan_and_leaves_its_neighbours_alone(name, bad):
    mapping = MAPS[name][0]
    z = np.array([[0.1, 0.2, 0.4], bad, [3.0, -2.0, 2.9]], "f")
    good = [0, 2]
    value, pullback = jax.vjp(mapping, z)
    (gradient,) = pullback(jnp.eye(3))
    value, gradient = np.asarray(value), np.asarray(gradient)
    assert np.isnan(value[1]).all()
    np.testing.assert_array_equal(value[good], mapping(z[good]))
    assert np.isfinite(gradient[good]).all()
    assert np.isnan(gradient[1]).any()


def test_both_of_two_classes_are_nan_together():
    lanes = np.array([[NAN, 0.0], [0.0, NAN], [-INF, -INF], [INF, 0.0], [-INF, 0.0], [0.0, -INF]], "f")
    p = np.asarray(JITTED["entmax15"](lanes))
    assert np.isnan(p[:4]).all()
    np.testing.assert_array_equal(p[4:], [[0, 1], [1, 0]])


# Derivatives


def away_from_kinks(random, alpha, size, scale=0.7):
    """Scores whose support does not change within finite differences."""
    while True:
        z = scale * random.normal(size=size)
        p = reference(z, alpha)
        scaled = (alpha - 1) * z
        threshold = scaled[p > 0][0] - p[p > 0][0] ** (alpha - 1)
        if np.abs(scaled - threshold).min() > 1e-2:
            return z, p


@pytest.mark.parametrize("alpha", [1.01, 1.1, 1.3, 1.5, 1.8, 2.0])
@pytest.mark.parametrize("size", [2, 5])
def test_the_jacobian_is_right_three_ways(x64, alpha, size):
    z, p = away_from_kinks(np.random.default_rng(size), alpha, size)
    step = 1e-5
    differences = [(reference(z + step * e, alpha) - reference(z - step * e, alpha)) / (2 * step) for e in np.eye(size)]
    for forward, reverse, _ in derivatives_at(alpha):
        np.testing.assert_allclose(forward(z), dense_jacobian(p, alpha), atol=1e-11)
        np.testing.assert_allclose(reverse(z), forward(z), atol=1e-14)
        np.testing.assert_allclose(forward(z), np.stack(differences, axis=1), atol=1e-8)


@pytest.mark.parametrize("alpha", [1.01, 1.1, 1.3, 1.5, 1.8, 1.95])
def test_the_derivative_by_the_order_is_right_three_ways(x64, alpha):
    z, p = away_from_kinks(np.random.default_rng(5), alpha, 5, scale=2.0)
    derivative = np.asarray(BY_ORDER["forward"](z, alpha))
    # Correia et al. (2019), proposition 1, as printed.
    slopes = np.where(p > 0, np.where(p > 0, p, 1) ** (2 - alpha), 0)
    tilde, entropy = slopes / slopes.sum(), -p * np.log(np.where(p > 0, p, 1))
    printed = (p - tilde) / (alpha - 1) ** 2 + (entropy - tilde * entropy.sum()) / (alpha - 1)
    step = 1e-4 * (alpha - 1)
    outer, inner = (
        (np.asarray(JITTED["entmax"](z, alpha + h)) - np.asarray(JITTED["entmax"](z, alpha - h))) / (2 * h)
        for h in (2 * step, step)
    )
    np.testing.assert_allclose(derivative, printed, atol=1e-13 / (alpha - 1) ** 2)
    np.testing.assert_allclose(BY_ORDER["reverse"](z, alpha), derivative, atol=1e-13)
    np.testing.assert_allclose(derivative, (4 * inner - outer) / 3, atol=1e-8)


def test_the_derivative_by_the_order_keeps_its_digits_near_one(x64):
    z = np.random.default_rng(6).normal(size=5)
    p = np.asarray(jax.nn.softmax(z))
    # The limit of the closed form at order 1: -p/2 (log^2 p - its mean).
    square = np.log(p) ** 2
    limit = -p / 2 * (square - p @ square)
    np.testing.assert_allclose(BY_ORDER["forward"](z, 1 + 1e-9), limit, atol=1e-7)
    assert np.isfinite(BY_ORDER["second"](z, 1 + 1e-9)[1]).all()


@pytest.mark.parametrize("alpha", [1.05, 1.3, 1.5, 1.7, 2.0])
def test_second_derivatives_agree_with_differences_of_the_first(x64, alpha):
    z, _ = away_from_kinks(np.random.default_rng(7), alpha, 5)
    step = 1e-5
    for forward, _, second in derivatives_at(alpha):
        hessians = np.asarray(second(z))
        differences = np.stack([(forward(z + step * e) - forward(z - step * e)) / (2 * step) for e in np.eye(5)], -1)
        np.testing.assert_allclose(hessians, differences, atol=1e-8)
        np.testing.assert_allclose(hessians, np.swapaxes(hessians, -1, -2), atol=1e-12)
    if alpha < 2:
        step = 1e-4 * (alpha - 1)
        mixed, twice = BY_ORDER["second"](z, alpha)
        by_z, by_order = DERIVATIVES["entmax"][0], BY_ORDER["forward"]
        for ours, first in ((mixed, by_z), (twice, by_order)):
            inner, outer = ((first(z, alpha + h) - first(z, alpha - h)) / (2 * h) for h in (step, 2 * step))
            np.testing.assert_allclose(ours, (4 * inner - outer) / 3, atol=1e-7)


def test_ties_share_the_derivative(x64):
    z, far = np.zeros(5), np.array([0.0, -5.0, 0.0, -6.0, -7.0])
    for alpha in (2.0, 1.5):
        expected = (np.eye(5) - 0.2) * 0.2 ** (2 - alpha)
        for _, reverse, _ in derivatives_at(alpha):
            np.testing.assert_allclose(reverse(z), expected, atol=1e-13)
            np.testing.assert_allclose(reverse(far), dense_jacobian(np.array([0.5, 0, 0.5, 0, 0]), alpha), atol=1e-13)


@EACH
def test_derivatives_of_lanes_equal_a_loop(name):
    mapping = MAPS[name][0]
    z = np.random.default_rng(8).normal(size=(4, 5)).astype("f")
    gradient = jax.jit(jax.grad(lambda x: mapping(x) @ jnp.arange(5.0)))
    loop = [gradient(row) for row in z]
    np.testing.assert_allclose(jax.vmap(gradient)(z), loop, atol=2e-6)


def test_orders_are_lanes_too():
    z = np.random.default_rng(9).normal(size=5).astype("f")
    orders = np.array([1.1, 3.0, 1.5, 1.0, NAN, 2.0], "f")
    p = np.asarray(jax.vmap(JITTED["entmax"], (None, 0))(z, orders))
    assert np.isnan(p[[1, 3, 4]]).all()
    for lane in (0, 2, 5):
        np.testing.assert_allclose(p[lane], JITTED["entmax"](z, orders[lane]), atol=1e-7)
    gradient = jax.jit(jax.vmap(jax.grad(lambda a: entmax(z, a)[0])))(orders)
    assert np.isfinite(gradient).tolist() == [True, False, True, False, False, True]


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("z must have a last axis.*shape \\(\\)", lambda: sparsemax(1.0)),
        ("z must have a last axis.*shape \\(2, 0\\)", lambda: entmax15(np.zeros((2, 0), "f"))),
        ("order 1 is jax.nn.softmax", lambda: entmax([1.0, 2.0], 1.0)),
        ("1.000000001 is 1 as float32; order 1 is jax.nn.softmax", lambda: entmax([1.0, 2.0], 1.000000001)),
        ("alpha must lie in \\(1, 2\\], got 2.5", lambda: entmax([1.0, 2.0], 2.5)),
        ("alpha must lie in \\(1, 2\\], got 0", lambda: entmax([1.0, 2.0], 0)),
        ("alpha must lie in \\(1, 2\\], got nan", lambda: entmax([1.0, 2.0], NAN)),
        ("alpha must be one number, got shape \\(2,\\); use jax.vmap", lambda: entmax([1.0, 2.0], [1.5, 1.6])),
    ],
)
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
