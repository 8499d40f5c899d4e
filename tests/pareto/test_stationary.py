"""Facts about the certificate of Pareto stationarity, against SciPy's quadratic programmes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.bargaining import combine
from badrjax.pareto import pareto_stationarity, pareto_stationarity_from_gradients

K, SIZE = 4, 6
from_gram = jax.jit(pareto_stationarity)
from_gradients = jax.jit(pareto_stationarity_from_gradients)
BOTH = pytest.mark.parametrize("route", ["gram", "gradients"])
EVERYBODY = np.ones(K, bool)


def certify(route, gradients, present=EVERYBODY, weights=None):
    weights = np.ones(K, gradients.dtype) if weights is None else weights
    if route == "gradients":
        return from_gradients(gradients, present, weights)
    return from_gram(gradients @ gradients.T, present, weights)


def shortest_by_scipy(gradients):
    """Length of the shortest vector of the hull: non-negative least squares for the direction that separates."""
    # min |G's|^2 + (sum s - 1)^2 over s >= 0 has its solution on the ray of the shortest convex combination.
    count, size = gradients.shape
    stacked = np.concatenate([gradients.T, np.ones((1, count))])
    solution, _ = scipy.optimize.nnls(stacked, np.r_[np.zeros(size), 1.0])
    return np.linalg.norm(solution @ gradients) / solution.sum()


class Quadratics:
    """Strictly convex losses `(x - c_k)'A_k(x - c_k)/2`."""

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        roots = random.normal(size=(K, SIZE, SIZE))
        self.matrices = roots @ roots.swapaxes(1, 2) / SIZE + 0.2 * np.eye(SIZE)
        self.centres = random.normal(size=(K, SIZE))

    def losses(self, x):
        away = x - self.centres
        return 0.5 * np.einsum("ki,kij,kj->k", away, self.matrices, away)

    def gradients(self, x):
        return np.einsum("kij,kj->ki", self.matrices, x - self.centres)

    def minimiser(self, weights):
        matrix = np.einsum("k,kij->ij", weights, self.matrices)
        return np.linalg.solve(matrix, np.einsum("k,kij,kj->i", weights, self.matrices, self.centres))


@BOTH
@pytest.mark.parametrize("seed", range(2))
def test_the_minimiser_of_a_weighted_sum_is_stationary(route, seed, x64):
    problem, weights = Quadratics(seed), np.random.default_rng(seed).dirichlet(np.ones(K))
    gradients = problem.gradients(problem.minimiser(weights))
    found = certify(route, gradients, weights=3 * weights)
    assert found.weighted_norm <= found.rounding
    assert found.relative_norm <= found.rounding
    assert found.rounding < 1e-7
    # Generic gradients have one combination that vanishes.
    np.testing.assert_allclose(found.weights, weights, atol=1e-6)
    # These weights support the point, and others do not.
    assert certify(route, gradients, weights=weights[::-1]).weighted_norm > 1e-3
    # In single precision too, to its own rounding level.
    single = np.float32(gradients)
    found = certify(route, single, weights=np.float32(weights))
    assert found.norm.dtype == jnp.float32
    assert max(found.relative_norm, found.weighted_norm) <= found.rounding < 2e-3


@BOTH
@pytest.mark.parametrize("seed", range(2))
def test_away_from_the_pareto_set_every_loss_can_be_lowered(route, seed, x64):
    problem = Quadratics(seed)
    x = problem.minimiser(np.full(K, 1 / K)) + 2 * np.random.default_rng(seed).normal(size=SIZE)
    gradients = problem.gradients(x)
    found = certify(route, gradients)
    assert shortest_by_scipy(gradients) > 1e-3  # these starts are not near the Pareto set by chance
    assert found.relative_norm > 10 * found.rounding
    np.testing.assert_allclose(found.norm, shortest_by_scipy(gradients), rtol=1e-7)
    direction = -np.asarray(combine(gradients, found.weights))
    assert (gradients @ direction <= -(found.norm**2) * (1 - 1e-6)).all()
    assert (problem.losses(x + 1e-3 * direction) < problem.losses(x)).all()


@BOTH
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), spread=st.sampled_from([0.0, 1.0]), shift=st.floats(0, 2))
def test_norms_agree_with_scipy_and_are_invariant(route, seed, spread, shift):
    random = np.random.default_rng(seed)
    gradients = np.exp(spread * random.normal(size=(K, 1))) * (random.normal(size=(K, SIZE)) + shift)
    weights, longest = random.dirichlet(np.ones(K)), np.linalg.norm(gradients, axis=1).max()
    with jax.enable_x64(True):
        found = certify(route, gradients, weights=weights)
        np.testing.assert_allclose(found.norm, shortest_by_scipy(gradients), atol=1e-6 * longest)
        np.testing.assert_allclose(found.relative_norm, found.norm / longest, rtol=1e-12)
        np.testing.assert_allclose(
            found.weighted_norm, np.linalg.norm(weights @ gradients) / longest, atol=1e-7, rtol=1e-7
        )
        assert found.weighted_norm >= found.relative_norm - found.rounding
        scaled = certify(route, 1e3 * gradients, weights=5 * weights)
        np.testing.assert_allclose(scaled.norm, 1e3 * found.norm, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(scaled.weighted_norm, found.weighted_norm, rtol=1e-6, atol=1e-7)
        order = random.permutation(K)
        moved = certify(route, gradients[order], weights=weights[order])
        np.testing.assert_allclose(moved.norm, found.norm, rtol=1e-6, atol=1e-7 * longest)


@BOTH
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_absent_losses_take_no_part(route, garbage):
    gradients = np.random.default_rng(0).normal(size=(K, SIZE)).astype(np.float32) + 1
    present = np.array([True, False, True, True])
    weights = np.array([1.0, 5.0, 2.0, 1.0], np.float32)
    dirty = gradients.copy()
    dirty[1] = garbage
    with np.errstate(all="ignore"):
        found = certify(route, dirty, present, weights)
    assert found.weights[1] == 0
    np.testing.assert_allclose(found.norm, shortest_by_scipy(gradients[present].astype(float)), rtol=1e-4)
    mixture = weights[present] / weights[present].sum()
    longest = np.linalg.norm(gradients[present], axis=1).max()
    np.testing.assert_allclose(found.weighted_norm, np.linalg.norm(mixture @ gradients[present]) / longest, rtol=1e-5)


@BOTH
def test_what_cannot_be_certified_is_nan(route):
    gradients = np.ones((K, SIZE), np.float32)
    for found in (
        certify(route, gradients, np.zeros(K, bool)),
        certify(route, np.where(np.arange(K)[:, None] == 2, np.float32(np.nan), gradients)),
    ):
        assert np.isnan([found.norm, found.relative_norm, found.weighted_norm]).all()
    # Under tracing, weights that are no convex combination too.
    for wrong in (np.zeros(K), np.array([1.0, -0.5, 1, 1])):
        found = certify(route, gradients, weights=np.float32(wrong))
        assert np.isnan(found.weighted_norm)
        assert np.isfinite(found.norm)
    assert np.isnan(from_gram(np.eye(2)).weighted_norm)


@BOTH
def test_a_zero_gradient_is_stationary(route):
    gradients = np.random.default_rng(1).normal(size=(K, SIZE)).astype(np.float32)
    gradients[2] = 0
    found = certify(route, gradients)
    np.testing.assert_array_equal(found.weights, [0, 0, 1, 0])
    assert (found.norm, found.relative_norm) == (0, 0)
    found = certify(route, np.zeros((K, SIZE), np.float32))
    assert (found.norm, found.relative_norm, found.weighted_norm) == (0, 0, 0)


def test_gradients_may_be_a_tree_in_any_scale():
    gradients = np.random.default_rng(2).normal(size=(K, SIZE)).astype(np.float32) + 0.5
    expected = from_gradients(gradients, EVERYBODY, np.ones(K, np.float32))
    from_tree = jax.jit(pareto_stationarity_from_gradients)
    tree = {"a": gradients[:, :1], "b": (gradients[:, 1:3].reshape(K, 2, 1), gradients[:, 3:])}
    for scale in (1, np.float32(2.0) ** -90, np.float32(2.0) ** 90):
        found = from_tree(jax.tree.map(lambda leaf, scale=scale: np.float32(scale) * leaf, tree))
        np.testing.assert_allclose(found.relative_norm, expected.relative_norm, rtol=1e-5)
        np.testing.assert_allclose(found.norm, scale * expected.norm, rtol=1e-5)


@BOTH
def test_derivatives_of_the_norm_agree_with_differences(route, x64):
    gradients = np.random.default_rng(3).normal(size=(K, SIZE)) + 0.7
    slope = jax.grad(lambda g: certify(route, g).norm)(jnp.asarray(gradients))
    # By the envelope theorem, s_k times the unit vector along the shortest combination.
    found = certify(route, gradients)
    shortest = np.asarray(found.weights) @ gradients
    np.testing.assert_allclose(slope, np.outer(found.weights, shortest / np.linalg.norm(shortest)), atol=1e-8)
    steps = 1e-5 * np.eye(K * SIZE)[::5].reshape(-1, K, SIZE)
    differences = [(shortest_by_scipy(gradients + e) - shortest_by_scipy(gradients - e)) / 2e-5 for e in steps]
    np.testing.assert_allclose(np.ravel(slope)[::5], differences, atol=1e-7)
    # Finite where the norm is 0.
    opposed = np.concatenate([gradients[:2], -gradients[:2]])
    assert np.isfinite(jax.grad(lambda g: certify(route, g).norm)(jnp.asarray(opposed))).all()


def test_lanes_equal_a_loop():
    gradients = np.random.default_rng(4).normal(size=(3, K, SIZE)).astype(np.float32) + 0.5
    gradients[1, 0] = np.nan
    ones = np.ones(K, np.float32)
    lanes = jax.vmap(lambda g: from_gradients(g, EVERYBODY, ones))(gradients)
    for i, lane in enumerate(gradients):
        np.testing.assert_allclose(lanes.norm[i], from_gradients(lane, EVERYBODY, ones).norm, rtol=1e-5)
    assert np.isnan(lanes.norm[1])


def test_bad_input_is_refused():
    gram = np.eye(3)
    with pytest.raises(ValueError, match="gram must be a square matrix"):
        pareto_stationarity(np.ones((3, 2)))
    with pytest.raises(ValueError, match="gram must be a square matrix"):
        pareto_stationarity(1.0)
    with pytest.raises(ValueError, match="present must be"):
        pareto_stationarity(gram, np.ones(2, bool))
    with pytest.raises(ValueError, match=r"weights must be f\[3\] for 3 losses, got shape \(4,\)"):
        pareto_stationarity(gram, weights=np.ones(4))
    with pytest.raises(ValueError, match="weights must be >= 0"):
        pareto_stationarity(gram, weights=np.array([1.0, -1, 0]))
    with pytest.raises(ValueError, match="weights are 0 for every loss"):
        pareto_stationarity(gram, np.array([True, False, False]), np.array([0.0, 1, 1]))
    for wrong in ({"a": np.ones((3, 2)), "b": np.ones((2, 2))}, np.float32(1.0)):
        with pytest.raises(ValueError, match="must all lead with an axis of length K"):
            pareto_stationarity_from_gradients(wrong)


@pytest.mark.parametrize("scale", [1e-30, 2e38])
def test_the_scale_of_the_weights_does_not_matter(scale):
    gram = np.diag([1.0, 4.0, 9.0]).astype(np.float32)
    scaled = pareto_stationarity(gram, weights=np.float32([scale] * 3)).weighted_norm
    np.testing.assert_allclose(
        scaled, pareto_stationarity(gram, weights=np.ones(3, np.float32)).weighted_norm, rtol=1e-5
    )


def test_infinite_weights_are_refused():
    with pytest.raises(ValueError, match="finite"):
        pareto_stationarity(np.eye(2), weights=np.array([np.inf, 1.0]))
