"""The picture of the front page: Adult, with a penalty on how far groups' chances are apart, from weight 0 upwards.

All weights and seeds are one program: `jax.vmap` over a run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from matplotlib.figure import Figure

import badrjax as bx
from badrjax import plotting

WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SEEDS = 5
EPOCHS = 15
GIVEN_UP = 0.005  # of balanced accuracy on the validation rows, at most, for the weight that is shown
NAMES = ("Female", "Male")


class Measured(NamedTuple):
    """What a run is judged by: error and gap of validation and test rows, `f[]`; predictions of the test rows."""

    validation_error: Any
    validation_gap: Any
    error: Any
    gap: Any
    predicted: Any


def load() -> tuple[bx.Batch, bx.Batch, bx.Batch]:
    """Training, validation and test rows of Adult, numbers scaled by the training rows; sex is among the features."""
    adult = bx.load_dataset("adult", sensitive="sex")
    splits = bx.datasets.split(adult, "stratified", seed=0)
    adult = bx.datasets.standardise(adult, splits.train)
    return tuple(bx.to_batch(adult, rows) for rows in splits)  # type: ignore[return-value]


def run(weight: Any, seed: Any, train: bx.Batch, validation: bx.Batch, test: bx.Batch) -> Measured:
    """Train one network with one weight of the penalty, and measure it."""
    model = bx.models.mlp(train.x.shape[1], hidden=(32,))
    penalty = bx.losses.fairness(bx.objectives.squared_disparity, model, num_groups=2, metric="equal_opportunity")
    method = bx.fairbinn(
        bx.losses.cross_entropy(model), Partial(optax.adam, learning_rate=1e-3), penalty,
        labels=bx.follower_layers("output"), rule="lagrangian", fairness_weight=weight,
    )  # fmt: skip
    key = jax.random.key(seed)
    fitted = bx.fit(key, method, model.init(key), train, num_epochs=EPOCHS, sampler=bx.shuffled(512))

    def measure(rows: bx.Batch) -> tuple[Any, Any, Any]:
        predicted = (bx.losses.binary_logits(model.apply(fitted.state.params, rows.x)) > 0).astype(jnp.int32)
        gap = bx.metrics.equal_opportunity_difference(rows.y, predicted, rows.group, 2)
        return 1 - bx.metrics.balanced_accuracy(rows.y, predicted), gap, predicted

    return Measured(*measure(validation)[:2], *measure(test))


def pick(measured: Measured) -> int:
    """Place of the weight with the least mean gap on validation rows among those that give up little there."""
    error, gap = measured.validation_error.mean(axis=1), measured.validation_gap.mean(axis=1)
    return int(np.argmin(np.where(error <= error[0] + GIVEN_UP, gap, np.inf)))


def intervals(test: bx.Batch, predicted: Any) -> bx.Bootstrap:
    """True positive rates by group with 95% bootstrap intervals over the test rows."""

    def rates(weight: Any) -> Any:
        return bx.metrics.by_group(test.y, predicted, test.group, 2, weight).true_positive_rate

    return bx.bootstrap(jax.random.key(1), rates, test.y.shape[0], num_samples=500)


def draw(measured: Measured, test: bx.Batch) -> Figure:
    """Left: whom of those with an income above 50,000 dollars the model finds; right: what the penalty trades."""
    figure = Figure(figsize=(8.6, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    picked = pick(measured)
    shown = [(0, "no penalty"), (picked, f"penalty x {WEIGHTS[picked]:g}")]
    found = [intervals(test, measured.predicted[place, 0]) for place, _ in shown]
    counts = np.asarray(bx.metrics.by_group(test.y, test.y, test.group, 2).num_positive)
    stacked = [np.concatenate([getattr(each, name) for each in found]) for name in ("estimate", "low", "high")]
    floor = bx.noise_floor(jax.random.key(2), test.y, measured.predicted[0, 0], test.group, 2).equal_opportunity
    plotting.group_metrics(
        *stacked, counts=np.tile(counts, 2), names=[f"{text}: {name}" for _, text in shown for name in NAMES],
        x_label="share of those who earn more than 50,000 dollars that the model finds (95% bootstrap)", axes=left,
    )  # fmt: skip
    left.set_xticks(np.arange(0.5, 0.75, 0.05))
    left.set_title("Adult, test rows, seed 0", fontsize=10)
    draw_trade(right, measured)
    right.axhspan(0, float(floor.mean), color="0.88", lw=0, zorder=0)
    right.annotate(
        f"below the noise floor, {float(floor.mean):.3f}", (1, float(floor.mean) / 2),
        xycoords=("axes fraction", "data"), xytext=(-4, 0), textcoords="offset points", ha="right", va="center",
        fontsize=8,
    )  # fmt: skip
    right.set_title(f"{len(WEIGHTS)} weights of the penalty x {SEEDS} seeds", fontsize=10)
    return figure


def draw_trade(axes: Any, measured: Measured) -> None:
    """Error against gap, for each weight the mean of the seeds with a bar from the least to the largest."""
    for place, weight in enumerate(WEIGHTS):
        colour = plotting.COLOURS[0 if weight == 0 else 1]
        error, gap = measured.error[place], measured.gap[place]
        axes.plot([error.mean()] * 2, [gap.min(), gap.max()], color=colour, lw=1, alpha=0.6)
        axes.plot(error.mean(), gap.mean(), "o" if weight == 0 else "s", color=colour, ms=6)
        axes.annotate(
            f"x {weight:g}" if weight else "none", (error.mean(), gap.mean()),
            (-7, 0) if weight <= 1 else (7, 0), textcoords="offset points",
            ha="right" if weight <= 1 else "left", va="center", fontsize=8,
        )  # fmt: skip
    axes.plot(measured.error.mean(axis=1), measured.gap.mean(axis=1), color="0.6", lw=0.8, zorder=1)
    axes.set_xlabel("1 - balanced accuracy, test rows")
    axes.set_ylabel("gap of these shares, test rows")
    axes.set_xlim(0.205, 0.325)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def make() -> dict[str, Figure]:
    """Run and draw; prints the numbers that the page quotes."""
    parts = load()
    each = jax.vmap(jax.vmap(run, (None, 0, *[None] * 3)), (0, None, *[None] * 3))
    measured = jax.tree.map(np.asarray, jax.jit(each)(jnp.array(WEIGHTS), jnp.arange(SEEDS), *parts))
    for weight, error, gap in zip(WEIGHTS, measured.error, measured.gap, strict=True):
        print(
            f"penalty {weight:g}: balanced accuracy {1 - error.mean():.3f}, gap {gap.mean():.3f} "
            f"({gap.min():.3f} to {gap.max():.3f})"
        )
    print(f"picked on validation rows: penalty {WEIGHTS[pick(measured)]:g}")
    return {"front_page": draw(measured, parts[2])}
