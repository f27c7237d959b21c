"""Samples varied for training: crops drawn at random, and changes that keep the physics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.config import AugmentationConfig
from keras_lstsr.config.guides import GUIDES
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

    Groups of samples on the same ground are drawn by the number of their crops with enough target,
    those of degraded samples by a power of it; within a group every place of a crop is as likely as
    any other.

    Args:
        samples: Of one kind, or of both.
        size: Input pixels along a crop's side.
        min_valid_share: Part of a crop's target pixels that have a value, at least.
        factor: Fine pixels along a coarse pixel's side.
        group_power: See ``DataConfig``.

    Raises:
        ConfigError: If no crop has enough target.
    """

    def __init__(
        self,
        samples: Sequence[Rasters],
        size: int,
        min_valid_share: float,
        factor: int,
        group_power: float = 1.0,
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
        # The same name may stand for other ground among the other kind.
        numbered: dict[tuple[bool, str], int] = {}
        of_sample = [numbered.setdefault(_ground(each), len(numbered)) for each in samples]
        of_corner = np.asarray(of_sample)[self._corners[:, 0]]
        self._groups, self._power = numbered, group_power
        self._grouped = np.argsort(of_corner, kind="stable")
        self._counts = np.bincount(of_corner, minlength=len(numbered))
        powers = [1.0 if observed else group_power for observed, _ in numbered]
        weights = self._counts.astype(np.float64) ** powers
        self._weights = np.where(self._counts > 0, weights, 0.0)

    def __len__(self) -> int:
        """Returns how many crops there are to choose from."""
        return len(self._corners)

    def groups_beside(self, other: Rasters | None = None) -> int:
        """Returns of how many groups there are crops, that of other rasters not counted."""
        return int(np.count_nonzero(self._weights_beside(other)))

    def draw(self, rng: np.random.Generator, *, beside: Rasters | None = None) -> Rasters:
        """Draws a crop at random; ``beside`` other rasters, of another group than theirs."""
        if beside is None and self._power == 1:
            place = rng.integers(len(self._corners))
        else:
            weights = self._weights_beside(beside)
            group = rng.choice(len(weights), p=weights / weights.sum())
            first = self._counts[:group].sum()
            place = self._grouped[first + rng.integers(self._counts[group])]
        number, row, column = self._corners[place].tolist()
        size, factor = self._size, self._factor
        whole = filled_up(self._samples[number], size, size, factor)
        coarse = slice(row, row + size), slice(column, column + size)
        fine = finer_window(coarse, factor)
        return whole.mapped(lambda values: values[coarse], lambda values: values[fine])

    def _weights_beside(self, other: Rasters | None) -> NDArray[np.float64]:
        number = None if other is None else self._groups.get(_ground(other))
        if number is None:
            return self._weights
        weights = self._weights.copy()
        weights[number] = 0.0
        return weights


def _ground(rasters: Rasters) -> tuple[bool, str]:
    return rasters.observed, rasters.group


class CropBatches:
    """Batches of crops, varied anew each time.

    Batch ``number`` depends on the seed and the number alone, not on who asks for it and when: a
    run can be repeated, and goes on in the middle, on any backend and with any number of threads.

    Raises:
        ConfigError: If no crop has enough target, or decoys are wanted and there is one group only.
    """

    def __init__(
        self, samples: Sequence[Rasters], settings: BatchSettings, factor: int, seed: int
    ) -> None:
        self._settings, self._factor, self._seed = settings, factor, seed
        size = settings.crop_side(factor)
        share = settings.degraded_share
        kinds = [list(samples)]
        if len(settings.steps) > 1:
            share = settings.coarse_share
            kinds = [
                [s for s in samples if (s.truth_kelvin is not None) is known]
                for known in (False, True)
            ]
        elif share is not None:
            kinds = [[s for s in samples if s.observed is observed] for observed in (True, False)]
        self._sources = [
            CropSampler(kind, size, settings.min_valid_share, factor, settings.group_power)
            for kind in kinds
            if kind
        ]
        self._shares = [1 - share, share] if share is not None and all(kinds) else [1.0]
        degraded = not all(sample.observed for sample in samples)
        self._decoy_share = 0.0
        if settings.variation is not None and degraded:
            self._decoy_share = settings.variation.decoy_share
        if self._decoy_share and sum(source.groups_beside() for source in self._sources) < 2:
            raise ConfigError(
                "guides of other ground are wanted, and all crops lie on the same",
                field="data.variation.decoy_share",
                found=self._decoy_share,
                expected="0, or records of two groups or more",
            )

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
            # Nothing is drawn for what is off: batches of former settings stay what they were.
            if self._decoy_share and not crop.observed and rng.random() < self._decoy_share:
                crop = self._with_decoys(crop, rng)
            seen.append(crop if variation is None else varied(crop, variation, rng))
        return batch_of(seen, self._settings, self._factor, before)

    def _with_decoys(self, crop: Rasters, rng: np.random.Generator) -> Rasters:
        """Returns a crop whose guides, where it has them, are those of a crop of other ground."""
        shares = [
            share * (source.groups_beside(crop) > 0)
            for source, share in zip(self._sources, self._shares, strict=True)
        ]
        source = self._sources[rng.choice(len(shares), p=np.divide(shares, sum(shares)))]
        other = source.draw(rng, beside=crop)
        guides = {
            name: other.guides[name] if np.isfinite(guide).any() else guide
            for name, guide in crop.guides.items()
        }
        return replace(crop, guides=guides)


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
        if rng.random() < settings.absent_share(name):
            guides[name] = np.full_like(guide, np.nan)
        elif rng.random() < settings.guide_gap_share:
            guides[name] = np.where(_blobs(guide.shape, settings, rng), np.nan, guide)
    for name, guide in _with_further_gaps(guides, settings, rng).items():
        valid = GUIDES[name].valid_range if settings.clip_guides and name in GUIDES else None
        guides[name] = guide if valid is None else guide.clip(*valid)
    return replace(
        rasters,
        lst_kelvin=lst.astype(np.float32),
        guides={name: guide.astype(np.float32) for name, guide in guides.items()},
        truth_kelvin=None if truth is None else truth.astype(np.float32),
    )


def _with_further_gaps(
    guides: Mapping[str, Floats], settings: AugmentationConfig, rng: np.random.Generator
) -> dict[str, Floats]:
    """Scatters gaps of single pixels over guides, and leaves out all of them together.

    Nothing is drawn for a share of zero, so that batches of former settings stay what they were.
    """
    found = dict(guides)
    if settings.guide_scatter_share:
        for name, guide in guides.items():
            if rng.random() < settings.guide_scatter_share:
                share = rng.uniform(*settings.gap_cover)
                found[name] = np.where(rng.random(guide.shape) < share, np.nan, guide)
    if settings.all_absent_share and rng.random() < settings.all_absent_share:
        found = {name: np.full_like(guide, np.nan) for name, guide in guides.items()}
    return found


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
