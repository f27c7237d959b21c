"""Scores of results that lie on one grid with their truth, by every metric that needs no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.result import ImageScore
from keras_lstsr.metrics import image
from keras_lstsr.records.masks import extent_of

# Images are scored when at least this many pixels can be; SSIM needs windows of 7.
MINIMUM_SCORED_PIXELS = 49
# Around the scored pixels: a Gaussian of sigma 4 reaches 16 pixels.
_MARGIN_PIXELS = 16

SCORED_METRICS: dict[str, Callable[..., float]] = {
    "rmse_kelvin": image.rmse,
    "bias_free_rmse_kelvin": image.bias_free_rmse,
    "bias_kelvin": image.bias,
    "mae_kelvin": image.mae,
    "psnr_db": image.psnr,
    "ssim": image.ssim,
    "high_pass_correlation": image.high_pass_correlation,
    "gradient_correlation": image.gradient_correlation,
    "correlation": image.correlation,
}
QUARTER_METRICS = tuple(f"rmse_gradient_quarter_{number}_kelvin" for number in (1, 2, 3, 4))
CONSISTENCY_METRIC = "consistency_kelvin"
METRICS = (*SCORED_METRICS, *QUARTER_METRICS, CONSISTENCY_METRIC)
"""RMSE, bias-free RMSE, bias, MAE, PSNR, SSIM, correlations, RMSE by quarters of the truth's
gradient (flattest first), and RMSE of the result's 4 × 4 means against the coarse LST."""


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Results and truth on one grid, ready to be scored.

    Attributes:
        image: Names the image.
        truth: Truth in kelvin, ``[H, W]``; NaN where nothing is scored.
        maps: Method → result in kelvin, ``[H, W]``, NaN where missing.
        pixel_size_m: Side of a pixel.
        consistency: Method → RMSE in kelvin between its coarse means and the LST that it got.
    """

    image: str
    truth: NDArray[np.floating]
    maps: Mapping[str, NDArray[np.floating]]
    pixel_size_m: float
    consistency: Mapping[str, float] = field(default_factory=dict)


def score_maps(maps: ImageMaps) -> list[ImageScore]:
    """Scores all results for an image on the pixels that the truth and all of them have.

    Returns:
        One score per method with ``METRICS``, consistency only where the maps bring it; none
        when fewer than 49 pixels can be scored.

    Raises:
        GridError: If a result has another shape than the truth.
    """
    scored = np.isfinite(maps.truth)
    for method, values in maps.maps.items():
        if values.shape != scored.shape:
            raise GridError(
                f"the result of {method} does not lie on the truth's grid",
                path=maps.image,
                found=f"shape {values.shape}",
                expected=f"shape {scored.shape}",
            )
        scored &= np.isfinite(values)
    pixels = int(scored.sum())
    if pixels < MINIMUM_SCORED_PIXELS:
        return []
    part = extent_of(scored, _MARGIN_PIXELS)
    truth = np.where(scored[part], maps.truth[part], np.nan)
    return [
        ImageScore(maps.image, method, pixels, _values(maps, method, truth, values[part]))
        for method, values in maps.maps.items()
    ]


def _values(
    maps: ImageMaps, method: str, truth: NDArray[np.floating], result: NDArray[np.floating]
) -> dict[str, float]:
    values = {name: float(score(truth, result)) for name, score in SCORED_METRICS.items()}
    quarters = image.rmse_by_gradient_quartile(truth, result)
    values |= {name: float(q) for name, q in zip(QUARTER_METRICS, quarters, strict=True)}
    if method in maps.consistency:
        values[CONSISTENCY_METRIC] = maps.consistency[method]
    return values
