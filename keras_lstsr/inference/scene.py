"""Prediction of a whole scene: overlapping tiles, blended, on the exactly nested fine grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import OUTPUT_NAME, STD_NAME, Contract, check_kelvin
from keras_lstsr.errors import GridError
from keras_lstsr.grids.tiling import make_tiling
from keras_lstsr.inference.blending import Progress, predict_tiles
from keras_lstsr.inference.guide import (
    WITHOUT_GUIDE,
    FallbackRule,
    guide_of_scene,
    guide_use,
)
from keras_lstsr.inference.predictor import Prediction, Predictor
from keras_lstsr.sharpening.interpolation import interpolated

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
        tile_pixels: Side of a tile in coarse pixels.
        overlap_pixels: Overlap of neighbouring tiles in coarse pixels.
        batch_size: Tiles per call.
        trim_fraction: Share of an overlap that is unused at either side; see ``axis_weights``.
    """

    tile_pixels: int
    overlap_pixels: int
    batch_size: int
    trim_fraction: float


def tile_settings(
    contract: Contract,
    *,
    tile_pixels: int | None = None,
    overlap_pixels: int | None = None,
    batch_size: int | None = None,
) -> TileSettings:
    """Chooses what the caller leaves open, by the model's contract.

    A model that takes statistics in windows has a margin in which they lack pixels. Tiles then
    overlap by two margins and a strip in which they are blended, so that no statistics differ
    from those of the whole scene where they count.
    """
    margin = contract.margin_pixels
    guided = bool(contract.guides)
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
    return TileSettings(tile_pixels, overlap_pixels, batch_size, trim)


def predict_scene(
    lst_kelvin: xr.DataArray,
    predictor: Predictor,
    guide: xr.DataArray | None = None,
    *,
    tile_pixels: int | None = None,
    overlap_pixels: int | None = None,
    batch_size: int | None = None,
    fallback_rule: FallbackRule | None = None,
    progress: Progress | None = None,
) -> xr.DataArray:
    """Predicts a scene of any size on the grid that is finer by the model's factor.

    The scene goes to the predictor in overlapping tiles whose results are blended; a tile
    without a valid pixel is skipped. Tiles at the far borders are shifted inwards, so that
    nothing is padded; only a scene below the network's least size is filled up with NaN. Memory
    holds the scene, the guide, the result and one batch. Where the overlap covers the network's
    receptive field, the result does not depend on the tiles.

    Args:
        lst_kelvin: LST ``[y, x]`` in kelvin, NaN where missing, with CRS and transform.
        predictor: What predicts a tile.
        guide: NDVI ``[y, x]`` of any grid of about the fine pixels' size, NaN where missing, with
            CRS and transform; it is brought onto the fine grid. Without it a model that takes a
            guide works from LST alone.
        tile_pixels: Side of a tile in coarse pixels, a multiple of the contract's alignment; by
            default 128, and 228 for a model that takes a guide.
        overlap_pixels: Overlap of neighbouring tiles in coarse pixels, likewise; at most half
            a tile; by default 32 or what the model's margin asks for.
        batch_size: Tiles per call; by default 4, and 1 for a model that takes a guide.
        fallback_rule: Sees the scene first, and may give a reason to take bicubic upsampling
            instead of the model.
        progress: Called with (tiles done, tiles in all) after every batch.

    Returns:
        ``lst_kelvin_fine`` ``[y, x]`` float32 in kelvin with the same CRS; each coarse pixel
        holds factor × factor fine ones exactly. NaN on all fine pixels of a missing pixel, and
        nowhere else. Attributes, where they apply: ``guide_missing_share`` and
        ``guide_explained_share`` (see ``GuideUse``), ``sharpening_notes`` where a guide or part
        of it is missing, ``sharpening_fallback`` where the rule took bicubic.

    Raises:
        GridError: If an array is not two-dimensional or has no CRS or a turned grid, or tile
            and overlap do not fit, or the guide is clearly coarser than the fine grid or has no
            valid pixel in the scene.
        ModelError: If the values cannot be kelvin or NDVI, the model takes no guide but one is
            given, or the model returns what it must not.
        ServingError: If a server cannot be reached or refuses.
    """
    settings = tile_settings(
        predictor.contract,
        tile_pixels=tile_pixels,
        overlap_pixels=overlap_pixels,
        batch_size=batch_size,
    )
    result = _predicted(
        lst_kelvin, predictor, guide, settings, fallback_rule, progress, with_std=False
    )
    return result[OUTPUT_NAME]


