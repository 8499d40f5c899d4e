"""Nodes and edges from files as FairGNN publishes them (NBA, Pokec), which are not fetched: their terms forbid it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from badrjax.datasets.dataset import Splits
from badrjax.extras import require
from badrjax.groups import encode_groups

if TYPE_CHECKING:
    import pandas as pd


class GraphFiles(NamedTuple):
    """Where the files of a graph lie below a data directory, and which columns are which."""

    nodes: str
    edges: str
    label: str
    sensitive: str


GRAPHS = {
    "nba": GraphFiles("nba/nba.csv", "nba/nba_relationship.txt", "SALARY", "country"),
    "pokec_z": GraphFiles(
        "pokec/region_job.csv", "pokec/region_job_relationship.txt", "I_am_working_in_field", "region"
    ),
    "pokec_n": GraphFiles(
        "pokec/region_job_2.csv", "pokec/region_job_2_relationship.txt", "I_am_working_in_field", "region"
    ),
}


class Graph(NamedTuple):
    """Nodes with features, and the edges between them.

    Attributes:
        x: features, `f32[N, F]`.
        y: labels 0 and 1, `int32[N]`; 0 where there is none.
        labelled: which nodes have a label, `bool[N]`.
        group: ids in `[0, K)`, `int32[N]`.
        edges: from and to, `int32[2, E]`, each edge in both directions and once.
        feature_names: F names.
        group_names: K names.
    """

    x: Float[np.ndarray, "N F"]
    y: Int[np.ndarray, "N"]
    labelled: Bool[np.ndarray, "N"]
    group: Int[np.ndarray, "N"]
    edges: Int[np.ndarray, "2 E"]
    feature_names: tuple[str, ...]
    group_names: tuple[str, ...]


def load_graph(name: str, data_home: str | os.PathLike[str] | None = None) -> Graph:
    """NBA or one of the two Pokec graphs, from files that have been fetched by hand.

    Args:
        name: a key of `GRAPHS`.
        data_home: directory with the files; `None` is `BADRJAX_DATA`.

    Raises:
        ValueError: for an unknown name, or as `graph_from_files`. FileNotFoundError: for missing files (which).
    """
    if name not in GRAPHS:
        raise ValueError(f"unknown graph {name!r}; known are {', '.join(GRAPHS)}")
    files = GRAPHS[name]
    home = Path(data_home or os.environ.get("BADRJAX_DATA") or ".")
    for path in (files.nodes, files.edges):
        if not (home / path).is_file():
            raise FileNotFoundError(
                f"{name} needs {path} below {home}; get it from https://github.com/EnyanDai/FairGNN and name the "
                "directory in data_home or BADRJAX_DATA"
            )
    return graph_from_files(home / files.nodes, home / files.edges, label=files.label, sensitive=files.sensitive)


def graph_from_files(
    nodes: str | os.PathLike[str],
    edges: str | os.PathLike[str],
    *,
    label: str,
    sensitive: str,
    identifier: str = "user_id",
) -> Graph:
    """A graph from a table of nodes and a list of edges.

    Args:
        nodes: CSV file with a header, a row a node: the identifier, the label (negative where unknown, every positive
            number is 1, as FairGNN takes them), the sensitive attribute, and numbers, the features.
        edges: text file with two identifiers a line. Edges count in both directions, once; loops are left out.
        label: column of the label.
        sensitive: column of the attribute, which is no feature; a negative value is a group like any other.
        identifier: column of the identifiers, unique integers.

    Raises:
        ValueError: for missing columns, one column in two places, identifiers that are repeated or no integers,
            features or labels that are no finite numbers, labels of one class, an attribute with one value, or edges
            of unknown nodes (which).
        FileNotFoundError: for files that are not there.
    """
    table: pd.DataFrame = require("pandas", "reading graphs").read_csv(nodes)
    missing = [name for name in (identifier, label, sensitive) if name not in table.columns]
    if missing:
        raise ValueError(f"{nodes} has no column {missing[0]!r}; its columns are {', '.join(table.columns[:10])}, ...")
    if len({identifier, label, sensitive}) < 3:
        raise ValueError("identifier, label and sensitive must be three columns of the nodes")
    ids = table[identifier].to_numpy()
    for name, kinds in ((identifier, "iu"), (label, "iufb")):
        if table[name].to_numpy().dtype.kind not in kinds or table[name].isna().any():
            raise ValueError(f"column {name!r} of {nodes} must hold {'integers' if kinds == 'iu' else 'numbers'}")
    if len(np.unique(ids)) < len(ids):
        raise ValueError(f"{nodes} has identifier {table[identifier][table[identifier].duplicated()].iloc[0]} twice")
    names = tuple(str(name) for name in table.columns if name not in (identifier, label, sensitive))
    groups = encode_groups(table[sensitive].to_numpy())
    if groups.num_groups < 2:
        raise ValueError(f"sensitive attribute {sensitive!r} of {nodes} has one value, {groups.names[0]!r}")
    given = table[label].to_numpy()
    classes = np.unique(given[given >= 0] > 0)
    if classes.size < 2:
        raise ValueError(f"label {label!r} of {nodes} has {'one class' if classes.size else 'no known value'}")
    return Graph(
        x=_features(table, names, nodes),
        y=(given > 0).astype(np.int32),
        labelled=given >= 0,
        group=groups.ids,
        edges=_edges(ids, edges),
        feature_names=names,
        group_names=groups.names,
    )


def graph_splits(graph: Graph, seed: int, *, num_labels: int | None = None) -> Splits:
    """Half of the labelled nodes to train on, a quarter to validate and a quarter to test, drawn at random.

    Args:
        graph: of `graph_from_files`.
        seed: non-negative integer.
        num_labels: of the training half, how many are used: 500 of Pokec and 100 of NBA in the papers; `None` is all.

    Raises:
        ValueError: for more labels than there are, or too few nodes for three parts.
    """
    known = np.random.default_rng(seed).permutation(np.flatnonzero(graph.labelled)).astype(np.int64)
    half, quarter = known.size // 2, known.size // 4
    if quarter == 0:
        raise ValueError(f"{known.size} labelled nodes are too few for three parts")
    if num_labels is not None and not 1 <= num_labels <= half:
        raise ValueError(f"num_labels must be from 1 to {half}, half of the labelled nodes, got {num_labels}")
    return Splits(known[: num_labels or half], known[half : half + quarter], known[half + quarter :])


def _features(table: pd.DataFrame, names: tuple[str, ...], where: object) -> np.ndarray:
    for name in names:
        column = table[name].to_numpy()
        if column.dtype.kind not in "biuf" or not (np.abs(column.astype(float)) < np.finfo(np.float32).max).all():
            raise ValueError(f"column {name!r} of {where} must hold finite numbers (as float32)")
    return table[list(names)].to_numpy(np.float32)


def _edges(ids: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
    lines = [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    pairs = np.loadtxt(lines, dtype=np.int64, ndmin=2) if lines else np.empty((0, 2), np.int64)
    if pairs.shape[1] != 2:
        raise ValueError(f"{path} must have two identifiers a line, and has {pairs.shape[1]}")
    order = np.argsort(ids, kind="stable")
    place = np.clip(np.searchsorted(ids[order], pairs), 0, len(ids) - 1)
    found = order[place]
    unknown = ids[found] != pairs
    if unknown.any():
        raise ValueError(f"{path} has an edge of node {pairs[unknown][0]}, which the table of nodes lacks")
    found = found.reshape(-1, 2)
    found = found[found[:, 0] != found[:, 1]]
    both = np.unique(np.concatenate([found, found[:, ::-1]]), axis=0)
    return np.ascontiguousarray(both.T.astype(np.int32))
