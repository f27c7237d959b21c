"""Single-band rasters of LST or of a guide that rasterio reads, such as GeoTIFF."""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.grids.sun import solar_position
from keras_lstsr.grids.values import (
    VALID_LST_KELVIN,
    is_one_of,
    outside_told,
    told_fills,
    told_range,
)
from keras_lstsr.products import granule
from keras_lstsr.products.band import RasterBand
from keras_lstsr.products.quality import Rejection
from keras_lstsr.products.raster_options import (
    CELSIUS_UNITS,
    KELVIN_UNITS,
    RasterOptions,
    unit_offset_kelvin,
)
from keras_lstsr.products.scene import Packing, masked_variable, multiplier, rejection_name
from keras_lstsr.products.stored_numbers import StoredNumbers

_HORIZON_DEGREES = 90.0

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


def quantity_of(band: RasterBand, options: RasterOptions) -> str:
    """Decides whether a raster is LST or a guide: options, tags, then file name, then units.

    Raises:
        ProductError: If nothing tells, or the same source names both.
    """
    if options.quantity is not None:
        return options.quantity
    if band.description in GUIDES:
        return band.description
    for text in (band.words, band.path.stem):
        lst, ndvi = _LST_WORDS.search(text), _NDVI_WORDS.search(text)
        if bool(lst) != bool(ndvi):
            return "lst" if lst else "ndvi"
    if band.units.lower() in KELVIN_UNITS | CELSIUS_UNITS:
        return "lst"
    raise ProductError(
        "tags, units and file name do not say whether this is LST or NDVI",
        path=band.path,
        found=f"description {band.description!r}, units {band.units!r}",
        action='Pass quantity="lst" or quantity="ndvi" (--quantity).',
    )


def _date_of(band: RasterBand, options: RasterOptions) -> str:
    """Finds the acquisition date: options, then tags, then file name; else empty text."""
    if options.date is not None:
        return granule.check_date(options.date)
    if options.date_pattern is not None:
        pattern = granule.compile_date_pattern(options.date_pattern)
        return granule.date_from_name(band.path.name, [pattern])
    tagged = (granule.date_from_name(band.tags.get(name, "")) for name in _DATE_TAGS)
    return next((date for date in tagged if date), "") or granule.date_from_name(band.path.name)


def _day_night_of(band: RasterBand, options: RasterOptions) -> str:
    """Finds day or night: options, tags, description, file name, sun; else ``"unknown"``."""
    if options.day_night is not None:
        return granule.check_day_night(options.day_night)
    texts = [*(band.tags.get(name, "") for name in _DAY_NIGHT_TAGS), band.words, band.path.stem]
    if options.date_pattern is not None:
        match = granule.compile_date_pattern(options.date_pattern).search(band.path.name)
        texts.insert(0, (match.groupdict().get("day_night") or "") if match else "")
    found = (granule.day_night_from_text(text) for text in texts)
    named = next((name for name in found if name != "unknown"), "unknown")
    utc = granule.utc_from_name(band.path.name)
    if named != "unknown" or utc is None:
        return named
    zenith, _ = solar_position(utc, *band.grid.longitude_latitude)
    return "day" if zenith < _HORIZON_DEGREES else "night"


def _packing_of(band: RasterBand, options: RasterOptions, quantity: str) -> Packing:
    """Decides scale, offset to kelvin and fill value: options, then tags, then none."""
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
    """Turns a band into a scene of a product with ``lst_kelvin`` or a guide, the ``quantity``.

    Raises:
        ProductError: If the values as a whole can't be kelvin, or the guide's.
    """
    packing = _packing_of(band, options, quantity)
    missing = packing.is_fill(band.stored)
    if options.nodata is None:
        missing |= is_one_of(band.stored, told_fills(band.tags))
    if band.masked is not None:
        missing |= band.masked
    numbers = StoredNumbers(band, options, packing, quantity)
    if options.class_value is None:
        values = packing.decode(band.stored)
    else:
        values = (band.stored == options.class_value).astype(np.float32)
        packing = Packing(values.dtype.name, 1.0, 0.0, float("nan"))
    outside = np.zeros(values.shape, bool)
    if options.class_value is None and options.nodata is None:
        outside = outside_told(band.stored, values, missing, told_range(band.tags), quantity)
    if quantity == "lst":
        name, units, meaning = "lst_kelvin", "K", "land surface temperature"
        low, high = VALID_LST_KELVIN
    else:
        guide = GUIDES[quantity]
        name, units, meaning = guide.name, guide.units, guide.long_name
        low, high = guide.valid_range
    numbers.check(values, ~missing & ~outside & np.isfinite(values))
    codes = np.zeros(values.shape, np.uint8)
    # The comparison is turned round so that infinities and NaN fall out too.
    codes[outside | ~((values >= low) & (values <= high))] = Rejection.OUT_OF_RANGE
    codes[missing] = Rejection.FILL
    notes = numbers.notes(values, codes == Rejection.VALID)
    described = {
        "units": units,
        "long_name": band.description or meaning,
        **_STANDARD_NAMES.get(quantity, {}),
        "day_night": _day_night_of(band, options),
        "ancillary_variables": rejection_name(name),
    }
    metadata = granule.GranuleMetadata(
        product=product,
        version=version,
        granule_id=band.path.name,
        acquisition_date=_date_of(band, options),
        tile=band.tile,
        platform=platform or band.tags.get("platform", ""),
        source_file=str(band.path),
    )
    if np.dtype(packing.dtype).kind == "f":
        # Floating-point rasters are written as the float32 that they became.
        packing = Packing(values.dtype.name, 1.0, 0.0, float("nan"))
    return band.grid.dataset(
        masked_variable(name, values, codes, packing, described),
        {**metadata.as_attributes(), "qc_policy": "none"} | ({"notes": notes} if notes else {}),
    )
