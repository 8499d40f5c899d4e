"""Trials a second of Nash-Meta on Adult, by the number of seeds side by side: `python -m benchmarks.sweep_rates`.

Beside each rate stands its share of the matrix-product rate of the same machine, measured in the same run: the
floating-point operations of the trials' own matrix products, over what one large product does in that time.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import badrjax as bx
from badrjax.sweeps import programs
from benchmarks import nash_step
from experiments import nash, nash_protocol

BATCH_SIZE = 512
NUM_STEPS = 20  # of an epoch; a whole one of 92 only takes longer


def trial(key: jax.Array, learning_rate: Any, *, data: bx.Batch, validation: bx.Batch) -> jax.Array:
    """One epoch of bargaining; the mean loss."""
    chosen = nash_protocol.SETTINGS["adult_sex"].hyper_parameters._replace(learning_rate=learning_rate)
    model = nash.make_model(data.x.shape[1], chosen)
    method = nash.make_method("nash_learning_to_reweight", model, validation, 2, chosen)
    init_key, fit_key = jax.random.split(key)
    sampler = bx.in_order(BATCH_SIZE)
    return bx.fit(fit_key, method, model.init(init_key), data, num_epochs=1, sampler=sampler).steps.loss[-1]


def arguments() -> tuple[bx.Batch, bx.Batch]:
    """Rows of Adult to train on, and the validation rows."""
    adult = bx.load_dataset("adult", sensitive="sex", variant="nash")
    splits = bx.datasets.split(adult, "balanced", seed=0)
    return bx.to_batch(adult, splits.train[: NUM_STEPS * BATCH_SIZE]), bx.to_batch(adult, splits.validation)


def operations_of_products(num_cells: int = 4) -> float:
    """Floating-point operations of the matrix products of one trial, a multiplication and an addition each."""
    # The network and the batch of `nash_step` are the paper's, with as many features as Adult has.
    return 2 * NUM_STEPS * nash_step.make_products(num_cells)[1]


def product_rate(repeats: int, size: int = 2048) -> float:
    """Operations a second of a large square product in float32: what the machine can do at best."""
    key = jax.random.key(0)
    left, right = (jax.random.normal(k, (size, size)) for k in jax.random.split(key))
    product = jax.jit(jnp.matmul)
    return 2.0 * size**3 / median_seconds(lambda: product(left, right), repeats)


def median_seconds(function: Callable[[], Any], repeats: int) -> float:
    """Median time of a call that waits for its result; the first, which compiles, does not count."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.sweep_rates", description=main.__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"jax {jax.__version__} on {device.device_kind}; {platform.machine()}, {os.cpu_count()} cores")
    print(f"Nash-Meta (LtR, four cells) on Adult, {NUM_STEPS} steps of {BATCH_SIZE} rows a trial, all bargaining\n")
    data, validation = arguments()
    run = Partial(trial, data=data, validation=validation)
    operations, best = operations_of_products(), product_rate(options.repeats)
    print(
        f"a product of 2048 x 2048 matrices: {best / 1e9:.0f} GFLOP/s; those of a trial: {operations / 1e9:.2f} GFLOP\n"
    )
    print("seeds   compile s   block s   trials/s   against 1   memory MB   share of the product rate")
    first = None
    for seeds in options.seeds:
        start = time.perf_counter()
        program = programs.compile_block(run, {}, {"learning_rate": np.dtype("float32")}, seeds, [device])
        compiled = time.perf_counter() - start
        lanes = np.arange(seeds, dtype=np.uint32)
        rates = {"learning_rate": np.full(seeds, 0.001, np.float32)}
        seconds = median_seconds(lambda p=program, s=lanes, r=rates: programs.run_block(p, run, s, r), options.repeats)
        first = first or seeds / seconds
        share = operations * seeds / seconds / best
        print(
            f"{seeds:5}   {compiled:9.1f}   {seconds:7.3f}   {seeds / seconds:8.2f}   {seeds / seconds / first:9.2f}"
            f"   {program.num_bytes / 1e6:9.0f}   {share:6.0%}"
        )


if __name__ == "__main__":
    main()
