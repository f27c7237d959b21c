"""Fine LST of other places, with guides and other dates, as a source of degraded samples.

A place is a folder. Each date is a raster ``<date>_<day|night|morning>_lst_77m.tif`` of pixels that
nest in 250 m; guides of the date lie beside it (``…_ndvi_77m.tif``), those of all dates go without
a date (``elevation_77m.tif``, ``land_cover_77m.tif``). The pixel size in a name is not read.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from os import PathLike
from pathlib import Path

import numpy as np
import xarray as xr

from keras_lstsr.config.guides import GUIDES, REFERENCE
from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.degradation import Footprint, FootprintKind
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.reference import detail_of, mean_detail
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.grids.warp import guide_on_fine_grid
from keras_lstsr.grids.water import water_from_ndvi
from keras_lstsr.products import open_product
from keras_lstsr.products.granule import date_from_name, day_night_from_text, sensor_of
from keras_lstsr.records.fine_scenes import coarse_lst
from keras_lstsr.records.planning import connected_groups
from keras_lstsr.records.scene_sample import SceneSample
from keras_lstsr.records.schema import SCALE_FACTOR

LAND_COVER, WATER_CLASS = "land_cover", 1
DRAWN_NOISE_KELVIN = 0.05
DEFAULT_DRAWS = 2

# Between the name of a scene and the number of its draw.
_DRAW = "#"

# Fine pixels of MODIS are 231.656 m, those of UTM grids made for it 250 m.
_FINE_PIXEL_M = (225.0, 255.0)
# Full widths at half maximum that are drawn: MODIS's own is about 1 km at nadir, wider off it.
_DRAWN_FWHM_M, _NARROWER, _LEAST_FWHM_M = (900.0, 2000.0), (0.6, 1.0), 850.0
_MODIS_SHARE = 0.25
# Every fourth draw is hardly blurred, down to the mean over the pixel, as simulated LST is: a
# network that has seen wide footprints alone sharpens that too much.
_UNBLURRED_EVERY, _UNBLURRED_FWHM_M = 4, (50.0, 900.0)
# By night the ground's coldest thousandth is not so much colder than its middle; cloud tops are.
_CLOUD_SHARE, _CLOUD_KELVIN = 0.001, 25.0


@dataclass(frozen=True)
class PlaceScene:
    """Fine LST of a place on a date, as a source; the folder names the place.

    Attributes:
        path: Fine LST.
        group: The first place, by name, of those that share ground with this one.
        day_night: ``day``, ``night`` or ``unknown``; a morning is a day.
        footprint: What a coarse pixel sees.
        partners: Guide or ``land_cover`` → its raster, of this date or another.
        other_dates: Fine LST of the place on other dates, by the same half of the day.
        draw: Number of the draw of footprint and noise; 0 where nothing is drawn.
    """

    path: Path
    group: str
    day_night: str = "unknown"
    footprint: Footprint = field(default_factory=Footprint)
    partners: Mapping[str, Path] = field(default_factory=dict)
    other_dates: Sequence[Path] = ()
    draw: int = 0

    @property
    def name(self) -> str:
        """``place/date_half``, and ``#1`` for the first draw."""
        stem = _parts(self.path)[0]
        return f"{self.path.parent.name}/{stem}" + (f"{_DRAW}{self.draw}" if self.draw else "")

    @property
    def paths(self) -> list[Path]:
        """The raster and its guides; other dates are scenes of their own."""
        return [self.path, *self.partners.values()]

    @property
    def guide_names(self) -> list[str]:
        """Names of the guides that it has."""
        held = {"water" if name == LAND_COVER else name for name in self.partners}
        held |= {"water"} if "ndvi" in held else set()
        held |= {REFERENCE} if self.other_dates else set()
        return [name for name in GUIDES if name in held]

    def load(self) -> SceneSample:
        """Makes coarse LST of the scene, and its guides.

        The truth is the mean of fine pixels over a 250 m pixel, missing where any of them is. What
        the footprint sees of it is coarse LST; a draw has noise of 0.05 K. ``water`` comes from a
        file, from class 1 of the land cover, or from NDVI; ``reference`` is the mean detail of
        other dates.

        Raises:
            ProductError: If a raster cannot be read, is not what its name says, or is smaller than
                a coarse pixel.
            GridError: If its pixels do not nest in 250 m.
        """
        truth = fine_lst(self.path)
        grid, factor = Grid.of(truth), SCALE_FACTOR
        coarse = grid.coarser(factor)
        guides = {}
        for name, path in self.partners.items():
            own = "water" if name == LAND_COVER else name
            raster = _open_guide(path, name)
            # Averages carry rounding.
            guides[own] = guide_on_fine_grid(raster, coarse, factor).clip(*GUIDES[own].valid_range)
        if "ndvi" in guides and "water" not in guides:
            guides["water"] = water_from_ndvi(guides["ndvi"])
        if self.other_dates:
            details = [_detail(path) for path in self.other_dates]
            guides[REFERENCE] = mean_detail(details, grid)[REFERENCE]
        noise = DRAWN_NOISE_KELVIN if self.draw else 0.0
        psf = self.footprint.psf(coarse.pixel_size[0])
        return SceneSample(
            self.name,
            self.group,
            day_night=self.day_night,
            lst=coarse_lst(truth, factor, self.name, noise_kelvin=noise, psf=psf),
            guides={n: g for n, g in guides.items() if np.isfinite(g.values).any()},
            truth=truth,
            files={path.name: sha256_of(path) for path in self.paths},
            origin="degraded",
            product=truth.attrs["product"],
            acquisition_date=_date(self.path),
            sensor=truth.attrs["sensor"],
        )


