from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import PerceptualLoss
from keras_lstsr.losses.perceptual import layer_stride, vgg19_features

LAYERS = ["block1_conv2", "block2_conv1"]


@functools.cache
def made(dtype: str = "float64") -> PerceptualLoss:
    return PerceptualLoss(weights=None, layers=LAYERS, dtype=dtype)


def perceptual(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    tensors = (keras.ops.convert_to_tensor(each, "float64") for each in (y_true, y_pred))
    return keras.ops.convert_to_numpy(made().perceptual_error(*tensors))


def fields(seed: int = 0, side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(300, 3, (2, side, side, 1))
    return truth, truth + rng.normal(0, 1, truth.shape)


def test_zero_for_a_perfect_prediction_and_one_for_dead_features():
    truth, other = fields()
    np.testing.assert_array_equal(perceptual(truth, truth), 0)
    assert perceptual(truth, other).min() > 0.01
    np.testing.assert_array_equal(made()(truth, truth), 0)


def test_grows_with_the_error():
    truth, other = fields(1)
    sizes = [perceptual(truth, truth + k * (other - truth)) for k in (0.25, 0.5, 1.0)]
    assert np.all(np.diff(sizes, axis=0) > 0)


def test_weight_and_mse_add_up():
    truth, other = fields(2)
    loss = PerceptualLoss(0.3, weights=None, layers=LAYERS, scale_kelvin=2.0, dtype="float64")
    mse = np.mean((other - truth) ** 2, axis=(1, 2, 3)) / 4
    expected = np.mean(mse + 0.3 * perceptual(truth, other))
    assert float(loss(truth, other)) == pytest.approx(expected, rel=1e-9)


def test_constants_and_factors_of_both_change_nothing():
    truth, other = fields(3)
    base = perceptual(truth, other)
    np.testing.assert_allclose(perceptual(truth + 11, other + 11), base, rtol=1e-9)
    np.testing.assert_allclose(perceptual(2 * truth, 2 * other), base, rtol=1e-9)


def test_a_flat_target_is_not_blown_up():
    rng = np.random.default_rng(4)
    truth = 300 + rng.uniform(0, 1e-3, (1, 24, 24, 1))
    other = truth + rng.uniform(0, 1e-3, truth.shape)
    assert perceptual(truth, other)[0] < 1e-4
    same = np.full(truth.shape, 300.0)
    assert perceptual(same, same)[0] == 0


def test_gaps_carry_no_difference():
    truth, _ = fields(5)
    holed, prediction = truth.copy(), truth.copy()
    holed[0, 3:9, 5:20] = np.nan
    prediction[1, 12:15, 2:4] = np.nan
    np.testing.assert_array_equal(perceptual(holed, prediction), 0)


def test_a_half_masked_sample_weighs_its_other_half_alone():
    truth, other = fields(6, side=32)
    holed, untouched = truth.copy(), other.copy()
    holed[:, 16:] = np.nan
    untouched[:, 16:] = 1e4
    np.testing.assert_array_equal(perceptual(holed, other), perceptual(holed, untouched))
    # Of the size that the upper half alone has: gaps do not dilute the error.
    np.testing.assert_allclose(
        perceptual(holed, other), perceptual(truth[:, :16], other[:, :16]), rtol=0.3
    )


def test_sides_that_the_pooling_cuts():
    truth, other = fields(7, side=21)
    assert np.isfinite(perceptual(truth, other)).all()


class TestWeights:
    def test_random_ones_are_the_same_everywhere(self):
        truth, other = fields(8)
        keras.utils.set_random_seed(99)
        again = PerceptualLoss(weights=None, layers=",".join(LAYERS), dtype="float64")
        assert again.layers == tuple(LAYERS)
        assert float(again(truth, other)) == float(made()(truth, other))

    def test_from_a_path_that_the_settings_keep(self, tmp_path):
        path = str(tmp_path / "vgg19.weights.h5")
        keras.utils.set_random_seed(1)
        vgg = keras.applications.VGG19(include_top=False, weights=None)
        vgg.save_weights(path)
        loss = PerceptualLoss(weights=path, layers=LAYERS)
        kernel = vgg.get_layer("block2_conv1").kernel
        loaded = loss._features.get_layer("block2_conv1").kernel
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(loaded), keras.ops.convert_to_numpy(kernel)
        )
        assert loss.get_config()["weights"] == path
        again = PerceptualLoss.from_config(loss.get_config())
        truth, other = fields(9)
        assert float(again(truth, other)) == float(loss(truth, other))
        assert float(loss(truth, other)) != pytest.approx(float(made("float32")(truth, other)))

    @pytest.mark.filterwarnings("ignore:Skipping nested container")
    def test_a_file_of_something_else(self, tmp_path):
        path = tmp_path / "other.weights.h5"
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
        with pytest.raises(ConfigError, match=r"other\.weights\.h5: loss\.options\.weights"):
            PerceptualLoss(weights=str(path))
        with pytest.raises(ConfigError, match=r"weights.*found 3"):
            PerceptualLoss(weights=3)

    def test_without_the_network_imagenet_names_the_way_out(self, monkeypatch):
        def offline(*args, **kwargs):
            raise OSError("URL fetch failure")

        monkeypatch.setattr(keras.applications, "VGG19", offline)
        with pytest.raises(ConfigError, match=r"loss\.options\.weights.*URL fetch.*downloaded"):
            PerceptualLoss()

    def test_frozen_in_the_losses_precision_whatever_the_policy(self):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            features = vgg19_features(["block1_conv1"], None, "float32")
            assert keras.config.dtype_policy().name == "mixed_bfloat16"
        finally:
            keras.config.set_dtype_policy("float32")
        assert features.trainable_weights == []
        assert {layer.compute_dtype for layer in features.layers} == {"float32"}


@pytest.mark.parametrize(
    ("name", "stride"), [("block1_conv2", 1), ("block3_conv4", 4), ("block5_conv1", 16)]
)
def test_stride_is_that_of_the_network(name, stride):
    assert layer_stride(name) == stride
    features = vgg19_features([name], None, "float32")
    maps = features(np.zeros((1, 35, 64, 3), "float32"))
    maps = maps[0] if isinstance(maps, list) else maps
    assert tuple(maps.shape[1:3]) == (35 // stride, 64 // stride)
