"""One call that loads whatever predicts: a model folder, a SavedModel, or a server."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from keras_lstsr.artifacts.loading import holds_keras_model, open_model
from keras_lstsr.artifacts.pretrained import PRETRAINED, shipped_folder
from keras_lstsr.errors import ModelError
from keras_lstsr.inference.local import KerasPredictor, SavedModelPredictor
from keras_lstsr.inference.remote import (
    DEFAULT_MODEL_NAME,
    DEFAULT_TIMEOUT_SECONDS,
    SCHEME,
    GrpcPredictor,
)


def load_predictor(
    source: str | PathLike[str] | None = None,
    *,
    server: str | None = None,
    model_name: str = DEFAULT_MODEL_NAME,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> KerasPredictor | SavedModelPredictor | GrpcPredictor:
    """Loads whatever predicts.

    Args:
        source: A model folder, a ``.keras`` file, a SavedModel's version folder or the folder of
            its versions, ``grpc://HOST:PORT``, or the name of weights that come with the package:
            ``"pretrained"`` for the newest, or e.g. ``"guided-1"``.
        server: ``HOST:PORT`` of a server, instead of ``source``.
        model_name: The model's name at the server.
        timeout_seconds: Deadline of a call to the server.

    Raises:
        ModelError: If there is no model, or not exactly one of ``source`` and ``server``.
        ServingError: If the server cannot be reached.
    """
    if (source is None) == (server is None):
        raise ModelError(
            "name exactly one model",
            found="both a model and a server" if source is not None else "neither",
            expected="a model folder, .keras file or SavedModel, or a server",
        )
    if server is not None or str(source).startswith(SCHEME):
        address = server if server is not None else str(source)
        return GrpcPredictor(address, model_name=model_name, timeout_seconds=timeout_seconds)
    path = Path(source)  # type: ignore[arg-type]
    if path.is_dir() and not holds_keras_model(path):
        return SavedModelPredictor(path)
    return KerasPredictor(*open_model(path))


def load_pretrained() -> KerasPredictor:
    """Loads the model with the newest weights that come with this package.

    It takes LST of 1 km and NDVI of 250 m. Its provenance holds ``model_card``: data, training
    and scores of the weights.

    Raises:
        ModelError: If the weights are not there, or damaged.
    """
    return KerasPredictor(*open_model(shipped_folder(PRETRAINED) or PRETRAINED))
