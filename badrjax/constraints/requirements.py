"""What a user asks for, `(metric, attributes, threshold)`, turned into index arrays over pairs of groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from badrjax.checks import is_concrete, unknown_name
from badrjax.functions import Static
from badrjax.groups import Groups, encode_groups

METRICS = {
    "demographic_parity": (True, False, False),
    "equal_opportunity": (False, True, False),
    "predictive_equality": (False, False, True),
    "equalized_odds": (False, True, True),
}
"""Which of positive, true positive and false positive rates a metric compares."""
Small = Literal["raise", "drop", "merge"]


class Requirement(NamedTuple):
    """The largest gap that is allowed between two groups.

    Attributes:
        metric: a name in `METRICS`.
        attributes: an attribute, or several for their intersection.
        threshold: in `[0, 1]`.
    """

    metric: str
    attributes: str | tuple[str, ...]
    threshold: float


class FairnessConstraints(NamedTuple):
    """P pairs of V groups, each a union of C cells, under R requirements; a pytree whose thresholds are leaves.

    Attributes:
        membership: which cells make up each group, `bool[V, C]`.
        partitions: the group of each cell in each of A attributes or intersections, `int32[A, C]`; -1 for a cell that
            was dropped there.
        left, right: the two groups of each pair, `int32[P]`.
        requirement: the requirement of each pair, `int32[P]`.
        compares: which of positive, true positive and false positive rates a pair compares, `bool[P, 3]`.
        thresholds: `f[R]`.
        names: see `group_names`, `requirement_names` and `left_out`.
    """

    membership: Bool[Array, "V C"]
    partitions: Int[Array, "A C"]
    left: Int[Array, "P"]
    right: Int[Array, "P"]
    requirement: Int[Array, "P"]
    compares: Bool[Array, "P 3"]
    thresholds: Float[Array, "R"]
    names: Static

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the groups that were dropped for want of training rows."""
        return self.names.value[2]

    @property
    def group_names(self) -> tuple[str, ...]:
        """One name a group, `"race=Asian"` or `"race & sex=Asian & Female"`."""
        return self.names.value[0]

    @property
    def requirement_names(self) -> tuple[str, ...]:
        """One name a requirement, `"demographic_parity of race & sex"`."""
        return self.names.value[1]


class Constrained(NamedTuple):
    """What `fairness_constraints` returns.

    Attributes:
        constraints: `FairnessConstraints`.
        cells: the cells as `Groups`: `cells.ids` is the `group` of the batches that the constraints are about.
    """

    constraints: FairnessConstraints
    cells: Groups


class _Partition(NamedTuple):
    """Groups of one attribute or intersection: their names, and the cells of each, `bool[k, C]`."""

    names: list[str]
    members: np.ndarray
    left_out: tuple[str, ...] = ()


