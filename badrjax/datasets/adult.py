"""UCI Adult: does a person of the 1994 census earn more than 50,000 dollars a year?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped

from badrjax.datasets.dataset import Dataset
from badrjax.datasets.dataset import standardise as scaled
from badrjax.datasets.entry import Entry
from badrjax.datasets.files import DataFile
from badrjax.datasets.tables import encode_features
from badrjax.groups import encode_groups

# In the order of the raw files; numbers and text.
NUMERIC = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country",
    "income",
)  # fmt: skip
MISSING = "?"
FAVOURABLE = ">50K"

# adult.test comes first: that is the row order the published splits index.
TEST_FILE = DataFile("adult/adult.test", "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05")
TRAIN_FILE = DataFile("adult/adult.data", "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d")
BUNDLE = DataFile("adult.csv.xz", "cb49122a4a65f3b2b8a3a86b9c81fe5e883dc439597201fab7ea6e474ce66d11")


def canonical_csv(contents: Mapping[str, bytes]) -> bytes:
    """The raw table as one CSV: a header, the rows of adult.test, then those of adult.data.

    Values lose the spaces around them and labels their trailing full stop; "?" stays as it is. This is the
    content of the bundled copy.

    Args:
        contents: bytes of both raw files, by path.
    """
    rows = [",".join(COLUMNS)]
    for file in (TEST_FILE, TRAIN_FILE):
        for line in contents[file.path].decode("ascii").splitlines():
            if line and not line.startswith("|"):  # adult.test opens with a comment; both end in an empty line
                rows.append(",".join(value.strip() for value in line.removesuffix(".").split(",")))
    return ("\n".join(rows) + "\n").encode("ascii")


def read_columns(content: bytes) -> dict[str, Shaped[np.ndarray, "n"]]:
    """Columns of the canonical CSV by name, `f32[n]` or text."""
    header, *rows = content.decode("ascii").splitlines()
    columns = zip(*(row.split(",") for row in rows), strict=True)
    table = {name: np.array(values) for name, values in zip(header.split(","), columns, strict=True)}
    return {name: values.astype(np.float32) if name in NUMERIC else values for name, values in table.items()}


def load_adult(
    contents: Mapping[str, bytes],
    *,
    sensitive: tuple[str, ...],
    variant: str = "nash",
    standardise: str = "all",
) -> Dataset:
    """Adult as the Nash meta-learning paper prepares it: 48,842 rows, 105 features.

    No row is dropped. A missing value ("?") is 0 in all the features of its column; the sensitive attribute
    and the census weight stay features. `y` is 1 for an income above 50,000. Groups are numbered in the order
    of their names.

    Args:
        contents: verified bytes of both raw files, or of the bundled copy, by path.
        sensitive: "sex", "race" or both.
        variant: "nash", the only one.
        standardise: "all" scales over all rows (as the paper does), "none" leaves the raw numbers.
    """
    del variant
    content = contents[BUNDLE.path] if BUNDLE.path in contents else canonical_csv(contents)
    columns = read_columns(content)
    income = columns.pop("income")
    x, feature_names = encode_features(columns, MISSING)
    groups = encode_groups(*(columns[attribute] for attribute in sensitive))
    dataset = Dataset(
        x=x,
        y=(income == FAVOURABLE).astype(np.int32),
        group=groups.ids,
        feature_names=feature_names,
        group_names=groups.names,
        name=ENTRY.name,
        source=ENTRY.source,
        licence=ENTRY.licence,
        citation=ENTRY.citation,
        label_name="income",
        favourable=FAVOURABLE,
        sensitive=sensitive,
    )
    return scaled(dataset) if standardise == "all" else dataset


ENTRY = Entry(
    name="adult",
    title="persons of the 1994 US census; label: income above 50,000 dollars",
    load=load_adult,
    sensitive=("sex", "race"),
    variants=("nash",),
    source="UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/2/adult",
    licence="CC BY 4.0",
    citation="Becker, B. and Kohavi, R. (1996). Adult. UCI Machine Learning Repository. doi:10.24432/C5XW20",
    files=(TEST_FILE, TRAIN_FILE),
    bundle=BUNDLE,
    options={"standardise": ("all", "none")},
    official_splits={
        ("sex",): DataFile(
            "nash_splits/adult_sex.npz", "7959d64ad0d594c0e512956d94e4f0d40f414720780ab3f29f54e33861f75d50"
        ),
        ("race",): DataFile(
            "nash_splits/adult_race.npz", "a392329af886624c9d733759f4348ee2fa46ec85032c779c5b3634700098df60"
        ),
    },
)
