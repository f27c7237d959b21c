"""VDSR (Kim, Lee and Lee 2016): a plain stack of 3×3 convolutions that learns the residual."""

from __future__ import annotations

import keras
from keras import layers

from keras_lstsr.models.convolution import Padding, convolution, residual_convolution


def build_vdsr(
    *,
    width: int = 64,
    depth: int = 20,
    padding: Padding = "zero",
    zero_initial_residual: bool = False,
    name: str = "vdsr",
) -> keras.Model:
    """Builds the core network: the upsampled, normalised field in, the refined one out.

    Convolutions 3×3 without bias, ReLU after all but the last, He-normal weights, and the input
    added at the end.

    Args:
        width: Channels between first and last convolution.
        depth: Convolutions, first and last included; at least 2. 20 of width 64 have 664,704
            parameters.
        padding: What 3×3 convolutions see beyond the border: ``"zero"`` (published) or
            ``"reflect"``.
        zero_initial_residual: Start the last convolution at zero, so that the untrained network
            returns its input.
        name: Name of the model.

    Returns:
        A model ``[B, H, W, 1] → [B, H, W, 1]`` for any H and W (from 2 with ``"reflect"``). The
        last convolution and the addition are float32 under any dtype policy.
    """
    field = keras.Input((None, None, 1), name="field", dtype="float32")
    x = field
    for index in range(depth - 1):
        block = "input" if index == 0 else f"residual{index}"
        x = convolution(
            x,
            width,
            3,
            f"{block}_conv",
            padding=padding,
            bias=False,
            kernel_initializer=keras.initializers.HeNormal(),
        )
        x = layers.ReLU(name=f"{block}_relu")(x)
    residual = residual_convolution(
        x,
        3,
        "output_conv",
        zero_initial=zero_initial_residual,
        padding=padding,
        bias=False,
        kernel_initializer=keras.initializers.HeNormal(),
    )
    refined = layers.Add(dtype="float32", name="global_residual")([residual, field])
    return keras.Model(field, refined, name=name)
