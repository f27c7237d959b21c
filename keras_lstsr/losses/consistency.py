"""Reductions of a fine image to the coarse grid, differentiable, on any backend.

``keras_lstsr.grids.resample`` defines norm-L4 and the block mean; these agree with it.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import CUBIC_A

# Temperatures are divided by this before the fourth power, which keeps float32 well scaled.
_REFERENCE_KELVIN = 300.0
# Inside the fourth root, in units of (300 K)⁴: a prediction of 0 K keeps a finite gradient, and a
# real temperature moves by less than float32 resolves.
_ROOT_EPSILON = 1e-12


def _blocks(values: Any, factor: int) -> Any:
    batch, height, width, channels = ops.shape(values)
    for side in (height, width):
        if isinstance(side, int) and side % factor:
            raise ConfigError(
                "the image cannot be cut into whole coarse pixels",
                field="loss.options.scale_factor",
                found=f"{height} × {width} pixels",
                expected=f"multiples of {factor}",
            )
    shape = (batch, height // factor, factor, width // factor, factor, channels)
    return ops.reshape(values, shape)


def block_mean(values: Any, factor: int) -> Any:
    """Means of blocks: ``[B, H, W, C] → [B, H / factor, W / factor, C]``."""
    # Not ops.mean: under JAX it computes in float32 whatever the tensor's type.
    return ops.sum(_blocks(values, factor), axis=(2, 4)) / factor**2


def block_all(valid: Any, factor: int) -> Any:
    """True where a block is valid throughout: ``[B, H, W, C] → [B, H / f, W / f, C]``."""
    return ops.all(_blocks(valid, factor), axis=(2, 4))


def to_radiance(lst_kelvin: Any) -> Any:
    """Black-body radiance by the Stefan-Boltzmann law, that of 300 K being 1."""
    return ops.square(ops.square(lst_kelvin / _REFERENCE_KELVIN))


def from_radiance(radiance: Any) -> Any:
    """Temperature in kelvin of a radiance from ``to_radiance``, with a finite slope at 0."""
    return ops.sqrt(ops.sqrt(radiance + _ROOT_EPSILON)) * _REFERENCE_KELVIN


def norm_l4(lst_kelvin: Any, factor: int) -> Any:
    """Fourth root of the mean fourth power of blocks, as radiance adds up.

    Args:
        lst_kelvin: LST in kelvin, ``[B, H, W, C]``, without NaN.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        ``[B, H / factor, W / factor, C]`` in kelvin.

    Source: Stefan-Boltzmann law; Nguyen et al. (2022), section III-B.3.
    """
    return from_radiance(block_mean(to_radiance(lst_kelvin), factor))


def bicubic_reduction(values: Any, factor: int) -> Any:
    """Samples a fine image by cubic convolution at the centres of coarse pixels.

    No antialiasing: four taps each way around the centre, a = −0.75, clamped edges. With factor 4
    these are the block's own pixels with weights (−3, 19, 19, −3) / 32. It is what the report's
    code reduced its prediction by; unlike norm-L4 it is no model of a sensor.

    Args:
        values: ``[B, H, W, C]`` without NaN.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        ``[B, H / factor, W / factor, C]``.
    """
    return _sample(_sample(values, factor, axis=1), factor, axis=2)


def _cubic(distance: float) -> float:
    x = abs(distance)
    if x <= 1:
        return (CUBIC_A + 2) * x**3 - (CUBIC_A + 3) * x**2 + 1
    return CUBIC_A * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def _sample(values: Any, factor: int, axis: int) -> Any:
    def window(tensor: Any, start: int | None, stop: Any, step: int | None = None) -> Any:
        index: list[slice] = [slice(None)] * 4
        index[axis] = slice(start, stop, step)
        return tensor[tuple(index)]

    first, last = window(values, 0, 1), window(values, -1, None)
    padded = ops.concatenate([first, values, last, last], axis=axis)
    centre = (factor - 1) / 2
    below = (factor - 1) // 2  # fine pixel at or before the centre
    coarse = ops.shape(values)[axis] // factor
    result = 0.0
    for tap in range(-1, 3):
        weight = _cubic(below + tap - centre)
        if weight != 0.0:
            # One pixel of padding in front: fine pixel p lies at p + 1.
            sampled = window(padded, below + tap + 1, None, factor)
            result = result + weight * window(sampled, None, coarse)
    return result


def coarse_slope(lst_kelvin: Any, ndvi: Any, valid: Any, ridge: float = 1e-4) -> Any:
    """Least-squares slope of LST on NDVI over the coarse pixels of each sample.

    Args:
        lst_kelvin: Coarse LST in kelvin, ``[B, h, w, 1]``, finite.
        ndvi: Coarse NDVI, ``[B, h, w, 1]``, finite.
        valid: Coarse pixels that take part, ``[B, h, w, 1]``.
        ridge: Added to NDVI's variance; 1e-4 is a standard deviation of 0.01. It pulls the slope
            to zero where NDVI is flat and says nothing about temperature.

    Returns:
        Kelvin per NDVI, ``[B, 1, 1, 1]``; 0 where fewer than two pixels are valid.
    """
    weights = keras.ops.cast(valid, lst_kelvin.dtype)
    axes = (1, 2, 3)
    count = ops.maximum(ops.sum(weights, axis=axes, keepdims=True), 1.0)

    def anomaly(values: Any) -> Any:
        # Twice: the second pass removes what float32 left of a mean near 300.
        for _ in range(2):
            values = values - ops.sum(values * weights, axis=axes, keepdims=True) / count
        return values * weights

    lst, green = anomaly(lst_kelvin), anomaly(ndvi)
    covariance = ops.sum(lst * green, axis=axes, keepdims=True) / count
    variance = ops.sum(ops.square(green), axis=axes, keepdims=True) / count
    return covariance / (variance + ridge)
