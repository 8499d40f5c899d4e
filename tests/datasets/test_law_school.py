import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from badrjax.datasets import dataset_info, load_dataset
from badrjax.datasets.law_school import ENTRY, FILE

NUMBERS = ["lsat", "ugpa", "zfygpa", "zgpa", "decile1", "decile3", "tier", "fulltime", "fam_inc"]
GRADES = ["zfygpa", "zgpa", "decile1", "decile3"]

# The published file.


@pytest.fixture(scope="module")
def frame(real_data):
    return pd.read_csv(real_data / FILE.path)


def _counts(dataset):
    return dict(zip(dataset.group_names, np.bincount(dataset.group).tolist(), strict=True))


def _with_indicators(numbers):
    missing = numbers.isna().add_suffix("_missing").astype(float)
    return pd.concat([numbers.fillna(0), missing.loc[:, missing.any()]], axis=1)


@pytest.mark.parametrize("variant", ["default", "badr"])
def test_facts_are_what_is_loaded(variant, real_data):
    dataset = load_dataset("law_school", variant=variant, data_home=real_data)
    base_rate = round(float(dataset.y.mean()), 4) if variant == "default" else None
    assert dataset_info("law_school").facts[variant] == (*dataset.x.shape, base_rate)
    assert dataset.y.dtype == (np.int32 if variant == "default" else np.float32)


def test_counts_are_the_published_ones(frame, real_data):
    race = load_dataset("law_school", data_home=real_data)
    assert _counts(race) == {"asian": 897, "black": 1_343, "hisp": 1_027, "other": 408, "white": 18_716}
    assert race.notes == ("dropped 16 rows without race",)
    gender = load_dataset("law_school", sensitive="gender", data_home=real_data)
    assert _counts(gender) == {"female": 9_826, "male": 12_576}
    assert gender.notes == ("dropped 5 rows without gender",)
    assert frame.shape == (22_407, 38)
    assert round(100 * (gender.y.sum() + frame.loc[frame["gender"].isna(), "pass_bar"].sum()) / 22_407, 2) == 94.78


def test_default_features_are_numbers_indicators_and_dummies(frame, real_data):
    numbers = _with_indicators(frame[NUMBERS].assign(age=91 - frame["DOB_yr"]))
    expected = pd.concat([numbers, pd.get_dummies(frame[["gender", "race1"]], dtype=float)], axis=1)
    expected = expected.loc[frame["race1"].notna(), sorted(expected.columns)]
    dataset = load_dataset("law_school", data_home=real_data)
    assert dataset.feature_names == tuple(expected.columns)
    np.testing.assert_array_equal(dataset.x, expected.to_numpy(np.float32))
    np.testing.assert_array_equal(dataset.y, frame.loc[frame["race1"].notna(), "pass_bar"])
    assert dataset.x[:, dataset.feature_names.index("age")].max() == 81


def test_grades_as_target_are_no_features(frame, real_data):
    rows = frame[frame["zgpa"].notna()]
    numbers = _with_indicators(rows[[name for name in NUMBERS if name not in GRADES]].assign(age=91 - rows["DOB_yr"]))
    expected = pd.concat([numbers, pd.get_dummies(rows[["gender", "race1"]], dtype=float)], axis=1)
    has_race = rows["race1"].notna()
    expected = expected.loc[has_race, sorted(expected.columns)]
    dataset = load_dataset("law_school", target="zgpa", data_home=real_data)
    assert dataset.x.shape == (21_104, 17)
    assert dataset.feature_names == tuple(expected.columns)
    assert dataset.notes == ("dropped 1,289 rows without zgpa", "dropped 14 rows without race")
    np.testing.assert_array_equal(dataset.x, expected.to_numpy(np.float32))
    np.testing.assert_array_equal(dataset.y, rows.loc[has_race, "zgpa"].to_numpy(np.float32))
    assert (dataset.label_name, dataset.favourable) == ("zgpa", "")


