"""Made-up cells of BADR's experiments, solved without solving, and frames of them."""

import numpy as np

import badrjax as bx
from experiments import badr_cells, badr_problems

METHODS = (*badr_cells.BASELINES, "badr")


def rows(rng, number):
    """Two groups of unlike size whose labels hang on other features."""
    group = (rng.uniform(size=number) < 0.4).astype(np.int32)
    x = rng.normal(size=(number, 3)) + 0.5 * group[:, None]
    scores = np.where(group == 1, x[:, 0] - x[:, 2] + 0.5, x[:, 0] + x[:, 1])
    return bx.Batch(x, (scores + rng.normal(size=number) > 0).astype(np.int32), group)


def cell(seed, sizes=(80, 50)):
    """Training and test rows from a seed."""
    rng = np.random.default_rng(seed)
    return badr_problems.Cell(*(rows(rng, number) for number in sizes), f"checksum of {seed}")


def dataset(number=120, *, classes=True):
    """Four groups of unlike size; the first feature is the number of the person that three rows are of."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), [number // 2, number // 4, number // 8, number - number * 7 // 8])
    x = rng.normal(2.0, 3.0, size=(number, 3)).astype(np.float32)
    y = rng.integers(0, 2, number) if classes else rng.normal(5.0, 2.0, number).astype(np.float32)
    names = tuple(f"x{i}" for i in range(3))
    x[:, 0] = np.arange(number) // 3
    person = bx.encode_groups(np.arange(number) // 3)
    return bx.Dataset(x, y, group, names, tuple("abcd"), "made up", "here", "none", domains={"person": person})


def records(values, objective="individual_fairness", *, methods=METHODS, weight=0.5, **measured):
    """What `badr_cells.solve` returns, by numbers of the methods: the same in training and on test rows."""
    return [
        {
            "objective": objective,
            "method": method,
            "weights": [weight, 1 - weight],
            "train": {"objective": value, **measured},
            "test": {"objective": value, **measured},
            "solver": {"inner_grad_norm": 1e-15},
        }
        for method, value in zip(methods, values, strict=True)
    ]
