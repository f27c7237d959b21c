"""From fine LST of several dates to the file of a reference: ``keras-lstsr reference``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from affine import Affine
from rasterio.warp import transform_bounds

from keras_lstsr import __version__
from keras_lstsr.errors import ConfigError, GridError, LstsrError, ProductError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.reference import detail_of, mean_detail
from keras_lstsr.grids.registration import Shift, coregister
from keras_lstsr.grids.warp import COARSEST_GUIDE, guide_on_fine_grid, relative_pixel_size
from keras_lstsr.inference.cog import write_cog
from keras_lstsr.products import lst_layers, open_product
from keras_lstsr.records.fine_scenes import PIXEL_SIZE_M, find_fine_scenes, is_mask, without_clouds
from keras_lstsr.records.scene_sample import LEAST_SHIFT_QUALITY

DayNight = Literal["day", "night"]

_FACTOR = 4
# The Gaussian of ``detail_of`` reaches this far, in fine pixels.
_MARGIN_PIXELS = 12
_MOST_PIXELS = 100_000_000
_MAX_SHIFT_PIXELS = 3
# Smaller shifts are not worth reading a file again.
_LEAST_SHIFT_PIXELS = 0.1
# Registration takes a window of this many pixels a side: more texture would tell no more.
_WINDOW_PIXELS = 768
_FULL_WEIGHT = 0.5


@dataclass(frozen=True, eq=False)
class FineLst:
    """One layer of fine LST in a file.

    Attributes:
        path: The file.
        day_night: ``"day"``, ``"night"`` or ``"unknown"``.
        date: ISO date, or empty.
        grid: Where it lies.
        options: Further options of ``open_product``.
    """

    path: Path
    day_night: str
    date: str
    grid: Grid
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The file's name."""
        return self.path.name

    def detail(self, grid: Grid, shift: Shift | None = None) -> xr.DataArray:
        """Returns its detail on a fine grid, moved by a shift in the grid's pixels."""
        lst = lst_layers(open_product(self.path, **self.options))[self.day_night]
        here = grid if shift is None else grid.shifted(-shift.rows, -shift.columns)
        fine = guide_on_fine_grid(without_clouds(lst, self.path), here, 1)
        return detail_of(grid.raster(fine.values, name="lst_kelvin"), _FACTOR)


@dataclass(frozen=True)
class Reference:
    """What was written.

    Attributes:
        path: The GeoTIFF.
        shape: Rows and columns.
        day_night: ``"day"``, ``"night"`` or ``"unknown"``.
        files: Name of each file that counts → the weight of its date, 0…1.
        shifts: Name → rows and columns by which it was moved, in fine pixels.
        valid_share: Share of the pixels with a reference, 0…1.
        spread_kelvin: Standard deviation of the reference.
        notes: What the user should know of it.
    """

    path: Path
    shape: tuple[int, int]
    day_night: str
    files: dict[str, float]
    shifts: dict[str, tuple[float, float]]
    valid_share: float
    spread_kelvin: float
    notes: tuple[str, ...]


