from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

import keras_lstsr.artifacts.export as export_module
from keras_lstsr.artifacts.contract import Contract
from keras_lstsr.artifacts.export import export_model, export_saved_model
from keras_lstsr.artifacts.loading import load_keras_model, model_contract, weights_sha256
from keras_lstsr.artifacts.saved_model import _range_check, existing_versions
from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import MissingExtraError, ModelError

# TF Serving lags behind TensorFlow by a release or two; an operation that is not in this list may
# be too new for it and needs a look at TensorFlow's history first.
LONG_KNOWN_OPERATIONS = """
    AddV2 Assert AssignVariableOp AvgPool BiasAdd BroadcastTo Cast ConcatV2 Const Conv2D
    Conv2DBackpropInput DisableCopyOnRead ExpandDims Fill FloorDiv FloorMod FusedBatchNormV3
    GatherV2 Greater GreaterEqual Identity If IsNan Less LessEqual Log LogicalAnd LogicalNot
    Max MaxPool Maximum MergeV2Checkpoints Min Minimum MirrorPad Mul Neg NoOp Pack Pad PadV2
    PartitionedCall Placeholder Range ReadVariableOp RealDiv Relu Reshape RestoreV2 Rsqrt
    SaveV2 Select SelectV2 Shape ShardedFilename Squeeze StatefulPartitionedCall
    StaticRegexFullMatch StridedSlice StringJoin Sub Sum Tile Transpose VarHandleOp
    VarIsInitializedOp
"""


@pytest.fixture(scope="module")
def run_dir(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny_model.save(folder / "model.keras")
    run = {"run_name": "bold-bear", "dataset_fingerprint": "ab" * 32, "best_epoch": 3}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "config.yaml").write_text("name: lstsr\nmodel: {depth: 2}\n")
    return folder


def saved_model(version: Path):
    return saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())


def test_versions_count_up_and_nothing_else_lies_beside(tiny_models_dir):
    assert existing_versions(tiny_models_dir) == [1, 2]
    assert sorted(path.name for path in tiny_models_dir.iterdir()) == ["1", "2"]


def test_the_signature_has_stable_names_types_and_free_shapes(tiny_models_dir):
    signatures = saved_model(tiny_models_dir / "2").meta_graphs[0].signature_def
    serving = signatures["serving_default"]
    assert list(serving.inputs) == ["lst_kelvin"]
    assert list(serving.outputs) == ["lst_kelvin_fine"]
    for tensor in (serving.inputs["lst_kelvin"], serving.outputs["lst_kelvin_fine"]):
        assert tensor.dtype == tf.float32.as_datatype_enum
        assert [side.size for side in tensor.tensor_shape.dim] == [-1, -1, -1, 1]


def test_the_contract_in_the_graph_is_the_contract_beside_it(tiny_models_dir, tiny_model):
    version = tiny_models_dir / "2"
    loaded = tf.saved_model.load(str(version))
    answers = loaded.signatures["contract"](contract_version=tf.constant([1, 1]))
    texts = answers["contract_json"].numpy()
    assert [text.decode() for text in texts] == [(version / "contract.json").read_text()] * 2
    contract = Contract.read(version)
    assert contract.model_version == 2
    assert contract.scale_factor == 4
    provenance = contract.provenance
    assert provenance["run_name"] == "tiny"
    assert provenance["weights_sha256"] == weights_sha256(tiny_model)
    assert provenance["software"]["tensorflow"] == tf.__version__
    assert provenance["software"]["keras"] == keras.__version__


def test_the_least_size_was_really_tried(tiny_models_dir):
    least = Contract.read(tiny_models_dir / "2").minimum_size_pixels
    loaded = tf.saved_model.load(str(tiny_models_dir / "2"))
    result = loaded.signatures["serving_default"](lst_kelvin=tf.fill([1, least, least, 1], 290.0))
    assert np.isfinite(result["lst_kelvin_fine"].numpy()).all()


def test_warmup_requests_are_predict_logs_that_the_signature_answers(tiny_models_dir):
    version = tiny_models_dir / "2"
    loaded = tf.saved_model.load(str(version))
    sizes = []
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        values = tf.make_ndarray(request.inputs["lst_kelvin"])
        sizes.append(values.shape)
        loaded.signatures["serving_default"](lst_kelvin=tf.constant(values))
    assert sizes == [(1, 16, 16, 1), (1, 64, 64, 1)]


@pytest.mark.parametrize(
    ("values", "found"),
    [(np.full((1, 8, 8, 1), 21.5), "21.5"), (np.full((1, 8, 8, 1), 14_900.0), "14900")],
)
def test_the_graph_itself_refuses_celsius_and_raw_integers(tiny_models_dir, values, found):
    loaded = tf.saved_model.load(str(tiny_models_dir / "2"))
    values[0, 0, 0, 0] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"kelvin.*\[{found}\]"):
        loaded.signatures["serving_default"](lst_kelvin=tf.constant(values, tf.float32))


