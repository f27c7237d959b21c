"""Degradation and upsampling of rasters by an integer factor, in NumPy and NaN-aware.

These are the definitions; the layers in ``keras_lstsr.models.layers`` are tested against them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array

from keras_lstsr.errors import ConfigError, GridError

# The cubic convolution parameter of OpenCV's INTER_CUBIC. With it, bicubic on the 2022 paper's
# example patches gives the published 25.41 dB; Keys' -0.5 gives 25.28 dB.
CUBIC_A = -0.75
# Coarse rows that are averaged at a time, which bounds the memory for the guide in float64.
_STRIP_ROWS = 64

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
# A bicubic kernel reaches two pixels from the pixel that it refines.
_REACH_PIXELS = 2
_NEIGHBOURS = np.array([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]])


def blocks(values: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """Returns a view ``[..., H / factor, W / factor, factor, factor]`` of ``[..., H, W]``.

    Raises:
        GridError: If ``H`` or ``W`` is no multiple of ``factor``.
    """
    height, width = values.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise GridError(
            "the raster cannot be cut into whole blocks",
            found=f"{height} × {width} pixels",
            expected=f"multiples of {factor}",
            action="Crop the raster first.",
        )
    shape = (*values.shape[:-2], height // factor, factor, width // factor, factor)
    return np.moveaxis(values.reshape(shape), -3, -2)


def finer_window(window: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
    """Returns rows and columns of fine pixels that lie under a window of coarse ones."""
    rows, columns = (slice(part.start * factor, part.stop * factor) for part in window)
    return rows, columns


def norm_l4(lst_kelvin: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """Degrades temperature as radiance adds up: the fourth root of the mean fourth power.

    Args:
        lst_kelvin: LST in kelvin, ``[..., H, W]``; NaN where there is none.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        LST in kelvin, ``[..., H / factor, W / factor]``, of the same float type. NaN where any
        fine pixel of the block is NaN.

    Raises:
        GridError: If ``H`` or ``W`` is no multiple of ``factor``.

    Source: Stefan-Boltzmann law; Nguyen et al. (2022), section III-B.3.
    """
    fourth_powers = blocks(lst_kelvin, factor).astype(np.float64) ** 4
    coarse = np.mean(fourth_powers, axis=(-2, -1)) ** 0.25
    return coarse.astype(lst_kelvin.dtype)


def block_mean(values: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """Averages blocks of ``factor`` × ``factor`` pixels, e.g. of NDVI.

    Args:
        values: ``[..., H, W]``; NaN where there is none.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        ``[..., H / factor, W / factor]``; NaN where any fine pixel of the block is NaN.

    Raises:
        GridError: If ``H`` or ``W`` is no multiple of ``factor``.
    """
    return np.mean(blocks(values, factor), axis=(-2, -1), dtype=np.float64).astype(values.dtype)


def coarse_guide(guide: NDArray[np.floating], factor: int) -> NDArray[np.float64]:
    """Returns the mean of guides over LST's pixels, ``[K, h, w]``; see the next function."""
    return coarse_guide_and_share(guide, factor)[0]


