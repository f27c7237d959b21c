"""Prediction of a whole scene: overlapping tiles, blended, on the exactly nested fine grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from keras_lstsr.contract import OUTPUT_NAME, check_kelvin
from keras_lstsr.errors import GridError, ModelError
from keras_lstsr.grids.tiling import Tile, Tiling, make_tiling
from keras_lstsr.inference.predictor import Predictor

DEFAULT_TILE_PIXELS = 128
DEFAULT_OVERLAP_PIXELS = 32
DEFAULT_BATCH_SIZE = 4

Progress = Callable[[int, int], None]


def predict_scene(
    lst_kelvin: xr.DataArray,
    predictor: Predictor,
    *,
    tile_pixels: int = DEFAULT_TILE_PIXELS,
    overlap_pixels: int = DEFAULT_OVERLAP_PIXELS,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: Progress | None = None,
) -> xr.DataArray:
    """Predicts a scene of any size on the grid that is finer by the model's factor.

    The scene goes to the predictor in overlapping tiles whose results are blended; a tile
    without a valid pixel is skipped. Tiles at the far borders are shifted inwards, so that
    nothing is padded; only a scene below the network's least size is filled up with NaN. Memory
    holds the scene, the result and one batch. Where the overlap covers the network's receptive
    field, the result does not depend on the tiles.

    Args:
        lst_kelvin: LST ``[y, x]`` in kelvin, NaN where missing, with CRS and transform.
        predictor: What predicts a tile.
        tile_pixels: Side of a tile in coarse pixels, a multiple of the contract's alignment.
        overlap_pixels: Overlap of neighbouring tiles in coarse pixels, likewise; at most half
            a tile.
        batch_size: Tiles per call.
        progress: Called with (tiles done, tiles in all) after every batch.

    Returns:
        ``lst_kelvin_fine`` ``[y, x]`` float32 in kelvin with the same CRS; each coarse pixel
        holds factor × factor fine ones exactly. NaN on all fine pixels of a missing pixel.

    Raises:
        GridError: If the array is not two-dimensional or has no CRS or a turned grid, or tile
            and overlap do not fit.
        ModelError: If the values cannot be kelvin, or the model returns what it must not.
        ServingError: If a server cannot be reached or refuses.
    """
    grid = coarse_transform(lst_kelvin)
    values = np.asarray(lst_kelvin.values, np.float32)
    check_kelvin(values, name=str(lst_kelvin.name or "lst_kelvin"))
    tiling = make_tiling(
        (values.shape[0], values.shape[1]),
        tile_pixels=tile_pixels,
        overlap_pixels=overlap_pixels,
        factor=predictor.scale_factor,
        alignment_pixels=predictor.contract.alignment_pixels,
    )
    fine = predict_tiles(
        values, predictor, tiling, list(tiling), batch_size=batch_size, progress=progress
    )
    attributes = {"units": "K", "long_name": "land surface temperature"}
    attributes |= {
        name: lst_kelvin.attrs[name] for name in ("day_night",) if name in lst_kelvin.attrs
    }
    return _on_nested_grid(fine, lst_kelvin, grid, predictor.scale_factor, attributes)


def _on_nested_grid(
    fine: NDArray[np.float32],
    coarse: xr.DataArray,
    grid: Affine,
    factor: int,
    attributes: dict[str, str],
) -> xr.DataArray:
    """Puts the result on the grid that is finer by ``factor`` and nests in the coarse one."""
    nested = grid @ Affine.scale(1 / factor)
    y_name, x_name = coarse.dims
    centres = {
        y_name: nested.f + nested.e * (np.arange(fine.shape[0]) + 0.5),
        x_name: nested.c + nested.a * (np.arange(fine.shape[1]) + 0.5),
    }
    coordinates = {
        name: (name, values, coarse[name].attrs if name in coarse.coords else {})
        for name, values in centres.items()
    }
    result = xr.DataArray(
        fine, coords=coordinates, dims=coarse.dims, name=OUTPUT_NAME, attrs=attributes
    )
    result = result.rio.write_crs(coarse.rio.crs).rio.write_transform(nested)
    return result.rio.write_nodata(np.nan, encoded=True)


def coarse_transform(coarse: xr.DataArray) -> Affine:
    """Returns the transform of a scene's grid, after checking that it is one.

    Raises:
        GridError: If the array has not two dimensions, no CRS, or a turned or sheared grid.
    """
    name = str(coarse.name or "lst_kelvin")
    if coarse.ndim != 2 or 0 in coarse.shape:
        raise GridError(
            "the scene is no two-dimensional raster",
            field=name,
            found=f"dimensions {dict(coarse.sizes)}",
            expected="dimensions y and x",
        )
    if coarse.rio.crs is None:
        raise GridError(
            "the scene has no coordinate reference system",
            field=name,
            action="Open it with open_product, or give it one by .rio.write_crs.",
        )
    transform = _transform(coarse)
    if transform.b or transform.d:
        raise GridError(
            "the scene's grid is turned or sheared",
            field=name,
            found=tuple(transform)[:6],
            expected="rows and columns along the axes of the CRS",
            action="Warp it to such a grid first.",
        )
    return transform


def _transform(raster: xr.DataArray) -> Affine:
    """Returns the raster's transform, exact also for a window cut out of a larger raster.

    The stored transform is that of the file; a slice of the array keeps it, but begins elsewhere.
    """
    stored = raster.rio.transform()
    y_name, x_name = raster.dims
    if x_name not in raster.coords or y_name not in raster.coords:
        return stored
    first = ~stored @ (float(raster[x_name][0]), float(raster[y_name][0]))
    columns, rows = (round(position - 0.5) for position in first)
    shift = Affine.translation(columns, rows)
    last = ~(stored @ shift) @ (float(raster[x_name][-1]), float(raster[y_name][-1]))
    expected = (raster.shape[1] - 0.5, raster.shape[0] - 0.5)
    if np.allclose([*first, *last], [columns + 0.5, rows + 0.5, *expected], rtol=0, atol=1e-2):
        return stored @ shift
    return raster.rio.transform(recalc=True)  # coarsened or reversed since it was opened


def predict_tiles(
    values: NDArray[np.float32],
    predictor: Predictor,
    tiling: Tiling,
    tiles: Iterable[Tile],
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Predicts windows of an array and blends them; the order of the windows does not matter.

    Args:
        values: LST ``[H, W]`` in kelvin, NaN where missing.
        predictor: What predicts a tile.
        tiling: The plan that the windows belong to.
        tiles: All windows of the tiling, in any order.
        batch_size: Windows per call.
        progress: Called with (windows done, windows in all) after every batch.

    Returns:
        ``[f·H, f·W]`` kelvin, NaN on the fine pixels of missing ones.

    Raises:
        ModelError: If the model's result has the wrong shape, or NaN where it must not.
    """
    factor = predictor.scale_factor
    missing = np.isnan(values)
    result = np.full([side * factor for side in values.shape], np.nan, np.float32)
    if missing.all():
        return result
    # Weighted sums of anomalies keep float32's digits: at 300 K its step is 3e-5 K.
    reference = np.float32(np.nanmean(values, dtype=np.float64))
    result.fill(reference)
    done = 0
    for batch in _batches(tiles, batch_size, missing):
        if not batch.skipped:
            patches = np.stack([values[tile.index()] for tile in batch.tiles])
            for tile, fine in zip(batch.tiles, _predict_batch(patches, predictor), strict=True):
                result[tiling.fine_index(tile)] += tiling.weight(tile) * (fine - reference)
        done += len(batch.tiles)
        if progress is not None:
            progress(done, len(tiling))
    gaps = result.reshape(values.shape[0], factor, values.shape[1], factor)
    gaps[np.broadcast_to(missing[:, None, :, None], gaps.shape)] = np.nan
    return result


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


