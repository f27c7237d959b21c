"""What a raster's numbers can mean: which mark missing pixels, and which are of another unit.

Files and arrays come with the same faults: fill values without a tag, integers that nobody
scaled, degrees Celsius. They are looked for here, for every door by which rasters come in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import GridError, LstsrError

VALID_LST_KELVIN = (150.0, 400.0)
"""Colder than any ground ever measured from space (about 175 K, East Antarctica) and hotter than
any (about 354 K, Lut desert), with room for sensor error. Celsius (-60 to 80), raw integers of
MODIS (7500 to 65535) and a fill value of 0 lie far outside."""

NO_FILL = float("nan")
"""As the option ``nodata``: no number means missing, also none that stands out."""

_FILL_TAGS = ("_fillvalue", "missing_value", "fill_value")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan", re.IGNORECASE)

# What a scene's 5th and 95th percentile of LST lie between.
_USUAL_KELVIN = (200.0, 350.0)
_ZERO_CELSIUS = 273.15
_USUAL_NDVI = (-0.35, 1.0)
# A number stands out if it is that often there, and that many times as often as its neighbours.
_LEAST_SHARE, _LEAST_COUNT, _TIMES = 0.002, 12, 6
_NEIGHBOURS, _FEWEST_NUMBERS = 10, 4
# It stands apart if this part of the others' width is empty between them.
_GAP = 0.25
# Numbers that products and programs write for missing, beside the ends of integer types.
_USUAL_FILLS = {-1, -99, -999, -9999, -99999, -2000, -3000, -28672, -32768, 32767, 65535, 9999}
_USUAL_FILLS |= {0, 99999, 254, 255}
# Ends to which NDVI is cut in some products, where water or snow has them truly.
_CUT_NDVI = (-1.0, -0.2, 0.0, 1.0)
_SAMPLE = 1_000_000


def numbers_of(told: object) -> list[float]:
    """Reads the numbers of a tag: a number, a sequence, or text such as ``"{-2000, 10000}"``."""
    if isinstance(told, str):
        # The conventions of netCDF's text form put the type behind a number: 254b, 1.f
        return [float(text) for text in _NUMBER.findall(told)]
    try:
        return [float(number) for number in np.ravel(np.asarray(told, np.float64))]
    except (TypeError, ValueError):
        return []


def told_fills(tags: Mapping[Any, Any]) -> list[float]:
    """Returns the stored numbers that ``_FillValue``, ``missing_value`` and flags call missing.

    ``flag_values`` beside a physical quantity name pixels without a value, such as sea or snow.
    """
    known = {str(name).lower(): value for name, value in tags.items()}
    names = (*_FILL_TAGS, "flag_values") if "flag_meanings" in known else _FILL_TAGS
    found = (number for name in names if name in known for number in numbers_of(known[name]))
    return list(dict.fromkeys(number for number in found if not np.isnan(number)))


def told_range(tags: Mapping[Any, Any]) -> tuple[float, float] | None:
    """Returns least and greatest number of ``valid_range``, ``valid_min`` and ``valid_max``."""
    known = {str(name).lower(): value for name, value in tags.items()}
    both = numbers_of(known.get("valid_range", ()))
    low, high = both if len(both) == 2 else (-np.inf, np.inf)
    least, most = (numbers_of(known.get(name, ())) for name in ("valid_min", "valid_max"))
    low, high = (max([low, *least[:1]]), min([high, *most[:1]]))
    if not low < high or (low, high) == (-np.inf, np.inf):
        return None
    return float(low), float(high)


def is_one_of(stored: NDArray[Any], fills: list[float]) -> NDArray[np.bool_]:
    """Finds the pixels that have one of the numbers, as the array's own type holds them."""
    found = np.zeros(stored.shape, bool)
    for number in fills:
        with np.errstate(over="ignore", invalid="ignore"):
            own = np.asarray(number).astype(stored.dtype)
        if stored.dtype.kind == "f" or float(own) == number:
            found |= stored == own
    return found


