"""Whether values as a whole can be kelvin or a guide's; what can't is refused, not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config.guides import Guide
from keras_lstsr.errors import ProductError
from keras_lstsr.products.scene import Packing

# The median of a scene: the coldest scene on Earth is Antarctica's plateau, about 180 K.
_MEDIAN_KELVIN = (150.0, 400.0)
_CELSIUS = (-90.0, 70.0)
# The scale factors of the LST products in use, with the numbers they give for 200 K to 350 K.
_KNOWN_SCALES = (0.02, 0.1, 0.01)


def check_kelvin(
    values: NDArray[np.float32],
    missing: NDArray[np.bool_],
    stored: NDArray[Any],
    packing: Packing,
    *,
    path: Path,
    untagged: bool,
) -> None:
    """Refuses degrees Celsius and raw integers where kelvin are expected.

    The median decides, so that a few wild pixels refuse no scene. Stored zeros of integer
    rasters are left out, because untagged files mark missing pixels with them.

    Args:
        values: ``[H, W]``, taken for kelvin.
        missing: ``[H, W]``, True where there is no value.
        stored: ``[H, W]`` as on disk.
        packing: How ``values`` came from ``stored``.
        path: The file.
        untagged: Neither tags nor options gave a scale.

    Raises:
        ProductError: If the values can't be kelvin.
    """
    present = ~missing & np.isfinite(values)
    if stored.dtype.kind in "iu":
        present &= stored != 0
    found = values[present]
    if not found.size:
        return
    median = float(np.median(found))
    if _MEDIAN_KELVIN[0] <= median <= _MEDIAN_KELVIN[1]:
        return
    text = f"values from {found.min():g} to {found.max():g}, median {median:g}"
    if _CELSIUS[0] <= median <= _CELSIUS[1]:
        raise ProductError(
            "the values look like degrees Celsius instead of kelvin",
            path=path,
            found=text,
            expected="land surface temperature in kelvin",
            action='Pass unit="celsius" (--unit celsius) to convert them.',
        )
    if untagged:
        advice = _scale_advice(float(np.median(stored[present])))
        raise ProductError(
            "the values are raw integers instead of kelvin, and no tag gives their scale",
            path=path,
            found=text,
            expected="land surface temperature in kelvin",
            action=f"Pass {advice}.",
        )
    raise ProductError(
        "the values are not temperatures in kelvin",
        path=path,
        found=f"{text}, with scale {packing.scale_factor:g} and offset {packing.add_offset:g}",
        expected="land surface temperature in kelvin",
        action="Pass the right scale, offset, nodata and unit.",
    )


def _scale_advice(median_stored: float) -> str:
    fitting = [scale for scale in _KNOWN_SCALES if 200 <= median_stored * scale <= 350]
    if fitting:
        scale = fitting[0]
        options = f"--scale {scale:g} --nodata 0"
        return f"scale={scale:g}, nodata=0 ({options}) if these are the product's"
    return "scale, offset and nodata as the product's user guide gives them"


def check_guide(
    values: NDArray[np.float32],
    missing: NDArray[np.bool_],
    guide: Guide,
    *,
    path: Path,
    untagged: bool,
) -> None:
    """Refuses values that as a whole can't be a guide's, such as raw integers.

    Args:
        values: ``[H, W]``, taken for the guide.
        missing: ``[H, W]``, True where there is no value.
        guide: What the values should be.
        path: The file.
        untagged: Neither tags nor options gave a scale.

    Raises:
        ProductError: If the values can't be the guide's: the median is out of its range.
    """
    found = values[~missing & np.isfinite(values)]
    low, high = guide.valid_range
    if not found.size or low <= float(np.median(found)) <= high:
        return
    raise ProductError(
        f"the values are raw integers instead of {guide.long_name}, and no tag gives their scale"
        if untagged
        else f"the values are not {guide.long_name}",
        path=path,
        found=f"values from {found.min():g} to {found.max():g}",
        expected=f"{low:g} to {high:g}",
        action=f"{guide.hint} The options scale and nodata do both.",
    )
