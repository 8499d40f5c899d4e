import hashlib

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import dataset_info, load_dataset
from badrjax.datasets.assembly import Rules, assemble
from badrjax.datasets.known_values import STUDENT
from badrjax.datasets.student import MAT, MAT_FILE, NUMERIC, POR, POR_FILE, TEXT, prepare

HEADER = [*TEXT[:2], "age", *TEXT[2:5], *NUMERIC[1:], *TEXT[5:]]
LOADED = [(entry, variant) for entry in (POR, MAT) for variant in entry.variants]


def _row(**values):
    usual = {name: f'"{STUDENT[name][0]}"' for name in TEXT} | dict.fromkeys(NUMERIC, "2") | {"age": "17", "G1": '"9"'}
    usual |= {"sex": '"F"', "address": '"U"', "school": '"GP"', "G3": "10"}
    return ";".join(str((usual | values)[name]) for name in HEADER)


ROWS = (_row(), _row(sex='"M"', age="18", G3="9", school='"MS"'), _row(address='"R"', age="19", G3="20"))


def _contents(*rows, header=HEADER, file=POR_FILE):
    return {file.path: "\n".join([";".join(header), *rows]).encode() + b"\n"}


def _columns(prepared):
    return {name: prepared.features.x[:, i].tolist() for i, name in enumerate(prepared.features.names)}


@pytest.fixture(scope="module")
def frames(real_data):
    files = {"student_por": POR_FILE, "student_mat": MAT_FILE}
    return {name: pd.read_csv(real_data / file.path, sep=";") for name, file in files.items()}


@pytest.mark.parametrize(("entry", "variant"), LOADED, ids=[f"{entry.name}-{variant}" for entry, variant in LOADED])
def test_facts_are_what_is_loaded(real_data, entry, variant):
    data = load_dataset(entry.name, variant=variant, data_home=real_data)
    base_rate = None if data.y.dtype.kind == "f" else round(float(data.y.mean()), 4)
    assert (*data.x.shape, base_rate) == entry.facts[variant]


@pytest.mark.parametrize(
    ("name", "passed", "sexes"), [("student_por", 549, [383, 266]), ("student_mat", 265, [208, 187])]
)
def test_counts_are_the_published_ones(real_data, name, passed, sexes):
    data = load_dataset(name, data_home=real_data)
    assert (data.y.sum(), data.favourable) == (passed, ">= 10")
    assert data.group_names == ("female", "male")
    assert np.bincount(data.group).tolist() == sexes


@pytest.mark.parametrize("name", ["student_por", "student_mat"])
def test_default_features_are_raw_dummies_without_the_final_grade(real_data, frames, name):
    data = load_dataset(name, data_home=real_data)
    dummies = pd.get_dummies(frames[name].drop(columns="G3"), dtype=float)
    dummies = dummies[sorted(dummies.columns)]
    assert data.feature_names == tuple(dummies.columns)
    assert {"G1", "G2"} < set(data.feature_names)
    np.testing.assert_array_equal(data.x, dummies.to_numpy(np.float32))


@pytest.mark.parametrize("name", ["student_por", "student_mat"])
def test_grade_is_the_target_of_a_regression(real_data, frames, name):
    passed = load_dataset(name, data_home=real_data)
    grade = load_dataset(name, target="grade", data_home=real_data)
    np.testing.assert_array_equal(grade.y, frames[name]["G3"].astype(np.float32))
    assert (grade.y.dtype, grade.favourable) == (np.float32, "")
    np.testing.assert_array_equal(grade.x, passed.x)
    np.testing.assert_array_equal(passed.y, grade.y >= 10)


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("age", lambda frame: np.where(frame["age"] >= 18, "18 and over", "under 18")),
        ("address", lambda frame: frame["address"].map({"R": "rural", "U": "urban"})),
        ("sex", lambda frame: frame["sex"].map({"F": "female", "M": "male"})),
    ],
)
def test_attributes_make_groups(real_data, frames, attribute, expected):
    data = load_dataset("student_mat", sensitive=attribute, data_home=real_data)
    np.testing.assert_array_equal(np.array(data.group_names)[data.group], expected(frames["student_mat"]))


