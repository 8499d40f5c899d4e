"""MEPS on a small SAS transport file made here, of the format the agency distributes."""

import io
import math
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import dataset_info, load_dataset, meps
from badrjax.datasets.meps import FILE, read_raw

CODED = [
    "REGION53", "FTSTU53X", "ACTDTY53", "HONRDC53", "RTHLTH53", "MNHLTH53", "HIBPDX", "CHDDX", "ANGIDX", "MIDX",
    "OHRTDX", "STRKDX", "EMPHDX", "CHBRON53", "CHOLDX", "CANCERDX", "DIABDX", "JTPAIN53", "ARTHDX", "ARTHTYPE",
    "ASTHDX", "ADHDADDX", "PREGNT53", "WLKLIM53", "ACTLIM53", "SOCLIM53", "COGLIM53", "DFHEAR42", "DFSEE42",
    "ADSMOK42", "EMPST53", "POVCAT15", "INSCOV15",
]  # fmt: skip
NUMBERS = ["AGE53X", "PCS42", "MCS42", "K6SUM42"]
VISITS = ["OBTOTV15", "OPTOTV15", "ERTOT15", "IPNGTD15", "HHTOTD15"]
FOUR_RACES = {1: "Hispanic", 2: "White", 3: "Black", 4: "Other", 5: "Other"}
THREE_MARITAL = {
    1: "Married", 7: "Married", 5: "Never", 6: "Never",
    2: "Other", 3: "Other", 4: "Other", 8: "Other", 9: "Other", 10: "Other",
}  # fmt: skip


# A SAS transport file, version 5, as SAS documents it.


