from __future__ import annotations

import subprocess
import sys
from threading import Timer

import grpc
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from keras_lstsr.artifacts.loading import weights_sha256
from keras_lstsr.errors import ModelError, ServingError
from keras_lstsr.inference import remote
from keras_lstsr.inference.predictor import KerasPredictor, SavedModelPredictor, load_predictor
from keras_lstsr.inference.remote import GrpcPredictor
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.inference.tiles import TileSettings
from keras_lstsr.testing.rasters import guide_values, lst_raster, lst_values, utm_grid
from serving import client as client_module
from serving.client import LstsrClient
from serving.local_server import LocalServer


@pytest.fixture(scope="module")
def in_process(tiny_models_dir, tiny_model):
    """The three ways to run the model without a server; the SavedModel itself is the measure."""
    return (
        tf.saved_model.load(str(tiny_models_dir / "2")),
        SavedModelPredictor(tiny_models_dir),
        KerasPredictor(tiny_model),
    )


@pytest.mark.parametrize(
    "shape", [(1, 17, 23), (3, 17, 23), (1, 5, 7), (3, 5, 7), (1, 16, 16), (3, 64, 64), (1, 1, 1)]
)
def test_saved_model_server_and_client_answer_alike(client, in_process, shape):
    values = lst_values(*shape, 1, gaps=0.1)
    loaded, saved, in_keras = in_process
    direct = loaded.signatures["serving_default"](lst_kelvin=tf.constant(values))
    expected = direct["lst_kelvin_fine"].numpy()
    raw = client.call("serving_default", {"lst_kelvin": values})["lst_kelvin_fine"]
    results = {
        "server": raw,
        "client": client.predict(values).lst_kelvin,
        "SavedModelPredictor": saved.predict(values).lst_kelvin,
        "KerasPredictor": in_keras.predict(values).lst_kelvin,
    }
    for name, result in results.items():
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected), err_msg=name)


def test_the_contract_and_the_provenance_come_over_the_wire(client, tiny_models_dir, tiny_model):
    assert client.contract == SavedModelPredictor(tiny_models_dir).contract
    assert client.scale_factor == 4
    assert client.provenance["weights_sha256"] == weights_sha256(tiny_model)


def test_status_and_metadata(client):
    assert client.status() == {2: "AVAILABLE", 1: "AVAILABLE"}
    version, signatures = client.metadata()
    assert version == 2
    assert signatures == {
        "contract": {
            "inputs": {"contract_version": ("int32", "[?]")},
            "outputs": {"contract_json": ("string", "[?]")},
        },
        "serving_default": {
            "inputs": {"lst_kelvin": ("float32", "[?, ?, ?, 1]")},
            "outputs": {"lst_kelvin_fine": ("float32", "[?, ?, ?, 1]")},
        },
    }


def test_a_version_can_be_chosen(server):
    with LstsrClient(server.address, version=1) as older:
        assert older.contract.model_version == 1
        assert older.provenance["run_name"] == "older"
    with pytest.raises(ServingError, match=r"NOT_FOUND.*Specific\(lstsr, 9\)"):
        LstsrClient(server.address, version=9)
    with pytest.raises(ServingError, match=r"model other.*NOT_FOUND"):
        LstsrClient(server.address, model_name="other")


def test_messages_over_four_mebibytes_pass(client):
    values = np.full((1, 300, 300, 1), 290, np.float32)  # the answer is 5.5 MiB
    assert client.predict(values).lst_kelvin.shape == (1, 1200, 1200, 1)


def test_batches_are_split_to_the_message_size(server, monkeypatch):
    values = lst_values(5, 16, 16, 1)
    answer_bytes = 64 * 64 * 4
    with GrpcPredictor(server.address, message_bytes=2 * answer_bytes + 1) as small:
        sizes = []
        call = small.call
        monkeypatch.setattr(
            small, "call", lambda name, inputs: sizes.append(inputs["lst_kelvin"].shape[0])
            or call(name, inputs),
        )  # fmt: skip
        split = small.predict(values).lst_kelvin
        small.message_bytes = 1
        one_by_one = small.predict(values[:2]).lst_kelvin
    assert sizes == [2, 2, 1, 1, 1]
    with GrpcPredictor(server.address) as large:
        np.testing.assert_allclose(split, large.predict(values).lst_kelvin, rtol=0, atol=1e-4)
        np.testing.assert_allclose(one_by_one, split[:2], rtol=0, atol=1e-4)


def test_the_client_refuses_before_it_sends(client, monkeypatch):
    monkeypatch.setattr(client, "call", lambda *arguments: pytest.fail("was sent"))
    with pytest.raises(ModelError, match="degrees Celsius"):
        client.predict(lst_values(1, 8, 8, 1) - 273.15)
    with pytest.raises(ModelError, match=r"multiply by 0\.02"):
        client.predict(lst_values(1, 8, 8, 1) * 50)
    with pytest.raises(ModelError, match="wrong shape"):
        client.predict(lst_values(1, 8, 8, 1)[0])


