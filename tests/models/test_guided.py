"""The guided model: its first guess in closed form, gaps, sizes, tiles and its file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_lstsr.config import GuidedModelConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import block_mean, upsample_bicubic, upsample_bilinear
from keras_lstsr.models.guidance import (
    BlockMean,
    CoarseWeight,
    LocalRegression,
    WindowMean,
)
from keras_lstsr.models.guided import StandardDeviation, build_guided

SMALL = GuidedModelConfig(width=4)


@pytest.fixture(scope="module")
def untrained():
    return build_guided(SMALL)


@pytest.fixture(scope="module")
def trained():
    """Weights are random, the last layers' too: every path takes part."""
    model = build_guided(SMALL)
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.normal(0, 0.05, w.shape) for w in model.get_weights()])
    return model


def ndvi_field(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 0.9, (height, width)).astype("float32")


def day_scene(height, width, seed=0):
    """LST of coarse pixels that follows NDVI as by day, with noise, and NDVI."""
    ndvi = ndvi_field(4 * height, 4 * width, seed)
    noise = np.random.default_rng(seed + 100).normal(0, 0.7, (height, width))
    return (300 - 30 * (block_mean(ndvi, 4) - 0.5) + noise).astype("float32"), ndvi


def predict(model, lst, ndvi):
    result = model({"lst_kelvin": lst[None, ..., None], "ndvi": ndvi[None, ..., None]})
    return {name: ops.convert_to_numpy(value)[0, ..., 0] for name, value in result.items()}


def test_untrained_model_recovers_lst_that_is_linear_in_ndvi(untrained):
    ndvi = ndvi_field(96, 80)
    lst = (310 - 20 * block_mean(ndvi, 4)).astype("float32")
    fine = predict(untrained, lst, ndvi)["lst_kelvin_fine"]
    # The slope is drawn a little to zero where the guide's variance is small.
    truth = 310 - 20 * ndvi
    inner = np.s_[16:-16, 16:-16]
    np.testing.assert_allclose(fine[inner], truth[inner], atol=0.4)
    bicubic = upsample_bicubic(lst, 4)
    assert np.std((fine - truth)[inner]) < 0.05 * np.std((bicubic - truth)[inner])


def test_without_ndvi_the_first_guess_is_bicubic(untrained):
    rng = np.random.default_rng(2)
    lst = rng.normal(300, 4, (12, 9)).astype("float32")
    result = predict(untrained, lst, np.full((48, 36), np.nan, "float32"))
    np.testing.assert_allclose(result["lst_kelvin_fine"], upsample_bicubic(lst, 4), atol=1e-3)


def test_constant_ndvi_gives_bicubic_too(untrained):
    rng = np.random.default_rng(2)
    lst = rng.normal(300, 4, (12, 9)).astype("float32")
    result = predict(untrained, lst, np.full((48, 36), 0.4, "float32"))
    np.testing.assert_allclose(result["lst_kelvin_fine"], upsample_bicubic(lst, 4), atol=1e-3)


def test_only_fine_pixels_of_missing_lst_are_missing(trained):
    ndvi, lst = ndvi_field(64, 64), np.full((16, 16), 300, "float32")
    lst[3:5, 7] = np.nan
    ndvi[20:30, 40:44] = np.nan
    missing = np.repeat(np.repeat(np.isnan(lst), 4, 0), 4, 1)
    for values in predict(trained, lst, ndvi).values():
        np.testing.assert_array_equal(np.isnan(values), missing)


def test_empty_images_pass(trained):
    lst, ndvi = np.full((6, 6), np.nan, "float32"), np.full((24, 24), np.nan, "float32")
    assert np.isnan(predict(trained, lst, ndvi)["lst_kelvin_fine"]).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (3, 2), (7, 16)])
def test_any_size_from_one_pixel_on(trained, height, width):
    ndvi = ndvi_field(4 * height, 4 * width)
    lst = np.full((height, width), 300, "float32")
    result = predict(trained, lst, ndvi)
    for values in result.values():
        assert values.shape == (4 * height, 4 * width)
        assert np.isfinite(values).all()
    assert (result["lst_std_kelvin"] > 0).all()


def test_kelvin_in_kelvin_out(trained):
    """A scene that is 5 K warmer as a whole comes out about 5 K warmer."""
    lst, ndvi = day_scene(16, 16, seed=3)
    cool = predict(trained, lst, ndvi)["lst_kelvin_fine"]
    warm = predict(trained, lst + 5, ndvi)["lst_kelvin_fine"]
    assert np.abs(warm - cool - 5).max() < 1.0
    assert abs(np.mean(warm - cool) - 5) < 0.3


