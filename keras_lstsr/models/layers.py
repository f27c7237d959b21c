"""Layers of the temperature models: gaps, upsampling and scaling, for any image size.

Height and width may be unknown while a model is built: every layer works with the shape that a
call brings. Layers that carry kelvin compute in float32 whatever the global dtype policy says,
because half precision resolves 300 K only to 0.25 K.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import phase_weights

PACKAGE = "keras_lstsr"


@keras.saving.register_keras_serializable(package=PACKAGE)
class FillGaps(keras.layers.Layer):
    """Fills missing pixels so that a network never sees NaN.

    A missing pixel takes the mean of the valid pixels in the smallest of the windows that holds
    one; beyond the largest window the mean of the image's valid pixels; in an image without any
    valid pixel, ``empty_value``. Valid pixels pass through unchanged, and no gradient is NaN.

    Args:
        empty_value: Fill value of an image that has no valid pixel.
        windows: Sides of the square windows in pixels, odd, growing.

    Input and output: LST in kelvin or a guide, ``[B, h, w, 1]``; NaN where there is none (input
    only). ``empty_value`` is in the same unit and near the values, for the digits of float32.
    """

    def __init__(
        self, empty_value: float, windows: tuple[int, ...] = (3, 5, 9, 17), **kwargs: Any
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.empty_value = float(empty_value)
        self.windows = tuple(int(window) for window in windows)

    def call(self, values: Any) -> Any:
        """Fills the gaps of ``[B, h, w, 1]``."""
        missing = ops.isnan(values)
        valid = ops.cast(ops.logical_not(missing), self.compute_dtype)
        # Sums of anomalies, not of kelvin: float32 keeps 1e-5 K, and zero means "average".
        anomaly = ops.where(missing, 0.0, values - self.empty_value)
        count = ops.sum(valid, axis=(1, 2), keepdims=True)
        mean = ops.sum(anomaly, axis=(1, 2), keepdims=True) / ops.maximum(count, 1.0)
        fill = ops.broadcast_to(mean, ops.shape(anomaly))
        for window in reversed(self.windows):
            share, local = self._local_mean(valid, window), self._local_mean(anomaly, window)
            # Half of one pixel's share separates "some" from "none" despite rounding.
            some = share > 0.5 / window**2
            fill = ops.where(some, local / ops.where(some, share, 1.0), fill)
        return ops.where(missing, fill + self.empty_value, values)

    @staticmethod
    def _local_mean(values: Any, window: int) -> Any:
        # One axis after the other: 2 n instead of n² additions per pixel.
        for pool in ((window, 1), (1, window)):
            values = ops.average_pool(values, pool, strides=1, padding="same")
        return values

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "empty_value": self.empty_value,
            "windows": list(self.windows),
        }


class ScaleFactorLayer(keras.layers.Layer):
    """A layer in float32 that knows how many fine pixels lie along a coarse pixel's side.

    Args:
        scale_factor: Fine pixels along a coarse pixel's side.
    """

    def __init__(self, scale_factor: int, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.scale_factor = int(scale_factor)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale_factor": self.scale_factor}


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaskGaps(ScaleFactorLayer):
    """Sets the fine pixels of missing coarse pixels to NaN, and no others.

    Args:
        scale_factor: Fine pixels along a coarse pixel's side.

    Inputs: ``[fine, coarse]``: LST ``[B, h·f, w·f, 1]`` and the model's own input
    ``[B, h, w, 1]``, NaN where there is none. Output: ``fine`` with the gaps of ``coarse``.
    """

    def call(self, inputs: list[Any]) -> Any:
        """Masks ``[fine, coarse]``."""
        fine, coarse = inputs
        missing = ops.isnan(coarse)
        for axis in (1, 2):
            missing = ops.repeat(missing, self.scale_factor, axis=axis)
        return ops.where(missing, float("nan"), fine)

    def compute_output_shape(
        self, input_shape: list[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """The fine input's shape."""
        return tuple(input_shape[0])


