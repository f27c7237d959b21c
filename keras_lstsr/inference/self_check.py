"""A scene checks its own result: how good would it be one scale coarser, where truth is known?

LST of 1 km, degraded once more, is the input at 4 km, and LST itself the truth at 1 km. The model
refines that with guides and without, and so do a classical method and bicubic; all their errors can
be seen. They decide in each part of the scene how far each is followed, and how wide the intervals
are, on ground from which the model has learnt nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.grids.degradation import GaussianPsf, degrade
from keras_lstsr.grids.resample import interpolated

Array = NDArray[np.float32]
Refine = Callable[[Array, Mapping[str, Array]], tuple[Array, Array | None]]
"""Refines LST ``[h, w]`` with guides ``[f·h, f·w]``; gives its standard deviation or None, too."""

Classical = Callable[[Array, Mapping[str, Array]], Array | None]
"""The same by a classical method; None where it has nothing to say."""

# Standard deviation of the Gaussian window in which errors are averaged, in LST pixels.
_WINDOW_PIXELS = 10.0
# Least parts of a pixel's area that must be there at the coarser scale.
_LEAST_OF_LST, _LEAST_OF_GUIDE = 0.7, 0.5
# Errors below are noise of LST.
_LEAST_ERROR_KELVIN = 0.1
_SHARPNESS = 8
# What a method weighs beside the model. Where the model has learnt, the check takes the classical
# method for better than it is; and for more so where the model has detail of other dates, which
# does not show one scale coarser.
_CLASSICAL_WEIGHT, _CLASSICAL_WEIGHT_BESIDE_DETAIL = 0.3, 0.1
# The model has learnt to undo a satellite's blur. Where there is none, bicubic counts in full.
_BICUBIC_WEIGHT, _BICUBIC_WEIGHT_UNBLURRED = 0.3, 1.0
# Of LST that is the mean over pixels, guides find footprints up to this width, in pixels.
_WIDEST_UNBLURRED_PIXELS = 0.6
# Fewer pixels tell too little.
_FEWEST_PIXELS = 100
# Of a window's weight, that of the whole scene.
_SCENE_SHARE = 0.01
_SHARE_TO_TELL = 0.8
# Errors at the coarser scale foretell less than half of those at the finer one.
_STD_POWER, _STD_FACTORS = 0.4, (1 / 3, 3.0)


@dataclass(frozen=True, eq=False)
class SelfCheck:
    """What a scene says of its own result.

    Attributes:
        weights: Weight of each estimate in the result, ``[h, w]``, 0 to 1: ``"guided"`` and
            ``"alone"``, the model with guides and without, ``"classical"`` and ``"bicubic"``. They
            sum to one. One that there is not has no entry.
        std_factor: What the model's standard deviations are multiplied with, ``[h, w]``; None where
            it gives none.
        bicubic_kelvin: Root mean square error of bicubic upsampling, one scale coarser.
        alone_kelvin: That of the model without guides.
        guided_kelvin: That of the model with guides; NaN where there are none.
        classical_kelvin: That of the classical method; NaN where there is none.
        mean_trust: Weight of what guides tell, by model or classical method, over the pixels with
            LST; NaN where there are no guides.
        mean_classical: Weight of the classical method, likewise; NaN where there is none.
        mean_bicubic: Weight of bicubic, likewise.
        mean_std_factor: Likewise; NaN where the model gives no standard deviation.
        footprint_pixels: What LST's footprint was taken for, in LST pixels; NaN where unknown.
    """

    weights: Mapping[str, Array]
    std_factor: Array | None
    bicubic_kelvin: float
    alone_kelvin: float
    guided_kelvin: float
    classical_kelvin: float
    mean_trust: float
    mean_classical: float
    mean_bicubic: float
    mean_std_factor: float
    footprint_pixels: float

    def as_attributes(self) -> dict[str, float]:
        """Returns the figures as attributes of a raster."""
        return {
            f"self_check_{each.name}": round(value, 4)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), float) and not math.isnan(value)
        }

    def notes(self) -> list[str]:
        """Says in a sentence where the guides help little."""
        if not self.mean_trust < _SHARE_TO_TELL:
            return []
        return [
            f"A check one scale coarser gives an error of {self.guided_kelvin:.2f} K with the "
            f"guides and of {self.alone_kelvin:.2f} K without them: the result has "
            f"{self.mean_trust:.0%} of their detail."
        ]


def self_check(
    lst_kelvin: Array,
    guides: Mapping[str, Array],
    factor: int,
    refine: Refine,
    classical: Classical | None = None,
    *,
    footprint_pixels: float = math.nan,
    detail_beside: bool = False,
) -> SelfCheck | None:
    """Finds out how far a scene's guides are to be followed, and how wide its intervals are.

    The weights of the model with guides, of the model without, of a classical method and of bicubic
    are as ``1 : 1 : 0.3 : 0.3`` times ``e⁻⁸``, with the root mean square error e of each in a
    Gaussian window of 10 LST pixels; the classical method's is 0.1 with ``detail_beside``.
    Standard deviations are multiplied with ``(e / s)^0.4``, a third to three, with the root mean
    square standard deviation s of the model at the coarser scale.

    LST is degraded as it is itself: by a Gaussian of one pixel's width, as a satellite sees; by the
    mean where its footprint is 0.6 pixels or less. There bicubic counts in full.

    Args:
        lst_kelvin: ``[h, w]``, NaN where missing.
        guides: By name, ``[f·h, f·w]``, NaN where missing; those that can be checked.
        factor: f.
        refine: The model; without guides it gets none.
        classical: Asked where there are guides.
        footprint_pixels: LST's footprint as far as it is known, full width at half maximum.
        detail_beside: Whether the model has guides beside these that cannot be checked.

    Returns:
        What came out; None where less than 100 pixels can be compared.
    """
    height, width = lst_kelvin.shape
    padding = [(0, -height % factor), (0, -width % factor)]
    lst = np.pad(lst_kelvin, padding, mode="edge")
    unblurred = footprint_pixels <= _WIDEST_UNBLURRED_PIXELS
    coarser = degrade(
        lst,
        factor,
        "mean" if unblurred else "psf",
        psf=None if unblurred else GaussianPsf.of_fwhm(1.0),
        min_valid_fraction=_LEAST_OF_LST,
    )
    if np.isfinite(coarser).sum() * factor**2 < _FEWEST_PIXELS:
        return None
    under = _averaged(guides, padding, factor)
    bicubic = interpolated(coarser, factor, "bicubic")
    alone, std_alone = refine(coarser, {})
    tried, stds = {"bicubic": bicubic, "alone": alone}, {"alone": std_alone}
    if guides:
        tried["guided"], stds["guided"] = refine(coarser, under)
        plain = classical(coarser, under) if classical else None
        if plain is not None and np.isfinite(plain).sum() >= _FEWEST_PIXELS:
            tried["classical"] = plain
    squared = {
        name: ((each - lst)[:height, :width]).astype(np.float64) ** 2
        for name, each in tried.items()
    }
    compared = np.isfinite(squared["bicubic"] + squared["alone"] + squared.get("guided", 0.0))
    if compared.sum() < _FEWEST_PIXELS:
        return None
    there, rmse = np.isfinite(lst_kelvin), {}
    local = {}
    for name, values in squared.items():
        own = compared & np.isfinite(values)
        if own.sum() >= _FEWEST_PIXELS:
            rmse[name] = float(np.sqrt(values[own].mean()))
            local[name] = _windowed(values, own) + _LEAST_ERROR_KELVIN**2
    prior = {
        "classical": _CLASSICAL_WEIGHT_BESIDE_DETAIL if detail_beside else _CLASSICAL_WEIGHT,
        "bicubic": _BICUBIC_WEIGHT_UNBLURRED if unblurred else _BICUBIC_WEIGHT,
    }
    weights = _weights(local, prior)
    std_factor = _std_factor(local, stds, weights, compared)

    def mean(values: Array | None) -> float:
        return math.nan if values is None else float(values[there].mean())

    unguided = mean(weights["alone"]) + mean(weights["bicubic"])
    return SelfCheck(
        weights=weights,
        std_factor=std_factor,
        bicubic_kelvin=rmse["bicubic"],
        alone_kelvin=rmse["alone"],
        guided_kelvin=rmse.get("guided", math.nan),
        classical_kelvin=rmse.get("classical", math.nan),
        mean_trust=1 - unguided if "guided" in weights else math.nan,
        mean_classical=mean(weights.get("classical")),
        mean_bicubic=mean(weights["bicubic"]),
        mean_std_factor=mean(std_factor),
        footprint_pixels=footprint_pixels,
    )


def _averaged(
    guides: Mapping[str, Array], padding: list[tuple[int, int]], factor: int
) -> dict[str, Array]:
    fine_padding = [(0, factor * after) for _, after in padding]
    return {
        name: degrade(
            np.pad(guide, fine_padding, mode="edge"),
            factor,
            "area",
            min_valid_fraction=_LEAST_OF_GUIDE,
        )
        for name, guide in guides.items()
    }


def _weights(
    local: Mapping[str, NDArray[np.float64]], prior: Mapping[str, float]
) -> dict[str, Array]:
    raw = {n: prior.get(n, 1.0) * each ** (-_SHARPNESS / 2) for n, each in local.items()}
    total = sum(raw.values())
    return {name: (each / total).astype(np.float32) for name, each in raw.items()}


def _std_factor(
    local: Mapping[str, NDArray[np.float64]],
    stds: Mapping[str, Array | None],
    weights: Mapping[str, Array],
    compared: NDArray[np.bool_],
) -> Array | None:
    factor, total = np.zeros(compared.shape), np.zeros(compared.shape)
    height, width = compared.shape
    for name, std in stds.items():
        if std is None:
            return None
        variance = _windowed(std[:height, :width].astype(np.float64) ** 2, compared)
        ratio = local[name] / (variance + _LEAST_ERROR_KELVIN**2)
        factor += weights[name] * np.clip(ratio ** (_STD_POWER / 2), *_STD_FACTORS)
        total += weights[name]
    return (factor / total).astype(np.float32)


def _windowed(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Means of what is known in a Gaussian window; far from it, the mean of the scene."""
    total = ndimage.gaussian_filter(np.where(known, values, 0.0), _WINDOW_PIXELS)
    weight = ndimage.gaussian_filter(known.astype(np.float64), _WINDOW_PIXELS)
    return (total + _SCENE_SHARE * values[known].mean()) / (weight + _SCENE_SHARE)
