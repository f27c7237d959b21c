"""Small rasters on the grids that the products come on."""

from __future__ import annotations

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from pyproj import Transformer

SINUSOIDAL = "+proj=sinu +lon_0=0 +R=6371007.181 +units=m +no_defs"
UTM = 32631
PIXEL_M = 926.6254331


def raster(values: np.ndarray, transform: Affine, crs: str | int = SINUSOIDAL) -> xr.DataArray:
    height, width = values.shape
    array = xr.DataArray(
        values,
        dims=("y", "x"),
        coords={
            "y": transform.f + transform.e * (np.arange(height) + 0.5),
            "x": transform.c + transform.a * (np.arange(width) + 0.5),
        },
        name="lst_kelvin",
        attrs={"units": "K"},
    )
    return array.rio.write_crs(crs).rio.write_transform(transform)


def sinusoidal_transform(pixel_m: float = PIXEL_M / 4) -> Affine:
    """Somewhere in France, on tile h18v04."""
    return Affine(pixel_m, 0, 277061.0, 0, -pixel_m, 5100146.4)


def utm_transform_over(source: xr.DataArray, pixel_m: float, margin_m: float) -> Affine:
    """The corner of a UTM grid that begins ``margin_m`` inside the source's bounds."""
    to_utm = Transformer.from_crs(SINUSOIDAL, UTM, always_xy=True)
    west, _, _, north = to_utm.transform_bounds(*source.rio.bounds())
    return Affine(pixel_m, 0, west + margin_m, 0, -pixel_m, north - margin_m)
