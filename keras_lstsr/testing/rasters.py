"""Rasters with known values on grids like those of the products, and GeoTIFFs of them.

``coordinate_raster`` holds a plane, so that each value tells where it belongs: whatever is cut,
turned, shifted, warped or averaged can be compared with ``coordinate_value`` at its new place.
``lst_raster`` and ``guide_raster`` look like what a satellite sees, with gaps where asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS
from scipy import ndimage

from keras_lstsr.config.guides import guide_named
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import MODIS_TILE_SIZE_M, modis_sinusoidal_crs
from keras_lstsr.grids.resample import block_mean

UTM = CRS.from_epsg(32633)
LEFT_M, TOP_M = 400_000.0, 5_000_000.0
FINE_PIXEL_M = 250.0


def modis_grid(
    shape: Sequence[int],
    *,
    tile: str = "h18v04",
    pixels_per_tile: int = 1200,
    row: float = 0,
    column: float = 0,
) -> Grid:
    """Returns a window of a MODIS tile.

    There are 1200 pixels of 1 km, 2400 of 500 m or 4800 of 250 m along a tile's side; row and
    column count them from its north-western corner.
    """
    pixel_m = MODIS_TILE_SIZE_M / pixels_per_tile
    west = (int(tile[1:3]) - 18) * MODIS_TILE_SIZE_M
    north = (9 - int(tile[4:6])) * MODIS_TILE_SIZE_M
    transform = Affine(pixel_m, 0, west + column * pixel_m, 0, -pixel_m, north - row * pixel_m)
    return Grid(modis_sinusoidal_crs(), transform, (shape[0], shape[1]))


def utm_grid(
    shape: Sequence[int], pixel_m: float = FINE_PIXEL_M, *, row: float = 0, column: float = 0
) -> Grid:
    """Returns a grid whose corner lies so many of its pixels off (LEFT_M, TOP_M) in UTM zone 33."""
    transform = Affine(pixel_m, 0, LEFT_M + column * pixel_m, 0, -pixel_m, TOP_M - row * pixel_m)
    return Grid(UTM, transform, (shape[0], shape[1]))


def utm_raster(
    values: ArrayLike,
    pixel_m: float = FINE_PIXEL_M,
    *,
    row: float = 0,
    column: float = 0,
    name: str,
) -> xr.DataArray:
    """Returns a float32 raster on ``utm_grid``."""
    values = np.asarray(values, np.float32)
    return utm_grid(values.shape, pixel_m, row=row, column=column).raster(values, name=name)


def coordinate_value(grid: Grid, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Returns what ``coordinate_raster`` of a grid holds at coordinates of its CRS.

    It is the way east from the grid's corner less a tenth of the way south, in the CRS's unit.
    """
    west, _, _, north = grid.bounds
    return (np.asarray(x, np.float64) - west) + 0.1 * (np.asarray(y, np.float64) - north)


def coordinate_raster(grid: Grid, name: str = "lst_kelvin") -> xr.DataArray:
    """Returns a float64 raster of ``coordinate_value`` at the middle of each pixel."""
    centres = grid.coordinates()
    values = coordinate_value(grid, centres["x"].values[None, :], centres["y"].values[:, None])
    return grid.raster(values, name=name, attrs={"units": "K"})


def lst_values(*shape: int, gaps: float = 0.0, seed: int = 0) -> NDArray[np.float32]:
    """Makes smooth LST around 295 K, ``h, w`` or ``B, h, w, 1``; NaN on the share ``gaps``."""
    rng = np.random.default_rng(seed)
    return _with_clouds(295 + 25 * _smooth(rng, shape, 2), gaps, 4, rng)


