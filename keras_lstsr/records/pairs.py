"""Pairs of coarse LST, its guides and true fine LST of the same overpass, as they lie in a folder.

A pair is one raster each, on a grid of its own: ``NNN_lst_1km.tif``, a guide such as
``NNN_ndvi_250m.tif``, and ``NNN_aster_lst_232m.tif``. A table ``pairs.csv`` may say which pairs
share ground; without it the footprints tell.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike
from pathlib import Path

import numpy as np
import xarray as xr

from keras_lstsr.config.guides import GUIDES, REFERENCE, guide_named
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.ground import share_ground
from keras_lstsr.grids.reference import detail_of, mean_detail
from keras_lstsr.grids.registration import shifted
from keras_lstsr.grids.warp import guide_on_fine_grid
from keras_lstsr.grids.water import water_from_ndvi
from keras_lstsr.products import open_product
from keras_lstsr.products.granule import sensor_of
from keras_lstsr.records.rasters import TRUTH
from keras_lstsr.records.scene_sample import (
    SceneSample,
    clear_shift,
    cropped_to_guides,
    shift_of_scene,
    usable_truth,
)
from keras_lstsr.records.schema import SCALE_FACTOR

PAIRS_TABLE = "pairs.csv"
_DEFAULT_GUIDE = "ndvi"


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair.

    Attributes:
        name: What their names begin with.
        group: Pairs of one group share ground.
        lst: Coarse LST.
        guides: Name of a guide → its file.
        truth: True fine LST.
        others: Pairs that share ground with it; None where no further guides are wanted.
    """

    name: str
    group: str
    lst: Path
    guides: Mapping[str, Path]
    truth: Path
    others: tuple[PairFiles, ...] | None = None

    @property
    def paths(self) -> list[Path]:
        """All files of the pair."""
        return [self.lst, *self.partners.values()]

    @property
    def partners(self) -> dict[str, Path]:
        """Role → the file that belongs to LST."""
        return {**self.guides, TRUTH: self.truth}

    @property
    def guide_names(self) -> list[str]:
        """Names of the guides that it has."""
        if self.others is None:
            return list(self.guides)
        derived = {"water"} if "ndvi" in self.guides else set()
        return [n for n in GUIDES if n in {*self.guides, *derived, REFERENCE}]

    def load(self) -> SceneSample:
        """Reads the rasters in physical units.

        Raises:
            ProductError: If a raster cannot be read or is not what its name says.
        """
        scene, lst = _open(self.lst, "lst_kelvin")
        guides = {name: _open(path, name)[1] for name, path in self.guides.items()}
        if self.others is not None:
            if "ndvi" in guides:
                guides.setdefault("water", water_from_ndvi(guides["ndvi"]))
            details = [pair.detail() for pair in self.others if not pair.shows_date_of(lst)]
            known = [detail for detail in details if detail is not None]
            if known:
                fine = Grid.of(lst).finer(SCALE_FACTOR)
                guides[REFERENCE] = mean_detail(known, fine)[REFERENCE]
        true_scene, truth = _open(self.truth, "lst_kelvin")
        return SceneSample(
            self.name,
            self.group,
            day_night=str(lst.attrs.get("day_night", "unknown")),
            lst=lst,
            guides=guides,
            truth=truth,
            files={path.name: sha256_of(path) for path in self.paths},
            product=scene.attrs["product"],
            tile=scene.attrs["tile"],
            acquisition_date=scene.attrs["acquisition_date"],
            sensor=sensor_of(true_scene.attrs),
        )

    def detail(self) -> xr.DataArray | None:
        """Returns the detail of its truth, moved to its place; None where that is not clear."""
        return _detail(self.lst, tuple(self.guides.items()), self.truth)

    def shows_date_of(self, lst: xr.DataArray) -> bool:
        """Tells whether it is of the date of another coarse LST: both are the same on some ground.

        Truths of one overpass overlap, and there the one would tell the other.
        """
        own = guide_on_fine_grid(_open(self.lst, "lst_kelvin")[1], lst, 1).values
        both = np.isfinite(own) & np.isfinite(lst.values)
        return bool(both.any() and np.isclose(own, lst.values)[both].mean() > 0.5)


@lru_cache(maxsize=256)
def _detail(lst: Path, guides: tuple[tuple[str, Path], ...], truth: Path) -> xr.DataArray | None:
    scene = PairFiles("", "", lst, dict(guides), truth).load()
    shift = clear_shift(shift_of_scene(cropped_to_guides(scene, SCALE_FACTOR), SCALE_FACTOR))
    if shift is None or scene.truth is None:
        return None
    moved = shifted(scene.truth, shift)
    return detail_of(moved.where(usable_truth(moved)), SCALE_FACTOR)


