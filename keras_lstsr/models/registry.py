"""The networks by name: settings, builder, what sizes each takes; and the whole model of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_lstsr.config import GUIDED, NETWORK_SHAPES, GuidedModelConfig, ModelConfig, NetworkShape
from keras_lstsr.errors import ConfigError
from keras_lstsr.models.dmcn import SIDE_MULTIPLE as DMCN_SIDE_MULTIPLE
from keras_lstsr.models.dmcn import build_dmcn
from keras_lstsr.models.edsr import build_edsr
from keras_lstsr.models.guided import build_guided
from keras_lstsr.models.layers import FillGaps, MaskGaps, NormaliseTemperature, Upsample
from keras_lstsr.models.mrunet import build_mrunet, smallest_side
from keras_lstsr.models.padding import CropToReference, PadToMinimum
from keras_lstsr.models.srcnn import build_srcnn
from keras_lstsr.models.vdsr import build_vdsr


@dataclass(frozen=True)
class CoreNetwork:
    """A network without its surroundings, and what it asks of its input.

    Attributes:
        build: Builds it from settings, ``[B, H, W, 1] → [B, H, W, 1]`` in normalised units; on
            the coarse grid ``[B, h, w, 1] → [B, h·f, w·f, 1]``, a residual.
        smallest_side: Smallest height and width in pixels that it takes, from settings.
        side_multiple: Number of which heights and widths must be multiples.
        on_coarse_grid: Whether it works on the coarse grid and upsamples for itself.
    """

    build: Callable[[ModelConfig], keras.Model]
    smallest_side: Callable[[ModelConfig], int] = lambda config: 1
    side_multiple: int = 1
    on_coarse_grid: bool = False


def _arguments(config: ModelConfig) -> dict[str, Any]:
    return {
        **config.shape,
        "padding": config.padding,
        "zero_initial_residual": config.zero_initial_residual,
    }


def _mrunet(config: ModelConfig) -> keras.Model:
    return build_mrunet(
        **_arguments(config), synchronised_batch_norm=config.synchronised_batch_norm
    )


def _vdsr(config: ModelConfig) -> keras.Model:
    return build_vdsr(**_arguments(config))


def _dmcn(config: ModelConfig) -> keras.Model:
    return build_dmcn(**_arguments(config), synchronised_batch_norm=config.synchronised_batch_norm)


def _srcnn(config: ModelConfig) -> keras.Model:
    return build_srcnn(**_arguments(config))


def _edsr(config: ModelConfig) -> keras.Model:
    return build_edsr(**_arguments(config), scale_factor=config.scale_factor)


def _reflecting(side: int) -> Callable[[ModelConfig], int]:
    """Smallest side of a network that takes any, but for reflection: one pixel plus the margin."""
    return lambda config: side if config.padding == "reflect" else 1


NETWORKS: dict[str, CoreNetwork] = {
    "mrunet": CoreNetwork(_mrunet, lambda config: smallest_side(config.shape["depth"])),
    "vdsr": CoreNetwork(_vdsr, _reflecting(2)),
    # Reflection needs two pixels after two halvings.
    "dmcn": CoreNetwork(
        _dmcn,
        lambda config: DMCN_SIDE_MULTIPLE * _reflecting(2)(config),
        side_multiple=DMCN_SIDE_MULTIPLE,
    ),
    "srcnn": CoreNetwork(_srcnn, _reflecting(5)),
    "edsr": CoreNetwork(_edsr, _reflecting(2), on_coarse_grid=True),
}
"""By architecture; ``keras_lstsr.config.NETWORK_SHAPES`` has the settings of each."""


def register_network(name: str, network: CoreNetwork, shape: NetworkShape | None = None) -> None:
    """Makes a network known under a name: to settings, ``build_model`` and training.

    Args:
        name: What ``model.architecture`` calls it.
        network: How it is built.
        shape: Which settings it has beside its width; by default none.

    Raises:
        ConfigError: If the name is taken.
    """
    if name in NETWORK_SHAPES or name == GUIDED:
        raise ConfigError(
            "there is a network of this name",
            field="model.architecture",
            found=repr(name),
            action="Choose another name.",
        )
    NETWORK_SHAPES[name] = shape or NetworkShape()
    NETWORKS[name] = network


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
        ConfigError: If the scaling of temperature is not set.
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


def _pad(config: ModelConfig, core: CoreNetwork, field: Any) -> Any:
    minimum, multiple = core.smallest_side(config), core.side_multiple
    if minimum == multiple == 1:
        return field
    return PadToMinimum(minimum, multiple, dtype="float32", name="pad_to_minimum")(field)


def _refine_upsampled(
    config: ModelConfig, core: CoreNetwork, upsampled: Any, offset: float, scale: float
) -> Any:
    """Fine kelvin from the upsampled kelvin that the network refines."""
    normalised = NormaliseTemperature(offset, scale, name="normalise")(upsampled)
    refined = core.build(config)(_pad(config, core, normalised))
    cropped = CropToReference(name="crop")([refined, normalised])
    return NormaliseTemperature(offset, scale, inverse=True, name="denormalise")(cropped)


def _refine_from_coarse(
    config: ModelConfig,
    core: CoreNetwork,
    filled: Any,
    upsampled: Any,
    offset: float,
    scale: float,
) -> Any:
    """Upsampled kelvin plus the residual that the network makes of the coarse field."""
    normalised = NormaliseTemperature(offset, scale, name="normalise")(filled)
    residual = core.build(config)(_pad(config, core, normalised))
    cropped = CropToReference(config.scale_factor, name="crop")([residual, upsampled])
    # A residual has no offset; added in kelvin, it leaves the upsampled field's digits alone.
    residual_kelvin = NormaliseTemperature(0.0, scale, inverse=True, name="denormalise")(cropped)
    return keras.layers.Add(dtype="float32", name="global_residual")([upsampled, residual_kelvin])
