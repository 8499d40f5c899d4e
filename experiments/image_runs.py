"""Runs on imbalanced images as a sweep: a trial trains a ResNet by one method from one seed, measured every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import badrjax as bx
from badrjax.functions import Static
from experiments import nash, running
from experiments.image_subsets import Subset
from experiments.nash_protocol import HyperParameters, Protocol, of_training

_TEST_BLOCK = 500
"""Test images that go through the network at a time."""


class Network(NamedTuple):
    """What `badrjax.models.resnet18` is made with."""

    image_shape: tuple[int, ...]
    width: int
    blocks: tuple[int, ...]
    convolutions: str


class Rows(NamedTuple):
    """The images of a run, on the device.

    Attributes:
        data: all images of both classes.
        train: positions of the training images, `int[m]`.
        validation: equally many of both classes.
        test: all test images of both classes.
    """

    data: bx.Batch
    train: Any
    validation: bx.Batch
    test: bx.Batch


class Measured(NamedTuple):
    """Measurements of a state on some images; all NaN once the loss is not finite.

    Attributes:
        accuracy: mean of the accuracies of the two classes, `f[]`.
        by_class: accuracy on the images of each class, `f[2]`, the common one first.
        worst: the lower of the two, `f[]`.
        gap: their difference, `f[]`.
        loss: mean cross-entropy, `f[]`.
    """

    accuracy: Any
    by_class: Any
    worst: Any
    gap: Any
    loss: Any


def to_rows(subset: Subset) -> Rows:
    """The images of a subset as device arrays."""
    dataset, splits = subset.dataset, subset.splits
    data, validation, test = (bx.to_batch(dataset, rows) for rows in (None, splits.validation, splits.test))
    return Rows(data, jnp.asarray(splits.train), validation, test)


def sweep(
    rows: Rows,
    methods: Sequence[str],
    seeds: Sequence[int],
    *,
    network: Network,
    protocol: Protocol,
    chosen: HyperParameters,
    diagnostics: int,
    store: Path | None,
    block: int,
    progress: Any = True,
) -> bx.SweepResult:
    """Every method from every seed; see `trial`.

    Args:
        rows: of `to_rows`.
        methods: keys of `nash.METHODS`.
        seeds: of initial weights and order of rows; the same for all methods, so that they are paired.
        network: the ResNet.
        protocol: see `experiments.nash_protocol`.
        chosen: hyper-parameters, with the bargaining epochs that are run.
        diagnostics: alignment is measured on every n-th batch.
        store: directory for the results of runs of all settings, each in a directory of its own; `None` keeps none.
        block: seeds side by side.
        progress: as for `badrjax.sweep`.
    """
    bx.shuffled(chosen.batch_size, "drop").check(int(rows.train.shape[0]))
    settings = (network, of_training(protocol), chosen, diagnostics)
    run = Partial(trial, settings=Static(settings), rows=rows)
    trials = bx.sweeps.grid(method=list(methods), seed=list(seeds))
    folder = None if store is None else store / fingerprint(rows, settings)
    return bx.sweep(run, trials, store=folder, block=block, progress=progress)


def fingerprint(rows: Rows, settings: Any) -> str:
    """A name for runs on the same images with the same settings."""
    told = [repr(settings), bx.results.dataset_checksum([np.asarray(leaf) for leaf in jax.tree.leaves(rows)])]
    return hashlib.sha256(" ".join(told).encode()).hexdigest()[:12]


def trial(key: jax.Array, method: str, *, settings: Static, rows: Rows) -> dict[str, Any]:
    """Train once and measure after every epoch.

    Args:
        key: of initial weights and order of rows; the same for all methods.
        method: a key of `nash.METHODS`.
        settings: the network, options of `nash_protocol.of_training`, the hyper-parameters, and how often alignment is
            measured.
        rows: to train, validate and test on.

    Returns:
        By epoch, `[E]` each: `test` and `validation`, the fields of `Measured` (`by_class` `[E, 2]`), and `steps`,
        means of what the method's steps reported.
    """
    network, options, chosen, diagnostics = settings.value
    protocol = Protocol(**dict(options))
    model = bx.models.resnet18(num_outputs=2, **network._asdict())
    made = nash.make_method(method, model, rows.validation, 2, chosen, protocol=protocol, diagnostics=diagnostics)
    evaluate = Partial(_evaluate, model, rows.validation, rows.test)
    how = {"num_epochs": chosen.num_epochs, "sampler": bx.shuffled(chosen.batch_size, "drop")}
    return running.by_epoch(running.fit_new(key, model, made, rows.data, rows.train, evaluate, **how))


def measure(model: bx.Model, images: bx.Batch, params: Any) -> Measured:
    """`Measured` of parameters on some images, of which a block at a time goes through the network."""
    size = min(_TEST_BLOCK, images.y.shape[0])
    scores = bx.map_blocks(lambda block: model.apply(params, block.x), images, block_size=size)
    losses = bx.losses.cross_entropy_of_scores(scores, images.y)
    correct = (bx.losses.binary_logits(scores) > 0) == (images.y == 1)
    by_class = bx.group_mean(correct.astype(losses.dtype), images.y, 2)
    loss = losses.mean()
    # A diverged network predicts one class for every image, which would pass for a poor but finite result.
    by_class = jnp.where(jnp.isfinite(loss), by_class, jnp.nan)
    worst = by_class.min()
    return Measured(by_class.mean(), by_class, worst, by_class.max() - worst, loss)


def _evaluate(model: bx.Model, validation: bx.Batch, test: bx.Batch, state: Any) -> dict[str, Any]:
    parts = {"validation": validation, "test": test}
    return {part: measure(model, images, state.params)._asdict() for part, images in parts.items()}
