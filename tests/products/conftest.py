"""Small HDF4-EOS and GeoTIFF files, written as NASA's are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from pyhdf.SD import SD, SDC

from keras_lstsr.grids.modis import MODIS_TILE_SIZE_M, modis_sinusoidal_crs
from keras_lstsr.products import HDF_PRODUCTS, mod09gq, mod11a1
from keras_lstsr.products.hdfeos import FieldDefinition
from keras_lstsr.testing.rasters import write_geotiff

NORTH_UP = Affine(1000.0, 0, 360000.0, 0, -1000.0, 5156000.0)
HDF_TYPES = {
    "char": SDC.CHAR,
    "uint8": SDC.UINT8,
    "int8": SDC.INT8,
    "uint16": SDC.UINT16,
    "int16": SDC.INT16,
    "int32": SDC.INT32,
    "float32": SDC.FLOAT32,
    "float64": SDC.FLOAT64,
}


def core_metadata(product: str, date: str, tile: str, version: str = "61") -> str:
    """Core metadata with what the reader looks for, in the archive's notation."""

    def entry(name: str, value: str) -> str:
        return (
            f"  OBJECT                 = {name}\n    NUM_VAL              = 1\n"
            f"    VALUE                = {value}\n  END_OBJECT             = {name}\n"
        )

    def additional(number: int, name: str, value: str) -> str:
        return (
            "  OBJECT = ADDITIONALATTRIBUTESCONTAINER\n"
            f'    CLASS = "{number}"\n'
            f'    OBJECT = ADDITIONALATTRIBUTENAME\n      VALUE = "{name}"\n'
            "    END_OBJECT = ADDITIONALATTRIBUTENAME\n"
            "    GROUP = INFORMATIONCONTENT\n      OBJECT = PARAMETERVALUE\n"
            f'        VALUE = "{value}"\n      END_OBJECT = PARAMETERVALUE\n'
            "    END_GROUP = INFORMATIONCONTENT\n"
            "  END_OBJECT = ADDITIONALATTRIBUTESCONTAINER\n"
        )

    return (
        "\nGROUP                  = INVENTORYMETADATA\n  GROUPTYPE            = MASTERGROUP\n"
        + entry("LOCALGRANULEID", f'"{product}.granule.hdf"')
        + entry("SHORTNAME", f'"{product}"')
        + entry("VERSIONID", version)
        + entry("RANGEBEGINNINGDATE", f'"{date}"')
        + entry("ASSOCIATEDPLATFORMSHORTNAME", '"Terra"')
        + additional(1, "HORIZONTALTILENUMBER", tile[1:3])
        + additional(2, "VERTICALTILENUMBER", tile[4:6])
        + "END_GROUP              = INVENTORYMETADATA\nEND\n"
    )


def struct_metadata(
    grids: Mapping[str, Mapping[str, Any]], projection: str = "GCTP_SNSOID", radius: str = ""
) -> str:
    """Structural metadata of grids: name -> corners, shape and field names."""
    lines = ["GROUP=SwathStructure", "END_GROUP=SwathStructure", "GROUP=GridStructure"]
    for number, (name, grid) in enumerate(grids.items(), start=1):
        height, width = grid["shape"]
        (left, top), (right, bottom) = grid["upper_left"], grid["lower_right"]
        lines += [
            f"\tGROUP=GRID_{number}",
            f'\t\tGridName="{name}"',
            f"\t\tXDim={width}",
            f"\t\tYDim={height}",
            f"\t\tUpperLeftPointMtrs=({left:.6f},{top:.6f})",
            f"\t\tLowerRightMtrs=({right:.6f},{bottom:.6f})",
            f"\t\tProjection={projection}",
            f"\t\tProjParams=({radius or '6371007.181000'},0,0,0,0,0,0,0,0,0,0,0,0)",
            "\t\tSphereCode=-1",
            "\t\tGridOrigin=HDFE_GD_UL",
            "\t\tGROUP=DataField",
        ]
        for index, field in enumerate(grid["fields"], start=1):
            lines += [
                f"\t\t\tOBJECT=DataField_{index}",
                f'\t\t\t\tDataFieldName="{field}"',
                '\t\t\t\tDimList=("YDim","XDim")',
                f"\t\t\tEND_OBJECT=DataField_{index}",
            ]
        lines += ["\t\tEND_GROUP=DataField", f"\tEND_GROUP=GRID_{number}"]
    lines += ["END_GROUP=GridStructure", "END", ""]
    return "\n".join(lines).ljust(32000, "\0")


