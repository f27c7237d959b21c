"""Records with something to learn in them, a tiny experiment, and a training that is killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import SCALE_FACTOR, SPLITS, Split
from keras_lstsr.testing.records import write_samples
from keras_lstsr.testing.samples import utm_grid

SIDE_PIXELS = 32
COUNTS: dict[Split, int] = {"train": 8, "validation": 3, "test": 2}

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {"width": 4, "depth": 1, "bridge_blocks": 0},
    "training": {"epochs": 3, "batch_size": 4, "seed": 3},
}
"""Three epochs of a network of width 4 and depth 1."""


def textured_sample(
    split: Split,
    number: int,
    *,
    guide: bool = True,
    truth: bool = False,
    side: int = SIDE_PIXELS,
) -> Sample:
    """Makes a sample whose temperature falls where vegetation rises, with detail at every scale.

    Args:
        split: Its split; another one has other texture, and other ground.
        number: Another one has other texture, on the ground beside.
        guide: Whether it holds NDVI.
        truth: Whether it holds the fine truth, which NDVI tells to the last digit.
        side: LST pixels along a side.
    """
    rng = np.random.default_rng([number, *split.encode()])
    fine = side * SCALE_FACTOR
    rough = np.zeros((fine, fine))
    for sigma in (2, 6, 16):
        noise = rng.standard_normal((fine, fine))
        rough += sigma * ndimage.gaussian_filter(noise, sigma, mode="wrap")
    ndvi = (0.5 + 0.15 * rough / rough.std()).astype(np.float32)
    warmth = rng.normal(0, 3)
    name = f"{split}-{number}"
    return Sample(
        name=name,
        lst_kelvin=(305 - 20 * block_mean(ndvi, SCALE_FACTOR) + warmth).astype(np.float32),
        guides={"ndvi": ndvi} if guide else {},
        truth_kelvin=(305 - 20 * ndvi + warmth).astype(np.float32) if truth else None,
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


def write_textured_records(
    folder: Path,
    counts: Mapping[Split, int] = COUNTS,
    *,
    guide: bool = True,
    truth: bool = False,
    side: int = SIDE_PIXELS,
) -> Path:
    """Writes so many textured samples of each split as records, and returns their folder."""
    samples = [
        textured_sample(split, number, guide=guide, truth=truth, side=side)
        for split, count in counts.items()
        for number in range(count)
    ]
    write_samples(folder, samples, num_shards=1)
    return folder


def with_settings(config: ExperimentConfig, section: str, **settings: Any) -> ExperimentConfig:
    """Returns the settings with some of a section replaced, validated again."""
    content = config.model_dump()
    content[section] |= settings
    return ExperimentConfig.from_dict(content)


class Killed(BaseException):
    """What no handler of errors expects."""


def killing(method: Callable[..., Any], call: int) -> Callable[..., Any]:
    """Wraps a method that dies at its ``call``-th call, before it does anything."""
    calls = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return method(*args, **kwargs)

    return wrapped
