"""A perceptual loss: errors of temperature, and of the textures that VGG19 sees in them."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.masking import (
    PLACEHOLDER_KELVIN,
    MaskedLoss,
    expose_divergence,
    masked_error,
    masked_mean,
    replace_missing,
    valid_mask,
)
from keras_lstsr.losses.options import check, not_negative, positive

DEFAULT_LAYERS = ("block2_conv2", "block3_conv4")
# Added to the mean square of a target's features, which is 0 only if they are all dead.
_FEATURE_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="keras_lstsr")
class PerceptualLoss(MaskedLoss):
    r"""Per sample: ``MSE + weight · perceptual``, for targets that are truly fine.

    **Perceptual** is, for each layer of VGG19, ``Σ |φ(T) − φ(L)|² / Σ |φ(L)|²`` between the
    feature maps φ of prediction T and target L, averaged over layers. It has no unit and does
    not depend on how large the features of a layer are: 0 is perfect, a prediction whose features
    are all 0 has 1.

    **Images.** VGG19 wants colours of 0 to 255. Target and prediction are both scaled by the
    target's own minimum and maximum in the sample, ``255 (T − min) / max(range, minimum range)``,
    without clipping, repeated in three channels, and have ImageNet's means subtracted. So adding a
    constant to both, or multiplying both, changes nothing.

    **Gaps.** Where the target is missing both images show the target's mean; where the prediction
    alone is, it shows the target. A cell of a feature map weighs as much as the share of its
    pixels that are there in both.

    Args:
        weight: Of the perceptual term, in units of ``scale_kelvin``².
        layers: Names of VGG19's convolutions, a list or a text with commas between them. The
            default ones see 14 and 48 pixels at once, which a patch of 64 pixels holds; the
            deepest of them would see little but the zeros beyond the border.
        weights: ``"imagenet"`` (Keras downloads 80 MB once), the path of a weights file of VGG19
            without its top, or None for random weights, the same everywhere. The settings keep
            this name or path, never the weights.
        minimum_range_kelvin: Range that a flat target is scaled by, so that noise of a tenth of
            a kelvin is not blown up to a texture.
        scale_kelvin: The errors in the MSE are divided by it: 1 leaves kelvin.
        name: Name in logs.
        **keywords: See ``MaskedLoss``; the dtype is VGG19's, too.

    Target: ``[B, H, W, C]``, channel 0 LST in kelvin, NaN where missing; further channels are not
    used. Prediction: ``[B, H, W, 1]`` in kelvin.

    Raises:
        ConfigError: If an option is invalid or the weights cannot be had; it names the option.

    Source: Johnson et al. (2016), arXiv:1603.08155, eq. 2 on VGG19 as Ledig et al. (2017),
    arXiv:1609.04802; there the distance is divided by the number of features alone.
    """

    def __init__(
        self,
        weight: float = 1.0,
        *,
        layers: str | Sequence[str] = DEFAULT_LAYERS,
        weights: str | None = "imagenet",
        minimum_range_kelvin: float = 1.0,
        scale_kelvin: float = 1.0,
        name: str = "perceptual",
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.weight = not_negative("weight", weight)
        self.layers = _layer_names(layers)
        named = weights is None or isinstance(weights, str)
        check(named, "weights", weights, "imagenet, a path, or null")
        self.weights = weights
        self.minimum_range_kelvin = positive("minimum_range_kelvin", minimum_range_kelvin)
        self.scale_kelvin = positive("scale_kelvin", scale_kelvin)
        self._features = vgg19_features(self.layers, weights, self.dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per sample, ``[B]``."""
        target_valid, predicted_valid = valid_mask(y_true[..., :1]), valid_mask(y_pred)
        valid = ops.logical_and(target_valid, predicted_valid)
        error = masked_error(y_true[..., :1], y_pred, valid)
        loss = masked_mean(ops.square(error / self.scale_kelvin), valid)
        loss = loss + self.weight * self.perceptual_error(y_true, y_pred)
        return expose_divergence(loss, target_valid, predicted_valid)

    def perceptual_error(self, y_true: Any, y_pred: Any) -> Any:
        """The perceptual term per sample before its weight, ``[B]``."""
        target = y_true[..., :1]
        target_valid = valid_mask(target)
        valid = ops.logical_and(target_valid, valid_mask(y_pred))
        lowest, mean, extent = _summary(target, target_valid)
        target = ops.where(target_valid, target, mean)
        predicted = ops.where(valid, y_pred, target)
        scale = 255.0 / ops.maximum(extent, self.minimum_range_kelvin)
        # Apart, so that no gradient is computed for the target's features.
        of_target, of_prediction = (
            self._feature_maps((lst_kelvin - lowest) * scale) for lst_kelvin in (target, predicted)
        )
        errors = [
            _relative_error(truth, features, valid, layer_stride(layer))
            for layer, truth, features in zip(self.layers, of_target, of_prediction, strict=True)
        ]
        return sum(errors[1:], errors[0]) / len(errors)

    def _feature_maps(self, grey: Any) -> list[Any]:
        colours = ops.concatenate([grey, grey, grey], axis=-1)
        images = keras.applications.vgg19.preprocess_input(colours, data_format="channels_last")
        maps = self._features(images, training=False)
        return list(maps) if isinstance(maps, list | tuple) else [maps]


def _layer_names(layers: Any) -> tuple[str, ...]:
    names = layers.split(",") if isinstance(layers, str) else layers
    several = isinstance(names, list | tuple) and bool(names)
    check(several, "layers", layers, "names of VGG19's convolutions")
    return tuple(str(name).strip() for name in names)


def _summary(values: Any, valid: Any) -> tuple[Any, Any, Any]:
    """Minimum, mean and range over the valid pixels of each sample, ``[B, 1, 1, 1]``."""
    axes = (1, 2, 3)
    infinite = ops.cast(float("inf"), values.dtype)
    some = ops.any(valid, axis=axes, keepdims=True)
    lowest = ops.min(ops.where(valid, values, infinite), axis=axes, keepdims=True)
    highest = ops.max(ops.where(valid, values, -infinite), axis=axes, keepdims=True)
    lowest = replace_missing(lowest, some, PLACEHOLDER_KELVIN)
    highest = replace_missing(highest, some, PLACEHOLDER_KELVIN)
    anomaly = masked_mean(ops.where(valid, values, lowest) - lowest, valid)
    return lowest, lowest + ops.reshape(anomaly, (-1, 1, 1, 1)), highest - lowest


def _relative_error(target: Any, predicted: Any, valid: Any, stride: int) -> Any:
    weights = ops.cast(valid, target.dtype)
    if stride > 1:
        weights = ops.average_pool(weights, stride, stride, padding="valid")
    axes = (1, 2, 3)
    error = ops.sum(ops.square(predicted - target) * weights, axis=axes)
    size = ops.sum(ops.square(target) * weights, axis=axes)
    return error / (size + _FEATURE_EPSILON)


def layer_stride(name: str) -> int:
    """Input pixels along a side of a feature map's cell: VGG halves after each block."""
    return int(2 ** (int(name[len("block")]) - 1))


def vgg19_features(layers: Sequence[str], weights: str | None, dtype: str) -> keras.Model:
    """Builds the part of VGG19 that gives some layers' feature maps, taken after their ReLU.

    A frozen model from preprocessed images ``[B, H, W, 3]`` to a list of feature maps; see
    ``PerceptualLoss`` for the names of layers and weights.

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
            action="Without access to the internet, give the path of a file downloaded before.",
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
