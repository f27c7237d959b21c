from __future__ import annotations

import os
import pickle
import sys

import keras
import numpy as np
import pytest

from keras_lstsr.config import ModelConfig
from keras_lstsr.errors import MissingExtraError, ModelError
from keras_lstsr.models.dmcn import build_dmcn
from keras_lstsr.models.mrunet import build_mrunet
from keras_lstsr.models.registry import build_model
from keras_lstsr.models.srcnn import build_srcnn
from keras_lstsr.models.torch_import import (
    load_torch_weights,
    read_state_dict,
    unwrap_state_dict,
)
from keras_lstsr.models.vdsr import build_vdsr

SHAPES = {
    "mrunet-strided": {"width": 2, "bridge_blocks": 2},
    "mrunet-maxpool": {"width": 2, "bridge_blocks": 1},
    "vdsr": {"width": 2, "depth": 4},
    "dmcn": {"width": 2},
}


def build(architecture: str) -> keras.Model:
    builders = {"vdsr": build_vdsr, "dmcn": build_dmcn}
    if architecture in builders:
        return builders[architecture](**SHAPES[architecture])
    return build_mrunet(architecture.removeprefix("mrunet-"), **SHAPES[architecture])


@pytest.fixture
def entries(reference_networks):
    return lambda architecture: reference_networks.entries(architecture, **SHAPES[architecture])


@pytest.fixture
def weights(reference_networks):
    return lambda architecture: reference_networks.state_dict(architecture, **SHAPES[architecture])


@pytest.mark.parametrize("architecture", list(SHAPES))
class TestAnyNetwork:
    def test_all_live_entries_are_imported_and_all_dead_ones_reported(
        self, architecture, weights, entries
    ):
        report = load_torch_weights(build(architecture), weights(architecture), architecture)
        listed = entries(architecture)
        live = {entry.name for entry in listed if not entry.dead}
        assert report.architecture == architecture
        assert set(report.imported) == live
        assert set(report.ignored) == {entry.name for entry in listed} - live
        assert len(set(report.imported.values())) == len(live)
        trained = [e for e in listed if not e.dead and "running" not in e.name]
        assert report.parameters == sum(int(np.prod(e.shape)) for e in trained)

    def test_dead_entries_may_be_absent(self, architecture, weights, entries):
        dead = {entry.name for entry in entries(architecture) if entry.dead}
        live = {name: v for name, v in weights(architecture).items() if name not in dead}
        assert load_torch_weights(build(architecture), live, architecture).ignored == ()

    def test_a_missing_entry_is_named_and_nothing_is_changed(self, architecture, weights):
        model, given = build(architecture), weights(architecture)
        before = model.get_weights()
        name = next(n for n in reversed(given) if n.startswith(("out", "choose2")))
        del given[name]
        with pytest.raises(ModelError, match=f"^{name}: the weights lack a parameter"):
            load_torch_weights(model, given, architecture)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_every_wrong_shape_is_named_and_nothing_is_changed(
        self, architecture, weights, entries
    ):
        model, given = build(architecture), weights(architecture)
        before = model.get_weights()
        live = [e for e in entries(architecture) if not e.dead]
        for name, shape in ((e.name, e.shape) for e in live):
            wrong = {**given, name: np.zeros((*shape[:-1], shape[-1] + 1), np.float32)}
            with pytest.raises(ModelError, match="another shape") as caught:
                load_torch_weights(model, wrong, architecture)
            assert caught.value.field == name
            assert caught.value.expected == list(shape)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_an_unexpected_entry_is_named(self, architecture, weights):
        given = {**weights(architecture), "attention.query.weight": np.zeros((2, 2), np.float32)}
        with pytest.raises(ModelError, match=r"^attention\.query\.weight: .*unexpected"):
            load_torch_weights(build(architecture), given, architecture)

    def test_other_weights_are_refused_and_told_apart(self, architecture, weights):
        for other in SHAPES:
            if other == architecture:
                continue
            with pytest.raises(ModelError, match=f"look like weights of {other}") as caught:
                load_torch_weights(build(architecture), weights(other), architecture)
            assert caught.value.field

    def test_another_model_is_refused(self, architecture, weights):
        for other in SHAPES:
            if other == architecture:
                continue
            with pytest.raises(ModelError, match="the model is not this network"):
                load_torch_weights(build(other), weights(architecture), architecture)


