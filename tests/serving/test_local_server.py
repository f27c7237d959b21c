from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

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

from keras_lstsr.errors import ConfigError, ModelError, ServingError
from serving import versions
from serving.client import LstsrClient
from serving.local_server import LocalServer
from serving.requests import RequestLimits

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


def claiming(*sides, values=(290.0,)):
    """A few bytes that claim any shape: TensorFlow would repeat the last value to fill it."""
    made = request()
    proto = made.inputs["lst_kelvin"]
    proto.Clear()
    proto.dtype = tf.float32.as_datatype_enum
    for side in sides:
        proto.tensor_shape.dim.add(size=side)
    proto.float_val.extend(values)
    return made


def of_unknown_rank():
    made = claiming()
    made.inputs["lst_kelvin"].tensor_shape.unknown_rank = True
    return made


def contracts(count):
    made = request(np.ones(1, np.int32), signature="contract", tensor="contract_version")
    made.inputs["contract_version"].CopyFrom(tf.make_tensor_proto(1, shape=[1]))
    made.inputs["contract_version"].tensor_shape.dim[0].size = count
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
        (claiming(1, 2000, 2000, 1), INVALID, ["has 4000000 pixels", "262144", "--max-pixels"]),
        (claiming(300, 300, 3, 1), INVALID, ["270000 pixels, 1440000 when filled up to 16"]),
        (claiming(2**62, 2**62, 4, 1), INVALID, ["takes at most 262144 in a request"]),
        (claiming(1, -1, 5, 1), INVALID, ["1 or more", "found [1, -1, 5, 1]"]),
        (claiming(1, 0, 5, 1), INVALID, ["1 or more", "found [1, 0, 5, 1]"]),
        (claiming(), INVALID, ["found []"]),
        (of_unknown_rank(), INVALID, ["unknown rank"]),
        (claiming(1, 6, 6, 1, values=[290.0] * 35), INVALID, ["35 values, expected 36"]),
        (claiming(1, 6, 6, 1, values=[290.0] * 37), INVALID, ["37 values, expected 36"]),
        (claiming(1, 6, 6, 1, values=[]), INVALID, ["0 values, expected 36"]),
        (contracts(10**7), INVALID, ["10000000 items"]),
        (request(tensor="x" * 10**5), INVALID, ["Sent extra", "…"]),
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


def test_one_value_stands_for_all_pixels(prediction):
    whole = prediction.Predict(request(), timeout=30).outputs["lst_kelvin_fine"]
    short = prediction.Predict(claiming(1, 6, 6, 1), timeout=30).outputs["lst_kelvin_fine"]
    assert short == whole


