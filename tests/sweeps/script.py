"""A sweep in a process of its own, to be killed: `python script.py STORE`."""

import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from badrjax.sweeps import cross, grid, sweep


def run(key, rate, kind):
    """Takes some time that does not depend on the machine's load alone."""
    jax.experimental.io_callback(lambda: time.sleep(0.05), None, ordered=False)
    return {"value": rate * jnp.sum(jax.random.normal(key, (1000,))), "letters": jnp.float32(len(kind))}


TRIALS = cross(grid(rate=np.array([0.1, 0.2, 0.3]), kind=["a", "bb"]), seed=range(8))
go = partial(sweep, run, TRIALS, block=4, progress=False, lease_seconds=2.0)

if __name__ == "__main__":
    go(store=sys.argv[1])
