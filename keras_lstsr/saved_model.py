"""The SavedModel itself: signatures with checks in the graph, and warm-up requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_lstsr.contract import (
    CONTRACT_SIGNATURE,
    CONTRACT_SIGNATURE_INPUT,
    CONTRACT_SIGNATURE_OUTPUT,
    GUIDE_NAME,
    INPUT_NAME,
    OUTPUT_NAME,
    SERVING_SIGNATURE,
    Contract,
    TensorContract,
)
from keras_lstsr.errors import MissingExtraError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
WARMUP_SIZES_PIXELS = (16, 64)


def write_archive(model: keras.Model, contract: Contract, folder: Path) -> None:
    """Writes the SavedModel with its signatures ``serving_default`` and ``contract``.

    Args:
        model: A model of ``build_model`` or ``build_guided``.
        contract: Its contract.
        folder: Where to write ``saved_model.pb`` and ``variables/``.
    """
    import keras
    import tensorflow as tf

    contract_text = contract.to_json()

    def single_image(lst_kelvin: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([_range_check(lst_kelvin, contract.inputs[0])]):
            fine = model({INPUT_NAME: lst_kelvin}, training=False)
        return {OUTPUT_NAME: tf.cast(fine, tf.float32)}

    def guided(lst_kelvin: tf.Tensor, ndvi: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {INPUT_NAME: lst_kelvin, GUIDE_NAME: ndvi}
        checks = [_range_check(inputs[entry.name], entry) for entry in contract.inputs]
        checks.append(_size_check(lst_kelvin, ndvi, contract.scale_factor))
        with tf.control_dependencies(checks):
            results = model(inputs, training=False)
        return {entry.name: tf.cast(results[entry.name], tf.float32) for entry in contract.outputs}

    def describe(contract_version: tf.Tensor) -> dict[str, tf.Tensor]:
        # One answer per item of the batch: TF Serving's batching wants that of all signatures.
        return {CONTRACT_SIGNATURE_OUTPUT: tf.fill(tf.shape(contract_version), contract_text)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        SERVING_SIGNATURE,
        single_image if contract.guide is None else guided,
        input_signature=[
            keras.InputSpec(shape=entry.shape, dtype=entry.dtype, name=entry.name)
            for entry in contract.inputs
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
    meaning = {
        INPUT_NAME: f"{low:g}...{high:g} K cannot be temperatures in kelvin. Send kelvin",
        GUIDE_NAME: f"{low:g}...{high:g} cannot be NDVI. Send NDVI itself, no scaled integers",
    }[tensor.name]
    return tf.debugging.Assert(
        (least >= low) & (greatest <= high),
        [
            f"{tensor.name}: values outside {meaning}, with NaN for missing pixels. Least and "
            "greatest value found:",
            least,
            greatest,
        ],
    )


def _size_check(lst_kelvin: tf.Tensor, ndvi: tf.Tensor, factor: int) -> tf.Operation:
    import tensorflow as tf

    wanted = tf.shape(lst_kelvin) * tf.constant([1, factor, factor, 1])
    return tf.debugging.Assert(
        tf.reduce_all(tf.equal(wanted, tf.shape(ndvi))),
        [
            f"{GUIDE_NAME}: it must have {factor} times the rows and columns of {INPUT_NAME}. "
            "Shapes wanted and found:",
            wanted,
            tf.shape(ndvi),
        ],
        summarize=4,
    )


def write_warmup_requests(path: Path, contract: Contract) -> None:
    """Writes the requests that a server runs once before it serves the model.

    Args:
        path: The file.
        contract: The model's contract.

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
            if contract.guide is not None:
                side = size * contract.scale_factor
                ndvi = np.linspace(0.0, 0.9, side * side, dtype=np.float32)
                ndvi[-1] = np.nan
                tensors[GUIDE_NAME] = ndvi.reshape(1, side, side, 1)
            for name, values in tensors.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
