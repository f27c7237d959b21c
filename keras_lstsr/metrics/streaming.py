"""Keras metrics that agree with ``keras_lstsr.metrics.image``, masked, on any backend.

They take the training target ``[B, H, W, C]`` (channel 0: LST in kelvin) and the prediction
``[B, H, W, C]`` (likewise); NaN in either is not scored. Only sums are kept, so that replicas add
up. ``keras_lstsr.losses.MeanGradientError`` compares a prediction with NDVI.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import keras
from keras import ops

from keras_lstsr.metrics.image import SSIM_K1, SSIM_K2, SSIM_WINDOW_PIXELS

PACKAGE = "keras_lstsr"
_PLACEHOLDER_KELVIN = 300.0


def _prepared(y_true: Any, y_pred: Any, dtype: str) -> tuple[Any, Any, Any]:
    """Target channel 0 and prediction without NaN, and the mask of scored pixels."""
    target = ops.cast(ops.convert_to_tensor(y_true), dtype)[..., :1]
    predicted = ops.cast(ops.convert_to_tensor(y_pred), dtype)[..., :1]
    scored = ops.logical_not(ops.logical_or(ops.isnan(target), ops.isnan(predicted)))
    placeholder = ops.cast(_PLACEHOLDER_KELVIN, dtype)
    target = ops.where(scored, target, placeholder)
    return target, ops.where(scored, predicted, placeholder), scored


def _range(target: Any, scored: Any, given: float | None) -> tuple[Any, Any]:
    """Range of each image over its scored pixels, ``[B]``, and whether it has any.

    The range is 1 where there is none, so that dividing by it does no harm.
    """
    axes = (1, 2, 3)
    if given is None:
        infinite = ops.cast(float("inf"), target.dtype)
        highest = ops.max(ops.where(scored, target, -infinite), axis=axes)
        extent = highest - ops.min(ops.where(scored, target, infinite), axis=axes)
    else:
        extent = ops.full_like(target[:, 0, 0, 0], given)
    counted = ops.logical_and(ops.any(scored, axis=axes), extent > 0)
    return ops.where(counted, extent, ops.ones_like(extent)), counted


class _Average(keras.metrics.Metric):
    """Keeps a weighted sum and the sum of its weights."""

    def __init__(self, name: str, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def _add(self, values: Any, counted: Any, sample_weight: Any) -> None:
        weights = ops.cast(counted, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), self.dtype)
            rank = len(values.shape) - len(sample_weight.shape)
            for _ in range(rank):
                sample_weight = ops.expand_dims(sample_weight, -1)
            weights = weights * sample_weight
        # Where nothing is counted the value may be infinite, and 0 × inf is NaN.
        values = ops.where(weights > 0, values, ops.zeros_like(values))
        self.total.assign_add(ops.sum(values * weights))
        self.count.assign_add(ops.sum(weights))

    def _mean(self) -> Any:
        # Nothing scored yet is NaN, as in NumPy, and not a perfect 0.
        mean = self.total / ops.maximum(self.count, 1e-30)
        return ops.where(self.count > 0, mean, ops.cast(float("nan"), self.dtype))


@keras.saving.register_keras_serializable(package=PACKAGE)
class RootMeanSquareErrorKelvin(_Average):
    """Root mean square error in kelvin over all scored pixels of all batches.

    Args:
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(self, name: str = "rmse_kelvin", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        self._add(ops.square(predicted - target), scored, sample_weight)

    def result(self) -> Any:
        """The error so far; NaN before the first scored pixel."""
        return ops.sqrt(self._mean())


@keras.saving.register_keras_serializable(package=PACKAGE)
class MeanAbsoluteErrorKelvin(_Average):
    """Mean absolute error in kelvin over all scored pixels of all batches.

    Args:
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(self, name: str = "mae_kelvin", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        self._add(ops.abs(predicted - target), scored, sample_weight)

    def result(self) -> Any:
        """The error so far; NaN before the first scored pixel."""
        return self._mean()


@keras.saving.register_keras_serializable(package=PACKAGE)
class BiasKelvin(_Average):
    """Mean of prediction minus truth in kelvin over all scored pixels of all batches.

    Args:
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(self, name: str = "bias_kelvin", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        self._add(predicted - target, scored, sample_weight)

    def result(self) -> Any:
        """The bias so far; NaN before the first scored pixel."""
        return self._mean()


@keras.saving.register_keras_serializable(package=PACKAGE)
class PeakSignalToNoiseRatio(_Average):
    """Peak signal-to-noise ratio in decibels, per image, averaged over images.

    The range of each image is that of its truth over the scored pixels, unless given. Images
    without a scored pixel or without range do not count.

    Args:
        data_range_kelvin: One range for all images; None takes each image's own.
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(
        self, data_range_kelvin: float | None = None, name: str = "psnr", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.data_range_kelvin = None if data_range_kelvin is None else float(data_range_kelvin)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; ``sample_weight`` is per image, ``[B]``."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        axes = (1, 2, 3)
        weights = ops.cast(scored, self.dtype)
        count = ops.sum(weights, axis=axes)
        squared = ops.sum(ops.square(predicted - target) * weights, axis=axes)
        mean_square = squared / ops.maximum(count, 1.0)
        extent, counted = _range(target, scored, self.data_range_kelvin)
        # A perfect image has an infinite ratio, here as in NumPy.
        ratio = (2.0 * ops.log(extent) - ops.log(mean_square)) * (10.0 / math.log(10.0))
        self._add(ratio, counted, sample_weight)

    def result(self) -> Any:
        """The mean ratio so far; NaN before the first image that counts."""
        return self._mean()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "data_range_kelvin": self.data_range_kelvin}


class _PerImageSimilarity(_Average, ABC):
    """Structural similarity per image, averaged over the images that have any."""

    def __init__(self, data_range_kelvin: float | None, name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.data_range_kelvin = None if data_range_kelvin is None else float(data_range_kelvin)

    @abstractmethod
    def _similarity(
        self, truth: Any, predicted: Any, scored: Any, mean: Any, c1: Any, c2: Any
    ) -> tuple[Any, Any]:
        """Similarity of each image and whether it counts, both ``[B]``.

        ``truth`` and ``predicted`` are anomalies from ``mean``, the truth's own, and 0 where they
        are not scored.
        """

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; ``sample_weight`` is per image, ``[B]``."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        extent, ranged = _range(target, scored, self.data_range_kelvin)
        # Anomalies: near 300 K float32 would leave little of a variance.
        mean = _masked_mean(target, scored)
        mean = mean + _masked_mean(target - mean, scored)
        zero = ops.zeros_like(target)
        truth = ops.where(scored, target - mean, zero)
        predicted = ops.where(scored, predicted - mean, zero)
        extent = ops.reshape(extent, (-1, 1, 1, 1))
        c1, c2 = ops.square(SSIM_K1 * extent), ops.square(SSIM_K2 * extent)
        similarity, counted = self._similarity(truth, predicted, scored, mean, c1, c2)
        self._add(similarity, ops.logical_and(counted, ranged), sample_weight)

    def result(self) -> Any:
        """The mean similarity so far; NaN before the first image that counts."""
        return self._mean()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "data_range_kelvin": self.data_range_kelvin}


@keras.saving.register_keras_serializable(package=PACKAGE)
class StructuralSimilarity(_PerImageSimilarity):
    """Structural similarity in a sliding 7 × 7 window: ``keras_lstsr.metrics.image.ssim``.

    Windows that hold a pixel that is not scored do not count, nor do images without a whole window
    or without range.

    Args:
        data_range_kelvin: One range for all images; None takes that of each image's truth.
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(
        self, data_range_kelvin: float | None = None, name: str = "ssim", dtype: Any = None
    ) -> None:
        super().__init__(data_range_kelvin, name, dtype)

    def _similarity(
        self, truth: Any, predicted: Any, scored: Any, mean: Any, c1: Any, c2: Any
    ) -> tuple[Any, Any]:
        pixels = SSIM_WINDOW_PIXELS**2
        x, y = _window_sums(truth) / pixels, _window_sums(predicted) / pixels
        sample = pixels / (pixels - 1)
        variances = _window_sums(ops.square(truth) + ops.square(predicted)) / pixels
        variances = sample * (variances - ops.square(x) - ops.square(y))
        covariance = sample * (_window_sums(truth * predicted) / pixels - x * y)
        similarity = _luminance(x, y, mean, c1) * (2.0 * covariance + c2) / (variances + c2)
        inner = _window_sums(ops.cast(scored, self.dtype)) > pixels - 0.5
        counted = ops.any(inner, axis=(1, 2, 3))
        return ops.reshape(_masked_mean(similarity, inner), (-1,)), counted


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalStructuralSimilarity(_PerImageSimilarity):
    """Structural similarity of whole images: ``keras_lstsr.metrics.image.ssim_global``.

    Args:
        data_range_kelvin: One range for all images; None takes that of each image's truth.
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(
        self, data_range_kelvin: float | None = None, name: str = "ssim_global", dtype: Any = None
    ) -> None:
        super().__init__(data_range_kelvin, name, dtype)

    def _similarity(
        self, truth: Any, predicted: Any, scored: Any, mean: Any, c1: Any, c2: Any
    ) -> tuple[Any, Any]:
        x, y = _masked_mean(truth, scored), _masked_mean(predicted, scored)
        variances = _masked_mean(ops.square(truth - x) + ops.square(predicted - y), scored)
        covariance = _masked_mean((truth - x) * (predicted - y), scored)
        similarity = _luminance(x, y, mean, c1) * (2.0 * covariance + c2) / (variances + c2)
        return ops.reshape(similarity, (-1,)), ops.any(scored, axis=(1, 2, 3))


def _masked_mean(values: Any, counted: Any) -> Any:
    """Mean over the pixels that count, ``[B, 1, 1, 1]``; 0 where none does."""
    weights = ops.cast(counted, values.dtype)
    count = ops.sum(weights, axis=(1, 2, 3), keepdims=True)
    return ops.sum(values * weights, axis=(1, 2, 3), keepdims=True) / ops.maximum(count, 1.0)


def _window_sums(values: Any) -> Any:
    """Sums over all whole 7 × 7 windows: ``[B, H, W, C] → [B, H − 6, W − 6, C]``."""
    last = SSIM_WINDOW_PIXELS - 1
    rows = [values[:, k : k - last or None] for k in range(SSIM_WINDOW_PIXELS)]
    columns = sum(rows[1:], rows[0])
    columns = [columns[:, :, k : k - last or None] for k in range(SSIM_WINDOW_PIXELS)]
    return sum(columns[1:], columns[0])


def _luminance(x: Any, y: Any, mean: Any, c1: Any) -> Any:
    """SSIM's luminance of the anomalies x and y: ``(2 μx μy + c1) / (μx² + μy² + c1)``.

    Written as 1 minus a small number, which float32 keeps near 300 K.
    """
    return 1.0 - ops.square(x - y) / (ops.square(x + mean) + ops.square(y + mean) + c1)
