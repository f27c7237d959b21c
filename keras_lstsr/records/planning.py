"""What a job is to do, decided on outlines of rasters alone: partners, places, duplicates.

Outlines are small, so that the plan of a whole archive fits into one worker's memory; pixels are
read only afterwards, raster by raster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import shapely
import xarray as xr
from pydantic import ConfigDict

from keras_lstsr.errors import GridError, LstsrError, ProductError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.ground import on_ground, share_ground
from keras_lstsr.products import rejection_reason
from keras_lstsr.products.quality import count_reasons
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.places import (
    RasterWindow,
    check_on_globe,
    locate,
    merge_places,
    patch_blocks,
    patch_corners,
    place_name,
)
from keras_lstsr.records.rasters import LST, TRUTH, RasterReader
from keras_lstsr.records.schema import DeadLetter, SourceInfo, no_partner, with_rejection

# A partner must share this part of the ground: pairs cut by hand are a few pixels off.
_LEAST_COVER = 0.5
_LARGEST_PIXEL_M = 20_000.0


class Outline(SourceInfo):
    """A raster without its pixels: what ``dataset.json`` is to tell of it, and where it lies.

    Attributes:
        platform: E.g. ``Terra``.
        grid: Where it lies.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    platform: str
    grid: Grid

    def info(self, **counts: Any) -> SourceInfo:
        """Returns what ``dataset.json`` tells of it; ``counts`` are further fields."""
        known = {name: getattr(self, name) for name in SourceInfo.model_fields}
        return SourceInfo(**{**known, **counts})


@dataclass(frozen=True)
class WorkItem:
    """One LST raster to cut.

    Attributes:
        lst: Its outline.
        guides: Guide → the raster that belongs to it; without those that have none.
        window: Its place in its family's lattice.
        merged_places: The merged places that concern it.
        group: Rasters of one group share ground.
    """

    lst: Outline
    guides: dict[str, Outline]
    window: RasterWindow
    merged_places: dict[str, str]
    group: str


@dataclass(frozen=True)
class TruthItem:
    """One layer of an LST raster, its guides, and the fine LST of the same ground and time."""

    lst: Outline
    layer: str
    guides: dict[str, Outline]
    truth: Outline


@dataclass(frozen=True)
class Plan:
    """All work of a job, and the inputs that cannot be used.

    Attributes:
        items: LST rasters to cut into samples without truth.
        truths: LST layers with their truths; where truth is asked for, instead of ``items``.
        sources: The rasters that are not cut, with what became of those that have no partner.
        dead_letters: Inputs that cannot be used.
    """

    items: list[WorkItem]
    truths: list[TruthItem]
    sources: list[SourceInfo]
    dead_letters: list[DeadLetter]


def outline_scene(scene: xr.Dataset, path: str, reader: RasterReader, sha256: str) -> Outline:
    """Outlines an open raster; ``path`` is as the job was given it.

    Raises:
        ProductError: If it holds no layer of the reader's role, or has no CRS.
    """
    if scene.rio.crs is None:
        raise ProductError("the raster has no CRS", path=path)
    layers = reader.layers(scene)
    valid = {name: int(layer.notnull().sum()) for name, layer in layers.items()}
    missing = {
        name: count_reasons(rejection_reason(scene, str(layer.name)).values)
        for name, layer in layers.items()
    }
    attributes = {
        name: str(scene.attrs.get(name, ""))
        for name in ("granule_id", "product", "version", "platform", "tile", "acquisition_date")
    }
    grid = Grid.of(next(iter(layers.values())), reader.role)
    return Outline(
        path=path,
        role=reader.role,
        sha256=sha256,
        grid=grid,
        pixels=grid.height * grid.width,
        valid_pixels=valid,
        missing_pixels=missing,
        **attributes,
    )


