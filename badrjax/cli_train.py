"""The command line of one model: `badrjax train data.csv`, `badrjax predict run/ new.csv`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from badrjax import learners
from badrjax.cli_sweep import compilation_cache
from badrjax.constraints import Requirement
from badrjax.datasets import Dataset, drop_small_groups, merge_small_groups, take
from badrjax.datasets.encodings import Encoding, encode_file, encoding_of
from badrjax.datasets.own_files import dataset_of, read_own_file
from badrjax.extras import require
from badrjax.learners.fronts import trade_off
from badrjax.learners.measures import FEWEST, Gap, measure, partitions_of_dataset
from badrjax.learners.report import front_rows, groups_rows, page, sensitive_columns
from badrjax.learners.rows import held_out
from badrjax.learners.saving import ABOUT, ARRAYS
from badrjax.learners.settings import METHODS, MODELS, TASKS, Task, checked
from badrjax.learners.trained import check_attributes
from badrjax.reports import write_page
from badrjax.results import provenance
from badrjax.results.recording import write_atomically

_CONSTRAINT = re.compile(r"\s*(\w+)\s*:(.+)<=\s*([0-9.eE+-]+)\s*")
_FEWEST_ROWS = 20  # to measure on
_FILES = (ARRAYS, "report.html", "groups.csv", "front.csv", "provenance.json")


def add_to(commands: Any) -> None:
    """Add the commands `train` and `predict` to those of a parser (`argparse.ArgumentParser.add_subparsers`)."""
    _add_train(commands)
    predict = commands.add_parser(
        "predict",
        help="use what `badrjax train` kept on other rows",
        description="Predictions for the rows of a CSV or Parquet file with the columns that the model was trained "
        "with; others, such as the label, are passed over. Rows with values the model does not know are refused.",
    )
    predict.add_argument("directory", type=Path, metavar="RUN", help="directory that `badrjax train --out` wrote")
    predict.add_argument("file", type=Path, metavar="FILE", help="new rows, .csv, .csv.gz or .parquet")
    predict.add_argument("--out", type=Path, metavar="FILE.csv", help="where predictions go; else to the terminal")
    predict.set_defaults(run=_predict)


def _add_train(commands: Any) -> None:
    methods = "; ".join(f"{name}: {about.summary}" for name, about in METHODS.items())
    train = commands.add_parser(
        "train",
        help="fit a method to a file of your own, with a report by group",
        description="Fit a method to the rows of a CSV or Parquet file, keep the model, and write a report of accuracy "
        "and gaps by group and intersection on rows held out. Methods: " + methods + ".",
    )
    train.add_argument("file", type=Path, metavar="FILE", help="rows with a header, .csv, .csv.gz or .parquet")
    train.add_argument("--label", required=True, metavar="COLUMN", help="what to predict")
    train.add_argument("--sensitive", required=True, nargs="+", metavar="COLUMN", help="that make the groups")
    train.add_argument("--favourable", metavar="VALUE", help="of the label: what becomes class 1, where not 1")
    train.add_argument(
        "--task",
        choices=TASKS,
        help="regression for labels that are whole numbers; else it follows",
    )
    train.add_argument("--drop-sensitive", action="store_true", help="leave these columns out of the features")
    train.add_argument("--min-group-rows", type=int, metavar="N", help="drop the rows of groups with fewer")
    train.add_argument("--num-groups", type=int, metavar="K", help="merge the smallest groups until K remain")
    train.add_argument("--method", default="erm", choices=METHODS, metavar="METHOD", help="see above; erm if left out")
    train.add_argument("--objective", metavar="NAME", help="of badr and fairbinn, such as equalized_odds")
    train.add_argument(
        "--constraint", action="append", default=[], metavar="'METRIC:ATTRIBUTES<=GAP'",
        help="of fairlab and expgrad, such as 'demographic_parity:sex*race<=0.1'; may be repeated",
    )  # fmt: skip
    train.add_argument(
        "--option", "-o", action="append", default=[], metavar="NAME=VALUE", help="of the method, such as budget=0.1"
    )
    train.add_argument("--model", choices=MODELS, help="linear, but for fairbinn")
    train.add_argument("--hidden", default="64,32", metavar="WIDTHS", help="of a perceptron, such as 64,32")
    train.add_argument("--epochs", type=int, metavar="N", help="passes over the rows; enough where it is left out")
    train.add_argument("--learning-rate", type=float, metavar="RATE")
    train.add_argument("--batch-size", type=int, default=256, metavar="ROWS")
    train.add_argument("--test-fraction", type=float, default=0.25, metavar="SHARE", help="of rows held out to measure")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of the split, initial weights and order")
    train.add_argument("--no-front", action="store_true", help="leave out the trade-off front, which fits again")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the model and its report go")
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    require("safetensors.numpy", "keeping a model")
    require("matplotlib.figure", "a report")
    chosen = _chosen(options)
    if not 0 < options.test_fraction < 1:
        raise ValueError(f"--test-fraction must lie in (0, 1), got {options.test_fraction}")
    own = _read(options)
    task: Task = "classification" if np.issubdtype(own.dataset.y.dtype, np.integer) else "regression"
    check_attributes(checked(task, options.method, **chosen), own.dataset)
    training, reported = take(own.dataset, own.train), take(own.dataset, own.test)
    _prepare(options.out)
    with compilation_cache():
        print(f"{options.method}: {len(training.y):,} rows to train on, {len(reported.y):,} to measure on")
        trained = learners.train(training, method=options.method, encoding=own.encoding, **chosen)
        _clear(options.out)
        learners.save(trained, options.out)  # first of all, so that nothing that follows can lose it
        predicted = learners.predictions(trained, reported.x)
        key = jax.random.fold_in(jax.random.key(options.seed), 2)
        measures = measure(key, task, reported.y, predicted, partitions_of_dataset(reported))
        points = [] if options.no_front else trade_off(trained, training, reported, method=options.method, **chosen)
    _write(options, own.dataset, training, trained, measures, points)
    return 0


class _Own(NamedTuple):
    """A file of one's own: its dataset, how columns became features, and positions of both parts' rows."""

    dataset: Dataset
    encoding: Encoding
    train: np.ndarray
    test: np.ndarray


def _read(options: argparse.Namespace) -> _Own:
    file = read_own_file(options.file, options.label)
    attributes = _attribute_names(options.sensitive, [str(name) for name in file.frame.columns])
    if options.task == "regression":
        file = file._replace(frame=_with_targets(file.frame, options))
    dataset = dataset_of(file, options.label, attributes, options.favourable, options.drop_sensitive)
    found = "classification" if np.issubdtype(dataset.y.dtype, np.integer) else "regression"
    if options.task not in (None, found):
        raise ValueError(f"label {options.label!r} makes a {found} of it, and --task {options.task} was asked for")
    counts = np.bincount(dataset.group, minlength=dataset.num_groups)
    kept = np.flatnonzero(counts[dataset.group] >= (options.min_group_rows or 0))
    if options.min_group_rows is not None:
        dataset = drop_small_groups(dataset, options.min_group_rows)
    if options.num_groups is not None:
        dataset = merge_small_groups(dataset, options.num_groups)
    train, test = held_out(dataset, options.test_fraction, options.seed)
    if test.size < _FEWEST_ROWS:
        raise ValueError(
            f"{file.where} leaves {test.size} rows to measure on, too few to say anything; {_FEWEST_ROWS} are needed: "
            "raise --test-fraction, or find more rows"
        )
    left_out = [options.label, *(attributes if options.drop_sensitive else ())]
    return _Own(dataset, encoding_of(file.frame, left_out, kept[train]), train, test)


def _attribute_names(texts: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Columns by name, or several joined by commas; a name that has a comma itself is one name."""
    found = []
    for text in texts:
        found += [text] if text in columns else [name.strip() for name in text.split(",") if name.strip()]
    return found


