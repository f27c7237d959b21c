"""Tiny models with weights that do something, a predictor without a model, and model folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_lstsr.artifacts.contract import Contract
from keras_lstsr.artifacts.model_folder import ModelCard, ModelFolder, RunInfo
from keras_lstsr.config import ExperimentConfig, GuidedModelConfig, ModelConfig
from keras_lstsr.grids.resample import upsample_nearest
from keras_lstsr.inference.predictor import Batch, Prediction
from keras_lstsr.records.schema import SCALE_FACTOR


def tiny_model(*, width: int = 4, depth: int = 2, seed: int = 0) -> Any:
    """Builds a small network of ``build_model`` whose random weights add some 0.3 K of detail."""
    from keras_lstsr.models.registry import build_model

    model = build_model(
        ModelConfig(width=width, depth=depth, offset_kelvin=290.0, scale_kelvin=10.0)
    )
    rng = np.random.default_rng(seed)
    weights = []
    for variable in model.weights:
        shape = variable.shape
        if "variance" in variable.path:
            weights.append(rng.uniform(0.5, 1.5, shape))
        elif len(shape) < 2:
            weights.append(rng.normal(0, 0.15, shape))
        else:
            weights.append(rng.normal(0, 2.5 / np.sqrt(np.prod(shape[:-1])), shape))
    model.set_weights(weights)
    return model


def tiny_guided_model(*, width: int = 4, seed: int | None = 0) -> Any:
    """Builds a small guided network.

    Args:
        width: Channels of the finest level.
        seed: Of random weights, with which it adds some 0.2 K, and its spread varies; with None it
            adds nothing to its first guess, as before training.
    """
    from keras_lstsr.models.guided import build_guided

    model = build_guided(GuidedModelConfig(width=width))
    if seed is not None:
        rng = np.random.default_rng(seed)
        shapes = [weight.shape for weight in model.get_weights()]
        model.set_weights(
            [rng.normal(0, 1 / np.sqrt(np.prod(shape[:-1])), shape) for shape in shapes]
        )
    return model


class NearestPredictor:
    """A predictor without a model: it repeats each LST pixel over its fine ones.

    Args:
        minimum_size_pixels: Smallest height and width that its contract allows.
        tile_error_kelvin: What the first batch is too warm by; the second is by twice as much.

    Attributes:
        shapes: Of the batches that it was given.
    """

    def __init__(self, *, minimum_size_pixels: int = 1, tile_error_kelvin: float = 0.0) -> None:
        self.contract = Contract.of_model(
            model_version=0,
            scale_factor=SCALE_FACTOR,
            minimum_size_pixels=minimum_size_pixels,
            provenance={},
        )
        self.scale_factor = SCALE_FACTOR
        self.provenance: dict[str, Any] = {}
        self.tile_error_kelvin = tile_error_kelvin
        self.shapes: list[tuple[int, ...]] = []

    def predict(
        self,
        lst_kelvin: Batch,
        guides: Mapping[str, Batch] | None = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> Prediction:
        """See ``inference.predictor.Predictor``."""
        self.shapes.append(lst_kelvin.shape)
        coarse = self.contract.checked(lst_kelvin, guides)["lst_kelvin"][..., 0]
        fine = upsample_nearest(coarse, SCALE_FACTOR) + self.tile_error_kelvin * len(self.shapes)
        return Prediction(fine[..., None])


def write_model_folder(
    path: Path,
    model: Any,
    *,
    config: ExperimentConfig | None = None,
    card: ModelCard | None = None,
    **run: Any,
) -> ModelFolder:
    """Writes a model folder, as a training that has finished would leave it.

    Args:
        path: The folder; it is not there yet, or empty.
        model: The Keras model.
        config: Its settings; by default the defaults of ``ExperimentConfig``.
        card: Its card; None leaves it out.
        run: What ``RunInfo`` is to say otherwise.
    """
    known = {"run_name": path.name, "dataset_fingerprint": "a" * 64, "status": "finished"}
    folder = ModelFolder(path)
    folder.create(config or ExperimentConfig(), RunInfo(**{**known, **run}), model=model, card=card)
    return folder
