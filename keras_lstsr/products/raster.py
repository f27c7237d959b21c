"""Single-band rasters of LST or of a guide that rasterio reads, such as GeoTIFF.

ASTER's surface kinetic temperature (AST_08, 90 m) and its resampled descendants are among them, and
Landsat's surface temperature (Collection 2, level 2, band ST_B10).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import ConfigError, ProductError, unknown
from keras_lstsr.grids.sun import solar_position
from keras_lstsr.grids.values import (
    VALID_LST_KELVIN,
    Reading,
    guide_readings,
    is_one_of,
    kelvin_readings,
    outside_told,
    readings_text,
    stand_outs,
    told_fills,
    told_range,
)
from keras_lstsr.products import granule
from keras_lstsr.products.band import RasterBand
from keras_lstsr.products.quality import Rejection
from keras_lstsr.products.scene import Packing, masked_variable, multiplier, rejection_name

_KELVIN_AT_ZERO_CELSIUS = 273.15

# ASTER L2 surface kinetic temperature: unsigned 16-bit, 0.1 K, 0 = none (AST_08 user guide).
_ASTER_SCALE_KELVIN, _ASTER_NODATA = 0.1, 0
_AST08_NAME = re.compile(r"AST_08_(?P<version>\d{3})\d{14}", re.IGNORECASE)
_ASTER_WORD = re.compile(r"(?<![A-Za-z])(?:aster|ast_08)(?![A-Za-z])", re.IGNORECASE)

# Landsat Collection 2 level-2 surface temperature: unsigned 16-bit, 0 = none; not made where the
# sun stands lower than 14° (USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide).
_LANDSAT_SCALE_KELVIN, _LANDSAT_OFFSET_KELVIN, _LANDSAT_NODATA = 0.00341802, 149.0, 0
_LANDSAT_NAME = re.compile(
    r"L[CTEO]0(?P<number>\d)_L2SP_\d{6}_\d{8}_.*_ST_B(?:10|6)$", re.IGNORECASE
)
_HORIZON_DEGREES = 90.0

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
            _unit_offset_kelvin(self.unit)
        if self.day_night is not None:
            granule.check_day_night(self.day_night)
        if self.date is not None:
            granule.check_date(self.date)
        if self.date_pattern is not None:
            granule.compile_date_pattern(self.date_pattern)


def _unit_offset_kelvin(unit: str) -> float:
    name = unit.strip().lower().replace(" ", "_")
    if name in _KELVIN_UNITS:
        return 0.0
    if name in _CELSIUS_UNITS:
        return _KELVIN_AT_ZERO_CELSIUS
    raise unknown("unit of temperature", unit, ["kelvin or celsius"], field="unit")


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
    if band.units.lower() in _KELVIN_UNITS | _CELSIUS_UNITS:
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
            to_kelvin = _unit_offset_kelvin(options.unit or tagged)
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
    numbers = _Numbers(band, options, packing, quantity)
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


def is_landsat(band: RasterBand) -> bool:
    """Tells whether the file's name is that of Landsat's surface temperature."""
    return bool(_LANDSAT_NAME.search(band.path.stem))


def open_landsat(band: RasterBand, options: RasterOptions, product: str) -> xr.Dataset:
    """Turns Landsat's surface temperature into a scene with ``lst_kelvin``.

    Files from the archive carry no scale tag. Tags and options go before the product's numbers.

    Raises:
        ProductError: If the values as a whole can't be kelvin.
    """
    if band.stored.dtype.name == "uint16" and band.scale is None and options.scale is None:
        nodata = _LANDSAT_NODATA if options.nodata is None else options.nodata
        scale, offset = _LANDSAT_SCALE_KELVIN, _LANDSAT_OFFSET_KELVIN
        options = replace(options, scale=scale, offset=offset, nodata=nodata)
    options = replace(options, day_night=options.day_night or "day")
    name = _LANDSAT_NAME.search(band.path.stem)
    platform = f"Landsat {name['number']}" if name else ""
    return open_band(
        band, options, product=product, quantity="lst", platform=platform, version="02"
    )


def is_aster(band: RasterBand) -> bool:
    """Tells whether tags or file name call a raster ASTER."""
    return bool(_ASTER_WORD.search(band.words) or _ASTER_WORD.search(band.path.stem))


def open_aster(band: RasterBand, options: RasterOptions, product: str) -> xr.Dataset:
    """Turns a band of ASTER's temperature into a scene with ``lst_kelvin``.

    AST_08 files from the archive carry no scale tag; their 0.1 K and 0 = none are the product's
    definition. Tags and options go before it.

    Raises:
        ProductError: If the values as a whole can't be kelvin.
    """
    if band.stored.dtype.name == "uint16" and band.scale is None and options.scale is None:
        nodata = options.nodata
        if nodata is None and band.nodata is None:
            nodata = _ASTER_NODATA
        options = replace(options, scale=_ASTER_SCALE_KELVIN, nodata=nodata)
    name = _AST08_NAME.search(band.path.name)
    version = name["version"] if name else ""
    return open_band(
        band, options, product=product, quantity="lst", platform="Terra", version=version
    )


@dataclass(frozen=True)
class _Numbers:
    """The stored numbers of a band, and how they are read.

    Attributes:
        band: The band.
        options: What the user said.
        packing: How the numbers are read.
        quantity: ``"lst"`` or a guide's name.
    """

    band: RasterBand
    options: RasterOptions
    packing: Packing
    quantity: str

    @property
    def untagged(self) -> bool:
        """Whether nothing says what the numbers are to be multiplied with."""
        return self.options.scale is None and self.band.scale is None

    def check(self, values: NDArray[np.float32], present: NDArray[np.bool_]) -> None:
        """Refuses numbers that as a whole cannot be the quantity, such as raw integers.

        Raises:
            ProductError: If they cannot.
        """
        if not present.any():
            return
        self._check_scaled_before(present)
        if self.quantity == "lst":
            _check_kelvin(self, values, present)
        else:
            _check_guide(self, values[present])

    def notes(self, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> str:
        """Says which number may stand for missing, or refuses one that surely does.

        Args:
            values: ``[h, w]`` in physical units.
            valid: Pixels that pass for values so far.

        Raises:
            ProductError: If one surely does.
        """
        looked = self.quantity == "lst" or GUIDES[self.quantity].valid_range == (-1.0, 1.0)
        if not looked or self.options.nodata is not None or self.options.class_value is not None:
            return ""
        name = "land surface temperature" if self.quantity == "lst" else self._title
        found = stand_outs(self.band.stored[valid], values[valid], self.quantity)
        for each in found:
            if each.surely:
                raise ProductError(
                    f"a number that mostly means missing passes for {name}",
                    path=self.band.path,
                    found=f"{each.text}, which would be {self._physical(each.stored):g} "
                    f"{'K' if self.quantity == 'lst' else ''}".rstrip(),
                    action=f"Pass nodata={each.stored:g} ({self._option('nodata')} "
                    f"{each.stored:g}) if it means missing, or nodata=nan "
                    f"({self._option('nodata')} nan) if it was measured.",
                )
        return " ".join(
            f"{each.text} in {self.band.path.name}, far more than hold any number beside it: if "
            f"that means missing, pass {self._option('nodata')} {each.stored:g}."
            for each in found[:2]
        )

    @property
    def _title(self) -> str:
        return "temperature" if self.quantity == "lst" else GUIDES[self.quantity].long_name

    def _option(self, name: str) -> str:
        if self.quantity in ("lst", "ndvi"):
            return f"--{'ndvi-' if self.quantity == 'ndvi' else ''}{name}"
        return f"--guide-option {self.quantity}.{name}"

    def _physical(self, stored: float) -> float:
        return stored * self.packing.scale_factor + self.packing.add_offset

    def _check_scaled_before(self, present: NDArray[np.bool_]) -> None:
        """Refuses floating-point values in physical units that a tag would scale once more."""
        tagged = self.options.scale is None and self.packing.scale_factor != 1
        if not tagged or self.band.stored.dtype.kind != "f":
            return
        stored = self.band.stored[present]
        if self.quantity == "lst":
            found = kelvin_readings(stored)
            physical = bool(found) and (found[0].scale, found[0].unit) == (1.0, "kelvin")
        else:
            found = guide_readings(stored, self.quantity)
            physical = bool(found) and found[0].scale == 1
        if physical:
            scaled = stored * self.packing.scale_factor + self.packing.add_offset
            title = "kelvin" if self.quantity == "lst" else self._title
            raise ProductError(
                f"the values are {title} already, and the file's scale tag would scale them again",
                path=self.band.path,
                found=f"values from {stored.min():g} to {stored.max():g}; with scale "
                f"{self.packing.scale_factor:g} they would be {scaled.min():g} to "
                f"{scaled.max():g}",
                action=f"Pass scale=1 ({self._option('scale')} 1) to leave the tag out.",
            )


def _check_kelvin(
    numbers: _Numbers, values: NDArray[np.float32], present: NDArray[np.bool_]
) -> None:
    """Refuses degrees Celsius and raw integers where kelvin are expected."""
    band, packing = numbers.band, numbers.packing
    expected = "land surface temperature in kelvin"
    # Files without a tag mark missing pixels with zero.
    present = present & (band.stored != 0)
    found = values[present]
    if not found.size:
        raise ProductError(
            "every pixel is 0, which is no temperature",
            path=band.path,
            found="no other number",
            expected=expected,
            action="Take another file; nodata=0 (--nodata 0) says that 0 means missing.",
        )
    low, high = VALID_LST_KELVIN
    # The median decides, so that a few wild pixels refuse no scene.
    median = float(np.median(found))
    if low <= median <= high:
        return
    text = f"values from {found.min():g} to {found.max():g}, median {median:g}"
    stored = band.stored[present]
    readings = kelvin_readings(stored)
    ways = {(each.scale, each.unit) for each in readings}
    as_stored = packing.scale_factor == 1
    if as_stored and (1.0, "celsius") in ways:
        problem = "the values look like degrees Celsius instead of kelvin"
    elif as_stored and ways == {(1.0, "fahrenheit")}:
        problem = "the values look like degrees Fahrenheit instead of kelvin"
    elif numbers.untagged and stored.dtype.kind in "iu":
        problem = "the values are raw integers instead of kelvin, and no tag gives their scale"
    else:
        problem = "the values are not temperatures in kelvin"
        text += f", with scale {packing.scale_factor:g} and offset {packing.add_offset:g}"
    action = _ways(readings, nodata_zero=stored.dtype.kind == "u") or (
        "No scale and unit in use turns them into temperatures: look up scale, offset, nodata and "
        "unit in the product's user guide."
    )
    raise ProductError(problem, path=band.path, found=text, expected=expected, action=action)


def _ways(readings: list[Reading], *, nodata_zero: bool) -> str:
    """Says in sentences with which options the values would be temperatures."""
    sentences = []
    for each in readings:
        if each.unit == "fahrenheit":
            sentences.append(readings_text([each]))
            continue
        options: dict[str, object] = {} if each.scale == 1 else {"scale": each.scale}
        options |= {"offset": each.offset} if each.offset else {}
        options |= {"unit": "celsius"} if each.unit == "celsius" else {}
        options = options or {"scale": 1.0, "unit": "kelvin"}
        options |= {"nodata": 0.0} if nodata_zero and "scale" in options else {}
        named = {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in options.items()
        }
        python = ", ".join(
            f'{name}="{value}"' if name == "unit" else f"{name}={value}"
            for name, value in named.items()
        )
        shell = " ".join(f"--{name} {value}" for name, value in named.items())
        of = "degrees Celsius" if each.unit == "celsius" else "kelvin"
        sentences.append(
            f"Pass {python} ({shell}) if they are {of}: that gives {each.low:.1f} to "
            f"{each.high:.1f} K."
        )
    return " ".join(sentences)


def _check_guide(numbers: _Numbers, found: NDArray[np.float32]) -> None:
    """Refuses values whose median is out of the guide's range, such as raw integers.

    Of a share, most of the ground may have none: there, one value of percent is enough. Zeros do
    not count where there are others: they mostly mean missing.
    """
    guide, band, untagged = GUIDES[numbers.quantity], numbers.band, numbers.untagged
    low, high = guide.valid_range
    percent = (low, high) == (0.0, 1.0) and ((found > 1.01) & (found <= 100)).any()
    signed = (low, high) == (-1.0, 1.0)
    integers = signed and untagged and band.stored.dtype.kind in "iu"
    others = found[found != 0] if signed else found
    if signed and not others.size:
        problem = f"every pixel is 0, which is no {guide.long_name}"
        action = "Take another file; the option nodata says that 0 means missing."
        raise ProductError(problem, path=band.path, found="no other number", action=action)
    if low <= float(np.median(others)) <= high and not percent and not integers:
        return
    tried = guide_readings(np.asarray(band.stored)[_there(numbers)], numbers.quantity)
    ways = " or ".join(
        f"scale={each.scale:g}{f', offset={each.offset:g}' if each.offset else ''} "
        f"({numbers._option('scale')} {each.scale:g}"
        + (f" {numbers._option('offset')} {each.offset:g}" if each.offset else "")
        + f"), which gives {each.low:.2f} to {each.high:.2f}"
        for each in tried
    )
    raise ProductError(
        f"the values are raw integers instead of {guide.long_name}, and no tag gives their scale"
        if untagged
        else f"the values are not {guide.long_name}",
        path=band.path,
        found=f"values from {found.min():g} to {found.max():g}",
        expected=f"{low:g} to {high:g}",
        action=f"Pass {ways}." if ways else f"{guide.hint} The options scale and nodata do both.",
    )


def _there(numbers: _Numbers) -> NDArray[np.bool_]:
    stored = numbers.band.stored
    there = ~numbers.packing.is_fill(stored) & ~is_one_of(stored, told_fills(numbers.band.tags))
    for number in (-3000, -9999, -32768, 32767, 65535, 255, 254):  # fill values without a tag
        there &= stored != number
    return there
