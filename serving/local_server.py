"""A local prediction server that speaks TF Serving's gRPC API over the same SavedModels.

It serves every version under a model's folder, the newest by default, looks for new ones as TF
Serving does, replays their warm-up requests, and answers with the same status codes. Needs the
extra ``serving`` and no Docker.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any

import grpc
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from keras_lstsr.errors import ServingError
from keras_lstsr.inference.connection import DEFAULT_MODEL_NAME, DEFAULT_PORT
from serving.requests import RequestError, RequestLimits, invalid
from serving.security import ServerSecurity
from serving.termination import Termination
from serving.versions import VersionWatcher

_SIGNATURE_DEF = "signature_def"
# They travel in a header, up to nine bytes a character, and gRPC takes 8 KiB of headers.
_LONGEST_DETAILS = 800


class _Servicer:
    """What both services share: the model's name, and errors turned into gRPC statuses."""

    def __init__(self, model_name: str, versions: VersionWatcher) -> None:
        self._model_name = model_name
        self._versions = versions

    def _check_name(self, request: Any) -> None:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if request.model_spec.name != self._model_name:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Latest({request.model_spec.name}); "
                f"this server has the model {self._model_name}.",
            )


def _answer(context: grpc.ServicerContext, work: Callable[[Any], Any], request: Any) -> Any:
    try:
        return work(request)
    except RequestError as error:
        code, details = error.code, error.details
    except MemoryError:
        code, details = grpc.StatusCode.RESOURCE_EXHAUSTED, "this server lacks the memory for it"
    # Nothing that a client sends may come back as a traceback.
    except Exception as error:
        code, details = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
    if len(details) > _LONGEST_DETAILS:
        details = details[:_LONGEST_DETAILS] + " …"
    context.abort(code, details)


class _PredictionService(_Servicer, prediction_service_pb2_grpc.PredictionServiceServicer):
    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Runs a signature."""
        return _answer(context, self._predict, request)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Returns the signatures."""
        return _answer(context, self._metadata, request)

    def _predict(self, request: Any) -> Any:
        self._check_name(request)
        return self._versions.get(request.model_spec).run(request)

    def _metadata(self, request: Any) -> Any:
        if not request.metadata_field or set(request.metadata_field) - {_SIGNATURE_DEF}:
            found = list(request.metadata_field)
            raise invalid(f"metadata_field must be {_SIGNATURE_DEF}, found {found}")
        self._check_name(request)
        version = self._versions.get(request.model_spec)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = self._model_name
        response.model_spec.version.value = version.number
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in version.signature_defs.items():
            signatures.signature_def[name].CopyFrom(definition)
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response


class _ModelService(_Servicer, model_service_pb2_grpc.ModelServiceServicer):
    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Returns the states of the versions."""
        return _answer(context, self._status, request)

    def _status(self, request: Any) -> Any:
        self._check_name(request)
        status = self._versions.status()
        if request.model_spec.HasField("version"):
            number = request.model_spec.version.value
            if number not in status:
                raise RequestError(
                    grpc.StatusCode.NOT_FOUND,
                    f"Could not find version {number} of model {self._model_name}",
                )
            status = {number: status[number]}
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, (state, problem) in sorted(status.items(), reverse=True):
            entry = response.model_version_status.add(version=number, state=state)
            entry.status.error_code = error_codes_pb2.UNKNOWN if problem else error_codes_pb2.OK
            entry.status.error_message = problem
        return response


class LocalServer:
    """A running server; a context manager that stops it.

    Args:
        models_dir: The model's folder, with versions 1, 2, … in it.
        host: Address to listen at; ``0.0.0.0`` for all.
        port: Port to listen at; 0 takes a free one.
        model_name: Name that clients ask for.
        poll_seconds: Pause between looks for new versions.
        limits: What one request may ask, and all of them together.
        security: TLS and who is answered; by default everyone, unencrypted.
        announce: Called with one line per event.

    Raises:
        ModelError: If there is no version, or none can be loaded.
        ServingError: If the port is taken or not allowed.
    """

    def __init__(
        self,
        models_dir: str | PathLike[str],
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        model_name: str = DEFAULT_MODEL_NAME,
        poll_seconds: float = 2.0,
        limits: RequestLimits | None = None,
        security: ServerSecurity | None = None,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.model_name = model_name
        limits, security = limits or RequestLimits(), security or ServerSecurity()
        self._versions = VersionWatcher(Path(models_dir), announce, limits)
        self._server = grpc.server(
            ThreadPoolExecutor(limits.running, thread_name_prefix="lstsr-request"),
            interceptors=security.interceptors(),
            maximum_concurrent_rpcs=limits.open,
            options=[
                ("grpc.max_send_message_length", -1),  # the limit of pixels holds for answers
                ("grpc.max_receive_message_length", limits.message_bytes),
                # Otherwise Linux lets two servers share a port, and clients get either.
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _PredictionService(model_name, self._versions), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            _ModelService(model_name, self._versions), self._server
        )
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"  # an address of IPv6
        self.port = self._listen(host, port, security.credentials())
        self.address = f"{host}:{self.port}"
        if warning := security.warning(host):
            announce(warning)
        self._server.start()
        self._stopping = threading.Event()
        self._poller = threading.Thread(
            target=self._poll, args=(poll_seconds,), name="lstsr-versions", daemon=True
        )
        self._poller.start()

    def _listen(self, host: str, port: int, credentials: Any) -> int:
        cause: Exception | None = None
        address = f"{host}:{port}"
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
            if bound:
                return int(bound)
        except RuntimeError as error:
            cause = error
        raise ServingError(
            "the server cannot listen at this address",
            field=f"{host}:{port}",
            found=cause or "the port is taken, or not allowed",
            action="Choose another --port, or stop the server that uses it.",
        ) from cause

    def _poll(self, poll_seconds: float) -> None:
        while not self._stopping.wait(poll_seconds):
            self._versions.look()

    def wait(self) -> None:
        """Blocks until ``stop`` is called."""
        self._server.wait_for_termination()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Takes no new requests, lets running ones end within the grace, and stops.

        What TensorFlow still computes then, or loads, cannot be broken off; it is left behind.
        """
        self._stopping.set()
        self._server.stop(grace_seconds).wait(grace_seconds + 1.0)
        self._poller.join(1.0)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def serve(
    models_dir: str | PathLike[str],
    *,
    grace_seconds: float = 5.0,
    announce: Callable[[str], None] = print,
    **options: Any,
) -> None:
    """Serves a model until SIGTERM or SIGINT, lets running requests end, and ends the process.

    Args:
        models_dir: See ``LocalServer``.
        grace_seconds: How long running requests may take; 3 s later the process is gone, whatever
            it does.
        announce: Called with one line per event.
        **options: Of ``LocalServer``.

    Raises:
        ModelError: If there is no version, or none can be loaded.
        ServingError: If the port is taken or not allowed.
    """
    with Termination(grace_seconds + 3.0) as termination:
        server = LocalServer(models_dir, announce=announce, **options)
        announce(
            f"Serving model {server.model_name} of {models_dir} at {server.address} (gRPC). "
            "Stop with Ctrl+C."
        )
        termination.requested.wait()
        announce("Stopping when running requests end.")
        server.stop(grace_seconds)
        # Python would wait for the threads of requests that outlived the grace.
        os._exit(0)
