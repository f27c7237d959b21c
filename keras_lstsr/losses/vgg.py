"""Feature maps of VGG19 from ``keras.applications``, with weights that can be named in settings."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_lstsr.errors import ConfigError


def layer_stride(name: str) -> int:
    """Input pixels along a side of a feature map's cell: VGG halves after each block."""
    return int(2 ** (int(name[len("block")]) - 1))


def vgg19_features(layers: Sequence[str], weights: str | None, dtype: str) -> keras.Model:
    """Builds the part of VGG19 that gives some layers' feature maps.

    Args:
        layers: Names of convolutions, ``"block1_conv1"`` to ``"block5_conv4"``; a feature map is
            taken after its ReLU.
        weights: ``"imagenet"`` (Keras downloads 80 MB once), the path of a weights file of VGG19
            without its top, or None for weights that are random, but the same everywhere.
        dtype: Of weights and computation.

    Returns:
        A frozen model from preprocessed images ``[B, H, W, 3]`` to a list of feature maps.

    Raises:
        ConfigError: If a layer does not exist, or the weights cannot be had; it names the option.
    """
    with _policy(dtype):
        vgg = _build(weights, dtype)
        known = [layer.name for layer in vgg.layers if "_conv" in layer.name]
        for name in layers:
            if name not in known:
                raise ConfigError(
                    "VGG19 has no such convolution",
                    field="loss.options.layers",
                    found=repr(name),
                    expected=", ".join(known),
                )
        if weights is None:
            _set_random_weights(vgg)
        outputs = [vgg.get_layer(name).output for name in layers]
        features = keras.Model(vgg.inputs[0], outputs, name="vgg19_features")
    features.trainable = False
    return features


@contextlib.contextmanager
def _policy(dtype: str) -> Iterator[None]:
    # keras.applications takes no dtype: it builds in the policy that is set.
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build(weights: str | None, dtype: str) -> keras.Model:
    path = None if weights in (None, "imagenet") else Path(str(weights))
    if path is not None and not path.is_file():
        raise ConfigError(
            "there is no such file of VGG19's weights",
            path=path,
            field="loss.options.weights",
            action="Give the path of a weights file, imagenet, or null for random weights.",
        )
    # An input of its own: the one that VGG19 makes would cast images to float32.
    images = keras.Input((None, None, 3), dtype=dtype)
    try:
        return keras.applications.VGG19(
            include_top=False, weights=weights, input_tensor=images, name="vgg19"
        )
    except Exception as error:  # the download and each file format fail in ways of their own
        raise ConfigError(
            "VGG19's weights cannot be loaded",
            path=path,
            field="loss.options.weights",
            found=str(error).partition("\n")[0],
            expected="the weights of keras.applications.VGG19(include_top=False)",
            action="Without access to the network, give the path of a file downloaded before.",
        ) from error


def _set_random_weights(vgg: keras.Model) -> None:
    """He-normal kernels and no biases, drawn from each layer's name."""
    for layer in vgg.layers:
        if not layer.weights:
            continue
        kernel, bias = layer.weights
        rng = np.random.default_rng(zlib.crc32(layer.name.encode()))
        deviation = math.sqrt(2.0 / math.prod(kernel.shape[:-1]))
        values = deviation * rng.standard_normal(tuple(kernel.shape), dtype=np.float32)
        layer.set_weights([values, np.zeros(tuple(bias.shape), np.float32)])
