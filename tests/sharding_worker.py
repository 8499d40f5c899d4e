"""What tests/test_sharding.py runs in processes of their own, for the number of devices is fixed when JAX starts.

`python -m tests.sharding_worker OUT` on eight devices of one process, or `... OUT PROCESS NUM_PROCESSES PORT` for one
of several. Writes the numbers of `RUNS`, and of one process also other facts, to `OUT`.
"""

import json
import re
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import badrjax as bx
from badrjax import sharding
from badrjax.blocks import in_blocks
from tests.methods import cases

NUM_EPOCHS = 2


class Run(NamedTuple):
    case: str
    sampler: Any
    num_rows: int
    num_shards: int = 8
    seed: int | None = None
    dropout: float = 0.2


RUNS = {
    "erm shuffled": Run("erm", bx.shuffled(16), 67),
    "erm shuffled drop": Run("erm", bx.shuffled(16, "drop"), 67, seed=3),
    "erm full batch": Run("erm", bx.full_batch(), 67),
    "erm in order": Run("erm", bx.in_order(12), 67, num_shards=3, dropout=0.0),
    "dro shuffled": Run("dro", bx.shuffled(24), 64, num_shards=3),
    "dro in order drop": Run("dro", bx.in_order(16, "drop"), 67, seed=1),
    "nash_meta shuffled": Run("nash_meta", bx.shuffled(16), 67, seed=5),
    "nash_meta full batch": Run("nash_meta", bx.full_batch(), 67, num_shards=3),
    "fairlab shuffled": Run("fairlab", bx.shuffled(16), 67, seed=2),
}
OF_TWO_PROCESSES = ("erm shuffled", "nash_meta shuffled")


def rows(num_rows):
    """Rows with frequencies, some of them 0."""
    return cases.rows(1, num_rows)._replace(weight=(jnp.arange(num_rows) % 5).astype(jnp.float32))


def mesh_of(num_shards):
    return jax.make_mesh((num_shards,), ("data",), devices=jax.devices()[:num_shards])


def start(run):
    """Key, method and parameters of a run."""
    return jax.random.key(11), cases.make(run.case, dropout=run.dropout), cases.init_params(jax.random.key(0))


def fitted(run, data=None, key=None, done=None, **options):
    mesh = mesh_of(run.num_shards)
    data = sharding.deal(rows(run.num_rows), mesh, seed=run.seed) if data is None else data
    settings = {"num_epochs": NUM_EPOCHS, "sampler": run.sampler, "mesh": mesh} | options
    own_key, method, params = start(run)
    key, method = own_key if key is None else key, method._replace(done=done)
    return sharding.fit_sharded(key, method, params, data, **settings)


def numbers(result):
    """What was moved and the mean loss by epoch, as one vector."""
    return np.concatenate([np.asarray(cases.moving(result.state)), np.asarray(result.steps.loss).ravel()])


def collectives(run):
    """Kind and largest shape of the collectives in the program of a run, `[[kind, [sizes]], ...]`."""
    mesh = sharding.automatic_mesh(mesh_of(run.num_shards), "data")
    data = sharding.deal(rows(run.num_rows), mesh)
    plan = sharding._Plan(mesh, "data", run.sampler, run.sampler.num_steps(run.num_rows), NUM_EPOCHS)
    key, method, params = sharding._on_mesh(start(run), mesh)
    functions = sharding.as_functions(method, None, "epoch")
    text = sharding._fit.lower(plan, key, functions, params, data).compile().as_text()
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    found = re.findall(rf"= (\(.*?\)|\S+) ({kinds})(?:-start)?\(", text)
    return [[kind, [shape_size(s) for s in re.findall(r"\[([\d,]*)\]", shapes)]] for shapes, kind in found]


def shape_size(shape):
    return int(np.prod([int(length) for length in shape.split(",") if length]))