def fairness_constraints(
    requirements: Iterable[Requirement | tuple[str, str | Sequence[str], float]],
    attributes: Mapping[str, Groups | Sequence[Any] | np.ndarray],
    labels: Int[np.ndarray, "n"],
    *,
    rows: Int[np.ndarray, "m"] | None = None,
    minimum_count: int = 1,
    small: Small = "raise",
    cells_of: Sequence[str] | None = None,
) -> Constrained:
    """Requirements on attributes and intersections as constraints on all pairs of their groups (host code).

    A group is an intersection that occurs. It is small where a rate that its requirements compare has fewer than
    `minimum_count` training rows: of any label for demographic parity, labelled 1 for equal opportunity, 0 for
    predictive equality, and of either for equalised odds.

    Args:
        requirements: `(metric, attributes, threshold)` each; see `Requirement`.
        attributes: `Dataset.attributes`, or columns of n values by name.
        labels: 0 or 1, `int[n]`.
        rows: positions of the training rows, on which groups are counted; `None` means all.
        minimum_count: fewest training rows that a rate may be over, `>= 1`.
        small: `"raise"` names the small groups; `"drop"` leaves them out of the requirements (their rows still count
            elsewhere), see `constraints.left_out`; `"merge"` joins the two smallest groups of the intersection until
            none is small.
        cells_of: attributes whose intersections are the cells, where these are to be finer than the requirements
            need: two sets of constraints then are about the same batches. `None` means the required attributes.

    Returns:
        `Constrained(constraints, cells)`. Train on batches whose `group` is `cells.ids`.

    Raises:
        ValueError: for no requirement, an unknown metric or attribute, a threshold outside [0, 1], two requirements
            on the same metric and attributes, labels other than 0 and 1, columns of unequal length, small groups
            (which), a requirement that is left with fewer than two groups, or rows that are no distinct positions.
        TypeError: for a requirement that is no triple.
    """
    wanted = [_as_requirement(item) for item in requirements]
    _check_requirements(wanted, attributes)
    if small not in ("raise", "drop", "merge"):
        raise unknown_name("small", small, ("raise", "drop", "merge"))
    if isinstance(minimum_count, bool) or not isinstance(minimum_count, int | np.integer) or minimum_count < 1:
        raise ValueError(f"minimum_count must be an integer of at least 1, got {minimum_count!r}")
    finer = (cells_of,) if isinstance(cells_of, str) else tuple(cells_of or ())
    used = sorted({name for item in wanted for name in item.attributes} | set(finer))
    for name in finer:
        if name not in attributes:
            raise unknown_name("attribute", name, tuple(attributes))
    columns = {name: _as_groups(attributes[name]) for name in used}
    labels = _check_labels(labels, columns)
    cells, values = _cells(columns)
    chosen = slice(None) if rows is None else _check_rows(rows, labels.shape[0])
    counts = np.zeros((2, cells.num_groups))
    np.add.at(counts, (labels[chosen], cells.ids[chosen]), 1.0)
    needs = _needs(wanted)
    partitions = {
        key: _without_small(_partition(key, columns, values), counts, needs[key], minimum_count, small, key)
        for key in needs
    }
    return Constrained(_assemble(wanted, partitions), cells)


def check_constraints(constraints: Any) -> None:
    """Raise for what are no constraints, or have thresholds, which may have been replaced, that are none.

    Raises:
        TypeError: for another type.
        ValueError: for another number of thresholds than of requirements, or (outside tracing) one outside [0, 1].
    """
    if not isinstance(constraints, FairnessConstraints):
        raise TypeError(
            "constraints must be those of badrjax.fairness_constraints(...), its first result, got "
            f"{type(constraints).__name__}"
        )
    num_requirements = len(constraints.requirement_names)
    if np.shape(constraints.thresholds) != (num_requirements,):
        raise ValueError(
            f"constraints.thresholds must be one for each of {num_requirements} requirements and have shape "
            f"{np.shape(constraints.thresholds)}"
        )
    if is_concrete(constraints.thresholds):
        values = np.asarray(constraints.thresholds)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"constraints.thresholds must lie in [0, 1], got {values}")


def every_intersection(
    metric: str, attributes: Sequence[str], *, single: float, intersection: float
) -> list[Requirement]:
    """A requirement on each attribute and on each intersection of two or more: seven for three attributes.

    Args:
        metric: a name in `METRICS`.
        attributes: names.
        single: threshold of single attributes, in `[0, 1]`.
        intersection: threshold of intersections, in `[0, 1]`.

    Returns:
        `Requirement`s, the largest intersections first.

    Raises:
        ValueError: by `fairness_constraints`, which checks them.
    """
    sizes = range(len(attributes), 0, -1)
    subsets = [names for size in sizes for names in itertools.combinations(attributes, size)]
    return [Requirement(metric, names, single if len(names) == 1 else intersection) for names in subsets]


def _as_requirement(item: Any) -> Requirement:
    if not isinstance(item, tuple | list) or len(item) != 3:
        raise TypeError(f"a requirement is (metric, attributes, threshold), got {item!r}")
    metric, attributes, threshold = item
    attributes = (attributes,) if isinstance(attributes, str) else tuple(attributes)
    return Requirement(metric, attributes, threshold)