def predict_scene_with_std(
    lst_kelvin: xr.DataArray,
    predictor: Predictor,
    guide: xr.DataArray | None = None,
    *,
    tile_pixels: int | None = None,
    overlap_pixels: int | None = None,
    batch_size: int | None = None,
    fallback_rule: FallbackRule | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Predicts a scene, and the standard deviation of the error where the model gives it.

    Where tiles overlap, their standard deviations are averaged with the weights of their
    temperatures: one network seeing the same ground errs alike in both, and the standard
    deviation of a weighted mean of fully correlated errors is the weighted mean.

    Args: as of ``predict_scene``.

    Returns:
        ``lst_kelvin_fine``, as of ``predict_scene``, and ``lst_std_kelvin`` on the same grid; the
        latter is left out where the model gives none, or bicubic stands in for it.

    Raises: as ``predict_scene``.
    """
    settings = tile_settings(
        predictor.contract,
        tile_pixels=tile_pixels,
        overlap_pixels=overlap_pixels,
        batch_size=batch_size,
    )
    return _predicted(
        lst_kelvin, predictor, guide, settings, fallback_rule, progress, with_std=True
    )


def _predicted(
    lst_kelvin: xr.DataArray,
    predictor: Predictor,
    guide: xr.DataArray | None,
    settings: TileSettings,
    fallback_rule: FallbackRule | None,
    progress: Progress | None,
    *,
    with_std: bool,
) -> xr.Dataset:
    grid = raster_transform(lst_kelvin)
    values = np.asarray(lst_kelvin.values, np.float32)
    check_kelvin(values, name=str(lst_kelvin.name or "lst_kelvin"))
    factor = predictor.scale_factor
    tiling = make_tiling(
        (values.shape[0], values.shape[1]),
        tile_pixels=settings.tile_pixels,
        overlap_pixels=settings.overlap_pixels,
        factor=factor,
        alignment_pixels=predictor.contract.alignment_pixels,
        trim_fraction=settings.trim_fraction,
    )
    attributes: dict[str, object] = {
        name: lst_kelvin.attrs[name] for name in ("day_night",) if name in lst_kelvin.attrs
    }
    ndvi, use = None, None
    if guide is not None:
        predictor.contract.check_takes(predictor.contract.guides or ["guide"])
        ndvi = guide_of_scene(
            guide, raster_transform(guide), values.shape, grid, lst_kelvin.rio.crs, factor
        )
        use = guide_use(values, ndvi, factor)
        attributes |= use.as_attributes()
    notes = [WITHOUT_GUIDE] if predictor.contract.guides and use is None else []
    notes += use.notes() if use is not None else []
    reason = fallback_rule(values, ndvi, use) if fallback_rule is not None else ""
    if reason:
        prediction = Prediction(interpolated(values, factor, "bicubic"))
        attributes["sharpening_fallback"] = f"bicubic, since {reason}"
    else:
        prediction = predict_tiles(
            values,
            predictor,
            tiling,
            tiling,
            batch_size=settings.batch_size,
            guide=ndvi,
            progress=progress,
            with_std=with_std,
        )
        attributes |= {"sharpening_notes": " ".join(notes)} if notes else {}
    names = {
        OUTPUT_NAME: (prediction.lst_kelvin, "land surface temperature"),
        STD_NAME: (prediction.std_kelvin, "standard deviation of the error of its detail"),
    }
    return xr.Dataset(
        {
            name: _on_nested_grid(
                fine, lst_kelvin, grid, factor, {"units": "K", "long_name": text, **attributes}
            ).rename(name)
            for name, (fine, text) in names.items()
            if fine is not None
        }
    )


def _on_nested_grid(
    fine: NDArray[np.float32],
    coarse: xr.DataArray,
    grid: Affine,
    factor: int,
    attributes: dict[str, object],
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
    result = xr.DataArray(fine, coords=coordinates, dims=coarse.dims, attrs=attributes)
    result = result.rio.write_crs(coarse.rio.crs).rio.write_transform(nested)
    return result.rio.write_nodata(np.nan, encoded=True)


def raster_transform(raster: xr.DataArray) -> Affine:
    """Returns the transform of a raster's grid, after checking that it is one.

    Raises:
        GridError: If the array has not two dimensions, no CRS, or a turned or sheared grid.
    """
    name = str(raster.name or "raster")
    if raster.ndim != 2 or 0 in raster.shape:
        raise GridError(
            "this is no two-dimensional raster",
            field=name,
            found=f"dimensions {dict(raster.sizes)}",
            expected="dimensions y and x",
        )
    if raster.rio.crs is None:
        raise GridError(
            "the raster has no coordinate reference system",
            field=name,
            action="Open it with open_product, or give it one by .rio.write_crs.",
        )
    transform = _transform(raster)
    if transform.b or transform.d:
        raise GridError(
            "the grid is turned or sheared",
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
