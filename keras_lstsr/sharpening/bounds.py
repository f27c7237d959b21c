"""What fine LST can be at most: the range of the coarse LST around it, and a part of its width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.grids.resample import blocks, upsample_nearest

RADIUS_PIXELS = 2
"""The range is that of the ``2 · radius + 1`` coarse pixels along a side around a pixel."""

OVERSHOOT = 0.75
"""How far fine LST may leave the range, as a part of the range's width."""

# Coarse rows that are bounded at a time, which bounds the memory.
_STRIP_ROWS = 64


def local_range(
    lst_kelvin: NDArray[np.floating], radius: int = RADIUS_PIXELS
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Returns the least and the greatest LST ``[h, w]`` of the window around each coarse pixel.

    Missing pixels and what lies beyond the border do not count; NaN where a window is empty.
    """
    missing = np.isnan(lst_kelvin)
    size = 2 * radius + 1
    lowest = ndimage.minimum_filter(
        np.where(missing, np.inf, lst_kelvin), size, mode="constant", cval=np.inf
    )
    highest = ndimage.maximum_filter(
        np.where(missing, -np.inf, lst_kelvin), size, mode="constant", cval=-np.inf
    )
    empty = lowest > highest
    return np.where(empty, np.nan, lowest), np.where(empty, np.nan, highest)


def bound(
    fine_kelvin: NDArray[np.floating],
    lst_kelvin: NDArray[np.floating],
    factor: int,
    *,
    keep_means: bool,
) -> NDArray[np.floating]:
    """Keeps fine LST within ``[low − 0.75 · (high − low), high + 0.75 · (high − low)]``, in place.

    ``low`` and ``high`` are the least and the greatest coarse LST of the 5 × 5 pixels around.
    Where they are equal, fine LST is LST. Bicubic interpolation itself leaves the range of the
    pixels that it weighs by up to 0.45 of its width, and stays as it is.

    Args:
        fine_kelvin: ``[h · factor, w · factor]``; NaN where missing. It is changed.
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing, and fine LST is, too.
        factor: Fine pixels along a coarse pixel's side.
        keep_means: Draws all fine pixels of a coarse pixel towards its LST until the last one is
            within the bound, so that a mean that is LST stays LST; without it each fine pixel that
            is out of bounds is put onto the bound.

    Returns:
        The fine LST.
    """
    lowest, highest = local_range(lst_kelvin)
    margin = OVERSHOOT * (highest - lowest)
    lowest, highest = lowest - margin, highest + margin
    for top in range(0, len(lst_kelvin), _STRIP_ROWS):
        rows = slice(top, min(top + _STRIP_ROWS, len(lst_kelvin)))
        strip = fine_kelvin[rows.start * factor : rows.stop * factor]
        if keep_means:
            _shrink(strip, lst_kelvin[rows], lowest[rows], highest[rows], factor)
        else:
            ends = (upsample_nearest(end[rows], factor) for end in (lowest, highest))
            np.clip(strip, *ends, out=strip)
    return fine_kelvin


def _shrink(
    fine: NDArray[np.floating],
    lst: NDArray[np.floating],
    lowest: NDArray[np.floating],
    highest: NDArray[np.floating],
    factor: int,
) -> None:
    """Draws the fine pixels of each coarse pixel towards its LST, all by one part, in place."""
    parts = blocks(fine, factor)
    there = np.isfinite(parts)
    top = np.max(parts, axis=(2, 3), where=there, initial=-np.inf) - lst
    bottom = np.min(parts, axis=(2, 3), where=there, initial=np.inf) - lst
    share = np.ones_like(lst)
    for departure, allowed in ((top, highest - lst), (-bottom, lst - lowest)):
        beyond = np.isfinite(departure) & (departure > allowed)
        ratio = np.divide(allowed, departure, out=np.ones_like(share), where=beyond)
        share = np.minimum(share, ratio)
    level, share = upsample_nearest(lst, factor), upsample_nearest(share, factor)
    drawn = level + share * (fine - level)
    np.copyto(fine, drawn.astype(fine.dtype), where=share < 1)
