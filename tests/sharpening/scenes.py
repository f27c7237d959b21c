"""Scenes whose sharpening is known."""

from __future__ import annotations

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine

FACTOR = 4
UTM = "EPSG:32631"


def linear_scene(guides=1, shape=(10, 12), seed=0):
    """Coarse LST, guides and fine LST that is linear in the guides."""
    rng = np.random.default_rng(seed)
    fine_shape = tuple(FACTOR * side for side in shape)
    guide = rng.uniform(0.1, 0.9, (guides, *fine_shape))
    slopes = np.array([-8.0, 5.0, 3.0])[:guides]
    fine = 305.0 + np.tensordot(slopes, guide, axes=1)
    return block_means(fine), guide, fine


def block_means(fine):
    """Means over coarse pixels; NaN pixels are left out, a block of NaN is NaN."""
    height, width = (side // FACTOR for side in fine.shape)
    blocks = fine.reshape(height, FACTOR, width, FACTOR).swapaxes(1, 2).reshape(height, width, -1)
    counts = (~np.isnan(blocks)).sum(axis=-1)
    total = np.nansum(blocks, axis=-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def noisy_scene_with_gaps(seed, lst_gaps, guide_gaps, guides=1, shape=(10, 12)):
    """Coarse LST and guides that explain a part of it, both with gaps."""
    rng = np.random.default_rng(seed)
    lst, guide, _ = linear_scene(guides, shape, seed)
    lst = lst + rng.normal(0, 1, shape)
    lst[rng.uniform(size=shape) < lst_gaps] = np.nan
    guide[0][rng.uniform(size=guide.shape[1:]) < guide_gaps] = np.nan
    return lst, guide


def expected_gaps(lst, guide):
    """Where LST or a guide is missing, on the fine grid."""
    gaps = np.isnan(np.repeat(np.repeat(lst, FACTOR, 0), FACTOR, 1))
    return gaps | np.isnan(guide).any(axis=0)


def raster(values, pixel_size_m, *, corner=(500_000.0, 5_000_000.0), crs=UTM, name=None):
    """A georeferenced raster with its upper left corner at ``corner``."""
    height, width = values.shape[-2:]
    transform = Affine(pixel_size_m, 0, corner[0], 0, -pixel_size_m, corner[1])
    dims = ("y", "x") if values.ndim == 2 else ("band", "y", "x")
    coords = {
        "x": corner[0] + pixel_size_m * (np.arange(width) + 0.5),
        "y": corner[1] - pixel_size_m * (np.arange(height) + 0.5),
    }
    result = xr.DataArray(values, dims=dims, coords=coords, name=name)
    result = result.rio.write_transform(transform)
    return result if crs is None else result.rio.write_crs(crs)
