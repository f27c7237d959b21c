"""A perceptual loss: errors of temperature, and of the textures that VGG19 sees in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.masking import (
    PLACEHOLDER_KELVIN,
    expose_divergence,
    masked_mean,
    replace_missing,
    valid_mask,
)
from keras_lstsr.losses.options import not_negative, positive
from keras_lstsr.losses.vgg import layer_stride, vgg19_features

DEFAULT_LAYERS = ("block2_conv2", "block3_conv4")
# Added to the mean square of a target's features, which is 0 only if they are all dead.
_FEATURE_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="keras_lstsr")
class PerceptualLoss(keras.losses.Loss):
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
    pixels that are there in both. A sample without a valid pixel has the loss 0; a prediction
    that is NaN throughout although its target has no gap makes the loss NaN.

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
        reduction: Of the values per sample, see ``keras.losses.Loss``.
        dtype: Of the computation, VGG19's too; float32 by default.

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
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.weight = not_negative("weight", weight)
        self.layers = _layer_names(layers)
        if weights is not None and not isinstance(weights, str):
            raise ConfigError(
                "invalid option of the loss",
                field="loss.options.weights",
                found=repr(weights),
                expected="imagenet, a path, or null",
            )
        self.weights = weights
        self.minimum_range_kelvin = positive("minimum_range_kelvin", minimum_range_kelvin)
        self.scale_kelvin = positive("scale_kelvin", scale_kelvin)
        self._features = vgg19_features(self.layers, weights, self.dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per sample, ``[B]``."""
        target_valid, predicted_valid = valid_mask(y_true[..., :1]), valid_mask(y_pred)
        valid = ops.logical_and(target_valid, predicted_valid)
        target = replace_missing(y_true[..., :1], valid, PLACEHOLDER_KELVIN)
        predicted = replace_missing(y_pred, valid, PLACEHOLDER_KELVIN)
        loss = masked_mean(ops.square((predicted - target) / self.scale_kelvin), valid)
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

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "weight": self.weight,
            "layers": list(self.layers),
            "weights": self.weights,
            "minimum_range_kelvin": self.minimum_range_kelvin,
            "scale_kelvin": self.scale_kelvin,
            "dtype": self.dtype,
        }


def _layer_names(layers: Any) -> tuple[str, ...]:
    names = layers.split(",") if isinstance(layers, str) else layers
    if not isinstance(names, list | tuple) or not names:
        raise ConfigError(
            "invalid option of the loss",
            field="loss.options.layers",
            found=repr(layers),
            expected="names of VGG19's convolutions",
        )
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