def _check_requirements(wanted: list[Requirement], attributes: Mapping[str, Any]) -> None:
    if not wanted:
        raise ValueError("requirements must name at least one (metric, attributes, threshold)")
    seen: dict[tuple[str, frozenset[str]], float] = {}
    for item in wanted:
        if item.metric not in METRICS:
            raise unknown_name("metric", item.metric, tuple(METRICS))
        if not item.attributes or len(set(item.attributes)) < len(item.attributes):
            raise ValueError(f"a requirement needs distinct attributes, got {item.attributes!r}")
        for name in item.attributes:
            if name not in attributes:
                raise unknown_name("attribute", name, tuple(attributes))
        if (
            not isinstance(item.threshold, int | float | np.number) or not 0 <= item.threshold <= 1
        ):  # NaN is not, either
            raise ValueError(f"threshold of {_name(item)} must lie in [0, 1], got {item.threshold}")
        key = item.metric, frozenset(item.attributes)
        if key in seen:
            raise ValueError(
                f"{_name(item)} is required twice, with thresholds {seen[key]:g} and {item.threshold:g}; keep one"
            )
        seen[key] = item.threshold


def _name(item: Requirement) -> str:
    return f"{item.metric} of {' & '.join(item.attributes)}"


def _as_groups(column: Any) -> Groups:
    return column if isinstance(column, Groups) else encode_groups(column)


def _check_labels(labels: Any, columns: Mapping[str, Groups]) -> np.ndarray:
    labels = np.asarray(labels)
    for name, column in columns.items():
        if labels.shape != column.ids.shape:
            raise ValueError(f"labels have shape {labels.shape} and attribute {name!r} has {column.ids.shape[0]} rows")
    if np.issubdtype(labels.dtype, np.inexact) or not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be classes 0 and 1; gaps are in rates of predictions")
    return labels.astype(np.int64)


def _check_rows(rows: Any, num_rows: int) -> np.ndarray:
    positions = np.asarray(rows)
    if positions.ndim != 1 or positions.size == 0 or not np.issubdtype(positions.dtype, np.integer):
        raise ValueError(f"rows must be integer positions, at least one, got {positions.dtype} {positions.shape}")
    if positions.min() < 0 or positions.max() >= num_rows or np.unique(positions).size < positions.size:
        raise ValueError(f"rows must be distinct positions in [0, {num_rows}); turn a mask into np.flatnonzero(mask)")
    return positions


def _cells(columns: Mapping[str, Groups]) -> tuple[Groups, np.ndarray]:
    """The intersections of all attributes that occur, and the value id of each attribute in each, `int[C, A]`."""
    ids = encode_groups(*(column.ids for column in columns.values()))
    first = np.unique(ids.ids, return_index=True)[1]
    values = np.stack([column.ids[first] for column in columns.values()], axis=1)
    names = tuple(
        " & ".join(column.names[value] for column, value in zip(columns.values(), row, strict=True)) for row in values
    )
    return Groups(ids.ids, names, ids.num_groups), values


def _needs(wanted: list[Requirement]) -> dict[tuple[str, ...], tuple[bool, bool, bool]]:
    """Which rates are compared between the groups of each set of attributes, in the order they are asked for."""
    needs: dict[tuple[str, ...], tuple[bool, bool, bool]] = {}
    for item in wanted:
        key = tuple(sorted(item.attributes))
        needs[key] = tuple(a | b for a, b in zip(needs.get(key, (False,) * 3), METRICS[item.metric], strict=True))  # type: ignore[assignment]
    return needs


def _partition(key: tuple[str, ...], columns: Mapping[str, Groups], values: np.ndarray) -> _Partition:
    positions = [list(columns).index(name) for name in key]
    groups = encode_groups(*(values[:, position] for position in positions))
    members = groups.ids == np.arange(groups.num_groups)[:, None]
    first = members.argmax(axis=1)
    names = [
        " & ".join(columns[name].names[values[cell, position]] for name, position in zip(key, positions, strict=True))
        for cell in first
    ]
    return _Partition(names, members)