def test_the_servers_refusal_is_passed_on_whole(client):
    with pytest.raises(
        ServingError, match=r"INVALID_ARGUMENT.*\[any, any, any, 1\], found \[6, 6\]"
    ):
        client.call("serving_default", {"lst_kelvin": np.full((6, 6), 290, np.float32)})
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT.*required: \{lst_kelvin\}"):
        client.call("serving_default", {"x": np.full((1, 6, 6, 1), 290, np.float32)})


def test_no_server_is_an_error_that_says_how_to_start_one():
    with pytest.raises(ServingError, match=r"cannot be reached.*keras-lstsr serve .*--port 9"):
        GrpcPredictor("127.0.0.1:9", timeout_seconds=0.3)


def test_a_server_that_stops_meanwhile_is_unreachable(tiny_models_dir):
    with LocalServer(tiny_models_dir, port=0) as server:
        client = LstsrClient(server.address)
    with client, pytest.raises(ServingError, match="cannot be reached"):
        client.predict(lst_values(1, 4, 4, 1))


def test_addresses_with_scheme_load_a_grpc_predictor(server):
    with load_predictor(f"grpc://{server.address}") as by_source:
        assert isinstance(by_source, GrpcPredictor)
    with load_predictor(server=server.address) as by_server:
        assert by_server.contract.model_version == 2


def test_the_command_prints_status_signatures_and_provenance(server):
    result = CliRunner().invoke(client_module.command, [server.address])
    assert result.exit_code == 0, result.output
    assert "lstsr version 2: AVAILABLE" in result.output
    assert "lst_kelvin_fine" in result.output
    assert '"run_name": "tiny"' in result.output


def test_the_command_ends_with_status_2_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["serving.client", "127.0.0.1:9", "--timeout", "0.2"])
    with pytest.raises(SystemExit) as caught:
        client_module.main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: 127.0.0.1:9: the prediction server cannot be reached")
    assert "Traceback" not in error


@pytest.fixture(scope="module")
def guided_client(tiny_guided_models_dir):
    with (
        LocalServer(tiny_guided_models_dir, port=0) as running,
        LstsrClient(running.address) as connected,
    ):
        yield connected


@pytest.mark.parametrize("with_guide", [True, False])
@pytest.mark.parametrize("shape", [(1, 17, 23), (3, 8, 8)])
def test_a_served_guided_model_answers_as_keras_does(
    guided_client, tiny_guided_model, shape, with_guide
):
    values = lst_values(*shape, 1, gaps=0.1)
    ndvi = guide_values(shape[0], 4 * shape[1], 4 * shape[2], 1, gaps=0.1)
    guides = {"ndvi": ndvi} if with_guide else {}
    expected = KerasPredictor(tiny_guided_model).predict(values, guides)
    served = guided_client.predict(values, guides)
    for name in ("lst_kelvin", "std_kelvin", "guide_followed"):
        mine, keras_own = getattr(served, name), getattr(expected, name)
        np.testing.assert_allclose(mine, keras_own, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(keras_own))


def test_only_the_outputs_wanted_are_sent(guided_client, monkeypatch):
    answers = []
    call = guided_client.call
    monkeypatch.setattr(
        guided_client, "call",
        lambda *arguments, **options: answers.append(call(*arguments, **options)) or answers[-1],
    )  # fmt: skip
    for outputs in ([], ["lst_std_kelvin"], None):
        guides = {"ndvi": guide_values(1, 32, 32, 1)}
        guided_client.predict(lst_values(1, 8, 8, 1), guides, outputs=outputs)
    assert [sorted(answer) for answer in answers] == [
        ["lst_kelvin_fine"],
        ["lst_kelvin_fine", "lst_std_kelvin"],
        ["guide_followed", "lst_kelvin_fine", "lst_std_kelvin"],
    ]


def test_guided_batches_are_split_with_their_guides(guided_client, tiny_guided_model, monkeypatch):
    monkeypatch.setattr(guided_client, "message_bytes", 3 * 32 * 32 * 4)
    values, guide = lst_values(4, 8, 8, 1, gaps=0.1), guide_values(4, 32, 32, 1, gaps=0.1)
    guides = {"ndvi": guide}
    split = guided_client.predict(values, guides)  # an answer of 3 outputs: an item a message
    whole = KerasPredictor(tiny_guided_model).predict(values, guides)
    np.testing.assert_allclose(split.lst_kelvin, whole.lst_kelvin, rtol=0, atol=1e-4)


