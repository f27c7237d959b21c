"""Overlapping tiles of a scene: how it is cut, predicted, mixed and blended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import FOLLOWED_NAME, OUTPUT_NAME, STD_NAME, Contract
from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import ModelError
from keras_lstsr.grids.resample import interpolated, upsample_bilinear
from keras_lstsr.grids.tiling import Tile, Tiling, make_tiling
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.self_check import SelfCheck

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
# Below it, what the model makes of LST alone would change the result by noise.
_LEAST_WEIGHT = 0.02


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
    check: SelfCheck | None = None,
    classical: Array | None = None,
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
        check: How far to follow them, and what to multiply standard deviations with; None means
            whole and 1. Where it is less, the model is asked without guides, too, but for detail
            of other dates.
        classical: LST by the classical method of the check, ``[f·H, f·W]``, NaN where it has none.
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
            if check is not None:
                kept = {name: guide for name, guide in under.items() if untold(name)}
                ask_alone = partial(_predict_batch, patches, kept, predictor, tuple(blended))
                beside = {"bicubic": np.stack([interpolated(each, factor) for each in patches])}
                if classical is not None:
                    own = [classical[tiling.fine_index(tile)] for tile in batch]
                    beside["classical"] = np.stack(own)
                fine = _with_check(fine, batch, tiling, check, beside, ask_alone)
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


def _with_check(
    fine: dict[str, Array],
    batch: Sequence[Tile],
    tiling: Tiling,
    check: SelfCheck,
    beside: Mapping[str, Array],
    ask_alone: Callable[[], dict[str, Array]],
) -> dict[str, Array]:
    """Mixes a batch's result with what else the check weighs, and scales its spread.

    ``fine`` is the model's with its guides; without guides the model's alone. ``beside`` has LST by
    the classical method and bicubic, ``[B, f·h, f·w]``, NaN where there is none.
    """
    weights = {
        name: np.stack([weight[tile.index()] for tile in batch])
        for name, weight in check.weights.items()
    }
    main = "guided" if "guided" in weights else "alone"
    mixture = [(fine, weights[main])]
    for name, own in beside.items():
        if name in weights:
            kelvin = np.where(np.isfinite(own), own, fine[OUTPUT_NAME])
            mixture.append(({**fine, OUTPUT_NAME: kelvin}, weights[name]))
    if main == "guided":
        doubted = weights["alone"].max() > _LEAST_WEIGHT
        mixture.append((ask_alone() if doubted else fine, weights["alone"]))
    fine = _mixed(mixture, tiling.factor)
    if check.std_factor is not None and STD_NAME in fine:
        factors = np.stack([check.std_factor[tile.index()] for tile in batch])
        spread = fine[STD_NAME] * upsample_bilinear(factors, tiling.factor)
        fine = {**fine, STD_NAME: spread}
    return fine


def _mixed(estimates: Sequence[tuple[dict[str, Array], Array]], factor: int) -> dict[str, Array]:
    """Averages results ``[B, f·h, f·w]`` with weights ``[B, h, w]``.

    The variance is that of a mixture of them.
    """
    weights = [np.maximum(upsample_bilinear(weight, factor), 0) for _, weight in estimates]
    total = np.sum(weights, axis=0)
    weights = [weight / total for weight in weights]

    def mean(name: str) -> Array:
        pairs = zip(weights, estimates, strict=True)
        return np.sum([weight * each[name] for weight, (each, _) in pairs], axis=0)

    first, *_ = estimates
    mixed = {name: mean(name) for name in first[0]}
    if STD_NAME in mixed:
        variances = [
            weight * (each[STD_NAME] ** 2 + (each[OUTPUT_NAME] - mixed[OUTPUT_NAME]) ** 2)
            for weight, (each, _) in zip(weights, estimates, strict=True)
        ]
        mixed[STD_NAME] = np.sqrt(np.sum(variances, axis=0))
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


def untold(guide: str) -> bool:
    """Tells whether a guide says nothing one scale coarser: it is detail of LST's own pixels."""
    return guide in GUIDES and GUIDES[guide].is_detail
