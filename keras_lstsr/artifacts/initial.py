"""Weights that a training starts from: where they lie, and what network they belong to."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from keras_lstsr.artifacts.loading import shipped_folder
from keras_lstsr.artifacts.model_folder import ModelFolder
from keras_lstsr.errors import ModelError

SCALING = ("offset_kelvin", "scale_kelvin")
"""Settings of temperature's scaling, which training fills in; they belong to the weights."""

FILLED_IN = (*SCALING, "synchronised_batch_norm")
"""All settings of a network that training fills in, from records and devices."""


def initial_folder(source: str | PathLike[str]) -> ModelFolder:
    """Finds the model folder of weights to start from.

    Args:
        source: A model folder, or the name of weights that come with the package: ``"pretrained"``
            for the newest.

    Raises:
        ModelError: If there is no such folder, or it is no model folder with its settings.
    """
    path = Path(source)
    folder = ModelFolder(path if path.is_dir() else shipped_folder(str(source)) or path)
    for file in (folder.model, folder.config):
        if not file.is_file():
            raise ModelError(
                "there are no weights to start from",
                path=file,
                found="no such file",
                expected="a model folder with model.keras and config.yaml, or pretrained",
                action="Give --init the folder that a finished training was given as --output.",
            )
    return folder


def network_settings(source: str | PathLike[str]) -> dict[str, Any]:
    """Returns the section ``model`` of the settings that weights were trained with."""
    config = initial_folder(source).read_config()
    assert config is not None  # initial_folder has seen it
    return config.model.model_dump(mode="json", exclude=set(FILLED_IN))
