"""Results on disk: cloud-optimised GeoTIFF and quicklook, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from keras_lstsr.errors import GridError, LstsrError
from keras_lstsr.files import written_whole
from keras_lstsr.grids.grid import Grid, placed

# Steps of 0.01 K reach 655 K in 16 bits; 0 is free to mark missing pixels.
UINT16_SCALE_KELVIN = 0.01
UINT16_NODATA = 0

_BLOCK_PIXELS = 512


def write_cog(
    lst_kelvin: xr.DataArray,
    path: str | PathLike[str],
    *,
    tags: Mapping[str, object],
    dtype: Literal["float32", "uint16"] = "float32",
    beside: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Writes LST as a cloud-optimised GeoTIFF: tiled, compressed, with overviews.

    Args:
        lst_kelvin: LST ``[y, x]`` in kelvin, NaN where missing, with CRS and coordinates.
        path: The file; replaced if it is there, and only by a whole one.
        tags: Metadata of the file; values are written as text.
        dtype: ``"float32"`` with nodata NaN, or ``"uint16"`` in steps of 0.01 K with nodata 0
            and the scale in the band's metadata.
        beside: Further bands on the same north-up grid, by name, without a unit; float32 alone.

    Raises:
        GridError: If it is no raster of one band with CRS and a regular grid.
        LstsrError: If the file cannot be written.
    """
    given = placed(lst_kelvin, "lst_kelvin")
    values, nodata = _stored_values(np.asarray(given.raster.values), dtype)
    profile = {
        "driver": "COG",
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1 + len(beside or {}),
        "dtype": dtype,
        "nodata": nodata,
        "crs": given.grid.crs_wkt,
        "transform": given.grid.transform,
        "compress": "DEFLATE",
        "predictor": "YES",
        "blocksize": _BLOCK_PIXELS,
        "overview_resampling": "AVERAGE",
        "bigtiff": "IF_SAFER",
        "num_threads": "ALL_CPUS",
    }
    with written_whole(path) as partial:
        try:
            with rasterio.open(partial, "w", **profile) as raster:
                raster.write(values, 1)
                raster.set_band_description(1, str(lst_kelvin.name or "lst_kelvin"))
                raster.units = ("K", *("1" for _ in beside or {}))
                for number, (name, band) in enumerate((beside or {}).items(), 2):
                    raster.write(band.astype(dtype), number)
                    raster.set_band_description(number, name)
                if dtype == "uint16":
                    raster.scales = (UINT16_SCALE_KELVIN,)
                raster.update_tags(**{name: str(value) for name, value in tags.items()})
        except (RasterioError, OSError) as error:
            raise LstsrError(
                "GDAL cannot write the raster",
                path=path,
                found=error,
                action="Check whether the disk is full.",
            ) from error


def _stored_values(
    values: NDArray[np.floating], dtype: str
) -> tuple[NDArray[np.float32] | NDArray[np.uint16], float]:
    if dtype == "float32":
        return values.astype(np.float32, copy=False), float("nan")
    steps = np.rint(values.astype(np.float64) / UINT16_SCALE_KELVIN)
    limits = np.iinfo(np.uint16)
    if (steps <= UINT16_NODATA).any() or (steps > limits.max).any():
        raise GridError(
            "temperatures outside the range of uint16",
            found=f"{np.nanmin(values):.2f}…{np.nanmax(values):.2f} K",
            expected=f"above 0 and up to {limits.max * UINT16_SCALE_KELVIN:.2f} K",
            action="Write float32.",
        )
    return np.where(np.isnan(steps), UINT16_NODATA, steps).astype(np.uint16), UINT16_NODATA


def write_quicklook(
    coarse: xr.DataArray,
    fine: xr.DataArray,
    path: str | PathLike[str],
    *,
    title: str = "",
    residuals: Mapping[str, NDArray[np.floating]] | None = None,
) -> None:
    """Draws the scene before and after as a PNG; see ``maps.quicklook_figure``.

    Args:
        coarse: LST ``[y, x]`` in kelvin, NaN where missing.
        fine: LST in kelvin on the grid that is finer by a whole factor.
        path: The PNG; replaced if it is there, and only by a whole one.
        title: Stands above, e.g. granule and date.
        residuals: Title → residual in kelvin on the input's pixels.

    Raises:
        GridError: If a raster has no CRS or no regular grid, the fine grid is no multiple of the
            coarse one, or no pixel is valid.
        LstsrError: If the file cannot be written.
    """
    from keras_lstsr.maps import quicklook_figure

    coarse_lst, fine_lst = placed(coarse, "coarse"), placed(fine, "fine")
    before, after = np.asarray(coarse_lst.raster.values), np.asarray(fine_lst.raster.values)
    factor = after.shape[0] // before.shape[0]
    if after.shape != (before.shape[0] * factor, before.shape[1] * factor) or factor < 1:
        raise GridError(
            "the fine grid does not nest in the coarse one", found=f"{before.shape}, {after.shape}"
        )
    if np.isnan(before).all():
        raise GridError("the scene has no valid pixel", field=str(coarse.name))
    titles = (
        f"input, {_pixel_size_text(coarse_lst.grid)}, {_range_text(before)}",
        f"result, {_pixel_size_text(fine_lst.grid)}, {_range_text(after)}",
    )
    figure = quicklook_figure(before, after, titles=titles, title=title, residuals=residuals)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def _pixel_size_text(grid: Grid) -> str:
    size = grid.pixel_size[0]
    return f"pixels of {size:.4g}°" if grid.crs.is_geographic else f"pixels of {size:.0f} m"


def _range_text(kelvin: NDArray[np.floating]) -> str:
    return f"{np.nanmin(kelvin):.1f} to {np.nanmax(kelvin):.1f} K"