def plan_job(outlines: Iterable[Outline], settings: CutSettings) -> Plan:
    """Decides what to cut, with which guides and truths, and on which places.

    The plan does not depend on the order of the outlines, which are those of all readable inputs.
    """
    dead: list[DeadLetter] = []
    kept = _without_duplicates(outlines, dead)
    by_role: dict[str, list[Outline]] = {}
    for outline in kept:
        by_role.setdefault(outline.role, []).append(outline)
    rasters = by_role.get(LST, [])
    partners = {guide: Partners(by_role.get(guide, [])) for guide in settings.guides}

    def guides_of(lst: Outline) -> dict[str, Outline]:
        found = {guide: known.of(lst) for guide, known in partners.items()}
        return {guide: partner for guide, partner in found.items() if partner is not None}

    sources = [outline.info() for outline in kept if outline.role != LST]
    if settings.truth:
        paired = _with_truth(rasters, by_role.get(TRUTH, []))
        found = [TruthItem(lst, layer, guides_of(lst), truth) for lst, layer, truth in paired]
        paired_rasters = [item.lst for item in found]
        lacking = [
            (lst, next(iter(lst.valid_pixels)), TRUTH)
            for lst in rasters
            if lst not in paired_rasters
        ]
        whole = []
        for item in found:
            absent = [name for name in settings.guides if name not in item.guides]
            if absent:
                lacking.append((item.lst, item.layer, absent[0]))
            else:
                whole.append(item)
        sources += [
            with_rejection(lst.info(), layer, no_partner(role)) for lst, layer, role in lacking
        ]
        return Plan([], whole, sources, dead)
    windows: dict[str, RasterWindow] = {}
    for outline in rasters:
        try:
            windows[outline.path] = _window_of(outline, settings)
        except LstsrError as error:
            dead.append(DeadLetter(path=outline.path, reason=str(error)))
    usable = [outline for outline in rasters if outline.path in windows]
    merged = merge_places(windows.values(), settings.patch_size, settings.stride)
    groups = groups_of([outline.grid for outline in usable])
    items = [
        WorkItem(
            lst=outline,
            guides=guides_of(outline),
            window=windows[outline.path],
            merged_places=_own_places(windows[outline.path], settings, merged),
            group=group,
        )
        for outline, group in zip(usable, groups, strict=True)
    ]
    return Plan(items, [], sources, dead)


def groups_of(grids: Sequence[Grid]) -> list[str]:
    """Names the groups of rasters that share ground; see ``grids.ground.share_ground``."""
    distinct = list(dict.fromkeys(grids))  # an archive has many dates of few tiles
    known = dict(zip(distinct, share_ground(distinct), strict=True)) if distinct else {}
    return [str(known[grid]) for grid in grids]


def connected_groups(grids: Sequence[Grid], groups: Sequence[str]) -> list[str]:
    """Names what hangs together by shared ground or by a group; "" is no group."""
    found = groups_of(grids)
    first: dict[str, str] = {}
    for number, group in enumerate(groups):
        one = found[number]
        other = first.setdefault(group, one) if group else one
        if one != other:
            found = [other if name == one else name for name in found]
            first = {group: other if name == one else name for group, name in first.items()}
    return found


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
    if settings.split.by != "place":
        check_date(outline.acquisition_date, outline.path, settings)
    check_on_ground(outline.grid, outline.path)
    window = locate(outline.grid, anchor=settings.anchor)
    if not patch_corners(window, settings.patch_size, settings.stride):
        raise GridError(
            "no whole sample fits into the raster",
            path=outline.path,
            found=f"{outline.grid.height} × {outline.grid.width} pixels at row {window.row}, "
            f"column {window.column} of grid {window.family.name}",
            expected=f"samples of {settings.patch_size} every {settings.stride} pixels",
            action="Give a smaller --patch_size, or --anchor raster to count samples from the "
            "raster's own corner.",
        )
    check_on_globe(window, settings.patch_size, settings.stride)
    return window


def check_on_ground(grid: Grid, path: str) -> None:
    """Checks that a raster lies somewhere on the globe, and covers no unlikely part of it.

    All that it covers becomes one place: a wrong corner would move the others between the splits.

    Raises:
        GridError: If it reaches beyond the globe, or its pixels are too large for LST.
    """
    try:
        (ground,) = on_ground([grid.footprint], grid.crs)
    except GridError as error:
        raise error.restated(path) from error
    side_m = math.sqrt(ground.area / (grid.height * grid.width))
    if not side_m <= _LARGEST_PIXEL_M:
        raise GridError(
            "the raster's pixels are too large for samples of LST",
            path=path,
            found=f"{side_m / 1000:.1f} km",
            expected=f"at most {_LARGEST_PIXEL_M / 1000:g} km",
            action="Check the raster's corners and CRS.",
        )


