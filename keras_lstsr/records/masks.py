"""What of a truth can be used, and where that lies."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

ASTER_MINIMUM_KELVIN = 270.0
"""What is colder in ASTER's LST is a ring that its resampling left."""

ASTER_ERODED_PIXELS = 6
"""By how much ASTER's usable pixels are eroded: the ring fades into good pixels."""


def usable_truth(truth: xr.DataArray) -> NDArray[np.bool_]:
    """Marks the pixels of a truth ``[H, W]`` in kelvin that are warm enough and far from others."""
    return eroded(np.asarray(truth.values) >= ASTER_MINIMUM_KELVIN, ASTER_ERODED_PIXELS)


def eroded(usable: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Erodes a mask ``[H, W]`` by the four neighbours, step by step; beyond the border is False."""
    if pixels == 0:
        return usable
    return np.asarray(ndimage.binary_erosion(usable, iterations=pixels), dtype=np.bool_)


def extent_of(marked: NDArray[np.bool_], margin: int = 0) -> tuple[slice, slice]:
    """Returns rows and columns of the box around all marked pixels, widened by a margin."""
    slices = []
    for axis, length in enumerate(marked.shape):
        where = np.flatnonzero(marked.any(axis=1 - axis))
        slices.append(
            slice(max(int(where[0]) - margin, 0), min(int(where[-1]) + 1 + margin, length))
        )
    return slices[0], slices[1]
