"""Variables of a scene: physical values, why some are missing, and how they are stored."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
        """Computes physical values in float64 and rounds once, to float32.

        Args:
            stored: ``[H, W]`` of the type on disk.

        Returns:
            ``[H, W]`` float32; the fill value is decoded like any other number.
        """
        if stored.dtype.kind in "iu" and stored.dtype.itemsize * 8 <= _TABLE_BITS:
            table = self._physical(_all_values(stored.dtype)).astype(np.float32)
            return table[stored.view(_unsigned(stored.dtype))]
        with np.errstate(over="ignore"):  # a fill value such as -1.8e308 becomes infinite
            return self._physical(stored).astype(np.float32)

    def _physical(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        return stored.astype(np.float64) * self.scale_factor + self.add_offset

    def is_fill(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Finds the missing pixels: the fill value, and NaN in floating-point rasters.

        Args:
            stored: ``[H, W]`` of the type on disk.

        Returns:
            ``[H, W]``, True where missing.
        """
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


def multiplier(stored_scale: float, *, path: object = None, field: str | None = None) -> float:
    """Turns a stored ``scale_factor`` into the factor to multiply with, judged by its size.

    Surface reflectance and vegetation indices store 10000 in some products (divide) and 0.0001
    in others (multiply); no integer of the products read here stands for more than one unit, so
    a factor above one is a divisor.

    Args:
        stored_scale: The factor as stored.
        path: The file, for the error message.
        field: The field, for the error message.

    Returns:
        The factor to multiply stored integers with.

    Raises:
        ProductError: If the factor is not a positive finite number.
    """
    if not math.isfinite(stored_scale) or stored_scale <= 0:
        raise ProductError(
            "the stored scale factor is unusable",
            path=str(path) if path is not None else None,
            field=field,
            found=stored_scale,
            expected="a positive finite number",
        )
    return 1.0 / stored_scale if stored_scale > 1 else stored_scale


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


def _all_values(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Every value of an integer type, at the index of its bit pattern."""
    unsigned = _unsigned(dtype)
    return np.arange(2 ** (dtype.itemsize * 8), dtype=np.int64).astype(unsigned).view(dtype)


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
