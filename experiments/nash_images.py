"""One-stage against two-stage meta-learning of a ResNet-18 on two classes of images, one of them rare.

Prints a table of test accuracy, its spread over seeds and the accuracy of the worst class, one stage beside two, and
writes `results.csv`, `provenance.json` and a figure of accuracy over epochs. The paper prints no numbers for this
experiment: it claims that two stages end higher and vary less.

All runs are rows of one sweep and are kept as they finish, so a call that was stopped is gone on with by repeating it.

What the paper does not say is an option here. The two classes are the first two of each dataset unless `--classes`
names others. The groups are the classes, so each bargains for its own validation loss, and bargaining over group x
label cells, which the published code does, is the same thing. The validation loss is cross-entropy, with the smooth F1
term under the protocol `code`. Images are neither cropped nor mirrored at random; each colour is brought to mean 0 and
deviation 1. Batch normalisation is replaced by group normalisation, see `badrjax.models.resnet18`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
from rich.console import Console

import badrjax as bx
from badrjax import results
from badrjax.checks import unknown_name
from experiments import image_reports, image_runs, image_subsets, nash, nash_protocol, pages, running


class Size(NamedTuple):
    """What `--quick` reduces."""

    train_size: int
    epochs: int
    bargaining_epochs: int
    batch_size: int
    width: int
    blocks: tuple[int, ...]
    learning_rate: float
    seeds: tuple[int, ...]


RESNET18 = (2, 2, 2, 2)
FULL = {
    "cifar10": Size(5000, 100, 30, 128, 64, RESNET18, 5e-4, (0, 1, 2, 3, 4)),
    "cifar100": Size(500, 100, 30, 128, 64, RESNET18, 5e-4, (0, 1, 2, 3, 4)),
}
"""The paper's; its number of seeds is not known."""
QUICK = {
    "cifar10": Size(600, 10, 3, 32, 8, (1, 1, 1, 1), 5e-3, (0, 1, 2)),
    "cifar100": Size(300, 10, 3, 32, 8, (1, 1, 1, 1), 5e-3, (0, 1, 2)),
}
SHARES = {"cifar10": 0.99, "cifar100": 0.95}
VALIDATION_PER_CLASS = 5
_TITLES = {
    "train_size": "training images",
    "epochs": "epochs",
    "bargaining_epochs": "bargaining epochs",
    "batch_size": "images a batch",
    "width": "width",
    "blocks": "residual blocks",
    "learning_rate": "learning rate",
    "majority_share": "share of the common class",
    "validation_per_class": "validation images of each class",
}
WITHOUT_EFFECT = {
    "cells": "every group has one label",
    "auc": "accuracies are reported",
    "hyper_parameters": "they are options of their own",
    "lookahead_dropout": "the network has no dropout",
    "validation_dropout": "the network has no dropout",
}
"""Options of the protocol that change nothing here, and why."""


