"""MLproject: every entry calls a command that exists, with options that it has."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import mlflow
import numpy as np
import pytest
import yaml
from mlflow.projects._project_spec import load_project

from beam_jobs.rasters_to_tfrecords import build_parser
from keras_lstsr.cli.main import cli
from keras_lstsr.testing.records import write_made_records
from keras_lstsr.testing.training import TINY

ROOT = Path(__file__).resolve().parents[1]

ENTRIES = (
    *("main", "prepare", "train", "cross-validate", "pretrain"),
    *("sweep", "evaluate", "export", "predict"),
)
REQUIRED = {
    "main": {},
    "prepare": {"input": "scenes/MOD11A1*.hdf"},
    "train": {"records": "a folder"},
    "cross-validate": {"records": "a folder"},
    "pretrain": {"pairs": "a folder"},
    "sweep": {"records": "a folder"},
    "evaluate": {"run": "run", "records": "records"},
    "export": {"run": "run"},
    "predict": {"input": "scene.hdf"},
}


@pytest.fixture(scope="module")
def project():
    return load_project(str(ROOT))


def test_entries():
    content = yaml.safe_load((ROOT / "MLproject").read_text())
    assert set(content["entry_points"]) == set(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_command_parses(project, name):
    entry = project.get_entry_point(name)
    given = REQUIRED[name]
    needed = {key for key, parameter in entry.parameters.items() if parameter.default is None}
    assert needed == set(given)
    extra = {
        "train": {"set": "training.epochs=5"},
        "prepare": {"ndvi": "scenes/*09*.hdf"},
        "cross-validate": {"pairs": "pairs"},
        "pretrain": {
            **{"fine-scenes": "scenes", "places": "places", "draws": "3", "references": "True"}
        },
        "predict": {"ndvi": "ndvi.hdf"},
    }
    # Without a storage folder paths are not looked for.
    text = entry.compute_command({**given, **extra.get(name, {})}, storage_dir=None)
    python, flag, module, command_name, *arguments = shlex.split(text)
    assert (python, flag, module) == ("python", "-m", "keras_lstsr.cli.main")
    assert command_name == ("demo" if name == "main" else name)
    command = cli.get_command(click.Context(cli), command_name)
    if name == "prepare":  # hands its options to the Beam job
        values = vars(build_parser().parse_args(arguments))
    else:
        values = command.make_context(command_name, arguments).params
    for value in given.values():
        assert any(value in (str(found), *np.atleast_1d(found)) for found in values.values())
    for key, value in extra.get(name, {}).items() - {("set", "training.epochs=5")}:
        assert str(value) in map(str, np.atleast_1d(values[key.replace("-", "_")]))
    if name == "predict":
        assert str(values["model"]) == "pretrained"
    if name == "train":
        assert values["settings"] == ("training.epochs=5",)


def test_default_paths_exist(project):
    # MLflow refuses a `path` that is not there, a default too.
    for name in ENTRIES:
        for parameter in project.get_entry_point(name).parameters.values():
            if parameter.type == "path" and parameter.default is not None:
                assert (ROOT / parameter.default).exists()


def test_environment():
    environment = yaml.safe_load((ROOT / "python_env.yaml").read_text())
    assert environment["dependencies"] == [".[all]"], "-e . would point into a deleted folder"


@pytest.mark.slow
def test_mlflow_runs_the_training(tmp_path):

    records = write_made_records(tmp_path / "records")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    store = f"sqlite:///{tmp_path}/mlflow.db"
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PATH"] = scripts + os.pathsep + os.environ["PATH"]
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        environment.pop(name, None)
    arguments = ["-P", f"config={tmp_path}/tiny.yaml", "-P", f"records={records}"]
    arguments += ["-P", f"output={tmp_path}/run", "-P", "set=training.epochs=1"]
    done = subprocess.run(
        [
            f"{scripts}/mlflow",
            "run",
            str(ROOT),
            "-e",
            "train",
            "--env-manager",
            "local",
            *arguments,
        ],
        cwd=tmp_path,  # artifacts of the default experiment go below the current folder
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert run.data.params["set"] == "training.epochs=1"
    assert run.data.params["training.epochs"] == "1"
    assert f'"mlflow_run_id": "{run.info.run_id}"' in (tmp_path / "run" / "run.json").read_text()
