"""Predictions by a server: TensorFlow Serving or the local one, over gRPC."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import (
    CONTRACT_SIGNATURE,
    CONTRACT_SIGNATURE_INPUT,
    CONTRACT_SIGNATURE_OUTPUT,
    INPUT_NAME,
    SERVING_SIGNATURE,
    Contract,
)
from keras_lstsr.errors import ServingError
from keras_lstsr.inference.connection import (
    DEFAULT_MESSAGE_BYTES,
    DEFAULT_MODEL_NAME,
    DEFAULT_REQUEST_PIXELS,
    DEFAULT_TIMEOUT_SECONDS,
    ServerAccess,
    open_channel,
    passes,
    server_address,
    serving_error,
)
from keras_lstsr.inference.predictor import ContractPredictor

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 8.0


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
                    raise serving_error(error, self.address, self.model_name) from error
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
