"""Semivariograms of a coarse residual: measured, and deconvolved to point support.

Distances are in coarse pixels. The model is exponential, ``sill · (1 − exp(−3 h / range))``,
without a nugget. A coarse pixel is an area of ``factor`` × ``factor`` points, the centres of its
fine pixels; what is measured between areas is the point model's mean over pairs of points.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit, minimize_scalar

from keras_lstsr.errors import ConfigError
from keras_lstsr.sharpening.fallback import warn

Estimator = Literal["pairs", "windows"]
Deconvolution = Literal["averaged", "verbatim"]

# The ranges that a fit may give. Below, neighbours are independent; above, the model is a
# straight line over the window, and kriging does not change any more.
SHORTEST_RANGE_PIXELS, LONGEST_RANGE_PIXELS = 0.1, 1000.0
# Stands in where a variogram cannot be fitted. Weights depend little on the range.
DEFAULT_RANGE_PIXELS = 5.0
# A lag that fewer pairs measured says nothing.
_FEWEST_PAIRS = 10
# Sill in square kelvin and range in coarse pixels from which the two papers' first fit starts.
_START = (7.0, 1.0)
# The routines of the two papers divide the sum over point pairs by a running count inside the
# loop that sums it. Its net effect, for 5 × 5 windows and factor 4, is this factor at each lag.
_VERBATIM_FACTORS = {
    (0, 0): 0.04174258936993441,
    (0, 1): 0.025487269398391067,
    (1, 1): 0.01612930249268057,
    (0, 2): 0.03392363757799781,
    (1, 2): 0.021170693488333572,
    (2, 2): 0.028618867714981004,
    (0, 3): 0.051335141306317014,
    (1, 3): 0.03201481897814263,
    (2, 3): 0.04259355280126795,
    (0, 4): 0.10295280291879347,
    (1, 4): 0.06466072447521336,
    (3, 3): 0.0666897092380724,
    (2, 4): 0.08541293851775138,
    (3, 4): 0.1294953244207031,
    (4, 4): 0.25308651394314235,
}


@dataclass(frozen=True)
class EmpiricalVariogram:
    """Half the mean squared difference of pixel pairs, by lag.

    Attributes:
        lags: ``(rows, columns)`` of each lag in coarse pixels, rows ≤ columns; stands for its
            mirror images too. The first is ``(0, 0)``.
        gamma_kelvin2: ``[L]``, 0 at lag 0; NaN where no pair measured the lag.
        pairs: ``[L]`` pairs of pixels behind each lag.
    """

    lags: tuple[tuple[int, int], ...]
    gamma_kelvin2: NDArray[np.float64]
    pairs: NDArray[np.float64]


@dataclass(frozen=True)
class PointVariogram:
    """The exponential model between points.

    Attributes:
        sill_kelvin2: Semivariance far apart.
        range_pixels: Distance in coarse pixels at which 95 % of the sill are reached.
    """

    sill_kelvin2: float
    range_pixels: float


def exponential(distance: NDArray[np.floating], sill: float, range_: float) -> NDArray[np.floating]:
    """Exponential semivariogram: ``sill · (1 − exp(−3 h / range))``."""
    return -sill * np.expm1(-3.0 * distance / range_)


def lag_classes(radius: int) -> tuple[tuple[int, int], ...]:
    """Returns the lags within a window, one of each set of mirror images, by length."""
    side = 2 * radius
    classes = [(i, j) for j in range(side + 1) for i in range(j + 1)]
    return tuple(sorted(classes, key=lambda lag: lag[0] ** 2 + lag[1] ** 2))


def empirical_semivariogram(
    residual_kelvin: NDArray[np.floating], radius: int = 2, estimator: Estimator = "pairs"
) -> EmpiricalVariogram:
    """Measures the semivariogram of a coarse raster ``[h, w]`` up to the diagonal of a window.

    Windows have ``2 · radius + 1`` pixels along a side. ``"pairs"`` averages over all pairs of
    valid pixels (Matheron 1963); ``"windows"`` over the pairs within each window inside the raster,
    then over the windows whose value is not zero, as the routines of the two papers do.
    """
    lags = lag_classes(radius)
    gamma, pairs = np.full(len(lags), np.nan), np.zeros(len(lags))
    gamma[0] = 0.0
    values = residual_kelvin.astype(np.float64)
    measure = _over_pairs if estimator == "pairs" else _over_windows
    for number, lag in enumerate(lags[1:], start=1):
        squares = [_squared_differences(values, *shift) for shift in _mirror_images(lag)]
        gamma[number], pairs[number] = measure(squares, 2 * radius + 1, _mirror_images(lag))
    return EmpiricalVariogram(lags, gamma, pairs)


def _mirror_images(lag: tuple[int, int]) -> list[tuple[int, int]]:
    """All displacements of a lag's length class, one of each pair of opposites."""
    i, j = lag
    both = {(i, j), (i, -j), (j, i), (j, -i)}
    return sorted({max(shift, (-shift[0], -shift[1])) for shift in both})


