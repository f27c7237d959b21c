"""``keras-lstsr prepare`` hands its options to the Beam job."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from keras_lstsr.cli.main import cli
from keras_lstsr.errors import ConfigError, MissingExtraError


def test_options_reach_the_job(tmp_path):
    arguments = ["prepare", "--input", str(tmp_path / "*.hdf"), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, ConfigError)
    assert "no file matches the pattern" in str(result.exception)


def test_help_is_the_jobs_own(capsys):
    with pytest.raises(SystemExit) as stop:
        cli(["prepare", "--help"], standalone_mode=False)
    assert stop.value.code == 0
    assert "--split_fractions" in capsys.readouterr().out


def test_without_beam_the_message_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("beam_jobs")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    result = CliRunner().invoke(cli, ["prepare", "--input", "a", "--output", "b"])
    assert isinstance(result.exception, MissingExtraError)
    assert "keras-lstsr[beam]" in str(result.exception)
