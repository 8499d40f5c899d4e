"""A small function to sweep, and the table of its trials."""

import jax
import jax.numpy as jnp
import numpy as np

from badrjax.sweeps import cross, grid


def run(key, rate, steps=3, kind="plain"):
    """A noisy descent whose result depends on every setting in a nonlinear way."""
    start = jax.random.normal(key, (4,))
    scale = {"plain": 1.0, "double": 2.0}[kind]

    def step(x, noise):
        return x - rate * scale * jnp.sin(x) + 0.01 * noise, jnp.sum(x**2)

    end, history = jax.lax.scan(step, start, jax.random.normal(jax.random.fold_in(key, 1), (steps, 4)))
    return {"validation": {"loss": jnp.sum(end**2), "history": history}, "test": {"loss": jnp.sum(jnp.abs(end))}}


def trials(rates=(0.1, 0.2, 0.3), seeds=5, **columns):
    """Three rates and five seeds, and what else is asked for."""
    return cross(grid(rate=np.array(rates), **columns), seed=range(seeds))


def by_hand(table):
    """The results of each trial, one after another."""
    names = [name for name in table if name != "seed"]
    return [
        run(jax.random.key(int(seed)), **{name: table[name][row].item() for name in names})
        for row, seed in enumerate(table["seed"])
    ]
