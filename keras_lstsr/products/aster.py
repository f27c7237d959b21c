"""ASTER's surface kinetic temperature (AST_08, 90 m) and what is resampled from it."""

from __future__ import annotations

import re
from dataclasses import replace

import xarray as xr

from keras_lstsr.products.band import RasterBand
from keras_lstsr.products.raster import open_band
from keras_lstsr.products.raster_options import RasterOptions

# ASTER L2 surface kinetic temperature: unsigned 16-bit, 0.1 K, 0 = none (AST_08 user guide).
_SCALE_KELVIN, _NODATA = 0.1, 0
_NAME = re.compile(r"AST_08_(?P<version>\d{3})\d{14}", re.IGNORECASE)
_WORD = re.compile(r"(?<![A-Za-z])(?:aster|ast_08)(?![A-Za-z])", re.IGNORECASE)


def is_aster(band: RasterBand) -> bool:
    """Tells whether tags or file name call a raster ASTER."""
    return bool(_WORD.search(band.words) or _WORD.search(band.path.stem))


def open_aster(band: RasterBand, options: RasterOptions, product: str) -> xr.Dataset:
    """Turns a band of ASTER's temperature into a scene with ``lst_kelvin``.

    AST_08 files from the archive carry no scale tag; their 0.1 K and 0 = none are the product's
    definition. Tags and options go before it.

    Raises:
        ProductError: If the values as a whole can't be kelvin.
    """
    if band.stored.dtype.name == "uint16" and band.scale is None and options.scale is None:
        nodata = options.nodata
        if nodata is None and band.nodata is None:
            nodata = _NODATA
        options = replace(options, scale=_SCALE_KELVIN, nodata=nodata)
    name = _NAME.search(band.path.name)
    version = name["version"] if name else ""
    return open_band(
        band, options, product=product, quantity="lst", platform="Terra", version=version
    )