def make_reference(
    sources: Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    grid: Grid | None = None,
    day_night: DayNight | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    announce: Callable[[str], None] = lambda note: None,
) -> Reference:
    """Writes the mean detail of fine LST of several dates as a GeoTIFF.

    Finer pixels are averaged by area. Each date is moved onto the mean of the others where it is
    clear how far, and clouds that no mask shows are left out as ``mean_detail`` does.

    Args:
        sources: Files of fine LST, with their cloud masks beside them, or folders of such files.
        output: The GeoTIFF: band ``reference`` in kelvin and band ``date_count``.
        grid: Where it is wanted, pixels of about 250 m; None takes the first file's pixels if they
            are as wide, else 250 m of its UTM zone, over the ground of all files.
        day_night: Which files to take, if they are of both. Files that do not tell are taken, too.
        options: Further options of ``open_product``, for GeoTIFF.
        progress: Called with (files read, files in all).
        announce: Called with each note.

    Returns:
        What was written and its figures.

    Raises:
        ConfigError: If there are files of day and of night and ``day_night`` is None.
        ProductError: If a file cannot be read or holds no LST, or no file shows the grid's ground,
            or the dates have no detail in common.
        GridError: If a file is too coarse or does not fit its mask, or the files lie too far apart.
        LstsrError: If the output is one of the files or cannot be written.
    """
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        announce(text)

    found = _found(sources, output, options or {})
    kept, time = _of_one_time(found, day_night, note)
    grid = grid or _grid_of([fine.grid for fine in kept])
    for fine in kept:
        relative = relative_pixel_size(fine.grid, grid)
        found_text, expected = f"pixels {relative:.2f} times as wide", f"at most {COARSEST_GUIDE}"
        problem = "the LST is coarser than the reference"
        GridError.unless(
            relative <= COARSEST_GUIDE, "pixels", found_text, expected, problem, path=fine.path
        )
    # Detail at the borders is taken from what lies beyond them, too.
    wide = _widened(grid, _MARGIN_PIXELS)
    details: dict[FineLst, xr.DataArray] = {}
    for number, fine in enumerate(kept, 1):
        detail = fine.detail(wide)
        if np.isfinite(detail.values).any():
            details[fine] = detail
        else:
            note(f"{fine.title} shows nothing of this ground, or only clouds: it does not count.")
        progress(number, len(kept))
    if not details:
        names = ", ".join(fine.title for fine in kept)
        action = "Check the CRS, and that --grid or --lst is of the same place."
        problem = "no file has valid LST on the reference's ground"
        raise ProductError(problem, path=output, found=names, action=action)
    shifts = _shifts(list(details.values()))
    moved = {fine: s for fine, s in zip(details, shifts, strict=True) if s is not None}
    for fine, shift in moved.items():
        details[fine] = fine.detail(wide, shift)
    mean = mean_detail(list(details.values()), grid)
    weights = {f.title: w for f, w in zip(details, mean.attrs["date_weights"], strict=True)}
    for name, weight in weights.items():
        if weight < _FULL_WEIGHT:
            how = "little" if weight > 0 else "nothing"
            note(f"{name} hardly agrees with the others, as under clouds: it counts for {how}.")
    if len(details) == 1:
        note("One date alone: clouds that its mask does not show are in the reference.")
    values = mean["reference"].values
    if not np.isfinite(values).any():
        raise ProductError(
            "the dates have no detail in common",
            path=output,
            found=f"{len(details)} dates that do not agree with each other",
            action="Check that they show the same ground under a clear sky.",
        )
    result = Reference(
        Path(output),
        grid.shape,
        time,
        weights,
        {fine.title: (s.rows, s.columns) for fine, s in moved.items()},
        float(np.isfinite(values).mean()),
        float(np.nanstd(values)),
        tuple(notes),
    )
    counts = {"date_count": mean["date_count"].values}
    write_cog(mean["reference"], output, tags=_tags(result, list(details)), beside=counts)
    return result


def _found(
    sources: Sequence[str | PathLike[str]], output: str | PathLike[str], options: Mapping[str, Any]
) -> list[FineLst]:
    paths: list[Path] = []
    for source in map(Path, sources):
        named = [each.path for each in find_fine_scenes(source)] if source.is_dir() else [source]
        paths += [path for path in named if not is_mask(path)]
    if not paths:
        raise ProductError("there is no file of fine LST", found=", ".join(map(str, sources)))
    found = []
    for path in {path.resolve(): path for path in paths}.values():
        if path.resolve() == Path(output).resolve():
            action = "Choose another output."
            raise LstsrError("the output would replace the input", path=path, action=action)
        scene = open_product(path, **options)
        date = scene.attrs.get("acquisition_date", "")
        for day_night, layer in lst_layers(scene).items():
            found.append(FineLst(path, day_night, date, Grid.of(layer), dict(options)))
    return found


def _of_one_time(
    found: Sequence[FineLst], day_night: str | None, note: Callable[[str], None]
) -> tuple[list[FineLst], str]:
    names: dict[str, list[str]] = {}
    for fine in found:
        names.setdefault(fine.day_night, []).append(fine.title)
    if day_night is None and {"day", "night"} <= names.keys():
        raise ConfigError(
            "a reference is of days or of nights, and there are files of both",
            field="--day-night",
            found="; ".join(f"{time}: {', '.join(of)}" for time, of in sorted(names.items())),
            expected="day or night",
            action="Choose with --day-night, or give files of one kind.",
        )
    time = day_night or next((name for name in ("day", "night") if name in names), "unknown")
    kept = [fine for fine in found if fine.day_night in (time, "unknown")]
    if not kept:
        action = "Give files of that time, or leave --day-night out."
        files = ", ".join(fine.title for fine in found)
        problem = "no file is of that time of day"
        raise ConfigError(problem, field="--day-night", found=files, expected=time, action=action)
    if len(kept) < len(found):
        note(f"{len(found) - len(kept)} of {len(found)} files are not of the {time}: left out.")
    if time != "unknown" and "unknown" in names:
        note(f"Taken as of the {time}, as they do not say it: {', '.join(names['unknown'])}.")
    return kept, time


