"""HUTS: LST as a polynomial of the guides (Dominguez et al. 2011)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import coarse_guide, coarse_guide_and_share
from keras_lstsr.sharpening.bounds import bound
from keras_lstsr.sharpening.fallback import warn
from keras_lstsr.sharpening.regression import (
    COHERENT,
    global_fit,
    guide_bands,
    pixels_of_fit,
    upsampled_residual,
)

# Coarse pixels that each term of the polynomial needs, so that it does not follow single pixels.
_PIXELS_PER_TERM = 5
# Fine rows that are evaluated at a time, which bounds the memory for the terms.
_STRIP_ROWS = 64


@dataclass(frozen=True)
class Polynomial:
    """A polynomial of guides with all terms up to a total degree, cross terms included.

    The guides are scaled to −1…1 over the range of the fit, and the terms are products of
    Legendre polynomials, so that the least squares are well conditioned for any unit.

    Attributes:
        degree: Total degree.
        lowest: ``[K]``, the guides' least values over the pixels of the fit.
        highest: ``[K]``, their greatest values.
        powers: ``[terms, K]``, the Legendre degree of each guide in each term.
        coefficients_kelvin: ``[terms]``; the first term is the constant one.
    """

    degree: int
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    powers: NDArray[np.intp]
    coefficients_kelvin: NDArray[np.float64]

    def __call__(self, guide: NDArray[np.floating]) -> NDArray[np.float64]:
        """Applies the polynomial to guides ``[K, ...]``; NaN where a guide is NaN.

        Guides beyond the range of the fit count as the range's nearest end: there the
        polynomial is not known, and grows fast.
        """
        return _terms(guide, self.lowest, self.highest, self.powers) @ self.coefficients_kelvin


def fit_polynomial(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    degree: int,
    weights: NDArray[np.floating] | None = None,
) -> Polynomial:
    """Fits LST ``[N]`` to a polynomial of guides ``[K, N]`` by least squares; all are finite.

    No guide is constant. A lower degree is taken if there are less than five pixels for each term.
    If the terms depend linearly on each other, it is the solution with the smallest standardised
    coefficients. ``weights`` ``[N]`` of 0 to 1 tell how much each pixel counts, by default whole.
    """
    count, pixels = guide.shape
    powers = _powers(count, degree)
    while degree > 1 and pixels < _PIXELS_PER_TERM * len(powers):
        degree -= 1
        powers = _powers(count, degree)
    lowest, highest = guide.min(axis=1), guide.max(axis=1)
    # The constant term is the mean, so that the other terms are centred for the solution.
    terms = _terms(guide.astype(np.float64), lowest, highest, powers)[:, 1:]
    w = np.ones(pixels) if weights is None else weights.astype(np.float64)
    y = lst_kelvin.astype(np.float64)
    means, level = np.average(terms, axis=0, weights=w), np.average(y, weights=w)
    deviations = np.sqrt(np.average((terms - means) ** 2, axis=0, weights=w))
    root, scale = np.sqrt(w), np.where(deviations > 0, deviations, 1.0)
    design = root[:, None] * (terms - means) / scale
    slopes = np.linalg.lstsq(design, root * (y - level), rcond=1e-8)[0] / scale
    coefficients = np.concatenate([[level - slopes @ means], slopes])
    return Polynomial(degree, lowest, highest, powers, coefficients)


def huts(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int,
    *,
    degree: int = 4,
    residual: str = "bicubic",
    bounded: bool = True,
) -> NDArray[np.floating]:
    """Sharpens LST with a polynomial of the guides, fitted over the whole scene.

    The paper's guides are NDVI and albedo, and its polynomial is of 4th order with cross terms;
    any guides will do, and with one the polynomial is in that one. It is fitted to the guides'
    means over LST's pixels; a pixel counts by the part of it that the guides cover. On the fine
    grid the guides are clipped to the range that they have at LST's resolution: beyond it nothing
    is known of the polynomial, and it grows fast. What the polynomial leaves unexplained at LST's
    resolution is added back.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing.
        guide: ``[h · factor, w · factor]`` or ``[K, h · factor, w · factor]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        degree: Total degree of the polynomial, at least 1. Falls, with a warning, until there
            are five coarse pixels for each term.
        residual: How the residual is brought to the fine grid: ``"block"``, ``"bilinear"``,
            ``"bicubic"`` or ``"kriging"``. With ``"block"`` and ``"kriging"`` the means over
            LST's pixels are LST.
        bounded: Keeps the result within the range of LST around and three quarters of its width;
            see ``bounds.bound``.

    Returns:
        ``[h · factor, w · factor]`` in kelvin of LST's float type. NaN over the gaps of LST and
        where a guide is NaN; nowhere else.

    Raises:
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If all guides are constant, or nearly no pixel has LST and guides.
        ConfigError: If ``degree`` is less than 1 or ``residual`` is unknown.

    Source: Dominguez, Kleissl, Luvall, Rickman (2011), Remote Sensing of Environment 115,
    1772-1780.
    """
    ConfigError.unless(degree >= 1, "degree", degree, "at least 1")
    bands = guide_bands(lst_kelvin, guide, factor)
    coarse, share = coarse_guide_and_share(bands, factor)
    usable = pixels_of_fit(lst_kelvin, coarse)
    varying = ~global_fit(lst_kelvin, coarse, usable=usable, weights=share).constant
    polynomial = fit_polynomial(
        lst_kelvin[usable], coarse[varying][:, usable], degree, share[usable]
    )
    if polynomial.degree < degree:
        warn(
            f"HUTS took a polynomial of degree {polynomial.degree} instead of {degree}: "
            f"only {usable.sum()} coarse pixels have LST and guide"
        )
    fine = np.empty(bands.shape[1:], lst_kelvin.dtype)
    for top in range(0, len(fine), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        strip = polynomial(bands[varying, rows])
        # A constant guide is no part of the polynomial, but its gaps are gaps all the same.
        fine[rows] = np.where(np.isfinite(bands[:, rows]).all(axis=0), strip, np.nan)
    unexplained = lst_kelvin - coarse_guide(fine, factor)[0]
    fine += upsampled_residual(unexplained, factor, residual)
    if bounded:
        bound(fine, lst_kelvin, factor, keep_means=residual in COHERENT)
    return fine


def _powers(count: int, degree: int) -> NDArray[np.intp]:
    """All combinations of degrees with a sum up to ``degree``; first that of the constant."""
    return np.array(
        [
            powers
            for powers in itertools.product(range(degree + 1), repeat=count)
            if sum(powers) <= degree
        ],
        np.intp,
    )


def _terms(
    guide: NDArray[np.floating],
    lowest: NDArray[np.float64],
    highest: NDArray[np.float64],
    powers: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Returns the terms ``[..., terms]`` for guides ``[K, ...]``, clipped to the range."""
    result = np.ones((*guide.shape[1:], len(powers)))
    for band, low, high, power in zip(guide, lowest, highest, powers.T, strict=True):
        scaled = (2 * np.clip(band.astype(np.float64), low, high) - low - high) / (high - low)
        result *= legvander(scaled, int(power.max()))[..., power]
    return result
