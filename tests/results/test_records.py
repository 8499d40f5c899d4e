"""Records of parts of a table: the same verdicts as from what they hold, and damaged ones refused."""

import json

import numpy as np
import pandas as pd
import pytest

from badrjax import results
from tests.results.cases import learning_curves


def made_up_record(dataset="first", seed=0, **about):
    rng = np.random.default_rng(seed)
    entries = [
        results.Entry({"dataset": dataset, "metric": "gap"}, results.Printed(0.01), 0.03, floor=0.05),
        results.Entry({"dataset": dataset, "metric": "wrong"}, results.Printed(0.9), 0.0, misprint=True, note="> 1"),
        results.Entry({"dataset": dataset, "metric": "absent"}, results.Printed(0.9), 0.0, note="no file"),
    ]
    for number, shift in enumerate((0.0, 0.05, 0.1)):
        values, printed = learning_curves(rng, 60), results.Printed(0.82 + shift, 3, 5)
        cell = results.compare_cell(values, printed, seed=0)
        entries.append(results.Entry({"dataset": dataset, "metric": str(number)}, printed, np.float64(0.02), cell))
    few = results.compare_cell(np.r_[rng.normal(size=4), np.full(50, np.nan)], results.Printed(0.5), seed=0)
    assert np.isnan(few.p_value)
    entries.append(results.Entry({"dataset": dataset, "metric": "diverged"}, results.Printed(0.5), 0.02, few))
    claims = [
        ({"dataset": dataset, "claim": str(shift)}, results.compare_over_splits(
            shift + rng.normal(size=20), num_train=100, num_test=20, tolerance=0.1)) for shift in (0.0, 1.0)
    ]  # fmt: skip
    claims.append(({"dataset": dataset, "claim": "one split"}, results.compare_over_splits(
        [1.0], num_train=100, num_test=20, tolerance=0.1)))  # fmt: skip
    notes = [{"method": "erm", "last": 0.5, "test": float("nan")}]
    return results.Record({"dataset": dataset, "seeds": 60, **about}, entries, claims, notes, {"commit": "abc"})


def test_a_record_comes_back_as_it_was(tmp_path):
    record = made_up_record()
    path = results.write_record(record, tmp_path / "new" / "first.json")
    again = results.read_record(path)
    # repr, for NaN is no NaN.
    assert repr([e._replace(tolerance=float(e.tolerance)) for e in record.entries]) == repr(again.entries)
    assert repr(record.claims) == repr(again.claims)
    assert repr(record.notes) == repr(again.notes)
    assert (again.about, again.origin) == (record.about, record.origin)
    assert "NaN" not in path.read_text()  # which no other program reads as JSON
    assert [file.name for file in path.parent.iterdir()] == ["first.json"]


def test_verdicts_from_records_are_those_of_one_sitting(tmp_path):
    """Also where p-values of one part decide about cells of another."""
    parts = [made_up_record(name, seed) for seed, name in enumerate(("first", "second", "third"))]
    stored = [results.read_record(results.write_record(one, tmp_path / f"{i}.json")) for i, one in enumerate(parts)]
    for table, field in ((results.ledger_table, "entries"), (results.claim_table, "claims")):
        whole, pieces = ([item for one in some for item in getattr(one, field)] for some in (parts, stored))
        pd.testing.assert_frame_equal(table(whole), table(pieces))


def test_a_record_of_something_else_is_refused():
    record = made_up_record(split="official")
    results.check_record(record, {"dataset": "first", "seeds": 60, "split": "official"}, "first.json")
    with pytest.raises(ValueError, match=r"first.json was recorded with seeds 60 instead of 10"):
        results.check_record(record, {"dataset": "first", "seeds": 10, "split": "official"}, "first.json")
    with pytest.raises(ValueError, match="epochs None instead of 3"):
        results.check_record(record, {"dataset": "first", "seeds": 60, "split": "official", "epochs": 3}, "first.json")
    with pytest.raises(ValueError, match="split 'official' instead of None"):
        results.check_record(record, {"dataset": "first", "seeds": 60}, "first.json")


@pytest.mark.parametrize("damage", ["truncated", "format", "cell", "list", "missing"])
def test_damaged_records_are_refused(tmp_path, damage):
    path = results.write_record(made_up_record(), tmp_path / "first.json")
    stored = json.loads(path.read_text())
    if damage == "format":
        stored["format"] = 99
    elif damage == "cell":
        del stored["entries"][-1]["cell"]["mean"]
    elif damage == "missing":
        del stored["claims"]
    text = json.dumps([stored] if damage == "list" else stored)
    path.write_text(text[:-100] if damage == "truncated" else text)
    with pytest.raises(ValueError, match=r"first.json is no record of results"):
        results.read_record(path)