def messages():
    """What is raised for what cannot be, by a name for it."""
    good, mesh = rows(67), mesh_of(8)
    # What `jax.make_mesh` makes by itself from JAX 0.9 on.
    explicit = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    options = {"num_epochs": NUM_EPOCHS, "sampler": RUNS["erm shuffled"].sampler, "mesh": mesh}
    dealt, run = sharding.deal(good, mesh), RUNS["erm shuffled"]
    begun = start(run)
    calls = {
        "batch size": lambda: fitted(run, dealt, sampler=bx.shuffled(20)),
        "small batch size": lambda: fitted(run, dealt, sampler=bx.shuffled(5)),
        "large batch size": lambda: fitted(run, dealt, sampler=bx.shuffled(72)),
        "axis": lambda: fitted(run, dealt, axis="rows"),
        "deal axis": lambda: sharding.deal(good, mesh, axis="rows"),
        "mesh": lambda: sharding.deal(good, jax.devices()),
        "balanced": lambda: fitted(run, dealt, sampler=bx.group_balanced(16)),
        "not dealt": lambda: fitted(run, good),
        "other mesh": lambda: fitted(run, sharding.deal(good, mesh_of(4))),
        "traced": lambda: jax.jit(lambda d: fitted(run, d))(dealt),
        "set mesh": lambda: under(explicit, lambda: sharding.fit_sharded(*begun, dealt, **options)),
        "few rows": lambda: sharding.deal(rows(7), mesh),
        "not finite": lambda: sharding.deal(good._replace(x=good.x.at[13, 2].set(jnp.nan)), mesh, seed=1),
        "groups": lambda: sharding.deal(good._replace(group=good.group.at[13].set(-1)), mesh),
        "too large": lambda: sharding.deal(changed(good, "x", np.float64, (13, 2), 1e300), mesh),
        "group too large": lambda: sharding.deal(changed(good, "group", np.int64, 13, 2**32 + 1), mesh),
        "weights": lambda: sharding.deal(good._replace(weight=good.weight[:, None]), mesh),
        "seed": lambda: sharding.deal(good, mesh, seed="a"),
        "inside jit": lambda: jax.jit(lambda: fitted(run, dealt))(),
        "sampler": lambda: fitted(run, dealt, sampler=16),
        "record": lambda: fitted(run, dealt, record="always"),
        "num_epochs": lambda: fitted(run, dealt, num_epochs=-1),
    }
    return {name: message(call) for name, call in calls.items()}


def changed(data, field, dtype, place, value):
    """Rows with one value of a field changed, on the host."""
    values = np.asarray(getattr(data, field)).astype(dtype)
    values[place] = value
    return data._replace(**{field: values})


def under(mesh, call):
    with jax.set_mesh(mesh):
        return call()


def message(call):
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def with_padding_of_nan(run):
    """The run on data whose padding holds NaN."""
    data = sharding.deal(rows(run.num_rows), mesh_of(run.num_shards), seed=run.seed)
    padding = sharding.deal_order(run.num_rows, run.num_shards, run.seed).reshape(-1) < 0
    return fitted(run, data._replace(x=jnp.where(padding[:, None], jnp.nan, data.x)))


def with_dealt_validation():
    """A meta-learning run whose validation rows are sharded, too."""
    mesh = mesh_of(8)
    validation = sharding.deal(cases.rows(7, 16), mesh)
    losses = bx.losses.cross_entropy(cases.network(0.0))
    method = cases.CASES["nash_meta"](losses, cases.sgd(), validation)
    data, params = sharding.deal(rows(67), mesh), cases.init_params(jax.random.key(0))
    settings = {"num_epochs": NUM_EPOCHS, "sampler": bx.in_order(16), "mesh": mesh}
    return sharding.fit_sharded(jax.random.key(11), method, params, data, **settings)


