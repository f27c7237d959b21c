from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lstsr.config import NETWORKS, GuidedModelConfig, ModelConfig, Network
from keras_lstsr.config.networks import register_network
from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import upsample_bicubic
from keras_lstsr.models.registry import build_model
from keras_lstsr.testing.rasters import lst_values

VARIANTS = ("strided", "maxpool")


def settings(**changes) -> ModelConfig:
    return ModelConfig(
        **{"width": 2, "depth": 2, "offset_kelvin": 295.0, "scale_kelvin": 9.0, **changes}
    )


def answer(model: keras.Model, lst_kelvin: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model({"lst_kelvin": lst_kelvin}, training=False))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (16, 16), (17, 23)])
def test_any_size_from_one_coarse_pixel_on(variant, size):
    model = build_model(settings(variant=variant, depth=4))
    fine = answer(model, lst_values(1, *size, 1))
    assert fine.shape == (1, 4 * size[0], 4 * size[1], 1)
    assert np.isfinite(fine).all()


def test_names_of_input_and_output():
    model = build_model(settings())
    assert model.inputs[0].name == "lst_kelvin"
    assert model.output_names == ["lst_kelvin_fine"]
    assert model.inputs[0].shape == model.outputs[0].shape == (None, None, None, 1)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_global_skip_keeps_float32_kelvin(variant, policy):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build_model(settings(variant=variant, zero_initial_residual=True))
    finally:
        keras.config.set_dtype_policy(previous)
    coarse = lst_values(1, 9, 11, 1)
    fine = answer(model, coarse)
    assert fine.dtype == np.float32
    expected = upsample_bicubic(coarse[..., 0].astype(np.float64), 4)[..., None]
    np.testing.assert_allclose(fine, expected, rtol=0, atol=2e-4)
    half = policy.removeprefix("mixed_")
    assert (
        model.get_layer("mrunet")
        .get_layer("down1_in_conv" if variant == "strided" else "down1_conv1")
        .compute_dtype
        == half
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_gaps_stay_gaps_and_spoil_nothing_else(variant):
    coarse = lst_values(1, 12, 12, 1)
    coarse[0, 3:5, 7, 0] = np.nan
    fine = answer(build_model(settings(variant=variant)), coarse)
    gaps = np.kron(np.isnan(coarse[0, :, :, 0]), np.ones((4, 4), bool))
    np.testing.assert_array_equal(np.isnan(fine[0, :, :, 0]), gaps)


def test_an_empty_scene_answers_nan():
    assert np.isnan(answer(build_model(settings()), np.full((1, 8, 8, 1), np.nan, "f4"))).all()


@pytest.mark.parametrize("normalisation", ["standard", "max"])
def test_statistics_set_the_scaling(normalisation):
    config = ModelConfig(width=2, depth=1, normalisation=normalisation).with_statistics(
        mean_kelvin=291.0, std_kelvin=7.0, max_kelvin=333.32
    )
    layer = build_model(config).get_layer("normalise")
    expected = (291.0, 7.0) if normalisation == "standard" else (0.0, 333.32)
    assert (layer.offset_kelvin, layer.scale_kelvin) == expected


@pytest.mark.parametrize("field", ["offset_kelvin", "scale_kelvin"])
def test_a_missing_scaling_is_named(field):
    with pytest.raises(ConfigError, match=f"model.{field}"):
        build_model(settings(**{field: None}))


def test_a_step_with_gaps_leaves_finite_weights():
    from keras_lstsr.losses import MaskedMeanSquaredError

    model = build_model(settings())
    coarse = lst_values(1, 8, 8, 1)
    coarse[0, 2, 2] = np.nan
    target = np.repeat(np.repeat(coarse, 4, 1), 4, 2)
    model.compile("sgd", MaskedMeanSquaredError())
    loss = model.train_on_batch({"lst_kelvin": coarse}, target)
    assert np.isfinite(loss)
    assert all(np.isfinite(v).all() for v in model.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_answers_alike_in_a_fresh_process(variant, tmp_path):
    from keras_lstsr.losses import MixedGradientLoss
    from keras_lstsr.metrics.streaming import RootMeanSquareErrorKelvin

    model = build_model(settings(variant=variant))
    loss = MixedGradientLoss.report(edge_crop=3, ndvi_scale_kelvin=-12.5)
    model.compile("adam", loss, metrics=[RootMeanSquareErrorKelvin()])
    coarse = lst_values(1, 9, 10, 1)
    coarse[0, 1, 1] = np.nan
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "coarse.npy", coarse)
    program = (
        "import sys, json, numpy as np, keras\n"
        "import keras_lstsr.losses, keras_lstsr.metrics.streaming, keras_lstsr.models\n"
        "model = keras.saving.load_model('model.keras')\n"
        "np.save('fine.npy', model({'lst_kelvin': np.load('coarse.npy')}, training=False))\n"
        "json.dump(model.loss.get_config(), open('loss.json', 'w'))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=300)
    np.testing.assert_allclose(
        np.load(tmp_path / "fine.npy"), answer(model, coarse), rtol=0, atol=1e-4
    )
    import json

    assert json.loads((tmp_path / "loss.json").read_text()) == loss.get_config()


def test_the_guided_network_is_built_from_its_settings():
    model = build_model(GuidedModelConfig(width=2))
    assert {each.name for each in model.inputs} == {"lst_kelvin", "ndvi"}


def test_a_registered_network_is_known_by_name(monkeypatch):
    monkeypatch.setitem(NETWORKS, "own", NETWORKS["vdsr"])

    def build(width: int, depth: int, kernel_pixels: int = 3) -> keras.Model:
        x = field = keras.Input((None, None, 1))
        for _ in range(depth):
            x = keras.layers.Conv2D(width, kernel_pixels, padding="same", activation="relu")(x)
        x = keras.layers.Conv2D(1, 3, padding="same", kernel_initializer="zeros")(x)
        return keras.Model(field, keras.layers.Add()([field, x]))

    own = Network(build, {"depth": 3}, depths=(1, 5))
    register_network("own", own, replace=True)
    scaling = {"offset_kelvin": 295.0, "scale_kelvin": 9.0}
    config = ModelConfig(architecture="own", width=2, options={"kernel_pixels": 1}, **scaling)
    assert config.shape == {"width": 2, "depth": 3, "kernel_pixels": 1}
    coarse = lst_values(1, 5, 3, 1)
    # Untrained it is its upsampling.
    bicubic = upsample_bicubic(coarse[..., 0], 4)
    model = build_model(config)
    np.testing.assert_allclose(answer(model, coarse)[..., 0], bicubic, atol=1e-3)
    assert model.get_layer("own").layers[1].kernel.shape == (1, 1, 1, 2)
    with pytest.raises(ConfigError, match=r"model\.architecture.*guided"):
        register_network("guided", own)
    for option in ("kernel", "width", "name"):
        wrong = ModelConfig(architecture="own", options={option: 1}, **scaling)
        with pytest.raises(ConfigError, match=rf"options\.{option}.*no such.*kernel_pixels"):
            build_model(wrong)
