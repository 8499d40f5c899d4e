import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from badrjax.datasets import dataset_info, load_dataset
from badrjax.datasets import files as files_module
from badrjax.datasets.adult import BUNDLE, COLUMNS, TEST_FILE, TRAIN_FILE
from badrjax.datasets.bundled import build
from badrjax.datasets.packing import unpack_table
from badrjax.datasets.tables import Categories

BUNDLED = files_module.BUNDLED_DIRECTORY / BUNDLE.path


def test_counts_are_the_published_ones(adult):
    assert adult.x.shape == (48_842, 105)
    assert round(100 * adult.y.mean(), 2) == 23.93
    assert round(100 * adult.y[16_281:].mean(), 2) == 24.08  # adult.data alone
    assert adult.group_names == ("Female", "Male")
    assert np.bincount(adult.group).tolist() == [16_192, 32_650]


def test_race_counts_are_the_published_ones():
    race = load_dataset("adult", sensitive="race")
    assert dict(zip(race.group_names, np.bincount(race.group).tolist(), strict=True)) == {
        "Amer-Indian-Eskimo": 470,
        "Asian-Pac-Islander": 1_519,
        "Black": 4_685,
        "Other": 406,
        "White": 41_762,
    }


def test_intersections_refine_both_attributes(adult):
    both = load_dataset("adult", sensitive=["sex", "race"])
    assert both.num_groups == 10
    assert both.sensitive == ("sex", "race")
    sex = np.array([name.split(" & ")[0] for name in both.group_names])
    assert (sex[both.group] == np.array(adult.group_names)[adult.group]).all()


def test_arrays_have_the_promised_types_and_describe_themselves(adult):
    assert (adult.x.dtype, adult.y.dtype, adult.group.dtype) == (np.float32, np.int32, np.int32)
    assert (adult.name, adult.label_name, adult.favourable) == ("adult", "income", ">50K")
    assert "10.24432/C5XW20" in adult.citation
    assert adult.licence == "CC BY 4.0"
    assert repr(adult) == "Dataset('adult': 48842 rows, 105 features, groups Female, Male)"


def _frame(directory):
    """The raw files through pandas' own parser."""
    parts = [(TEST_FILE, 1), (TRAIN_FILE, 0)]
    frame = pd.concat(
        [
            pd.read_csv(
                directory / file.path,
                names=list(COLUMNS),
                skiprows=skipped,
                skipinitialspace=True,
                na_values="?",
                keep_default_na=False,
            )
            for file, skipped in parts
        ],
        ignore_index=True,
    )
    label = frame.pop("income").str.rstrip(".")
    dummies = pd.get_dummies(frame, dtype=float)
    return dummies[sorted(dummies.columns)], label


@pytest.mark.parametrize("where", ["rebuilt", "real"])
def test_features_equal_get_dummies_and_standard_scaler(request, where, adult):
    dummies, label = _frame(request.getfixturevalue("raw_adult" if where == "rebuilt" else "real_data"))
    raw = load_dataset("adult", variant="nash", standardise="none")
    assert adult.feature_names == raw.feature_names == tuple(dummies.columns)
    np.testing.assert_array_equal(raw.x, dummies.to_numpy(np.float32))
    np.testing.assert_array_equal(adult.y, label == ">50K")
    np.testing.assert_allclose(adult.x, StandardScaler().fit_transform(dummies), rtol=2e-6, atol=1e-7)


def test_missing_values_are_no_category_of_their_own():
    raw = load_dataset("adult", variant="nash", standardise="none")
    names = np.array(raw.feature_names)
    assert not any("?" in name for name in names)
    sums = {c: raw.x[:, np.char.startswith(names, c + "_")].sum(axis=1) for c in ("workclass", "race")}
    assert set(sums["workclass"].tolist()) == {0.0, 1.0}
    assert set(sums["race"].tolist()) == {1.0}


def test_bundle_loses_nothing_of_the_raw_files(raw_adult):
    for file in (TEST_FILE, TRAIN_FILE):
        assert hashlib.sha256((raw_adult / file.path).read_bytes()).hexdigest() == file.sha256


