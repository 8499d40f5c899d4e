"""A sweep in one process: what it computes, compiles, stores and resumes."""

import importlib
import json
import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.tree_util import Partial

from badrjax import environment
from badrjax.sweeps import Store, StoreError, grid, programs, sweep
from badrjax.sweeps.identity import identify

from . import cases

quiet = partial(sweep, progress=False)
COUNT, SEEN = [], []


def seen(key, value):
    """Tells what it is given."""
    SEEN.append(value)
    return {"zero": jnp.float32(0)}


def counted(key, rate):
    """Says how often it is traced."""
    COUNT.append(1)
    return jnp.sin(rate) * jax.random.uniform(key)


def blocks_of(directory):
    return sorted(path.name for path in (directory / "blocks").iterdir())


@pytest.fixture(scope="module")
def frame():
    return quiet(cases.run, cases.trials(), block=4).frame()


def test_each_trial_is_the_run_with_its_seed(frame):
    table = cases.trials()
    for row, expected in enumerate(cases.by_hand(table)):
        np.testing.assert_allclose(frame["validation.loss"][row], expected["validation"]["loss"], rtol=2e-6)
        np.testing.assert_allclose(frame["validation.history"][row], expected["validation"]["history"], rtol=2e-6)
    assert list(frame.columns[:2]) == ["rate", "seed"]
    assert frame["seed"].tolist() == table["seed"].tolist()


def turning(key, rate):
    """Steps on the larger of two losses whose parameters are taken apart and put together again."""

    def losses(point):
        x, y = point
        turn = jnp.tanh(-y)
        near = jnp.log(jnp.maximum(jnp.abs(jnp.stack([(-x - 7) / 2 - turn, (3 - x) / 2 + turn + 2])), 5e-6)) + 6
        far = (jnp.stack([7 - x, 7 + x]) ** 2 + (y + 8) ** 2 / 10) / 10 - 20
        return jnp.maximum(jnp.tanh(y / 2), 0) * near + jnp.maximum(jnp.tanh(-y / 2), 0) * far

    def step(point, _):
        weights = jax.grad(jnp.max)(losses(point))
        slopes = jax.jacrev(losses)(point)
        return point - rate * (weights[0] * slopes[0] + weights[1] * slopes[1]), None

    return {"end": jax.lax.scan(step, jnp.array([-8.5, -5.0]), length=50)[0]}


def test_one_lane_is_compiled_right():
    """A mapped axis of length one is compiled wrong here by jaxlib 0.10.2: the point stops after one step."""
    found = quiet(turning, {"rate": [0.1], "seed": [0]}, block=1).frame()["end"][0]
    np.testing.assert_allclose(found, [0.0365, -5.6811], atol=1e-3)


def test_a_trial_does_not_depend_on_its_place_or_its_neighbours(frame):
    table = {name: np.asarray(values) for name, values in cases.trials().items()}
    order = np.random.default_rng(0).permutation(len(table["seed"]))
    for rows in (order, order[:6], order[:1]):
        again = quiet(cases.run, {name: values[rows] for name, values in table.items()}, block=4).frame()
        assert_same(again, frame.iloc[rows].reset_index(drop=True))


