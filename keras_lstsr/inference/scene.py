"""Prediction of a whole scene: overlapping tiles, blended, on the exactly nested fine grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import (
    FOLLOWED_NAME,
    OUTPUT_NAME,
    STD_NAME,
    Contract,
    check_range,
)
from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import GridError, ModelError
from keras_lstsr.grids.grid import Grid, placed
from keras_lstsr.grids.resample import upsample_bilinear
from keras_lstsr.grids.tiling import Tile, Tiling, make_tiling
from keras_lstsr.grids.warp import guide_over_lst
from keras_lstsr.grids.water import water_from_ndvi, water_share
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.quality import (
    guide_use,
    made_consistent,
    unused_guides,
    without_guides,
)
from keras_lstsr.inference.self_check import SelfCheck, self_check

if TYPE_CHECKING:
    from keras_lstsr.grids.consistency import ConsistencyMode

_MEANINGS = {
    OUTPUT_NAME: {"units": "K", "long_name": "land surface temperature"},
    STD_NAME: {"units": "K", "long_name": "standard deviation of the error of its detail"},
    FOLLOWED_NAME: {"units": "1", "long_name": "how far the result follows its guides"},
}


def predict_scene(
    lst_kelvin: xr.DataArray,
    predictor: Predictor,
    guides: Mapping[str, xr.DataArray] | None = None,
    *,
    tiles: TileSettings | None = None,
    consistency: ConsistencyMode = "none",
    check: bool = True,
    outputs: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Predicts a scene of any size on the grid that is finer by the model's factor.

    The scene goes to the predictor in overlapping tiles whose results are blended; a tile
    without a valid pixel is skipped. Tiles at the far borders are shifted inwards, so that
    nothing is padded; only a scene below the network's least size is filled up with NaN. Memory
    holds the scene, the guides, the results and one batch. Where the overlap covers the network's
    receptive field, the result does not depend on the tiles.

    With ``check`` the model is asked without its guides, too, where a part of a tile does not trust
    them; the results are mixed by the trust. Detail of other dates cannot be checked that way and
    is in both.

    Where tiles overlap, their standard deviations are averaged with the weights of their
    temperatures: one network seeing the same ground errs alike in both, and the standard
    deviation of a weighted mean of fully correlated errors is the weighted mean.

    Args:
        lst_kelvin: LST ``[y, x]`` in kelvin, NaN where missing, with CRS; dimensions are known by
            their coordinates, whatever their order, names and directions.
        predictor: What predicts a tile.
        guides: Name → guide ``[y, x]`` of any grid of about the fine pixels' size, NaN where
            missing, with CRS; it is brought onto the fine grid. The model's contract names the
            guides that it takes and can do without; others are left out with a note. Where the
            model takes ``water`` and it is not given, NDVI tells it.
        tiles: How the scene is cut; by default ``TileSettings.for_contract`` of the model's.
        consistency: ``"block"`` or ``"psf"`` corrects the result until its mean over each LST
            pixel, or what MODIS would see of it, is the LST given; ``"none"`` leaves it as it is.
        check: Whether guides are followed only as far as they help one scale coarser, where LST
            itself is the truth; see ``keras_lstsr.inference.self_check``. It needs a model that can
            do without guides, and a scene of some size.
        outputs: What is wanted beside LST, ``"lst_std_kelvin"`` or ``"guide_followed"``; None
            means all that the model gives.
        progress: Called with (tiles done, tiles in all) after every batch.

    Returns:
        ``lst_kelvin_fine``, float32 in kelvin, and where the model gives them ``lst_std_kelvin``,
        the standard deviation of the error of detail in kelvin, and ``guide_followed``, 0 (about
        bicubic) to 1. Each coarse pixel holds factor × factor fine ones exactly, in the
        dimensions given. NaN on all fine pixels of a missing pixel, and nowhere else. Attributes
        of each, where they apply: ``guide_missing_share``, ``guide_unfollowed_share`` and
        ``guide_explained_share`` (see ``GuideUse``), those of ``SelfCheck`` and ``Correction``,
        and ``sharpening_notes`` in sentences.

    Raises:
        GridError: If an array is no raster of one band with CRS and a north-up grid, or tile and
            overlap do not fit, or a guide is clearly coarser than the fine grid or has no valid
            pixel in the scene.
        ModelError: If the values cannot be kelvin or the guide's, the model takes none
            of the guides given, or the model returns what it must not.
        ServingError: If a server cannot be reached or refuses.
    """
    given, contract = placed(lst_kelvin, "lst_kelvin"), predictor.contract
    values = np.asarray(given.raster.values, np.float32)
    check_range(values, contract.inputs[0], name=str(given.raster.name or "lst_kelvin"))
    settings = tiles or TileSettings.for_contract(contract)
    tiling = settings.tiling(given.grid.shape, contract)
    guides, unused = _taken({} if guides is None else guides, contract)
    aligned = _on_fine_grid(guides, given.grid, contract.scale_factor)
    beside = (STD_NAME, FOLLOWED_NAME) if outputs is None else outputs
    given_guides = _with_water(aligned, contract)
    found = _checked(values, predictor, given_guides, settings) if check else None
    results = predict_tiles(
        values,
        predictor,
        tiling,
        tiling,
        batch_size=settings.batch_size,
        guides=given_guides,
        trust=None if found is None else found.trust,
        std_factor=None if found is None else found.std_factor,
        outputs=[name for name in beside if contract.gives(name)],
        progress=progress,
    )
    attributes = {key: lst_kelvin.attrs[key] for key in ("day_night",) if key in lst_kelvin.attrs}
    notes = [unused_guides(unused)] if unused else []
    if found is not None:
        attributes |= found.as_attributes()
        notes += found.notes()
    if aligned:
        use = guide_use(values, aligned, contract.scale_factor, results.get(FOLLOWED_NAME))
        attributes |= use.as_attributes()
        notes += use.notes()
    elif contract.guides:
        notes.append(without_guides(contract.guides))
    if consistency != "none":
        results[OUTPUT_NAME], correction = made_consistent(
            results[OUTPUT_NAME], values, consistency
        )
        attributes |= correction.as_attributes()
        notes += correction.notes()
    if notes:
        attributes["sharpening_notes"] = " ".join(notes)
    grid = given.grid.finer(contract.scale_factor)
    fine = grid.dataset(
        {
            name: xr.Variable(
                ("y", "x"), result, {**_MEANINGS[name], **attributes}, {"_FillValue": np.nan}
            )
            for name, result in results.items()
        }
    )
    return given.as_given(fine)


