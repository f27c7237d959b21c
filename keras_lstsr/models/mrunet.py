"""The Multi-residual U-Net, strided (2022 paper) and maxpool (report), as functional models.

Layer names are the blocks' names with the part's name appended (``down1_mid_conv1``), so that
weights of other implementations can be mapped onto them.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers

from keras_lstsr.errors import unknown
from keras_lstsr.models.convolution import (
    Padding,
    batch_norm,
    convolution,
    kaiming_uniform,
    refined_model,
    residual_convolution,
    uniform_bias,
)
from keras_lstsr.models.layers import AlignCornersDouble, PadToSkip, ReflectPad

Variant = Literal["strided", "maxpool"]


class _Blocks:
    """Blocks that share the network's settings."""

    def __init__(self, border: Padding, *, synchronised_batch_norm: bool) -> None:
        self.border = border
        self.synchronised = synchronised_batch_norm

    def conv(
        self, x: Any, filters: int, size: int, name: str, *, stride: int = 1, padding: Any = None
    ) -> Any:
        return convolution(x, filters, size, name, stride=stride, padding=padding or self.border)

    def norm(self, x: Any, name: str) -> Any:
        return batch_norm(x, name, synchronised=self.synchronised)

    def conv_norm_relu(
        self, x: Any, filters: int, name: str, index: str = "", padding: Any = None
    ) -> Any:
        x = self.conv(x, filters, 3, f"{name}_conv{index}", padding=padding)
        x = self.norm(x, f"{name}_norm{index}")
        return layers.ReLU(name=f"{name}_relu{index}")(x)

    def double_conv(self, x: Any, filters: int, name: str, middle: int | None = None) -> Any:
        x = self.conv_norm_relu(x, middle or filters, name, "1")
        return self.conv_norm_relu(x, filters, name, "2")

    def strided_down(self, x: Any, filters: int, name: str) -> Any:
        """Residual unit on the halved map; the shortcut is a pure identity, added after ReLU."""
        halved = self.conv(x, x.shape[-1], 2, f"{name}_in_conv", stride=2, padding="none")
        y = self.double_conv(halved, x.shape[-1], f"{name}_mid")
        y = layers.Add(name=f"{name}_add")([y, halved])
        return self.conv_norm_relu(y, filters, f"{name}_out")

    def maxpool_down(self, x: Any, filters: int, name: str) -> Any:
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
        return self.double_conv(x, filters, name)

    def bridge(self, x: Any, name: str) -> Any:
        """Residual block with reflected borders and no final ReLU."""
        y = ReflectPad(1, name=f"{name}_pad1")(x)
        y = self.conv_norm_relu(y, x.shape[-1], name, "1", padding="none")
        y = ReflectPad(1, name=f"{name}_pad2")(y)
        y = self.conv(y, x.shape[-1], 3, f"{name}_conv2", padding="none")
        y = self.norm(y, f"{name}_norm2")
        return layers.Add(name=f"{name}_add")([y, x])

    def strided_up(self, x: Any, skip: Any, filters: int, name: str) -> Any:
        up = layers.Conv2DTranspose(
            filters,
            2,
            strides=2,
            kernel_initializer=kaiming_uniform(),
            bias_initializer=uniform_bias(filters * 4),  # PyTorch's fan-in of a transposed kernel
            name=f"{name}_up",
        )(x)
        return self.double_conv(self._join(up, skip, name), filters, name)

    def maxpool_up(self, x: Any, skip: Any, filters: int, name: str) -> Any:
        joined = self._join(AlignCornersDouble(name=f"{name}_up")(x), skip, name)
        return self.double_conv(joined, filters, name, middle=joined.shape[-1] // 2)

    def _join(self, up: Any, skip: Any, name: str) -> Any:
        up = PadToSkip(name=f"{name}_pad")([up, skip])
        return layers.Concatenate(name=f"{name}_concat")([skip, up])


def build_mrunet(
    variant: Variant = "strided",
    *,
    width: int = 64,
    depth: int = 4,
    bridge_blocks: int = 1,
    padding: Padding = "zero",
    synchronised_batch_norm: bool = False,
    zero_initial_residual: bool = False,
    name: str = "mrunet",
) -> keras.Model:
    """Builds the core network, of any height and width from 2^(depth + 1) on.

    - ``variant``: ``"strided"``: strided convolutions in residual units and transposed convolutions
      (Nguyen et al. 2022; 45,049,601 parameters at the default size), or ``"maxpool"``: max-pooling
      and bilinear upsampling with aligned corners (the report; 21,987,905).
    - ``width``: channels of the first level; each level doubles them, in ``maxpool`` all but the
      last.
    - ``depth``: down and up levels.
    - ``bridge_blocks``: residual blocks between encoder and decoder; they always pad by reflection.

    Published with padding ``"zero"``; see ``convolution`` for the further arguments. Weights and
    biases are drawn as PyTorch does.

    Raises:
        ConfigError: If the variant is unknown.
    """
    if variant not in ("strided", "maxpool"):
        raise unknown("variant", variant, ("strided", "maxpool"), field="model.variant")
    blocks = _Blocks(padding, synchronised_batch_norm=synchronised_batch_norm)
    strided = variant == "strided"
    field = keras.Input((None, None, 1), name="field", dtype="float32")
    x = blocks.double_conv(field, width, "inc")
    skips = []
    for level in range(1, depth + 1):
        skips.append(x)
        filters = width * 2 ** (level if strided or level < depth else level - 1)
        down = blocks.strided_down if strided else blocks.maxpool_down
        x = down(x, filters, f"down{level}")
    for block in range(1, bridge_blocks + 1):
        x = blocks.bridge(x, f"bridge{block}")
    for level, skip in enumerate(reversed(skips), start=1):
        # The strided decoder returns to the skip's channels; the maxpool decoder goes one level
        # further down, so that the next bilinear doubling meets a skip of its own channels.
        filters = skip.shape[-1] if strided else max(skip.shape[-1] // 2, width)
        up = blocks.strided_up if strided else blocks.maxpool_up
        x = up(x, skip, filters, f"up{level}")
    residual = residual_convolution(x, 1, "outc", zero_initial=zero_initial_residual)
    return refined_model(field, residual, name)
