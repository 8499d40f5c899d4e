"""`make bench`: steps and solves of this package beside the re-created reference, taken in turn in one run."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from typing import Any

import cvxpy
import jax
import numpy as np
import torch

from benchmarks import nash_step, reference_torch

SCHEMES = tuple(reference_torch.SCHEMES)


def main() -> None:
    """Check the reference, then print medians and ratios of steps and solves."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=main.__doc__)
    parser.add_argument("--repeats", type=int, default=25, help="calls that a median is taken over")
    repeats = parser.parse_args().repeats
    print(
        f"jax {jax.__version__} on {jax.devices()[0].device_kind}, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads, cvxpy {cvxpy.__version__}; {platform.machine()}, {os.cpu_count()} cores"
    )
    errors = reference_torch.self_check()
    print("the reference checks itself: " + ", ".join(f"{name} {error:.0e}" for name, error in errors.items()) + "\n")
    print(f"medians of {repeats} calls in ms, in turn; ratio = reference / ours, with the quartiles of its pairs\n")
    for num_cells in (4, 10):
        _steps(num_cells, repeats)
    for num_players in (2, 4, 8, 10, 20):
        _solves(num_players, repeats)


def _steps(num_cells: int, repeats: int) -> None:
    unit = nash_step.STEPS_A_CALL
    ours: dict[str, tuple[Callable[[], Any], int]] = {}
    for masks in ("fresh", "same"):
        ours[f"bargaining, {masks}"] = nash_step.make_step(num_cells, bargaining=True, lookahead_dropout=masks), unit
        ours[f"one stage, {masks}"] = nash_step.make_step(num_cells, bargaining=False, lookahead_dropout=masks), unit
        ours[f"products of bargaining, {masks}"] = nash_step.make_products(num_cells, lookahead_dropout=masks)[0], 1
        ours[f"products of one stage, {masks}"] = nash_step.make_products(1, lookahead_dropout=masks)[0], 1
    reference: dict[str, tuple[Callable[[], Any], int]] = {
        f"bargaining, {scheme}": (reference_torch.make_bargaining_step(num_cells, scheme=scheme), 1)
        for scheme in SCHEMES
    }
    reference["one stage"] = reference_torch.make_one_stage_step(num_cells), 1
    times = nash_step.milliseconds(
        {f"ours {k}": v for k, v in ours.items()} | {f"reference {k}": v for k, v in reference.items()}, repeats
    )
    print(f"one step, K={num_cells} cells, batch {nash_step.BATCH_SIZE}, {nash_step.NUM_FEATURES} features")
    for masks, meaning in (("fresh", "three dropout masks, as the reference"), ("same", "lookahead shares a mask")):
        print(f"  ours, {masks} ({meaning})")
        for stage in ("bargaining", "one stage"):
            mine, products = times[f"ours {stage}, {masks}"], times[f"ours products of {stage}, {masks}"]
            print(
                f"    {stage:11} {np.median(mine):7.2f}   its matrix products alone take {_share(products, mine)} of it"
            )
            names = [f"bargaining, {s}" for s in SCHEMES] if stage == "bargaining" else ["one stage"]
            for name in names:
                theirs = times[f"reference {name}"]
                print(f"      reference {name:26} {np.median(theirs):7.2f}   ratio {_ratio(theirs, mine)}")
    print()


def _solves(num_players: int, repeats: int) -> None:
    gram = reference_torch.example_gram(num_players)
    functions: dict[str, tuple[Callable[[], Any], int]] = {
        "ours": (nash_step.make_solves(gram), nash_step.STEPS_A_CALL),
        "ours, one call": (nash_step.make_solve(gram), 1),
    }
    for scheme, form in reference_torch.SCHEMES.items():
        built = reference_torch.conic_problem(num_players, form)
        functions[scheme] = (lambda s=scheme: reference_torch.nash_solve_conic(gram, s), 1)
        functions[f"{scheme}, kept"] = (lambda s=scheme, b=built: reference_torch.nash_solve_conic(gram, s, b), 1)
    times = nash_step.milliseconds(functions, repeats)
    inside, alone = times["ours"], times["ours, one call"]
    print(
        f"one Nash solve, K={num_players}: ours {np.median(inside):.3f} ms inside a program, "
        f"{np.median(alone):.3f} ms as a call of its own"
    )
    for name, values in times.items():
        if not name.startswith("ours"):
            ratios = f"{_ratio(values, inside)}, {_ratio(values, alone)}"
            print(f"      conic, {name:24} {np.median(values):7.2f}   ratio {ratios}")


def _ratio(theirs: np.ndarray, mine: np.ndarray) -> str:
    low, middle, high = np.quantile(theirs / mine, [0.25, 0.5, 0.75])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _share(part: np.ndarray, whole: np.ndarray) -> str:
    return f"{100 * np.median(part / whole):.0f}%"


if __name__ == "__main__":
    main()
