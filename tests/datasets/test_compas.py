import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from badrjax.datasets import dataset_info, load_dataset, registry
from badrjax.datasets.compas import ENTRY, ENTRY_VIOLENT, GENERAL, VIOLENT

PERSONAL = ("id", "name", "first", "last", "dob", "c_case_number", "r_case_number", "vr_case_number")
DEFAULT = [
    "age", "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count", "sex", "race", "c_charge_degree",
]  # fmt: skip
NUMBERS = [
    "age", "priors_count", "days_b_screening_arrest", "length_of_stay", "juv_fel_count", "juv_misd_count",
    "juv_other_count", "c_days_from_compas",
]  # fmt: skip
TEXT = ["c_charge_degree", "age_cat", "score_text", "decile_score", "sex", "race"]


def _strings(dataset):
    """All the text in a dataset."""
    fields = (getattr(dataset, field.name) for field in dataclasses.fields(dataset) if field.name not in ("x", "y"))
    return repr([value for value in fields if not isinstance(value, np.ndarray)])


# The published files.


def _read(real_data, source, usecols):
    """Without the columns of names, which a failing test would print."""
    return pd.read_csv(real_data / source.file.path, usecols=usecols)


@pytest.fixture(scope="module")
def general(real_data):
    return _read(real_data, GENERAL, lambda column: column == "id" or column not in PERSONAL)


@pytest.fixture(scope="module")
def violent(real_data):
    return _read(real_data, VIOLENT, lambda column: column == "id" or column not in PERSONAL)


def _analysed(frame, score):
    near = frame["days_b_screening_arrest"].between(-30, 30)
    return frame[near & (frame["is_recid"] != -1) & (frame["c_charge_degree"] != "O") & frame[score].notna()]


def _counts(groups):
    return dict(zip(groups.names, np.bincount(groups.ids).tolist(), strict=True))


@pytest.mark.parametrize(("name", "variant"), [("compas", "default"), ("compas", "fairlab"), ("compas_violent", None)])
def test_facts_are_what_is_loaded(name, variant, real_data):
    dataset = load_dataset(name, variant=variant, data_home=real_data)
    assert dataset_info(name).facts[dataset.variant] == (*dataset.x.shape, round(float(dataset.y.mean()), 4))


def test_counts_are_the_published_ones(real_data):
    dataset = load_dataset("compas", sensitive=["race", "sex", "race_3", "age_cat"], data_home=real_data)
    assert dataset.y.shape == (6_172,)
    assert round(100 * dataset.y.mean(), 2) == 45.51
    assert dataset.notes == ("dropped 1,042 rows that ProPublica's filter leaves out",)
    assert {name: _counts(groups) for name, groups in dataset.attributes.items()} == {
        "race": {
            "African-American": 3_175, "Asian": 31, "Caucasian": 2_103, "Hispanic": 509, "Native American": 11,
            "Other": 343,
        },
        "sex": {"Female": 1_175, "Male": 4_997},
        "race_3": {"African-American": 3_175, "Caucasian": 2_103, "Other": 31 + 509 + 11 + 343},
        "age_cat": {"25 - 45": 3_532, "Greater than 45": 1_293, "Less than 25": 1_347},
    }  # fmt: skip


def test_violent_counts_are_the_published_ones(real_data):
    dataset = load_dataset("compas_violent", data_home=real_data)
    assert (dataset.y.size, dataset.sensitive) == (4_020, ("race",))
    assert round(100 * dataset.y.mean(), 2) == 16.22


@pytest.mark.parametrize(("name", "score"), [("compas", "score_text"), ("compas_violent", "v_score_text")])
def test_default_features_are_the_dummies_of_what_was_known(name, score, request, real_data):
    frame = _analysed(request.getfixturevalue("violent" if name == "compas_violent" else "general"), score)
    dummies = pd.get_dummies(frame[DEFAULT], dtype=float)
    dataset = load_dataset(name, data_home=real_data)
    assert dataset.feature_names == tuple(sorted(dummies.columns))
    np.testing.assert_array_equal(dataset.x, dummies[sorted(dummies.columns)].to_numpy(np.float32))
    np.testing.assert_array_equal(dataset.y, frame["two_year_recid"])


