"""Networks, from kelvin on the coarse grid to kelvin on the fine one."""

from __future__ import annotations

import keras

from keras_lstsr.config import ModelConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.models.layers import (
    AlignCornersDouble,
    FillGaps,
    MaskGaps,
    NormaliseTemperature,
    Upsample,
)
from keras_lstsr.models.mrunet import build_mrunet, smallest_side
from keras_lstsr.models.padding import CropToReference, PadToMinimum, PadToSkip, ReflectPad

__all__ = [
    "AlignCornersDouble",
    "CropToReference",
    "FillGaps",
    "MaskGaps",
    "NormaliseTemperature",
    "PadToMinimum",
    "PadToSkip",
    "ReflectPad",
    "Upsample",
    "build_model",
    "build_mrunet",
    "smallest_side",
]


def build_model(config: ModelConfig) -> keras.Model:
    """Builds a whole model: coarse kelvin in, fine kelvin out.

    Gap filling, upsampling, scaling and padding are layers of the model, so that a saved model
    needs nothing else. Missing coarse pixels (NaN) are filled from their neighbours for the
    network and come out as NaN on their own fine pixels; all other fine pixels are finite. Images
    too small for the network are mirrored up to its smallest size and cropped again, so that any
    size from one coarse pixel on works.

    Args:
        config: The network's shape; ``offset_kelvin`` and ``scale_kelvin`` must be set, as
            ``ModelConfig.with_statistics`` does from the training split.

    Returns:
        A model with the input ``lst_kelvin`` ``[B, h, w, 1]`` (float32, kelvin, NaN where missing)
        and the output ``lst_kelvin_fine`` ``[B, h·f, w·f, 1]``; batch, height and width are free.

    Raises:
        ConfigError: If the scaling of temperature is not set.
    """
    for field in ("offset_kelvin", "scale_kelvin"):
        if getattr(config, field) is None:
            raise ConfigError(
                "the scaling of temperature is not set",
                field=f"model.{field}",
                action="Set it, or take it from the training split by ModelConfig.with_statistics.",
            )
    offset, scale = float(config.offset_kelvin or 0.0), float(config.scale_kelvin or 1.0)
    factor = config.scale_factor
    core = build_mrunet(
        config.variant,
        width=config.width,
        depth=config.depth,
        bridge_blocks=config.bridge_blocks,
        synchronised_batch_norm=config.synchronised_batch_norm,
        zero_initial_residual=config.zero_initial_residual,
    )
    coarse = keras.Input((None, None, 1), dtype="float32", name="lst_kelvin")
    filled = FillGaps(offset if offset > 0 else scale, name="fill_gaps")(coarse)
    upsampled = Upsample(factor, config.upsampling, name="upsample")(filled)
    normalised = NormaliseTemperature(offset, scale, name="normalise")(upsampled)
    padded = PadToMinimum(smallest_side(config.depth), dtype="float32", name="pad_to_minimum")(
        normalised
    )
    refined = core(padded)
    cropped = CropToReference(name="crop")([refined, normalised])
    kelvin = NormaliseTemperature(offset, scale, inverse=True, name="denormalise")(cropped)
    fine = MaskGaps(factor, name="lst_kelvin_fine")([kelvin, coarse])
    return keras.Model({"lst_kelvin": coarse}, fine, name=f"{config.architecture}_{config.variant}")
