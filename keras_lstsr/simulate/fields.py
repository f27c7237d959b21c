"""Random fields with power-law spectra, and the random streams that they are drawn from."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class RandomStreams:
    """Independent generators that are named, so that one layer's draws never shift another's.

    Args:
        key: Non-negative integers that identify what is drawn, e.g. ``(seed, h, v)`` for a
            tile's ground or ``(seed, h, v, date ordinal)`` for one day's weather.
    """

    key: tuple[int, ...]

    def generator(self, name: str) -> np.random.Generator:
        """Returns the generator of one layer; the same name always starts at the same state."""
        # CRC-32 and not hash(): the latter is salted anew in each Python process.
        entropy = [*self.key, zlib.crc32(name.encode())]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def power_law_field(
    generator: np.random.Generator, pixels: int, exponent: float, outer_scale_pixels: float
) -> Float32Array:
    """Draws a Gaussian field whose 2-D power spectrum falls as a power of the wavenumber.

    The spectrum is von Kármán's, ``P(k) ~ (k² + k0²)^(−exponent/2)`` with
    ``k0 = 1 / outer_scale_pixels``: a power law below the outer scale and level above it, so
    that small and large domains have the same texture at the scale of a valley.

    Args:
        generator: Source of the white noise.
        pixels: Pixels along a side.
        exponent: Slope of the 2-D power spectrum: about 3 for LST, above 3 for smoother fields.
        outer_scale_pixels: Wavelength above which the spectrum levels off.

    Returns:
        ``[pixels, pixels]``, mean 0 and standard deviation 1, periodic.
    """
    noise = generator.standard_normal((pixels, pixels), dtype=np.float32)
    # One worker: the result must not depend on how many cores there are.
    spectrum = scipy.fft.rfft2(noise, workers=1, overwrite_x=True)
    ky = scipy.fft.fftfreq(pixels).astype(np.float32)[:, None]
    kx = scipy.fft.rfftfreq(pixels).astype(np.float32)[None, :]
    wavenumber_squared = ky**2 + kx**2 + np.float32(1.0 / outer_scale_pixels) ** 2
    spectrum *= wavenumber_squared ** np.float32(-exponent / 4)
    spectrum[0, 0] = 0
    field: Float32Array = scipy.fft.irfft2(
        spectrum, s=(pixels, pixels), workers=1, overwrite_x=True
    )
    field -= field.mean(dtype=np.float64).astype(np.float32)
    field /= field.std(dtype=np.float64).astype(np.float32)
    return field


def sigmoid(values: NDArray[np.floating]) -> Float32Array:
    """Logistic function in float32, in one temporary array."""
    result = np.exp(-np.asarray(values, dtype=np.float32))
    result += 1
    return np.reciprocal(result, out=result)


def uniform_hash(*keys: NDArray[np.integer] | int) -> Float32Array:
    """Turns integer keys that broadcast into uniform numbers in [0, 1), alike where the keys are.

    It gives every field parcel its own random crop without a table of parcels.

    Source: the finalisation step of MurmurHash3 (Austin Appleby, public domain algorithm).
    """
    state: NDArray[np.uint32] = np.zeros(
        np.broadcast_shapes(*(np.shape(k) for k in keys)), np.uint32
    )
    for key in keys:
        state ^= np.asarray(key).astype(np.uint32) * np.uint32(0x9E3779B1)
        state ^= state >> np.uint32(16)
        state *= np.uint32(0x85EBCA6B)
        state ^= state >> np.uint32(13)
        state *= np.uint32(0xC2B2AE35)
        state ^= state >> np.uint32(16)
    return (state >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
