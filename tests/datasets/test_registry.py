import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from badrjax.batches import Batch
from badrjax.datasets import (
    Dataset,
    dataset_info,
    list_datasets,
    load_dataset,
    registry,
    standardise,
    to_batch,
)
from badrjax.datasets.adult import TEST_FILE, TRAIN_FILE
from badrjax.datasets.tables import categories, encode_features


@pytest.fixture
def small():
    return Dataset(
        x=np.array([[1, 5], [2, 5], [4, 5], [9, 7]], np.float32),
        y=np.array([0, 1, 0, 1], np.int32),
        group=np.array([0, 0, 1, 1], np.int32),
        feature_names=("a", "b"),
        group_names=("F", "M"),
        name="small",
        source="made here",
        licence="none",
    )


NAMES = [
    "acs_employment", "acs_income", "acs_mobility", "acs_public_coverage", "acs_travel_time", "adult", "arrhythmia",
    "bank", "cifar10", "cifar100", "communities_crime", "compas", "compas_violent", "default_credit", "german",
    "health", "law_school", "meps", "parkinsons", "student_mat", "student_por", "titanic", "us_crime",
]  # fmt: skip


def test_every_entry_says_what_it_is():
    assert list_datasets() == NAMES
    for name in list_datasets():
        entry = dataset_info(name)
        assert entry.name == name
        assert entry.sensitive
        assert entry.variants
        assert entry.source
        assert entry.licence
        assert entry.citation
        assert entry.positive or "regression" in str(entry.options) or entry.name == "communities_crime"
        assert entry.files
        for file in (file for files in entry.files for file in files):
            assert len(bytes.fromhex(file.sha256)) in (0, 32)
            assert not file.path.startswith("/")
            assert file.url.startswith("https://") or entry.obtain or len(entry.files) > 1
        assert set(entry.facts) <= set(entry.variants)
        assert all(set(flaw.kept_by) <= set(entry.variants) for flaw in entry.flaws)
        assert set(entry.default_sensitive) <= set(entry.variants)
        assert all(name in entry.sensitive for names in entry.default_sensitive.values() for name in names)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("adlut", {}, "unknown dataset 'adlut': did you mean 'adult'"),
        ("Adult", {}, "unknown dataset 'Adult': did you mean 'adult'"),
        ("adult", {"sensitive": "gender"}, "unknown sensitive attribute of adult 'gender'"),
        ("adult", {"sensitive_features": "hide"}, "unknown value of sensitive_features 'hide'"),
        ("adult", {"num_groups": 3}, "num_groups 3 is more than the 2 groups there are"),
        ("adult", {"num_groups": 0}, "num_groups must be at least 1"),
        ("adult", {"min_group_rows": 10**6}, "leaves no group: the largest, 'Male', has 32650 rows"),
        (
            "adult",
            {"sensitive": ["sex", "rase"]},
            "unknown sensitive attribute .*'rase': did you mean 'race'",
        ),
        ("adult", {"sensitive": []}, "sensitive must name at least one attribute"),
        ("adult", {"sensitive": ["sex", "sex"]}, "none twice"),
        ("adult", {"variant": "nahs"}, "unknown variant of adult 'nahs': did you mean 'nash'"),
        (
            "adult",
            {"standardize": "all"},
            "unknown option of adult 'standardize': it has none of its own",
        ),
        ("adult", {"standardise": "al"}, "unknown value of standardise 'al': did you mean 'all'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(name, **keywords)


def test_a_set_of_attributes_is_refused_for_it_has_no_order():
    with pytest.raises(TypeError, match="a set has no order"):
        load_dataset("adult", sensitive={"sex", "race"})


def test_variant_none_is_the_first():
    assert dataset_info("adult").default_variant == load_dataset("adult").variant == "default"


@pytest.mark.parametrize("named_by", ["data_home", "BADRJAX_DATA"])
@pytest.mark.parametrize("wrong", ["altered", "incomplete"])
def test_wrong_file_is_an_error_and_not_passed_over(raw_adult, tmp_path, monkeypatch, named_by, wrong):
    shutil.copytree(raw_adult, tmp_path, dirs_exist_ok=True)
    path = tmp_path / TRAIN_FILE.path
    if wrong == "altered":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    keywords = {}
    if named_by == "data_home":
        keywords["data_home"] = tmp_path
    else:
        monkeypatch.setenv("BADRJAX_DATA", str(tmp_path))
    error, message = {
        "altered": (ValueError, r"adult\.data .*put the official file .* or remove it to use the bundled"),
        "incomplete": (
            FileNotFoundError,
            r"adult needs adult/adult\.data, not to be found \(looked in .*get them from",
        ),
    }[wrong]
    with pytest.raises(error, match=message):
        load_dataset("adult", download=False, **keywords)


def test_data_home_comes_before_the_environment(raw_adult, tmp_path, monkeypatch):
    shutil.copytree(raw_adult, tmp_path, dirs_exist_ok=True)
    (tmp_path / TEST_FILE.path).write_text("not the data")
    monkeypatch.setenv("BADRJAX_DATA", str(tmp_path))
    assert load_dataset("adult", data_home=str(raw_adult)).y.size == 48_842
    with pytest.raises(ValueError, match="is not the published data"):
        load_dataset("adult")


def test_directory_without_the_files_leaves_the_bundle(tmp_path, monkeypatch, adult):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("BADRJAX_DATA", str(tmp_path / "empty"))
    np.testing.assert_array_equal(load_dataset("adult", data_home=tmp_path).y, adult.y)


def test_dataset_without_bundle_or_files_says_where_to_get_them(tmp_path, monkeypatch):
    entry = dataclasses.replace(dataset_info("adult"), name="other", bundle=None)
    monkeypatch.setitem(registry._ENTRIES, "other", entry)
    with pytest.raises(FileNotFoundError, match=r"other needs .*adult\.data.* data_home or BADRJAX_DATA"):
        load_dataset("other", download=False)
    with pytest.raises(FileNotFoundError, match=f"looked in {tmp_path}"):
        load_dataset("other", data_home=tmp_path, download=False)


@pytest.mark.parametrize("named_by", ["data_home", "BADRJAX_DATA"])
def test_a_directory_that_is_none_is_said(tmp_path, monkeypatch, named_by):
    if named_by == "BADRJAX_DATA":
        monkeypatch.setenv("BADRJAX_DATA", "~nosuchuser/data")
        with pytest.raises(ValueError, match="BADRJAX_DATA '~nosuchuser/data'"):
            load_dataset("adult")
    for nowhere in (tmp_path / "nowhere", __file__):
        monkeypatch.setenv("BADRJAX_DATA", str(nowhere) if named_by == "BADRJAX_DATA" else "")
        keywords = {"data_home": nowhere} if named_by == "data_home" else {}
        with pytest.raises(ValueError, match=f"{named_by} names .* which is no directory"):
            load_dataset("adult", **keywords)


def test_what_is_no_file_is_said(tmp_path):
    (tmp_path / TEST_FILE.path).mkdir(parents=True)
    (tmp_path / TRAIN_FILE.path).symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"adult\.test cannot be read \(Is a directory\); put the official file"):
        load_dataset("adult", data_home=tmp_path)
    (tmp_path / TEST_FILE.path).rmdir()
    (tmp_path / TEST_FILE.path).symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"adult\.test cannot be read"):
        load_dataset("adult", data_home=tmp_path)


