"""What a sensor sees of a fine field: a point spread function at the coarse pixels' centres."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from keras_lstsr.errors import ConfigError

# The Gaussian is cut here; 6e-5 of its weight lies beyond along each axis.
_CUT_SIGMAS = 4.0


def gaussian_sigma(factor: int, mtf_at_nyquist: float) -> float:
    """Width of the Gaussian PSF with a given modulation transfer at the coarse Nyquist frequency.

    The transfer of a Gaussian is ``exp(−2 π² σ² f²)``, the Nyquist frequency of pixels ``factor``
    wide is ``1 / (2 · factor)``; so ``σ = factor · sqrt(−2 ln MTF) / π``.

    Args:
        factor: Fine pixels along a coarse pixel's side.
        mtf_at_nyquist: 0 to 1, both excluded.

    Returns:
        σ in fine pixels.
    """
    return factor * math.sqrt(-2.0 * math.log(mtf_at_nyquist)) / math.pi


def gaussian_taps(factor: int, mtf_at_nyquist: float) -> tuple[int, list[float]]:
    """One-dimensional weights of the fine pixels around a coarse pixel's centre.

    Args:
        factor: Fine pixels along a coarse pixel's side.
        mtf_at_nyquist: See ``gaussian_sigma``.

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


def _window(values: Any, axis: int, start: int | None, stop: Any, step: int | None = None) -> Any:
    index: list[slice] = [slice(None)] * 4
    index[axis] = slice(start, stop, step)
    return values[tuple(index)]


def _sample(values: Any, factor: int, reach: int, weights: list[float], axis: int) -> Any:
    side = ops.shape(values)[axis]
    if isinstance(side, int) and side % factor:
        raise ConfigError(
            "the image cannot be cut into whole coarse pixels",
            field="loss.options.scale_factor",
            found=f"a side of {side} pixels",
            expected=f"a multiple of {factor}",
        )
    beyond = [(0, 0)] * 4
    beyond[axis] = (reach, reach)
    padded = ops.pad(values, beyond)
    coarse = side // factor
    # Sums of shifted fields, not a convolution: GPUs convolve with ten bits, a third of a kelvin.
    result = 0.0
    for tap, weight in enumerate(weights):
        sampled = _window(padded, axis, tap, None, factor)
        result = result + weight * _window(sampled, axis, None, coarse)
    return result


def gaussian_reduction(
    values: Any, valid: Any, factor: int, mtf_at_nyquist: float
) -> tuple[Any, Any]:
    """Reduces a fine field to the coarse grid as a sensor with a Gaussian PSF sees it.

    Missing pixels, and those beyond the border, are left out and the weights of the others
    raised to add up to 1.

    Args:
        values: ``[B, H, W, C]``, finite where ``valid`` is False too.
        valid: Booleans of the same shape.
        factor: Fine pixels along a coarse pixel's side.
        mtf_at_nyquist: Modulation transfer at the coarse Nyquist frequency, 0 to 1.

    Returns:
        The coarse field, 0 where nothing is valid, and the share of the PSF that fell on valid
        pixels, both ``[B, H / factor, W / factor, C]``.
    """
    reach, weights = gaussian_taps(factor, mtf_at_nyquist)

    def seen(field: Any) -> Any:
        return _sample(_sample(field, factor, reach, weights, 1), factor, reach, weights, 2)

    mask = ops.cast(valid, values.dtype)
    share = seen(mask)
    some = share > 0
    total = seen(values * mask)
    return ops.where(some, total, 0.0) / ops.where(some, share, 1.0), share
