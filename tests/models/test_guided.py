"""The guided model: its first guess in closed form, gaps, sizes, tiles and its file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_lstsr.config import GuidedModelConfig
from keras_lstsr.grids.resample import block_mean, upsample_bicubic, upsample_bilinear
from keras_lstsr.models.guidance import (
    BlockMean,
    CoverWeight,
    DetailAgreement,
    LandAlone,
    LocalRegression,
    LocalSpread,
    WindowMean,
)
from keras_lstsr.models.guided import StandardDeviation, build_guided
from keras_lstsr.models.guided_1 import CoarseWeight

SMALL = GuidedModelConfig(width=4)
ALL = ("ndvi", "water", "reference")


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
    # 14 coarse pixels of the windows, 11 of the network's receptive field, 2 of bicubic.
    inner = 4 * (56 - 28)
    np.testing.assert_allclose(tile[:inner], whole[:inner], atol=2e-3)
    assert np.abs(tile[inner:] - whole[inner : 4 * 56]).max() > 2e-3


def test_uncertainty_sends_no_gradient_into_the_correction():
    model = build_guided(SMALL)
    network = model.get_layer("guided")
    if keras.config.backend() != "tensorflow":
        pytest.skip("gradients by name are taken with TensorFlow")
    import tensorflow as tf

    features = tf.random.stateless_normal([1, 16, 16, network.input_shape[-1]], [1, 2])
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
    assert 4 * build_guided(GuidedModelConfig(guides=ALL)).count_params() < 8e6


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


def test_where_lst_hardly_follows_ndvi_the_first_guess_is_bicubic(untrained):
    rng = np.random.default_rng(9)
    ndvi = ndvi_field(160, 160)
    noise = rng.normal(0, 1.2, (40, 40))
    coarse = block_mean(ndvi, 4)
    added = []
    for slope in (-30.0, -3.0, 0.0):
        lst = (290 + slope * (coarse - 0.5) + noise).astype("float32")
        fine = predict(untrained, lst, ndvi)["lst_kelvin_fine"]
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


def agreement_by_hand(lst, guide, weight, narrow=5, wide=25, least=0.01):
    """Slope and correlation of differences from narrow means in wide windows, pixel by pixel."""

    def window(row, column, side):
        half = side // 2
        return np.s_[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]

    def mean(values, row, column, side):
        part = window(row, column, side)
        total = weight[part].sum()
        return (weight[part] * values[part]).sum() / total if total > 0 else 0.0

    places = list(np.ndindex(lst.shape))
    x, y = (
        values - np.reshape([mean(values, *place, narrow) for place in places], lst.shape)
        for values in (guide, lst - lst.mean())
    )
    slope, correlation = np.zeros((2, *lst.shape))
    for place in places:
        xy, xx, yy = (mean(values, *place, wide) for values in (x * y, x**2, y**2))
        slope[place] = xy / (xx + least**2)
        correlation[place] = xy / np.sqrt((xx + least**2) * max(yy, 1e-4))
    return slope, correlation


def test_agreement_of_detail_against_brute_force():
    rng = np.random.default_rng(11)
    guide = rng.uniform(0, 1, (21, 17))
    # The levels say the opposite of the differences between neighbours.
    lst = 300 + 2 * np.arange(21)[:, None] - 8 * guide + rng.normal(0, 0.5, guide.shape)
    weight = np.clip(rng.uniform(-0.3, 1.2, guide.shape), 0, 1)
    tensors = [v.astype("float32")[None, ..., None] for v in (lst, guide, weight)]
    result = ops.convert_to_numpy(DetailAgreement(5, 9, 0.01)(tensors))[0]
    slope, correlation = agreement_by_hand(lst, guide, weight, 5, 9)
    np.testing.assert_allclose(result[..., 0], slope, atol=5e-3)
    np.testing.assert_allclose(result[..., 1], correlation, atol=1e-3)
    assert np.median(slope) == pytest.approx(-8, abs=1.0)


def test_how_far_the_guide_is_followed_against_brute_force(untrained):
    """Share explained over 0.3, slope over 12 K, agreement over two thirds, each at most 1."""
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
    # What is filled in has no weight but is there for the pixel itself.
    own, _ = agreement_by_hand(
        np.where(usable, lst, 300), np.where(usable, coarse, 0.5), usable * 1
    )
    share, steep, own = (upsample_bilinear(values, 4) for values in (explained, slope, own))
    kept = own * steep / (steep**2 + 4)
    expected = np.minimum(share / 0.3, 1) * np.minimum(np.abs(steep) / 12, 1)
    expected *= np.clip(1.5 * kept, 0, 1)
    followed = predict(untrained, lst.astype("float32"), ndvi)["guide_followed"]
    missing = np.repeat(np.repeat(np.isnan(lst), 4, 0), 4, 1)
    np.testing.assert_array_equal(np.isnan(followed), missing)
    np.testing.assert_allclose(followed[~missing], expected[~missing], atol=5e-3)
    assert followed[80, 4] > 0.8 and followed[80, -4] < 0.3


def test_a_guide_that_is_missing_throughout_is_not_followed(trained):
    lst = np.random.default_rng(10).normal(300, 3, (8, 8)).astype("float32")
    nothing = np.full((32, 32), np.nan, "float32")
    assert (predict(trained, lst, nothing)["guide_followed"] == 0).all()


def test_a_guide_of_another_name_is_an_input_of_that_name():
    model = build_guided(GuidedModelConfig(width=4, guides=("water",)))
    assert [tensor.name for tensor in model.inputs] == ["lst_kelvin", "water"]


@pytest.fixture(scope="module")
def many():
    """Takes three guides; weights are random."""
    model = build_guided(GuidedModelConfig(width=4, guides=ALL))
    rng = np.random.default_rng(2)
    model.set_weights([w + rng.normal(0, 0.05, w.shape) for w in model.get_weights()])
    return model


def predict_many(model, lst, **guides):
    shape = tuple(4 * side for side in lst.shape)
    inputs = {name: guides.get(name, np.full(shape, np.nan, "float32")) for name in ALL}
    batch = {
        name: values[None, ..., None] for name, values in {"lst_kelvin": lst, **inputs}.items()
    }
    return ops.convert_to_numpy(model(batch)["lst_kelvin_fine"])[0, ..., 0]


@pytest.mark.parametrize("name", ALL)
def test_each_of_several_guides_counts_and_none_is_needed(many, name):
    lst, ndvi = day_scene(16, 16, seed=12)
    values = {"ndvi": ndvi, "water": ndvi, "reference": 4 * (ndvi - 0.5)}[name]
    alone = predict_many(many, lst)
    assert np.isfinite(alone).all()
    with_guide = predict_many(many, lst, **{name: values})
    assert np.isfinite(with_guide).all()
    assert np.std(with_guide - alone) > 1e-3


def test_water_sets_no_slope_of_land():
    """A cold sea of low NDVI beside land that cools with NDVI: the land's own slope is found."""
    model = build_guided(GuidedModelConfig(width=4, guides=("ndvi", "water")))
    rng = np.random.default_rng(13)
    ndvi = rng.uniform(0.2, 0.8, (96, 96)).astype("float32")
    truth = 310 - 15 * ndvi
    sea = np.zeros((96, 96), bool)
    sea[:, :40] = True
    ndvi[sea], truth[sea] = -0.2, 290.0
    lst = block_mean(truth, 4).astype("float32")
    inputs = {"lst_kelvin": lst, "ndvi": ndvi, "water": sea.astype("float32")}
    result = model({name: values[None, ..., None] for name, values in inputs.items()})
    fine = ops.convert_to_numpy(result["lst_kelvin_fine"])[0, ..., 0]
    inner = np.s_[16:-16, 56:-16]
    bicubic = upsample_bicubic(lst, 4)
    assert np.std((fine - truth)[inner]) < 0.2 * np.std((bicubic - truth)[inner])