def _checked(
    values: Array, predictor: Predictor, guides: Mapping[str, Array], settings: TileSettings
) -> SelfCheck | None:
    contract = predictor.contract
    if not contract.guides or not all(tensor.optional for tensor in contract.guides.values()):
        return None
    beside = [STD_NAME] if contract.gives(STD_NAME) else []

    def refine(lst: Array, fine_guides: Mapping[str, Array]) -> tuple[Array, Array | None]:
        plan, size = settings.tiling((lst.shape[0], lst.shape[1]), contract), settings.batch_size
        found = predict_tiles(
            lst, predictor, plan, plan, batch_size=size, guides=fine_guides, outputs=beside
        )
        return found[OUTPUT_NAME], found.get(STD_NAME)

    checked = {name: guide for name, guide in guides.items() if not _untold(name)}
    return self_check(values, checked, contract.scale_factor, refine)


def _untold(guide: str) -> bool:
    """Tells whether a guide says nothing one scale coarser: it is detail of LST's own pixels."""
    return guide in GUIDES and GUIDES[guide].is_detail


def _taken(
    guides: Mapping[str, xr.DataArray], contract: Contract
) -> tuple[dict[str, xr.DataArray], list[str]]:
    """Parts guides into those that the model takes and the names of the others."""
    if not isinstance(guides, Mapping):
        raise GridError(
            "guides are given by their names",
            field="guides",
            found=type(guides).__name__,
            expected="a mapping of names to rasters",
            action=f"Pass {{{', '.join(f'{name!r}: raster' for name in contract.guides)}}}.",
        )
    return contract.taken(guides)


