"""Single-band rasters of LST or of a guide that rasterio reads, such as GeoTIFF."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.products import granule
from keras_lstsr.products.band import RasterBand
from keras_lstsr.products.plausibility import check_guide, check_kelvin
from keras_lstsr.products.quality import Rejection
from keras_lstsr.products.scene import Packing, masked_variable, multiplier, rejection_name

__all__ = [
    "NO_QC_POLICY",
    "RasterOptions",
    "open_band",
    "packing_of_band",
    "quantity_of",
    "unit_offset_kelvin",
]

KELVIN_AT_ZERO_CELSIUS = 273.15

# The attribute qc_policy of rasters that come without QC.
NO_QC_POLICY = "none"

# MOD11A1 calls LST valid from 150 K on; nothing that is not on fire is hotter than 400 K.
VALID_LST_KELVIN = (150.0, 400.0)

_KELVIN_UNITS = {"k", "kelvin", "kelvins", "degk", "deg_k", "degree_kelvin", "degrees_kelvin"}
_CELSIUS_UNITS = {"c", "degc", "celsius", "°c", "degree_celsius", "degrees_celsius", "deg_c"}
_NO_UNITS = {"", "na", "n/a", "none", "1", "unitless", "dn"}
_LST_WORDS = re.compile(
    r"(?<![A-Za-z])(?:lst|land[ _-]?surface[ _-]?temperature|surface[ _-]temperature|"
    r"surface[ _-]kinetic[ _-]temperature|skt)(?![A-Za-z])",
    re.IGNORECASE,
)
_NDVI_WORDS = re.compile(r"(?<![A-Za-z])(?:ndvi|normali[sz]ed difference veg\w*)(?![A-Za-z])", re.I)
_DATE_TAGS = (
    "acquisition_date",
    "date_acquired",
    "date",
    "rangebeginningdate",
    "calendardate",
    "time_coverage_start",
)
_STANDARD_NAMES = {
    "lst": {"standard_name": "surface_temperature"},
    "ndvi": {"standard_name": "normalized_difference_vegetation_index"},
    "elevation": {"standard_name": "surface_altitude"},
}
_DAY_NIGHT_TAGS = ("day_night", "daynightflag", "day_night_flag")


@dataclass(frozen=True)
class RasterOptions:
    """What the user knows about a raster that its tags may not tell; None leaves it to them.

    Attributes:
        quantity: ``"lst"`` or the name of a guide, e.g. ``"ndvi"``.
        scale: Physical units per stored unit; always multiplied with, whatever its size.
        offset: Physical value of a stored zero, in ``unit``.
        nodata: Stored number that means missing.
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
    unit: str | None = None
    date: str | None = None
    day_night: str | None = None
    date_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.quantity not in (None, "lst", *GUIDES):
            raise ConfigError(
                "unknown quantity",
                field="quantity",
                found=repr(self.quantity),
                expected=", ".join(("lst", *GUIDES)),
            )
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
    """Returns what to add to a temperature in that unit to have kelvin.

    Raises:
        ConfigError: If the unit is neither kelvin nor degrees Celsius.
    """
    name = unit.strip().lower().replace(" ", "_")
    if name in _KELVIN_UNITS:
        return 0.0
    if name in _CELSIUS_UNITS:
        return KELVIN_AT_ZERO_CELSIUS
    raise ConfigError(
        "unknown unit of temperature", field="unit", found=repr(unit), expected="kelvin or celsius"
    )


def quantity_of(band: RasterBand, options: RasterOptions) -> str:
    """Decides whether a raster is LST or NDVI: options, then tags, then file name, then units.

    Raises:
        ProductError: If nothing tells, or the same source names both.
    """
    if options.quantity is not None:
        return options.quantity
    for text in (band.words, band.path.stem):
        lst, ndvi = _LST_WORDS.search(text), _NDVI_WORDS.search(text)
        if bool(lst) != bool(ndvi):
            return "lst" if lst else "ndvi"
    if band.units.lower() in _KELVIN_UNITS | _CELSIUS_UNITS:
        return "lst"
    raise ProductError(
        "tags, units and file name do not say whether this is LST or NDVI",
        path=band.path,
        found=f"description {band.description!r}, units {band.units!r}",
        action='Pass quantity="lst" or quantity="ndvi" (--quantity).',
    )


def date_of(band: RasterBand, options: RasterOptions) -> str:
    """Finds the acquisition date: options, then tags, then file name; else empty text."""
    if options.date is not None:
        return granule.check_date(options.date)
    if options.date_pattern is not None:
        pattern = granule.compile_date_pattern(options.date_pattern)
        return granule.date_from_name(band.path.name, [pattern])
    tagged = (granule.date_from_name(band.tags.get(name, "")) for name in _DATE_TAGS)
    return next((date for date in tagged if date), "") or granule.date_from_name(band.path.name)


