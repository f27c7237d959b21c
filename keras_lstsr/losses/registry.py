"""The losses that ``keras_lstsr.config.losses`` knows by name, and the metrics of each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from keras_lstsr.config.losses import LOSSES, LossConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.mixgl import MixedGradientLoss
from keras_lstsr.losses.monitoring import AlphaWeight, MeanGradientError, mge_options
from keras_lstsr.registration import code_of

# Set by Keras, not by LossConfig's options.
_NOT_OPTIONS = {"self", "name", "reduction", "dtype"}


def build_loss(config: LossConfig) -> keras.losses.Loss:
    """Builds the training loss.

    Args:
        config: Name, preset, weight of the gradient term and further options.

    Returns:
        A loss of ``(target, prediction)`` in kelvin, see the classes of this package.

    Raises:
        ConfigError: If an option is unknown, invalid, or of no use to this loss; it names it.
    """
    loss = code_of(config.needs.build)
    parameters = inspect.signature(loss.__init__).parameters.values()
    named = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    # MixGL's alpha is a field of its own.
    known = sorted(named - _NOT_OPTIONS - ({"alpha"} if config.name == "mixgl" else set()))
    for option in config.options:
        if option not in known:
            raise ConfigError(
                f"the loss {config.name} has no such option",
                field=f"loss.options.{option}",
                expected=", ".join(known),
            )
    options = {**_preset(config), **config.options}
    if config.name == "mixgl":
        if config.alpha is not None:
            options["alpha"] = config.alpha
    else:
        for field in ("alpha", "alpha_schedule"):
            if getattr(config, field) is not None:
                raise ConfigError(
                    f"the loss {config.name} has no such setting",
                    field=f"loss.{field}",
                    found=repr(getattr(config, field)),
                    action="Leave it out, or set loss.name to mixgl.",
                )
    return loss(**options)


def build_loss_metrics(config: LossConfig, loss: keras.losses.Loss) -> list[keras.metrics.Metric]:
    """Builds the metrics that belong to a loss.

    Args:
        config: The loss's settings.
        loss: What ``build_loss`` made of them.

    Returns:
        Where the loss learns from NDVI: ``mean_gradient_error`` in its right definition, and
        ``loss_mean_gradient_error`` as MixGL sees it if its options make that another one. With
        a schedule of alpha: ``alpha``. Otherwise none.
    """
    metrics: list[keras.metrics.Metric] = []
    if config.needs_guide:
        metrics.append(MeanGradientError())
    if isinstance(loss, MixedGradientLoss):
        if mge_options(loss) != mge_options(MixedGradientLoss()):
            metrics.append(MeanGradientError(mge_options(loss), name="loss_mean_gradient_error"))
        if config.alpha_schedule is not None:
            metrics.append(AlphaWeight(loss))
    return metrics


def _preset(config: LossConfig) -> Mapping[str, Any]:
    if config.preset == "default":
        return {}
    if config.preset not in config.needs.presets:
        others = [name for name, loss in LOSSES.items() if config.preset in loss.presets]
        raise ConfigError(
            f"the loss {config.name} has no such setting",
            field="loss.preset",
            found=repr(config.preset),
            action=f"Leave it out, or set loss.name to {' or '.join(others)}.",
        )
    return config.needs.presets[config.preset]