def test_a_tile_gives_what_the_scene_gives_away_from_its_border(trained):
    lst, ndvi = day_scene(80, 24, seed=4)
    whole = predict(trained, lst, ndvi)["lst_kelvin_fine"]
    tile = predict(trained, lst[:56], ndvi[: 4 * 56])["lst_kelvin_fine"]
    # 12 coarse pixels of the wide window, 11 of the network's receptive field, 2 of bicubic.
    inner = 4 * (56 - 26)
    np.testing.assert_allclose(tile[:inner], whole[:inner], atol=2e-3)
    assert np.abs(tile[inner:] - whole[inner : 4 * 56]).max() > 2e-3


def test_uncertainty_sends_no_gradient_into_the_correction():
    model = build_guided(SMALL)
    network = model.get_layer("guided")
    if keras.config.backend() != "tensorflow":
        pytest.skip("gradients by name are taken with TensorFlow")
    import tensorflow as tf

    features = tf.random.stateless_normal([1, 16, 16, 11], [1, 2])
    with tf.GradientTape() as tape:
        spread = tf.reduce_sum(network(features)[1])
    gradients = tape.gradient(spread, network.trainable_variables)
    touched = {
        variable.path.split("/")[-2]
        for variable, gradient in zip(network.trainable_variables, gradients, strict=True)
        if gradient is not None
    }
    assert touched == {"spread_hidden_conv", "spread"}


def test_calibration_multiplies_the_uncertainty():
    one, two = (StandardDeviation(calibration=c)(np.zeros((1, 1, 1, 1), "float32")) for c in (1, 2))
    assert float(one[0, 0, 0, 0]) == pytest.approx(1.05)
    assert float(two[0, 0, 0, 0]) == pytest.approx(2.1)


def test_the_file_gives_the_same_model(trained, tmp_path):
    trained.save(tmp_path / "guided.keras")
    loaded = keras.models.load_model(tmp_path / "guided.keras", compile=False)
    lst, ndvi = np.full((8, 8), 300, "float32"), ndvi_field(32, 32)
    for name, values in predict(trained, lst, ndvi).items():
        np.testing.assert_allclose(predict(loaded, lst, ndvi)[name], values, atol=1e-5)


def test_shipped_size_stays_below_eight_megabytes():
    assert 4 * build_guided(GuidedModelConfig()).count_params() < 8e6


def test_local_regression_against_least_squares():
    rng = np.random.default_rng(5)
    lst, guide = rng.normal(300, 3, (20, 20)), rng.uniform(0, 1, (20, 20))
    weight = (rng.uniform(size=(20, 20)) > 0.3).astype(float)
    layer = LocalRegression(narrow_window_pixels=5, wide_window_pixels=9, slope_prior=0.0)
    tensors = [v.astype("float32")[None, ..., None] for v in (lst, guide, weight)]
    result = ops.convert_to_numpy(layer(tensors))[0]
    for row, column in ((0, 0), (7, 11), (19, 4)):
        for window, slope, mean in ((5, 0, 2), (9, 4, 3)):
            half = window // 2
            part = np.s_[
                max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1
            ]
            there = weight[part] > 0
            t, g = lst[part][there], guide[part][there]
            assert result[row, column, mean] == pytest.approx(t.mean(), abs=1e-3)
            fitted = np.polyfit(g, t, 1)[0]
            assert result[row, column, slope] == pytest.approx(fitted, rel=5e-3, abs=0.02)
    spread = lst[0:5, 0:5][weight[0:5, 0:5] > 0].std()
    assert result[0, 0, 5] == pytest.approx(spread, rel=1e-3)


def test_slope_prior_draws_to_the_wide_slope():
    rng = np.random.default_rng(6)
    guide = rng.uniform(0, 1, (30, 30))
    lst = 300 - 10 * guide + rng.normal(0, 2, guide.shape)
    tensors = [v.astype("float32")[None, ..., None] for v in (lst, guide, np.ones_like(guide))]
    distance = []
    for prior in (0.0, 1.0, 1e6):
        result = ops.convert_to_numpy(LocalRegression(5, 25, prior)(tensors))[0]
        distance.append(np.abs(result[..., 0] - result[..., 4]).mean())
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 1e-3


def test_weights_leave_out_what_is_missing_in_either():
    lst, ndvi = np.full((4, 4), 300, "float32"), np.zeros((16, 16), "float32")
    lst[1, 2], ndvi[15, 0] = np.nan, np.nan
    weight = ops.convert_to_numpy(CoarseWeight(4)([lst[None, ..., None], ndvi[None, ..., None]]))
    expected = np.ones((4, 4))
    expected[1, 2] = expected[3, 0] = 0
    np.testing.assert_array_equal(weight[0, ..., 0], expected)


def test_block_mean_is_that_of_grids():
    values = ndvi_field(24, 16)
    mine = ops.convert_to_numpy(BlockMean(4)(values[None, ..., None]))[0, ..., 0]
    np.testing.assert_allclose(mine, block_mean(values, 4), rtol=1e-6)


