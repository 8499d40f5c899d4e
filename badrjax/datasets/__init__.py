"""Datasets on the host: loaded by name or made of a frame, split, and copied to the device."""

from badrjax.datasets.celeba import celeba_from_files
from badrjax.datasets.dataset import Dataset, Splits, min_max_scale, standardise, take, to_batch
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, Prepared
from badrjax.datasets.frames import dataset_from_frame
from badrjax.datasets.graphs import GRAPHS, Graph, graph_from_files, graph_splits, load_graph
from badrjax.datasets.own_files import dataset_from_file
from badrjax.datasets.registry import dataset_info, fetch_dataset, list_datasets, load_dataset, verify_dataset
from badrjax.datasets.small_groups import drop_small_groups, merge_small_groups
from badrjax.datasets.splits import (
    balanced_split,
    domain_split,
    kfold_split,
    official_split,
    random_split,
    split,
    stratified_split,
)

__all__ = [
    "Attribute", "Dataset", "Entry", "Facts", "Flaw", "Prepared", "Splits",
    "load_dataset", "fetch_dataset", "verify_dataset", "list_datasets", "dataset_info",
    "dataset_from_frame", "dataset_from_file",
    "split", "balanced_split", "domain_split", "kfold_split", "official_split", "random_split", "stratified_split",
    "drop_small_groups", "merge_small_groups",
    "GRAPHS", "Graph", "graph_from_files", "graph_splits", "load_graph", "celeba_from_files",
    "min_max_scale", "standardise", "take", "to_batch",
]  # fmt: skip
