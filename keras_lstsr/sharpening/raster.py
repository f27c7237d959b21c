"""Sharpening of georeferenced rasters: one door for all methods."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, GridError, unknown
from keras_lstsr.grids.axes import checked_raster, spatial_axes
from keras_lstsr.grids.grid import Grid, placed
from keras_lstsr.grids.resample import INTERPOLATIONS, interpolated, upsample_nearest
from keras_lstsr.grids.values import array_values
from keras_lstsr.grids.warp import guide_over_lst
from keras_lstsr.grids.water import water_from_ndvi, water_share
from keras_lstsr.registration import Code, code_of, register
from keras_lstsr.sharpening.bounds import bound
from keras_lstsr.sharpening.fallback import ConstantGuideError, recorded, warn

# The argument by which a method gets the share of water.
_WATER = "water"


@dataclass(frozen=True)
class Sharpener:
    """A classical method.

    Attributes:
        function: ``function(lst_kelvin, guides, factor, **options)`` makes fine LST
            ``[h · factor, w · factor]`` in kelvin of coarse LST ``[h, w]`` and guides
            ``[K, h · factor, w · factor]``; NaN where one of them is missing. Where the guides
            cannot explain LST it raises ``ConstantGuideError``, and bicubic stands in. Its
            arguments by keyword alone are the method's options; but one called ``water`` gets the
            share of water ``[h · factor, w · factor]``, or ``None`` where nothing is known of it.
        needs_guide: Whether it takes guides; if not, it is ``function(lst_kelvin, factor)``.
    """

    function: Code
    needs_guide: bool = True


def _interpolation(name: str) -> Sharpener:
    return Sharpener(lambda lst, factor: interpolated(lst, factor, name), needs_guide=False)


METHODS: dict[str, Sharpener] = {
    **{name: _interpolation(name) for name in INTERPOLATIONS},
    "tsharp": Sharpener("keras_lstsr.sharpening.linear:tsharp"),
    "atprk": Sharpener("keras_lstsr.sharpening.linear:atprk"),
    "aatprk": Sharpener("keras_lstsr.sharpening.linear:aatprk"),
    "huts": Sharpener("keras_lstsr.sharpening.huts:huts"),
    "data_mining": Sharpener("keras_lstsr.sharpening.data_mining:data_mining"),
}
"""By name. This is where a method is registered."""


def register_method(name: str, method: Sharpener, *, replace: bool = False) -> None:
    """Makes a classical method known under a name: to ``sharpen`` and to the evaluation.

    Args:
        name: What it is called.
        method: Its function, and whether that takes guides.
        replace: Whether a method of that name may be replaced.

    Raises:
        ConfigError: If the name is taken.
    """
    register(METHODS, name, method, field="method", replace=replace)


Guide = xr.DataArray | xr.Dataset | Sequence[xr.DataArray]


def sharpen(
    lst: xr.DataArray,
    guide: Guide | None = None,
    *,
    method: str = "atprk",
    factor: int = 4,
    water: xr.DataArray | None = None,
    **options: object,
) -> xr.DataArray:
    """Sharpens LST with one or several guides by a classical method.

    Args:
        lst: ``[H, W]`` in kelvin with CRS and coordinates; NaN where missing.
        guide: One raster (``[y, x]``, or ``[band, y, x]`` for several guides), a sequence of
            them, or a dataset, whose variables are the guides. Each may lie on a grid of its
            own; it is brought onto the fine grid. Not needed by ``"nearest"``, ``"bilinear"``
            and ``"bicubic"``, which ignore it.
        method: One of ``METHODS``.
        factor: Fine pixels along an LST pixel's side.
        water: The share of water, 0 to 1, or a mask of 0 and 1, on any grid; methods of local
            regression tell water from land by it. Where it is unknown, or not given, a guide named
            ``ndvi`` tells.
        **options: Further arguments of the method's function, e.g. ``residual="block"`` of
            ``keras_lstsr.sharpening.linear.tsharp``.

    Returns:
        LST in kelvin, float32 ``[H · factor, W · factor]``, exactly nested in LST's pixels and with
        its dimensions and directions; NaN where LST or a guide is missing. Attributes:
        ``sharpening_method``, ``sharpening_factor``, ``sharpening_options`` (JSON),
        ``sharpening_guides``; ``sharpening_fallback`` where the guides cannot explain LST and the
        result is bicubic;
        ``sharpening_notes`` where the method had to change its settings. The last two also come
        as a ``SharpeningWarning``.

    Raises:
        ConfigError: If the method or an option is unknown or unusable, or no guide is given.
        GridError: If LST cannot be kelvin, or a guide called after a registered one cannot be that,
            e.g. raw integers; if a raster has no CRS or no regular grid, a guide is clearly coarser
            than the fine grid or does not overlap LST, LST holds no valid pixel, or ``water`` is
            not within 0 to 1.
    """
    function = _function(method, factor, options)
    given = placed(lst, "lst")
    coarse = _kelvin(given.raster)
    bands = _bands(guide, method) if METHODS[method].needs_guide else []
    with recorded() as notes:
        aligned = [guide_over_lst(_physical(band), given.grid, factor).values for band in bands]
        fallback = None
        if not bands:
            values = function(coarse, factor, **options)
        else:
            stacked = aligned[0][None] if len(aligned) == 1 else np.stack(aligned)
            _check_overlap(coarse, stacked, factor, bands)
            if _WATER in inspect.signature(function).parameters:
                names = (str(band.name).lower() for band in bands)
                guides = dict(zip(names, aligned, strict=True))
                known = _water(water, given.grid.finer(factor), guides)
                function = partial(function, water=known)
            try:
                values = function(coarse, stacked, factor, **options)
            except ConstantGuideError as problem:
                fallback = f"bicubic, since {problem.problem}"
                values = interpolated(coarse, factor, "bicubic")
                values[~np.isfinite(stacked).all(axis=0)] = np.nan
                bound(values, coarse, factor, keep_means=False)
                warn(f"{method} falls back to {fallback}")
                notes.clear()
    provenance = _provenance(method, factor, options, bands, fallback, notes)
    result = given.grid.finer(factor).raster(
        values.astype(np.float32, copy=False),
        name=lst.name,
        attrs={**lst.attrs, "units": "K", **provenance},
    )
    return given.as_given(result)


def _function(method: str, factor: int, options: dict[str, object]) -> Callable[..., Any]:
    """Finds the method's function and checks the options against its signature."""
    if method not in METHODS:
        raise unknown("sharpening method", method, METHODS, field="method")
    whole = isinstance(factor, int | np.integer) and factor >= 2
    ConfigError.unless(whole, "factor", factor, "a whole number of 2 or more")
    function = code_of(METHODS[method].function)
    parameters = inspect.signature(function).parameters.values()
    by_keyword = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    known = [name for name in by_keyword if name != _WATER]
    for name in options:
        if name not in known:
            raise unknown(f"option of {method}", name, known or ["no options"], field=name)
    return function


