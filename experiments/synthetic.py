r"""A two-objective problem in the plane whose Pareto front is known (figures 2(b), 3 and 5 of Nash-Meta-Learning).

The base functions are those of CAGrad (Liu et al. 2021), used again by Nash-MTL (Navon et al. 2022). At
`theta = (x, y)`, with `t = tanh(-y)`,

    h_1 = log max(|(-x - 7)/2 - t|, 5e-6) + 6        q_1 = ((7 - x)^2 + (y + 8)^2 / 10) / 10 - 20
    h_2 = log max(|(3 - x)/2 + t + 2|, 5e-6) + 6     q_2 = ((7 + x)^2 + (y + 8)^2 / 10) / 10 - 20
    c_1 = max(tanh(y/2), 0)                          c_2 = max(tanh(-y/2), 0)

and `L_k = scale (c_1 h_k + c_2 q_k)`. The upper half of the plane holds two narrow curved valleys, the lower half the
front. It runs between the minima of the two losses near `x = 7` and `x = -7`; on it `L_1 = L_2` at `x = 0`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SCALES = {"A": 1.0, "B": 0.1}
"""Two readings of "both objectives at the same scale", which the paper leaves open: as they are, or both times 0.1."""

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0), (-8.5, -5.0))
"""The five starts of Nash-MTL, and of CAGrad's the one that is not among them."""

LOSS_FLOOR = -20.0
"""No loss of scale 1 is below it: `q_k >= -20`, `c_k < 1` and `h_k >= log(5e-6) + 6 > -6.3`."""

_SMALLEST = 5e-6
_CENTRE = 7.0


class Front(NamedTuple):
    """The Pareto set and what it is measured by.

    Attributes:
        theta: points of the Pareto set from the minimum of `L_2` to that of `L_1`, `f[m, 2]`, m odd.
        losses: their losses, `f[m, 2]`.
    """

    theta: Float[np.ndarray, "m 2"]
    losses: Float[np.ndarray, "m 2"]

    @property
    def fair(self) -> Float[np.ndarray, "2"]:
        """The point of the Pareto set where both losses are the same, `f[2]`."""
        return self.theta[self.theta.shape[0] // 2]


def losses(theta: Float[Array, "2"], scale: float | Float[Array, ""] = 1.0) -> Float[Array, "2"]:
    """Both losses at a point.

    Finite with finite derivatives everywhere: the arguments of the logarithms stay above 5e-6, where their derivative
    is 0. On the line `y = 0` the derivative is the mean of those from both sides, as for `max` in JAX and PyTorch.

    Args:
        theta: `f[2]`.
        scale: of both losses; see `SCALES`.

    Returns:
        `f[2]`.
    """
    x, y = theta
    turn = jnp.tanh(-y)
    arguments = jnp.stack([(-x - _CENTRE) / 2 - turn, (3 - x) / 2 + turn + 2])
    valleys = jnp.log(jnp.maximum(jnp.abs(arguments), _SMALLEST)) + 6
    bowls = (jnp.stack([_CENTRE - x, _CENTRE + x]) ** 2 + (y + 8) ** 2 / 10) / 10 - 20
    upper, lower = jnp.maximum(jnp.tanh(y / 2), 0), jnp.maximum(jnp.tanh(-y / 2), 0)
    return scale * (upper * valleys + lower * bowls)


def gradients(theta: Float[Array, "2"], scale: float | Float[Array, ""] = 1.0) -> Float[Array, "2 2"]:
    """Derivatives of both losses, one a row; arguments as `losses`."""
    return jax.jacrev(losses)(theta, scale)


def pareto_front(num_points: int = 401, num_steps: int = 20) -> Front:
    """The Pareto set, by Newton's method on the condition that a convex combination of the gradients vanishes.

    Below the line `y = 0` the x-part of `s grad L_1 + (1 - s) grad L_2 = 0` holds at `x = 7 (2s - 1)`. What is left is
    one equation for `y` at each share `s` in `[0, 1]`; Newton's method starts at `y = -8`, the vertex of the bowls. The
    set is the same for every scale, and the losses are those of scale 1.

    Args:
        num_points: odd, so that the fair point is among them.
        num_steps: of Newton's method.

    Returns:
        A `Front`, on the host.

    Raises:
        ValueError: for a number of points that is even or below 3.
    """
    if num_points < 3 or num_points % 2 == 0:
        raise ValueError(f"num_points must be odd and at least 3, got {num_points}")

    def point(share: Array) -> Array:
        x = _CENTRE * (2 * share - 1)

        def slope(y: Array) -> Array:
            return jnp.dot(jnp.stack([share, 1 - share]), gradients(jnp.stack([x, y]))[:, 1])

        y = jax.lax.fori_loop(0, num_steps, lambda _, y: y - slope(y) / jax.grad(slope)(y), jnp.full_like(x, -8.0))
        return jnp.stack([x, y])

    theta = jax.vmap(point)(jnp.linspace(0.0, 1.0, num_points))
    return Front(np.asarray(theta), np.asarray(jax.vmap(losses)(theta)))


def distance_to_front(front: Front, theta: np.ndarray) -> np.ndarray:
    """Euclidean distance in the plane of points `f[..., 2]` to the nearest stored point of the Pareto set, `f[...]`."""
    return np.linalg.norm(np.asarray(theta)[..., None, :] - front.theta, axis=-1).min(axis=-1)


def distance_to_fair_point(front: Front, theta: np.ndarray) -> np.ndarray:
    """Euclidean distance in the plane of points `f[..., 2]` to the fair point of the front, `f[...]`."""
    return np.linalg.norm(np.asarray(theta) - front.fair, axis=-1)


def on_front(front: Front, theta: np.ndarray, *, width: float = 0.3) -> np.ndarray:
    """Whether points `f[..., 2]` lie within `width` of the Pareto set along both axes, `bool[...]`."""
    theta = np.asarray(theta)
    level = np.interp(theta[..., 0], front.theta[:, 0], front.theta[:, 1])
    return (np.abs(theta[..., 1] - level) < width) & (np.abs(theta[..., 0]) < _CENTRE + width)
