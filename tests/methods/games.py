"""Quadratic games of a leader and a follower, with the points at which each rule settles in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import badrjax as bx

ETA = 2.0
ROWS = bx.Batch(np.zeros((3, 1), np.float32), np.array([0, 1, 1]), np.array([0, 1, 0]))


@dataclasses.dataclass(frozen=True)
class Game:
    """`z' P z / 2 - s' z` for the leader and `z' Q z / 2 - u' z` for the follower, `z = (a, f)`, two numbers each."""

    P: np.ndarray
    s: np.ndarray
    Q: np.ndarray
    u: np.ndarray

    def values(self, z):
        """Both losses."""
        return np.array([z @ self.P @ z / 2 - self.s @ z, z @ self.Q @ z / 2 - self.u @ z])

    def gradients(self, z):
        """Both gradients, `[2, 4]`."""
        return np.stack([self.P @ z - self.s, self.Q @ z - self.u])

    def settled(self, rule):
        """Where a rule settles."""
        mixed, right = self.P + ETA * self.Q, self.s + ETA * self.u
        response = np.linalg.solve(self.Q[2:, 2:], -self.Q[2:, :2])
        lead = np.hstack([np.eye(2), response.T])  # total derivative by a
        tops = {
            "separated": (self.P[:2], self.s[:2]),
            "accumulated": (mixed[:2], right[:2]),
            "total": (lead @ self.P, lead @ self.s),
        }
        if rule == "lagrangian":
            return np.linalg.solve(mixed, right)
        top, known = tops[rule]
        return np.linalg.solve(np.vstack([top, self.Q[2:]]), np.concatenate([known, self.u[2:]]))


def random_game(seed):
    """Convex, and coupled weakly enough for every rule to settle."""
    random = np.random.default_rng(seed)
    P, Q = (np.eye(4) + 0.3 * m @ m.T for m in random.normal(size=(2, 4, 4)) * 0.6)
    return Game(P, random.normal(size=4), Q, random.normal(size=4))


def game_the_follower_wins(seed):
    """Whatever the leader does, the follower can make its own loss as small as it ever is."""
    random = np.random.default_rng(seed)
    M = np.hstack([random.normal(size=(2, 2)) * 0.5, np.eye(2)])  # F = |M z - c|^2 / 2
    P = np.eye(4) + 0.2 * np.ones((4, 4))
    return Game(P, random.normal(size=4), M.T @ M, M.T @ random.normal(size=2))


def losses(game, params, batch, key):
    """The leader's loss, the same for each row."""
    return jnp.full(batch.y.shape, _value(params, game.P, game.s))


def fairness(game, params, batch, key):
    """The follower's."""
    return _value(params, game.Q, game.u)


def _value(params, matrix, right):
    z = jnp.concatenate([params["accuracy"], params["fairness"]])
    return z @ jnp.asarray(matrix, z.dtype) @ z / 2 - jnp.asarray(right, z.dtype) @ z


jax.tree_util.register_dataclass(Game, ["P", "s", "Q", "u"], [])
