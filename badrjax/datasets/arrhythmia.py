"""UCI Arrhythmia: is the rhythm of a heart abnormal, told from an electrocardiogram?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from badrjax.datasets.delimited import read_csv, recode
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, Prepared
from badrjax.datasets.sources import uci
from badrjax.datasets.tables import encode_features, number_column, text_column

_LEADS = ("DI", "DII", "DIII", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
# R2 and S2 are the second, small peaks that the description writes R' and S'.
_SHAPES = (
    "Q_width", "R_width", "S_width", "R2_width", "S2_width", "intrinsic_deflections", "ragged_R", "diphasic_R",
    "ragged_P", "diphasic_P", "ragged_T", "diphasic_T",
)  # fmt: skip
_HEIGHTS = (
    "JJ_height", "Q_height", "R_height", "S_height", "R2_height", "S2_height", "P_height", "T_height", "QRS_area",
    "QRST_area",
)  # fmt: skip
# The file has no header; these are the attributes of its description in their order.
COLUMNS = (
    "age", "sex", "height", "weight", "QRS_duration", "PR_interval", "QT_interval", "T_interval", "P_interval",
    "QRS_angle", "T_angle", "P_angle", "QRST_angle", "J_angle", "heart_rate",
    *(f"{lead}_{shape}" for lead in _LEADS for shape in _SHAPES),
    *(f"{lead}_{height}" for lead in _LEADS for height in _HEIGHTS),
    "class",
)  # fmt: skip
MISSING = "?"
SEXES = {"0": "male", "1": "female"}
NORMAL, LAST_CLASS = 1, 16

FILE = uci("arrhythmia/arrhythmia.data", "a7f0f4ca289a4c58b5ed85a9adb793189acd38425828ce3dfbb70adb45f30169")


def prepare(contents: Mapping[str, bytes], *, variant: str) -> Prepared:
    """The electrocardiograms; see `ENTRY.variants`."""
    del variant
    numbers = [name for name in COLUMNS if name != "sex"]
    table = read_csv(
        contents[FILE.path], FILE.path, numbers=numbers, text=("sex",), missing=(MISSING,), header=None, names=COLUMNS
    )
    sex = recode(text_column(table, "sex"), SEXES, "sex", FILE.path)
    columns = {name: table[name] for name in COLUMNS if name != "class"} | {"sex": sex.text() == "female"}
    return Prepared(
        features=encode_features(columns, missing="indicator"),
        label=_checked_classes(number_column(table, "class")) != NORMAL,
        label_name="arrhythmia",
        positive="classes 2 to 16",
        attributes={"sex": Attribute(sex, ("sex",))},
    )


def _checked_classes(classes: np.ndarray) -> np.ndarray:
    if not classes.size:
        raise ValueError(f"{FILE.path} has no rows; get the official file")
    wrong = np.flatnonzero(~np.isin(classes, np.arange(NORMAL, LAST_CLASS + 1)))
    if wrong.size:
        raise ValueError(
            f"{FILE.path} has {classes[wrong[0]]:g} as its class in row {wrong[0]}, where one of {NORMAL} to "
            f"{LAST_CLASS} should be; get the official file"
        )
    return classes


ENTRY = Entry(
    name="arrhythmia",
    title="electrocardiograms of 452 patients; label: arrhythmia",
    prepare=prepare,
    variants={"default": "every row and every column, constant ones too; missing numbers 0 with a 0/1 feature"},
    sensitive={"sex": "female, male"},
    source="UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/5/arrhythmia",
    licence="CC BY 4.0",
    citation=(
        "Guvenir, H., Acar, B., Muderrisoglu, H. and Quinlan, R. (1998). Arrhythmia. UCI Machine Learning Repository. "
        "doi:10.24432/C5BS32"
    ),
    files=((FILE,),),
    positive="some arrhythmia, classes 2 to 16 (unfavourable)",
    flaws=(
        Flaw("two heights are impossible (780 and 608 cm)", ("default",), "keeps them"),
        Flaw("17 columns are constant", ("default",), "keeps them; standardising only shifts them"),
    ),
    facts={"default": Facts(452, 284, 0.458)},
)

ENTRIES = (ENTRY,)
