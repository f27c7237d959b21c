"""NDVI as a guide: what the losses that learn from it share."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.consistency import block_all, block_mean, coarse_slope, norm_l4
from keras_lstsr.losses.masking import PLACEHOLDER_KELVIN, replace_missing, valid_mask
from keras_lstsr.losses.options import number, one_of


def ndvi_scale(value: Any) -> float | str:
    """Checks the option ``ndvi_scale_kelvin``: kelvin per NDVI, or ``"fitted"``."""
    if isinstance(value, str):
        return one_of("ndvi_scale_kelvin", value, ("fitted",))
    return number("ndvi_scale_kelvin", value)


def kelvin_per_ndvi(scale: float | str, y_true: Any, factor: int) -> Any:
    """Kelvin per unit of NDVI: the number given, or fitted to each sample at the coarse scale.

    The fit does not see the prediction, so no gradient flows through it.

    Returns:
        A scalar, or ``[B, 1, 1, 1]``: the least-squares slope of coarse LST (norm-L4) on coarse
        NDVI (mean) over the coarse pixels where all fine ones are there.
    """
    lst, ndvi = y_true[..., :1], y_true[..., 1:2]
    if scale != "fitted":
        return ops.cast(scale, lst.dtype)
    observed = ops.logical_and(valid_mask(lst), valid_mask(ndvi))
    coarse_lst = norm_l4(replace_missing(lst, observed, PLACEHOLDER_KELVIN), factor)
    coarse_ndvi = block_mean(replace_missing(ndvi, observed, 0.0), factor)
    return ops.stop_gradient(coarse_slope(coarse_lst, coarse_ndvi, block_all(observed, factor)))


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
