"""The command line: what it prints and how it fails."""

import pytest

from badrjax import cli


def test_list_and_info(capsys):
    assert cli.main(["data", "list"]) == 0
    assert "adult" in capsys.readouterr().out
    assert cli.main(["data", "info", "adult"]) == 0
    shown = capsys.readouterr().out
    for fact in ("48,842 rows", "105 features", "0.2393", "32,650", "16,192", "CC BY 4.0"):
        assert fact in shown


def test_info_by_several_attributes(capsys):
    assert cli.main(["data", "info", "adult", "--sensitive", "sex", "race"]) == 0
    assert "Female & Black" in capsys.readouterr().out


@pytest.fixture(autouse=True)
def no_files_but_the_bundled(monkeypatch, tmp_path):
    monkeypatch.delenv("BADRJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_info_of_a_variant_with_merged_groups(capsys):
    arguments = ["data", "info", "adult", "--sensitive", "sex,race", "--variant", "nash", "--num-groups", "2"]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "adult (nash): 48,842 rows, 105 features" in shown
    assert "note: merged the smallest groups" in shown
    assert "flaw (in nash" in shown


def test_verify_says_what_is_there(capsys, tmp_path):
    assert cli.main(["data", "verify"]) == 0
    shown = capsys.readouterr().out
    assert "adult: verified adult.npz" in shown
    assert "german: missing  german/german.data" in shown
    assert shown.count("csv_pwy.zip") == 1  # made use of by five datasets
    (tmp_path / "german").mkdir()
    (tmp_path / "german" / "german.data").write_text("mine")
    assert cli.main(["data", "verify", "german", "--data-home", str(tmp_path)]) == 1
    assert "german: wrong    german/german.data" in capsys.readouterr().out


def test_fetch_says_where_files_are_or_why_not(capsys):
    assert cli.main(["data", "fetch", "adult"]) == 0
    assert "adult: comes with the package" in capsys.readouterr().out
    assert cli.main(["data", "fetch", "health"]) == 2
    assert "Kaggle" in capsys.readouterr().err
    assert cli.main(["data", "fetch", "acs_income", "-o", "states=CA"]) == 2
    assert "--unpinned" in capsys.readouterr().err


def test_info_of_a_file_of_your_own(capsys, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("sex,age,hired\nF,30,yes\nM,41,no\nF,22,no\nM,19,yes\n")
    arguments = ["data", "info", str(path), "--label", "hired", "--sensitive", "sex", "--favourable", "yes"]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "mine.csv: 4 rows, 3 features" in shown
    assert "2 rows, base rate 0.5000  F" in shown
    assert cli.main([*arguments[:-1], "maybe"]) == 2
    assert "favourable 'maybe' does not occur in label 'hired'" in capsys.readouterr().err
    assert cli.main(["data", "info", str(path)]) == 2
    assert "--label and --sensitive" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "info", "aduld"], "did you mean 'adult'"),
        (["data", "info", "adult", "--sensitive", "sexx"], "sex"),
        (["data", "info", "adult", "-o", "year"], "an option is written NAME=VALUE"),
        (["data", "info", "acs_income", "-o", "year=2010"], "unknown year '2010'"),
        (["data", "info", "nowhere.csv", "--label", "a", "--sensitive", "b"], "nowhere.csv"),
        (["data", "verify", "aduld"], "did you mean 'adult'"),
        (["data", "verify", "-o", "year=2014"], "--option needs the names of the datasets"),
        (["data", "info", "acs_income", "-o", "states=WY", "-o", "states=VT"], "option states is given twice"),
        (["data", "info", "adult", "-o", "states=WY"], "unknown option of adult 'states': it has none of its own"),
        (["data", "info", "adult", "--label", "sex"], "which ends in .csv"),
        (["data", "info", "mine.csv", "--label", "a", "--sensitive", "b", "--variant", ""], "--variant is for"),
    ],
)
def test_unknown_names_give_the_nearest(arguments, message, capsys):
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_and_version(capsys):
    for arguments in (["--help"], ["--version"], ["data", "--help"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 0
    assert "badrjax" in capsys.readouterr().out
