"""Records that are small, quick to make and have something to learn in them."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from keras_lstsr import models
from keras_lstsr.config import ExperimentConfig, ModelConfig
from keras_lstsr.testing.records import vegetated_sample, write_made_records
from keras_lstsr.training import network

COUNTS = {"train": 8, "validation": 3, "test": 2}


def write_records(folder: Path, counts: dict[str, int] = COUNTS, *, guide: bool = True) -> Path:
    """Writes a records folder with the given numbers of samples."""
    return write_made_records(
        folder,
        tuple(counts.values()),
        make=vegetated_sample,
        guides=("ndvi",) if guide else (),
        num_shards=1,
    )


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> Path:
    """Eight training, three validation and two test samples with NDVI."""
    return write_records(tmp_path_factory.mktemp("training") / "records")


TINY = {
    "name": "tiny",
    "model": {"width": 4, "depth": 1, "bridge_blocks": 0},
    "training": {"epochs": 3, "batch_size": 4, "seed": 3},
}


@pytest.fixture
def tiny() -> ExperimentConfig:
    """Three epochs of a network of width 4 and depth 1."""
    return ExperimentConfig.from_dict(TINY)


def with_settings(config: ExperimentConfig, section: str, **settings) -> ExperimentConfig:
    """Returns the settings with some of a section replaced, validated again."""
    content = config.model_dump()
    content[section] |= settings
    return ExperimentConfig.from_dict(content)


def build_shallow(config: ModelConfig) -> keras.Model:
    """A network of three layers: its step is traced in a tenth of the time."""
    policy = keras.config.dtype_policy()
    scaling = (config.offset_kelvin, config.scale_kelvin)
    coarse = keras.Input((None, None, 1), dtype="float32", name="lst_kelvin")
    field = models.NormaliseTemperature(*scaling)(
        models.Upsample(4)(models.FillGaps(290.0)(coarse))
    )
    x = keras.layers.Conv2D(4, 3, padding="same", dtype=policy)(field)
    x = keras.layers.BatchNormalization(synchronized=config.synchronised_batch_norm)(x)
    residual = keras.layers.Conv2D(1, 3, padding="same", dtype="float32")(keras.layers.ReLU()(x))
    refined = keras.layers.Add(dtype="float32")([field, residual])
    return keras.Model(
        {"lst_kelvin": coarse}, models.NormaliseTemperature(*scaling, inverse=True)(refined)
    )


@pytest.fixture
def shallow(monkeypatch) -> None:
    """Trains a network of three layers instead of the U-Net, where the network does not matter."""
    monkeypatch.setattr(network, "build_model", build_shallow)