def _with_targets(frame: Any, options: argparse.Namespace) -> Any:
    """The table with its label as floats, which are regressed on."""
    if options.favourable is not None:
        raise ValueError("--favourable is of a label with two values, and --task regression has numbers")
    if options.label not in frame.columns or frame[options.label].dtype.kind not in "iufb":
        return frame  # which is refused later, with the reason
    return frame.assign(**{options.label: frame[options.label].astype(float)})


def _prepare(out: Path) -> None:
    """A directory to write to; what an earlier model has left there stays until there is a new one.

    Raises:
        ValueError: for a file, or a directory with other things than a model.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a directory")
    if out.is_dir() and any(out.iterdir()) and not (out / ABOUT).is_file():
        raise ValueError(f"--out {out} holds other things than a model; give a new directory")
    out.mkdir(parents=True, exist_ok=True)


def _clear(out: Path) -> None:
    """Remove what an earlier model has left, so that nothing of it stands beside the new one."""
    for name in (ABOUT, *_FILES):
        (out / name).unlink(missing_ok=True)


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `badrjax.learners.train` from those of the command."""
    try:
        hidden = tuple(int(width) for width in options.hidden.split(","))
    except ValueError as error:
        raise ValueError(f"--hidden must be widths joined by commas, such as 64,32, got {options.hidden!r}") from error
    return {
        "objective": options.objective,
        "constraints": [_requirement(text) for text in options.constraint] or None,
        "options": dict(_option(text) for text in options.option),
        "model": options.model,
        "hidden": hidden,
        "num_epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }


def _requirement(text: str) -> Requirement:
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"--constraint must read 'METRIC:ATTRIBUTES<=GAP', such as 'demographic_parity:sex*race<=0.1', got {text!r}"
        )
    metric, attributes, threshold = match.groups()
    try:
        return Requirement(metric, tuple(name.strip() for name in attributes.split("*")), float(threshold))
    except ValueError as error:
        raise ValueError(f"--constraint {text!r}: the largest gap must be a number, got {threshold!r}") from error


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"an option is written NAME=VALUE, got {text!r}")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _write(
    options: argparse.Namespace, dataset: Dataset, training: Dataset, trained: Any, measures: Any, points: Sequence[Any]
) -> None:
    pandas = require("pandas", "a table of results")
    settings = {name: value for name, value in vars(options).items() if name != "run"}
    origin = provenance(settings={n: str(v) for n, v in settings.items()}, data=dataset.checksums)
    write_atomically(options.out / "provenance.json", json.dumps(origin, indent=2, default=str) + "\n")
    write_atomically(options.out / "groups.csv", pandas.DataFrame(groups_rows(measures)).to_csv(index=False))
    if points:
        write_atomically(options.out / "front.csv", pandas.DataFrame(front_rows(points)).to_csv(index=False))
    report = page(trained, measures, points, training, settings=settings, provenance=origin)
    path = write_page(report, options.out / "report.html")
    _show(measures, trained)
    for note in training.notes:
        print(f"note: {note}")
    print(f"model: {options.out / ABOUT}\nreport: {path}")


