"""The ledger: what it says follows from records and stored results, and from nothing else."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as RichTable

from badrjax import results
from experiments import (
    badr_figure2,
    badr_tables,
    fairlab_data,
    fairlab_tables,
    ledger,
    ledger_badr,
    ledger_causes,
    ledger_cells,
    ledger_fairbinn,
    ledger_fairlab,
    ledger_nash,
    nash_table5,
    pages,
)
from experiments.catalogue import EXPERIMENTS

NASH = ledger.RECORDS / "nash_table1"


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
    """No data set is looked for: which files are here is no matter of these tests."""

    def load(source, data_home):
        if source.name == "meps":
            raise FileNotFoundError("no file of meps")

    monkeypatch.setattr(fairlab_data, "load", load)


def where(folder):
    return {name: folder / name for name in EXPERIMENTS}


@pytest.fixture
def only_nash(tmp_path):
    """Records of Tables 1 and 4 and no others."""
    shutil.copytree(NASH, tmp_path / "records" / "nash_table1")
    return tmp_path / "records"


def counts(frame):
    return {name: number for name, number in results.verdict_counts(frame).items() if number}


def store(folder, frame, **settings):
    folder.mkdir(parents=True)
    frame.to_csv(folder / "results.csv", index=False)
    (folder / "provenance.json").write_text(json.dumps({"settings": settings}))


def test_the_whole_ledger_is_written_and_its_counts_are_those_of_the_records(tmp_path, only_nash):
    console = Console(file=io.StringIO(), width=200)
    settings = ledger.Settings(outputs=tmp_path / "none", records=only_nash, out=tmp_path / "out")
    frame = ledger.main(settings, console)
    assert {one.name for one in (tmp_path / "out").iterdir()} == {
        "claims.csv", "provenance.json", "report.html", "results.csv"
    }  # fmt: skip
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "results.csv", keep_default_na=False, na_values=[""])
                                  .assign(reason=frame["reason"]), frame, check_dtype=False)  # fmt: skip
    tables = {title: counts(mine) for title, mine in frame.groupby("table", sort=False)}
    assert tables["Tables 1 and 4, protocol of the published code"] == {
        "targets": 151, "REPRODUCED": 105, "INCONCLUSIVE": 35, "CLOSE": 2, "NOT REPRODUCED": 9, "MISPRINT": 2,
        "BELOW FLOOR": 15,
    }  # fmt: skip
    assert tables["Tables 1 and 4, protocol of the text"]["NOT REPRODUCED"] == 107
    # Of what has no stored result nothing else is said than that it was not run, with a reason each.
    others = frame[~frame["table"].str.startswith("Tables 1 and 4")]
    assert set(others["verdict"]) == {"NOT RUN"}
    assert others["reason"].str.len().min() > 10
    assert frame.loc[frame["verdict"].isin(["NOT REPRODUCED", "CLOSE"]), "reason"].str.len().min() > 10
    meps = others[others["cell"].str.startswith("MEPS")]
    assert set(meps["reason"]) == {"its file is not here; `badrjax data info meps` says how to get it"}
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert text.count("<section") >= 20
    for name in ("none", "fairlab_table1"):
        assert name in text
    assert "Nash-Meta-Learning: 158 targets: 105 REPRODUCED" in console.file.getvalue()
    claims = pd.read_csv(tmp_path / "out" / "claims.csv")
    assert len(claims) == 2 * 63


def test_a_record_of_ones_own_goes_before_the_kept_one_and_another_one_is_refused(tmp_path):
    kept = NASH / "code" / "student_sex.json"
    record = results.read_record(kept)
    own = tmp_path / "nash_table1" / "code" / "records"
    own.mkdir(parents=True)
    worse = [
        entry._replace(cell=entry.cell and entry.cell._replace(p_value=0.0, difference=1.0)) for entry in record[1]
    ]
    results.write_record(record._replace(entries=worse), own / "student_sex.json")
    tables, _ = ledger_nash.tables(where(tmp_path), NASH)
    mine = tables[0].frame[tables[0].frame["dataset"] == "student_sex"]
    assert set(mine["verdict"]) == {"NOT REPRODUCED", "BELOW FLOOR"}
    # One that was run otherwise says nothing of the protocol.
    (own / "student_sex.json").unlink()
    lonely = tmp_path / "records"
    shutil.copytree(NASH, lonely)
    shutil.copy(lonely / "paper" / "student_sex.json", lonely / "code" / "student_sex.json")
    tables, _ = ledger_nash.tables(where(tmp_path), lonely)
    mine = tables[0].frame[tables[0].frame["dataset"] == "student_sex"]
    assert set(mine["verdict"]) == {"NOT RUN"}
    assert mine["reason"].str.contains("other options").all()


def test_table_5_is_judged_by_one_estimator_on_the_papers_own_rows(tmp_path):
    printed = nash_table5.printed()
    rows = [
        {"dataset": name, "rows": "all", "levels": "values", "target": "label", "normalised": flag, "summary": "mean",
         "value": value * (1.001 if flag else 2)}
        for flag in (True, False)
        for name, value in printed.items()
    ]  # fmt: skip
    rows[0]["value"] *= 1.5
    splits = dict.fromkeys(printed, "official") | {"student_sex": "balanced"}
    store(tmp_path / "nash_table5", pd.DataFrame(rows), splits=splits)
    frame = ledger_nash.table5(tmp_path / "nash_table5").frame.set_index("dataset")
    assert frame.loc["adult_sex", "verdict"] == "NOT REPRODUCED"
    assert frame.loc["student_sex", "verdict"] == "NOT RUN"
    assert "balanced split" in frame.loc["student_sex", "reason"]
    assert set(frame.drop(["adult_sex", "student_sex"])["verdict"]) == {"REPRODUCED"}


def test_what_is_kept_with_the_code_is_read_until_an_experiment_has_written(tmp_path):
    settings = ledger.Settings(outputs=tmp_path)
    kept = ledger.places(settings)
    assert kept["badr_figure2"] == ledger.RECORDS / "badr_figure2"
    assert kept["badr_experiment2"] == tmp_path / "badr_experiment2"
    assert counts(ledger_badr.models(kept["badr_figure2"]).frame) == {"targets": 30, "REPRODUCED": 10, "NOT RUN": 20}
    assert counts(ledger_badr.path(kept["badr_figure2"]).frame) == {"targets": 120, "REPRODUCED": 40, "NOT RUN": 80}
    five = counts(ledger_nash.table5(kept["nash_table5"]).frame)
    assert five == {"targets": 7, "REPRODUCED": 1, "NOT REPRODUCED": 6}
    (tmp_path / "badr_figure2").mkdir()
    (tmp_path / "badr_figure2" / "verdicts.csv").touch()
    assert ledger.places(settings)["badr_figure2"] == tmp_path / "badr_figure2"


def test_recorded_models_without_seeds_are_judged_by_their_difference(tmp_path):
    recorded = [row for row in badr_tables.targets("badr_figure2")["models"] if row[0] == "ND 2018"]
    rows = [
        {"data": data, "method": method, "part": part, "default_tolerance": value * (1 + apart)}
        for (data, method, *both, _, _), apart in zip(recorded, (0, 1e-6, 1e-3, 0.5, 0), strict=True)
        for part, value in zip(("train", "test"), both, strict=True)
    ]
    (tmp_path / "badr_figure2").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "badr_figure2" / "verdicts.csv", index=False)
    frame = ledger_badr.models(tmp_path / "badr_figure2").frame
    mine = frame[frame["data"] == "ND 2018"].groupby("method", sort=False)["verdict"].first()
    assert list(mine) == ["REPRODUCED", "REPRODUCED", "CLOSE", "NOT REPRODUCED", "REPRODUCED"]
    others = frame[frame["data"] != "ND 2018"]
    assert set(others["verdict"]) == {"NOT RUN"}
    assert others["reason"].str.contains("file was not at hand").all()


def test_figure_2_leaves_what_the_ledger_reads(tmp_path, monkeypatch):
    panels = [
        badr_figure2.Panel("ND 2018", "", True, None, None, []),
        badr_figure2.Panel("VT", "", False, None, None, []),
    ]
    beside = pd.DataFrame({"penalty": [1e-6], "risk_0": [0.1]})
    for name in ("models_beside", "path_beside"):
        monkeypatch.setattr(badr_figure2, name, lambda panel: beside)
    badr_figure2._write_beside(panels, tmp_path)
    assert list(pd.read_csv(tmp_path / "path.csv")["data"]) == ["ND 2018"]
    badr_figure2._write_beside(panels[1:], tmp_path)
    assert list(tmp_path.iterdir()) == []


def regressions(seeds, value):
    rows = []
    for seed in range(seeds):
        for split, metric in (("test", "rmse"), ("test", "objective"), ("train", "objective")):
            rows.append({
                "kind": "regression", "data": "law_school", "variant": "published", "state": "", "seed": seed,
                "objective": "demographic_parity", "method": "uniform", "split": split, "metric": metric,
                "value": value + 1e-3 * np.sin(seed),
            })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("seeds", "verdict"), [(10, "NOT RUN"), (20, "REPRODUCED")])
def test_regressions_are_compared_once_there_are_twice_the_recorded_runs(tmp_path, seeds, verdict):
    (row,) = (
        row for row in badr_tables.targets("badr_experiment3")["rows"] if row[1:3] == ["law_school", "uniform"]
    )  # fmt: skip
    store(tmp_path / "badr_experiment3", regressions(seeds, row[4]), reading="published", groups="published")
    frame = ledger_badr.experiment3(tmp_path / "badr_experiment3").frame
    mine = frame[(frame["data"] == "law_school") & (frame["method"] == "uniform")].set_index("number")
    assert mine.loc["test score", "verdict"] == verdict
    assert set(frame[frame["data"] != "law_school"]["verdict"]) == {"NOT RUN"}


def test_results_of_other_settings_are_no_ground_for_a_verdict(tmp_path):
    store(tmp_path / "badr_experiment3", regressions(20, 0.1), reading="shared", groups="published")
    frame = ledger_badr.experiment3(tmp_path / "badr_experiment3").frame
    assert set(frame["verdict"]) == {"NOT RUN"}
    assert frame["reason"].str.contains("was run with reading shared").all()


def fairlab_rows(seeds, dataset="compas", f1=0.69, gap=0.75, floor=0.1, first=0):
    rows = []
    for seed in range(first, first + seeds):
        labels = {"dataset": dataset, "metric": "demographic_parity", "setting": "Gender*Race*Age", "method": "Vanilla",
                  "seed": seed, "part": "test"}  # fmt: skip
        moved = 1e-3 * np.sin(seed)
        rows.append({**labels, "requirement": "", "value_of": "f1_weighted", "value": f1 + moved})
        for name, value in (("gaps", gap), ("bounds", 1.0), ("floors", floor)):
            rows.append({**labels, "requirement": "dp of all", "value_of": name, "value": value + moved})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("seeds", "options", "verdicts"),
    [(3, {}, ["NOT RUN", "NOT RUN"]), (50, {}, ["REPRODUCED", "REPRODUCED"]),
     (50, {"f1": 0.5, "gap": 0.2, "floor": 0.9}, ["NOT REPRODUCED", "BELOW FLOOR"])],
)  # fmt: skip
def test_fairlabs_cells_come_from_the_tidy_results(tmp_path, seeds, options, verdicts):
    store(tmp_path / "fairlab_table2", fairlab_rows(seeds, **options), quick=False)
    table = ledger_fairlab.tables(where(tmp_path), None)[1]
    mine = table.frame[(table.frame["dataset"] == "Compas") & (table.frame["constraint"] == "DP")]
    mine = mine[mine["method"] == "Vanilla"].set_index("metric")
    assert [mine.loc[name, "verdict"] for name in ("F1", "DP")] == verdicts
    assert set(table.frame[table.frame["method"] == "COSMOS"]["verdict"]) == {"NOT RUN"}


@pytest.mark.parametrize("other", [{"quick": True}, {"protocol": "code"}, {"minimum_count": 80}])
def test_fairlabs_runs_of_another_kind_are_no_ground_for_a_verdict(tmp_path, other):
    store(tmp_path / "fairlab_table2", fairlab_rows(50), **other)
    table = ledger_fairlab.tables(where(tmp_path), None)[1]
    assert set(table.frame["verdict"]) == {"NOT RUN"}


def test_fairlabs_sittings_are_judged_together(tmp_path):
    store(tmp_path / "once" / "fairlab_table2", fairlab_rows(50), quick=False)
    for first in (0, 20):
        sitting = tmp_path / "twice" / "fairlab_table2" / f"from_{first}"
        store(sitting, fairlab_rows(20 if first == 0 else 30, first=first), quick=False)
    once, twice = (ledger_fairlab.tables(where(tmp_path / name), None)[1].frame for name in ("once", "twice"))
    run = once["verdict"] != "NOT RUN"  # the reasons of the others name the directory
    assert run.sum() == 2
    pd.testing.assert_frame_equal(once[run], twice[run])
    store(tmp_path / "twice" / "fairlab_table2" / "again", fairlab_rows(1, first=30), quick=False)
    with pytest.raises(ValueError, match=r"have compas, demographic_parity, .*, Vanilla, 30; take one"):
        ledger_fairlab.tables(where(tmp_path / "twice"), None)
    store(tmp_path / "other" / "fairlab_table2" / "a", fairlab_rows(20), budgets=[0.1])
    store(tmp_path / "other" / "fairlab_table2" / "b", fairlab_rows(20, first=20), budgets=[0.2])
    with pytest.raises(ValueError, match="differ in budgets"):
        ledger_fairlab.tables(where(tmp_path / "other"), None)
    store(tmp_path / "twice" / "fairlab_table2" / "quick", fairlab_rows(1, first=90), quick=True)
    with pytest.raises(ValueError, match="was run with quick True, and is one of several"):
        ledger_fairlab.tables(where(tmp_path / "twice"), None)


def test_fairlabs_claims_are_made_of_the_stored_differences(tmp_path):
    rows = [
        {"dataset": "compas", "metric": "demographic_parity", "setting": "Gender*Race*Age", "method": method,
         "point": "all points", "seed": seed, "part": "test", "requirement": "", "value_of": name,
         "value": value + 1e-3 * np.sin(seed)}
        for method, gain in (("Vanilla", 0.1), ("COSMOS", -0.1))
        for name, value in (("hypervolume_of_fairlab", 0.5), ("hypervolume_gain", gain), ("igd_plus_gain", -gain))
        for seed in range(5)
    ]  # fmt: skip
    store(tmp_path / "fairlab_table2", pd.concat([fairlab_rows(5), pd.DataFrame(rows)]), quick=False)
    families = ledger_fairlab.claims(where(tmp_path))
    assert [one.frame is None for one in families] == [True, False, True, True]
    table = families[1].frame.set_index(["against", "by"])["verdict"]
    assert table["Vanilla", "hypervolume"] == "SUPPORTED"
    assert table["COSMOS", "hypervolume"] == "REFUTED"
    assert table["COSMOS", "igd_plus"] == "SUPPORTED"
    assert table["Vanilla", "igd_plus"] == "REFUTED"
    assert "fairlab_table1" in families[0].about


def test_every_printed_cell_of_fairlab_is_there(tmp_path):
    tables = ledger_fairlab.tables(where(tmp_path), None)
    for number, table in enumerate(tables[:4], start=1):
        cells = [cell for row in fairlab_tables.targets(number) for cell in fairlab_tables.printed_values(row)]
        assert len(table.frame) == len(cells)


def test_fairbinns_claims_are_judged_from_paired_seeds(tmp_path):
    rows = [
        {"dataset": "adult", "method": method, "gap": "soft_dp", "chosen_on": "validation", "metric": "accuracy",
         "level": level, "seed": seed, "value": 0.8 + apart + 1e-3 * np.sin(seed)}
        for method, apart in (("lagrangian", 0.0), ("separated", -0.05), ("accumulated", 1e-4), ("total", 0.05))
        for level in (0.01, 0.05, 0.15)
        for seed in range(10)
    ]  # fmt: skip
    store(tmp_path / "fairbinn_fronts", pd.DataFrame(rows), epochs=40)
    accuracy, losses = ledger_fairbinn.claims(where(tmp_path))
    found = accuracy.frame.groupby("rule", sort=False)["verdict"].unique().map(list)
    assert list(found) == [["REFUTED"], ["SUPPORTED"], ["SUPPORTED"]]
    assert "40 epochs" in accuracy.about
    assert losses.frame is None
    assert "fairbinn_curves" in losses.about
    shown = ledger_fairbinn.inventory(where(tmp_path))
    assert len(shown) == len(ledger_fairbinn.JUDGED_BY)
    assert shown["stored"].str.startswith("NOT RUN").sum() == len(shown) - 1


def test_a_cause_is_shown_only_beside_a_cell_that_does_not_come_out():
    frame = pd.DataFrame({
        "dataset": ["a", "a", "b"], "verdict": ["NOT REPRODUCED", "REPRODUCED", "CLOSE"],
        "reason": ["cause unknown", "", "2 of 50 seeds diverged"],
    })  # fmt: skip
    found = ledger_causes.explained(frame, [({"dataset": "a"}, "the solver")])
    assert list(found["reason"]) == ["the solver", "", "2 of 50 seeds diverged"]
    # Every cause is about cells that exist.
    cells = ledger_nash.tables(where(NASH), NASH)[0][0].frame
    for labels, _ in ledger_causes.CODE:
        assert (cells[list(labels)] == pd.Series(labels)).all(axis=1).any()


def test_numbers_beside_each_other():
    cell = ledger_cells.Alike({"a": "x"}, 1.0, 3, 1.0, "", 0.01, 0.1)
    frame = ledger_cells.of_numbers([cell, cell._replace(ours=1.05), cell._replace(ours=1.5), cell._replace(ours=None)])
    assert list(frame["verdict"]) == ["REPRODUCED", "CLOSE", "NOT REPRODUCED", "NOT RUN"]
    assert frame["reason"][2] == "cause unknown"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [({"stores": ("nash_table5",)}, ValueError, "NAME=DIRECTORY"),
     ({"stores": ("nash_table6=/",)}, ValueError, "nash_table5"),
     ({"stores": ("nash_table5=/nowhere",)}, FileNotFoundError, "/nowhere")],
)  # fmt: skip
def test_stores_that_are_not_there_are_refused_before_any_work(tmp_path, given, error, message):
    with pytest.raises(error, match=message):
        ledger.main(ledger.Settings(out=tmp_path / "out", **given))
    assert not (tmp_path / "out").exists()


def test_an_experiments_page_has_its_tables_lines_and_figures(tmp_path):
    (tmp_path / "provenance.json").write_text(json.dumps({"settings": {"a": 1}, "commit": "c"}))
    shown = RichTable(title="title", caption="note")
    for name in ("method", "value"):
        shown.add_column(name)
    for row in (("overall", ""), ("  ERM", "0.5"), ("gap", ""), ("  ERM", "0.1")):
        shown.add_row(*row)
    table = pages.of_rich(shown)
    assert table.columns == ["of", "method", "value"]
    assert table.rows == [["overall", "ERM", "0.5"], ["gap", "ERM", "0.1"]]
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], label="front")
    axes.set(xlabel="gap", ylabel="accuracy", title="adult")
    settings = ledger.Settings(out=tmp_path)
    path = pages.write(settings, "# Title\n\n## Part\n\ntext", shown, "a line", figures={"Fronts": figure})
    text = path.read_text("utf-8")
    assert path == tmp_path / "report.html"
    for part in ("<h1>Title</h1>", "Part", "a line", "0.5", "python -m experiments ledger", "commit"):
        assert part in text
    assert 'aria-label="Fronts. Panels: adult: accuracy against gap. Drawn are front."' in text


def test_every_cell_that_does_not_come_out_has_a_cause_or_says_that_it_is_unknown(tmp_path):
    where = ledger.places(ledger.Settings(outputs=tmp_path, out=tmp_path / "ledger"))
    frame = ledger.tidy(ledger_fairlab.tables(where, None))
    lost = frame[frame["verdict"] == "NOT REPRODUCED"]
    assert len(lost) == 36  # of the records that are kept with the code
    assert lost["reason"].str.contains("cause unknown|constant|exchanged").all()
    assert (lost["reason"].str.count("cause unknown") <= 1).all()
