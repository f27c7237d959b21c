"""Layers that pad and crop, so that a network takes images of any size, unknown ones too."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from keras_lstsr.models.layers import PACKAGE, ScaleFactorLayer

Side = Literal["both", "end"]


@keras.saving.register_keras_serializable(package=PACKAGE)
class ReflectPad(keras.layers.Layer):
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

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """``[B, h + 2p, w + 2p, C]``."""
        batch, height, width, channels = input_shape
        padded = [None if side is None else side + 2 * self.padding for side in (height, width)]
        return (batch, padded[0], padded[1], channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable(package=PACKAGE)
class PadToSkip(keras.layers.Layer):
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
            before: list[slice] = [slice(None)] * 4
            before[axis] = slice(-2, -1)
            crop: list[slice] = [slice(None)] * 4
            crop[axis] = slice(0, wanted[axis])
            upsampled = ops.concatenate([upsampled, upsampled[tuple(before)]], axis=axis)
            upsampled = upsampled[tuple(crop)]
        return upsampled

    def compute_output_shape(
        self, input_shape: list[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """``[B, H, W, C]`` with H and W of the skip connection."""
        upsampled, skip = input_shape
        return (upsampled[0], skip[1], skip[2], upsampled[3])


@keras.saving.register_keras_serializable(package=PACKAGE)
class PadToMinimum(keras.layers.Layer):
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

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """``[B, H, W, C]``: the least multiples not below ``h``, ``w`` and the minimum."""
        batch, height, width, channels = input_shape
        sides = [None if side is None else self._padded(side) for side in (height, width)]
        return (batch, sides[0], sides[1], channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "minimum": self.minimum,
            "multiple": self.multiple,
            "side": self.side,
        }


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
            crop: list[slice] = [slice(None)] * 4
            crop[axis] = slice(before, before + wanted)
            padded = padded[tuple(crop)]
        return padded

    def compute_output_shape(
        self, input_shape: list[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """``[B, H, W, C]`` with H and W of the reference."""
        padded, reference = input_shape
        return (padded[0], reference[1], reference[2], padded[3])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "side": self.side}
