"""Whether a raster's stored numbers, as they are read, can be the quantity that they pass for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import ProductError
from keras_lstsr.grids.values import (
    VALID_LST_KELVIN,
    Reading,
    guide_readings,
    is_one_of,
    kelvin_readings,
    readings_text,
    shell_text,
    stand_outs,
    told_fills,
)
from keras_lstsr.products.band import RasterBand
from keras_lstsr.products.raster_options import RasterOptions
from keras_lstsr.products.scene import Packing


@dataclass(frozen=True)
class StoredNumbers:
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
                    action=f"Pass nodata={each.stored:g} ({self.option('nodata')} "
                    f"{each.stored:g}) if it means missing, or nodata=nan "
                    f"({self.option('nodata')} nan) if it was measured.",
                )
        return " ".join(
            f"{each.text} in {self.band.path.name}, far more than hold any number beside it: if "
            f"that means missing, pass {self.option('nodata')} {each.stored:g}."
            for each in found[:2]
        )

    @property
    def _title(self) -> str:
        return "temperature" if self.quantity == "lst" else GUIDES[self.quantity].long_name

    def option(self, name: str) -> str:
        """Returns an option of the command line as it is called for the quantity."""
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
                action=f"Pass scale=1 ({self.option('scale')} 1) to leave the tag out.",
            )


def _check_kelvin(
    numbers: StoredNumbers, values: NDArray[np.float32], present: NDArray[np.bool_]
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
        options = each.options
        if nodata_zero and "scale" in options:
            options["nodata"] = "0"
        python = ", ".join(
            f'{name}="{value}"' if name == "unit" else f"{name}={value}"
            for name, value in options.items()
        )
        of = "degrees Celsius" if each.unit == "celsius" else "kelvin"
        sentences.append(
            f"Pass {python} ({shell_text(options)}) if they are {of}: that gives {each.low:.1f} to "
            f"{each.high:.1f} K."
        )
    return " ".join(sentences)


def _check_guide(numbers: StoredNumbers, found: NDArray[np.float32]) -> None:
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
        f"({numbers.option('scale')} {each.scale:g}"
        + (f" {numbers.option('offset')} {each.offset:g}" if each.offset else "")
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


def _there(numbers: StoredNumbers) -> NDArray[np.bool_]:
    stored = numbers.band.stored
    there = ~numbers.packing.is_fill(stored) & ~is_one_of(stored, told_fills(numbers.band.tags))
    for number in (-3000, -9999, -32768, 32767, 65535, 255, 254):  # fill values without a tag
        there &= stored != number
    return there
