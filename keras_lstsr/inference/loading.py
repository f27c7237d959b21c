"""Predictors in this process, and one call that loads whatever predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import OUTPUT_NAME, SERVING_SIGNATURE, Contract
from keras_lstsr.artifacts.loading import holds_keras_model, model_contract, open_model
from keras_lstsr.artifacts.saved_model import load_saved_model, newest_version_dir
from keras_lstsr.errors import ModelError
from keras_lstsr.inference.predictor import ContractPredictor
from keras_lstsr.inference.remote import (
    DEFAULT_MODEL_NAME,
    DEFAULT_TIMEOUT_SECONDS,
    SCHEME,
    GrpcPredictor,
)

if TYPE_CHECKING:
    import keras


class KerasPredictor(ContractPredictor):
    """Predicts with a Keras model in this process.

    Args:
        model: A model of ``build_model`` or ``build_guided``.
        provenance: Where it comes from; the hash of its weights and versions are added.
    """

    def __init__(self, model: keras.Model, provenance: Mapping[str, Any] | None = None) -> None:
        super().__init__(model_contract(model, provenance=dict(provenance or {})))
        self._function = _compiled(model, self.contract)

    def run(
        self, inputs: dict[str, NDArray[np.float32]], outputs: tuple[str, ...]
    ) -> dict[str, NDArray[np.float32]]:
        """See ``ContractPredictor.run``."""
        results = self._function(inputs)
        if not isinstance(results, Mapping):
            results = {OUTPUT_NAME: results}
        return {name: np.asarray(results[name], np.float32) for name in outputs}


def _compiled(
    model: keras.Model, contract: Contract
) -> Callable[[dict[str, NDArray[np.float32]]], Any]:
    import keras

    if keras.config.backend() != "tensorflow":
        # Compiled by Keras, anew for each size: other backends know no open sizes.
        return model.predict_on_batch
    import tensorflow as tf

    # One trace for all sizes.
    return tf.function(
        lambda batch: model(batch, training=False),
        input_signature=[
            {entry.name: tf.TensorSpec(entry.shape, tf.float32) for entry in contract.inputs}
        ],
        autograph=False,
    )


class SavedModelPredictor(ContractPredictor):
    """Predicts with an exported SavedModel in this process.

    Args:
        path: A version's folder, or the model's folder, whose newest version is taken.

    Raises:
        ModelError: If there is no SavedModel, or it is damaged, or has no contract.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = newest_version_dir(path)
        super().__init__(Contract.read(self.path))
        # The signatures live only as long as the object that they come from.
        self._loaded = load_saved_model(self.path)
        self._signature = self._loaded.signatures[SERVING_SIGNATURE]

    def run(
        self, inputs: dict[str, NDArray[np.float32]], outputs: tuple[str, ...]
    ) -> dict[str, NDArray[np.float32]]:
        """See ``ContractPredictor.run``."""
        import tensorflow as tf

        results = self._signature(**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: np.asarray(results[name], np.float32) for name in outputs}


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
