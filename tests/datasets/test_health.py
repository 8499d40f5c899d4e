"""Heritage Health on a small archive made here; the published one may not be passed on."""

import collections
import csv
import io
import statistics
import zipfile

import numpy as np
import pytest

from badrjax.datasets import dataset_info, load_dataset
from badrjax.datasets.health import AGES, FILE, LISTS
from badrjax.datasets.health_features import CONDITIONS, PLACES, PROCEDURES, SPECIALTIES

CLAIM_COLUMNS = (
    "MemberID", "ProviderID", "Vendor", "PCP", "Year", "Specialty", "PlaceSvc", "PayDelay", "LengthOfStay", "DSFS",
    "PrimaryConditionGroup", "CharlsonIndex", "ProcedureGroup", "SupLOS",
)  # fmt: skip
STAYS = ["1 day", "2 days", "6 days", "1- 2 weeks", "2- 4 weeks", "4- 8 weeks", "26+ weeks"]
STAY_DAYS = dict(zip(STAYS, [1, 2, 6, 11, 21, 42, 180], strict=True))
MONTHS = [
    "0- 1 month", "1- 2 months", "2- 3 months", "3- 4 months", "4- 5 months", "5- 6 months", "6- 7 months",
    "7- 8 months", "8- 9 months", "9-10 months", "10-11 months", "11-12 months",
]  # fmt: skip


