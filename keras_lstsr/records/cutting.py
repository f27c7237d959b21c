"""Scenes cut into samples: pure functions, without Beam and without TensorFlow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.resample import finer_window, upsample_nearest
from keras_lstsr.grids.warp import guide_on_fine_grid
from keras_lstsr.products import REASONS, rejection_reason
from keras_lstsr.products.granule import sensor_of
from keras_lstsr.records.places import (
    RasterWindow,
    SplitSettings,
    patch_blocks,
    patch_corners,
    place_name,
    split_of,
)
from keras_lstsr.records.sample import Encoding, Sample
from keras_lstsr.records.schema import SCALE_FACTOR, Split, first_reason, missing, no_partner

ReadGuide = Callable[[], xr.DataArray]

# A scene with truth stays whole up to so many times the patch size, so that crops can be drawn
# from all of it.
_WHOLE_SIZES = 2


@dataclass(frozen=True)
class CutSettings:
    """What samples are cut and kept.

    Attributes:
        patch_size: LST pixels along a side; also the side of a place's block.
        stride: LST pixels between neighbouring samples' corners.
        max_missing_fraction: Share of missing pixels that LST, and each guide, of a sample without
            truth may have. A sample without a single valid pixel is never kept.
        anchor: ``tile`` counts samples from the MODIS tile's corner, so that all rasters of a
            tile agree; ``raster`` from each raster's corner.
        guides: Every sample holds these guides; one that cannot is rejected.
        truth: Every sample holds the fine truth. Scenes are then cut from their own corner.
        split: How places and dates are shared out.
    """

    patch_size: int = 64
    stride: int = 64
    max_missing_fraction: float = 0.0
    anchor: str = "tile"
    guides: tuple[str, ...] = ()
    truth: bool = False
    split: SplitSettings = field(default_factory=SplitSettings)

    def __post_init__(self) -> None:
        # 4 km to 1 km degrades samples by the scale factor.
        fits = self.patch_size >= SCALE_FACTOR and self.patch_size % SCALE_FACTOR == 0
        ConfigError.unless(fits, "patch_size", self.patch_size, f"a multiple of {SCALE_FACTOR}")
        ConfigError.unless(self.stride >= 1, "stride", self.stride, "1 or more")
        fits, share = 0.0 <= self.max_missing_fraction < 1.0, self.max_missing_fraction
        ConfigError.unless(fits, "max_missing_fraction", share, "0 or more and less than 1")
        fits = self.anchor in ("tile", "raster")
        ConfigError.unless(fits, "anchor", self.anchor, "tile or raster")


@dataclass
class CutTally:
    """What became of a scene's samples by layer, and by reason; filled while they are cut."""

    candidates: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneContext:
    """What cutting needs to know beyond the scene's pixels.

    Attributes:
        source: SHA-256 of the LST file.
        window: The raster's place in its family's lattice.
        merged_places: Names of merged places by the names of blocks (see ``merge_places``).
        group: Scenes of one group share ground.
    """

    source: str
    window: RasterWindow
    merged_places: Mapping[str, str] = field(default_factory=dict)
    group: str = ""


def scene_name(granule_id: str, source: str, day_night: str) -> str:
    """Names an LST layer of a raster, whatever worker cuts it; ``source`` is the file's SHA-256."""
    return f"{granule_id}/{source[:16]}/{day_night}"


def too_much_missing(values: NDArray[np.floating], max_missing_fraction: float) -> bool:
    """Tells whether too many pixels of a sample are NaN, or all."""
    count = int(np.count_nonzero(np.isnan(values)))
    return count > max_missing_fraction * values.size or count == values.size


def missing_reason(codes: NDArray[np.uint8]) -> str:
    """Returns the first reason in the order of precedence among a sample's missing pixels."""
    return first_reason({REASONS[int(code)] for code in np.unique(codes)} - {REASONS[0]})


def place_and_split(
    context: SceneContext,
    corner: tuple[int, int],
    acquisition_date: str,
    settings: CutSettings,
) -> tuple[str, Split | None, str]:
    """Returns the place of a sample's corner; its split, None if it fits none; and why not."""
    blocks = patch_blocks(context.window, corner, settings.patch_size)
    names = [place_name(context.window.family, block) for block in blocks]
    places = [context.merged_places.get(name, name) for name in names]
    if settings.split.by != "date" and len({split_of(p, settings.split) for p in places}) > 1:
        return places[0], None, "straddles_splits"
    split = split_of_scene(places[0], acquisition_date, settings.split)
    return places[0], split, "" if split else "split_mismatch"


def split_of_scene(place: str, acquisition_date: str, how: SplitSettings) -> Split | None:
    """Returns the split of a place and date, or None where the two do not agree."""
    if how.by == "date":
        return split_of(acquisition_date, how)
    split = split_of(place, how)
    if how.by == "place_and_date" and split_of(acquisition_date, how) != split:
        return None
    return split


