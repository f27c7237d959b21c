"""Trainings that start from other weights, and those that learn without any fine truth."""

from __future__ import annotations

from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
import yaml

from keras_lstsr.artifacts.initial import network_settings
from keras_lstsr.artifacts.loading import open_model, weights_sha256
from keras_lstsr.artifacts.model_folder import CardData, ModelCard, ModelFolder
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, ModelError
from keras_lstsr.testing.records import write_made_records
from keras_lstsr.testing.training import Killed, killing, with_settings
from keras_lstsr.training import fit
from keras_lstsr.training.card import training_card
from keras_lstsr.training.fit import train
from keras_lstsr.training.initial import InitialModel
from keras_lstsr.training.tracking import Tracker

ROOT = Path(__file__).resolve().parents[2]
MODEL = {"architecture": "guided", "width": 2, "wide_window_pixels": 7}

pytestmark = pytest.mark.usefixtures("step_by_step")


def small(name: str, model: dict) -> ExperimentConfig:
    """Shipped settings, with one step of two crops of 8 pixels."""
    content = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    content["data"]["crop_pixels"] = 8
    content["model"] = model
    content["training"] |= {"epochs": 1, "steps_per_epoch": 1, "batch_size": 2}
    return ExperimentConfig.from_dict(content)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """LST and NDVI of three places for training and one for validation, without truth."""
    folder = tmp_path_factory.mktemp("data") / "records"
    return write_made_records(folder, {"train": 3, "validation": 1}, side=32)


@pytest.fixture(scope="module")
def first(records, tmp_path_factory):
    """A training without truth, from random weights."""
    return train(small("mixgl_guided", MODEL), records, tmp_path_factory.mktemp("run") / "first")


def loaded(path) -> keras.Model:
    return keras.saving.load_model(path, compile=False)


def test_the_guided_network_learns_without_truth(first):
    (record,) = first.history
    assert np.isfinite([record["loss"], record["val_loss"]]).all()
    assert record["val_mean_gradient_error"] > 0 and "rmse_kelvin" not in record
    assert any(np.any(weights) for weights in loaded(first.model_path).get_weights())


def test_a_training_starts_from_the_weights_it_is_given(first, records, tmp_path):
    config = with_settings(small("adapt", MODEL), "training", learning_rate=1e-12)
    config = with_settings(config, "model", guides=("ndvi",))
    store = f"sqlite:///{tmp_path}/mlflow.db"
    second = train(
        config,
        records,
        tmp_path / "second",
        init=first.run_dir,
        tracker=Tracker(tracking_uri=store),
    )
    before, after = (loaded(each.model_path) for each in (first, second))
    for one, two in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-7)
    expected = {"name": "first", "weights_sha256": weights_sha256(before)}
    card = ModelFolder(second.run_dir).read_card()
    assert second.info.initial_weights.model_dump() == expected
    assert card.initial_weights.model_dump() == expected
    tags = mlflow.MlflowClient(store).get_run(second.info.mlflow_run_id).data.tags
    assert (tags["init"], tags["init_weights_sha256"]) == tuple(expected.values())


def test_shipped_weights_of_another_layout_are_fitted_with_their_calibration(records, tmp_path):
    config = small("adapt", network_settings("guided-1"))
    result = train(config, records, tmp_path / "run", init="guided-1")
    before, after = open_model("guided-1")[0], loaded(result.model_path)
    assert [layer.name for layer in after.layers] == [layer.name for layer in before.layers]
    layer = "standard_deviation"
    assert after.get_layer(layer).calibration == before.get_layer(layer).calibration
    assert weights_sha256(after) != weights_sha256(before)
    known = ModelFolder(result.run_dir).read_card().known_files
    assert known >= ModelFolder(ROOT / "keras_lstsr/weights/guided-1").read_card().known_files


def test_another_network_is_refused_before_anything_is_written(first, records, tmp_path):
    config = small("adapt", MODEL | {"width": 3})
    message = r"model\.width.*another network.*found 3; expected 2.*Leave the section model out"
    with pytest.raises(ConfigError, match=message):
        train(config, records, tmp_path / "run", init=first.run_dir)
    with pytest.raises(ModelError, match=r"no weights to start from.*model\.keras"):
        train(config, records, tmp_path / "run", init=tmp_path / "nowhere")
    assert not (tmp_path / "run").exists()


def test_shipped_settings_fit_the_shipped_weights():
    content = yaml.safe_load((ROOT / "configs" / "adapt.yaml").read_text())
    for name in ("pretrained", "guided-1"):
        config = ExperimentConfig.from_dict(content | {"model": network_settings(name)})
        assert InitialModel.open(name).adopted(config) == config


def test_a_killed_training_goes_on_from_the_same_start_alone(first, records, tmp_path, monkeypatch):
    config = small("adapt", MODEL)
    with monkeypatch.context() as patch:
        patch.setattr(fit.KeptModel, "on_epoch_end", killing(fit.KeptModel.on_epoch_end, 1))
        with pytest.raises(Killed):
            train(config, records, tmp_path / "run", init=first.run_dir)
    with pytest.raises(ConfigError, match=r"from other weights.*random ones.*first"):
        train(config, records, tmp_path / "run")
    assert train(config, records, tmp_path / "run", init=first.run_dir).info.resumed == 1


@pytest.mark.usefixtures("shallow")
def test_scaling_of_temperature_comes_with_the_weights(records, tiny, tmp_path):
    tiny = with_settings(tiny, "training", batch_size=1, epochs=1)
    warmer = with_settings(tiny, "model", offset_kelvin=250.0, scale_kelvin=3.0)
    one = train(warmer, records, tmp_path / "one")
    two = train(tiny, records, tmp_path / "two", init=one.run_dir)
    own = ModelFolder(two.run_dir).read_config().model
    assert (own.offset_kelvin, own.scale_kelvin) == (250.0, 3.0)


def test_what_was_learnt_before_stays_known(first, records, tmp_path):
    before = ModelCard(
        name="old",
        data={
            "observed": CardData(purpose="x", files={"old.tif": "1" * 64}, licence="free"),
            "degraded": CardData(purpose="y", files={}),
        },
        learnt_from={"train-0": ("1" * 64,), "elsewhere": ("2" * 64,)},
    )
    config = small("adapt", MODEL)
    card = training_card(config, records, first.info, first.model_path, before)
    assert card.learnt_from["train-0"] == ("1" * 64, "0" * 64)
    assert card.known_files == {digit * 64 for digit in "012"}
    assert set(card.data) == {"observed", "degraded"} and card.data["observed"].licence == "free"
    assert {"old.tif", "train-0.tif"} <= card.data["observed"].files.keys()
