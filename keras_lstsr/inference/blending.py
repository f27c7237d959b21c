"""Tiles of a scene, predicted and blended into one array."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import OUTPUT_NAME, STD_NAME
from keras_lstsr.errors import ModelError
from keras_lstsr.grids.tiling import Tile, Tiling
from keras_lstsr.inference.predictor import Prediction, Predictor

Progress = Callable[[int, int], None]


def predict_tiles(
    values: NDArray[np.float32],
    predictor: Predictor,
    tiling: Tiling,
    tiles: Iterable[Tile],
    *,
    batch_size: int,
    guide: NDArray[np.float32] | None = None,
    progress: Progress | None = None,
    with_std: bool = False,
) -> Prediction:
    """Predicts windows of an array and blends them; the order of the windows does not matter.

    Args:
        values: LST ``[H, W]`` in kelvin, NaN where missing.
        predictor: What predicts a tile.
        tiling: The plan that the windows belong to.
        tiles: All windows of the tiling, in any order.
        batch_size: Windows per call.
        guide: ``[f·H, f·W]``, NaN where missing; None where there is none.
        progress: Called with (windows done, windows in all) after every batch.
        with_std: Blend the standard deviation as well, where the model gives it.

    Returns:
        Kelvin ``[f·H, f·W]``, and the standard deviation likewise, or None if ``with_std`` is
        false or the model gives none; NaN on the fine pixels of missing ones.

    Raises:
        ModelError: If the model's result has the wrong shape, or NaN where it must not.
    """
    factor = predictor.scale_factor
    missing = np.isnan(values)
    shape = [side * factor for side in values.shape]
    with_std = with_std and predictor.contract.gives(STD_NAME)
    # Weighted sums of anomalies keep float32's digits: at 300 K its step is 3e-5 K.
    reference = np.float32(0 if missing.all() else np.nanmean(values, dtype=np.float64))
    lst = np.full(shape, reference, np.float32)
    std = np.zeros(shape, np.float32) if with_std else None
    done = 0
    for batch in _batches(tiles, batch_size, missing):
        if not batch.skipped:
            patches = np.stack([values[tile.index()] for tile in batch.tiles])
            guides = None
            if guide is not None:
                guides = np.stack([guide[tiling.fine_index(tile)] for tile in batch.tiles])
            fine = _predict_batch(patches, guides, predictor, with_std)
            for number, tile in enumerate(batch.tiles):
                index, weight = tiling.fine_index(tile), tiling.weight(tile)
                lst[index] += weight * (fine.lst_kelvin[number] - reference)
                if std is not None and fine.std_kelvin is not None:
                    std[index] += weight * fine.std_kelvin[number]
        done += len(batch.tiles)
        if progress is not None:
            progress(done, len(tiling))
    for result in (lst, std):
        if result is not None:
            blocks = result.reshape(values.shape[0], factor, values.shape[1], factor)
            blocks[np.broadcast_to(missing[:, None, :, None], blocks.shape)] = np.nan
    return Prediction(lst, std)


class _Batch:
    """Windows of one shape that are predicted, or skipped, together."""

    def __init__(self, tiles: list[Tile], *, skipped: bool) -> None:
        self.tiles = tiles
        self.skipped = skipped


def _batches(
    tiles: Iterable[Tile], batch_size: int, missing: NDArray[np.bool_]
) -> Iterator[_Batch]:
    """Groups windows of equal shape; those without a valid pixel are batches to skip."""
    waiting: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        if missing[tile.index()].all():
            yield _Batch([tile], skipped=True)
            continue
        group = waiting.setdefault(tile.shape, [])
        group.append(tile)
        if len(group) == batch_size:
            yield _Batch(waiting.pop(tile.shape), skipped=False)
    for group in waiting.values():
        yield _Batch(group, skipped=False)


def _predict_batch(
    patches: NDArray[np.float32],
    guides: NDArray[np.float32] | None,
    predictor: Predictor,
    with_std: bool,
) -> Prediction:
    """Predicts ``[B, h, w]``, with guides ``[B, f·h, f·w]`` if there are any.

    Gaps come back as 0, since the blend multiplies them; the results are ``[B, f·h, f·w]``.
    """
    factor = predictor.scale_factor
    height, width = patches.shape[1:]
    least = predictor.contract.minimum_size_pixels
    lst = _padded(patches, max(0, least - height), max(0, least - width))
    ndvi = None
    if guides is not None:
        ndvi = _padded(guides, factor * max(0, least - height), factor * max(0, least - width))
    named = {} if ndvi is None else dict.fromkeys(predictor.contract.guides, ndvi)
    answer = predictor.predict(lst, named, outputs=[STD_NAME] if with_std else [])
    missing = np.repeat(np.repeat(np.isnan(patches), factor, axis=1), factor, axis=2)
    expected = (len(lst), lst.shape[1] * factor, lst.shape[2] * factor, 1)
    results = [
        None if fine is None else _checked_result(fine, name, expected, missing)
        for name, fine in ((OUTPUT_NAME, answer.lst_kelvin), (STD_NAME, answer.std_kelvin))
    ]
    if results[0] is None:
        raise ModelError("the model returns no temperatures", field=OUTPUT_NAME)
    return Prediction(results[0], results[1])


def _padded(
    patches: NDArray[np.float32], rows_after: int, columns_after: int
) -> NDArray[np.float32]:
    """Fills ``[B, h, w]`` up with NaN and adds the channel."""
    padding = [(0, 0), (0, rows_after), (0, columns_after)]
    return np.pad(patches, padding, constant_values=np.nan)[..., None]


def _checked_result(
    fine: NDArray[np.float32],
    name: str,
    expected: tuple[int, ...],
    missing: NDArray[np.bool_],
) -> NDArray[np.float32]:
    if fine.shape != expected:
        raise ModelError(
            "the model's result has the wrong shape",
            field=name,
            found=list(fine.shape),
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
