"""A grid as a value: where pixels lie, without their values; and rasters put in order on one.

Every raster that a caller gives comes in by ``placed``, and results are turned back at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from typing import Any, TypeVar

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import shapely
import xarray as xr
from affine import Affine
from numpy.typing import ArrayLike
from pyproj import CRS, Transformer
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.grids.axes import Oriented, oriented, raster_name
from keras_lstsr.grids.modis import (
    MODIS_SPHERE_RADIUS_M,
    canonical_crs,
    on_modis_lattice_by_another_ellipsoid,
)
from keras_lstsr.grids.raster_file import open_raster_file, reading

# Pixels that agree to this part of a pixel over the whole raster are the same pixels; delivered
# corners carry rounding noise of about 1e-6.
SAME_PIXEL = 0.01
# The variable that holds CRS and transform, by the name that rioxarray reads by default.
_MAPPING = "spatial_ref"

Rasters = TypeVar("Rasters", xr.DataArray, xr.Dataset)


@dataclass(frozen=True)
class Grid:
    """A north-up grid of pixels.

    Attributes:
        crs: CRS; any spelling of MODIS's sinusoidal one becomes the same.
        transform: Pixel corner (column, row) to coordinates (x, y) of the CRS. Rows run from north
            to south and columns from west to east.
        shape: Rows and columns.

    Raises:
        GridError: If the transform is not finite, is rotated or sheared or not north-up, the grid
            has no pixel, or its pixels are MODIS's but its CRS has another ellipsoid.
    """

    # Equal CRSs may have different texts, and pyproj hashes the text.
    crs: CRS = field(hash=False)
    transform: Affine
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        a, b, _, d, e, _ = coefficients = tuple(map(float, self.transform[:6]))
        problem = ""
        if not all(map(math.isfinite, coefficients)):
            problem = "the grid's transform is not finite"
        elif b or d or a <= 0 or e >= 0:
            problem = "the raster is rotated or not north up"
        if problem:
            raise GridError(
                problem,
                field="transform",
                found=coefficients,
                expected="no rotation, rows from north to south, columns from west to east",
                action="Warp it onto such a grid first (gdalwarp).",
            )
        shape = (int(self.shape[0]), int(self.shape[1]))
        found = f"{shape[0]} × {shape[1]} pixels"
        expected, problem = "1 or more rows and columns", "the raster has no pixel"
        GridError.unless(min(shape) >= 1, "shape", found, expected, problem)
        object.__setattr__(self, "crs", canonical_crs(self.crs))
        object.__setattr__(self, "transform", Affine(*coefficients))
        object.__setattr__(self, "shape", shape)
        if on_modis_lattice_by_another_ellipsoid(self.crs, self.transform):
            raise GridError(
                "the pixels are those of MODIS's grid, but the CRS is not",
                field="crs",
                found=self.crs.ellipsoid.name if self.crs.ellipsoid else self.crs.name,
                expected=f"sinusoidal on the sphere of {MODIS_SPHERE_RADIUS_M} m; by another "
                "ellipsoid the raster lies up to 20 km from its place",
                action="Write it: gdal_edit.py -a_srs "
                f"'+proj=sinu +R={MODIS_SPHERE_RADIUS_M} +units=m' FILE.",
            )

    @classmethod
    def of(cls, source: xr.DataArray | str | PathLike[str], role: str = "raster") -> Grid:
        """Returns the grid of a raster or of a file that rasterio reads.

        Args:
            source: A raster, taken as ``grids.grid.placed`` takes it, or a path.
            role: What the raster is in the call; names it in errors if it has no name.

        Raises:
            GridError: If it has no usable grid, or the file cannot be read.
        """
        if not isinstance(source, str | PathLike):
            return cls.of_oriented(oriented(source, role), role)
        try:
            with reading(source), open_raster_file(source) as opened:
                crs, transform, shape = opened.crs, opened.transform, opened.shape
        except ProductError as error:
            raise error.restated(source, kind=GridError) from error
        if crs is None or transform == Affine.identity():
            action = "Write them with gdal_edit.py -a_srs and -a_ullr."
            raise GridError("the raster has no CRS or no transform", path=source, action=action)
        return cls(crs, transform, shape)

    @classmethod
    def of_oriented(cls, found: Oriented, role: str) -> Grid:
        """Returns the grid of a raster that is already turned; errors name the raster."""
        height, width = found.raster.shape
        try:
            return cls(found.crs, found.transform, (height, width))
        except GridError as error:
            path, name = found.raster.encoding.get("source"), raster_name(found.raster, role)
            raise error.restated(path, name) from None

    @property
    def height(self) -> int:
        """Rows."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.shape[1]

    @property
    def pixel_size(self) -> tuple[float, float]:
        """A pixel's width and height, in units of the CRS."""
        return self.transform.a, -self.transform.e

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The outer edges west, south, east and north, in units of the CRS."""
        a, _, c, _, e, f = self.transform[:6]
        return c, f + e * self.height, c + a * self.width, f

    @property
    def crs_wkt(self) -> str:
        """The CRS as GDAL writes it."""
        return str(self.crs.srs)

    @property
    def footprint(self) -> shapely.Polygon:
        """The outer edges as a polygon in the CRS."""
        return shapely.box(*self.bounds)

    @property
    def longitude_latitude(self) -> tuple[float, float]:
        """Where its middle lies, in degrees."""
        to_degrees = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        x, y = self.transform @ (self.width / 2, self.height / 2)
        longitude, latitude = to_degrees.transform(x, y)
        return float(longitude), float(latitude)

    @property
    def utm(self) -> CRS:
        """The CRS of the UTM zone, on WGS 84, in which its middle lies.

        Raises:
            GridError: If it lies in none: UTM ends at 84° north and 80° south.
        """
        longitude, latitude = self.longitude_latitude
        middle = AreaOfInterest(longitude, latitude, longitude, latitude)
        zones = query_utm_crs_info(datum_name="WGS 84", area_of_interest=middle)
        problem = "the place lies in no UTM zone"
        GridError.unless(bool(zones), "latitude", latitude, "-80 to 84 degrees", problem)
        return CRS.from_epsg(int(zones[0].code))

    def finer(self, factor: int) -> Grid:
        """Returns the grid that divides each pixel into ``factor`` × ``factor``."""
        a, b, c, d, e, f = self.transform[:6]
        transform = Affine(a / factor, b, c, d, e / factor, f)
        return Grid(self.crs, transform, (self.height * factor, self.width * factor))

    def coarser(self, factor: float) -> Grid:
        """Returns the grid of pixels ``factor`` times as wide, from the same corner.

        A rest of rows or columns that does not fill a coarse pixel is left out.
        """
        a, b, c, d, e, f = self.transform[:6]
        # For factors that are not whole, e.g. 1000 m of 333.3 m, the quotient carries rounding.
        height, width = (int(length / factor + 1e-9) for length in self.shape)
        return Grid(self.crs, Affine(a * factor, b, c, d, e * factor, f), (height, width))

    def window(self, rows: slice, columns: slice) -> Grid:
        """Returns the grid of a window, by slices as of the values' array, without steps."""
        top, bottom, row_step = rows.indices(self.height)
        left, right, column_step = columns.indices(self.width)
        if (row_step, column_step) != (1, 1):
            raise GridError("a window has no steps", field="rows, columns", found=(rows, columns))
        return Grid(self.crs, self._moved(top, left), (bottom - top, right - left))

    def shifted(self, rows: float, columns: float) -> Grid:
        """Returns the same pixels moved by rows (down) and columns (to the right) of their own."""
        return Grid(self.crs, self._moved(rows, columns), self.shape)

    def _moved(self, rows: float, columns: float) -> Affine:
        return self.transform @ Affine.translation(columns, rows)

    def offset_in(self, other: Grid) -> tuple[int, int] | None:
        """Returns row and column of this grid's corner in another, None where the pixels differ.

        Pixels are shared where all corners agree to a hundredth of a pixel. The grids need not
        overlap, so that row and column may be negative or beyond the other grid.
        """
        corners = np.array(
            [(0, 0), (self.width, 0), (0, self.height), (self.width, self.height)], np.float64
        )
        a, _, c, _, e, f = self.transform[:6]
        x, y = c + a * corners[:, 0], f + e * corners[:, 1]
        if self.crs != other.crs:
            # Two texts may describe one CRS: then coordinates go over unchanged.
            transformer = Transformer.from_crs(self.crs, other.crs, always_xy=True)
            moved_x, moved_y = transformer.transform(x, y)
            shift = np.hypot(np.asarray(moved_x) - x, np.asarray(moved_y) - y)
            if not (shift < SAME_PIXEL * a).all():
                return None
        a, _, c, _, e, f = other.transform[:6]
        places = np.column_stack([(y - f) / e, (x - c) / a])
        first = np.rint(places[0])
        if not np.abs(places - (corners[:, ::-1] + first)).max() <= SAME_PIXEL:
            return None
        return int(first[0]), int(first[1])

    def coordinates(self) -> dict[str, xr.Variable]:
        """Returns the pixels' centres along ``y`` and ``x``, with attributes of CF."""
        if self.crs.is_geographic:
            unit, names = "degree", ("latitude", "longitude")
        else:
            unit, names = "m", ("projection_y_coordinate", "projection_x_coordinate")
        a, _, c, _, e, f = self.transform[:6]
        centres = {
            "y": f + e * (np.arange(self.height) + 0.5),
            "x": c + a * (np.arange(self.width) + 0.5),
        }
        return {
            axis: xr.Variable(
                axis, values, {"standard_name": name, "units": unit, "axis": axis.upper()}
            )
            for (axis, values), name in zip(centres.items(), names, strict=True)
        }

    def raster(
        self,
        values: ArrayLike,
        *,
        name: object = None,
        attrs: Mapping[Any, Any] | None = None,
        encoding: Mapping[Any, Any] | None = None,
    ) -> xr.DataArray:
        """Makes a raster ``[y, x]`` with centres, CRS and transform of values on the grid.

        Args:
            values: ``[height, width]``; not copied.
            name: Its name.
            attrs: Its attributes.
            encoding: How the values are to be stored.

        Raises:
            GridError: If the values are of another shape.
        """
        variable = xr.Variable(("y", "x"), values, dict(attrs or {}), dict(encoding or {}))
        return self.dataset({"values": variable})["values"].rename(name)

    def dataset(
        self, variables: Mapping[str, xr.Variable], attrs: Mapping[Any, Any] | None = None
    ) -> xr.Dataset:
        """Makes a dataset with centres, CRS and transform of variables on the grid.

        Args:
            variables: Name → variable ``[y, x]`` of the grid's shape; the values are not copied.
            attrs: Attributes of the dataset.

        Raises:
            GridError: If a variable is of another shape.
        """
        problem, expected = "the values do not lie on the grid", f"shape {self.shape}"
        for name, variable in variables.items():
            fits = variable.shape == self.shape
            GridError.unless(fits, name, f"shape {variable.shape}", expected, problem)
        numbers = " ".join(map(str, self.transform.to_gdal()))
        tags = {**_grid_mapping(self.crs_wkt), "GeoTransform": numbers}
        coordinates = {**self.coordinates(), _MAPPING: xr.Variable((), 0, tags)}
        result = xr.Dataset(dict(variables), coords=coordinates, attrs=dict(attrs or {}))
        result.encoding["grid_mapping"] = _MAPPING
        for name in variables:
            result.variables[name].attrs.pop("grid_mapping", None)
            result.variables[name].encoding["grid_mapping"] = _MAPPING
        return result


