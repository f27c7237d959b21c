"""Reductions of a fine image to the coarse grid, and what LST does there, on any backend.

``keras_lstsr.grids.resample`` defines norm-L4 and the block mean; these agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
# Detail is what departs from the mean of such a window; how far its slope is drawn to the sample's.
_DETAIL_PIXELS, _SAMPLE_SHARE = 3, 0.3
# The Gaussian is cut here; 6e-5 of its weight lies beyond along each axis.
_CUT_SIGMAS = 4.0


def _coarse_sides(values: Any, factor: int) -> list[Any]:
    """Rows and columns of the coarse image, of which there must be whole numbers."""
    height, width = ops.shape(values)[1:3]
    ConfigError.unless(
        not any(isinstance(side, int) and side % factor for side in (height, width)),
        "loss.options.scale_factor",
        f"{height} × {width} pixels",
        f"multiples of {factor}",
        "the image cannot be cut into whole coarse pixels",
    )
    return [height // factor, width // factor]


def _blocks(values: Any, factor: int) -> Any:
    batch, _, _, channels = ops.shape(values)
    rows, columns = _coarse_sides(values, factor)
    return ops.reshape(values, (batch, rows, factor, columns, factor, channels))


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
    """Fourth root of the mean fourth power of blocks, as radiance adds up; without NaN.

    ``[B, H, W, C] → [B, H / factor, W / factor, C]``, both in kelvin.

    Source: Stefan-Boltzmann law; Nguyen et al. (2022), section III-B.3.
    """
    return from_radiance(block_mean(to_radiance(lst_kelvin), factor))


def bicubic_reduction(values: Any, factor: int) -> Any:
    """Samples a fine image by cubic convolution at the centres of coarse pixels.

    No antialiasing: four taps each way around the centre, a = −0.75, clamped edges. With factor 4
    these are the block's own pixels with weights (−3, 19, 19, −3) / 32. It is what the report's
    code reduced its prediction by; unlike norm-L4 it is no model of a sensor.
    ``[B, H, W, C] → [B, H / factor, W / factor, C]``, without NaN.
    """
    centre, below = (factor - 1) / 2, (factor - 1) // 2  # fine pixel at or before the centre
    # One pixel of padding in front: fine pixel p lies at p + 1.
    taps = [(below + tap + 1, _cubic(below + tap - centre)) for tap in range(-1, 3)]
    for axis, coarse in enumerate(_coarse_sides(values, factor), start=1):
        first, last = _part(values, axis, 0, 1), _part(values, axis, -1, None)
        padded = ops.concatenate([first, values, last, last], axis=axis)
        values = _sampled(padded, axis, coarse, factor, taps)
    return values


def _cubic(distance: float) -> float:
    x = abs(distance)
    if x <= 1:
        return (CUBIC_A + 2) * x**3 - (CUBIC_A + 3) * x**2 + 1
    return CUBIC_A * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def _sampled(
    padded: Any, axis: int, coarse: Any, factor: int, taps: Sequence[tuple[int, float]]
) -> Any:
    """Sums weighted fine pixels, each so far from the start of a padded image, for coarse ones."""
    # Sums of shifted fields, not a convolution: GPUs convolve with ten bits, a third of a kelvin.
    result = 0.0
    for tap, weight in taps:
        if weight != 0.0:
            sampled = _part(padded, axis, tap, None, factor)
            result = result + weight * _part(sampled, axis, None, coarse)
    return result


def _part(values: Any, axis: int, start: int | None, stop: Any, step: int | None = None) -> Any:
    index: list[slice] = [slice(None)] * 4
    index[axis] = slice(start, stop, step)
    return values[tuple(index)]


def coarse_slope(lst_kelvin: Any, ndvi: Any, valid: Any, ridge: float = 1e-4) -> Any:
    """Least-squares slope of LST on NDVI over the coarse pixels of each sample that are valid.

    All are ``[B, h, w, 1]`` and finite. The ridge is added to NDVI's variance; 1e-4 is a standard
    deviation of 0.01. It pulls the slope to zero where NDVI is flat and says nothing about
    temperature.

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


def gaussian_sigma(factor: int, mtf_at_nyquist: float) -> float:
    """σ in fine pixels of the Gaussian PSF with that transfer at the coarse Nyquist frequency.

    The transfer of a Gaussian is ``exp(−2 π² σ² f²)``, the Nyquist frequency of pixels ``factor``
    wide is ``1 / (2 · factor)``; so ``σ = factor · sqrt(−2 ln MTF) / π``.
    """
    return factor * math.sqrt(-2.0 * math.log(mtf_at_nyquist)) / math.pi


def gaussian_taps(factor: int, mtf_at_nyquist: float) -> tuple[int, list[float]]:
    """One-dimensional weights of the fine pixels around a coarse pixel's centre.

    Returns:
        How many fine pixels the first tap lies before the coarse pixel's first one, and the
        weights, which add up to 1.
    """
    sigma = gaussian_sigma(factor, mtf_at_nyquist)
    centre = (factor - 1) / 2
    reach = max(0, math.ceil(_CUT_SIGMAS * sigma - centre))
    weights = [
        math.exp(-0.5 * ((pixel - centre) / sigma) ** 2) for pixel in range(-reach, factor + reach)
    ]
    total = math.fsum(weights)
    return reach, [weight / total for weight in weights]


