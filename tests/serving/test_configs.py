from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,  # noqa: F401  (registers the wrappers in the pool)
)
from tensorflow_serving.config import model_server_config_pb2

FOLDER = Path(__file__).resolve().parents[2] / "serving"

# TF Serving's BatchingParameters, which tensorflow-serving-api does not ship: name -> (number,
# type). From the public session_bundle_config.proto.
BATCHING_FIELDS = {
    "max_batch_size": (1, "Int64Value"),
    "batch_timeout_micros": (2, "Int64Value"),
    "max_enqueued_batches": (3, "Int64Value"),
    "num_batch_threads": (4, "Int64Value"),
    "thread_pool_name": (5, "StringValue"),
    "allowed_batch_sizes": (6, "repeated int64"),
    "pad_variable_length_inputs": (7, "bool"),
}


@pytest.fixture(scope="module")
def batching():
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto",
        package="test",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    message = file.message_type.add(name="BatchingParameters")
    for name, (number, kind) in BATCHING_FIELDS.items():
        made = message.field.add(name=name, number=number, label=field.LABEL_OPTIONAL)
        if kind.endswith("Value"):
            made.type = field.TYPE_MESSAGE
            made.type_name = f".google.protobuf.{kind}"
        elif kind == "bool":
            made.type = field.TYPE_BOOL
        else:
            made.type, made.label = field.TYPE_INT64, field.LABEL_REPEATED
    pool = descriptor_pool.Default()
    descriptor = pool.AddSerializedFile(file.SerializeToString())
    kind = message_factory.GetMessageClass(descriptor.message_types_by_name["BatchingParameters"])
    return text_format.Parse((FOLDER / "batching.config").read_text(), kind())


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "docker-compose.yml").read_text())


def test_the_model_configuration_serves_all_versions_of_the_model_that_clients_ask_for():
    config = text_format.Parse(
        (FOLDER / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("lstsr", "/models/lstsr")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.WhichOneof("policy_choice") == "all"


def test_batching_keeps_to_the_rules_of_tf_serving(batching):
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value
    assert batching.num_batch_threads.value >= 1
    assert batching.pad_variable_length_inputs is False


def test_compose_pins_the_image_and_mounts_files_that_are_there(compose):
    for service in compose["services"].values():
        assert service["image"].startswith("tensorflow/serving:2.")
        mounts = [volume.removesuffix(":ro").rsplit(":", 1) for volume in service["volumes"]]
        for source, target in mounts:
            if source.startswith("./"):
                assert (FOLDER / source).is_file()
                assert any(target in flag for flag in service["command"]) or "batching" in target
        assert "/models" in [target for _, target in mounts]
        assert any(":8500" in port for port in service["ports"])


def test_only_the_batching_profile_batches(compose):
    services = compose["services"]
    assert "--enable_batching" not in services["lstsr"]["command"]
    assert "--enable_batching" in services["lstsr-batching"]["command"]
    assert services["lstsr-batching"]["profiles"] == ["batching"]