def cut_patches(
    scene: xr.Dataset,
    layers: Mapping[str, xr.DataArray],
    context: SceneContext,
    settings: CutSettings,
    tally: CutTally,
    read_guides: Mapping[str, ReadGuide] | None = None,
) -> Iterator[Sample]:
    """Cuts a scene's LST layers into samples without truth and keeps those the policy accepts.

    Args:
        scene: As ``open_product`` returns it.
        layers: Its LST in kelvin by ``day``, ``night`` or ``unknown`` (``lst_layers``).
        context: Where the raster lies.
        settings: What to keep.
        tally: Counts are added to it.
        read_guides: Guide → reads the raster that belongs to the scene, called at most once and
            only if a sample has enough LST; a guide without a partner is left out.

    Yields:
        The samples, layer by layer, from north-west to south-east.

    Raises:
        GridError: If LST and a guide do not fit each other.
    """
    read_guides = read_guides or {}
    alone = [name for name in settings.guides if name not in read_guides]
    corners = patch_corners(context.window, settings.patch_size, settings.stride)
    guides: dict[str, xr.DataArray] = {}
    grid = Grid.of(next(iter(layers.values())), "lst")
    size, most = settings.patch_size, settings.max_missing_fraction
    date = str(scene.attrs.get("acquisition_date", ""))
    for day_night, layer in layers.items():
        lst = np.asarray(layer.values, dtype=np.float32)
        codes = rejection_reason(scene, str(layer.name)).values
        rejected = tally.rejected.setdefault(day_night, Counter())
        name = scene_name(scene.attrs["granule_id"], context.source, day_night)
        for row, column in corners:
            tally.candidates[day_night] += 1
            window = slice(row, row + size), slice(column, column + size)
            cut: dict[str, NDArray[np.float32]] = {}
            reason = ""
            if too_much_missing(lst[window], most):
                reason = missing_reason(codes[window])
            elif alone:
                reason = no_partner(alone[0])
            else:
                guides = guides or {
                    guide: guide_on_fine_grid(read_guides[guide](), layer, SCALE_FACTOR)
                    for guide in settings.guides
                }
                cut = {guide: _fine(raster, window) for guide, raster in guides.items()}
                gaps = (missing(n) for n, values in cut.items() if too_much_missing(values, most))
                reason = next(gaps, "")
            place, split, misfit = place_and_split(context, (row, column), date, settings)
            if reason or split is None:
                rejected[reason or misfit] += 1
                continue
            tally.accepted[day_night] += 1
            yield Sample(
                name=f"{name}/{_corner_name(row, column)}",
                lst_kelvin=lst[window].copy(),
                guides=cut,
                truth_kelvin=None,
                grid=grid.window(*window),
                day_night=day_night,
                product=scene.attrs["product"],
                tile=scene.attrs.get("tile", ""),
                acquisition_date=date,
                sensor=sensor_of(scene.attrs),
                place=place,
                split=split,
                scene=name,
                group=context.group,
                row=row,
                column=column,
                encodings={"lst_kelvin": Encoding.of(layer)}
                | {guide: Encoding.of(raster) for guide, raster in guides.items()},
            )


def _fine(guide: xr.DataArray, window: tuple[slice, slice]) -> NDArray[np.float32]:
    return guide.values[finer_window(window, SCALE_FACTOR)].astype(np.float32, copy=True)


def _corner_name(row: int, column: int) -> str:
    return f"r{row:05d}c{column:05d}"


def cut_whole(whole: Sample, settings: CutSettings, tally: CutTally) -> Iterator[Sample]:
    """Takes a scene with truth as one sample, or cuts it if it is much larger than a patch.

    Gaps are kept: the truth says where there is something to learn. A guide that the scene lacks
    is NaN throughout. Only samples that have truth where there is LST are kept; all are counted.

    Args:
        whole: The scene as ``nested`` gives it, with place and split.
        settings: What to keep.
        tally: Counts are added to it.
    """
    factor, size = whole.scale_factor, settings.patch_size
    absent = np.full(whole.fine_grid.shape, np.nan, np.float32)
    whole = replace(whole, guides={n: whole.guides.get(n, absent) for n in settings.guides})
    height, width = whole.grid.shape
    step = size if max(height, width) > _WHOLE_SIZES * size else max(height, width)
    rejected = tally.rejected.setdefault(whole.day_night, Counter())
    for row in range(0, height, step):
        for column in range(0, width, step):
            tally.candidates[whole.day_night] += 1
            part = _part(whole, row, column, step) if step < max(height, width) else whole
            seen = upsample_nearest(np.isfinite(part.lst_kelvin), factor)
            assert part.truth_kelvin is not None
            if not seen.any() or not (seen & np.isfinite(part.truth_kelvin)).any():
                rejected[missing("truth" if seen.any() else "lst")] += 1
                continue
            tally.accepted[whole.day_night] += 1
            yield part


def _part(whole: Sample, row: int, column: int, step: int) -> Sample:
    window = slice(row, row + step), slice(column, column + step)
    fine = finer_window(window, whole.scale_factor)
    truth = whole.truth_kelvin
    return replace(
        whole,
        name=f"{whole.name}/{_corner_name(row, column)}",
        lst_kelvin=whole.lst_kelvin[window],
        guides={name: guide[fine] for name, guide in whole.guides.items()},
        truth_kelvin=None if truth is None else truth[fine],
        grid=whole.grid.window(*window),
        row=row,
        column=column,
    )
