from __future__ import annotations

import pytest

from keras_lstsr.artifacts.model_folder import RunInfo
from keras_lstsr.config import ExperimentConfig, LossConfig
from keras_lstsr.errors import ModelError
from keras_lstsr.training.run_folder import RunFolder
from keras_lstsr.training.tracking import flatten


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text("{}")
    return path


def test_folder_appears_whole(tmp_path, dataset):
    folder = RunFolder(tmp_path / "deep" / "run")
    info = RunInfo(run_name="run", dataset_fingerprint="f")
    folder.create(ExperimentConfig(), info, copied=[dataset])
    assert folder.read_run() == info
    assert ExperimentConfig.from_yaml(folder.config) == ExperimentConfig()
    assert [path.name for path in folder.path.parent.iterdir()] == ["run"]


def test_what_a_kill_left_half_made_is_no_obstacle(tmp_path, dataset):
    (tmp_path / ".run.partial-x" / "run").mkdir(parents=True)
    (tmp_path / ".run.partial-x" / "run" / "half").touch()
    (tmp_path / "run").mkdir()  # an empty folder, made by the user
    folder = RunFolder(tmp_path / "run")
    assert folder.is_free()
    folder.create(ExperimentConfig(), RunInfo(run_name="run", dataset_fingerprint="f"))
    assert not (tmp_path / "run" / "half").exists()


def test_history_tables_agree_when_columns_differ(tmp_path):
    folder = RunFolder(tmp_path)
    records = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_loss": 1.0}]
    folder.write_history(records)
    assert folder.read_history() == records
    assert folder.history_table.read_text() == "epoch,loss,val_loss\n1,0.5,\n2,0.25,1.0\n"


def test_no_run_folder(tmp_path):
    with pytest.raises(ModelError, match=r"not a model folder.*given to train as --output"):
        RunFolder(tmp_path).read_run()


def test_flatten():
    config = ExperimentConfig(loss=LossConfig(name="mixgl", options={"edge_crop": 8}))
    flat = flatten(config)
    assert flat["training.epochs"] == 100
    assert flat["loss.options.edge_crop"] == 8
    assert flatten(ExperimentConfig())["loss.options"] == {}
    assert flat["model.offset_kelvin"] is None
