"""Folds by place: what a model is tested on shows no ground that it has learnt from.

Pairs that share ground go to one fold, group by group. A group that is larger than a fold is cut
across its longest axis instead, and what lies on both sides of a cut is masked: a training pair
teaches nothing on ground that any pair of the test fold covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.georeference import north_up_transform, raster_crs

# Pixels: corners of grids on one lattice differ by rounding.
_TOUCHING = 1e-3


@dataclass(frozen=True)
class Footprint:
    """The grid of a raster without its values.

    Attributes:
        crs: CRS of the grid.
        transform: North-up, from pixel corners to the CRS.
        height: Rows.
        width: Columns.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    @classmethod
    def of(cls, raster: xr.DataArray) -> Footprint:
        """Returns the footprint of a raster ``[y, x]``.

        Raises:
            GridError: If it has no CRS or is rotated.
        """
        transform = north_up_transform(raster, "raster")
        return cls(raster_crs(raster, "raster"), transform, raster.sizes["y"], raster.sizes["x"])

    @property
    def longitude_latitude(self) -> tuple[float, float]:
        """Where its middle lies, in degrees."""
        to_degrees = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        x, y = self.transform @ (self.width / 2, self.height / 2)
        longitude, latitude = to_degrees.transform(x, y)
        return float(longitude), float(latitude)


def assign_folds(
    groups: Sequence[str], footprints: Sequence[Footprint], folds: int = 4
) -> list[int]:
    """Assigns pairs to folds by place.

    A group of more than ``1 / folds`` of all pairs is cut into ``folds`` parts of equal size by
    lines across the axis along which its pairs lie furthest apart; the parts follow each other
    along that axis from north to south, or from west to east. The other groups stay whole and
    fill up the folds that have fewest pairs, the largest group first.

    Args:
        groups: Of each pair, the group of pairs with which it shares ground.
        footprints: Of each pair.
        folds: Number of folds, 2 or more.

    Returns:
        The fold of each pair, 0 to ``folds − 1``; each fold has at least one.

    Raises:
        ConfigError: If there are fewer pairs, or too few places, than folds.
    """
    if folds < 2 or len(groups) < folds:
        raise ConfigError(
            "the pairs cannot be split into so many folds",
            field="folds",
            found=f"{folds} for {len(groups)} pairs",
            expected="2 or more, and no more than pairs",
        )
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    result = np.full(len(groups), -1)
    sizes = [0] * folds
    by_size = sorted(members.values(), key=lambda numbers: -len(numbers))
    for numbers in by_size:
        if len(numbers) * folds > len(groups) and len(numbers) >= folds:
            along = _along_longest_axis([footprints[number] for number in numbers])
            parts = np.arange(len(numbers)) * folds // len(numbers)
            for place, fold in zip(along, parts.tolist(), strict=True):
                result[numbers[place]] = fold
                sizes[fold] += 1
    for numbers in by_size:
        if result[numbers[0]] < 0:
            fold = sizes.index(min(sizes))
            result[numbers] = fold
            sizes[fold] += len(numbers)
    if min(sizes) == 0:
        raise ConfigError(
            "there are fewer places than folds",
            field="folds",
            found=f"{folds} for {len(members)} groups of pairs",
            action="Take fewer folds.",
        )
    return [int(fold) for fold in result]


def _along_longest_axis(footprints: Sequence[Footprint]) -> list[int]:
    """Orders places along the axis of their largest spread, from the northern end on."""
    degrees = np.array([footprint.longitude_latitude for footprint in footprints])
    longitude, latitude = degrees.mean(axis=0)
    local = Transformer.from_crs(
        "EPSG:4326", f"+proj=aeqd +lon_0={longitude} +lat_0={latitude} +units=m", always_xy=True
    )
    places = np.stack(local.transform(*degrees.T), axis=-1)
    places -= places.mean(axis=0)
    axis = np.linalg.svd(places, full_matrices=False)[2][0]
    # The sign of a singular vector is arbitrary: from north to south, or from west to east.
    from_end = -axis[1] if abs(axis[1]) >= abs(axis[0]) else axis[0]
    axis = axis * np.sign(from_end)
    return [int(place) for place in np.argsort(np.round(places @ axis), kind="stable")]


def covered_ground(footprint: Footprint, others: Sequence[Footprint]) -> NDArray[np.bool_]:
    """Marks the pixels of a raster whose ground other rasters cover, be it in part.

    Across CRSs a pixel is taken as the box around its four projected corners, so that pixels which
    just do not touch may be marked, and none that touch are left.

    Args:
        footprint: The raster.
        others: The other rasters, on any grids.

    Returns:
        ``[H, W]``, True where any of the others lies.
    """
    marked = np.zeros((footprint.height, footprint.width), np.bool_)
    for other in others:
        marked |= _covered_by(footprint, other)
    return marked


def _covered_by(footprint: Footprint, other: Footprint) -> NDArray[np.bool_]:
    if footprint.crs == other.crs:
        # Between north-up grids of one CRS rows follow from rows alone, and columns from columns.
        ours, theirs = footprint.transform, ~other.transform
        rows = theirs.f + theirs.e * (ours.f + ours.e * np.arange(footprint.height + 1.0))
        columns = theirs.c + theirs.a * (ours.c + ours.a * np.arange(footprint.width + 1.0))
        row_inside = _reaches_into(
            np.minimum(rows[:-1], rows[1:]), np.maximum(rows[:-1], rows[1:]), other.height
        )
        column_inside = _reaches_into(
            np.minimum(columns[:-1], columns[1:]),
            np.maximum(columns[:-1], columns[1:]),
            other.width,
        )
        return row_inside[:, None] & column_inside
    transformer = Transformer.from_crs(footprint.crs, other.crs, always_xy=True)
    column, row = np.meshgrid(np.arange(footprint.width + 1.0), np.arange(footprint.height + 1.0))
    x, y = transformer.transform(*(footprint.transform @ (column, row)))
    column, row = ~other.transform @ (np.asarray(x), np.asarray(y))
    return _reaches_into(*_corner_range(row), other.height) & _reaches_into(
        *_corner_range(column), other.width
    )


def _corner_range(mesh: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    corners = np.stack([mesh[:-1, :-1], mesh[1:, :-1], mesh[:-1, 1:], mesh[1:, 1:]])
    return corners.min(axis=0), corners.max(axis=0)


def _reaches_into(
    low: NDArray[np.float64], high: NDArray[np.float64], length: int
) -> NDArray[np.bool_]:
    """Whether ranges of pixels share more than a border with 0 to ``length``."""
    return np.asarray((high > _TOUCHING) & (low < length - _TOUCHING), dtype=np.bool_)
