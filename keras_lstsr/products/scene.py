"""Variables of a scene: physical values, why some are missing, and how they are stored."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.products.quality import REASONS, BitField, Rejection, count_reasons

if TYPE_CHECKING:
    from keras_lstsr.products.hdfeos import FieldDefinition, HdfEosFile

DIMENSIONS = ("y", "x")
# Up to 16 bits a table of all values is smaller than a scene, and decoding is one look-up.
_TABLE_BITS = 16


@dataclass(frozen=True)
class Packing:
    """The relation of stored numbers to physical values: ``stored · scale_factor + add_offset``.

    Attributes:
        dtype: NumPy name of the stored type, e.g. ``"uint16"``.
        scale_factor: Physical units per stored unit.
        add_offset: Physical value of a stored zero.
        fill_value: Stored number that means missing, or None.
    """

    dtype: str
    scale_factor: float = 1.0
    add_offset: float = 0.0
    fill_value: float | int | None = None

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Computes physical values in float64 and rounds once; fill values are decoded, too."""
        bits = stored.dtype.itemsize * 8
        if stored.dtype.kind in "iu" and bits <= _TABLE_BITS:
            unsigned = np.dtype(f"u{stored.dtype.itemsize}")
            every = np.arange(2**bits, dtype=np.int64).astype(unsigned).view(stored.dtype)
            return self._physical(every).astype(np.float32)[stored.view(unsigned)]
        with np.errstate(over="ignore"):  # a fill value such as -1.8e308 becomes infinite
            return self._physical(stored).astype(np.float32)

    def _physical(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        return stored.astype(np.float64) * self.scale_factor + self.add_offset

    def is_fill(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Finds the missing pixels: the fill value, and NaN in floating-point rasters."""
        missing = np.isnan(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
        if self.fill_value is not None and not math.isnan(self.fill_value):
            missing |= stored == self.fill_value
        return missing

    def as_encoding(self) -> dict[str, Any]:
        """Returns xarray's ``.encoding``, with which the stored numbers come back unchanged."""
        encoding: dict[str, Any] = {
            "dtype": self.dtype,
            "scale_factor": self.scale_factor,
            "add_offset": self.add_offset,
        }
        if self.fill_value is not None:
            encoding["_FillValue"] = self.fill_value
        return encoding


def multiplier(stored_scale: float, *, path: Path | None = None, field: str | None = None) -> float:
    """Turns a stored ``scale_factor`` into the factor to multiply with, judged by its size.

    Surface reflectance and vegetation indices store 10000 in some products (divide) and 0.0001
    in others (multiply); no integer of the products read here stands for more than one unit, so
    a factor above one is a divisor.

    Raises:
        ProductError: If the factor is not a positive finite number.
    """
    if not math.isfinite(stored_scale) or stored_scale <= 0:
        raise ProductError(
            "the stored scale factor is unusable",
            path=path,
            field=field,
            found=stored_scale,
            expected="a positive finite number",
        )
    return 1.0 / stored_scale if stored_scale > 1 else stored_scale


def rejection_name(name: str) -> str:
    """Names the variable that says why pixels of another variable are missing."""
    return f"{name}_rejection"


def masked_variable(
    name: str,
    values: NDArray[np.float32],
    codes: NDArray[np.uint8],
    packing: Packing,
    attributes: Mapping[str, Any],
) -> dict[str, xr.Variable]:
    """Masks a layer ``[H, W]`` in place by its rejection codes and pairs it with them.

    Returns:
        The layer, NaN where rejected, with ``rejected_pixels`` among its attributes and the
        encoding that gives back the stored numbers; and ``<name>_rejection``.
    """
    values[codes != Rejection.VALID] = np.nan
    counted = {**attributes, "rejected_pixels": json.dumps(count_reasons(codes))}
    reasons = {
        "long_name": f"why {name} is missing",
        "flag_values": list(REASONS),
        "flag_meanings": " ".join(REASONS.values()),
    }
    return {
        name: xr.Variable(DIMENSIONS, values, counted, packing.as_encoding()),
        rejection_name(name): xr.Variable(DIMENSIONS, codes, reasons),
    }


def flag_variable(
    stored: NDArray[Any], entry: FieldDefinition, fields: Sequence[BitField]
) -> xr.Variable:
    """Wraps a QC layer as delivered, its bits described by the CF conventions' flag attributes."""
    entries = [
        (((1 << field.width) - 1) << field.shift, code << field.shift, f"{field.name}: {meaning}")
        for field in fields
        for code, meaning in field.meanings.items()
    ]
    attributes = {
        "long_name": entry.get("long_name"),
        "flag_masks": [mask for mask, _, _ in entries],
        "flag_values": [value for _, value, _ in entries],
        "flag_meanings": " ".join(_cf_word(meaning) for _, _, meaning in entries),
    }
    return xr.Variable(DIMENSIONS, stored, attributes)


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
    """Reads a field as stored, ``[H, W]``, and its attributes; checks its type.

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


def read_values(
    file: HdfEosFile, entry: FieldDefinition
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Packing]:
    """Reads a field in physical units; what the file does not say of it comes from the definition.

    Returns:
        Values ``[H, W]``, of fill values and numbers outside the valid range too; the rejection
        codes of these; and how the field is stored.

    Raises:
        ProductError: If the field is missing, damaged or of another type, or its stored scale
            factor is unusable.
    """
    stored, attributes = read_field(file, entry)
    _check_packing(file, entry, attributes)
    scale, offset, fill = (
        _number(attributes.get(name), _number(entry.get(name), None))
        for name in ("scale_factor", "add_offset", "_FillValue")
    )
    packing = Packing(
        entry.dtype,
        1.0 if scale is None else multiplier(float(scale), path=file.path, field=entry.name),
        0.0 if offset is None else float(offset),
        fill,
    )
    codes = np.zeros(stored.shape, np.uint8)
    valid_range = attributes.get("valid_range")
    if not _is_range(valid_range):
        valid_range = entry.get("valid_range")
    if valid_range is not None:
        outside = (stored < float(valid_range[0])) | (stored > float(valid_range[1]))
        codes[outside] = Rejection.OUT_OF_RANGE
    codes[packing.is_fill(stored)] = Rejection.FILL
    return packing.decode(stored), codes, packing


def _is_range(value: Any) -> bool:
    numbers = isinstance(value, list | tuple) and len(value) == 2
    return numbers and all(isinstance(number, int | float) for number in value)


def _check_packing(file: HdfEosFile, entry: FieldDefinition, attributes: Mapping[str, Any]) -> None:
    """Compares what a file says of a field's numbers with the product's definition.

    A product stores its numbers in one way; another way in one file is a damage, or the work of a
    tool that has left the values as they were. What either does not say is not compared.

    Raises:
        ProductError: If they differ.
    """
    for name in ("scale_factor", "add_offset", "_FillValue", "valid_range"):
        found, defined = attributes.get(name), entry.get(name)
        known, same = False, True
        if _is_range(found) and _is_range(defined):
            known, same = True, [*map(float, found or ())] == [*map(float, defined)]
        elif isinstance(found, int | float) and isinstance(defined, int | float):
            known, same = True, _same_number(name, found, defined, file.path, entry.name)
        if known and not same:
            raise ProductError(
                "the field is not packed as the product's",
                path=file.path,
                field=f"{entry.name} {name}",
                found=found,
                expected=defined,
                action="Use the file as the archive delivers it.",
            )


def _same_number(name: str, found: float, defined: float, path: Path, field: str) -> bool:
    if name == "scale_factor":  # some collections write the divisor
        found = multiplier(float(found), path=path, field=field)
        defined = multiplier(float(defined))
    return math.isclose(found, defined, rel_tol=1e-6)


def plain_values(file: HdfEosFile, entry: FieldDefinition, units: str) -> xr.Variable:
    """Reads a field without QC of its own, e.g. a viewing angle, in those units.

    Returns:
        Float32 ``[H, W]``, NaN where the field has its fill value or leaves its valid range.

    Raises:
        ProductError: See :func:`read_values`.
    """
    values, codes, packing = read_values(file, entry)
    values = np.where(codes == Rejection.VALID, values, np.float32(np.nan))
    attributes = {"units": units, "long_name": entry.get("long_name")}
    return xr.Variable(DIMENSIONS, values, attributes, packing.as_encoding())
