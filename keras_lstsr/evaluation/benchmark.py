"""Scores methods against truth, image by image, and says how often bicubic is better.

A method is a callable that takes coarse LST ``[B, h, w]`` in kelvin to fine LST ``[B, 4h, 4w]``.
All methods of one benchmark are scored on the same pixels: where truth and every method's result
are finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import GridError, RecordsError
from keras_lstsr.grids.resample import upsample_bicubic
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.metrics import image
from keras_lstsr.metrics.bootstrap import (
    Interval,
    bootstrap_interval,
    paired_difference_interval,
)
from keras_lstsr.records.batch_settings import BatchSettings
from keras_lstsr.records.reading import load_arrays

Method = Callable[[NDArray[np.float32]], NDArray[np.float32]]

METRICS: dict[str, Callable[..., float]] = {
    "rmse_kelvin": image.rmse,
    "bias_kelvin": image.bias,
    "psnr_db": image.psnr,
    "ssim": image.ssim,
}
BASELINE = "bicubic"
# Whole scenes are scored when at least this many fine pixels can be; SSIM needs windows of 7.
MINIMUM_SCORED_PIXELS = 49


# By the first of these that a benchmark has, a method is called worse than bicubic: the bias-free
# error where there is one, as two instruments differ in the mean for reasons of their own.
MAIN_METRICS = ("bias_free_rmse_kelvin", "rmse_kelvin")


@dataclass(frozen=True)
class ImageScore:
    """The scores of one method on one image.

    Attributes:
        image: Names the image (patch number or granule id).
        method: Names the method.
        scored_pixels: Fine pixels that were scored.
        values: Metric name → value, with its unit in the name.
    """

    image: str
    method: str
    scored_pixels: int
    values: dict[str, float]


@dataclass
class BenchmarkResult:
    """All scores of a benchmark.

    Attributes:
        name: Names files and metrics, e.g. ``"patches_test"``.
        title: What was scored, in words.
        scores: One per image and method.
        metrics: Names of the metrics that each score has.
        groups: Image → the group of images that it shares ground with; images that are not in it
            are taken to be on their own.
        details: How it was scored, for the tables: names and values that JSON knows.
    """

    name: str
    title: str
    scores: list[ImageScore] = field(default_factory=list)
    metrics: tuple[str, ...] = tuple(METRICS)
    groups: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def main_metric(self) -> str:
        """The error by which a method is called worse than bicubic on an image."""
        return next((name for name in MAIN_METRICS if name in self.metrics), self.metrics[0])

    @property
    def methods(self) -> list[str]:
        """The methods in the order in which they were scored."""
        return list(dict.fromkeys(score.method for score in self.scores))

    @property
    def images(self) -> list[str]:
        """The images in the order in which they were scored."""
        return list(dict.fromkeys(score.image for score in self.scores))

    def values(self, method: str, metric: str) -> NDArray[np.float64]:
        """Returns a metric of a method over the images, ``[N]``."""
        return np.array([s.values[metric] for s in self.scores if s.method == method])

    def interval(self, method: str, metric: str) -> Interval:
        """Returns the 95 % bootstrap interval of a method's mean, drawn by groups of images."""
        scores = [score for score in self.scores if score.method == method]
        groups = [self.groups.get(score.image, score.image) for score in scores]
        return bootstrap_interval([score.values[metric] for score in scores], groups)

    def difference_to_baseline(self, method: str) -> Interval | None:
        """Returns the mean of a method's ``main_metric`` less bicubic's, image by image.

        Its 95 % interval, drawn by groups of images, tells whether they differ; that of either
        mean also holds how much images differ among each other.

        Returns:
            Kelvin, below 0 where the method is better; None for bicubic itself or without it.
        """
        if method == BASELINE or BASELINE not in self.methods:
            return None
        errors, baseline = self._by_image(method), self._by_image(BASELINE)
        images = [image for image in errors if image in baseline]
        return paired_difference_interval(
            [errors[image] for image in images],
            [baseline[image] for image in images],
            [self.groups.get(image, image) for image in images],
        )

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
                row["worse_than_bicubic"] = float(self._worse_than_baseline(method))
            row["images"] = float(sum(score.method == method for score in self.scores))
            table[method] = row | ends
        return table

    def _worse_than_baseline(self, method: str) -> int:
        error, baseline = self._by_image(method), self._by_image(BASELINE)
        return sum(error[image] > baseline[image] for image in error.keys() & baseline.keys())

    def _by_image(self, method: str) -> dict[str, float]:
        metric = self.main_metric
        return {s.image: s.values[metric] for s in self.scores if s.method == method}


def bicubic_method(factor: int) -> Method:
    """Returns bicubic upsampling as a method."""
    return lambda lst_kelvin: upsample_bicubic(lst_kelvin, factor)


