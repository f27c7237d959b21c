"""Pairs of coarse LST, its guides and true fine LST of the same overpass, as they lie in a folder.

A pair is one raster each, on a grid of its own: ``NNN_lst_1km.tif``, a guide such as
``NNN_ndvi_250m.tif``, and ``NNN_aster_lst_232m.tif``. A table ``pairs.csv`` may say which pairs
share ground; without it the footprints tell.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import xarray as xr

from keras_lstsr.config.guides import GUIDES, guide_named
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.ground import share_ground
from keras_lstsr.products import open_product
from keras_lstsr.records.scene_sample import SceneSample

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
    """

    name: str
    group: str
    lst: Path
    guides: Mapping[str, Path]
    truth: Path

    @property
    def paths(self) -> list[Path]:
        """All files of the pair."""
        return [self.lst, *self.guides.values(), self.truth]

    def load(self) -> SceneSample:
        """Reads the rasters in physical units.

        Raises:
            ProductError: If a raster cannot be read or is not what its name says.
        """
        scene, lst = _open(self.lst, "lst_kelvin")
        return SceneSample(
            self.name,
            self.group,
            day_night=str(lst.attrs.get("day_night", "unknown")),
            lst=lst,
            guides={name: _open(path, name)[1] for name, path in self.guides.items()},
            truth=_open(self.truth, "lst_kelvin")[1],
            files={path.name: sha256_of(path) for path in self.paths},
            product=scene.attrs["product"],
            tile=scene.attrs["tile"],
            acquisition_date=scene.attrs["acquisition_date"],
        )


def find_pairs(folder: str | PathLike[str]) -> list[PairFiles]:
    """Finds the pairs of a folder, by name.

    Args:
        folder: Where the rasters and perhaps ``pairs.csv`` (``id``, ``overlap_group``) lie.

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
    return [
        PairFiles(
            name,
            group,
            files["lst"],
            {guide: files[guide] for guide in guides},
            files["aster_lst"],
        )
        for (name, files), group in zip(found.items(), groups, strict=True)
    ]


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
