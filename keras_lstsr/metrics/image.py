"""Image quality of one temperature map against its truth: the definitions, in NumPy.

All functions take the truth and the prediction in kelvin as ``[H, W]`` (``rmse``, ``mae`` and
``bias`` any shape), NaN where missing, and score the pixels where both are there. They compute in
float64 and return NaN where nothing can be scored. ``data_range`` is in kelvin; by default it is
the maximum minus the minimum of the truth over the scored pixels, per image, as in Nguyen et al.
(2022), eq. 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from keras_lstsr.errors import GridError

SSIM_WINDOW_PIXELS = 7
# Wang et al. (2004): stabilising constants as shares of the data range.
SSIM_K1, SSIM_K2 = 0.01, 0.03


def _scored(
    truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
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
    truth, prediction, valid = _scored(truth_kelvin, prediction_kelvin)
    return prediction[valid] - truth[valid]


def rmse(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Root mean square error in kelvin; NaN without a scored pixel.

    Raises:
        GridError: If the shapes differ.
    """
    errors = _errors(truth_kelvin, prediction_kelvin)
    return float(np.sqrt(np.mean(errors**2))) if errors.size else float("nan")


def mae(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Mean absolute error in kelvin; NaN without a scored pixel.

    Raises:
        GridError: If the shapes differ.
    """
    errors = _errors(truth_kelvin, prediction_kelvin)
    return float(np.mean(np.abs(errors))) if errors.size else float("nan")


def bias(truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike) -> float:
    """Mean of prediction minus truth in kelvin; NaN without a scored pixel.

    Raises:
        GridError: If the shapes differ.
    """
    errors = _errors(truth_kelvin, prediction_kelvin)
    return float(np.mean(errors)) if errors.size else float("nan")


def _range(truth: NDArray[np.float64], data_range: float | None) -> float:
    return float(np.ptp(truth)) if data_range is None else float(data_range)


def psnr(
    truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike, *, data_range: float | None = None
) -> float:
    """Peak signal-to-noise ratio in decibels: ``20 log10(range / RMSE)``.

    Args:
        truth_kelvin: ``[H, W]``, NaN where missing.
        prediction_kelvin: ``[H, W]``, NaN where missing.
        data_range: In kelvin; None takes that of the truth over the scored pixels.

    Returns:
        Decibels; infinite for a perfect prediction, NaN without a scored pixel or for a truth
        without range.

    Raises:
        GridError: If the shapes differ.

    Source: Nguyen et al. (2022), eq. 2.
    """
    truth, prediction, valid = _scored(truth_kelvin, prediction_kelvin)
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

    Args:
        truth_kelvin: ``[H, W]``, NaN where missing.
        prediction_kelvin: ``[H, W]``, NaN where missing.
        data_range: In kelvin; None takes that of the truth over the scored pixels.

    Returns:
        −1 to 1; NaN if no whole window is scored, or for a truth without range.

    Raises:
        GridError: If the shapes differ or are not two-dimensional.

    Source: Wang et al. (2004), doi:10.1109/TIP.2003.819861.
    """
    truth, prediction, valid = _scored(truth_kelvin, prediction_kelvin)
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


def ssim_global(
    truth_kelvin: ArrayLike, prediction_kelvin: ArrayLike, *, data_range: float | None = None
) -> float:
    """Structural similarity of whole images, as the 2022 paper prints it.

    One mean, variance and covariance over all scored pixels (divided by their number), constants
    (0.01 · range)² and (0.03 · range)².

    Args:
        truth_kelvin: Any shape, NaN where missing.
        prediction_kelvin: The same shape, NaN where missing.
        data_range: In kelvin; None takes that of the truth over the scored pixels.

    Returns:
        −1 to 1; NaN without a scored pixel or for a truth without range.

    Raises:
        GridError: If the shapes differ.

    Source: Nguyen et al. (2022), eq. 3.
    """
    truth, prediction, valid = _scored(truth_kelvin, prediction_kelvin)
    if not valid.any():
        return float("nan")
    x, y = truth[valid], prediction[valid]
    extent = _range(x, data_range)
    if extent <= 0:
        return float("nan")
    c1, c2 = (SSIM_K1 * extent) ** 2, (SSIM_K2 * extent) ** 2
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    luminance = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
    return float(luminance * (2 * covariance + c2) / (x.var() + y.var() + c2))


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

    Raises:
        GridError: If the shapes differ.

    Source: the Mixed Gradient Loss report, eq. of MGE, with the scale s between NDVI and
    temperature put in.
    """
    lst, guide, valid = _scored(lst_kelvin, ndvi)
    inner = ndimage.binary_erosion(valid, np.ones((3, 3), dtype=bool))
    if not inner.any():
        return float("nan")
    difference = np.where(valid, lst - ndvi_scale_kelvin * guide, 0.0)
    gx, gy = (ndimage.sobel(difference, axis) / 8 for axis in (1, 0))
    return float(np.mean((gx**2 + gy**2)[inner]))