def _on_fine_grid(
    guides: Mapping[str, xr.DataArray], lst: Grid, factor: int
) -> dict[str, NDArray[np.float32]]:
    """Brings guides onto the fine grid: ``[f·h, f·w]``, NaN where missing or out of reach."""
    onto = {"water": water_share}
    return {
        name: guide_over_lst(guide, lst, factor, field=name, onto=onto.get(name)).values
        for name, guide in guides.items()
    }


def _with_water(
    aligned: dict[str, NDArray[np.float32]], contract: Contract
) -> dict[str, NDArray[np.float32]]:
    """Adds the share of water as NDVI tells it, where the model takes it and it is not given."""
    if "water" in contract.guides and "water" not in aligned and "ndvi" in aligned:
        return {**aligned, "water": water_from_ndvi(aligned["ndvi"])}
    return aligned


Progress = Callable[[int, int], None]
Array = NDArray[np.float32]

DEFAULT_TILE_PIXELS = 128
DEFAULT_OVERLAP_PIXELS = 32
DEFAULT_BATCH_SIZE = 4
# Six tiles of 232 with overlaps of 38 or 39 are a MODIS tile's 1200: 30 % more than the scene
# itself, and 1.5 GiB for one tile at the network's finest level.
DEFAULT_GUIDED_TILE_PIXELS = 232
DEFAULT_GUIDED_BATCH_SIZE = 1
_BLEND_PIXELS = 6
_TRIM_FRACTION = 0.25
# Above it, what the model makes of LST alone would change the result by noise.
_WHOLE_TRUST = 0.98