def predictor_method(predictor: Predictor, batch_size: int = 32) -> Method:
    """Returns a predictor as a method that works in batches of ``batch_size`` images."""

    def method(lst_kelvin: NDArray[np.float32]) -> NDArray[np.float32]:
        batches = [
            predictor.predict(lst_kelvin[start : start + batch_size, ..., None]).lst_kelvin[..., 0]
            for start in range(0, len(lst_kelvin), batch_size)
        ]
        return np.concatenate(batches)

    return method


def score_image(
    name: str, results: Mapping[str, NDArray[np.float32]], truth_kelvin: NDArray[np.float32]
) -> list[ImageScore]:
    """Scores several results for one image on the pixels that all of them and the truth have.

    Args:
        name: Names the image.
        results: Method → fine LST in kelvin, ``[H, W]``; NaN where there is none.
        truth_kelvin: True fine LST in kelvin, ``[H, W]``; NaN where there is none.

    Returns:
        One score per method; none when fewer than 49 pixels can be scored.

    Raises:
        GridError: If a result has another shape than the truth.
    """
    for method, result in results.items():
        if result.shape != truth_kelvin.shape:
            raise GridError(
                f"the result of {method} does not lie on the truth's grid",
                path=name,
                found=f"shape {result.shape}",
                expected=f"shape {truth_kelvin.shape}",
            )
    scored = np.isfinite(truth_kelvin)
    for result in results.values():
        scored &= np.isfinite(result)
    pixels = int(scored.sum())
    if pixels < MINIMUM_SCORED_PIXELS:
        return []
    truth = np.where(scored, truth_kelvin, np.nan)
    return [
        ImageScore(
            name,
            method,
            pixels,
            {metric: float(score(truth, result)) for metric, score in METRICS.items()},
        )
        for method, result in results.items()
    ]


def evaluate_records(
    methods: Mapping[str, Method],
    records_dir: str | PathLike[str],
    *,
    split: str = "test",
    limit: int | None = None,
) -> BenchmarkResult:
    """Scores methods on the 4 km → 1 km task over a split of a records folder.

    Args:
        methods: Name → method; put ``bicubic_method(4)`` under ``"bicubic"`` to compare with.
        records_dir: A folder written by the Beam job.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        limit: Score at most this many patches.

    Raises:
        RecordsError: If the split is empty or nothing in it can be scored.
    """
    settings = BatchSettings(task="4km_to_1km")
    inputs, target = load_arrays(records_dir, split, settings, limit=limit)
    coarse, truth = inputs["lst_kelvin"][..., 0], target[..., 0]
    fine = {name: method(coarse) for name, method in methods.items()}
    result = BenchmarkResult(f"patches_{split}", f"4 km → 1 km, {split} split")
    for index in range(len(coarse)):
        result.scores += score_image(
            f"patch {index}", {name: images[index] for name, images in fine.items()}, truth[index]
        )
    if not result.scores:
        raise RecordsError(
            "no patch can be scored",
            path=str(records_dir),
            field=split,
            action="Prepare the records with max_missing_fraction 0 or from clearer scenes.",
        )
    return result


def evaluate_scenes(
    predictor: Predictor,
    pairs: Sequence[tuple[str, xr.DataArray, xr.DataArray]],
    *,
    method_name: str = "model",
) -> BenchmarkResult:
    """Scores a predictor beside bicubic on whole 1 km scenes with 250 m truth.

    Args:
        predictor: Any predictor.
        pairs: Of each scene its name, coarse LST and true fine LST in kelvin, ``[H, W]`` and
            ``[4H, 4W]``, on nested grids.
        method_name: Names the predictor in the table.

    Raises:
        GridError: If a truth does not nest in its scene's grid.
    """
    result = BenchmarkResult("scenes", "1 km → 250 m, whole scenes")
    for name, coarse, truth in pairs:
        _check_nested(name, coarse, truth, predictor.scale_factor)
        fine = {
            BASELINE: upsample_bicubic(coarse.values, predictor.scale_factor),
            method_name: predict_scene(coarse, predictor)["lst_kelvin_fine"].values,
        }
        result.scores += score_image(name, fine, truth.values)
    return result


def _check_nested(name: str, coarse: xr.DataArray, truth: xr.DataArray, factor: int) -> None:
    coarse_transform, fine_transform = coarse.rio.transform(), truth.rio.transform()
    tolerance_m = 0.01 * abs(fine_transform.a)
    corner = abs(coarse_transform.c - fine_transform.c), abs(coarse_transform.f - fine_transform.f)
    pixel_m = abs(coarse_transform.a / factor - fine_transform.a)
    if max(*corner, pixel_m) > tolerance_m or coarse.rio.crs != truth.rio.crs:
        raise GridError(
            "the truth does not nest in the scene's grid",
            path=name,
            found=f"corner off by {max(corner):.2f} m, pixel by {pixel_m:.2f} m",
            expected=f"the same corner and CRS, {factor} fine pixels to a coarse one",
        )
