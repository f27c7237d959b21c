"""HDF4-EOS files: grid metadata to CRS and transform, fields to arrays.

The rasterio wheel has no HDF4 driver; pyhdf brings its own library, which runs in a process beside
(``products.hdf4_pool``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, Self

from affine import Affine
from numpy.typing import NDArray

from keras_lstsr.errors import ProductError
from keras_lstsr.grids.grid import SAME_PIXEL, Grid
from keras_lstsr.grids.modis import (
    MODIS_SPHERE_RADIUS_M,
    MODIS_TILE_COLUMNS,
    MODIS_TILE_ROWS,
    MODIS_TILE_SIZE_M,
    modis_sinusoidal_crs,
)
from keras_lstsr.grids.raster_file import check_is_file, check_size
from keras_lstsr.products.hdf4_pool import Hdf4Failure, Hdf4Session

HDF4_MAGIC = b"\x0e\x03\x13\x01"
_RADIUS_TOLERANCE_M = 1.0
_DOWNLOAD_AGAIN = "Download the file again and compare its size or checksum with the archive's."

# What the archive's files have is about 40 kB, nested seven deep.
_METADATA_CHARACTERS = 2_000_000
_METADATA_DEPTH = 50


@dataclass(frozen=True)
class FieldDefinition:
    """A field of a product as its user guide and its files define it.

    Attributes:
        name: Name in the file.
        variable: Name in the dataset of ``open_product``; empty if the field is not read.
        dtype: NumPy name of the stored type.
        attributes: Its attributes in the order of the file: name, HDF4 type, value. The
            ``_FillValue`` of some v061 QC fields is text.
    """

    name: str
    variable: str
    dtype: str
    attributes: tuple[tuple[str, str, Any], ...]

    def get(self, attribute: str) -> Any:
        """Returns an attribute's value; None if the product's files have no such attribute."""
        return next((value for name, _, value in self.attributes if name == attribute), None)


@dataclass(frozen=True)
class EosGrid:
    """A grid of an HDF4-EOS file, from its ``StructMetadata.0``.

    Attributes:
        name: Grid name, e.g. ``"MODIS_Grid_Daily_1km_LST"``.
        grid: Where it lies; row 0 is the northernmost.
        fields: Names of the grid's fields.
    """

    name: str
    grid: Grid
    fields: tuple[str, ...]


class HdfEosFile:
    """An HDF4-EOS grid file, open for reading; use it in a ``with`` statement.

    Raises:
        ProductError: If the file is missing, is no HDF4 file, is damaged, or holds no grid.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._session: Hdf4Session | None = None

    def __enter__(self) -> Self:
        check_is_hdf4(self.path)
        try:
            self._session = Hdf4Session(self.path)
        except Hdf4Failure as error:
            self._raise_damaged(error)
        self._metadata: dict[str, Any] = self._session.metadata
        self.datasets = self._session.fields
        return self

    def __exit__(self, *exception: object) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _raise_damaged(self, error: Exception, field_name: str | None = None) -> NoReturn:
        raise ProductError(
            "the HDF4 file is truncated or damaged",
            path=self.path,
            field=field_name,
            found=f"{self.path.stat().st_size} bytes that cannot be read ({error})",
            action=_DOWNLOAD_AGAIN,
        ) from error

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """All attributes of the file, by name.

        Raises:
            ProductError: If they cannot be read.
        """
        if self._session is None:
            self._raise_damaged(Hdf4Failure("the file is closed"))
        try:
            return self._session.attributes()
        except Hdf4Failure as error:
            self._raise_damaged(error)

    def metadata(self, name: str) -> OdlNode | None:
        """Parses structural or core metadata, named without the number of the parts.

        Returns:
            The tree; None if the file has none of that name.

        Raises:
            ProductError: If they are damaged.
        """
        parts = [f"{name}.{number}" for number in range(10)]
        text = "".join(str(self._metadata[part]) for part in parts if part in self._metadata)
        if len(text) > _METADATA_CHARACTERS:
            raise ProductError("the metadata are too long", path=self.path, field=name)
        if not text.strip("\0 \n"):
            return None
        try:
            return parse_odl(text)
        except ProductError as error:
            raise ProductError(
                f"{error.problem} ({error.field})", path=self.path, field=name
            ) from error

    @cached_property
    def grids(self) -> tuple[EosGrid, ...]:
        """The grids that ``StructMetadata.0`` defines, at least one.

        Raises:
            ProductError: If there is no such attribute, no grid, or a grid that is not the MODIS
                sinusoidal one.
        """
        structure = self.metadata("StructMetadata")
        if structure is None:
            raise ProductError(
                "the HDF4 file has no grid metadata",
                path=self.path,
                field="StructMetadata.0",
                expected="an HDF4-EOS grid file",
            )
        swaths = structure.find("SwathStructure")
        grids = structure.find("GridStructure")
        if grids is None or not grids.children:
            if swaths is not None and swaths.children:
                names = [node.values.get("SwathName", node.name) for node in swaths.children]
                raise ProductError(
                    "this is a swath file: its pixels lie on no map grid",
                    path=self.path,
                    found=f"swath {', '.join(names)}",
                    expected="a tile of a gridded product such as MOD11A1",
                    action="Download the gridded daily product (MOD11A1 instead of MOD11_L2).",
                )
            raise ProductError(
                "the HDF4-EOS file holds no grid", path=self.path, field="StructMetadata.0"
            )
        return tuple(_grid_definition(node, self.path) for node in grids.children)

    def grid_of(self, field_name: str) -> EosGrid:
        """Returns the grid that holds a field.

        Raises:
            ProductError: If no grid does.
        """
        for grid in self.grids:
            if field_name in grid.fields:
                return grid
        listing = "; ".join(f"{grid.name}: {', '.join(grid.fields)}" for grid in self.grids)
        raise ProductError(
            "no grid of this file has the field",
            path=self.path,
            field=field_name,
            found=listing or "no field at all",
        )

    def read(self, field_name: str) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reads a field as it is stored: the array ``[H, W]``, and the field's attributes.

        Raises:
            ProductError: If the field is missing, damaged or not of its grid's shape.
        """
        grid = self.grid_of(field_name).grid
        if self._session is None or field_name not in self.datasets:
            self._raise_damaged(Hdf4Failure("no such data set"), field_name)
        shape, _ = self.datasets[field_name]
        if shape != grid.shape:
            raise ProductError(
                "the field does not have the shape of its grid",
                path=self.path,
                field=field_name,
                found=" × ".join(map(str, shape)),
                expected=f"{grid.height} × {grid.width}",
            )
        try:
            return self._session.read(field_name)
        except Hdf4Failure as error:
            self._raise_damaged(error, field_name)


def check_is_hdf4(path: Path) -> None:
    """Checks that a file exists and begins like HDF4, before the library is asked.

    Raises:
        ProductError: If not; the message says what the file seems to be.
    """
    check_is_file(path)
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(HDF4_MAGIC):
        return
    if not start:
        found = "an empty file"
    elif start.startswith(b"\x89HDF"):
        found = "HDF5"
    elif start.lstrip()[:1] in (b"<", b"{"):
        found = "HTML, XML or JSON text, perhaps the archive's error or login page"
    else:
        found = f"a file that begins with {start!r}"
    raise ProductError(
        "this is not an HDF4 file", path=path, found=found, expected="HDF4", action=_DOWNLOAD_AGAIN
    )


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.strip("()").split(",")]


def _grid_definition(node: OdlNode, path: Path) -> EosGrid:
    values = node.values
    name = values.get("GridName", node.name)
    projection = values.get("Projection", "none")
    if projection != "GCTP_SNSOID":
        raise ProductError(
            "the grid is not sinusoidal",
            path=path,
            field=name,
            found=projection,
            expected="GCTP_SNSOID",
            action="Download the tiled sinusoidal product, or convert the field to GeoTIFF.",
        )
    try:
        radius = _numbers(values["ProjParams"])[0]
        left, top = _numbers(values["UpperLeftPointMtrs"])
        right, bottom = _numbers(values["LowerRightMtrs"])
        height, width = int(values["YDim"]), int(values["XDim"])
    except (KeyError, ValueError) as error:
        raise ProductError(
            f"the grid metadata are incomplete: {error}",
            path=path,
            field=f"StructMetadata.0 {name}",
        ) from error
    if abs(radius - MODIS_SPHERE_RADIUS_M) > _RADIUS_TOLERANCE_M:
        raise ProductError(
            "the grid lies on another sphere than MODIS's grids",
            path=path,
            field=name,
            found=f"radius {radius} m",
            expected=f"{MODIS_SPHERE_RADIUS_M} m",
        )
    origin = values.get("GridOrigin", "HDFE_GD_UL")
    corners = (left, top, right, bottom)
    in_order = all(map(math.isfinite, corners)) and left < right and bottom < top
    east, north = (
        MODIS_TILE_COLUMNS / 2 * MODIS_TILE_SIZE_M,
        MODIS_TILE_ROWS / 2 * MODIS_TILE_SIZE_M,
    )
    edge = 1.0  # metre: corners are rounded
    in_order &= -east - edge <= left and right <= east + edge
    in_order &= -north - edge <= bottom and top <= north + edge
    if origin != "HDFE_GD_UL" or height < 1 or width < 1 or not in_order:
        raise ProductError(
            "the grid's extent is unusable",
            path=path,
            field=name,
            found=f"{height} × {width} pixels, corners ({left}, {top}) and ({right}, {bottom}), "
            f"origin {origin}",
            expected="the upper left corner north-west of the lower right one, both on the globe",
        )
    check_size(path, height, width, 8)
    pixel_width, pixel_height = (right - left) / width, (top - bottom) / height
    fields = tuple(
        child.values["DataFieldName"]
        for child in node.walk()
        if re.fullmatch(r"DataField_\d+", child.name) and "DataFieldName" in child.values
    )
    transform = Affine(pixel_width, 0.0, left, 0.0, -pixel_height, top)
    return EosGrid(name, Grid(modis_sinusoidal_crs(), transform, (height, width)), fields)


def check_on_lattice(path: Path, found: EosGrid, pixels_per_tile: int) -> None:
    """Checks that a grid's pixels are some of those that a product cuts MODIS's tiles into.

    Raises:
        ProductError: If they are of another size, not square, or beside the lattice.
    """
    grid, size = found.grid, MODIS_TILE_SIZE_M / pixels_per_tile
    (width, height), (west, _, _, north) = grid.pixel_size, grid.bounds
    column = (west + MODIS_TILE_SIZE_M * MODIS_TILE_COLUMNS / 2) / size
    row = (MODIS_TILE_SIZE_M * MODIS_TILE_ROWS / 2 - north) / size
    away = max(
        abs(width / size - 1) * grid.width,
        abs(height / size - 1) * grid.height,
        abs(column - round(column)),
        abs(row - round(row)),
    )
    if away > SAME_PIXEL:
        raise ProductError(
            "the grid's pixels are not the product's",
            path=path,
            field=f"StructMetadata.0 {found.name}",
            found=f"{grid.height} × {grid.width} pixels of {height:.6f} × {width:.6f} m, upper "
            f"left corner ({west:.6f}, {north:.6f})",
            expected=f"pixels of {size:.6f} m that divide MODIS's tiles",
            action="Use the file as the archive delivers it.",
        )


@dataclass
class OdlNode:
    """A GROUP or OBJECT of ODL, the language of the EOS metadata."""

    name: str
    values: dict[str, str] = field(default_factory=dict)
    children: list[OdlNode] = field(default_factory=list)

    def walk(self) -> Iterator[OdlNode]:
        """Yields the node and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, name: str) -> OdlNode | None:
        """Returns the first node of that name at or below this one."""
        return next((node for node in self.walk() if node.name == name), None)


