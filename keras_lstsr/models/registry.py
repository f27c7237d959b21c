"""The whole model of each network that ``keras_lstsr.config.networks`` knows by name."""

from __future__ import annotations

from inspect import signature
from typing import Any

import keras

from keras_lstsr.config.networks import NETWORKS, GuidedModelConfig, ModelConfig, Network
from keras_lstsr.errors import ConfigError
from keras_lstsr.models.guided import build_guided
from keras_lstsr.models.layers import (
    CropToReference,
    FillGaps,
    MaskGaps,
    NormaliseTemperature,
    PadToMinimum,
    Upsample,
)
from keras_lstsr.registration import code_of


def build_model(config: ModelConfig | GuidedModelConfig) -> keras.Model:
    """Builds a whole model: coarse kelvin in, fine kelvin out.

    With ``GuidedModelConfig`` it is ``build_guided``'s; the rest tells of the other networks.

    Gap filling, upsampling, scaling and padding are layers of the model, so that a saved model
    needs nothing else. Missing coarse pixels (NaN) are filled from their neighbours for the
    network and come out as NaN on their own fine pixels; all other fine pixels are finite. Images
    whose size the network does not take are mirrored up to one that it does and cropped again, so
    that any size from one coarse pixel on works.

    Args:
        config: The network's shape; ``offset_kelvin`` and ``scale_kelvin`` must be set, as
            ``ModelConfig.with_statistics`` does from the training split.

    Returns:
        A model with the input ``lst_kelvin`` ``[B, h, w, 1]`` (float32, kelvin, NaN where missing)
        and the output ``lst_kelvin_fine`` ``[B, h·f, w·f, 1]``; batch, height and width are free.
        The network itself is the layer that is named after ``config.architecture``.

    Raises:
        ConfigError: If the scaling of temperature is not set, or the network has no such option.
    """
    if isinstance(config, GuidedModelConfig):
        return build_guided(config)
    for field in ("offset_kelvin", "scale_kelvin"):
        if getattr(config, field) is None:
            raise ConfigError(
                "the scaling of temperature is not set",
                field=f"model.{field}",
                action="Set it, or take it from the training split by ModelConfig.with_statistics.",
            )
    offset, scale = float(config.offset_kelvin or 0.0), float(config.scale_kelvin or 1.0)
    coarse = keras.Input((None, None, 1), dtype="float32", name="lst_kelvin")
    filled = FillGaps(offset if offset > 0 else scale, name="fill_gaps")(coarse)
    upsampled = Upsample(config.scale_factor, config.upsampling, name="upsample")(filled)
    core = NETWORKS[config.architecture]
    if core.on_coarse_grid:
        kelvin = _refine_from_coarse(config, core, filled, upsampled, offset, scale)
    else:
        kelvin = _refine_upsampled(config, core, upsampled, offset, scale)
    fine = MaskGaps(config.scale_factor, name="lst_kelvin_fine")([kelvin, coarse])
    return keras.Model({"lst_kelvin": coarse}, fine, name=config.network)


def _built(config: ModelConfig, network: Network) -> keras.Model:
    """The network itself, from those settings of which its builder has arguments."""
    build = code_of(network.build)
    arguments = signature(build).parameters.keys() - {"name"}
    settings = {name: getattr(config, name) for name in arguments & ModelConfig.model_fields.keys()}
    options = sorted(arguments - settings.keys())
    for option in config.options:
        if option not in options:
            raise ConfigError(
                f"the network {config.architecture} has no such option",
                field=f"model.options.{option}",
                expected=", ".join(options) or "no options",
            )
    given = {name: value for name, value in settings.items() if value is not None}
    built = build(**given, **config.options)
    built.name = config.architecture
    return built


def _pad(config: ModelConfig, core: Network, field: Any) -> Any:
    minimum, multiple = core.smallest_side(config), core.side_multiple
    if minimum == multiple == 1:
        return field
    return PadToMinimum(minimum, multiple, dtype="float32", name="pad_to_minimum")(field)


def _refine_upsampled(
    config: ModelConfig, core: Network, upsampled: Any, offset: float, scale: float
) -> Any:
    """Fine kelvin from the upsampled kelvin that the network refines."""
    normalised = NormaliseTemperature(offset, scale, name="normalise")(upsampled)
    refined = _built(config, core)(_pad(config, core, normalised))
    cropped = CropToReference(name="crop")([refined, normalised])
    return NormaliseTemperature(offset, scale, inverse=True, name="denormalise")(cropped)


def _refine_from_coarse(
    config: ModelConfig,
    core: Network,
    filled: Any,
    upsampled: Any,
    offset: float,
    scale: float,
) -> Any:
    """Upsampled kelvin plus the residual that the network makes of the coarse field."""
    normalised = NormaliseTemperature(offset, scale, name="normalise")(filled)
    residual = _built(config, core)(_pad(config, core, normalised))
    cropped = CropToReference(config.scale_factor, name="crop")([residual, upsampled])
    # A residual has no offset; added in kelvin, it leaves the upsampled field's digits alone.
    residual_kelvin = NormaliseTemperature(0.0, scale, inverse=True, name="denormalise")(cropped)
    return keras.layers.Add(dtype="float32", name="global_residual")([upsampled, residual_kelvin])
