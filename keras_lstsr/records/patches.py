"""Scenes cut into patches: pure functions, without Beam and without TensorFlow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.grids.align import guide_on_fine_grid
from keras_lstsr.products import REASONS, rejection_reason
from keras_lstsr.records.places import (
    RasterWindow,
    SplitSettings,
    patch_blocks,
    patch_corners,
    place_name,
    split_of,
)
from keras_lstsr.records.schema import REJECTION_PRECEDENCE, SCALE_FACTOR, Split
from keras_lstsr.records.statistics import PatchStatistics

Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Encoding:
    """How a raster is stored on disk: ``value = float32(integer · scale_factor + add_offset)``.

    Attributes:
        dtype: NumPy's name of the stored type.
        scale_factor: Units per integer.
        add_offset: Units at integer 0.
        fill: The integer that marks missing pixels; None where the file names none.
    """

    dtype: str = "float32"
    scale_factor: float = 1.0
    add_offset: float = 0.0
    fill: float | None = None

    @classmethod
    def of(cls, layer: xr.DataArray) -> Encoding:
        """Returns the encoding with which a layer was delivered; float32 if it is not known."""
        stored: Mapping[str, Any] = layer.encoding
        if "dtype" not in stored:
            return cls()
        fill = stored.get("_FillValue")
        return cls(
            dtype=np.dtype(stored["dtype"]).name,
            scale_factor=float(stored.get("scale_factor", 1.0)),
            add_offset=float(stored.get("add_offset", 0.0)),
            fill=None if fill is None else float(fill),
        )


@dataclass(frozen=True, order=True)
class PatchKey:
    """Identifies a patch in a job, whatever worker made it.

    Attributes:
        source: First 16 hexadecimal digits of the LST file's SHA-256.
        granule_id: Its granule id.
        day_night: ``day``, ``night`` or ``unknown``.
        row: LST pixels from the raster's north edge to the patch's.
        col: LST pixels from the raster's west edge to the patch's.
    """

    source: str
    granule_id: str
    day_night: str
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.granule_id}/{self.source}/{self.day_night}/r{self.row:05d}c{self.col:05d}"


@dataclass(frozen=True, eq=False)
class Patch:
    """A square piece of an LST raster, with the NDVI of the same ground.

    Attributes:
        key: Identifies it.
        lst_kelvin: ``[h, w]`` float32 in kelvin; NaN where missing.
        ndvi: ``[4h, 4w]`` float32 on the four times finer grid; NaN where missing; None without.
        product: E.g. ``MOD11A1``.
        tile: E.g. ``h18v04``; "" outside MODIS tiles.
        acquisition_date: ISO date; "" if unknown.
        place: Name of the ground it lies on (see ``keras_lstsr.records.places``).
        split: ``train``, ``validation`` or ``test``.
        crs_wkt: CRS of ``transform``.
        transform: Affine coefficients (a, b, c, d, e, f) of the patch's own LST pixels.
        lst_encoding: How LST was delivered.
        ndvi_encoding: How NDVI was delivered.
    """

    key: PatchKey
    lst_kelvin: NDArray[np.float32]
    ndvi: NDArray[np.float32] | None
    product: str
    tile: str
    acquisition_date: str
    place: str
    split: Split
    crs_wkt: str
    transform: Transform
    lst_encoding: Encoding = Encoding()
    ndvi_encoding: Encoding = Encoding()

    @property
    def day_night(self) -> str:
        """``day``, ``night`` or ``unknown``."""
        return self.key.day_night

    @property
    def guide(self) -> NDArray[np.float32] | None:
        """NDVI, by its part in guided models."""
        return self.ndvi


@dataclass(frozen=True)
class CutSettings:
    """What patches are cut and kept.

    Attributes:
        patch_size: LST pixels along a side; also the side of a place's block.
        stride: LST pixels between neighbouring patches' corners.
        max_missing_fraction: Share of missing pixels that LST, and NDVI, of a patch may have. A
            patch without a single valid pixel is never kept.
        anchor: ``tile`` counts patches from the MODIS tile's corner, so that all rasters of a
            tile agree; ``raster`` from each raster's corner.
        need_ndvi: Reject patches without NDVI.
        split: How places and dates are shared out.
    """

    patch_size: int = 64
    stride: int = 64
    max_missing_fraction: float = 0.0
    anchor: str = "tile"
    need_ndvi: bool = False
    split: SplitSettings = field(default_factory=SplitSettings)

    def __post_init__(self) -> None:
        # 4 km to 1 km degrades patches by the scale factor.
        if self.patch_size < SCALE_FACTOR or self.patch_size % SCALE_FACTOR:
            raise ConfigError(
                "the patch size is unusable",
                field="patch_size",
                found=self.patch_size,
                expected=f"a multiple of {SCALE_FACTOR}",
            )
        if self.stride < 1:
            raise ConfigError(
                "the stride is unusable", field="stride", found=self.stride, expected="1 or more"
            )
        if not 0.0 <= self.max_missing_fraction < 1.0:
            raise ConfigError(
                "the share of missing pixels is unusable",
                field="max_missing_fraction",
                found=self.max_missing_fraction,
                expected="0 or more and less than 1",
            )
        if self.anchor not in ("tile", "raster"):
            raise ConfigError(
                "unknown anchor", field="anchor", found=self.anchor, expected="tile or raster"
            )


@dataclass
class CutTally:
    """What became of a scene's patches; filled while they are cut.

    Attributes:
        candidates: Patches looked at, by layer.
        accepted: Patches kept, by layer.
        rejected: Patches by layer and reason.
        statistics: Of the patches kept for training.
    """

    candidates: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    statistics: PatchStatistics = field(default_factory=PatchStatistics)


@dataclass(frozen=True)
class SceneContext:
    """What cutting needs to know beyond the scene's pixels.

    Attributes:
        source: SHA-256 of the LST file.
        window: The raster's place in its family's grid.
        merged_places: Names of merged places by the names of blocks (see ``merge_places``).
    """

    source: str
    window: RasterWindow
    merged_places: Mapping[str, str] = field(default_factory=dict)


def raster_transform(layer: xr.Dataset | xr.DataArray) -> Transform:
    """Returns the affine coefficients (a, b, c, d, e, f) of a raster."""
    a, b, c, d, e, f = (float(value) for value in layer.rio.transform()[:6])
    return (a, b, c, d, e, f)


def too_much_missing(values: NDArray[np.floating], max_missing_fraction: float) -> bool:
    """Tells whether too many pixels of a patch are NaN, or all."""
    missing = int(np.count_nonzero(np.isnan(values)))
    return missing > max_missing_fraction * values.size or missing == values.size


def missing_reason(codes: NDArray[np.uint8]) -> str:
    """Returns the first reason by ``REJECTION_PRECEDENCE`` among a patch's missing pixels."""
    found = {REASONS[int(code)] for code in np.unique(codes)}
    return next(reason for reason in REJECTION_PRECEDENCE if reason in found)


