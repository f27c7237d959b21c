"""Arrays for methods of sharpening: LST that is linear in its guides, and where gaps must stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FACTOR = 4

Floats = NDArray[np.floating]


def linear_scene(
    guides: int = 1, shape: tuple[int, int] = (10, 12), seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Makes a scene that a method must recover if it is exact where LST is linear in the guides.

    Args:
        guides: Number of guides, up to 3.
        shape: Coarse rows and columns.
        seed: Of the random numbers.

    Returns:
        Coarse LST ``[h, w]`` in kelvin, guides ``[guides, 4h, 4w]``, and fine LST ``[4h, 4w]`` in
        kelvin, whose means the coarse LST is.
    """
    rng = np.random.default_rng(seed)
    height, width = shape
    guide = rng.uniform(0.1, 0.9, (guides, FACTOR * height, FACTOR * width))
    slopes = np.array([-8.0, 5.0, 3.0])[:guides]
    fine = 305.0 + np.tensordot(slopes, guide, axes=1)
    return block_means(fine), guide, fine


def noisy_scene_with_gaps(
    seed: int,
    lst_gaps: float,
    guide_gaps: float,
    guides: int = 1,
    shape: tuple[int, int] = (10, 12),
) -> tuple[Floats, Floats]:
    """Makes coarse LST and guides that explain a part of it.

    Args:
        seed: Of the random numbers.
        lst_gaps: Share of coarse pixels without LST.
        guide_gaps: Share of fine pixels without the first guide.
        guides: Number of guides, up to 3.
        shape: Coarse rows and columns.

    Returns:
        Coarse LST ``[h, w]`` in kelvin and guides ``[guides, 4h, 4w]``, NaN where missing.
    """
    rng = np.random.default_rng(seed)
    lst, guide, _ = linear_scene(guides, shape, seed)
    lst = lst + rng.normal(0, 1, shape)
    lst[rng.uniform(size=shape) < lst_gaps] = np.nan
    guide[0][rng.uniform(size=guide.shape[1:]) < guide_gaps] = np.nan
    return lst, guide


def noise_with_gaps(seed: int, gaps: float, shape: tuple[int, int] = (8, 9)) -> Floats:
    """Makes white noise of 2 K, such as a residual, NaN on a share of its pixels."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 2, shape)
    values[rng.uniform(size=shape) < gaps] = np.nan
    return values


def block_means(fine: Floats) -> Floats:
    """Returns means over coarse pixels; NaN pixels are left out, a block of NaN is NaN."""
    height, width = (side // FACTOR for side in fine.shape)
    blocks = fine.reshape(height, FACTOR, width, FACTOR).swapaxes(1, 2).reshape(height, width, -1)
    counts = (~np.isnan(blocks)).sum(axis=-1)
    total = np.nansum(blocks, axis=-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def expected_gaps(lst: Floats, guide: Floats) -> NDArray[np.bool_]:
    """Returns where LST ``[h, w]`` or one of the guides is missing, on the fine grid."""
    gaps = np.isnan(np.repeat(np.repeat(lst, FACTOR, 0), FACTOR, 1))
    return np.asarray(gaps | np.isnan(guide).any(axis=0))
