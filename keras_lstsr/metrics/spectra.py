"""Fourier spectra of temperature maps: how much detail there is at a scale, and how much is true.

Both functions work ring by ring: a ring holds the modes whose frequency, in cycles a pixel along
any direction, rounds to the same multiple of ``0.5 / rings``. Ring ``rings`` is at Nyquist's
frequency, two pixels a cycle; frequency 0 and the corners beyond Nyquist are left out. Images of
one pixel size and equal ``rings`` share their frequencies, whatever their sizes, so that their
spectra can be averaged.

An image is no torus and may have gaps. So before the transform the mean is taken off, and what is
left is multiplied by a Hann window that falls to zero at the border and by a taper that falls to
zero within ``GAP_TAPER_PIXELS`` of a gap; gaps themselves are zero, which is the mean. Ring 1 sees
little of what it should: the window spreads each mode over its neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.metrics.image import scored

GAP_TAPER_PIXELS = 8.0
"""Half a period of the cosine that brings an image to its mean beside a gap, in pixels."""

SMALLEST_SIDE_PIXELS = 8


def radial_power_spectrum(
    image_kelvin: ArrayLike, pixel_size_m: float, *, rings: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean power of the modes by frequency.

    Scaled so that white noise of variance σ² has power σ² in every ring, with and without gaps: the
    mean power over all modes is the variance.

    Args:
        image_kelvin: ``[H, W]`` in kelvin (or any other unit), NaN where missing.
        pixel_size_m: Side of a pixel in metres.
        rings: Number of rings up to Nyquist's frequency; None takes half the shorter side, the
            finest that the image can tell apart.

    Returns:
        Frequencies in cycles per kilometre ``[rings]``, rising, and power in K² ``[rings]``. Power
        is NaN in a ring without a mode, and everywhere where nothing is valid.

    Raises:
        GridError: If the image is not two-dimensional, or a side has fewer than 8 pixels.
        ConfigError: If the pixel size is not positive, or ``rings`` is below 1.
    """
    image = np.asarray(image_kelvin, dtype=np.float64)
    _check_image(image)
    ring, multiplicity, frequency_per_km = _rings(image.shape, pixel_size_m, rings)
    modes, energy = _modes(image, np.isfinite(image))
    power = _ring_sums(np.abs(modes) ** 2 * multiplicity, ring, len(frequency_per_km))
    count = _ring_sums(np.broadcast_to(multiplicity, ring.shape), ring, len(frequency_per_km))
    if energy == 0:
        return frequency_per_km, np.full_like(frequency_per_km, np.nan)
    return frequency_per_km, _ratio(power, count * energy)


def fourier_ring_correlation(
    truth_kelvin: ArrayLike,
    prediction_kelvin: ArrayLike,
    pixel_size_m: float,
    *,
    rings: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlation of truth and prediction by frequency, in phase and direction.

    ``FRC = Σ Re(F_T conj F_P) / √(Σ|F_T|² Σ|F_P|²)`` over the modes of a ring. 1 where the
    prediction's detail is the truth's up to a factor, 0 where it has nothing to do with it.

    Both images ``[H, W]`` are taken where both are there. See :func:`radial_power_spectrum` for
    the other arguments.

    Returns:
        Frequencies in cycles per kilometre ``[rings]``, rising, and correlation −1 to 1
        ``[rings]``. The latter is NaN where a ring has no mode or an image no power in it.

    Raises:
        GridError: If the shapes differ; or as of :func:`radial_power_spectrum`.
        ConfigError: As of :func:`radial_power_spectrum`.

    Source: Saxton & Baumeister (1982), doi:10.1111/j.1365-2818.1982.tb00405.x, eq. 1.
    """
    truth, prediction, _ = scored(truth_kelvin, prediction_kelvin)
    _check_image(truth)
    ring, multiplicity, frequency_per_km = _rings(truth.shape, pixel_size_m, rings)
    count = len(frequency_per_km)
    valid = np.isfinite(truth) & np.isfinite(prediction)
    true_modes, _ = _modes(truth, valid)
    modes, _ = _modes(prediction, valid)
    cross = _ring_sums((true_modes * modes.conj()).real * multiplicity, ring, count)
    true_power = _ring_sums(np.abs(true_modes) ** 2 * multiplicity, ring, count)
    power = _ring_sums(np.abs(modes) ** 2 * multiplicity, ring, count)
    return frequency_per_km, np.clip(_ratio(cross, np.sqrt(true_power * power)), -1.0, 1.0)


def _check_image(image: NDArray[np.float64]) -> None:
    if image.ndim != 2 or min(image.shape) < SMALLEST_SIDE_PIXELS:
        raise GridError(
            "the image has no spectrum",
            found=f"shape {image.shape}",
            expected=f"[H, W] of at least {SMALLEST_SIDE_PIXELS} pixels a side",
        )


def _rings(
    shape: tuple[int, ...], pixel_size_m: float, rings: int | None
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Ring of each mode of ``rfft2`` (0: none), how often it counts, and the rings' frequencies."""
    height, width = shape
    if not pixel_size_m > 0:
        raise ConfigError("the pixel size is not positive", found=pixel_size_m, expected="metres")
    count = min(shape) // 2 if rings is None else rings
    if count < 1:
        raise ConfigError("too few rings", field="rings", found=rings, expected="at least 1")
    along_y, along_x = fft.fftfreq(height), fft.rfftfreq(width)
    ring = np.rint(np.hypot(along_y[:, None], along_x) * 2 * count).astype(np.int32)
    ring[ring > count] = 0
    # rfft2 leaves out the half of the plane that mirrors the other; Nyquist's column has no mirror.
    multiplicity = np.full(len(along_x), 2.0)
    multiplicity[0] = 1.0
    if width % 2 == 0:
        multiplicity[-1] = 1.0
    frequency_per_pixel = np.arange(1, count + 1) / (2 * count)
    return ring, multiplicity, frequency_per_pixel * 1000 / pixel_size_m


def _window(valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    height, width = valid.shape
    rows, columns = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width))
    window = rows[:, None] * columns
    if not valid.all():
        distance = np.asarray(ndimage.distance_transform_edt(valid)) - 0.5
        share = np.clip(distance / GAP_TAPER_PIXELS, 0.0, 1.0)
        window *= np.sin(0.5 * np.pi * share) ** 2
    return window


def _modes(
    image: NDArray[np.float64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.complex128], float]:
    """Modes ``[H, W // 2 + 1]`` of the windowed image less its mean, and the window's energy."""
    window = _window(valid)
    weight = float(window.sum())
    if weight == 0:
        return np.zeros((image.shape[0], image.shape[1] // 2 + 1), np.complex128), 0.0
    # Around a value of the image first: a constant then leaves zeros, no noise of rounding.
    centred = np.where(valid, image - image.flat[valid.argmax()], 0.0)
    mean = float(np.sum(centred * window)) / weight
    return fft.rfft2((centred - mean) * window), float(np.sum(window**2))


def _ring_sums(
    values: NDArray[np.float64], ring: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    sums = np.bincount(ring.ravel(), values.ravel(), minlength=count + 1)
    return np.asarray(sums[1:], dtype=np.float64)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full_like(numerator, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)
