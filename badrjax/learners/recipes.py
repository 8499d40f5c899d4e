"""How each method is fitted to a table: data, model, method and run put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array

from badrjax import bilevel, losses, methods
from badrjax.batches import Batch
from badrjax.constraints import fairness_constraints
from badrjax.groups import group_count
from badrjax.learners.rows import Rows, balanced_holdout, stratified_holdout
from badrjax.learners.settings import META, Settings, score_objective
from badrjax.models import Model, linear, mlp, mlp_with_fairness
from badrjax.reductions import ExpGradResult, expgrad
from badrjax.samplers import Sampler, full_batch, group_balanced, group_stratified, shuffled
from badrjax.status import explain
from badrjax.training import fit

FEWEST_STEPS, FEWEST_EPOCHS = 1000, 30
_BADR_ITERATIONS = 300
_BARGAINING_SHARE = 0.3  # of the epochs, as in the published protocol (15 of 50)
_FAIRLAB_ROUNDS = 15


class Fitted(NamedTuple):
    """A model with what training left.

    Attributes:
        params: of the model.
        mixture: probabilities and constants of a randomised predictor, whose `params` are stacked; else `None`.
        info: numbers of the run by name, for a person to read.
        history: by name, `f[T, ...]` over epochs or iterations.
        labels: names along the last axis of a history, by its name.
    """

    params: Any
    mixture: tuple[Array, Array] | None = None
    info: Mapping[str, Any] = {}
    history: Mapping[str, np.ndarray] = {}
    labels: Mapping[str, tuple[str, ...]] = {}


def build_model(settings: Settings, num_features: int) -> Model:
    """The model of the settings for some number of features."""
    if settings.model == "linear":
        return linear(num_features)
    if settings.method == "fairbinn":
        return mlp_with_fairness(num_features, settings.hidden, settings.hidden[-1:])
    return mlp(num_features, settings.hidden)


def fit_rows(key: Array, rows: Rows, settings: Settings) -> Fitted:
    """Fit the method of the settings.

    Args:
        key: a typed key, consumed.
        rows: checked, features standardised.
        settings: see `badrjax.learners.settings.checked`.

    Returns:
        `Fitted`.

    Raises:
        ValueError: for rows that the method cannot use (a group without rows, too few to hold out), and where what
            was fitted is not finite.
    """
    fitted = _RECIPES[settings.method](key, rows, settings, build_model(settings, rows.x.shape[1]))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted.params)):
        raise ValueError(
            f"training by {settings.method!r} diverged: parameters are not finite; lower learning_rate, or look for "
            "features with extreme values"
        )
    return fitted


def _loss(model: Model, settings: Settings) -> Any:
    return losses.cross_entropy(model) if settings.task == "classification" else losses.squared(model)


def _adam(settings: Settings) -> Partial:
    default = 1e-2 if settings.model == "linear" else 1e-3
    return Partial(optax.adam, learning_rate=settings.learning_rate or default)


def _epochs(settings: Settings, steps_an_epoch: int) -> int:
    return settings.num_epochs or max(FEWEST_EPOCHS, -(-FEWEST_STEPS // steps_an_epoch))


def _run(
    key: Array, method: Any, model: Model, data: Batch, settings: Settings, sampler: Sampler | None = None
) -> tuple[Any, Any]:
    """The result of `fit` from new parameters, and the epochs it had."""
    sampler = sampler or shuffled(min(settings.batch_size, data.y.shape[0]))
    epochs = _epochs(settings, sampler.num_steps(data.y.shape[0]))
    init_key, fit_key = jax.random.split(key)
    return fit(fit_key, method, model.init(init_key), data, num_epochs=epochs, sampler=sampler), epochs


def _losses_of(result: Any) -> dict[str, np.ndarray]:
    return {"training loss": np.asarray(result.steps.loss)}


def _plain(key: Array, rows: Rows, settings: Settings, model: Model) -> Fitted:
    factory = getattr(methods, settings.method)
    method = factory(_loss(model, settings), _adam(settings), **settings.options)
    result, epochs = _run(key, method, model, rows.batch(), settings)
    return Fitted(result.state.params, info={"epochs": epochs}, history=_losses_of(result))


def _group_dro(key: Array, rows: Rows, settings: Settings, model: Model) -> Fitted:
    num_groups = rows.groups.num_groups
    data = rows.batch()
    sizes = group_count(data.group, num_groups, data.weight) if "adjustment" in settings.options else None
    method = methods.group_dro(
        _loss(model, settings), _adam(settings), num_groups=num_groups, group_sizes=sizes, **settings.options
    )
    size = max(min(settings.batch_size, rows.y.shape[0]), num_groups)
    result, epochs = _run(key, method, model, data, settings, group_balanced(size, num_groups))
    history = _losses_of(result) | {"group weights": np.asarray(result.steps.group_weights)}
    return Fitted(result.state.params, None, {"epochs": epochs}, history, {"group weights": rows.groups.names})


def _meta(key: Array, rows: Rows, settings: Settings, model: Model) -> Fitted:
    train, held = balanced_holdout(rows, settings)
    data, validation = rows.batch(train), rows.batch(held)
    sampler = shuffled(min(settings.batch_size, train.size))
    options = dict(settings.options)
    if settings.method == "nash_meta":
        epochs = _epochs(settings, sampler.num_steps(train.size))
        options = {"bargaining_epochs": round(_BARGAINING_SHARE * epochs)} | options
    # The derivative of the first step is taken, which adaptive optimisers lack.
    sgd = Partial(optax.sgd, learning_rate=settings.learning_rate or 1e-2, momentum=0.9)
    factory = getattr(methods, settings.method)
    method = factory(_loss(model, settings), sgd, validation, num_groups=rows.groups.num_groups, **options)
    result, epochs = _run(key, method, model, data, settings, sampler)
    history = _losses_of(result) | {"batches with every group aligned": np.asarray(result.steps.aligned)}
    info = {"epochs": epochs, "rows that steer": held.size} | options
    return Fitted(result.state.params, None, info, history)


def badr_problem(rows: Rows, settings: Settings, model: Model) -> bilevel.Problem:
    """The bilevel problem that `badr` is fitted on.

    Returns:
        See `badrjax.bilevel.problem`, whose errors it raises.
    """
    numbers = {name: settings.options[name] for name in ("sharpness", "variant") if name in settings.options}
    return bilevel.problem(
        model, rows.batch(), num_groups=rows.groups.num_groups,
        loss="logistic" if settings.task == "classification" else "squared",
        objective=settings.objective or "", regularisation=settings.options.get("regularisation", 1e-3), **numbers,
    )  # fmt: skip


def _badr(key: Array, rows: Rows, settings: Settings, model: Model) -> Fitted:
    problem = badr_problem(rows, settings, model)
    fitted = (_badr_exactly if problem.linear else _badr_in_a_single_loop)(key, problem, rows, settings, model)
    weights = dict(zip(rows.groups.names, fitted.info["weights"], strict=True))
    info = {name: value for name, value in fitted.info.items() if name != "weights"}
    return fitted._replace(info=info | {f"weight of {name}": float(weight) for name, weight in weights.items()})


def _badr_exactly(key: Array, problem: bilevel.Problem, rows: Rows, settings: Settings, model: Model) -> Fitted:
    """The best of two searches over the simplex, from equal weights and from the groups' shares."""
    num_groups = problem.num_groups
    equal = jnp.full(num_groups, 1 / num_groups)
    shares = group_count(problem.data.group, num_groups, problem.data.weight)
    starts = jnp.stack([equal, 0.99 * shares / shares.sum() + 0.01 * equal])
    found = jax.jit(bilevel.multi_start)(problem, model.init(key), starts)
    start = jax.jit(bilevel.pareto_path)(problem, starts, model.init(key)).evaluations.value
    info = {
        "objective on training rows": float(found.best.value),
        "objective at equal weights": float(start[0]),
        "objective at the groups' shares": float(start[1]),
        "search": explain(found.best.info.status),
        "weights": found.best.weights,
    }
    return Fitted(found.best.params, None, info)


