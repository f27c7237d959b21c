"""Samples varied for training: crops drawn at random, and changes that keep the physics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.config import AugmentationConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import finer_window, upsample_nearest
from keras_lstsr.records.arrays import Batch, Rasters, batch_of, filled_up, turned
from keras_lstsr.records.batch_settings import BatchSettings

Floats = NDArray[np.floating]

# Threads that draw crops while the network computes. NumPy lets go of Python's lock for most of
# the work, and two keep up with any processor that the network trains on.
FEEDING_THREADS = 2
# Clouds and gaps are fields of noise of this width, in parts of a crop's side, cut at a level.
_GAP_WIDTH_SHARE = 0.1


class CropSampler:
    """Draws crops at random; smaller samples are filled up with NaN.

    Every place of a crop is as likely as any other: samples of one size count by how many of
    their crops have enough target.

    Raises:
        ConfigError: If no crop has enough target.
    """

    def __init__(
        self, samples: Sequence[Rasters], size: int, min_valid_share: float, factor: int
    ) -> None:
        self._samples, self._size, self._factor = samples, size, factor
        corners: list[NDArray[np.intp]] = [np.empty((0, 3), np.intp)]
        for number, sample in enumerate(samples):
            whole = filled_up(sample, size, size, factor)
            places = _crops_with_target(whole, size, min_valid_share, factor)
            corners.append(np.insert(places, 0, number, axis=1))
        self._corners = np.concatenate(corners)
        if not len(self._corners):
            raise ConfigError(
                "no crop of the records has enough truth",
                field="data.min_valid_share",
                found=min_valid_share,
                action="Lower it, or data.crop_pixels.",
            )

    def __len__(self) -> int:
        """Returns how many crops there are to choose from."""
        return len(self._corners)

    def draw(self, rng: np.random.Generator) -> Rasters:
        """Draws a crop at random."""
        number, row, column = self._corners[rng.integers(len(self._corners))].tolist()
        size, factor = self._size, self._factor
        whole = filled_up(self._samples[number], size, size, factor)
        coarse = slice(row, row + size), slice(column, column + size)
        fine = finer_window(coarse, factor)
        return whole.mapped(lambda values: values[coarse], lambda values: values[fine])


class CropBatches:
    """Batches of crops, varied anew each time.

    Batch ``number`` depends on the seed and the number alone, not on who asks for it and when: a
    run can be repeated, and goes on in the middle, on any backend and with any number of threads.

    Raises:
        ConfigError: If no crop has enough target.
    """

    def __init__(
        self, samples: Sequence[Rasters], settings: BatchSettings, factor: int, seed: int
    ) -> None:
        self._settings, self._factor, self._seed = settings, factor, seed
        size = settings.crop_side(factor)
        share = settings.degraded_share
        kinds = [list(samples)]
        if share is not None:
            kinds = [[s for s in samples if s.observed is observed] for observed in (True, False)]
        self._sources = [
            CropSampler(kind, size, settings.min_valid_share, factor) for kind in kinds if kind
        ]
        self._shares = [1 - share, share] if share is not None and all(kinds) else [1.0]

    def batch(self, number: int) -> Batch:
        """Returns a batch: inputs and target as ``make_dataset`` describes them."""
        variation = self._settings.variation
        before, seen = [], []
        for place in range(self._settings.batch_size):
            rng = np.random.default_rng([self._seed, number, place])
            source = self._sources[rng.choice(len(self._sources), p=self._shares)]
            crop = source.draw(rng)
            if self._settings.augment:
                crop = turned(crop, int(rng.integers(8)))
            before.append(crop)
            seen.append(crop if variation is None else varied(crop, variation, rng))
        return batch_of(seen, self._settings, self._factor, before)


def varied(rasters: Rasters, settings: AugmentationConfig, rng: np.random.Generator) -> Rasters:
    """Varies rasters at random; returns what the model is to see.

    What happens to LST happens to its truth: contrast about the mean and warmth. Noise, clouds, and
    everything about guides happen to the inputs alone; the truth stays what it is.
    """
    lst, truth = _warmed(rasters.lst_kelvin, rasters.truth_kelvin, settings, rng)
    guides = {name: _other_guide(guide, settings, rng) for name, guide in rasters.guides.items()}
    lst = lst + _normal(rng, settings.lst_noise_kelvin, lst.shape)
    if rng.random() < settings.cloud_share:
        lst = np.where(_blobs(lst.shape, settings, rng), np.nan, lst)
    for name, guide in guides.items():
        if rng.random() < settings.guide_absent_share:
            guides[name] = np.full_like(guide, np.nan)
        elif rng.random() < settings.guide_gap_share:
            guides[name] = np.where(_blobs(guide.shape, settings, rng), np.nan, guide)
    return Rasters(
        lst.astype(np.float32),
        {name: guide.astype(np.float32) for name, guide in guides.items()},
        None if truth is None else truth.astype(np.float32),
        rasters.observed,
    )


def _warmed(
    lst: Floats, truth: Floats | None, settings: AugmentationConfig, rng: np.random.Generator
) -> tuple[Floats, Floats | None]:
    """Stretches LST and truth about the mean of LST, and makes both warmer or colder."""
    contrast = np.exp(_normal(rng, settings.lst_contrast))
    offset = _normal(rng, settings.lst_offset_kelvin)
    other = rng.uniform(-1, 1)
    if rng.random() < settings.other_contrast_share:
        contrast = np.asarray(other)
    middle = _mean(lst)

    def warmed(values: Floats) -> Floats:
        return middle + offset + contrast * (values - middle)

    return warmed(lst), None if truth is None else warmed(truth)


def _other_guide(guide: Floats, settings: AugmentationConfig, rng: np.random.Generator) -> Floats:
    contrast = np.exp(_normal(rng, settings.guide_contrast))
    offset = _normal(rng, settings.guide_offset)
    middle = _mean(guide)
    other = middle + offset + contrast * (guide - middle)
    other = other + _normal(rng, settings.guide_noise, guide.shape)
    if rng.random() < settings.guide_shift_share:
        shift = rng.normal(0, settings.guide_shift_pixels, 2)
        other = ndimage.shift(other, shift, order=1, mode="nearest")
    return other


def _normal(
    rng: np.random.Generator, spread: float, shape: tuple[int, ...] | None = None
) -> NDArray:
    # Drawn also where the spread is zero: a setting changes nothing but what it names.
    return np.asarray(spread * rng.standard_normal(shape))


def _mean(values: Floats) -> float:
    valid = np.isfinite(values)
    return float(values[valid].mean(dtype=np.float64)) if valid.any() else 0.0


def _blobs(
    shape: tuple[int, ...], settings: AugmentationConfig, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Marks blobs that cover a share drawn between the two of ``gap_cover``."""
    share = rng.uniform(*settings.gap_cover)
    field = ndimage.gaussian_filter(rng.normal(size=shape), max(1.0, _GAP_WIDTH_SHARE * shape[0]))
    return np.asarray(field < np.quantile(field, share), dtype=np.bool_)


def _crops_with_target(
    whole: Rasters, size: int, min_valid_share: float, factor: int
) -> NDArray[np.intp]:
    """Returns the upper left corners, in input pixels, of crops with enough target ``[N, 2]``."""
    # Under a gap of the input the model answers NaN: a target there teaches nothing.
    seen = np.isfinite(whole.lst_kelvin)
    if whole.truth_kelvin is None:
        valid = seen.astype(np.int64) * factor**2
    else:
        known = np.isfinite(whole.truth_kelvin) & upsample_nearest(seen, factor)
        height, width = seen.shape
        valid = known.reshape(height, factor, width, factor).sum(axis=(1, 3), dtype=np.int64)
    total = np.pad(valid.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts = total[size:, size:] - total[:-size, size:] - total[size:, :-size]
    counts = counts + total[:-size, :-size]
    return np.argwhere(counts >= min_valid_share * (size * factor) ** 2)
