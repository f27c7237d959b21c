"""Scenes: datasets with named variables in physical units, masked, on a grid with its CRS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import ProductError
from keras_lstsr.products.packing import Packing
from keras_lstsr.products.quality import REASONS, BitField, Rejection, count_reasons

DIMENSIONS = ("y", "x")


def rejection_name(name: str) -> str:
    """Names the variable that says why pixels of another variable are missing."""
    return f"{name}_rejection"


def stored_variable(stored: NDArray[Any], attributes: Mapping[str, Any]) -> xr.Variable:
    """Wraps integers that are kept as delivered, such as QC."""
    return xr.Variable(DIMENSIONS, stored, dict(attributes))


def physical_variable(
    values: NDArray[np.float32], packing: Packing, attributes: Mapping[str, Any]
) -> xr.Variable:
    """Wraps physical values with the encoding that gives back the stored numbers."""
    return xr.Variable(DIMENSIONS, values, dict(attributes), packing.as_encoding())


def masked_variable(
    name: str,
    values: NDArray[np.float32],
    codes: NDArray[np.uint8],
    packing: Packing,
    attributes: Mapping[str, Any],
) -> dict[str, xr.Variable]:
    """Masks a layer by its rejection codes and pairs it with them.

    Args:
        name: The layer's name.
        values: ``[H, W]`` physical values, of rejected pixels too; masked in place.
        codes: ``[H, W]`` of :class:`~keras_lstsr.products.quality.Rejection` codes.
        packing: How the layer is stored.
        attributes: Units and so on; ``rejected_pixels`` is added.

    Returns:
        The layer, NaN where rejected, and ``<name>_rejection``.
    """
    values[codes != Rejection.VALID] = np.nan
    counted = {**attributes, "rejected_pixels": json.dumps(count_reasons(codes))}
    reasons = {
        "long_name": f"why {name} is missing",
        "flag_values": list(REASONS),
        "flag_meanings": " ".join(REASONS.values()),
    }
    return {
        name: physical_variable(values, packing, counted),
        rejection_name(name): stored_variable(codes, reasons),
    }


def flag_attributes(fields: Sequence[BitField]) -> dict[str, Any]:
    """Describes a QC layer's bits by the CF conventions' flag attributes."""
    entries = [
        (((1 << field.width) - 1) << field.shift, code << field.shift, f"{field.name}: {meaning}")
        for field in fields
        for code, meaning in field.meanings.items()
    ]
    return {
        "flag_masks": [mask for mask, _, _ in entries],
        "flag_values": [value for _, value, _ in entries],
        "flag_meanings": " ".join(_cf_word(meaning) for _, _, meaning in entries),
    }


def _cf_word(text: str) -> str:
    """A CF flag meaning is one word."""
    for sign, word in ((">=", "ge"), ("<=", "le"), (">", "gt"), ("<", "lt")):
        text = text.replace(sign, word)
    kept = "".join(char if char.isalnum() or char == "." else " " for char in text)
    return "_".join(kept.split())


def rejection_reason(scene: xr.Dataset, name: str) -> xr.DataArray:
    """Tells for each pixel why a layer has no value there.

    Args:
        scene: A dataset from ``open_product``.
        name: An LST or NDVI variable of it, e.g. ``"lst_day_kelvin"``.

    Returns:
        uint8 ``[y, x]``: 0 is valid, else a code of :data:`~keras_lstsr.products.REASONS`.

    Raises:
        ProductError: If the scene has no reasons for that name.
    """
    if rejection_name(name) not in scene:
        known = [key for key in map(str, scene.data_vars) if rejection_name(key) in scene]
        raise ProductError(
            "no rejection reasons are known for this variable",
            path=scene.attrs.get("source_file"),
            field=name,
            expected=", ".join(known) or "an LST or NDVI layer",
        )
    return scene[rejection_name(name)]
