"""A scene checks its own result: how good would it be one scale coarser, where truth is known?

LST of 1 km, degraded once more, is the input at 4 km, and LST itself the truth at 1 km. The model
refines that with guides and without, and both errors can be seen. They decide in each part of the
scene how far the guides are followed, on ground from which the model has learnt nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.grids.degradation import GaussianPsf, degrade
from keras_lstsr.grids.resample import upsample_bicubic

Array = NDArray[np.float32]
Refine = Callable[[Array, Mapping[str, Array]], Array]
"""Refines LST ``[h, w]`` with guides ``[f·h, f·w]``, all in arrays."""

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


@dataclass(frozen=True, eq=False)
class SelfCheck:
    """What a scene says of its own result.

    Attributes:
        trust: Part of the guided detail that the result has, ``[h, w]``, 0 to 1.
        bicubic_kelvin: Root mean square error of bicubic upsampling, one scale coarser.
        alone_kelvin: That of the model without guides.
        guided_kelvin: That of the model with guides.
        mean_trust: Of the pixels with LST.
    """

    trust: Array
    bicubic_kelvin: float
    alone_kelvin: float
    guided_kelvin: float
    mean_trust: float

    def as_attributes(self) -> dict[str, float]:
        """Returns the figures as attributes of a raster."""
        names = ("bicubic_kelvin", "alone_kelvin", "guided_kelvin", "mean_trust")
        return {f"self_check_{name}": round(getattr(self, name), 4) for name in names}

    def notes(self) -> list[str]:
        """Says in a sentence where the guides help little."""
        if self.mean_trust >= _SHARE_TO_TELL:
            return []
        return [
            f"A check one scale coarser gives an error of {self.guided_kelvin:.2f} K with the "
            f"guides and of {self.alone_kelvin:.2f} K without them: the result has "
            f"{self.mean_trust:.0%} of their detail."
        ]


def self_check(
    lst_kelvin: Array, guides: Mapping[str, Array], factor: int, refine: Refine
) -> SelfCheck | None:
    """Finds out how far a scene's guides are to be followed.

    The trust is ``1 / (1 + (g / a)¹⁶)`` with the root mean square errors g with guides and a
    without, both in a Gaussian window of 10 LST pixels: a half where they are alike, above 0.97
    where guides take a fifth of the error away.

    Args:
        lst_kelvin: ``[h, w]``, NaN where missing.
        guides: By name, ``[f·h, f·w]``, NaN where missing.
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
    estimates = (bicubic, refine(coarser, {}), refine(coarser, under))
    squared = [((each - lst)[:height, :width]).astype(np.float64) ** 2 for each in estimates]
    compared = np.isfinite(sum(squared))
    if compared.sum() < _FEWEST_PIXELS:
        return None
    alone, guided = (_windowed(each, compared) + _LEAST_ERROR_KELVIN**2 for each in squared[1:])
    trust = 1 / (1 + (guided / alone) ** (_SHARPNESS / 2))
    rmse = [float(np.sqrt(each[compared].mean())) for each in squared]
    mean = float(trust[np.isfinite(lst_kelvin)].mean())
    return SelfCheck(trust.astype(np.float32), rmse[0], rmse[1], rmse[2], mean)


def _windowed(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Means of what is known in a Gaussian window; far from it, the mean of the scene."""
    total = ndimage.gaussian_filter(np.where(known, values, 0.0), _WINDOW_PIXELS)
    weight = ndimage.gaussian_filter(known.astype(np.float64), _WINDOW_PIXELS)
    return (total + _SCENE_SHARE * values[known].mean()) / (weight + _SCENE_SHARE)