def test_kernels_are_turned_round(weights):
    model, given = build("mrunet-strided"), weights("mrunet-strided")
    load_torch_weights(model, given, "mrunet-strided")
    kernel = keras.ops.convert_to_numpy(model.get_layer("down2_out_conv").kernel)
    there = given["down2.out_conv.0.weight"]
    assert kernel[0, 2, 3, 5] == there[5, 3, 0, 2]
    kernel = keras.ops.convert_to_numpy(model.get_layer("up1_up").kernel)
    there = given["up1.up.weight"]
    assert kernel[0, 1, 3, 5] == there[5, 3, 0, 1]


def test_a_whole_model_takes_them_like_its_core(weights):
    config = ModelConfig(architecture="dmcn", width=2, offset_kelvin=0.0, scale_kelvin=333.32)
    model, core = build_model(config), build("dmcn")
    for network in (model, core):
        load_torch_weights(network, weights("dmcn"), "dmcn")
    for whole, alone in zip(model.get_weights(), core.get_weights(), strict=True):
        np.testing.assert_array_equal(whole, alone)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_checkpoints_and_data_parallel_are_unwrapped(wrapper, weights):
    inner = weights("vdsr")
    parallel = {f"module.{name}": value for name, value in inner.items()}
    checkpoint = {"epoch": 12, wrapper: parallel, "optimizer": {"state": {}}}
    assert unwrap_state_dict(checkpoint) == inner
    report = load_torch_weights(build("vdsr"), checkpoint, "vdsr")
    assert set(report.imported) == set(inner)


def test_some_prefixed_names_are_no_data_parallel(weights):
    mixed = weights("vdsr")
    mixed["module.input.weight"] = mixed.pop("input.weight")
    with pytest.raises(ModelError, match=r"^input\.weight: the weights lack"):
        load_torch_weights(build("vdsr"), mixed, "vdsr")


@pytest.mark.parametrize("nothing", [{}, {3: np.zeros(2)}, {"state_dict": {}}])
def test_no_weights_are_a_clear_error(nothing):
    with pytest.raises(ModelError, match="there are no weights"):
        unwrap_state_dict(nothing)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"^output\.weight: the parameter is not finite; found 1 of 18 values"),
        (np.inf, r"^output\.weight: the parameter is not finite"),
    ],
)
def test_values_that_are_not_finite_are_named(value, message, weights):
    given = weights("vdsr")
    given["output.weight"][0, 1, 2, 2] = value
    with pytest.raises(ModelError, match=message):
        load_torch_weights(build("vdsr"), given, "vdsr")


def test_integers_are_no_weights(weights):
    given = weights("vdsr")
    given["input.weight"] = given["input.weight"].astype(np.int8)
    with pytest.raises(ModelError, match=r"^input\.weight: .*not hold floating-point.*int8"):
        load_torch_weights(build("vdsr"), given, "vdsr")


def test_half_and_double_precision_become_single(weights):
    given = {name: value.astype(np.float64) for name, value in weights("vdsr").items()}
    given["input.weight"] = given["input.weight"].astype(np.float16)
    model = build("vdsr")
    load_torch_weights(model, given, "vdsr")
    kernel = keras.ops.convert_to_numpy(model.get_layer("input_conv").kernel)
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, given["input.weight"].transpose(2, 3, 1, 0))


def test_unknown_architectures_and_models_without_reference_are_named(weights):
    with pytest.raises(ModelError, match=r"'unet'.*mrunet-strided, mrunet-maxpool, vdsr, dmcn"):
        load_torch_weights(build("vdsr"), weights("vdsr"), "unet")
    with pytest.raises(ModelError, match="extract_conv: the model is not this network"):
        load_torch_weights(build_srcnn(width=2), weights("vdsr"), "vdsr")


