"""Hard matrices that every rule is tried on, and independent references for what they admit."""

from functools import cache

import numpy as np
import scipy.optimize

MASKS = np.array([[bool(code >> k & 1) for k in range(4)] for code in range(16)])


KINDS = ("random", "aligned", "opposed")


def gram_of(gradients, dtype=np.float64):
    gradients = np.asarray(gradients, dtype)
    return gradients @ gradients.swapaxes(-1, -2)


def aligned(random, num_players, size, spread=1.0):
    """Gradients on one side of a hyperplane, with norms that differ by orders of magnitude."""
    common = 2 * random.normal(size=size)
    scale = np.exp(spread * random.normal(size=(num_players, 1)))
    return scale * (random.normal(size=(num_players, size)) + common)


def instance(random, num_players, size, kind):
    gradients = random.normal(size=(num_players, size))
    if kind == "aligned":
        gradients = gradients + 2 * random.normal(size=(1, size))
    if kind == "opposed":  # often a combination is 0, or nearly so
        noise = random.choice([0.0, 10 ** random.uniform(-3, 0)])
        gradients[-1] = -random.uniform(0.5, 2, num_players - 1) @ gradients[:-1] + noise * random.normal(size=size)
    return (gradients * np.exp(2 * random.normal(size=(num_players, 1)))).astype(np.float32)


@cache
def instances(num_players):
    """Random problems with the verdict of a linear program and the margin: 531 over the four numbers of players."""
    random = np.random.default_rng(num_players)
    problems = [
        instance(random, num_players, size, kind)
        for size in (3, 64, 512)
        for kind in ("random", "aligned", "opposed")
        for _ in range({2: 20, 4: 20, 10: 12, 30: 7}[num_players])
    ]
    directions = np.array([best_direction(p.astype(float)) for p in problems])
    return problems, directions, np.array([hull_margin(p) for p in problems])


def hull_margin(gradients):
    """`min s'Cs` over the simplex, by non-negative least squares on unit gradients."""
    unit = gradients / np.linalg.norm(np.asarray(gradients, float), axis=1, keepdims=True)
    return hull_margin_of(None, np.linalg.qr(unit.T)[1])


def hull_margin_of(gram, root=None):
    if root is None:
        norms = np.sqrt(np.diagonal(np.asarray(gram, float)))
        values, vectors = np.linalg.eigh(gram / np.outer(norms, norms))
        root = (vectors * np.sqrt(np.clip(values, 0, None))).T
    system = np.vstack([root, np.ones(root.shape[1])])
    target = np.zeros(len(system))
    target[-1] = 1
    shares = scipy.optimize.nnls(system, target, maxiter=10_000)[0]
    return float(np.sum(np.square(root @ shares / shares.sum())))


def best_direction(gradients):
    """The largest `t` with `<g_k / |g_k|, u> >= t` for some `u` in a box: positive when a common direction exists."""
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    coordinates = np.linalg.qr(unit.T)[1].T
    num_players, size = coordinates.shape
    result = scipy.optimize.linprog(
        np.r_[np.zeros(size), -1.0],
        A_ub=np.hstack([-coordinates, np.ones((num_players, 1))]),
        b_ub=np.zeros(num_players),
        bounds=[(-1, 1)] * size + [(None, 1)],
        method="highs",
    )
    assert result.success
    return -result.fun


@cache
def hard_gradients(num_players=4):
    """Named sets of `num_players` gradients; values beside the name are lanes of one shape `[K, 6]`."""
    random = np.random.default_rng(num_players)
    plain = random.normal(size=(num_players, 6))
    flat = random.normal(size=(num_players, 2)) @ random.normal(size=(2, 6))
    opposed, near, zero = plain.copy(), plain.copy(), plain.copy()
    opposed[-1] = -2 * opposed[0]
    near[-1] = -near[0] + 1e-2 * random.normal(size=6)
    zero[num_players // 2] = 0
    unit = aligned(random, num_players, 6, spread=0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    norms = 10.0 ** np.linspace(-8, 8, num_players)[:, None]
    return {
        "plain": plain,
        "aligned": aligned(random, num_players, 6),
        "orthogonal": np.eye(num_players, 6) if num_players <= 6 else plain,
        "rank deficient": flat,
        "duplicated": plain[np.arange(num_players) // 2],
        "all the same": np.repeat(plain[:1], num_players, axis=0),
        "opposed": opposed,
        "nearly opposed": near,
        "a zero row": zero,
        "all zero": np.zeros((num_players, 6)),
        "tiny": 1e-8 * plain,
        "huge": 1e8 * plain,
        "tiny and huge": norms * unit,
    }


def hard_grams(dtype, num_players=4):
    """Names of the bank, its gradients `[B, K, 6]` and their Gram matrices `[B, K, K]`."""
    bank = hard_gradients(num_players)
    gradients = np.stack(list(bank.values()))
    return list(bank), gradients, gram_of(gradients).astype(dtype)