def some_tables(members=120, claims=900, seed=0):
    """Rows of the published files by name, drawn at random; about every fifth field is missing where any may be."""
    rng = np.random.default_rng(seed)

    def draw(values, rows, missing=0.0):
        drawn = np.array(list(values), object)[rng.integers(len(values), size=rows)]
        drawn[rng.random(rows) < missing] = ""
        return drawn.tolist()

    ids = (rng.permutation(members * 7)[:members] + 1000).tolist()
    listed = ids[: members * 4 // 5]
    of_claims = (
        draw(ids, claims), draw(range(9), claims, 0.1), draw(range(5), claims, 0.2), draw(range(4), claims, 0.2),
        draw(["Y1", "Y2", "Y3", "Y3"], claims), draw(SPECIALTIES, claims), draw(PLACES, claims),
        draw([*map(str, range(162)), "162+"], claims), draw(STAYS, claims, 0.6), draw(MONTHS, claims, 0.3),
        draw(CONDITIONS, claims), draw(["0", "0", "0", "0", "0", "1-2", "3-4", "5+"], claims),
        draw(PROCEDURES, claims), draw("01", claims),
    )  # fmt: skip
    # One member has no claim but one without anything: its statistics are of nothing.
    alone = (listed[0], "", "", "", "Y3", "", "", "5", "", "", "", "1-2", "", "1")
    tables = {
        "Claims": [CLAIM_COLUMNS, alone, *(row for row in zip(*of_claims, strict=True) if row[0] != listed[0])],
        "Members": [
            ("MemberID", "AgeAtFirstClaim", "Sex"),
            (listed[0], "80+", "F"),
            *zip(ids[1:], draw(AGES, members - 1, 0.05), draw("MF", members - 1, 0.1), strict=True),
        ],
    }
    for name, most in (("DrugCount", 7), ("LabCount", 10)):
        months = (draw(ids[1:], 200), draw(["Y1", "Y2", "Y3"], 200), draw(MONTHS, 200))
        counts = draw([*map(str, range(1, most)), f"{most}+"], 200)
        tables[name] = [("MemberID", "Year", "DSFS", name), *zip(*months, counts, strict=True)]
    for file in LISTS.values():
        tables[file.removesuffix(".csv")] = [
            ("MemberID", "ClaimsTruncated", "DaysInHospital"),
            *((member, int(member) % 2, "") for member in listed),
        ]
    return tables


def archive(tables, folder=""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, rows in tables.items():
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            file.writestr(f"{folder}{name}.csv", text.getvalue())
    return stream.getvalue()


@pytest.fixture(scope="module")
def tables():
    return some_tables()


@pytest.fixture
def load(tmp_path):
    """Load from these tables."""

    def load_tables(tables, folder="", **keywords):
        (tmp_path / "health").mkdir(exist_ok=True)
        (tmp_path / FILE.path).write_bytes(archive(tables, folder))
        return load_dataset("health", data_home=tmp_path, **keywords)

    return load_tables


def spread(values, claims):
    if claims == 1:
        return 0
    return statistics.stdev(values) if len(values) > 1 else -1


def count_features(prefix, values, known):
    counts = collections.Counter(values)
    return {f"{prefix}{number}": counts[value] for number, value in enumerate(known, start=1)}


def plain_features(claims, drugs, tests):
    """Features of one member by loops over its rows."""
    column = {name: [claim[i] for claim in claims] for i, name in enumerate(CLAIM_COLUMNS)}
    present = {name: [value for value in values if value != ""] for name, values in column.items()}
    delays = [int(value.rstrip("+")) for value in column["PayDelay"]]
    stays = [STAY_DAYS[value] for value in present["LengthOfStay"]]
    months = [MONTHS.index(value) + 1 for value in present["DSFS"]]
    unknown = [claim[13] for claim in claims if claim[8] == ""]
    features = {
        "no_Claims": len(claims),
        "no_Providers": len(set(present["ProviderID"])),
        "no_Vendors": len(set(present["Vendor"])),
        "no_PCPs": len(set(present["PCP"])),
        "no_PlaceSvcs": len(set(present["PlaceSvc"])),
        "no_Specialities": len(set(present["Specialty"])),
        "no_PrimaryConditionGroups": len(set(present["PrimaryConditionGroup"])),
        "no_ProcedureGroups": len(set(present["ProcedureGroup"])),
        "LOS_TOT_UNKNOWN": unknown.count("0"),
        "LOS_TOT_SUPRESSED": unknown.count("1"),
        "LOS_TOT_KNOWN": len(stays),
        "dsfs_range": max(months) - min(months) if months else -1,
        **count_features("pcg", column["PrimaryConditionGroup"], CONDITIONS),
        **count_features("sp", column["Specialty"], SPECIALTIES),
        **count_features("pg", column["ProcedureGroup"], PROCEDURES),
        **count_features("ps", column["PlaceSvc"], PLACES),
        "drugNull": not drugs,
        "labNull": not tests,
    }
    for name, values in (("PayDelay", delays), ("LOS", stays), ("dsfs", months)):
        features |= {f"{name}_max": max(values, default=0), f"{name}_min": min(values, default=0)}
        features |= {f"{name}_ave": sum(values) / max(len(values), 1), f"{name}_stdev": spread(values, len(claims))}
    for name, values in (("drug", drugs), ("lab", tests)):
        features |= {f"{name}Count_max": max(values, default=0), f"{name}Count_min": min(values, default=0)}
        features[f"{name}Count_ave"] = sum(values) / max(len(values), 1)
        features[f"{name}count_months"] = len(values)
    return features


def plain_members(tables):
    """The listed members of known age and sex."""
    persons = {member: (age, sex) for member, age, sex in tables["Members"][1:]}
    return [(member, *persons[member]) for member, *_ in tables["Target"][1:] if all(persons[member])]


def plain_rows(tables, year):
    """(features, label, age, sex) of each member that is kept, in the order of the list."""
    persons = {member: (age, sex) for member, age, sex in tables["Members"][1:]}
    rows = []
    for member, truncated, _ in tables[LISTS[year].removesuffix(".csv")][1:]:
        age, sex = persons[member]
        claims = [claim for claim in tables["Claims"][1:] if claim[0] == member and claim[4] == year]
        if not (claims and age and sex):
            continue
        drugs, tests = (
            [int(row[3].rstrip("+")) for row in tables[name][1:] if row[0] == member and row[1] == year]
            for name in ("DrugCount", "LabCount")
        )
        features = {"ClaimsTruncated": truncated, **plain_features(claims, drugs, tests)}
        rows.append((features, any(claim[11] != "0" for claim in claims), age, sex))
    return rows


@pytest.mark.parametrize("year", ["Y1", "Y2", "Y3"])
def test_fairbinn_has_125_features_as_loops_over_the_rows_make_them(load, tables, year):
    data = load(tables, variant="fairbinn", year=year)
    rows = plain_rows(tables, year)
    assert data.x.shape == (len(rows), 125)
    features = {name: data.x[:, i] for i, name in enumerate(data.feature_names)}
    assert set(features) == {*rows[0][0], "age_MISS", "sexMISS", "age", "sex"}
    for name in rows[0][0]:
        expected = np.array([row[0][name] for row in rows], np.float32)
        cut = name in ("PayDelay_ave", "LOS_ave", "dsfs_ave")
        np.testing.assert_allclose(features[name], np.floor(expected) if cut else expected, rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(features["age"], [AGES.index(age) for _, _, age, _ in rows])
    np.testing.assert_array_equal(features["sex"], [sex == "F" for *_, sex in rows])
    assert not features["age_MISS"].any()
    assert not features["sexMISS"].any()
    np.testing.assert_array_equal(data.y, [label for _, label, _, _ in rows])
    assert [data.group_names[g] for g in data.group] == [age for _, _, age, _ in rows]


def test_default_has_nothing_of_the_condition_groups_and_keeps_fractions(load, tables):
    data = load(tables)
    rows = plain_rows(tables, "Y3")
    assert data.sensitive == ("age",)
    assert data.group_names == AGES
    assert data.x.shape == (len(rows), 125 - 2 - 47 - 2 + 9 + 2)
    assert not [name for name in data.feature_names if "pcg" in name or "Condition" in name or "Charlson" in name]
    features = {name: data.x[:, i] for i, name in enumerate(data.feature_names)}
    for name in ("LOS_ave", "PayDelay_ave", "dsfs_ave", "drugCount_ave"):
        np.testing.assert_allclose(features[name], [row[0][name] for row in rows], rtol=1e-6)
        assert (features[name] % 1).any()
    np.testing.assert_array_equal(features["age_20-29"], [age == "20-29" for _, _, age, _ in rows])
    np.testing.assert_array_equal(features["sex_female"], [sex == "F" for *_, sex in rows])
    np.testing.assert_array_equal(data.y, [label for _, label, _, _ in rows])


def test_statistics_of_nothing(load, tables):
    data = load(tables, variant="fairbinn")  # the first row is the member with one claim that says next to nothing
    first = dict(zip(data.feature_names, data.x[0].tolist(), strict=True))
    assert (first["no_Claims"], first["no_Providers"], first["LOS_TOT_SUPRESSED"]) == (1, 0, 1)
    assert [first[name] for name in ("pcg29", "sp13", "pg16", "ps9")] == [1, 1, 1, 1]
    assert (first["LOS_max"], first["LOS_stdev"], first["dsfs_min"], first["dsfs_range"]) == (0, 0, 0, -1)
    assert (first["drugNull"], first["labNull"], first["labcount_months"]) == (1, 1, 0)


def test_sex_makes_groups_and_both_attributes_can_be_left_out(load, tables):
    data = load(tables, sensitive=["sex", "age"], sensitive_features="drop")
    assert data.attributes["sex"].names == ("female", "male")
    assert data.x.shape[1] == 85 - 11 - 2
    assert not [name for name in data.feature_names if name.startswith(("age", "sex"))]


@pytest.mark.parametrize("variant", ["default", "fairbinn"])
def test_counts_of_claims_that_are_womens_go_with_the_sex(load, tables, variant):
    kept = load(tables, sensitive="sex", variant=variant).feature_names
    left = load(tables, sensitive="sex", variant=variant, sensitive_features="drop").feature_names
    conditions = {f"pcg{CONDITIONS.index(group) + 1}" for group in ("PRGNCY", "GYNEC1", "GYNECA")}
    assert conditions == {"pcg18", "pcg22", "pcg28"}
    obstetrics, maternity = "sp10", "pg17"
    assert (SPECIALTIES[9], PROCEDURES[16]) == ("Obstetrics and Gynecology", "SMCD")
    expected = {
        "default": {"sex_female", "sex_male", obstetrics, maternity},
        "fairbinn": {"sex", obstetrics, maternity, *conditions},
    }[variant]
    assert set(kept) - set(left) == expected
    assert "sp10 (Obstetrics and Gynecology), pcg18 (GYNEC1)" in dataset_info("health").sensitive["sex"]


def test_what_is_left_out_is_noted(load, tables):
    persons = {row[0]: row[1:] for row in tables["Members"]}
    with_claims = {claim[0] for claim in tables["Claims"] if claim[4] == "Y2"}
    listed = [row[0] for row in tables["DaysInHospital_Y3"][1:]]
    unknown = sum("" in persons[member] for member in listed)
    silent = sum("" not in persons[member] and member not in with_claims for member in listed)
    assert unknown > 0 < silent
    assert load(tables, year="Y2").notes == (
        "year Y2",
        f"dropped {unknown} members of unknown age or sex",
        f"dropped {silent} members without a Charlson index in Y2, whose label is unknown",
    )


def test_claims_without_an_index_take_no_part_in_the_label_and_are_counted(load, tables):
    rows = [list(row) for row in tables["Claims"]]
    of_year = [row for row in rows if row[4] == "Y3"]
    alone = tables["Target"][1][0]  # has one claim, with an index above 0
    indices = {member: [row[11] for row in of_year if row[0] == member] for member, *_ in plain_members(tables)}
    ill = next(member for member, found in indices.items() if {"0", "5+"} <= set(found))
    emptied = [row for row in of_year if row[0] in (alone, ill) and row[11] != "0"]
    for row in emptied:
        row[11] = ""
    whole = load(tables, variant="fairbinn")
    data = load({**tables, "Claims": rows}, variant="fairbinn")
    # Who has other claims keeps all features and is without illness; who has none is left out.
    rest = np.arange(whole.y.size) != 0
    np.testing.assert_array_equal(data.x, whole.x[rest])
    assert data.y.sum() == whole.y[rest].sum() - 1
    rule = "claims of listed members have no Charlson index and take no part in the label"
    assert data.notes[-1] == f"{len(emptied)} {rule}"
    assert not any(rule in note for note in whole.notes)


def test_member_that_members_csv_does_not_have_is_of_unknown_age(load, tables):
    whole = load(tables)
    fewer = {**tables, "Members": [row for row in tables["Members"] if row[1] != "80+"]}
    data = load(fewer)
    assert data.group_names == AGES[:-1]
    np.testing.assert_array_equal(data.group, whole.group[whole.group < 8])


def test_folder_in_the_archive_does_not_matter(load, tables):
    np.testing.assert_array_equal(load(tables, folder="HHP_release3/").x, load(tables).x)


def changed(tables, name, column, value, row=1):
    """The tables with one value of the first row replaced."""
    rows = [list(values) for values in tables[name]]
    rows[row][rows[0].index(column)] = value
    return {**tables, name: rows}


@pytest.mark.parametrize(
    ("name", "column", "value", "message"),
    [
        ("Claims", "CharlsonIndex", "6", r"Claims\.csv: column 'CharlsonIndex' has the unknown category '6'"),
        ("Claims", "LengthOfStay", "7 days", "column 'LengthOfStay' has the unknown category '7 days': did you mean"),
        ("Claims", "PayDelay", "163", "column 'PayDelay' has the unknown category '163'"),
        ("Claims", "DSFS", "13 months", "column 'DSFS' has the unknown category '13 months'"),
        ("Claims", "Specialty", "internal", "column 'Specialty' has the unknown category 'internal'"),
        ("Claims", "SupLOS", "2", "column 'SupLOS' has the unknown category '2'"),
        ("Claims", "Year", "Y4", "column 'Year' has the unknown category 'Y4'"),
        ("Claims", "Vendor", "V1", r"Claims\.csv has 'V1' in column 'Vendor', row 0, where a number"),
        ("Claims", "MemberID", "", r"Claims\.csv has nothing in column 'MemberID', row 0"),
        ("Claims", "Year", "", r"Claims\.csv has nothing in column 'Year', row 0"),
        ("Claims", "SupLOS", "", r"Claims\.csv has nothing in column 'SupLOS', row 0"),
        ("LabCount", "Year", "", r"LabCount\.csv has nothing in column 'Year', row 0"),
        ("DrugCount", "DrugCount", " ", r"DrugCount\.csv has nothing in column 'DrugCount', row 0"),
        (
            "Members",
            "AgeAtFirstClaim",
            "90+",
            r"Members\.csv: column 'AgeAtFirstClaim' has the unknown category '90\+'",
        ),
        ("Members", "Sex", "X", r"Members\.csv: column 'Sex' has the unknown category 'X'"),
        ("DrugCount", "DrugCount", "8", r"DrugCount\.csv: column 'DrugCount' has the unknown category '8'"),
        ("LabCount", "LabCount", "11", r"LabCount\.csv: column 'LabCount' has the unknown category '11'"),
    ],
)
def test_bad_values_are_named(load, tables, name, column, value, message):
    with pytest.raises(ValueError, match=message):
        load(changed(tables, name, column, value))


@pytest.mark.parametrize(("name", "column"), [("Claims", "SupLOS"), ("LabCount", "LabCount")])
def test_empty_value_is_refused_in_any_year_by_the_row_of_the_file(load, tables, name, column):
    position = tables[name][0].index("Year")
    row = next(i for i, values in enumerate(tables[name]) if i > 3 and values[position] == "Y1")
    with pytest.raises(ValueError, match=rf"{name}\.csv has nothing in column '{column}', row {row - 1};"):
        load(changed(tables, name, column, "", row))


@pytest.mark.parametrize("name", ["Target", "Members"])
def test_member_listed_twice_is_refused(load, tables, name):
    with pytest.raises(ValueError, match=rf"{name}\.csv lists member {tables[name][1][0]} twice"):
        load({**tables, name: [*tables[name], tables[name][1]]})


def test_missing_column_and_missing_file_are_named(load, tables):
    with pytest.raises(ValueError, match=r"Claims\.csv: unknown column 'SupLOS'"):
        load({**tables, "Claims": [row[:-1] for row in tables["Claims"]]})
    with pytest.raises(ValueError, match=r"has no file .LabCount\.csv."):
        load({name: rows for name, rows in tables.items() if name != "LabCount"})
    with pytest.raises(ValueError, match=r"has 2 file .Claims\.csv."):
        load({**tables, "copy/Claims": tables["Claims"]})


def test_single_class_and_no_claims_are_refused(load, tables):
    healthy = [(*row[:11], "0", *row[12:]) for row in tables["Claims"][1:]]
    with pytest.raises(ValueError, match="every row of health has the label largest Charlson"):
        load({**tables, "Claims": [CLAIM_COLUMNS, *healthy]})
    with pytest.raises(ValueError, match="no member of known age and sex with claims in Y3"):
        load({**tables, "Claims": [row for row in tables["Claims"] if row[4] != "Y3"]})


def test_web_page_instead_of_the_archive_is_refused(tmp_path):
    (tmp_path / "health").mkdir()
    (tmp_path / FILE.path).write_bytes(b"<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(ValueError, match=r"HHP_release3\.zip is not a whole zip or tar archive"):
        load_dataset("health", data_home=tmp_path)


def test_absent_archive_says_how_a_person_gets_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"health needs health/HHP_release3\.zip.*accept the rules"):
        load_dataset("health", data_home=tmp_path)


def test_unknown_year_is_refused(load, tables):
    with pytest.raises(ValueError, match="unknown value of year 'Y4'"):
        load(tables, year="Y4")


def test_entry_claims_no_counts_that_nobody_checked():
    entry = dataset_info("health")
    assert not entry.facts
    assert {variant for flaw in entry.flaws for variant in flaw.kept_by} <= set(entry.variants)
