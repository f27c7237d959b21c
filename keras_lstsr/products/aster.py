"""ASTER surface kinetic temperature (AST_08, 90 m) and its resampled descendants, as GeoTIFF."""

from __future__ import annotations

import re
from dataclasses import replace
from os import PathLike

import xarray as xr

from keras_lstsr.products.band import RasterBand, read_band
from keras_lstsr.products.raster import RasterOptions, open_band

PRODUCT = "ASTER_LST"

# ASTER L2 surface kinetic temperature: unsigned 16-bit, 0.1 K, 0 = none (AST_08 user guide).
SCALE_KELVIN = 0.1
NODATA = 0

_AST08_NAME = re.compile(r"AST_08_(?P<version>\d{3})\d{14}", re.IGNORECASE)
_ASTER_WORD = re.compile(r"(?<![A-Za-z])(?:aster|ast_08)(?![A-Za-z])", re.IGNORECASE)


def is_aster(band: RasterBand) -> bool:
    """Tells whether tags or file name call a raster ASTER."""
    return bool(_ASTER_WORD.search(band.words) or _ASTER_WORD.search(band.path.stem))


def open_aster(
    path: str | PathLike[str],
    options: RasterOptions,
    *,
    band: RasterBand | None = None,
) -> xr.Dataset:
    """Opens an ASTER temperature GeoTIFF.

    AST_08 files from the archive carry no scale tag; their 0.1 K and 0 = none are the product's
    definition. Tags and options go before it.

    Args:
        path: The file.
        options: What the user knows.
        band: The band, where it is read already.

    Returns:
        The scene with ``lst_kelvin``; see :func:`keras_lstsr.products.open_product`.

    Raises:
        ProductError: If the raster can't be read or interpreted.
    """
    band = read_band(path) if band is None else band
    defined = band.stored.dtype.name == "uint16" and band.scale is None and options.scale is None
    if defined:
        nodata = options.nodata
        if nodata is None and band.nodata is None:
            nodata = NODATA
        options = replace(options, scale=SCALE_KELVIN, nodata=nodata)
    name = _AST08_NAME.search(band.path.name)
    return open_band(
        band,
        options,
        product=PRODUCT,
        quantity="lst",
        platform="Terra",
        version=name["version"] if name else "",
    )