@dataclass(frozen=True)
class Settings:
    """One-stage against two-stage meta-learning of a ResNet-18 on two classes of images, one of them rare."""

    dataset: Literal["cifar10", "cifar100"] = "cifar10"
    """Which images."""
    classes: tuple[str, str] | None = None
    """The common and the rare class, by name or number; airplane and automobile, or apple and aquarium_fish."""
    majority_share: float | None = None
    """Share of the common class among the training images; 0.99, or 0.95 for cifar100."""
    train_size: int | None = None
    """Training images; 5000, or 500 for cifar100. Where the files hold too few, as many as they allow."""
    validation_per_class: int = VALIDATION_PER_CLASS
    """Validation images of each class."""
    split_seed: int = 0
    """Seed of the draw of training and validation images, which all runs share."""
    methods: tuple[str, ...] = tuple(name for name in nash.METHODS if name != "dro")
    """Which methods."""
    seeds: tuple[int, ...] | None = None
    """Seeds of initial weights and order of images; 0 to 4."""
    epochs: int | None = None
    """Epochs; 100."""
    bargaining_epochs: int | None = None
    """How many of them the methods of two stages bargain; 30."""
    batch_size: int | None = None
    """Images a batch; 128."""
    width: int | None = None
    """Channels of the network's first stage; 64."""
    blocks: tuple[int, ...] | None = None
    """Residual blocks of each stage; 2 2 2 2, which makes it ResNet-18."""
    learning_rate: float | None = None
    """Of SGD with momentum 0.9 and weight decay 5e-4; 5e-4."""
    protocol: Literal["paper", "code"] = "paper"
    """What the paper's text and its published code do differently; see experiments/nash_protocol.py."""
    changes: tuple[str, ...] = ()
    """Options of the protocol to change, each as option=value, such as lookahead=optimizer."""
    diagnostics: int = 8
    """Measure alignment on every n-th batch."""
    quick: bool = False
    """Sizes for about ten minutes on two cores in place of the paper's, wherever none is given: fewer images, epochs
    and seeds, a narrower network of half the blocks, and a learning rate ten times larger for the few steps left."""
    out: Path = field(default_factory=lambda: Path("outputs/nash_images"))
    """Directory for report.html, results.csv, provenance.json and the figure."""
    store: Path | None = None
    """Directory that keeps finished runs, so that another call goes on where one ended; OUT/store if not given."""
    block: int = 1
    """Seeds side by side; more than one needs a large accelerator."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Run the sweep, print the table, write the files, and return the tidy frame."""
    size, protocol = sizes(settings), protocol_of(settings)
    check(settings, size)
    console = running.begin(settings, console)
    subset = image_subsets.load(
        settings.dataset,
        settings.classes,
        majority_share=majority_share(settings),
        train_size=size.train_size,
        validation_per_class=settings.validation_per_class,
        seed=settings.split_seed,
        data_home=settings.data_home,
    )
    chosen = hyper_parameters(size, protocol)
    _describe(console, settings, size, chosen, subset)
    fitted = subset.splits.train if protocol.scaling == "train" else None
    dataset = image_subsets.standardise_channels(subset.dataset, fitted)
    network = network_of(size, dataset)
    runs = image_runs.sweep(
        image_runs.to_rows(subset._replace(dataset=dataset)),
        settings.methods,
        size.seeds,
        network=network,
        protocol=protocol,
        chosen=chosen,
        diagnostics=settings.diagnostics,
        store=settings.store or settings.out / "store",
        block=settings.block,
    )
    frame = tidy(runs, settings.dataset)
    origin = results.provenance(
        settings=asdict(settings)
        | {"size": size._asdict(), "protocol_options": asdict(protocol), "hyper_parameters": chosen._asdict()}
        | {"network": network._asdict(), "classes_used": dataset.group_names}
        | {"train_wanted": subset.wanted, "train_taken": subset.taken},
        data={settings.dataset: results.dataset_checksum([dataset.x, dataset.y, *subset.splits])},
    )
    written = [results.write_results(frame, origin, settings.out), settings.out / "provenance.json"]
    shown = image_reports.table(frame, protocol.epoch)
    console.print(shown)
    figures = _figures(settings, frame, chosen.bargaining_epochs, dataset)
    for drawn in figures.values():
        written.append(settings.out / "accuracy.png")
        drawn.savefig(written[-1], dpi=150)
    written.append(pages.write(settings, shown, figures=figures))
    console.print("wrote " + ", ".join(map(str, written)))
    return frame


def sizes(settings: Settings) -> Size:
    """The sizes that are run: what was given, and the paper's or the quick ones elsewhere."""
    size = (QUICK if settings.quick else FULL)[settings.dataset]
    given = {name: getattr(settings, name) for name in Size._fields}
    size = size._replace(**{name: value for name, value in given.items() if value is not None})
    if settings.bargaining_epochs is None:  # the default cannot outlast fewer epochs
        size = size._replace(bargaining_epochs=min(size.bargaining_epochs, size.epochs))
    return size


def majority_share(settings: Settings) -> float:
    """Share of the common class that is asked for: what was given, or the paper's."""
    return SHARES[settings.dataset] if settings.majority_share is None else settings.majority_share


def protocol_of(settings: Settings) -> nash_protocol.Protocol:
    """The protocol that is run; each group has one label only, so groups bargain rather than group x label cells."""
    return replace(nash_protocol.changed(settings.protocol, settings.changes), cells="groups")


def hyper_parameters(size: Size, protocol: nash_protocol.Protocol) -> nash_protocol.HyperParameters:
    """Those of the paper's image experiment, with the bargaining epochs that are run."""
    return nash_protocol.HyperParameters(
        learning_rate=size.learning_rate,
        dropout=0.0,
        batch_size=size.batch_size,
        num_epochs=size.epochs,
        bargaining_epochs=max(size.bargaining_epochs - protocol.one_epoch_fewer, 0),
    )


def network_of(size: Size, dataset: bx.Dataset) -> image_runs.Network:
    """The ResNet, with the convolutions that the device at hand is fast at."""
    how = "patches" if jax.default_backend() == "cpu" else "direct"
    return image_runs.Network(dataset.feature_shape, size.width, tuple(size.blocks), how)


