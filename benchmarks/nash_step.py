"""The Nash step, the one-stage step and the Nash solve of this package, for timing against `reference_torch`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import badrjax as bx
from experiments import nash, nash_protocol

NUM_FEATURES, BATCH_SIZE, VALIDATION_PER_CELL = 105, 512, 3
STEPS_A_CALL = 20


def make_step(num_cells: int, *, bargaining: bool, lookahead_dropout: str = "fresh") -> Callable[[], Any]:
    """A function that runs `STEPS_A_CALL` steps as one program, the way `badrjax.fit` does, and waits for them.

    Args:
        num_cells: K, group x label cells; even.
        bargaining: the bargaining stage, or the one-stage step under the LtR goal with diagnostics off.
        lookahead_dropout: `"fresh"` masks, three a step as in the reference, or the `"same"` as the training step.
    """
    chosen = nash_protocol.SETTINGS["adult_sex"].hyper_parameters
    num_groups = num_cells // 2
    model = nash.make_model(NUM_FEATURES, chosen)
    method = bx.meta_reweighting(
        bx.losses.cross_entropy(model),
        nash_optimizer(chosen),
        _rows(num_groups, VALIDATION_PER_CELL * num_cells, 1, balanced=True),
        "learning_to_reweight",
        num_groups=num_groups,
        cells="cells",
        bargaining_epochs=jnp.int32(1) if bargaining else None,
        validation_losses=bx.losses.cross_entropy_with_f1(model),
        lookahead_dropout=lookahead_dropout,  # type: ignore[arg-type]
        validation_dropout=True,
        diagnostics="off",
    )
    batches = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(_rows(num_groups, BATCH_SIZE, seed) for seed in range(STEPS_A_CALL))
    )
    state = method.init(jax.random.key(0), model.init(jax.random.key(0)))

    @jax.jit
    def steps(method: bx.Method, key: Any, state: Any, batches: bx.Batch) -> Any:
        def step(state: Any, inputs: Any) -> tuple[Any, Any]:
            return method.step(inputs[0], state, inputs[1])

        return jax.lax.scan(step, state, (jax.random.split(key, STEPS_A_CALL), batches))

    return lambda: jax.block_until_ready(steps(method, jax.random.key(1), state, batches))


def nash_optimizer(chosen: nash_protocol.HyperParameters) -> Any:
    """The paper's optimiser with its numbers as leaves."""
    return jax.tree_util.Partial(
        nash.momentum_sgd,
        learning_rate=chosen.learning_rate,
        momentum=chosen.momentum,
        weight_decay=chosen.weight_decay,
    )


def make_solve(gram: np.ndarray) -> Callable[[], Any]:
    """A function that solves one Nash bargain in float32, dispatch and waiting included."""
    solve = jax.jit(bx.nash_weights)
    matrix = jnp.asarray(gram, jnp.float32)
    return lambda: jax.block_until_ready(solve(matrix))


def make_solves(gram: np.ndarray) -> Callable[[], Any]:
    """A function that solves `STEPS_A_CALL` bargains one after the other in one program, as training does.

    Each is of the Gram matrix scaled by another number, so that no solve can be shared.
    """
    scales = jnp.arange(1, STEPS_A_CALL + 1, dtype=jnp.float32)

    @jax.jit
    def solves(matrix: jax.Array, scales: jax.Array) -> Any:
        def solve(total: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
            weights = bx.nash_weights(matrix * scale).weights
            return total + weights.sum(), weights

        return jax.lax.scan(solve, jnp.float32(0), scales)

    matrix = jnp.asarray(gram, jnp.float32)
    return lambda: jax.block_until_ready(solves(matrix, scales))


def make_products(num_tangents: int, *, lookahead_dropout: str = "fresh") -> tuple[Callable[[], Any], float]:
    """Only the matrix products of a step, as separate operations of one program, and their multiply-add count.

    Args:
        num_tangents: forward passes along directions: K in the bargaining stage, 1 in one stage.
        lookahead_dropout: `"fresh"` has a second forward pass.
    """
    widths = (NUM_FEATURES, 128, 64, 2)
    layers = list(itertools.pairwise(widths))
    forward = [(BATCH_SIZE, a, b) for a, b in layers]
    tangent = forward + [(BATCH_SIZE, a, b) for a, b in layers[1:]]
    backward = [(a, BATCH_SIZE, b) for a, b in layers] + [(BATCH_SIZE, b, a) for a, b in layers[1:]]
    shapes = forward * (2 if lookahead_dropout == "fresh" else 1) + tangent * num_tangents + backward
    key = jax.random.key(0)
    operands = [(jax.random.normal(key, (m, k)), jax.random.normal(key, (k, n))) for m, k, n in shapes]
    products = jax.jit(lambda pairs: [left @ right for left, right in pairs])
    return lambda: jax.block_until_ready(products(operands)), float(sum(m * k * n for m, k, n in shapes))


def milliseconds(functions: dict[str, tuple[Callable[[], Any], int]], repeats: int) -> dict[str, np.ndarray]:
    """Times of one unit of each function, `repeats` of them, taken in turn so that a drift of the machine hits all.

    Args:
        functions: by name, what to call and how many units a call does.
        repeats: counted calls of each, after two that are not.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 2):
        for name, (function, units) in functions.items():
            start = time.perf_counter()
            function()
            elapsed = 1e3 * (time.perf_counter() - start) / units
            if turn >= 2:
                times[name].append(elapsed)
    return {name: np.asarray(values) for name, values in times.items()}


def _rows(num_groups: int, num_rows: int, seed: int, balanced: bool = False) -> bx.Batch:
    keys = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(keys[0], (num_rows, NUM_FEATURES))
    noise = jax.random.normal(keys[1], (num_rows,))
    y = (x[:, 0] + noise > 0).astype(jnp.int32)
    group = jax.random.randint(keys[2], (num_rows,), 0, num_groups)
    if balanced:
        cell = jnp.arange(num_rows) // VALIDATION_PER_CELL
        group, y = cell // 2, cell % 2
    return bx.Batch(x, y, group, jnp.ones(num_rows))