def test_raw_files_give_the_same_dataset_as_the_bundle(raw_adult, adult, monkeypatch):
    monkeypatch.setenv("BADRJAX_DATA", str(raw_adult))
    monkeypatch.setattr(files_module, "BUNDLED_DIRECTORY", raw_adult)  # no bundle there to fall back on
    again = load_dataset("adult", variant="nash")
    np.testing.assert_array_equal(again.x, adult.x)
    np.testing.assert_array_equal(again.y, adult.y)
    np.testing.assert_array_equal(again.group, adult.group)
    assert again.feature_names == adult.feature_names
    assert again.checksums == {TEST_FILE.path: TEST_FILE.sha256, TRAIN_FILE.path: TRAIN_FILE.sha256}


def test_bundle_is_small_and_holds_every_value():
    assert sum(path.stat().st_size for path in BUNDLED.parent.iterdir()) < 600_000
    table = unpack_table(BUNDLED.read_bytes())
    assert tuple(table) == COLUMNS
    text = [column for column in table.values() if isinstance(column, Categories)]
    assert sum((column.codes < 0).sum() for column in text) == 6_465  # 2,799 workclass, 2,809 occupation, 857 country


def test_default_has_no_census_weight_and_raw_numbers(adult):
    default = load_dataset("adult")
    raw = load_dataset("adult", variant="nash", standardise="none")
    kept = [name != "fnlwgt" for name in raw.feature_names]
    assert default.feature_names == tuple(name for name in adult.feature_names if name != "fnlwgt")
    np.testing.assert_array_equal(default.x, raw.x[:, kept])


def test_fairbinn_counts_are_the_published_ones():
    data = load_dataset("adult", variant="fairbinn")
    part = np.array(data.domains["part"].names)[data.domains["part"].ids]
    sex = np.array(data.group_names)[data.group]
    assert data.x.shape == (45_222, 101)
    counts = {(p, s): ((part == p) & (sex == s)).sum() for p in ("train", "test") for s in ("Female", "Male")}
    assert counts == {
        ("train", "Female"): 9_782,
        ("train", "Male"): 20_380,
        ("test", "Female"): 4_913,
        ("test", "Male"): 10_147,
    }
    rates = {(p, s): round(data.y[(part == p) & (sex == s)].mean(), 6) for p, s in counts}
    assert rates == {
        ("train", "Female"): 0.113678,
        ("train", "Male"): 0.313837,
        ("test", "Female"): 0.113373,
        ("test", "Male"): 0.309747,
    }
    for name in ("train", "test"):
        rows = data.x[part == name]
        assert (rows.min(), rows.max()) == (0, 1)
        assert rows[:, data.feature_names.index("age")].max() == 1
    assert not any("Holand" in name for name in data.feature_names)
    np.testing.assert_array_equal(data.x[:, data.feature_names.index("sex")], sex == "Female")


def test_notice_names_the_work_its_makers_its_licence_and_the_changes():
    notice = (BUNDLED.parent / "NOTICE.md").read_text()
    for needed in ("Becker", "Kohavi", "CC BY 4.0", "10.24432/C5XW20", "Changes made", TEST_FILE.sha256):
        assert needed in notice


