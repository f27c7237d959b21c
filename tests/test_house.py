"""The house holds: imports go one way, and the door is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_imports_go_one_way():
    # In a process of its own: import-linter keeps the streams that pytest replaces.
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


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


def test_every_public_name_is_there_and_documented():
    import keras_lstsr

    for name in keras_lstsr.__all__:
        value = getattr(keras_lstsr, name)
        assert name in dir(keras_lstsr)
        if callable(value):
            assert value.__name__ == name and value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_lstsr.nothing


def test_no_rooms_without_a_name():
    banned = {"utils", "helpers", "misc", "common", "manager"}
    names = {
        path.stem
        for room in ("keras_lstsr", "beam_jobs", "serving")
        for path in (ROOT / room).rglob("*.py")
    }
    assert not names & banned


def test_tests_import_nothing_from_tests():
    # What several tests need stands in keras_lstsr.testing, or is a fixture.
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = ["tests" if node.level else str(node.module)]
            found += [f"{path}:{node.lineno}" for name in names if name.split(".")[0] == "tests"]
    assert not found


def test_every_command_is_there():
    from keras_lstsr.cli.main import COMMANDS, cli

    for name in COMMANDS:
        command = cli.get_command(None, name)
        assert command is not None
        assert command.help, name
