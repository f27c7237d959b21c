"""Records folders made by hand, without a Beam job."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from keras_lstsr.records.codec import encode_patch
from keras_lstsr.records.patches import CutSettings, Encoding, Patch, PatchKey
from keras_lstsr.records.schema import SPLITS, ShardInfo, SourceInfo
from keras_lstsr.records.statistics import PatchStatistics
from keras_lstsr.records.summary import (
    SceneReport,
    ShardReport,
    dataset_metadata,
    records_digest,
)
from keras_lstsr.records.tfrecord import shard_bytes
from keras_lstsr.testing.samples import write_pairs

SIZE = 16


def coordinate_patch(number: int, split: str, *, with_ndvi: bool = True) -> Patch:
    """LST and NDVI that tell where each pixel lies: both are linear in the same coordinates."""
    rng = np.random.default_rng(number)
    slope = rng.uniform(-1, 1, 2)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    lst = 300 + number + slope[0] * rows + slope[1] * columns
    fine = (np.arange(4 * SIZE) + 0.5) / 4 - 0.5
    ndvi = (slope[0] * fine[:, None] + slope[1] * fine[None, :]) / 64
    return Patch(
        key=PatchKey("f" * 16, f"granule{number}", ("day", "night")[number % 2], 0, 0),
        lst_kelvin=lst.astype(np.float32),
        ndvi=ndvi.astype(np.float32) if with_ndvi else None,
        product="LST_GEOTIFF",
        tile="",
        acquisition_date="2020-01-01",
        place=f"place{number}",
        split=split,
        crs_wkt="LOCAL_CS[]",
        transform=(1000.0, 0.0, 0.0, 0.0, -1000.0, 0.0),
        lst_encoding=Encoding(),
    )


def write_records(folder: Path, patches: list[Patch], shards: int = 2) -> Path:
    """Writes a records folder as the job does."""
    folder.mkdir()
    reports = []
    for split in SPLITS:
        chosen = [patch for patch in patches if patch.split == split]
        for number in range(min(shards, len(chosen))):
            records = [encode_patch(patch) for patch in chosen[number::shards]]
            name = f"{split}-{number:05d}-of-{min(shards, len(chosen)):05d}.tfrecord.gz"
            content = shard_bytes(records)
            (folder / name).write_bytes(content)
            info = ShardInfo(
                file=name, records=len(records), sha256=hashlib.sha256(content).hexdigest()
            )
            reports.append(ShardReport(split, number, info, "", records_digest(records)))
    training = [
        PatchStatistics.of_patch(patch.lst_kelvin, patch.ndvi, patch.day_night, 4)
        for patch in patches
        if patch.split == "train"
    ]
    statistics = reduce(PatchStatistics.merge, training, PatchStatistics())
    source = SourceInfo(
        path="lst.tif",
        role="lst",
        sha256="f" * 64,
        granule_id="lst.tif",
        product="LST_GEOTIFF",
        version="",
        tile="",
        acquisition_date="",
        pixels=1,
    )
    scene = SceneReport(
        source,
        statistics,
        dict(Counter((patch.split, patch.place) for patch in patches)),
        dict(Counter((patch.split, patch.day_night) for patch in patches)),
    )
    has_guide = all(patch.ndvi is not None for patch in patches)
    settings = CutSettings(patch_size=SIZE, stride=SIZE, need_ndvi=has_guide)
    metadata = dataset_metadata([scene], [], reports, statistics, 0, settings, {})
    (folder / "dataset.json").write_text(metadata.to_json())
    return folder


@pytest.fixture
def records(tmp_path) -> Callable[..., Path]:
    """Writes a records folder with so many patches per split; more options as keywords."""

    def make(train=12, validation=4, test=0, *, with_ndvi=True, shards=2, name="records") -> Path:
        counts = dict(zip(SPLITS, (train, validation, test), strict=True))
        patches = [
            coordinate_patch(100 * i + number, split, with_ndvi=with_ndvi)
            for i, (split, count) in enumerate(counts.items())
            for number in range(count)
        ]
        return write_records(tmp_path / name, patches, shards)

    return make


@pytest.fixture(scope="session")
def pairs_dir(tmp_path_factory) -> Path:
    """Four pairs in two groups, truths one pixel down and right of where they are; read only."""
    return write_pairs(tmp_path_factory.mktemp("pairs"))