def test_build_script_makes_the_bundles_again(real_data, tmp_path, capsys):
    build.main([str(real_data), "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for name in ("adult.npz", "german.npz"):
        rebuilt, bundled = (unpack_table((place / name).read_bytes()) for place in (tmp_path, BUNDLED.parent))
        assert list(rebuilt) == list(bundled)
        for column, values in rebuilt.items():
            if isinstance(values, Categories):
                assert values.values == bundled[column].values
                np.testing.assert_array_equal(values.codes, bundled[column].codes)
            else:
                np.testing.assert_array_equal(values, bundled[column])
        assert f"{(tmp_path / name).stat().st_size} bytes" in printed


def test_build_script_refuses_altered_raw_files(raw_adult, tmp_path):
    shutil.copytree(raw_adult, tmp_path / "raw")
    path = tmp_path / "raw" / TRAIN_FILE.path
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=r"adult\.data .* its SHA-256 is .* unchanged \(line endings included\)"):
        build.build(tmp_path / "raw", tmp_path)
    assert not (tmp_path / BUNDLE.path).exists()


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


TAMPERINGS = {
    "flipped bit": _flipped,
    "cut off": lambda content: content[:-100],
    "appended": lambda content: content + b"more",
    "empty": lambda content: b"",
    "web page": lambda content: b"<!DOCTYPE html><html></html>",
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampered_bundle_is_refused(tampering, tmp_path, monkeypatch):
    (tmp_path / BUNDLE.path).write_bytes(TAMPERINGS[tampering](BUNDLED.read_bytes()))
    monkeypatch.setattr(files_module, "BUNDLED_DIRECTORY", tmp_path)
    with pytest.raises(ValueError, match=r"adult\.npz is not the published data .*SHA-256.*bundled\.build RAW_DIR"):
        load_dataset("adult")


def test_lost_bundle_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "BUNDLED_DIRECTORY", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"adult\.npz is missing .*reinstall badrjax"):
        load_dataset("adult")


def _rows(part, number=3):
    """Some rows in the format of one of the two files."""
    values = ["39", "Private", "77516", "Bachelors", "13", "Divorced", "Sales", "Husband", "White", "Male", "0", "0"]
    row = [*values, "40", "Cuba", "<=50K." if part is TEST_FILE else ">50K"]
    return (["|1x3 Cross validator"] if part is TEST_FILE else []) + [", ".join(row)] * number


def _contents(old="", new=""):
    lines = {file.path: "\n".join([*_rows(file), ""]).encode() for file in (TEST_FILE, TRAIN_FILE)}
    return {path: content.replace(old.encode(), new.encode(), 1) for path, content in lines.items()} if old else lines


def test_small_raw_files(monkeypatch):
    monkeypatch.setattr("badrjax.datasets.adult.TEST_ROWS", 3)
    prepared = dataset_info("adult").prepare(_contents("Private", "?"), variant="default")
    assert prepared.label.tolist() == [False] * 3 + [True] * 3
    assert prepared.domains["part"].text().tolist() == ["test"] * 3 + ["train"] * 3
    column = prepared.features.names.index("workclass_Private")
    assert prepared.features.x[:, column].tolist() == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Male", "male", r"adult\.test: column 'sex' has the unknown category 'male'"),
        ("Private", "martian", "column 'workclass' has the unknown category 'martian'"),
        ("Male", "?", "column 'sex' has no value in row 0"),
        (">50K", ">50k", r"adult\.data: column 'income' has the unknown category '>50k'"),
        ("39,", "old,", r"adult\.test has 'old' in column 'age', row 0, where a number should be"),
        ("39,", "1e400,", r"has '1e400' in column 'age'"),
        ("39,", "?,", "column 'age' has no value in row 0"),
        (", Male", "", r"adult\.test has 14 values separated by ',' in line 1, not 15"),
        ("39,", "39, 39,", "has 16 values separated by ',' in line 1"),
        ("39,", "\ufeffold,", "where a number should be"),
    ],
)
def test_altered_raw_files_are_refused(old, new, message):
    with pytest.raises(ValueError, match=message):
        dataset_info("adult").prepare(_contents(old, new), variant="default")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"adult\.data has no rows|adult\.data is not the table"),
        (b"<!DOCTYPE html>\n<html></html>\n", r"adult\.data has 1 values"),
    ],
)
def test_what_is_no_table_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        dataset_info("adult").prepare(_contents() | {TRAIN_FILE.path: content}, variant="default")


def test_a_test_part_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"adult\.test has 3 rows, not 16281"):
        dataset_info("adult").prepare(_contents(), variant="default")


def test_dropping_sex_leaves_nothing_that_tells_it():
    data = load_dataset("adult", sensitive="sex", sensitive_features="drop")
    assert not any(name.startswith(("sex", "relationship")) for name in data.feature_names)
    assert data.x.shape[1] == 104 - 2 - 6