def test_badr_keeps_the_target_and_drops_incomplete_rows(frame, real_data):
    rows = frame.dropna()
    dummies = [pd.get_dummies(rows[[name]], dtype=float) for name in ("race1", "gender")]
    expected = pd.concat([*dummies, rows[["age", "fam_inc", "fulltime", "zgpa", "ugpa"]]], axis=1)
    dataset = load_dataset("law_school", variant="badr", data_home=real_data)
    assert dataset.feature_names == tuple(expected.columns)
    assert dataset.notes == ("dropped 1,980 rows with a missing value in any column of the file",)
    np.testing.assert_array_equal(dataset.x, expected.to_numpy(np.float32))
    np.testing.assert_array_equal(dataset.y, rows["zgpa"].to_numpy(np.float32))
    assert dataset.sensitive == ("gender", "race")
    assert dataset.num_groups == 10


def test_badr_merges_to_two_groups(frame, real_data):
    rows = frame.dropna()
    white_men = ((rows["gender"] == "male") & (rows["race1"] == "white")).sum()
    dataset = load_dataset("law_school", variant="badr", num_groups=2, data_home=real_data)
    assert dataset.group_names[1] == "male & white"
    assert np.bincount(dataset.group).tolist() == [20_427 - white_men, white_men]


def test_badr_gives_the_recorded_error_of_uniform_weights(real_data):
    cells = load_dataset("law_school", variant="badr", data_home=real_data)
    group = load_dataset("law_school", variant="badr", num_groups=2, data_home=real_data).group
    errors = []
    for seed in range(10):
        rows = np.arange(cells.y.size)
        train, test = train_test_split(rows, test_size=0.3, random_state=seed, stratify=cells.group)
        scaler = StandardScaler().fit(cells.x[train].astype(float))
        predicted = _ridge(scaler.transform(cells.x[train]), cells.y[train].astype(float), group[train])(
            scaler.transform(cells.x[test])
        )
        errors.append(np.sqrt(np.mean((predicted - cells.y[test]) ** 2)))
    assert round(np.mean(errors), 5) == 0.09377
    assert round(np.std(errors, ddof=1), 5) == 0.00044


def _ridge(x, y, group, penalty=0.1):
    """Squared errors weighted by half the inverse size of their group, the standardised target, a free intercept."""
    weight = 0.5 / np.bincount(group)[group]
    design = np.column_stack([x, np.ones(len(x))])
    matrix = design.T @ (weight[:, None] * design) + penalty * np.diag([1.0] * x.shape[1] + [0.0])
    coefficients = np.linalg.solve(matrix, design.T @ (weight * (y - y.mean()) / y.std()))
    return lambda new: (np.column_stack([new, np.ones(len(new))]) @ coefficients) * y.std() + y.mean()


def test_the_flaws_are_in_the_file(frame):
    age = frame["age"].dropna()
    assert (age == (frame["bar1_yr"] - frame["DOB_yr"]).dropna()).all()
    complete = frame.notna().all(axis=1)
    assert frame.loc[~complete, "pass_bar"].mean() < frame.loc[complete, "pass_bar"].mean()
    assert frame["DOB_yr"].between(10, 20).sum() == 9


def test_bar_results_and_the_prediction_in_the_file_are_never_features(real_data):
    known_later = ("bar", "pass", "dnn", "grad", "Dropout", "index", "indx", "gpa", "ID")
    for variant in ("default", "badr"):
        names = load_dataset("law_school", variant=variant, data_home=real_data).feature_names
        assert "ugpa" in names
        assert not [name for name in names if name.startswith(known_later)]


# Invented files of the same format.

ROW = {
    "decile1b": "4", "decile3": "5", "decile1": "6", "sex": "2", "race": "7", "cluster": "1", "lsat": "31",
    "ugpa": "3.1", "zfygpa": "-0.3", "DOB_yr": "66", "grad": "Y", "zgpa": "0.4", "bar1_yr": "7", "bar2_yr": "94",
    "fulltime": "1", "fam_inc": "3", "age": "-59", "gender": "male", "parttime": "0", "male": "1",
    "race1": "white", "race2": "b white", "pass_bar": "1", "tier": "4", "dnn_bar_pass_prediction": "0.9",
}  # fmt: skip
FAILED = {"gender": "female", "race1": "asian", "pass_bar": "0"}


