"""Image quality of one temperature map against its truth: the definitions, in NumPy.

All functions take the truth and the prediction in kelvin as ``[H, W]`` (``rmse``, ``mae`` and
``bias`` any shape), NaN where missing, and score the pixels where both are there. They compute in
float64 and return NaN where nothing can be scored. ``data_range`` is in kelvin; by default it is
the maximum minus the minimum of the truth over the scored pixels, per image, as in Nguyen et al.
(2022), eq. 2. Images of different shapes, or not two-dimensional where that is needed, raise a
``GridError``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from keras_lstsr.errors import GridError
from keras_lstsr.grids.resample import block_mean, norm_l4

SSIM_WINDOW_PIXELS = 7
# Deviations as small as this are what rounding leaves of a constant image.
_ROUNDING_KELVIN = 1e-9


def scored(
    truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Returns both as float64, and the pixels that both have."""
    truth = np.asarray(truth_kelvin, dtype=np.float64)
    prediction = np.asarray(prediction_kelvin, dtype=np.float64)
    if truth.shape != prediction.shape:
        raise GridError(
            "truth and prediction do not cover the same grid",
            found=f"shapes {truth.shape} and {prediction.shape}",
            expected="equal shapes",
            action="Bring both onto one grid first.",
        )
    return truth, prediction, ~(np.isnan(truth) | np.isnan(prediction))