def _grid_of(grids: Sequence[Grid]) -> Grid:
    """Makes the grid over the ground of all: of the first one's pixels, or of 250 m in its UTM."""
    lattice = Grid(grids[0].utm, Affine(PIXEL_SIZE_M, 0, 0, 0, -PIXEL_SIZE_M, 0), (1, 1))
    if 1 / COARSEST_GUIDE <= relative_pixel_size(grids[0], lattice) <= COARSEST_GUIDE:
        lattice = grids[0]
    edges = [transform_bounds(grid.crs, lattice.crs, *grid.bounds) for grid in grids]
    west, south = (min(edge[side] for edge in edges) for side in (0, 1))
    east, north = (max(edge[side] for edge in edges) for side in (2, 3))
    a, _, c, _, e, f = lattice.transform[:6]
    left, top = math.floor((west - c) / a + 1e-3), math.floor((north - f) / e + 1e-3)
    right, bottom = math.ceil((east - c) / a - 1e-3), math.ceil((south - f) / e - 1e-3)
    shape = max(1, bottom - top), max(1, right - left)
    GridError.unless(
        shape[0] * shape[1] <= _MOST_PIXELS,
        "grid",
        f"{shape[0]} × {shape[1]} pixels",
        f"at most {_MOST_PIXELS}",
        "the files lie too far apart for one reference",
        action="Give the place of the reference with --grid or --lst.",
    )
    return Grid(lattice.crs, lattice.shifted(top, left).transform, shape)


def _widened(grid: Grid, pixels: int) -> Grid:
    shape = grid.height + 2 * pixels, grid.width + 2 * pixels
    return Grid(grid.crs, grid.shifted(-pixels, -pixels).transform, shape)


def _shifts(details: Sequence[xr.DataArray]) -> list[Shift | None]:
    """Finds by how much each date is to be moved; None where it is not clear or next to nothing."""
    rows, columns = _busiest(details)
    parts = [detail[rows, columns] for detail in details]
    result: list[Shift | None] = []
    for i, part in enumerate(parts):
        others = [*parts[:i], *parts[i + 1 :]]
        if not others:
            return [None]
        fixed = mean_detail(others, Grid.of(part))["reference"]
        found = coregister(part, fixed, max_shift_pixels=_MAX_SHIFT_PIXELS)
        # The mean of the others lies off the mean of all on the other side.
        share = len(others) / len(parts)
        shift = Shift(share * found.rows, share * found.columns, found.quality)
        clear = shift.quality >= LEAST_SHIFT_QUALITY
        far = math.hypot(shift.rows, shift.columns) >= _LEAST_SHIFT_PIXELS
        result.append(shift if clear and far else None)
    return result


def _busiest(details: Sequence[xr.DataArray]) -> tuple[slice, slice]:
    """Returns the window in which most of the dates' pixels are valid."""
    count = np.sum([np.isfinite(detail.values) for detail in details], axis=0, dtype=np.int64)
    sums = np.pad(count.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    high, wide = (min(_WINDOW_PIXELS, side) for side in count.shape)
    inside = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return slice(int(top), int(top) + high), slice(int(left), int(left) + wide)


def _tags(result: Reference, used: Sequence[FineLst]) -> dict[str, object]:
    return {
        "quantity": "reference",
        "units": "kelvin",
        "meaning": "mean over dates of fine LST minus itself as seen at about 1 km",
        "missing": "NaN: no date has a value",
        "day_night": result.day_night,
        "date_count": len(used),
        "dates": ", ".join(sorted({fine.date for fine in used if fine.date})),
        "source_files": json.dumps({name: round(w, 3) for name, w in result.files.items()}),
        "moved_pixels": json.dumps({n: [round(v, 2) for v in s] for n, s in result.shifts.items()}),
        "software": f"keras-lstsr {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
