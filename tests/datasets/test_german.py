import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import dataset_info, load_dataset
from badrjax.datasets.files import BUNDLED_DIRECTORY
from badrjax.datasets.german import BUNDLE, COLUMNS, ENTRY, FILE, NUMERIC, read_raw
from badrjax.datasets.known_values import GERMAN
from badrjax.datasets.packing import pack_table, unpack_table
from badrjax.datasets.tables import Categories

# The bundled copy.


@pytest.fixture(scope="module")
def german():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BADRJAX_DATA", raising=False)
        return load_dataset("german", download=False)


def _counts(dataset):
    return dict(zip(dataset.group_names, np.bincount(dataset.group).tolist(), strict=True))


def test_facts_are_what_is_loaded(german):
    assert dataset_info("german").facts["default"] == (*german.x.shape, round(float(german.y.mean()), 4))


def test_counts_are_the_published_ones(german):
    assert np.bincount(german.y).tolist() == [300, 700]
    assert german.favourable == "good"
    status = {name[-3:]: int(german.x[:, i].sum()) for i, name in enumerate(german.feature_names) if "status_A" in name}
    assert status == {"A91": 50, "A92": 310, "A93": 548, "A94": 92}
    assert _counts(german) == {"female": 310, "male": 690}


def test_age_is_split_after_25(german):
    dataset = load_dataset("german", sensitive="age", download=False)
    ages = german.x[:, german.feature_names.index("age")]
    assert _counts(dataset) == {"over 25": (ages >= 26).sum(), "up to 25": (ages <= 25).sum()}
    assert dict(zip(dataset.group_names, [0, 1], strict=True)) == {"over 25": 0, "up to 25": 1}
    np.testing.assert_array_equal(dataset.group, ages <= 25)


@pytest.mark.parametrize(("sensitive", "gone"), [("sex", "personal_status"), ("age", "age")])
def test_dropping_an_attribute_drops_its_column(sensitive, gone, german):
    names = load_dataset("german", sensitive=sensitive, sensitive_features="drop", download=False).feature_names
    assert set(german.feature_names) - set(names) == {name for name in german.feature_names if name.startswith(gone)}


def test_the_bundle_is_small_and_holds_no_pickle():
    assert (BUNDLED_DIRECTORY / BUNDLE.path).stat().st_size < 40_000
    with np.load(BUNDLED_DIRECTORY / BUNDLE.path, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


# The published file.


@pytest.fixture(scope="module")
def frame(real_data):
    return pd.read_csv(real_data / FILE.path, sep=" ", header=None, names=COLUMNS)


def test_the_bundle_is_the_published_file(frame):
    table = unpack_table((BUNDLED_DIRECTORY / BUNDLE.path).read_bytes())
    assert tuple(table) == COLUMNS
    for name, column in table.items():
        values = column.text() if isinstance(column, Categories) else column
        np.testing.assert_array_equal(values, frame[name].to_numpy())


def test_the_bundle_can_be_made_again(real_data):
    table = unpack_table(pack_table(read_raw({FILE.path: (real_data / FILE.path).read_bytes()})))
    bundled = unpack_table((BUNDLED_DIRECTORY / BUNDLE.path).read_bytes())
    assert tuple(table) == tuple(bundled)
    for name, column in table.items():
        if isinstance(column, Categories):
            assert column.values == bundled[name].values
            np.testing.assert_array_equal(column.codes, bundled[name].codes)
        else:
            np.testing.assert_array_equal(column, bundled[name])


def test_features_are_the_dummies_of_the_published_file(frame, german):
    expected = pd.get_dummies(frame.drop(columns="risk"), dtype=float)
    assert german.feature_names == tuple(sorted(expected.columns))
    np.testing.assert_array_equal(german.x, expected[sorted(expected.columns)].to_numpy(np.float32))
    np.testing.assert_array_equal(german.y, frame["risk"] == 1)
    women = frame["personal_status"] == "A92"
    np.testing.assert_array_equal(german.group, ~women)


def test_the_published_file_gives_the_same_dataset(german, real_data):
    raw = load_dataset("german", data_home=real_data, download=False)
    assert raw.checksums == {FILE.path: FILE.sha256}
    assert german.checksums == {BUNDLE.path: BUNDLE.sha256}
    assert raw.feature_names == german.feature_names
    for field in ("x", "y", "group"):
        np.testing.assert_array_equal(getattr(raw, field), getattr(german, field))


# Invented files of the same format.


ROW = {name: "1" if name in NUMERIC else GERMAN[name][0] for name in COLUMNS} | {"personal_status": "A93"}


def _invented(*changes):
    return "".join(" ".join((ROW | change).values()) + "\n" for change in changes)


def _prepare(text):
    return ENTRY.prepare({FILE.path: text.encode()}, variant="default")


def test_codes_become_sex_age_and_risk():
    prepared = _prepare(
        _invented(
            {"personal_status": "A91", "age": "25", "risk": "2"},
            {"personal_status": "A92", "age": "26"},
            {"personal_status": "A95", "age": "70"},
        )
    )
    assert prepared.attributes["sex"].values.text().tolist() == ["male", "female", "female"]
    assert prepared.attributes["age"].values.text().tolist() == ["up to 25", "over 25", "over 25"]
    assert prepared.label.tolist() == [False, True, True]


BAD = {
    "status": ({"personal_status": "A96"}, r"german\.data: column 'personal_status' has the unknown category 'A96'"),
    "risk": ({"risk": "0"}, r"german\.data has a risk other than 1 \(good\) and 2 \(bad\)"),
    "number": ({"age": "old"}, r"german\.data, column 'age': .*'old'"),
    "short row": ({"housing": ""}, r"german\.data has rows of \[20, 21\] values, not 21"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_with_their_column(case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        _prepare(_invented({}, change))


@pytest.mark.parametrize("text", ["", "<!DOCTYPE html>\n<html><body>Nicht gefünden</body></html>\n"])
def test_no_table_is_refused(text):
    with pytest.raises(ValueError, match=r"german\.data has rows of \[.*\] values, not 21; get the official file"):
        _prepare(text)
