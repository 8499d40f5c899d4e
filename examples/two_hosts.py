"""One run over several hosts, or over several processes of this machine: the same script, started once for each.

On this machine, in two terminals (on a cluster, with the address of the first host and one process a host):

    python examples/two_hosts.py --coordinator localhost:9876 --num-processes 2 --process 0
    python examples/two_hosts.py --coordinator localhost:9876 --num-processes 2 --process 1

On SLURM and TPUs `jax.distributed.initialize()` needs no arguments. Each process prints the same losses.
"""

import argparse
from typing import Any

import jax
import optax
from jax.tree_util import Partial

import badrjax as bx
from badrjax.batches import frequencies


def main() -> None:
    """Train a network on Adult, its rows dealt over all devices of all processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coordinator", default="localhost:9876", help="address of the first process")
    parser.add_argument("--num-processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    if options.num_processes > 1:  # before anything else of JAX
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(options.coordinator, options.num_processes, options.process)

    adult = bx.load_dataset("adult", sensitive="sex")
    splits = bx.datasets.split(adult, "stratified", seed=0)
    adult = bx.datasets.standardise(adult, splits.train)
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    train = bx.deal(bx.to_batch(adult, splits.train), mesh, seed=0)
    validation = bx.deal(bx.to_batch(adult, splits.validation), mesh)

    model = bx.models.mlp(adult.x.shape[1], hidden=(64,), dropout=0.0)
    losses = bx.losses.cross_entropy(model)
    method = bx.erm(losses, Partial(optax.sgd, learning_rate=0.05, momentum=0.9))
    result = bx.fit_sharded(
        jax.random.key(0),
        method,
        model.init(jax.random.key(1)),
        train,
        num_epochs=options.epochs,
        sampler=bx.shuffled(64 * jax.device_count()),
        mesh=mesh,
        evaluate=Partial(mean_loss, losses, validation),
    )
    where = f"process {jax.process_index()} of {jax.process_count()}, {jax.device_count()} devices"
    print(f"{where}: validation loss by epoch {[round(float(loss), 5) for loss in result.evaluations]}")


def mean_loss(losses: Partial, rows: bx.Batch, state: Any) -> jax.Array:
    """Mean loss of some rows, dealt or not."""
    weight = frequencies(rows)  # 0 for the rows that fill the last shard up
    return (weight @ losses(state.params, rows, None)) / weight.sum()


if __name__ == "__main__":
    main()
