"""Our own re-creation of the reference scheme that `make bench` compares with: torch and a conic solver.

One step of the two-stage method: a virtual SGD step whose example weights `epsilon = 0` stay in the graph,
one backward pass through that second-order graph for each group, the Gram matrix of the K hypergradients, a
sequence of conic programs for the bargaining weights, and the weighted step at the original parameters.
Written from the formulas alone. Where the scheme leaves room, the choice is the one that is faster for torch:
one virtual forward pass for all groups, no data loading, no diagnostics.

Run as a program it checks itself (`self_check`), then prints the medians in milliseconds.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils import parameters_to_vector

# The paper's values for Adult by sex.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.9, 5e-4
DROPOUT, HIDDEN = 0.2, (128, 64)

# Rounds and tolerance of the successive convex scheme.
MOST_ROUNDS, TOLERANCE = 100, 1e-3

# Minibatches drawn ahead and taken in turn, so that no time goes into loading them.
_NUM_MINIBATCHES = 8


class ConicScheme(NamedTuple):
    """How a round's conic program is put to cvxpy.

    Attributes:
        per_group: one constraint object a group, rather than one for the vector.
        recompiled: the linearisation is an expression of the parameters, which breaks cvxpy's rules for
            parametrised problems, so every round canonicalises the program again. Else it is K parameters.
        scale_free: solve `C b = 1/b`, `C = M/||M||`, return `b/sqrt(||M||)`, and stop on `max |b (C b) - 1|`.
            Else `||M||` enters the constraint and the rule to stop is absolute: it compares `C a` with `1/a`,
            which the solution makes equal only where `||M|| = 1`, so it is the change of `a` that stops.
    """

    per_group: bool
    recompiled: bool
    scale_free: bool


SCHEMES = {
    "recompiled": ConicScheme(per_group=True, recompiled=True, scale_free=False),
    "parametrised": ConicScheme(per_group=True, recompiled=False, scale_free=False),
    "lean": ConicScheme(per_group=False, recompiled=False, scale_free=True),
}


class ConicProblem(NamedTuple):
    """A cvxpy problem over the weights, with the parameters that a round sets."""

    problem: cp.Problem
    weights: cp.Variable
    gram: cp.Parameter
    scale: cp.Parameter
    slope: cp.Parameter
    previous: cp.Parameter


def conic_problem(num_groups: int, scheme: ConicScheme) -> ConicProblem:
    """The program of one round: minimise `sum(C a) + phi'(a_prev) a / nu` subject to `a nu (C a) >= 1`."""
    weights = cp.Variable(num_groups, nonneg=True)
    gram = cp.Parameter((num_groups, num_groups))
    scale = cp.Parameter(nonneg=True)
    slope = cp.Parameter(num_groups)
    previous = cp.Parameter(num_groups, pos=True)
    product = gram @ weights
    if scheme.recompiled:
        tangent = (1 / previous + (1 / (gram @ previous)) @ gram) @ (weights - previous) / scale
    else:
        tangent = slope @ weights
    if scheme.per_group:
        bounds = [cp.log(scale * weights[k]) + cp.log(product[k]) >= 0 for k in range(num_groups)]
    else:
        bounds = [cp.log(scale * weights) + cp.log(product) >= 0]
    problem = cp.Problem(cp.Minimize(cp.sum(product) + tangent), bounds)
    return ConicProblem(problem, weights, gram, scale, slope, previous)


def nash_solve_conic(gram: np.ndarray, scheme: str = "parametrised", built: ConicProblem | None = None) -> np.ndarray:
    """Weights `a > 0` with `M a = 1/a` by a sequence of exponential-cone programs (cvxpy, ECOS).

    Every call starts at ones. As in the scheme it stands for, a failing round ends the sequence with the
    previous iterate, so ones report that the first round failed. Its program may be unbounded where a row of
    `M` has a negative sum, although a solution exists.

    Args:
        gram: the Gram matrix `M` of the K gradients, `f64[K, K]`.
        scheme: a name in `SCHEMES`.
        built: a `conic_problem` of the same scheme to use again; by default one is built, as the reference
            does for every minibatch.

    Returns:
        `f64[K]`.
    """
    form = SCHEMES[scheme]
    built = conic_problem(gram.shape[0], form) if built is None else built
    norm = float(np.linalg.norm(gram))
    gram = gram / norm
    scale, unit = (1.0, 1 / np.sqrt(norm)) if form.scale_free else (norm, 1.0)
    weights = np.ones(gram.shape[0])
    for rounds in range(MOST_ROUNDS):
        solution = _conic_round(built, gram, weights, scale)
        if solution is None:
            return weights if rounds == 0 else unit * weights
        change = np.linalg.norm(solution - weights)
        weights = solution
        product = gram @ weights
        gap = np.abs(weights * product - 1) if form.scale_free else np.linalg.norm(product - 1 / weights)
        if np.max(gap) < TOLERANCE or change < TOLERANCE:
            break
    return unit * weights


def _conic_round(built: ConicProblem, gram: np.ndarray, weights: np.ndarray, scale: float) -> np.ndarray | None:
    built.gram.value, built.scale.value, built.previous.value = gram, scale, weights
    built.slope.value = (1 / weights + gram.T @ (1 / (gram @ weights))) / scale
    with warnings.catch_warnings():
        # The recompiled form breaks the rules on purpose, which cvxpy reports at every solve.
        warnings.filterwarnings("ignore", message=".*not DPP.*")
        # An inaccurate round is followed by another, and only the last residual counts: callers check that.
        warnings.filterwarnings("ignore", message="Solution may be inaccurate.*")
        try:
            built.problem.solve(solver=cp.ECOS)
        except cp.SolverError:
            return None
    solution = built.weights.value
    return None if solution is None or not (solution > 0).all() else np.asarray(solution, np.float64)


def nash_residual(gram: np.ndarray, weights: np.ndarray) -> float:
    """How far `weights` are from the Nash condition, `max |a (M a) - 1|`."""
    return float(np.abs(weights * (gram @ weights) - 1).max())


class ReferenceStep:
    """A run of the reference scheme on made-up data: model, optimiser, minibatches, validation rows.

    Seeds torch's global generator, for dropout draws from it.
    """

    def __init__(
        self,
        num_groups: int,
        num_features: int = 105,
        batch_size: int = 512,
        validation_per_cell: int = 3,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise((num_features, *HIDDEN)):
            layers += [nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(DROPOUT)]
        self.model = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 2)).to(dtype)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )
        shift, direction = torch.randn(num_groups, num_features), torch.randn(num_features)

        def rows(cell: Tensor) -> tuple[Tensor, Tensor]:
            label = cell % 2  # a group is a cell of sensitive attribute and label
            centre = 0.3 * shift[cell] + 0.1 * (2 * label - 1)[:, None] * direction[None, :]
            return (centre + torch.randn(centre.shape)).to(dtype), label

        self.batches = itertools.cycle(
            [rows(torch.randint(num_groups, (batch_size,))) for _ in range(_NUM_MINIBATCHES)]
        )
        # Rows stand in blocks by cell, so the groups' losses are the means of the rows of a matrix.
        self.validation = rows(torch.arange(num_groups).repeat_interleave(validation_per_cell))
        self.num_groups = num_groups
        self.failed_bargains = 0
        self.gram = np.eye(num_groups)

    def drifts(self) -> list[Tensor]:
        """What moves the parameters when every example weight is 0: momentum and weight decay."""
        drifts = []
        for parameter in self.model.parameters():
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            decay = WEIGHT_DECAY * parameter.detach()
            drifts.append(decay if buffer is None else MOMENTUM * buffer + decay)
        return drifts

    def virtual_group_losses(self, x: Tensor, y: Tensor, epsilon: Tensor) -> Tensor:
        """Validation losses `[K]` after an SGD step on `sum_i epsilon_i l_i`, differentiable in `epsilon`."""
        names, parameters = zip(*self.model.named_parameters(), strict=True)
        losses = functional.cross_entropy(self.model(x), y, reduction="none")
        gradients = torch.autograd.grad(epsilon @ losses, parameters, create_graph=True)
        moved = [
            parameter.detach() - LEARNING_RATE * (drift + gradient)
            for parameter, drift, gradient in zip(parameters, self.drifts(), gradients, strict=True)
        ]
        return self.group_losses(dict(zip(names, moved, strict=True)))

    def group_losses(self, parameters: dict[str, Tensor]) -> Tensor:
        """Mean validation loss of each group at `parameters`, `[K]`: cross-entropy and a smooth F1 term."""
        x, y = self.validation
        scores = functional_call(self.model, parameters, (x,))
        belief = torch.sigmoid(scores.gather(1, y[:, None])[:, 0])
        losses = functional.cross_entropy(scores, y, reduction="none")
        losses = losses + torch.sigmoid(-2 * belief / (1 + belief))
        return losses.view(self.num_groups, -1).mean(dim=1)

    def hypergradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Derivatives `[K, n]` of the groups' losses by the example weights, one backward pass a group."""
        epsilon = torch.zeros_like(y, dtype=x.dtype, requires_grad=True)
        losses = self.virtual_group_losses(x, y, epsilon)
        return torch.stack([torch.autograd.grad(loss, epsilon, retain_graph=True)[0] for loss in losses])

    def bargaining_step(self, scheme: str = "parametrised") -> None:
        """One step of the first stage; a failed bargain falls back to the mean over groups."""
        x, y = next(self.batches)
        hypergradients = self.hypergradients(x, y)
        self.gram = (hypergradients @ hypergradients.T).numpy().astype(np.float64)
        bargain = nash_solve_conic(self.gram, scheme)
        # Ones are how the scheme reports a failure; only the direction matters, so they are also the mean.
        self.failed_bargains += int((bargain == 1).all())
        self._weighted_step(x, y, torch.as_tensor(bargain, dtype=x.dtype) @ hypergradients)

    def one_stage_step(self) -> None:
        """One step of the second stage, for the mean over groups."""
        x, y = next(self.batches)
        epsilon = torch.zeros_like(y, dtype=x.dtype, requires_grad=True)
        loss = self.virtual_group_losses(x, y, epsilon).mean()
        self._weighted_step(x, y, torch.autograd.grad(loss, epsilon)[0])

    def _weighted_step(self, x: Tensor, y: Tensor, hypergradient: Tensor) -> None:
        """SGD at the original parameters with example weights `max(-u, 0)` of Euclidean norm 1."""
        weights = torch.clamp(-hypergradient, min=0)
        norm = torch.linalg.vector_norm(weights)
        weights = weights / norm if norm > 0 else weights
        self.optimizer.zero_grad()
        (weights @ functional.cross_entropy(self.model(x), y, reduction="none")).backward()
        self.optimizer.step()


