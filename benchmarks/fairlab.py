"""A local epoch of FairLAB beside the same in torch, vectorised over pairs and in a loop over them, on one core.

45,000 made-up rows of 105 features, batches of 512, a 300-100 network, Adam, demographic parity of all pairs of groups,
entmax of order 1.5 of ten times the logit, the augmented Lagrangian with all constraints in force; ten pairs also on
two smaller networks. An epoch is one pass of steps. Run as `python -m benchmarks.fairlab`; it pins itself to one core.
"""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax.tree_util import Partial

import badrjax as bx
from benchmarks.turns import seconds_in_turn

ROWS, BATCH = 45_000, 512
PENALTY, SCALE, RATE = 2.0, 10.0, 1e-3
REPEATS = 7


class Shape(NamedTuple):
    """Features of a row, and the widths of the hidden layers."""

    features: int
    hidden: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.features} features, {'-'.join(map(str, self.hidden))}"


ADULT = Shape(105, (300, 100))
FOLKTABLES = Shape(20, (300, 100))
"""The paper's network, on the inputs of its FolkTables."""
SMALL = Shape(20, (64, 32))
"""Where the constraints, and not the network, are most of an epoch."""


def rows(num_groups: int, shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, shape.features)).astype(np.float32)
    group = rng.integers(0, num_groups, ROWS)
    y = (x[:, 0] + 0.2 * group / num_groups + rng.normal(size=ROWS) > 0.5).astype(np.int32)
    return x, y, group


def ours(num_groups: int, shape: Shape = ADULT, *, constrained: bool = True) -> Callable[[], Any]:
    """An epoch of steps as one compiled call."""
    x, y, group = rows(num_groups, shape)
    constraints, cells = bx.fairness_constraints([("demographic_parity", "a", 0.05)], {"a": group}, y)
    data = bx.Batch(jnp.asarray(x), jnp.asarray(y), jnp.asarray(cells.ids))
    model = bx.models.mlp(*shape)
    adam = Partial(optax.adam, learning_rate=RATE)
    method = bx.fairlab(
        model, adam, constraints, bx.Batch(*(leaf[:2000] for leaf in data[:3])), performance_bound=-np.inf,
        proximity="off", penalty=PENALTY, multiplier_step=PENALTY,
    )  # fmt: skip
    if not constrained:
        method = bx.erm(bx.losses.cross_entropy(model), adam)
    state = jax.jit(method.init)(jax.random.key(0), model.init(jax.random.key(1)))
    if constrained:
        pairs = constraints.left.shape[0]
        duals = jnp.where(jnp.arange(state.in_force.shape[0]) < pairs, 0.1, 0.0)
        state = state._replace(
            in_force=jnp.arange(state.in_force.shape[0]) < pairs,
            multipliers=state.multipliers._replace(multipliers=duals),
        )
    sampler = bx.shuffled(BATCH, "drop")

    @jax.jit
    def epoch(method: bx.Method, state: Any, data: bx.Batch, key: jax.Array) -> Any:
        def step(state: Any, positions: jax.Array) -> tuple[Any, None]:
            batch = bx.Batch(*(leaf[positions] for leaf in data[:3]))
            return method.step(key, state, batch)[0], None

        return jax.lax.scan(step, state, sampler.positions(key, data.group))[0]

    return lambda: jax.block_until_ready(epoch(method, state, data, jax.random.key(2)))


def theirs(num_groups: int, shape: Shape = ADULT, *, loop: bool, constrained: bool = True) -> Callable[[], Any]:
    """The same steps in torch."""
    torch.set_num_threads(1)
    x, y, group = (torch.as_tensor(array) for array in rows(num_groups, shape))
    y = y.float()
    widths = [shape.features, *shape.hidden]
    layers = [layer for pair in itertools.pairwise(widths) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 1))
    adam = torch.optim.Adam(net.parameters(), lr=RATE)
    pairs = list(itertools.combinations(range(num_groups), 2))
    left, right = (torch.tensor(side) for side in zip(*pairs, strict=True))
    duals = torch.full((len(pairs),), 0.1)

    def psi(violation: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        return (torch.clamp(dual + PENALTY * violation, min=0) ** 2 - dual**2) / (2 * PENALTY)

    def added(probability: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        if not loop:
            sums = torch.zeros(num_groups).index_add(0, groups, probability)
            means = sums / torch.bincount(groups, minlength=num_groups).clamp(min=1)
            return psi((means[left] - means[right]).abs() - 0.05, duals).sum()
        total = torch.zeros(())
        for number, (first, second) in enumerate(pairs):
            gap = (probability[groups == first].mean() - probability[groups == second].mean()).abs()
            total = total + psi(gap - 0.05, duals[number])
        return total

    def epoch() -> None:
        order = torch.randperm(ROWS)
        for begin in range(0, ROWS - BATCH + 1, BATCH):
            chosen = order[begin : begin + BATCH]
            logits = net(x[chosen]).squeeze(1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y[chosen])
            if constrained:
                loss = loss + added(entmax15(SCALE * logits), group[chosen])
            adam.zero_grad()
            loss.backward()
            adam.step()

    return epoch


def entmax15(logit: torch.Tensor) -> torch.Tensor:
    """Probability of class 1 of the entmax of order 1.5 of scores 0 and `logit`."""
    inside = torch.clamp(logit, -2.0, 2.0)
    return ((inside + torch.sqrt(torch.clamp(8.0 - inside**2, min=1e-12))) / 4.0) ** 2


def check() -> float:
    """Largest difference of the two entmax maps."""
    logits = np.linspace(-3, 3, 101).astype(np.float32)
    ours = bx.entmax15(jnp.stack([jnp.zeros(101), jnp.asarray(logits)], axis=1))[:, 1]
    return float(np.abs(np.asarray(ours) - entmax15(torch.as_tensor(logits)).numpy()).max())


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax makes its threads
    print(
        f"jax {jax.__version__}, torch {torch.__version__}, one core; {platform.machine()}; largest difference of the "
        f"maps {check():.1e}; medians of {REPEATS} epochs of {ROWS // BATCH} steps in turn, seconds"
    )
    calls = {
        "ours, unconstrained": ours(5, constrained=False),
        "torch, unconstrained": theirs(5, loop=False, constrained=False),
        **_of_ten_pairs(ADULT),
        "ours, 153 pairs": ours(18),
        "torch, 153 pairs, vectorised": theirs(18, loop=False),
        "ours, 1770 pairs": ours(60),
        "torch, 1770 pairs, vectorised": theirs(60, loop=False),
    }
    print(f"{ADULT}:")
    _report(calls)
    for shape in (FOLKTABLES, SMALL):
        print(f"{shape}:")
        _report(_of_ten_pairs(shape))


def _of_ten_pairs(shape: Shape) -> dict[str, Callable[[], Any]]:
    return {
        "ours, 10 pairs": ours(5, shape),
        "torch, 10 pairs, vectorised": theirs(5, shape, loop=False),
        "torch, 10 pairs, loop": theirs(5, shape, loop=True),
    }


def _report(calls: dict[str, Callable[[], Any]]) -> None:
    seconds = seconds_in_turn(calls, REPEATS)
    base = seconds["ours, 10 pairs"]
    for name, found in seconds.items():
        print(f"  {name:32} {np.median(found):8.3f}   {np.median(found / base):6.2f} times ours at 10 pairs")


if __name__ == "__main__":
    main()
