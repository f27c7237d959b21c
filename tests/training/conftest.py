"""Records that are small, quick to make and have something to learn in them."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from keras_lstsr.config import ExperimentConfig, ModelConfig
from keras_lstsr.models.layers import FillGaps, NormaliseTemperature, Upsample
from keras_lstsr.testing.records import write_made_records
from keras_lstsr.testing.training import TINY
from keras_lstsr.training import network


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> Path:
    """Eight training, three validation and two test samples with NDVI."""
    return write_made_records(tmp_path_factory.mktemp("training") / "records")


@pytest.fixture
def tiny() -> ExperimentConfig:
    """Three epochs of a network of width 4 and depth 1."""
    return ExperimentConfig.from_dict(TINY)


def build_shallow(config: ModelConfig) -> keras.Model:
    """A network of three layers: its step is traced in a tenth of the time."""
    policy = keras.config.dtype_policy()
    scaling = (config.offset_kelvin, config.scale_kelvin)
    coarse = keras.Input((None, None, 1), dtype="float32", name="lst_kelvin")
    field = NormaliseTemperature(*scaling)(Upsample(4)(FillGaps(290.0)(coarse)))
    x = keras.layers.Conv2D(4, 3, padding="same", dtype=policy)(field)
    x = keras.layers.BatchNormalization(synchronized=config.synchronised_batch_norm)(x)
    residual = keras.layers.Conv2D(1, 3, padding="same", dtype="float32")(keras.layers.ReLU()(x))
    refined = keras.layers.Add(dtype="float32")([field, residual])
    return keras.Model(
        {"lst_kelvin": coarse}, NormaliseTemperature(*scaling, inverse=True)(refined)
    )


@pytest.fixture
def shallow(monkeypatch) -> None:
    """Trains a network of three layers instead of the U-Net, where the network does not matter."""
    monkeypatch.setattr(network, "build_model", build_shallow)