def _badr_in_a_single_loop(
    key: Array, problem: bilevel.Problem, rows: Rows, settings: Settings, model: Model
) -> Fitted:
    init_key, fit_key = jax.random.split(key)
    iterations = settings.num_epochs or _BADR_ITERATIONS
    rate = Partial(optax.sgd, learning_rate=settings.learning_rate or 0.1)
    options = {n: v for n, v in settings.options.items() if n not in ("sharpness", "variant", "regularisation")}
    options = {"damping": 0.1} | options
    method = methods.badr(
        problem.losses, rate, problem.objective, num_groups=problem.num_groups, data=problem.data,
        regularisation=problem.regularisation, adjoint_optimizer=rate, **options,
    )  # fmt: skip
    result = fit(fit_key, method, model.init(init_key), problem.data, num_epochs=iterations, sampler=full_batch())
    history = {
        "training loss": np.asarray(result.steps.loss),
        "objective": np.asarray(result.steps.objective),
        "group weights": np.asarray(result.steps.weights),
    }
    info = {"iterations": iterations, "weights": result.state.weights}
    return Fitted(result.state.params, None, info, history, {"group weights": rows.groups.names})


def _fairlab(key: Array, rows: Rows, settings: Settings, model: Model) -> Fitted:
    train, held = stratified_holdout(rows, settings)
    constrained = fairness_constraints(settings.constraints, rows.attributes, rows.y, rows=train, small="drop")
    num_cells, cells = constrained.cells.num_groups, constrained.cells.ids
    data, validation = rows.batch(train, cells), rows.batch(held, cells)
    start_key, run_key = jax.random.split(key)
    options: dict[str, Any] = {"rounds": _FAIRLAB_ROUNDS, "local_epochs": 10, **settings.options}
    start = _plain(start_key, _take(rows, train), settings._replace(method="erm", options={}), model)
    method = methods.fairlab(
        model, _adam(settings), constrained.constraints, validation,
        cell_sizes=group_count(data.group, num_cells, data.weight), **options,
    )  # fmt: skip
    size = max(min(settings.batch_size, train.size), num_cells + 1)
    sampler = group_stratified(size, max(1, min(4, (size - 1) // num_cells)), num_cells)
    result = fit(
        run_key, method, start.params, data, num_epochs=options["rounds"] * options["local_epochs"], sampler=sampler
    )
    ran = np.isfinite(np.asarray(result.epochs.performance))
    largest = np.asarray(result.epochs.largest_multiplier)[ran]
    info = {
        "rounds": int(result.state.round), "epochs": int(ran.sum()), "rows that steer": held.size,
        "largest multiplier": float(np.nanmax(largest, initial=0.0)), **_left_out(constrained),
    }  # fmt: skip
    history = {"training loss": np.asarray(result.steps.loss)[ran], "largest multiplier": largest}
    return Fitted(result.state.params, None, info, history)


def _fairbinn(key: Array, rows: Rows, settings: Settings, model: Model) -> Fitted:
    objective = settings.objective
    assert objective is not None
    of_pairs = {"demographic_parity", "equal_opportunity", "equalized_odds"}
    if isinstance(objective, str) and objective in of_pairs:
        named = losses.fairness(
            score_objective("squared_disparity"), model, num_groups=rows.groups.num_groups, metric=objective
        )
    else:
        named = losses.fairness(score_objective(objective), model, num_groups=rows.groups.num_groups)
    # As the published code runs, with the fairness layers as fast as the others.
    options: dict[str, Any] = {"rule": "accumulated", **settings.options}
    method = methods.fairbinn(_loss(model, settings), _adam(settings), named, **options)
    result, epochs = _run(key, method, model, rows.batch(), settings)
    history = _losses_of(result) | {"fairness loss": np.asarray(result.steps.fairness)}
    return Fitted(result.state.params, None, {"epochs": epochs} | options, history)


def _expgrad(key: Array, rows: Rows, settings: Settings, model: Model) -> Fitted:
    (requirement,) = settings.constraints
    constrained = fairness_constraints(settings.constraints, rows.attributes, rows.y, small="drop")
    group = np.asarray(constrained.constraints.partitions[0])[constrained.cells.ids]
    # Rows of groups that were dropped are in no constraint, and fairlearn knows no such rows.
    inside = np.flatnonzero(group >= 0)
    found: ExpGradResult = expgrad(
        key, model, rows.batch(inside, group), constraint=requirement.metric, gap=requirement.threshold,
        optimizer=_adam(settings), num_epochs=settings.num_epochs or 10,
        sampler=shuffled(min(settings.batch_size, inside.size)), **settings.options,
    )  # fmt: skip
    info = {
        "models in the mixture": len(found.probabilities), "models trained": found.num_oracle_calls,
        **_left_out(constrained),
    }  # fmt: skip
    return Fitted(found.params, (found.probabilities, found.constants), info)


def _left_out(constrained: Any) -> dict[str, str]:
    names = constrained.constraints.left_out
    return {"groups in no constraint, for want of training rows": ", ".join(names)} if names else {}


def _take(rows: Rows, chosen: np.ndarray) -> Rows:
    groups = rows.groups._replace(ids=rows.groups.ids[chosen])
    weight = None if rows.weight is None else rows.weight[chosen]
    return Rows(rows.x[chosen], rows.y[chosen], groups, {}, weight)


_RECIPES: dict[str, Callable[..., Fitted]] = {
    "erm": _plain,
    "dro": _plain,
    "group_dro": _group_dro,
    **dict.fromkeys(META, _meta),
    "badr": _badr,
    "fairlab": _fairlab,
    "fairbinn": _fairbinn,
    "expgrad": _expgrad,
}