def test_the_correction_keeps_the_level(trained, untrained):
    """What the network adds has no mean over windows of the size it is told."""
    lst, ndvi = day_scene(32, 32, seed=7)
    added = (
        predict(trained, lst, ndvi)["lst_kelvin_fine"]
        - predict(untrained, lst, ndvi)["lst_kelvin_fine"]
    )
    assert np.abs(added).max() > 0.1
    assert abs(added.mean()) < 0.02 * np.abs(added).max()


def test_window_means_against_brute_force():
    values = ndvi_field(9, 7, seed=8)
    result = ops.convert_to_numpy(WindowMean(5)(values[None, ..., None]))[0, ..., 0]
    for row, column in ((0, 0), (4, 3), (8, 6), (2, 6)):
        window = values[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        assert result[row, column] == pytest.approx(window.mean(), rel=1e-5)


def test_where_lst_hardly_follows_ndvi_the_result_is_bicubic(trained):
    """By night on simulated scenes a network that knows days alone did harm."""
    rng = np.random.default_rng(9)
    ndvi = ndvi_field(160, 160)
    noise = rng.normal(0, 1.2, (40, 40))
    coarse = block_mean(ndvi, 4)
    added = []
    for slope in (-30.0, -3.0, 0.0):
        lst = (290 + slope * (coarse - 0.5) + noise).astype("float32")
        fine = predict(trained, lst, ndvi)["lst_kelvin_fine"]
        added.append(np.std(fine - upsample_bicubic(lst, 4)))
    assert added[0] > 1.0
    assert added[1] < 0.1 * added[0]
    assert added[2] < 0.02 * added[0]


def test_without_any_ndvi_the_correction_rests_on_lst_alone(trained, untrained):
    lst = np.random.default_rng(10).normal(300, 3, (16, 16)).astype("float32")
    nothing = np.full((64, 64), np.nan, "float32")
    difference = (
        predict(trained, lst, nothing)["lst_kelvin_fine"]
        - predict(untrained, lst, nothing)["lst_kelvin_fine"]
    )
    assert np.std(difference) > 1e-3


def test_how_far_the_guide_is_followed_against_brute_force(untrained):
    """Share explained over 0.3, times slope over 12 K, each at most 1, in windows of 25 pixels."""
    rng = np.random.default_rng(3)
    ndvi = ndvi_field(160, 120, seed=3)
    coarse = block_mean(ndvi, 4).astype(np.float64)
    # From strongly through hardly to not at all, from left to right; and gaps in both.
    lst = 300 - np.linspace(30, 0, 30) * coarse + rng.normal(0, 0.5, coarse.shape)
    lst[3:9, 4:7] = np.nan
    ndvi[40:44, 20:23] = np.nan
    coarse[10, 5] = np.nan
    usable = np.isfinite(lst) & np.isfinite(coarse)
    explained, slope = np.zeros((2, *lst.shape))
    for row, column in np.ndindex(lst.shape):
        window = np.s_[max(row - 12, 0) : row + 13, max(column - 12, 0) : column + 13]
        x, y = coarse[window][usable[window]], lst[window][usable[window]]
        covariance, variance = np.mean(x * y) - x.mean() * y.mean(), x.var() + 1e-4
        slope[row, column] = covariance / variance
        explained[row, column] = covariance**2 / (variance * max(y.var(), 1e-4))
    share, steep = (upsample_bilinear(values, 4) for values in (explained, slope))
    expected = np.minimum(share / 0.3, 1) * np.minimum(np.abs(steep) / 12, 1)
    followed = predict(untrained, lst.astype("float32"), ndvi)["guide_followed"]
    missing = np.repeat(np.repeat(np.isnan(lst), 4, 0), 4, 1)
    np.testing.assert_array_equal(np.isnan(followed), missing)
    np.testing.assert_allclose(followed[~missing], expected[~missing], atol=2e-3)
    assert followed[80, 4] > 0.8 and followed[80, -4] < 0.3


def test_a_guide_that_is_missing_throughout_is_not_followed(trained):
    lst = np.random.default_rng(10).normal(300, 3, (8, 8)).astype("float32")
    nothing = np.full((32, 32), np.nan, "float32")
    assert (predict(trained, lst, nothing)["guide_followed"] == 0).all()


def test_a_guide_of_another_name_is_an_input_of_that_name():
    model = build_guided(GuidedModelConfig(width=4, guides=("water",)))
    assert [tensor.name for tensor in model.inputs] == ["lst_kelvin", "water"]


def test_one_guide_is_what_the_network_takes():
    with pytest.raises(ConfigError, match=r"model\.guides: .*takes one guide; found ndvi, water"):
        build_guided(GuidedModelConfig(width=4, guides=("ndvi", "water")))
