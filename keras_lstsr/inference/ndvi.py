"""NDVI from a product's file: opened, held against LST's granule, and described in tags."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from keras_lstsr.errors import ProductError
from keras_lstsr.products import ndvi_layer, open_product
from keras_lstsr.products.hdfeos import check_is_hdf4


def open_ndvi(path: str | PathLike[str], qc_policy: str, options: Mapping[str, Any]) -> xr.Dataset:
    """Opens a product for its NDVI.

    Args:
        path: MOD09GQ or MYD09GQ HDF, or a GeoTIFF, which is taken for NDVI whatever its tags say.
        qc_policy: ``"strict"``, ``"default"`` or ``"lenient"``.
        options: Further options of ``open_product``.

    Returns:
        The scene, with ``ndvi``.

    Raises:
        ProductError: If it cannot be read, or holds no NDVI.
    """
    if not _is_hdf(Path(path)):
        options = {"quantity": "ndvi", **options}
    scene = open_product(path, qc_policy=qc_policy, **options)
    layer = ndvi_layer(scene)
    if not np.isfinite(layer.values).any():
        raise ProductError(
            "the NDVI has no valid pixel",
            path=path,
            found=layer.attrs.get("rejected_pixels"),
            action="Take NDVI of a clearer day nearby, or a more lenient --qc-policy.",
        )
    return scene[["ndvi"]]  # a granule's other layers would stay in memory for nothing


def _is_hdf(path: Path) -> bool:
    if path.suffix.lower() in _HDF_SUFFIXES:
        return True
    try:
        check_is_hdf4(path)
    except ProductError:
        return False
    return True


_HDF_SUFFIXES = {".hdf", ".hdf4", ".h4"}


def granule_difference(lst_scene: xr.Dataset, ndvi_scene: xr.Dataset) -> str:
    """Compares tile and date of LST and NDVI, as far as both are known.

    Returns:
        A sentence on how many days lie between them; empty text for the same day or an unknown
        one.

    Raises:
        ProductError: If they are of different tiles.
    """
    tiles, days = (
        [str(scene.attrs.get(key, "")) for scene in (lst_scene, ndvi_scene)]
        for key in ("tile", "acquisition_date")
    )
    if all(tiles) and tiles[0] != tiles[1]:
        raise ProductError(
            "LST and NDVI are of different tiles",
            path=ndvi_scene.attrs.get("source_file"),
            field="tile",
            found=tiles[1],
            expected=tiles[0],
            action="Take the NDVI granule of the same tile.",
        )
    if not all(days) or days[0] == days[1]:
        return ""
    apart = (date.fromisoformat(days[1]) - date.fromisoformat(days[0])).days
    return (
        f"NDVI is of {days[1]}, {abs(apart)} day{'s' if abs(apart) > 1 else ''} "
        f"{'after' if apart > 0 else 'before'} LST ({days[0]}): what changed on the ground "
        "between them shows as false detail."
    )


def guide_tags(ndvi_scene: xr.Dataset | None, fine: xr.DataArray) -> dict[str, object]:
    """Returns the tags on the NDVI that went in and on what it could not do.

    Args:
        ndvi_scene: The scene of NDVI, or None.
        fine: A result of ``predict_scene``.
    """
    tags: dict[str, object] = {}
    if ndvi_scene is not None:
        tags = {
            "ndvi_granule": ndvi_scene.attrs.get("granule_id", ""),
            "ndvi_file": Path(str(ndvi_scene.attrs.get("source_file", ""))).name,
            "ndvi_product": ndvi_scene.attrs.get("product", ""),
            "ndvi_date": ndvi_scene.attrs.get("acquisition_date", ""),
        }
    return tags | {name: fine.attrs[name] for name in _GUIDE_ATTRIBUTES if name in fine.attrs}


_GUIDE_ATTRIBUTES = (
    "guide_missing_share",
    "guide_explained_share",
    "sharpening_fallback",
    "sharpening_notes",
)
