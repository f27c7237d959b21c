from __future__ import annotations

import subprocess
import sys

import pytest

import serving.local_server
from keras_lstsr.cli import main as cli_main
from serving.requests import RequestLimits
from serving.security import ServerSecurity


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["keras-lstsr", "serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli_main.main()
    return caught.value.code


def test_the_options_reach_the_server(monkeypatch, tmp_path):
    called = {}
    monkeypatch.setenv("LSTSR_TOKEN", "secret")
    monkeypatch.setattr(
        serving.local_server, "serve", lambda folder, **options: called.update(options, at=folder)
    )
    code = run(
        monkeypatch, tmp_path, "--host", "0.0.0.0", "--port", 9000, "--model-name", "m",
        "--poll", 0.5, "--max-pixels", 10, "--max-message", 1, "--workers", 2,
        "--max-requests", 3, "--grace", 2,
    )  # fmt: skip
    assert code in (0, None)
    assert called.pop("announce") is not None
    assert called.pop("security") == ServerSecurity(token="secret")
    assert called == {
        "at": tmp_path,
        "grace_seconds": 2.0,
        "host": "0.0.0.0",
        "port": 9000,
        "model_name": "m",
        "poll_seconds": 0.5,
        "limits": RequestLimits(pixels=10, message_bytes=2**20, running=2, open=3),
    }


def test_a_folder_without_versions_is_a_clear_error_with_status_2(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path) == 2
    error = capsys.readouterr().err
    assert f"Error: {tmp_path}: there is no SavedModel" in error
    assert "keras-lstsr export" in error


def test_without_the_extra_the_error_names_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert run(monkeypatch, tmp_path) == 2
    assert "keras-lstsr[serving]" in capsys.readouterr().err


def test_help_of_the_commands_loads_no_tensorflow():
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from keras_lstsr.cli.main import cli\n"
        "for name in ('export', 'serve', 'predict'):\n"
        "    assert CliRunner().invoke(cli, [name, '--help']).exit_code == 0\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