def in_blocks_or_whole(block_size):
    """A full-batch run of erm with its losses in blocks, and the bytes its gradient needs beside its arguments."""
    mesh, num_rows, model = mesh_of(8), 4000, cases.network(0.0)
    losses = bx.losses.cross_entropy(model)
    losses = losses if block_size is None else in_blocks(losses, block_size, mesh=mesh)
    data, params = sharding.deal(cases.rows(2, num_rows), mesh), cases.init_params(jax.random.key(0))
    result = sharding.fit_sharded(
        jax.random.key(1), bx.erm(losses, cases.sgd()), params, data, num_epochs=1, sampler=bx.full_batch(), mesh=mesh
    )
    gradient = jax.jit(jax.grad(lambda p, d: jnp.sum(losses(p, d, None))))
    return numbers(result), gradient.lower(params, data).compile().memory_analysis().temp_size_in_bytes


def other_facts():
    """What is not a number of a run, for JSON."""
    run = RUNS["erm shuffled"]
    dealt = sharding.deal(rows(67), mesh_of(8))
    whole, blocks = in_blocks_or_whole(None), in_blocks_or_whole(100)
    keys = jax.random.split(jax.random.key(3), 2)
    lanes = jax.vmap(lambda key: fitted(run, dealt, key).steps.loss)(keys)
    every = fitted(run, dealt, record="step", evaluate=Partial(seen, dealt))
    return {
        "messages": messages(),
        "collectives": {name: collectives(RUNS[name]) for name in ("erm shuffled", "erm full batch")},
        "x of shard 3": np.asarray(dealt.x.addressable_shards[3].data).tolist(),
        "weights": np.asarray(dealt.weight).tolist(),
        "in blocks": [float(np.max(np.abs(whole[0] - blocks[0]))), whole[1], blocks[1]],
        "lanes": [np.asarray(lanes)[1].tolist(), np.asarray(fitted(run, dealt, keys[1]).steps.loss).tolist()],
        "steps": [np.asarray(every.steps.loss).shape, np.asarray(every.evaluations).tolist()],
        "done": np.isnan(fitted(run, dealt, done=Partial(at_once)).steps.loss).tolist(),
        "replicated": all(leaf.is_fully_replicated for leaf in jax.tree.leaves(every)),
    }


def seen(data, state):
    """Total weight of dealt data, by an evaluation."""
    return jnp.sum(data.weight)


def at_once(state):
    return jnp.ones((), bool)


def main(out, process=None, num_processes=None, port=None):
    jax.config.update("jax_numpy_rank_promotion", "raise")
    if process is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", int(num_processes), int(process))
        assert jax.process_count() == int(num_processes)
    names = RUNS if process is None else OF_TWO_PROCESSES
    found = {name: numbers(fitted(RUNS[name])) for name in names}
    found["dealt validation"] = numbers(with_dealt_validation())
    if process is None:
        found |= {
            f"{name}, NaN": numbers(with_padding_of_nan(RUNS[name])) for name in ("erm shuffled", "erm full batch")
        }
        facts = other_facts()
    else:
        # Every process names other rows: all of them must refuse.
        other = rows(67)._replace(y=jnp.full(67, int(process)))
        facts = {
            "rows": message(lambda: sharding.deal(other, mesh_of(8))),
            "key": message(lambda: fitted(RUNS["erm shuffled"], key=jax.random.key(int(process)))),
            "epochs": message(lambda: fitted(RUNS["erm shuffled"], num_epochs=1 + int(process))),
            "sampler": message(lambda: fitted(RUNS["erm shuffled"], sampler=bx.shuffled(16 + 8 * int(process)))),
            # What only one of them can see.
            "NaN": message(lambda: sharding.deal(changed(rows(67), "x", np.float32, (0, 2), np.nan), mesh_of(8))),
            "few rows": message(lambda: sharding.deal(rows(7 + 60 * int(process)), mesh_of(8))),
        }
    np.savez(f"{out}.npz", **found)
    with open(f"{out}.json", "w") as file:
        json.dump(facts, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