def make_bargaining_step(
    num_groups: int,
    num_features: int = 105,
    batch_size: int = 512,
    validation_per_cell: int = 3,
    seed: int = 0,
    scheme: str = "parametrised",
) -> Callable[[], None]:
    """A function that makes one step of the first stage each time it is called."""
    state = ReferenceStep(num_groups, num_features, batch_size, validation_per_cell, seed)
    return lambda: state.bargaining_step(scheme)


def make_one_stage_step(
    num_groups: int,
    num_features: int = 105,
    batch_size: int = 512,
    validation_per_cell: int = 3,
    seed: int = 0,
) -> Callable[[], None]:
    """A function that makes one step of the second stage each time it is called."""
    return ReferenceStep(num_groups, num_features, batch_size, validation_per_cell, seed).one_stage_step


def example_gram(num_groups: int, seed: int = 0, num_examples: int = 512) -> np.ndarray:
    """The Gram matrix `f64[K, K]` of K correlated gradients with norms near 1, for timing a solve alone."""
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(num_examples, 1))
    gradients = generator.normal(size=(num_examples, num_groups)) + 0.5 * common
    gradients *= np.exp(0.5 * generator.normal(size=num_groups))[None, :] / np.sqrt(num_examples)
    return gradients.T @ gradients


def self_check() -> dict[str, float]:
    """Errors of the re-creation: of its hypergradients (float64, dropout masks held) and its Nash weights.

    Returns:
        the largest errors, over the largest entry, against `-lr <grad l_i(theta), grad L_k(theta_hat)>`
        and against central differences, and the largest residual of the Nash condition for each scheme.

    Raises:
        AssertionError: for an error above its bound.
    """
    state = ReferenceStep(num_groups=3, num_features=7, batch_size=16, dtype=torch.float64)
    for _ in range(3):  # so that the momentum buffer is not empty
        state.one_stage_step()
    x, y = next(state.batches)
    torch.manual_seed(7)
    found = state.hypergradients(x, y)
    errors = {}
    for name, expect in {"formula": _inner_products, "differences": _differences}.items():
        errors[name] = float((found - expect(state, x, y, seed=7)).abs().max() / found.abs().max())
    grams = [example_gram(num_groups, seed) for num_groups in (2, 4, 8, 10, 20) for seed in range(2)]
    for scheme in SCHEMES:
        errors[scheme] = max(nash_residual(gram, nash_solve_conic(gram, scheme)) for gram in grams)
    bounds = {"formula": 1e-10, "differences": 1e-5}
    for name, error in errors.items():
        if not error <= bounds.get(name, 1e-3):
            raise AssertionError(f"self-check: the error of {name} is {error:.1e}")
    return errors


