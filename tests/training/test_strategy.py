from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_lstsr.errors import ConfigError
from keras_lstsr.testing.records import write_made_records
from keras_lstsr.testing.training import with_settings
from keras_lstsr.training import strategy as strategies
from keras_lstsr.training.fit import train
from keras_lstsr.training.strategy import describe_devices, make_strategy, replica_count

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_one_step_on_two_devices_gives_the_weights_of_one(tmp_path):
    records = write_made_records(tmp_path / "records", truth=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.one_step", str(records), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    for loss, change in (("mse", 1e-2), ("mixgl", 1e-2), ("detail", 2e-3)):
        assert report[loss]["change"] > change
        assert report[loss]["difference"] < 1e-4 * report[loss]["change"], report
    assert report["mse"]["unsynchronised"] > 1e-2 * report["mse"]["change"], report


def test_a_single_device_needs_no_strategy():
    strategy = make_strategy()
    assert replica_count(strategy) == 1
    assert describe_devices(strategy).startswith("1 × ")


def test_another_backend_has_one_device(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    strategy = make_strategy()
    assert isinstance(strategy, strategies.SingleDevice)
    assert replica_count(strategy) == 1
    with strategy.scope():
        pass
    with pytest.raises(ConfigError, match=r"training\.cpu_devices.*found 2 with KERAS_BACKEND=jax"):
        make_strategy(2)


def test_devices_are_asked_for_too_late(records, tiny, tmp_path):
    make_strategy()  # of this process, whose TensorFlow has started
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("logical CPU devices are not used where there is a GPU")
    tf.config.list_logical_devices()
    config = with_settings(tiny, "training", cpu_devices=3, batch_size=6)
    with pytest.raises(ConfigError, match=r"training\.cpu_devices.*new process"):
        train(config, records, tmp_path / "run")


def test_batch_must_divide(records, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_lstsr.training.fit.replica_count", lambda strategy: 3)
    with pytest.raises(ConfigError, match=r"batch_size.*found 4; expected a multiple of 3.*Take 6"):
        train(tiny, records, tmp_path / "run")
