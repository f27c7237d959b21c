"""Losses: one value per sample, missing pixels without weight, any Keras backend."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from keras_lstsr.config import LossConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.mean_squared import MaskedMeanSquaredError
from keras_lstsr.losses.mixgl import REPORT_OPTIONS, MixedGradientLoss

__all__ = ["REPORT_OPTIONS", "MaskedMeanSquaredError", "MixedGradientLoss", "build_loss"]

_LOSSES: dict[str, type[keras.losses.Loss]] = {
    "mse": MaskedMeanSquaredError,
    "mixgl": MixedGradientLoss,
}
# Set by Keras or by LossConfig's own fields, not by its options.
_NOT_OPTIONS = {"self", "name", "reduction", "dtype", "alpha"}


def build_loss(config: LossConfig) -> keras.losses.Loss:
    """Builds the training loss.

    Args:
        config: Name, preset, weight of the gradient term and further options.

    Returns:
        A loss of ``(target, prediction)`` in kelvin, see ``MaskedMeanSquaredError`` and
        ``MixedGradientLoss``.

    Raises:
        ConfigError: If an option is unknown, invalid, or of no use to this loss; it names it.
    """
    loss = _LOSSES[config.name]
    known = sorted(set(inspect.signature(loss.__init__).parameters) - _NOT_OPTIONS)
    for option in config.options:
        if option not in known:
            raise ConfigError(
                f"the loss {config.name} has no such option",
                field=f"loss.options.{option}",
                expected=", ".join(known),
            )
    options: dict[str, Any] = dict(config.options)
    if config.name == "mixgl":
        if config.preset == "report":
            options = {**REPORT_OPTIONS, **options}
        if config.alpha is not None:
            options["alpha"] = config.alpha
    else:
        for field, value, idle in (
            ("preset", config.preset, "default"),
            ("alpha", config.alpha, None),
        ):
            if value != idle:
                raise ConfigError(
                    f"the loss {config.name} has no such setting",
                    field=f"loss.{field}",
                    found=repr(value),
                    action="Leave it out, or set loss.name to mixgl.",
                )
    return loss(**options)
