"""Where FairBiNN's rules settle in two quadratic games, and where the paper's Pareto claim and bound hold and fail.

Leader and follower have one number each. In the first game both losses pull both numbers; in the second the follower
can make its loss 0 whatever the leader does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from badrjax import plotting, results
from experiments import pages, quadratic_games, running
from experiments.quadratic_games import ETA, RULES, Game

TITLES = {
    "separated": "A, separated (text)",
    "accumulated": "B, accumulated (code)",
    "lagrangian": "C, Lagrangian",
    "total": "D, total derivative",
}
# Points may coincide: A is a ring around what lies on it.
MARKERS = {rule: {"ms": 12, "mfc": "none", "mew": 2} if rule == "separated" else {"ms": 7} for rule in RULES}
GAMES = {
    "both losses pull both": Game(
        np.array([[1.0, 0.3], [0.3, 0.8]]), np.array([1.0, 0.8]), np.array([[0.6, 0.5], [0.5, 1.0]]),
        np.array([-0.4, -0.6]),
    ),
    "the follower can zero its loss": Game(
        np.array([[1.0, 0.3], [0.3, 0.8]]), np.array([1.0, 0.8]), np.array([[0.36, 0.6], [0.6, 1.0]]),
        np.array([-0.3, -0.5]),
    ),
}  # fmt: skip
DOMINATED, ROUNDING = 1e-6, 1e-9


@dataclass(frozen=True)
class Settings:
    """Fixed points of the four rules in two quadratic games, beside the Pareto front."""

    steps: int = 400
    """Of each rule, gradient descent with a step of 0.1."""
    out: Path = field(default_factory=lambda: Path("outputs/fairbinn_game"))
    """Directory for report.html, results.csv, provenance.json, tables.md and game.png."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Play, compare with the closed forms, draw, print and write; the tidy frame."""
    if settings.steps < 1:
        raise ValueError(f"steps must be 1 or more, got {settings.steps}")
    console = running.begin(settings, console)
    with jax.enable_x64(True):
        paths = {name: {rule: path(game, rule, settings.steps) for rule in RULES} for name, game in GAMES.items()}
        frame = pd.concat([points(game, paths[name]).assign(game=name) for name, game in GAMES.items()])
    frame = frame.assign(paper="fairbinn", table="game")
    results.write_results(frame, results.provenance(settings=asdict(settings), data={}), settings.out)
    text = "# FairBiNN: two quadratic games\n\n" + "\n".join(
        f"## {name}\n\n{table(frame[frame['game'] == name])}" for name in GAMES
    )
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    drawn = figure(paths)
    drawn.savefig(settings.out / "game.png", dpi=110)
    pages.write(settings, text, figures={"Paths of the rules beside the Pareto front": drawn})
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return frame


def path(game: Game, rule: str, num_steps: int) -> np.ndarray:
    """The points that a rule passes through from (-0.5, 1.5), `f[num_steps + 1, 2]`."""
    start = np.array([-0.5, 1.5])
    found = quadratic_games.play(game, quadratic_games.make_method(game, rule), num_steps, start)
    return np.vstack([start[None], np.asarray(found.evaluations)])


def front(game: Game, num_points: int = 400) -> np.ndarray:
    """Points that minimise `w L + (1 - w) F`, `f[num_points, 2]`: the Pareto set of two convex losses."""
    weights = 1 - np.geomspace(1e-4, 1 - 1e-4, num_points)
    return np.stack(
        [
            np.linalg.solve(w * game.P + (1 - w) * game.Q, w * game.s + (1 - w) * game.u)
            for w in weights
        ]
    )  # fmt: skip