def place_and_split(
    context: SceneContext,
    corner: tuple[int, int],
    acquisition_date: str,
    settings: CutSettings,
) -> tuple[str, Split | None, str]:
    """Decides where a patch belongs.

    Args:
        context: The raster.
        corner: The patch's row and column.
        acquisition_date: ISO date.
        settings: How to split.

    Returns:
        The place of the patch's corner; the split, or None if it fits none; and why not.
    """
    blocks = patch_blocks(context.window, corner, settings.patch_size)
    names = [place_name(context.window.grid, block) for block in blocks]
    places = [context.merged_places.get(name, name) for name in names]
    how = settings.split
    if how.by == "date":
        return places[0], split_of(acquisition_date, how), ""
    splits = {split_of(place, how) for place in places}
    if len(splits) > 1:
        return places[0], None, "straddles_splits"
    split = splits.pop()
    if how.by == "place_and_date" and split_of(acquisition_date, how) != split:
        return places[0], None, "split_mismatch"
    return places[0], split, ""


def cut_patches(
    scene: xr.Dataset,
    layers: Mapping[str, xr.DataArray],
    context: SceneContext,
    settings: CutSettings,
    tally: CutTally,
    read_ndvi: Callable[[], xr.DataArray] | None = None,
) -> Iterator[Patch]:
    """Cuts a scene's LST layers into patches and keeps those that the policy accepts.

    Args:
        scene: As ``open_product`` returns it.
        layers: Its LST in kelvin by ``day``, ``night`` or ``unknown`` (``lst_layers``).
        context: Where the raster lies.
        settings: What to keep.
        tally: Counts are added to it.
        read_ndvi: Reads the NDVI that belongs to the scene, called at most once and only if a
            patch has enough LST; None if there is no partner.

    Yields:
        The patches that are kept, layer by layer, from north-west to south-east.

    Raises:
        GridError: If LST and NDVI do not fit each other.
    """
    corners = patch_corners(context.window, settings.patch_size, settings.stride)
    guide: xr.DataArray | None = None
    size = settings.patch_size
    for day_night, layer in layers.items():
        lst = np.asarray(layer.values, dtype=np.float32)
        codes = rejection_reason(scene, str(layer.name)).values
        rejected = tally.rejected.setdefault(day_night, Counter())
        for row, col in corners:
            tally.candidates[day_night] += 1
            window = np.s_[row : row + size, col : col + size]
            if too_much_missing(lst[window], settings.max_missing_fraction):
                rejected[missing_reason(codes[window])] += 1
                continue
            ndvi = None
            if settings.need_ndvi:
                if read_ndvi is None:
                    rejected["no_ndvi_partner"] += 1
                    continue
                if guide is None:
                    guide = guide_on_fine_grid(read_ndvi(), layer, SCALE_FACTOR)
                ndvi = _fine_window(guide, row, col, size)
                if too_much_missing(ndvi, settings.max_missing_fraction):
                    rejected["ndvi_missing"] += 1
                    continue
            date = str(scene.attrs.get("acquisition_date", ""))
            place, split, reason = place_and_split(context, (row, col), date, settings)
            if split is None:
                rejected[reason] += 1
                continue
            tally.accepted[day_night] += 1
            if split == "train":
                statistics = PatchStatistics.of_patch(lst[window], ndvi, day_night, SCALE_FACTOR)
                tally.statistics = tally.statistics.merge(statistics)
            yield Patch(
                key=PatchKey(context.source[:16], scene.attrs["granule_id"], day_night, row, col),
                lst_kelvin=lst[window].copy(),
                ndvi=ndvi,
                product=scene.attrs["product"],
                tile=scene.attrs.get("tile", ""),
                acquisition_date=date,
                place=place,
                split=split,
                crs_wkt=scene.rio.crs.to_wkt(),
                transform=_moved(raster_transform(scene), row, col),
                lst_encoding=Encoding.of(layer),
                ndvi_encoding=Encoding() if guide is None else Encoding.of(guide),
            )


def _fine_window(guide: xr.DataArray, row: int, col: int, size: int) -> NDArray[np.float32]:
    top, left, side = row * SCALE_FACTOR, col * SCALE_FACTOR, size * SCALE_FACTOR
    window = guide.values[top : top + side, left : left + side].astype(np.float32, copy=True)
    if window.shape != (side, side):
        raise GridError(
            "NDVI does not lie on LST's fine grid", found=window.shape, expected=(side, side)
        )
    return window


def _moved(transform: Transform, row: int, col: int) -> Transform:
    a, b, c, d, e, f = transform
    return (a, b, c + a * col + b * row, d, e, f + d * col + e * row)
