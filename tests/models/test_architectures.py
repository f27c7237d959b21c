"""All networks through ``build_model``, and the layers that only some of them have."""

from __future__ import annotations

import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lstsr.config import ModelConfig
from keras_lstsr.grids.resample import upsample_bicubic
from keras_lstsr.models.convolution import convolution
from keras_lstsr.models.dmcn import build_dmcn
from keras_lstsr.models.edsr import build_edsr, shuffle_stages
from keras_lstsr.models.layers import CropToReference, PadToMinimum, PixelShuffle
from keras_lstsr.models.registry import build_model
from keras_lstsr.models.srcnn import build_srcnn
from keras_lstsr.models.vdsr import build_vdsr
from keras_lstsr.testing.rasters import lst_values

SMALL = {
    "mrunet": {"width": 2, "depth": 2},
    "vdsr": {"width": 3, "depth": 4},
    "dmcn": {"width": 2},
    "srcnn": {"width": 4},
    "edsr": {"width": 3, "depth": 2},
}
NEW = [name for name in SMALL if name != "mrunet"]


def settings(architecture: str, **changes) -> ModelConfig:
    scaling = {"offset_kelvin": 295.0, "scale_kelvin": 9.0}
    return ModelConfig(
        **{"architecture": architecture, **SMALL[architecture], **scaling, **changes}
    )


def answer(model: keras.Model, inputs) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(inputs, training=False))


@pytest.fixture
def numpy_conv(reference_networks):
    def conv(layer: keras.layers.Conv2D, x: np.ndarray, **options) -> np.ndarray:
        weight, *bias = (keras.ops.convert_to_numpy(variable) for variable in layer.weights)
        return reference_networks.conv(x, weight.transpose(3, 2, 0, 1), *bias, **options)

    return conv


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("architecture", list(SMALL))
def test_any_size_from_one_coarse_pixel_on(architecture, padding):
    model = build_model(settings(architecture, padding=padding))
    for size in [(1, 1), (1, 3), (5, 2), (17, 9)]:
        fine = answer(model, {"lst_kelvin": lst_values(1, *size, 1)})
        assert fine.shape == (1, 4 * size[0], 4 * size[1], 1)
        assert np.isfinite(fine).all()


