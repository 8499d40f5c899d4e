"""The answer to a cost-sensitive problem: one compiled training run, and what fairlearn sees of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.batches import Batch, map_blocks
from badrjax.losses import binary_logits, cross_entropy_of_scores, of_scores
from badrjax.methods.base import Method
from badrjax.methods.erm import erm
from badrjax.models.base import Model, as_model
from badrjax.reductions.randomised import LEARNED, decisions
from badrjax.samplers import Sampler, shuffled
from badrjax.training import check_sampler, fit

_BATCH_SIZE = 1024
_MOST_ROWS_AT_A_TIME = 4096


class Oracle:
    """Trains on signed costs, call after call; what all the learners of a run share."""

    def __init__(
        self,
        key: Array,
        model: Any,
        params: Any,
        optimizer: Any,
        x: np.ndarray,
        groups: np.ndarray,
        num_epochs: int,
        sampler: Sampler | None,
        warm_start: bool,
    ):
        self.key, self.num_epochs, self.warm_start, self.num_calls = key, num_epochs, warm_start, 0
        self.model = as_model(model)
        optimizer = Partial(optax.adam, learning_rate=1e-3) if optimizer is None else optimizer
        self.method: Method = erm(of_scores(_loss_of_cost, self.model), optimizer)
        self.sampler = shuffled(min(_BATCH_SIZE, groups.size)) if sampler is None else sampler
        check_sampler(self.sampler)
        self.sampler.check(groups.size)
        self.x, self.groups = jnp.asarray(x), jnp.asarray(groups)
        self.start = self.model.init(jax.random.fold_in(key, 0)) if params is None else params
        self.last = self.start

    def __call__(self, costs: np.ndarray) -> tuple[Any, np.ndarray]:
        """Parameters for these signed costs `f[n]`, and the classes they predict for the training rows, `int32[n]`."""
        self.num_calls += 1
        # A cost is no frequency: rows of cost 0 count in the size of a batch. So it comes in the label's place.
        data = Batch(self.x, jnp.asarray(costs, jnp.result_type(float)), self.groups)
        start = self.last if self.warm_start else self.start
        key = jax.random.fold_in(self.key, self.num_calls)
        found = fit(key, self.method, start, data, num_epochs=self.num_epochs, sampler=self.sampler)
        self.last = found.state.params
        return self.last, np.asarray(_predicted(self.model, self.last, data)).astype(np.int32)


class Learner:
    """One predictor, as fairlearn asks for it; its features are numbers of training rows."""

    def __init__(self, oracle: Oracle):
        self.oracle = oracle
        self.params: Any = None
        self.predictions = np.empty(0, np.int32)

    def __sklearn_clone__(self) -> Learner:
        return Learner(self.oracle)

    def fit(self, rows: Any, labels: Any, sample_weight: Any) -> Learner:
        """Train on labels 0 and 1 and weights of mean 1, which are signed costs taken apart."""
        sizes = np.asarray(sample_weight)
        self.params, self.predictions = self.oracle(np.where(np.asarray(labels) == 1, sizes, -sizes))
        return self

    def predict(self, rows: Any) -> np.ndarray:
        """Classes of these training rows, `int32[n]`."""
        return self.predictions[np.asarray(rows)[:, 0]]


def _loss_of_cost(scores: Array, costs: Float[Array, "n"]) -> Float[Array, "n"]:
    """Cross-entropy with the class a signed cost speaks for, times its size."""
    return jnp.abs(costs) * cross_entropy_of_scores(binary_logits(scores), costs > 0)


@jax.jit
def _predicted(model: Model, params: Any, data: Batch) -> Array:
    decide = Partial(decisions, model, params, LEARNED)
    num_rows = data.y.shape[0]
    return map_blocks(lambda batch: decide(batch.x), data, block_size=min(num_rows, _MOST_ROWS_AT_A_TIME))
