"""The package without TensorFlow: everything up to the SavedModel also runs on JAX."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
import yaml

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.testing.records import vegetated_sample, write_made_records
from keras_lstsr.training.fit import train

ROOT = Path(__file__).resolve().parents[1]

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed"
)

# A small network whose output starts as bicubic: a few epochs suffice to beat it.
SETTINGS = {
    "name": "backends",
    "model": {"architecture": "edsr", "width": 8, "depth": 1, "zero_initial_residual": True},
    "training": {"epochs": 5, "batch_size": 4, "learning_rate": 3e-3},
}
# The guided network with all that its shipped weights are trained with.
GUIDED = {
    "name": "guided",
    "data": {"task": "1km_to_250m", "crop_pixels": 8, "variation": {}},
    "model": {"architecture": "guided", "width": 2, "wide_window_pixels": 7},
    "loss": {"name": "detail"},
    "training": {
        **{"epochs": 2, "steps_per_epoch": 3, "batch_size": 2, "keep": "last"},
        **{"optimizer": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0, "ema_momentum": 0.5},
        **{"schedule": {"kind": "cosine", "warmup_steps": 1}, "learning_rate": 1e-2},
    },
}


def under_jax(*arguments, timeout=600):
    # Compiling takes most of the time, and here each program runs once or twice.
    fast = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": fast},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """The report of ``tests/training/under_jax.py``, and the folder that it worked in."""
    folder = tmp_path_factory.mktemp("jax")
    write_made_records(folder / "records", {"train": 16, "validation": 6, "test": 4})
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    coarse = np.random.default_rng(0).normal(295, 5, (2, 7, 10, 1)).astype(np.float32)
    coarse[1, 2:4, 3] = np.nan
    np.save(folder / "coarse.npy", coarse)
    (folder / "guided.yaml").write_text(yaml.safe_dump(GUIDED))
    counts = {"train": 3, "validation": 1}
    write_made_records(folder / "guided_records", counts, truth=True, side=12)
    sample = vegetated_sample(200, "test", side=12)
    ndvi = sample.guides["ndvi"][None, ..., None]
    np.savez(folder / "guided.npz", lst_kelvin=sample.lst_kelvin[None, ..., None], ndvi=ndvi)
    told = under_jax("tests.without_tensorflow", "tests/training/under_jax.py", folder)
    return json.loads(told.splitlines()[-1]), folder


@needs_jax
@pytest.mark.slow
class TestWithoutTensorFlow:
    def test_training_beats_bicubic_on_both_backends(self, on_jax, tmp_path):
        report, folder = on_jax
        info = json.loads((folder / "run" / "run.json").read_text())
        assert info["status"] == "finished", report["train"]
        assert info["devices"] == "1 × CPU"
        assert {"keras", "jax"} < info["versions"].keys()
        assert "tensorflow" not in info["versions"]
        result = train(ExperimentConfig.from_dict(SETTINGS), folder / "records", tmp_path / "run")
        for metrics in (info["metrics"], result.info.metrics):
            assert metrics["val_rmse_kelvin"] < 0.99 * metrics["bicubic_val_rmse_kelvin"]
        # Bicubic is no matter of chance: both backends score the same patches alike.
        baselines = [m["bicubic_val_rmse_kelvin"] for m in (info["metrics"], result.info.metrics)]
        assert baselines[0] == pytest.approx(baselines[1], rel=1e-5)

    def test_a_restart_goes_on_as_if_nothing_had_happened(self, on_jax):
        report, folder = on_jax
        assert report["resumed_from"] == 2
        assert max(report["differences"]) < 1e-5
        histories = [
            json.loads((folder / name / "history.json").read_text()) for name in ("run", "again")
        ]
        losses = [[record["loss"] for record in history] for history in histories]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
        assert not (folder / "again" / "backup").exists()

    def test_tensorflow_takes_the_model_and_gives_the_same(self, on_jax):
        _, folder = on_jax
        model = keras.saving.load_model(folder / "run" / "model.keras", compile=False)
        coarse, fine = np.load(folder / "coarse.npy"), np.load(folder / "fine.npy")
        # The same network, the same weights: what differs are the digits of 300 K in float32.
        np.testing.assert_allclose(model({"lst_kelvin": coarse}), fine, rtol=0, atol=2e-3)
        assert np.isnan(fine).sum() == 2 * 16

    def test_the_guided_network_trains_and_goes_on_likewise(self, on_jax, tmp_path):
        report, folder = on_jax
        found = report["guided"]
        assert found["resumed_from"] == 1 and max(found["differences"]) < 1e-5
        # The same crops on both backends, from other first weights.
        config = ExperimentConfig.from_dict(GUIDED)
        result = train(config, folder / "guided_records", tmp_path / "run")
        assert found["losses"] == pytest.approx([r["loss"] for r in result.history], rel=0.5)
        model = keras.saving.load_model(folder / "guided" / "model.keras", compile=False)
        with np.load(folder / "guided.npz") as given, np.load(folder / "guided_fine.npz") as fine:
            outputs = model(dict(given))
            kelvin, std = outputs["lst_kelvin_fine"], outputs["lst_std_kelvin"]
            np.testing.assert_allclose(kelvin, fine["kelvin"], rtol=0, atol=2e-3)
            np.testing.assert_allclose(std, fine["std"], rtol=1e-4)

    def test_mlflow_keeps_the_model_as_a_file(self, on_jax):
        report, folder = on_jax
        assert "MLflow keeps model.keras as a file" in report["train"]
        client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        info = json.loads((folder / "run" / "run.json").read_text())
        assert client.get_run(info["mlflow_run_id"]).info.status == "FINISHED"
        names = {item.path for item in client.list_artifacts(info["mlflow_run_id"])}
        assert {"model.keras", "config.yaml", "history.csv", "figures", "evaluation"} <= names

    def test_evaluation_runs_and_export_and_serve_say_what_they_need(self, on_jax):
        report, folder = on_jax
        assert "tables beside it" in report["evaluate"]
        assert (folder / "scores" / "report.html").is_file()
        assert report["software"] == ["jax", "keras", "keras_lstsr", "numpy", "python"]
        for name, needed in (("export", "a SavedModel needs TensorFlow"), ("serve", "TensorFlow")):
            assert report[name].startswith("MissingExtraError")
            assert needed in report[name]
        assert not (folder / "models").exists()


@needs_jax
@pytest.mark.slow
def test_networks_losses_and_metrics_hold_under_jax():
    # The tests that touch every network, loss and metric; `make test-jax` runs all of them.
    chosen = (
        "tests/losses/test_every_loss.py",
        "tests/losses/test_scheduled_alpha.py",
        "tests/metrics/test_streaming.py",
        "tests/models/test_reference_outputs.py",
    )
    told = under_jax("pytest", *chosen, "-q", "-m", "not slow", "-p", "no:cacheprovider")
    assert int(told.splitlines()[-1].split(" passed")[0].split()[-1]) > 100