def test_the_limits_are_options(tiny_models_dir):
    limits = RequestLimits(pixels=400, message_bytes=2000, running=1, open=1)
    with (
        LocalServer(tiny_models_dir, port=0, limits=limits) as server,
        grpc.insecure_channel(server.address) as opened,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
        assert stub.Predict(claiming(1, 20, 20, 1), timeout=30).outputs
        assert refusal(stub.Predict, claiming(1, 20, 21, 1))[0] is INVALID
        large = request(np.full((1, 20, 20, 1), 290, np.float32))
        large.inputs["lst_kelvin"].version_number = 1
        large.inputs["lst_kelvin"].tensor_content += bytes(1000)
        code, details = refusal(stub.Predict, large)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in details
        codes = []
        calls = [stub.Predict.future(claiming(1, 20, 20, 1), timeout=30) for _ in range(20)]
        for call in calls:
            codes.append(call.code())
    assert grpc.StatusCode.OK in codes
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    with pytest.raises(ConfigError, match=r"running.*found 0"):
        RequestLimits(running=0)


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


def test_nothing_in_a_folder_ends_the_watch(tiny_models_dir, tmp_path):
    shutil.copytree(tiny_models_dir / "1", tmp_path / "1")
    whole = tmp_path / "1"
    lines = []

    def copied(number, *left_out):
        shutil.copytree(whole, tmp_path / number, ignore=shutil.ignore_patterns(*left_out))
        return tmp_path / number

    with (
        LocalServer(tmp_path, port=0, poll_seconds=0.1, announce=lines.append) as server,
        LstsrClient(server.address) as client,
    ):
        (tmp_path / "7").write_text("a file")
        (tmp_path / "8").symlink_to(tmp_path / "nowhere")
        (tmp_path / "9").symlink_to(tmp_path / "9")
        (tmp_path / "00010").mkdir()
        (tmp_path / ("9" * 30)).mkdir()
        (tmp_path / "٣").mkdir()  # decimal to Python, too
        copied("20", "saved_model.pb")
        copied("21", "variables")
        (copied("22") / "saved_model.pb").write_bytes(b"\xff" * 999)
        (copied("23") / "saved_model.pb").write_bytes(b"")
        (copied("24") / "contract.json").write_text("[" * 100_000)
        os.mkfifo(copied("25", "contract.json") / "contract.json")
        (copied("26", "contract.json") / "contract.json").symlink_to(tmp_path / "nowhere")
        (copied("27") / "variables" / "more").symlink_to(tmp_path)  # in a circle, if followed
        wait_for(lambda: client.status().get(27) == "AVAILABLE")
        status = client.status()
        assert set(status) == {1, *range(20, 28)}
        for number in range(20, 27):
            assert status[number].startswith("END: "), number
        assert "only files and folders" in status[25]
        copied("28")  # all of that lies there, and the next good one is served
        wait_for(lambda: client.status().get(28) == "AVAILABLE")
        assert client.metadata()[0] == 28
        time.sleep(0.3)
    for name in ("7", "8", "9", "00010", "9" * 30, "٣"):
        assert sum(line.startswith(f"{name} is no version") for line in lines) == 1
    for number in range(20, 27):
        assert sum(line.startswith(f"version {number} cannot") for line in lines) == 1


def test_a_folder_that_goes_away_and_whatever_raises_are_announced_once(
    tiny_models_dir, tmp_path, monkeypatch
):
    folder = tmp_path / "lstsr"
    shutil.copytree(tiny_models_dir / "1", folder / "1")
    lines = []
    with (
        LocalServer(folder, port=0, poll_seconds=0.05, announce=lines.append) as server,
        LstsrClient(server.address) as client,
    ):
        folder.rename(tmp_path / "away")
        wait_for(lambda: any("cannot look for versions" in line for line in lines))
        time.sleep(0.2)
        monkeypatch.setattr(
            versions.Contract, "read", Mock(side_effect=PermissionError(13, "Permission denied"))
        )
        shutil.copytree(tiny_models_dir / "2", tmp_path / "away" / "2")
        (tmp_path / "away").rename(folder)
        wait_for(lambda: "Permission denied" in client.status().get(2, ""))
        time.sleep(0.2)
        assert client.predict(KELVIN).lst_kelvin.shape == (1, 24, 24, 1)
    assert sum("cannot look" in line for line in lines) == 1
    assert sum("version 2 cannot be served" in line for line in lines) == 1


def test_one_version_is_not_a_folder_of_versions(tiny_models_dir):
    with pytest.raises(ModelError, match=rf"one version of a model.*Give {tiny_models_dir}"):
        LocalServer(tiny_models_dir / "1", port=0)


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
        [*command, "--port", "0", "--grace", "1"],
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
        # A request that takes longer than the grace, and then the signal.
        with grpc.insecure_channel(address) as opened:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
            long = stub.Predict.future(claiming(1024, 16, 16, 1), timeout=60)
            time.sleep(0.5)
            process.send_signal(number)
            start = time.monotonic()
            assert process.wait(30) == 0
            assert time.monotonic() - start < 15
            assert long.code() is not grpc.StatusCode.OK
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.stdout.close()
