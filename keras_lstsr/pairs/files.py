"""Pairs of coarse LST, its guide and true fine LST of the same overpass, as they lie in a folder.

A pair is three rasters, each with its own grid: ``NNN_lst_1km.tif``, ``NNN_ndvi_250m.tif`` and
``NNN_aster_lst_232m.tif``. A table ``pairs.csv`` may say which pairs share ground; without it the
footprints tell.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.grids.align import guide_on_fine_grid
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.products import open_product

PAIRS_TABLE = "pairs.csv"
_FILE_NAME = re.compile(
    r"^(?P<name>.+?)_(?P<role>aster_lst|lst|ndvi)_\d+(?:\.\d+)?k?m\.tiff?$", re.IGNORECASE
)
# Role → what the error calls it, and a name that would be found.
_ROLES = {
    "lst": ("coarse LST", "{}_lst_1km.tif"),
    "ndvi": ("NDVI", "{}_ndvi_250m.tif"),
    "aster_lst": ("true fine LST", "{}_aster_lst_232m.tif"),
}


@dataclass(frozen=True, eq=False)
class Pair:
    """One scene with its truth.

    Attributes:
        name: Names the pair.
        group: Pairs of one group share ground; the bootstrap draws whole groups.
        lst: Coarse LST in kelvin, ``[h, w]``, NaN where missing, with CRS and transform.
        guide: The guide, ``[.., ..]`` on any grid of its own, NaN where missing.
        truth: True fine LST in kelvin, on any grid of its own, NaN where missing.
    """

    name: str
    group: str
    lst: xr.DataArray
    guide: xr.DataArray
    truth: xr.DataArray


class PairSource(Protocol):
    """Something that yields a pair when it is wanted, so that a large set need not be held."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def group(self) -> str: ...  # noqa: D102

    def load(self) -> Pair:
        """Reads the pair."""
        ...


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair.

    Attributes:
        name: What their names begin with.
        group: Pairs of one group share ground.
        lst: Coarse LST.
        guide: NDVI.
        truth: True fine LST.
    """

    name: str
    group: str
    lst: Path
    guide: Path
    truth: Path

    def load(self) -> Pair:
        """Reads the rasters in physical units.

        Raises:
            ProductError: If a raster cannot be read or is not what its name says.
        """
        return Pair(
            self.name,
            self.group,
            lst=_variable(self.lst, "lst_kelvin"),
            guide=_variable(self.guide, "ndvi"),
            truth=_variable(self.truth, "lst_kelvin"),
        )


@dataclass(frozen=True, eq=False)
class LoadedPair:
    """A pair that is in memory already, as a source.

    Attributes:
        pair: The pair.
    """

    pair: Pair

    @property
    def name(self) -> str:
        """The pair's name."""
        return self.pair.name

    @property
    def group(self) -> str:
        """The pair's group."""
        return self.pair.group

    def load(self) -> Pair:
        """Returns the pair."""
        return self.pair