def _water(
    water: xr.DataArray | None, grid: Grid, guides: dict[str, NDArray[np.floating]]
) -> NDArray[np.floating] | None:
    """What is known of water on the fine grid: as given, else by NDVI, else nothing."""
    by_ndvi = water_from_ndvi(guides["ndvi"]) if "ndvi" in guides else None
    if water is None:
        return by_ndvi
    share = water_share(checked_raster(water, "water"), grid).values
    return share if by_ndvi is None else np.where(np.isfinite(share), share, by_ndvi)


def _kelvin(lst: xr.DataArray) -> NDArray[np.float32]:
    values = array_values(lst, "lst", role="lst")
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        raise GridError(
            "LST holds no valid pixel",
            path=lst.encoding.get("source"),
            field="lst",
            action="Choose another scene, or a more lenient quality policy.",
        )
    return values


def _physical(band: xr.DataArray) -> xr.DataArray:
    """A guide without the numbers for missing that its attributes name; checked if it is known."""
    name = str(band.name).lower()
    return band.copy(data=array_values(band, name, role="guide"))


def _bands(guide: Guide | None, method: str) -> list[xr.DataArray]:
    """Takes what a user may call a guide apart into single bands ``[y, x]``."""
    if guide is None or (isinstance(guide, xr.Dataset | Sequence) and len(guide) == 0):
        raise ConfigError(
            f"{method} needs a guide",
            field="guide",
            action="Give NDVI of about 250 m, or take method='bicubic', which needs none.",
        )
    if isinstance(guide, str) or not isinstance(guide, xr.Dataset | Sequence):
        guide = checked_raster(guide, "guide")
    if isinstance(guide, xr.Dataset):
        rasters = [raster for raster in guide.values() if len(spatial_axes(raster)) == 2]
        if not rasters:
            raise GridError(
                "the dataset holds no raster", field="guide", found=list(guide.data_vars)
            )
        crs = guide.rio.crs
        rasters = [
            raster if crs is None or raster.rio.crs is not None else raster.rio.write_crs(crs)
            for raster in rasters
        ]
    else:
        rasters = [guide] if isinstance(guide, xr.DataArray) else list(guide)
    bands = []
    for raster in rasters:
        axes = spatial_axes(checked_raster(raster, "guide"))
        extra = [name for name in raster.dims if name not in axes and raster.sizes[name] > 1]
        if len(extra) > 1:
            raise GridError(
                "the guide is not a raster",
                path=raster.encoding.get("source"),
                field="guide",
                found=f"dimensions {raster.dims}",
                expected="y and x, and at most one for bands",
            )
        for name in extra:
            bands += [raster.isel({name: n}, drop=True) for n in range(raster.sizes[name])]
        if not extra:
            bands.append(raster)
    return bands


def _check_overlap(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int,
    bands: list[xr.DataArray],
) -> None:
    there = np.isfinite(guide[0])
    for band in guide[1:]:
        there &= np.isfinite(band)
    if not (there & upsample_nearest(~np.isnan(lst_kelvin), factor)).any():
        raise GridError(
            "no pixel has both LST and all guides",
            path=bands[0].encoding.get("source"),
            field="guide",
            action="Check for clouds, and that all rasters show the same place.",
        )


def _provenance(
    method: str,
    factor: int,
    options: dict[str, object],
    bands: list[xr.DataArray],
    fallback: str | None,
    notes: list[str],
) -> dict[str, object]:
    attributes: dict[str, object] = {
        "sharpening_method": method,
        "sharpening_factor": int(factor),
        "sharpening_options": json.dumps(options, default=str, sort_keys=True),
    }
    if bands:
        attributes["sharpening_guides"] = ", ".join(
            str(band.name or f"guide {number}") for number, band in enumerate(bands, start=1)
        )
    if fallback:
        attributes["sharpening_fallback"] = fallback
    if notes:
        attributes["sharpening_notes"] = "; ".join(notes)
    return attributes