def _squared_differences(values: NDArray[np.float64], rows: int, columns: int) -> NDArray:
    """``(z(p) − z(p + shift))²`` wherever both are inside; ``rows`` is not negative."""
    height, width = values.shape
    left = max(-columns, 0)
    right = width - max(columns, 0)
    first = values[: max(height - rows, 0), left:right]
    second = values[rows:, left + columns : right + columns]
    return (first - second) ** 2 if first.size and second.size else np.empty((0, 0))


def _over_pairs(
    squares: list[NDArray], side: int, shifts: list[tuple[int, int]]
) -> tuple[float, float]:
    pairs = sum(int(np.count_nonzero(~np.isnan(square))) for square in squares)
    total = sum(float(np.nansum(square)) for square in squares)
    return (total / (2 * pairs) if pairs else float("nan")), float(pairs)


def _over_windows(
    squares: list[NDArray], side: int, shifts: list[tuple[int, int]]
) -> tuple[float, float]:
    total: NDArray | float = 0.0
    pairs: NDArray | float = 0.0
    for square, (rows, columns) in zip(squares, shifts, strict=True):
        box = (side - rows, side - abs(columns))
        if square.shape[0] < box[0] or square.shape[1] < box[1]:
            return float("nan"), 0.0
        there = ~np.isnan(square)
        total = total + _box_sums(np.where(there, square, 0.0), box)
        pairs = pairs + _box_sums(there.astype(np.float64), box)
    with np.errstate(invalid="ignore"):
        gamma = np.asarray(total / (2 * np.asarray(pairs)))
    counted = np.isfinite(gamma) & (gamma > 0)
    if not counted.any():
        return float("nan"), 0.0
    return float(gamma[counted].mean()), float(np.asarray(pairs)[counted].sum())


def _box_sums(values: NDArray[np.float64], box: tuple[int, int]) -> NDArray[np.float64]:
    """Sums over each box of pixels that lies inside the raster."""
    rows, columns = (values.shape[axis] - box[axis] + 1 for axis in (0, 1))
    down = sum((values[k : k + rows] for k in range(box[0])), np.zeros((rows, values.shape[1])))
    return sum((down[:, k : k + columns] for k in range(box[1])), np.zeros((rows, columns)))


def block_semivariance(
    lags: NDArray[np.integer] | tuple[tuple[int, int], ...], range_pixels: float, factor: int
) -> NDArray[np.float64]:
    """Averages the point model of sill 1 over the pairs of points of two areas: ``[L]``.

    Lags ``[L, 2]`` are rows and columns between the areas in coarse pixels. The mean is not zero at
    lag 0, where pairs lie within one area.
    """
    offsets = np.arange(1 - factor, factor)
    weights = (factor - np.abs(offsets)) / factor**2
    steps = np.asarray(lags, dtype=np.float64)[:, :, None] + offsets / factor
    distance = np.hypot(steps[:, 0, :, None], steps[:, 1, None, :])
    return np.einsum("lab,a,b->l", exponential(distance, 1.0, range_pixels), weights, weights)


def point_to_block_semivariance(
    radius: int, range_pixels: float, factor: int
) -> NDArray[np.float64]:
    """Averages the point model of sill 1 from each point of the middle area to each area.

    ``[factor², (2 · radius + 1)²]``, both in row-major order.
    """
    points = (np.arange(factor) + 0.5) / factor
    blocks = np.arange(-radius, radius + 1)
    # [point, area, point of the area] along one axis; the same for rows and columns.
    steps = blocks[None, :, None] + points[None, None, :] - points[:, None, None]
    side = len(blocks)
    result = np.empty((factor, factor, side, side))
    for row in range(factor):
        for column in range(factor):
            distance = np.hypot(steps[row][:, None, :, None], steps[column][None, :, None, :])
            result[row, column] = exponential(distance, 1.0, range_pixels).mean(axis=(2, 3))
    return result.reshape(factor**2, side**2)


