"""One pair of MODIS and ASTER, and how a sharpened LST agrees with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rioxarray
import xarray as xr
from affine import Affine
from scipy.ndimage import binary_erosion

from keras_lstsr.grids.align import guide_on_fine_grid
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.warp import warp_bilinear
from keras_lstsr.metrics.image import bias_free_rmse

FACTOR = 4


@dataclass(frozen=True)
class RealPair:
    """LST ``[h, w]`` and NDVI ``[4h, 4w]`` of MODIS, and ASTER's LST on its own grid."""

    lst: xr.DataArray
    ndvi: np.ndarray
    truth: xr.DataArray

    def bias_free_rmse(self, fine_kelvin: np.ndarray) -> float:
        """Standard deviation of the error on ASTER's grid."""
        fine = Grid.of(self.lst).finer(FACTOR).raster(fine_kelvin)
        return bias_free_rmse(self.truth.values, warp_bilinear(fine, self.truth).values)


def real_pair(folder: Path, name: str) -> RealPair:
    """Reads a pair; ASTER is registered by (−1, −1) pixels and its border left out."""

    def read(variable: str) -> xr.DataArray:
        path = folder / "modis_aster" / f"{name}_{variable}.tif"
        return rioxarray.open_rasterio(path, mask_and_scale=True).squeeze(drop=True)

    lst, aster = read("lst_1km"), read("aster_lst_232m")
    # Coarse pixels at the border that NDVI does not cover stay out.
    lst = lst.isel(y=slice(2, -2), x=slice(2, -2))
    lst = lst.rio.write_transform(lst.rio.transform(recalc=True))
    inner = binary_erosion(np.nan_to_num(aster.values) >= 270, iterations=6)
    step = aster.rio.transform()
    transform = Affine(step.a, 0, step.c - step.a, 0, step.e, step.f - step.e)
    truth = aster.where(inner).assign_coords(x=aster.x - step.a, y=aster.y - step.e)
    truth = truth.rio.write_transform(transform)
    return RealPair(lst, guide_on_fine_grid(read("ndvi_250m"), lst, FACTOR).values, truth)