def gaussian_reduction(
    values: Any, valid: Any, factor: int, mtf_at_nyquist: float
) -> tuple[Any, Any]:
    """Reduces a fine field to the coarse grid as a sensor with a Gaussian PSF sees it.

    Missing pixels, and those beyond the border, are left out and the weights of the others
    raised to add up to 1. Values are finite where ``valid`` is False, too.

    Returns:
        The coarse field, 0 where nothing is valid, and the share of the PSF that fell on valid
        pixels, both ``[B, H / factor, W / factor, C]``.
    """
    reach, weights = gaussian_taps(factor, mtf_at_nyquist)

    def seen(field: Any) -> Any:
        for axis, coarse in enumerate(_coarse_sides(field, factor), start=1):
            beyond = [(0, 0)] * 4
            beyond[axis] = (reach, reach)
            field = _sampled(ops.pad(field, beyond), axis, coarse, factor, [*enumerate(weights)])
        return field

    mask = ops.cast(valid, values.dtype)
    share = seen(mask)
    some = share > 0
    total = seen(values * mask)
    return ops.where(some, total, 0.0) / ops.where(some, share, 1.0), share


def seen_by_gaussian(
    lst_kelvin: Any, valid: Any, factor: int, mtf_at_nyquist: float, minimum_coverage: float
) -> tuple[Any, Any]:
    """Reduces temperatures to the coarse grid as a sensor with a Gaussian PSF sees radiance.

    Returns:
        Coarse temperatures in kelvin, finite everywhere, and where ``minimum_coverage`` of the PSF
        falls on valid pixels of the image, both ``[B, H / factor, W / factor, C]``.
    """
    radiance, share = gaussian_reduction(to_radiance(lst_kelvin), valid, factor, mtf_at_nyquist)
    enough = share >= minimum_coverage
    return from_radiance(ops.where(enough, radiance, ops.ones_like(radiance))), enough


def window_slopes(
    lst_kelvin: Any, ndvi: Any, valid: Any, window_pixels: int, ridge: float = 1e-5
) -> Any:
    """Slope of LST's detail on NDVI's in each coarse pixel's window.

    All are ``[B, h, w, 1]`` and finite. Detail is what a pixel departs by from the mean of its
    3 × 3 neighbours that are valid: what holds from pixel to pixel holds closer to the finer scale
    than a fit of levels does. On pairs of MODIS and ASTER, NDVI's detail times this slope errs by
    1.40 K, times a slope fitted to levels by 1.55 K (bicubic 1.61 K). The slope is
    ``(c + p C) / (v + p V + ridge)`` with the window's mean products c and v, those of the whole
    sample, C and V, and p = 0.3: where NDVI hardly varies nearby, the sample's slope holds.

    Args:
        lst_kelvin: Temperatures.
        ndvi: NDVI.
        valid: Pixels that count.
        window_pixels: Side of the window, odd.
        ridge: Added to the variance of NDVI's detail; 1e-5 is a standard deviation of 0.003.

    Returns:
        Kelvin per NDVI, ``[B, h, w, 1]``; 0 where nothing is valid.
    """
    weights = ops.cast(valid, lst_kelvin.dtype)

    def detail(values: Any) -> Any:
        # Anomalies keep the digits of a mean near 300.
        values = (values - _mean_of(values * weights, weights)) * weights
        return (values - _window_means(values, weights, _DETAIL_PIXELS)) * weights

    lst, guide = detail(lst_kelvin), detail(ndvi)
    products = ops.concatenate([lst * guide, guide**2], axis=-1)
    whole = _SAMPLE_SHARE * _mean_of(products, weights)
    nearby = _window_means(products, weights, window_pixels) + whole
    return nearby[..., :1] / (nearby[..., 1:] + ridge)


def _mean_of(products: Any, weights: Any) -> Any:
    """Mean over an image of values that are multiplied by their weights."""
    total = ops.maximum(ops.sum(weights, axis=(1, 2), keepdims=True), 1.0)
    return ops.sum(products, axis=(1, 2), keepdims=True) / total


def _window_means(products: Any, weights: Any, window_pixels: int) -> Any:
    """The same over each pixel's window; 0 where nothing in it has weight."""
    sums = _window_sums(ops.concatenate([products, weights], axis=-1), window_pixels)
    return sums[..., :-1] / ops.maximum(sums[..., -1:], 1.0)


def _window_sums(values: Any, window_pixels: int) -> Any:
    """Sums over each pixel's window; beyond the border there is nothing."""
    reach = window_pixels // 2
    for axis in (1, 2):
        beyond = [(0, 0)] * 4
        beyond[axis] = (reach, reach)
        padded, length = ops.pad(values, beyond), ops.shape(values)[axis]
        shifted = [
            _part(_part(padded, axis, first, None), axis, None, length)
            for first in range(window_pixels)
        ]
        values = sum(shifted[1:], shifted[0])
    return values