def ibm_double(value):
    """A number as IBM's hexadecimal floating point: sign, exponent of 16 in excess of 64, 56 bits of fraction."""
    if math.isnan(value):
        return b".".ljust(8, b"\0")
    if value == 0:
        return bytes(8)
    fraction, power = math.frexp(abs(value))
    exponent = -(-power // 4)
    mantissa = int(math.ldexp(fraction, 56 + power - 4 * exponent))
    return (((value < 0) << 63) | ((exponent + 64) << 56) | mantissa).to_bytes(8, "big")


def blank_filled(content):
    return content + b" " * (-len(content) % 80)


def header(kind, digits="0" * 30):
    return f"HEADER RECORD*******{kind:8}HEADER RECORD!!!!!!!{digits}".encode().ljust(80)


def name_record(position, number, name, is_text, length):
    start = struct.pack(">hhhh8s40s8s", 1 + is_text, 0, length, number, name.encode().ljust(8), b" " * 40, b" " * 8)
    return start + struct.pack(">hhh2s8shhl52s", 0, 0, 0, bytes(2), b" " * 8, 0, 0, position, bytes(52))


def transport_file(table, lengths):
    """The columns, numbers cut to `lengths` bytes where given (8 otherwise), text in fields as long as the longest."""
    names, fields, position = [], [], 0
    for number, (name, column) in enumerate(table.items(), start=1):
        is_text = isinstance(column[0], str)
        length = max(map(len, column)) if is_text else lengths.get(name, 8)
        fields.append([v.encode().ljust(length) if is_text else ibm_double(float(v))[:length] for v in column])
        names.append(name_record(position, number, name, is_text, length))
        position += length
    time = b"01JAN17:00:00:00"
    return b"".join(
        [
            header("LIBRARY"), b"SAS     SAS     SASLIB  9.4     X64_10PR".ljust(64) + time, time.ljust(80),
            header("MEMBER", "000000000000000001600000000140"), header("DSCRPTR"),
            b"SAS     H181    SASDATA 9.4     X64_10PR".ljust(64) + time, time.ljust(80),
            header("NAMESTR", f"000000{len(names):04d}{'0' * 20}"), blank_filled(b"".join(names)), header("OBS"),
            blank_filled(b"".join(b"".join(row) for row in zip(*fields, strict=True))),
        ]
    )  # fmt: skip


def zipped(content, name="h181.ssp"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


# A small table.


def some_table(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    codes = {name: rng.choice([-9, -8, -1, 1, 2, 3], rows, p=[0.004, 0.004, 0.15, 0.5, 0.3, 0.042]) for name in CODED}
    for name in ("REGION53", "ASTHDX"):
        codes[name] = rng.choice([-1, 1, 2, 3], rows, p=[0.02, 0.4, 0.4, 0.18])
    table = {
        "DUPERSID": [f"{number:08d}" for number in range(rows)],
        "DUID": np.arange(rows),
        "PANEL": rng.choice([19, 20], rows),
        "AGE53X": rng.choice([-1, 0, 15, 36, 85], rows, p=[0.02, 0.1, 0.2, 0.4, 0.28]),
        "SEX": rng.choice([1, 2], rows),
        "RACEV2X": rng.choice([1, 2, 4, 12], rows, p=[0.7, 0.1, 0.1, 0.1]),
        "RACETHX": rng.integers(1, 6, rows),
        "HISPANX": rng.choice([1, 2], rows),
        "MARRY53X": rng.choice([-9, *range(1, 11)], rows, p=[0.02] + [0.098] * 10),
        "PCS42": rng.choice([-9, -1, 56.31, 23.07], rows),
        "MCS42": rng.choice([-1, 8.5, 57.06], rows),
        "K6SUM42": rng.choice([-9, -1, 0, 7, 24], rows),
        "PHQ242": rng.choice([-1, 0, 6], rows),
        "EDUCYR": rng.choice([-8, -1, 0, 12], rows, p=[0.02, 0.1, 0.08, 0.8]),
        "HIDEG": rng.choice([-7, 1, 8], rows, p=[0.02, 0.4, 0.58]),
        "PERWT15F": np.where(rng.random(rows) < 0.05, 0, rng.uniform(500, 60_000, rows)),
        "TOTEXP15": np.where(rng.random(rows) < 0.2, 0, rng.integers(1, 90_000, rows)),
    }
    return table | codes | {name: rng.choice([0, 0, 0, 1, 6], rows) for name in VISITS}


LENGTHS = {"SEX": 3, "PANEL": 4, "TOTEXP15": 6, "MARRY53X": 2}


@pytest.fixture(scope="module")
def table():
    return some_table()


@pytest.fixture(scope="module")
def frame(table):
    return pd.DataFrame(table)


@pytest.fixture
def load(tmp_path):
    """Load from an archive with this table."""

    def load_table(table, name="h181.ssp", **keywords):
        (tmp_path / "meps").mkdir(exist_ok=True)
        (tmp_path / FILE.path).write_bytes(zipped(transport_file(table, LENGTHS), name))
        return load_dataset("meps", data_home=tmp_path, **keywords)

    return load_table


def answered(frame):
    """AIF360's rule."""
    kept = frame[(frame.REGION53 >= 0) & (frame.AGE53X >= 0) & (frame.MARRY53X >= 0) & (frame.ASTHDX >= 0)]
    return kept[(kept[[*CODED, "PHQ242", "EDUCYR", "HIDEG"]] >= -1).all(axis=1)]


def expensive(frame):
    spent = frame["TOTEXP15"]
    return spent > spent.quantile(0.75)


def check_features(data, expected):
    assert sorted(data.feature_names) == sorted(expected.columns)
    found = pd.DataFrame(data.x, columns=list(data.feature_names))[expected.columns]
    np.testing.assert_allclose(found, expected.to_numpy(np.float32), rtol=1e-6)


def recoded(frame):
    """The columns that variants recode, under the names of their features."""
    return pd.DataFrame(
        {
            "race": frame.RACETHX.map(FOUR_RACES),
            "marital": frame.MARRY53X.map(THREE_MARITAL),
            "sex": frame.SEX.map({1: "male", 2: "female"}),
        }
    )


@pytest.mark.parametrize("rows_at_once", [7, 4_000])
def test_every_number_of_the_transport_file_is_read(table, monkeypatch, rows_at_once):
    monkeypatch.setattr(meps, "_ROWS_AT_ONCE", rows_at_once)
    raw = read_raw({FILE.path: zipped(transport_file(table, LENGTHS))})
    assert set(raw) == set(table) - {"DUPERSID", "DUID"}
    for name, column in raw.items():
        np.testing.assert_allclose(column, table[name], rtol=1e-14, atol=0)


def test_default_keeps_whom_the_weight_counts_and_marks_missing_numbers(load, frame):
    data = load(frame.to_dict("list"))
    kept = frame[frame.PERWT15F > 0]
    codes = kept[CODED].where(kept[CODED] >= 0).map("{:.0f}".format, na_action="ignore")
    marital = kept.MARRY53X.map(
        dict(enumerate(["married", "widowed", "divorced", "separated", "never married", "under 16"] * 2, start=1))
        | {7: "married", 8: "widowed", 9: "divorced", 10: "separated"}
    )
    race = kept.RACETHX.map(dict(enumerate(["Hispanic", "White", "Black", "Asian", "Other"], start=1)))
    numbers = kept[[*NUMBERS, "PHQ242"]]
    expected = pd.concat(
        [
            pd.get_dummies(codes),
            pd.get_dummies(recoded(kept)[["sex"]].assign(race=race, marital=marital)),
            numbers.clip(lower=0),
            (numbers < 0).add_suffix("_missing"),
        ],
        axis=1,
    )
    check_features(data, expected)
    np.testing.assert_array_equal(data.y, expensive(kept))
    assert data.sensitive == ("race",)
    assert [data.group_names[g] for g in data.group] == recoded(kept).race.tolist()
    assert [data.domains["panel"].names[i] for i in data.domains["panel"].ids] == kept.PANEL.astype(str).tolist()
    assert data.notes[0].startswith(f"dropped {(frame.PERWT15F == 0).sum()} rows that stand for nobody")
    assert f"above {kept.TOTEXP15.quantile(0.75):,.2f} dollars" in data.notes[1]


def test_default_leaves_out_rows_only_without_the_chosen_attribute(load, table, frame):
    data = load(table, sensitive="marital")
    kept = frame[(frame.PERWT15F > 0) & (frame.MARRY53X > 0)]
    assert [data.group_names[g] for g in data.group] == recoded(kept).marital.tolist()


def test_fairlab_takes_both_panels_and_standardises_numbers_only(load, table, frame):
    kept = answered(frame)
    numbers = kept[NUMBERS]
    expected = pd.concat(
        [
            (numbers - numbers.mean()) / numbers.std(ddof=0),
            pd.get_dummies(kept[[*CODED, "PHQ242"]].astype(str)),
            pd.get_dummies(recoded(kept)),
        ],
        axis=1,
    )
    data = load(table, variant="fairlab", sensitive=["sex", "race", "marital"])
    found = pd.DataFrame(data.x, columns=list(data.feature_names))[expected.columns]
    assert data.x.shape == expected.shape
    np.testing.assert_allclose(found, expected.to_numpy(np.float32), atol=1e-5)
    np.testing.assert_array_equal(data.y, expensive(kept))
    assert data.attributes["race"].names == ("Black", "Hispanic", "Other", "White")
    assert data.attributes["sex"].names == ("female", "male")
    assert data.attributes["marital"].names == ("Married", "Never", "Other")
    assert any("with a missing value where AIF360 allows none" in note for note in data.notes)


@pytest.mark.parametrize(("panel", "number"), [("auto", 19), ("19", 19), ("20", 20)])
def test_aif360_is_its_public_definition(load, table, frame, panel, number):
    kept = answered(frame[frame["PANEL"] == number])
    white = (kept.RACEV2X == 1) & (kept.HISPANX == 2)
    expected = pd.concat(
        [
            kept[NUMBERS].assign(race=white),
            pd.get_dummies(kept[[*CODED, "PHQ242"]].assign(marital=kept.MARRY53X).astype(str)),
            pd.get_dummies(recoded(kept)[["sex"]]),
        ],
        axis=1,
    )
    data = load(table, variant="aif360", panel=panel)
    check_features(data, expected)
    np.testing.assert_array_equal(data.y, kept[VISITS].sum(axis=1) >= 10)
    assert [data.group_names[g] for g in data.group] == np.where(white, "White", "Non-White").tolist()
    assert data.domains["panel"].names == (str(number),)


def test_target_and_panel_fit_every_variant(load, table, frame):
    visits = load(table, target="utilization", panel="20")
    kept = frame[(frame.PERWT15F > 0) & (frame.PANEL == 20)]
    np.testing.assert_array_equal(visits.y, kept[VISITS].sum(axis=1) >= 10)
    np.testing.assert_array_equal(load(table, target="utilization", panel=20).x, visits.x)
    expenses = load(table, variant="aif360", target="expenses", panel="both")
    kept = answered(frame)
    np.testing.assert_array_equal(expenses.y, expensive(kept))


@pytest.mark.parametrize("variant", ["default", "fairlab", "aif360"])
def test_attributes_can_be_left_out_and_the_weight_is_never_in(load, table, variant):
    data = load(table, variant=variant, sensitive=["sex", "race", "marital"], sensitive_features="drop")
    raw = {name.split("_")[0] for name in data.feature_names}
    assert raw == {*CODED, *NUMBERS, "PHQ242"} - {"PREGNT53"}
    assert "AGE53X" in dataset_info("meps").sensitive["marital"]


def test_name_of_the_file_may_be_in_capitals_and_in_a_folder(load, table):
    np.testing.assert_array_equal(load(table, name="data/H181.SSP").x, load(table).x)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("SEX", 3, "column 'SEX' has the unknown category '3'"),
        ("RACETHX", 6, "column 'RACETHX' has the unknown category '6'"),
        ("MARRY53X", 11, "column 'MARRY53X' has the unknown category '11'"),
        ("PANEL", 21, "column 'PANEL' has the unknown category '21'"),
        ("REGION53", 1.5, "has 1.5 in column 'REGION53', row 0, where a whole number should be"),
        ("ASTHDX", np.nan, "has nan in column 'ASTHDX', row 0, where a whole number should be"),
        ("TOTEXP15", np.nan, "has nan in column 'TOTEXP15', row 0, where a number should be"),
        ("TOTEXP15", -1, r"h181ssp\.zip has -1 in column 'TOTEXP15', row 0, which is never negative"),
        ("ERTOT15", -8, r"h181ssp\.zip has -8 in column 'ERTOT15', row 0, which is never negative"),
    ],
)
def test_bad_values_are_named(load, table, column, value, message):
    with pytest.raises(ValueError, match=message):
        load({**table, column: [value, *table[column][1:]], "PERWT15F": [1, *table["PERWT15F"][1:]]})


def test_unknown_hispanic_code_is_named(load, table):
    with pytest.raises(ValueError, match="column 'HISPANX' has the unknown category '3'"):
        load({**table, "HISPANX": [3] * 300}, variant="aif360")


def test_missing_and_text_columns_are_named(load, table):
    with pytest.raises(ValueError, match=r"h181\.ssp has no column 'PCS42'"):
        load({name: column for name, column in table.items() if name != "PCS42"})
    with pytest.raises(ValueError, match="column 'SEX' holds text where numbers should be"):
        load({**table, "SEX": ["1"] * 300})


def test_single_class_and_empty_panel_are_refused(load, table):
    with pytest.raises(ValueError, match="every row of meps has the label visits"):
        load({**table, **dict.fromkeys(VISITS, [0] * 300)}, target="utilization")
    with pytest.raises(ValueError, match="has no row of panel 20 that the variant 'default' keeps"):
        load({**table, "PANEL": [19] * 300}, panel="20")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><title>AHRQ</title>", r"h181ssp\.zip is not a whole zip or tar archive"),
        (zipped(b"x" * 800), r"h181\.ssp is no SAS transport file, .*; get the official file"),
        (zipped(b""), r"h181\.ssp is no SAS transport file"),
        (zipped(transport_file(some_table(1), {})[:-1_000]), r"h181\.ssp is no SAS transport file"),
        (zipped(transport_file({}, {})), r"h181\.ssp is no SAS transport file"),
        (zipped(transport_file(some_table(1), {}).partition(header("OBS"))[0] + header("OBS")), "has no rows"),
        (zipped(b"", "h181.dat"), r"has no file .h181\.ssp."),
    ],
)
def test_wrong_files_are_refused(tmp_path, content, message):
    (tmp_path / "meps").mkdir()
    (tmp_path / FILE.path).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_dataset("meps", data_home=tmp_path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cut", [1, 40, 79, 81, 3_003])
def test_file_whose_length_is_no_multiple_of_80_is_refused_without_a_warning(table, cut):
    with pytest.raises(ValueError, match=r"h181\.ssp is no .* whole one .*bytes, is no multiple of 80"):
        read_raw({FILE.path: zipped(transport_file(table, LENGTHS)[:-cut])})


@pytest.mark.parametrize("cards", [1, 2, 10, 51])
def test_file_that_ends_within_a_row_is_refused(table, cards):
    with pytest.raises(ValueError, match=r"h181\.ssp is no .* whole one \(its last row has \d+ of 423 bytes"):
        read_raw({FILE.path: zipped(transport_file(table, LENGTHS)[: -80 * cards])})


def test_file_is_filled_up_with_nothing_but_blanks(table):
    content = transport_file(table, LENGTHS)
    blanks = len(content) - len(content.rstrip(b" "))
    assert 0 < blanks < 80
    with pytest.raises(ValueError, match=rf"its last row has {blanks} of 423 bytes"):
        read_raw({FILE.path: zipped(content[:-1] + b"x")})
    with pytest.raises(ValueError, match=rf"its last row has {blanks + 80} of 423 bytes"):
        read_raw({FILE.path: zipped(content + b" " * 80)})


def test_absent_archive_says_how_a_person_gets_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"meps needs meps/h181ssp\.zip.*data use agreement"):
        load_dataset("meps", data_home=tmp_path, download=False)


def test_entry_claims_no_counts_that_nobody_checked():
    entry = dataset_info("meps")
    assert not entry.facts
    assert {variant for flaw in entry.flaws for variant in flaw.kept_by} <= set(entry.variants)
    with pytest.raises(ValueError, match="unknown value of panel '21'"):
        load_dataset("meps", panel="21")
