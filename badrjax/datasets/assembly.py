"""From what a recipe hands over to a dataset: groups, attributes, features left out, scaling, small groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from badrjax.datasets.dataset import Dataset
from badrjax.datasets.dataset import standardise as standardised
from badrjax.datasets.entry import Entry, Prepared
from badrjax.datasets.small_groups import drop_small_groups, merge_small_groups
from badrjax.datasets.tables import Categories, Column, Features, is_missing, take_rows
from badrjax.groups import Groups, encode_groups


class Rules(NamedTuple):
    """What `load_dataset` does with every dataset alike; its arguments of the same names say what they mean."""

    standardise: Literal["none", "all"] | None = None
    sensitive_features: Literal["keep", "drop"] = "keep"
    min_group_rows: int | None = None
    num_groups: int | None = None


def assemble(
    entry: Entry,
    prepared: Prepared,
    *,
    sensitive: tuple[str, ...],
    variant: str,
    rules: Rules,
    checksums: Mapping[str, str],
) -> Dataset:
    """The dataset of a recipe with groups by `sensitive`.

    Raises:
        ValueError: for a label with a single class, or no row with all the attributes.
    """
    prepared = _with_attributes(entry, prepared, sensitive)
    features = prepared.features
    if rules.sensitive_features == "drop":
        hidden = {column for name in sensitive for column in prepared.attributes[name].columns}
        features = _without_columns(entry, features, hidden)
    attributes = {name: _groups(prepared.attributes[name].values) for name in sensitive}
    groups = _intersections(list(attributes.values()))
    dataset = Dataset(
        x=features.x,
        y=_labels(entry, prepared),
        group=groups.ids,
        feature_names=features.names,
        group_names=groups.names,
        name=entry.name,
        source=entry.source,
        licence=entry.licence,
        citation=entry.citation,
        label_name=prepared.label_name,
        favourable=prepared.positive,
        sensitive=sensitive,
        attributes=attributes,
        domains={name: _groups(column) for name, column in prepared.domains.items()},
        variant=variant,
        feature_shape=prepared.feature_shape if features is prepared.features else (),
        notes=prepared.notes,
        checksums=dict(checksums),
    )
    return _scaled(_small_groups(dataset, rules), prepared, rules)


def _with_attributes(entry: Entry, prepared: Prepared, sensitive: tuple[str, ...]) -> Prepared:
    """Only the rows that have a value of each attribute."""
    notes = list(prepared.notes)
    present = np.ones(prepared.label.shape, bool)
    for name in sensitive:
        missing = is_missing(prepared.attributes[name].values)
        if missing.any():
            notes.append(f"dropped {missing.sum()} rows without {name}")
        present &= ~missing
    if present.all():
        return prepared
    if not present.any():
        raise ValueError(f"no row of {entry.name} has a value of {' and '.join(sensitive)}")
    features = prepared.features
    return prepared._replace(
        features=features._replace(x=features.x[present]),
        label=prepared.label[present],
        attributes={
            name: attribute._replace(values=take_rows(attribute.values, present))
            for name, attribute in prepared.attributes.items()
        },
        domains={name: take_rows(column, present) for name, column in prepared.domains.items()},
        notes=tuple(notes),
    )


def _without_columns(entry: Entry, features: Features, hidden: set[str]) -> Features:
    kept = np.array([column not in hidden for column in features.columns])
    if not kept.any():
        raise ValueError(f"sensitive_features='drop' leaves {entry.name} no feature; keep them, or choose fewer")
    names, columns = (
        tuple(value for value, keep in zip(values, kept, strict=True) if keep)
        for values in (features.names, features.columns)
    )
    return Features(features.x[:, kept], names, columns)


def _groups(column: Column) -> Groups:
    if not isinstance(column, Categories):
        return encode_groups(column)
    present, ids = np.unique(column.codes, return_inverse=True)
    return Groups(ids.astype(np.int32), tuple(column.values[code] for code in present), len(present))


def _intersections(attributes: list[Groups]) -> Groups:
    if len(attributes) == 1:
        return attributes[0]
    # By ids, not names: the order of numbers must not become that of their digits.
    joint = encode_groups(*(attribute.ids for attribute in attributes))
    names = tuple(
        " & ".join(attribute.names[int(i)] for attribute, i in zip(attributes, name.split(" & "), strict=True))
        for name in joint.names
    )
    return joint._replace(names=names)


def _labels(entry: Entry, prepared: Prepared) -> np.ndarray:
    label = prepared.label
    if label.dtype.kind == "f":
        return label.astype(np.float32)
    if label.min() == label.max():
        raise ValueError(
            f"every row of {entry.name} has the label {prepared.label_name} = {int(label[0])}; take other rows"
        )
    return label.astype(np.int32)


def _scaled(dataset: Dataset, prepared: Prepared, rules: Rules) -> Dataset:
    if rules.standardise == "all":
        return standardised(dataset)
    if rules.standardise is None and prepared.scale is not None:
        return prepared.scale(dataset)
    return dataset


def _small_groups(dataset: Dataset, rules: Rules) -> Dataset:
    if rules.min_group_rows is not None:
        dataset = drop_small_groups(dataset, rules.min_group_rows)
    if rules.num_groups is not None:
        dataset = merge_small_groups(dataset, rules.num_groups)
    return dataset
