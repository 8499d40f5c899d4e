"""Exponentiated gradient: fairlearn moves the multipliers, a compiled training run answers."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from badrjax.batches import Batch
from badrjax.checks import check_positive_integer, is_concrete
from badrjax.extras import require
from badrjax.models.base import Model
from badrjax.reductions.oracle import Learner, Oracle
from badrjax.reductions.randomised import LEARNED, ExpGradResult
from badrjax.reductions.training_rows import CONSTRAINTS, check_numbers, check_train, repeated
from badrjax.samplers import Sampler
from badrjax.training import check_run


def expgrad(
    key: Array,
    model: Model,
    train: Batch,
    *,
    constraint: str = "demographic_parity",
    gap: float,
    params: Any = None,
    optimizer: Any = None,
    num_epochs: int = 10,
    sampler: Sampler | None = None,
    warm_start: bool = True,
    eps: float = 0.01,
    max_iter: int = 50,
    nu: float | None = None,
    eta0: float = 2.0,
    run_linprog_step: bool = True,
) -> ExpGradResult:
    r"""Exponentiated gradient for a fair randomised classifier (Agarwal et al., 2018, ICML), by fairlearn.

    It seeks the saddle point of the error of a distribution `Q` over predictors `h` and of multipliers,

        min_Q  max_{m >= 0, sum m <= 1/eps}   P_Q[h != y] + sum_c m_c (v_c(Q) - gap/2),

    where `c` runs over groups, signs and the events `E` of the constraint, and
    `v = +-(P_Q[h = 1 | group, E] - P_Q[h = 1 | E])`. The event is every row for `"demographic_parity"`, `y = 1` for
    `"equal_opportunity"`, `y = 0` for `"predictive_equality"`, each of the two for `"equalized_odds"`. The multipliers
    take exponentiated steps. The answer to each is a predictor for the cost-sensitive problem: row `i` has a signed
    cost `c_i`, and `sum_i |c_i| cross_entropy(score_i, 1[c_i > 0])` is trained on by `badrjax.erm`. A step follows the
    mean of these products over its batch, the `|c_i|` having mean 1 over the training rows.

    `gap` bounds the distance between any two groups. fairlearn bounds each group against the overall rate, so it is
    given `difference_bound = gap / 2`, which implies the former. Of two unequal groups it asks for more, as the overall
    rate is near that of the larger one: where this has a share `s` of the event's rows, for `gap / (2 s)`. With ideal
    predictors the expected gap on the training rows is at most `gap + 2 eps (1 + 2 best_gap)`. `gap = 1` asks for
    nothing: the result is the first answer, the unconstrained learner.

    It runs on the host, one compiled program for all answers. fairlearn draws nothing: the same key gives the same
    bits. The starting parameters come from `fold_in(key, 0)`, training run `t = 1, 2, ...` from `fold_in(key, t)`.

    Args:
        key: a typed key; consumed.
        model: a model with scores `f[n]` or `f[n, 2]`; class 1 is predicted where the logit is positive.
        train: n training rows, `y` classes 0 and 1, `group` ids `>= 0`. Weights are whole numbers: a row of weight 3
            is repeated three times, one of weight 0 takes no part, as fairlearn knows no weights of its own.
        constraint: one of the four names above.
        gap: largest allowed gap between two groups, in `[0, 1]`.
        params: starting parameters; `None` takes `model.init`.
        optimizer: as for `badrjax.erm`; `None` is Adam with a learning rate of 1e-3. Its state starts anew in each run.
        num_epochs: of each training run, `>= 1`.
        sampler: of each training run; `None` is `badrjax.shuffled(1024)`, or all rows where there are fewer.
        warm_start: whether a run starts where the last one ended, or from the starting parameters.
        eps: the multipliers add up to at most `1 / eps`, `> 0`.
        max_iter: most rounds, `>= 1`. fairlearn takes at least 6.
        nu: duality gap at which to stop, `>= 0`; `None` is half a standard error of the first predictor's errors.
        eta0: first step size of the multipliers, in units of `eps`, `> 0`.
        run_linprog_step: whether each round also solves for the best distribution over the predictors so far.

    Returns:
        An `ExpGradResult`.

    Raises:
        ValueError: before training, for an unknown constraint, numbers out of range, features that are not finite,
            labels other than 0 and 1 or all alike, weights that are not whole, fewer than two groups, a group without
            rows of a class that the constraint needs, or arrays that are traced.
        TypeError: for an old-style key, float labels, or an optimizer or sampler that is none.
        ModuleNotFoundError: without fairlearn (`pip install 'badrjax[experiments]'`).
    """
    if not is_concrete(key, train, params, gap):
        raise ValueError("expgrad is driven from the host: call it outside of jit, vmap and grad")
    check_run(key, num_epochs, "epoch")
    check_positive_integer(num_epochs=num_epochs, max_iter=max_iter)
    check_numbers(constraint, gap, eps, nu, eta0)
    check_train(train, constraint)
    fairlearn, pandas = require("fairlearn.reductions", "expgrad"), require("pandas", "expgrad")
    x, labels, groups = repeated(train)
    oracle = Oracle(key, model, params, optimizer, x, groups, num_epochs, sampler, warm_start)
    moment = getattr(fairlearn, CONSTRAINTS[constraint][0])
    # A group may be further from the overall rate than half of the largest gap, so 1 is no bound at all.
    free = gap == 1
    solver = fairlearn.ExponentiatedGradient(
        Learner(oracle),
        moment(difference_bound=1.0 if free else gap / 2),
        eps=eps,
        max_iter=1 if free else max_iter,
        nu=nu,
        eta0=eta0,
        run_linprog_step=run_linprog_step,
    )
    with warnings.catch_warnings():
        # How fairlearn calls pandas is not the caller's business.
        for category in (DeprecationWarning, pandas.errors.PerformanceWarning):
            warnings.filterwarnings("ignore", category=category, module="fairlearn")
        # The features come back as they are and nothing is read off them, so row numbers will do.
        solver.fit(np.arange(labels.size)[:, None], labels, sensitive_features=groups)
    return _result(solver, oracle.start)


def _result(solver: Any, start: Any) -> ExpGradResult:
    """The predictors that are drawn, read off fairlearn's solver."""
    # The linear program's solution may be off by rounding, below 0 too.
    weights = solver.weights_.sort_index()
    weights = weights[weights > 1e-12]
    predictors = [solver.predictors_[number] for number in weights.index]
    learned = [isinstance(predictor, Learner) for predictor in predictors]
    params = [p.params if is_ours else start for p, is_ours in zip(predictors, learned, strict=True)]
    row = np.zeros((1, 1), int)
    constants = [LEARNED if is_ours else int(p.predict(row)[0]) for p, is_ours in zip(predictors, learned, strict=True)]
    return ExpGradResult(
        jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *params),
        jnp.asarray(weights.to_numpy() / weights.sum(), jnp.result_type(float)),
        jnp.asarray(constants, jnp.int32),
        float(solver.best_gap_),
        int(solver.n_oracle_calls_),
        int(solver.last_iter_) + 1,
    )
