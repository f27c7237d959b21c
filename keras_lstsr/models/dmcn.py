"""DMCN, the Deep Memory Connected Network (Xu et al. 2018), with PReLU.

Layer names are the blocks' names with the part's name appended (``down1_unit2_conv``), so that
weights of other implementations can be mapped onto them.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_lstsr.models.convolution import (
    Padding,
    batch_norm,
    convolution,
    refined_model,
    residual_convolution,
    scalar_prelu,
)
from keras_lstsr.models.layers import PixelShuffle

_HEAD_CONVOLUTIONS = 5
_DOWN_UNITS = (5, 2)
_UP_UNITS = (2, 5)


class _Blocks:
    """Blocks that share the network's settings."""

    def __init__(self, width: int, padding: Padding, *, synchronised_batch_norm: bool) -> None:
        self.width = width
        self.padding = padding
        self.synchronised = synchronised_batch_norm

    def conv(self, x: Any, name: str, *, bias: bool = True, stride: int = 1) -> Any:
        return convolution(x, self.width, 3, name, stride=stride, padding=self.padding, bias=bias)

    def norm(self, x: Any, name: str) -> Any:
        return batch_norm(x, name, synchronised=self.synchronised)

    def head(self, x: Any) -> Any:
        """Five convolutions that share one PReLU; BatchNorm after all but the first."""
        prelu = scalar_prelu("head_prelu")
        for index in range(1, _HEAD_CONVOLUTIONS + 1):
            x = self.conv(x, f"head{index}_conv", bias=False)
            x = prelu(x if index == 1 else self.norm(x, f"head{index}_norm"))
        return x

    def down(self, x: Any, units: int, name: str) -> Any:
        """Halves the map, then units Conv → BN → PReLU, + x."""
        x = self.conv(x, f"{name}_conv", bias=False, stride=2)
        for unit in range(1, units + 1):
            block = f"{name}_unit{unit}"
            y = self.norm(self.conv(x, f"{block}_conv"), f"{block}_norm")
            y = scalar_prelu(f"{block}_prelu")(y)
            x = layers.Add(name=f"{block}_add")([y, x])
        return x

    def up(self, x: Any, skip: Any, units: int, name: str) -> Any:
        """Doubles the map, chooses between it and the skip; units Conv → BN → PReLU → Conv, + x."""
        y = convolution(x, 4 * self.width, 3, f"{name}_conv", padding=self.padding)
        y = PixelShuffle(2, name=f"{name}_shuffle")(scalar_prelu(f"{name}_prelu")(y))
        y = layers.Concatenate(name=f"{name}_concat")([skip, y])
        x = convolution(y, self.width, 1, f"{name}_choose", bias=False)
        for unit in range(1, units + 1):
            block = f"{name}_unit{unit}"
            y = self.norm(self.conv(x, f"{block}_conv1"), f"{block}_norm")
            y = self.conv(scalar_prelu(f"{block}_prelu")(y), f"{block}_conv2")
            x = layers.Add(name=f"{block}_add")([y, x])
        return x


def build_dmcn(
    *,
    width: int = 64,
    padding: Padding = "zero",
    synchronised_batch_norm: bool = False,
    zero_initial_residual: bool = False,
    name: str = "dmcn",
) -> keras.Model:
    """Builds the core network; sides are multiples of 4, and at least 8 with ``"reflect"``.

    Five convolutions, two stride-2 stages of residual units (5 and 2), two pixel-shuffle stages
    (2 and 5 units) that choose by a 1×1 convolution between the doubled map and the skip, and the
    input added at the end. Each PReLU has one slope; the five of the head share theirs. 64
    channels give 1,311,953 parameters, drawn as PyTorch's default does. Published with padding
    ``"zero"``; see ``convolution`` for the further arguments.
    """
    blocks = _Blocks(width, padding, synchronised_batch_norm=synchronised_batch_norm)
    field = keras.Input((None, None, 1), name="field", dtype="float32")
    full = blocks.head(field)
    half = blocks.down(full, _DOWN_UNITS[0], "down1")
    quarter = blocks.down(half, _DOWN_UNITS[1], "down2")
    x = blocks.up(quarter, half, _UP_UNITS[0], "up1")
    x = blocks.up(x, full, _UP_UNITS[1], "up2")
    residual = residual_convolution(
        x, 3, "output_conv", zero_initial=zero_initial_residual, padding=padding, bias=False
    )
    return refined_model(field, residual, name)
