"""How a job opens its rasters: the options of each role, and which variables it needs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from keras_lstsr.products import guide_layer, is_hdf, lst_layers, open_product

LST, TRUTH = "lst", "truth"
_LST_VARIABLES = ("lst_day_kelvin", "lst_night_kelvin")


@dataclass(frozen=True)
class RasterReader:
    """Opens the rasters of one role.

    ``scale``, ``offset``, ``nodata``, ``unit`` and ``day_night`` concern GeoTIFF alone: HDF4-EOS
    products among the inputs define them themselves. See ``open_product`` for all of them.

    Attributes:
        role: ``lst``, ``truth``, or the name of a guide.
    """

    role: str
    qc_policy: str = "default"
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    unit: str | None = None
    day_night: str | None = None
    date_pattern: str | None = None

    def open(self, path: str | PathLike[str]) -> xr.Dataset:
        """Opens a raster; see ``open_product``.

        Raises:
            ProductError: If it cannot be read, or is no product of this role.
        """
        options: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in fields(self)[1:]
        }
        quantity = LST if self.role == TRUTH else self.role
        if is_hdf(Path(path)):
            # All that samples are made of; reading less is faster.
            variables = _LST_VARIABLES if quantity == LST else (quantity,)
            kept = {name: options[name] for name in ("qc_policy", "date_pattern")}
            return open_product(path, variables=variables, **kept)
        return open_product(path, quantity=quantity, **options)

    def layers(self, scene: xr.Dataset) -> dict[str, xr.DataArray]:
        """Returns what a scene holds for this role: LST by time of day, or a guide by its name.

        Raises:
            ProductError: If it holds none.
        """
        if self.role in (LST, TRUTH):
            return lst_layers(scene)
        return {self.role: guide_layer(scene, self.role)}
