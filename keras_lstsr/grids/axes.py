"""Which dimension of a raster is which, and which way it runs; told by coordinates, not order."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from keras_lstsr.errors import GridError

_NAMES = {
    "y": {"y", "lat", "latitude", "northing"},
    "x": {"x", "lon", "long", "longitude", "easting"},
}
_STANDARD_NAMES = {
    "y": {"projection_y_coordinate", "latitude", "grid_latitude"},
    "x": {"projection_x_coordinate", "longitude", "grid_longitude"},
}
_UNITS = {
    "y": {"degrees_north", "degree_north", "degree_n", "degrees_n"},
    "x": {"degrees_east", "degree_east", "degree_e", "degrees_e"},
}
# Part of a pixel by which a coordinate may be off its place on a regular grid.
_SAME_PLACE = 0.01


@dataclass(frozen=True, eq=False)
class Oriented:
    """A raster turned north-up, and what tells where it lies.

    Attributes:
        raster: Dimensions ``(y, x)``, rows from north to south and columns from west to east; its
            coordinates and tags as they were.
        crs: Its CRS.
        transform: Pixel corner (column, row) to coordinates of the CRS.
        dimensions: The axis, ``y`` or ``x``, of each dimension given, and the dimension's name.
        flipped: Of ``y`` and ``x`` those that ran the other way.
    """

    raster: xr.DataArray
    crs: CRS
    transform: Affine
    dimensions: tuple[tuple[str, Any], ...]
    flipped: tuple[str, ...]

    def error(self, problem: str, role: str, **details: Any) -> GridError:
        """Makes the error that names the raster."""
        return _error(self.raster, role, problem, **details)


def raster_name(raster: xr.DataArray, role: str) -> str:
    """Returns the raster's own name, or its role in the call where it has none."""
    return role if raster.name is None else str(raster.name)


def oriented(raster: object, role: str) -> Oriented:
    """Turns a raster north-up; the values are viewed, not copied.

    Args:
        raster: What a caller gave as a raster.
        role: What it is in the call, e.g. ``"guide"``; names it in errors if it has no name.

    Raises:
        GridError: If it is no raster of one band, or has no CRS or no regular grid.
    """
    raster = checked_raster(raster, role)
    axes = spatial_axes(raster)
    if sorted(axes.values()) != ["x", "y"]:
        raise _error(
            raster,
            role,
            "its dimensions along y and x cannot be told",
            found=f"dimensions {', '.join(map(str, raster.dims)) or 'none'}",
            expected="dimensions y and x, or latitude and longitude",
            action='Rename them: raster.rename({"…": "y", "…": "x"}).',
        )
    if any(raster.sizes[name] != 1 for name in raster.dims if name not in axes):
        raise _error(
            raster,
            role,
            "the raster is not one band",
            found=dict(raster.sizes),
            expected="dimensions y and x",
            action="Select one band, e.g. with .isel(band=0).",
        )
    extra = [name for name in raster.dims if name not in axes]
    # A dimension cannot take a name that another coordinate has.
    taken = [name for name in ("y", "x") if name in raster.coords and name not in raster.dims]
    result = raster.squeeze(extra, drop=True).drop_vars(taken)
    result = result.rename(axes).transpose("y", "x")
    if result.rio.crs is None:
        raise _error(
            raster,
            role,
            "the raster has no CRS",
            action='Write the right one with .rio.write_crs("EPSG:…"), or gdal_edit.py -a_srs.',
        )
    dimensions = tuple((axes[name], name) for name in raster.dims if name in axes)
    tag = _tagged_transform(result)
    if tag is not None and (tag.b or tag.d):
        return Oriented(result, result.rio.crs, tag, dimensions, ())
    found: dict[str, tuple[float, float]] = {}
    flipped = []
    for axis, sign in (("y", -1), ("x", 1)):
        tagged = None if tag is None else ((tag.f, tag.e) if axis == "y" else (tag.c, tag.a))
        if _runs_backwards(_centres(result, axis, role), tagged, sign):
            flipped.append(axis)
            result = result.isel({axis: slice(None, None, -1)})
        if tagged is not None and tagged[1] * sign < 0:
            tagged = (tagged[0] + tagged[1] * result.sizes[axis], -tagged[1])
        found[axis] = _edge_and_step(result, axis, tagged, role)
    (top, down), (left, right) = found["y"], found["x"]
    transform = Affine(right, 0.0, left, 0.0, down, top)
    return Oriented(result, result.rio.crs, transform, dimensions, tuple(flipped))


def spatial_axes(raster: xr.DataArray) -> dict[Any, str]:
    """Returns the dimensions that run along an axis, and the axis, ``y`` or ``x``, of each."""
    return {name: axis for name in raster.dims if (axis := _axis_of(raster, name))}


