"""Preferences of COSMOS: how they are drawn in training, laid out for a front, and put beside the features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import badrjax as bx
from badrjax.methods import cosmos_preferences


@pytest.mark.parametrize("concentration", [[0.5, 0.5, 0.5], [0.1, 0.2, 0.1], [0.2, 1.0, 3.0]], ids=str)
def test_draws_have_the_moments_of_the_dirichlet_distribution(concentration):
    number = 20_000
    concentration = np.array(concentration)
    drawn = draws(concentration, number)
    total = concentration.sum()
    mean = concentration / total
    covariance = (np.diag(mean) - np.outer(mean, mean)) / (total + 1)
    error = 5 * np.sqrt(np.diag(covariance) / number)
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < error)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=5 / np.sqrt(number) * 0.25)


@pytest.mark.parametrize("concentration", [1e-3, 1e-20, 1e-38, 1.0, 1e6, 1e30])
def test_draws_lie_on_the_simplex_whatever_the_concentration(concentration):
    drawn = draws(np.full(3, concentration), 20_000)
    assert np.all((drawn > 0) & (drawn <= 1))
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0, atol=1e-6)
    if 1e-20 <= concentration < 1:  # one corner each, no corner preferred
        assert np.mean(drawn.max(axis=1) > 0.99) > 0.97
        np.testing.assert_allclose(np.bincount(drawn.argmax(axis=1)) / 20_000, 1 / 3, atol=0.02)
    if concentration > 1:
        np.testing.assert_allclose(drawn, 1 / 3, atol=0.01)


many_draws = jax.jit(
    lambda keys, concentration: jax.vmap(cosmos_preferences.draw_preference, (0, None))(keys, concentration)
)


def draws(concentration, number):
    keys = jax.random.split(jax.random.key(4), number)
    drawn = many_draws(keys, jnp.asarray(concentration, jnp.float32))
    assert drawn.dtype == jnp.float32
    return np.asarray(drawn, np.float64)


def test_rays_of_two_objectives_are_equal_angles_of_the_circle():
    rays = np.asarray(bx.preference_rays(2, 25))
    angles = np.degrees(np.arctan2(rays[:, 1], rays[:, 0]))
    np.testing.assert_allclose(angles, np.arange(25) * 3.75, atol=1e-5)
    np.testing.assert_allclose(rays.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(rays[[0, -1]], np.eye(2))
    np.testing.assert_allclose(rays[8], np.array([np.sqrt(3), 1]) / (1 + np.sqrt(3)), rtol=1e-6)  # 30 degrees
    np.testing.assert_allclose(rays, rays[::-1, ::-1], atol=1e-7)
    published = np.asarray(bx.preference_rays(2, 25, margin=0.1))
    angles = np.arctan2(published[:, 1], published[:, 0])
    np.testing.assert_allclose(angles, np.linspace(0.1, np.pi / 2 - 0.1, 25), atol=1e-6)


@pytest.mark.parametrize("num_objectives", [3, 8])
def test_rays_of_more_objectives_begin_with_corners_and_centre_and_fill_the_simplex(num_objectives):
    rays = np.asarray(bx.preference_rays(num_objectives, 400))
    np.testing.assert_array_equal(rays[:num_objectives], np.eye(num_objectives))
    np.testing.assert_allclose(rays[num_objectives], 1 / num_objectives, rtol=1e-6)
    np.testing.assert_array_equal(bx.preference_rays(num_objectives, 30), rays[:30])
    assert np.all(rays >= 0)
    np.testing.assert_allclose(rays.sum(axis=1), 1.0, rtol=1e-6)
    assert len(np.unique(rays, axis=0)) == 400
    # The rest is spread as Dirichlet(1/2): mean 1/K, second moment by the closed form.
    spread, total = rays[num_objectives + 1 :], num_objectives / 2
    np.testing.assert_allclose(spread.mean(axis=0), 1 / num_objectives, atol=0.02)
    second = (1 / num_objectives) * 1.5 / (total + 1)
    np.testing.assert_allclose((spread**2).mean(axis=0), second, rtol=0.15)
    assert bx.preference_rays(num_objectives, num_objectives + 1).shape == (num_objectives + 1, num_objectives)


def test_inputs_are_the_features_and_the_preference():
    inputs = bx.preference_inputs(jnp.arange(4).reshape(2, 2), jnp.array([0.25, 0.75]))
    np.testing.assert_array_equal(inputs, [[0, 1, 0.25, 0.75], [2, 3, 0.25, 0.75]])
    assert inputs.dtype == jnp.float32