def test_the_graph_takes_an_image_without_any_valid_pixel(tiny_models_dir):
    loaded = tf.saved_model.load(str(tiny_models_dir / "2"))
    result = loaded.signatures["serving_default"](lst_kelvin=tf.fill([1, 8, 8, 1], np.nan))
    assert np.isnan(result["lst_kelvin_fine"].numpy()).all()


def assert_operations(version_dir, known):
    """All operations of the graph and of its functions are known, and no newer reader is needed."""
    graph = saved_model(version_dir).meta_graphs[0].graph_def
    parts = {field.name: value for field, value in graph.ListFields()}
    used = {node.op for node in parts["node"]}
    inside = {node.op for function in parts["library"].function for node in function.node_def}
    assert used
    assert inside
    assert used | inside <= set(known.split())
    assert graph.versions.min_consumer <= 12


def test_the_graph_uses_only_operations_that_older_servers_know(tiny_models_dir):
    assert_operations(tiny_models_dir / "2", LONG_KNOWN_OPERATIONS)


def test_a_run_is_exported_with_its_provenance(run_dir, tmp_path, tiny_model):
    version = export_model(run_dir, tmp_path / "models" / "lstsr")
    assert version == tmp_path / "models" / "lstsr" / "1"
    provenance = Contract.read(version).provenance
    assert provenance["run_name"] == "bold-bear"
    assert provenance["dataset_fingerprint"] == "ab" * 32
    assert provenance["run"]["best_epoch"] == 3
    assert provenance["config"] == {"name": "lstsr", "model": {"depth": 2}}
    assert provenance["weights_sha256"] == weights_sha256(tiny_model)
    # A server may run as another user.
    assert version.stat().st_mode & 0o555 == 0o555


@pytest.fixture
def quick_archive(monkeypatch):
    """Spares the tests of the folder's life the making of a graph."""
    monkeypatch.setattr(
        export_module,
        "write_archive",
        lambda model, contract, folder: (folder / "saved_model.pb").write_bytes(b"ours"),
    )


@pytest.mark.usefixtures("quick_archive")
def test_a_failed_export_leaves_nothing_behind(tiny_model, tmp_path, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "write_warmup_requests", fail)
    with pytest.raises(KeyboardInterrupt):
        export_saved_model(tiny_model, tmp_path, provenance={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_archive")
def test_a_version_never_shows_half_written(tiny_model, tmp_path, monkeypatch):
    seen = []
    write = export_module.write_warmup_requests

    def spy(path, contract):
        seen.append(existing_versions(tmp_path))
        write(path, contract)

    monkeypatch.setattr(export_module, "write_warmup_requests", spy)
    export_saved_model(tiny_model, tmp_path, provenance={})
    assert seen == [[]]
    assert existing_versions(tmp_path) == [1]


@pytest.mark.usefixtures("quick_archive")
def test_a_version_taken_meanwhile_is_not_overwritten(tiny_model, tmp_path, monkeypatch):
    write = export_module.write_warmup_requests

    def overtake(path, contract):
        write(path, contract)
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "saved_model.pb").write_bytes(b"theirs")

    monkeypatch.setattr(export_module, "write_warmup_requests", overtake)
    with pytest.raises(ModelError, match="another export"):
        export_saved_model(tiny_model, tmp_path, provenance={})
    assert (tmp_path / "1" / "saved_model.pb").read_bytes() == b"theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_unfinished_or_damaged_runs_get_clear_errors(run_dir, tmp_path):
    with pytest.raises(ModelError, match=r"run\.json: this is not a model folder"):
        export_model(tmp_path, tmp_path / "models")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ModelError, match=r"model\.keras: there is no trained model"):
        export_model(tmp_path, tmp_path / "models")
    (tmp_path / "model.keras").write_bytes((run_dir / "model.keras").read_bytes()[:3000])
    with pytest.raises(ModelError, match=r"model\.keras: Keras cannot read the model"):
        load_keras_model(tmp_path / "model.keras")
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(ModelError, match=r"run\.json.*expected a mapping"):
        export_model(tmp_path, tmp_path / "models")


def test_a_model_that_is_no_super_resolution_is_refused():
    inputs = keras.Input((None, None, 1), name="lst_kelvin")
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    with pytest.raises(ModelError, match="does not fit its input"):
        model_contract(keras.Model({"lst_kelvin": inputs}, pooled), provenance={})


