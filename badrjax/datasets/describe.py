"""The page on the datasets, made of the registry: `python -m badrjax.datasets.describe > docs/datasets.md`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from badrjax.datasets.entry import Entry, Facts, Flaw
from badrjax.datasets.files import DataFile
from badrjax.datasets.registry import dataset_info, list_datasets

_HEAD = """\
# Datasets

<!-- Made by `python -m badrjax.datasets.describe`; change the registry, not this page. -->

Every dataset is loaded the same way:

```python
>>> import badrjax as bx
>>> adult = bx.load_dataset("adult", sensitive=("sex", "race"))
>>> adult
Dataset('adult': 48842 rows, 104 features, groups Female & Amer-Indian-Eskimo, ..., Male & White)
>>> adult.attributes["sex"].names
('Female', 'Male')
>>> merged = bx.load_dataset("adult", sensitive=("sex", "race"), min_group_rows=200, num_groups=3)
>>> merged.notes
("dropped the rows of 'Female & Amer-Indian-Eskimo' (185), 'Female & Other' (155)", 'merged the smallest groups: ...)

```

**Where files are looked for:** below `data_home=`, below the directory that the environment variable `BADRJAX_DATA`
names, in the user's cache, in the package (Adult and German Credit come with it), and last at the official source.
Each file is held against a pinned SHA-256: a wrong one of your own is an error and is left alone, a wrong one in the
cache is removed, and a download is put in place only when it is whole and right. A few files have no published
SHA-256; they are not downloaded unasked: put them in place yourself, or take what comes with
`badrjax data fetch NAME --unpinned`, which writes its SHA-256 down and holds it against the file from then on.

```
badrjax data list                                   # names and titles
badrjax data info acs_income -o states=WY,VT        # rows, features, base rate by group, licence, citation, flaws
badrjax data fetch bank student_por                 # into the user's cache
badrjax data verify                                 # SHA-256 of every file that is at hand
badrjax data info mine.csv --label hired --favourable yes --sensitive sex race
```

**Variants.** The default of each dataset leaks nothing: it leaves numbers raw (scale them by your training rows with
`bx.datasets.standardise(dataset, splits.train)`), puts 0 and a 0/1 feature for a missing number, and leaves out the
target and what is known only after it. A paper's variant does what the paper does, its known flaws included; they are
listed with each dataset.

**Groups.** `sensitive=` takes one attribute or several; several make intersections, and each by itself is in
`dataset.attributes`. Rows without a value are left out and counted in `dataset.notes`. Small groups are kept unless
you say `min_group_rows=` (drop) or `num_groups=` (merge the two smallest until so many are left, as BADR does).
`sensitive_features="drop"` leaves out of the features the columns that state the attribute and those that only one
group answers; what merely goes along with it (an occupation, an area) stays.

**Splits.** `bx.datasets.split(dataset, kind, seed)` with kind `random`, `stratified` (by group and label), `balanced`
(as the Nash paper), `kfold`, `domain` (train on one state, year or published part, test on others) or `official` (the
Nash paper's index files).

```python
>>> splits = bx.datasets.split(adult, "domain", domain="part", train="train", test="test")
>>> [part.size for part in splits]
[32561, 0, 16281]

```

Rows, features and base rates below are those of the default options; the tests check them wherever the files are. Of
datasets without numbers no raw file was at hand: their loaders were tried on small files of the same format.

| name | rows | features | base rate | y = 1 | licence |
| --- | ---: | ---: | ---: | --- | --- |
"""


def datasets_page() -> str:
    """The page, in Markdown."""
    entries = [dataset_info(name) for name in list_datasets()]
    overview = "\n".join(map(_overview, entries))
    first: dict[object, str] = {}
    owners = [first.setdefault(entry.files, entry.name) for entry in entries]
    sections = (
        "\n".join(_section(entry, owner if owner != entry.name else None))
        for entry, owner in zip(entries, owners, strict=True)
    )
    return _HEAD + overview + "\n\n" + "\n\n".join(sections) + "\n"


def _overview(entry: Entry) -> str:
    numbers = _numbers(entry.facts.get(entry.default_variant))
    return f"| [`{entry.name}`](#{entry.name}) | {numbers} | {entry.positive or 'a number'} | {entry.licence} |"


def _numbers(facts: Facts | None) -> str:
    if facts is None:
        return " |  | "
    return f"{facts.rows:,} | {facts.features:,} | {'' if facts.base_rate is None else f'{facts.base_rate:.4f}'}"


def _section(entry: Entry, same: str | None) -> Iterator[str]:
    yield f"## {entry.name}\n"
    yield f"{entry.title[0].upper()}{entry.title[1:]}.\n"
    yield "| variant | rows | features | base rate | what it does |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for variant, meaning in entry.variants.items():
        facts = entry.facts.get(variant)
        yield f"| `{variant}` | {_numbers(facts)} | {meaning} |"
    yield ""
    yield from _list("Sensitive attributes", (f"`{name}`: {meaning}" for name, meaning in entry.sensitive.items()))
    for variant, attributes in entry.default_sensitive.items():
        yield f"With variant `{variant}` the groups are by {', '.join(f'`{name}`' for name in attributes)}.\n"
    yield from _list("Options", (f"`{name}`: {option.help}" for name, option in entry.options.items()))
    yield from _list("Known flaws", (_flaw(entry, flaw) for flaw in entry.flaws))
    names = (f"`{name}`, by {' and '.join(split.sensitive)}" for name, split in entry.official_splits.items())
    yield from _list("Official splits", names)
    yield from _list("Files", _files(entry) if same is None else [f"those of [`{same}`](#{same})"])
    if entry.obtain:
        yield f"To get them: {entry.obtain}.\n"
    yield f"Source: {entry.source}. Licence: {entry.licence}. Cite: {entry.citation.removesuffix('.')}."


def _list(title: str, items: Iterable[str]) -> Iterator[str]:
    lines = [f"- {item}" for item in items]
    if lines:
        yield f"{title}:\n"
        yield from lines
        yield ""


def _flaw(entry: Entry, flaw: Flaw) -> str:
    what, kept_by, default = flaw
    kept = f"kept by {', '.join(f'`{variant}`' for variant in kept_by)}; " if set(kept_by) < set(entry.variants) else ""
    return f"{what} ({kept}the default {default})"


def _files(entry: Entry) -> Iterator[str]:
    for position, files in enumerate(entry.files):
        for file in files:
            yield ("or " if position and file is files[0] else "") + _file(file)


def _file(file: DataFile) -> str:
    pinned = f"SHA-256 `{file.sha256}`" if file.sha256 else "no published SHA-256"
    return f"`{file.path}`, {pinned}"


if __name__ == "__main__":
    print(datasets_page(), end="")
