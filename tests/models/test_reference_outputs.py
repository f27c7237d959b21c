"""The papers' four networks against the reference's outputs, and against a second writing-down."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_lstsr.models.dmcn import build_dmcn
from keras_lstsr.models.mrunet import build_mrunet
from keras_lstsr.models.torch_import import load_torch_weights
from keras_lstsr.models.vdsr import build_vdsr

PARAMETERS = {
    "mrunet-strided": 45_049_601,
    "mrunet-maxpool": 21_987_905,
    "vdsr": 664_704,
    "dmcn": 1_311_953,
}
FILES = {"dmcn": "dmcn_prelu"}


def build(architecture: str, **shape) -> keras.Model:
    builders = {"vdsr": build_vdsr, "dmcn": build_dmcn}
    if architecture in builders:
        return builders[architecture](**shape)
    return build_mrunet(architecture.removeprefix("mrunet-"), **shape)


def answer(model: keras.Model, field: np.ndarray) -> np.ndarray:
    """The network's answer ``[H, W]`` to a field ``[H, W]``."""
    tensor = model(field.astype(np.float32)[None, :, :, None], training=False)
    return keras.ops.convert_to_numpy(tensor)[0, :, :, 0]


@pytest.mark.parametrize("architecture", ["vdsr", "dmcn"])
def test_published_number_of_parameters(architecture):
    model = build(architecture)
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trained == PARAMETERS[architecture]


@pytest.mark.real_data
@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param("mrunet-strided", marks=pytest.mark.slow),
        pytest.param("mrunet-maxpool", marks=pytest.mark.slow),
        "vdsr",
        "dmcn",
    ],
)
def test_golden_outputs(architecture, lstsr_reference, golden_state_dict):
    name = f"arch_{FILES.get(architecture, architecture.replace('-', '_'))}"
    golden = lstsr_reference / "golden" / name
    weights = golden_state_dict(golden.with_suffix(".json"))
    model = build(architecture)
    report = load_torch_weights(model, weights, architecture)
    assert report.parameters == PARAMETERS[architecture]
    listing = json.loads(golden.with_suffix(".json").read_text())
    dead = {entry["name"] for entry in listing["entries"] if entry["dead"]}
    assert set(report.ignored) == dead
    assert set(report.imported) == weights.keys() - dead
    outputs = np.load(golden.with_suffix(".npz"))
    for height, width in ((64, 64), (96, 80)):
        field = np.random.default_rng(0).uniform(0.8, 1.0, (height, width)).astype(np.float32)
        expected = outputs[f"output_{height}x{width}"][0, 0]
        difference = np.abs(answer(model, field) - expected).max()
        assert difference <= 2e-5 * np.abs(expected).max()


@pytest.mark.real_data
@pytest.mark.parametrize("architecture", list(PARAMETERS))
def test_the_listing_of_entries_is_the_reference_s(
    architecture, lstsr_reference, reference_networks
):
    name = f"arch_{FILES.get(architecture, architecture.replace('-', '_'))}.json"
    listing = json.loads((lstsr_reference / "golden" / name).read_text())["entries"]
    listed = {(e["name"], tuple(e["shape"]), e["module"], e["dead"]) for e in listing}
    assert {tuple(entry) for entry in reference_networks.entries(architecture)} == listed


@pytest.mark.real_data
@pytest.mark.parametrize("architecture", ["vdsr", "dmcn"])
def test_the_second_writing_down_gives_the_reference_s_output(
    architecture, lstsr_reference, golden_state_dict, reference_networks
):
    golden = lstsr_reference / "golden" / f"arch_{FILES.get(architecture, architecture)}"
    weights = golden_state_dict(golden.with_suffix(".json"))
    field = np.random.default_rng(0).uniform(0.8, 1.0, (64, 64)).astype(np.float32)
    expected = np.load(golden.with_suffix(".npz"))["output_64x64"][0, 0]
    difference = np.abs(reference_networks.forward(architecture, weights, field) - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("architecture", ["mrunet-strided", "mrunet-maxpool"])
def test_the_second_u_net_gives_the_reference_s_output(
    architecture, lstsr_reference, golden_state_dict, reference_networks
):
    golden = lstsr_reference / "golden" / f"arch_{architecture.replace('-', '_')}"
    weights = golden_state_dict(golden.with_suffix(".json"))
    field = np.random.default_rng(0).uniform(0.8, 1.0, (64, 64)).astype(np.float32)
    expected = np.load(golden.with_suffix(".npz"))["output_64x64"][0, 0]
    difference = np.abs(reference_networks.forward(architecture, weights, field) - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("architecture", "shape", "sizes"),
    [
        # Odd sides are floored on the way down and reflected on the way up.
        ("mrunet-strided", {"width": 3}, [(32, 32), (33, 47), (70, 66), (63, 95)]),
        ("mrunet-maxpool", {"width": 3}, [(32, 32), (33, 47), (70, 66), (63, 95)]),
        ("mrunet-strided", {"width": 2, "bridge_blocks": 3}, [(35, 40)]),
        ("mrunet-maxpool", {"width": 2, "bridge_blocks": 0}, [(35, 40)]),
        ("vdsr", {"width": 5, "depth": 7}, [(1, 1), (5, 9), (32, 17)]),
        ("dmcn", {"width": 4}, [(4, 4), (8, 20), (32, 36)]),
    ],
)
def test_any_width_and_size_gives_the_second_writing_down_s_output(
    architecture, shape, sizes, reference_networks
):
    weights = reference_networks.state_dict(architecture, **shape)
    model = build(architecture, **shape)
    load_torch_weights(model, weights, architecture)
    for seed, (height, width) in enumerate(sizes):
        field = np.random.default_rng(seed).uniform(0.8, 1.0, (height, width)).astype(np.float32)
        expected = reference_networks.forward(architecture, weights, field)
        difference = np.abs(answer(model, field) - expected).max()
        assert difference <= 2e-5 * np.abs(expected).max()
