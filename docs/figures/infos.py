"""Healthy and sick runs beside each other, all on the bundled data, for "Reading the infos"."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from matplotlib.figure import Figure

import badrjax as bx
from badrjax import bilevel, plotting


def rows_of(name: str, sensitive: str | tuple[str, ...], kind: str) -> tuple[bx.Batch, bx.Batch, bx.Dataset, bx.Splits]:
    """Training and validation rows of a bundled dataset, numbers scaled by the training rows."""
    dataset = bx.load_dataset(name, sensitive=sensitive)
    splits = bx.datasets.split(dataset, kind, seed=0)
    dataset = bx.datasets.standardise(dataset, splits.train)
    return bx.to_batch(dataset, splits.train), bx.to_batch(dataset, splits.validation), dataset, splits


def side_by_side(number: int = 2) -> tuple[Figure, Any]:
    """A figure with panels in a row."""
    figure = Figure(figsize=(4.3 * number, 3.3), layout="constrained")
    return figure, figure.subplots(1, number)


def learning_rates() -> dict[str, Figure]:
    """Loss by epoch at three learning rates, three seeds each."""
    train, *_ = rows_of("german", "sex", "stratified")
    model = bx.models.mlp(train.x.shape[1], hidden=(32,))

    def run(rate: Any, seed: Any) -> Any:
        method = bx.erm(bx.losses.cross_entropy(model), Partial(optax.sgd, learning_rate=rate, momentum=0.9))
        key = jax.random.key(seed)
        return bx.fit(key, method, model.init(key), train, num_epochs=40, sampler=bx.shuffled(64)).steps.loss

    rates = (0.0003, 0.03, 3.0)
    losses = np.asarray(jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(jnp.array(rates), jnp.arange(3)))
    print("loss at the last epoch:", dict(zip(rates, losses[:, :, -1].round(3).tolist(), strict=True)))
    axes = plotting.trajectory(
        {f"learning rate {rate:g}": values for rate, values in zip(rates, losses, strict=True)},
        y_label="training loss, mean of an epoch (nats)",
    )
    axes.set_yscale("log")
    axes.set_ylim(0.03, 30)
    axes.axhline(np.log(2), color="0.4", lw=0.8, ls=":")
    axes.annotate(
        "a coin, ln 2", (1, np.log(2)), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
    )
    return {"infos_learning_rate": axes.figure}


def bargains() -> dict[str, Figure]:
    """Feasible bargains and aligned batches: two groups with large batches, ten cells with small ones."""

    def run(sensitive: str, cells: str, batch_size: int) -> Any:
        train, validation, dataset, _ = rows_of("adult", sensitive, "balanced")
        train = jax.tree.map(lambda leaf: leaf[:8192], train)
        model = bx.models.mlp(train.x.shape[1], hidden=(32,))
        method = bx.nash_meta(
            bx.losses.cross_entropy(model), Partial(optax.sgd, learning_rate=0.01, momentum=0.9), validation,
            goal="learning_to_reweight", num_groups=dataset.num_groups, bargaining_epochs=10, cells=cells,
            diagnostics="step",
        )  # fmt: skip
        key = jax.random.key(0)
        return bx.fit(key, method, model.init(key), train, num_epochs=20, sampler=bx.shuffled(batch_size)).steps

    healthy, sick = run("sex", "groups", 512), run("race", "cells", 16)
    figure, axes = side_by_side()
    for panel, steps, title in zip(
        axes,
        (healthy, sick),
        ("2 players (sex), batches of 512", "10 players (race x label), batches of 16"),
        strict=True,
    ):
        shares = {"bargain has a solution": steps.feasible, "every player gains": steps.aligned}
        plotting.trajectory(shares, y_label="share of batches (0 to 1)", axes=panel)
        panel.set_ylim(-0.03, 1.03)
        panel.axvspan(0.5, 10.5, color="0.92", lw=0, zorder=0)
        panel.set_title(title, fontsize=10)
        print(title, np.nanmean(np.asarray(steps.feasible)), np.asarray(steps.aligned)[[0, 9, 10, 19]].round(2))
    return {"infos_bargain": figure}


def requirements() -> dict[str, Figure]:
    """FairLAB with a requirement that can be met, and with two that cannot be met together."""
    dataset = bx.load_dataset("adult", sensitive=("sex", "race"), min_group_rows=400)
    splits = bx.datasets.split(dataset, "stratified", seed=0)
    dataset = bx.datasets.standardise(dataset, splits.train)
    rows = {name: part[:16000] for name, part in splits._asdict().items()}
    attributes = {name: found.ids for name, found in dataset.attributes.items()}
    model = bx.models.linear(dataset.x.shape[1])
    adam = Partial(optax.adam, learning_rate=1e-2)
    bound = 30.0

    def run(asked: Any, **options: Any) -> Any:
        constraints, cells = bx.fairness_constraints(asked, attributes, dataset.y, rows=rows["train"])
        data = bx.Batch(jnp.asarray(dataset.x), jnp.asarray(dataset.y), jnp.asarray(cells.ids))
        train, validation = (
            jax.tree.map(lambda leaf, at=rows[part]: leaf[at], data) for part in ("train", "validation")
        )
        key = jax.random.key(0)
        plain = bx.fit(
            key,
            bx.erm(bx.losses.cross_entropy(model), adam),
            model.init(key),
            train,
            num_epochs=10,
            sampler=bx.shuffled(256),
        )
        method = bx.fairlab(
            model, adam, constraints, validation, rounds=30, local_epochs=5, max_multiplier=bound, patience=30,
            penalty=10.0, multiplier_step=20.0, multiplier_patience=0,
            logit_scale=2.0, score_weight=0.01,
            cell_sizes=bx.group_count(train.group, cells.num_groups), **options,
        )  # fmt: skip
        sampler = bx.group_stratified(256, minimum=4, num_groups=cells.num_groups)
        return bx.fit(key, method, plain.state.params, train, num_epochs=150, sampler=sampler).epochs

    one = [("demographic_parity", "sex", 0.05)]
    several = [("demographic_parity", "sex", 0.02), ("equalized_odds", ("sex", "race"), 0.02)]
    runs = {
        "one requirement at 0.05,\nF1 may fall by 0.1": run(one, budget=0.1),
        "two at 0.02, one on intersections,\nF1 may not fall": run(several, budget=0.0),
        "the same two,\nF1 may fall to anything": run(several, performance_bound=-jnp.inf),
    }
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for panel, (title, epochs) in zip(axes, runs.items(), strict=True):
        done = np.isfinite(np.asarray(epochs.performance))
        epochs = jax.tree.map(lambda leaf, done=done: np.asarray(leaf)[done], epochs)
        lines = {
            "largest multiplier / its bound": epochs.largest_multiplier / bound,
            "share predicted 1": epochs.positive_share,
            "worst gap, validation rows": np.nanmax(epochs.validation_gaps, axis=1),
            "F1, validation rows": epochs.performance,
        }
        for colour, style, (name, values) in zip(plotting.COLOURS, ("-", "--", "-.", ":"), lines.items(), strict=False):
            panel.plot(np.arange(1, 1 + len(values)), values, style, color=colour, label=name, lw=1.4)
        panel.set_ylim(-0.03, 1.03)
        panel.set_title(title, fontsize=9.5)
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.3)
        last = jax.tree.map(lambda leaf: leaf[-1], epochs)
        print(
            f"{title!r}: at bound {last.num_at_bound} (most {epochs.num_at_bound.max()}), "
            f"violated {last.num_violated}, gaps of the kept model {last.best_gaps.round(3)}, "
            f"share {last.positive_share:.3f}, F1 {last.performance:.3f}"
        )
    axes[0].set_ylabel("0 to 1")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return {"infos_requirements": figure}


def adjoints() -> dict[str, Figure]:
    """BADR on German Credit: the adjoint residual with step sizes from the curvature, and with one too small."""
    train, _, dataset, _ = rows_of("german", ("sex", "age"), "stratified")
    model = bx.models.linear(train.x.shape[1])
    groups = dataset.num_groups
    problem = bilevel.problem(model, train, num_groups=groups, objective="variance", regularisation=0.01)
    params = model.init(jax.random.key(0))
    exact = bilevel.minimise_over_simplex(problem, params)
    healthy, start = bx.badr_setup(problem, params)
    slow = bx.badr(
        problem.losses, Partial(optax.sgd, learning_rate=1e-3), problem.objective, num_groups=groups, data=problem.data,
        regularisation=problem.regularisation,
    )  # fmt: skip
    figure, axes = side_by_side()
    for colour, (method, first, name) in zip(
        plotting.COLOURS,
        ((healthy, start, "steps 1 / L, started at the solution"), (slow, params, "steps of 0.001, started anywhere")),
        strict=False,
    ):
        run = bx.fit(jax.random.key(0), method, first, train, num_epochs=3000, sampler=bx.full_batch())
        residual, weights = np.asarray(run.steps.adjoint_residual), np.asarray(run.steps.weights)
        axes[0].plot(residual, lw=1, color=colour, label=name)
        distance = np.abs(weights - np.asarray(exact.weights)).sum(axis=1)
        axes[1].plot(distance, lw=1.4, color=colour)
        print(
            name,
            "residual",
            residual[[0, -1]],
            "weight",
            weights[-1],
            "exact",
            exact.weights,
            bx.explain(run.steps.status[-1].astype(int)),
        )
    axes[0].set_yscale("log")
    axes[0].set_ylabel("adjoint residual, relative")
    axes[1].set_ylabel("L1 distance to the exact weights")
    for panel in axes:
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=8, loc="lower left")
    return {"infos_adjoint": figure}


PARTS = {"learning_rates": learning_rates, "bargains": bargains, "requirements": requirements, "adjoints": adjoints}