def points(game: Game, paths: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row for each rule: where it ended, how far that is from the closed form, its losses, and what dominates it."""
    known = game.values(np.vstack([front(game), *(game.settled(rule)[None] for rule in RULES)]))
    rows = []
    for rule, passed in paths.items():
        settled = game.settled(rule)
        loss, fairness = game.values(settled)
        gains = np.array([loss, fairness]) - known
        dominating = (gains.min(axis=1) > -ROUNDING) & (gains.max(axis=1) > DOMINATED)
        rows.append(
            {"method": rule, "a": settled[0], "f": settled[1], "distance": np.linalg.norm(passed[-1] - settled),
             "loss": loss, "fairness": fairness, "least_fairness": np.linalg.lstsq(game.Q, game.u)[0] @ -game.u / 2,
             "dominated": bool(dominating.any()), "both_fall_by": max(float(np.max(gains.min(axis=1))), 0.0)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame) -> str:
    """Both losses, whether both can fall at once, and the paper's bound: a loss no larger than the Lagrangian's."""
    bound = frame[frame["method"] == "lagrangian"]["loss"].iloc[0]
    body = []
    for one in frame.to_dict("records"):
        fall = one["both_fall_by"]
        how = f"both can fall by {fall:.4f}" if fall > DOMINATED else "L can fall at the same F"
        dominated = f"yes, {how}" if one["dominated"] else "no"
        body.append(
            [TITLES[one["method"]], f"{one['a']:.4f}, {one['f']:.4f}", f"{one['distance']:.0e}", f"{one['loss']:.4f}",
             f"{one['fairness'] - one['least_fairness']:.4f}", dominated, "yes" if one["loss"] <= bound else "no"]
        )  # fmt: skip
    head = ["rule", "a, f", "end of the run from it", "L", "F above its least", "dominated", "L at most C's"]
    return results.markdown_table(head, body)


def figure(paths: dict[str, dict[str, np.ndarray]]) -> Any:
    """Above the plane of both numbers with contours and paths, below both losses with the front."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 8.4), layout="constrained")
    grid = drawing.subplots(2, len(GAMES))
    for (name, game), (upper, lower) in zip(GAMES.items(), grid.T, strict=True):
        _draw_plane(upper, game, paths[name])
        _draw_losses(lower, game)
        upper.set_title(name, fontsize=11)
    grid[0, 0].set_ylabel("f, the follower's")
    grid[1, 0].set_ylabel("F above its least")
    drawing.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return drawing


def _draw_plane(axes: Any, game: Game, paths: dict[str, np.ndarray]) -> None:
    a, f = np.meshgrid(np.linspace(-1.5, 2.0, 120), np.linspace(-2.0, 2.0, 120))
    losses = game.values(np.stack([a, f], axis=-1))
    for number, style in ((0, "solid"), (1, "dashed")):
        axes.contour(a, f, losses[..., number], levels=12, colors="#999999", linewidths=0.5, linestyles=style)
    axes.plot(*front(game).T, color=plotting.COLOURS[-1], linewidth=1.2)
    for colour, (rule, passed) in zip(plotting.COLOURS, paths.items(), strict=False):
        axes.plot(*passed.T, color=colour, linewidth=1.0, alpha=0.8)
        axes.plot(*game.settled(rule), "o", color=colour, **MARKERS[rule])
    axes.set(xlabel="a, the leader's (solid: L, dashed: F)", xlim=(-1.5, 2.0), ylim=(-2.0, 2.0))


def _draw_losses(axes: Any, game: Game) -> None:
    least = np.linalg.lstsq(game.Q, game.u)[0] @ -game.u / 2
    known = game.values(front(game)) - np.array([0.0, least])
    axes.plot(*known.T, color=plotting.COLOURS[-1], linewidth=1.2, label="Pareto front")
    for colour, rule in zip(plotting.COLOURS, RULES, strict=False):
        loss, fairness = game.values(game.settled(rule))
        axes.plot(loss, fairness - least, "o", color=colour, label=TITLES[rule], **MARKERS[rule])
    values = np.array([game.values(game.settled(rule)) for rule in RULES]) - np.array([0.0, least])
    middle, width = values.mean(axis=0), np.ptp(values, axis=0) + 0.05
    axes.set(xlim=(middle[0] - width[0], middle[0] + width[0]), ylim=(-0.05 * width[1], middle[1] + width[1]))
    axes.set_xlabel(f"L (eta = {ETA:g})")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
