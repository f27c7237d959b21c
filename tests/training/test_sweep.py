"""Sweeps: settings by dotted name, nested runs, no run twice, errors that name the run."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import build_loss
from keras_lstsr.training.sweep import SUMMARY_FILE, Sweep, run_sweep

ROOT = Path(__file__).resolve().parents[2]

SWEEPS = sorted((ROOT / "configs").glob("*_sweep.yaml"))


def write(path, content):
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweeps_are_valid(path):
    sweep = Sweep.from_yaml(path)
    for name in sweep.runs:
        build_loss(sweep.config(name).loss)


def test_runs_differ_where_they_say_and_nowhere_else(tmp_path):
    sweep = Sweep.from_yaml(
        write(
            tmp_path / "s.yaml",
            {
                "name": "s",
                "base": {"training": {"epochs": 3}, "model": {"width": 4}},
                "runs": {"a": {}, "b": {"training.batch_size": 2, "model.width": 8}},
            },
        )
    )
    a, b = sweep.config("a"), sweep.config("b")
    assert (a.training.epochs, b.training.epochs) == (3, 3)
    assert (a.model.width, b.model.width) == (4, 8)
    assert b.training.batch_size == 2 != a.training.batch_size
    assert sweep.config("a") == a  # building b left the base as it was


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"name": "s", "base": {}, "runs": {}}, "runs"),
        ({"name": "s", "base": {}, "runs": {"bad": {"model.width": 0}}}, r"runs\.bad.*width"),
        ({"name": "s", "base": {}, "runs": {"bad": {"loss.alhpa": 1}}}, r"runs\.bad.*alhpa"),
        ({"base": {}, "runs": {"a": {}}}, "name"),
    ],
)
def test_errors_name_the_run(tmp_path, content, named):
    with pytest.raises(ConfigError, match=named):
        Sweep.from_yaml(write(tmp_path / "s.yaml", content))


@pytest.mark.slow
def test_nested_runs_once_each(records, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    sweep = Sweep.model_validate(
        {
            "name": "widths",
            "base": {
                "model": {"depth": 2},
                "training": {"epochs": 1, "batch_size": 4},
            },
            "runs": {"narrow": {"model.width": 2}, "wide": {"model.width": 4}},
        }
    )
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    first = run_sweep(sweep, records, tmp_path / "runs", tracking_uri=uri)
    assert all(first.values())
    rows = list(csv.DictReader((tmp_path / "runs" / SUMMARY_FILE).open()))
    assert [row["run"] for row in rows] == ["narrow", "wide"]
    assert all(float(row["val_loss"]) > 0 for row in rows)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("widths")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 1 and len(children) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    again = run_sweep(sweep, records, tmp_path / "runs", mlflow=False)
    assert again == {"narrow": None, "wide": None}