def assert_same(first, second):
    """Bit for bit."""
    assert list(first.columns) == list(second.columns)
    for name in first.columns:
        for mine, theirs in zip(first[name], second[name], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_settings_that_set_the_program_are_grouped_and_each_group_compiles_once():
    COUNT.clear()
    table = {"rate": np.linspace(0, 1, 40), "seed": np.arange(40)}
    quiet(counted, table, block=8)
    assert len(COUNT) == 1
    both = cases.trials(steps=[2, 5], kind=["plain", "double"])
    frame = quiet(cases.run, both, block=4).frame()
    for row, expected in enumerate(cases.by_hand(both)):
        np.testing.assert_allclose(frame["test.loss"][row], expected["test"]["loss"], rtol=3e-6)
    assert {len(history) for history in frame["validation.history"]} == {2, 5}


def test_a_float_column_can_be_made_static():
    def branches(key, rate):
        return jnp.float32(1.0 if rate > 0.15 else 0.0) + 0 * jax.random.uniform(key)

    frame = quiet(branches, cases.trials(), static=("rate",), block=4).frame()
    assert frame.groupby("rate")["value"].mean().tolist() == [0, 1, 1]


def test_bound_arrays_are_arguments_of_the_program():
    def near(key, rate, data):
        return jnp.mean((data - rate) ** 2) + 0 * jax.random.uniform(key)

    data = jnp.arange(10.0)
    frame = quiet(Partial(near, data=data), cases.trials(seeds=1), block=4).frame()
    np.testing.assert_allclose(frame["value"], [np.mean((np.arange(10) - r) ** 2) for r in (0.1, 0.2, 0.3)], rtol=1e-6)


def test_a_store_is_resumed_and_nothing_runs_twice(tmp_path, frame):
    COUNT.clear()
    first = quiet(cases.run, cases.trials(), store=tmp_path, block=4).frame()
    assert_same(first, frame)
    names = blocks_of(tmp_path)
    assert len(names) == 4
    times = [path.stat().st_mtime_ns for path in (tmp_path / "blocks").iterdir()]
    assert_same(quiet(cases.run, cases.trials(), store=tmp_path).frame(), frame)
    assert [path.stat().st_mtime_ns for path in (tmp_path / "blocks").iterdir()] == times
    assert list((tmp_path / "leases").iterdir()) == []


def test_a_lost_block_alone_is_run_again(tmp_path, frame):
    quiet(cases.run, cases.trials(), store=tmp_path, block=4)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "blocks").iterdir()}
    lost = sorted(before)[2]
    (tmp_path / "blocks" / lost).unlink()
    assert_same(quiet(cases.run, cases.trials(), store=tmp_path).frame(), frame)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "blocks").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {lost}


def test_more_trials_join_a_store(tmp_path):
    quiet(cases.run, cases.trials(seeds=2), store=tmp_path, block=4)
    before = blocks_of(tmp_path)
    joined = quiet(cases.run, cases.trials(seeds=5), store=tmp_path, block=4).frame()
    assert set(before) < set(blocks_of(tmp_path))
    assert_same(joined, quiet(cases.run, cases.trials(seeds=5), block=4).frame())


def test_a_block_says_where_it_comes_from(tmp_path):
    import pyarrow.parquet

    quiet(cases.run, cases.trials(), store=tmp_path, block=4)
    path = tmp_path / "blocks" / blocks_of(tmp_path)[0]
    about = json.loads(pyarrow.parquet.read_schema(path).metadata[b"badrjax"])
    assert about["width"] == 4
    assert about["origin"]["libraries"]["jax"] == jax.__version__
    assert about["seconds"] > 0
    stored = pd.read_parquet(path)
    assert {"trial", "seed", "result.validation.loss"} <= set(stored.columns)


def test_another_function_or_other_data_are_refused(tmp_path):
    bound = Partial(lambda key, rate, data: data.sum() * rate, data=jnp.ones(3))
    quiet(bound, cases.trials(), store=tmp_path, block=4)
    with pytest.raises(StoreError, match="holds a sweep of another function"):
        quiet(cases.run, cases.trials(), store=tmp_path)
    other = Partial(bound.func, data=jnp.zeros(3))
    with pytest.raises(StoreError, match="holds a sweep on other data"):
        quiet(other, cases.trials(), store=tmp_path)


def test_memory_that_runs_out_halves_what_is_left(tmp_path, monkeypatch, frame):
    real, widths = programs.run_block, []

    def short_of_memory(program, *arguments):
        widths.append(program.width)
        if program.width > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 12345 bytes")
        return real(program, *arguments)

    monkeypatch.setattr(programs, "run_block", short_of_memory)
    result = quiet(cases.run, cases.trials(), store=tmp_path, block=16).frame()
    assert_same(result, frame)
    assert widths == [16, 8, 4, 4, 4, 4]
    plans = Store(tmp_path, identify(Partial(cases.run))).plans()
    assert sorted(plan.width for plan in plans) == [4, 8, 16]


def test_only_memory_is_taken_for_memory(tmp_path, monkeypatch):
    def wrong(*_):
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory is not an option")

    monkeypatch.setattr(programs, "run_block", wrong)
    with pytest.raises(ValueError, match="is not an option") as caught:
        quiet(cases.run, cases.trials(kind=["double"]), store=tmp_path, block=4)
    assert re.search(
        r"\d trials, the first with \{'kind': 'double', 'rate': 0\.\d+, 'seed'", caught.value.__notes__[-1]
    )
    assert len(list((tmp_path / "plans").iterdir())) == 1