def _show(measures: Any, trained: Any) -> None:
    for name, estimate in measures.overall.items():
        print(f"  {name} {estimate.value:.3f} (95% {estimate.low:.3f} to {estimate.high:.3f})")
    for part in measures.partitions:
        for name, gap in part.gaps.items():
            if name in ("demographic_parity", "equalized_odds", "rmse"):
                print(f"  gap {name} of {part.name}: {_said(gap)}; {len(part.group_names)} groups, fewest rows "
                      f"{part.counts.min()})")  # fmt: skip
    if used := sensitive_columns(trained):
        print(f"note: {', '.join(used)} is used at prediction (--drop-sensitive leaves it out)")
    if trained.randomised:
        print("note: the predictor is randomised; these are numbers of one draw")


def _said(gap: Gap) -> str:
    if not np.isfinite(gap.value):
        return "not assessed (no two groups can be compared"
    interval = (
        f"95% {gap.low:.3f} to {gap.high:.3f}" if np.isfinite(gap.low) else f"fewer than {FEWEST} rows to compare"
    )
    return f"{gap.value:.3f} ({interval}; at parity {gap.floor:.3f}"


def _predict(options: argparse.Namespace) -> int:
    pandas = require("pandas", "a table of predictions")
    trained = learners.load(options.directory)
    if trained.encoding is None:
        raise ValueError(f"{options.directory} holds a model of arrays, which reads no file; use badrjax.learners")
    x = encode_file(options.file, trained.encoding)
    columns: dict[str, Any] = {"prediction": learners.predictions(trained, x)}
    if trained.settings.task == "classification":
        columns["probability"] = learners.probabilities(trained, x)
    text = pandas.DataFrame(columns).to_csv(index=False)
    if options.out is not None and options.out.is_dir():
        raise ValueError(f"--out {options.out} is a directory; name a file in it")
    if options.out is None:
        print(text, end="")
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, text)
        meaning = f" (1 is {trained.favourable!r})" if trained.settings.task == "classification" else ""
        print(f"{options.out}: {len(x):,} predictions of {trained.label_name}{meaning}")
    return 0
