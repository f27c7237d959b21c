"""From a product's file to a file with the result: the work of ``keras-lstsr predict``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from keras_lstsr import __version__
from keras_lstsr.artifacts.contract import OUTPUT_NAME, STD_NAME
from keras_lstsr.errors import LstsrError, ModelError, ProductError
from keras_lstsr.inference.blending import Progress
from keras_lstsr.inference.guide import WITHOUT_GUIDE, FallbackRule
from keras_lstsr.inference.ndvi import granule_difference, guide_tags, open_ndvi
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.scene import (
    TileSettings,
    predict_scene,
    predict_scene_with_std,
    tile_settings,
)
from keras_lstsr.inference.writer import write_cog, write_quicklook
from keras_lstsr.products import lst_layers, ndvi_layer, open_product

Layer = Literal["day", "night"]
Announce = Callable[[str], None]


@dataclass(frozen=True)
class ProductPrediction:
    """What was written.

    Attributes:
        output: The GeoTIFF.
        quicklook: The PNG, or None.
        layer: ``"day"``, ``"night"`` or ``"unknown"``.
        shape: Rows and columns of the result.
        valid_share: Share of the input's pixels that are valid, 0…1.
        minimum_kelvin: Least value of the result.
        maximum_kelvin: Greatest value of the result.
        uncertainty: The GeoTIFF of standard deviations, or None.
        median_std_kelvin: Median standard deviation, or None where it was not asked for.
        ndvi_missing_share: Share of the fine pixels with LST that have no NDVI, 0…1; None
            without NDVI.
        notes: What the user should know of the result: missing NDVI, other dates, fallbacks.
    """

    output: Path
    quicklook: Path | None
    layer: str
    shape: tuple[int, int]
    valid_share: float
    minimum_kelvin: float
    maximum_kelvin: float
    uncertainty: Path | None = None
    median_std_kelvin: float | None = None
    ndvi_missing_share: float | None = None
    notes: tuple[str, ...] = ()


def predict_product(
    source: str | PathLike[str],
    predictor: Predictor,
    output: str | PathLike[str],
    *,
    layer: Layer | None = None,
    qc_policy: str = "default",
    raster_options: Mapping[str, Any] | None = None,
    ndvi: str | PathLike[str] | None = None,
    ndvi_options: Mapping[str, Any] | None = None,
    uncertainty: bool = False,
    tile_pixels: int | None = None,
    overlap_pixels: int | None = None,
    batch_size: int | None = None,
    dtype: Literal["float32", "uint16"] = "float32",
    quicklook: bool = True,
    fallback_rule: FallbackRule | None = None,
    progress: Progress | None = None,
    announce: Announce = lambda note: None,
) -> ProductPrediction:
    """Predicts one LST layer of a product and writes a COG and a quicklook beside it.

    Args:
        source: MOD11A1 or MYD11A1 HDF, or an LST GeoTIFF.
        predictor: What predicts.
        output: The GeoTIFF; the quicklook has the same name with ``.png``, the uncertainty with
            ``_std`` before its ending.
        layer: Which layer of a product with several; None takes day, or the only one.
        qc_policy: ``"strict"``, ``"default"`` or ``"lenient"``; NDVI's too.
        raster_options: Further options of ``open_product``, for GeoTIFF.
        ndvi: MOD09GQ or MYD09GQ HDF, or an NDVI GeoTIFF, for a model that takes a guide; without
            it, such a model works from LST alone.
        ndvi_options: ``scale``, ``offset``, ``nodata`` or ``date`` of an NDVI GeoTIFF.
        uncertainty: Whether to write the standard deviation of the error, too.
        tile_pixels: See ``predict_scene``.
        overlap_pixels: See ``predict_scene``.
        batch_size: See ``predict_scene``.
        dtype: See ``write_cog``.
        quicklook: Whether to write the PNG.
        fallback_rule: See ``predict_scene``.
        progress: See ``predict_scene``.
        announce: Called with each of the result's notes as soon as it is known.

    Returns:
        What was written and its figures.

    Raises:
        ProductError: If an input cannot be read, has no such layer or no NDVI, or no valid pixel
            in it, or the two granules are of different tiles.
        ModelError: If NDVI is given to a model that takes none, or the uncertainty is asked of a
            model that gives none.
        LstsrError: If the output is an input or cannot be written; or see ``predict_scene``.
    """
    output = Path(output)
    std_output = output.with_name(f"{output.stem}_std{output.suffix}") if uncertainty else None
    for path in filter(None, (output, std_output)):
        _check_output(path, [source, ndvi])
    _check_model(predictor, ndvi=ndvi is not None, uncertainty=uncertainty)
    settings = tile_settings(
        predictor.contract,
        tile_pixels=tile_pixels,
        overlap_pixels=overlap_pixels,
        batch_size=batch_size,
    )
    scene = open_product(source, qc_policy=qc_policy, **(raster_options or {}))
    name, coarse = choose_layer(scene, layer)
    notes: list[str] = []

    def note(text: str) -> None:
        if text and text not in notes:
            notes.append(text)
            announce(text)

    guide_scene = None if ndvi is None else open_ndvi(ndvi, qc_policy, ndvi_options or {})
    if guide_scene is not None:
        note(granule_difference(scene, guide_scene))
    elif predictor.contract.guides:
        note(WITHOUT_GUIDE)
    predict = predict_scene_with_std if uncertainty else predict_scene
    result = predict(
        coarse,
        predictor,
        None if guide_scene is None else ndvi_layer(guide_scene),
        tile_pixels=settings.tile_pixels,
        overlap_pixels=settings.overlap_pixels,
        batch_size=settings.batch_size,
        fallback_rule=fallback_rule,
        progress=progress,
    )
    fine = result if isinstance(result, xr.DataArray) else result[OUTPUT_NAME]
    std = result[STD_NAME] if isinstance(result, xr.Dataset) and STD_NAME in result else None
    note(_fallback_note(fine, std_output))
    note(fine.attrs.get("sharpening_notes", ""))
    tags = provenance_tags(scene, name, predictor) | _tile_tags(settings)
    tags |= guide_tags(guide_scene, fine)
    write_cog(fine, output, tags=tags, dtype=dtype)
    if std is None:
        std_output = None
    elif std_output is not None:
        write_cog(std, std_output, tags=tags | _STD_TAGS, dtype=dtype)
    picture = output.with_suffix(".png") if quicklook else None
    if picture is not None:
        write_quicklook(coarse, fine, picture, title=_title(scene, name))
    return ProductPrediction(
        output=output,
        quicklook=picture,
        layer=name,
        shape=(fine.shape[0], fine.shape[1]),
        valid_share=valid_share(coarse),
        minimum_kelvin=float(np.nanmin(fine.values)),
        maximum_kelvin=float(np.nanmax(fine.values)),
        uncertainty=std_output,
        median_std_kelvin=None if std is None else float(np.nanmedian(std.values)),
        ndvi_missing_share=fine.attrs.get("guide_missing_share"),
        notes=tuple(notes),
    )


_STD_TAGS = {
    "quantity": "uncertainty",
    "meaning": "standard deviation of the error of the 250 m detail; a bias that the whole scene "
    "has is not in it",
}


def _check_output(output: Path, inputs: list[str | PathLike[str] | None]) -> None:
    if any(path is not None and output.resolve() == Path(path).resolve() for path in inputs):
        raise LstsrError(
            "the output would replace the input", path=output, action="Choose another output."
        )


def _check_model(predictor: Predictor, *, ndvi: bool, uncertainty: bool) -> None:
    if ndvi:
        predictor.contract.check_takes(["ndvi"])
    if uncertainty and not predictor.contract.gives(STD_NAME):
        raise ModelError(
            "this model gives no uncertainty",
            field=STD_NAME,
            found=f"outputs {', '.join(entry.name for entry in predictor.contract.outputs)}",
            action="Leave --uncertainty out, or take a model with a guide.",
        )


def _fallback_note(fine: xr.DataArray, std_output: Path | None) -> str:
    fallback = fine.attrs.get("sharpening_fallback")
    if not fallback:
        return ""
    lacking = "" if std_output is None else " There is no uncertainty of it."
    return f"The result is {fallback}.{lacking}"


def _tile_tags(settings: TileSettings) -> dict[str, object]:
    return {"tile_pixels": settings.tile_pixels, "overlap_pixels": settings.overlap_pixels}


def choose_layer(scene: xr.Dataset, layer: Layer | None) -> tuple[str, xr.DataArray]:
    """Chooses the LST layer to predict.

    Args:
        scene: A scene of ``open_product``.
        layer: ``"day"`` or ``"night"``; None takes day, or the only layer.

    Returns:
        The layer's name and the layer.

    Raises:
        ProductError: If the scene has no such layer, or the layer has no valid pixel.
    """
    layers = lst_layers(scene)
    name = (
        layer if layer is not None else next(key for key in (*_PREFERRED, *layers) if key in layers)
    )
    shares = ", ".join(f"{key} {valid_share(item):.1%} valid" for key, item in layers.items())
    path = scene.attrs.get("source_file")
    if name not in layers:
        raise ProductError(
            "the scene has no such layer",
            path=path,
            field=name,
            found=shares,
            action="Leave out --layer, or say what the layer is by --day-night.",
        )
    if valid_share(layers[name]) == 0:
        rejected = json.loads(layers[name].attrs.get("rejected_pixels", "{}"))
        reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.items() if count)
        raise ProductError(
            "the layer has no valid pixel",
            path=path,
            field=name,
            found=shares + (f"; {name} pixels rejected: {reasons}" if reasons else ""),
            expected="at least one clear pixel",
            action="Take another --layer, a more lenient --qc-policy, or another day.",
        )
    return name, layers[name]


_PREFERRED = ("day", "unknown", "night")


def valid_share(layer: xr.DataArray) -> float:
    """Returns the share of pixels that are not NaN, 0…1."""
    return float(np.mean(~np.isnan(layer.values)))


def provenance_tags(scene: xr.Dataset, layer: str, predictor: Predictor) -> dict[str, object]:
    """Returns the GeoTIFF tags that say what the values are and where they come from.

    The names ``quantity``, ``units``, ``acquisition_date``, ``day_night`` and ``tile`` are those
    that ``open_product`` reads.
    """
    model = predictor.provenance
    return {
        "quantity": "land surface temperature",
        "units": "kelvin",
        "missing": "NaN or nodata: the source pixel has no valid temperature",
        "source_granule": scene.attrs.get("granule_id", ""),
        "source_file": Path(str(scene.attrs.get("source_file", ""))).name,
        "source_product": scene.attrs.get("product", ""),
        "source_version": scene.attrs.get("version", ""),
        "platform": scene.attrs.get("platform", ""),
        "tile": scene.attrs.get("tile", ""),
        "acquisition_date": scene.attrs.get("acquisition_date", ""),
        "day_night": layer,
        "qc_policy": scene.attrs.get("qc_policy", ""),
        "super_resolution_factor": predictor.scale_factor,
        "model_run": model.get("run_name", ""),
        "model_version": predictor.contract.model_version,
        "model_weights_sha256": model.get("weights_sha256", ""),
        "model_dataset_fingerprint": model.get("dataset_fingerprint", ""),
        "software": f"keras-lstsr {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _title(scene: xr.Dataset, layer: str) -> str:
    when = " ".join(
        part for part in (scene.attrs.get("acquisition_date", ""), layer) if part != "unknown"
    )
    return "\n".join(
        part for part in (str(scene.attrs.get("granule_id", "")), when.strip()) if part
    )