def test_nash_variant_is_the_default_standardised(real_data, frames):
    data = load_dataset("student_por", variant="nash", data_home=real_data)
    dummies = pd.get_dummies(frames["student_por"].drop(columns="G3"), dtype=float)
    dummies = dummies[sorted(dummies.columns)]
    np.testing.assert_allclose(data.x, (dummies - dummies.mean()) / dummies.std(ddof=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(data.y, frames["student_por"]["G3"] >= 10)


def test_official_split_is_balanced_in_blocks(real_data):
    data = load_dataset("student_por", variant="nash", data_home=real_data)
    split = POR.official_splits["student_por_sex"]
    content = (real_data / split.file.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == split.file.sha256
    assert split.sensitive == data.sensitive == ("sex",)
    with np.load(real_data / split.file.path, allow_pickle=False) as index:
        cell = 2 * data.group + data.y
        assert np.bincount(cell[index["ind_test"]]).tolist() == [16] * 4
        np.testing.assert_array_equal(cell[index["val_idx"]], np.repeat(np.arange(4), 2))


def test_badr_variant_is_the_numbers_with_the_target_among_them(real_data, frames):
    data = load_dataset("student_mat", variant="badr", data_home=real_data)
    numbers = frames["student_mat"].select_dtypes("number")
    assert data.feature_names == tuple(sorted(numbers.columns))
    np.testing.assert_array_equal(data.x, numbers[sorted(numbers.columns)].to_numpy(np.float32))
    np.testing.assert_array_equal(data.y, numbers["G3"].astype(np.float32))


def test_small_file_in_the_default_variant():
    prepared = prepare(_contents(*ROWS), variant="default")
    assert prepared.label.tolist() == [True, False, True]
    column = _columns(prepared)
    assert column["G1"] == [9, 9, 9]  # quoted in the file
    assert (column["sex_F"], column["sex_M"]) == ([1, 0, 1], [0, 1, 0])
    assert "G3" not in column


def test_small_file_in_the_badr_variant_leaks_the_grade():
    prepared = prepare(_contents(*ROWS), variant="badr")
    assert prepared.label.tolist() == [10, 9, 20]
    column = _columns(prepared)
    assert column["G3"] == [10, 9, 20]
    assert set(column) == set(NUMERIC)


def test_papers_variants_belong_to_the_course_they_were_made_for():
    assert set(dataset_info("student_por").variants) == {"default", "nash"}
    assert set(dataset_info("student_mat").variants) == {"default", "badr"}
    with pytest.raises(ValueError, match="unknown variant of student_mat 'nash'"):
        load_dataset("student_mat", variant="nash")


@pytest.mark.parametrize(("variant", "target"), [("nash", "grade"), ("badr", "pass")])
def test_papers_variant_keeps_its_target(variant, target):
    with pytest.raises(ValueError, match=f"variant '{variant}' has the target .*, not '{target}'"):
        prepare(_contents(*ROWS), variant=variant, target=target)


def test_unknown_target_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown value of target 'grades': did you mean 'grade'"):
        load_dataset("student_por", target="grades")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (_contents(*ROWS, header=["school", "gender", *HEADER[2:]]), "student-por.csv: unknown column 'sex'"),
        (_contents(*ROWS, _row(sex='"X"')), "column 'sex' has the unknown category 'X'"),
        (_contents(*ROWS, _row(address='"C"')), "column 'address' has the unknown category 'C'"),
        (_contents(*ROWS, _row(Mjob='""')), "column 'Mjob' has no value in row 3"),
        (_contents(*ROWS, _row() + ";1"), "has 34 values separated by ';' in line 5, not 33"),
        (_contents(*ROWS, _row().rsplit(";", 1)[0]), "has 32 values separated by ';' in line 5, not 33"),
        (_contents(), "student-por.csv has no rows"),
        (_contents(*ROWS, _row(G3="ten")), "has 'ten' in column 'G3', row 3"),
        (_contents(*ROWS, _row(G3="")), "column 'G3' has no grade in row 3"),
        (_contents(*ROWS, _row(absences="")), "column 'absences' has no number in row 3"),
        ({POR_FILE.path: _contents(*ROWS)[POR_FILE.path].replace(b";", b",")}, "unknown column 'age'"),
        ({POR_FILE.path: b"<!DOCTYPE html>\n<html><body>Gone</body></html>\n"}, "unknown column 'age'"),
        ({POR_FILE.path: b""}, "student-por.csv is not the table it should be"),
    ],
    ids=[
        "column",
        "sex",
        "address",
        "no value",
        "long row",
        "short row",
        "no rows",
        "number",
        "no grade",
        "no number",
        "commas",
        "web page",
        "empty",
    ],
)
@pytest.mark.parametrize("variant", ["default", "nash"])
def test_bad_file_is_refused(contents, message, variant):
    with pytest.raises(ValueError, match=message):
        prepare(contents, variant=variant)


def test_messages_name_the_file_of_the_course():
    with pytest.raises(ValueError, match=r"student-mat\.csv: column 'sex' has the unknown category 'X'"):
        prepare(_contents(*ROWS, _row(sex='"X"'), file=MAT_FILE), variant="default")


def test_single_class_is_refused():
    prepared = prepare(_contents(ROWS[0], ROWS[2]), variant="default")
    with pytest.raises(ValueError, match="every row of student_por has the label G3 = 1"):
        assemble(POR, prepared, sensitive=("age",), variant="default", rules=Rules(), checksums={})