def guide_values(
    *shape: int, name: str = "ndvi", gaps: float = 0.0, seed: int = 1
) -> NDArray[np.float32]:
    """Makes a smooth guide within its valid range; NDVI lies between −0.2 and 0.95.

    The shape is ``H, W`` or ``B, H, W, 1``; patches on the share ``gaps`` are NaN.
    """
    low, high = guide_named(name).valid_range
    rng = np.random.default_rng(seed)
    share = np.clip(0.7 + 0.6 * _smooth(rng, shape, 2), 0.4, 0.975)
    return _with_clouds(low + (high - low) * share, gaps, 16, rng)


def lst_raster(grid: Grid, *, gaps: float = 0.0, seed: int = 0) -> xr.DataArray:
    """Returns ``lst_values`` on a grid, by day."""
    values = lst_values(*grid.shape, gaps=gaps, seed=seed)
    return grid.raster(values, name="lst_kelvin", attrs={"units": "K", "day_night": "day"})


def guide_raster(
    grid: Grid, name: str = "ndvi", *, gaps: float = 0.0, seed: int = 1
) -> xr.DataArray:
    """Returns ``guide_values`` on a grid."""
    values = guide_values(*grid.shape, name=name, gaps=gaps, seed=seed)
    return grid.raster(values, name=name, attrs={"units": guide_named(name).units})


def lst_and_ndvi(
    grid: Grid, *, lst_gaps: float = 0.0, ndvi_gaps: float = 0.0
) -> tuple[xr.DataArray, xr.DataArray]:
    """Returns LST on a grid, and NDVI four times as fine that it falls with by 15 K per unit."""
    ndvi = guide_raster(grid.finer(4))
    lst = lst_raster(grid, gaps=lst_gaps)
    lst.values[:] = 305 - 15 * block_mean(ndvi.values, 4) + 0.2 * (lst.values - 295)
    return lst, ndvi.where(np.isfinite(guide_raster(grid.finer(4), gaps=ndvi_gaps)))


def _smooth(rng: np.random.Generator, shape: Sequence[int], pixels: float) -> NDArray[np.float64]:
    sides = (0, 1) if len(shape) == 2 else (1, 2)
    return ndimage.gaussian_filter(rng.normal(size=shape), pixels, axes=sides)


def _with_clouds(
    values: NDArray[np.float64], share: float, pixels: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    if share:
        texture = _smooth(rng, values.shape, pixels)
        values[texture > np.quantile(texture, 1 - share)] = np.nan
    return values.astype(np.float32)


def write_geotiff(
    path: str | PathLike[str],
    values: ArrayLike,
    grid: Grid | None = None,
    *,
    scale: float | None = None,
    offset: float | None = None,
    units: str = "",
    description: str = "",
    tags: Mapping[str, str] | None = None,
    band_tags: Mapping[str, str] | None = None,
    **profile: Any,
) -> Path:
    """Writes a GeoTIFF with the tags that products have, or lack.

    Args:
        path: The file; its folder is made.
        values: ``[h, w]`` or ``[band, h, w]`` in the type that is to be stored.
        grid: Where it lies; None writes neither CRS nor transform.
        scale: Units per stored number, as GDAL's tag.
        offset: Physical value of a stored zero, as GDAL's tag.
        units: GDAL's unit of each band.
        description: GDAL's description of the first band.
        tags: Tags of the file.
        band_tags: Tags of the first band.
        **profile: Of rasterio, e.g. ``nodata``; ``crs`` and ``transform`` go before the grid's.

    Returns:
        The path.
    """
    path, values = Path(path), np.asarray(values)
    bands = values if values.ndim == 3 else values[None]
    count, height, width = bands.shape
    place = {} if grid is None else {"crs": grid.crs_wkt, "transform": grid.transform}
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **shape, **{**place, **profile}) as file:
        file.write(bands)
        if scale is not None:
            file.scales = [scale] * count
        if offset is not None:
            file.offsets = [offset] * count
        if units:
            file.units = [units] * count
        if description:
            file.set_band_description(1, description)
        file.update_tags(**(tags or {}))
        file.update_tags(1, **(band_tags or {}))
    return path