def _invented(*changes, header=tuple(ROW)):
    rows = [ROW | change for change in changes]
    lines = [",".join(header), *(",".join(row[name] for name in header) for row in rows)]
    return {FILE.path: ("\n".join(lines) + "\n").encode()}


def _prepare(contents, variant="default", target=None):
    return ENTRY.prepare(contents, variant=variant, target=target)


def test_missing_numbers_are_marked_and_missing_text_is_zero():
    prepared = _prepare(_invented({"zfygpa": "", "gender": ""}, FAILED, {"DOB_yr": ""}))
    columns = dict(zip(prepared.features.names, prepared.features.x.T.tolist(), strict=True))
    np.testing.assert_allclose(columns["zfygpa"], [0, -0.3, -0.3], rtol=1e-6)
    assert columns["zfygpa_missing"] == [1, 0, 0]
    assert (columns["age"], columns["age_missing"]) == ([25, 25, 0], [0, 0, 1])
    assert (columns["gender_male"], columns["gender_female"]) == ([0, 0, 1], [0, 1, 0])
    assert prepared.attributes["gender"].values.codes.tolist() == [-1, 0, 1]


def test_rows_without_the_target_are_dropped():
    prepared = _prepare(_invented({"zgpa": "", "race1": ""}, {"zgpa": "-1.5", "race1": ""}, FAILED), target="zgpa")
    assert prepared.label.tolist() == [-1.5, 0.4]
    assert prepared.attributes["race"].values.text().tolist() == ["", "asian"]
    assert not set(GRADES) & set(prepared.features.names)


def test_badr_drops_rows_with_a_gap_anywhere_in_the_file():
    gaps = ("decile1b", "cluster", "grad", "bar2_yr", "race2", "fam_inc", "zgpa", "gender")
    prepared = _prepare(_invented({}, *({name: ""} for name in gaps), FAILED), variant="badr")
    assert prepared.features.x.shape == (2, 9)  # of two races and two genders
    assert prepared.notes == ("dropped 8 rows with a missing value in any column of the file",)


def test_target_must_be_known_and_fit_the_variant(tmp_path):
    with pytest.raises(ValueError, match="unknown value of target 'zgap': did you mean 'zgpa'"):
        load_dataset("law_school", target="zgap", data_home=tmp_path, download=False)
    with pytest.raises(ValueError, match="'badr' of law_school is the regression of zgpa"):
        _prepare(_invented({}, FAILED), variant="badr", target="pass_bar")
    np.testing.assert_allclose(_prepare(_invented({}, FAILED), variant="badr", target="zgpa").label, [0.4, 0.4])


BAD = {
    "race": ({"race1": "martian"}, r"prediction\.csv: column 'race1' has the unknown category 'martian'"),
    "gender": ({"gender": "1"}, "column 'gender' has the unknown category '1'"),
    "label": ({"pass_bar": "2"}, "column 'pass_bar' has the unknown category '2'"),
    "no label": ({"pass_bar": ""}, "column 'pass_bar' has the unknown category ''"),
    "number": ({"lsat": "n/a"}, r"prediction\.csv has 'n/a' in column 'lsat', row 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_with_their_column(case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        _prepare(_invented({}, change))


def test_a_table_without_a_column_or_no_table_is_refused():
    with pytest.raises(ValueError, match=r"prediction\.csv: unknown column 'ugpa'"):
        _prepare(_invented({}, header=[name for name in ROW if name != "ugpa"]))
    with pytest.raises(ValueError, match=r"prediction\.csv: unknown column 'lsat'"):
        _prepare({FILE.path: b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n"})
    with pytest.raises(ValueError, match=r"prediction\.csv has no row with all that is needed"):
        _prepare(_invented({"zgpa": ""}), target="zgpa")
    with pytest.raises(ValueError, match=r"prediction\.csv has no rows"):
        _prepare(_invented())