@pytest.mark.parametrize("architecture", NEW)
@pytest.mark.parametrize("factor", [2, 3, 5])
def test_any_scale_factor(architecture, factor):
    model = build_model(settings(architecture, scale_factor=factor))
    assert answer(model, {"lst_kelvin": lst_values(1, 3, 5, 1)}).shape == (
        1,
        3 * factor,
        5 * factor,
        1,
    )


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("architecture", NEW)
def test_an_untrained_model_with_zero_residual_is_bicubic(architecture, policy, padding):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build_model(settings(architecture, padding=padding, zero_initial_residual=True))
    finally:
        keras.config.set_dtype_policy(previous)
    core = model.get_layer(architecture)
    convolutions = [la for la in core.layers if isinstance(la, keras.layers.Conv2D)]
    assert {la.compute_dtype for la in convolutions[:-1]} == {policy.removeprefix("mixed_")}
    assert convolutions[-1].compute_dtype == "float32"
    coarse = lst_values(1, 5, 6, 1)
    fine = answer(model, {"lst_kelvin": coarse})
    expected = upsample_bicubic(coarse[..., 0].astype(np.float64), 4)[..., None]
    assert fine.dtype == np.float32
    np.testing.assert_allclose(fine, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", NEW)
def test_gaps_stay_gaps_and_spoil_nothing_else(architecture):
    coarse = lst_values(1, 6, 7, 1)
    coarse[0, 3:5, 2, 0] = np.nan
    fine = answer(build_model(settings(architecture)), {"lst_kelvin": coarse})
    gaps = np.kron(np.isnan(coarse[0, :, :, 0]), np.ones((4, 4), bool))
    np.testing.assert_array_equal(np.isnan(fine[0, :, :, 0]), gaps)


@pytest.mark.parametrize(
    ("architecture", "changes"), [("vdsr", {}), ("srcnn", {}), ("mrunet", {"variant": "maxpool"})]
)
def test_reflection_keeps_a_constant_field_constant_and_zeros_do_not(architecture, changes):
    coarse = np.full((1, 9, 8, 1), 300, np.float32)
    spread = {}
    for padding in ("zero", "reflect"):
        keras.utils.set_random_seed(1)
        model = build_model(settings(architecture, padding=padding, **changes))
        spread[padding] = np.ptp(answer(model, {"lst_kelvin": coarse}))
    assert spread["zero"] > 0.01
    assert spread["reflect"] < 2e-4


def test_all_networks_answer_alike_in_a_fresh_process(tmp_path):
    coarse = lst_values(1, 5, 3, 1)
    coarse[0, 1, 1] = np.nan
    expected = {}
    for architecture in NEW:
        model = build_model(settings(architecture, padding="reflect"))
        model.save(tmp_path / f"{architecture}.keras")
        expected[architecture] = answer(model, {"lst_kelvin": coarse})
    np.save(tmp_path / "coarse.npy", coarse)
    program = (
        "import numpy as np, keras, keras_lstsr.models\n"
        "coarse = np.load('coarse.npy')\n"
        f"for name in {NEW}:\n"
        "    model = keras.saving.load_model(name + '.keras')\n"
        "    np.save(name, model({'lst_kelvin': coarse}, training=False))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=300)
    for architecture in NEW:
        found = np.load(tmp_path / f"{architecture}.npy")
        np.testing.assert_allclose(found, expected[architecture], rtol=0, atol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel is TensorFlow's")
@pytest.mark.parametrize("architecture", NEW)
def test_an_exported_model_takes_any_size(architecture, tmp_path):
    import tensorflow as tf

    from keras_lstsr.artifacts.contract import Contract
    from keras_lstsr.artifacts.export import export_saved_model

    model = build_model(settings(architecture))
    version = export_saved_model(model, tmp_path, provenance={})
    assert Contract.read(version).minimum_size_pixels == 1
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    for size in [(1, 1), (2, 7), (9, 5)]:
        coarse = lst_values(1, *size, 1)
        fine = serve(lst_kelvin=tf.constant(coarse))["lst_kelvin_fine"].numpy()
        expected = answer(model, {"lst_kelvin": coarse})
        np.testing.assert_allclose(fine, expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (build_srcnn, (81 + 1) * 64 + (64 + 1) * 32 + (32 * 25 + 1)),
        # The paper's 1,517,571 less two of three channels at either end.
        (build_edsr, 1_517_571 - 2 * 9 * 64 - 2 * (9 * 64 + 1)),
    ],
)
def test_yardsticks_have_the_published_parameters(build, parameters):
    assert build().count_params() == parameters


def test_srcnn_is_three_convolutions_and_the_input(numpy_conv):
    model = build_srcnn(width=6)
    field = np.random.default_rng(0).normal(size=(11, 9)).astype(np.float32)
    x = field[None].astype(np.float64)
    for name, size in (("extract_conv", 9), ("map_conv", 1)):
        assert model.get_layer(name).kernel.shape[:2] == (size, size)
        x = np.maximum(numpy_conv(model.get_layer(name), x), 0)
    expected = numpy_conv(model.get_layer("reconstruct_conv"), x)[0] + field
    found = answer(model, field[None, :, :, None])[0, :, :, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("factor", "padding"), [(4, "zero"), (6, "reflect")])
def test_edsr_is_residual_blocks_and_pixel_shuffle(factor, padding, numpy_conv, reference_networks):
    model = build_edsr(width=3, depth=2, scale_factor=factor, padding=padding)
    mode = {"zero": "constant", "reflect": "reflect"}[padding]

    def numpy_layer(name: str, x: np.ndarray) -> np.ndarray:
        return numpy_conv(model.get_layer(name), x, mode=mode)

    field = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    head = x = numpy_layer("head_conv", field[None].astype(np.float64))
    for block in ("block1", "block2"):
        y = np.maximum(numpy_layer(f"{block}_conv1", x), 0)
        x = numpy_layer(f"{block}_conv2", y) + x
    x = numpy_layer("body_conv", x) + head
    for stage, step in enumerate(shuffle_stages(factor), start=1):
        x = reference_networks.pixel_shuffle(numpy_layer(f"up{stage}_conv", x), step)
    expected = numpy_layer("output_conv", x)[0]
    found = answer(model, field[None, :, :, None])[0, :, :, 0]
    assert found.shape == (5 * factor, 7 * factor)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_shuffle_stages_are_prime_factors():
    assert [shuffle_stages(n) for n in (2, 3, 4, 6, 8)] == [[2], [3], [2, 2], [2, 3], [2, 2, 2]]


def test_edsr_adds_its_residual_to_upsampled_kelvin():
    model = build_model(settings("edsr"))
    coarse = lst_values(1, 3, 4, 1)
    residual = answer(model.get_layer("edsr"), (coarse - 295) / 9)
    upsampled = upsample_bicubic(coarse[..., 0].astype(np.float64), 4)[..., None]
    fine = answer(model, {"lst_kelvin": coarse})
    np.testing.assert_allclose(fine, upsampled + 9 * residual, rtol=0, atol=2e-4)


@pytest.mark.parametrize("size", [(1, 4), (2, 1)])
def test_padding_of_a_coarse_network_is_cropped_where_it_was_put(size):
    """The output of the mirrored scene, at the scene's place in it."""
    model = build_model(settings("edsr", padding="reflect"))
    coarse = lst_values(1, *size, 1)
    pads = [(0, max(2 - side, 0)) for side in size]
    mirrored = np.pad(coarse, [(0, 0), *pads, (0, 0)], mode="symmetric")
    whole = answer(model, {"lst_kelvin": mirrored})
    # The network is the same; only the upsampling of the mirrored pixels differs, beyond the edge.
    residual = whole - upsample_bicubic(mirrored[..., 0].astype(np.float64), 4)[..., None]
    expected = upsample_bicubic(coarse[..., 0].astype(np.float64), 4)[..., None]
    expected = expected + residual[:, : 4 * size[0], : 4 * size[1]]
    fine = answer(model, {"lst_kelvin": coarse})
    np.testing.assert_allclose(fine, expected, rtol=0, atol=5e-4)


def test_dmcn_takes_other_sizes_mirrored_to_multiples_of_four():
    model = build_model(settings("dmcn", scale_factor=3, upsampling="bilinear"))
    coarse = lst_values(1, 3, 2, 1)  # 9 × 6 fine pixels, mirrored to 12 × 8
    fine = answer(model, {"lst_kelvin": coarse})
    field = answer(keras.Model(model.inputs[0], model.get_layer("normalise").output), coarse)
    padded = np.pad(field, [(0, 0), (1, 2), (1, 1), (0, 0)], mode="symmetric")
    refined = answer(model.get_layer("dmcn"), padded)[:, 1:10, 1:7]
    np.testing.assert_allclose(fine, refined * 9 + 295, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("minimum", "multiple", "length", "padded"),
    [(1, 1, 7, 7), (4, 4, 1, 4), (4, 4, 8, 8), (4, 4, 9, 12), (8, 4, 3, 8), (8, 4, 10, 12)],
)
def test_pad_to_minimum_rounds_up_to_the_multiple(minimum, multiple, length, padded):
    layer = PadToMinimum(minimum, multiple)
    values = np.arange(length, dtype=np.float32).reshape(1, length, 1, 1)
    before = (padded - length) // 2
    expected = np.pad(
        values, [(0, 0), (before, padded - length - before), (0, 0), (0, 0)], mode="symmetric"
    )
    found = keras.ops.convert_to_numpy(layer(values))
    np.testing.assert_array_equal(found[:, :, :1], expected)
    assert layer.compute_output_shape((None, length, None, 2)) == (None, padded, None, 2)
    assert PadToMinimum.from_config(layer.get_config()).multiple == multiple


def test_crop_takes_whole_coarse_pixels():
    values = np.arange(12, dtype=np.float32).reshape(1, 12, 1, 1)
    reference = np.zeros((1, 8, 1, 1), np.float32)
    fine = keras.ops.convert_to_numpy(CropToReference(4)([values, reference]))
    np.testing.assert_array_equal(fine.ravel(), np.arange(8))  # one coarse pixel, after
    fine = keras.ops.convert_to_numpy(CropToReference(2)([values, reference]))
    np.testing.assert_array_equal(fine.ravel(), np.arange(2, 10))  # two, one on either side


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle_has_pytorch_s_channel_order(factor, reference_networks):
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5 * factor**2)).astype(np.float32)
    layer = PixelShuffle(factor)
    fine = keras.ops.convert_to_numpy(layer(values))
    for image, shuffled in zip(values, fine, strict=True):
        expected = reference_networks.pixel_shuffle(image.transpose(2, 0, 1), factor)
        np.testing.assert_array_equal(shuffled.transpose(1, 2, 0).transpose(1, 2, 0), expected)
    shape = (None, None, 4, 5 * factor**2)
    assert layer.compute_output_shape(shape) == (None, None, 4 * factor, 5)
    assert PixelShuffle.from_config(layer.get_config()).factor == factor


