"""How a job opens its rasters: the options of each role, and which variables it needs."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import xarray as xr

from keras_lstsr.errors import ProductError
from keras_lstsr.products import open_product
from keras_lstsr.products.hdfeos import check_is_hdf4
from keras_lstsr.records.planning import Role

# All that patches are made of; reading less is faster.
_VARIABLES = {"lst": ("lst_day_kelvin", "lst_night_kelvin"), "ndvi": ("ndvi",)}


@dataclass(frozen=True)
class RasterReader:
    """Opens the rasters of one role.

    ``scale``, ``offset``, ``nodata``, ``unit`` and ``day_night`` concern GeoTIFF alone: HDF4-EOS
    products among the inputs define them themselves. See ``open_product`` for all of them.
    """

    role: Role
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
        path = Path(path)
        if _is_hdf(path):
            return open_product(
                path,
                qc_policy=self.qc_policy,
                date_pattern=self.date_pattern,
                variables=_VARIABLES[self.role],
            )
        return open_product(
            path,
            qc_policy=self.qc_policy,
            quantity=self.role,
            scale=self.scale,
            offset=self.offset,
            nodata=self.nodata,
            unit=self.unit,
            day_night=self.day_night,
            date_pattern=self.date_pattern,
        )


def _is_hdf(path: Path) -> bool:
    if path.suffix.lower() in (".hdf", ".hdf4", ".h4"):
        return True
    try:
        check_is_hdf4(path)
    except ProductError:
        return False
    return True
