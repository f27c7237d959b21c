"""Upsampling by rearranging channels into pixels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstsr.models.layers import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class PixelShuffle(keras.layers.Layer):
    """Turns blocks of ``factor²`` channels into blocks of ``factor × factor`` pixels.

    Fine pixel ``(i, j)`` of output channel ``c`` comes from input channel
    ``c·factor² + factor·i + j``: PyTorch's order. TensorFlow's ``depth_to_space`` lets ``c`` vary
    fastest, so weights trained with one do not fit the other.

    Args:
        factor: Fine pixels along a coarse pixel's side.

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

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """``[B, h·factor, w·factor, C]``."""
        batch, height, width, channels = input_shape
        fine = [None if side is None else side * self.factor for side in (height, width)]
        if channels is None or channels % self.factor**2:
            raise ValueError(f"{channels} channels are not a multiple of {self.factor}²")
        return (batch, fine[0], fine[1], channels // self.factor**2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "factor": self.factor}