def find_places(
    folder: str | PathLike[str], *, footprint: Footprint | None = None, draws: int = 0
) -> list[PlaceScene]:
    """Finds the scenes of places, in the order of their names.

    Nights that show clouds are left out, as scenes and as other dates: those whose coldest
    thousandth is more than 25 K below the median, which no ground is by night. A scene without a
    guide of its own date gets that of another: without a date, else of the nearest.

    Args:
        folder: Holds a folder for each place.
        footprint: What a coarse pixel sees; by default a Gaussian of 930 m.
        draws: Instead, so many draws of each scene: footprints of 0.9 to 2 km, every fourth one
            of less, with noise, drawn by the scene's name and the draw's number.

    Raises:
        ProductError: If there is no such scene.
        GridError: If a raster has no grid, or its pixels do not nest in 250 m.
    """
    places = _rasters(Path(folder))
    scenes = [path for roles in places.values() for path in roles["lst"].values()]
    grids = [Grid.of(path) for path in scenes]
    groups = connected_groups(grids, [path.parent.name for path in scenes])
    first: dict[str, str] = {}
    group_of = {p: first.setdefault(g, p.parent.name) for p, g in zip(scenes, groups, strict=True)}
    found = []
    for roles in places.values():
        half = {path: _half(path) for path in roles["lst"].values()}
        clear = {p: h for p, h in half.items() if h != "night" or not shows_cloud(fine_lst(p))}
        for path, own in clear.items():
            others = tuple(p for p, h in clear.items() if h == own and _date(p) != _date(path))
            guides = {r: _nearest(path, files) for r, files in roles.items() if r != "lst"}
            scene = PlaceScene(path, group_of[path], own, footprint or Footprint(), guides, others)
            found += [_drawn(scene, draw + 1) for draw in range(draws)] or [scene]
    return found


def shows_cloud(lst: xr.DataArray) -> bool:
    """Tells whether LST by night, in kelvin, is colder in places than ground can be."""
    values = lst.values[np.isfinite(lst.values)]
    if not values.size:
        return True
    low, middle = np.quantile(values, (_CLOUD_SHARE, 0.5))
    return bool(low < middle - _CLOUD_KELVIN)


def left_out(folder: str | PathLike[str], scenes: Sequence[PlaceScene]) -> list[str]:
    """Names the scenes of a folder that ``find_places``, which found the others, has left out."""
    kept = {scene.path for scene in scenes}
    paths = (p for roles in _rasters(Path(folder)).values() for p in roles["lst"].values())
    return [PlaceScene(path, "").name for path in paths if path not in kept]


def without_draw(name: str) -> tuple[str, int]:
    """Returns a scene's name without the number of its draw, and the number; 0 where there is none.

    It is the name that the scene has where nothing is drawn.
    """
    stem, sign, number = name.rpartition(_DRAW)
    return (stem, int(number)) if sign and number.isdecimal() else (name, 0)


def place_of(name: str) -> str:
    """Returns the place of a scene of that name; "" where it is no place's."""
    return name.rpartition("/")[0]