@lru_cache(maxsize=256)
def _grid_mapping(crs_wkt: str) -> dict[str, Any]:
    # As rioxarray writes it; its own writing takes longer than all else here, and may copy arrays.
    return dict(xr.Dataset().rio.write_crs(crs_wkt)[_MAPPING].attrs)


@dataclass(frozen=True, eq=False)
class Placed:
    """A caller's raster, put in order.

    Attributes:
        raster: ``[y, x]``, north-up, with the name, values, attributes and encoding given; its
            coordinates are the centres of ``grid``.
        grid: Where it lies.
        dimensions: The axis, ``y`` or ``x``, of each dimension given, and the dimension's name.
        flipped: Of ``y`` and ``x`` those that ran the other way.
    """

    raster: xr.DataArray
    grid: Grid
    dimensions: tuple[tuple[str, Any], ...]
    flipped: tuple[str, ...]

    def as_given(self, fine: Rasters) -> Rasters:
        """Turns a result back to the dimensions and directions of the caller's raster.

        Args:
            fine: ``[y, x]``, north-up, on any grid of the same CRS.
        """
        result = fine
        if self.flipped:
            a, b, c, d, e, f = result.rio.transform()[:6]
            if "y" in self.flipped:
                e, f = -e, f + e * result.sizes["y"]
            if "x" in self.flipped:
                a, c = -a, c + a * result.sizes["x"]
            result = result.isel({axis: slice(None, None, -1) for axis in self.flipped})
            result = _with_transform(result, Affine(a, b, c, d, e, f))
        names = {axis: name for axis, name in self.dimensions if name != axis}
        if names:
            result = result.rename(names)
        return result.transpose(..., *(name for _, name in self.dimensions))