def day_night_of(band: RasterBand, options: RasterOptions) -> str:
    """Finds day or night: options, tags, description, file name; else ``"unknown"``."""
    if options.day_night is not None:
        return granule.check_day_night(options.day_night)
    texts = [*(band.tags.get(name, "") for name in _DAY_NIGHT_TAGS), band.words, band.path.stem]
    if options.date_pattern is not None:
        match = granule.compile_date_pattern(options.date_pattern).search(band.path.name)
        texts.insert(0, (match.groupdict().get("day_night") or "") if match else "")
    found = (granule.day_night_from_text(text) for text in texts)
    return next((name for name in found if name != "unknown"), "unknown")


def packing_of_band(band: RasterBand, options: RasterOptions, quantity: str) -> Packing:
    """Decides scale, offset and fill value: options, then tags, then none.

    The offset of temperatures in degrees Celsius includes 273.15, so that the packing gives
    kelvin.

    Raises:
        ProductError: If the tags' scale or unit is unusable.
    """
    scale, offset = options.scale, options.offset
    if scale is None:
        scale = 1.0 if band.scale is None else multiplier(band.scale, path=band.path)
        if offset is None and band.offset is not None:
            offset = band.offset
    to_kelvin = 0.0
    if quantity == "lst":
        try:
            tagged = "kelvin" if band.units.lower() in _NO_UNITS else band.units
            to_kelvin = unit_offset_kelvin(options.unit or tagged)
        except ConfigError as error:
            raise ProductError(
                "the raster's unit of temperature is unknown",
                path=band.path,
                field="units",
                found=repr(band.units),
                expected="K or degrees Celsius",
                action='Pass unit="kelvin" or unit="celsius" (--unit).',
            ) from error
    nodata = options.nodata if options.nodata is not None else band.nodata
    if band.stored.dtype.kind in "iu" and nodata is not None:
        # A nodata value that the type cannot hold marks no pixel.
        nodata = int(nodata) if float(nodata).is_integer() else None
    return Packing(band.stored.dtype.name, scale, (offset or 0.0) + to_kelvin, nodata)


def open_band(
    band: RasterBand,
    options: RasterOptions,
    *,
    product: str,
    quantity: str,
    platform: str = "",
    version: str = "",
) -> xr.Dataset:
    """Turns a band into a scene with ``lst_kelvin`` or a guide.

    Args:
        band: The band as stored.
        options: What the user knows.
        product: Name of the product, e.g. ``"LST_GEOTIFF"``.
        quantity: ``"lst"`` or the name of a guide.
        platform: Satellite, if known.
        version: Collection, if known.

    Returns:
        The scene; see :func:`keras_lstsr.products.open_product`.

    Raises:
        ProductError: If the values as a whole can't be kelvin, or the guide's.
    """
    packing = packing_of_band(band, options, quantity)
    missing = packing.is_fill(band.stored)
    if band.masked is not None:
        missing |= band.masked
    values = packing.decode(band.stored)
    untagged = options.scale is None and band.scale is None
    if quantity == "lst":
        name, units, meaning = "lst_kelvin", "K", "land surface temperature"
        low, high = VALID_LST_KELVIN
        check_kelvin(values, missing, band.stored, packing, path=band.path, untagged=untagged)
    else:
        guide = GUIDES[quantity]
        name, units, meaning = guide.name, guide.units, guide.long_name
        low, high = guide.valid_range
        check_guide(values, missing, guide, path=band.path, untagged=untagged)
    codes = np.zeros(values.shape, np.uint8)
    # The comparison is turned round so that infinities and NaN fall out too.
    codes[~((values >= low) & (values <= high))] = Rejection.OUT_OF_RANGE
    codes[missing] = Rejection.FILL
    described = {
        "units": units,
        "long_name": band.description or meaning,
        **_STANDARD_NAMES.get(quantity, {}),
        "day_night": day_night_of(band, options),
        "ancillary_variables": rejection_name(name),
    }
    metadata = granule.GranuleMetadata(
        product=product,
        version=version,
        granule_id=band.path.name,
        acquisition_date=date_of(band, options),
        tile=band.tile,
        platform=platform or band.tags.get("platform", ""),
        source_file=str(band.path),
    )
    return band.grid.dataset(
        masked_variable(name, values, codes, _lossless(packing, values), described),
        {**metadata.as_attributes(), "qc_policy": NO_QC_POLICY},
    )


def _lossless(packing: Packing, values: NDArray[np.float32]) -> Packing:
    """The encoding to write with: floating-point rasters are kept as the float32 they became."""
    if np.dtype(packing.dtype).kind in "iu":
        return packing
    return Packing(values.dtype.name, 1.0, 0.0, float("nan"))
