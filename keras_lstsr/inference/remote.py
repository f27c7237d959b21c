"""Prediction over gRPC: a client of TF Serving and of the local server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

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
from keras_lstsr.errors import MissingExtraError, ServingError
from keras_lstsr.inference.predictor import (
    DEFAULT_MODEL_NAME,
    DEFAULT_TIMEOUT_SECONDS,
    SCHEME,
    ContractPredictor,
)

if TYPE_CHECKING:
    import grpc

DEFAULT_PORT = 8500
DEFAULT_MESSAGE_BYTES = 64 * 2**20


class GrpcPredictor(ContractPredictor):
    """Predicts over gRPC with TF Serving, or with the local server, which speaks the same.

    Args:
        address: ``HOST:PORT``, with or without ``grpc://``.
        model_name: The model's name at the server.
        version: Version to ask for; None takes the server's newest.
        timeout_seconds: Deadline of a call, and for the server to be there.
        message_bytes: Batches are split so that no message is larger, unless a single item is.

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
    ) -> None:
        self.address = server_address(address)
        self.model_name = model_name
        self.version = version
        self.timeout_seconds = timeout_seconds
        self.message_bytes = message_bytes
        self._channel = _open_channel(self.address, timeout_seconds)
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
        batch = len(inputs[INPUT_NAME])
        answer_bytes = inputs[INPUT_NAME][0].nbytes * self.scale_factor**2 * len(outputs)
        request_bytes = sum(array[0].nbytes for array in inputs.values())
        items = max(1, self.message_bytes // max(answer_bytes, request_bytes))
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
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

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
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def fill_model_spec(self, model_spec: Any) -> None:
        """Writes the model's name, and its version if one was chosen, into a ModelSpec."""
        model_spec.name = self.model_name
        if self.version is not None:
            model_spec.version.value = self.version

    def invoke(self, method: Any, request: Any) -> Any:
        """Calls a method of a stub within the deadline.

        Raises:
            ServingError: With the server's own words, if it refuses or is not there.
        """
        import grpc

        try:
            return method(request, timeout=self.timeout_seconds)
        except grpc.RpcError as error:
            raise _serving_error(error, self.address, self.model_name) from error

    def _ask_contract(self) -> Contract:
        answer = self.call(CONTRACT_SIGNATURE, {CONTRACT_SIGNATURE_INPUT: np.ones(1, np.int32)})
        return Contract.from_json(answer[CONTRACT_SIGNATURE_OUTPUT][0], source=self.address)


def server_address(address: str) -> str:
    """Returns ``HOST:PORT`` of an address with or without ``grpc://``.

    Raises:
        ServingError: If there is no host or no port.
    """
    bare = address.removeprefix(SCHEME).rstrip("/")
    host, _, port = bare.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ServingError(
            "this is not a server address",
            field="address",
            found=repr(address),
            expected=f"HOST:PORT, e.g. localhost:{DEFAULT_PORT}",
        )
    return bare


def _open_channel(address: str, timeout_seconds: float) -> grpc.Channel:
    try:
        import grpc
        import tensorflow_serving.apis.predict_pb2  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "talking to a server needs gRPC and TF Serving's protocol buffers",
            field=error.name,
            action="Install them with `pip install 'keras-lstsr[serving]'`.",
        ) from error
    # A client's limit is 4 MiB unless it is raised: 1024 × 1024 float32 is just over that.
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(address, options=options)
    try:
        grpc.channel_ready_future(channel).result(timeout=min(timeout_seconds, 10.0))
    except grpc.FutureTimeoutError as error:
        channel.close()
        raise _unreachable(address, "no answer") from error
    return channel


def _unreachable(address: str, found: str) -> ServingError:
    return ServingError(
        "the prediction server cannot be reached",
        path=address,
        found=found,
        action="Start one with `keras-lstsr serve models/lstsr --port "
        f"{address.rpartition(':')[2]}`, or see serving/README.md for TF Serving.",
    )


def _serving_error(error: grpc.RpcError, address: str, model_name: str) -> ServingError:
    import grpc

    code, details = error.code(), (error.details() or "").rstrip(". ")
    if code is grpc.StatusCode.UNAVAILABLE:
        return _unreachable(address, details)
    action = {
        grpc.StatusCode.NOT_FOUND: "Ask for a model and version that the server has; "
        f"`python -m serving.client {address}` lists the versions of {DEFAULT_MODEL_NAME}.",
        grpc.StatusCode.DEADLINE_EXCEEDED: "Send smaller batches or tiles, or allow more time.",
        grpc.StatusCode.FAILED_PRECONDITION: "The server's model was not exported by "
        "keras-lstsr, or by another version: export and serve it again.",
    }.get(code, "Correct the request; contract.json beside the SavedModel describes it.")
    return ServingError(
        "the prediction server refuses the request",
        path=address,
        field=f"model {model_name}",
        found=f"{code.name}: {details}",
        action=action,
    )