def test_another_backend_and_no_tensorflow_are_told_before_anything_is_written(
    run_dir, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(keras.config, "backend", lambda: "jax")
        with pytest.raises(ModelError, match=r"KERAS_BACKEND.*found jax; expected tensorflow"):
            export_model(run_dir, tmp_path / "models")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match=r"SavedModel needs TensorFlow.*pip install"):
        export_model(run_dir, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_the_same_weights_have_the_same_hash_in_another_model(tiny_model, run_dir):
    assert weights_sha256(load_keras_model(run_dir / "model.keras")) == weights_sha256(tiny_model)


GUIDED_OPERATIONS = """
    Abs All Equal IdentityN Mean OnesLike Pow Sigmoid Softplus Sqrt Square StopGradient
"""


def test_a_guided_model_is_recognised_by_its_inputs(untrained_guided_model, tiny_model):
    contract = model_contract(untrained_guided_model, provenance={"run_name": "g"})
    assert [tensor.name for tensor in contract.inputs] == ["lst_kelvin", "ndvi"]
    assert (contract.scale_factor, contract.minimum_size_pixels) == (4, 1)
    # Windows of 25 pixels lack none from the 13th pixel on; the bilinear kernel takes one more.
    assert contract.margin_pixels == 15
    assert contract.provenance["parameters"] == untrained_guided_model.count_params()
    assert model_contract(tiny_model, provenance={}).guides == {}


def test_a_model_with_ndvi_of_another_make_is_refused():
    lst = keras.Input((None, None, 1), name="lst_kelvin")
    ndvi = keras.Input((None, None, 1), name="ndvi")
    model = keras.Model({"lst_kelvin": lst, "ndvi": ndvi}, keras.layers.Add()([lst, ndvi]))
    with pytest.raises(ModelError, match=r"not one of build_guided; found no layer BlockMean"):
        model_contract(model, provenance={})


def test_a_guided_signature_has_both_inputs_and_outputs(tiny_guided_models_dir):
    signatures = saved_model(tiny_guided_models_dir / "1").meta_graphs[0].signature_def
    serving = signatures["serving_default"]
    assert sorted(serving.inputs) == ["lst_kelvin", "ndvi"]
    assert sorted(serving.outputs) == ["guide_followed", "lst_kelvin_fine", "lst_std_kelvin"]
    for tensor in (*serving.inputs.values(), *serving.outputs.values()):
        assert tensor.dtype == tf.float32.as_datatype_enum
        assert [side.size for side in tensor.tensor_shape.dim] == [-1, -1, -1, 1]
    contract = Contract.read(tiny_guided_models_dir / "1")
    assert contract.contract_version == 2
    assert contract.provenance["run_name"] == "tiny-guided"


def test_a_guided_graph_uses_only_operations_that_older_servers_know(tiny_guided_models_dir):
    assert_operations(tiny_guided_models_dir / "1", LONG_KNOWN_OPERATIONS + GUIDED_OPERATIONS)


def test_guided_warmup_requests_hold_both_tensors(tiny_guided_models_dir):
    version = tiny_guided_models_dir / "1"
    loaded = tf.saved_model.load(str(version))
    sizes = []
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        tensors = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        sizes.append((tensors["lst_kelvin"].shape[1], tensors["ndvi"].shape[1]))
        loaded.signatures["serving_default"](
            **{name: tf.constant(values) for name, values in tensors.items()}
        )
    assert sizes == [(16, 64), (64, 256)]


@pytest.mark.parametrize(
    ("lst", "ndvi", "message"),
    [
        (21.5, np.full((1, 32, 32, 1), 0.5), r"kelvin.*\[21.5\]"),
        (290, np.full((1, 32, 32, 1), 5000.0), r"cannot be NDVI.*\[5000\]"),
        (290, np.full((1, 8, 8, 1), 0.5), r"4 times the rows.*\[1 32 32 1\].*\[1 8 8 1\]"),
    ],
)
def test_the_guided_graph_itself_refuses_what_does_not_fit(
    tiny_guided_models_dir, lst, ndvi, message
):
    loaded = tf.saved_model.load(str(tiny_guided_models_dir / "1"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loaded.signatures["serving_default"](
            lst_kelvin=tf.fill([1, 8, 8, 1], float(lst)), ndvi=tf.constant(ndvi, tf.float32)
        )


@pytest.mark.parametrize("name", list(GUIDES))
def test_the_graph_checks_every_guide_by_its_own_range(name):
    contract = Contract.of_model(
        model_version=1, scale_factor=4, minimum_size_pixels=1, guides=[name], provenance={}
    )
    low, high = GUIDES[name].valid_range
    _range_check(tf.constant([low, np.nan, high], tf.float32), contract.guides[name])
    for beyond in (low - 1, high + 1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}: .*cannot be .*NaN"):
            _range_check(tf.constant([low, beyond], tf.float32), contract.guides[name])