def _with_transform(result: Rasters, transform: Affine) -> Rasters:
    # A shallow copy whose coordinate is its own; rioxarray would copy the values.
    copy = result.copy(deep=False)
    mapping = copy.rio.grid_mapping
    copy = copy.assign_coords({mapping: copy.coords[mapping].copy()})
    return copy.rio.write_transform(transform, inplace=True)


def placed(raster: object, role: str) -> Placed:
    """Takes in what a caller gave as a raster.

    Dimensions are known by the attributes of CF or by name, whatever their order; those of length
    1 go. Where there are coordinates they tell where the raster lies, even if a tag of the file it
    was read from says something else.

    Args:
        raster: What was given.
        role: What it is in the call, e.g. ``"guide"``; names it in errors if it has no name.

    Returns:
        The raster in order. Its values are viewed, not copied.

    Raises:
        GridError: If it is no raster of one band, or has no CRS or no regular north-up grid. The
            error names the raster and says what to pass.
    """
    turned = oriented(raster, role)
    grid = Grid.of_oriented(turned, role)
    own = turned.raster
    ordered = grid.raster(own.variable, name=own.name, attrs=own.attrs, encoding=own.encoding)
    return Placed(ordered, grid, turned.dimensions, turned.flipped)


def target_grid(like: object, role: str) -> tuple[Grid, Callable[[xr.DataArray], xr.DataArray]]:
    """Takes in a grid or a raster that says on which grid a result is wanted.

    Returns:
        The grid, and what turns a result ``[y, x]`` to the raster's dimensions and directions.

    Raises:
        GridError: As ``placed``.
    """
    if isinstance(like, Grid):
        return like, lambda result: result
    taken = placed(like, role)
    return taken.grid, taken.as_given