def _inner_products(state: ReferenceStep, x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Hypergradients from first-order gradients alone, one example and one group at a time."""
    names, parameters = zip(*state.model.named_parameters(), strict=True)
    torch.manual_seed(seed)
    losses = functional.cross_entropy(state.model(x), y, reduction="none")
    moved = [
        (parameter.detach() - LEARNING_RATE * drift).requires_grad_()
        for parameter, drift in zip(parameters, state.drifts(), strict=True)
    ]
    group_losses = state.group_losses(dict(zip(names, moved, strict=True)))

    def gradients(values: Tensor, at: list[Tensor]) -> Tensor:
        rows = [torch.autograd.grad(value, at, retain_graph=True) for value in values]
        return torch.stack([parameters_to_vector(row) for row in rows])

    return -LEARNING_RATE * gradients(group_losses, moved) @ gradients(losses, list(parameters)).T


def _differences(state: ReferenceStep, x: Tensor, y: Tensor, seed: int, width: float = 1e-4) -> Tensor:
    """Hypergradients by central differences of the validation losses."""

    def losses_at(epsilon: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return state.virtual_group_losses(x, y, epsilon).detach()

    steps = width * torch.eye(y.shape[0], dtype=x.dtype)
    return torch.stack([(losses_at(step) - losses_at(-step)) / (2 * width) for step in steps], dim=1)


def median_milliseconds(function: Callable[[], object], repeats: int, warm_up: int = 10) -> float:
    """Median wall time of `repeats` calls in milliseconds, after `warm_up` calls that are not counted."""
    times = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[warm_up:]))


def _print_steps(repeats: int) -> None:
    print("one step, batch 512, 105 features: ms")
    for num_groups in (4, 10):
        one_stage = median_milliseconds(make_one_stage_step(num_groups), 5 * repeats)
        state = ReferenceStep(num_groups)
        all_groups = median_milliseconds(lambda s=state: s.hypergradients(*next(s.batches)), repeats)
        print(f"  K={num_groups:<3} one stage {one_stage:6.1f}   hypergradients alone {all_groups:6.1f}")
        for scheme in SCHEMES:
            state = ReferenceStep(num_groups)
            step = median_milliseconds(lambda s=state, scheme=scheme: s.bargaining_step(scheme), repeats)
            print(f"        bargaining, {scheme:<13}{step:6.1f}   failed bargains {state.failed_bargains}")


def _print_solves(repeats: int) -> None:
    print("one Nash solve: ms with the problem built each time / used again")
    for num_groups in (2, 4, 8, 10, 20):
        columns = []
        for scheme, form in SCHEMES.items():
            grams = itertools.cycle([example_gram(num_groups, seed) for seed in range(5)])
            built = conic_problem(num_groups, form)
            times = [
                median_milliseconds(lambda g=grams, s=scheme, b=b: nash_solve_conic(next(g), s, b), repeats)
                for b in (None, built)
            ]
            columns.append(f"{scheme} {times[0]:6.1f} / {times[1]:6.1f}")
        print(f"  K={num_groups:<3} " + "   ".join(columns))


def main() -> None:
    """Check the re-creation against its formulas, then print the medians."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--repeats", type=int, default=30, help="calls that a median is taken over")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads torch may use")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, cvxpy {cp.__version__}, {arguments.threads} threads")
    print("self-check: " + ", ".join(f"{name} {error:.0e}" for name, error in self_check().items()))
    _print_steps(arguments.repeats)
    _print_solves(arguments.repeats)


if __name__ == "__main__":
    main()
