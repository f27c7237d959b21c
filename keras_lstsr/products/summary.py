"""What a scene holds, in numbers: the contents of ``keras-lstsr inspect``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr
from rasterio.crs import CRS

from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import MODIS_SPHERE_RADIUS_M, modis_sinusoidal_crs
from keras_lstsr.products.quality import MOD09GQ_QC, MOD11_QC, QualityRow, quality_table
from keras_lstsr.products.scene import rejection_name

_QC_FIELDS = {"qc_day": MOD11_QC, "qc_night": MOD11_QC, "qc_250m": MOD09GQ_QC}


@dataclass(frozen=True)
class GridSummary:
    """The grid of a scene.

    Attributes:
        crs: Authority code or PROJ text.
        height: Rows.
        width: Columns.
        pixel_size: Width and height of a pixel, in ``unit``.
        corner: x and y of the upper left pixel's outer corner, in ``unit``.
        unit: ``"m"`` or ``"degree"``.
    """

    crs: str
    height: int
    width: int
    pixel_size: tuple[float, float]
    corner: tuple[float, float]
    unit: str


@dataclass(frozen=True)
class LayerSummary:
    """An LST, reflectance or NDVI layer of a scene.

    Attributes:
        name: The variable.
        units: Its units.
        day_night: ``"day"``, ``"night"``, ``"unknown"``, or empty where it does not apply.
        pixels: All pixels.
        valid_pixels: Pixels with a value.
        minimum: Smallest value; None without any.
        mean: Mean value; None without any.
        maximum: Largest value; None without any.
        rejected_pixels: Reason -> pixels.
    """

    name: str
    units: str
    day_night: str
    pixels: int
    valid_pixels: int
    minimum: float | None
    mean: float | None
    maximum: float | None
    rejected_pixels: dict[str, int]

    @property
    def valid_share(self) -> float:
        """Share of the pixels that have a value, 0 to 1."""
        return self.valid_pixels / self.pixels


@dataclass(frozen=True)
class SceneSummary:
    """A scene in numbers.

    Attributes:
        attributes: Product, tile, acquisition date and so on.
        grid: The grid.
        layers: The layers that can be masked.
        quality: QC variable -> its decoded table.
    """

    attributes: dict[str, str]
    grid: GridSummary
    layers: tuple[LayerSummary, ...]
    quality: dict[str, list[QualityRow]]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain dicts, lists and numbers, ready for JSON."""
        content = asdict(self)
        for layer, summary in zip(content["layers"], self.layers, strict=True):
            layer["valid_share"] = summary.valid_share
        return content


def summarise(scene: xr.Dataset) -> SceneSummary:
    """Counts what is in a scene.

    Args:
        scene: A dataset from :func:`keras_lstsr.products.open_product`.

    Returns:
        The summary; a layer without a single value is one with None for its range.
    """
    names = [str(name) for name in scene.data_vars if rejection_name(str(name)) in scene]
    return SceneSummary(
        attributes={key: str(value) for key, value in scene.attrs.items()},
        grid=_grid(scene),
        layers=tuple(_layer(scene[name]) for name in names),
        quality={
            name: quality_table(scene[name].values, fields)
            for name, fields in _QC_FIELDS.items()
            if name in scene
        },
    )


def _grid(scene: xr.Dataset) -> GridSummary:
    grid = Grid.of(next(iter(scene.values())))
    return GridSummary(
        crs=_crs_text(scene.rio.crs),
        height=grid.height,
        width=grid.width,
        pixel_size=grid.pixel_size,
        corner=(grid.transform.c, grid.transform.f),
        unit=scene["x"].attrs["units"],
    )


def _crs_text(crs: CRS) -> str:
    if crs == modis_sinusoidal_crs():
        return f"MODIS sinusoidal, sphere of {MODIS_SPHERE_RADIUS_M} m"
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_proj4())


def _layer(layer: xr.DataArray) -> LayerSummary:
    values = layer.values
    valid = values[np.isfinite(values)]
    return LayerSummary(
        name=str(layer.name),
        units=layer.attrs["units"],
        day_night=layer.attrs.get("day_night", ""),
        pixels=values.size,
        valid_pixels=valid.size,
        minimum=float(valid.min()) if valid.size else None,
        mean=float(valid.mean(dtype=np.float64)) if valid.size else None,
        maximum=float(valid.max()) if valid.size else None,
        rejected_pixels=json.loads(layer.attrs["rejected_pixels"]),
    )
