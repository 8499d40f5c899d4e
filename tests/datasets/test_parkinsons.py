import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from badrjax.datasets import dataset_info, load_dataset, registry
from badrjax.datasets.parkinsons import ENTRY, FILE

# The published file.


@pytest.fixture(scope="module")
def frame(real_data):
    return pd.read_csv(real_data / FILE.path)


def _counts(groups):
    return dict(zip(groups.names, np.bincount(groups.ids).tolist(), strict=True))


@pytest.mark.parametrize("variant", ["default", "badr"])
def test_facts_are_what_is_loaded(variant, real_data):
    dataset = load_dataset("parkinsons", variant=variant, data_home=real_data)
    assert dataset_info("parkinsons").facts[variant] == (*dataset.x.shape, None)
    assert dataset.y.dtype == np.float32


def test_counts_are_the_published_ones(frame, real_data):
    dataset = load_dataset("parkinsons", sensitive=["sex", "over_65"], data_home=real_data)
    assert dataset.y.shape == (5_875,)
    assert _counts(dataset.attributes["sex"]) == {"female": 1_867, "male": 4_008}
    over = int((frame["age"] > 65).sum())
    assert _counts(dataset.attributes["over_65"]) == {"over 65": over, "up to 65": 5_875 - over}
    assert frame.groupby("subject#")["age"].first().median() == 65


def test_subjects_are_a_domain(frame, real_data):
    domain = load_dataset("parkinsons", data_home=real_data).domains["subject"]
    assert domain.names == tuple(str(number) for number in range(1, 43))
    np.testing.assert_array_equal(domain.ids + 1, frame["subject#"])


@pytest.mark.parametrize("target", ["total_UPDRS", "motor_UPDRS"])
@pytest.mark.parametrize("variant", ["default", "badr"])
def test_features_are_the_columns_without_the_scores(target, variant, frame, real_data):
    left_out = ["total_UPDRS", "motor_UPDRS", *(["subject#"] if variant == "default" else [])]
    expected = frame[sorted(frame.columns.drop(left_out))]
    dataset = load_dataset("parkinsons", variant=variant, target=target, data_home=real_data)
    assert dataset.feature_names == tuple(expected.columns)
    np.testing.assert_array_equal(dataset.x, expected.to_numpy(np.float32))
    np.testing.assert_array_equal(dataset.y, frame[target].to_numpy(np.float32))
    assert (dataset.label_name, dataset.favourable) == (target, "")


def test_badr_gives_the_recorded_error_of_uniform_weights(real_data):
    dataset = load_dataset("parkinsons", variant="badr", data_home=real_data)
    x, y = dataset.x.astype(float), dataset.y.astype(float)
    group = x[:, dataset.feature_names.index("sex")].astype(int)  # in the file's order, on which the split depends
    errors = []
    for seed in range(10):
        train, test = train_test_split(np.arange(y.size), test_size=0.3, random_state=seed, stratify=group)
        scaler = StandardScaler().fit(x[train])
        predict = _ridge(scaler.transform(x[train]), y[train], group[train])
        errors.append(np.sqrt(np.mean((predict(scaler.transform(x[test])) - y[test]) ** 2)))
    assert round(np.mean(errors), 4) == 9.4188
    assert round(np.std(errors, ddof=1), 4) == 0.1250


def _ridge(x, y, group, penalty=0.1):
    """Squared errors weighted by half the inverse size of their group, the standardised target, a free intercept."""
    weight = 0.5 / np.bincount(group)[group]
    design = np.column_stack([x, np.ones(len(x))])
    matrix = design.T @ (weight[:, None] * design) + penalty * np.diag([1.0] * x.shape[1] + [0.0])
    coefficients = np.linalg.solve(matrix, design.T @ (weight * (y - y.mean()) / y.std()))
    return lambda new: (np.column_stack([new, np.ones(len(new))]) @ coefficients) * y.std() + y.mean()


# Invented files of the same format.

ROW = {
    "subject#": "3", "age": "66", "sex": "0", "test_time": "10.5", "motor_UPDRS": "20.5", "total_UPDRS": "31",
    "Jitter(%)": "1", "Jitter(Abs)": "2.5e-005", "Jitter:RAP": "3", "Jitter:PPQ5": "4", "Jitter:DDP": "5",
    "Shimmer": "6", "Shimmer(dB)": "7", "Shimmer:APQ3": "8", "Shimmer:APQ5": "9", "Shimmer:APQ11": "10",
    "Shimmer:DDA": "11", "NHR": "12", "HNR": "13", "RPDE": "14", "DFA": "15", "PPE": "16",
}  # fmt: skip


def _invented(*changes, header=tuple(ROW)):
    rows = [ROW | change for change in changes]
    lines = [",".join(header), *(",".join(row[name] for name in header) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def _prepare(content, variant="default"):
    return ENTRY.prepare({FILE.path: content}, variant=variant, target="total_UPDRS")


def _load(monkeypatch, directory, content, **arguments):
    file = dataclasses.replace(FILE, sha256="")
    (directory / "parkinsons").mkdir()
    (directory / file.path).write_bytes(content)
    monkeypatch.setitem(registry._ENTRIES, "parkinsons", dataclasses.replace(ENTRY, files=((file,),)))
    return load_dataset("parkinsons", data_home=directory, **arguments)


def test_sexes_and_ages_get_their_names(monkeypatch, tmp_path):
    content = _invented({}, {"sex": "1", "age": "65", "subject#": "12"}, {"sex": "1"})
    dataset = _load(monkeypatch, tmp_path, content, sensitive=["sex", "over_65"])
    assert [dataset.group_names[i] for i in dataset.group] == [
        "male & over 65",
        "female & up to 65",
        "female & over 65",
    ]
    assert dataset.x[:, dataset.feature_names.index("sex")].tolist() == [0, 1, 1]
    assert dataset.domains["subject"].names == ("3", "12")


def test_dropping_an_attribute_drops_its_column(monkeypatch, tmp_path):
    names = _load(
        monkeypatch, tmp_path, _invented({}, {}), sensitive="over_65", sensitive_features="drop"
    ).feature_names
    assert "age" not in names
    assert len(names) == 18


def test_target_must_be_one_of_the_scores():
    with pytest.raises(ValueError, match="unknown value of target 'UPDRS': known are motor_UPDRS, total_UPDRS"):
        load_dataset("parkinsons", target="UPDRS", download=False)


BAD = {
    "sex": ({"sex": "2"}, r"updrs\.data: column 'sex' has the unknown category '2'"),
    "no sex": ({"sex": ""}, "has no value in column 'sex', row 1"),
    "no score": ({"total_UPDRS": ""}, "has no value in column 'total_UPDRS', row 1"),
    "no subject": ({"subject#": ""}, "has no value in column 'subject#', row 1"),
    "number": ({"HNR": "?"}, r"updrs\.data has '\?' in column 'HNR', row 1, where a number should be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_with_their_column(case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        _prepare(_invented({}, change))


def test_a_table_without_a_column_or_no_table_is_refused():
    with pytest.raises(ValueError, match=r"updrs\.data: unknown column 'PPE'"):
        _prepare(_invented({}, header=tuple(ROW)[:-1]))
    with pytest.raises(ValueError, match=r"updrs\.data: unknown column 'subject#'"):
        _prepare(b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n")
