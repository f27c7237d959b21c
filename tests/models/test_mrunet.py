from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.config import NETWORKS, ModelConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.models.mrunet import build_mrunet


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.mark.parametrize(
    ("variant", "parameters"), [("strided", 45_049_601), ("maxpool", 21_987_905)]
)
def test_full_width_has_the_published_parameters(variant, parameters):
    assert trainable(build_mrunet(variant)) == parameters


@pytest.mark.parametrize("variant", ["strided", "maxpool"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (70, 66)])
def test_sizes_that_are_no_multiple_of_the_halvings(variant, size):
    model = build_mrunet(variant, width=2)
    assert NETWORKS["mrunet"].smallest_side(ModelConfig(variant=variant)) == 32
    refined = model(np.random.default_rng(0).normal(size=(1, *size, 1)).astype(np.float32))
    assert refined.shape == (1, *size, 1)
    assert np.isfinite(refined).all()


@pytest.mark.parametrize("variant", ["strided", "maxpool"])
def test_channels_follow_width_depth_and_bridge(variant):
    model = build_mrunet(variant, width=8, depth=3, bridge_blocks=2)
    bottleneck = 64 if variant == "strided" else 32
    assert model.get_layer("down3_out_conv" if variant == "strided" else "down3_conv2").filters == (
        bottleneck
    )
    assert model.get_layer("bridge2_conv2").filters == bottleneck
    assert model.get_layer("up3_conv2").filters == 8
    assert {layer.name for layer in model.layers}.isdisjoint({"down4_conv1", "bridge3_conv1"})


def test_batch_norm_is_pytorchs():
    norm = build_mrunet(width=2, depth=1).get_layer("inc_norm1")
    assert (norm.momentum, norm.epsilon, norm.synchronized) == (0.9, 1e-5, False)


def test_initial_weights_and_biases_fill_pytorchs_range():
    keras.utils.set_random_seed(0)
    model = build_mrunet(width=32, depth=2)
    fan_ins = {"inc_conv2": 32 * 9, "down1_in_conv": 32 * 4, "up2_up": 32 * 4}
    for name, fan_in in fan_ins.items():
        layer, bound = model.get_layer(name), 1 / np.sqrt(fan_in)
        kernel, bias = (keras.ops.convert_to_numpy(v) for v in (layer.kernel, layer.bias))
        for values in (kernel, bias):
            assert 0.85 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
        # Uniform: its standard deviation is the bound over the root of 3.
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.03)


def test_zero_initial_residual_returns_the_input():
    field = np.random.default_rng(1).normal(size=(1, 32, 32, 1)).astype(np.float32)
    np.testing.assert_array_equal(build_mrunet(width=2, zero_initial_residual=True)(field), field)
    assert np.abs(build_mrunet(width=2)(field) - field).max() > 1e-3


def test_unknown_variant_is_named():
    with pytest.raises(ConfigError, match=r"model\.variant.*'attention'"):
        build_mrunet("attention")
