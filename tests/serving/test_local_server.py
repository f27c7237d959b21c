from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_lstsr.errors import ModelError, ServingError
from serving.client import LstsrClient
from serving.local_server import LocalServer

AVAILABLE = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
END = get_model_status_pb2.ModelVersionStatus.State.END


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def model(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def request(values=None, *, name="lstsr", signature="", tensor="lst_kelvin"):
    made = predict_pb2.PredictRequest()
    made.model_spec.name = name
    made.model_spec.signature_name = signature
    values = np.full((1, 6, 6, 1), 290, np.float32) if values is None else values
    made.inputs[tensor].CopyFrom(tf.make_tensor_proto(values))
    return made


def refusal(method, message):
    with pytest.raises(grpc.RpcError) as caught:
        method(message, timeout=30)
    return caught.value.code(), caught.value.details()


def test_predict_answers_with_the_newest_version_and_says_so(prediction):
    response = prediction.Predict(request(), timeout=30)
    assert response.model_spec.name == "lstsr"
    assert response.model_spec.version.value == 2
    assert response.model_spec.signature_name == "serving_default"
    assert list(response.outputs) == ["lst_kelvin_fine"]
    assert tf.make_ndarray(response.outputs["lst_kelvin_fine"]).shape == (1, 24, 24, 1)


def test_an_older_version_answers_by_number_and_otherwise(prediction):
    older = request()
    older.model_spec.version.value = 1
    first = prediction.Predict(older, timeout=30)
    assert first.model_spec.version.value == 1
    newest = tf.make_ndarray(prediction.Predict(request(), timeout=30).outputs["lst_kelvin_fine"])
    assert np.abs(tf.make_ndarray(first.outputs["lst_kelvin_fine"]) - newest).max() > 0.01


def wrong_version():
    made = request()
    made.model_spec.version.value = 7
    return made


def labelled():
    made = request()
    made.model_spec.version_label = "stable"
    return made


def filtered(*names):
    made = request()
    made.output_filter.extend(names)
    return made


def with_extra():
    made = request()
    made.inputs["guide"].CopyFrom(tf.make_tensor_proto(1.0))
    return made


def with_wrong_content():
    made = request()
    made.inputs["lst_kelvin"].tensor_content = b"123"
    return made


KELVIN = np.full((1, 6, 6, 1), 290, np.float32)
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (request(name="other"), NOT_FOUND, ["other", "lstsr"]),
        (wrong_version(), NOT_FOUND, ["Specific(lstsr, 7)", "1, 2"]),
        (labelled(), INVALID, ["label: stable"]),
        (predict_pb2.PredictRequest(), INVALID, ["Missing ModelSpec"]),
        (request(signature="classify"), grpc.StatusCode.FAILED_PRECONDITION, ['"classify" not']),
        (request(tensor="x"), INVALID, ["Sent extra: {x}", "required: {lst_kelvin}"]),
        (with_extra(), INVALID, ["Sent extra: {guide}"]),
        (request(KELVIN.astype(np.float64)), INVALID, ["expected data type float32", "float64"]),
        (request(KELVIN.astype(np.int32)), INVALID, ["float32, found int32"]),
        (request(KELVIN[..., 0]), INVALID, ["[any, any, any, 1]", "found [1, 6, 6]"]),
        (request(np.repeat(KELVIN, 2, -1)), INVALID, ["found [1, 6, 6, 2]"]),
        (request(KELVIN[:0]), INVALID, ["found [0, 6, 6, 1]"]),
        (with_wrong_content(), INVALID, ["content does not fit"]),
        (request(KELVIN - 273.15), INVALID, ["kelvin", "[16.85"]),
        (request(KELVIN * 50), INVALID, ["kelvin", "[14500]"]),
        (filtered("fine"), INVALID, ["not found in signature: fine", "lst_kelvin_fine"]),
        (filtered("lst_kelvin_fine", "lst_kelvin_fine"), INVALID, ["duplicate"]),
    ],
)
def test_what_does_not_fit_is_refused_with_its_status(prediction, message, code, words):
    found, details = refusal(prediction.Predict, message)
    assert found is code
    for word in words:
        assert word in details
    assert "Traceback" not in details
    assert "stack trace" not in details


def test_an_output_filter_that_fits_is_obeyed(prediction):
    assert list(prediction.Predict(filtered("lst_kelvin_fine"), timeout=30).outputs) == [
        "lst_kelvin_fine"
    ]


