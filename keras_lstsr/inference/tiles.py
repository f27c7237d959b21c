"""Tiles of a scene: how it is cut, and how their predictions are blended into one array."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import FOLLOWED_NAME, OUTPUT_NAME, STD_NAME, Contract
from keras_lstsr.errors import ModelError
from keras_lstsr.grids.tiling import Tile, Tiling, make_tiling
from keras_lstsr.inference.predictor import Predictor

Progress = Callable[[int, int], None]
Array = NDArray[np.float32]

DEFAULT_TILE_PIXELS = 128
DEFAULT_OVERLAP_PIXELS = 32
DEFAULT_BATCH_SIZE = 4
# Six tiles of 228 with overlaps of 33 or 34 are a MODIS tile's 1200: 30 % more than the scene
# itself, and 1.5 GiB for one tile at the network's finest level.
DEFAULT_GUIDED_TILE_PIXELS = 228
DEFAULT_GUIDED_BATCH_SIZE = 1
_BLEND_PIXELS = 6
_TRIM_FRACTION = 0.25


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

        Args:
            contract: The model's.
            tile_pixels: By default 128, and 228 for a model that takes guides.
            overlap_pixels: By default 32, or what the model's margin asks for.
            batch_size: By default 4, and 1 for a model that takes guides.
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
    outputs: Iterable[str] = (),
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Predicts windows of an array and blends them; the order of the windows does not matter.

    Args:
        values: LST ``[H, W]`` in kelvin, NaN where missing.
        predictor: What predicts a tile.
        tiling: The plan that the windows belong to.
        tiles: All windows of the tiling, in any order.
        batch_size: Windows per call.
        guides: Name → ``[f·H, f·W]``, NaN where missing.
        outputs: What to blend beside LST, by its name in the contract, which must give it.
        progress: Called with (windows done, windows in all) after every batch.

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


def _batches(
    tiles: Iterable[Tile], batch_size: int, missing: NDArray[np.bool_]
) -> Iterator[tuple[list[Tile], bool]]:
    """Groups windows of equal shape, and says of each group if it may be skipped.

    A window without a valid pixel is a group of its own, which may.
    """
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
    """Predicts ``[B, h, w]`` with guides ``[B, f·h, f·w]``.

    Gaps come back as 0, since the blend multiplies them; the results are ``[B, f·h, f·w]``.
    """
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
            action="The model does not keep its contract: export it again.",
        )
    fine = fine[:, : missing.shape[1], : missing.shape[2], 0]
    broken = ~np.isfinite(fine) & ~missing
    if broken.any():
        raise ModelError(
            "the model returns no number where its input is valid",
            field=name,
            found=f"{int(broken.sum())} such fine pixels in a batch of {len(missing)} tiles",
            expected="NaN on the fine pixels of missing pixels only",
            action="Its weights may hold NaN: train or export it again.",
        )
    return np.where(missing, np.float32(0), fine)