def test_water_is_missing_in_the_guide_of_land():
    guide, water = np.full((1, 2, 2, 1), 0.3, "float32"), np.zeros((1, 2, 2, 1), "float32")
    water[0, 0, 0], water[0, 1, 1] = 0.6, np.nan
    result = ops.convert_to_numpy(LandAlone()([guide, water]))[0, ..., 0]
    np.testing.assert_array_equal(np.isnan(result), [[True, False], [False, False]])


def test_pixels_count_by_the_share_of_them_that_the_guide_covers():
    lst, guide = np.full((2, 2), 300, "float32"), np.zeros((8, 8), "float32")
    lst[1, 1] = np.nan
    guide[0, :2] = np.nan  # of the first pixel an eighth
    guide[:4, 4:7] = np.nan  # of the second three quarters: too much
    weight = ops.convert_to_numpy(CoverWeight(4)([lst[None, ..., None], guide[None, ..., None]]))
    np.testing.assert_allclose(weight[0, ..., 0], [[0.875, 0], [1, 0]])


def test_local_spread_against_brute_force():
    rng = np.random.default_rng(14)
    lst = rng.normal(300, 3, (13, 11)).astype("float32")
    missing = rng.uniform(size=lst.shape) < 0.2
    filled = np.where(missing, np.float32(299), lst)
    given = np.where(missing, np.float32(np.nan), lst)
    result = ops.convert_to_numpy(LocalSpread(3, 7)([v[None, ..., None] for v in (filled, given)]))
    left = np.zeros_like(lst, np.float64)
    for row, column in np.ndindex(lst.shape):
        part = np.s_[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        left[row, column] = filled[row, column] - np.nanmean(given[part])
    for row, column in ((0, 0), (6, 5), (12, 3)):
        part = np.s_[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        there = ~missing[part]
        expected = [
            filled[row, column] - left[row, column],
            given[part][there].mean(),
            given[part][there].std(),
            np.sqrt(np.mean(left[part][there] ** 2)),
        ]
        np.testing.assert_allclose(result[0, row, column], expected, rtol=1e-4)


def test_scattered_gaps_of_a_guide_change_little(untrained):
    """A third of the pixels of NDVI missing: most of the detail stays, and nothing stands out."""
    smooth = np.repeat(np.repeat(ndvi_field(48, 48, seed=16), 2, 0), 2, 1)
    lst = (300 - 30 * (block_mean(smooth, 4) - 0.5)).astype("float32")
    holes = np.random.default_rng(17).uniform(size=smooth.shape) < 0.3
    whole = predict(untrained, lst, smooth)["lst_kelvin_fine"]
    broken = predict(untrained, lst, np.where(holes, np.float32(np.nan), smooth))["lst_kelvin_fine"]
    bicubic = upsample_bicubic(lst, 4)
    assert np.std(broken - whole) < 0.5 * np.std(bicubic - whole)
    assert np.abs(broken - whole).max() < np.ptp(whole)
