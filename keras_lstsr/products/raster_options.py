"""What a user knows about a raster that its tags may not tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import ConfigError, unknown
from keras_lstsr.products import granule

_KELVIN_AT_ZERO_CELSIUS = 273.15
KELVIN_UNITS = {"k", "kelvin", "kelvins", "degk", "deg_k", "degree_kelvin", "degrees_kelvin"}
CELSIUS_UNITS = {"c", "degc", "celsius", "°c", "degree_celsius", "degrees_celsius", "deg_c"}


@dataclass(frozen=True)
class RasterOptions:
    """What the user knows about a raster that its tags may not tell; None leaves it to them.

    Attributes:
        quantity: ``"lst"`` or the name of a guide, e.g. ``"ndvi"``.
        scale: Physical units per stored unit; always multiplied with, whatever its size.
        offset: Physical value of a stored zero, in ``unit``.
        nodata: Stored number that means missing.
        class_value: Of classes, the stored number that becomes 1; all others become 0.
        unit: ``"kelvin"`` or ``"celsius"``, of the values after scale and offset.
        date: ISO date of acquisition.
        day_night: ``"day"``, ``"night"`` or ``"unknown"``.
        date_pattern: Regular expression for the file name; see
            :func:`~keras_lstsr.products.granule.compile_date_pattern`.
    """

    quantity: str | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    class_value: float | None = None
    unit: str | None = None
    date: str | None = None
    day_night: str | None = None
    date_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.quantity not in (None, "lst", *GUIDES):
            raise unknown("quantity", self.quantity, ("lst", *GUIDES), field="quantity")
        if self.scale is not None and not (np.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(
                "the scale is unusable",
                field="scale",
                found=self.scale,
                expected="a positive finite number",
            )
        if self.unit is not None:
            unit_offset_kelvin(self.unit)
        if self.day_night is not None:
            granule.check_day_night(self.day_night)
        if self.date is not None:
            granule.check_date(self.date)
        if self.date_pattern is not None:
            granule.compile_date_pattern(self.date_pattern)


def unit_offset_kelvin(unit: str) -> float:
    """Returns the kelvin at a unit's zero.

    Raises:
        ConfigError: If it is no unit of temperature.
    """
    name = unit.strip().lower().replace(" ", "_")
    if name in KELVIN_UNITS:
        return 0.0
    if name in CELSIUS_UNITS:
        return _KELVIN_AT_ZERO_CELSIUS
    raise unknown("unit of temperature", unit, ["kelvin or celsius"], field="unit")
