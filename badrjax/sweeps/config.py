"""A sweep of training runs as a TOML file: read, and every mistake named by its key.

Any setting of the tables `model`, `method`, `optimizer` and `training` (their `name` and `kind` aside) is one value,
a list of values, or `{low = .., high = .., scale = "linear" | "log"}`, both ends of which are possible. Lists are
crossed with each other; ranges need a design that draws, and then lists are drawn from, too. Numbers with a fraction
are arguments of a program; whole numbers, words and truth values are part of it, so that each combination of these is
compiled by itself. A complete file:

```toml
[dataset]
name = "german"                 # of `badrjax data list`
sensitive = ["sex"]             # attributes that make the groups; else the dataset's own choice
# variant = "default"           # preprocessing
# data_home = "raw"             # where official files are looked for first, from this file's directory
# options = {num_groups = 2}    # more arguments of badrjax.load_dataset

[split]                         # may be left out
kind = "stratified"             # or balanced, random, kfold, domain, official: see badrjax.datasets.split
seed = 0
options = {fractions = [0.6, 0.2, 0.2]}
standardise = "train"           # scale features over the training rows; or "none"

[model]                         # may be left out
kind = "mlp"                    # or linear, which takes intercept
hidden = [32, 16]               # [[32, 16], [64]] are two networks
dropout = 0.1

[[method]]                      # one table [method], or several tables [[method]] side by side
name = "erm"                    # or dro, learning_to_reweight, forml, meta_group_dro, nash_meta
reduction = "mean"

[[method]]
name = "nash_meta"              # arguments as those of the function of that name
bargaining_epochs = 1
goal = "meta_group_dro"

[optimizer]
name = "sgd"                    # or adam, adamw
learning_rate = {low = 0.001, high = 0.1, scale = "log"}
momentum = [0.0, 0.9]           # sgd also takes weight_decay and nesterov; adam b1, b2, eps, eps_root

[training]
num_epochs = 2
sampler = {kind = "shuffled", batch_size = 128}     # or in_order, group_balanced, full_batch

[seeds]                         # of parameters, order of rows and dropout; the split is the same for all
first = 0                       # or list = [3, 5, 8]
count = 2

[sweep]                         # may be left out
store = "german-sweep"          # from this file's directory; the option --store goes before
design = {kind = "sobol", num = 4, seed = 0}        # or sample; or "grid", which is meant where it is left out
metric = "balanced_accuracy"    # chooses the best settings on the validation rows
block = 8                       # trials a block; where it is left out, "auto", what the memory allows
memory_budget = 2000000000      # for "auto": bytes that a block may take on a device
```

The meta-learning methods steer by the validation rows that settings are chosen on.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets import Dataset, dataset_info, list_datasets
from badrjax.sweeps import designs
from badrjax.sweeps.config_tables import ConfigError, Table, Values
from badrjax.sweeps.training_runs import (
    EPOCHS,
    METHODS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SAMPLERS,
    Choice,
    Setting,
    TrainingData,
    check_settings,
    load_data,
)
from badrjax.sweeps.trials import group_trials

_TABLES = ("dataset", "split", "model", "method", "optimizer", "training", "seeds", "sweep")
# More would not fit into memory as a table; give them as several files.
_MOST_ROWS = 10_000_000
_NEEDED = ("dataset", "method", "optimizer", "training", "seeds")


class MethodTrials(NamedTuple):
    """The trials of one table of methods.

    Attributes:
        method: its name.
        columns: the trials, `seed` among them; see `badrjax.sweep`.
        varied: settings that have more than one value.
    """

    method: str
    columns: dict[str, np.ndarray]
    varied: tuple[str, ...]


class Design(NamedTuple):
    """How settings are drawn: `kind` of points ("random" or "sobol"), how many, and the seed of the draw."""

    kind: Literal["random", "sobol"]
    num: int
    seed: int


@dataclass(frozen=True)
class SweepConfig:
    """What a file says.

    Attributes:
        file: as it was named.
        content: the tables as they stand in the file.
        dataset: arguments of `badrjax.load_dataset`.
        split: kind, seed, options and scale of the split.
        methods: trials by table of methods.
        store: directory of the results.
        metric: what the best settings are chosen by.
        block: trials a block, or "auto".
        memory_budget: bytes a block may take on a device, or `None`.
    """

    file: str
    content: Mapping[str, Any]
    dataset: Mapping[str, Any]
    split: tuple[str, int, Mapping[str, Any], Literal["train", "none"]]
    methods: tuple[MethodTrials, ...]
    store: Path
    metric: str
    block: int | Literal["auto"]
    memory_budget: int | None

    def load(self) -> tuple[TrainingData, Dataset]:
        """The rows to train on, checked against every program, and the dataset.

        Raises:
            ConfigError: for a dataset, a split or settings that do not go together.
        """
        try:
            data, dataset = load_data(self.dataset, *self.split)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self.file}: [dataset] and [split]: {error}") from error
        for table in self.methods:
            for group in group_trials(table.columns):
                try:
                    check_settings(data, group)
                except (ValueError, TypeError) as error:
                    raise ConfigError(f"{self.file}: method {table.method!r}: {error}") from error
        return data, dataset


def read_config(path: str | Path, store: str | Path | None = None) -> SweepConfig:
    """Read a file of the form that the module describes.

    Args:
        path: of the TOML file.
        store: goes before the store that the file names.

    Raises:
        ConfigError: for a mistake: the message names the file, the key and, for a name, the nearest known ones.
        OSError: for a file that cannot be read.
    """
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: it is not TOML: {error}") from error
    whole = Table(str(path), "", content)
    whole.check_keys(_TABLES, _NEEDED, "table")
    sweep = whole.table("sweep")
    sweep.check_keys(("store", "design", "metric", "block", "memory_budget"))
    design = _design(sweep)
    top = Table(str(path), "", content, draws=design is not None)
    return SweepConfig(
        file=str(path),
        content=content,
        dataset=_dataset(top.table("dataset"), Path(path).parent),
        split=_split(top.table("split")),
        methods=_methods(top, design),
        store=_store(sweep, Path(path).parent, store),
        metric=sweep.name_of("metric", METRICS, "balanced_accuracy"),
        block="auto" if sweep.content.get("block", "auto") == "auto" else sweep.whole("block", 1),
        memory_budget=sweep.whole("memory_budget", 1) if "memory_budget" in sweep.content else None,
    )


def _dataset(table: Table, home: Path) -> dict[str, Any]:
    table.check_keys(("name", "sensitive", "variant", "data_home", "options"), ("name",))
    name = table.name_of("name", list_datasets(), what="dataset")
    entry = dataset_info(name)
    arguments: dict[str, Any] = {"name": name}
    if "sensitive" in table.content:
        given = table.content["sensitive"]
        chosen = given if isinstance(given, list) else [given]
        for attribute in chosen:
            if not isinstance(attribute, str):
                raise table.error("sensitive", f"must be a list of names of attributes, got {given!r}")
            if attribute not in entry.sensitive:
                raise table.error("sensitive", unknown_name(f"attribute of {name}", attribute, entry.sensitive))
        arguments["sensitive"] = tuple(chosen)
    if "variant" in table.content:
        arguments["variant"] = table.name_of("variant", entry.variants, what=f"variant of {name}")
    if "data_home" in table.content:
        arguments["data_home"] = home / Path(table.single("data_home", str)).expanduser()
    general = ("standardise", "sensitive_features", "min_group_rows", "num_groups", "download")
    options = table.table("options")
    options.check_keys((*general, *entry.options), what="option")
    if "download" in options.content:
        options.single("download", bool)
    return arguments | options.content


def _split(table: Table) -> tuple[str, int, Mapping[str, Any], Literal["train", "none"]]:
    table.check_keys(("kind", "seed", "options", "standardise"))
    kinds = ("balanced", "random", "stratified", "kfold", "domain", "official")
    kind = table.name_of("kind", kinds, "stratified", "kind of split")
    scale = table.name_of("standardise", ("train", "none"), "train")
    options = table.table("options")
    if "seed" in options.content:
        raise options.error("seed", "the seed of the split is a key of [split] itself")
    return kind, table.whole("seed", 0, 0), options.content, "train" if scale == "train" else "none"


def _methods(top: Table, design: Design | None) -> tuple[MethodTrials, ...]:
    shared = _chosen(top.table("model"), "model", "kind", MODELS, "mlp")
    after = _chosen(top.table("optimizer"), "optimizer", "name", OPTIMIZERS)
    training = top.table("training")
    training.check_keys(("num_epochs", "sampler"), ("num_epochs", "sampler"))
    after |= {name: training.values(name, setting) for name, setting in EPOCHS.items()}
    after |= _chosen(training.table("sampler"), "sampler", "kind", SAMPLERS)
    seeds = _seeds(top.table("seeds"))
    given = top.content["method"]
    if given == []:
        raise top.error("method", "the list is empty")
    tables = [top.table("method")] if not isinstance(given, list) else [
        Table(top.file, f"method[{place}]", table, top.draws) for place, table in enumerate(given)
    ]  # fmt: skip
    trials = []
    for place, table in enumerate(tables):
        if table.content in [other.content for other in tables[:place]]:
            raise table.error("", "the same table stands above; leave one out")
        columns = _chosen(table, "method", "name", METHODS) | shared | after
        if columns.get("nesterov", [False]) != [False] and "momentum" not in columns:
            raise top.error("optimizer.nesterov", "it is a kind of momentum, and there is none; give momentum, too")
        trials.append(_trials(table, columns, design, seeds))
    _check_apart(top.file, trials)
    return tuple(trials)


def _check_apart(file: str, tables: Sequence[MethodTrials]) -> None:
    """Refuse tables that share a trial, which would count twice."""
    owners: dict[str, int] = {}
    for place, table in enumerate(tables):
        try:
            ids = {identity for group in group_trials(table.columns) for identity in group.ids}
        except ValueError as error:
            raise ConfigError(f"{file}: method {table.method!r}: {error}") from error
        for identity in ids:
            if owners.setdefault(identity, place) != place:
                raise ConfigError(
                    f"{file}: method[{place}]: some of its trials are those of method[{owners[identity]}], too; leave "
                    "the shared values out of one of the two"
                )


def _chosen(
    table: Table, what: str, key: str, known: Mapping[str, Choice], default: str | None = None
) -> dict[str, Values]:
    """What a table chooses, by the name of the column, and its settings."""
    name = table.name_of(key, known, default, what)
    table.check_keys((key, *known[name].settings), known[name].needed, f"argument of {name}")
    settings = {k: table.values(k, setting) for k, setting in known[name].settings.items() if k in table.content}
    return {what: [name], **settings}


def _trials(table: Table, columns: dict[str, Values], design: Design | None, seeds: list[int]) -> MethodTrials:
    fixed = {name: values for name, values in columns.items() if isinstance(values, list) and len(values) == 1}
    varied = {name: values for name, values in columns.items() if name not in fixed}
    if design is None:
        rows = designs.grid(**columns, seed=seeds)
    elif not varied:
        raise ConfigError(f"{table.file}: sweep.design: every setting has one value, so there is nothing to draw")
    else:
        spread = {n: v if isinstance(v, designs.Range) else designs.choice(v) for n, v in varied.items()}
        try:
            drawn = designs.sample(design.num, seed=design.seed, method=design.kind, **spread)
        except ValueError as error:
            raise ConfigError(f"{table.file}: sweep.design: {error}") from error
        rows = designs.cross(drawn, **fixed, seed=seeds)
    name = table.content["name"]
    return MethodTrials(name, {name: rows[name] for name in (*columns, "seed")}, tuple(varied))


def _seeds(table: Table) -> list[int]:
    table.check_keys(("first", "count", "list"))
    if "list" in table.content:
        if len(table.content) > 1:
            raise table.error("list", "give either list or first and count")
        if not isinstance(table.content["list"], list):
            raise table.error("list", f"must be a list of whole numbers, got {table.content['list']!r}")
        seeds = table.values("list", Setting(int, "in [0, 2**32)", lambda seed: 0 <= seed < 2**32))
        assert isinstance(seeds, list)
        return seeds
    first, count = table.whole("first", 0, 0), table.whole("count", 1)
    if first + count > 2**32:
        raise table.error("first", f"seeds must lie below 2**32, got {first + count - 1}")
    if count > _MOST_ROWS:
        raise table.error("count", f"must be at most {_MOST_ROWS:,}, got {count:,}")
    return list(range(first, first + count))


def _design(sweep: Table) -> Design | None:
    if sweep.content.get("design", "grid") == "grid":
        return None
    if not isinstance(sweep.content["design"], dict):
        raise sweep.error("design", f'must be "grid" or {{kind = "sobol", num = 32, seed = 0}}, got '
                                    f"{sweep.content['design']!r}")  # fmt: skip
    table = sweep.table("design")
    table.check_keys(("kind", "num", "seed"))
    kind = table.name_of("kind", ("sample", "sobol", "grid"))
    if kind == "grid":
        for key in ("num", "seed"):
            if key in table.content:
                raise table.error(key, 'a grid takes every combination; leave it out, or take kind = "sample"')
        return None
    num = table.whole("num", 1)
    if num > _MOST_ROWS:
        raise table.error("num", f"must be at most {_MOST_ROWS:,}, got {num:,}")
    return Design("sobol" if kind == "sobol" else "random", num, table.whole("seed", 0, 0))


def _store(sweep: Table, home: Path, given: str | Path | None) -> Path:
    if given is not None:
        return Path(given).expanduser()
    if "store" not in sweep.content:
        raise sweep.error("store", "name the directory that results are kept in, here or by --store DIR")
    name = sweep.single("store", str)
    if not name.strip():
        raise sweep.error("store", "name a directory of its own, got an empty text")
    return home / Path(name).expanduser()
