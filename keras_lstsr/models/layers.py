"""Layers of the temperature models: gaps, upsampling, scaling, padding, for any image size.

Height and width may be unknown while a model is built: every layer works with the shape that a
call brings. Layers that carry kelvin compute in float32 whatever the global dtype policy says,
because half precision resolves 300 K only to 0.25 K.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import keras
from keras import ops

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import phase_weights

PACKAGE = "keras_lstsr"

Shape = tuple[int | None, ...]
Side = Literal["both", "end"]


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose constructor's arguments are attributes of the same names.

    What comes out has the shape of what goes in, or of the first of several inputs, unless a layer
    says otherwise.
    """

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the input, or of the first of several."""
        return tuple(input_shape[0] if isinstance(input_shape[0], list | tuple) else input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        _, *parameters = inspect.signature(type(self).__init__).parameters.values()
        own = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


class KelvinLayer(ConfiguredLayer):
    """A layer that computes in float32 whatever the global dtype policy says."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)


class ScaleFactorLayer(KelvinLayer):
    """A layer in float32 that knows how many fine pixels lie along a coarse pixel's side."""

    def __init__(self, scale_factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale_factor = int(scale_factor)


def resized(shape: Shape, resize: Callable[[int], int]) -> Shape:
    """Returns a shape ``[B, h, w, C]`` with height and width resized where they are known."""
    batch, *sides, channels = shape
    return (batch, *(None if side is None else resize(side) for side in sides), channels)


def part(values: Any, axis: int, start: Any, stop: Any) -> Any:
    """Returns a slice of ``[B, h, w, C]`` along one axis."""
    index: list[slice] = [slice(None)] * 4
    index[axis] = slice(start, stop)
    return values[tuple(index)]


@keras.saving.register_keras_serializable(package=PACKAGE)
class FillGaps(KelvinLayer):
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
            share, local = (window_mean(sums, window) for sums in (valid, anomaly))
            # Half of one pixel's share separates "some" from "none" despite rounding.
            some = share > 0.5 / window**2
            fill = ops.where(some, local / ops.where(some, share, 1.0), fill)
        return ops.where(missing, fill + self.empty_value, values)


def window_mean(values: Any, window: int) -> Any:
    """Averages each pixel's square window; backends differ in what they count at the border."""
    # One axis after the other: 2 n instead of n² additions per pixel.
    for pool in ((window, 1), (1, window)):
        values = ops.average_pool(values, pool, strides=1, padding="same")
    return values


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaskGaps(ScaleFactorLayer):
    """Sets the fine pixels of missing coarse pixels to NaN, and no others.

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
        first, last = part(values, axis, 0, 1), part(values, axis, -1, None)
        padded = ops.concatenate([first, first, values, last, last], axis=axis)
        taps = [part(padded, axis, k, k - 4 if k < 4 else None) for k in range(5)]
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

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``[B, h·f, w·f, C]``."""
        return resized(input_shape, lambda side: side * self.scale_factor)


@keras.saving.register_keras_serializable(package=PACKAGE)
class NormaliseTemperature(KelvinLayer):
    """Kelvin to network units, or back: ``(T − offset) / scale`` and its inverse.

    Args:
        offset_kelvin: Subtracted from temperature.
        scale_kelvin: Divides temperature; above zero.
        inverse: Turn network units into kelvin instead.
    """

    def __init__(
        self, offset_kelvin: float, scale_kelvin: float, inverse: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        ConfigError.unless(scale_kelvin > 0, "scale_kelvin", scale_kelvin, "a number above 0")
        self.offset_kelvin = float(offset_kelvin)
        self.scale_kelvin = float(scale_kelvin)
        self.inverse = bool(inverse)

    def call(self, values: Any) -> Any:
        """Scales a tensor of any shape."""
        if self.inverse:
            return values * self.scale_kelvin + self.offset_kelvin
        return (values - self.offset_kelvin) / self.scale_kelvin


@keras.saving.register_keras_serializable(package=PACKAGE)
class AlignCornersDouble(ConfiguredLayer):
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
        shape = list(ops.shape(values))
        length = shape[axis]
        # Weights in float32 even under mixed precision: half precision cannot count to 4096.
        position = ops.cast(ops.arange(length), "float32")
        count = ops.cast(length, "float32")
        along = [1, 1, 1, 1]
        along[axis] = -1
        early = ops.cast(ops.reshape(position / (2 * count - 1), along), values.dtype)
        late = ops.cast(ops.reshape((count - 1 - position) / (2 * count - 1), along), values.dtype)
        first, last = part(values, axis, 0, 1), part(values, axis, -1, None)
        previous = ops.concatenate([first, part(values, axis, None, -1)], axis=axis)
        following = ops.concatenate([part(values, axis, 1, None), last], axis=axis)
        even = values + early * (previous - values)
        odd = values + late * (following - values)
        shape[axis] = length * 2
        return ops.reshape(ops.stack([even, odd], axis=axis + 1), shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``[B, 2h, 2w, C]``."""
        return resized(input_shape, lambda side: side * 2)


@keras.saving.register_keras_serializable(package=PACKAGE)
class PixelShuffle(ConfiguredLayer):
    """Turns blocks of ``factor²`` channels into blocks of ``factor × factor`` pixels.

    Fine pixel ``(i, j)`` of output channel ``c`` comes from input channel
    ``c·factor² + factor·i + j``: PyTorch's order. TensorFlow's ``depth_to_space`` lets ``c`` vary
    fastest, so weights trained with one do not fit the other.

    Input: ``[B, h, w, C·factor²]``. Output: ``[B, h·factor, w·factor, C]``.
    """

    def __init__(self, factor: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = int(factor)

    def call(self, values: Any) -> Any:
        """Rearranges ``[B, h, w, C·factor²]``."""
        _, height, width, _ = ops.shape(values)
        factor = self.factor
        channels = values.shape[-1] // factor**2
        split = ops.reshape(values, (-1, height, width, channels, factor, factor))
        rows_first = ops.transpose(split, (0, 1, 4, 2, 5, 3))
        return ops.reshape(rows_first, (-1, height * factor, width * factor, channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``[B, h·factor, w·factor, C]``."""
        *fine, channels = resized(input_shape, lambda side: side * self.factor)
        if channels is None or channels % self.factor**2:
            raise ValueError(f"{channels} channels are not a multiple of {self.factor}²")
        return (*fine, channels // self.factor**2)


@keras.saving.register_keras_serializable(package=PACKAGE)
class ReflectPad(ConfiguredLayer):
    """Pads height and width by reflection without repeating the edge, as PyTorch's ``reflect``.

    Args:
        padding: Pixels added on every side; less than the image's sides.
    """

    def __init__(self, padding: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = int(padding)

    def call(self, values: Any) -> Any:
        """Pads ``[B, h, w, C]``."""
        side = (self.padding, self.padding)
        return ops.pad(values, ((0, 0), side, side, (0, 0)), mode="reflect")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``[B, h + 2p, w + 2p, C]``."""
        return resized(input_shape, lambda side: side + 2 * self.padding)


@keras.saving.register_keras_serializable(package=PACKAGE)
class PadToSkip(ConfiguredLayer):
    """Reflects a doubled map by one row or column where the skip connection is odd.

    Halving floors an odd side, so that the doubled map lacks one pixel. The reference pads
    ``diff // 2`` before and the rest after; with a difference of one, that is one after.

    Inputs: ``[upsampled, skip]``. Output: ``upsampled`` with ``skip``'s height and width.
    """

    def call(self, inputs: list[Any]) -> Any:
        """Pads the first tensor to the height and width of the second."""
        upsampled, skip = inputs
        sizes, wanted = ops.shape(upsampled), ops.shape(skip)
        for axis in (1, 2):
            if isinstance(sizes[axis], int) and sizes[axis] == wanted[axis]:
                continue  # known while tracing: nothing to do, nothing in the graph
            before = part(upsampled, axis, -2, -1)
            upsampled = ops.concatenate([upsampled, before], axis=axis)
            upsampled = part(upsampled, axis, 0, wanted[axis])
        return upsampled

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """``[B, H, W, C]`` with H and W of the skip connection."""
        upsampled, skip = input_shape
        return (upsampled[0], skip[1], skip[2], upsampled[3])


@keras.saving.register_keras_serializable(package=PACKAGE)
class PadToMinimum(ConfiguredLayer):
    """Mirrors an image, edge included, until its sides are what the network needs.

    The reference refuses sides below 2^(depth+1) pixels, where its bridge has no pixel left to
    reflect. Mirroring (again and again where needed) keeps the texture of small images and works
    from one pixel up; larger images pass through unchanged. ``CropToReference`` takes the padding
    off again.

    Args:
        minimum: Smallest height and width that leaves this layer.
        multiple: Heights and widths that leave it are multiples of this number; it divides
            ``minimum``.
        side: ``"both"``, or ``"end"`` alone, so that pixels keep their phase on strided grids.
    """

    def __init__(self, minimum: int, multiple: int = 1, side: Side = "both", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum = int(minimum)
        self.multiple = int(multiple)
        self.side = side

    def _padded(self, length: Any) -> Any:
        rounded = -(-length // self.multiple) * self.multiple
        if isinstance(length, int):
            return max(rounded, self.minimum)
        return ops.maximum(rounded, self.minimum)

    def call(self, values: Any) -> Any:
        """Pads ``[B, h, w, C]``."""
        for axis in (1, 2):
            length = ops.shape(values)[axis]
            padded = self._padded(length)
            if isinstance(length, int) and padded == length:
                continue
            before = (padded - length) // 2 if self.side == "both" else 0
            position = ops.arange(padded, dtype="int32") - before
            wrapped = ops.mod(position, 2 * length)
            mirrored = ops.minimum(wrapped, 2 * length - 1 - wrapped)
            values = ops.take(values, mirrored, axis=axis)
        return values

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``[B, H, W, C]``: the least multiples not below ``h``, ``w`` and the minimum."""
        return resized(input_shape, self._padded)


@keras.saving.register_keras_serializable(package=PACKAGE)
class CropToReference(ScaleFactorLayer):
    """Crops an image to the size that ``PadToMinimum`` was given.

    Args:
        scale_factor: 1, or the network's factor where the padding was put on its coarse input.
        side: That of ``PadToMinimum``.

    Inputs: ``[padded, reference]``. Output: ``padded`` with ``reference``'s height and width.
    """

    def __init__(self, scale_factor: int = 1, side: Side = "both", **kwargs: Any) -> None:
        super().__init__(scale_factor, **kwargs)
        self.side = side

    def call(self, inputs: list[Any]) -> Any:
        """Crops the first tensor to the height and width of the second."""
        padded, reference = inputs
        for axis in (1, 2):
            size, wanted = ops.shape(padded)[axis], ops.shape(reference)[axis]
            if isinstance(size, int) and size == wanted:
                continue
            # Odd paddings have their extra pixel at the end, whole coarse pixels throughout.
            before = (size - wanted) // (2 * self.scale_factor) * self.scale_factor
            if self.side == "end":
                before = 0
            padded = part(padded, axis, before, before + wanted)
        return padded

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """``[B, H, W, C]`` with H and W of the reference."""
        padded, reference = input_shape
        return (padded[0], reference[1], reference[2], padded[3])
