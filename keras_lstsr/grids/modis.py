"""The sinusoidal grid of MODIS's land products: its CRS and its tiles."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from affine import Affine
from pyproj import CRS
from rasterio.crs import CRS as GdalCRS
from rasterio.errors import CRSError

MODIS_SPHERE_RADIUS_M = 6371007.181
"""Radius of the sphere of the MODIS sinusoidal projection, in metres; it is not WGS84."""

MODIS_TILE_SIZE_M = 2 * np.pi * MODIS_SPHERE_RADIUS_M / 36
"""Side of a MODIS tile: 36 columns round the equator, 18 rows from pole to pole."""

MODIS_TILE_COLUMNS, MODIS_TILE_ROWS = 36, 18

# Pixels of 250 m, which 500 m and 1 km are multiples of, along a tile's side.
_FINEST_PIXELS = 4800
# Rounded pixel sizes drift over the 18 columns of tiles from the grid's corner.
_LATTICE_PIXELS = 0.05


@cache
def modis_sinusoidal_crs() -> CRS:
    """Returns the CRS of the MODIS grid: sinusoidal on the sphere of 6371007.181 m, in metres."""
    text = f"+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R={MODIS_SPHERE_RADIUS_M} +units=m +no_defs"
    return CRS.from_wkt(GdalCRS.from_proj4(text).to_wkt())


def canonical_crs(crs: object) -> CRS:
    """Returns the MODIS sinusoidal CRS for any spelling of it, and other CRS unchanged.

    It takes a CRS of pyproj or rasterio, or what pyproj makes one from; the ``srs`` of the result
    is the text that GDAL writes for it.
    """
    if isinstance(crs, GdalCRS):
        return _canonical(crs.to_wkt())
    known = CRS.from_user_input(crs)
    try:
        # pyproj's own WKT leaves parts out that GDAL's has, and places are named by the latter.
        return _canonical(known.srs)
    except CRSError:
        return _canonical(known.to_wkt())


@lru_cache(maxsize=256)
def _canonical(text: str) -> CRS:
    gdal_crs = GdalCRS.from_user_input(text)
    crs = CRS.from_wkt(gdal_crs.to_wkt())
    parameters = gdal_crs.to_dict()
    if parameters.get("proj") != "sinu" or crs.ellipsoid is None:
        return crs
    radius = crs.ellipsoid.semi_major_metre
    sphere = crs.ellipsoid.semi_minor_metre == radius
    shift = any(parameters.get(key, 0) for key in ("lon_0", "x_0", "y_0"))
    if sphere and not shift and abs(radius - MODIS_SPHERE_RADIUS_M) < 1e-3:
        return modis_sinusoidal_crs()
    return crs


def on_modis_lattice_by_another_ellipsoid(crs: CRS, transform: Affine) -> bool:
    """Tells whether pixels are MODIS's by size and corners, but the CRS has not MODIS's sphere.

    Such a raster lies up to 20 km from its place: sinusoidal is often written with WGS84's
    ellipsoid (ESRI:54008) or a rounded radius, which changes no number in the file.

    Args:
        crs: As ``canonical_crs`` returns it.
        transform: Of a north-up grid.
    """
    if crs is modis_sinusoidal_crs():
        return False
    finest = MODIS_TILE_SIZE_M / _FINEST_PIXELS
    width, height = transform.a / finest, -transform.e / finest
    corner = np.array([transform.c / transform.a, transform.f / transform.e])
    whole = round(width)
    return (
        whole in (1, 2, 4)
        and max(abs(width - whole), abs(height - whole)) < 1e-5 * whole
        and bool(np.abs(corner - np.round(corner)).max() < _LATTICE_PIXELS)
        and _is_sinusoidal(crs.srs)
    )


@lru_cache(maxsize=256)
def _is_sinusoidal(text: str) -> bool:
    # Asked of GDAL: pyproj's objects are not to be asked in the threads that decode records.
    return GdalCRS.from_user_input(text).to_dict().get("proj") == "sinu"


def tile_of_bounds(left: float, bottom: float, right: float, top: float) -> str:
    """Names the MODIS tile that holds a rectangle of the sinusoidal grid, in metres.

    Returns:
        E.g. ``"h18v04"``; empty if the rectangle lies in no or in several tiles.
    """
    tolerance = 1.0  # metre: the products round the tile's corners differently by < 1 mm
    half_width = MODIS_TILE_COLUMNS / 2 * MODIS_TILE_SIZE_M
    half_height = MODIS_TILE_ROWS / 2 * MODIS_TILE_SIZE_M
    first_column = int((left + tolerance + half_width) // MODIS_TILE_SIZE_M)
    last_column = int((right - tolerance + half_width) // MODIS_TILE_SIZE_M)
    first_row = int((half_height - top + tolerance) // MODIS_TILE_SIZE_M)
    last_row = int((half_height - bottom - tolerance) // MODIS_TILE_SIZE_M)
    inside = 0 <= first_column < MODIS_TILE_COLUMNS and 0 <= first_row < MODIS_TILE_ROWS
    if not inside or first_column != last_column or first_row != last_row:
        return ""
    return f"h{first_column:02d}v{first_row:02d}"
