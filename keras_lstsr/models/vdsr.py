"""VDSR (Kim, Lee and Lee 2016): a plain stack of 3×3 convolutions that learns the residual."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_lstsr.models.convolution import (
    Padding,
    convolution,
    refined_model,
    residual_convolution,
)


def build_vdsr(
    *,
    width: int = 64,
    depth: int = 20,
    padding: Padding = "zero",
    zero_initial_residual: bool = False,
    name: str = "vdsr",
) -> keras.Model:
    """Builds the core network, of any height and width (from 2 with ``"reflect"``).

    ``depth`` convolutions 3×3 without bias, first and last included, at least 2, with ``width``
    channels between them, ReLU after all but the last, He-normal weights, and the input added at
    the end. 20 of width 64 have 664,704 parameters. Published with padding ``"zero"``; see
    ``convolution`` for the further arguments.
    """
    field = keras.Input((None, None, 1), name="field", dtype="float32")
    x = field
    plain: dict[str, Any] = {"padding": padding, "bias": False, "kernel_initializer": "he_normal"}
    for index in range(depth - 1):
        block = "input" if index == 0 else f"residual{index}"
        x = convolution(x, width, 3, f"{block}_conv", **plain)
        x = layers.ReLU(name=f"{block}_relu")(x)
    residual = residual_convolution(
        x, 3, "output_conv", zero_initial=zero_initial_residual, **plain
    )
    return refined_model(field, residual, name)