def test_ignored_entries_are_counted_by_group(weights):
    architecture = "mrunet-strided"
    report = load_torch_weights(build(architecture), weights(architecture), architecture)
    groups = report.ignored_groups()
    assert groups["up.*"] == 2
    assert groups["up_dc.*"] == groups["down1.maxpool_conv.*"] == 12
    norms = 2 + 4 * 3 + 2 * 2 + 4 * 2
    assert groups["*.num_batches_tracked"] == norms + 5 * 2
    assert sum(groups.values()) == len(report.ignored)


class TestNpz:
    def test_round_trip(self, tmp_path, weights):
        given = weights("dmcn")
        np.savez_compressed(tmp_path / "dmcn.npz", **given)
        read = read_state_dict(tmp_path / "dmcn.npz")
        assert read.keys() == given.keys()
        for name in given:
            np.testing.assert_array_equal(read[name], given[name])

    def test_pickled_objects_are_not_read(self, tmp_path):
        np.savez(tmp_path / "w.npz", a=np.array([{"b": 1}], dtype=object))
        with pytest.raises(ModelError, match=r"w\.npz: .*cannot be read.*plain arrays"):
            read_state_dict(tmp_path / "w.npz")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"no archive at all"])
    def test_damaged_files_are_named(self, tmp_path, content):
        (tmp_path / "w.npz").write_bytes(content)
        with pytest.raises(ModelError, match=r"w\.npz: the file of weights cannot be read"):
            read_state_dict(tmp_path / "w.npz")

    def test_truncated_files_are_named(self, tmp_path, weights):
        np.savez(tmp_path / "w.npz", **weights("vdsr"))
        whole = (tmp_path / "w.npz").read_bytes()
        (tmp_path / "w.npz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match=r"w\.npz: the file of weights cannot be read"):
            read_state_dict(tmp_path / "w.npz")

    def test_an_empty_archive_is_named(self, tmp_path):
        np.savez(tmp_path / "w.npz")
        with pytest.raises(ModelError, match=r"w\.npz: there are no weights"):
            read_state_dict(tmp_path / "w.npz")


def test_missing_and_unknown_files_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.pth: .*no such file"):
        read_state_dict(tmp_path / "nowhere.pth")
    with pytest.raises(ModelError, match=r"\.h5.*\.pth, \.pt or \.npz"):
        read_state_dict(tmp_path / "weights.h5")


def test_without_pytorch_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"any")
    with pytest.raises(MissingExtraError, match=r"w\.pth.*keras-lstsr\[torch\].*numpy\.savez"):
        read_state_dict(tmp_path / "w.pth")


class TestPth:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize("suffix", ["pth", "pt"])
    @pytest.mark.parametrize("nested", [False, True])
    def test_round_trip(self, torch, tmp_path, suffix, nested, weights):
        given = weights("dmcn")
        tensors = {f"module.{name}": torch.from_numpy(value) for name, value in given.items()}
        content = {"epoch": 3, "state_dict": tensors} if nested else tensors
        path = tmp_path / f"w.{suffix}"
        torch.save(content, path)
        read = read_state_dict(path)
        assert read.keys() == given.keys()
        for name in given:
            np.testing.assert_array_equal(read[name], given[name])

    def test_half_precision_and_gradients(self, torch, tmp_path):
        value = torch.arange(4.0, requires_grad=True)
        torch.save({"a": value, "b": value.detach().to(torch.bfloat16)}, tmp_path / "w.pth")
        read = read_state_dict(tmp_path / "w.pth")
        for name in "ab":
            np.testing.assert_array_equal(read[name], np.arange(4, dtype=np.float32))

    def test_code_is_not_run(self, torch, tmp_path):
        class Harm:
            def __reduce__(self):
                return (os.mkdir, (str(tmp_path / "harm"),))

        torch.save({"a": Harm()}, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"w\.pth: .*weights alone.*UnpicklingError"):
            read_state_dict(tmp_path / "w.pth")
        assert not (tmp_path / "harm").exists()

    @pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2])])
    def test_damaged_files_are_named(self, torch, tmp_path, content):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(ModelError, match=r"w\.pth"):
            read_state_dict(tmp_path / "w.pth")

    def test_a_bare_tensor_is_no_state_dict(self, torch, tmp_path):
        torch.save(torch.zeros(3), tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"w\.pth: there are no weights; found Tensor"):
            read_state_dict(tmp_path / "w.pth")