def test_fairlab_inputs_are_dummies_and_standardised_numbers(general, real_data):
    frame = _analysed(general, "score_text")
    left, entered = (pd.to_datetime(frame[column]).dt.normalize() for column in ("c_jail_out", "c_jail_in"))
    frame = frame.assign(length_of_stay=(left - entered).dt.days)
    assert frame[NUMBERS].notna().all(axis=None)  # so no rule for missing numbers is needed
    columns = pd.get_dummies(frame[TEXT].astype(str), dtype=float)
    columns[NUMBERS] = StandardScaler().fit_transform(frame[NUMBERS])
    columns = columns[sorted(columns.columns)]
    dataset = load_dataset("compas", variant="fairlab", data_home=real_data)
    assert dataset.feature_names == tuple(columns.columns)
    assert dataset.x.shape == (6_172, 34)
    np.testing.assert_allclose(dataset.x, columns, rtol=1e-5, atol=1e-6)
    raw = load_dataset("compas", variant="fairlab", data_home=real_data, standardise="none")
    stay = raw.x[:, raw.feature_names.index("length_of_stay")]
    np.testing.assert_array_equal(stay, frame["length_of_stay"])
    assert (stay.min(), stay.max()) == (0, 800)


def test_fairlab_has_the_three_attributes_of_the_paper_and_18_groups(real_data):
    dataset = load_dataset("compas", variant="fairlab", data_home=real_data)
    assert dataset.sensitive == ("sex", "race_3", "age_cat")
    assert dataset.num_groups == 18
    assert [groups.num_groups for groups in dataset.attributes.values()] == [2, 3, 3]


def test_columns_that_are_twice_in_the_files_agree(general, violent):
    for frame in (general, violent):
        for column in ("priors_count", "decile_score"):
            assert frame[column].equals(frame[column + ".1"].rename(column))
    assert violent["two_year_recid"].equals(violent["two_year_recid.1"].rename("two_year_recid"))


def test_the_flaws_that_are_kept_are_there(general, violent):
    late = general["compas_screening_date"] > "2014-04-01"
    assert general.loc[late, "two_year_recid"].value_counts().to_dict() == {1: 998}
    not_violent = general[(general["two_year_recid"] == 1) & (general["is_violent_recid"] == 0)]
    assert len(not_violent) == 2_476
    assert not not_violent["id"].isin(violent["id"]).any()


@pytest.mark.parametrize(("name", "source"), [("compas", GENERAL), ("compas_violent", VIOLENT)])
def test_no_name_birth_date_or_case_number_is_in_any_field(name, source, real_data):
    personal = _read(real_data, source, ["name", "dob", "c_case_number", "r_case_number"]).to_numpy().ravel()
    values = {value for value in personal if isinstance(value, str)}
    assert len(values) > 10_000
    for variant in dataset_info(name).variants:
        text = _strings(load_dataset(name, variant=variant, data_home=real_data))
        assert "race_Asian" in text
        assert sum(value in text for value in values) == 0


# Invented files of the same format.

INVENTED = {
    "id": 1, "name": "quill vantongeren", "first": "quill", "last": "vantongeren", "sex": "Male",
    "dob": "1985-07-19", "age": 30, "age_cat": "25 - 45", "race": "Caucasian", "juv_fel_count": 0,
    "decile_score": 4, "juv_misd_count": 1, "juv_other_count": 2, "priors_count": 5,
    "days_b_screening_arrest": -1, "c_jail_in": "2013-05-01 23:50:00", "c_jail_out": "2013-05-03 00:10:00",
    "c_case_number": "99zz77", "c_days_from_compas": 1, "c_charge_degree": "F", "is_recid": 1,
    "score_text": "Low", "v_score_text": "High", "two_year_recid": 1,
}  # fmt: skip
OTHER = {"sex": "Female", "race": "Asian", "age": 22, "age_cat": "Less than 25", "two_year_recid": 0, "is_recid": 0}


def _invented(*changes):
    return pd.DataFrame([INVENTED | change for change in changes]).to_csv(index=False).encode()


def _prepare(content, entry=ENTRY, variant="default"):
    return entry.prepare({entry.files[0][0].path: content}, variant=variant)


def _load(monkeypatch, directory, content, **arguments):
    """The invented file through `load_dataset`."""
    file = dataclasses.replace(GENERAL.file, sha256="")
    (directory / "compas").mkdir()
    (directory / file.path).write_bytes(content)
    monkeypatch.setitem(registry._ENTRIES, "compas", dataclasses.replace(ENTRY, files=((file,),)))
    return load_dataset("compas", data_home=directory, **arguments)


def test_rows_outside_the_filter_are_dropped():
    left_out = (
        {"days_b_screening_arrest": 31}, {"days_b_screening_arrest": -31}, {"days_b_screening_arrest": ""},
        {"is_recid": -1}, {"c_charge_degree": "O"}, {"score_text": "N/A"}, {"score_text": ""},
    )  # fmt: skip
    kept = ({"days_b_screening_arrest": 30, "age": 41}, {"days_b_screening_arrest": -30, "age": 42}, OTHER)
    prepared = _prepare(_invented(*left_out, *kept))
    assert prepared.features.x[:, prepared.features.names.index("age")].tolist() == [41, 42, 22]
    assert prepared.label.tolist() == [True, True, False]
    assert prepared.notes == ("dropped 7 rows that ProPublica's filter leaves out",)


