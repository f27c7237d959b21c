"""SRCNN (Dong et al. 2014), 9-1-5: three convolutions, here on top of a global skip."""

from __future__ import annotations

import keras
from keras import layers

from keras_lstsr.models.convolution import Padding, convolution, residual_convolution


def build_srcnn(
    *,
    width: int = 64,
    padding: Padding = "zero",
    zero_initial_residual: bool = False,
    name: str = "srcnn",
) -> keras.Model:
    """Builds the core network: the upsampled, normalised field in, the refined one out.

    Convolutions 9×9 → 1×1 → 5×5 with ``width``, ``width / 2`` and 1 channels, ReLU between them:
    8,129 parameters at width 64.

    Two things differ from the paper. The input is added at the end: the paper's network has no
    skip and must first learn to reproduce 300 K to a tenth of a kelvin. Weights are He-normal and
    biases zero instead of Gaussian with σ = 0.001, and borders are padded instead of lost.

    Args:
        width: Channels of the first convolution; the second has half as many, at least one.
        padding: What the convolutions see beyond the border: ``"zero"`` or ``"reflect"``.
        zero_initial_residual: Start the last convolution at zero, so that the untrained network
            returns its input.
        name: Name of the model.

    Returns:
        A model ``[B, H, W, 1] → [B, H, W, 1]`` for any H and W (from 5 with ``"reflect"``). The
        last convolution and the addition are float32 under any dtype policy.
    """
    field = keras.Input((None, None, 1), name="field", dtype="float32")
    x = field
    for block, filters, size in (("extract", width, 9), ("map", max(width // 2, 1), 1)):
        x = convolution(
            x,
            filters,
            size,
            f"{block}_conv",
            padding=padding,
            kernel_initializer=keras.initializers.HeNormal(),
            bias_initializer="zeros",
        )
        x = layers.ReLU(name=f"{block}_relu")(x)
    residual = residual_convolution(
        x,
        5,
        "reconstruct_conv",
        zero_initial=zero_initial_residual,
        padding=padding,
        kernel_initializer=keras.initializers.HeNormal(),
        bias_initializer="zeros",
    )
    refined = layers.Add(dtype="float32", name="global_residual")([residual, field])
    return keras.Model(field, refined, name=name)
