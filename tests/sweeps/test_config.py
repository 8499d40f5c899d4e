"""A sweep as a file: what it means, and each mistake named by file and key."""

import inspect
import re
import tomllib

import jax
import numpy as np
import optax
import pytest

from badrjax.methods import GOALS
from badrjax.sweeps import config, training_runs
from badrjax.sweeps.config import ConfigError, read_config

EXAMPLE = inspect.getdoc(config).split("```toml\n")[1].split("```")[0]
GRID = """
[dataset]
name = "german"
[model]
kind = "linear"
[method]
name = "dro"
fraction = [0.2, 0.4]
reduction = ["mean", "sum"]
[optimizer]
name = "sgd"
learning_rate = 1
[training]
num_epochs = 2
sampler = {kind = "shuffled", batch_size = 64}
[seeds]
list = [3, 5]
[sweep]
store = "here"
"""
DRAWN = GRID + 'design = {kind = "sample", num = 4, seed = 1}\n'


def read(directory, text):
    path = directory / "sweep.toml"
    path.write_text(text)
    return read_config(path)


def test_a_grid_is_all_combinations(tmp_path):
    found = read(tmp_path, GRID)
    (table,) = found.methods
    rows = zip(*(table.columns[name].tolist() for name in ("fraction", "reduction", "seed")), strict=True)
    assert sorted(rows) == sorted((f, r, s) for f in (0.2, 0.4) for r in ("mean", "sum") for s in (3, 5))
    assert table.varied == ("fraction", "reduction")
    assert found.store == tmp_path / "here"
    # A whole number stands for a number, and numbers are arguments of the program.
    assert table.columns["learning_rate"].dtype == np.float64
    assert table.columns["num_epochs"].dtype.kind == "i"


