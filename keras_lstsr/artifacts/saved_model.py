"""The SavedModel itself: signatures with checks in the graph, warm-up requests, and loading it."""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lstsr.artifacts.contract import (
    CONTRACT_SIGNATURE,
    CONTRACT_SIGNATURE_INPUT,
    CONTRACT_SIGNATURE_OUTPUT,
    INPUT_NAME,
    OUTPUT_NAME,
    SERVING_SIGNATURE,
    Contract,
    TensorContract,
    guide_meaning,
)
from keras_lstsr.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
WARMUP_SIZES_PIXELS = (16, 64)
_MOST_VERSION = 2**63 - 1


def write_archive(model: keras.Model, contract: Contract, folder: Path) -> None:
    """Writes the SavedModel with its signatures ``serving_default`` and ``contract``."""
    import keras
    import tensorflow as tf

    contract_text = contract.to_json()

    def predict(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        checks = [_range_check(inputs[entry.name], entry) for entry in contract.inputs]
        checks += [
            _size_check(inputs[INPUT_NAME], inputs[name], name, contract.scale_factor)
            for name in contract.guides
        ]
        with tf.control_dependencies(checks):
            results = model(inputs, training=False)
        if not isinstance(results, dict):
            results = {OUTPUT_NAME: results}
        return {entry.name: tf.cast(results[entry.name], tf.float32) for entry in contract.outputs}

    def describe(contract_version: tf.Tensor) -> dict[str, tf.Tensor]:
        # One answer per item of the batch: TF Serving's batching wants that of all signatures.
        return {CONTRACT_SIGNATURE_OUTPUT: tf.fill(tf.shape(contract_version), contract_text)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        SERVING_SIGNATURE,
        predict,
        input_signature=[
            {
                entry.name: keras.InputSpec(shape=entry.shape, dtype=entry.dtype, name=entry.name)
                for entry in contract.inputs
            }
        ],
    )
    archive.add_endpoint(
        CONTRACT_SIGNATURE,
        describe,
        input_signature=[
            keras.InputSpec(shape=(None,), dtype="int32", name=CONTRACT_SIGNATURE_INPUT)
        ],
    )
    archive.write_out(folder, verbose=False)


def _range_check(values: tf.Tensor, tensor: TensorContract) -> tf.Operation:
    """Makes a server, which cannot raise a ModelError, answer INVALID_ARGUMENT and say why.

    NaN marks missing pixels and is no error.
    """
    import tensorflow as tf

    low, high = tensor.valid_range or (-np.inf, np.inf)
    missing = tf.math.is_nan(values)
    least = tf.reduce_min(tf.where(missing, np.inf, values))
    greatest = tf.reduce_max(tf.where(missing, -np.inf, values))
    meaning = "temperatures" if tensor.name == INPUT_NAME else guide_meaning(tensor.name)
    if tensor.units != "1":
        meaning += f" in {tensor.units}"
    return tf.debugging.Assert(
        (least >= low) & (greatest <= high),
        [
            f"{tensor.name}: values outside {low:g}...{high:g} cannot be {meaning}. Send unscaled "
            "values, and NaN for missing pixels. Smallest and largest value found:",
            least,
            greatest,
        ],
    )


def _size_check(lst_kelvin: tf.Tensor, guide: tf.Tensor, name: str, factor: int) -> tf.Operation:
    import tensorflow as tf

    wanted = tf.shape(lst_kelvin) * tf.constant([1, factor, factor, 1])
    return tf.debugging.Assert(
        tf.reduce_all(tf.equal(wanted, tf.shape(guide))),
        [
            f"{name}: it must have {factor} times the rows and columns of {INPUT_NAME}. "
            "Shapes expected and found:",
            wanted,
            tf.shape(guide),
        ],
        summarize=4,
    )


def write_warmup_requests(path: Path, contract: Contract) -> None:
    """Writes the requests that a server runs once before it serves the model.

    Raises:
        MissingExtraError: If the extra ``serving`` is not installed.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise MissingExtraError(
            "warm-up requests need TF Serving's protocol buffers",
            field="tensorflow-serving-api",
            action="Install them with `pip install 'keras-lstsr[serving]'`.",
        ) from error
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in WARMUP_SIZES_PIXELS:
            size = max(size, contract.minimum_size_pixels)
            # A ramp with one gap, so that the paths for valid and for missing pixels both run.
            lst_kelvin = np.linspace(270.0, 310.0, size * size, dtype=np.float32)
            lst_kelvin[size + 1 if size > 1 else 0] = np.nan
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = SERVING_SIGNATURE
            tensors = {INPUT_NAME: lst_kelvin.reshape(1, size, size, 1)}
            side = size * contract.scale_factor
            for name, tensor in contract.guides.items():
                low, high = tensor.valid_range or (0.0, 1.0)
                guide = np.linspace(low, high, side * side, dtype=np.float32)
                guide[-1] = np.nan
                tensors[name] = guide.reshape(1, side, side, 1)
            for name, values in tensors.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def existing_versions(models_dir: str | PathLike[str]) -> list[int]:
    """Lists the version numbers under a model's folder, ascending.

    A version is a folder whose name is a number that fits 64 bits, without leading zeros.
    """
    with os.scandir(models_dir) as entries:
        return sorted(int(entry.name) for entry in entries if _is_version(entry))


def _is_version(entry: os.DirEntry[str]) -> bool:
    if not re.fullmatch("0|[1-9][0-9]{0,18}", entry.name) or int(entry.name) > _MOST_VERSION:
        return False
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle, or to where nobody may look
        return False


def newest_version_dir(path: str | PathLike[str]) -> Path:
    """Finds the SavedModel: the folder itself, or its highest-numbered subfolder.

    Raises:
        ModelError: If there is neither.
    """
    path = Path(path)
    try:
        if (path / "saved_model.pb").is_file():
            return path
        versions = existing_versions(path) if path.is_dir() else []
    except OSError as error:
        raise ModelError(
            "the folder cannot be read",
            path=path,
            found=error.strerror,
            action="Check its permissions.",
        ) from error
    if not versions:
        raise ModelError(
            "there is no SavedModel",
            path=path,
            found="no such folder" if not path.is_dir() else "no saved_model.pb, no version",
            expected="a version's folder, or a model's folder with versions 1, 2, … in it",
            action="Export one with `keras-lstsr export MODEL --output models/lstsr`.",
        )
    return path / str(versions[-1])


def load_saved_model(path: Path) -> Any:
    """Loads a SavedModel that has the signatures of keras-lstsr; keep the returned object.

    Raises:
        ModelError: If it is damaged, or lacks a signature.
        MissingExtraError: If TensorFlow is not installed.
    """
    require_tensorflow("a SavedModel")
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    # A SavedModel that somebody damaged fails anywhere within TensorFlow.
    except Exception as error:
        raise ModelError(
            "the SavedModel cannot be loaded",
            path=path,
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error),
            expected="a whole SavedModel: saved_model.pb and variables/",
            action="It is damaged or only partly copied: export it again.",
        ) from error
    missing = {SERVING_SIGNATURE, CONTRACT_SIGNATURE} - set(loaded.signatures)
    if missing:
        raise ModelError(
            "the SavedModel was not exported by keras-lstsr",
            path=path,
            field="signatures",
            found=sorted(loaded.signatures),
            expected=f"{SERVING_SIGNATURE} and {CONTRACT_SIGNATURE}",
            action="Export the model with `keras-lstsr export`.",
        )
    return loaded


def require_tensorflow(purpose: str) -> None:
    """Raises a MissingExtraError, which names the purpose, if TensorFlow is not installed."""
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs TensorFlow",
            found=str(error),
            action="Install it with `pip install tensorflow`, or give predict and evaluate the "
            "model folder or its model.keras.",
        ) from error
