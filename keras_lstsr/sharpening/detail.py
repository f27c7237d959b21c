"""How LST's detail follows the guides', window by window.

A line through the pixels of a window says how LST and guides differ from one end of the window to
the other: from the shore inland, up a valley. Detail inside a pixel follows other causes, and
often by half of that slope. So slopes are fitted to detail, the part of a pixel in which it
departs from its neighbours, at the finest scale that LST has.

LST's detail is weaker than the ground's, since its footprint reaches beyond its pixel. The guides
are blurred as LST is before they are compared; how wide, LST itself says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.degradation import Footprint, degrade
from keras_lstsr.grids.resample import coarse_guide_and_share, interpolated
from keras_lstsr.sharpening.regression import global_fit, pixels_of_fit, window_sums

# Footprints that are tried: full widths at half maximum in coarse pixels; 0 is the pixel alone.
_FOOTPRINTS = (0.0, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0)
# LST is smoother than its guide also where it is not blurred; the width that fits best is too wide.
_PART_OF_FOOTPRINT = 0.8
# The footprint is sought in a part of so many coarse pixels along a side.
_SOUGHT_PIXELS = 256
# The weight of what a guide leaves unexplained, beside what it explains: slopes are drawn to 0.
_DOUBT = 0.1
# What chance explains on average counts so many times: twice its standard error, squared.
_CHANCE = 4.0
# Water below this share of the scene is no class of its own.
_LEAST_WATER = 1e-3
# A little water has a step at its shore that a few pixels tell: it is drawn to 0 as so many shore
# pixels would, whose share of water departs from their neighbours' by so much.
_SHORE_PIXELS = 5.0
_SHORE_DETAIL = 0.056
# Land around water that stands in for its guides, in coarse pixels each way.
_LAND_RADIUS = 2
# Any part of a pixel that is there counts.
_ANY_SHARE = 1e-6


@dataclass(frozen=True)
class Detail:
    """Guides with the slopes by which LST's detail follows theirs.

    Attributes:
        bands: ``[K, H, W]``, the fine guides, with water as a class where there is water.
        coarse: ``[K, h, w]``, their means over the part of LST's pixels that is there.
        share: ``[h, w]``, that part.
        slopes: ``[K, h, w]`` kelvin per unit of each guide.
    """

    bands: NDArray[np.floating]
    coarse: NDArray[np.float64]
    share: NDArray[np.float64]
    slopes: NDArray[np.float64]


def fit_detail(
    lst_kelvin: NDArray[np.floating],
    bands: NDArray[np.floating],
    factor: int,
    *,
    water: NDArray[np.floating] | None = None,
    radius_pixels: int = 2,
    prior_pixels: float = 16.0,
    min_lst_kelvin: float | None = None,
) -> Detail:
    """Fits the slopes of LST's detail in a window around each coarse pixel.

    A pixel counts by the part of it that the guides cover. A window's slopes are drawn to the
    scene's, as ``prior_pixels`` further pixels with the scene's slopes and spread of guides would;
    and all slopes of a guide to 0 by ``explained / (explained + 0.1 · left)``, where
    ``explained`` is the variance of LST's detail that this guide alone explains, less four times
    what chance would with so many pixels, and ``left`` what all guides leave. A relation without
    scatter is followed whole, one that explains a tenth of LST's detail by half.

    Where there is water, it is a guide of its own, and each other guide has on water what land
    has around it: so a window's water says nothing of land's slopes, land's slopes draw nothing
    on water, and the step at a shore is as high as LST shows.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing.
        bands: Fine guides ``[K, H, W]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        water: The share of water, 0 to 1, ``[H, W]``; NaN counts as land.
        radius_pixels: Windows have ``2 · radius + 1`` coarse pixels along a side.
        prior_pixels: How strongly windows are drawn to the scene.
        min_lst_kelvin: Pixels as cold as this or colder are left out of the fit.

    Returns:
        The guides and their slopes, everywhere finite.

    Raises:
        ConfigError: If ``radius_pixels`` or ``prior_pixels`` is out of its range.
        ConstantGuideError: If the guides cannot explain LST.
    """
    ConfigError.unless(radius_pixels >= 1, "regression_radius", radius_pixels, "at least 1")
    ConfigError.unless(prior_pixels >= 0, "prior_pixels", prior_pixels, "at least 0")
    guides = len(bands)
    if water is not None:
        bands = _with_water(bands, water, factor)
    coarse, share = coarse_guide_and_share(bands, factor)
    used = pixels_of_fit(lst_kelvin, coarse, min_lst_kelvin=min_lst_kelvin)
    scene = global_fit(lst_kelvin, coarse, usable=used, weights=share)
    varying = np.flatnonzero(~scene.constant)
    weights = np.where(used, share, 0.0)
    seen = _seen(lst_kelvin, bands[varying], coarse[varying], weights, factor)
    slopes = np.zeros(coarse.shape)
    least = np.where(np.arange(len(bands)) < guides, 0.0, _SHORE_DETAIL) / scene.deviations
    details = _details(lst_kelvin, seen / scene.deviations[varying, None, None], weights)
    found = _slopes(*details, least[varying] ** 2, radius_pixels, prior_pixels)
    slopes[varying] = found / scene.deviations[varying, None, None]
    return Detail(bands, coarse, share, slopes)


def _with_water(
    bands: NDArray[np.floating], water: NDArray[np.floating], factor: int
) -> NDArray[np.floating]:
    """Puts land's level of each guide onto water and adds water as a guide: ``[K + 1, H, W]``."""
    there = np.isfinite(bands).all(axis=0)
    wet = np.where(there, np.nan_to_num(water, nan=0.0), np.nan).astype(bands.dtype)
    if not there.any() or not _LEAST_WATER < np.nanmean(wet) < 1 - _LEAST_WATER:
        return bands
    result = np.empty((len(bands) + 1, *bands.shape[1:]), bands.dtype)
    result[-1] = wet
    land, share = coarse_guide_and_share(np.concatenate([(1 - wet) * bands, 1 - wet[None]]), factor)
    dry = window_sums(np.nan_to_num(land[-1]) * share, _LAND_RADIUS)
    for band, level, filled in zip(bands, land, result, strict=False):
        total = np.nan_to_num(level) * share
        everywhere = total.sum() / (np.nan_to_num(land[-1]) * share).sum()
        # Far from land the scene's land stands in.
        around = (window_sums(total, _LAND_RADIUS) + 1e-3 * everywhere) / (dry + 1e-3)
        filled[:] = (1 - wet) * band + wet * interpolated(around, factor, "bilinear")
    return result


