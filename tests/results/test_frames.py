"""Arrays of seeds out of tidy frames."""

import numpy as np
import pandas as pd
import pytest

from badrjax.results import seed_values


def tidy(num_epochs=3):
    rows = [
        {"method": method, "seed": seed, "epoch": epoch, "value": 100 * (method == "b") + 10 * seed + epoch}
        for epoch in range(num_epochs, 0, -1)
        for method in "ab"
        for seed in (4, 2)
    ]
    return pd.DataFrame(rows)


def test_seeds_and_epochs_come_in_order():
    np.testing.assert_array_equal(seed_values(tidy(), method="a"), [[21, 22, 23], [41, 42, 43]])
    last = tidy(1).drop(columns="epoch")
    np.testing.assert_array_equal(seed_values(last, method="b"), [121, 141])


@pytest.mark.parametrize(
    ("frame", "where", "message"),
    [
        (tidy(), {"method": "c"}, "no values"),
        (tidy(), {}, "several values"),
        (tidy().drop(index=0), {"method": "a"}, "lack epochs"),
    ],
)
def test_what_is_not_a_full_table_is_refused(frame, where, message):
    with pytest.raises(ValueError, match=message):
        seed_values(frame, **where)
