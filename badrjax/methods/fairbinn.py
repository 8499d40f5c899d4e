r"""FairBiNN: the accuracy layers of a network lead, its fairness layers follow (Yazdani-Jahromi et al., NeurIPS 2024).

The parameters are split in two blocks, leader `a` and follower `f`, with a loss each: `L(a, f)`, the mean loss of the
task, and `eta F(a, f)`, a fairness loss. The paper's problem is a Stackelberg game,

    min_a L(a, f*(a)),    f*(a) in argmin_f F(a, f).

Four update rules are offered, which settle at different points:

| `rule` | the follower descends on | the leader descends on | where it settles |
| --- | --- | --- | --- |
| `"separated"` (A, the paper's text) | `eta F` | `L` at the new f | Nash: `grad_a L = 0`, `grad_f F = 0` |
| `"accumulated"` (B, its code) | `eta F` | `L`, and `eta F` at the old f | `grad_a (L + eta F) = 0`, `grad_f F = 0` |
| `"lagrangian"` (C, its baseline) | `L + eta F` | `L + eta F` | `grad (L + eta F) = 0`: Pareto stationary |
| `"total"` (D) | `eta F` | `L(a, f*(a))`, a total derivative | Stackelberg, as far as `response` is that of f* |

The published loop resets gradients once a batch, so what its fairness step leaves in the accuracy layers is added to
their own: it runs B, where its text has A. Neither A nor B takes the follower's response into account, as D does, and
only C's points are Pareto stationary in general (see `tests/methods/test_fairbinn_game.py`).

One unrolled step of the follower, the default of D, is a short look ahead and settles between A and the Stackelberg
point; more steps, or an implicit response, come to it.

An optimiser such as Adam, whose steps do not depend on the scale of the gradient, makes A independent of `eta` (as far
as gradients are large beside Adam's `eps`). What moves it are the two step sizes and the number of the follower's
steps.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.checks import check_positive_integer, is_concrete, unknown_name
from badrjax.functions import Static, as_partial
from badrjax.groups import as_float
from badrjax.hypergradients import implicit_hypergradient_with_info
from badrjax.hypergradients.implicit_gradient import check_not_negative, check_solver
from badrjax.methods.base import Method, descend, mean_loss, optimiser_pytree
from badrjax.methods.layers import follower_layers, join, split
from badrjax.status import Status

Rule = Literal["separated", "accumulated", "lagrangian", "total"]
RULES = ("separated", "accumulated", "lagrangian", "total")
Response = Literal["unrolled", "implicit"]


class FairBiNNState(NamedTuple):
    """Parameters of both blocks, and the state of each block's optimiser."""

    params: Any
    leader_opt_state: Any
    follower_opt_state: Any


class FairBiNNInfo(NamedTuple):
    """What one step saw.

    Attributes:
        loss: `L` of the batch where the leader's gradient is taken, `f[]`: after the follower's steps, or for
            `"lagrangian"` before.
        fairness: `F` (without `eta`) before the step, `f[]`.
        leader_norm: of the gradient that moves the leader, `f[]`.
        follower_norm: of the gradient that moves the follower, the first where it makes several steps, `f[]`.
        relative_residual: of the linear system behind an implicit response, `f[]`; NaN, not measured, otherwise.
        status: `int32[]`, a `Status`: that of an implicit response, `NOT_FINITE` where a loss (labels other than 0 and
            1, say) or the step's result was not finite and nothing was moved, and success otherwise.
    """

    loss: Float[Array, ""]
    fairness: Float[Array, ""]
    leader_norm: Float[Array, ""]
    follower_norm: Float[Array, ""]
    relative_residual: Float[Array, ""]
    status: Int[Array, ""]


class _Config(NamedTuple):
    """What is part of the program."""

    rule: Rule
    response: Response
    follower_steps: int
    solver: Any


