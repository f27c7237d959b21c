"""The SavedModel versions that the local server holds: loading, watching, running."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
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
from serving.requests import RequestError, RequestLimits, input_tensors, invalid, wanted_outputs

_State = get_model_status_pb2.ModelVersionStatus.State


class ServedVersion:
    """One loaded SavedModel.

    Args:
        path: The version's folder; its name is the number.
        limits: What one request may ask.

    Raises:
        ModelError: If the SavedModel is damaged or has no contract.
    """

    def __init__(self, path: Path, limits: RequestLimits) -> None:
        self.number = int(path.name)
        self.limits = limits
        self.contract = Contract.read(path)
        self._loaded = load_saved_model(path)  # the signatures die with it
        self.signature_defs = _signature_defs(path)
        self._replay_warmup(path / WARMUP_FILE)

    def run(
        self, request: predict_pb2.PredictRequest, limits: RequestLimits | None = None
    ) -> predict_pb2.PredictResponse:
        """Answers a Predict request, within these limits or by default the server's.

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
        wanted = wanted_outputs(definition, request.output_filter)
        inputs = input_tensors(name, definition, request, self.contract, limits or self.limits)
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
                # A server with narrow limits serves what was exported, all the same.
                self.run(log.predict_log.request, RequestLimits())
        except (tf.errors.OpError, DecodeError, RequestError) as error:
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


def _cause(error: BaseException) -> str:
    """Returns an error's first line, with its kind where it is not one of ours."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _load_failure(error: Exception, path: Path) -> LstsrError:
    if isinstance(error, LstsrError):
        return error
    return ModelError(
        "the version cannot be loaded",
        path=path,
        found=_cause(error),
        action="It is damaged, partly copied or not readable: export it again.",
    )


def _files_state(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a version's files: changes while the version is being copied.

    Raises:
        ModelError: If there is something that is neither file nor folder, such as a pipe, which
            would keep its reader waiting.
        OSError: If a file or folder cannot be looked at.
    """

    def refused(error: OSError) -> None:
        raise error

    states = []
    for folder, _, names in os.walk(path, onerror=refused):
        for name in names:
            file = Path(folder, name)
            known = file.stat()
            if not stat.S_ISREG(known.st_mode):
                raise ModelError("a version holds only files and folders", path=file)
            states.append((str(file.relative_to(path)), known.st_size, known.st_mtime_ns))
    return sorted(states)


class VersionWatcher:
    """Keeps the versions under a folder loaded, and looks for changes.

    Whatever lies in the folder, looking goes on: what cannot be served is announced once, and
    tried again when its files have changed.

    Args:
        models_dir: The model's folder, with versions 1, 2, … in it.
        announce: Called with one line per version that comes, goes or fails.
        limits: What one request may ask.

    Raises:
        ModelError: If there is no version, or none can be loaded.
    """

    def __init__(
        self, models_dir: Path, announce: Callable[[str], None], limits: RequestLimits
    ) -> None:
        self.models_dir = models_dir
        self.announce = announce
        self.limits = limits
        self._served: dict[int, ServedVersion] = {}
        self._status: dict[int, tuple[int, str]] = {}
        self._failed: dict[int, object] = {}
        self._odd_names: set[str] = set()
        self._trouble = ""
        if newest_version_dir(models_dir) == models_dir:
            raise ModelError(
                "this is one version of a model",
                path=models_dir,
                expected="the folder that holds versions 1, 2, …",
                action=f"Give {models_dir.resolve().parent}.",
            )
        failures = self.refresh()
        if not self._served:
            raise failures[-1]

    def look(self) -> None:
        """Refreshes; what the folder itself puts in the way is announced, once."""
        try:
            self.refresh()
            trouble = ""
        except Exception as error:  # the folder may be away for a while, e.g. a mount
            trouble = f"cannot look for versions: {_cause(error)}"
        if trouble and trouble != self._trouble:
            self.announce(trouble)
        self._trouble = trouble

    def refresh(self) -> list[LstsrError]:
        """Loads versions that came and drops those that went; returns what failed to load.

        Raises:
            OSError: If the folder cannot be read.
        """
        failures: list[LstsrError] = []
        present = existing_versions(self.models_dir)
        self._tell_odd_names(present)
        served, status = dict(self._served), dict(self._status)
        for number in set(status) - set(present):
            self._failed.pop(number, None)
            if served.pop(number, None) is not None:
                self.announce(f"version {number} is gone")
            status[number] = (_State.END, "")
        for number in set(present) - set(served):
            path = self.models_dir / str(number)
            files: object = None
            try:
                files = _files_state(path)
                if self._failed.get(number) == files:
                    continue  # a failed version is tried again only when its files have changed
                served[number] = ServedVersion(path, self.limits)
            # Anything may lie there, and what TensorFlow makes of it is not told by its documents.
            except Exception as error:
                failure = _load_failure(error, path)
                if self._failed.get(number) == (seen := files or str(failure)):
                    continue
                self._failed[number] = seen
                failures.append(failure)
                status[number] = (_State.END, str(failure))
                self.announce(f"version {number} cannot be served: {failure}")
            else:
                self._failed.pop(number, None)
                status[number] = (_State.AVAILABLE, "")
                self.announce(f"version {number} is available")
        # Readers take a whole dict at a time: no lock, and a running request keeps its version.
        self._served, self._status = served, status
        return failures

    def _tell_odd_names(self, present: list[int]) -> None:
        """Tells once of names that look like versions and are none."""
        with os.scandir(self.models_dir) as entries:
            odd = {entry.name for entry in entries if entry.name.isdecimal()}
        odd -= set(map(str, present))
        for name in sorted(odd - self._odd_names):
            self.announce(
                f"{name} is no version: a version is a folder whose name is a number below 2^63, "
                "without leading zeros"
            )
        self._odd_names = odd

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