def outside_told(
    stored: NDArray[Any],
    values: NDArray[np.floating],
    missing: NDArray[np.bool_],
    limits: tuple[float, float] | None,
    quantity: str,
) -> NDArray[np.bool_]:
    """Finds the pixels outside a valid range, whichever of the two it is of.

    By the CF conventions it is of the stored numbers; some files give it in physical units. It is
    taken for the latter where it is no wider than the quantity's own range and holds more so.

    Args:
        stored: ``[h, w]`` as in the file.
        values: The same in physical units, kelvin for LST; the range may be of degrees Celsius.
        missing: Pixels that do not count.
        limits: The range.
        quantity: ``"lst"`` or a guide's name.
    """
    if limits is None:
        return np.zeros(stored.shape, bool)
    tried = [stored]
    own = VALID_LST_KELVIN if quantity == "lst" else GUIDES[quantity].valid_range
    if max(map(abs, limits)) <= 2 * max(map(abs, own)):
        tried.append(values)
        if quantity == "lst":
            tried.append(values - np.float32(_ZERO_CELSIUS))
    outside = [(numbers < limits[0]) | (numbers > limits[1]) for numbers in tried]
    inside = [np.count_nonzero(~each & ~missing) for each in outside]
    return outside[int(np.argmax(inside))]


@dataclass(frozen=True)
class StandOut:
    """A number that far more pixels have than its neighbours.

    Attributes:
        stored: The number, as stored.
        pixels: How many pixels have it.
        share: Share of the pixels with a value, 0…1.
        surely: Whether it is one that is written for missing, or lies apart from all others.
    """

    stored: float
    pixels: int
    share: float
    surely: bool

    @property
    def text(self) -> str:
        """Tells it in words."""
        return f"{self.pixels} pixels ({self.share:.1%} of those with a value) hold {self.stored:g}"