@keras.saving.register_keras_serializable(package=PACKAGE)
class Upsample(ScaleFactorLayer):
    """Upsamples by an integer factor as ``keras_lstsr.grids.resample`` defines it.

    Half-pixel centres, clamped edges. Each sub-pixel phase is a fixed sum of at most five shifted
    copies of the image, so the height and width need not be known.

    Args:
        scale_factor: Fine pixels along a coarse pixel's side.
        method: ``"bicubic"`` (a = −0.75) or ``"bilinear"``.

    Input: ``[B, h, w, C]`` without NaN. Output: ``[B, h·f, w·f, C]``.
    """

    def __init__(
        self,
        scale_factor: int,
        method: Literal["bicubic", "bilinear"] = "bicubic",
        **kwargs: Any,
    ) -> None:
        super().__init__(scale_factor, **kwargs)
        self.method = method
        # Plain floats: a NumPy scalar is float64 and would promote a float32 tensor.
        self._phases = [[float(w) for w in row] for row in phase_weights(scale_factor, method)]

    def call(self, values: Any) -> Any:
        """Upsamples ``[B, h, w, C]``."""
        return self._along(self._along(values, axis=1), axis=2)

    def _along(self, values: Any, axis: int) -> Any:
        def window(tensor: Any, start: int, stop: int | None) -> Any:
            index: list[slice] = [slice(None)] * 4
            index[axis] = slice(start, stop)
            return tensor[tuple(index)]

        first, last = window(values, 0, 1), window(values, -1, None)
        padded = ops.concatenate([first, first, values, last, last], axis=axis)
        taps = [window(padded, k, k - 4 if k < 4 else None) for k in range(5)]
        # Weights sum to one: adding weighted differences from the pixel itself loses no digits,
        # since nearby temperatures subtract exactly.
        differences = [tap - values for tap in taps]
        phases = []
        for row in self._phases:
            terms = [
                w * d
                for k, (w, d) in enumerate(zip(row, differences, strict=True))
                if w != 0.0 and k != 2
            ]
            phases.append(values + sum(terms[1:], terms[0]) if terms else values)
        shape = list(ops.shape(values))
        shape[axis] = shape[axis] * self.scale_factor
        return ops.reshape(ops.stack(phases, axis=axis + 1), shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """``[B, h·f, w·f, C]``."""
        batch, height, width, channels = input_shape
        fine = [None if side is None else side * self.scale_factor for side in (height, width)]
        return (batch, fine[0], fine[1], channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "method": self.method}


@keras.saving.register_keras_serializable(package=PACKAGE)
class NormaliseTemperature(keras.layers.Layer):
    """Kelvin to network units, or back: ``(T − offset) / scale`` and its inverse.

    Args:
        offset_kelvin: Subtracted from temperature.
        scale_kelvin: Divides temperature; above zero.
        inverse: Turn network units into kelvin instead.
    """

    def __init__(
        self, offset_kelvin: float, scale_kelvin: float, inverse: bool = False, **kwargs: Any
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if not scale_kelvin > 0:
            raise ConfigError(
                "temperature cannot be divided by it",
                field="scale_kelvin",
                found=scale_kelvin,
                expected="a number above 0",
            )
        self.offset_kelvin = float(offset_kelvin)
        self.scale_kelvin = float(scale_kelvin)
        self.inverse = bool(inverse)

    def call(self, values: Any) -> Any:
        """Scales a tensor of any shape."""
        if self.inverse:
            return values * self.scale_kelvin + self.offset_kelvin
        return (values - self.offset_kelvin) / self.scale_kelvin

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "offset_kelvin": self.offset_kelvin,
            "scale_kelvin": self.scale_kelvin,
            "inverse": self.inverse,
        }


@keras.saving.register_keras_serializable(package=PACKAGE)
class AlignCornersDouble(keras.layers.Layer):
    """Doubles height and width bilinearly with aligned corners, as the maxpool variant does.

    Output pixel ``i`` lies at ``i (n − 1) / (2n − 1)`` of the input: for ``i = 2k`` it is
    ``k / (2n − 1)`` before pixel ``k``, for ``i = 2k + 1`` it is ``(n − 1 − k) / (2n − 1)`` after
    it. So each phase is a sum of two shifted copies with weights linear along the axis.

    Input: ``[B, h, w, C]``. Output: ``[B, 2h, 2w, C]``.
    """

    def call(self, values: Any) -> Any:
        """Doubles ``[B, h, w, C]``."""
        return self._along(self._along(values, axis=1), axis=2)

    def _along(self, values: Any, axis: int) -> Any:
        def window(start: int | None, stop: int | None) -> Any:
            index: list[slice] = [slice(None)] * 4
            index[axis] = slice(start, stop)
            return values[tuple(index)]

        shape = list(ops.shape(values))
        length = shape[axis]
        # Weights in float32 even under mixed precision: half precision cannot count to 4096.
        position = ops.cast(ops.arange(length), "float32")
        count = ops.cast(length, "float32")
        along = [1, 1, 1, 1]
        along[axis] = -1
        early = ops.cast(ops.reshape(position / (2 * count - 1), along), values.dtype)
        late = ops.cast(ops.reshape((count - 1 - position) / (2 * count - 1), along), values.dtype)
        previous = ops.concatenate([window(0, 1), window(None, -1)], axis=axis)
        following = ops.concatenate([window(1, None), window(-1, None)], axis=axis)
        even = values + early * (previous - values)
        odd = values + late * (following - values)
        shape[axis] = length * 2
        return ops.reshape(ops.stack([even, odd], axis=axis + 1), shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """``[B, 2h, 2w, C]``."""
        batch, height, width, channels = input_shape
        fine = [None if side is None else side * 2 for side in (height, width)]
        return (batch, fine[0], fine[1], channels)
