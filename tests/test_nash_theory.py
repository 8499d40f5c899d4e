r"""Theorems about steps that lower every loss, and identities between rules, as facts about the functions here.

Step bounds. Let every loss be C-smooth and `d = sum_k a_k g_k` the bargain's update, `M a = 1/a`. Then
`<g_k, d> = 1/a_k` and `|d|^2 = K`, so `L_k(theta - eta d) <= L_k(theta) - eta / a_k + eta^2 C K / 2`: no loss rises for
`eta <= min_k 2 / (C K a_k)` (Theorem 3.6 of Nash-Meta-Learning).

Let training losses have Jacobian J (one row an example), L a C-smooth validation loss, `s = J grad L` and
`w = max(s, 0)`. The step `J'w` has `<grad L, J'w> = |w|^2` and `|J'w| <= |J| |w|`, so L does not rise for a step
`<= 2 / (C |J|^2)` (Theorem 3.7 in the form of Ren et al. 2018). With `w / |w|` the linear term is only `|w|`, which
vanishes at a minimum while the quadratic one stays: no step is short enough.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import badrjax as bx

nash = jax.jit(bx.nash_weights)
nash_many = jax.jit(jax.vmap(bx.nash_weights))


@pytest.fixture(autouse=True)
def in_double_precision(x64):
    """Rounding is no part of the theorems."""


def quadratics(seed, num_players=3, size=5):
    """Matrices, minima and the smoothness of random convex quadratics `(t - m)'A(t - m)/2`, and a common start."""
    random = np.random.default_rng(seed)
    roots = random.normal(size=(num_players, size, size)) * 10.0 ** random.uniform(-0.5, 0.5, (num_players, 1, 1))
    matrices = roots @ roots.transpose(0, 2, 1) / size
    minima = random.normal(size=(num_players, size))
    start = 4 * random.normal(size=size)
    return matrices, minima, np.linalg.eigvalsh(matrices).max(), start


def quadratic_losses(matrices, minima, theta):
    apart = theta - minima
    return np.einsum("ki,kij,kj->k", apart, matrices, apart) / 2


def quadratic_gradients(matrices, minima, theta):
    return np.einsum("kij,kj->ki", matrices, theta - minima)


def softplus_losses(inputs, theta):
    """`mean_i log(1 + exp(x_i . theta))` of K sets of inputs, not quadratic, smooth with `C = max_k |X_k'X_k| / 4n`."""
    return np.logaddexp(0, inputs @ theta).mean(axis=1)


def softplus_gradients(inputs, theta):
    slopes = 1 / (1 + np.exp(-(inputs @ theta)))
    return np.einsum("kn,kni->ki", slopes, inputs) / inputs.shape[1]


def bargain(gradients):
    """Update, weights and the longest step of the theorem without its smoothness."""
    solution = nash(gradients @ gradients.T)
    weights = np.asarray(solution.weights)
    return bool(solution.feasible), weights @ gradients, weights, np.min(2 / (len(weights) * weights))


# Theorem 3.6.

STEPS = (1e-3, 0.3, 0.9, 1.0)


def test_a_bargains_step_within_the_bound_lowers_every_quadratic():
    checked = 0
    for seed in range(60):
        matrices, minima, smoothness, start = quadratics(seed)
        feasible, update, weights, bound = bargain(quadratic_gradients(matrices, minima, start))
        if not feasible:
            continue
        checked += 1
        np.testing.assert_allclose(update @ update, len(weights), rtol=1e-8)
        before = quadratic_losses(matrices, minima, start)
        for share in STEPS:
            after = quadratic_losses(matrices, minima, start - share * bound / smoothness * update)
            assert np.all(after <= before + 1e-12 * np.abs(before))
    assert checked >= 20


def test_a_bargains_step_within_the_bound_lowers_every_smooth_loss():
    checked = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        inputs, theta = random.normal(size=(3, 8, 4)) + random.normal(size=4), random.normal(size=4)
        smoothness = max(np.linalg.norm(rows.T @ rows, 2) / (4 * len(rows)) for rows in inputs)
        feasible, update, _, bound = bargain(softplus_gradients(inputs, theta))
        if not feasible:
            continue
        checked += 1
        for share in STEPS:
            after = softplus_losses(inputs, theta - share * bound / smoothness * update)
            assert np.all(after < softplus_losses(inputs, theta))
    assert checked >= 20


def test_the_smoothness_of_the_logistic_losses_is_right():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(1, 8, 4))
    curvature = [
        np.linalg.norm(np.asarray(jax.hessian(lambda t: jnp.logaddexp(0, inputs[0] @ t).mean())(jnp.asarray(t))), 2)
        for t in [np.zeros(4), *random.normal(size=(20, 4))]
    ]
    bound = np.linalg.norm(inputs[0].T @ inputs[0], 2) / (4 * 8)
    np.testing.assert_allclose(curvature[0], bound, rtol=1e-12)
    assert max(curvature) <= bound * (1 + 1e-12)


def test_the_bound_is_attained():
    """Equal curvature C in all directions: the loss that sets the bound rises just beyond it."""
    random = np.random.default_rng(0)
    for _ in range(20):
        curvature = 10.0 ** random.uniform(-2, 2)
        matrices = curvature * np.broadcast_to(np.eye(4), (3, 4, 4))
        minima, start = random.normal(size=(3, 4)), 3 * random.normal(size=4)
        feasible, update, weights, bound = bargain(quadratic_gradients(matrices, minima, start))
        if not feasible:
            continue
        player = np.argmax(weights)
        before = quadratic_losses(matrices, minima, start)[player]
        at, beyond = (
            quadratic_losses(matrices, minima, start - share * bound / curvature * update)[player]
            for share in (1.0, 1.01)
        )
        np.testing.assert_allclose(at, before, rtol=1e-9)
        assert beyond > before


# Theorem 3.7.


def meta_problem(seed=0, num_examples=6, size=3, num_groups=2):
    """Squared training losses of rows, and quadratic validation losses of groups around nearby minima."""
    random = np.random.default_rng(seed)
    inputs, labels = random.normal(size=(num_examples, size)), random.normal(size=num_examples)
    centres = 0.3 * random.normal(size=(num_groups, size))
    return jnp.asarray(inputs), jnp.asarray(labels), jnp.asarray(centres)


def training_losses(inputs, labels, theta):
    return (inputs @ theta - labels) ** 2 / 2


def validation_losses(centres, theta):
    return jnp.sum((theta[None] - centres) ** 2, axis=1) / 2


def reweighted(inputs, labels, centres, protocol, theta):
    """The clipped weights `w` of the protocol's validation loss, and what each group gains from the step `J'w`."""
    directions = theta[None] - centres
    derivatives = bx.one_step_hypergradients(partial(training_losses, inputs, labels), theta, directions, step_size=1.0)
    weights = jnp.maximum(-(protocol @ derivatives), 0)
    jacobian = jax.jacobian(partial(training_losses, inputs, labels))(theta)
    return weights, jacobian


reweight = jax.jit(reweighted)


def stepped(theta, jacobian, weights, step):
    return theta - step * weights @ jacobian


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("protocol", [(0.5, 0.5), (1.0, 0.0)])
def test_unnormalised_weights_within_the_bound_never_raise_the_validation_loss(seed, protocol):
    inputs, labels, centres = meta_problem(seed)
    theta, protocol = jnp.full(3, 2.0), jnp.asarray(protocol)
    losses = []
    for _ in range(60):
        losses.append(float(protocol @ validation_losses(centres, theta)))
        weights, jacobian = reweight(inputs, labels, centres, protocol, theta)
        bound = 2 / max(np.linalg.norm(jacobian, 2) ** 2, 1e-12)  # the validation losses are 1-smooth
        theta = stepped(theta, jacobian, weights, bound)
    assert np.all(np.diff(losses) <= 1e-12)
    assert losses[-1] < losses[0]


CENTRES = np.array([[-0.1, 0.0], [0.1, 0.0]])


def moves_of_one_example(height, share, normalised):
    """Losses of two groups before and after a step of a share of the bound, where one example can only move y.

    The groups' minima lie a little apart along x; the start is between them, at a height y above both.
    """
    theta, centres = jnp.array([0.0, height]), jnp.asarray(CENTRES)
    weights, jacobian = reweight(jnp.array([[0.0, 1.0]]), jnp.array([-1.0]), centres, jnp.array([0.5, 0.5]), theta)
    weights = weights / jnp.linalg.norm(weights) if normalised else weights
    step = share * 2 / np.linalg.norm(jacobian, 2) ** 2
    return validation_losses(centres, theta), validation_losses(centres, stepped(theta, jacobian, weights, step))


def test_beyond_its_bound_the_unnormalised_step_raises_losses_too():
    before, at = moves_of_one_example(0.05, 1.0, normalised=False)
    np.testing.assert_allclose(at, before, rtol=1e-12)
    before, beyond = moves_of_one_example(0.05, 1.01, normalised=False)
    assert np.all(beyond > before)


@pytest.mark.parametrize(("height", "share"), [(0.05, 0.5), (1e-3, 0.5), (1e-5, 1e-3)])
def test_weights_of_unit_length_void_it(height, share):
    """The step that lowers both losses with plain weights raises both with normalised ones, however short it is."""
    before, plain = moves_of_one_example(height, share, normalised=False)
    _, unit = moves_of_one_example(height, share, normalised=True)
    assert np.all(plain < before)
    assert np.all(unit > before)


# Identities between rules.


def test_identical_groups_leave_one_direction():
    random = np.random.default_rng(0)
    gradients = np.repeat(random.normal(size=(1, 5)), 4, axis=0)
    losses = jnp.full(4, 0.7)
    for goal in (bx.objectives.mean, bx.objectives.worst):
        np.testing.assert_allclose(jax.grad(goal)(losses) @ gradients, gradients.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(bx.objectives.gap)(losses) @ gradients, 0, atol=1e-12)


def test_orthonormal_gradients_give_one_direction_to_all_rules():
    gram = jnp.eye(2)
    weights = {
        "bargain": bx.nash_weights(gram).weights,
        "PCGrad": bx.pcgrad_weights(jax.random.key(0), gram),
        "CAGrad": bx.cagrad_weights(gram),
        "MGDA": bx.min_norm_weights(gram),
        "generalised mean of equal losses": bx.generalized_mean_weights(jnp.ones(2), -1.0),
    }
    for name, weight in weights.items():
        np.testing.assert_allclose(weight[0], weight[1], rtol=1e-6, err_msg=name)
        assert np.all(weight > 0), name


def test_constraints_that_never_bind_leave_plain_training():
    """Violations far below 0 add nothing to the objective, no derivative, and no multiplier."""

    def plain(theta):
        return jnp.sum((theta - 1) ** 2)

    def violations(theta):
        return jnp.stack([theta[0] - 10, jnp.sin(theta[1]) - 10])

    def penalised(theta, state):
        return plain(theta) + lagrangian.value(state, violations(theta))

    lagrangian = bx.augmented_lagrangian(penalty=2.0, multiplier_step=0.5)
    state = lagrangian.init(2)
    theta = other = jnp.array([0.3, -0.4])
    for _ in range(5):
        theta = theta - 0.1 * jax.grad(plain)(theta)
        other = other - 0.1 * jax.grad(penalised)(other, state)
        state = lagrangian.update(state, violations(other))
    np.testing.assert_array_equal(theta, other)