def test_pixel_shuffle_refuses_other_channel_counts():
    with pytest.raises(ValueError, match="6 channels"):
        PixelShuffle(2).compute_output_shape((1, 4, 4, 6))


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_pads_both_sides_alike(stride, padding, numpy_conv):
    field = keras.Input((None, None, 2))
    model = keras.Model(field, convolution(field, 3, 3, "c", stride=stride, padding=padding))
    image = np.random.default_rng(0).normal(size=(2, 8, 7)).astype(np.float32)
    mode = {"zero": "constant", "reflect": "reflect"}[padding]
    expected = numpy_conv(model.get_layer("c"), image, stride=stride, mode=mode)
    found = answer(model, image.transpose(1, 2, 0)[None])[0].transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_dmcn_shares_one_slope_in_its_head():
    model = build_dmcn(width=2)
    slopes = [la for la in model.layers if isinstance(la, keras.layers.PReLU)]
    assert all(la.alpha.shape == (1, 1, 1) for la in slopes)
    assert all(float(keras.ops.squeeze(la.alpha)) == 0.25 for la in slopes)
    # Five in the head share one; 7 units down, 2 doublings and 7 units up have their own.
    assert len(slopes) == 1 + 7 + 2 + 7
    assert len(model.get_layer("head_prelu")._inbound_nodes) == 5


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone does that")
def test_batch_norm_is_synchronised_where_asked():
    norms = [
        la
        for la in build_dmcn(width=2, synchronised_batch_norm=True).layers
        if isinstance(la, keras.layers.BatchNormalization)
    ]
    assert len(norms) == 4 + 7 + 7
    assert {(la.momentum, la.epsilon, la.synchronized) for la in norms} == {(0.9, 1e-5, True)}


def test_vdsr_starts_he_normal_without_bias():
    keras.utils.set_random_seed(0)
    layer = build_vdsr(width=32, depth=4).get_layer("residual1_conv")
    assert not layer.use_bias
    deviation = keras.ops.convert_to_numpy(layer.kernel).std()
    assert deviation == pytest.approx(np.sqrt(2 / (9 * 32)), rel=0.03)


@pytest.mark.parametrize("architecture", NEW)
def test_a_step_trains_every_weight(architecture):
    model = build_model(settings(architecture))
    keras.utils.set_random_seed(0)
    before = [w.copy() for w in model.get_weights()]
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=False)
    target = np.random.default_rng(1).normal(295, 8, (1, 32, 32, 1)).astype(np.float32)
    model.train_on_batch({"lst_kelvin": lst_values(1, 8, 8, 1)}, target)
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    moved = [v.path for v, a, b in zip(model.weights, before, after, strict=True) if (a != b).any()]
    # BatchNorm takes the mean away, and with it the bias before it.
    inert = re.compile(r".*_unit\d_conv1?/bias")
    assert {v.path for v in model.weights if not inert.fullmatch(v.path)} <= set(moved)