def _drawn(scene: PlaceScene, draw: int) -> PlaceScene:
    scene = replace(scene, draw=draw)
    rng = np.random.default_rng([*scene.name.encode(), draw])
    if draw % _UNBLURRED_EVERY == 0:
        width = rng.uniform(*_UNBLURRED_FWHM_M)
        return replace(scene, footprint=Footprint("gaussian", (width, width)))
    first = rng.uniform(*_DRAWN_FWHM_M)
    widths = first, max(first * rng.uniform(*_NARROWER), _LEAST_FWHM_M)
    widths = widths if rng.random() < 0.5 else widths[::-1]
    kind: FootprintKind = "modis" if rng.random() < _MODIS_SHARE else "gaussian"
    return replace(scene, footprint=Footprint(kind, widths))


def _rasters(folder: Path) -> dict[str, dict[str, dict[str, Path]]]:
    """Place → role → date and half → path; "" for what has no date."""
    found: dict[str, dict[str, dict[str, Path]]] = {}
    for path in sorted(folder.glob("*/*")):
        stem, role = _parts(path)
        if role and (stem or role != "lst"):
            found.setdefault(path.parent.name, {}).setdefault(role, {})[stem] = path
    found = {place: roles for place, roles in found.items() if "lst" in roles}
    if not found:
        raise ProductError(
            "the folder holds no place",
            path=folder,
            expected="<place>/<date>_<day|night|morning>_lst_77m.tif",
        )
    return found


def _parts(path: Path) -> tuple[str, str]:
    roles = "|".join(["lst", LAND_COVER, *(name for name in GUIDES if name != REFERENCE)])
    match = re.fullmatch(rf"(?:(.+)_)?({roles})_\d+m\.tiff?", path.name, re.IGNORECASE)
    return (match[1] or "", match[2].lower()) if match else ("", "")


def _date(path: Path) -> str:
    """The ISO date; what has none, such as a median, is a date of its own."""
    return date_from_name(_parts(path)[0])


def _half(path: Path) -> str:
    return day_night_from_text(re.sub("morning", "day", _parts(path)[0], flags=re.IGNORECASE))


def _nearest(scene: Path, files: Mapping[str, Path]) -> Path:
    """The raster of a scene's own date, else one without a date, else the nearest in time."""
    stem, own = _parts(scene)[0], _date(scene)

    def apart(other: str) -> tuple[bool, bool, int, str]:
        date = date_from_name(other)
        both = bool(date and own)
        days = dt.date.fromisoformat(date) - dt.date.fromisoformat(own) if both else dt.timedelta()
        return other != stem, bool(date), abs(days.days), other

    return files[min(files, key=apart)]


def _open_guide(path: Path, role: str) -> xr.DataArray:
    """A guide; of land cover, the share of water, 0 or 1."""
    if role == LAND_COVER:
        return open_product(path, quantity="water", class_value=WATER_CLASS)["water"]
    return open_product(path, quantity=role)[role].astype(np.float32, copy=False)


@lru_cache(maxsize=256)
def fine_lst(path: Path) -> xr.DataArray:
    """Returns LST averaged to 250 m pixels, cut to whole coarse pixels; not to be changed.

    Raises:
        ProductError: If it cannot be read, is no LST, or is smaller than a coarse pixel.
        GridError: If its pixels do not nest in 250 m.
    """
    scene = open_product(path, quantity="lst")
    lst = scene["lst_kelvin"]
    grid = Grid.of(lst)
    low, high = _FINE_PIXEL_M
    pixels = max(1, round((low + high) / 2 / grid.pixel_size[0]))
    size_m = pixels * grid.pixel_size[0]
    GridError.unless(
        low <= size_m <= high and not grid.crs.is_geographic,
        "pixel_size",
        f"{grid.pixel_size[0]:g}",
        "metres that nest in 250 m, such as 77.2, 83.3 or 231.7",
        "the pixels do not nest in 250 m",
    )
    coarse = grid.coarser(pixels * SCALE_FACTOR)
    if not all(coarse.shape):
        raise ProductError(
            "the scene is smaller than a coarse pixel",
            path=path,
            found=f"{grid.height} × {grid.width} pixels",
        )
    side = pixels * SCALE_FACTOR
    values = lst.values[: coarse.height * side, : coarse.width * side]
    attrs = {**lst.attrs, "product": scene.attrs["product"], "sensor": sensor_of(scene.attrs)}
    mean = block_mean(values, pixels).astype(np.float32)
    return coarse.finer(SCALE_FACTOR).raster(mean, name="lst_kelvin", attrs=attrs)


@lru_cache(maxsize=256)
def _detail(path: Path) -> xr.DataArray:
    return detail_of(fine_lst(path), SCALE_FACTOR)