class _Problem(NamedTuple):
    """What the step is bound to; a pytree."""

    losses: Partial
    fairness: Partial
    labels: Static
    config: Static
    leader: Partial
    follower: Partial
    fairness_weight: Array
    damping: Array

    def fair(self, leader: Any, follower: Any, batch: Batch, key: Any) -> tuple[Array, Array]:
        """`eta F`, and `F`."""
        value = self.fairness(join(leader, follower), batch, key)
        return self.fairness_weight.astype(value.dtype) * value, value

    def accuracy(self, leader: Any, follower: Any, batch: Batch, key: Any) -> Array:
        """`L`."""
        return mean_loss(self.losses(join(leader, follower), batch, key), frequencies(batch))


class _Gradients(NamedTuple):
    """Of one step, with what was seen on the way."""

    leader: Any
    follower: Any  # where the follower has stopped
    follower_opt_state: Any
    loss: Array
    fairness: Array
    follower_norm: Array
    relative_residual: Array
    status: Array


def fairbinn(
    losses: Any,
    optimizer: Any,
    fairness: Any,
    *,
    labels: Any = None,
    follower_optimizer: Any = None,
    rule: Rule = "separated",
    fairness_weight: Float[Array, ""] | float = 1.0,
    follower_steps: int = 1,
    response: Response = "unrolled",
    damping: Float[Array, ""] | float = 0.0,
    solver: Any = None,
) -> Method:
    r"""FairBiNN as a `Method`; the module's text has the update rules.

    The published settings: `badrjax.models.mlp_with_fairness`, `Partial(optax.adam, learning_rate=1e-3)`, for the
    follower 1e-5, `rule="accumulated"`, batches of 200 rows in the order of the file, 200 epochs, and
    `badrjax.losses.fairness(badrjax.objectives.squared_disparity, model, num_groups=2, variant="fairbinn")` times
    10000.

    Args:
        losses: `ExampleLosses`, `(params, batch, key) -> f[n]`, of the task.
        optimizer: of the leader; an optax transformation or `Partial(optax.adam, learning_rate=...)`.
        fairness: `(params, batch, key) -> f[]`, such as `badrjax.losses.fairness(...)`; groups that a batch lacks must
            take no part in it.
        labels: `labels(params) -> pytree of "leader" and "follower"`, as the label function of `optax.partition`: a
            label for each parameter, or for all below a node; part of the program. `None` is
            `badrjax.follower_layers("fairness")`.
        follower_optimizer: of the follower; `None` is one like `optimizer`.
        rule: see the table.
        fairness_weight: `eta >= 0`, a leaf.
        follower_steps: of the follower for one of the leader, on the same batch, `>= 1`; 1 for `"lagrangian"`, whose
            blocks move together (so an optimiser that reads all gradients at once, to clip them say, sees one
            block). `"accumulated"` takes the leader's share of `F` where the first one starts.
        response: of `"total"`, what stands for `f*(a)`: the follower after its `"unrolled"` steps, differentiated
            through the optimiser, or the `"implicit"` derivative where they end, exact where `grad_f F = 0`.
        damping: `>= 0`, a leaf; added to the Hessian of `F` (without `eta`) in an implicit response, at the price of a
            bias: without it the system of a network, which is singular, has no solution, and nor has that of a batch
            without groups to compare.
        solver: of an implicit response, a lineax solver; `None` is conjugate gradients.

    Returns:
        A `Method` whose state is `FairBiNNState`, with `FairBiNNInfo` a step.

    Raises:
        ValueError: for an unknown rule or response, several follower steps with `"lagrangian"`, (outside tracing) a
            negative `fairness_weight` or `damping`; when called, for labels that leave a block empty, miss a parameter
            or name neither block (which).
        TypeError: for functions that cannot be called, or an optimizer or solver of another kind.
    """
    config = _checked(rule, response, follower_steps, solver)
    check_not_negative("fairness_weight", fairness_weight)
    check_not_negative("damping", damping)
    for name, value in (("fairness_weight", fairness_weight), ("damping", damping)):
        if is_concrete(value) and not np.isfinite(np.asarray(value)):
            raise ValueError(f"{name} must be finite, got {value}")
    labels = follower_layers("fairness") if labels is None else labels
    leader = optimiser_pytree(optimizer)
    problem = _Problem(
        losses=as_partial(losses),
        fairness=as_partial(fairness),
        labels=labels if isinstance(labels, Static) else Static(labels),
        config=Static(config),
        leader=leader,
        follower=leader if follower_optimizer is None else optimiser_pytree(follower_optimizer),
        fairness_weight=as_float(fairness_weight),
        damping=as_float(damping),
    )
    return Method(Partial(_init, problem), Partial(_step, problem))


