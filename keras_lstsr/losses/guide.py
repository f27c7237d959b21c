"""NDVI as a guide: what the losses that learn from it share."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.consistency import (
    block_all,
    block_mean,
    coarse_slope,
    norm_l4,
    window_slopes,
)
from keras_lstsr.losses.masking import PLACEHOLDER_KELVIN, replace_missing, valid_mask
from keras_lstsr.losses.options import number, one_of

WINDOWS = "windows"
"""Kelvin per NDVI fitted in each window, not once per sample."""


def ndvi_scale(value: Any, fits: tuple[str, ...] = ("fitted",)) -> float | str:
    """Checks the option ``ndvi_scale_kelvin``: kelvin per NDVI, or how it is to be fitted."""
    if isinstance(value, str):
        return one_of("ndvi_scale_kelvin", value, fits)
    return number("ndvi_scale_kelvin", value)


def kelvin_per_ndvi(
    scale: float | str, y_true: Any, factor: int, window_pixels: int | None = None
) -> Any:
    """Kelvin per unit of NDVI: the number given, or fitted to each sample at the coarse scale.

    ``"windows"`` fits it in the window of so many coarse pixels around each, see
    ``keras_lstsr.losses.consistency.window_slopes``.

    The fit does not see the prediction, so no gradient flows through it.

    Returns:
        A scalar, or ``[B, 1, 1, 1]``: the least-squares slope of coarse LST (norm-L4) on coarse
        NDVI (mean) over the coarse pixels where all fine ones are there; of windows ``[B, H, W,
        1]``, between coarse pixels bilinear.
    """
    lst, ndvi = y_true[..., :1], y_true[..., 1:2]
    if not isinstance(scale, str):
        return ops.cast(scale, lst.dtype)
    observed = ops.logical_and(valid_mask(lst), valid_mask(ndvi))
    coarse_lst = norm_l4(replace_missing(lst, observed, PLACEHOLDER_KELVIN), factor)
    coarse_ndvi = block_mean(replace_missing(ndvi, observed, 0.0), factor)
    counted = block_all(observed, factor)
    if scale != WINDOWS:
        return ops.stop_gradient(coarse_slope(coarse_lst, coarse_ndvi, counted))
    assert window_pixels is not None
    slopes = window_slopes(coarse_lst, coarse_ndvi, counted, window_pixels)
    fine = ops.shape(y_true)[1:3]
    fine_slopes = ops.image.resize(
        slopes, fine, interpolation="bilinear", data_format="channels_last"
    )
    return ops.stop_gradient(ops.cast(fine_slopes, lst.dtype))


def ndvi_of_raised_nir(ndvi: Any, nir_factor: float) -> Any:
    """NDVI as it comes out where near infrared is too large by a factor; NaN stays NaN.

    With f the factor and v NDVI it is ``(f (1 + v) − (1 − v)) / (f (1 + v) + (1 − v))``, since
    NIR / red is ``(1 + v) / (1 − v)``: with 200, bare soil of 0.1 becomes 0.99.
    """
    nir, red = nir_factor * (1.0 + ndvi), 1.0 - ndvi
    return (nir - red) / (nir + red)


def check_channels(loss: str, y_true: Any, y_pred: Any) -> None:
    """Checks that the target has NDVI and the prediction one channel."""
    if y_true.shape[-1] is not None and y_true.shape[-1] < 2:
        raise ConfigError(
            f"{loss} needs NDVI as the target's second channel",
            field="loss.name",
            found=f"a target of {y_true.shape[-1]} channel",
            action="Train with records that hold NDVI: the data set adds it to the target.",
        )
    if y_pred.shape[-1] not in (1, None):
        raise ConfigError(
            f"{loss} scores one temperature per pixel",
            field="loss.name",
            found=f"a prediction of {y_pred.shape[-1]} channels",
            expected="[B, H, W, 1]",
        )
