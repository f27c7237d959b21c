from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest

from keras_lstsr.errors import ConfigError, MissingExtraError
from keras_lstsr.testing.training import Killed, killing, with_settings
from keras_lstsr.training import fit, tracking
from keras_lstsr.training.fit import train
from keras_lstsr.training.run_folder import RunFolder
from keras_lstsr.training.tracking import Tracker, log_evaluation

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def clean_mlflow(monkeypatch, tmp_path):
    """No active run, no store and no variable of MLflow before or after a test."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(tmp_path)
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


def steps(client, run_id, name):
    return [point.step for point in client.get_metric_history(run_id, name)]


@pytest.mark.usefixtures("shallow")
class TestRun:
    def test_everything_is_in_mlflow(self, records, tiny, tmp_path, store):
        result = train(tiny, records, tmp_path / "run", tracker=Tracker(tracking_uri=store))
        client = mlflow.MlflowClient(store)
        run = client.get_run(result.info.mlflow_run_id)
        assert run.info.status == "FINISHED"
        assert run.info.run_name == "run"
        assert client.get_experiment(run.info.experiment_id).name == "tiny"
        assert run.data.params["training.epochs"] == "3"
        assert run.data.params["model.offset_kelvin"].startswith("29")
        assert run.data.tags["dataset_fingerprint"] == result.info.dataset_fingerprint
        (given,) = run.inputs.dataset_inputs
        assert given.dataset.name == "records"
        assert result.info.dataset_fingerprint.startswith(given.dataset.digest)
        for name in ("loss", "val_loss", "val_rmse_kelvin", "learning_rate"):
            assert steps(client, run.info.run_id, name) == [1, 2, 3]
        assert run.data.metrics["best_epoch"] == result.info.best_epoch
        assert run.data.metrics["best_val_loss"] == pytest.approx(result.info.best_val_loss)
        names = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert {"config.yaml", "dataset.json", "history.csv", "figures"} <= names
        figures = {item.path for item in client.list_artifacts(run.info.run_id, "figures")}
        assert figures == {"figures/loss.png", "figures/rmse.png", "figures/maps.png"}
        assert not (tmp_path / "mlruns").exists(), "artifacts belong beside their database"

        mlflow.set_tracking_uri(store)
        coarse = np.full((2, 5, 7, 1), 300, np.float32)
        coarse[0, 1:3, 2:5] = 290
        model = keras.saving.load_model(result.model_path, compile=False)
        expected = model({"lst_kelvin": coarse})
        loaded = mlflow.pyfunc.load_model(result.model_uri)
        assert [field.name for field in loaded.metadata.signature.inputs] == ["lst_kelvin"]
        assert [field.name for field in loaded.metadata.signature.outputs] == ["lst_kelvin_fine"]
        np.testing.assert_allclose(loaded.predict({"lst_kelvin": coarse}), expected, atol=1e-4)
        with pytest.raises(mlflow.MlflowException):
            loaded.predict({"lst_kelvin": coarse[..., 0]})

    def test_a_restart_continues_the_run(self, records, tiny, tmp_path, store, monkeypatch):
        # The kill comes between backup and MLflow: the second epoch is not logged yet.
        with monkeypatch.context() as patch:
            patch.setattr(fit.Publisher, "on_epoch_end", killing(fit.Publisher.on_epoch_end, 2))
            with pytest.raises(Killed):
                train(tiny, records, tmp_path / "run", tracker=Tracker(tracking_uri=store))
        before = RunFolder(tmp_path / "run").read_run()
        client = mlflow.MlflowClient(store)
        assert client.get_run(before.mlflow_run_id).info.status == "FAILED"
        # Without an address: run.json knows it.
        result = train(tiny, records, tmp_path / "run", tracker=Tracker())
        assert result.info.mlflow_run_id == before.mlflow_run_id
        assert client.get_run(before.mlflow_run_id).info.status == "FINISHED"
        assert steps(client, before.mlflow_run_id, "loss") == [1, 2, 3]

    def test_under_mlflow_run(self, records, tiny, tmp_path, store, monkeypatch):
        client = mlflow.MlflowClient(store)
        experiment = client.create_experiment("projects", f"{tmp_path.as_uri()}/artifacts")
        launched = client.create_run(experiment)
        # `mlflow run` has logged parameters as they were typed.
        client.log_param(launched.info.run_id, "training.learning_rate", "1e-3")
        monkeypatch.setenv("MLFLOW_RUN_ID", launched.info.run_id)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
        result = train(
            with_settings(tiny, "training", epochs=1), records, tmp_path / "r", tracker=Tracker()
        )
        assert result.info.mlflow_run_id == launched.info.run_id
        parameters = client.get_run(launched.info.run_id).data.params
        assert parameters["training.learning_rate"] == "1e-3"
        assert parameters["training.epochs"] == "1"

    def test_evaluation_is_added(self, records, tiny, tmp_path, store):
        config = with_settings(tiny, "training", epochs=1)
        result = train(config, records, tmp_path / "run", tracker=Tracker(tracking_uri=store))
        table = tmp_path / "table.csv"
        table.write_text("a,b\n")
        run_id = log_evaluation(tmp_path / "run", {"test_rmse_kelvin": 1.5}, [table])
        assert run_id == result.info.mlflow_run_id
        client = mlflow.MlflowClient(store)
        assert client.get_run(run_id).data.metrics["test_rmse_kelvin"] == 1.5
        assert client.get_run(run_id).info.status == "FINISHED"
        (item,) = client.list_artifacts(run_id, "evaluation")
        assert item.path == "evaluation/table.csv"

    def test_evaluation_of_a_run_without_mlflow(self, records, tiny, tmp_path):
        train(with_settings(tiny, "training", epochs=1), records, tmp_path / "run")
        assert log_evaluation(tmp_path / "run", {"test_rmse_kelvin": 1.5}) is None


@pytest.mark.slow
def test_model_loads_where_the_package_was_never_imported(records, tiny, tmp_path, store):
    config = with_settings(tiny, "training", epochs=1)
    result = train(config, records, tmp_path / "run", tracker=Tracker(tracking_uri=store))
    code = (
        "import mlflow, numpy, sys; mlflow.set_tracking_uri(sys.argv[1]); "
        "model = mlflow.pyfunc.load_model(sys.argv[2]); "
        "print(model.predict({'lst_kelvin': numpy.full((1, 6, 5, 1), 300, 'f')}).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store, result.model_uri],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("(1, 24, 20, 1)\n"), done.stderr[-3000:]


def test_a_password_is_not_written_down():
    tracker = Tracker()
    mlflow.set_tracking_uri("http://user:secret@localhost:1")
    assert tracker.recordable_uri is None
    mlflow.set_tracking_uri("http://localhost:1")
    assert tracker.recordable_uri == "http://localhost:1"


def test_a_lost_run_is_named(store):
    tracker = Tracker(tracking_uri=store)
    with pytest.raises(ConfigError, match=r"mlflow_run_id.*not in MLflow's store.*--no-mlflow"):
        tracker.start(run_name="x", experiment="x", parameters={}, tags={}, run_id="0" * 32)


def test_without_mlflow_installed(monkeypatch):
    real = importlib.import_module

    def absent(name, *args):
        if name.partition(".")[0] == "mlflow":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"pip install keras-lstsr\[mlflow\].*--no-mlflow"):
        Tracker()


@pytest.mark.slow
def test_training_itself_needs_no_mlflow():
    code = "import sys; sys.modules['mlflow'] = None; import keras_lstsr.training.fit"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env=dict(os.environ))


def silent_server():
    """Takes connections and never answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    return listening, f"http://user:hidden@127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("store", ["dead", "silent", "no such kind", "a file in its way"])
def test_a_store_that_cannot_be_used_is_told_at_once(store, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    listening, silent = silent_server()
    uri = {
        "dead": "http://127.0.0.1:9",
        "silent": silent,
        "no such kind": "gopher://127.0.0.1:9/x",
        "a file in its way": f"sqlite:///{tmp_path}/file/mlflow.db",
    }[store]
    monkeypatch.setattr(tracking, "MOST_REACH_SECONDS", 3.0)
    start = time.monotonic()
    with listening, pytest.raises(ConfigError, match=r"tracking_uri.*--no-mlflow") as caught:
        Tracker(tracking_uri=uri).check_reachable()
    assert time.monotonic() - start < 10
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bucket_of_artifacts_that_cannot_be_used_is_told_at_once(store, monkeypatch):
    client = mlflow.MlflowClient(store)
    client.create_experiment("in a bucket", artifact_location="s3://no-such-bucket/x")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigError, match=r"tracking_uri.*boto3"):
        Tracker(tracking_uri=store, experiment="in a bucket").check_reachable()
    Tracker(tracking_uri=store).check_reachable()