def fitted_footprint(
    lst_kelvin: NDArray[np.floating], bands: NDArray[np.floating], factor: int
) -> float:
    """Finds the footprint through which guides explain most of LST's detail.

    LST is smoother than its guides also where it is not blurred: means over pixels come out with
    0 to 0.6, LST of satellites with 0.6 to 2.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing.
        bands: Fine guides ``[K, H, W]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        The full width at half maximum of a Gaussian, in coarse pixels; 0 is the pixel alone.

    Raises:
        ConstantGuideError: If the guides cannot explain LST.
    """
    coarse, share = coarse_guide_and_share(bands, factor)
    used = pixels_of_fit(lst_kelvin, coarse, min_lst_kelvin=None)
    varying = ~global_fit(lst_kelvin, coarse, usable=used, weights=share).constant
    weights = np.where(used, share, 0.0)
    return _fitted_footprint(lst_kelvin, bands[varying], coarse[varying], weights, factor)


def _seen(
    lst_kelvin: NDArray[np.floating],
    bands: NDArray[np.floating],
    coarse: NDArray[np.float64],
    weights: NDArray[np.float64],
    factor: int,
) -> NDArray[np.float64]:
    """The guides ``[K, h, w]`` as LST sees them, through the footprint that fits LST best."""
    width = _fitted_footprint(lst_kelvin, bands, coarse, weights, factor)
    return _blurred(bands, coarse, factor, width * _PART_OF_FOOTPRINT)


def _fitted_footprint(
    lst_kelvin: NDArray[np.floating],
    bands: NDArray[np.floating],
    coarse: NDArray[np.float64],
    weights: NDArray[np.float64],
    factor: int,
) -> float:
    part = _densest(weights)
    fine = tuple(slice(side.start * factor, side.stop * factor) for side in part)
    tried = [
        _explained(lst_kelvin[part], values, weights[part])
        for width in _FOOTPRINTS
        for values in [_blurred(bands[:, *fine], coarse[:, *part], factor, width)]
    ]
    # The first of equals: a footprint that explains no more is none.
    return _FOOTPRINTS[int(np.argmax(np.round(tried, 9)))]


def _densest(weights: NDArray[np.float64]) -> tuple[slice, slice]:
    """The part of the scene in which most pixels can be used."""
    sides = [
        [slice(start, start + _SOUGHT_PIXELS) for start in range(0, length, _SOUGHT_PIXELS)]
        for length in weights.shape
    ]
    parts = [(rows, columns) for rows in sides[0] for columns in sides[1]]
    best = max(parts, key=lambda part: weights[part].sum())
    rows, columns = (
        slice(s.start, min(s.stop, n)) for s, n in zip(best, weights.shape, strict=True)
    )
    return rows, columns


