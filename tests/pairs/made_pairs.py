"""Pairs made so that TsHARP is right to the last digit, and what must come out is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from scipy import ndimage

from keras_lstsr.grids.resample import block_mean
from keras_lstsr.pairs.files import Pair

PIXEL_M = 250.0
LEFT_M, TOP_M = 400_000.0, 5_000_000.0


def raster(
    values: np.ndarray, pixel_m: float, *, row: float = 0, column: float = 0, name: str
) -> xr.DataArray:
    """A raster whose corner lies so many of its pixels off (LEFT_M, TOP_M)."""
    transform = Affine(pixel_m, 0, LEFT_M + column * pixel_m, 0, -pixel_m, TOP_M - row * pixel_m)
    height, width = values.shape
    coordinates = {
        "y": transform.f + transform.e * (np.arange(height) + 0.5),
        "x": transform.c + transform.a * (np.arange(width) + 0.5),
    }
    made = xr.DataArray(values.astype(np.float32), coordinates, ("y", "x"), name=name)
    return made.rio.write_crs("EPSG:32633").rio.write_transform(transform)


def texture(size: int, seed: int) -> np.ndarray:
    """Texture of all scales with values between 0 and 1."""
    rng = np.random.default_rng(seed)
    field = sum(
        scale * ndimage.gaussian_filter(rng.normal(size=(size, size)), scale, mode="wrap")
        for scale in (0.7, 1.5, 4.0, 10.0)
    )
    return np.clip(0.5 + 0.15 * (field - field.mean()) / field.std(), 0.02, 0.98)


def make_pair(
    name: str = "000",
    *,
    group: str = "0",
    seed: int = 0,
    coarse_pixels: int = 20,
    off: tuple[int, int] = (0, 0),
    noise_kelvin: float = 0.0,
) -> Pair:
    """Makes a pair whose LST is 320 K − 25 K · NDVI exactly, on both grids.

    The truth reaches 5 fine pixels beyond LST on each side and says to lie ``off`` pixels (rows,
    columns) down and right of where it does; ``noise_kelvin`` is added to it.
    """
    margin, size = 5, 4 * coarse_pixels
    ndvi = texture(size + 2 * margin, seed)
    truth = 320 - 25 * ndvi
    inner = slice(margin, margin + size)
    noise = noise_kelvin * np.random.default_rng(seed + 99).normal(size=truth.shape)
    return Pair(
        name,
        group,
        lst=raster(block_mean(truth[inner, inner], 4), 4 * PIXEL_M, name="lst_kelvin"),
        guide=raster(ndvi[inner, inner], PIXEL_M, name="ndvi"),
        truth=raster(
            truth + noise,
            PIXEL_M,
            row=off[0] - margin,
            column=off[1] - margin,
            name="lst_kelvin",
        ),
    )


def moved(made: xr.DataArray, *, rows: int) -> xr.DataArray:
    """The same raster so many of its pixels further south."""
    transform = made.rio.transform() @ Affine.translation(0, rows)
    again = made.assign_coords(y=made.y + rows * transform.e)
    return again.rio.write_transform(transform)


def write_pair(folder: Path, pair: Pair) -> None:
    """Writes a pair under the names that ``find_pairs`` looks for."""
    for role, part in {
        "lst_1km": pair.lst,
        "ndvi_250m": pair.guide,
        "aster_lst_250m": pair.truth,
    }.items():
        part.rio.write_nodata(np.nan).rio.to_raster(folder / f"{pair.name}_{role}.tif")