def coarse_guide_and_share(
    guide: NDArray[np.floating], factor: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Averages guides over LST's pixels.

    Args:
        guide: ``[H, W]`` or ``[K, H, W]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        ``[K, h, w]`` float64: the mean over the fine pixels where all guides are there, NaN
        where there is none; and ``[h, w]``, the share of fine pixels in 0…1 behind it. A linear
        trend of the mean is the mean of the trend over those pixels, so that what is predicted
        for a coarse pixel adds up to it.

    Raises:
        GridError: If a side is no multiple of ``factor``.
    """
    bands = guide[None] if guide.ndim == 2 else guide
    fine = blocks(bands, factor)
    mean = np.empty(fine.shape[:3])
    share = np.empty(fine.shape[1:3])
    for top in range(0, len(share), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        strip = fine[:, rows].astype(np.float64)
        there = np.isfinite(strip).all(axis=0)
        pixels = there.sum(axis=(2, 3))
        share[rows] = pixels / factor**2
        total = np.where(there, strip, 0.0).sum(axis=(3, 4))
        with np.errstate(invalid="ignore"):
            mean[:, rows] = np.where(pixels > 0, total / np.where(pixels > 0, pixels, 1), np.nan)
    return mean, share


def upsample_nearest(values: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """Repeats each pixel ``factor`` × ``factor`` times; NaN stays NaN."""
    return np.repeat(np.repeat(values, factor, axis=-2), factor, axis=-1)


def cubic_kernel(distance: NDArray[np.floating], a: float = CUBIC_A) -> NDArray[np.floating]:
    """Cubic convolution kernel at distances in coarse pixels (Keys 1981, eq. 15 with free a)."""
    x = np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def linear_kernel(distance: NDArray[np.floating]) -> NDArray[np.floating]:
    """Triangular kernel of bilinear interpolation at distances in coarse pixels."""
    return np.maximum(1.0 - np.abs(distance), 0.0)


def phase_weights(factor: int, method: str) -> NDArray[np.floating]:
    """Interpolation weights of each sub-pixel phase.

    Args:
        factor: Upsampling factor.
        method: ``"bicubic"`` (a = −0.75) or ``"bilinear"``.

    Returns:
        ``[factor, 5]`` float64: for fine pixel ``p`` inside a coarse pixel, the weights of the
        coarse pixels at offsets −2…2. Rows sum to one. Pixel centres are half-pixel centres.

    Raises:
        GridError: If the method is unknown.
    """
    kernels = {"bicubic": cubic_kernel, "bilinear": linear_kernel}
    GridError.unless(method in kernels, "method", repr(method), " or ".join(sorted(kernels)))
    centres = (np.arange(factor) + 0.5) / factor - 0.5
    return kernels[method](centres[:, None] - np.arange(-2, 3)[None, :])


def _upsample(values: NDArray[np.floating], factor: int, method: str) -> NDArray[np.floating]:
    rows, columns = (_fine_weights(side, factor, method) for side in values.shape[-2:])
    planes = values.reshape(-1, *values.shape[-2:]).astype(np.float64)
    result = np.empty((len(planes), rows.shape[0], columns.shape[0]), values.dtype)
    strip = _STRIP_ROWS * factor
    for plane, fine in zip(planes, result, strict=True):
        wide = np.ascontiguousarray((columns @ plane.T).T)
        for top in range(0, len(fine), strip):
            fine[top : top + strip] = rows[top : top + strip] @ wide
    return result.reshape(*values.shape[:-2], *result.shape[-2:])


def _fine_weights(length: int, factor: int, method: str) -> csr_array:
    """Weights ``[fine, coarse]`` along one axis; beyond the border stands the outermost pixel.

    Weights of zero are left out: they must not spread the NaN of a pixel that they do not use.
    """
    fine = np.arange(length * factor)
    weight = phase_weights(factor, method)[fine % factor]
    coarse = np.clip(fine[:, None] // factor + np.arange(-2, 3), 0, length - 1)
    used = weight != 0
    row = np.broadcast_to(fine[:, None], coarse.shape)
    return csr_array((weight[used], (row[used], coarse[used])), shape=(fine.size, length))


def upsample_bicubic(values: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """Upsamples by cubic convolution: half-pixel centres, clamped edges, a = −0.75.

    Args:
        values: ``[..., H, W]``; a NaN spreads over the kernel's footprint (two pixels each way).
        factor: Upsampling factor.

    Returns:
        ``[..., H · factor, W · factor]`` of the same float type.
    """
    return _upsample(values, factor, "bicubic")


def upsample_bilinear(values: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """Upsamples as ``upsample_bicubic`` but bilinearly: a NaN spreads one pixel each way."""
    return _upsample(values, factor, "bilinear")


def interpolated(
    values: NDArray[np.floating], factor: int, method: str = "bicubic"
) -> NDArray[np.floating]:
    """Upsamples a raster; a gap stays a gap over its own fine pixels and spoils no other.

    Args:
        values: ``[h, w]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"`` (cubic convolution, a = −0.75).

    Returns:
        ``[h · factor, w · factor]`` of the same float type. The weights of the valid pixels sum
        to one at every fine pixel; next to a gap they are those of a raster in which the gap
        holds the mean of its valid neighbours.

    Raises:
        ConfigError: If the method is unknown.
    """
    known = " or ".join(INTERPOLATIONS)
    ConfigError.unless(method in INTERPOLATIONS, "interpolation", repr(method), known)
    if method == "nearest":
        return upsample_nearest(values, factor)
    upsample = upsample_bicubic if method == "bicubic" else upsample_bilinear
    gaps = np.isnan(values)
    if not gaps.any():
        return upsample(values, factor)
    result = upsample(_bridged(values), factor)
    result[upsample_nearest(gaps, factor)] = np.nan
    return result


def _bridged(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Fills gaps as far as a kernel reaches into them, ring by ring; what is left becomes 0."""
    result = values.astype(np.float64)
    for _ in range(_REACH_PIXELS):
        there = ~np.isnan(result)
        total = ndimage.convolve(np.where(there, result, 0.0), _NEIGHBOURS, mode="constant")
        weight = ndimage.convolve(there.astype(np.float64), _NEIGHBOURS, mode="constant")
        ring = ~there & (weight > 0)
        result[ring] = total[ring] / weight[ring]
    return np.nan_to_num(result, copy=False, nan=0.0).astype(values.dtype)