def parse_odl(text: str) -> OdlNode:
    """Parses ODL text into a tree; the root has no name.

    Values keep their text, without the quotes round a string. A value whose brackets are still
    open at the end of a line goes on in the next. NUL bytes are ignored.

    Raises:
        ProductError: If groups do not close in the order in which they opened.
    """
    root = OdlNode("")
    stack = [root]
    lines = iter(text.replace("\0", "").splitlines())
    for line in lines:
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        if value.count("(") > value.count(")") and not value.endswith('"'):
            value = _continued(key, value, lines)
        if key in ("GROUP", "OBJECT"):
            node = OdlNode(value)
            stack[-1].children.append(node)
            stack.append(node)
            if len(stack) > _METADATA_DEPTH:
                raise ProductError("metadata groups are nested too deep", field=value)
        elif key in ("END_GROUP", "END_OBJECT"):
            if len(stack) == 1 or stack[-1].name != value:
                raise ProductError("metadata groups are not nested", field=value)
            stack.pop()
        else:
            stack[-1].values[key] = value.strip('"')
    if len(stack) > 1:
        raise ProductError("metadata end inside a group", field=stack[-1].name)
    return root


def _continued(key: str, start: str, lines: Iterator[str]) -> str:
    """Adds lines to a value until its brackets close; the time grows with the text alone."""
    parts, still_open = [start], start.count("(") - start.count(")")
    for line in lines:
        parts.append(line.strip())
        still_open += parts[-1].count("(") - parts[-1].count(")")
        if still_open <= 0 or parts[-1].endswith('"'):
            return "".join(parts)
    raise ProductError("metadata end inside a value", field=key)