def stand_outs(
    stored: NDArray[Any], physical: NDArray[np.floating], quantity: str
) -> list[StandOut]:
    """Finds numbers that may stand for missing, among those that pass for values.

    Args:
        stored: ``[n]`` as in the file, of pixels with a value.
        physical: ``[n]``, the same in the quantity's unit.
        quantity: ``"lst"`` or a guide's name.

    Returns:
        The most frequent first.
    """
    if not stored.size:
        return []
    step = -(-stored.size // _SAMPLE) if stored.dtype.kind == "f" else 1
    sample = stored[::step]
    numbers, counts = np.unique(sample, return_counts=True)
    if numbers.size < _FEWEST_NUMBERS:
        return []
    found = []
    for i in np.flatnonzero(counts >= max(_LEAST_COUNT, _LEAST_SHARE * sample.size)):
        near = np.concatenate([counts[max(i - _NEIGHBOURS, 0) : i], counts[i + 1 :][:_NEIGHBOURS]])
        if counts[i] < _TIMES * np.percentile(near, 75):
            continue
        same = stored == numbers[i]
        number, pixels = float(numbers[i]), int(np.count_nonzero(same))
        value = float(physical[same][0])
        surely = _is_usual_fill(number, value, stored.dtype, quantity)
        surely |= _apart(number, np.delete(numbers, i), np.delete(counts, i))
        if quantity != "lst" and min(abs(value - end) for end in _CUT_NDVI) < 1e-6:
            surely = False
        found.append(StandOut(number, pixels, pixels / stored.size, bool(surely)))
    return sorted(found, key=lambda each: -each.pixels)


def _is_usual_fill(number: float, value: float, dtype: np.dtype[Any], quantity: str) -> bool:
    usual = number in _USUAL_FILLS
    if dtype.kind in "iu":
        usual |= number in (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if quantity == "lst":
        return usual or abs(value - _ZERO_CELSIUS) < 1e-4
    return usual or abs(value + 0.3) < 1e-6  # -3000 of the vegetation indices, scaled


def _apart(number: float, others: NDArray[Any], counts: NDArray[np.int64]) -> bool:
    """Tells whether a number lies beyond all others, with a gap."""
    low, high = _weighted(others, counts, 0.05), _weighted(others, counts, 0.95)
    gap = _GAP * (high - low)
    return bool(number < float(others[0]) - gap or number > float(others[-1]) + gap)


def _weighted(numbers: NDArray[Any], counts: NDArray[np.int64], share: float) -> float:
    reached = np.searchsorted(np.cumsum(counts), share * counts.sum())
    return float(numbers[min(int(reached), numbers.size - 1)])


@dataclass(frozen=True)
class Reading:
    """A way to read stored numbers, tried on them.

    Attributes:
        scale: Physical units per stored unit.
        offset: Of the physical unit.
        unit: ``"kelvin"``, ``"celsius"`` or ``"fahrenheit"``; ``"1"`` for a guide.
        low: The 5th percentile of what comes out, kelvin or the guide's unit.
        high: The 95th.
    """

    scale: float
    offset: float
    unit: str
    low: float
    high: float

    @property
    def options(self) -> dict[str, str]:
        """Options of ``open_product`` and of the command line that read them so; as text."""
        found = {} if self.scale == 1 else {"scale": f"{self.scale:g}"}
        found |= {"offset": f"{self.offset:g}"} if self.offset else {}
        found |= {"unit": "celsius"} if self.unit == "celsius" else {}
        return found or {"scale": "1", "unit": "kelvin"}


_SCALED_KELVIN = ((0.02, 0.0), (0.1, 0.0), (0.01, 0.0))
_LANDSAT, _USUAL_LANDSAT = (0.00341802, 149.0), (240.0, 345.0)
_SCALED_CELSIUS = (0.1, 0.01)
_SCALED_NDVI = ((0.0001, 0.0), (0.001, 0.0), (0.01, 0.0), (0.005, 0.0), (0.004, -0.08))


def _ends(stored: NDArray[Any]) -> tuple[float, float] | None:
    """The 5th and 95th percentile of the numbers that may be values; None where none is."""
    present = stored[np.isfinite(stored)] if stored.dtype.kind == "f" else stored
    present = present[present != 0]
    if not present.size:
        return None
    step = -(-present.size // _SAMPLE)
    low, high = np.percentile(present[::step].astype(np.float64), [5, 95])
    return float(low), float(high)


def kelvin_readings(stored: NDArray[Any]) -> list[Reading]:
    """Finds the ways to read numbers as LST that give what a scene can have.

    Kelvin as they are come first, and alone. Zeros do not count: they mostly mean missing.

    Args:
        stored: ``[n]`` as in the file, without fill values.
    """
    ends = _ends(stored)
    if ends is None:
        return []
    # Degrees as they are, of integers as of floats.
    tried = [(1.0, 0.0, "kelvin", _USUAL_KELVIN)]
    tried += [(scale, offset, "kelvin", _USUAL_KELVIN) for scale, offset in _SCALED_KELVIN]
    tried += [(1.0, 0.0, "celsius", (203.0, 338.0))]
    tried += [(scale, 0.0, "celsius", (203.0, 338.0)) for scale in _SCALED_CELSIUS]
    if stored.dtype.kind == "u":
        tried.append((*_LANDSAT, "kelvin", _USUAL_LANDSAT))
    tried.append((1.0, 0.0, "fahrenheit", (203.0, 338.0)))
    found = []
    for scale, offset, unit, (least, most) in tried:
        low, high = (_in_kelvin(end * scale + offset, unit) for end in ends)
        if scale != 1 and stored.dtype.kind == "f" and max(map(abs, ends)) < 1000:
            continue  # floating-point numbers as small as degrees are degrees
        if least <= low and high <= most:
            found.append(Reading(scale, offset, unit, low, high))
    alone = bool(found) and (found[0].scale, found[0].unit) == (1.0, "kelvin")
    return found[:1] if alone else found


def _in_kelvin(degrees: float, unit: str) -> float:
    if unit == "fahrenheit":
        return (degrees + 459.67) / 1.8
    return degrees + (_ZERO_CELSIUS if unit == "celsius" else 0.0)


def guide_readings(stored: NDArray[Any], quantity: str) -> list[Reading]:
    """Finds scales with which numbers are NDVI; none for other guides."""
    ends = _ends(stored)
    if ends is None or GUIDES[quantity].valid_range != (-1.0, 1.0):
        return []
    found = []
    for scale, offset in ((1.0, 0.0), *_SCALED_NDVI):
        low, high = (end * scale + offset for end in ends)
        # Less than 0.05 of a tenth is no vegetation: the scale would be too small.
        if _USUAL_NDVI[0] <= low and 0.1 < high <= _USUAL_NDVI[1]:
            found.append(Reading(scale, offset, "1", low, high))
    return found[:1] if found and found[0].scale == 1 else found


def range_refusal(
    present: NDArray[np.floating],
    limits: tuple[float, float],
    quantity: str,
    kind: type[LstsrError],
    *,
    field: str,
    path: str | None = None,
) -> LstsrError | None:
    """Returns the error for values of which some cannot be the quantity's; None if all can.

    Args:
        present: ``[n]``, without NaN.
        limits: Least and greatest value that is possible.
        quantity: ``"lst"`` or a guide's name.
        kind: Kind of the error.
        field: Names the values in it.
        path: Their file.
    """
    low, high = limits
    outside = (present < low) | (present > high)
    if not outside.any():
        return None
    known = GUIDES.get(quantity)
    meaning, unit = "temperatures in kelvin", " kelvin"
    if quantity != "lst":
        meaning = known.long_name if known else quantity
        unit = f" {known.units}" if known and known.units != "1" else ""
    return kind(
        f"these values cannot be {meaning}",
        path=path,
        field=field,
        found=f"{np.count_nonzero(outside)} of {present.size} values outside the range; values "
        f"run from {present.min():.6g} to {present.max():.6g}, median {np.median(present):.6g}",
        expected=f"{low:g} to {high:g}{unit}, NaN where missing",
        action=_range_advice(present, outside, quantity),
    )


def _range_advice(present: NDArray[np.floating], outside: NDArray[np.bool_], quantity: str) -> str:
    known = GUIDES.get(quantity)
    if quantity != "lst":
        return known.hint if known else "See the model's contract."
    numbers, counts = np.unique(present[outside], return_counts=True)
    if np.count_nonzero(outside) <= present.size / 2:
        common = float(numbers[np.argmax(counts)])
        return (
            f"Mark fill values and other outliers as NaN: {counts.max()} pixels hold {common:g} "
            f"(--nodata {common:g}, or lst.where(lst != {common:g}))."
        )
    if not present.any():
        return "All of them are 0: that is no temperature, but a raster without a value."
    readings = kelvin_readings(present)
    return readings_text(readings, python=True) or (
        "Convert them to kelvin: give their scale, offset and unit."
    )


def readings_text(readings: list[Reading], *, python: bool = False) -> str:
    """Says in a sentence or more what the numbers may be, and what to give then."""
    sentences = []
    for each in readings:
        gives = f"{each.low:.1f} to {each.high:.1f} K"
        if each.unit == "fahrenheit":
            sentences.append(
                "If they are degrees Fahrenheit, convert them first: K = (F + 459.67) / 1.8."
            )
            continue
        steps = [] if each.scale == 1 else [f"multiply by {each.scale:g}"]
        shift = each.offset + (_ZERO_CELSIUS if each.unit == "celsius" else 0)
        steps += [f"add {shift:g}"] if shift else []
        of = "degrees Celsius" if each.unit == "celsius" else "kelvin"
        options = shell_text(each.options)
        step = f"{' and '.join(steps)}, or give {options}" if python and steps else options
        sentences.append(f"If they are {of}, {step}: that gives {gives}.")
    return " ".join(sentences)


def shell_text(options: Mapping[str, str]) -> str:
    """Returns options as the command line takes them."""
    return " ".join(f"--{name} {value}" for name, value in options.items())


def array_values(
    raster: xr.DataArray,
    quantity: str,
    kind: type[LstsrError] = GridError,
    *,
    role: str,
    check: bool = True,
) -> NDArray[np.float32]:
    """Takes kelvin, or a guide's values, out of a raster that a caller gives.

    Numbers that the raster's own attributes call missing become NaN: ``_FillValue``,
    ``missing_value``, ``flag_values``, and what lies outside ``valid_range``. Scales are not
    applied: values are to be physical.

    Args:
        raster: Of any shape.
        quantity: ``"lst"`` or a guide's name; of another name only attributes are read.
        kind: Kind of the error.
        role: Names the raster in it if it has no name.
        check: Whether to refuse values that the quantity cannot have.

    Returns:
        Float32 of the same shape, NaN where missing; infinities stay.

    Raises:
        LstsrError: Of that kind, if a finite value cannot be the quantity's.
    """
    stored = np.asarray(raster.values)
    values = np.array(stored, dtype=np.float32)
    missing = is_one_of(stored, told_fills(raster.attrs))
    if quantity == "lst" or quantity in GUIDES:
        factors = [
            numbers_of(raster.attrs.get(name, raster.encoding.get(name, ())))
            for name in ("scale_factor", "add_offset")
        ]
        scale, offset = (factors[0] or [1.0])[0], (factors[1] or [0.0])[0]
        packed = (stored - offset) / scale if scale else stored
        missing |= outside_told(packed, values, missing, told_range(raster.attrs), quantity)
    values[missing] = np.nan
    limits = VALID_LST_KELVIN if quantity == "lst" else None
    if quantity in GUIDES:
        limits = GUIDES[quantity].valid_range
    if check and limits is not None:
        refusal = range_refusal(
            values[np.isfinite(values)],
            limits,
            quantity,
            kind,
            field=str(raster.name or role),
            path=raster.encoding.get("source"),
        )
        if refusal is not None:
            raise refusal
    return values