def test_the_violent_table_is_filtered_by_its_own_score():
    prepared = _prepare(_invented({"score_text": "N/A"}, OTHER, {"v_score_text": "N/A"}), ENTRY_VIOLENT)
    assert prepared.label.tolist() == [True, False]


def test_only_needed_columns_are_read(monkeypatch):
    read, frames = pd.read_csv, []
    monkeypatch.setattr(pd, "read_csv", lambda *args, **kwargs: frames.append(read(*args, **kwargs)) or frames[-1])
    _prepare(_invented({}, OTHER), variant="fairlab")
    assert len(frames) == 1
    assert "age" in frames[0].columns
    assert not set(frames[0].columns) & set(PERSONAL)


def test_nothing_personal_reaches_a_small_dataset(monkeypatch, tmp_path):
    text = _strings(_load(monkeypatch, tmp_path, _invented({}, OTHER)))
    assert "c_charge_degree_F" in text
    for value in ("quill", "vantongeren", "1985-07-19", "99zz77"):
        assert value not in text


def test_length_of_stay_is_the_difference_of_the_dates():
    features = _prepare(_invented({}, OTHER, {"c_jail_out": "2013-05-01 23:59:59"}), variant="fairlab").features
    assert features.x[:, features.names.index("length_of_stay")].tolist() == [2, 2, 0]


def test_dropping_an_attribute_drops_what_gives_it_away(monkeypatch, tmp_path):
    content = _invented({}, OTHER, OTHER | {"two_year_recid": 1})
    dataset = _load(monkeypatch, tmp_path, content, sensitive=["age_cat", "race_3"], sensitive_features="drop")
    assert set(dataset.feature_names) == {
        "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count", "sex_Female", "sex_Male",
        "c_charge_degree_F",
    }  # fmt: skip
    assert dataset.group_names == ("25 - 45 & Caucasian", "Less than 25 & Other")


def test_a_single_class_is_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"every row of compas has the label two_year_recid = (1|True)"):
        _load(monkeypatch, tmp_path, _invented({}, OTHER | {"two_year_recid": 1}))


BAD = {
    "race": ({"race": "caucasian"}, r"two-years\.csv: column 'race' has the unknown category 'caucasian'.*Caucasian"),
    "sex": ({"sex": "M"}, "column 'sex' has the unknown category 'M'"),
    "age_cat": ({"age_cat": "young"}, "column 'age_cat' has the unknown category 'young'"),
    "score": ({"score_text": "Extreme"}, "column 'score_text' has the unknown category 'Extreme'"),
    "label": ({"two_year_recid": 2}, "column 'two_year_recid' has the unknown category '2'"),
    "no label": ({"two_year_recid": ""}, "column 'two_year_recid' has the unknown category ''"),
    "number": ({"priors_count": "many"}, r"has 'many' in column 'priors_count', row 1, where a number should be"),
    "date": ({"c_jail_in": "yesterday"}, "has 'yesterday' in column 'c_jail_in', where a date should be"),
    "no date": ({"c_jail_in": ""}, "column '(c_jail_in|length_of_stay)'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_with_their_column(case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        _prepare(_invented({}, change), variant="fairlab")


def test_a_table_without_a_column_or_no_table_is_refused():
    without = pd.read_csv(io.BytesIO(_invented({}))).drop(columns="priors_count").to_csv(index=False).encode()
    with pytest.raises(ValueError, match=r"two-years\.csv: unknown column 'priors_count'"):
        _prepare(without)
    with pytest.raises(ValueError, match=r"two-years\.csv: unknown column 'age'"):
        _prepare(b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n")
    with pytest.raises(ValueError, match=r"two-years\.csv is not the table it should be"):
        _prepare(b"")
    with pytest.raises(ValueError, match="no row that ProPublica's filter keeps"):
        _prepare(_invented({"is_recid": -1}))


@pytest.mark.parametrize("lost", [["name"], ["name", "first", "last", "dob"]])
def test_a_header_out_of_place_shows_nothing_personal(lost):
    header, *rows = _invented({}, OTHER).decode().splitlines()
    shorter = ",".join(name for name in header.split(",") if name not in lost)
    with pytest.raises(ValueError, match="values separated by ',' in line 2") as caught:
        _prepare("\n".join([shorter, *rows]).encode())
    message = str(caught.value)
    assert not any(text in message for text in ("quill", "vantongeren", "1985", "99zz77"))
