"""Trials, their groups and their plans."""

import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.tree_util import Partial

from badrjax.functions import as_partial
from badrjax.sweeps.identity import identify
from badrjax.sweeps.plans import Block, make_plan, narrower, plan_from_json, valid_blocks
from badrjax.sweeps.trials import as_columns, group_trials

from . import cases


def groups(**columns):
    return group_trials(as_columns(cases.trials(**columns)))


def plan_of(group, width=4, devices=1):
    return make_plan(group, set(group.ids), width, devices, {})


def test_floats_share_a_program_and_the_rest_do_not():
    mixed = groups(kind=["a", "b"], steps=[1, 2], flag=[True, False])
    assert len(mixed) == 8
    assert {tuple(sorted(group.static)) for group in mixed} == {("flag", "kind", "steps")}
    assert all(list(group.traced) == ["rate"] for group in mixed)
    assert sorted(np.concatenate([group.positions for group in mixed]).tolist()) == list(range(15 * 8))
    assert len({group.name for group in mixed}) == 8


def test_a_frame_and_a_dict_are_the_same_trials():
    table = cases.trials(kind=["a", "b"])
    frame = pd.DataFrame(table)
    assert [group.ids for group in group_trials(as_columns(frame))] == [group.ids for group in groups(kind=["a", "b"])]


def test_identities_are_the_same_in_every_process_and_whatever_the_order_of_columns():
    program = "from tests.sweeps import test_plans as t; print(t.groups(kind=['a'])[0].ids[0])"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    mine = groups(kind=["a"])[0].ids[0]
    assert other == mine
    table = cases.trials(kind=["a"])
    turned = {name: table[name] for name in reversed(list(table))}
    assert group_trials(as_columns(turned))[0].ids[0] == mine


def test_making_a_column_static_makes_other_trials():
    columns = as_columns(cases.trials())
    assert not set(group_trials(columns)[0].ids) & {i for g in group_trials(columns, ("rate",)) for i in g.ids}


def test_a_plan_is_cut_into_blocks_and_keeps_every_bit():
    (group,) = groups()
    plan = plan_of(group)
    assert [block.number for block in plan.blocks()] == [0, 1, 2, 3]
    seeds = np.concatenate([plan.arrays_of(i)[0] for i in range(4)])
    rates = np.concatenate([plan.arrays_of(i)[1]["rate"] for i in range(4)])
    np.testing.assert_array_equal(seeds, group.seeds)
    np.testing.assert_array_equal(rates, group.traced["rate"])
    assert rates.dtype == group.traced["rate"].dtype
    again = plan_from_json(plan.to_json())
    assert again.name == plan.name
    assert again.ids == plan.ids
    np.testing.assert_array_equal(again.arrays_of(3)[1]["rate"], plan.arrays_of(3)[1]["rate"])


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"group": 1}', "not json"])
def test_another_text_is_no_plan(text):
    with pytest.raises(ValueError, match="no plan of a sweep"):
        plan_from_json(text)


def test_a_narrower_plan_takes_blocks_over():
    (group,) = groups()
    wide = plan_of(group, width=8)
    narrow = narrower(wide, [1], 4, {})
    assert valid_blocks([wide, narrow]) == [(wide, 0), (narrow, 0), (narrow, 1)]
    assert narrow.ids == wide.ids[8:]
    assert narrow.name != wide.name
    assert Block(narrow.name, 1).name.endswith("-00001")
    assert dataclasses.replace(narrow, origin={"device": "another"}).name == narrow.name


def first(key, rate, data):
    return data.sum() * rate


def second(key, rate, data):
    return data.sum() * rate * 2


def test_what_is_run_is_known_by_name_code_and_arrays():
    about = identify(Partial(first, data=jnp.ones(3)))
    assert about == identify(Partial(first, data=np.ones(3, np.float32)))
    assert about["function"] == "first"
    differing = {
        "function": identify(Partial(second, data=jnp.ones(3))),
        "arrays": identify(Partial(first, data=jnp.ones(4))),
    }
    for name, other in differing.items():
        assert other[name] != about[name]
    assert identify(Partial(first, data=jnp.zeros(3)))["arrays"] != about["arrays"]
    keyed = [identify(Partial(first, data=jax.random.key(seed)))["arrays"] for seed in (0, 0, 1)]
    assert keyed[0] == keyed[1] != keyed[2]
    lambdas = [identify(Partial(lambda key, rate: rate)), identify(Partial(lambda key, rate: rate * 2))]
    assert lambdas[0]["code"] != lambdas[1]["code"]


def test_what_a_function_closes_over_is_part_of_its_code():
    def make(value):
        def run(key, rate):
            return rate * value

        return run

    def around(value):
        inner = make(value)
        return lambda key, rate: inner(key, rate)

    for maker in (make, around):
        values = (1.0, 2.0, "text", np.zeros(3), np.ones(3), jnp.zeros(2))
        codes = [identify(Partial(maker(value)))["code"] for value in values]
        assert len(set(codes)) == len(values)
        assert identify(Partial(maker(1.0)))["code"] == codes[0]


class Scaled:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, key, rate):
        return rate * self.scale

    def run(self, key, rate):
        return rate * self.scale


def _jitted(value):
    return jax.jit(lambda key, rate: rate * value)


def _over_dict(value):
    settings = {"deep": [value]}
    return lambda key, rate: rate * settings["deep"][0]


def _default(value):
    def run(key, rate, scale=value):
        return rate * scale

    return run


MAKERS = {
    "functools.partial": lambda value: functools.partial(second, data=value),
    "callable object": Scaled,
    "bound method": lambda value: Scaled(value).run,
    "jitted closure": _jitted,
    "closure over a dict": _over_dict,
    "default": _default,
    "bound function": lambda value: Partial(first, data=Partial(Scaled(value))),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_functions_of_other_values_are_told_apart_however_they_hold_them(maker):
    large = np.zeros(5000)
    other = large.copy()
    other[2500] = 1
    values = (1.0, 5.0, large, other, np.zeros(4, np.float32), np.zeros(2, np.float64))
    known = [identify(as_partial(MAKERS[maker](value))) for value in values]
    assert len({(about["code"], about["arrays"]) for about in known}) == len(values)
    assert identify(as_partial(MAKERS[maker](1.0))) == known[0]


def test_identity_holds_no_address():
    program = (
        "from tests.sweeps.test_plans import MAKERS, _default, as_partial, identify, np\n"
        "nested = lambda key, rate: (lambda x: x * 2)(rate)\n"
        "print([identify(as_partial(f)) for f in (nested, _default(np.ones(2)), MAKERS['bound function'](2.0))])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout != ""


def test_settings_of_jax_are_part_of_it():
    about = identify(Partial(first, data=jnp.ones(3)))
    with jax.enable_x64(True):
        assert identify(Partial(first, data=np.ones(3, np.float32)))["settings"] != about["settings"]
