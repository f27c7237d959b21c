"""Records that are small, quick to make and have something to learn in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy import ndimage

from keras_lstsr import models
from keras_lstsr.config import ExperimentConfig, ModelConfig
from keras_lstsr.records.codec import encode_patch
from keras_lstsr.records.patches import Patch, PatchKey
from keras_lstsr.records.schema import (
    DATASET_FILE,
    SCALE_FACTOR,
    SCHEMA_VERSION,
    DatasetMetadata,
    ShardInfo,
)
from keras_lstsr.records.statistics import PatchStatistics
from keras_lstsr.records.tfrecord import shard_bytes
from keras_lstsr.training import network

SIDE = 32
COUNTS = {"train": 8, "validation": 3, "test": 2}


def make_patch(split: str, number: int, *, guide: bool = True, side: int = SIDE) -> Patch:
    """Temperature falls where vegetation rises; both have detail at every scale."""
    rng = np.random.default_rng([number, *split.encode()])
    fine = side * SCALE_FACTOR
    rough = sum(
        sigma * ndimage.gaussian_filter(rng.standard_normal((fine, fine)), sigma, mode="wrap")
        for sigma in (2, 6, 16)
    )
    ndvi = (0.5 + 0.15 * rough / rough.std()).astype(np.float32)
    coarse = ndvi.reshape(side, SCALE_FACTOR, side, SCALE_FACTOR).mean(axis=(1, 3))
    lst = (305 - 20 * coarse + rng.normal(0, 3)).astype(np.float32)
    return Patch(
        key=PatchKey("0" * 16, f"granule-{split}", "day", 0, number * side),
        lst_kelvin=lst,
        ndvi=ndvi if guide else None,
        product="MOD11A1",
        tile="h18v04",
        acquisition_date="2021-08-15",
        place=f"{split}-{number}",
        split=split,
        crs_wkt="",
        transform=(1000.0, 0.0, 0.0, 0.0, -1000.0, 0.0),
    )


def write_records(folder: Path, counts: dict[str, int] = COUNTS, *, guide: bool = True) -> Path:
    """Writes a records folder with the given numbers of patches."""
    folder.mkdir(parents=True)
    statistics, shards = PatchStatistics(), {}
    for split, count in counts.items():
        patches = [make_patch(split, number, guide=guide) for number in range(count)]
        content = shard_bytes([encode_patch(patch) for patch in patches])
        name = f"{split}-00000-of-00001.tfrecord.gz"
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        shards[split] = [ShardInfo(file=name, records=count, sha256=digest)] if count else []
        if not count:
            (folder / name).unlink()
        if split == "train":
            for patch in patches:
                statistics = statistics.merge(
                    PatchStatistics.of_patch(patch.lst_kelvin, patch.ndvi, "day", SCALE_FACTOR)
                )
    metadata = DatasetMetadata(
        schema_version=SCHEMA_VERSION,
        package_version="0",
        fingerprint=hashlib.sha256(repr((counts, guide)).encode()).hexdigest(),
        patch_size=SIDE,
        stride=SIDE,
        scale_factor=SCALE_FACTOR,
        has_guide=guide,
        counts=counts,
        counts_by_day_night={split: {"day": count} for split, count in counts.items()},
        places=counts,
        rejected={},
        dead_letters=0,
        warnings=[],
        settings={},
        statistics=statistics.summaries(),
        ndvi_relation=statistics.relations(),
        shards=shards,
        sources=[],
    )
    (folder / DATASET_FILE).write_text(metadata.to_json())
    return folder


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> Path:
    """Eight training, three validation and two test patches with NDVI."""
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