def test_devices_of_one_host_share_its_memory():
    one, eight = (programs.memory_budget(jax.devices()[:1] * number) for number in (1, 8))
    assert abs(eight - one // 8) <= 1


def test_many_results_are_no_trouble():
    def run(key, rate):
        return {f"r{number}": rate * number for number in range(150)}

    assert quiet(run, cases.trials()).frame().shape == (15, 152)


def test_a_trial_that_never_fits_is_a_memory_error(monkeypatch):
    def never(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(programs, "run_block", never)
    with pytest.raises(MemoryError, match="one trial a device"):
        quiet(cases.run, cases.trials(), block=4)


def test_what_was_finished_survives_an_error_and_an_interrupt(tmp_path, monkeypatch, frame):
    real, calls = programs.run_block, []

    def third_time_unlucky(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(programs, "run_block", third_time_unlucky)
    with pytest.raises(KeyboardInterrupt):
        quiet(cases.run, cases.trials(), store=tmp_path, block=4)
    assert len(blocks_of(tmp_path)) == 2
    assert list((tmp_path / "leases").iterdir()) == []
    assert_same(quiet(cases.run, cases.trials(), store=tmp_path).frame(), frame)
    assert len(calls) == 5


def test_progress_counts_the_trials_that_are_asked_for(tmp_path, monkeypatch, capsys):
    real = programs.run_block

    def never(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(programs, "run_block", never)
    with pytest.raises(KeyboardInterrupt):
        quiet(cases.run, cases.trials(), store=tmp_path, block=4)
    monkeypatch.setattr(programs, "run_block", real)
    sweep(cases.run, {"rate": [0.1, 0.3], "seed": [0, 4]}, store=tmp_path, progress="json")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(event["done"], event["total"]) for event in events] == [(1, 2), (2, 2), (2, 2)]


def test_results_of_other_versions_are_not_mixed_unnoticed(tmp_path, monkeypatch, recwarn):
    quiet(cases.run, cases.trials(), store=tmp_path)
    quiet(cases.run, cases.trials(), store=tmp_path)
    assert len(recwarn) == 0
    now = environment.versions()
    newer = now | {"libraries": now["libraries"] | {"jax": "99.0"}}
    monkeypatch.setattr(sys.modules["badrjax.sweeps.sweep"], "versions", lambda: newer)
    with pytest.warns(UserWarning, match=rf"jax {jax.__version__}, now 99\.0"):
        quiet(cases.run, cases.trials(), store=tmp_path)
    quiet(cases.run, cases.trials(rates=[0.7]), store=tmp_path)  # none of which is there
    assert len(recwarn) == 0


def test_other_sources_of_what_run_calls_are_not_mixed_unnoticed(tmp_path, monkeypatch, recwarn):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "rule.py").write_text("FACTOR = 2.0\n")
    (tmp_path / "mine" / "trial.py").write_text(
        "import jax\nfrom mine import rule\n\n\ndef run(key, rate):\n"
        "    return rule.FACTOR * rate + 0 * jax.random.normal(key)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = importlib.import_module("mine.trial").run
    trials = {"seed": [0], "rate": [1.0]}
    quiet(run, trials, store=tmp_path / "store")
    quiet(run, trials, store=tmp_path / "store")
    assert len(recwarn) == 0
    (tmp_path / "mine" / "rule.py").write_text("FACTOR = 3.0\n")
    environment._sources_in.cache_clear()
    with pytest.warns(UserWarning, match="sources of mine [0-9a-f]{12}, now"):
        quiet(run, trials, store=tmp_path / "store")
    for name in ("mine", "mine.rule", "mine.trial"):
        monkeypatch.delitem(sys.modules, name)


def test_the_width_follows_from_two_compiled_ones():
    def large(key, rate):
        return jnp.sum(jnp.sort(jax.random.normal(key, (50_000,)) * rate))

    compiled = []

    def compile_at(width):
        compiled.append(width)
        return programs.compile_block(Partial(large), {}, {"rate": np.dtype("float32")}, width, jax.devices()[:1])

    widest = programs.choose_width(compile_at, 10_000, 1, 50_000_000)
    assert compiled == [2, 8]
    needed = compile_at(widest).num_bytes
    assert needed <= 50_000_000 < 2.5 * needed
    with pytest.raises(MemoryError, match="one trial a device needs about"):
        programs.choose_width(compile_at, 10_000, 1, 1000)
    # And a bound on what grows with the lanes.
    slope = (compile_at(8).num_bytes - compile_at(2).num_bytes) / 6
    assert programs.choose_width(compile_at, 10_000, 1, 50_000_000, int(4.5 * slope)) == 4
    assert programs.choose_width(compile_at, 10_000, 1, 50_000_000, 1) == 1


@pytest.mark.parametrize(
    ("trials", "keywords", "error", "message"),
    [
        (grid(rate=[0.1]), {}, ValueError, "trials need a column 'seed'"),
        ({"rate": [0.1, 0.2], "seed": [1]}, {}, ValueError, "rate has 2, seed has 1"),
        ({"rate": [], "seed": []}, {}, ValueError, "no rows"),
        ({"rate": [0.1, 0.1], "seed": [1, 1]}, {}, ValueError, "rows 0 and 1 of trials are the same trial"),
        ({"rate": [0.1, np.nan], "seed": [1, 2]}, {}, ValueError, "column 'rate' of trials has no value in row 1"),
        ({"rate": [0.1], "seed": [-1]}, {}, ValueError, "whole numbers in"),
        ({"rate": [0.1], "seed": [0.5]}, {}, ValueError, "whole numbers in"),
        ({"a rate": [0.1], "seed": [1]}, {}, ValueError, "cannot be the name of an argument"),
        ({"rate": [[0.1]], "seed": [1]}, {}, ValueError, "must be a list of values"),
        (
            {"rate": [object()], "seed": [1]},
            {},
            ValueError,
            "column 'rate' of trials must hold numbers, booleans, text",
        ),
        (pd.DataFrame({"rate": [len], "seed": [1]}), {}, ValueError, "name the choices by text"),
        (pd.DataFrame({"f": pd.array([True, None], "boolean"), "seed": [1, 2]}), {}, ValueError, "no value in row 1"),
        (pd.DataFrame({"f": pd.array(["a", None], "string"), "seed": [1, 2]}), {}, ValueError, "no value in row 1"),
        ([1, 2], {}, TypeError, "a pandas DataFrame or a dict"),
        (cases.trials(), {"static": ("rats",)}, ValueError, "static must name columns"),
        (cases.trials(), {"block": 0}, ValueError, "block must be a positive"),
        (cases.trials(), {"memory_budget": 0}, ValueError, "memory_budget must be a positive"),
        (cases.trials(), {"devices": []}, ValueError, "devices must name devices of jax.local_devices"),
        (cases.trials(), {"devices": jax.devices()[:1] * 2}, ValueError, "each once"),
        (cases.trials(), {"devices": ["cpu"]}, ValueError, "devices must name devices"),
        (cases.trials(), {"executor": "slurm"}, ValueError, "unknown executor 'slurm'"),
    ],
)
def test_bad_requests_are_answered_before_anything_runs(trials, keywords, error, message):
    with pytest.raises(error, match=message):
        quiet(cases.run, trials, **keywords)


def test_a_result_named_like_a_setting_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="'rate' is the name of a setting and of a result of run"):
        quiet(lambda key, rate: {"rate": rate}, cases.trials(), store=tmp_path)
    assert blocks_of(tmp_path) == []


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda key, rate: rate + 2j, TypeError, "has dtype complex64; return real numbers or booleans"),
        (lambda key, rate: {"key": key}, TypeError, "result 'key' of run has dtype key"),
        (lambda key, rate: {"a.b": rate, "a": {"b": -rate}}, ValueError, "two results that read 'a.b'"),
    ],
)
def test_results_that_cannot_be_kept_are_refused_before_anything_runs(tmp_path, run, error, message):
    with pytest.raises(error, match=message):
        quiet(run, cases.trials(), store=tmp_path)
    assert blocks_of(tmp_path) == []


@pytest.mark.parametrize("values", [[1, "auto"], [True, 2], [2**63, -1], [(1, 2), "auto"]])
def test_values_of_several_kinds_stay_what_they_are(tmp_path, values):
    SEEN.clear()
    quiet(seen, {"value": values, "seed": [0, 0]}, store=tmp_path)
    assert sorted(map(repr, set(SEEN))) == sorted(map(repr, values))
    before = blocks_of(tmp_path)
    column = np.empty(2, object)
    column[:] = values
    frame = pd.DataFrame({"value": column, "seed": [0, 0]})
    quiet(seen, frame, store=tmp_path)
    assert blocks_of(tmp_path) == before


def test_one_number_is_one_trial_whatever_its_type(tmp_path):
    single, double = ({"rate": np.array([0.5, 0.25], kind), "seed": [0, 1]} for kind in (np.float32, np.float64))
    first = quiet(cases.run, single, store=tmp_path).frame()
    before = blocks_of(tmp_path)
    assert_same(quiet(cases.run, double, store=tmp_path).frame(), first)
    assert blocks_of(tmp_path) == before
