"""Convolutions as the networks share them: PyTorch's padding, initial values and PReLU."""

from __future__ import annotations

import math
from typing import Any, Literal

import keras
from keras import layers

from keras_lstsr.models.padding import ReflectPad

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
    padding: Padding = "zero",
    bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = None,
    dtype: str | None = None,
) -> Any:
    """Applies a convolution that pads ``size // 2`` pixels on every side, as PyTorch's nets do.

    With stride 2 that is not TensorFlow's ``same``, which pads below and to the right alone.

    Args:
        x: ``[B, h, w, C]``.
        filters: Output channels.
        size: Side of the kernel in pixels, odd.
        name: The layer's name; a padding layer before it is named ``<name>_pad``.
        stride: Step in pixels.
        padding: ``"zero"``, or ``"reflect"`` without repeating the edge.
        bias: Whether there is a bias.
        kernel_initializer: Keras initialiser; by default PyTorch's.
        bias_initializer: Likewise.
        dtype: The layer's dtype; None takes the global policy.

    Returns:
        ``[B, ceil(h / stride), ceil(w / stride), filters]``.
    """
    keras_padding = "same" if stride == 1 and padding == "zero" else "valid"
    if keras_padding == "valid" and size > 1:
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
    x: Any,
    size: int,
    name: str,
    *,
    zero_initial: bool,
    padding: Padding = "zero",
    bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = None,
) -> Any:
    """Applies a network's last convolution, to one channel of float32 under any dtype policy.

    Args:
        x: ``[B, h, w, C]``.
        size: Side of the kernel in pixels, odd.
        name: The layer's name.
        zero_initial: Start at zero, so that the untrained network adds nothing.
        padding: As in ``convolution``.
        bias: Whether there is a bias.
        kernel_initializer: As in ``convolution``, where ``zero_initial`` is not set.
        bias_initializer: Likewise.

    Returns:
        ``[B, h, w, 1]``.
    """
    return convolution(
        x,
        1,
        size,
        name,
        padding=padding,
        bias=bias,
        kernel_initializer="zeros" if zero_initial else kernel_initializer,
        bias_initializer="zeros" if zero_initial else bias_initializer,
        dtype="float32",
    )


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
