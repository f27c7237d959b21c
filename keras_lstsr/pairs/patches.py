"""Patches of pairs for training: cut at random, and varied in ways that keep the physics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.config import AugmentationConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import upsample_nearest
from keras_lstsr.pairs.training_pairs import TrainingPair

FloatArray = NDArray[np.float32]

# Clouds and gaps are fields of noise of this width, in pixels of a 24-pixel patch, cut at a level.
_GAP_WIDTH_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Patch:
    """A part of a pair.

    Attributes:
        lst_kelvin: Coarse LST ``[n, n]``.
        ndvi: NDVI ``[n · f, n · f]``.
        truth_kelvin: True fine LST ``[n · f, n · f]``, NaN where nothing is learnt.
    """

    lst_kelvin: FloatArray
    ndvi: FloatArray
    truth_kelvin: FloatArray


class PatchSampler:
    """Cuts patches at random from pairs.

    Every place of a patch is as likely as any other: pairs of one size count by how many of their
    patches have enough truth.

    Args:
        pairs: Where to cut; smaller ones than a patch are filled up with NaN.
        size: Coarse pixels along a patch's side.
        min_valid_share: Part of a patch's fine pixels with truth, at least.

    Raises:
        ConfigError: If no patch has enough truth.
    """

    def __init__(self, pairs: Sequence[TrainingPair], size: int, min_valid_share: float) -> None:
        self._size = size
        self._pairs: list[Patch] = []
        corners: list[NDArray[np.intp]] = []
        for pair in pairs:
            whole = _filled_up(pair, size)
            places = _patches_with_truth(whole, size, min_valid_share)
            if len(places):
                number = np.full((len(places), 1), len(self._pairs))
                corners.append(np.hstack([number, places]))
                self._pairs.append(whole)
        if not corners:
            raise ConfigError(
                "no patch of the pairs has enough truth",
                field="training.min_valid_share",
                found=min_valid_share,
                action="Lower it, or training.patch_size.",
            )
        self._corners = np.concatenate(corners)

    def __len__(self) -> int:
        """Returns how many patches there are to choose from."""
        return len(self._corners)

    def draw(self, rng: np.random.Generator) -> Patch:
        """Cuts a patch at random."""
        number, row, column = self._corners[rng.integers(len(self._corners))]
        whole, size = self._pairs[number], self._size
        factor = _factor(whole)
        coarse = slice(row, row + size), slice(column, column + size)
        fine = tuple(slice(part.start * factor, part.stop * factor) for part in coarse)
        return Patch(whole.lst_kelvin[coarse], whole.ndvi[fine], whole.truth_kelvin[fine])


def augmented(
    patch: Patch, settings: AugmentationConfig, rng: np.random.Generator, *, turns: bool = True
) -> Patch:
    """Varies a patch at random.

    What happens to LST happens to its truth: turns, contrast about the patch's mean and warmth.
    Noise, clouds, and everything about NDVI happen to the inputs alone; the truth stays what it is.

    Args:
        patch: As cut; not changed.
        settings: How much of what.
        rng: Draws.
        turns: Turn and flip the whole patch.

    Returns:
        The patch that the model is to see.
    """
    if turns:
        patch = _turned(patch, int(rng.integers(8)))
    lst, truth = _warmed(patch.lst_kelvin, patch.truth_kelvin, settings, rng)
    ndvi = _other_ndvi(patch.ndvi, settings, rng)
    lst = lst + _normal(rng, settings.lst_noise_kelvin, lst.shape)
    if rng.random() < settings.cloud_share:
        lst = np.where(_blobs(lst.shape, settings, rng), np.nan, lst)
    if rng.random() < settings.guide_absent_share:
        ndvi = np.full_like(ndvi, np.nan)
    elif rng.random() < settings.guide_gap_share:
        ndvi = np.where(_blobs(ndvi.shape, settings, rng), np.nan, ndvi)
    return Patch(*(np.asarray(part, np.float32) for part in (lst, ndvi, truth)))


def _warmed(
    lst: FloatArray, truth: FloatArray, settings: AugmentationConfig, rng: np.random.Generator
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Stretches LST and truth about the mean of LST, and makes both warmer or colder."""
    contrast = np.exp(_normal(rng, settings.lst_contrast))
    offset = _normal(rng, settings.lst_offset_kelvin)
    other = rng.uniform(-1, 1)
    if rng.random() < settings.other_contrast_share:
        contrast = np.asarray(other)
    middle = _mean(lst)
    lst, truth = ((middle + offset + contrast * (each - middle)) for each in (lst, truth))
    return lst, truth