def _predict_batch(patches: NDArray[np.float32], predictor: Predictor) -> NDArray[np.float32]:
    """Predicts ``[B, h, w]``; gaps come back as 0, since the blend multiplies them."""
    factor = predictor.scale_factor
    height, width = patches.shape[1:]
    least = predictor.contract.minimum_size_pixels
    padding = [(0, 0), (0, max(0, least - height)), (0, max(0, least - width))]
    padded = np.pad(patches, padding, constant_values=np.nan)
    fine = predictor.predict(padded[..., None])
    expected = (len(padded), padded.shape[1] * factor, padded.shape[2] * factor, 1)
    if fine.shape != expected:
        raise ModelError(
            "the model's result has the wrong shape",
            field=OUTPUT_NAME,
            found=list(fine.shape),
            expected=list(expected),
            action="The model does not keep its contract: export it again.",
        )
    fine = fine[:, : height * factor, : width * factor, 0]
    missing = np.repeat(np.repeat(np.isnan(patches), factor, axis=1), factor, axis=2)
    broken = ~np.isfinite(fine) & ~missing
    if broken.any():
        raise ModelError(
            "the model returns no number where its input is valid",
            field=OUTPUT_NAME,
            found=f"{int(broken.sum())} such fine pixels in a batch of {len(patches)} tiles",
            expected="NaN on the fine pixels of missing pixels only",
            action="Its weights may hold NaN: train or export it again.",
        )
    return np.where(missing, np.float32(0), fine)
