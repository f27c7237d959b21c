"""``keras-lstsr prepare`` hands its options to the Beam job."""

from __future__ import annotations

import re
import sys
import time

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


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("s3://bucket/records", r"s3://bucket/records: output.*apache-beam\[aws\]"),
        ("gs://bucket/records", r"gs://bucket/records: output.*apache-beam\[gcp\]"),
        ("ftp://host/records", r"ftp://host/records: output.*no such file system"),
    ],
)
def test_an_output_that_cannot_be_reached_is_told_first(place, words, monkeypatch):
    for name in ("boto3", "google.cloud", "google.cloud.storage"):
        monkeypatch.setitem(sys.modules, name, None)
    arguments = ["prepare", "--input", "no such file", "--output", place]
    result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, (ConfigError, MissingExtraError)), result.exception
    assert re.search(words, str(result.exception))


def test_a_file_system_that_does_not_answer_is_given_up(monkeypatch):
    from beam_jobs import publish

    monkeypatch.setattr(publish, "_MOST_REACH_SECONDS", 0.2)
    monkeypatch.setattr(publish.FileSystems, "get_filesystem", lambda path: object())
    monkeypatch.setattr(publish.FileSystems, "exists", lambda path: time.sleep(5))
    with pytest.raises(
        ConfigError, match=r"gs://b/c: output.*no answer within 0\.2 s.*credentials"
    ):
        publish.check_file_system("gs://b/c", "output")

    def refuse(path):
        raise PermissionError("no credentials\nand more")

    monkeypatch.setattr(publish.FileSystems, "exists", refuse)
    with pytest.raises(ConfigError, match="PermissionError: no credentials"):
        publish.check_file_system("gs://b/c", "output")
