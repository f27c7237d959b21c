"""Requests to a prediction server that claim, leave out or distort: sent to a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from keras_lstsr.errors import ServingError
from keras_lstsr.testing.models import tiny_model
from keras_lstsr.testing.robustness import Round, Trial

_METHOD = "/tensorflow.serving.PredictionService/Predict"
# What a client may be told of a request that is wrong; anything else is the server's own fault.
_REFUSALS = (
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
)
_SIDE = 6


def _good() -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "lstsr"
    values = np.full((1, _SIDE, _SIDE, 1), 290, np.float32)
    request.inputs["lst_kelvin"].CopyFrom(tf.make_tensor_proto(values))
    return request


def _claim(rng: np.random.Generator) -> Any:
    """A few bytes that claim an image of any size."""
    request = _good()
    tensor = request.inputs["lst_kelvin"]
    tensor.tensor_content = b""
    tensor.float_val.append(290.0)
    del tensor.tensor_shape.dim[:]
    sides = [1, 2, 6, 999, 2000, 10**5, 2**31, 2**62, 0, -1]
    for _ in range(int(rng.choice([4, 4, 4, 0, 1, 9]))):
        tensor.tensor_shape.dim.add(size=int(rng.choice(sides)))
    if tensor.tensor_shape.dim and rng.integers(2):
        tensor.tensor_shape.dim[-1].size = 1
    tensor.tensor_shape.unknown_rank = bool(rng.integers(8) == 0)
    return request


def _content(rng: np.random.Generator) -> Any:
    """A tensor whose content does not fit its shape, type or range."""
    request = _good()
    tensor = request.inputs["lst_kelvin"]
    match int(rng.integers(4)):
        case 0:
            tensor.tensor_content = bytes(int(rng.integers(1, 400)))
        case 1:
            tensor.dtype = int(rng.integers(0, 130))
        case 2:
            tensor.tensor_content = b""
            tensor.float_val.extend([290.0] * int(rng.integers(0, 80)))
        case _:
            value = rng.choice([0.0, 14500.0, -1e30, np.inf])
            tensor.tensor_content = np.full((_SIDE, _SIDE), value, np.float32).tobytes()
    return request


def _names(rng: np.random.Generator) -> Any:
    """Names of models, versions, signatures, tensors and outputs that are not there."""
    request = _good()
    text = str(rng.choice(["", "x", "y" * 10**5, "ß" * 3000, "../..", "serving_default"]))
    match int(rng.integers(5)):
        case 0:
            request.model_spec.name = text
        case 1:
            request.model_spec.version.value = int(rng.choice([-1, 0, 7, 2**62]))
        case 2:
            request.model_spec.signature_name = text + "_"
        case 3:
            request.inputs[text].CopyFrom(request.inputs["lst_kelvin"])
        case _:
            request.output_filter.append(text)
    return request


def ask(address: str, message: bytes) -> bool:
    """Sends the bytes of a request, and then a good one, which must be answered right."""
    import grpc
    from tensorflow_serving.apis import predict_pb2

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(_METHOD)
        refusal: grpc.RpcError | None = None
        try:
            call(message, timeout=60.0)
        except grpc.RpcError as error:
            refusal = error
        answer = predict_pb2.PredictResponse.FromString(
            call(_good().SerializeToString(), timeout=60.0)
        )
    shape = [side.size for side in answer.outputs["lst_kelvin_fine"].tensor_shape.dim]
    if refusal is None:
        return bool(shape == [1, 4 * _SIDE, 4 * _SIDE, 1])
    code, details = refusal.code().name, refusal.details()
    # gRPC itself says INTERNAL of bytes that are no message at all.
    garbled = code == "INTERNAL" and "deserializing" in details
    if code in _REFUSALS or garbled:
        raise ServingError("refused", found=f"{code}: {details}")
    raise RuntimeError(f"{code}: {details}")


def trials(round_: Round) -> Iterator[Trial]:
    """Yields the trials with requests; a server runs until the last."""
    from keras_lstsr.artifacts.export import export_saved_model

    rng = np.random.default_rng(round_.seed)
    export_saved_model(tiny_model(), round_.folder / "lstsr", provenance={"run_name": "tiny"})
    command = [sys.executable, "-m", "keras_lstsr.cli.main", "serve"]
    server = subprocess.Popen(
        [*command, str(round_.folder / "lstsr"), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        line = ""
        while "Serving model lstsr" not in line:
            line = server.stdout.readline()
            if not line:
                raise RuntimeError("the server ended early")
        address = line.split(" at ")[1].split()[0]
        good = _good().SerializeToString()
        yield Trial("good requests", "good", partial(ask, address, good))
        kinds = {"claims": _claim, "contents": _content, "names": _names}
        for number in range(round_.count):
            kind = ("claims", "contents", "names", "bytes")[number % 4]
            if kind == "bytes":
                message = bytearray(good)
                for place in rng.integers(len(message), size=4):
                    message[place] = int(rng.integers(256))
                sent = bytes(message)
            else:
                sent = kinds[kind](rng).SerializeToString()
            yield Trial(kind, f"{kind}-{number}", partial(ask, address, sent))
    finally:
        server.terminate()
        server.wait()
