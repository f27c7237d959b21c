"""The door for every raster that a caller gives: put in order first, turned back at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import xarray as xr
from affine import Affine

from keras_lstsr.grids.axes import oriented
from keras_lstsr.grids.grid import Grid

Rasters = TypeVar("Rasters", xr.DataArray, xr.Dataset)


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
