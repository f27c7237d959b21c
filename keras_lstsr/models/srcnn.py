"""SRCNN (Dong et al. 2014), 9-1-5: three convolutions, here on top of a global skip."""

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


def build_srcnn(
    *,
    width: int = 64,
    padding: Padding = "zero",
    zero_initial_residual: bool = False,
    name: str = "srcnn",
) -> keras.Model:
    """Builds the core network, of any height and width (from 5 with ``"reflect"``).

    Convolutions 9×9 → 1×1 → 5×5 with ``width``, ``width / 2`` and 1 channels, ReLU between them:
    8,129 parameters at width 64.

    Two things differ from the paper. The input is added at the end: the paper's network has no
    skip and must first learn to reproduce 300 K to a tenth of a kelvin. Weights are He-normal and
    biases zero instead of Gaussian with σ = 0.001, and borders are padded instead of lost. See
    ``convolution`` for the further arguments.
    """
    field = keras.Input((None, None, 1), name="field", dtype="float32")
    x = field
    initial: dict[str, Any] = {"kernel_initializer": "he_normal", "bias_initializer": "zeros"}
    for block, filters, size in (("extract", width, 9), ("map", max(width // 2, 1), 1)):
        x = convolution(x, filters, size, f"{block}_conv", padding=padding, **initial)
        x = layers.ReLU(name=f"{block}_relu")(x)
    residual = residual_convolution(
        x, 5, "reconstruct_conv", zero_initial=zero_initial_residual, padding=padding, **initial
    )
    return refined_model(field, residual, name)
