import hashlib
import lzma
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from badrjax.datasets import files as files_module
from badrjax.datasets import load_dataset
from badrjax.datasets.adult import BUNDLE, COLUMNS, TEST_FILE, TRAIN_FILE
from badrjax.datasets.bundled import build_adult

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
    raw = load_dataset("adult", standardise="none")
    assert adult.feature_names == raw.feature_names == tuple(dummies.columns)
    np.testing.assert_array_equal(raw.x, dummies.to_numpy(np.float32))
    np.testing.assert_array_equal(adult.y, label == ">50K")
    np.testing.assert_allclose(adult.x, StandardScaler().fit_transform(dummies), rtol=2e-6, atol=1e-7)


def test_missing_values_are_no_category_of_their_own():
    raw = load_dataset("adult", standardise="none")
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
    again = load_dataset("adult")
    np.testing.assert_array_equal(again.x, adult.x)
    np.testing.assert_array_equal(again.y, adult.y)
    np.testing.assert_array_equal(again.group, adult.group)
    assert again.feature_names == adult.feature_names


def test_bundle_is_small_and_plain_csv():
    assert BUNDLED.stat().st_size < 600_000
    frame = pd.read_csv(BUNDLED, keep_default_na=False)
    assert tuple(frame.columns) == COLUMNS
    assert (frame == "?").to_numpy().sum() == 6_465  # 2,799 workclass, 2,809 occupation, 857 country


def test_notice_names_the_work_its_makers_its_licence_and_the_changes():
    notice = (BUNDLED.parent / "NOTICE.md").read_text()
    for needed in ("Becker", "Kohavi", "CC BY 4.0", "10.24432/C5XW20", "Changes made", TEST_FILE.sha256):
        assert needed in notice


def test_build_script_makes_the_bundle_again(raw_adult, tmp_path, capsys):
    output = tmp_path / "adult.csv.xz"
    build_adult.main([str(raw_adult / "adult"), "--output", str(output)])
    assert lzma.decompress(output.read_bytes()) == lzma.decompress(BUNDLED.read_bytes())
    assert str(output.stat().st_size) in capsys.readouterr().out


def test_build_script_refuses_altered_raw_files(raw_adult, tmp_path):
    for file in (TEST_FILE, TRAIN_FILE):
        shutil.copy(raw_adult / file.path, tmp_path)
    path = tmp_path / "adult.data"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=r"adult\.data has SHA-256 .* unchanged \(line endings included\)"):
        build_adult.build(tmp_path, tmp_path / "out.xz")
    assert not (tmp_path / "out.xz").exists()


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _another_value(content):
    return lzma.compress(lzma.decompress(content).replace(b"Male", b"male", 1))


TAMPERINGS = {
    "flipped bit": (_flipped, "damaged"),
    "another value": (_another_value, "its SHA-256 is"),
    "cut off": (lambda content: content[:-100], "damaged"),
    "appended": (lambda content: content + b"more", "damaged"),
    "empty": (lambda content: b"", "damaged"),
    "not xz": (lambda content: b"age,workclass\n", "damaged"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampered_bundle_is_refused(tampering, tmp_path, monkeypatch):
    tamper, complaint = TAMPERINGS[tampering]
    (tmp_path / BUNDLE.path).write_bytes(tamper(BUNDLED.read_bytes()))
    monkeypatch.setattr(files_module, "BUNDLED_DIRECTORY", tmp_path)
    with pytest.raises(ValueError, match=rf"adult\.csv\.xz.*{complaint}.*build_adult RAW_DIR"):
        load_dataset("adult")


def test_lost_bundle_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "BUNDLED_DIRECTORY", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"adult\.csv\.xz is missing .*reinstall badrjax"):
        load_dataset("adult")
