"""One way to predict, whatever holds the model: Keras, a SavedModel, or a server over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.contract import CONTRACT_SIGNATURE, OUTPUT_NAME, SERVING_SIGNATURE, Contract
from keras_lstsr.errors import ModelError
from keras_lstsr.inference.prediction import ContractPredictor, Prediction, Predictor
from keras_lstsr.inference.pretrained import PRETRAINED, pretrained_model
from keras_lstsr.inference.remote import (
    DEFAULT_MESSAGE_BYTES,
    DEFAULT_MODEL_NAME,
    DEFAULT_PORT,
    DEFAULT_TIMEOUT_SECONDS,
    SCHEME,
    GrpcPredictor,
    server_address,
)

if TYPE_CHECKING:
    import keras

__all__ = [
    "DEFAULT_MESSAGE_BYTES",
    "DEFAULT_MODEL_NAME",
    "DEFAULT_PORT",
    "DEFAULT_TIMEOUT_SECONDS",
    "GrpcPredictor",
    "KerasPredictor",
    "Prediction",
    "Predictor",
    "SavedModelPredictor",
    "load_predictor",
    "load_pretrained",
    "load_saved_model",
    "newest_version_dir",
    "server_address",
]


class KerasPredictor(ContractPredictor):
    """Predicts with a Keras model in this process.

    Args:
        model: A model of ``build_model`` or ``build_guided``.
        provenance: Where it comes from; the hash of its weights and versions are added.
    """

    def __init__(self, model: keras.Model, provenance: Mapping[str, Any] | None = None) -> None:
        from keras_lstsr.export import model_contract

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


def newest_version_dir(path: str | PathLike[str]) -> Path:
    """Finds the SavedModel: the folder itself, or its highest-numbered subfolder.

    Raises:
        ModelError: If there is neither.
    """
    from keras_lstsr.export import existing_versions

    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return path
    versions = existing_versions(path) if path.is_dir() else []
    if not versions:
        raise ModelError(
            "there is no SavedModel",
            path=path,
            found="no such folder" if not path.is_dir() else "no saved_model.pb, no version",
            expected="a version's folder, or a model's folder with versions 1, 2, … in it",
            action="Export one with `keras-lstsr export RUN --output models/lstsr`.",
        )
    return path / str(versions[-1])


def load_saved_model(path: Path) -> Any:
    """Loads a SavedModel that has the signatures of keras-lstsr; keep the returned object.

    Raises:
        ModelError: If it is damaged, or lacks a signature.
        MissingExtraError: If TensorFlow is not installed.
    """
    from keras_lstsr.export import require_tensorflow

    require_tensorflow("a SavedModel")
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, IndexError, TypeError, tf.errors.OpError) as error:
        raise ModelError(
            "the SavedModel cannot be loaded",
            path=path,
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error),
            expected="a whole SavedModel: saved_model.pb and variables/",
            action="It is damaged or half copied: export it again.",
        ) from error
    missing = {SERVING_SIGNATURE, CONTRACT_SIGNATURE} - set(loaded.signatures)
    if missing:
        raise ModelError(
            "the SavedModel is none of keras-lstsr",
            path=path,
            field="signatures",
            found=sorted(loaded.signatures),
            expected=f"{SERVING_SIGNATURE} and {CONTRACT_SIGNATURE}",
            action="Export the model with `keras-lstsr export`.",
        )
    return loaded


def load_predictor(
    source: str | PathLike[str] | None = None,
    *,
    server: str | None = None,
    model_name: str = DEFAULT_MODEL_NAME,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> KerasPredictor | SavedModelPredictor | GrpcPredictor:
    """Loads whatever predicts.

    Args:
        source: A run folder, a ``.keras`` file, a SavedModel's version folder or the folder of
            its versions, ``grpc://HOST:PORT``, or ``"pretrained"``; see ``load_pretrained``.
        server: ``HOST:PORT`` of a server, instead of ``source``.
        model_name: The model's name at the server.
        timeout_seconds: Deadline of a call to the server.

    Raises:
        ModelError: If there is no model, or not exactly one of ``source`` and ``server``.
        ServingError: If the server cannot be reached.
    """
    from keras_lstsr.export import load_keras_model, run_provenance

    if (source is None) == (server is None):
        raise ModelError(
            "name exactly one model",
            found="both a model and a server" if source is not None else "neither",
            expected="a run folder, .keras file or SavedModel, or a server",
        )
    if server is not None or str(source).startswith(SCHEME):
        address = server if server is not None else str(source)
        return GrpcPredictor(address, model_name=model_name, timeout_seconds=timeout_seconds)
    path = Path(source)  # type: ignore[arg-type]
    if str(source) == PRETRAINED and not path.exists():
        return load_pretrained()
    if path.is_dir() and not (path / "model.keras").is_file():
        return SavedModelPredictor(path)
    provenance = run_provenance(path) if path.is_dir() else {"run_name": path.stem}
    return KerasPredictor(load_keras_model(path), provenance)


def load_pretrained() -> KerasPredictor:
    """Loads the model with the weights that come with this package.

    It takes LST of 1 km and NDVI of 250 m. Its provenance holds ``model_card``: data, training
    and scores of the weights.

    Raises:
        ModelError: If the weights are not there, or damaged.
    """
    return KerasPredictor(*pretrained_model())
