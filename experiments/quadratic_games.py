"""Quadratic games of a leader and a follower, with the points at which FairBiNN's rules settle in closed form."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float

import badrjax as bx

ETA = 2.0
"""Weight of the follower's loss."""
RULES = ("separated", "accumulated", "lagrangian", "total")
ROWS = bx.Batch(np.zeros((3, 1), np.float32), np.array([0, 1, 1]), np.array([0, 1, 0]))
"""Rows that no loss reads."""


@dataclasses.dataclass(frozen=True)
class Game:
    """`z' P z / 2 - s' z` for the leader and `z' Q z / 2 - u' z` for the follower, `z = (a, f)`, m numbers each.

    Attributes:
        P, Q: symmetric, `f[2m, 2m]`, the follower's block of Q positive definite.
        s, u: `f[2m]`.
    """

    P: Float[np.ndarray, "n n"]
    s: Float[np.ndarray, "n"]
    Q: Float[np.ndarray, "n n"]
    u: Float[np.ndarray, "n"]

    @property
    def size(self) -> int:
        """How many numbers each side has."""
        return self.s.shape[0] // 2

    def values(self, z: np.ndarray) -> np.ndarray:
        """Both losses at points `f[..., 2m]`, `f[..., 2]`."""
        pairs = ((self.P, self.s), (self.Q, self.u))
        return np.stack([np.sum((z @ matrix) * z, axis=-1) / 2 - z @ right for matrix, right in pairs], axis=-1)

    def gradients(self, z: np.ndarray) -> np.ndarray:
        """Both gradients at a point, `f[2, 2m]`."""
        return np.stack([self.P @ z - self.s, self.Q @ z - self.u])

    def settled(self, rule: str, eta: float = ETA) -> np.ndarray:
        """Where a rule of `badrjax.fairbinn` settles, `f[2m]`."""
        m = self.size
        mixed, right = self.P + eta * self.Q, self.s + eta * self.u
        if rule == "lagrangian":
            return np.linalg.solve(mixed, right)
        response = np.linalg.solve(self.Q[m:, m:], -self.Q[m:, :m])  # of the follower to the leader
        total = np.hstack([np.eye(m), response.T])
        top, known = {
            "separated": (self.P[:m], self.s[:m]),
            "accumulated": (mixed[:m], right[:m]),
            "total": (total @ self.P, total @ self.s),
        }[rule]
        return np.linalg.solve(np.vstack([top, self.Q[m:]]), np.concatenate([known, self.u[m:]]))


def random_game(seed: int, size: int = 2) -> Game:
    """Convex, and coupled weakly enough for every rule to settle."""
    random = np.random.default_rng(seed)
    P, Q = (np.eye(2 * size) + 0.3 * m @ m.T for m in random.normal(size=(2, 2 * size, 2 * size)) * 0.6)
    return Game(P, random.normal(size=2 * size), Q, random.normal(size=2 * size))


def game_the_follower_wins(seed: int, size: int = 2) -> Game:
    """Whatever the leader does, the follower can make its own loss as small as it ever is: `|f + M a - c|^2 / 2`."""
    random = np.random.default_rng(seed)
    M = np.hstack([random.normal(size=(size, size)) * 0.5, np.eye(size)])
    P = np.eye(2 * size) + 0.2 * np.ones((2 * size, 2 * size))
    return Game(P, random.normal(size=2 * size), M.T @ M, M.T @ random.normal(size=size))


def play(game: Game, method: bx.Method, num_steps: int, start: np.ndarray | None = None) -> bx.FitResult:
    """Steps of a method from a point, zero by default; `evaluations` are the points after each, `f[num_steps, 2m]`."""
    start = np.zeros(2 * game.size) if start is None else start
    params = {"accuracy": jnp.asarray(start[: game.size], float), "fairness": jnp.asarray(start[game.size :], float)}
    return bx.fit(
        jax.random.key(0), method, params, ROWS, num_epochs=num_steps, sampler=bx.full_batch(), evaluate=_point
    )


def make_method(game: Game, rule: Any, **options: Any) -> bx.Method:
    """A rule of `badrjax.fairbinn` on the game: gradient descent with steps of 0.1, an implicit response."""
    options = {"fairness_weight": ETA, "response": "implicit", **options}
    optimizer = options.pop("optimizer", Partial(optax.sgd, learning_rate=0.1))
    return bx.fairbinn(Partial(losses, game), optimizer, Partial(fairness, game), rule=rule, **options)


def losses(game: Game, params: Any, batch: bx.Batch, key: Any) -> Float[Array, "n"]:
    """The leader's loss, the same for each row."""
    return jnp.full(batch.y.shape, _value(params, game.P, game.s))


def fairness(game: Game, params: Any, batch: bx.Batch, key: Any) -> Float[Array, ""]:
    """The follower's loss."""
    return _value(params, game.Q, game.u)


def _value(params: Any, matrix: Any, right: Any) -> Array:
    z = jnp.concatenate([params["accuracy"], params["fairness"]])
    return z @ jnp.asarray(matrix, z.dtype) @ z / 2 - jnp.asarray(right, z.dtype) @ z


def _point(state: Any) -> Array:
    return jnp.concatenate([state.params["accuracy"], state.params["fairness"]])


jax.tree_util.register_dataclass(Game, ["P", "s", "Q", "u"], [])
