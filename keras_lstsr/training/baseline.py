"""What the network has to beat: upsampling alone, scored in the same way."""

from __future__ import annotations

from typing import Any

import keras

from keras_lstsr.metrics.streaming import RootMeanSquareErrorKelvin
from keras_lstsr.models.layers import FillGaps, MaskGaps, Upsample

# Where a patch has no valid pixel at all; its pixels are masked again, so any value does.
EMPTY_KELVIN = 290.0


def bicubic_model(scale_factor: int) -> keras.Model:
    """Builds bicubic upsampling as a model ``[B, h, w, 1]`` → ``[B, h·f, w·f, 1]`` in kelvin.

    It has no weights; gaps are treated as the networks treat them.
    """
    coarse = keras.Input((None, None, 1), dtype="float32", name="lst_kelvin")
    fine = Upsample(scale_factor, "bicubic")(FillGaps(EMPTY_KELVIN)(coarse))
    return keras.Model({"lst_kelvin": coarse}, MaskGaps(scale_factor)([fine, coarse]))


def bicubic_rmse_kelvin(validation: Any, scale_factor: int) -> float:
    """Returns the RMSE of bicubic over batches of ``(inputs, target)`` with truth in channel 0.

    It is taken by the metric that scores the network.
    """
    model = bicubic_model(scale_factor)
    metric = RootMeanSquareErrorKelvin(name="rmse_kelvin")
    for inputs, target in validation:
        metric.update_state(target, model({"lst_kelvin": inputs["lst_kelvin"]}))
    return float(metric.result())
