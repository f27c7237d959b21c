"""What a scene holds, in numbers: the contents of ``keras-lstsr inspect``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from rasterio.crs import CRS

from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import MODIS_SPHERE_RADIUS_M, modis_sinusoidal_crs
from keras_lstsr.products.quality import MOD09GQ_QC, MOD11_QC, quality_table
from keras_lstsr.products.scene import rejection_name

_QC_FIELDS = {"qc_day": MOD11_QC, "qc_night": MOD11_QC, "qc_250m": MOD09GQ_QC}


def summarise(scene: xr.Dataset) -> dict[str, Any]:
    """Counts what is in a scene of :func:`keras_lstsr.products.open_product`.

    Returns:
        Dicts, lists and numbers, ready for JSON: ``attributes``; ``grid``, lengths in its ``unit``;
        ``layers`` that can be masked, with None for the range of one without a single value; and
        ``quality``: QC variable -> rows of :func:`~keras_lstsr.products.quality.quality_table`.
    """
    names = [str(name) for name in scene.data_vars if rejection_name(str(name)) in scene]
    grid = Grid.of(next(iter(scene.values())))
    return {
        "attributes": {key: str(value) for key, value in scene.attrs.items()},
        "grid": {
            "crs": _crs_text(scene.rio.crs),
            "height": grid.height,
            "width": grid.width,
            "pixel_size": list(grid.pixel_size),
            "corner": [grid.transform.c, grid.transform.f],  # outer corner of the upper left pixel
            "unit": scene["x"].attrs["units"],
        },
        "layers": [_layer(scene[name]) for name in names],
        "quality": {
            name: quality_table(scene[name].values, fields)
            for name, fields in _QC_FIELDS.items()
            if name in scene
        },
    }


def _crs_text(crs: CRS) -> str:
    if crs == modis_sinusoidal_crs():
        return f"MODIS sinusoidal, sphere of {MODIS_SPHERE_RADIUS_M} m"
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_proj4())


def _layer(layer: xr.DataArray) -> dict[str, Any]:
    values = layer.values
    valid = values[np.isfinite(values)]
    return {
        "name": str(layer.name),
        "units": layer.attrs["units"],
        "day_night": layer.attrs.get("day_night", ""),
        "pixels": values.size,
        "valid_pixels": valid.size,
        "minimum": float(valid.min()) if valid.size else None,
        "mean": float(valid.mean(dtype=np.float64)) if valid.size else None,
        "maximum": float(valid.max()) if valid.size else None,
        "rejected_pixels": json.loads(layer.attrs["rejected_pixels"]),
        "valid_share": valid.size / values.size,
    }