def test_the_example_means_what_its_comments_say(tmp_path):
    found = read(tmp_path, EXAMPLE)
    assert [table.method for table in found.methods] == ["erm", "nash_meta"]
    for table in found.methods:
        rates = np.unique(table.columns["learning_rate"])
        assert len(rates) == 4
        assert ((rates >= 0.001) & (rates <= 0.1)).all()
        # Four Sobol points, balanced over the quarters of the logarithm.
        np.testing.assert_array_equal(np.sort((np.log10(rates) + 3) // 0.5), [0, 1, 2, 3])
        assert set(table.columns["momentum"]) <= {0.0, 0.9}
        assert len(table.columns["seed"]) == 8
    assert found.block == 8
    assert found.metric == "balanced_accuracy"
    assert found.memory_budget == 2_000_000_000


def test_every_line_of_the_example_that_is_commented_out_is_right(tmp_path):
    text, count = re.subn(r"(?m)^# (variant|options)", r"\1", EXAMPLE)
    assert count == 2
    assert dict(read(tmp_path, text).dataset) == {
        "name": "german", "sensitive": ("sex",), "variant": "default", "num_groups": 2,
    }  # fmt: skip


def test_ranges_are_drawn_within_their_ends(tmp_path):
    text = DRAWN.replace("learning_rate = 1", 'learning_rate = {low = 1e-4, high = 1, scale = "log"}')
    text = text.replace("num_epochs = 2", "num_epochs = {low = 1, high = 2}").replace("num = 4", "num = 64")
    (table,) = read(tmp_path, text).methods
    rates = table.columns["learning_rate"]
    assert (rates >= 1e-4).all()
    assert (rates <= 1).all()
    assert np.median(rates) < 0.1  # the middle of the logarithms is 0.01, of the numbers 0.5
    assert set(table.columns["num_epochs"]) == {1, 2}  # both ends
    assert set(table.columns["reduction"]) == {"mean", "sum"}


def test_several_networks(tmp_path):
    model = 'kind = "mlp"\nhidden = '
    (one,) = read(tmp_path, GRID.replace('kind = "linear"', model + "[16, 8]")).methods
    assert set(one.columns["hidden"]) == {"16-8"}
    (two,) = read(tmp_path, GRID.replace('kind = "linear"', model + "[[16, 8], [4]]")).methods
    assert set(two.columns["hidden"]) == {"16-8", "4"}


def test_the_tables_are_of_things_that_there_are():
    """What a file may set is what the factories take; names of settings are one thing throughout."""
    tables = (training_runs.METHODS, training_runs.OPTIMIZERS, training_runs.MODELS, training_runs.SAMPLERS)
    known = {"learning_rate": None}
    for table in tables:
        for choice in table.values():
            build = inspect.unwrap(choice.build)
            parameters = inspect.signature(build).parameters
            open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            assert open_ended or set(choice.settings) <= set(parameters)
            required = {n for n, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
            given = {"losses", "optimizer", "validation", "num_groups", "num_features"}
            assert required - given == set(choice.needed)
            for name, setting in choice.settings.items():
                assert known.setdefault(name, setting) in (None, setting)
    meta = inspect.signature(training_runs.nash_meta).parameters
    assert "goal" in meta
    assert training_runs.METHODS["nash_meta"].settings["goal"].choices == tuple(GOALS)
    assert not set(known) & {"method", "model", "optimizer", "sampler", "seed", "key", "data"}


def test_sgd_decays_weights_inside_the_momentum():
    settings = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.5}
    optimizer = training_runs.OPTIMIZERS["sgd"].build(**settings)
    state, params = optimizer.init(np.float32(2.0)), np.float32(2.0)
    velocity = 0.0
    for _ in range(3):
        velocity = 0.9 * velocity + (1.0 + 0.5 * params)
        updates, state = optimizer.update(np.float32(1.0), state, params)
        np.testing.assert_allclose(updates, -0.1 * velocity, rtol=1e-6)
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize("method", training_runs.METHODS)
def test_every_method_can_be_traced(tmp_path, method):
    extra = "bargaining_epochs = 1\n" if method == "nash_meta" else ""
    text = GRID.replace('fraction = [0.2, 0.4]\nreduction = ["mean", "sum"]\n', extra).replace('"dro"', f'"{method}"')
    text = text.replace('"sgd"', '"adamw"\neps_root = 1e-8').replace('"shuffled"', '"group_balanced"')
    found = read(tmp_path, text)
    data, _ = found.load()
    (table,) = found.methods
    numbers = {name: values[0].item() for name, values in table.columns.items() if name != "seed"}
    traced = {name: value for name, value in numbers.items() if isinstance(value, float)}
    static = {name: value for name, value in numbers.items() if name not in traced}
    shapes = jax.eval_shape(lambda key, traced: training_runs.train(key, data=data, **static, **traced),
                            jax.random.key(0), traced)  # fmt: skip
    assert set(shapes) == {"validation", "test"}
    assert set(shapes["test"]) == set(training_runs.METRICS)
    assert all(leaf.shape == () for leaf in jax.tree.leaves(shapes))


def changed(old, new, text=GRID):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # unknown names
        (changed("learning_rate", "learning_rat"), "optimizer.learning_rat: unknown .* did you mean 'learning_rate'"),
        (changed("[optimizer]", "[optimiser]"), "optimiser: unknown table .* did you mean 'optimizer'"),
        (changed('"german"', '"germen"'), "dataset.name: unknown dataset 'germen': did you mean 'german'"),
        (changed('"dro"', '"dor"'), "method.name: unknown method 'dor': did you mean 'dro'"),
        (changed('"shuffled"', '"shufled"'), "training.sampler.kind: unknown sampler 'shufled': .* 'shuffled'"),
        (GRID + 'metric = "acuracy"', "sweep.metric: unknown metric 'acuracy': did you mean 'accuracy'"),
        (changed('"mean", "sum"', '"mean", "some"'), "method.reduction: unknown value 'some': did you mean 'sum'"),
        (changed('name = "german"', 'name = "german"\nsensitive = "sexx"'), "dataset.sensitive: .* did you mean 'sex'"),
        (changed('name = "german"', 'name = "german"\nvariant = "x"'), "dataset.variant: .* known are default"),
        (changed('name = "german"', 'name = "german"\noptions.year = 1'), "dataset.options.year: unknown option"),
        (GRID + '[split]\nkind = "ballanced"', "split.kind: unknown kind of split .* did you mean 'balanced'"),
        (changed('"linear"', '"linear"\ndropout = 0.1'), "model.dropout: unknown argument of linear"),
        # wrong kinds and values
        (changed("learning_rate = 1", 'learning_rate = "1"'), "optimizer.learning_rate: must be a number, got '1'"),
        (changed("learning_rate = 1", "learning_rate = true"), "optimizer.learning_rate: must be a number, got True"),
        (changed("learning_rate = 1", "learning_rate = nan"), "optimizer.learning_rate: must be a number, got nan"),
        (changed("learning_rate = 1", "learning_rate = -1"), "optimizer.learning_rate: must be above 0, got -1.0"),
        (changed("num_epochs = 2", "num_epochs = 2.0"), "training.num_epochs: must be a whole number, got 2.0"),
        (changed("num_epochs = 2", "num_epochs = true"), "training.num_epochs: must be a whole number, got True"),
        (changed("[0.2, 0.4]", "[0.2, 1.4]"), r"method.fraction: must be in \(0, 1\], got 1.4"),
        (changed("[0.2, 0.4]", "[0.2, 0.2]"), "method.fraction: a value is listed twice"),
        (changed("[0.2, 0.4]", "[]"), "method.fraction: the list is empty"),
        (changed('"linear"', '"mlp"\nhidden = []'), "model.hidden: must be widths in"),
        (changed('"linear"', '"mlp"\nhidden = 8'), "model.hidden: must be a list of widths"),
        (changed("[3, 5]", "[3, -5]"), r"seeds.list: must be in \[0, 2\*\*32\), got -5"),
        (changed("list = [3, 5]", "count = 0"), "seeds.count: must be at least 1, got 0"),
        (changed("list = [3, 5]", "list = [3]\ncount = 2"), "seeds.list: give either"),
        (GRID + "block = 0", "sweep.block: must be at least 1"),
        (GRID + 'block = "all"', "sweep.block: must be a whole number"),
        ("seeds = 3\n" + changed("[seeds]\nlist = [3, 5]\n", ""), "seeds: must be a table, got 3"),
        (changed("num_epochs = 2", "num_epochs = 3000000000"), r"training.num_epochs: must be in \[1, 2\*\*31\)"),
        (changed("list = [3, 5]", "count = 50000000000"), r"seeds.first: seeds must lie below 2\*\*32"),
        (changed("list = [3, 5]", "count = 50000000"), "seeds.count: must be at most 10,000,000, got 50,000,000"),
        (changed('name = "german"', 'name = "german"\nsensitive = [["sex"]]'), "dataset.sensitive: must be a list of"),
        (changed('name = "german"', 'name = "german"\nsensitive = {a = 1}'), "dataset.sensitive: must be a list of"),
        (changed('name = "german"', 'name = "german"\noptions.download = "no"'), "dataset.options.download: must be"),
        (GRID + "[split]\noptions = {seed = 3}", r"split.options.seed: the seed of the split is a key of \[split\]"),
        (changed("learning_rate = 1", "learning_rate = 1\nnesterov = [true, false]"), "optimizer.nesterov: it is a ki"),
        (changed('store = "here"', 'store = ""'), "sweep.store: name a directory of its own"),
        # what is one number or another only in double precision
        (changed("learning_rate = 1", "learning_rate = [1e-50]"), "optimizer.learning_rate: must be above 0, and 1e-50 "
         "is 0.0 in float32"),
        (changed("learning_rate = 1", "learning_rate = 1e300"), "optimizer.learning_rate: must be above 0, and 1e.300 "
         "is inf in float32"),
        (changed("learning_rate = 1", "learning_rate = 1\nmomentum = 0.99999999999"), "optimizer.momentum: must be in "
         ".* is 1.0 in float32"),
        (changed("learning_rate = 1", "learning_rate = [0.1, 0.10000000001]"), "optimizer.learning_rate: a value is "
         "listed twice"),
        (changed("[0.2, 0.4]", "{low = 0.1, high = 0.1000000001}", DRAWN), "method.fraction: needs low < high"),
        # one value is needed
        (changed('"german"', '["german"]'), "dataset.name: one value is needed here, got a list"),
        (changed('name = "dro"', 'name = ["dro", "erm"]'), "method.name: one value is needed here, got a list"),
        (GRID + "[split]\nseed = [0, 1]", "split.seed: one value is needed here, got a list"),
        # what is missing
        (changed("[optimizer]", "[sweep.design]", GRID.split("[sweep]")[0]), "optimizer: this table is missing"),
        (changed("learning_rate = 1\n", ""), "optimizer.learning_rate: this argument of sgd is missing"),
        (changed('name = "dro"\n', ""), "method.name: this key is missing"),
        (changed(", batch_size = 64", ""), "training.sampler.batch_size: this argument of shuffled is missing"),
        (changed('store = "here"', ""), "sweep.store: name the directory"),
        # ranges
        (changed("learning_rate = 1", "learning_rate = {low = 0.1, high = 1}"), "optimizer.learning_rate: a range"),
        (changed("fraction = [0.2, 0.4]", "fraction = {low = 0, high = 1}", DRAWN), "method.fraction.low: must be in"),
        (changed("= 1\n[tr", "= 1\nweight_decay = {low = 0, high = 1, scale = 'log'}\n[tr", DRAWN),
         "optimizer.weight_decay.low: a log scale needs low above 0, got 0.0"),
        (changed("[0.2, 0.4]", "{low = 0.4, high = 0.2}", DRAWN), "method.fraction: needs low < high"),
        (changed("[0.2, 0.4]", "{low = 0.4}", DRAWN), "method.fraction.high: this key is missing"),
        (changed("[0.2, 0.4]", "{low = 0.4, hihg = 1}", DRAWN), "method.fraction.hihg: .* did you mean 'high'"),
        (changed("[0.2, 0.4]", "{low = 0.4, high = [1]}", DRAWN), "method.fraction.high: one value is needed"),
        (changed('["mean", "sum"]', "{low = 0.4, high = 1}", DRAWN), "method.reduction: a range is for numbers"),
        (changed("num_epochs = 2", "num_epochs = {low = 1, high = 8, scale = 'log'}", DRAWN),
         "training.num_epochs.scale: whole numbers are drawn linearly"),
        (changed("num = 4", "num = 5", DRAWN), "sweep.design: num is 5"),
        (changed('fraction = [0.2, 0.4]\nreduction = ["mean", "sum"]', "", DRAWN), "sweep.design: every setting"),
        (changed("num_epochs = 2", "num_epochs = {low = 1, high = 99999999999999999999}", DRAWN),
         r"training.num_epochs.high: must be in \[1"),
        (changed("num = 4", "num = 100000000000", DRAWN), "sweep.design.num: must be at most 10,000,000"),
        (changed('kind = "sample"', 'kind = "grid"', DRAWN), "sweep.design.(num|seed): a grid takes every combination"),
        (changed('"sample"', '"sampel"', DRAWN), "sweep.design.kind: .* did you mean 'sample'"),
        (changed("num = 4, ", "", DRAWN), "sweep.design.num: this key is missing"),
        (GRID + 'design = "sobol"', "sweep.design: must be .*, got 'sobol'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(tmp_path))}/sweep.toml: {message}"):
        read(tmp_path, text)


def test_a_mistake_of_toml_is_named_by_its_line(tmp_path):
    with pytest.raises(ConfigError, match=r"sweep.toml: it is not TOML: .*at line 3"):
        read(tmp_path, changed('name = "german"', "name = german"))


def test_tables_that_share_a_trial_are_refused(tmp_path):
    table = '[[method]]\nname = "erm"\n'
    method = GRID[GRID.index("[method]") : GRID.index("[optimizer]")]
    both = table + 'reduction = "sum"\n' + table + 'reduction = ["mean", "sum"]\n'
    with pytest.raises(ConfigError, match=r"method\[1\]: some of its trials are those of method\[0\], too"):
        read(tmp_path, GRID.replace(method, both))
    read(tmp_path, GRID.replace(method, both.replace('["mean", "sum"]', '["mean", "root"]')))


def test_a_table_that_stands_twice_is_refused(tmp_path):
    table = '[[method]]\nname = "dro"\n'
    method = GRID[GRID.index("[method]") : GRID.index("[optimizer]")]
    with pytest.raises(ConfigError, match=r"method\[1\]: the same table"):
        read(tmp_path, GRID.replace(method, table * 2))
    with pytest.raises(ConfigError, match=r"method\[0\].fractoin: .* did you mean 'fraction'"):
        read(tmp_path, GRID.replace(method, table + "fractoin = 0.1\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("batch_size = 64", "batch_size = 601"), "method 'dro': batch_size 601 is larger than the 600"),
        (changed("batch_size = 64", "batch_size = 1").replace("shuffled", "group_balanced"), "leaves groups out"),
        (GRID + "[split]\noptions.fractions = [0.5, 0.5, 0]", "the stratified split leaves the test part without rows"),
        (GRID + "[split]\noptions.fraction = [0.5, 0.5, 0]", "did you mean 'fractions'"),
        (GRID + '[split]\nkind = "domain"', "a domain split needs domain="),
        (GRID.replace('name = "dro"\nfraction = [0.2, 0.4]\nreduction = ["mean", "sum"]', 'name = "forml"')
         .replace('name = "sgd"', 'name = "adam"\neps_root = [1e-8, 0.0]'), "method 'forml': lookahead='optimizer'"),
        (changed('name = "german"', 'name = "student"'), r"\[dataset\] and \[split\]|student"),
    ],
)  # fmt: skip
def test_what_only_the_data_show_is_said_before_anything_is_compiled(tmp_path, text, message, monkeypatch):
    monkeypatch.delenv("BADRJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = text.replace('"student"', '"student"\noptions.download = false')
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        read(tmp_path, text).load()


def test_features_are_scaled_over_the_training_rows(tmp_path):
    data, dataset = read(tmp_path, GRID).load()
    x = np.asarray(data.train.x, np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    deviation = x.std(axis=0)
    np.testing.assert_allclose(deviation[deviation > 0.1], 1, rtol=1e-4)
    raw, _ = read(tmp_path, GRID + '[split]\nstandardise = "none"').load()
    assert float(np.asarray(raw.train.x).max()) > 1000  # an amount of credit
    sizes = [len(part.y) for part in (data.train, data.validation, data.test)]
    assert sum(sizes) == dataset.x.shape[0]


def test_tomllib_reads_the_example():
    assert set(tomllib.loads(EXAMPLE)) == set(config._TABLES)