# Datasets.


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"x": np.array([[1, 5], [2, np.nan], [4, 5], [9, 7]], np.float32)},
            ValueError,
            r"column 'b' \(row 1\)",
        ),
        (
            {"x": np.array([[1, 5], [2, 5], [-np.inf, 5], [9, 7]], np.float32)},
            ValueError,
            r"column 'a' \(row 2\)",
        ),
        ({"x": np.zeros((4, 2), np.int32)}, TypeError, "x must hold floats"),
        ({"x": np.zeros(4, np.float32)}, ValueError, "x must be a table"),
        ({"x": np.zeros((0, 2), np.float32)}, ValueError, "at least one of each"),
        ({"x": np.zeros((3, 2), np.float32)}, ValueError, "x has 3, y has 4"),
        ({"y": np.array([0, 1, 0])}, ValueError, "y has 3"),
        ({"y": np.array([[0], [1], [0], [1]])}, ValueError, "y must have one axis"),
        ({"y": np.array([-1, 1, -1, 1])}, ValueError, "y must hold classes from 0, got -1"),
        ({"y": np.array(["0", "1", "0", "1"])}, TypeError, "integer classes or float targets"),
        ({"y": np.array([0.5, np.nan, 1, 2])}, ValueError, "y has NaN or infinite values in row 1"),
        ({"group": np.array([0, 0, 1, 2])}, ValueError, "row 3 has id 2"),
        ({"group": np.array([0, 0, 0, 0])}, ValueError, "group 'M' has no rows"),
        ({"group": np.array([0.0, 0.0, 1.0, 1.0])}, TypeError, "integer ids"),
        ({"feature_names": ("a",)}, ValueError, "1 names for 2 columns"),
        ({"feature_names": ("a", "a")}, ValueError, "feature_names has 'a' more than once"),
        ({"group_names": ("F", "F")}, ValueError, "group_names has 'F' more than once"),
    ],
)
def test_invalid_datasets_cannot_be_made(small, changes, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(small, **changes)


def test_regression_targets_are_allowed(small):
    assert dataclasses.replace(small, y=np.array([0.5, -1.0, 2.0, 3.0], np.float32)).y.dtype == np.float32


def test_standardise_over_all_rows_is_standard_scaler(small):
    np.testing.assert_allclose(standardise(small).x, StandardScaler().fit_transform(small.x), atol=1e-6)


def test_standardise_over_rows_fits_those_rows_only(small):
    rows = np.array([0, 1, 1, 2])
    expected = StandardScaler().fit(small.x[rows]).transform(small.x)
    scaled = standardise(small, rows)
    np.testing.assert_allclose(scaled.x, expected, atol=1e-6)
    np.testing.assert_array_equal(scaled.x[:, 1], [0, 0, 0, 2])  # constant over the rows: shifted, not divided


def test_standardise_sees_a_constant_through_rounding(small):
    x = np.full((4, 2), 0.1, np.float32)
    np.testing.assert_array_equal(standardise(dataclasses.replace(small, x=x)).x, 0)


def test_standardise_leaves_the_rest_alone(small):
    scaled = standardise(small)
    assert scaled.feature_names == small.feature_names
    np.testing.assert_array_equal(scaled.y, small.y)
    assert small.x[3, 0] == 9


def test_to_batch_copies_rows_in_their_order_to_the_device(small):
    batch = to_batch(small, np.array([3, 0, 3]))
    assert isinstance(batch, Batch)
    assert all(isinstance(values, jax.Array) for values in batch[:3])
    assert (batch.x.dtype, batch.y.dtype, batch.group.dtype) == (jnp.float32, jnp.int32, jnp.int32)
    np.testing.assert_array_equal(batch.x, [[9, 7], [1, 5], [9, 7]])
    np.testing.assert_array_equal(batch.y, [1, 0, 1])
    np.testing.assert_array_equal(batch.group, [1, 0, 1])
    assert batch.weight is None


def test_to_batch_of_all_rows_does_not_alias_the_host(small):
    batch = to_batch(small)
    small.x[0, 0] = 100
    assert batch.x[0, 0] == 1


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([4], ValueError, r"rows must lie in \[0, 4\), got 4"),
        ([-1], ValueError, "got -1"),
        ([], ValueError, "at least one row"),
        ([True, False, True, True], TypeError, "np.flatnonzero"),
        ([[0, 1]], ValueError, "one axis"),
    ],
)
@pytest.mark.parametrize("function", [to_batch, standardise])
def test_bad_rows_are_refused(small, function, rows, error, message):
    with pytest.raises(error, match=message):
        function(small, np.array(rows))


def test_features_of_the_same_name_are_refused():
    columns = {"a": categories(["b", "c"]), "a_b": np.array([1.0, 2.0])}
    with pytest.raises(ValueError, match="second feature named 'a_b'"):
        encode_features(columns)
