"""Datasets on the host: loaded by name or made of a frame, split, and copied to the device."""

from badrjax.datasets.dataset import Dataset, Splits, standardise, to_batch
from badrjax.datasets.entry import Entry
from badrjax.datasets.frames import dataset_from_frame
from badrjax.datasets.registry import dataset_info, list_datasets, load_dataset
from badrjax.datasets.splits import balanced_split, official_split, random_split, split

__all__ = [
    "Dataset", "Entry", "Splits",
    "load_dataset", "list_datasets", "dataset_info", "dataset_from_frame",
    "split", "balanced_split", "random_split", "official_split",
    "standardise", "to_batch",
]  # fmt: skip
