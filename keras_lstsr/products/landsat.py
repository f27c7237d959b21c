"""Landsat's surface temperature: Collection 2, level 2, band ST_B10 or ST_B6."""

from __future__ import annotations

import re
from dataclasses import replace

import xarray as xr

from keras_lstsr.products.band import RasterBand
from keras_lstsr.products.raster import open_band
from keras_lstsr.products.raster_options import RasterOptions

# Landsat Collection 2 level-2 surface temperature: unsigned 16-bit, 0 = none; not made where the
# sun stands lower than 14° (USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide).
_SCALE_KELVIN, _OFFSET_KELVIN, _NODATA = 0.00341802, 149.0, 0
_NAME = re.compile(r"L[CTEO]0(?P<number>\d)_L2SP_\d{6}_\d{8}_.*_ST_B(?:10|6)$", re.IGNORECASE)


def is_landsat(band: RasterBand) -> bool:
    """Tells whether the file's name is that of Landsat's surface temperature."""
    return bool(_NAME.search(band.path.stem))


def open_landsat(band: RasterBand, options: RasterOptions, product: str) -> xr.Dataset:
    """Turns Landsat's surface temperature into a scene with ``lst_kelvin``.

    Files from the archive carry no scale tag. Tags and options go before the product's numbers.

    Raises:
        ProductError: If the values as a whole can't be kelvin.
    """
    if band.stored.dtype.name == "uint16" and band.scale is None and options.scale is None:
        nodata = _NODATA if options.nodata is None else options.nodata
        scale, offset = _SCALE_KELVIN, _OFFSET_KELVIN
        options = replace(options, scale=scale, offset=offset, nodata=nodata)
    options = replace(options, day_night=options.day_night or "day")
    name = _NAME.search(band.path.stem)
    platform = f"Landsat {name['number']}" if name else ""
    return open_band(
        band, options, product=product, quantity="lst", platform=platform, version="02"
    )