def _init(problem: _Problem, key: Any, params: Any) -> FairBiNNState:
    leader, follower = split(params, problem.labels.value)
    return FairBiNNState(params, problem.leader().init(leader), problem.follower().init(follower))


def _step(problem: _Problem, key: Any, state: FairBiNNState, batch: Batch) -> tuple[FairBiNNState, FairBiNNInfo]:
    batch = fill_padding(batch)
    weight = frequencies(batch)
    leader, follower = split(state.params, problem.labels.value)
    rule = problem.config.value.rule
    gradients = _GRADIENTS[rule](problem, leader, follower, state.follower_opt_state, batch, jax.random.split(key))
    moved, leader_opt_state = descend(problem.leader, gradients.leader, state.leader_opt_state, leader, weight)
    new = FairBiNNState(join(moved, gradients.follower), leader_opt_state, gradients.follower_opt_state)
    finite = _all_finite((new, gradients.loss, gradients.fairness))
    new = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state)
    info = FairBiNNInfo(
        gradients.loss,
        gradients.fairness,
        optax.tree.norm(gradients.leader),
        gradients.follower_norm,
        gradients.relative_residual,
        jnp.where(finite, gradients.status, Status.NOT_FINITE).astype(jnp.int32),
    )
    return new, info


def _separated(problem: _Problem, leader: Any, follower: Any, opt_state: Any, batch: Batch, keys: Any) -> _Gradients:
    (follower, opt_state), seen = _follow(problem, leader, follower, opt_state, batch, keys[0])
    loss, gradient = jax.value_and_grad(problem.accuracy)(leader, follower, batch, keys[1])
    return _gradients(gradient, follower, opt_state, loss, *seen)


def _accumulated(problem: _Problem, leader: Any, follower: Any, opt_state: Any, batch: Batch, keys: Any) -> _Gradients:
    left_behind = jax.grad(problem.fair, has_aux=True)(leader, follower, batch, jax.random.fold_in(keys[0], 0))[0]
    found = _separated(problem, leader, follower, opt_state, batch, keys)
    return found._replace(leader=jax.tree.map(jnp.add, found.leader, left_behind))


def _lagrangian(problem: _Problem, leader: Any, follower: Any, opt_state: Any, batch: Batch, keys: Any) -> _Gradients:
    def objective(leader: Any, follower: Any) -> tuple[Array, tuple[Array, Array]]:
        # One forward pass serves both losses where the model has no dropout, or one mask for both.
        fair, fairness = problem.fair(leader, follower, batch, keys[1])
        loss = problem.accuracy(leader, follower, batch, keys[1])
        return loss + fair, (loss, fairness)

    (of_leader, of_follower), (loss, fairness) = jax.grad(objective, argnums=(0, 1), has_aux=True)(leader, follower)
    moved, opt_state = descend(problem.follower, of_follower, opt_state, follower, frequencies(batch))
    return _gradients(of_leader, moved, opt_state, loss, fairness, optax.tree.norm(of_follower))


