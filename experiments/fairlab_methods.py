"""The methods of the FairLAB paper on one problem: each gives a few points, with its own rule to choose among them.

A point is what a model (or a randomised one) does on each part: counts by label and cell, from which every number of
the tables follows. All networks are the paper's 300-100 perceptron but COSMOS's, whose own is smaller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

import badrjax as bx
from badrjax.constraints import CellCounts, cell_counts
from experiments.fairlab_data import Problem

PARTS = ("train", "validation", "test")


class Options(NamedTuple):
    """What the methods are trained with.

    Attributes:
        protocol: of FairLAB.
        budgets: `beta` of FairLAB, a point each.
        proximity_bound: `delta` of FairLAB.
        logit_scale: of FairLAB's smooth rates.
        gaps: largest gaps that ExpGrad is asked for, as shares of the threshold, a point each.
        ffvae: pairs of alpha and gamma, a point each.
        rays: preferences at which COSMOS's networks are read, a point each.
        shares: of the task in the preferences that tuned COSMOS is trained at, on average, a network each.
        hidden, dropout: of the network.
        batch_size, minimum: of the batches: rows, and rows of each cell besides.
        minimum_count: of the groups in the constraints, see `fairlab_data.prepare`.
        learning_rate: of Adam for Vanilla and FairLAB.
        epochs: most epochs of Vanilla and of the networks on FFVAE's features, which stop early.
        rounds, local_epochs: of FairLAB.
        cosmos_epochs, ffvae_epochs, oracle_epochs: of the competitors.
    """

    protocol: str = "default"
    budgets: tuple[float, ...] = (0.05, 0.10, 0.15)
    proximity_bound: float = 0.02
    logit_scale: float = 10.0
    gaps: tuple[float, ...] = (0.5, 1.0, 2.0)
    ffvae: tuple[tuple[float, float], ...] = ((1.0, 1.0), (100.0, 10.0), (300.0, 50.0))
    rays: int = 25
    shares: tuple[float, ...] = (0.5, 0.75, 0.9)
    hidden: tuple[int, ...] = (300, 100)
    dropout: float = 0.2
    batch_size: int = 1024
    minimum: int = 4
    minimum_count: int = 1
    learning_rate: float = 1e-3
    epochs: int = 60
    rounds: int = 30
    local_epochs: int = 30
    cosmos_epochs: int = 50
    ffvae_epochs: int = 100
    oracle_epochs: int = 10


class Point(NamedTuple):
    """What a model does.

    Attributes:
        name: of the setting that made it, such as `"beta=0.05"`.
        counts: by part, `CellCounts`.
        about: numbers of its training.
    """

    name: str
    counts: dict[str, CellCounts]
    about: dict[str, float]


class Start(NamedTuple):
    """The unconstrained model, from which others start.

    Attributes:
        model: the network.
        params: of its best epoch by F1 on the validation rows.
        counts: by part.
        seconds: of training it.
        epochs: it was trained for.
    """

    model: bx.Model
    params: Any
    counts: dict[str, CellCounts]
    seconds: float
    epochs: int


def vanilla(key: jax.Array, problem: Problem, options: Options, x: Callable[[bx.Batch], Any] | None = None) -> Start:
    """Cross-entropy alone, its best epoch by F1 on the validation rows, stopped when ten epochs bring no better one.

    It is FairLAB without a constraint in force, whose step is then that of `badrjax.erm`.

    Args:
        key: of initial weights, order of rows and dropout.
        problem: the rows.
        options: of training.
        x: other features of a batch than its own; `None` for its own.
    """
    parts = {name: _with_features(problem.part(name), x) for name in PARTS}
    model = bx.models.mlp(parts["train"].x.shape[1], options.hidden, dropout=options.dropout)
    free = problem.every._replace(thresholds=jnp.ones_like(problem.every.thresholds))
    method = bx.fairlab(
        model, _adam(options), free, parts["validation"], performance_bound=-np.inf, proximity="off", rounds=1,
        local_epochs=options.epochs, local_patience=10,
    )  # fmt: skip
    init_key, fit_key = jax.random.split(key)
    begun = time.perf_counter()
    result = bx.fit(
        fit_key, method, model.init(init_key), parts["train"], num_epochs=options.epochs,
        sampler=bx.shuffled(_batch_size(parts["train"], options)), record=_nothing,
    )  # fmt: skip
    params = jax.block_until_ready(result.state.params)
    seconds = time.perf_counter() - begun
    counts = {name: _counts(problem, _decided(model, params, rows), rows) for name, rows in parts.items()}
    return Start(model, params, counts, seconds, int(np.isfinite(result.epochs.performance).sum()))


def of_vanilla(key: jax.Array, problem: Problem, options: Options, start: Start) -> Iterator[Point]:
    """The start itself."""
    yield Point("unconstrained", start.counts, {"seconds": start.seconds, "epochs": start.epochs})


def of_fairlab(key: jax.Array, problem: Problem, options: Options, start: Start) -> Iterator[Point]:
    """A point for each budget, from the unconstrained model."""
    train, validation = problem.part("train"), problem.part("validation")
    sampler = bx.group_stratified(_batch_size(train, options), options.minimum, problem.num_cells)
    sizes = bx.group_count(train.group, problem.num_cells)
    for budget in options.budgets:
        bound = None
        if options.protocol == "code":  # which knows fixed bounds only
            bound = float(bx.constraints.f1_of_counts(start.counts["validation"])) - budget
        method = bx.fairlab(
            start.model, _adam(options), problem.constraints, validation, protocol=options.protocol, budget=budget,
            performance_bound=bound, proximity_bound=options.proximity_bound, rounds=options.rounds,
            local_epochs=options.local_epochs, cell_sizes=sizes, logit_scale=options.logit_scale,
        )  # fmt: skip
        begun = time.perf_counter()
        result = bx.fit(
            key, method, start.params, train, num_epochs=options.rounds * options.local_epochs, sampler=sampler,
            record=_nothing,
        )  # fmt: skip
        params = jax.block_until_ready(result.state.params)
        about = {
            "seconds": time.perf_counter() - begun,
            "epochs": int(np.isfinite(result.epochs.performance).sum()),
            "rounds": int(result.state.round),
            "largest_multiplier": float(np.nanmax(result.epochs.largest_multiplier)),
        }
        yield Point(f"beta={budget:g}", _counts_by_part(problem, partial(_decided, start.model, params)), about)


def of_expgrad(key: jax.Array, problem: Problem, options: Options, start: Start) -> Iterator[Point]:
    """A point for each asked gap, in expectation of the randomised classifier; for settings of one requirement.

    Raises:
        ValueError: for several requirements, which fairlearn's constraints cannot hold.
    """
    constraints = problem.constraints
    if constraints.thresholds.shape[0] != 1:
        raise ValueError("ExpGrad has one constraint on one grouping; run it on settings of one requirement")
    groups = constraints.partitions[0]
    train = problem.part("train")
    # Rows of groups that were dropped are in no constraint, and fairlearn knows no such rows.
    inside = np.flatnonzero(np.asarray(groups[train.group] >= 0))
    chosen = bx.Batch(*(leaf[inside] for leaf in train[:3]))._replace(group=groups[train.group][inside])
    name = constraints.requirement_names[0].split(" of ")[0]
    for share in options.gaps:
        begun = time.perf_counter()
        result = bx.expgrad(
            key, start.model, chosen, constraint=name, gap=min(share * float(constraints.thresholds[0]), 1.0),
            params=start.params, optimizer=_adam(options), num_epochs=options.oracle_epochs,
            sampler=bx.shuffled(_batch_size(chosen, options)),
        )  # fmt: skip
        about = {
            "seconds": time.perf_counter() - begun,
            "calls": result.num_oracle_calls,
            "predictors": len(result.probabilities),
        }
        expected = partial(_expected, result, start.model)
        drawn = partial(_drawn, jax.random.fold_in(key, 1), result, start.model)
        yield Point(f"gap={share:g} tau", _counts_by_part(problem, expected), about)
        yield Point(f"gap={share:g} tau, one draw", _counts_by_part(problem, drawn), about)


def of_ffvae(key: jax.Array, problem: Problem, options: Options, start: Start) -> Iterator[Point]:
    """A point for each pair of weights: a network on features without the constrained attributes' blocks.

    Raises:
        FloatingPointError: where its training ends in numbers that are not finite.
    """
    train = problem.part("train")
    values = problem.attribute_values
    networks = bx.ffvae_networks(train.x.shape[1], tuple(int(v) + 1 for v in values.max(axis=0)))
    for alpha, gamma in options.ffvae:
        begun = time.perf_counter()
        method = bx.ffvae(
            networks, Partial(optax.adam, learning_rate=1e-3), jnp.asarray(values), alpha=alpha, gamma=gamma
        )
        result = bx.fit(
            key, method, networks.init(jax.random.fold_in(key, 0)), train, num_epochs=options.ffvae_epochs,
            sampler=bx.shuffled(_batch_size(train, options)), record=_nothing,
        )  # fmt: skip
        if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(result.state.params)):
            raise FloatingPointError(
                f"FFVAE diverged at alpha={alpha:g}, gamma={gamma:g}; are the features standardised?"
            )
        encode = partial(_encode, networks, result.state.params, problem.constrained)
        found = vanilla(jax.random.fold_in(key, 1), problem, options, encode)
        about = {"seconds": time.perf_counter() - begun, "epochs": found.epochs}
        yield Point(f"alpha={alpha:g} gamma={gamma:g}", found.counts, about)


def of_cosmos(key: jax.Array, problem: Problem, options: Options, start: Start) -> Iterator[Point]:
    """A point for each preference of one conditioned network, trained with the published settings.

    With R requirements the task has 1 / (R + 1) of the weight on average.
    """
    yield from _of_conditioned(key, problem, options, _CONCENTRATION, "")


def of_cosmos_tuned(key: jax.Array, problem: Problem, options: Options, start: Start) -> Iterator[Point]:
    """The same of as many networks as there are shares of the task, as FairLAB has a model a budget."""
    num_requirements = problem.constraints.thresholds.shape[0]
    for share in options.shares:
        concentration = concentration_of(share, num_requirements)
        yield from _of_conditioned(key, problem, options, concentration, f"share={share:g} ")


def concentration_of(share: float, num_requirements: int) -> Any:
    """Of a Dirichlet distribution whose first entry, the task's, is `share` on average, the published one for others.

    The mean of an entry is its concentration over the sum of all.
    """
    of_task = _CONCENTRATION * num_requirements * share / (1.0 - share)
    return jnp.full(1 + num_requirements, _CONCENTRATION).at[0].set(of_task)


def _of_conditioned(
    key: jax.Array, problem: Problem, options: Options, concentration: Any, name: str
) -> Iterator[Point]:
    train = problem.part("train")
    num_objectives = 1 + problem.constraints.thresholds.shape[0]
    model = bx.models.mlp(train.x.shape[1] + num_objectives, (60, 25))
    adam = Partial(optax.adam, learning_rate=1e-3)
    method = bx.cosmos(model, adam, problem.constraints, concentration=concentration)
    begun = time.perf_counter()
    result = bx.fit(
        key, method, model.init(jax.random.fold_in(key, 0)), train, num_epochs=options.cosmos_epochs,
        sampler=bx.shuffled(min(256, train.y.shape[0])), record=_nothing,
    )  # fmt: skip
    params = jax.block_until_ready(result.state.params)
    about = {"seconds": time.perf_counter() - begun}
    for number, ray in enumerate(bx.preference_rays(num_objectives, options.rays)):
        scores = partial(_at_preference, model, params, ray)
        yield Point(f"{name}ray {number}", _counts_by_part(problem, scores), about)


_CONCENTRATION = 0.5
"""Of an objective in COSMOS's preferences, as published."""
_OF_START = ("hidden", "dropout", "batch_size", "learning_rate", "epochs")
_ROUNDS = ("rounds", "local_epochs")
_OF_FAIRLAB = ("minimum_count", "protocol", "budgets", "proximity_bound", "logit_scale", "minimum")
_COSMOS = ("minimum_count", "rays", "cosmos_epochs")
USED = {
    "vanilla": _OF_START,
    "ffvae": (*_OF_START, "ffvae", "ffvae_epochs"),
    "expgrad": (*_OF_START, "minimum_count", "gaps", "oracle_epochs"),
    "cosmos": _COSMOS,
    "cosmos_tuned": (*_COSMOS, "shares"),
    "fairlab": (*_OF_START, *_ROUNDS, *_OF_FAIRLAB),
}
"""The options that a method's runs depend on."""

