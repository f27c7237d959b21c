"""The SavedModel versions that the local server holds: loading, watching, running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
)

from keras_lstsr.artifacts.contract import SERVING_SIGNATURE, Contract
from keras_lstsr.artifacts.saved_model import (
    WARMUP_FILE,
    existing_versions,
    load_saved_model,
    newest_version_dir,
)
from keras_lstsr.errors import LstsrError, ModelError

_State = get_model_status_pb2.ModelVersionStatus.State


class RequestError(Exception):
    """A request that is refused, with the gRPC status that says why."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


def invalid(details: str) -> RequestError:
    """Returns the refusal of a request that does not fit the model."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, details)


class ServedVersion:
    """One loaded SavedModel.

    Args:
        path: The version's folder; its name is the number.

    Raises:
        ModelError: If the SavedModel is damaged or has no contract.
    """

    def __init__(self, path: Path) -> None:
        self.number = int(path.name)
        self.contract = Contract.read(path)
        self._loaded = load_saved_model(path)  # the signatures die with it
        self.signature_defs = _signature_defs(path)
        self._replay_warmup(path / WARMUP_FILE)

    def run(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Answers a Predict request.

        Raises:
            RequestError: If signature, tensors or values do not fit.
        """
        name = request.model_spec.signature_name or SERVING_SIGNATURE
        if name not in self._loaded.signatures:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found; the model has '
                f"{', '.join(sorted(self._loaded.signatures))}.",
            )
        definition = self.signature_defs[name]
        wanted = _wanted_outputs(definition, request.output_filter)
        inputs = _input_tensors(definition, request)
        try:
            outputs = self._loaded.signatures[name](**inputs)
        except tf.errors.OpError as error:
            code = grpc.StatusCode.INTERNAL
            if isinstance(error, tf.errors.InvalidArgumentError):
                code = grpc.StatusCode.INVALID_ARGUMENT
            elif isinstance(error, tf.errors.ResourceExhaustedError):
                code = grpc.StatusCode.RESOURCE_EXHAUSTED
            raise RequestError(code, _without_traceback(error.message)) from error
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = self.number
        response.model_spec.signature_name = name
        for output in wanted:
            response.outputs[output].CopyFrom(tf.make_tensor_proto(outputs[output].numpy()))
        return response

    def _replay_warmup(self, path: Path) -> None:
        """Runs the requests recorded at export, so that no client waits for the first trace."""
        if not path.is_file():
            return
        try:
            for record in tf.data.TFRecordDataset(str(path)):
                log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
                self.run(log.predict_log.request)
        except (tf.errors.OpError, RequestError) as error:
            raise ModelError(
                "the warm-up requests of the SavedModel fail",
                path=path,
                found=error,
                action="The version is damaged: export it again.",
            ) from error


def _without_traceback(message: str) -> str:
    """Keeps the cause of a graph's failure, e.g. ``assertion failed: …``, and drops its place."""
    return message.split("<stack traces unavailable>")[-1].split("\n\t [[")[0].strip()


def _signature_defs(path: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return dict(saved.meta_graphs[0].signature_def)


def _wanted_outputs(
    definition: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]
) -> list[str]:
    known = sorted(definition.outputs)
    for alias in output_filter:
        if alias not in known:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {{{','.join(known)}}}."
            )
    if len(set(output_filter)) < len(output_filter):
        raise invalid("duplicate output tensor alias")
    return list(output_filter) or known


def _input_tensors(
    definition: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> dict[str, tf.Tensor]:
    """Decodes the request's tensors after checking names, types and shapes."""
    known, sent = set(definition.inputs), set(request.inputs)
    if known != sent:
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)}. "
            f"Sent extra: {{{','.join(sorted(sent - known))}}}. "
            f"Missing but required: {{{','.join(sorted(known - sent))}}}."
        )
    tensors = {}
    for name, info in definition.inputs.items():
        proto = request.inputs[name]
        expected = tf.dtypes.as_dtype(info.dtype)
        if proto.dtype != info.dtype:
            found = _dtype_name(proto.dtype)
            raise invalid(f"{name}: expected data type {expected.name}, found {found}.")
        try:
            values = tf.make_ndarray(proto)
        except (ValueError, TypeError) as error:
            problem = f"{name}: the tensor's content does not fit its shape: {error}"
            raise invalid(problem) from error
        shape = tf.TensorShape(info.tensor_shape)
        if not shape.is_compatible_with(values.shape) or 0 in values.shape:
            wanted, found = _shape_text(shape.as_list()), _shape_text(values.shape)
            raise invalid(f"{name}: expected shape {wanted}, found {found}.")
        tensors[name] = tf.constant(values)
    return tensors


def _dtype_name(number: int) -> str:
    try:
        return str(tf.dtypes.as_dtype(number).name)
    except (TypeError, KeyError):
        return f"unknown type {number}"


def _shape_text(shape: Any) -> str:
    return "[" + ", ".join("any" if side is None else str(side) for side in shape) + "]"


def _files_state(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a version's files: changes while the version is being copied."""
    return sorted(
        (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
        for file in path.rglob("*")
        if file.is_file()
    )


class VersionWatcher:
    """Keeps the versions under a folder loaded, and looks for changes.

    Args:
        models_dir: The model's folder, with versions 1, 2, … in it.
        announce: Called with one line per version that comes, goes or fails.

    Raises:
        ModelError: If there is no version, or none can be loaded.
    """

    def __init__(self, models_dir: Path, announce: Callable[[str], None]) -> None:
        self.models_dir = models_dir
        self.announce = announce
        self._served: dict[int, ServedVersion] = {}
        self._status: dict[int, tuple[int, str]] = {}
        self._failed: dict[int, object] = {}
        newest_version_dir(models_dir)  # says what is missing
        failures = self.refresh()
        if not self._served:
            raise failures[-1]

    def refresh(self) -> list[LstsrError]:
        """Loads versions that came and drops those that went; returns what failed to load."""
        failures: list[LstsrError] = []
        present = existing_versions(self.models_dir)
        served, status = dict(self._served), dict(self._status)
        for number in set(served) - set(present):
            del served[number]
            status[number] = (_State.END, "")
            self.announce(f"version {number} is gone")
        for number in present:
            path = self.models_dir / str(number)
            files = _files_state(path)
            if number in served or self._failed.get(number) == files:
                continue  # a failed version is tried again only when its files have changed
            try:
                served[number] = ServedVersion(path)
            except LstsrError as error:
                failures.append(error)
                self._failed[number] = files
                status[number] = (_State.END, str(error))
                self.announce(f"version {number} cannot be served: {error}")
            else:
                status[number] = (_State.AVAILABLE, "")
                self.announce(f"version {number} is available")
        # Readers take a whole dict at a time: no lock, and a running request keeps its version.
        self._served, self._status = served, status
        return failures

    def get(self, model_spec: model_pb2.ModelSpec) -> ServedVersion:
        """Finds the version that a request asks for.

        Raises:
            RequestError: If it is not served.
        """
        served = self._served
        if model_spec.WhichOneof("version_choice") == "version_label":
            raise invalid(
                f"Unrecognized servable version label: {model_spec.version_label}. This server "
                "assigns no labels: ask for a version's number, or for none to get the newest."
            )
        number = max(served, default=0)
        if model_spec.HasField("version"):
            number = model_spec.version.value
        if number not in served:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Specific({model_spec.name}, {number}); "
                f"served are {', '.join(map(str, sorted(served))) or 'none'}.",
            )
        return served[number]

    def status(self) -> dict[int, tuple[int, str]]:
        """Returns each version's state and, where it failed, why."""
        return self._status
