"""Predictors: one interface for Keras, a SavedModel and a server, and one call that loads each.

The server is TensorFlow Serving or the local one, over gRPC.
"""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import (
    CONTRACT_SIGNATURE,
    CONTRACT_SIGNATURE_INPUT,
    CONTRACT_SIGNATURE_OUTPUT,
    FOLLOWED_NAME,
    INPUT_NAME,
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
from keras_lstsr.errors import ModelError, ServingError
from keras_lstsr.inference.connection import (
    SCHEME,
    ServerAccess,
    open_channel,
    passes,
    server_address,
    serving_error,
)

if TYPE_CHECKING:
    import keras

DEFAULT_MODEL_NAME = "lstsr"
# Four tiles of 128 pixels take the papers' network (45 million weights) about 45 s on two cores.
DEFAULT_TIMEOUT_SECONDS = 300.0
DEFAULT_MESSAGE_BYTES = 64 * 2**20
# As a square of 512 pixels a side; the papers' network takes about three minutes for it.
DEFAULT_REQUEST_PIXELS = 2**18
DEFAULT_RETRY_SECONDS = 120.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 8.0

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


class GrpcPredictor(ContractPredictor):
    """Predicts over gRPC with TF Serving, or with the local server, which speaks the same.

    Args:
        address: ``HOST:PORT``, with or without ``grpc://``.
        model_name: The model's name at the server.
        version: Version to ask for; None takes the server's newest.
        timeout_seconds: Deadline of a call, and for the server to be there.
        message_bytes: Batches are split so that no message is larger, and none has more pixels than
            the local server takes, unless a single item does.
        access: TLS and a token.
        retry_seconds: How long a call is tried again, with growing pauses, while the server is
            away; 0 gives up at once.
        announce: Called with a line when it begins to try again.

    Raises:
        ServingError: If nobody answers, or the server's model was not exported by keras-lstsr.
        MissingExtraError: If the extra ``serving`` is not installed.
    """

    def __init__(
        self,
        address: str,
        *,
        model_name: str = DEFAULT_MODEL_NAME,
        version: int | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        message_bytes: int = DEFAULT_MESSAGE_BYTES,
        access: ServerAccess | None = None,
        retry_seconds: float = 0.0,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.address = server_address(address)
        self.model_name = model_name
        self.version = version
        self.timeout_seconds = timeout_seconds
        self.message_bytes = message_bytes
        self.retry_seconds = retry_seconds
        self.announce = announce
        self._access = access or ServerAccess()
        self._interrupted = False
        self._answered_version = 0
        self._channel = open_channel(self.address, self._access, timeout_seconds)
        try:
            super().__init__(self._ask_contract())
        except BaseException:
            self._channel.close()
            raise

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(
        self, inputs: dict[str, NDArray[np.float32]], outputs: tuple[str, ...]
    ) -> dict[str, NDArray[np.float32]]:
        """See ``ContractPredictor.run``; a batch goes in as many messages as it needs."""
        batch, *sides, _ = inputs[INPUT_NAME].shape
        answer_bytes = inputs[INPUT_NAME][0].nbytes * self.scale_factor**2 * len(outputs)
        request_bytes = sum(array[0].nbytes for array in inputs.values())
        pixels = math.prod(max(side, self.contract.alignment_pixels) for side in sides)
        fitting = self.message_bytes // max(answer_bytes, request_bytes)
        items = max(1, min(fitting, DEFAULT_REQUEST_PIXELS // pixels))
        # A server sends all outputs unless it is asked for some.
        wanted = {} if len(outputs) == len(self.contract.outputs) else {"outputs": outputs}
        parts = [
            self.call(
                SERVING_SIGNATURE,
                {name: array[start : start + items] for name, array in inputs.items()},
                **wanted,
            )
            for start in range(0, batch, items)
        ]
        if self._interrupted:
            self._check_same_model()
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

    def hold_version(self) -> None:
        """Asks for the version whose contract it has from now on: no scene is made by two."""
        if self.version is None and self._answered_version:
            self.version = self._answered_version

    def call(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        outputs: Sequence[str] = (),
    ) -> dict[str, NDArray[Any]]:
        """Calls a signature of the model with arrays as they are, unchecked.

        Args:
            signature: Its name.
            inputs: Tensors by their names in the signature.
            outputs: Names of the outputs wanted; none means all.

        Raises:
            ServingError: If the server cannot be reached or refuses.
        """
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        request = predict_pb2.PredictRequest()
        self.fill_model_spec(request.model_spec)
        request.model_spec.signature_name = signature
        request.output_filter.extend(outputs)
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        response = self.invoke(stub.Predict, request)
        self._answered_version = response.model_spec.version.value
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def fill_model_spec(self, model_spec: Any) -> None:
        """Writes the model's name, and its version if one was chosen, into a ModelSpec."""
        model_spec.name = self.model_name
        if self.version is not None:
            model_spec.version.value = self.version

    def invoke(self, method: Any, request: Any) -> Any:
        """Calls a method of a stub within the deadline; again, as ``retry_seconds`` says.

        Raises:
            ServingError: With the server's own words, if it refuses or is not there.
        """
        import grpc

        end = time.monotonic() + self.retry_seconds
        longest = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return method(request, timeout=self.timeout_seconds, metadata=self._access.metadata)
            except grpc.RpcError as error:
                left = end - time.monotonic()
                if not passes(error) or left <= 0:
                    raise serving_error(
                        error, self.address, self.model_name, DEFAULT_MODEL_NAME
                    ) from error
                if longest == _FIRST_PAUSE_SECONDS:
                    self.announce(
                        f"{self.address} does not answer ({error.code().name}); trying again for "
                        f"{self.retry_seconds:g} s"
                    )
            self._interrupted = True
            # Clients that lost the same server do not all come back at the same moment.
            time.sleep(min(left, random.uniform(0.5, 1.0) * longest))
            longest = min(2 * longest, _LONGEST_PAUSE_SECONDS)

    def _check_same_model(self) -> None:
        """Makes sure that the server which came back has the model that went."""
        self._interrupted = False
        if self._ask_contract() != self.contract:
            raise ServingError(
                "the server came back with another model",
                path=self.address,
                field=f"model {self.model_name}",
                action="Predict the scene again.",
            )

    def _ask_contract(self) -> Contract:
        answer = self.call(CONTRACT_SIGNATURE, {CONTRACT_SIGNATURE_INPUT: np.ones(1, np.int32)})
        return Contract.from_json(answer[CONTRACT_SIGNATURE_OUTPUT][0], source=self.address)


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
            temperatures stay float32; or ``"auto"``: bfloat16 on a processor that has it.
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