def tidy(runs: bx.SweepResult, dataset: str) -> pd.DataFrame:
    """One value a row: every measurement of every epoch, seed and method."""
    parts = []
    for row in runs.frame().to_dict("records"):
        for name in runs.metrics:
            if row[name] is None:  # not measured by this method
                continue
            for metric, values in _columns(name, np.asarray(row[name], float)):
                epochs = np.arange(1, values.size + 1)
                told = {"method": row["method"], "metric": metric, "seed": row["seed"]}
                parts.append(pd.DataFrame(told | {"epoch": epochs, "value": values}))
    frame = pd.concat(parts, ignore_index=True)
    frame.insert(0, "paper", "nash_meta_learning")
    frame.insert(1, "table", "images")
    frame.insert(2, "dataset", dataset)
    return frame


def _columns(name: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    metric = name.removeprefix("steps.").replace(".", "_")
    if values.ndim == 1:
        return [(metric, values)]
    return [(f"{metric}_{k}", values[:, k]) for k in range(values.shape[1])]


def _describe(
    console: Console,
    settings: Settings,
    size: Size,
    chosen: nash_protocol.HyperParameters,
    subset: image_subsets.Subset,
) -> None:
    console.print(image_subsets.describe(subset))
    blocks = " ".join(map(str, size.blocks))
    changes = f" with {', '.join(settings.changes)}" if settings.changes else ""
    console.print(
        f"{size.epochs} epochs, {chosen.bargaining_epochs} of them bargaining, batches of {size.batch_size}, width "
        f"{size.width}, residual blocks {blocks}, learning rate {size.learning_rate:g}, seeds {list(size.seeds)}, "
        f"protocol {settings.protocol}{changes}"
    )
    other = not_the_papers(settings, size._replace(train_size=sum(subset.taken)))
    if other:
        console.print(f"Not the paper's size, so no check of its claims: {'; '.join(other)}.")


def not_the_papers(settings: Settings, run: Size) -> list[str]:
    """What is run otherwise than in the paper, each with the paper's number."""
    given = {"majority_share": majority_share(settings), "validation_per_class": settings.validation_per_class}
    theirs = {"majority_share": SHARES[settings.dataset], "validation_per_class": VALIDATION_PER_CLASS}
    ours, theirs = run._asdict() | given, FULL[settings.dataset]._asdict() | theirs
    return [
        f"{title} {ours[name]}, not {theirs[name]}" for name, title in _TITLES.items() if ours[name] != theirs[name]
    ]


def _figures(settings: Settings, frame: pd.DataFrame, bargaining_epochs: int, dataset: bx.Dataset) -> dict[str, Any]:
    """The figure by its caption, where any method with a goal was run."""
    drawn = image_reports.figure(
        frame,
        bargaining_epochs=bargaining_epochs,
        title=f"{settings.dataset}, {' and '.join(dataset.group_names)}, {frame.seed.nunique()} seeds",
    )
    return {} if drawn is None else {"Accuracy on the test images over epochs; bargaining is shaded": drawn}


def check(settings: Settings, size: Size) -> None:
    """Raise `ValueError` for settings that cannot be run, before any work."""
    for name in settings.methods:
        if name not in nash.METHODS:
            raise unknown_name("method", name, nash.METHODS)
    if not settings.methods or len(set(settings.methods)) < len(settings.methods):
        raise ValueError(f"methods must name at least one, each once, got {list(settings.methods)}")
    running.check_seeds(size.seeds)
    for change in settings.changes:
        name = change.partition("=")[0]
        if name in WITHOUT_EFFECT:
            raise ValueError(f"changes of {name} have no effect here: {WITHOUT_EFFECT[name]}")
    sized = {name: getattr(size, name) for name in ("epochs", "batch_size", "width")}
    given = {name: getattr(settings, name) for name in ("validation_per_class", "diagnostics", "block")}
    for name, number in (sized | given).items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not size.blocks or min(size.blocks) < 1:
        raise ValueError(f"blocks must be numbers of at least 1, one a stage, got {list(size.blocks)}")
    if not 0 <= size.bargaining_epochs <= size.epochs:
        raise ValueError(
            f"bargaining_epochs must lie between 0 and the {size.epochs} epochs, got {size.bargaining_epochs}"
        )
    if size.train_size < 2:
        raise ValueError(f"train_size must be at least 2, got {size.train_size}")
    share = settings.majority_share
    if share is not None and not 0.5 <= share < 1:
        raise ValueError(f"majority_share must lie in [0.5, 1), got {share}")
    if not 0 < size.learning_rate < np.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {size.learning_rate}")
    if settings.split_seed < 0:
        raise ValueError(f"split_seed must not be negative, got {settings.split_seed}")