def test_metadata_is_the_signature_def_of_the_saved_model(prediction, tiny_models_dir):
    from tensorflow.core.protobuf import saved_model_pb2

    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    message.model_spec.name = "lstsr"
    response = prediction.GetModelMetadata(message, timeout=30)
    assert response.model_spec.version.value == 2
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    stored = saved_model_pb2.SavedModel.FromString(
        (tiny_models_dir / "2" / "saved_model.pb").read_bytes()
    )
    assert dict(signatures.signature_def) == dict(stored.meta_graphs[0].signature_def)


@pytest.mark.parametrize("fields", [[], ["signature_def", "weights"]])
def test_metadata_of_another_field_is_refused(prediction, fields):
    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    message.model_spec.name = "lstsr"
    code, details = refusal(prediction.GetModelMetadata, message)
    assert code is INVALID
    assert "signature_def" in details


def test_status_tells_all_versions_or_the_one_asked_for(model):
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.name = "lstsr"
    states = model.GetModelStatus(message, timeout=30).model_version_status
    assert [(entry.version, entry.state) for entry in states] == [(2, AVAILABLE), (1, AVAILABLE)]
    message.model_spec.version.value = 1
    states = model.GetModelStatus(message, timeout=30).model_version_status
    assert [entry.version for entry in states] == [1]
    message.model_spec.version.value = 7
    assert refusal(model.GetModelStatus, message)[0] is NOT_FOUND
    message.model_spec.name = "other"
    assert refusal(model.GetModelStatus, message)[0] is NOT_FOUND


def test_other_methods_are_unimplemented_not_broken(prediction):
    from tensorflow_serving.apis import classification_pb2

    code, _ = refusal(prediction.Classify, classification_pb2.ClassificationRequest())
    assert code is grpc.StatusCode.UNIMPLEMENTED


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_versions_come_go_and_fail_while_it_serves(tiny_models_dir, tmp_path):
    shutil.copytree(tiny_models_dir / "1", tmp_path / "1")
    lines = []
    with (
        LocalServer(tmp_path, port=0, poll_seconds=0.1, announce=lines.append) as server,
        LstsrClient(server.address) as client,
    ):
        assert client.contract.model_version == 1
        # A version that is being copied is not served until it is whole.
        (tmp_path / "2").mkdir()
        shutil.copy(tiny_models_dir / "2" / "contract.json", tmp_path / "2")
        wait_for(lambda: "END: " in client.status().get(2, ""))
        assert client.metadata()[0] == 1
        shutil.copytree(tiny_models_dir / "2", tmp_path / "2", dirs_exist_ok=True)
        wait_for(lambda: client.status()[2] == "AVAILABLE")
        assert client.metadata()[0] == 2
        shutil.rmtree(tmp_path / "1")
        wait_for(lambda: client.status()[1] == "END")
        old = LstsrClient.__new__(LstsrClient)
        old.__dict__ = {**client.__dict__, "version": 1}
        with pytest.raises(ServingError, match=r"NOT_FOUND.*Specific\(lstsr, 1\)"):
            old.predict(KELVIN)
        np.testing.assert_array_equal(client.predict(KELVIN).lst_kelvin.shape, (1, 24, 24, 1))
    assert "version 1 is available" in lines
    assert any(line.startswith("version 2 cannot be served") for line in lines)
    assert "version 1 is gone" in lines


def test_a_folder_without_versions_or_with_a_damaged_one_only_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"no SavedModel.*no such folder"):
        LocalServer(tmp_path / "nothing", port=0)
    with pytest.raises(ModelError, match=r"no SavedModel.*keras-lstsr export"):
        LocalServer(tmp_path, port=0)
    (tmp_path / "1").mkdir()
    with pytest.raises(ModelError, match="no readable contract"):
        LocalServer(tmp_path, port=0)


def test_damaged_warmup_requests_are_found_at_start(tiny_models_dir, tmp_path):
    shutil.copytree(tiny_models_dir / "1", tmp_path / "1")
    warmup = tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    warmup.write_bytes(warmup.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"tf_serving_warmup_requests.*warm-up requests.*fail"):
        LocalServer(tmp_path, port=0)


def test_a_taken_port_is_an_error_not_a_shared_port(server, tiny_models_dir):
    with pytest.raises(ServingError, match=rf"{server.port}.*cannot listen"):
        LocalServer(tiny_models_dir, port=server.port)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal_and_ends_well(tiny_models_dir, number):
    command = [sys.executable, "-m", "keras_lstsr.cli.main", "serve", str(tiny_models_dir)]
    process = subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        line = ""
        while "Serving model lstsr" not in line:
            line = process.stdout.readline()
            assert line, "the server ended early"
        address = line.split(" at ")[1].split()[0]
        with LstsrClient(address) as client:
            assert client.predict(KELVIN).lst_kelvin.shape == (1, 24, 24, 1)
        process.send_signal(number)
        assert process.wait(30) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.stdout.close()