def _without_small(
    partition: _Partition,
    counts: np.ndarray,
    needs: tuple[bool, bool, bool],
    minimum_count: int,
    small: Small,
    key: tuple[str, ...],
) -> _Partition:
    """The groups of one attribute or intersection that have the rows, by the user's rule for those that have not."""
    names, members = list(partition.names), partition.members
    left_out: tuple[str, ...] = ()
    while (fewest := _fewest_rows(members, counts, needs)).min() < minimum_count:
        if small == "raise":
            listed = "; ".join(
                f"{name} ({_row_counts(member, counts)})"
                for name, member, rows in zip(names, members, fewest, strict=True)
                if rows < minimum_count
            )
            raise ValueError(
                f"groups of {' & '.join(key)} with fewer than {minimum_count} training rows for a rate they are "
                f'compared by: {listed}. Use small="drop" or small="merge", with a minimum_count'
            )
        if small == "drop" or len(names) == 1:
            kept = fewest >= minimum_count
            left_out = tuple(name for name, keep in zip(names, kept, strict=True) if not keep)
            names, members = [name for name, keep in zip(names, kept, strict=True) if keep], members[kept]
            break
        first, second = sorted(np.argsort(fewest, kind="stable")[:2])
        names[first] = f"{names[first]} + {names.pop(second)}"
        members[first] |= members[second]
        members = np.delete(members, second, axis=0)
    if len(names) < 2:
        raise ValueError(
            f"{' & '.join(key)} has {'one group' if names else 'no group'} with at least {minimum_count} training rows "
            "for every rate that is compared; a gap needs two. Lower minimum_count or leave the requirement out"
        )
    return _Partition(names, members, left_out)


def _fewest_rows(members: np.ndarray, counts: np.ndarray, needs: tuple[bool, bool, bool]) -> np.ndarray:
    negative, positive = counts @ members.T
    rows = (negative + positive, positive, negative)
    return np.min([count for count, need in zip(rows, needs, strict=True) if need], axis=0)


def _row_counts(member: np.ndarray, counts: np.ndarray) -> str:
    negative, positive = counts @ member
    return f"{negative:.0f} rows labelled 0, {positive:.0f} labelled 1"


def _assemble(wanted: list[Requirement], partitions: Mapping[tuple[str, ...], _Partition]) -> FairnessConstraints:
    start: dict[tuple[str, ...], int] = {}
    names: list[str] = []
    of_cell: list[np.ndarray] = []
    for key, partition in partitions.items():
        start[key] = len(names)
        names += [f"{' & '.join(key)}={name}" for name in partition.names]
        group = start[key] + np.arange(len(partition.names))[:, None]
        of_cell.append(np.where(partition.members, group, -1).max(axis=0))
    pairs: list[tuple[int, int]] = []
    number: list[int] = []
    compares: list[tuple[bool, bool, bool]] = []
    for position, item in enumerate(wanted):
        key = tuple(sorted(item.attributes))
        groups = range(start[key], start[key] + len(partitions[key].names))
        found = list(itertools.combinations(groups, 2))
        pairs += found
        number += [position] * len(found)
        compares += [METRICS[item.metric]] * len(found)
    left, right = np.asarray(pairs, np.int32).T
    left_out = tuple(f"{' & '.join(key)}={name}" for key, one in partitions.items() for name in one.left_out)
    return FairnessConstraints(
        membership=jnp.asarray(np.concatenate([partition.members for partition in partitions.values()])),
        partitions=jnp.asarray(np.stack(of_cell).astype(np.int32)),
        left=jnp.asarray(left),
        right=jnp.asarray(right),
        requirement=jnp.asarray(number, jnp.int32),
        compares=jnp.asarray(compares),
        thresholds=jnp.asarray([float(item.threshold) for item in wanted], jnp.result_type(float)),
        names=Static((tuple(names), tuple(_name(item) for item in wanted), left_out)),
    )
