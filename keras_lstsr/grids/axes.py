"""Which dimension of a raster is which, and which way it runs; told by coordinates, not order."""

from __future__ import annotations

from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
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


class Oriented(NamedTuple):
    """A raster turned north-up, and what tells where it lies.

    Attributes:
        raster: ``(y, x)``, north-up; its coordinates and tags as they were.
        crs: Its CRS.
        transform: Pixel corner (column, row) to coordinates of the CRS.
        dimensions: See ``grids.grid.Placed``.
        flipped: See there.
    """

    raster: xr.DataArray
    crs: CRS
    transform: Affine
    dimensions: tuple[tuple[str, Any], ...] = ()
    flipped: tuple[str, ...] = ()


def raster_name(raster: xr.DataArray, role: str) -> str:
    """Returns the raster's own name, or its role in the call where it has none."""
    return role if raster.name is None else str(raster.name)


def oriented(raster: object, role: str) -> Oriented:
    """Turns a raster, as ``grids.grid.placed`` takes it, north-up; its values are not copied.

    Raises:
        GridError: If it is no raster of one band, or has no CRS or no regular grid.
    """
    raster = checked_raster(raster, role)
    axes = spatial_axes(raster)
    error = partial(GridError, path=raster.encoding.get("source"), field=raster_name(raster, role))
    if sorted(axes.values()) != ["x", "y"]:
        raise error(
            "its dimensions along y and x are unknown",
            found=f"dimensions {', '.join(map(str, raster.dims)) or 'none'}",
            expected="dimensions y and x, or latitude and longitude",
            action='Rename them: raster.rename({"…": "y", "…": "x"}).',
        )
    extra = [name for name in raster.dims if name not in axes]
    if any(raster.sizes[name] != 1 for name in extra):
        action = "Select one band, e.g. with .isel(band=0)."
        raise error("the raster is not one band", found=dict(raster.sizes), action=action)
    # A dimension cannot take a name that another coordinate has.
    taken = [name for name in ("y", "x") if name in raster.coords and name not in raster.dims]
    turned = raster.squeeze(extra, drop=True).drop_vars(taken).rename(axes).transpose("y", "x")
    crs, tag = turned.rio.crs, _tagged_transform(turned)
    if crs is None:
        action = 'Write the right one with .rio.write_crs("EPSG:…"), or gdal_edit.py -a_srs.'
        raise error("the raster has no CRS", action=action)
    if tag is not None and (tag.b or tag.d):
        return Oriented(turned, crs, tag)
    top, down, up = _along(turned, "y", -1, None if tag is None else (tag.f, tag.e), error)
    left, right, back = _along(turned, "x", 1, None if tag is None else (tag.c, tag.a), error)
    flipped = tuple(axis for axis, other in (("y", up), ("x", back)) if other)
    return Oriented(
        turned.isel({axis: slice(None, None, -1) for axis in flipped}),
        crs,
        Affine(right, 0.0, left, 0.0, down, top),
        tuple((axes[name], name) for name in raster.dims if name in axes),
        flipped,
    )


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


def _along(
    raster: xr.DataArray,
    axis: str,
    sign: int,
    tag: tuple[float, float] | None,
    error: partial[GridError],
) -> tuple[float, float, bool]:
    """Returns the outer edge of the first pixel, the step to the next, and whether to flip.

    The tag's edge and step are taken where the coordinates are those of its pixels, as in a window
    of the file, since they are exact. Elsewhere the tag is stale.
    """
    length, backwards = raster.sizes[axis], tag is not None and tag[1] * sign < 0
    if tag is not None and backwards:
        tag = (tag[0] + tag[1] * length, -tag[1])
    centres = np.asarray(raster.coords[axis].values) if axis in raster.coords else np.array([])
    if centres.size == 0:
        if tag is None:
            raise error(
                "the raster has neither coordinates nor a transform",
                action="Open it with keras_lstsr.open_product, or give it the coordinates of its "
                "pixels' centres.",
            )
        return *tag, backwards
    if centres.dtype.kind not in "iuf" or not np.isfinite(centres).all():
        raise error("its coordinates are not finite numbers", found=f"{axis} of {centres.dtype}")
    backwards = bool((float(centres[-1]) - float(centres[0])) * sign < 0)
    rounding = 0.0
    if centres.dtype.kind == "f":
        rounding = 4 * float(np.finfo(centres.dtype).eps) * float(np.abs(centres).max())
    centres = centres[::-1] if backwards else centres
    first, last = float(centres[0]), float(centres[-1])
    if length > 1:
        step = (last - first) / (length - 1)
    elif tag is not None:
        step = tag[1]
    else:
        raise error(
            "the size of its pixels is unknown, as there is only one row or column",
            action="Give it a transform with .rio.write_transform.",
        )
    off = np.abs(centres - (first + step * np.arange(length))).max()
    if step == 0 or off > _SAME_PLACE * abs(step) + rounding:
        raise error(
            "its coordinates are not evenly spaced",
            found=f"coordinate {axis}",
            action="Warp or interpolate it onto a regular grid.",
        )
    if tag is not None:
        begin = round((first - tag[0]) / tag[1] - 0.5)
        places = tag[0] + tag[1] * (begin + np.array([0.5, length - 0.5]))
        if np.abs(places - (first, last)).max() <= _SAME_PLACE * abs(tag[1]) + rounding:
            return tag[0] + tag[1] * begin, tag[1], backwards
    return first - step / 2, step, backwards


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
        problem, found = "this is not a raster", type(given).__name__
        action = "Give an xarray.DataArray with coordinates and a CRS, as open_product returns it."
    raise GridError(problem, field=role, found=found, action=action)
