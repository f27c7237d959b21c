"""Small records folders, written without a Beam job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import (
    SCALE_FACTOR,
    SPLITS,
    DatasetMetadata,
    GridInfo,
    SceneInfo,
    Split,
)
from keras_lstsr.records.writer import write_records
from keras_lstsr.testing.rasters import utm_grid

SIDE_PIXELS = 16
COUNTS: dict[Split, int] = {"train": 8, "validation": 3, "test": 2}


def coordinate_sample(
    number: int,
    split: Split = "train",
    *,
    guides: Sequence[str] = ("ndvi",),
    truth: bool = False,
    side: int = SIDE_PIXELS,
) -> Sample:
    """Makes a sample that tells where each pixel lies.

    LST is 300 K + ``number`` and a plane of a slope of its own; the truth is the same plane on the
    fine grid, and each guide its slope alone, divided by 64. The number also decides on slope and
    time of day.
    """
    slope = np.random.default_rng(number).uniform(-1, 1, 2)
    coarse, fine = np.arange(side), (np.arange(4 * side) + 0.5) / 4 - 0.5

    def plane(at: np.ndarray) -> np.ndarray:
        return np.asarray(slope[0] * at[:, None] + slope[1] * at[None, :])

    return Sample(
        name=f"scene{number}",
        lst_kelvin=(300 + number + plane(coarse)).astype(np.float32),
        guides={name: (plane(fine) / 64).astype(np.float32) for name in guides},
        truth_kelvin=(300 + number + plane(fine)).astype(np.float32) if truth else None,
        grid=utm_grid((side, side), 1000.0, column=side * number),
        day_night=("day", "night")[number % 2],
        product="LST_GEOTIFF",
        acquisition_date="2020-01-01",
        place=f"place{number}",
        split=split,
        scene=f"scene{number}",
        group=f"group{number}",
    )


def vegetated_sample(
    number: int,
    split: Split = "train",
    *,
    guides: Sequence[str] = ("ndvi",),
    truth: bool = False,
    side: int = 32,
) -> Sample:
    """Makes a sample to learn from: temperature falls where vegetation rises, at every scale.

    Another number is other ground; so is another split. A truth follows NDVI exactly.
    """
    rng = np.random.default_rng([number, *split.encode()])
    fine = side * SCALE_FACTOR
    rough = np.zeros((fine, fine))
    for sigma in (2, 6, 16):
        noise = rng.standard_normal((fine, fine))
        rough += sigma * ndimage.gaussian_filter(noise, sigma, mode="wrap")
    ndvi = (0.5 + 0.15 * rough / rough.std()).astype(np.float32)
    level = 305 + rng.normal(0, 3)
    name = f"{split}-{number}"
    return Sample(
        name=name,
        lst_kelvin=(level - 20 * block_mean(ndvi, SCALE_FACTOR)).astype(np.float32),
        guides=dict.fromkeys(guides, ndvi),
        truth_kelvin=(level - 20 * ndvi).astype(np.float32) if truth else None,
        grid=utm_grid((side, side), 1000.0, row=side * SPLITS.index(split), column=side * number),
        day_night="day",
        product="MOD11A1",
        tile="h18v04",
        acquisition_date="2021-08-15",
        place=name,
        split=split,
        scene=name,
        group=name,
    )


def write_samples(
    folder: Path, samples: Sequence[Sample], *, num_shards: int | None = None
) -> DatasetMetadata:
    """Writes samples that all hold the same guides, each a scene of its own, as records."""
    first = samples[0]
    settings = CutSettings(guides=tuple(first.guides), truth=first.truth_kelvin is not None)
    scenes = {
        sample.scene: SceneInfo(
            group=sample.group,
            origin=sample.origin,
            day_night=sample.day_night,
            grid=GridInfo.of(sample.grid),
            files={f"{sample.scene}.tif": "0" * 64},
        )
        for sample in samples
    }
    return write_records(folder, samples, scenes, settings, num_shards=num_shards)


def write_made_records(
    folder: Path,
    counts: Mapping[Split, int] = COUNTS,
    *,
    make: Callable[..., Sample] = vegetated_sample,
    num_shards: int | None = 1,
    **options: Any,
) -> Path:
    """Writes so many made samples of each split as records, and returns the folder.

    Args:
        folder: Where to.
        counts: Samples by split; they are numbered from 0, 100 and 200 on; those of
            ``coordinate_sample``, which get warmer by 1 K each, from 0, 25 and 50 on.
        make: Makes a sample of a number and a split.
        num_shards: Shards of each split.
        **options: Of ``make``.
    """
    apart = 25 if make is coordinate_sample else 100
    samples = [
        make(apart * i + number, split, **options)
        for i, split in enumerate(SPLITS)
        for number in range(counts.get(split, 0))
    ]
    write_samples(folder, samples, num_shards=num_shards)
    return folder