def _blurred(
    bands: NDArray[np.floating], coarse: NDArray[np.float64], factor: int, fwhm_pixels: float
) -> NDArray[np.float64]:
    if fwhm_pixels == 0:
        return np.nan_to_num(coarse)
    psf = Footprint("gaussian", (fwhm_pixels, fwhm_pixels)).psf(1.0)
    gaps = ~np.isfinite(bands).all(axis=0)
    result = np.empty(coarse.shape)
    for band, seen in zip(bands, result, strict=True):
        fine = np.where(gaps, np.nan, band) if len(bands) > 1 else band
        seen[:] = degrade(fine, factor, "psf", psf=psf, min_valid_fraction=_ANY_SHARE)
    return np.nan_to_num(result)


def _explained(
    lst_kelvin: NDArray[np.floating], seen: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """The part of the variance of LST's detail that the guides' detail explains."""
    x, y, count = _details(lst_kelvin, seen, weights)
    root = np.sqrt(count).ravel()
    target = root * y.ravel()
    design = (root * x.reshape(len(x), -1)).T
    left = target - design @ np.linalg.lstsq(design, target, rcond=1e-8)[0]
    return 1 - float(left @ left) / max(float(target @ target), np.finfo(float).tiny)


def _details(
    lst_kelvin: NDArray[np.floating], seen: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Guides ``[K, h, w]`` and LST ``[h, w]`` less the mean of the 3 × 3 pixels, and weights."""
    around = np.maximum(window_sums(weights, 1), np.finfo(float).tiny)
    there = weights > 0
    values = np.concatenate([seen, np.where(there, lst_kelvin, 0.0)[None]])
    # Sums stay small and exact.
    level = np.average(values, axis=(1, 2), weights=np.maximum(weights, np.finfo(float).tiny))
    values -= level[:, None, None]
    detail = np.where(there, values - window_sums(weights * values, 1) / around, 0.0)
    # A pixel alone has no detail.
    return detail[:-1], detail[-1], weights * (1 - weights / around)


def _slopes(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    count: NDArray[np.float64],
    least: NDArray[np.float64],
    radius: int,
    prior_pixels: float,
) -> NDArray[np.float64]:
    """Slopes ``[K, h, w]`` of the windows, drawn to the scene's, and all of them to 0.

    ``least`` ``[K]`` is the least variance of the guides' detail that counts as that of a pixel.
    """
    pixels = float(count.sum())
    if pixels <= len(x):
        return np.zeros(x.shape)
    # The small part decides only where guides depend linearly on each other.
    matrix = np.einsum("ihw,jhw,hw->ij", x, x, count)
    spread = np.maximum(np.diagonal(matrix) / pixels, least)
    scene = matrix + np.diag(_SHORE_PIXELS * least)
    inverse = np.linalg.pinv(scene, rcond=1e-10, hermitian=True)
    whole = inverse @ np.einsum("ihw,hw,hw->i", x, y, count)

    ridge = (prior_pixels + 1e-6) * spread + 1e-12
    windows = window_sums(count * x[:, None] * x[None], radius)
    own = np.stack([windows[k, k] for k in range(len(x))])
    windows += (ridge[:, None] * np.eye(len(x)))[..., None, None]
    right = window_sums(count * x * (y - np.tensordot(whole, x, axes=1)), radius)
    if len(x) == 1:
        departure = right / windows[0]
    else:
        system = np.moveaxis(windows, (0, 1), (2, 3))
        solved = np.linalg.solve(system, np.moveaxis(right, 0, -1)[..., None])
        departure = np.moveaxis(solved[..., 0], -1, 0)
    slopes = whole[:, None, None] + departure

    left = float(np.sum(count * (y - np.sum(slopes * x, axis=0)) ** 2))
    # What a guide says that the others do not, and what chance would say with so many pixels.
    alone = np.diagonal(inverse) * np.diagonal(scene)
    alone = np.divide(1.0, alone, out=np.zeros(len(x)), where=alone > 0)
    follows = np.sum(count * x**2 * own / (own + ridge[:, None, None]) ** 2, axis=(1, 2))
    chance = _CHANCE * left / (pixels - len(x)) * (1 + follows)
    explained = alone * np.sum(count * (slopes * x) ** 2, axis=(1, 2)) - chance
    explained = np.maximum(explained, 0.0)
    total = explained + _DOUBT * left
    trust = np.divide(explained, total, out=np.zeros(len(x)), where=total > 0)
    return slopes * trust[:, None, None]