def _axis_of(raster: xr.DataArray, name: Any) -> str:
    attributes = raster[name].attrs if name in raster.coords else {}
    told = (
        ({"y": {"y"}, "x": {"x"}}, attributes.get("axis")),
        (_STANDARD_NAMES, attributes.get("standard_name")),
        (_UNITS, attributes.get("units")),
        (_NAMES, name),
    )
    for known, text in told:
        for axis, texts in known.items():
            if str(text).strip().lower() in texts:
                return axis
    return ""


def _tagged_transform(raster: xr.DataArray) -> Affine | None:
    """The transform that a file's tag states, which may be stale; None if it states none."""
    mapping = raster.rio.grid_mapping
    attributes = raster.coords[mapping].attrs if mapping in raster.coords else {}
    try:
        tag = Affine.from_gdal(*map(float, str(attributes["GeoTransform"]).split()))
    except (KeyError, ValueError, TypeError):
        return None
    usable = np.isfinite(tag[:6]).all() and tag.a and tag.e and tag != Affine.identity()
    return tag if usable else None


def _centres(raster: xr.DataArray, axis: str, role: str) -> NDArray[Any] | None:
    if axis not in raster.coords:
        return None
    centres = np.asarray(raster.coords[axis].values)
    if centres.dtype.kind not in "iuf" or not np.isfinite(centres).all():
        found = f"{axis} of type {centres.dtype}"
        raise _error(raster, role, "its coordinates are no finite numbers", found=found)
    return centres


def _runs_backwards(
    centres: NDArray[Any] | None, tagged: tuple[float, float] | None, sign: int
) -> bool:
    if centres is None:
        return tagged is not None and tagged[1] * sign < 0
    return centres.size > 1 and (float(centres[-1]) - float(centres[0])) * sign < 0


def _edge_and_step(
    raster: xr.DataArray, axis: str, tagged: tuple[float, float] | None, role: str
) -> tuple[float, float]:
    """Returns the outer edge of the first pixel and the step to the next.

    The tag's numbers are taken where the coordinates are those of its pixels, as in a window of
    the file, since they are exact. Elsewhere the tag is stale.
    """
    centres, length = _centres(raster, axis, role), raster.sizes[axis]
    if centres is None or length == 0:
        if tagged is None:
            raise _error(
                raster,
                role,
                "the raster has neither coordinates nor a transform",
                action="Open it with keras_lstsr.open_product, or give it the coordinates of its "
                "pixels' centres.",
            )
        return tagged
    first, last = float(centres[0]), float(centres[-1])
    rounding = 4 * np.finfo(centres.dtype).eps * abs(first) if centres.dtype.kind == "f" else 0.0
    if tagged is not None:
        start, step = tagged
        begin = round((first - start) / step - 0.5)
        places = start + step * (begin + np.array([0.5, length - 0.5]))
        if np.abs(places - (first, last)).max() <= _SAME_PLACE * abs(step) + rounding:
            return start + step * begin, step
    if length == 1:
        if tagged is None:
            raise _error(
                raster,
                role,
                "the size of its pixels is unknown, as there is only one row or column",
                action="Give it a transform with .rio.write_transform.",
            )
        return first - tagged[1] / 2, tagged[1]
    step = (last - first) / (length - 1)
    off = np.abs(centres - (first + step * np.arange(length))).max()
    if step == 0 or off > _SAME_PLACE * abs(step) + rounding:
        raise _error(
            raster,
            role,
            "its coordinates are not evenly spaced",
            found=f"coordinate {axis}",
            expected="pixels of one size",
            action="Warp or interpolate it onto a regular grid.",
        )
    return first - step / 2, step


def checked_raster(given: object, role: str) -> xr.DataArray:
    """Returns what was given if it is a raster.

    Raises:
        GridError: If it is something else; it says what to pass.
    """
    if isinstance(given, xr.DataArray):
        return given
    if isinstance(given, xr.Dataset):
        names = ", ".join(map(str, given.data_vars))
        problem, found = "a dataset is given where one raster is needed", f"variables {names}"
        action = f'Select a variable, e.g. dataset["{names.split(", ")[0]}"].'
    elif isinstance(given, str | PathLike):
        problem, found = "a path is given where a raster is needed", str(given)
        action = 'Open it: keras_lstsr.open_product(path)["lst_kelvin"].'
    else:
        problem, found = "this is no raster", type(given).__name__
        action = "Give an xarray.DataArray with coordinates and a CRS, as open_product returns it."
    raise GridError(problem, field=role, found=found, action=action)


def _error(raster: xr.DataArray, role: str, problem: str, **details: Any) -> GridError:
    path = raster.encoding.get("source")
    return GridError(problem, path=path, field=raster_name(raster, role), **details)
