"""Model folders with whatever model a test has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_lstsr.artifacts.model_folder import ModelCard, ModelFolder, RunInfo
from keras_lstsr.config import ExperimentConfig


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
        run: What ``RunInfo`` is to say otherwise than ``run_name`` = the folder's name,
            ``dataset_fingerprint`` = 64 times ``a`` and ``status`` = finished.
    """
    known = {"run_name": path.name, "dataset_fingerprint": "a" * 64, "status": "finished"}
    folder = ModelFolder(path)
    folder.create(config or ExperimentConfig(), RunInfo(**{**known, **run}), model=model, card=card)
    return folder
