r"""The augmented Lagrangian of inequality constraints `g <= 0`, as pure functions on arrays of C constraints.

A constraint with multiplier `mu >= 0` and penalty `sigma >= 0` adds, for a violation `g`,

    psi(g) = mu g + sigma g^2 / 2   where mu + sigma g >= 0,   else   -mu^2 / (2 sigma)

to the loss (Rockafellar, 1973; Bertsekas, 1982). For `sigma > 0` this is `(max(0, mu + sigma g)^2 - mu^2) /
(2 sigma)`, and its derivative by `g` is `max(0, mu + sigma g)` for any `sigma`. Minimising over the parameters
and stepping `mu <- max(0, mu + rho g)` in turn leads to a point that satisfies the constraints, and to its
Lagrange multipliers.

Signs: losses go down, constraints are `g <= 0`, multipliers are `>= 0`. An equality `h = 0` is the two constraints
`h` and `-h`; its multiplier is the difference of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from badrjax.checks import is_concrete
from badrjax.functions import Static, static_value
from badrjax.groups import as_float


class AugmentedLagrangianState(NamedTuple):
    """What the next step needs, for C constraints.

    Attributes:
        multipliers: the duals `mu`, `f[C]`, `>= 0`.
        best_violations: least `max(g, 0)` an update has seen, `f[C]`; infinity before the first.
        num_stalled: consecutive updates, up to the last, that did not improve on the best, `int32[C]`.
        dual_state: state of the dual's optax transformation.
    """

    multipliers: Float[Array, "C"]
    best_violations: Float[Array, "C"]
    num_stalled: Int[Array, "C"]
    dual_state: Any


class AugmentedLagrangianInfo(NamedTuple):
    """What a person needs. A constraint is measured when it is active and its violation is not NaN.

    Attributes:
        violations: `f[C]`, as given; NaN for inactive constraints.
        multipliers: `f[C]`.
        max_violation: largest violation of a measured constraint (negative where all have slack), `f[]`; NaN where
            none is measured.
        feasible: `bool[]`, whether every active constraint is measured and within the tolerance.
        complementarity: largest `|mu g|` of a measured constraint, 0 at a solution, `f[]`; NaN where none is
            measured.
        num_violated: measured constraints outside the tolerance, `int32[]`.
        num_missing: active constraints that could not be measured, `int32[]`.
    """

    violations: Float[Array, "C"]
    multipliers: Float[Array, "C"]
    max_violation: Float[Array, ""]
    feasible: Bool[Array, ""]
    complementarity: Float[Array, ""]
    num_violated: Int[Array, ""]
    num_missing: Int[Array, ""]


class AugmentedLagrangian(NamedTuple):
    """An augmented Lagrangian as a pytree of pure functions, for constraints `g <= 0`.

    Members are `jax.tree_util.Partial`s whose numbers are leaves: another penalty does not recompile, and `vmap`
    over augmented Lagrangians works. `active` is a `bool[C]` mask (`None` means all): an inactive constraint
    contributes exactly nothing, with derivative 0, whatever its violation.

    Attributes:
        init: `init(num_constraints, *, multipliers=None, dtype=None) -> state`; `multipliers` `f[C]`, `>= 0`, 0 by
            default, in `dtype` (by default that of `multipliers`, else JAX's default float).
        value: `value(state, violations f[C], active=None) -> f[]`, the sum of `psi` in the dtype of the violations.
            Differentiable in the violations and the penalty; the multipliers are held fixed. A NaN violation (a
            rate of a group that has no rows, say) takes no part: 0, with derivative 0. An infinite one counts as
            the formula has it, and may make the value infinite or NaN.
        update: `update(state, violations f[C], active=None) -> state` moves the multipliers. It may be given other
            violations than `value` was: hard rates here, a smooth surrogate there. A constraint whose violation is
            NaN or infinite keeps its multiplier, best violation and patience.
        info: `info(state, violations f[C], active=None, tolerance=0.0) -> AugmentedLagrangianInfo`.
    """

    init: Callable[..., AugmentedLagrangianState]
    value: Callable[..., Array]
    update: Callable[..., AugmentedLagrangianState]
    info: Callable[..., AugmentedLagrangianInfo]


class _Settings(NamedTuple):
    """The numbers; exactly one of `multiplier_step` and `dual_optimizer` is not `None`."""

    penalty: Array
    patience: Array
    multiplier_step: Array | None
    dual_optimizer: Partial | None


def augmented_lagrangian(
    *,
    penalty: float | Float[Array, ""] | Float[Array, "C"],
    multiplier_step: float | Float[Array, ""] | Float[Array, "C"] | None = None,
    patience: int | Int[Array, ""] = 0,
    dual_optimizer: optax.GradientTransformation | Partial | None = None,
) -> AugmentedLagrangian:
    r"""The augmented Lagrangian method for constraints `g <= 0`; the module has its equations.

    `update` moves a multiplier to `max(0, mu + \rho g)` when `max(g, 0)` has not come below its best in `patience`
    consecutive updates, this one included, and at each further one until it does. So with a patience of 2 the second
    update in a row without improvement is the first to move; with 0 every update moves. A satisfied constraint has
    nothing left to improve: after `patience` updates its multiplier goes down.

    Args:
        penalty: `\sigma >= 0`, a number or one a constraint, `f[C]`. 0 is the plain Lagrangian `mu g`.
        multiplier_step: `\rho > 0`, a number or one a constraint, `f[C]`; at most `2 \sigma` where `\sigma > 0`,
            for the dual curves by up to `1 / \sigma` and longer steps diverge unless the loss curves enough.
            `\rho = \sigma` is the textbook choice. With `\sigma = 0` the loss alone decides what is too long.
        patience: whole number of updates `>= 0`.
        dual_optimizer: an optax transformation to move the multipliers by, instead of `multiplier_step`. It takes
            violations as gradients, and its updates are added: an optimiser of optax descends, so turn it round,
            `optax.chain(optax.adam(0.1), optax.scale(-1.0))`. Multipliers are clamped at 0 after it; its step is not
            compared with the penalty. A constraint that does not move keeps its entries in the `[C]` leaves of its
            state. Numbers in a `Partial` that returns a transformation, `Partial(dual_ascent, 0.1)`, are leaves.

    Returns:
        An `AugmentedLagrangian`. Multipliers that grow without end mean constraints that cannot be met together.

    Raises:
        ValueError: unless exactly one of `multiplier_step` and `dual_optimizer` is given; for more than one axis or
            unequal lengths; (outside tracing) for a negative or infinite penalty, a step that is not positive or
            exceeds twice a positive penalty, a negative patience, or a dual optimiser that descends.
        TypeError: for a patience that is not whole, or a dual optimiser that is no optax transformation.
    """
    if (multiplier_step is None) == (dual_optimizer is None):
        raise ValueError("give either multiplier_step or a dual_optimizer, which has its own step")
    _check_penalty(penalty)
    _check_patience(patience)
    if multiplier_step is not None:
        _check_multiplier_step(multiplier_step, penalty)
        multiplier_step = _leaf(multiplier_step)
    optimizer = None if dual_optimizer is None else _dual_optimizer(dual_optimizer)
    settings = _Settings(_leaf(penalty), jnp.asarray(patience, jnp.int32), multiplier_step, optimizer)
    return AugmentedLagrangian(
        Partial(_init, settings), Partial(_value, settings), Partial(_update, settings), Partial(_info, settings)
    )


def dual_ascent(multiplier_step: float | Float[Array, ""] | Float[Array, "C"]) -> optax.GradientTransformation:
    r"""Projected gradient ascent `mu <- max(0, mu + \rho g)` on multipliers, as an optax transformation.

    It takes violations as gradients and multipliers (`>= 0`) as parameters; `optax.apply_updates` of its updates
    leaves multipliers `>= 0`. In `optax.chain` put it last, or end the chain with `optax.keep_params_nonnegative()`.

    Args:
        multiplier_step: `\rho > 0`, a number or one a constraint; may be traced.

    Returns:
        An `optax.GradientTransformation`, which needs `params`.

    Raises:
        ValueError: (outside tracing) for a step that is not positive, or more than one axis.
    """
    _check_multiplier_step(multiplier_step, None)
    return optax.chain(optax.scale(multiplier_step), optax.keep_params_nonnegative())


def _leaf(number: Any) -> Array:
    """As floats of a definite type, so that `1` and `np.float32(1)` are the same program."""
    number = as_float(number)
    return number.astype(number.dtype)


def _init(
    settings: _Settings, num_constraints: int, *, multipliers: Any = None, dtype: Any = None
) -> AugmentedLagrangianState:
    if isinstance(num_constraints, bool) or not isinstance(num_constraints, int | np.integer) or num_constraints < 1:
        raise ValueError(f"num_constraints must be a positive Python int (it fixes a shape), got {num_constraints!r}")
    for name in ("penalty", "multiplier_step"):
        number = getattr(settings, name)
        if number is not None and number.ndim and number.shape != (num_constraints,):
            raise ValueError(f"{name} has shape {number.shape} for {num_constraints} constraints; give one each")
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be a float type, got {dtype}; multipliers are real numbers")
    if multipliers is None:
        multipliers = jnp.zeros(num_constraints, jnp.result_type(float) if dtype is None else dtype)
    _check_constraints("multipliers", multipliers, num_constraints)
    values = np.asarray(multipliers) if is_concrete(multipliers) else np.zeros(1)
    if not np.isfinite(values).all():
        raise ValueError(f"multipliers must be finite, got {values}")
    if not (values >= 0).all():
        raise ValueError("multipliers of constraints g <= 0 must be >= 0; an equality is two constraints, h and -h")
    multipliers = as_float(multipliers) if dtype is None else jnp.asarray(multipliers, dtype)
    best = jnp.full(num_constraints, jnp.inf, multipliers.dtype)
    stalled = jnp.zeros(num_constraints, jnp.int32)
    return AugmentedLagrangianState(multipliers, best, stalled, _transformation(settings).init(multipliers))


def _value(
    settings: _Settings, state: AugmentedLagrangianState, violations: Any, active: Any = None
) -> Float[Array, ""]:
    violations, active = _checked(state, violations, active)
    measured = active & ~jnp.isnan(violations)
    # Masked before the formula, so that no derivative sees what an unmeasured constraint holds.
    terms = _term(
        jax.lax.stop_gradient(state.multipliers).astype(violations.dtype),
        jnp.broadcast_to(settings.penalty.astype(violations.dtype), violations.shape),
        jnp.where(measured, violations, 0.0),
    )
    return jnp.sum(jnp.where(measured, terms, 0.0))


def _term(multiplier: Array, penalty: Array, violation: Array) -> Array:
    """`psi` elementwise, without a division outside its branch."""
    # A smaller penalty would overflow in the derivative of the division; there the quadratic is off by less than
    # sigma g^2, and at exactly 0 it is the rule.
    divides = penalty > jnp.sqrt(jnp.finfo(penalty.dtype).tiny)
    slack = divides & (multiplier + penalty * violation < 0)
    near = jnp.where(slack, 0.0, violation)
    curved = near * (multiplier + 0.5 * penalty * near)
    flat = -0.5 * multiplier * (multiplier / jnp.where(slack, penalty, 1.0))
    return jnp.where(slack, flat, curved)


def _update(
    settings: _Settings, state: AugmentedLagrangianState, violations: Any, active: Any = None
) -> AugmentedLagrangianState:
    violations, active = _checked(state, violations, active)
    violations = violations.astype(state.multipliers.dtype)
    measured = active & jnp.isfinite(violations)
    amount = jnp.maximum(violations, 0.0)
    improved = amount < state.best_violations
    num_stalled = jnp.where(improved, 0, state.num_stalled + 1)
    moves = measured & (num_stalled >= settings.patience)
    multipliers, dual_state = _dual_step(settings, state, violations, moves)
    return AugmentedLagrangianState(
        multipliers,
        jnp.where(measured & improved, amount, state.best_violations),
        jnp.where(measured, num_stalled, state.num_stalled),
        dual_state,
    )


def _dual_step(
    settings: _Settings, state: AugmentedLagrangianState, violations: Array, moves: Array
) -> tuple[Array, Any]:
    """Multipliers and the optimiser's state after a step of the constraints that move."""
    gradient = jnp.where(moves, violations, 0.0)
    updates, dual_state = _transformation(settings).update(gradient, state.dual_state, state.multipliers)
    moved = jnp.maximum(optax.apply_updates(state.multipliers, updates), 0.0)

    def kept(new: Array, old: Array) -> Array:
        # Momentum belongs to one constraint, a step count to all of them.
        stays = moves if jnp.shape(new) == moves.shape else jnp.any(moves)
        return jnp.where(stays, new, old)

    return jnp.where(moves, moved, state.multipliers), jax.tree.map(kept, dual_state, state.dual_state)


def _info(
    settings: _Settings,
    state: AugmentedLagrangianState,
    violations: Any,
    active: Any = None,
    tolerance: float | Array = 0.0,
) -> AugmentedLagrangianInfo:
    del settings
    violations, active = _checked(state, violations, active)
    measured = active & ~jnp.isnan(violations)
    # A multiplier of 0 is complementary to any slack, an infinite one too.
    products = jnp.where(state.multipliers > 0, jnp.abs(state.multipliers.astype(violations.dtype) * violations), 0.0)
    violated = measured & ~(violations <= jnp.asarray(tolerance, violations.dtype))
    return AugmentedLagrangianInfo(
        violations=jnp.where(active, violations, jnp.nan),
        multipliers=state.multipliers,
        max_violation=_largest(violations, measured),
        feasible=jnp.all(jnp.where(active, measured & ~violated, True)),
        complementarity=_largest(products, measured),
        num_violated=jnp.sum(violated, dtype=jnp.int32),
        num_missing=jnp.sum(active & ~measured, dtype=jnp.int32),
    )


def _largest(values: Array, measured: Array) -> Array:
    return jnp.where(jnp.any(measured), jnp.max(jnp.where(measured, values, -jnp.inf)), jnp.nan)


def _transformation(settings: _Settings) -> optax.GradientTransformation:
    if settings.multiplier_step is not None:
        return dual_ascent(settings.multiplier_step)
    assert settings.dual_optimizer is not None
    return settings.dual_optimizer()


def _checked(state: AugmentedLagrangianState, violations: Any, active: Any) -> tuple[Array, Array]:
    """Violations as floats of at least 32 bits, and which constraints are active."""
    num_constraints = state.multipliers.shape[0]
    _check_constraints("violations", violations, num_constraints)
    violations = as_float(violations)
    if active is None:
        return violations, jnp.ones(violations.shape, bool)
    _check_constraints("active", active, num_constraints)
    return violations, jnp.asarray(active).astype(bool)


def _check_constraints(name: str, values: Any, num_constraints: int) -> None:
    if np.shape(values) != (num_constraints,):
        raise ValueError(
            f"{name} must have one entry a constraint, shape ({num_constraints},), and has shape {np.shape(values)}"
        )


def _check_number(name: str, value: Any) -> None:
    if np.ndim(value) > 1:
        raise ValueError(
            f"{name} must be one number or one a constraint and has shape {np.shape(value)}; use jax.vmap over several"
        )


def _check_penalty(penalty: Any) -> None:
    _check_number("penalty", penalty)
    if is_concrete(penalty) and not ((np.asarray(penalty) >= 0) & (np.asarray(penalty) < np.inf)).all():
        raise ValueError(f"penalty must be >= 0 and finite, got {penalty}; 0 is the plain Lagrangian")


def _check_multiplier_step(multiplier_step: Any, penalty: Any) -> None:
    _check_number("multiplier_step", multiplier_step)
    if np.ndim(multiplier_step) and np.ndim(penalty) and np.shape(multiplier_step) != np.shape(penalty):
        raise ValueError(
            f"multiplier_step has shape {np.shape(multiplier_step)} and penalty {np.shape(penalty)}; give one each"
        )
    if is_concrete(multiplier_step):
        step = np.asarray(multiplier_step)
        if not ((step > 0) & (step < np.inf)).all():
            raise ValueError(f"multiplier_step must be > 0 and finite, got {multiplier_step}")
    if penalty is not None and is_concrete(multiplier_step, penalty):
        # In double precision, with room for a step and a penalty that were rounded apart.
        step, sigma = np.broadcast_arrays(np.asarray(multiplier_step, float), np.asarray(penalty, float))
        too_long = (sigma > 0) & (step > 2 * sigma * (1 + 1e-6))
        if too_long.any():
            first = np.flatnonzero(too_long.reshape(-1))[0]
            raise ValueError(
                f"multiplier_step {step.reshape(-1)[first]:g} exceeds twice the penalty {sigma.reshape(-1)[first]:g}: "
                "the multipliers would diverge, for the dual curves by up to 1 / penalty. Take multiplier_step = "
                "penalty, raise the penalty, or set it to 0 for the plain Lagrangian"
            )


def _check_patience(patience: Any) -> None:
    if np.ndim(patience):
        raise ValueError(f"patience must be one number of updates and has shape {np.shape(patience)}")
    if not jnp.issubdtype(jnp.result_type(patience), jnp.integer):
        raise TypeError(f"patience must be a whole number of updates, got {patience!r}")
    if is_concrete(patience) and int(patience) < 0:
        raise ValueError(f"patience must be >= 0 updates, got {int(patience)}; with 0 every update moves")


def _dual_optimizer(optimizer: Any) -> Partial:
    """The optimiser as a `Partial` without arguments that returns the transformation, checked to ascend."""
    if isinstance(optimizer, optax.GradientTransformation):
        optimizer = Partial(static_value, Static(optimizer))
    built = optimizer() if isinstance(optimizer, Partial) else None
    if not isinstance(built, optax.GradientTransformation):
        raise TypeError(
            "dual_optimizer must be an optax transformation, or a jax.tree_util.Partial that returns one, such as "
            f"Partial(dual_ascent, 0.1); got {type(optimizer).__name__}"
        )
    if is_concrete(optimizer):
        with jax.ensure_compile_time_eval():
            one = jnp.ones(1)
            updates, _ = built.update(one, built.init(one), one)
        if (np.asarray(updates) < 0).any():
            raise ValueError(
                "dual_optimizer lowers the multiplier of a violated constraint: it takes violations as gradients and "
                "must ascend, while optax descends. Use optax.chain(optimizer, optax.scale(-1.0))"
            )
    return optimizer