def fit_point_variogram(measured: EmpiricalVariogram, factor: int) -> PointVariogram:
    """Finds the point model whose means over areas are nearest to what was measured.

    For each range the best sill is known in closed form, so the search has one dimension, has
    bounds, and needs no start. Lags weigh as their pairs. Where nothing can be fitted, the model
    is of range ``DEFAULT_RANGE_PIXELS`` and comes with a ``SharpeningWarning``.

    Source: deconvolution in the sense of Pardo-Igúzquiza & Atkinson (2007); between areas, a
    model's mean minus its mean within an area.
    """
    used = (measured.pairs >= _FEWEST_PAIRS) & np.isfinite(measured.gamma_kelvin2)
    gamma = measured.gamma_kelvin2[used]
    if used.sum() < 3:
        warn(
            "too few pairs of valid pixels for a variogram of the residual: kriging continues with "
            f"a range of {DEFAULT_RANGE_PIXELS:g} coarse pixels"
        )
        return PointVariogram(1.0, DEFAULT_RANGE_PIXELS)
    if not gamma.max() > 0:
        # No residual, or the same everywhere: any weights that sum to one give it back.
        return PointVariogram(0.0, DEFAULT_RANGE_PIXELS)
    weights = measured.pairs[used] / measured.pairs[used].sum()
    lags = np.array([(0, 0), *np.array(measured.lags)[used]])

    def misfit(log_range: float) -> tuple[float, float]:
        means = block_semivariance(lags, float(np.exp(log_range)), factor)
        model = means[1:] - means[0]
        sill = float(np.sum(weights * model * gamma) / np.sum(weights * model**2))
        return float(np.sum(weights * (gamma - sill * model) ** 2)), sill

    grid = np.linspace(np.log(SHORTEST_RANGE_PIXELS), np.log(LONGEST_RANGE_PIXELS), 40)
    best = int(np.argmin([misfit(point)[0] for point in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(
        lambda point: misfit(point)[0], bounds=around, method="bounded", options={"xatol": 1e-4}
    )
    return PointVariogram(misfit(found.x)[1], float(np.exp(found.x)))


def fit_as_published(
    measured: EmpiricalVariogram, factor: int, deconvolution: Deconvolution
) -> tuple[PointVariogram, PointVariogram]:
    """Fits as the routines of the two papers do: two free Levenberg-Marquardt fits in a row.

    ``"averaged"`` takes means over areas; ``"verbatim"`` repeats the routines' slip in the
    average, which needs 5 × 5 windows and factor 4.

    Returns:
        The fit to what was measured, from which the second starts, and the fit between points.
        Where a fit fails, of ``DEFAULT_RANGE_PIXELS`` and with a ``SharpeningWarning``.

    Raises:
        ConfigError: If ``"verbatim"`` is asked for with other windows or another factor.
    """
    published = deconvolution == "averaged" or (
        factor == 4 and measured.lags == tuple(_sorted_verbatim_lags())
    )
    if not published:
        raise ConfigError(
            "the verbatim fit works for 5 × 5 windows and factor 4 only",
            field="report",
            found=f"factor {factor}, windows of {int(max(measured.lags)[1]) + 1} pixels",
            action='Take report="averaged".',
        )
    used = np.isfinite(measured.gamma_kelvin2)
    gamma, lags = measured.gamma_kelvin2[used], np.array(measured.lags)[used]
    slips = np.ones(len(lags))
    if deconvolution == "verbatim":
        slips = np.array([_VERBATIM_FACTORS[(int(i), int(j))] for i, j in lags])

    def between_areas(_: NDArray, sill: float, range_: float) -> NDArray:
        means = slips * sill * block_semivariance(lags, range_, factor)
        return means - means[0]

    distance = np.hypot(*lags.T.astype(float))
    try:
        # Free fits may pass through negative ranges.
        with np.errstate(over="ignore", invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            coarse = curve_fit(exponential, distance, gamma, p0=_START, method="lm")[0]
            point = curve_fit(between_areas, distance, gamma, p0=coarse, method="lm")[0]
    except (RuntimeError, TypeError, ValueError) as problem:
        warn(
            f"the variogram of the residual could not be fitted ({problem}): kriging goes on "
            f"with a range of {DEFAULT_RANGE_PIXELS:g} coarse pixels"
        )
        stand_in = PointVariogram(1.0, DEFAULT_RANGE_PIXELS)
        return stand_in, stand_in
    return PointVariogram(*map(float, coarse)), PointVariogram(*map(float, point))


def _sorted_verbatim_lags() -> list[tuple[int, int]]:
    return sorted(_VERBATIM_FACTORS, key=lambda lag: lag[0] ** 2 + lag[1] ** 2)
