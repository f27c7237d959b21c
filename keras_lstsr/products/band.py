"""The single band of a raster that rasterio reads, as stored, with what its tags say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import modis_sinusoidal_crs, tile_of_bounds
from keras_lstsr.grids.raster_file import open_raster_file, reading
from keras_lstsr.products import granule


@dataclass(frozen=True)
class RasterBand:
    """The single band of a raster as it is stored, with its tags.

    Attributes:
        path: The file.
        stored: ``[H, W]``.
        masked: ``[H, W]``, True where the file's own mask or alpha hides the pixel; or None.
        grid: Where it lies.
        scale: The band's scale from its tags; None if they state none.
        offset: The band's offset; None if the tags state none.
        nodata: The band's nodata value; None if the tags state none.
        units: The band's units from its tags, or empty.
        description: The band's description, or empty.
        tags: Tags of file and band, keys in lower case.
    """

    path: Path
    stored: NDArray[Any]
    masked: NDArray[np.bool_] | None
    grid: Grid
    scale: float | None
    offset: float | None
    nodata: float | None
    units: str
    description: str
    tags: dict[str, str]

    @property
    def words(self) -> str:
        """The texts in the file that may name the quantity and the time of day."""
        keys = ("long_name", "standard_name", "quantity", "product", "imagedescription", "title")
        tagged = [self.tags.get(key, "") for key in keys]
        tagged.append(self.tags.get("tifftag_imagedescription", ""))
        return " | ".join(text for text in (self.description, *tagged) if text)

    @property
    def tile(self) -> str:
        """The MODIS tile, from the tags, the file name or the place on the MODIS grid."""
        named = self.tags.get("tile") or granule.tile_from_name(self.path.name)
        if named or self.grid.crs != modis_sinusoidal_crs():
            return named
        return tile_of_bounds(*self.grid.bounds)


def read_band(path: str | PathLike[str], wanted: Collection[str] = ()) -> RasterBand:
    """Reads the band of a raster, and its tags.

    Args:
        path: The file.
        wanted: Descriptions by which one of several bands is chosen.

    Raises:
        ProductError: If the file is missing, no raster, damaged, has several bands and not one of
            those wanted, no CRS, no georeferencing, or is not north up.
    """
    path = Path(path)
    with reading(path), open_raster_file(path) as source:
        number = _band_number(source, path, wanted)
        grid = _checked_grid(source, path, number)
        stored = source.read(number)
        masked = None
        if MaskFlags.per_dataset in source.mask_flag_enums[number - 1]:
            masked = source.read_masks(number) == 0
        tags = {key.lower(): value for key, value in source.tags().items()}
        tags |= {key.lower(): value for key, value in source.tags(number).items()}
        # rasterio reports 1 and 0 where there is no tag.
        scaled = (source.scales[number - 1], source.offsets[number - 1]) != (1.0, 0.0)
        return RasterBand(
            path=path,
            stored=stored,
            masked=masked,
            grid=grid,
            scale=source.scales[number - 1] if scaled else _tag(tags, "scale_factor", "scale"),
            offset=source.offsets[number - 1] if scaled else _tag(tags, "add_offset", "offset"),
            nodata=source.nodata
            if source.nodata is not None
            else _tag(tags, "_fillvalue", "missing_value"),
            units=(source.units[number - 1] or tags.get("units") or tags.get("unit") or "").strip(),
            description=source.descriptions[number - 1] or "",
            tags=tags,
        )


def _tag(tags: dict[str, str], *names: str) -> float | None:
    for name in names:
        try:
            return float(tags[name])
        except (KeyError, ValueError):
            continue  # absent, or text such as "NA": as good as absent
    return None


def _band_number(source: Any, path: Path, wanted: Collection[str]) -> int:
    numbers = [n for n, text in enumerate(source.descriptions, 1) if text in wanted]
    if source.count != 1 and len(numbers) != 1:
        raise ProductError(
            "which band to read is unknown",
            path=path,
            found=f"{source.count} bands" if source.count else "no band, perhaps subdatasets",
            expected="one band",
            action="Extract the band: gdal_translate -b NUMBER IN OUT.",
        )
    return int(numbers[0]) if source.count != 1 else 1


def _checked_grid(source: Any, path: Path, number: int) -> Grid:
    if np.dtype(source.dtypes[number - 1]).kind not in "iuf":
        raise ProductError(
            "the raster's numbers are neither integers nor floating-point",
            path=path,
            found=source.dtypes[number - 1],
            expected="an integer or floating-point band",
        )
    transform, crs = source.transform, source.crs
    if crs is not None and not (crs.is_projected or crs.is_geographic):
        raise ProductError(
            "the raster's coordinate reference system is not on the Earth's surface",
            path=path,
            found=crs.to_string(),
            expected="a projected or geographic one",
            action="Write the right one with gdal_edit.py -a_srs.",
        )
    if crs is None or transform == Affine.identity():
        missing = "coordinate reference system" if crs is None else "geotransform"
        raise ProductError(
            f"the raster has no {missing}",
            path=path,
            action="Write it with gdal_edit.py -a_srs and -a_ullr.",
        )
    try:
        return Grid(crs, transform, source.shape)
    except GridError as error:
        raise error.restated(path, kind=ProductError) from None
