"""Predictors: one interface for Keras, a SavedModel and a server, and one call that loads each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import (
    FOLLOWED_NAME,
    OUTPUT_NAME,
    SERVING_SIGNATURE,
    STD_NAME,
    Contract,
)
from keras_lstsr.artifacts.loading import (
    Precision,
    holds_keras_model,
    model_contract,
    open_model,
)
from keras_lstsr.errors import ModelError
from keras_lstsr.inference.connection import (
    DEFAULT_MODEL_NAME,
    DEFAULT_RETRY_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    SCHEME,
    ServerAccess,
)

if TYPE_CHECKING:
    import keras

Batch = NDArray[np.floating]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a batch.

    Attributes:
        lst_kelvin: ``[B, f·h, f·w, 1]`` kelvin, NaN on the fine pixels of missing coarse ones.
        std_kelvin: Standard deviation of the error of its detail, likewise; None from a model
            that gives none, or was not asked for it.
        guide_followed: How far the result follows the guides, 0 (bicubic) to 1, likewise.
    """

    lst_kelvin: NDArray[np.float32]
    std_kelvin: NDArray[np.float32] | None = None
    guide_followed: NDArray[np.float32] | None = None


@runtime_checkable
class Predictor(Protocol):
    """Turns coarse LST, and guides where the model takes any, into fine LST.

    Attributes:
        contract: What the model takes, gives and comes from.
        scale_factor: Fine pixels along a coarse pixel's side.
        provenance: Where the model comes from.
    """

    @property
    def contract(self) -> Contract: ...  # noqa: D102

    @property
    def scale_factor(self) -> int: ...  # noqa: D102

    @property
    def provenance(self) -> Mapping[str, Any]: ...  # noqa: D102

    def predict(
        self,
        lst_kelvin: Batch,
        guides: Mapping[str, Batch] | None = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> Prediction:
        """Predicts a batch.

        Args:
            lst_kelvin: ``[B, h, w, 1]`` kelvin, NaN where missing.
            guides: Name → ``[B, f·h, f·w, 1]``, NaN where missing, of the guides that the contract
                names. One that is left out is missing throughout.
            outputs: Names of the contract's outputs that are wanted beside LST; None means all.
                What is not wanted is not sent by a server.

        Returns:
            Fine LST in kelvin and what else the model gives.

        Raises:
            ModelError: If shape, type, size or units do not fit the contract, or the model does
                not take a guide that is given.
            ServingError: If a server cannot be reached or refuses.
        """
        ...


class ContractPredictor(ABC):
    """What the three predictors share: a contract, what follows from it, and its checks."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    @property
    def scale_factor(self) -> int:
        """Fine pixels along a coarse pixel's side."""
        return self.contract.scale_factor

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the model comes from."""
        return self.contract.provenance

    def predict(
        self,
        lst_kelvin: Batch,
        guides: Mapping[str, Batch] | None = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> Prediction:
        """See ``Predictor.predict``."""
        beside = (STD_NAME, FOLLOWED_NAME) if outputs is None else outputs
        names = (OUTPUT_NAME, *(name for name in beside if self.contract.gives(name)))
        results = self.run(self.contract.checked(lst_kelvin, guides), names)
        return Prediction(results[OUTPUT_NAME], results.get(STD_NAME), results.get(FOLLOWED_NAME))

    @abstractmethod
    def run(
        self, inputs: dict[str, NDArray[np.float32]], outputs: tuple[str, ...]
    ) -> dict[str, NDArray[np.float32]]:
        """Runs the model on tensors that are checked; returns those outputs by name."""


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
        from keras_lstsr.artifacts.saved_model import load_saved_model, newest_version_dir

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
    precision: Precision = "float32",
    access: ServerAccess | None = None,
    retry_seconds: float = DEFAULT_RETRY_SECONDS,
    announce: Callable[[str], None] = lambda line: None,
) -> ContractPredictor:
    """Loads whatever predicts.

    Args:
        source: A model folder, a ``.keras`` file, a SavedModel's version folder or the folder of
            its versions, ``grpc://HOST:PORT``, or the name of weights that come with the package:
            ``"pretrained"`` for the newest, or e.g. ``"guided-1"``.
        server: ``HOST:PORT`` of a server, instead of ``source``.
        model_name: The model's name at the server.
        timeout_seconds: Deadline of a call to the server.
        precision: Of a Keras model of guides: ``"float32"``; ``"bfloat16"`` inside its network,
            temperatures stay float32; or ``"auto"``: bfloat16 on a processor that is fast
            in it.
        access: TLS and a token for the server.
        retry_seconds: How long a call is tried again while the server is away, e.g. started anew.
        announce: Called with a line when it begins to try again.

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
        from keras_lstsr.inference.remote import GrpcPredictor

        address = server if server is not None else str(source)
        predictor = GrpcPredictor(
            address,
            model_name=model_name,
            timeout_seconds=timeout_seconds,
            access=access,
            retry_seconds=retry_seconds,
            announce=announce,
        )
        predictor.hold_version()
        return predictor
    path = Path(source)  # type: ignore[arg-type]
    if path.is_dir() and not holds_keras_model(path):
        return SavedModelPredictor(path)
    return KerasPredictor(*open_model(path, precision))