def find_pairs(folder: str | PathLike[str]) -> list[PairFiles]:
    """Finds the pairs of a folder, by name.

    Args:
        folder: Where the rasters and perhaps ``pairs.csv`` (``id``, ``overlap_group``) lie.

    Returns:
        The pairs in the order of their names. Without a table, pairs whose footprints overlap,
        also through others, form a group, numbered from 0 on.

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
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE_NAME.match(path.name)
        if match:
            found.setdefault(match["name"], {}).setdefault(match["role"].lower(), path)
    if not found:
        raise ProductError(
            "the folder holds no pair",
            path=folder,
            expected=", ".join(example.format("NNN") for _, example in _ROLES.values()),
            action="Name the rasters of a pair so, with one NNN for all three.",
        )
    for name, files in found.items():
        _check_whole(folder, name, files)
    names = list(found)
    table = folder / PAIRS_TABLE
    groups = (
        _groups_of_table(table, names)
        if table.is_file()
        else overlap_groups([_variable(found[name]["lst"], "lst_kelvin") for name in names])
    )
    return [
        PairFiles(name, group, files["lst"], files["ndvi"], files["aster_lst"])
        for (name, files), group in zip(found.items(), groups, strict=True)
    ]


def load_pairs(folder: str | PathLike[str]) -> list[Pair]:
    """Reads all pairs of a folder; see ``find_pairs`` and ``PairFiles.load`` for what it raises."""
    return [files.load() for files in find_pairs(folder)]


def _check_whole(folder: Path, name: str, files: dict[str, Path]) -> None:
    for role, (description, example) in _ROLES.items():
        if role not in files:
            raise ProductError(
                f"pair {name} has no {description}",
                path=folder,
                found=", ".join(path.name for path in files.values()),
                expected=example.format(name),
                action="Add the raster, or move the pair's other files elsewhere.",
            )


def _variable(path: Path, name: str) -> xr.DataArray:
    scene = open_product(path)
    if name not in scene:
        raise ProductError(
            "the raster is not what its name says",
            path=path,
            found=", ".join(str(variable) for variable in scene.data_vars),
            expected=name,
        )
    return scene[name]


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
            action="Add the row, or remove the table: then footprints tell the groups.",
        )
    return [groups[name] for name in names]


def overlap_groups(rasters: Sequence[xr.DataArray]) -> list[str]:
    """Numbers groups of rasters that share ground, directly or through others.

    Footprints are compared as boxes of longitude and latitude, which are somewhat larger than the
    ground: rasters that nearly touch may come to one group, and none that overlap to two.

    Args:
        rasters: With CRS and transform.

    Returns:
        The group of each, ``"0"`` for the first one's.
    """
    boxes = np.array([raster.rio.transform_bounds("EPSG:4326") for raster in rasters])
    west, south, east, north = boxes.T
    overlap = (np.minimum.outer(east, east) > np.maximum.outer(west, west)) & (
        np.minimum.outer(north, north) > np.maximum.outer(south, south)
    )
    _, labels = connected_components(csr_array(overlap), directed=False)
    order = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return [str(order[label]) for label in labels.tolist()]


def cropped_to_guide(pair: Pair, factor: int) -> Pair:
    """Crops LST to the coarse pixels that the guide covers whole, and the guide to the same ground.

    LST and guide need not share corners. What is cut off is what lies beyond the outermost rows
    and columns with a wholly covered pixel; pixels inside that a gap of the guide touches stay and
    are for the method to leave out.

    Args:
        pair: Any pair.
        factor: Fine pixels along an LST pixel's side.

    Returns:
        The pair with ``lst`` ``[h, w]`` and ``guide`` float32 ``[h · factor, w · factor]``, exactly
        nested in it; the truth unchanged.

    Raises:
        ProductError: If the guide covers no pixel of LST whole.
        GridError: If the guide does not fit; see ``grids.align.guide_on_fine_grid``.
    """
    guide = guide_on_fine_grid(pair.guide, pair.lst, factor)
    covered = np.isfinite(block_mean(np.asarray(guide.values), factor))
    if not covered.any():
        raise ProductError(
            "the guide covers no pixel of LST", path=pair.name, field=str(pair.guide.name)
        )
    rows, columns = _extent(covered.any(axis=1)), _extent(covered.any(axis=0))
    return replace(
        pair, lst=_window(pair.lst, rows, columns, 1), guide=_window(guide, rows, columns, factor)
    )


def _extent(marked: NDArray[np.bool_]) -> slice:
    where = np.flatnonzero(marked)
    return slice(int(where[0]), int(where[-1]) + 1)


def _window(raster: xr.DataArray, rows: slice, columns: slice, factor: int) -> xr.DataArray:
    fine_rows = slice(rows.start * factor, rows.stop * factor)
    fine_columns = slice(columns.start * factor, columns.stop * factor)
    transform = raster.rio.transform() @ Affine.translation(fine_columns.start, fine_rows.start)
    return raster.isel(y=fine_rows, x=fine_columns).rio.write_transform(transform)
