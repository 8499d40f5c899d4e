"""What bootstrap and the noise floors refuse, by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax.uncertainty import bootstrap, noise_floor, noise_floor_from_counts, permutation_floor
from tests.uncertainty.cases import KEY

ONES, FEW = np.ones(4, np.float32), np.array([0, 1, 1, 0])
SUM = jnp.sum


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "typed key", lambda: bootstrap(0, SUM, ONES)),
        (TypeError, "typed key", lambda: noise_floor(jnp.zeros(2, jnp.uint32), FEW, FEW, FEW, 2)),
        (ValueError, "one key", lambda: bootstrap(jax.random.split(KEY), SUM, ONES)),
        (TypeError, "metric must be a function of the weight", lambda: bootstrap(KEY, ONES, SUM)),
        (TypeError, "metric must be a function of the groups", lambda: permutation_floor(KEY, FEW, SUM)),
        (ValueError, "num_samples must be", lambda: bootstrap(KEY, SUM, ONES, num_samples=0)),
        (ValueError, "batch_size must be", lambda: bootstrap(KEY, SUM, ONES, batch_size=1.5)),
        (ValueError, "confidence must lie between 0 and 1", lambda: bootstrap(KEY, SUM, ONES, confidence=95)),
        (ValueError, "weight must hold frequencies", lambda: bootstrap(KEY, SUM, -ONES)),
        (ValueError, "positive number of rows", lambda: bootstrap(KEY, SUM, 0)),
        (ValueError, "not half a row.*scaling", lambda: bootstrap(KEY, SUM, ONES / 10)),
        (ValueError, "at most 2\\^24", lambda: bootstrap(KEY, SUM, ONES * 1e7)),
        (ValueError, "more than max_draws=3", lambda: bootstrap(KEY, SUM, ONES, max_draws=3)),
        (ValueError, "max_draws must be", lambda: bootstrap(KEY, SUM, ONES, max_draws=0)),
        (ValueError, "strata has 3", lambda: bootstrap(KEY, SUM, ONES, strata=FEW[:3])),
        (TypeError, "strata must hold integer ids", lambda: bootstrap(KEY, SUM, ONES, strata=ONES)),
        (ValueError, "go together", lambda: bootstrap(KEY, SUM, ONES, clusters=FEW)),
        (ValueError, r"clusters must lie in \[0, 1\)", lambda: bootstrap(KEY, SUM, ONES, clusters=FEW, num_clusters=1)),
        (
            ValueError,
            "cluster 0 has rows in 2 strata",
            lambda: bootstrap(KEY, SUM, ONES, clusters=FEW, num_clusters=2, strata=[0, 1, 1, 1]),
        ),
        (ValueError, "labels must be 0 or 1", lambda: noise_floor(KEY, FEW * 2, FEW, FEW, 2)),
        (ValueError, "true_positive_rate must lie", lambda: noise_floor_from_counts(KEY, ONES, ONES, 70, 0.1)),
        (
            ValueError,
            "true_positive_rate must be one rate",
            lambda: noise_floor_from_counts(KEY, ONES, ONES, ONES, 0.1),
        ),
        (ValueError, "num_negative must hold", lambda: noise_floor_from_counts(KEY, ONES, -ONES, 0.1, 0.1)),
        (ValueError, "num_negative has 3", lambda: noise_floor_from_counts(KEY, ONES, ONES[:3], 0.1, 0.1)),
        (TypeError, "integer ids", lambda: permutation_floor(KEY, SUM, ONES)),
    ],
)
def test_wrong_input_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()
