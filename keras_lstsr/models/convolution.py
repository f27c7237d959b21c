"""Convolutions as the networks share them: PyTorch's padding, initial values and PReLU.

Each builder of a network makes a model of the upsampled, normalised field ``[B, H, W, 1]`` that
gives the refined one, or of the coarse field ``[B, h, w, 1]`` that gives a fine residual. Besides
its own arguments it takes some of these:

- ``padding``: what convolutions see beyond the border: ``"zero"`` or ``"reflect"``, which does not
  repeat the edge;
- ``zero_initial_residual``: start the last convolution at zero, so that the untrained network
  returns its input;
- ``synchronised_batch_norm``: BatchNorm statistics over all replicas (TensorFlow only);
- ``name``: of the model.

The last convolution and the addition after it are float32 under any dtype policy.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import keras
from keras import layers

from keras_lstsr.models.layers import ReflectPad

Padding = Literal["zero", "reflect"]


def kaiming_uniform() -> keras.initializers.Initializer:
    """PyTorch's default: kaiming_uniform with a = √5, uniform within ±1/√fan_in."""
    # Bound sqrt(6 / ((1 + a²) fan_in)) = 1 / sqrt(fan_in).
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def uniform_bias(fan_in: int) -> keras.initializers.Initializer:
    """PyTorch's default for a bias: the range of the weights that it accompanies."""
    bound = 1.0 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-bound, bound)


def convolution(
    x: Any,
    filters: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    padding: Padding | Literal["none"] = "zero",
    bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = None,
    dtype: str | None = None,
) -> Any:
    """Applies a convolution that pads ``size // 2`` pixels on every side, as PyTorch's nets do.

    With stride 2 that is not TensorFlow's ``same``, which pads below and to the right alone. A
    padding layer before the convolution is named ``<name>_pad``. Initialisers are PyTorch's by
    default; dtype None takes the global policy.

    Returns:
        ``[B, ceil(h / stride), ceil(w / stride), filters]``; less without padding.
    """
    keras_padding = "same" if stride == 1 and padding == "zero" else "valid"
    if keras_padding == "valid" and size > 1 and padding != "none":
        pad = ReflectPad if padding == "reflect" else layers.ZeroPadding2D
        x = pad(size // 2, name=f"{name}_pad", dtype=dtype)(x)
    return layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding=keras_padding,
        use_bias=bias,
        kernel_initializer=kernel_initializer or kaiming_uniform(),
        bias_initializer=bias_initializer or uniform_bias(x.shape[-1] * size * size),
        dtype=dtype,
        name=name,
    )(x)


def residual_convolution(
    x: Any, size: int, name: str, *, zero_initial: bool, **settings: Any
) -> Any:
    """Applies a network's last convolution, to one channel of float32 under any dtype policy.

    With ``zero_initial`` it starts at zero; other settings are those of ``convolution``.
    """
    if zero_initial:
        settings |= {"kernel_initializer": "zeros", "bias_initializer": "zeros"}
    return convolution(x, 1, size, name, dtype="float32", **settings)


def refined_model(field: Any, residual: Any, name: str) -> keras.Model:
    """Makes the model of a network that adds a residual to the field it was given."""
    refined = layers.Add(dtype="float32", name="global_residual")([residual, field])
    return keras.Model(field, refined, name=name)


def scalar_prelu(name: str) -> keras.layers.Layer:
    """Makes a PReLU with one slope for all channels and pixels, 0.25 at first, as PyTorch's."""
    return layers.PReLU(
        alpha_initializer=keras.initializers.Constant(0.25), shared_axes=[1, 2, 3], name=name
    )


def batch_norm(x: Any, name: str, *, synchronised: bool) -> Any:
    """Applies BatchNorm as PyTorch sets it up: epsilon 1e-5; momentum 0.9, there called 0.1."""
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=synchronised, name=name
    )(x)
