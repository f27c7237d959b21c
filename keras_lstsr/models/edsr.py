"""EDSR-baseline (Lim et al. 2017): residual blocks on the coarse grid, then pixel shuffle."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_lstsr.models.convolution import Padding, convolution, residual_convolution
from keras_lstsr.models.layers import PixelShuffle


def shuffle_stages(scale_factor: int) -> list[int]:
    """Splits a scale factor into its prime factors, ascending: 4 is shuffled as 2 and 2."""
    stages, rest, prime = [], scale_factor, 2
    while rest > 1:
        while rest % prime == 0:
            stages.append(prime)
            rest //= prime
        prime += 1
    return stages


def build_edsr(
    *,
    width: int = 64,
    depth: int = 16,
    scale_factor: int = 4,
    padding: Padding = "zero",
    zero_initial_residual: bool = False,
    name: str = "edsr",
) -> keras.Model:
    """Builds the core network of a coarse field of any size (from 2 with ``"reflect"``).

    Residual blocks Conv → ReLU → Conv + x without BatchNorm and without scaling, one more
    convolution, + the first one's output, then for each stage of the upsampling Conv → pixel
    shuffle, and a last convolution. 1,515,265 parameters by default; the paper's 1,517,571 are
    those of three channels.

    The paper's network puts out the image itself. Here ``build_model`` adds the output to the
    upsampled kelvin, so that the network need only learn what upsampling misses. ``depth`` counts
    the residual blocks; published with padding ``"zero"``; see ``convolution`` for the further
    arguments.
    """
    field = keras.Input((None, None, 1), name="coarse_field", dtype="float32")
    head = convolution(field, width, 3, "head_conv", padding=padding)
    x = head
    for block in range(1, depth + 1):
        x = _residual_block(x, f"block{block}", padding)
    x = convolution(x, width, 3, "body_conv", padding=padding)
    x = layers.Add(name="body_add")([x, head])
    for stage, factor in enumerate(shuffle_stages(scale_factor), start=1):
        x = convolution(x, width * factor**2, 3, f"up{stage}_conv", padding=padding)
        x = PixelShuffle(factor, name=f"up{stage}_shuffle")(x)
    residual = residual_convolution(
        x, 3, "output_conv", zero_initial=zero_initial_residual, padding=padding
    )
    return keras.Model(field, residual, name=name)


def _residual_block(x: Any, name: str, padding: Padding) -> Any:
    y = convolution(x, x.shape[-1], 3, f"{name}_conv1", padding=padding)
    y = layers.ReLU(name=f"{name}_relu")(y)
    y = convolution(y, x.shape[-1], 3, f"{name}_conv2", padding=padding)
    return layers.Add(name=f"{name}_add")([y, x])