def _errors(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> NDArray[np.float64]:
    truth, prediction, valid = scored(truth_kelvin, prediction_kelvin)
    return prediction[valid] - truth[valid]


def rmse(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Root mean square error in kelvin; NaN without a scored pixel."""
    errors = _errors(truth_kelvin, prediction_kelvin)
    return float(np.sqrt(np.mean(errors**2))) if errors.size else float("nan")


def mae(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Mean absolute error in kelvin; NaN without a scored pixel."""
    errors = _errors(truth_kelvin, prediction_kelvin)
    return float(np.mean(np.abs(errors))) if errors.size else float("nan")


def bias(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Mean of prediction minus truth in kelvin; NaN without a scored pixel."""
    errors = _errors(truth_kelvin, prediction_kelvin)
    return float(np.mean(errors)) if errors.size else float("nan")


def _range(truth: NDArray[np.float64], data_range: float | None) -> float:
    return float(np.ptp(truth)) if data_range is None else float(data_range)


def psnr(
    truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike, *, data_range: float | None = None
) -> float:
    """Peak signal-to-noise ratio in decibels: ``20 log10(range / RMSE)``.

    Returns:
        Decibels; infinite for a perfect prediction, NaN without a scored pixel or for a truth
        without range.

    Source: Nguyen et al. (2022), eq. 2.
    """
    truth, prediction, valid = scored(truth_kelvin, prediction_kelvin)
    if not valid.any():
        return float("nan")
    extent = _range(truth[valid], data_range)
    error = float(np.sqrt(np.mean((prediction[valid] - truth[valid]) ** 2)))
    if extent <= 0:
        return float("nan")
    return float("inf") if error == 0 else float(20 * np.log10(extent / error))


def ssim(
    truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike, *, data_range: float | None = None
) -> float:
    """Structural similarity in a sliding 7 × 7 window, as the papers' codes compute it.

    Uniform window, sample covariance, constants (0.01 · range)² and (0.03 · range)²: scikit-image's
    ``structural_similarity``. Unscored pixels are set to the truth's mean in both images, and the
    map is averaged over the scored pixels eroded by 3, whose windows hold scored pixels alone;
    without gaps that is scikit-image's own mean.

    Returns:
        −1 to 1; NaN if no whole window is scored, or for a truth without range.

    Source: Wang et al. (2004), doi:10.1109/TIP.2003.819861.
    """
    truth, prediction, valid = scored(truth_kelvin, prediction_kelvin)
    if truth.ndim != 2:
        raise GridError(
            "SSIM compares two-dimensional images", found=f"shape {truth.shape}", expected="[H, W]"
        )
    window = np.ones((SSIM_WINDOW_PIXELS, SSIM_WINDOW_PIXELS), dtype=bool)
    inner = ndimage.binary_erosion(valid, window)
    if not inner.any():
        return float("nan")
    extent = _range(truth[valid], data_range)
    if extent <= 0:
        return float("nan")
    mean = truth[valid].mean()
    _, similarity = structural_similarity(
        np.where(valid, truth, mean),
        np.where(valid, prediction, mean),
        win_size=SSIM_WINDOW_PIXELS,
        data_range=extent,
        full=True,
    )
    return float(similarity[inner].mean())


def mean_gradient_error(
    lst_kelvin: ArrayLike, ndvi: ArrayLike, *, ndvi_scale_kelvin: float
) -> float:
    """Mean gradient error (MGE): how far the gradient of LST is from that of scaled NDVI.

    The mean of ``(∂x T − s ∂x N)² + (∂y T − s ∂y N)²`` with Sobel's operator divided by 8, over the
    pixels whose 3 × 3 neighbours are there in both. It is no error of temperature.

    Args:
        lst_kelvin: LST T, ``[H, W]``, NaN where missing.
        ndvi: NDVI N, ``[H, W]``, NaN where missing.
        ndvi_scale_kelvin: Kelvin per unit of NDVI s, below 0 where vegetation cools.

    Returns:
        In (K / pixel)²; NaN without a scored pixel.

    Source: the Mixed Gradient Loss report, eq. of MGE, with the scale s between NDVI and
    temperature put in.
    """
    lst, guide, valid = scored(lst_kelvin, ndvi)
    gradient, _ = _gradient(lst - ndvi_scale_kelvin * guide, valid)
    return float(np.mean(np.sum(gradient**2, axis=0))) if gradient.size else float("nan")


def bias_free_rmse(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Standard deviation of the error in kelvin: the RMSE once the mean error is taken off.

    ``bias_free_rmse² = rmse² − bias²``; NaN without a scored pixel. It is the figure to compare by
    where two instruments differ in the mean, which no sharpening can mend.
    """
    errors = _errors(truth_kelvin, prediction_kelvin)
    return float(errors.std()) if errors.size else float("nan")


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Correlation over the last axis, its sums taken over the leading ones too; changes both."""
    if not x.size:
        return float("nan")
    for values in (x, y):
        values -= values.mean(axis=-1, keepdims=True)
    norms = [float(np.linalg.norm(deviations)) for deviations in (x, y)]
    if min(norms) <= _ROUNDING_KELVIN * np.sqrt(x.size):
        return float("nan")
    return float(np.clip(np.vdot(x, y) / (norms[0] * norms[1]), -1.0, 1.0))


def correlation(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Pearson's correlation of truth and prediction over the scored pixels.

    Returns:
        −1 to 1; NaN without a scored pixel or where either is constant.
    """
    truth, prediction, valid = scored(truth_kelvin, prediction_kelvin)
    return _pearson(truth[valid], prediction[valid])


def _gradient(
    values_kelvin: NDArray[np.float64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Sobel's gradient ``[2, N]`` (x, y) in kelvin a pixel at the N pixels of the mask returned.

    Those are the pixels whose 3 × 3 neighbours are valid.
    """
    if values_kelvin.ndim != 2:
        raise GridError(
            "gradients are taken of two-dimensional images",
            found=f"shape {values_kelvin.shape}",
            expected="[H, W]",
        )
    inner = ndimage.minimum_filter(valid.view(np.uint8), 3, mode="constant").astype(bool)
    filled = np.where(valid, values_kelvin, 0.0)
    return np.stack([ndimage.sobel(filled, axis)[inner] / 8 for axis in (1, 0)]), inner


def gradient_correlation(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Correlation of the gradient fields: are there edges where there should be, the right way up?

    With Sobel's operator divided by 8, over the pixels whose 3 × 3 neighbours are all scored, and
    each component less its own mean, ``Σ(∂x T ∂x P + ∂y T ∂y P) / √(Σ|∇T|² Σ|∇P|²)``. Unlike the
    correlation of magnitudes it is negative for edges whose warm and cold sides are swapped.

    Returns:
        −1 to 1; NaN without a scored pixel or where either is flat.
    """
    truth, prediction, valid = scored(truth_kelvin, prediction_kelvin)
    return _pearson(_gradient(truth, valid)[0], _gradient(prediction, valid)[0])


def high_pass_correlation(
    truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike, *, sigma_pixels: float = 4.0
) -> float:
    """Correlation of the detail: of truth and prediction, each less its Gaussian mean.

    The Gaussian is cut at 4 σ, reflected at the border, and taken over the scored pixels alone
    (normalised convolution): a pixel beside a gap has the weighted mean of what is there. A σ of 4
    pixels is one 1 km pixel at 250 m.

    Returns:
        −1 to 1; NaN without a scored pixel or where either has no detail.

    Source: normalised convolution: Knutsson & Westin (1993), doi:10.1109/CVPR.1993.341081.
    """
    truth, prediction, valid = scored(truth_kelvin, prediction_kelvin)
    if not valid.any():
        return float("nan")
    weight = ndimage.gaussian_filter(valid.astype(np.float64), sigma_pixels)
    details = []
    for values in (truth, prediction):
        # Around its mean, so that no digits go to the 300 K that all pixels share.
        centred = np.where(valid, values - values[valid].mean(), 0.0)
        smooth = ndimage.gaussian_filter(centred, sigma_pixels)[valid] / weight[valid]
        details.append(centred[valid] - smooth)
    return _pearson(*details)


def rmse_by_gradient_quartile(
    truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike
) -> NDArray[np.float64]:
    """RMSE in each quartile of the truth's gradient: flat ground first, edges last.

    Pixels whose 3 × 3 neighbours are all scored are parted at the quartiles of the truth's Sobel
    gradient magnitude; a pixel on a quartile belongs to the flatter part.

    Returns:
        ``[4]`` kelvin; NaN where no pixel falls (a truth with many equal gradients, or nothing
        scored).
    """
    truth, prediction, valid = scored(truth_kelvin, prediction_kelvin)
    gradient, inner = _gradient(truth, valid)
    if not inner.any():
        return np.full(4, np.nan)
    magnitude = np.hypot(*gradient)
    part = np.searchsorted(np.quantile(magnitude, (0.25, 0.5, 0.75)), magnitude, side="left")
    squares = (prediction[inner] - truth[inner]) ** 2
    sums, counts = np.bincount(part, squares, 4), np.bincount(part, minlength=4)
    return np.sqrt(np.divide(sums, counts, out=np.full(4, np.nan), where=counts > 0))


def consistency_error(
    prediction_kelvin: ArrayLike,
    coarse_kelvin: ArrayLike,
    factor: int,
    *,
    aggregate: Literal["mean", "norm_l4"] = "mean",
) -> float:
    """RMSE between the prediction brought back to the coarse grid and the coarse LST.

    Zero for a sharpening that keeps each coarse pixel's temperature. Coarse pixels with a gap in
    their block are left out.

    Args:
        prediction_kelvin: Fine LST, ``[h · factor, w · factor]``.
        coarse_kelvin: Coarse LST, ``[h, w]``.
        factor: Fine pixels along a coarse pixel's side.
        aggregate: ``"mean"`` of the temperatures of a block, or ``"norm_l4"``: the fourth root of
            their mean fourth power, as radiance adds up.

    Returns:
        Kelvin; NaN without a scored coarse pixel.

    Raises:
        GridError: If the prediction is not ``factor`` times the coarse LST, or the aggregate is
            unknown.

    Source: the consistency property of Wald et al. (1997).
    """
    prediction = np.asarray(prediction_kelvin, dtype=np.float64)
    if aggregate not in ("mean", "norm_l4"):
        raise GridError("unknown aggregate", found=repr(aggregate), expected="mean or norm_l4")
    coarse = block_mean(prediction, factor) if aggregate == "mean" else norm_l4(prediction, factor)
    return rmse(coarse_kelvin, coarse)
