"""The data-mining sharpener: bagged regression trees of LST on guides (Gao et al. 2012)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import coarse_guide, coarse_guide_and_share
from keras_lstsr.sharpening.bounds import bound
from keras_lstsr.sharpening.model_trees import fit_bagged_trees, predict_bagged_trees
from keras_lstsr.sharpening.regression import (
    COHERENT,
    global_fit,
    guide_bands,
    pixels_of_fit,
    upsampled_residual,
)

# Leaves of a tree at most, for the scene and for a window.
_LEAVES_OF_SCENE = 30
_LEAVES_OF_WINDOW = 5
# The part of a pixel that the guides cover, in samples.
_LEAST_SHARE = 0.5
# Samples of a model at least, where there are so many; a window with fewer has none.
_SAMPLES_PER_MODEL = 40
# Neighbouring windows overlap by a third; each has a third of the scene's trees.
_STEP = 2 / 3
_TREES_OF_WINDOW = 1 / 3
# Side of the squares over which squared residuals are averaged before they weigh the models.
_RESIDUAL_WINDOW_PIXELS = 5
# A residual this small is nothing, beside what LST is worth.
_SMALLEST_RESIDUAL_KELVIN = 1e-3
# Coarse rows that are predicted at a time, which bounds the memory.
_STRIP_ROWS = 16


def data_mining(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int,
    *,
    trees: int = 30,
    window_pixels: int = 15,
    homogeneous_share: float = 0.8,
    residual: str = "bicubic",
    bounded: bool = True,
    seed: int = 0,
    n_jobs: int = 1,
) -> NDArray[np.floating]:
    """Sharpens LST with bagged regression trees, of the whole scene and of windows.

    Trees with linear models in their leaves are fitted to the guides' means over LST's pixels,
    from the pixels in which the guides vary least, and applied to the fine guides. A leaf's model
    may leave the leaf's range of LST by a quarter of it. One set of trees is for the scene; the
    others are for windows that overlap by a third, each with a third of the trees, and fade into
    each other. At each place the two predictions are weighed by the inverse of their squared
    residuals at LST's resolution (their mean over 5 × 5 pixels). What the sum leaves unexplained
    at LST's resolution is added back.

    Beside the paper: the trees are CART with ridge regressions, not Cubist's; how the guides vary
    inside a pixel is measured by their standard deviation in units of the scene's, since the
    coefficient of variation says nothing for guides around zero; and samples are not weighted.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing.
        guide: ``[h · factor, w · factor]`` or ``[K, h · factor, w · factor]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        trees: Trees of the scene's model.
        window_pixels: Side of the windows in coarse pixels; 0 leaves out the windows. A window
            with less than 40 samples has no model of its own.
        homogeneous_share: The part of the pixels, of the scene and of each window, that serve as
            samples: those in which the guides vary least.
        residual: How the residual is brought to the fine grid: ``"block"``, ``"bilinear"``,
            ``"bicubic"`` or ``"kriging"``. With ``"block"`` and ``"kriging"`` the means over
            LST's pixels are LST.
        bounded: Keeps the result within the range of LST around and three quarters of its width;
            see ``bounds.bound``.
        seed: The same seed gives the same result, for any ``n_jobs``.
        n_jobs: Processes; −1 takes all cores.

    Returns:
        ``[h · factor, w · factor]`` in kelvin of LST's float type. NaN over the gaps of LST and
        where a guide is NaN; nowhere else.

    Raises:
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If all guides are constant, or nearly no pixel has LST and guides.
        ConfigError: If an option is out of its range.

    Source: Gao, Kustas, Anderson (2012), Remote Sensing 4, 3287-3319, sections 2.1-2.4.
    """
    ConfigError.unless(trees >= 1, "trees", trees, "at least 1")
    ConfigError.unless(window_pixels >= 0, "window_pixels", window_pixels, "0 or more")
    a_part = 0 < homogeneous_share <= 1
    expected = "more than 0, at most 1"
    ConfigError.unless(a_part, "homogeneous_share", homogeneous_share, expected)
    bands = guide_bands(lst_kelvin, guide, factor)
    scene = _Scene.of(lst_kelvin, bands, factor, homogeneous_share)
    seeds = np.random.SeedSequence(seed).spawn(2)
    fine = _scene_prediction(scene, trees, seeds[0], n_jobs)
    if window_pixels:
        few = max(1, round(trees * _TREES_OF_WINDOW))
        local, weight = _window_predictions(scene, few, window_pixels, seeds[1], n_jobs)
        there = weight > 0
        local = np.where(there, local / np.where(there, weight, 1), fine)
        share = upsampled_residual(_local_share(scene, fine, local), factor, "bilinear")
        fine += share * (local - fine)
    unexplained = lst_kelvin - coarse_guide(fine, factor)[0]
    fine += upsampled_residual(unexplained.astype(fine.dtype), factor, residual)
    if bounded:
        bound(fine, lst_kelvin, factor, keep_means=residual in COHERENT)
    return fine


@dataclass(frozen=True)
class _Scene:
    """LST and guides, and which coarse pixels may serve as samples."""

    lst_kelvin: NDArray[np.floating]  # [h, w]
    bands: NDArray[np.floating]  # fine guides [K, H, W]
    varying: NDArray[np.bool_]  # [K], whether the guide tells anything
    means: NDArray[np.float64]  # [K], of the coarse guides
    deviations: NDArray[np.float64]  # [K], likewise
    x: NDArray[np.float32]  # [h, w, varying], the coarse guides in units of their spread
    usable: NDArray[np.bool_]  # [h, w], pixels with LST and guides
    unevenness: NDArray[np.float64]  # [h, w], how much the guides vary inside a pixel
    homogeneous_share: float  # the part of the usable pixels that become samples
    factor: int  # fine pixels along a coarse pixel's side

    @classmethod
    def of(
        cls,
        lst_kelvin: NDArray[np.floating],
        bands: NDArray[np.floating],
        factor: int,
        homogeneous_share: float,
    ) -> _Scene:
        coarse, share = coarse_guide_and_share(bands, factor)
        usable = pixels_of_fit(lst_kelvin, coarse)
        fit = global_fit(lst_kelvin, coarse, usable=usable, weights=share)
        # A tree's sample counts whole or not at all.
        covered = usable & (share >= _LEAST_SHARE)
        usable = covered if covered.sum() >= len(bands) + 2 else usable
        varying = ~fit.constant
        means, deviations = fit.means, np.where(varying, fit.deviations, 1.0)
        x = np.moveaxis(coarse - means[:, None, None], 0, -1) / deviations
        return cls(
            lst_kelvin,
            bands,
            varying,
            means,
            deviations,
            np.ascontiguousarray(x[..., varying], np.float32),
            usable,
            _unevenness(bands, coarse, means, deviations, factor),
            homogeneous_share,
            factor,
        )

    def samples(
        self, window: tuple[slice, slice]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Returns guides ``[N, K]`` and LST ``[N]`` of the window's most homogeneous pixels."""
        usable = self.usable[window]
        unevenness = self.unevenness[window][usable]
        wanted = max(round(self.homogeneous_share * unevenness.size), _SAMPLES_PER_MODEL)
        chosen = np.argsort(unevenness, kind="stable")[:wanted]
        x = self.x[window][usable][chosen]
        return x, self.lst_kelvin[window][usable][chosen].astype(np.float64)

    def fine(self, window: tuple[slice, slice]) -> NDArray[np.float32]:
        """Returns a window's fine guides ``[H, W, varying]`` in units of their spread.

        NaN where any guide is, constant or not.
        """
        rows, columns = (slice(s.start * self.factor, s.stop * self.factor) for s in window)
        values = np.moveaxis(self.bands[:, rows, columns], 0, -1)
        gap = ~np.isfinite(values).all(axis=-1)
        scaled = ((values - self.means) / self.deviations)[..., self.varying]
        scaled[gap] = np.nan
        return np.ascontiguousarray(scaled, np.float32)


