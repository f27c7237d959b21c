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

# Steps of 0.01 K reach 655 K in 16 bits; 0 is free to mark missing pixels.
UINT16_SCALE_KELVIN = 0.01
UINT16_NODATA = 0

_BLOCK_PIXELS = 512
_ZOOM_PIXELS = 64


def write_cog(
    lst_kelvin: xr.DataArray,
    path: str | PathLike[str],
    *,
    tags: Mapping[str, object],
    dtype: Literal["float32", "uint16"] = "float32",
) -> None:
    """Writes LST as a cloud-optimised GeoTIFF: tiled, compressed, with overviews.

    Args:
        lst_kelvin: LST ``[y, x]`` in kelvin, NaN where missing, with CRS and transform.
        path: The file; replaced if it is there, and only by a whole one.
        tags: Metadata of the file; values are written as text.
        dtype: ``"float32"`` with nodata NaN, or ``"uint16"`` in steps of 0.01 K with nodata 0
            and the scale in the band's metadata.

    Raises:
        GridError: If the array is not two-dimensional or has no CRS.
        LstsrError: If the file cannot be written.
    """
    if lst_kelvin.ndim != 2 or lst_kelvin.rio.crs is None:
        raise GridError(
            "the result is no georeferenced raster",
            field=str(lst_kelvin.name),
            found=f"dimensions {dict(lst_kelvin.sizes)}, CRS {lst_kelvin.rio.crs}",
            expected="dimensions y and x, and a CRS",
        )
    values, nodata = _stored_values(np.asarray(lst_kelvin.values), dtype)
    profile = {
        "driver": "COG",
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": dtype,
        "nodata": nodata,
        "crs": lst_kelvin.rio.crs,
        "transform": lst_kelvin.rio.transform(),
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
                raster.units = ("K",)
                if dtype == "uint16":
                    raster.scales = (UINT16_SCALE_KELVIN,)
                raster.update_tags(**{name: str(value) for name, value in tags.items()})
        except (RasterioError, OSError) as error:
            raise LstsrError(
                "GDAL cannot write the raster",
                path=path,
                found=error,
                action="See whether the disk is full.",
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
            "temperatures outside what uint16 holds",
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
) -> None:
    """Draws the scene before and after, whole and zoomed in, as a PNG.

    Left the input, right the result; above the whole scene, below the square of 64 coarse pixels
    with the most texture among the clearest ones. One colour bar in kelvin serves all four; gaps
    are grey.

    Args:
        coarse: LST ``[y, x]`` in kelvin, NaN where missing.
        fine: LST in kelvin on the grid that is finer by a whole factor.
        path: The PNG; replaced if it is there, and only by a whole one.
        title: Stands above, e.g. granule and date.

    Raises:
        GridError: If the fine grid is no multiple of the coarse one, or no pixel is valid.
        LstsrError: If the file cannot be written.
    """
    before, after = np.asarray(coarse.values), np.asarray(fine.values)
    factor = after.shape[0] // before.shape[0]
    if after.shape != (before.shape[0] * factor, before.shape[1] * factor) or factor < 1:
        raise GridError(
            "the fine grid does not nest in the coarse one", found=f"{before.shape}, {after.shape}"
        )
    if np.isnan(before).all():
        raise GridError("the scene has no valid pixel", field=str(coarse.name))
    from keras_lstsr.maps import Panel, panel_figure, value_scale

    window = _zoom_window(before)
    fine_window = tuple(slice(part.start * factor, part.stop * factor) for part in window)
    scale = value_scale([before])
    rows, columns = (f"{part.start}–{part.stop - 1}" for part in window)
    zoom = f"zoom: rows {rows}, columns {columns} of the input"
    figure = panel_figure(
        [
            [
                Panel(before, f"input, {_pixel_size_text(coarse)}", scale, window),
                Panel(after, f"result, {_pixel_size_text(fine)}", scale, fine_window),
            ],
            [Panel(before[window], zoom, scale), Panel(after[fine_window], zoom, scale)],
        ],
        title=title,
        panel_inches=5.0,
    )
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def _zoom_window(values: NDArray[np.floating]) -> tuple[slice, slice]:
    """Finds the square with the most texture among those with nearly the most valid pixels."""
    height, width = (min(_ZOOM_PIXELS, side) for side in values.shape)
    best, best_score = (slice(0, height), slice(0, width)), (-1.0, -1.0)
    for top in _starts(values.shape[0], height):
        for left in _starts(values.shape[1], width):
            window = values[top : top + height, left : left + width]
            valid = window[~np.isnan(window)]
            # Steps of a tenth let texture decide between windows that are about as clear.
            score = (round(valid.size / window.size, 1), float(valid.std()) if valid.size else 0.0)
            if score > best_score:
                best_score = score
                best = (slice(top, top + height), slice(left, left + width))
    return best


def _starts(length: int, window: int) -> list[int]:
    return [*range(0, length - window, max(1, window // 2)), length - window]


def _pixel_size_text(raster: xr.DataArray) -> str:
    crs: Any = raster.rio.crs
    size = abs(raster.rio.resolution()[0])
    if crs is None or not crs.is_projected:
        return f"pixels of {size:.4g}°" if crs is not None else f"pixels of {size:.4g}"
    return f"pixels of {size:.0f} m"
