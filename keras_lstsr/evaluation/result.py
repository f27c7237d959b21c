"""Scores: of results that lie on one grid with their truth, and of a benchmark over images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.metrics import image
from keras_lstsr.metrics.bootstrap import (
    Interval,
    bootstrap_interval,
    paired_difference_interval,
)
from keras_lstsr.records.scene_sample import extent_of

BASELINE = "bicubic"
# By the first of these that a benchmark has, a method is called worse than bicubic: the bias-free
# error where there is one, as two instruments differ in the mean for reasons of their own.
MAIN_METRICS = ("bias_free_rmse_kelvin", "rmse_kelvin")
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


@dataclass(frozen=True)
class ImageScore:
    """The scores of one method on one image.

    Attributes:
        image: Names the image: its sample, or a part of it.
        method: Names the method.
        scored_pixels: Fine pixels that were scored.
        values: Metric name → value, with its unit in the name.
    """

    image: str
    method: str
    scored_pixels: int
    values: dict[str, float]


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Results and truth on one grid, ready to be scored.

    Attributes:
        image: Names the image.
        truth: Truth in kelvin, ``[H, W]``; NaN where nothing is scored.
        maps: Method → result in kelvin, ``[H, W]``, NaN where missing.
        pixel_size_m: Side of a pixel.
        consistency: Method → RMSE in kelvin between its coarse means and the LST that it got.
        further: Method → metric → value that the protocol itself has found.
    """

    image: str
    truth: NDArray[np.floating]
    maps: Mapping[str, NDArray[np.floating]]
    pixel_size_m: float
    consistency: Mapping[str, float] = field(default_factory=dict)
    further: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


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
    return values | dict(maps.further.get(method, {}))


@dataclass
class BenchmarkResult:
    """All scores of a benchmark.

    Attributes:
        name: Names files and metrics, e.g. ``"aster"``.
        title: What was scored, in words.
        scores: One per image and method.
        groups: Image → the group of images that it shares ground with; images that are not in it
            are taken to be on their own.
        day_night: Image → ``day``, ``night`` or ``unknown``.
        main_metrics: By the first of these that the scores have, methods are compared.
        details: How it was scored, for the tables: names and values that JSON knows.
    """

    name: str
    title: str
    scores: list[ImageScore] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    day_night: dict[str, str] = field(default_factory=dict)
    main_metrics: Sequence[str] = MAIN_METRICS
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that each score has."""
        return tuple(self.scores[0].values) if self.scores else ()

    @property
    def main_metric(self) -> str:
        """The error by which a method is called worse than bicubic on an image."""
        there = [name for name in self.main_metrics if name in self.metrics]
        return (there or [*self.metrics, self.main_metrics[0]])[0]

    @property
    def methods(self) -> list[str]:
        """The methods in the order in which they were scored."""
        return list(dict.fromkeys(score.method for score in self.scores))

    @property
    def images(self) -> list[str]:
        """The images in the order in which they were scored."""
        return list(dict.fromkeys(score.image for score in self.scores))

    @property
    def group_of_images(self) -> list[str]:
        """The group of each image."""
        return [self.groups.get(image, image) for image in self.images]

    def values(self, method: str, metric: str) -> NDArray[np.float64]:
        """Returns a metric of a method over the images, ``[N]``; NaN where it has none."""
        found = {s.image: s.values.get(metric, np.nan) for s in self.scores if s.method == method}
        return np.array([found.get(image, np.nan) for image in self.images], dtype=np.float64)

    def interval(self, method: str, metric: str) -> Interval:
        """Returns the 95 % bootstrap interval of a method's mean, drawn by groups of images."""
        return bootstrap_interval(self.values(method, metric), self.group_of_images)

    def excess(self, method: str) -> NDArray[np.float64]:
        """Returns how much worse than bicubic a method is on each image by ``main_metric``.

        Returns:
            ``[N]`` in the metric's unit, below 0 where the method is better.
        """
        with np.errstate(invalid="ignore"):
            return self._badness(method) - self._badness(BASELINE)

    def difference_to_baseline(self, method: str) -> Interval | None:
        """Returns the mean of a method's ``excess`` over bicubic.

        Its 95 % interval, drawn by groups of images, tells whether they differ; that of either
        mean also holds how much images differ among each other.

        Returns:
            None for bicubic itself, without bicubic, and where fewer than two groups of images
            tell of the spread.
        """
        if method == BASELINE or BASELINE not in self.methods:
            return None
        interval = paired_difference_interval(
            self._badness(method), self._badness(BASELINE), self.group_of_images
        )
        return interval if np.isfinite([interval.low, interval.high]).all() else None

    def summary(self) -> dict[str, dict[str, float]]:
        """Returns, by method, the mean of each metric and how many images bicubic does better.

        The mean leaves out images whose metric is not finite (PSNR of a perfect or constant one).
        ``<metric>_low`` and ``<metric>_high`` are its 95 % interval, and lack where fewer than two
        groups of images tell of the spread. Bicubic does better where its ``main_metric`` is less.
        """
        table: dict[str, dict[str, float]] = {}
        for method in self.methods:
            row: dict[str, float] = {}
            ends: dict[str, float] = {}
            for metric in self.metrics:
                interval = self.interval(method, metric)
                row[metric] = interval.mean
                if np.isfinite([interval.low, interval.high]).all():
                    ends[f"{metric}_low"], ends[f"{metric}_high"] = interval.low, interval.high
            if BASELINE in self.methods:
                row["worse_than_bicubic"] = float(np.sum(self.excess(method) > 0))
            row["images"] = float(sum(score.method == method for score in self.scores))
            table[method] = row | ends
        return table

    def _badness(self, method: str) -> NDArray[np.float64]:
        return badness(self.main_metric, self.values(method, self.main_metric))


def badness(metric: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns values of a metric into ones of which less is better."""
    if metric == "bias_kelvin":
        return np.abs(values)
    if metric == "in_90_interval":
        return np.abs(values - 0.9)
    return values if metric.endswith("_kelvin") or metric.startswith("ratio_") else -values