def _unevenness(
    bands: NDArray[np.floating],
    coarse: NDArray[np.float64],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    factor: int,
) -> NDArray[np.float64]:
    """Mean over the guides of their deviation inside coarse pixels, in units of the scene's."""
    total = np.empty(coarse.shape[1:])
    for top in range(0, len(total), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        strip = bands[:, top * factor : (top + _STRIP_ROWS) * factor]
        scaled = (strip - means[:, None, None]) / deviations[:, None, None]
        mean = (coarse[:, rows] - means[:, None, None]) / deviations[:, None, None]
        variance = coarse_guide(scaled**2, factor) - mean**2
        total[rows] = np.sqrt(np.maximum(variance, 0.0)).mean(axis=0)
    return total


def _each(
    function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], n_jobs: int
) -> Iterator[Any]:
    """Calls a function in so many processes; the results come one by one and in order."""
    if n_jobs == 1:
        return (function(*values) for values in arguments)
    from sklearn.utils.parallel import Parallel, delayed

    calls = (delayed(function)(*values) for values in arguments)
    results: Iterator[Any] = Parallel(n_jobs=n_jobs, return_as="generator")(calls)
    return results


def _scene_prediction(
    scene: _Scene, trees: int, seed: np.random.SeedSequence, n_jobs: int
) -> NDArray[np.floating]:
    """What the trees of the scene say, ``[H, W]`` of LST's float type."""
    height, width = scene.lst_kelvin.shape
    x, y = scene.samples((slice(0, height), slice(0, width)))
    rng = np.random.default_rng(seed)
    model = fit_bagged_trees(x, y, trees=trees, max_leaves=_LEAVES_OF_SCENE, rng=rng)
    result = np.empty(scene.bands.shape[1:], scene.lst_kelvin.dtype)
    tops = range(0, height, _STRIP_ROWS)
    strips = [(slice(top, min(top + _STRIP_ROWS, height)), slice(0, width)) for top in tops]
    arguments = ((model, scene.fine(strip)) for strip in strips)
    for (rows, _), values in zip(
        strips, _each(predict_bagged_trees, arguments, n_jobs), strict=True
    ):
        result[rows.start * scene.factor : rows.stop * scene.factor] = values
    return result


