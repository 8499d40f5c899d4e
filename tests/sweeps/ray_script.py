"""Sweeps on Ray: functions for its processes, and a driver to be killed, `python ray_script.py STORE [ADDRESS]`."""

import sys

import jax
import jax.numpy as jnp

from badrjax.sweeps import programs

from .script import go


def bound(key, rate, table, offset, other):
    """Its result depends on arrays, weakly typed numbers and keys that are bound to it."""
    noise = jax.random.normal(other, (8,)) + jax.random.normal(key, (8,))
    return {"value": jnp.tanh(rate * table @ noise + offset).sum(), "narrow": table.astype(jnp.bfloat16)[0, 0] * offset}


def picky(key, rate, kind):
    """Can run one of its kinds only."""
    if kind == "bad":
        raise ValueError("kind 'bad' is not to be had")
    return rate * jax.random.uniform(key)


class AwkwardError(Exception):
    """One that cannot be pickled back."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def awkward(key, rate):
    raise AwkwardError("this", "that")


def roomy(key, rate):
    """Its blocks run out of memory, in the process that compiles them, above two trials."""
    if not hasattr(programs, "unlimited"):
        programs.unlimited = programs.run_block
        programs.run_block = short_of_memory
    return plain(key, rate)


def plain(key, rate):
    return jnp.sin(rate) * jax.random.normal(key, (3,))


def short_of_memory(program, *arguments):
    if program.width > 2:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 12345 bytes")
    return programs.unlimited(program, *arguments)


def deadly(key, rate):
    """Ends any process that compiles it."""
    import os

    os._exit(1)


def main(store, address=None):
    import ray

    if address:
        ray.init(address=address, log_to_driver=False)
    options = None if address else {"num_cpus": 1, "include_dashboard": False, "log_to_driver": False}
    go(store=store, executor="ray", ray_options=options)
    print("running" if ray.is_initialized() else "stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
