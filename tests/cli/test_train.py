from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import mlflow
import pytest
import yaml
from click.testing import CliRunner

from keras_lstsr.artifacts.initial import network_settings
from keras_lstsr.cli.main import cli
from keras_lstsr.cli.run_options import apply_settings
from keras_lstsr.errors import ConfigError
from keras_lstsr.testing.records import write_made_records
from keras_lstsr.testing.training import TINY

ROOT = Path(__file__).resolve().parents[2]

# Sweeps and the pretraining have tests of their own, test_sweep.py and test_pretrain.py.
OTHERS = ("sweep", "pretrain")
SETTINGS = [
    path
    for path in sorted((ROOT / "configs").iterdir())
    if not any(word in path.stem for word in OTHERS)
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_made_records(tmp_path_factory.mktemp("cli") / "records")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


class TestSettings:
    def test_override(self, config):
        settings = apply_settings(
            config,
            (
                "training.epochs=5",
                "training.learning_rate=1e-4",
                "training.schedule={kind: cosine}",
                "data.augment=false",
                "name=other",
                "loss.name=mixgl",
                "loss.options.edge_crop=8",
            ),
        )
        assert settings.training.epochs == 5
        assert settings.training.learning_rate == 1e-4
        assert settings.training.schedule.kind == "cosine"
        assert settings.data.augment is False
        assert settings.name == "other"
        assert settings.loss.options == {"edge_crop": 8}
        assert settings.model.width == TINY["model"]["width"]

    def test_defaults_follow_the_architecture(self, tmp_path):
        (tmp_path / "empty.yaml").write_text("")
        settings = apply_settings(tmp_path / "empty.yaml", ("model.architecture=vdsr",))
        assert (settings.model.variant, settings.model.depth) == (None, 20)

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("training.epoch=5", r"training\.epoch: Extra inputs"),
            ("training.epochs=0", r"training\.epochs: .*greater than or equal to 1"),
            ("training.epochs", "has no value.*NAME=VALUE"),
            ("name.first=x", "no such setting"),
            ("training.epochs=[1", "not valid YAML"),
            ("trainig.epochs=5", r"trainig: Extra inputs"),
        ],
    )
    def test_mistakes_are_named(self, config, setting, message):
        with pytest.raises(ConfigError, match=message):
            apply_settings(config, (setting,))

    @pytest.mark.parametrize(
        "path",
        [ROOT / "keras_lstsr" / "demo.yaml", *SETTINGS],
        ids=lambda path: path.name,
    )
    def test_shipped_settings_are_valid(self, path):
        network = network_settings("pretrained") if path.stem == "adapt" else None
        assert apply_settings(path, (), network).name == path.stem

    def test_the_network_comes_with_the_weights_where_the_file_has_none(self, config):
        adapted = apply_settings(ROOT / "configs" / "adapt.yaml", (), network_settings("guided-1"))
        assert adapted.model.guides == ("ndvi",) and adapted.model.full_slope_kelvin == 12
        told = apply_settings(config, (), network_settings("guided-1"))
        assert told.model.network == "mrunet_strided", "the file has a network of its own"


def test_documentation_lists_every_setting():
    from keras_lstsr.config import ExperimentConfig
    from keras_lstsr.config.data import AugmentationConfig

    text = (ROOT / "docs" / "configuration.md").read_text()
    for section, field in ExperimentConfig.model_fields.items():
        kinds = getattr(field.annotation, "__args__", (field.annotation,))
        for name in {name for kind in kinds for name in getattr(kind, "model_fields", {})}:
            assert f"| `{section}.{name}` |" in text, f"{section}.{name} is not documented"
    for name in AugmentationConfig.model_fields:
        assert f"| `data.variation.{name}` |" in text, f"data.variation.{name} is not documented"


def test_missing_records_exit_with_2(config, tmp_path):
    arguments = ["train", "--config", str(config), "--records", str(tmp_path / "none")]
    arguments += ["--output", str(tmp_path / "run"), "--no-mlflow"]
    done = subprocess.run(
        [sys.executable, "-m", "keras_lstsr.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert "no records folder" in done.stderr
    assert "Traceback" not in done.stderr


# Dies like a process that runs out of memory, in the second epoch, after its first step.
KILLED_TRAINING = textwrap.dedent(
    """
    import os, signal, sys
    from keras_lstsr.training.callbacks import Publisher

    def die(self, batch, logs=None):
        if (self._epoch, batch) == (2, 0):
            os.kill(os.getpid(), signal.SIGKILL)

    Publisher.on_train_batch_end = die
    from keras_lstsr.cli.main import cli

    cli(sys.argv[1:])
    """
)


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_and_started_again(records, config, tmp_path, monkeypatch):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    arguments = ["train", "--config", str(config), "--records", str(records)]
    arguments += ["--output", str(tmp_path / "run"), "--tracking-uri", store]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_TRAINING, *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    left = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (left["status"], left["epochs"]) == ("running", 1)
    client = mlflow.MlflowClient(store)
    assert client.get_run(left["mlflow_run_id"]).info.status == "RUNNING"

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "after epoch 1" in result.output
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (info["status"], info["epochs"], info["resumed"]) == ("finished", 3, 1)
    assert info["mlflow_run_id"] == left["mlflow_run_id"]
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [record["epoch"] for record in history] == [1, 2, 3]
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    points = client.get_metric_history(run.info.run_id, "val_loss")
    assert [point.step for point in points] == [1, 2, 3]
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
