"""Pairs without a guide, from scenes of finer LST than 250 m: the truth degraded to 1 km.

They show how fine LST looks like at 1 km, by day and by night, and teach the single-image mode.
Nothing of what two instruments differ by is in them, so errors on them are too small to learn an
uncertainty from.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from rasterio.warp import calculate_default_transform

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.grids.degradation import degrade
from keras_lstsr.grids.georeference import raster_crs, raster_on_grid
from keras_lstsr.grids.warp import warp_area
from keras_lstsr.pairs.folds import Footprint
from keras_lstsr.pairs.training_pairs import TrainingPair
from keras_lstsr.products import open_product
from keras_lstsr.simulate import DEFAULT_NOISE_KELVIN

PIXEL_SIZE_M = 250.0

_LST_PART, _CLOUD_PART, _MASKS = "_LST_", "_cloud_mask_", "_mask_"
_CLEAR = 0


def find_fine_scenes(folder: str | PathLike[str]) -> list[Path]:
    """Finds the LST rasters of a folder.

    Args:
        folder: Of GeoTIFFs of LST. Names with ``_mask_`` are not LST; ``…_cloud_mask_….tif``
            belongs to ``…_LST_….tif``, as AppEEARS delivers ECOSTRESS.

    Returns:
        The rasters in the order of their names.

    Raises:
        ProductError: If the folder is not there or holds none.
    """
    folder = Path(folder)
    found = [
        path
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in (".tif", ".tiff") and _MASKS not in path.name
    ]
    if not found:
        raise ProductError(
            "the folder holds no scene of fine LST",
            path=folder,
            found="no .tif" if folder.is_dir() else "no folder",
            expected="GeoTIFFs of LST finer than 250 m, such as ECOSTRESS's",
        )
    return found


def cloud_mask_of(path: Path) -> Path | None:
    """Returns the cloud mask that lies beside a scene, or None."""
    mask = path.with_name(path.name.replace(_LST_PART, _CLOUD_PART))
    return mask if mask != path and mask.is_file() else None


def degraded_pair(path: str | PathLike[str], factor: int = 4) -> TrainingPair:
    """Makes a pair of a scene of fine LST.

    The scene is averaged by area onto 250 m pixels of its UTM zone; that is the truth. MODIS's
    point spread function makes coarse LST of it, with the noise of a good MODIS pixel.

    Args:
        path: GeoTIFF of LST. If its cloud mask lies beside it, all but 0 is left out.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        The pair, with NaN throughout for NDVI.

    Raises:
        ProductError: If a raster cannot be read, is no LST, or is smaller than a coarse pixel.
        GridError: If it has no CRS, is coarser than 250 m, or its cloud mask is of another shape.
    """
    path = Path(path)
    scene = open_product(path)
    if "lst_kelvin" not in scene:
        raise ProductError(
            "the raster is no LST", path=path, found=", ".join(map(str, scene.data_vars))
        )
    lst = _without_clouds(scene["lst_kelvin"], path)
    like = _utm_grid(lst, path, factor)
    truth = np.asarray(warp_area(lst, like).values, np.float32)
    coarse = degrade(truth, factor, "psf")
    # The name alone decides on the noise: the same whatever else is in the folder.
    rng = np.random.default_rng(list(path.name.encode()))
    coarse = coarse + rng.normal(0, DEFAULT_NOISE_KELVIN, coarse.shape)
    return TrainingPair(
        name=path.stem,
        group=path.parent.name,
        lst_kelvin=np.asarray(coarse, np.float32),
        ndvi=np.full_like(truth, np.nan),
        truth_kelvin=truth,
        footprint=Footprint.of(like),
    )


def _without_clouds(lst: xr.DataArray, path: Path) -> xr.DataArray:
    mask = cloud_mask_of(path)
    if mask is None:
        return lst
    with rasterio.open(mask) as file:
        cloud = file.read(1)
    if cloud.shape != lst.shape:
        raise GridError(
            "the cloud mask does not fit its scene",
            path=mask,
            found=f"shape {cloud.shape}",
            expected=f"shape {lst.shape}",
        )
    return lst.where(cloud == _CLEAR)


def _utm_grid(lst: xr.DataArray, path: Path, factor: int) -> xr.DataArray:
    """Returns an empty raster of 250 m pixels over a scene, cut to whole coarse pixels."""
    crs = raster_crs(lst, str(path))
    utm = lst.rio.estimate_utm_crs()
    height, width = lst.shape
    bounds = lst.rio.bounds()
    native, _, _ = calculate_default_transform(crs, utm, width, height, *bounds)
    if native.a > PIXEL_SIZE_M:
        raise GridError(
            "the scene is too coarse",
            path=path,
            found=f"pixels of {native.a:.0f} m",
            expected=f"{PIXEL_SIZE_M:.0f} m or finer",
        )
    transform, columns, rows = calculate_default_transform(
        crs, utm, width, height, *bounds, resolution=PIXEL_SIZE_M
    )
    rows, columns = (side // factor * factor for side in (rows, columns))
    if not rows or not columns:
        raise ProductError(
            "the scene is smaller than a coarse pixel",
            path=path,
            found=f"{rows} × {columns} pixels",
        )
    nothing = np.full((rows, columns), np.nan, np.float32)
    return raster_on_grid(nothing, lst, utm, transform)
