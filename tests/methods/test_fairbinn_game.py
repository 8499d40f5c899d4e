"""What the four rules of FairBiNN settle at, on quadratic games: each at its own point, known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import badrjax as bx
from experiments import quadratic_games as games
from experiments.quadratic_games import ETA, ROWS, RULES


def settle(game, method, num_steps=3000):
    result = games.play(game, method, num_steps)
    return np.asarray(result.evaluations[-1]), result.steps


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_each_rule_settles_at_its_own_point(rule, seed, x64):
    game = games.random_game(seed)
    found, steps = settle(game, games.make_method(game, rule))
    np.testing.assert_allclose(found, game.settled(rule), atol=1e-9)
    assert int(steps.status[-1]) == bx.Status.SUCCESS
    others = [game.settled(other) for other in RULES if other != rule]
    assert min(np.linalg.norm(found - other) for other in others) > 0.01


def test_unrolled_steps_that_solve_the_followers_problem_are_the_stackelberg_rule(x64):
    game = games.game_the_follower_wins(0)  # its Hessian by f is the identity: a step of size 1 / eta solves it
    exact = Partial(optax.sgd, learning_rate=1 / ETA)
    made = games.make_method(game, "total", response="unrolled", follower_optimizer=exact)
    np.testing.assert_allclose(settle(game, made)[0], game.settled("total"), atol=1e-9)


def test_more_unrolled_steps_come_nearer_to_it(x64):
    game = games.random_game(4)
    away = [
        settle(game, games.make_method(game, "total", response="unrolled", follower_steps=steps))[0]
        - game.settled("total")
        for steps in (1, 4, 16)
    ]
    away = [np.linalg.norm(each) for each in away]
    assert away[0] > 2 * away[1] > 4 * away[2]
    assert np.linalg.norm(game.settled("separated") - game.settled("total")) > away[0]


@pytest.mark.parametrize("steps", [2, 5])
def test_the_number_of_follower_steps_does_not_move_the_nash_point(steps, x64):
    game = games.random_game(1)
    found, _ = settle(game, games.make_method(game, "separated", follower_steps=steps))
    np.testing.assert_allclose(found, game.settled("separated"), atol=1e-9)


def test_only_the_lagrangian_point_is_pareto_stationary(x64):
    for seed in range(5):
        game = games.random_game(seed)
        certificates = {
            rule: bx.pareto.pareto_stationarity_from_gradients(jnp.asarray(game.gradients(game.settled(rule))))
            for rule in RULES
        }
        assert float(certificates["lagrangian"].relative_norm) < 1e-9
        assert all(float(certificates[rule].relative_norm) > 1e-3 for rule in RULES if rule != "lagrangian")


def test_the_other_points_are_dominated(x64):
    # Along the min-norm direction both losses fall.
    for seed in range(5):
        game = games.random_game(seed)
        for rule in ("separated", "accumulated", "total"):
            z = game.settled(rule)
            gradients = game.gradients(z)
            weights = np.asarray(bx.min_norm_weights(jnp.asarray(gradients @ gradients.T)))
            assert np.all(game.values(z - 1e-2 * weights @ gradients) < game.values(z))


def test_where_the_follower_can_always_win_the_stackelberg_point_is_pareto_and_the_nash_point_is_not():
    for seed in range(5):
        game = games.game_the_follower_wins(seed)
        nash, code, lagrangian, stackelberg = (game.settled(rule) for rule in RULES)
        least = game.values(stackelberg)[1]
        np.testing.assert_allclose([game.values(nash)[1], game.values(code)[1]], least, atol=1e-12)
        np.testing.assert_allclose(code, nash, atol=1e-9)  # grad F = 0 there, so nothing is left behind
        assert game.values(stackelberg)[0] < game.values(nash)[0] - 1e-3
        # The bound: at the least F the leader's loss cannot be below that of D, nor D's below the Lagrangian's.
        assert game.values(lagrangian)[0] < game.values(stackelberg)[0]


def test_where_the_leaders_loss_does_not_depend_on_the_follower_the_nash_point_is_the_stackelberg_point():
    game = games.random_game(2)
    P, s = game.P.copy(), game.s.copy()
    P[2:], P[:, 2:], s[2:] = 0, 0, 0
    alone = games.Game(P, s, game.Q, game.u)
    np.testing.assert_allclose(alone.settled("separated"), alone.settled("total"), atol=1e-12)


def test_under_adam_the_separated_rule_does_not_depend_on_eta(x64):
    game = games.random_game(0)
    adam = Partial(optax.adam, learning_rate=0.01)

    def path(rule, eta):
        return settle(game, games.make_method(game, rule, fairness_weight=eta, optimizer=adam), 50)[0]

    np.testing.assert_allclose(path("separated", 1e4), path("separated", 1.0), atol=1e-6)
    assert np.linalg.norm(path("accumulated", 1e4) - path("accumulated", 1.0)) > 0.01


@pytest.mark.parametrize("response", ["implicit", "unrolled"])
def test_leaders_gradient_of_the_total_rule_by_finite_differences(response, x64):
    # A convex case that is not quadratic; the follower is solved by Newton's method from the start for each a.
    made = bx.fairbinn(
        curved_loss, Partial(optax.sgd, learning_rate=1.0), curved_fairness,
        follower_optimizer=Partial(optax.sgd, learning_rate=0.4), follower_steps=120, rule="total", response=response,
    )  # fmt: skip
    start = {"accuracy": jnp.array([0.3, -0.7]), "fairness": jnp.zeros(2)}
    state, info = jax.jit(made.step)(jax.random.key(0), made.init(jax.random.key(0), start), ROWS)
    moved = np.asarray(start["accuracy"] - state.params["accuracy"])

    def outer(a):
        inner = lambda f: curved_fairness({"accuracy": a, "fairness": f}, ROWS, None)  # noqa: E731
        f = jnp.zeros(2)
        for _ in range(30):
            f = f - jnp.linalg.solve(jax.hessian(inner)(f), jax.grad(inner)(f))
        return float(curved_loss({"accuracy": a, "fairness": f}, ROWS, None)[0])

    steps = 1e-5 * np.eye(2)
    expected = [(outer(start["accuracy"] + h) - outer(start["accuracy"] - h)) / 2e-5 for h in steps]
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    np.testing.assert_allclose(info.leader_norm, np.linalg.norm(expected), rtol=1e-6)


def curved_loss(params, batch, key):
    a, f = params["accuracy"], params["fairness"]
    value = jnp.sum(jnp.log(jnp.cosh(a - f))) + jnp.sum(a**2) + a[0] * f[1]
    return jnp.full(batch.y.shape, value)


def curved_fairness(params, batch, key):
    a, f = params["accuracy"], params["fairness"]
    return jnp.sum(f**2) / 2 + jnp.sum(jnp.log(jnp.cosh(f + a[::-1]))) + a[0] * f[0] / 2