def test_the_server_tells_the_guided_signature(guided_client):
    _, signatures = guided_client.metadata()
    tensor = ("float32", "[?, ?, ?, 1]")
    assert signatures["serving_default"] == {
        "inputs": {"lst_kelvin": tensor, "ndvi": tensor},
        "outputs": dict.fromkeys(["guide_followed", "lst_kelvin_fine", "lst_std_kelvin"], tensor),
    }


def test_a_server_wants_both_tensors_and_says_so(guided_client):
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT.*required: \{ndvi\}"):
        guided_client.call("serving_default", {"lst_kelvin": lst_values(1, 8, 8, 1)})
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT.*4 times the rows"):
        guided_client.call(
            "serving_default",
            {"lst_kelvin": lst_values(1, 8, 8, 1), "ndvi": guide_values(1, 8, 8, 1)},
        )


class Breaking:
    """A method that fails some times before it answers."""

    def __init__(self, code, times, details=""):
        self.code, self.times, self.details, self.calls = code, times, details, 0

    def __call__(self, request, **options):
        self.calls += 1
        if self.calls <= self.times:
            raise Failure(self.code, self.details)
        return "answer"


class Failure(grpc.RpcError):
    def __init__(self, code, details):
        super().__init__()
        self.code, self.details = (lambda: code), (lambda: details)


def test_pauses_between_tries_grow_and_end(client, monkeypatch):
    clock, pauses = [0.0], []

    def sleep(seconds):
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(remote.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(remote.time, "sleep", sleep)
    lines = []
    monkeypatch.setattr(client, "announce", lines.append)
    monkeypatch.setattr(client, "retry_seconds", 60.0)
    monkeypatch.setattr(client, "_interrupted", False)
    unavailable = grpc.StatusCode.UNAVAILABLE
    assert client.invoke(Breaking(unavailable, 7), None) == "answer"
    assert len(lines) == 1 and "trying again for 60 s" in lines[0]
    for number, pause in enumerate(pauses):
        longest = min(0.25 * 2**number, 8.0)
        assert longest / 2 <= pause <= longest
    clock[0], pauses[:] = 0.0, []
    with pytest.raises(ServingError, match="cannot be reached"):
        client.invoke(Breaking(unavailable, 10**6), None)
    assert sum(pauses) == pytest.approx(60.0)
    crowd = Breaking(grpc.StatusCode.RESOURCE_EXHAUSTED, 2, "Concurrent RPC limit exceeded!")
    assert client.invoke(crowd, None) == "answer"
    for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
        refusing = Breaking(code, 1)
        with pytest.raises(ServingError, match=code.name):
            client.invoke(refusing, None)
        assert refusing.calls == 1


@pytest.mark.slow
def test_a_scene_ends_though_its_server_is_killed_and_started_again(
    tiny_models_dir, tiny_model, tmp_path
):
    command = [sys.executable, "-m", "keras_lstsr.cli.main", "serve", str(tiny_models_dir)]
    killed = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    started = []
    scene = lst_raster(utm_grid((40, 40), 1000.0))
    tiles = TileSettings(tile_pixels=16, overlap_pixels=0, batch_size=1)
    try:
        line = ""
        while "Serving model lstsr" not in line:
            line = killed.stdout.readline()
            assert line, "the server ended early"
        address = line.split(" at ")[1].split()[0]

        def kill_and_start(done, total):
            if done == 2:
                killed.kill()
                killed.wait()
                port = int(address.rpartition(":")[2])
                start = Timer(1.0, lambda: started.append(LocalServer(tiny_models_dir, port=port)))
                start.start()

        lines = []
        with load_predictor(server=address, announce=lines.append) as predictor:
            assert predictor.version == 2
            served = predict_scene(scene, predictor, tiles=tiles, progress=kill_and_start)
        assert started
        assert len(lines) == 1 and "trying again" in lines[0]
        expected = predict_scene(scene, KerasPredictor(tiny_model), tiles=tiles)
        np.testing.assert_allclose(
            served["lst_kelvin_fine"], expected["lst_kelvin_fine"], rtol=0, atol=1e-3
        )
    finally:
        killed.kill()
        killed.stdout.close()
        for server in started:
            server.stop()


def test_a_server_that_comes_back_with_another_model_is_refused(tiny_models_dir, monkeypatch):
    with LocalServer(tiny_models_dir, port=0) as server, LstsrClient(server.address) as client:
        client._interrupted = True
        assert client.predict(lst_values(1, 4, 4, 1)).lst_kelvin.shape == (1, 16, 16, 1)
        assert not client._interrupted
        client.version, client._interrupted = 1, True
        with pytest.raises(ServingError, match="came back with another model"):
            client.predict(lst_values(1, 4, 4, 1))
