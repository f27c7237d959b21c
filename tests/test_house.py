"""The house holds: imports go one way, and the door is light."""

from __future__ import annotations

import subprocess
import sys

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests.conftest import ROOT


def test_imports_go_one_way(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


HEAVY = ("tensorflow", "keras", "apache_beam", "mlflow", "rasterio", "matplotlib")


@pytest.mark.parametrize(
    "statement",
    [
        "import keras_lstsr; dir(keras_lstsr)",
        "from click.testing import CliRunner; from keras_lstsr.cli.main import cli; "
        "result = CliRunner().invoke(cli, ['--help']); assert result.exit_code == 0, result.output",
    ],
    ids=["import", "help"],
)
def test_door_is_light(statement):
    check = f"import sys; {statement}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_rooms_without_a_name():
    banned = {"utils", "helpers", "misc", "common", "manager"}
    names = {
        path.stem
        for room in ("keras_lstsr", "beam_jobs", "serving")
        for path in (ROOT / room).rglob("*.py")
    }
    assert not names & banned


def test_every_command_is_there():
    from keras_lstsr.cli.main import COMMANDS, cli

    for name in COMMANDS:
        command = cli.get_command(None, name)
        assert command is not None
        assert command.help, name