def check_date(date: str, path: str, settings: CutSettings) -> None:
    """Raises ``ProductError`` if the split needs a date and there is none."""
    if settings.split.by != "place" and not date:
        raise ProductError(
            f"the date is unknown, and split_by {settings.split.by} needs it",
            path=path,
            action="Give --date_pattern, or split by place.",
        )


def _own_places(
    window: RasterWindow, settings: CutSettings, merged: dict[str, str]
) -> dict[str, str]:
    """Picks the merged places that concern one raster, so that work items stay small."""
    if not merged:
        return {}
    names = {
        place_name(window.family, block)
        for corner in patch_corners(window, settings.patch_size, settings.stride)
        for block in patch_blocks(window, corner, settings.patch_size)
    }
    return {name: merged[name] for name in sorted(names) if name in merged}


def _ground(outline: Outline) -> shapely.Geometry:
    """The ground a raster covers, in the MODIS sinusoidal projection."""
    try:
        (ground,) = on_ground([outline.grid.footprint], outline.grid.crs)
    except GridError:
        return shapely.Polygon()  # beyond the globe: it covers nobody's ground
    return ground


def _with_truth(
    rasters: Sequence[Outline], truths: Sequence[Outline]
) -> list[tuple[Outline, str, Outline]]:
    """Finds the LST layer that belongs to each truth; a tile of LST may have many truths."""
    found = []
    at_time: dict[str, Partners] = {}
    for truth in truths:
        (time,) = truth.valid_pixels
        if time not in at_time:
            fitting = [lst for lst in rasters if _layer_at(lst, time)]
            at_time[time] = Partners(fitting, of_smaller=True)
        lst = at_time[time].of(truth)
        if lst is not None:
            found.append((lst, _layer_at(lst, time), truth))
    return found


def _layer_at(lst: Outline, time: str) -> str:
    """Returns the layer of a time of day; "" where the raster has none, or many and no time."""
    if time in lst.valid_pixels:
        return time
    alone = list(lst.valid_pixels) if len(lst.valid_pixels) == 1 else [""]
    return alone[0] if "unknown" in (time, alone[0]) else ""


class Partners:
    """Finds the raster of another role that belongs to a raster.

    A partner covers at least half of the raster's ground and has its date, or has no date (a
    static guide serves all dates). Whole MODIS tiles are thus paired by tile and date. Of several
    partners the best is, in this order: the one with a date, the one of the same platform, the one
    that covers most (to a thousandth), the one whose file name begins most alike, the first by
    path.

    Args:
        candidates: The rasters of the other role.
        of_smaller: Half of the smaller one's ground must be common.
    """

    def __init__(self, candidates: Sequence[Outline], *, of_smaller: bool = False) -> None:
        self._of_smaller = of_smaller
        self._by_date: dict[str, list[tuple[Outline, shapely.Geometry]]] = {}
        for candidate in sorted(candidates, key=_order):
            entry = (candidate, _ground(candidate))
            self._by_date.setdefault(candidate.acquisition_date, []).append(entry)

    def of(self, raster: Outline) -> Outline | None:
        """Returns the partner, or None if there is none."""
        ground = _ground(raster)
        if ground.is_empty:
            return None
        candidates = list(self._by_date.get("", []))
        if raster.acquisition_date:
            candidates += self._by_date.get(raster.acquisition_date, [])
        ranked = []
        for candidate, covered in candidates:
            area = min(ground.area, covered.area) if self._of_smaller else ground.area
            share = covered.intersection(ground).area / area if area else 0.0
            if share >= _LEAST_COVER:
                alike = _alike(_file_name(raster.path), _file_name(candidate.path))
                rank = (
                    not candidate.acquisition_date,
                    candidate.platform != raster.platform,
                    -round(share, 3),
                    -alike,
                    candidate.path,
                )
                ranked.append((rank, candidate))
        return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _alike(first: str, second: str) -> int:
    """Counts the characters with which both names begin."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return sum(1 for _ in pairs)


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
