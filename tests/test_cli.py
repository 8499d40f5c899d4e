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


def test_verify(capsys):
    assert cli.main(["data", "verify"]) == 0
    assert "adult: verified" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "info", "aduld"], "did you mean 'adult'"),
        (["data", "info", "adult", "--sensitive", "sexx"], "sex"),
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