@dataclass(frozen=True)
class TileSettings:
    """How a scene is cut.

    Attributes:
        tile_pixels: Side of a tile in coarse pixels, a multiple of the contract's alignment.
        overlap_pixels: Overlap of neighbouring tiles in coarse pixels, likewise; at most half a
            tile.
        batch_size: Tiles per call.
        trim_fraction: Share of an overlap that is unused at either side; see ``axis_weights``.
    """

    tile_pixels: int
    overlap_pixels: int
    batch_size: int
    trim_fraction: float = _TRIM_FRACTION

    @classmethod
    def for_contract(
        cls,
        contract: Contract,
        *,
        tile_pixels: int | None = None,
        overlap_pixels: int | None = None,
        batch_size: int | None = None,
    ) -> Self:
        """Chooses what the caller leaves open, by the model's contract.

        A model that takes statistics in windows has a margin in which they lack pixels. Tiles then
        overlap by two margins and a strip in which they are blended, so that no statistics differ
        from those of the whole scene where they count.

        By default tiles are of 128 pixels, and of 232 for a model that takes guides; they overlap
        by 32, or by what the margin asks for; and 4 go into a call, or 1 with guides.
        """
        margin, guided = contract.margin_pixels, bool(contract.guides)
        if tile_pixels is None:
            tile_pixels = DEFAULT_GUIDED_TILE_PIXELS if guided else DEFAULT_TILE_PIXELS
        if batch_size is None:
            batch_size = DEFAULT_GUIDED_BATCH_SIZE if guided else DEFAULT_BATCH_SIZE
        if overlap_pixels is None:
            overlap_pixels = DEFAULT_OVERLAP_PIXELS
            if margin:
                alignment = contract.alignment_pixels
                overlap_pixels = -(-(2 * margin + _BLEND_PIXELS) // alignment) * alignment
        trim = _TRIM_FRACTION
        if margin and overlap_pixels > 0:
            # A smaller overlap cannot spare both margins; a little of it stays for the blending.
            most = max(trim, 0.5 - 0.5 / overlap_pixels)
            trim = min(max(trim, margin / overlap_pixels), most)
        return cls(tile_pixels, overlap_pixels, batch_size, trim)

    def tiling(self, shape: tuple[int, int], contract: Contract) -> Tiling:
        """Plans the windows over a scene of ``shape`` coarse rows and columns.

        Raises:
            GridError: If tile and overlap do not fit together or to the contract's alignment.
        """
        return make_tiling(
            shape,
            tile_pixels=self.tile_pixels,
            overlap_pixels=self.overlap_pixels,
            factor=contract.scale_factor,
            alignment_pixels=contract.alignment_pixels,
            trim_fraction=self.trim_fraction,
        )


def predict_tiles(
    values: Array,
    predictor: Predictor,
    tiling: Tiling,
    tiles: Iterable[Tile],
    *,
    batch_size: int,
    guides: Mapping[str, Array] | None = None,
    trust: Array | None = None,
    std_factor: Array | None = None,
    outputs: Iterable[str] = (),
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Predicts LST ``[H, W]`` in windows and blends them, with guides ``[f·H, f·W]``.

    Args:
        values: LST in kelvin, NaN where missing.
        predictor: What predicts a tile.
        tiling: The plan that the windows belong to.
        tiles: All windows of the tiling, in any order.
        batch_size: Windows per call.
        guides: By name, NaN where missing.
        trust: How far to follow them, ``[H, W]``, 0 to 1; None means whole. Where that is less,
            the model is asked without guides, too, but for detail of other dates.
        std_factor: What standard deviations are multiplied with, ``[H, W]``; None means 1.
        outputs: What to blend beside LST, by its name in the contract, which must give it.
        progress: See ``predict_scene``.

    Returns:
        ``lst_kelvin_fine`` and the other outputs, ``[f·H, f·W]``; NaN on the fine pixels of
        missing ones.

    Raises:
        ModelError: If the model's result has the wrong shape, or NaN where it must not.
    """
    factor = predictor.scale_factor
    missing = np.isnan(values)
    shape = [side * factor for side in values.shape]
    # Weighted sums of anomalies keep float32's digits: at 300 K its step is 3e-5 K.
    reference = np.float32(0 if missing.all() else np.nanmean(values, dtype=np.float64))
    blended = {OUTPUT_NAME: np.full(shape, reference, np.float32)}
    blended |= {name: np.zeros(shape, np.float32) for name in outputs}
    done = 0
    for batch, skipped in _batches(tiles, batch_size, missing):
        if not skipped:
            patches = np.stack([values[tile.index()] for tile in batch])
            under = {
                name: np.stack([guide[tiling.fine_index(tile)] for tile in batch])
                for name, guide in (guides or {}).items()
            }
            fine = _predict_batch(patches, under, predictor, tuple(blended))
            if trust is not None:
                share = np.stack([trust[tile.index()] for tile in batch])
                if share.min() < _WHOLE_TRUST:
                    kept = {name: guide for name, guide in under.items() if _untold(name)}
                    alone = _predict_batch(patches, kept, predictor, tuple(blended))
                    fine = _mixed(fine, alone, upsample_bilinear(share, factor))
            if std_factor is not None and STD_NAME in fine:
                own = np.stack([std_factor[tile.index()] for tile in batch])
                fine[STD_NAME] = fine[STD_NAME] * upsample_bilinear(own, factor)
            fine[OUTPUT_NAME] -= reference
            for number, tile in enumerate(batch):
                index, weight = tiling.fine_index(tile), tiling.weight(tile)
                for name, result in blended.items():
                    result[index] += weight * fine[name][number]
        done += len(batch)
        if progress is not None:
            progress(done, len(tiling))
    for result in blended.values():
        blocks = result.reshape(values.shape[0], factor, values.shape[1], factor)
        blocks[np.broadcast_to(missing[:, None, :, None], blocks.shape)] = np.nan
    return blended


def _mixed(guided: dict[str, Array], alone: dict[str, Array], trust: Array) -> dict[str, Array]:
    """Goes from LST alone to the guided result as far as that is trusted.

    The variance is that of a mixture of the two.
    """
    apart = guided[OUTPUT_NAME] - alone[OUTPUT_NAME]
    mixed = {OUTPUT_NAME: alone[OUTPUT_NAME] + trust * apart}
    if FOLLOWED_NAME in guided:
        mixed[FOLLOWED_NAME] = trust * guided[FOLLOWED_NAME]
    if STD_NAME in guided:
        own = trust * guided[STD_NAME] ** 2 + (1 - trust) * alone[STD_NAME] ** 2
        mixed[STD_NAME] = np.sqrt(own + trust * (1 - trust) * apart**2)
    return mixed


def _batches(
    tiles: Iterable[Tile], batch_size: int, missing: NDArray[np.bool_]
) -> Iterator[tuple[list[Tile], bool]]:
    """Groups windows of equal shape; one without a valid pixel is alone and may be skipped."""
    waiting: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        if missing[tile.index()].all():
            yield [tile], True
            continue
        group = waiting.setdefault(tile.shape, [])
        group.append(tile)
        if len(group) == batch_size:
            yield waiting.pop(tile.shape), False
    for group in waiting.values():
        yield group, False


def _predict_batch(
    patches: Array, guides: Mapping[str, Array], predictor: Predictor, outputs: tuple[str, ...]
) -> dict[str, Array]:
    """Predicts ``[B, h, w]``; gaps come back as 0, since the blend multiplies them."""
    factor = predictor.scale_factor
    rows, columns = (
        max(0, predictor.contract.minimum_size_pixels - side) for side in patches.shape[1:]
    )
    lst = _padded(patches, rows, columns)
    fine_guides = {
        n: _padded(guide, factor * rows, factor * columns) for n, guide in guides.items()
    }
    answer = predictor.predict(lst, fine_guides, outputs=outputs[1:])
    results = {
        OUTPUT_NAME: answer.lst_kelvin,
        STD_NAME: answer.std_kelvin,
        FOLLOWED_NAME: answer.guide_followed,
    }
    missing = np.repeat(np.repeat(np.isnan(patches), factor, axis=1), factor, axis=2)
    expected = (len(lst), lst.shape[1] * factor, lst.shape[2] * factor, 1)
    return {name: _checked_result(results[name], name, expected, missing) for name in outputs}


def _padded(patches: Array, rows_after: int, columns_after: int) -> Array:
    """Fills ``[B, h, w]`` up with NaN and adds the channel."""
    padding = [(0, 0), (0, rows_after), (0, columns_after)]
    return np.pad(patches, padding, constant_values=np.nan)[..., None]


def _checked_result(
    fine: Array | None, name: str, expected: tuple[int, ...], missing: NDArray[np.bool_]
) -> Array:
    if fine is None or fine.shape != expected:
        raise ModelError(
            "the model's result has the wrong shape",
            field=name,
            found="nothing" if fine is None else list(fine.shape),
            expected=list(expected),
            action="The model does not follow its contract: export it again.",
        )
    fine = fine[:, : missing.shape[1], : missing.shape[2], 0]
    broken = ~np.isfinite(fine) & ~missing
    if broken.any():
        raise ModelError(
            "the model returns no number where its input is valid",
            field=name,
            found=f"{int(broken.sum())} such fine pixels in a batch of {len(missing)} tiles",
            expected="NaN only on the fine pixels of missing pixels",
            action="Its weights may hold NaN: train or export it again.",
        )
    return np.where(missing, np.float32(0), fine)