def write_hdf(
    path: Path,
    datasets: Sequence[tuple[FieldDefinition, np.ndarray]],
    attributes: Mapping[str, str],
    grid_name: str,
) -> Path:
    """Writes an HDF4 file with global text attributes and compressed fields."""
    sd = SD(str(path), SDC.WRITE | SDC.CREATE | SDC.TRUNC)
    for entry, values in datasets:
        dataset = sd.create(entry.name, HDF_TYPES[values.dtype.name], values.shape)
        for axis, name in enumerate(("YDim", "XDim")):
            dataset.dim(axis).setname(f"{name}:{grid_name}")
        dataset.setcompress(SDC.COMP_DEFLATE, 6)
        for name, kind, value in entry.attributes:
            dataset.attr(name).set(HDF_TYPES[kind], value)
        dataset[:] = values
        dataset.endaccess()
    for name, text in attributes.items():
        sd.attr(name).set(SDC.CHAR, text)
    sd.end()
    return path


def place(tile: str, shape: tuple[int, int], pixels_per_tile: int, row: int = 0, column: int = 0):
    """Corners of a window of a MODIS tile."""
    size = MODIS_TILE_SIZE_M / pixels_per_tile
    left = (int(tile[1:3]) - 18) * MODIS_TILE_SIZE_M + column * size
    top = (9 - int(tile[4:6])) * MODIS_TILE_SIZE_M - row * size
    return {
        "shape": shape,
        "upper_left": (left, top),
        "lower_right": (left + shape[1] * size, top - shape[0] * size),
    }


def write_product(
    path: Path,
    module: Any,
    arrays: Mapping[str, np.ndarray],
    *,
    product: str,
    tile: str = "h18v04",
    date: str = "2021-08-15",
    with_core: bool = True,
    row: int = 0,
    column: int = 0,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    only: Sequence[str] | None = None,
    **structure: Any,
) -> Path:
    """Writes a granule of ``module.FIELDS``, or some; those without an array are filled."""
    fields = [entry for entry in module.FIELDS if only is None or entry.name in only]
    shape = next(iter(arrays.values())).shape
    pixels_per_tile = 1200 if module is mod11a1 else 4800
    datasets = []
    for entry in fields:
        fill = entry.get("_FillValue") if isinstance(entry.get("_FillValue"), int) else 0
        values = arrays.get(entry.name, np.full(shape, fill, entry.dtype))
        changes = (overrides or {}).get(entry.name, {})
        kept = tuple(
            (name, kind, changes.get(name, value))
            for name, kind, value in entry.attributes
            if changes.get(name, value) is not None
        )
        datasets.append((FieldDefinition(entry.name, "", entry.dtype, kept), values))
    grid = place(tile, shape, pixels_per_tile, row, column)
    grid["fields"] = [entry.name for entry in fields]
    name = HDF_PRODUCTS["MOD11A1" if module is mod11a1 else "MOD09GQ"].grid_name
    text = struct_metadata({name: grid}, **structure)
    attributes = {"HDFEOSVersion": "HDFEOS_V2.19", "StructMetadata.0": text}
    if with_core:
        attributes["CoreMetadata.0"] = core_metadata(product, date, tile)
    return write_hdf(path, datasets, attributes, name)


def archive_name(product: str, tile: str = "h18v04", date: str = "2021-08-15", **_: Any) -> str:
    """A granule's name in the archive."""
    return f"{product}.A{dt.date.fromisoformat(date):%Y%j}.{tile}.061.2021228105320.hdf"


@pytest.fixture
def write_mod11a1(tmp_path: Path) -> Callable[..., Path]:
    """Writes a MOD11A1 file from arrays by field name."""

    def write(arrays: Mapping[str, np.ndarray], name: str = "", **options: Any) -> Path:
        options.setdefault("product", "MOD11A1")
        path = tmp_path / (name or archive_name(**options))
        return write_product(path, mod11a1, arrays, **options)

    return write


@pytest.fixture
def write_mod09gq(tmp_path: Path) -> Callable[..., Path]:
    """Writes a MOD09GQ file from arrays by field name."""

    def write(arrays: Mapping[str, np.ndarray], name: str = "", **options: Any) -> Path:
        options.setdefault("product", "MOD09GQ")
        path = tmp_path / (name or archive_name(**options))
        return write_product(path, mod09gq, arrays, **options)

    return write


@pytest.fixture
def write_tif(tmp_path: Path) -> Callable[..., Path]:
    """Writes a GeoTIFF of 1 km in UTM; ``testing.rasters.write_geotiff`` tells the options."""

    def write(
        values: np.ndarray,
        name: str = "raster.tif",
        *,
        crs: Any = "EPSG:32633",
        transform: Affine | None = NORTH_UP,
        **options: Any,
    ) -> Path:
        place = {"crs": modis_sinusoidal_crs().srs if crs == "modis" else crs}
        place |= {} if transform is None else {"transform": transform}
        return write_geotiff(tmp_path / name, values, **place, **options)

    return write
