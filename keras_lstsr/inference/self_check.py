"""A scene checks its own result: how good would it be one scale coarser, where truth is known?

LST of 1 km, degraded once more, is the input at 4 km, and LST itself the truth at 1 km. The model
refines that with guides and without, and both errors can be seen. They decide in each part of the
scene how far the guides are followed, and how wide the intervals are, on ground from which the
model has learnt nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.grids.degradation import GaussianPsf, degrade
from keras_lstsr.grids.resample import upsample_bicubic

Array = NDArray[np.float32]
Refine = Callable[[Array, Mapping[str, Array]], tuple[Array, Array | None]]
"""Refines LST ``[h, w]`` with guides ``[f·h, f·w]``; gives its standard deviation or None, too."""

# Standard deviation of the Gaussian window in which errors are averaged, in LST pixels.
_WINDOW_PIXELS = 10.0
# Least parts of a pixel's area that must be there at the coarser scale.
_LEAST_OF_LST, _LEAST_OF_GUIDE = 0.7, 0.5
# Errors below are noise of LST.
_LEAST_ERROR_KELVIN = 0.1
_SHARPNESS = 16
# Fewer pixels tell too little.
_FEWEST_PIXELS = 100
# Of a window's weight, that of the whole scene.
_SCENE_SHARE = 0.01
_SHARE_TO_TELL = 0.8
# Errors at the coarser scale foretell those at the finer one by halves.
_STD_POWER, _STD_FACTORS = 0.4, (1 / 3, 3.0)


@dataclass(frozen=True, eq=False)
class SelfCheck:
    """What a scene says of its own result.

    Attributes:
        trust: Part of the guided detail that the result has, ``[h, w]``, 0 to 1; None where there
            are no guides.
        std_factor: What the model's standard deviations are multiplied with, ``[h, w]``; None where
            it gives none.
        bicubic_kelvin: Root mean square error of bicubic upsampling, one scale coarser.
        alone_kelvin: That of the model without guides.
        guided_kelvin: That of the model with guides; NaN where there are none.
        mean_trust: Of the pixels with LST; NaN where there are no guides.
        mean_std_factor: Likewise; NaN where the model gives no standard deviation.
    """

    trust: Array | None
    std_factor: Array | None
    bicubic_kelvin: float
    alone_kelvin: float
    guided_kelvin: float
    mean_trust: float
    mean_std_factor: float

    def as_attributes(self) -> dict[str, float]:
        """Returns the figures as attributes of a raster."""
        return {
            f"self_check_{each.name}": round(value, 4)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), float) and not math.isnan(value)
        }

    def notes(self) -> list[str]:
        """Says in a sentence where the guides help little."""
        if not self.mean_trust < _SHARE_TO_TELL:
            return []
        return [
            f"A check one scale coarser gives an error of {self.guided_kelvin:.2f} K with the "
            f"guides and of {self.alone_kelvin:.2f} K without them: the result has "
            f"{self.mean_trust:.0%} of their detail."
        ]


def self_check(
    lst_kelvin: Array, guides: Mapping[str, Array], factor: int, refine: Refine
) -> SelfCheck | None:
    """Finds out how far a scene's guides are to be followed, and how wide its intervals are.

    The trust is ``1 / (1 + (g / a)¹⁶)`` with the root mean square errors g with guides and a
    without, both in a Gaussian window of 10 LST pixels: a half where they are alike, above 0.97
    where guides take a fifth of the error away. Standard deviations are multiplied with
    ``(e / s)^0.4``, a third to three, with the root mean square error e and the root mean square
    standard deviation s of the result at the coarser scale.

    Args:
        lst_kelvin: ``[h, w]``, NaN where missing.
        guides: By name, ``[f·h, f·w]``, NaN where missing; those that can be checked.
        factor: f.
        refine: The model; without guides it gets none.

    Returns:
        What came out; None where less than 100 pixels can be compared.
    """
    height, width = lst_kelvin.shape
    padding = [(0, -height % factor), (0, -width % factor)]
    lst = np.pad(lst_kelvin, padding, mode="edge")
    psf = GaussianPsf.of_fwhm(1.0)
    coarser = degrade(lst, factor, "psf", psf=psf, min_valid_fraction=_LEAST_OF_LST)
    known = np.isfinite(coarser)
    if known.sum() * factor**2 < _FEWEST_PIXELS:
        return None
    fine_padding = [(0, factor * after) for _, after in padding]
    under = {
        name: degrade(
            np.pad(guide, fine_padding, mode="edge"),
            factor,
            "area",
            min_valid_fraction=_LEAST_OF_GUIDE,
        )
        for name, guide in guides.items()
    }
    bicubic = upsample_bicubic(np.where(known, coarser, np.nanmean(coarser)), factor)
    tried = [refine(coarser, {})]
    if guides:
        tried.append(refine(coarser, under))
    errors = [(each - lst)[:height, :width] for each in (bicubic, *(kelvin for kelvin, _ in tried))]
    squared = [each.astype(np.float64) ** 2 for each in errors]
    compared = np.isfinite(sum(squared))
    if compared.sum() < _FEWEST_PIXELS:
        return None
    local = [_windowed(each, compared) + _LEAST_ERROR_KELVIN**2 for each in squared[1:]]
    trust = 1 / (1 + (local[1] / local[0]) ** (_SHARPNESS / 2)) if guides else None
    factors = []
    for square, (_, std) in zip(local, tried, strict=True):
        if std is not None:
            variance = _windowed(std[:height, :width].astype(np.float64) ** 2, compared)
            ratio = square / (variance + _LEAST_ERROR_KELVIN**2)
            factors.append(np.clip(ratio ** (_STD_POWER / 2), *_STD_FACTORS))
    std_factor = None
    if factors:
        own = factors[0] if trust is None else trust * factors[1] + (1 - trust) * factors[0]
        std_factor = own.astype(np.float32)
    rmse = [float(np.sqrt(each[compared].mean())) for each in squared]
    there = np.isfinite(lst_kelvin)
    return SelfCheck(
        None if trust is None else trust.astype(np.float32),
        std_factor,
        rmse[0],
        rmse[1],
        rmse[2] if guides else math.nan,
        math.nan if trust is None else float(trust[there].mean()),
        math.nan if std_factor is None else float(std_factor[there].mean()),
    )


def _windowed(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Means of what is known in a Gaussian window; far from it, the mean of the scene."""
    total = ndimage.gaussian_filter(np.where(known, values, 0.0), _WINDOW_PIXELS)
    weight = ndimage.gaussian_filter(known.astype(np.float64), _WINDOW_PIXELS)
    return (total + _SCENE_SHARE * values[known].mean()) / (weight + _SCENE_SHARE)
