"""Keras metrics that watch the terms and weights of the losses that learn from NDVI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_lstsr.losses.masking import masked_mean
from keras_lstsr.losses.mixgl import MixedGradientLoss

# The options of MixGL that its gradient term depends on.
_MGE_OPTIONS = (
    "gradient",
    "components",
    "gradient_scaling",
    "ndvi_scale_kelvin",
    "window_pixels",
    "nir_factor",
    "scale_factor",
    "edge_crop",
    "scale_kelvin",
)


def mge_options(loss: MixedGradientLoss) -> dict[str, Any]:
    """Returns those of a loss's options that its gradient term depends on."""
    config = loss.get_config()
    return {name: config[name] for name in _MGE_OPTIONS}


@keras.saving.register_keras_serializable(package="keras_lstsr")
class MeanGradientError(keras.metrics.Metric):
    """MixGL's mean gradient error (MGE) per image, averaged over the images that have any.

    With the default options it is ``keras_lstsr.metrics.image.mean_gradient_error``, in
    (K / pixel)², whatever the network is trained by: it can be compared between losses.

    Args:
        options: Arguments of ``MixedGradientLoss`` that shape its gradient term, e.g.
            ``mge_options(loss)`` for the term as that loss sees it; None takes the defaults.
        name: Name in logs.
        dtype: Of the computation; float32 by default.

    Raises:
        ConfigError: If an option is invalid; it names the option.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        name: str = "mean_gradient_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.options = dict(options or {})
        self._loss = MixedGradientLoss(**self.options, dtype=self.dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: LST in kelvin and NDVI, ``[B, H, W, 2]``; in a third channel images may be
                marked by 1 that do not count, see ``keras_lstsr.losses.SelfSupervisedLoss``.
            y_pred: LST in kelvin in channel 0.
            sample_weight: Weights per image, ``[B]``.
        """
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)[..., :1]
        counts = 1.0 - y_true[:, 0, 0, 2] if y_true.shape[-1] == 3 else None
        y_true = y_true[..., :2]
        squared, counted = self._loss.squared_gradient_errors(y_true, y_pred)
        weights = ops.cast(ops.any(counted, axis=(1, 2, 3)), self.dtype)
        if counts is not None:
            weights = weights * counts
        if sample_weight is not None:
            weights = weights * ops.reshape(ops.cast(sample_weight, self.dtype), (-1,))
        self.total.assign_add(ops.sum(masked_mean(squared, counted) * weights))
        self.count.assign_add(ops.sum(weights))

    def result(self) -> Any:
        """The mean so far; NaN before the first image that counts."""
        mean = self.total / ops.maximum(self.count, 1e-30)
        return ops.where(self.count > 0, mean, ops.cast(float("nan"), self.dtype))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "options": self.options}


@keras.saving.register_keras_serializable(package="keras_lstsr")
class AlphaWeight(keras.metrics.Metric):
    """Reports the weight alpha that a ``MixedGradientLoss`` has just now.

    Beyond reporting, it hands alpha to the compiled step as part of the model's state. JAX needs
    that: it keeps the first value of a variable that only a loss knows.

    Args:
        loss: The loss that the model is compiled with.
        name: Name in logs.
        dtype: As of all metrics; the weight has the loss's own.
    """

    def __init__(self, loss: MixedGradientLoss, name: str = "alpha", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._loss = loss
        self.alpha = loss.alpha_variable  # tracked, as every variable that a metric is given

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Does nothing: the weight comes from a schedule, not from a batch."""

    def reset_state(self) -> None:
        """Does nothing: a new epoch does not forget the weight."""

    def result(self) -> Any:
        """Alpha."""
        return ops.convert_to_tensor(self.alpha)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; what comes back watches a copy of the loss."""
        return {**super().get_config(), "loss": keras.saving.serialize_keras_object(self._loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AlphaWeight:
        """Builds the metric with a copy of its loss."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