def _window_predictions(
    scene: _Scene, trees: int, window_pixels: int, seed: np.random.SeedSequence, n_jobs: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The weighted sum of what the windows' trees say, and the sum of weights, ``[H, W]``."""
    shape = scene.bands.shape[1:]
    total, weight = (np.zeros(shape, scene.lst_kelvin.dtype) for _ in range(2))
    height, width = scene.lst_kelvin.shape
    windows = [
        (rows, columns)
        for rows in _window_slices(height, window_pixels)
        for columns in _window_slices(width, window_pixels)
        if scene.usable[rows, columns].sum() >= _SAMPLES_PER_MODEL
    ]
    seeds = seed.spawn(len(windows))
    arguments = (
        (*scene.samples(window), scene.fine(window), trees, own)
        for window, own in zip(windows, seeds, strict=True)
    )
    for window, values in zip(windows, _each(_window, arguments, n_jobs), strict=True):
        rows, columns = (slice(s.start * scene.factor, s.stop * scene.factor) for s in window)
        fading = np.outer(*(_fading(length) for length in values.shape)).astype(total.dtype)
        # A NaN guide is NaN in all windows that see it: it may as well add up.
        total[rows, columns] += fading * values
        weight[rows, columns] += fading
    return total, weight


def _window(
    x: NDArray[np.float32],
    y: NDArray[np.float64],
    fine: NDArray[np.float32],
    trees: int,
    seed: np.random.SeedSequence,
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    model = fit_bagged_trees(x, y, trees=trees, max_leaves=_LEAVES_OF_WINDOW, rng=rng)
    return predict_bagged_trees(model, fine)


def _window_slices(length: int, window_pixels: int) -> list[slice]:
    """Windows that cover an axis evenly and overlap by a third or somewhat more."""
    if length <= window_pixels:
        return [slice(0, length)]
    last = length - window_pixels
    count = int(np.ceil(last / max(1.0, window_pixels * _STEP))) + 1
    starts = np.rint(np.linspace(0, last, count)).astype(int)
    return [slice(int(start), int(start) + window_pixels) for start in starts]


def _fading(length: int) -> NDArray[np.float64]:
    """Weights along a window: greatest in the middle, and never zero."""
    place = np.arange(length) + 0.5
    return np.minimum(place, length - place)


def _local_share(
    scene: _Scene, fine: NDArray[np.floating], local: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Weight ``[h, w]`` of the windows' prediction beside the scene's: inverse square residuals."""
    squared = [_mean_squared_residual(scene, fine), _mean_squared_residual(scene, local)]
    least = _SMALLEST_RESIDUAL_KELVIN**2
    share = (squared[0] + least) / (squared[0] + squared[1] + 2 * least)
    return share.astype(fine.dtype)


def _mean_squared_residual(scene: _Scene, prediction: NDArray[np.floating]) -> NDArray[np.float64]:
    residual = scene.lst_kelvin - coarse_guide(prediction, scene.factor)[0]
    there = np.isfinite(residual)
    size = _RESIDUAL_WINDOW_PIXELS
    total = ndimage.uniform_filter(np.where(there, residual**2, 0.0), size, mode="constant")
    pixels = ndimage.uniform_filter(there.astype(np.float64), size, mode="constant")
    return np.where(there, np.maximum(total, 0.0) / np.where(there, pixels, 1.0), np.nan)
