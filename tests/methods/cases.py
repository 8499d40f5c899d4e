"""The methods under the conformance tests. A new method joins by one line in `CASES`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import badrjax as bx

NUM_FEATURES, NUM_GROUPS = 5, 2


def sgd(learning_rate=0.05, weight_decay=5e-4):
    return Partial(momentum_sgd, learning_rate=learning_rate, weight_decay=weight_decay)


def momentum_sgd(learning_rate, weight_decay):
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum=0.9))


def variance_of_groups(losses):
    """An objective of BADR: the variance of the group losses."""
    return Partial(group_variance, losses)


def group_variance(losses, params, batch):
    values = losses(params, batch, None)
    return bx.objectives.variance(*bx.objectives.group_losses(values, batch.group, NUM_GROUPS, batch.weight))


def follow(**options):
    """Options of FairBiNN on the network below, whose output layer follows."""
    fairness = bx.losses.fairness(bx.objectives.squared_disparity, network(0.0), num_groups=NUM_GROUPS)
    return {"fairness": fairness, "labels": bx.follower_layers("output"), "fairness_weight": 0.5, **options}


CASES = {
    "erm": lambda losses, optimizer, _: bx.erm(losses, optimizer),
    "erm-root": lambda losses, optimizer, _: bx.erm(losses, optimizer, reduction="root"),
    "dro": lambda losses, optimizer, _: bx.dro(losses, optimizer, fraction=0.4),
    "dro-sum": lambda losses, optimizer, _: bx.dro(losses, optimizer, fraction=0.4, reduction="sum", whole_rows=True),
    "dro-chi": lambda losses, optimizer, _: bx.dro(losses, optimizer, fraction=0.3, ball="chi_square"),
    "group_dro": lambda losses, optimizer, _: bx.group_dro(losses, optimizer, num_groups=NUM_GROUPS, step_size=0.1),
    "badr": lambda losses, optimizer, validation: bx.badr(
        losses, optimizer, variance_of_groups(losses), num_groups=NUM_GROUPS, data=validation, regularisation=0.01
    ),
    "badr-batch": lambda losses, optimizer, _: bx.badr(
        losses, optimizer, variance_of_groups(losses), num_groups=NUM_GROUPS, clip=0.01, damping=0.1
    ),
    "fairbinn": lambda losses, optimizer, _: bx.fairbinn(losses, optimizer, **follow()),
    "fairbinn-accumulated": lambda losses, optimizer, _: bx.fairbinn(
        losses, optimizer, **follow(rule="accumulated", follower_steps=2)
    ),
    "fairbinn-lagrangian": lambda losses, optimizer, _: bx.fairbinn(losses, optimizer, **follow(rule="lagrangian")),
    "fairbinn-total": lambda losses, optimizer, _: bx.fairbinn(losses, optimizer, **follow(rule="total")),
    "fairbinn-implicit": lambda losses, optimizer, _: bx.fairbinn(
        losses, optimizer, **follow(rule="total", response="implicit", damping=1.0)
    ),
    "learning_to_reweight": lambda losses, optimizer, validation: bx.learning_to_reweight(
        losses, optimizer, validation, num_groups=NUM_GROUPS
    ),
    "forml": lambda losses, optimizer, validation: bx.forml(
        losses, optimizer, validation, num_groups=NUM_GROUPS, lookahead="sgd", diagnostics="step"
    ),
    "meta_group_dro": lambda losses, optimizer, validation: bx.meta_group_dro(
        losses, optimizer, validation, num_groups=NUM_GROUPS, lookahead_dropout="off", diagnostics="off"
    ),
    "nash_meta": lambda losses, optimizer, validation: bx.nash_meta(
        losses, optimizer, validation, num_groups=NUM_GROUPS, goal="forml", bargaining_epochs=1, diagnostics=3
    ),
    "nash_meta-cells": lambda losses, optimizer, validation: bx.nash_meta(
        losses,
        optimizer,
        validation,
        num_groups=NUM_GROUPS,
        goal=Partial(bx.objectives.cvar, fraction=0.5),
        bargaining_epochs=jnp.int32(2),
        cells="cells",
        lookahead_dropout="fresh",
        validation_dropout=True,
    ),
}
# Methods that take a model, or networks of their own, in the place of losses.
CASES_OF_MODELS = {
    "fairlab": lambda model, optimizer, validation: bx.fairlab(
        model, optimizer, constraints(), validation, rounds=2, local_epochs=2, logit_scale=2.0, penalty=200.0
    ),
    "cosmos": lambda model, optimizer, _: bx.cosmos(model, optimizer, constraints()),
    "ffvae": lambda networks, optimizer, _: bx.ffvae(
        networks, optimizer, jnp.arange(NUM_GROUPS)[:, None], alpha=1.0, gamma=1.0
    ),
}
EACH = (*CASES, *CASES_OF_MODELS)
# A code is sampled for each row, by its place: a row of weight two has one, and another order other codes.
SAMPLED_BY_ROW = ("ffvae",)


def constraints():
    """Demographic parity of the two groups, which are the cells too."""
    groups, labels = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    return bx.fairness_constraints([("demographic_parity", "group", 0.0)], {"group": groups}, labels).constraints


# A second variant of a family, or another goal of the same step, costs a minute of compilation and rarely says
# anything new.
VARIANTS = (
    "badr-batch",
    "fairbinn-accumulated",
    "fairbinn-lagrangian",
    "fairbinn-implicit",
    "nash_meta-cells",
    "forml",
    "meta_group_dro",
    "erm-root",
    "dro-sum",
    "dro-chi",
)
# One method stands for all in the tests that compile whole runs.
OF_ONE_FAMILY = (
    "badr", "fairbinn", "fairbinn-total", "erm", "dro", "learning_to_reweight", "fairlab", "cosmos", "ffvae",
)  # fmt: skip


def rows(seed, num_rows):
    """Random rows whose label depends on the features, in two groups."""
    keys = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(keys[0], (num_rows, NUM_FEATURES))
    y = (x[:, 0] + 0.5 * jax.random.normal(keys[1], (num_rows,)) > 0).astype(jnp.int32)
    return bx.Batch(x, y, jax.random.randint(keys[2], (num_rows,), 0, NUM_GROUPS), jnp.ones(num_rows))


def validation_rows():
    """Two rows of each group x label cell."""
    batch = rows(7, 8)
    return batch._replace(y=jnp.array([0, 0, 1, 1] * 2), group=jnp.repeat(jnp.arange(2), 4))


def network(dropout=0.2, num_features=NUM_FEATURES):
    return bx.models.mlp(num_features, hidden=(8,), num_outputs=2, dropout=dropout)


def make(case, *, learning_rate=0.05, dropout=0.2, optimizer=None):
    """A method of `CASES` or `CASES_OF_MODELS` on the small network."""
    optimizer = sgd(learning_rate) if optimizer is None else optimizer
    if case in CASES_OF_MODELS:
        return CASES_OF_MODELS[case](network_of(case, dropout), optimizer, validation_rows())
    return CASES[case](bx.losses.cross_entropy(network(dropout)), optimizer, validation_rows())


def network_of(case, dropout=0.2):
    """What a case trains: COSMOS is told the preference between its two objectives besides."""
    if case == "ffvae":
        return bx.ffvae_networks(NUM_FEATURES, (NUM_GROUPS,), latent=2, hidden=(8,), discriminator_hidden=(8,))
    return network(dropout, NUM_FEATURES + 2 * (case == "cosmos"))


def moving(state):
    """What a step moves, as one vector: FairLAB's `params` is the best model, not the iterate."""
    return ravel_pytree(state.local_params if hasattr(state, "local_params") else state.params)[0]


# Compiled once for a method and shapes: eager steps would compile every operation by itself.
init_params = jax.jit(lambda key, case="erm": network_of(case).init(key), static_argnames="case")
init_state = jax.jit(lambda method, key, params: method.init(key, params))
take_step = jax.jit(lambda method, key, state, batch: method.step(key, state, batch))
