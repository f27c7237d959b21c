"""What a report shows beside the scores: spectra, a sample of pixels, maps of some images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.evaluation.report.content import SceneMaps, Spectra
from keras_lstsr.evaluation.report.tables import HEADINGS
from keras_lstsr.evaluation.result import BASELINE, BenchmarkResult
from keras_lstsr.evaluation.scoring import ImageMaps
from keras_lstsr.metrics.spectra import fourier_ring_correlation, radial_power_spectrum
from keras_lstsr.records.masks import extent_of
from keras_lstsr.records.scene_sample import SceneSample

SPECTRUM_RINGS = 64
SCATTER_PIXELS = 6000
# Larger scenes are shown in part: the window with most scored pixels.
MAXIMUM_MAP_PIXELS = 512


class Collector:
    """Means of spectra and a sample of pixels over the images of one result.

    Memory holds the curves and some thousand pixels, however many images there are.
    """

    def __init__(self) -> None:
        self._frequency: NDArray[np.floating] | None = None
        self._pixel_size_m: float | None = None
        self._power: dict[str, list[NDArray[np.floating]]] = {}
        self._ring: dict[str, list[NDArray[np.floating]]] = {}
        self._rng = np.random.default_rng(0)
        self._methods: list[str] = []
        # Random key, truth and each method's result of the pixels with the smallest keys.
        self._pixels: NDArray[np.floating] | None = None

    def add(self, maps: ImageMaps) -> None:
        """Takes in an image that has been scored."""
        scored = np.isfinite(maps.truth)
        for values in maps.maps.values():
            scored &= np.isfinite(values)
        part = extent_of(scored)
        truth = np.where(scored[part], maps.truth[part], np.nan)
        images = {m: np.where(scored[part], v[part], np.nan) for m, v in maps.maps.items()}
        self._sample(truth, images)
        if min(truth.shape) < 2 * SPECTRUM_RINGS:
            return
        pixel_m, rings = maps.pixel_size_m, SPECTRUM_RINGS
        frequency, power = radial_power_spectrum(truth, pixel_m, rings=rings)
        # Pixel sizes that differ a little from image to image are taken as the first one's.
        if self._frequency is None:
            self._frequency, self._pixel_size_m = frequency, pixel_m
        self._power.setdefault("", []).append(power)
        for method, values in images.items():
            _, power = radial_power_spectrum(values, pixel_m, rings=rings)
            self._power.setdefault(method, []).append(power)
            _, ring = fourier_ring_correlation(truth, values, pixel_m, rings=rings)
            self._ring.setdefault(method, []).append(ring)

    def _sample(
        self, truth: NDArray[np.floating], images: Mapping[str, NDArray[np.floating]]
    ) -> None:
        where = np.flatnonzero(np.isfinite(truth))
        chosen = self._rng.permutation(where)[:SCATTER_PIXELS]
        columns = [self._rng.random(chosen.size), truth.ravel()[chosen]]
        columns += [values.ravel()[chosen] for values in images.values()]
        pixels = np.stack(columns, dtype=np.float64)
        if self._pixels is not None:
            pixels = np.concatenate([self._pixels, pixels], axis=1)
        self._methods = list(images)
        self._pixels = pixels[:, np.argsort(pixels[0])[:SCATTER_PIXELS]]

    def spectra(self, factor: int) -> Spectra | None:
        """Returns the mean spectra; None where no image was large enough to have one."""
        if self._frequency is None or self._pixel_size_m is None:
            return None
        mean = {name: np.nanmean(curves, axis=0) for name, curves in self._power.items()}
        truth = mean.pop("")
        ring = {name: np.nanmean(curves, axis=0) for name, curves in self._ring.items()}
        coarse_m = factor * self._pixel_size_m
        return Spectra(self._frequency, truth, mean, ring, coarse_pixel_size_m=coarse_m)

    def scatter(self) -> dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]]:
        """Returns, by method, true and predicted kelvin of pixels drawn from all images."""
        if self._pixels is None:
            return {}
        _, truth, *predictions = self._pixels
        return {m: (truth, values) for m, values in zip(self._methods, predictions, strict=True)}


def representative_images(result: BenchmarkResult) -> tuple[list[str], str]:
    """Chooses the images that a report shows.

    Those where the best method on average (bicubic aside) gains most on bicubic by the main
    metric, the median amount, and least; without bicubic, where its own error is.

    Returns:
        Up to three images, and the rule in words.
    """
    metric = result.main_metric
    errors = {method: result.values(method, metric) for method in result.methods}
    others = [method for method in result.methods if method != BASELINE] or result.methods
    best = min(others, key=lambda method: float(np.mean(errors[method])))
    against = BASELINE if BASELINE in errors and best != BASELINE else None
    gain = errors[best] - (errors[against] if against else 0.0)
    ranked = [result.images[index] for index in np.argsort(gain, kind="stable")]
    chosen = [ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1]]
    compared = f"gains on {BASELINE}" if against else "errs"
    order = "most, the median amount and least" if against else "least, the median amount and most"
    name = HEADINGS.get(metric, metric).partition(" (")[0]
    rule = f"Scenes shown: where {best}, the best on average, {compared} {order} ({name})."
    return list(dict.fromkeys(chosen)), rule


def scene_maps(maps: ImageMaps, sample: SceneSample, result: BenchmarkResult) -> SceneMaps:
    """Returns what a report shows of an image: all of it, or the clearest part of a large one.

    Args:
        maps: What was scored.
        sample: What the methods saw.
        result: The scores.
    """
    part = extent_of(np.isfinite(maps.truth))
    coarse, guides = np.asarray(sample.lst.values), sample.guides
    shown_guides = {name: np.asarray(guide.values) for name, guide in guides.items()}
    if max(maps.truth[part].shape) > MAXIMUM_MAP_PIXELS:
        part = clearest_window(np.isfinite(maps.truth), MAXIMUM_MAP_PIXELS)
        coarse = _same_ground(coarse, part, maps.truth.shape)
        shown_guides = {
            name: _same_ground(values, part, maps.truth.shape)
            for name, values in shown_guides.items()
        }
    metric = result.main_metric
    return SceneMaps(
        name=maps.image,
        group=sample.group,
        coarse_kelvin=coarse,
        truth_kelvin=maps.truth[part],
        maps={method: values[part] for method, values in maps.maps.items()},
        scores={
            s.method: {metric: s.values[metric]} for s in result.scores if s.image == maps.image
        },
        guides={
            GUIDES[name].long_name if name in GUIDES else name: values
            for name, values in shown_guides.items()
        },
        pixel_size_m=maps.pixel_size_m,
    )


def _same_ground(
    values: NDArray[np.floating], part: tuple[slice, slice], shape: tuple[int, ...]
) -> NDArray[np.floating]:
    """Cuts about the ground of a window of an image out of an array that covers the same ground."""
    return values[
        tuple(
            slice(window.start * own // whole, -(-window.stop * own // whole))
            for window, own, whole in zip(part, values.shape, shape, strict=True)
        )
    ]


def clearest_window(valid: NDArray[np.bool_], size: int) -> tuple[slice, slice]:
    """Returns rows and columns of the ``size`` × ``size`` window with most valid pixels.

    Args:
        valid: ``[H, W]``, True where there is a value.
        size: Side of the window; a smaller raster is taken whole.
    """
    height, width = (min(size, side) for side in valid.shape)
    total = np.pad(valid.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts = (
        total[height:, width:]
        - total[:-height, width:]
        - total[height:, :-width]
        + total[:-height, :-width]
    )
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    return slice(int(row), int(row) + height), slice(int(column), int(column) + width)
