"""Requests to the local server: its limits, and tensors checked before any is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from keras_lstsr.artifacts.contract import INPUT_NAME, SERVING_SIGNATURE, Contract
from keras_lstsr.errors import ConfigError
from keras_lstsr.inference.connection import DEFAULT_REQUEST_PIXELS

# The types that the signatures of keras-lstsr take, and where a TensorProto lists their values.
_VALUE_LISTS = {types_pb2.DT_FLOAT: "float_val", types_pb2.DT_INT32: "int_val"}


@dataclass(frozen=True)
class RequestLimits:
    """What one request may ask of the server, and all of them together.

    Attributes:
        pixels: LST pixels of a request, over its whole batch. A side below the contract's
            ``alignment_pixels`` counts as that many: networks fill small tiles up.
        message_bytes: Size of a request's message.
        running: Requests that run at a time; what they need of memory and processor adds up.
        open: Requests that run or wait; further ones are refused.
    """

    pixels: int = DEFAULT_REQUEST_PIXELS
    message_bytes: int = 128 * 2**20
    running: int = 4
    open: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            ConfigError.unless(value >= 1, name, value, "1 or more")
        ConfigError.unless(
            self.open >= self.running, "open", self.open, f"at least running = {self.running}"
        )


class RequestError(Exception):
    """A request that is refused, with the gRPC status that says why."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


def invalid(details: str) -> RequestError:
    """Returns the refusal of a request that does not fit the model."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, details)


def wanted_outputs(
    definition: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]
) -> list[str]:
    """Returns the names of the outputs that a request asks for; all if it names none.

    Raises:
        RequestError: If there is no such output, or it is named twice.
    """
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


def input_tensors(
    signature: str,
    definition: meta_graph_pb2.SignatureDef,
    request: predict_pb2.PredictRequest,
    contract: Contract,
    limits: RequestLimits,
) -> dict[str, tf.Tensor]:
    """Decodes the request's tensors after checking names, types, shapes, sizes and contents.

    Raises:
        RequestError: If one does not fit; nothing of the size that it claims was made before.
    """
    known, sent = set(definition.inputs), set(request.inputs)
    if known != sent:
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)}. "
            f"Sent extra: {{{','.join(sorted(sent - known))}}}. "
            f"Missing but required: {{{','.join(sorted(known - sent))}}}."
        )
    for name, info in definition.inputs.items():
        proto = request.inputs[name]
        sides = _checked_shape(name, proto, info)
        _check_size(signature, name, sides, contract, limits)
        _check_content(name, proto, math.prod(sides))
    return {name: tf.constant(tf.make_ndarray(request.inputs[name])) for name in definition.inputs}


def _checked_shape(
    name: str, proto: tensor_pb2.TensorProto, info: meta_graph_pb2.TensorInfo
) -> list[int]:
    if proto.dtype != info.dtype:
        expected, found = _dtype_name(info.dtype), _dtype_name(proto.dtype)
        raise invalid(f"{name}: expected data type {expected}, found {found}.")
    wanted = tf.TensorShape(info.tensor_shape)
    if proto.tensor_shape.unknown_rank:
        expected = _shape_text(wanted.as_list())
        raise invalid(f"{name}: expected shape {expected}, found an unknown rank.")
    sides = [dimension.size for dimension in proto.tensor_shape.dim]
    empty = min(sides, default=1) < 1
    if empty or not wanted.is_compatible_with(sides):
        expected, found = _shape_text(wanted.as_list()), _shape_text(sides)
        more = " Each dimension must be 1 or more." if empty else ""
        raise invalid(f"{name}: expected shape {expected}, found {found}.{more}")
    return sides


def _check_size(
    signature: str, name: str, sides: list[int], contract: Contract, limits: RequestLimits
) -> None:
    elements = math.prod(sides)
    if signature != SERVING_SIGNATURE:
        # The contract is told once for each item.
        most = max(1, limits.message_bytes // len(contract.to_json()))
        if elements > most:
            raise invalid(f"{name}: {elements} items, and this server answers {most} at a time.")
        return
    factor = 1 if name == INPUT_NAME else contract.scale_factor
    step = contract.alignment_pixels * factor
    pixels = sides[0] * math.prod(max(side, step) for side in sides[1:3])
    most = limits.pixels * factor**2
    if pixels > most:
        filled = "" if pixels == elements else f", {pixels} when filled up to {step} a side"
        raise invalid(
            f"{name}: {_shape_text(sides)} has {elements} pixels{filled}; this server takes at "
            f"most {most} in a request. Send fewer or smaller tiles, or start it with a larger "
            "--max-pixels."
        )


def _check_content(name: str, proto: tensor_pb2.TensorProto, elements: int) -> None:
    if proto.dtype not in _VALUE_LISTS:
        raise invalid(f"{name}: this server takes no {_dtype_name(proto.dtype)}.")
    if proto.tensor_content:
        size = tf.dtypes.as_dtype(proto.dtype).size
        if len(proto.tensor_content) != elements * size:
            raise invalid(
                f"{name}: the tensor's content does not fit its shape: {len(proto.tensor_content)} "
                f"bytes, expected {elements * size}."
            )
        return
    # TensorFlow repeats the last value where some are missing: no pixels are made up here, but
    # one value may stand for all, as in tf.make_tensor_proto(290.0, shape=...).
    listed = len(getattr(proto, _VALUE_LISTS[proto.dtype]))
    if listed not in (1, elements):
        raise invalid(
            f"{name}: the tensor's content does not fit its shape: {listed} values, expected "
            f"{elements}, or one that stands for all."
        )


def _dtype_name(number: int) -> str:
    try:
        return str(tf.dtypes.as_dtype(number).name)
    except (TypeError, KeyError):
        return f"unknown type {number}"


def _shape_text(shape: Any) -> str:
    return "[" + ", ".join("any" if side is None else str(side) for side in shape) + "]"
