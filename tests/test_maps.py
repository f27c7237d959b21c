"""Maps show the right colours where they belong, and figures the maps they are given."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from keras_lstsr import maps


def picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_map_colours_and_grey_gap():
    scale = maps.ColourScale("inferno", 280.0, 300.0)
    drawn = picture(maps.map_png(np.array([[280.0, 300.0], [np.nan, 350.0]]), scale, 2))
    ends = np.rint(255 * colormaps["inferno"](np.array([0.0, 1.0]))[:, :3])
    np.testing.assert_array_equal(drawn[0], ends)
    np.testing.assert_array_equal(drawn[1], [[0xBF] * 3, ends[1]])


def test_small_map_is_repeated_and_large_one_averaged():
    scale = maps.ColourScale("inferno", 0.0, 1.0)
    repeated = picture(maps.map_png(np.array([[0.0, 1.0]]), scale, 7))
    assert repeated.shape == (3, 6, 3)
    assert (repeated[:, :3] == repeated[0, 0]).all()
    # Means of 2 × 2 pixels, of those that have a value; a block without any stays a gap.
    values = np.array([[0.2, 0.6, np.nan, np.nan], [np.nan, 0.4, np.nan, np.nan], [1.0] * 4])
    averaged = picture(maps.map_png(values, scale, 2))
    expected = picture(maps.map_png(np.array([[0.4, np.nan], [1.0, 1.0]]), scale, 2))
    np.testing.assert_array_equal(averaged, expected)


@given(
    low=st.floats(-400, 400, allow_nan=False),
    span=st.floats(0.05, 300, allow_nan=False),
)
def test_ticks_lie_where_their_text_says(low, span):
    scale = maps.ColourScale("inferno", low, low + span)
    assert 2 <= len(scale.ticks) <= 8
    for place, text in scale.ticks:
        assert 2 <= place <= 98
        value = float(text.replace("−", "-"))
        assert low + span * place / 100 == pytest.approx(value, abs=2e-4 * span + 1e-6)
        assert text not in {"−0", "−0.0", "−0.00"}


def test_scales():
    errors = [np.array([[-3.0, 1.0, np.nan]]), np.array([[0.5, 0.0, 2.0]])]
    scale = maps.error_scale(errors)
    assert scale.low == -scale.high
    assert 2.0 < scale.high <= 3.0
    nothing = np.full((2, 2), np.nan)
    for made in (maps.error_scale([nothing]), maps.value_scale([nothing], "inferno")):
        assert made.low < made.high
    flat = maps.value_scale([np.full((3, 3), 290.0)], "inferno")
    assert flat.low == 290.0 < flat.high


def drawn(figure: Figure) -> np.ndarray:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return picture(stream.getvalue())


def test_panels_of_one_scale_share_one_bar_and_gaps_are_grey():
    rng = np.random.default_rng(0)
    coarse, fine = rng.normal(295, 5, (8, 10)), rng.normal(295, 5, (32, 40))
    fine[:16, :20] = np.nan
    scale, errors = maps.value_scale([coarse, fine]), maps.error_scale([coarse - 295])
    rows = [
        [maps.Panel(coarse, "input", scale), maps.Panel(fine, "result", scale)],
        [maps.Panel(coarse - 295, "residual", errors), None],
    ]
    figure = maps.panel_figure(rows, title="scene")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["input", "result", "residual", "", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes[4:]] == [scale.label, errors.label]
    pixels = drawn(figure)
    grey = (pixels == 0xBF).all(axis=2)
    # A quarter of one panel of two by two, less margins and bars.
    assert 0.02 < grey.mean() < 1 / 16
    assert grey[:, : pixels.shape[1] // 3].mean() < 1e-3


def test_a_frame_lies_on_its_part_of_a_map_that_is_drawn_smaller():
    values = np.zeros((2400, 4800))
    values[600:1200, 2400:3600] = 1
    scale = maps.ColourScale("gray", 0, 1)
    window = slice(600, 1200), slice(2400, 3600)
    figure = maps.panel_figure([[maps.Panel(values, "", scale, frame=window)]])
    axis = figure.axes[0]
    image, (frame,) = axis.images[0].get_array(), axis.patches
    left, top = (corner + 0.5 for corner in frame.get_xy())
    right, bottom = left + frame.get_width(), top + frame.get_height()
    assert image.shape == (600, 1200)
    framed = np.zeros_like(image)
    framed[int(top) : int(bottom), int(left) : int(right)] = 1
    np.testing.assert_array_equal(image, framed)


def test_a_comparison_has_errors_of_maps_of_the_truths_size_alone():
    truth = np.random.default_rng(0).normal(295, 5, (16, 16))
    shown = {"input": truth[::4, ::4], "network": truth + 0.5, "truth": truth}
    figure = maps.comparison_figure(shown, title="sample", errors=True)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:6] == ["input", "network", "truth", "", "network − truth: RMSE 0.50 K", ""]
    assert len(maps.comparison_figure(shown, title="sample").axes) == 3 + 1