METHODS = {
    "vanilla": of_vanilla,
    "ffvae": of_ffvae,
    "expgrad": of_expgrad,
    "cosmos": of_cosmos,
    "fairlab": of_fairlab,
    "cosmos_tuned": of_cosmos_tuned,
}
"""By name; a method's place here is part of its key."""


def _adam(options: Options) -> Partial:
    return Partial(_clipped_adam, learning_rate=options.learning_rate)


def _clipped_adam(learning_rate: float) -> optax.GradientTransformation:
    """As the follow-up code has it: the gradient's norm is clipped at 5."""
    return optax.chain(optax.clip_by_global_norm(5.0), optax.adam(learning_rate))


def _batch_size(train: bx.Batch, options: Options) -> int:
    """The one asked for, or a tenth of the rows where that is less, so that an epoch has some steps."""
    return int(min(options.batch_size, max(train.y.shape[0] // 10, 1)))


def _nothing(infos: Any) -> tuple[()]:
    return ()


def _with_features(batch: bx.Batch, x: Callable[[bx.Batch], Any] | None) -> bx.Batch:
    return batch if x is None else batch._replace(x=x(batch))


def _counts_by_part(problem: Problem, probabilities: Callable[[bx.Batch], Any]) -> dict[str, CellCounts]:
    return {name: _counts(problem, probabilities(problem.part(name)), problem.part(name)) for name in PARTS}


def _counts(problem: Problem, probabilities: Any, rows: bx.Batch) -> CellCounts:
    return cell_counts(probabilities, rows.y, rows.group, problem.num_cells)


@jax.jit
def _predictions(model: bx.Model, params: Any, rows: bx.Batch) -> Any:
    return (bx.map_blocks(lambda block: model.apply(params, block.x), rows) > 0).astype(jnp.float32)


def _decided(model: bx.Model, params: Any, rows: bx.Batch) -> Any:
    return _predictions(model, params, rows)


def _expected(result: Any, model: bx.Model, rows: bx.Batch) -> Any:
    return bx.expected_positive(result, model, rows.x)


def _drawn(key: jax.Array, result: Any, model: bx.Model, rows: bx.Batch) -> Any:
    return bx.draw_predictions(key, result, model, rows.x).astype(jnp.float32)


def _encode(networks: Any, params: Any, drop: tuple[int, ...], batch: bx.Batch) -> Any:
    return bx.fair_features(networks, params, batch.x, drop)


def _at_preference(model: bx.Model, params: Any, ray: Any, rows: bx.Batch) -> Any:
    return (bx.scores_at(model, params, rows.x, ray) > 0).astype(jnp.float32)
