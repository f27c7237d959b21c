"""What the network has to beat: upsampling alone, scored in the same way."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.metrics.streaming import RootMeanSquareErrorKelvin
from keras_lstsr.models import FillGaps, MaskGaps, Upsample

# Where a patch has no valid pixel at all; its pixels are masked again, so any value does.
EMPTY_KELVIN = 290.0


def bicubic_model(scale_factor: int) -> keras.Model:
    """Builds bicubic upsampling as a model, with the gaps treated as the networks treat them.

    Args:
        scale_factor: Fine pixels along a coarse pixel's side.

    Returns:
        A model ``[B, h, w, 1]`` → ``[B, h·f, w·f, 1]`` in kelvin, without weights.
    """
    coarse = keras.Input((None, None, 1), dtype="float32", name="lst_kelvin")
    fine = Upsample(scale_factor, "bicubic")(FillGaps(EMPTY_KELVIN)(coarse))
    return keras.Model({"lst_kelvin": coarse}, MaskGaps(scale_factor)([fine, coarse]))


def bicubic_rmse_kelvin(validation: Any, scale_factor: int) -> float:
    """Returns the RMSE of bicubic over the batches, by the metric that scores the network.

    Args:
        validation: Batches of ``(inputs, target)``; channel 0 of the target is the truth.
        scale_factor: Fine pixels along a coarse pixel's side.
    """
    model = bicubic_model(scale_factor)
    metric = RootMeanSquareErrorKelvin(name="rmse_kelvin")
    for inputs, target in validation:
        metric.update_state(target, model({"lst_kelvin": inputs["lst_kelvin"]}))
    return float(metric.result())


def sample_maps(
    model: keras.Model, validation: Any, config: ExperimentConfig
) -> tuple[str, dict[str, NDArray[np.floating]]]:
    """Predicts the validation patch of the first batch that shows most.

    Args:
        model: The trained model.
        validation: Batches of ``(inputs, target)``.
        config: The settings.

    Returns:
        A title, and maps in kelvin ``[H, W]`` by their titles: input, bicubic, prediction and,
        where it is known, truth.
    """
    factor = config.model.scale_factor
    inputs, target = next(iter(validation))
    coarse = np.asarray(inputs["lst_kelvin"])
    index = _most_telling(coarse[..., 0])
    patch = coarse[index : index + 1]

    def run(network: keras.Model) -> NDArray[np.floating]:
        fine: NDArray[np.floating] = keras.ops.convert_to_numpy(
            network({"lst_kelvin": patch}, training=False)
        )
        return fine[0, ..., 0]

    has_truth = config.data.task == "4km_to_1km"
    coarse_name, fine_name = ("4 km", "1 km") if has_truth else ("1 km", "250 m")
    maps = {
        f"input, {coarse_name}": patch[0, ..., 0],
        f"bicubic, {fine_name}": run(bicubic_model(factor)),
        f"network, {fine_name}": run(model),
    }
    title = "Validation patch"
    if has_truth:
        truth = np.asarray(target)[index, ..., 0]
        maps[f"truth, {fine_name}"] = truth
        errors = [_rmse(maps[f"{name}, {fine_name}"], truth) for name in ("bicubic", "network")]
        title += f": RMSE {errors[0]:.2f} K by bicubic, {errors[1]:.2f} K by the network"
    return title, maps


def _most_telling(patches: NDArray[np.floating]) -> int:
    # Of the patches with the fewest gaps, the one with the widest spread of temperatures.
    valid = np.isfinite(patches).sum(axis=(1, 2))
    filled = np.where(np.isfinite(patches), patches, np.nanmean(patches))
    spread = filled.std(axis=(1, 2))
    return int(np.argmax(np.where(valid == valid.max(), spread, -1.0)))


def _rmse(field: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.nanmean((field - truth) ** 2)))