def find_pairs(folder: str | PathLike[str], *, references: bool = False) -> list[PairFiles]:
    """Finds the pairs of a folder, by name.

    Args:
        folder: Where the rasters and perhaps ``pairs.csv`` (``id``, ``overlap_group``) lie.
        references: Whether pairs are to have further guides: ``water`` from NDVI, and
            ``reference``, the mean detail of other pairs' truths of other dates.

    Returns:
        The pairs in the order of their names. All have the same guides. Without a table, pairs
        whose footprints overlap, also through others, form a group, numbered from 0 on.

    Raises:
        ProductError: If the folder is not there, holds no pair, or a pair lacks a raster.
        ConfigError: If the table lacks a column or a pair.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ProductError(
            "there is no such folder",
            path=folder,
            found="a file" if folder.exists() else "nothing",
            expected="a folder of pairs",
        )
    roles = "|".join(("aster_lst", "lst", *GUIDES))
    file_name = re.compile(
        rf"^(?P<name>.+?)_(?P<role>{roles})_\d+(?:\.\d+)?k?m\.tiff?$", re.IGNORECASE
    )
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = file_name.match(path.name)
        if match:
            found.setdefault(match["name"], {}).setdefault(match["role"].lower(), path)
    if not found:
        examples = (f"NNN_{role}_{size}.tif" for role, (_, size) in _roles([]).items())
        raise ProductError(
            "the folder holds no pair",
            path=folder,
            expected=", ".join(examples),
            action="Name the three rasters of a pair like this, with the same NNN.",
        )
    guides = [name for name in GUIDES if any(name in files for files in found.values())]
    for name, files in found.items():
        _check_whole(folder, name, files, _roles(guides))
    table = folder / PAIRS_TABLE
    if table.is_file():
        groups = _groups_of_table(table, list(found))
    else:
        groups = list(map(str, share_ground([Grid.of(files["lst"]) for files in found.values()])))
    pairs = [
        PairFiles(
            name,
            group,
            files["lst"],
            {guide: files[guide] for guide in guides},
            files["aster_lst"],
        )
        for (name, files), group in zip(found.items(), groups, strict=True)
    ]
    return [replace(pair, others=_sharing(pair, pairs)) for pair in pairs] if references else pairs


def _sharing(pair: PairFiles, pairs: Sequence[PairFiles]) -> tuple[PairFiles, ...]:
    ground, *grounds = (Grid.of(each.truth) for each in (pair, *pairs))
    together = (
        other
        for other, its in zip(pairs, grounds, strict=True)
        if other is not pair and len(set(share_ground([ground, its]))) == 1
    )
    return tuple(together)


def _roles(guides: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Role → what an error calls it, and the pixel size of a name that would be found."""
    named = {name: (guide_named(name).long_name, "250m") for name in guides or [_DEFAULT_GUIDE]}
    return {"lst": ("coarse LST", "1km"), **named, "aster_lst": ("true fine LST", "232m")}


def _check_whole(
    folder: Path, name: str, files: dict[str, Path], roles: dict[str, tuple[str, str]]
) -> None:
    for role, (description, size) in roles.items():
        if role not in files:
            raise ProductError(
                f"pair {name} has no {description}",
                path=folder,
                found=", ".join(path.name for path in files.values()),
                expected=f"{name}_{role}_{size}.tif",
                action="Add the raster, or move the pair's other files elsewhere.",
            )


def _open(path: Path, name: str) -> tuple[xr.Dataset, xr.DataArray]:
    scene = open_product(path)
    if name not in scene:
        raise ProductError(
            "the raster is not what its name says",
            path=path,
            found=", ".join(str(variable) for variable in scene.data_vars),
            expected=name,
        )
    return scene, scene[name]


def _groups_of_table(table: Path, names: Sequence[str]) -> list[str]:
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = set(reader.fieldnames or ())
        if not {"id", "overlap_group"} <= columns:
            raise ConfigError(
                "the table of pairs lacks a column",
                path=table,
                found=", ".join(sorted(columns)) or "no heading",
                expected="id, overlap_group",
            )
        groups = {row["id"]: row["overlap_group"] for row in reader}
    absent = [name for name in names if not groups.get(name)]
    if absent:
        raise ConfigError(
            "the table of pairs lacks a pair",
            path=table,
            field="overlap_group",
            found=f"no group for {', '.join(absent[:5])}",
            action="Add the row, or remove the table: then the rasters' grids tell the groups.",
        )
    return [groups[name] for name in names]