def _other_ndvi(
    ndvi: FloatArray, settings: AugmentationConfig, rng: np.random.Generator
) -> NDArray[np.floating]:
    contrast = np.exp(_normal(rng, settings.guide_contrast))
    offset = _normal(rng, settings.guide_offset)
    middle = _mean(ndvi)
    varied = middle + offset + contrast * (ndvi - middle)
    varied = varied + _normal(rng, settings.guide_noise, ndvi.shape)
    if rng.random() < settings.guide_shift_share:
        shift = rng.normal(0, settings.guide_shift_pixels, 2)
        varied = ndimage.shift(varied, shift, order=1, mode="nearest")
    return varied


def _normal(
    rng: np.random.Generator, spread: float, shape: tuple[int, ...] | None = None
) -> NDArray:
    # Drawn also where the spread is zero: a setting changes nothing but what it names.
    return np.asarray(spread * rng.standard_normal(shape))


def _mean(values: NDArray[np.floating]) -> float:
    valid = np.isfinite(values)
    return float(values[valid].mean(dtype=np.float64)) if valid.any() else 0.0


def _blobs(
    shape: tuple[int, ...], settings: AugmentationConfig, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Marks blobs that cover a share of the patch drawn between the two of ``gap_cover``."""
    share = rng.uniform(*settings.gap_cover)
    field = ndimage.gaussian_filter(rng.normal(size=shape), max(1.0, _GAP_WIDTH_SHARE * shape[0]))
    return np.asarray(field < np.quantile(field, share), dtype=np.bool_)


def _turned(patch: Patch, symmetry: int) -> Patch:
    def turn(values: FloatArray) -> FloatArray:
        turned = np.rot90(values, symmetry % 4)
        return turned[:, ::-1] if symmetry >= 4 else turned

    return Patch(turn(patch.lst_kelvin), turn(patch.ndvi), turn(patch.truth_kelvin))


def _factor(patch: Patch) -> int:
    return int(patch.ndvi.shape[0] // patch.lst_kelvin.shape[0])


def _filled_up(pair: TrainingPair, size: int) -> Patch:
    whole = Patch(pair.lst_kelvin, pair.ndvi, pair.truth_kelvin)
    factor = _factor(whole)
    rows, columns = (max(0, size - side) for side in pair.lst_kelvin.shape)
    parts = [(whole.lst_kelvin, 1), (whole.ndvi, factor), (whole.truth_kelvin, factor)]
    return Patch(
        *(
            np.pad(values, ((0, rows * by), (0, columns * by)), constant_values=np.nan)
            for values, by in parts
        )
    )


def _patches_with_truth(whole: Patch, size: int, min_valid_share: float) -> NDArray[np.intp]:
    """Returns the upper left corners, in coarse pixels, of patches with enough truth ``[N, 2]``."""
    factor = _factor(whole)
    # Under a coarse gap the model answers NaN: truth there teaches nothing.
    seen = upsample_nearest(np.isfinite(whole.lst_kelvin).astype(np.float32), factor) > 0
    valid = np.isfinite(whole.truth_kelvin) & seen
    total = np.pad(valid.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))[::factor, ::factor]
    counts = total[size:, size:] - total[:-size, size:] - total[size:, :-size]
    counts = counts + total[:-size, :-size]
    return np.argwhere(counts >= min_valid_share * (size * factor) ** 2)
