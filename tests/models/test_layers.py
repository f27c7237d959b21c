from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import upsample_bicubic, upsample_bilinear
from keras_lstsr.models.layers import (
    AlignCornersDouble,
    CropToReference,
    FillGaps,
    MaskGaps,
    NormaliseTemperature,
    PadToMinimum,
    PadToSkip,
    ReflectPad,
    Upsample,
)
from keras_lstsr.testing.rasters import lst_values

sides = st.integers(1, 9)


def numpy(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def compiled_with_unknown_sides(layer, channels: int = 1):
    """The layer in a graph that knows neither batch, height nor width, where there are graphs."""
    if keras.backend.backend() != "tensorflow":
        return layer
    import tensorflow as tf

    spec = tf.TensorSpec((None, None, None, channels), tf.float32)
    return tf.function(lambda x: layer(x), input_signature=[spec])


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@settings(max_examples=15, deadline=None)
@given(sides, sides, st.integers(2, 5), st.integers(0, 2**16))
def test_upsample_is_grids_resample(method, height, width, factor, seed):
    define = {"bicubic": upsample_bicubic, "bilinear": upsample_bilinear}[method]
    coarse = lst_values(2, height, width, 1, seed=seed)
    fine = numpy(Upsample(factor, method)(coarse))
    expected = define(coarse[..., 0].astype(np.float64), factor)[..., None]
    np.testing.assert_allclose(fine, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_upsample_with_unknown_sides(method):
    layer = Upsample(4, method)
    graph = compiled_with_unknown_sides(layer)
    for shape in ((1, 1, 1, 1), (2, 3, 7, 1), (1, 16, 16, 1)):
        np.testing.assert_allclose(graph(lst_values(*shape)), layer(lst_values(*shape)), atol=1e-4)
    assert layer.compute_output_shape((None, None, 5, 1)) == (None, None, 20, 1)


@settings(max_examples=15, deadline=None)
@given(sides, sides)
def test_align_corners_double_is_linear_interpolation_between_corners(height, width):
    values = np.random.default_rng(7).normal(size=(1, height, width, 2)).astype(np.float32)
    expected = values.astype(np.float64)
    for axis in (1, 2):
        length = expected.shape[axis]
        positions = np.linspace(0, length - 1, 2 * length)
        expected = np.apply_along_axis(
            lambda line, at=positions: np.interp(at, np.arange(line.size), line), axis, expected
        )
    np.testing.assert_allclose(AlignCornersDouble()(values), expected, atol=1e-5)
    graph = compiled_with_unknown_sides(AlignCornersDouble(), channels=2)
    np.testing.assert_allclose(graph(values), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (12, 40), (31, 32), (33, 8)])
def test_pad_to_minimum_mirrors_and_crop_takes_it_off(shape):
    values = lst_values(2, *shape, 1)
    layer = PadToMinimum(32)
    padding = [(max(32 - side, 0) // 2, -(min(side - 32, 0) // 2)) for side in shape]
    expected = np.pad(values, [(0, 0), *padding, (0, 0)], mode="symmetric")
    for padded in (layer(values), compiled_with_unknown_sides(layer)(values)):
        np.testing.assert_array_equal(padded, expected)
        np.testing.assert_array_equal(CropToReference()([padded, values]), values)


def test_reflect_pad_does_not_repeat_the_edge():
    values = lst_values(1, 2, 5, 3)
    expected = np.pad(values, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(ReflectPad(1)(values), expected)
    np.testing.assert_array_equal(compiled_with_unknown_sides(ReflectPad(1), 3)(values), expected)


@pytest.mark.parametrize("skip", [(4, 6), (5, 6), (4, 7), (5, 7)])
def test_pad_to_skip_reflects_one_after(skip):
    up = lst_values(1, 4, 6, 2)
    expected = np.pad(up, [(0, 0), (0, skip[0] - 4), (0, skip[1] - 6), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(PadToSkip()([up, np.zeros((1, *skip, 3), "f4")]), expected)


def test_normalise_and_back():
    values = lst_values(1, 8, 8, 1)
    scaled = NormaliseTemperature(290.0, 12.5)(values)
    np.testing.assert_allclose(scaled, (values - 290.0) / 12.5, rtol=1e-6)
    back = NormaliseTemperature(290.0, 12.5, inverse=True)(scaled)
    np.testing.assert_allclose(back, values, rtol=0, atol=1e-4)
    with pytest.raises(ConfigError, match="scale_kelvin"):
        NormaliseTemperature(290.0, 0.0)


class TestFillGaps:
    def test_valid_pixels_pass_unchanged(self):
        values = lst_values(3, 20, 24, 1)
        gaps = np.random.default_rng(1).random(values.shape) < 0.4
        filled = numpy(FillGaps(290.0)(np.where(gaps, np.nan, values).astype(np.float32)))
        np.testing.assert_array_equal(filled[~gaps], values[~gaps])
        assert np.isfinite(filled).all()

    def test_a_single_gap_takes_the_mean_of_its_eight_neighbours(self):
        values = lst_values(1, 7, 7, 1)
        holed = values.copy()
        holed[0, 3, 4] = np.nan
        window = values[0, 2:5, 3:6, 0].astype(np.float64)
        expected = (window.sum() - window[1, 1]) / 8
        assert numpy(FillGaps(290.0)(holed))[0, 3, 4, 0] == pytest.approx(expected, abs=1e-4)

    def test_brute_force_smallest_window(self):
        values = lst_values(1, 15, 13, 1, seed=5)
        values[np.random.default_rng(2).random(values.shape) < 0.85] = np.nan
        field = values[0, :, :, 0].astype(np.float64)
        expected = field.copy()
        for row, column in zip(*np.nonzero(np.isnan(field)), strict=True):
            expected[row, column] = np.nanmean(field)
            for reach in (1, 2, 4, 8):
                window = field[
                    max(row - reach, 0) : row + reach + 1,
                    max(column - reach, 0) : column + reach + 1,
                ]
                if np.isfinite(window).any():
                    expected[row, column] = np.nanmean(window)
                    break
        filled = numpy(FillGaps(290.0)(values))[0, :, :, 0]
        np.testing.assert_allclose(filled, expected, rtol=0, atol=2e-4)

    def test_far_gaps_take_the_image_mean_and_empty_images_the_given_value(self):
        values = np.full((2, 40, 40, 1), np.nan, np.float32)
        values[0, :2, :2, 0] = [[300.0, 302.0], [304.0, 306.0]]
        filled = numpy(FillGaps(290.0)(values))
        assert filled[0, 39, 39, 0] == pytest.approx(303.0, abs=1e-3)
        np.testing.assert_array_equal(filled[1], np.full((40, 40, 1), 290.0))


@settings(max_examples=10, deadline=None)
@given(sides, sides, st.integers(0, 2**16))
def test_mask_gaps_hits_exactly_the_fine_pixels_of_the_gaps(height, width, seed):
    coarse = lst_values(2, height, width, 1, seed=seed)
    coarse[np.random.default_rng(seed).random(coarse.shape) < 0.5] = np.nan
    fine = lst_values(2, 4 * height, 4 * width, 1)
    masked = numpy(MaskGaps(4)([fine, coarse]))
    expected = np.kron(np.isnan(coarse[..., 0]), np.ones((1, 4, 4), bool))[..., None]
    np.testing.assert_array_equal(np.isnan(masked), expected)
    np.testing.assert_array_equal(masked[~expected], fine[~expected])


@pytest.mark.parametrize(
    "layer",
    [
        FillGaps(290.0, windows=(3, 7)),
        MaskGaps(4),
        Upsample(3, "bilinear"),
        NormaliseTemperature(280.0, 9.0, inverse=True),
        ReflectPad(2),
        PadToSkip(),
        AlignCornersDouble(),
        PadToMinimum(48),
        CropToReference(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_come_back_from_their_configuration(layer):
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == f"keras_lstsr>{type(layer).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == layer.get_config()
