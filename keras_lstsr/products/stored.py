"""From a field of an HDF4-EOS file to physical values: what its attributes say about it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.products.hdfeos import FieldDefinition, HdfEosFile
from keras_lstsr.products.packing import Packing, multiplier
from keras_lstsr.products.quality import Rejection
from keras_lstsr.products.scene import physical_variable


def _number(value: Any, otherwise: float | None) -> Any:
    """A stored attribute, if it is a number: some v061 files have the text "NA" instead."""
    return value if isinstance(value, int | float) else otherwise


def wanted_variables(known: Collection[str], variables: Collection[str] | None) -> list[str]:
    """Returns the variables to read, in the order of the product; None asks for all.

    Raises:
        ConfigError: If one is not the product's, or none is asked for.
    """
    if variables is None:
        return list(known)
    unknown = sorted(set(variables) - set(known))
    if unknown or not variables:
        raise ConfigError(
            "the product has no such variable",
            field="variables",
            found=", ".join(unknown) or "an empty list",
            expected=", ".join(known),
        )
    return [name for name in known if name in variables]


def read_field(file: HdfEosFile, entry: FieldDefinition) -> tuple[NDArray[Any], dict[str, Any]]:
    """Reads a field as stored and checks its type.

    Args:
        file: The open file.
        entry: The field's definition.

    Returns:
        The array ``[H, W]`` and the field's attributes.

    Raises:
        ProductError: If the field is missing, damaged or of another type.
    """
    stored, attributes = file.read(entry.name)
    if stored.dtype.name != entry.dtype:
        raise ProductError(
            "the field is stored in another type than the product's",
            path=file.path,
            field=entry.name,
            found=stored.dtype.name,
            expected=entry.dtype,
            action="Use the file as the archive delivers it.",
        )
    return stored, attributes


def packing_of(file: HdfEosFile, entry: FieldDefinition, attributes: dict[str, Any]) -> Packing:
    """Reads scale, offset and fill value; what the file lacks comes from the definition.

    Args:
        file: The open file, for error messages.
        entry: The field's definition.
        attributes: The field's attributes in the file.

    Returns:
        The packing; its scale factor is to be multiplied with, however it was stored.

    Raises:
        ProductError: If the stored scale factor is unusable.
    """
    scale = _number(attributes.get("scale_factor"), entry.scale_factor)
    offset = _number(attributes.get("add_offset"), entry.add_offset)
    fill = _number(attributes.get("_FillValue"), _number(entry.fill_value, None))
    return Packing(
        entry.dtype,
        1.0 if scale is None else multiplier(float(scale), path=file.path, field=entry.name),
        0.0 if offset is None else float(offset),
        fill,
    )


def valid_range_of(
    entry: FieldDefinition, attributes: dict[str, Any]
) -> tuple[float, float] | None:
    """Returns the first and last valid stored number, from the file or else the definition."""
    stored = attributes.get("valid_range")
    if isinstance(stored, list | tuple) and len(stored) == 2:
        return float(stored[0]), float(stored[1])
    return entry.valid_range


def range_rejection(
    stored: NDArray[Any], packing: Packing, valid_range: tuple[float, float] | None
) -> NDArray[np.uint8]:
    """Finds fill values and numbers outside the valid range.

    Args:
        stored: ``[H, W]`` as on disk.
        packing: Holds the fill value.
        valid_range: First and last valid stored number, or None.

    Returns:
        ``[H, W]`` of :class:`~keras_lstsr.products.quality.Rejection` codes.
    """
    codes = np.zeros(stored.shape, np.uint8)
    if valid_range is not None:
        outside = (stored < valid_range[0]) | (stored > valid_range[1])
        codes[outside] = Rejection.OUT_OF_RANGE
    codes[packing.is_fill(stored)] = Rejection.FILL
    return codes


def plain_values(file: HdfEosFile, entry: FieldDefinition, units: str) -> xr.Variable:
    """Reads a field without QC of its own, e.g. a viewing angle.

    Args:
        file: The open file.
        entry: The field's definition.
        units: Units of the result.

    Returns:
        Float32 ``[H, W]``, NaN where the field has its fill value or leaves its valid range.

    Raises:
        ProductError: If the field is missing or damaged.
    """
    stored, attributes = read_field(file, entry)
    packing = packing_of(file, entry, attributes)
    codes = range_rejection(stored, packing, valid_range_of(entry, attributes))
    values = np.where(codes == Rejection.VALID, packing.decode(stored), np.float32(np.nan))
    return physical_variable(values, packing, {"units": units, "long_name": entry.long_name})
