"""The losses by name: class, presets, and the metrics that belong to each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from keras_lstsr.config import LOSS_NEEDS, LossConfig, LossNeeds
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.detail import DetailLoss
from keras_lstsr.losses.mixgl import REPORT_OPTIONS, MixedGradientLoss
from keras_lstsr.losses.monitoring import AlphaWeight, MeanGradientError, mge_options
from keras_lstsr.losses.perceptual import PerceptualLoss
from keras_lstsr.losses.pixelwise import (
    MaskedCharbonnier,
    MaskedHuber,
    MaskedMeanAbsoluteError,
    MaskedMeanSquaredError,
)
from keras_lstsr.losses.scale_invariance_free import ScaleInvarianceFreeLoss

LOSSES: dict[str, type[keras.losses.Loss]] = {
    "mse": MaskedMeanSquaredError,
    "mae": MaskedMeanAbsoluteError,
    "huber": MaskedHuber,
    "charbonnier": MaskedCharbonnier,
    "mixgl": MixedGradientLoss,
    "perceptual": PerceptualLoss,
    "sif": ScaleInvarianceFreeLoss,
    "detail": DetailLoss,
}
"""By name; ``keras_lstsr.config.LOSS_NEEDS`` says what each asks of data and network."""

# What was run for the papers, by preset and loss; a loss that is not here has no such preset.
PRESETS: dict[str, dict[str, Mapping[str, Any]]] = {
    "report": {"mixgl": REPORT_OPTIONS},
    "paper_2022": {"mse": {"scale_kelvin": 1.0}},
}
# Set by Keras or by LossConfig's own fields, not by its options.
_NOT_OPTIONS = {"self", "name", "reduction", "dtype", "alpha"}


def register_loss(name: str, loss: type[keras.losses.Loss], needs: LossNeeds | None = None) -> None:
    """Makes a loss known under a name: to settings, ``build_loss`` and training.

    Args:
        name: What ``loss.name`` calls it.
        loss: The class; its constructor's arguments are the loss's options. It must return a value
            per sample or per pixel, or replicas will not add up.
        needs: What it asks of data and network; by default fine LST and nothing else.

    Raises:
        ConfigError: If the name is taken.
    """
    if name in LOSS_NEEDS:
        raise ConfigError(
            "there is a loss of this name",
            field="loss.name",
            found=repr(name),
            action="Choose another name.",
        )
    LOSS_NEEDS[name] = needs or LossNeeds()
    LOSSES[name] = loss


def build_loss(config: LossConfig) -> keras.losses.Loss:
    """Builds the training loss.

    Args:
        config: Name, preset, weight of the gradient term and further options.

    Returns:
        A loss of ``(target, prediction)`` in kelvin, see the classes of this package.

    Raises:
        ConfigError: If an option is unknown, invalid, or of no use to this loss; it names it.
    """
    loss = LOSSES[config.name]
    parameters = inspect.signature(loss.__init__).parameters.values()
    named = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    known = sorted(named - _NOT_OPTIONS)
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
    losses = PRESETS[config.preset]
    if config.name not in losses:
        raise ConfigError(
            f"the loss {config.name} has no such setting",
            field="loss.preset",
            found=repr(config.preset),
            action=f"Leave it out, or set loss.name to {' or '.join(losses)}.",
        )
    return losses[config.name]
