"""An epoch of FairBiNN on Adult beside torch: the published loop re-created, and a lean one, on one core.

The shapes of Adult as the paper has it, on made-up rows: 30,162 of 101 features, batches of 200, five linear layers 101
wide, Adam, the published fairness loss. Also the share of the matrix-multiply rate of the same shapes that 10 seeds x 8
weights reach side by side. Run as `python -m benchmarks.fairbinn`; it pins itself to one core first.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax.tree_util import Partial

import badrjax as bx
from benchmarks.turns import seconds_in_turn

ROWS, FEATURES, BATCH, WIDTH = 30_162, 101, 200, 101
ETA, LEADER_RATE, FOLLOWER_RATE = 10_000.0, 1e-3, 1e-5
SEEDS, WEIGHTS = 10, 8
REPEATS = 7
MODEL = bx.models.mlp_with_fairness(FEATURES, (WIDTH,) * 3, (WIDTH,))


def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, FEATURES), np.float32)
    group = (rng.random(ROWS) < 0.324).astype(np.int32)
    return x, (x[:, 0] + 0.2 * group + rng.normal(size=ROWS) > 1.2).astype(np.int32), group


def method(rule: str, eta: Any) -> bx.Method:
    fairness = bx.losses.fairness(bx.objectives.squared_disparity, MODEL, num_groups=2, variant="fairbinn")
    return bx.fairbinn(
        bx.losses.logistic(MODEL), Partial(optax.adam, learning_rate=LEADER_RATE), fairness,
        follower_optimizer=Partial(optax.adam, learning_rate=FOLLOWER_RATE), rule=rule, fairness_weight=eta,
    )  # fmt: skip


def ours(rule: str) -> Callable[[], Any]:
    data = bx.Batch(*(jnp.asarray(leaf) for leaf in rows()))
    params = MODEL.init(jax.random.key(0))

    @jax.jit
    def epoch(made: bx.Method, params: Any, data: bx.Batch) -> Any:
        return bx.fit(jax.random.key(1), made, params, data, num_epochs=1, sampler=bx.in_order(BATCH)).state.params

    made = method(rule, ETA)
    return lambda: jax.block_until_ready(epoch(made, params, data))


def side_by_side() -> Callable[[], Any]:
    """An epoch of 10 seeds x 8 weights as one program."""
    data = bx.Batch(*(jnp.asarray(leaf) for leaf in rows()))
    params = jax.vmap(MODEL.init)(jax.random.split(jax.random.key(0), SEEDS))

    @jax.jit
    def epoch(etas: Any, params: Any, data: bx.Batch) -> Any:
        def run(eta: Any, params: Any) -> Any:
            made = method("accumulated", eta)
            return bx.fit(jax.random.key(1), made, params, data, num_epochs=1, sampler=bx.in_order(BATCH)).state.params

        return jax.vmap(jax.vmap(run, (None, 0)), (0, None))(etas, params)

    etas = jnp.geomspace(20.0, 2e5, WEIGHTS)
    return lambda: jax.block_until_ready(epoch(etas, params, data))


def operations() -> float:
    """Floating-point operations of the matrix products of an epoch of rule B.

    Two passes forward and backward; none of the first layer's input, nor in the second pass of the follower's weights.
    """
    layer = 2 * BATCH * WIDTH * WIDTH
    output = 2 * BATCH * WIDTH
    fairness_pass = 4 * layer + output + (4 * layer + output) + (3 * layer + output)
    accuracy_pass = fairness_pass - layer - layer  # the first layer's forward product is shared
    return -(-ROWS // BATCH) * (fairness_pass + accuracy_pass)


def product_rate() -> float:
    """Operations a second of chained products of one batch with a layer's weights."""
    number = 20_000
    weights = jnp.full((WIDTH, WIDTH), 1 / WIDTH)

    @jax.jit
    def chain(batch: Any, weights: Any) -> Any:
        return jax.lax.fori_loop(0, number, lambda _, out: out @ weights, batch)

    batch = jnp.ones((BATCH, WIDTH))
    jax.block_until_ready(chain(batch, weights))
    begun = time.perf_counter()
    jax.block_until_ready(chain(batch, weights))
    return number * 2 * BATCH * WIDTH * WIDTH / (time.perf_counter() - begun)


def linear_layers() -> tuple[list[torch.nn.Module], list[torch.nn.Module], list[torch.nn.Module]]:
    """Of the network before, in and after the fairness block."""
    relu = torch.nn.ReLU
    return (
        [torch.nn.Linear(FEATURES, WIDTH), relu()],
        [torch.nn.Linear(WIDTH, WIDTH), relu()],
        [torch.nn.Linear(WIDTH, WIDTH), relu(), torch.nn.Linear(WIDTH, WIDTH), relu(), torch.nn.Linear(WIDTH, 1)],
    )


class Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = [torch.as_tensor(array) for array in arrays]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, row: int) -> Any:
        return tuple(array[row] for array in self.arrays)


def theirs() -> Callable[[], Any]:
    """The published loop as the brief describes it, in our own code: rows fetched one by one and collated, the loss
    through a matrix over groups, a sigmoid at the end, two optimisers with gradients reset once a batch."""
    x, y, group = rows()
    loader = torch.utils.data.DataLoader(Rows(x, y.astype(np.float32), group), batch_size=BATCH)
    before, block, after = linear_layers()
    net = torch.nn.Sequential(*before, *block, *after, torch.nn.Sigmoid())
    follower = list(torch.nn.Sequential(*block).parameters())
    leader = [*torch.nn.Sequential(*before).parameters(), *torch.nn.Sequential(*after).parameters()]
    slow, fast = torch.optim.Adam(follower, FOLLOWER_RATE), torch.optim.Adam(leader, LEADER_RATE)
    sign = torch.tensor([[1.0, 0.0, -1.0], [-1.0, 0.0, 1.0]] * 2)
    entropy = torch.nn.BCELoss()

    def parity(out: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        out = torch.sigmoid(out)
        means = [out[groups == value].mean() for value in (0, 1)]
        return ETA * torch.relu(sign @ torch.stack([*means, out.mean()])).square().mean()

    def epoch() -> None:
        for batch, labels, groups in loader:
            slow.zero_grad()
            fast.zero_grad()
            parity(net(batch).squeeze(1), groups).backward()
            slow.step()
            entropy(net(batch).squeeze(1), labels).backward()
            fast.step()

    return epoch


def lean() -> Callable[[], Any]:
    """The same steps as one would write them for speed: rows sliced, means by index sums, a fused loss."""
    x, y, group = (torch.as_tensor(array) for array in rows())
    y = y.float()
    before, block, after = linear_layers()
    net = torch.nn.Sequential(*before, *block, *after)
    follower = list(torch.nn.Sequential(*block).parameters())
    leader = [*torch.nn.Sequential(*before).parameters(), *torch.nn.Sequential(*after).parameters()]
    slow = torch.optim.Adam(follower, FOLLOWER_RATE, foreach=True)
    fast = torch.optim.Adam(leader, LEADER_RATE, foreach=True)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits

    def epoch() -> None:
        for begin in range(0, ROWS, BATCH):
            batch, labels, first = x[begin : begin + BATCH], y[begin : begin + BATCH], group[begin : begin + BATCH] == 0
            slow.zero_grad()
            fast.zero_grad()
            out = torch.sigmoid(torch.sigmoid(net(batch).squeeze(1)))
            away = (out * first).sum() / first.sum() - out.mean()
            (0.5 * ETA * away * away).backward()
            slow.step()
            entropy(net(batch).squeeze(1), labels).backward()
            fast.step()

    return epoch


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax makes its threads
    torch.set_num_threads(1)
    print(
        f"jax {jax.__version__}, torch {torch.__version__}, one core; {platform.machine()}; medians of {REPEATS} "
        f"epochs of {-(-ROWS // BATCH)} steps in turn, seconds"
    )
    calls = {
        "ours, B (accumulated)": ours("accumulated"),
        "ours, A (separated)": ours("separated"),
        "ours, C (Lagrangian)": ours("lagrangian"),
        "ours, D (total, unrolled)": ours("total"),
        "torch, the published loop": theirs(),
        "torch, a lean loop": lean(),
    }
    seconds = seconds_in_turn(calls, REPEATS)
    base = seconds["ours, B (accumulated)"]
    for name, found in seconds.items():
        low, middle, high = np.quantile(found / base, [0.25, 0.5, 0.75])
        print(f"{name:28} {np.median(found):8.3f}   {middle:5.2f} ({low:.2f} to {high:.2f}) times ours")
    together = side_by_side()
    together()
    begun = time.perf_counter()
    together()
    taken, rate = time.perf_counter() - begun, product_rate()
    reached = SEEDS * WEIGHTS * operations() / taken
    print(
        f"{SEEDS} seeds x {WEIGHTS} weights side by side: {taken:.1f} s an epoch; "
        f"{reached / 1e9:.1f} of {rate / 1e9:.1f} GFlop/s of the products alone, {100 * reached / rate:.0f}%; "
        f"one alone {100 * operations() / np.median(base) / rate:.0f}%"
    )


if __name__ == "__main__":
    main()
