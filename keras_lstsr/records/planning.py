"""What a job is to do, decided on outlines of rasters alone: partners, places, duplicates.

Outlines are small, so that the plan of a whole archive fits into one worker's memory; pixels are
read only afterwards, raster by raster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

import numpy as np
import shapely
import xarray as xr

from keras_lstsr.errors import GridError, LstsrError, ProductError
from keras_lstsr.products import lst_layers, ndvi_layer, rejection_reason
from keras_lstsr.products.quality import count_reasons
from keras_lstsr.records.patches import CutSettings, Transform, raster_transform
from keras_lstsr.records.places import (
    RasterWindow,
    check_on_globe,
    locate,
    merge_places,
    on_sinusoidal_ground,
    patch_blocks,
    patch_corners,
    place_name,
)
from keras_lstsr.records.schema import DeadLetter

Role = Literal["lst", "ndvi"]

# NDVI must cover this share of LST's ground to be its partner: pairs cut by hand are a few pixels
# off.
_LEAST_COVER = 0.5


@dataclass(frozen=True)
class Outline:
    """A raster without its pixels.

    Attributes:
        path: As the job was given it.
        role: Whether it was given as LST or as NDVI.
        sha256: Of the file.
        granule_id: See ``open_product``.
        product: E.g. ``MOD11A1``.
        version: E.g. ``061``.
        platform: E.g. ``Terra``.
        tile: E.g. ``h18v04``; "" outside MODIS tiles.
        acquisition_date: ISO date; "" if unknown.
        crs_wkt: CRS.
        transform: Affine coefficients.
        height: Rows.
        width: Columns.
        valid_pixels: By layer, after the quality policy.
        missing_pixels: By layer and reason.
    """

    path: str
    role: Role
    sha256: str
    granule_id: str
    product: str
    version: str
    platform: str
    tile: str
    acquisition_date: str
    crs_wkt: str
    transform: Transform
    height: int
    width: int
    valid_pixels: dict[str, int] = field(default_factory=dict)
    missing_pixels: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkItem:
    """One LST raster to cut, with its NDVI partner and the names of its merged places."""

    lst: Outline
    ndvi: Outline | None
    window: RasterWindow
    merged_places: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """All work of a job, and the inputs that cannot be used."""

    items: list[WorkItem]
    sources: list[Outline]
    dead_letters: list[DeadLetter]


def outline_scene(scene: xr.Dataset, path: str, role: Role, sha256: str) -> Outline:
    """Outlines an open raster.

    Args:
        scene: As ``open_product`` returns it.
        path: As the job was given it.
        role: What it was given as.
        sha256: Of the file.

    Raises:
        ProductError: If it holds no layer of that role, or has no CRS.
    """
    if scene.rio.crs is None:
        raise ProductError("the raster has no CRS", path=path)
    layers = lst_layers(scene) if role == "lst" else {"ndvi": ndvi_layer(scene)}
    valid = {name: int(layer.notnull().sum()) for name, layer in layers.items()}
    missing = {
        name: count_reasons(rejection_reason(scene, str(layer.name)).values)
        for name, layer in layers.items()
    }
    attributes = {
        name: str(scene.attrs.get(name, ""))
        for name in ("granule_id", "product", "version", "platform", "tile", "acquisition_date")
    }
    return Outline(
        path=path,
        role=role,
        sha256=sha256,
        crs_wkt=scene.rio.crs.to_wkt(),
        transform=raster_transform(scene),
        height=scene.sizes["y"],
        width=scene.sizes["x"],
        valid_pixels=valid,
        missing_pixels=missing,
        **attributes,
    )


def plan_job(outlines: Iterable[Outline], settings: CutSettings) -> Plan:
    """Decides what to cut, with which NDVI, and on which places.

    Args:
        outlines: All readable inputs, in any order; the plan does not depend on it.
        settings: What to cut.
    """
    dead: list[DeadLetter] = []
    kept = _without_duplicates(outlines, dead)
    windows: dict[str, RasterWindow] = {}
    rasters = [outline for outline in kept if outline.role == "lst"]
    for outline in rasters:
        try:
            windows[outline.path] = _window_of(outline, settings)
        except LstsrError as error:
            dead.append(DeadLetter(path=outline.path, reason=str(error)))
    usable = [outline for outline in rasters if outline.path in windows]
    merged = merge_places(windows.values(), settings.patch_size, settings.stride)
    partners = NdviPartners([outline for outline in kept if outline.role == "ndvi"])
    items = []
    for outline in usable:
        window = windows[outline.path]
        items.append(
            WorkItem(
                lst=outline,
                ndvi=partners.of(outline) if settings.need_ndvi else None,
                window=window,
                merged_places=_own_places(window, settings, merged),
            )
        )
    sources = usable + [outline for outline in kept if outline.role == "ndvi"]
    return Plan(items, sources, dead)


def _order(outline: Outline) -> tuple[str, str, str]:
    return (outline.role, outline.path, outline.sha256)


def _without_duplicates(outlines: Iterable[Outline], dead: list[DeadLetter]) -> list[Outline]:
    """Keeps the first by path of files with the same content."""
    first: dict[tuple[str, str], Outline] = {}
    for outline in sorted(outlines, key=_order):
        same = first.setdefault((outline.role, outline.sha256), outline)
        if same.path != outline.path:
            reason = f"{outline.path}: the same content as {same.path}; it is used once."
            dead.append(DeadLetter(path=outline.path, reason=reason))
    return sorted(first.values(), key=_order)


def _window_of(outline: Outline, settings: CutSettings) -> RasterWindow:
    if settings.split.by != "place" and not outline.acquisition_date:
        raise ProductError(
            f"the date is unknown, and split_by {settings.split.by} needs it",
            path=outline.path,
            action="Give --date_pattern, or split by place.",
        )
    window = locate(
        outline.crs_wkt,
        outline.transform,
        outline.height,
        outline.width,
        anchor=settings.anchor,
    )
    if not patch_corners(window, settings.patch_size, settings.stride):
        raise GridError(
            "no whole patch fits into the raster",
            path=outline.path,
            found=f"{outline.height} × {outline.width} pixels at row {window.row}, column "
            f"{window.column} of grid {window.grid.name}",
            expected=f"patches of {settings.patch_size} every {settings.stride} pixels",
            action="Give a smaller --patch_size, or --anchor raster to count patches from the "
            "raster's own corner.",
        )
    check_on_globe(window, settings.patch_size, settings.stride)
    return window


def _own_places(
    window: RasterWindow, settings: CutSettings, merged: dict[str, str]
) -> dict[str, str]:
    """Picks the merged places that concern one raster, so that work items stay small."""
    if not merged:
        return {}
    names = {
        place_name(window.grid, block)
        for corner in patch_corners(window, settings.patch_size, settings.stride)
        for block in patch_blocks(window, corner, settings.patch_size)
    }
    return {name: merged[name] for name in sorted(names) if name in merged}


def _footprint(outline: Outline) -> shapely.Geometry:
    """The ground a raster covers, in the MODIS sinusoidal projection."""
    a, _, c, _, e, f = outline.transform
    box = shapely.box(c, f + e * outline.height, c + a * outline.width, f)
    try:
        (ground,) = on_sinusoidal_ground(np.array([box]), outline.crs_wkt)
    except GridError:
        return shapely.Polygon()  # beyond the globe: it covers nobody's ground
    return ground


class NdviPartners:
    """Finds the NDVI raster that belongs to an LST raster.

    A partner covers at least half of LST's ground and has its date, or has no date (a static NDVI
    serves all dates). Whole MODIS tiles are thus paired by tile and date. Of several partners the
    best is, in this order: the one with a date, the one of the same platform, the one that covers
    most (to a thousandth), the one whose file name begins most alike, the first by path.
    """

    def __init__(self, candidates: Sequence[Outline]) -> None:
        self._by_date: dict[str, list[tuple[Outline, shapely.Geometry]]] = {}
        for candidate in sorted(candidates, key=_order):
            entry = (candidate, _footprint(candidate))
            self._by_date.setdefault(candidate.acquisition_date, []).append(entry)

    def of(self, lst: Outline) -> Outline | None:
        """Returns the partner, or None if there is none."""
        ground = _footprint(lst)
        if ground.is_empty:
            return None
        candidates = list(self._by_date.get("", []))
        if lst.acquisition_date:
            candidates += self._by_date.get(lst.acquisition_date, [])
        ranked = []
        for ndvi, covered in candidates:
            share = covered.intersection(ground).area / ground.area
            if share >= _LEAST_COVER:
                alike = _alike(_file_name(lst.path), _file_name(ndvi.path))
                rank = (
                    not ndvi.acquisition_date,
                    ndvi.platform != lst.platform,
                    -round(share, 3),
                    -alike,
                    ndvi.path,
                )
                ranked.append((rank, ndvi))
        return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _alike(first: str, second: str) -> int:
    """Counts the characters with which both names begin."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return sum(1 for _ in pairs)


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
