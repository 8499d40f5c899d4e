import dataclasses

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import dataset_info, load_dataset, registry
from badrjax.datasets.arrhythmia import COLUMNS, ENTRY, FILE

# The published file.


@pytest.fixture(scope="module")
def frame(real_data):
    return pd.read_csv(real_data / FILE.path, header=None, na_values="?")


def test_facts_are_what_is_loaded(real_data):
    dataset = load_dataset("arrhythmia", data_home=real_data)
    assert dataset_info("arrhythmia").facts["default"] == (*dataset.x.shape, round(float(dataset.y.mean()), 4))


def test_counts_are_the_published_ones(frame, real_data):
    dataset = load_dataset("arrhythmia", data_home=real_data)
    assert frame.shape == (452, 280)
    assert np.bincount(dataset.y).tolist() == [245, 452 - 245]
    assert dict(zip(dataset.group_names, np.bincount(dataset.group).tolist(), strict=True)) == {
        "female": (frame[1] == 1).sum(),
        "male": (frame[1] == 0).sum(),
    }
    indicators = dataset.x[:, [name.endswith("_missing") for name in dataset.feature_names]]
    assert indicators.sum() == 408


def test_features_are_the_columns_of_the_file_with_indicators(frame, real_data):
    table = frame.iloc[:, :-1].set_axis(COLUMNS[:-1], axis=1)
    missing = table.isna().add_suffix("_missing").astype(float)
    expected = pd.concat([table.fillna(0), missing.loc[:, missing.any()]], axis=1)
    expected = expected[sorted(expected.columns)]
    dataset = load_dataset("arrhythmia", data_home=real_data)
    assert dataset.feature_names == tuple(expected.columns)
    np.testing.assert_array_equal(dataset.x, expected.to_numpy(np.float32))
    np.testing.assert_array_equal(dataset.y, frame[279] != 1)


def test_names_are_at_the_positions_of_the_published_description(frame):
    # Positions from 1, as the description counts.
    positions = {
        1: "age", 2: "sex", 5: "QRS_duration", 10: "QRS_angle", 14: "J_angle", 15: "heart_rate", 16: "DI_Q_width",
        21: "DI_intrinsic_deflections", 27: "DI_diphasic_T", 28: "DII_Q_width", 88: "V1_Q_width",
        159: "V6_diphasic_T", 160: "DI_JJ_height", 168: "DI_QRS_area", 169: "DI_QRST_area", 170: "DII_JJ_height",
        270: "V6_JJ_height", 279: "V6_QRST_area", 280: "class",
    }  # fmt: skip
    assert {position: COLUMNS[position - 1] for position in positions} == positions
    assert len(set(COLUMNS)) == 280
    table = frame.set_axis(COLUMNS, axis=1)
    nominal = [name for name in COLUMNS if "_ragged_" in name or "_diphasic_" in name]
    assert len(nominal) == 72
    assert table[nominal].isin([0, 1]).all(axis=None)
    widths = table[[name for name in COLUMNS if name.endswith("_width")]]
    assert (widths % 4 == 0).all(axis=None)  # milliseconds, in steps of the recorder
    # The area up to T is that of QRS and half of T's width times its height, so it is larger where T points up.
    for lead in ("DI", "DII", "DIII", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"):
        of_t = table[f"{lead}_QRST_area"] - table[f"{lead}_QRS_area"]
        assert (np.sign(of_t.round(3)) == np.sign(table[f"{lead}_T_height"])).all()


def test_the_flaws_are_in_the_file(frame):
    assert sorted(frame[2])[-3:] == [190, 608, 780]
    assert (frame.nunique(dropna=False) == 1).sum() == 17


# Invented files of the same format.


def _invented(*changes):
    rows = [dict.fromkeys(COLUMNS, "0") | {"class": "1"} | change for change in changes]
    return "".join(",".join(row.values()) + "\n" for row in rows).encode()


ILL = {"sex": "1", "class": "16", "J_angle": "?"}


def _prepare(content):
    return ENTRY.prepare({FILE.path: content}, variant="default")


def _load(monkeypatch, directory, content, **arguments):
    file = dataclasses.replace(FILE, sha256="")
    (directory / "arrhythmia").mkdir()
    (directory / file.path).write_bytes(content)
    monkeypatch.setitem(registry._ENTRIES, "arrhythmia", dataclasses.replace(ENTRY, files=((file,),)))
    return load_dataset("arrhythmia", data_home=directory, **arguments)


def test_classes_sexes_and_missing_numbers():
    prepared = _prepare(_invented({"J_angle": "-7"}, ILL, {"class": "2"}))
    columns = dict(zip(prepared.features.names, prepared.features.x.T.tolist(), strict=True))
    assert prepared.label.tolist() == [False, True, True]
    assert prepared.attributes["sex"].values.text().tolist() == ["male", "female", "male"]
    assert columns["sex"] == [0, 1, 0]
    assert (columns["J_angle"], columns["J_angle_missing"]) == ([-7, 0, 0], [0, 1, 0])
    assert len(columns) == 280


def test_dropping_sex_drops_its_column(monkeypatch, tmp_path):
    dataset = _load(monkeypatch, tmp_path, _invented({}, ILL), sensitive_features="drop")
    assert "sex" not in dataset.feature_names
    assert dataset.group_names == ("female", "male")


def test_a_single_class_is_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="every row of arrhythmia has the label arrhythmia"):
        _load(monkeypatch, tmp_path, _invented({}, {"sex": "1"}))


BAD = {
    "sex": ({"sex": "3"}, r"arrhythmia\.data: column 'sex' has the unknown category '3'"),
    "class": ({"class": "17"}, r"arrhythmia\.data has 17 as its class in row 1, where one of 1 to 16"),
    "half class": ({"class": "1.5"}, r"has 1\.5 as its class in row 1"),
    "no class": ({"class": "?"}, "has nan as its class in row 1"),
    "number": ({"height": "tall"}, r"arrhythmia\.data has 'tall' in column 'height', row 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_with_their_column(case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        _prepare(_invented({}, change))


OTHER_TABLES = {
    "web page": (b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "has 1 values separated by ',' in line 1"),
    "a column short": (_invented({}).replace(b",1\n", b"\n"), "has 279 values separated by ',' in line 1, not 280"),
    "a column more": (_invented({}).replace(b"\n", b",0\n"), "has 281 values separated by ',' in line 1, not 280"),
    # As some copies have it.
    "with a header": (",".join(COLUMNS).encode() + b"\n" + _invented({}), "has 'age' in column 'age', row 0"),
    "empty": (b"", "has no rows"),
}


@pytest.mark.parametrize("case", OTHER_TABLES)
def test_other_tables_are_refused(case):
    content, message = OTHER_TABLES[case]
    with pytest.raises(ValueError, match=rf"arrhythmia\.data {message}"):
        _prepare(content)