def _total(problem: _Problem, leader: Any, follower: Any, opt_state: Any, batch: Batch, keys: Any) -> _Gradients:
    config = problem.config.value
    if config.response == "implicit":
        return _implicit(problem, leader, follower, opt_state, batch, keys)

    def loss_after(leader: Any) -> tuple[Array, Any]:
        followed = _follow(problem, leader, follower, opt_state, batch, keys[0])
        return problem.accuracy(leader, followed[0][0], batch, keys[1]), followed

    (loss, ((moved, opt_state), seen)), gradient = jax.value_and_grad(loss_after, has_aux=True)(leader)
    return _gradients(gradient, moved, opt_state, loss, *seen)


def _implicit(problem: _Problem, leader: Any, follower: Any, opt_state: Any, batch: Batch, keys: Any) -> _Gradients:
    (follower, opt_state), seen = _follow(problem, leader, follower, opt_state, batch, keys[0])
    key = jax.random.fold_in(keys[0], 0)
    gradient, info = implicit_hypergradient_with_info(
        lambda f, a: problem.fair(a, f, batch, key)[1],
        lambda f, a: problem.accuracy(a, f, batch, keys[1]),
        follower,
        leader,
        solver=problem.config.value.solver,
        damping=problem.damping,
    )
    loss = problem.accuracy(leader, follower, batch, keys[1])
    found = _gradients(gradient, follower, opt_state, loss, *seen)
    return found._replace(relative_residual=info.relative_residual.astype(loss.dtype), status=info.status)


_GRADIENTS = {"separated": _separated, "accumulated": _accumulated, "lagrangian": _lagrangian, "total": _total}


def _follow(
    problem: _Problem, leader: Any, follower: Any, opt_state: Any, batch: Batch, key: Any
) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
    """The follower after its steps with its optimiser's state; `F` and the norm of the gradient before the first."""

    def step(carry: tuple[Any, Any], number: Any) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
        follower, opt_state = carry
        gradient, fairness = jax.grad(problem.fair, argnums=1, has_aux=True)(
            leader, follower, batch, jax.random.fold_in(key, number)
        )
        gradient = jax.tree.map(_differentiable, gradient)
        carry = descend(problem.follower, gradient, opt_state, follower, frequencies(batch))
        return carry, (fairness, optax.tree.norm(jax.lax.stop_gradient(gradient)))

    carry, seen = step((follower, opt_state), 0)
    rest = problem.config.value.follower_steps - 1
    if rest:
        carry, _ = jax.lax.scan(step, carry, jnp.arange(1, rest + 1))
    return carry, seen


def _differentiable(gradient: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The gradient, a constant where its square underflows, as of a dead ReLU: Adam's root has no derivative at 0."""
    tiny = float(jnp.finfo(gradient.dtype).tiny)
    smallest = 1e6 * tiny if tiny < 1e-30 else tiny  # float16 has no room for a margin
    return jnp.where(jnp.square(gradient) < smallest, jax.lax.stop_gradient(gradient), gradient)


def _gradients(leader: Any, follower: Any, opt_state: Any, loss: Array, fairness: Array, norm: Array) -> _Gradients:
    return _Gradients(
        leader, follower, opt_state, loss, fairness, norm,
        relative_residual=jnp.full_like(loss, jnp.nan),
        status=jnp.zeros((), jnp.int32),
    )  # fmt: skip


def _all_finite(tree: Any) -> Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def _checked(rule: Any, response: Any, follower_steps: Any, solver: Any) -> _Config:
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    if response not in ("unrolled", "implicit"):
        raise unknown_name("response", response, ("unrolled", "implicit"))
    check_positive_integer(follower_steps=follower_steps)
    check_solver(solver)
    if rule == "lagrangian" and follower_steps != 1:
        raise ValueError(
            f'follower_steps must be 1 with rule="lagrangian", whose blocks move together, got {follower_steps}; give '
            "the follower a larger step size instead"
        )
    return _Config(rule, response, int(follower_steps), solver)
