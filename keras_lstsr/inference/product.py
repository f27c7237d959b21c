"""From a product's file to a file with the result: the work of ``keras-lstsr predict``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from keras_lstsr import __version__
from keras_lstsr.errors import LstsrError, ProductError
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.scene import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_OVERLAP_PIXELS,
    DEFAULT_TILE_PIXELS,
    Progress,
    predict_scene,
)
from keras_lstsr.inference.writer import write_cog, write_quicklook
from keras_lstsr.products import lst_layers, open_product

Layer = Literal["day", "night"]


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
    """

    output: Path
    quicklook: Path | None
    layer: str
    shape: tuple[int, int]
    valid_share: float
    minimum_kelvin: float
    maximum_kelvin: float


def predict_product(
    source: str | PathLike[str],
    predictor: Predictor,
    output: str | PathLike[str],
    *,
    layer: Layer | None = None,
    qc_policy: str = "default",
    raster_options: Mapping[str, Any] | None = None,
    tile_pixels: int = DEFAULT_TILE_PIXELS,
    overlap_pixels: int = DEFAULT_OVERLAP_PIXELS,
    batch_size: int = DEFAULT_BATCH_SIZE,
    dtype: Literal["float32", "uint16"] = "float32",
    quicklook: bool = True,
    progress: Progress | None = None,
) -> ProductPrediction:
    """Predicts one LST layer of a product and writes a COG and a quicklook beside it.

    Args:
        source: MOD11A1 or MYD11A1 HDF, or an LST GeoTIFF.
        predictor: What predicts.
        output: The GeoTIFF; the quicklook has the same name with ``.png``.
        layer: Which layer of a product with several; None takes day, or the only one.
        qc_policy: ``"strict"``, ``"default"`` or ``"lenient"``.
        raster_options: Further options of ``open_product``, for GeoTIFF.
        tile_pixels: See ``predict_scene``.
        overlap_pixels: See ``predict_scene``.
        batch_size: See ``predict_scene``.
        dtype: See ``write_cog``.
        quicklook: Whether to write the PNG.
        progress: See ``predict_scene``.

    Returns:
        What was written and its figures.

    Raises:
        ProductError: If the input cannot be read, has no such layer, or no valid pixel in it.
        LstsrError: If the output is the input or cannot be written; or see ``predict_scene``.
    """
    output = Path(output)
    if output.resolve() == Path(source).resolve():
        raise LstsrError(
            "the output would replace the input", path=output, action="Choose another output."
        )
    scene = open_product(source, qc_policy=qc_policy, **(raster_options or {}))
    name, coarse = choose_layer(scene, layer)
    fine = predict_scene(
        coarse,
        predictor,
        tile_pixels=tile_pixels,
        overlap_pixels=overlap_pixels,
        batch_size=batch_size,
        progress=progress,
    )
    tags = provenance_tags(scene, name, predictor)
    tags |= {"tile_pixels": tile_pixels, "overlap_pixels": overlap_pixels}
    write_cog(fine, output, tags=tags, dtype=dtype)
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
    )


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
