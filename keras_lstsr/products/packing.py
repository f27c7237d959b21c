"""How integers on disk stand for physical values: scale, offset, fill value and valid range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import ProductError

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
