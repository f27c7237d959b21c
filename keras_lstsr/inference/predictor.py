"""One way to predict, whatever holds the model: Keras, a SavedModel, or a server over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.contract import (
    CONTRACT_SIGNATURE,
    CONTRACT_SIGNATURE_INPUT,
    CONTRACT_SIGNATURE_OUTPUT,
    INPUT_NAME,
    OUTPUT_NAME,
    SERVING_SIGNATURE,
    Contract,
)
from keras_lstsr.errors import MissingExtraError, ModelError, ServingError

if TYPE_CHECKING:
    import grpc
    import keras

DEFAULT_PORT = 8500
DEFAULT_MODEL_NAME = "lstsr"
DEFAULT_MESSAGE_BYTES = 64 * 2**20
# Four tiles of 128 pixels take the papers' network (45 million weights) about 45 s on two cores.
DEFAULT_TIMEOUT_SECONDS = 300.0
_SCHEME = "grpc://"


@runtime_checkable
class Predictor(Protocol):
    """Turns coarse LST into fine LST.

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

    def predict(self, lst_kelvin: NDArray[np.floating]) -> NDArray[np.float32]:
        """Predicts a batch.

        Args:
            lst_kelvin: ``[B, h, w, 1]`` kelvin, NaN where missing.

        Returns:
            ``[B, f·h, f·w, 1]`` kelvin, NaN on the fine pixels of missing coarse ones.

        Raises:
            ModelError: If shape, type, size or units do not fit the contract.
            ServingError: If a server cannot be reached or refuses.
        """
        ...


class _ContractPredictor:
    """What the three predictors share: a contract and the properties read from it."""

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


class KerasPredictor(_ContractPredictor):
    """Predicts with a Keras model in this process.

    Args:
        model: A model of ``build_model``.
        provenance: Where it comes from; the hash of its weights and versions are added.
    """

    def __init__(self, model: keras.Model, provenance: Mapping[str, Any] | None = None) -> None:
        from keras_lstsr.export import model_contract

        super().__init__(model_contract(model, provenance=dict(provenance or {})))
        self._function = _compiled(model)

    def predict(self, lst_kelvin: NDArray[np.floating]) -> NDArray[np.float32]:
        """See ``Predictor.predict``."""
        checked = self.contract.checked_input(lst_kelvin)
        return np.asarray(self._function(checked), np.float32)


def _compiled(model: keras.Model) -> Callable[[NDArray[np.float32]], Any]:
    import keras

    if keras.config.backend() != "tensorflow":
        # Compiled by Keras, anew for each size: other backends know no open sizes.
        return lambda batch: model.predict_on_batch({INPUT_NAME: batch})
    import tensorflow as tf

    # One trace for all sizes.
    return tf.function(
        lambda batch: model({INPUT_NAME: batch}, training=False),
        input_signature=[tf.TensorSpec([None, None, None, 1], tf.float32)],
        autograph=False,
    )


class SavedModelPredictor(_ContractPredictor):
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

    def predict(self, lst_kelvin: NDArray[np.floating]) -> NDArray[np.float32]:
        """See ``Predictor.predict``."""
        import tensorflow as tf

        checked = self.contract.checked_input(lst_kelvin)
        result = self._signature(**{INPUT_NAME: tf.constant(checked)})
        return np.asarray(result[OUTPUT_NAME], np.float32)


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


class GrpcPredictor(_ContractPredictor):
    """Predicts over gRPC with TF Serving, or with the local server, which speaks the same.

    Args:
        address: ``HOST:PORT``, with or without ``grpc://``.
        model_name: The model's name at the server.
        version: Version to ask for; None takes the server's newest.
        timeout_seconds: Deadline of a call, and for the server to be there.
        message_bytes: Batches are split so that no message is larger, unless a single item is.

    Raises:
        ServingError: If nobody answers, or the server's model is none of keras-lstsr.
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

    def predict(self, lst_kelvin: NDArray[np.floating]) -> NDArray[np.float32]:
        """See ``Predictor.predict``; a batch goes in as many messages as it needs."""
        checked = self.contract.checked_input(lst_kelvin)
        answer_bytes = checked[0].nbytes * self.scale_factor**2
        items = max(1, self.message_bytes // answer_bytes)
        parts = [
            self.call(SERVING_SIGNATURE, {INPUT_NAME: checked[start : start + items]})[OUTPUT_NAME]
            for start in range(0, len(checked), items)
        ]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def call(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Calls a signature of the model with arrays as they are, unchecked.

        Raises:
            ServingError: If the server cannot be reached or refuses.
        """
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        request = predict_pb2.PredictRequest()
        self.fill_model_spec(request.model_spec)
        request.model_spec.signature_name = signature
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
    bare = address.removeprefix(_SCHEME).rstrip("/")
    host, _, port = bare.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ServingError(
            "this is no server address",
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
            its versions, or ``grpc://HOST:PORT``.
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
    if server is not None or str(source).startswith(_SCHEME):
        address = server if server is not None else str(source)
        return GrpcPredictor(address, model_name=model_name, timeout_seconds=timeout_seconds)
    path = Path(source)  # type: ignore[arg-type]
    if path.is_dir() and not (path / "model.keras").is_file():
        return SavedModelPredictor(path)
    provenance = run_provenance(path) if path.is_dir() else {"run_name": path.stem}
    return KerasPredictor(load_keras_model(path), provenance)
