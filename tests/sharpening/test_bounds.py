"""No result leaves the range of LST around by more than the range's width allows, on any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.grids.water import water_from_ndvi
from keras_lstsr.registration import code_of
from keras_lstsr.sharpening import METHODS, ConstantGuideError
from keras_lstsr.sharpening.bounds import OVERSHOOT, bound, local_range
from keras_lstsr.sharpening.linear import aatprk, atprk, tsharp
from keras_lstsr.sharpening.regression import COHERENT, RESIDUALS

pytestmark = pytest.mark.filterwarnings("ignore::keras_lstsr.sharpening.SharpeningWarning")
TOLERANCE_KELVIN = 1e-3
OPTIONS = {
    "tsharp": [{"bounded": True, "residual": residual} for residual in RESIDUALS]
    + [{"regression": "local", "residual": residual} for residual in RESIDUALS],
    "atprk": [{"bounded": True}, {"report": "averaged", "bounded": True}],
    "aatprk": [{}, {"report": "averaged", "bounded": True}],
    "huts": [{}, {"residual": "kriging"}],
    "data_mining": [{"trees": 2, "window_pixels": 7}],
}
METHODS_AND_OPTIONS = [(name, options) for name in METHODS for options in OPTIONS.get(name, [{}])]


def ends_by_hand(lst, radius=2):
    """The bound's ends, window by window."""
    ends = np.full((2, *lst.shape), np.nan)
    for row, column in np.ndindex(lst.shape):
        window = lst[
            max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1
        ]
        if np.isfinite(window).any():
            low, high = np.nanmin(window), np.nanmax(window)
            ends[:, row, column] = low - 0.75 * (high - low), high + 0.75 * (high - low)
    return ends


@st.composite
def scenes(draw, lst_gaps=(0.0, 0.2)):
    """LST and NDVI that have little to do with each other, and what makes regressions go astray."""
    rng = np.random.default_rng(draw(st.integers(0, 100_000)))
    height, width = draw(st.integers(4, 12)), draw(st.integers(4, 12))
    lst = 300 + draw(st.sampled_from([0.0, 0.5, 8.0])) * rng.standard_normal((height, width))
    ndvi = rng.uniform(-0.2, 0.9, (4 * height, 4 * width))
    kind = draw(st.sampled_from(["noise", "fields", "nearly constant", "constant", "mosaic"]))
    if kind == "fields":
        ndvi = np.repeat(np.repeat(rng.uniform(0, 0.9, (height, width)), 4, 0), 4, 1)
        ndvi += 0.02 * rng.standard_normal(ndvi.shape)
    elif kind == "nearly constant":
        ndvi = 0.4 + 1e-3 * ndvi
    elif kind == "constant":
        ndvi = np.full(ndvi.shape, 0.4)
    elif kind == "mosaic":
        wet = np.repeat(np.repeat(rng.random((2 * height, 2 * width)) < 0.4, 2, 0), 2, 1)
        ndvi = np.where(wet, -0.2, rng.uniform(0.1, 0.9, ndvi.shape))
        lst -= 15 * wet.reshape(height, 4, width, 4).mean(axis=(1, 3))
    if draw(st.booleans()):
        ndvi.flat[rng.integers(ndvi.size)] = draw(st.sampled_from([-1.0, 1.0, 30.0]))
    if draw(st.booleans()):
        lst.flat[rng.integers(lst.size)] += draw(st.sampled_from([-40.0, 20.0]))
    ndvi[rng.random(ndvi.shape) < draw(st.sampled_from([0.0, 0.1, 0.3, 0.6]))] = np.nan
    lst[rng.random(lst.shape) < draw(st.sampled_from(lst_gaps))] = np.nan
    return lst, ndvi


@pytest.mark.parametrize(("name", "options"), METHODS_AND_OPTIONS, ids=str)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_method_keeps_within_the_bound(name, options, data):
    guided = METHODS[name].needs_guide
    # Interpolation alone bridges gaps with pixels from beyond the window.
    lst, ndvi = data.draw(scenes() if guided else scenes(lst_gaps=(0.0,)))
    function = code_of(METHODS[name].function)
    if not guided:
        found = function(lst, 4)
    else:
        water = {}
        if name == "aatprk" or "regression" in options:
            water = {"water": water_from_ndvi(ndvi)}
        try:
            found = function(lst, ndvi[None], 4, **options, **water)
        except ConstantGuideError:
            return
    low, high = (np.repeat(np.repeat(end, 4, 0), 4, 1) for end in ends_by_hand(lst))
    there = np.isfinite(found)
    assert (found >= low - TOLERANCE_KELVIN)[there].all()
    assert (found <= high + TOLERANCE_KELVIN)[there].all()
    missing = np.repeat(np.repeat(np.isnan(lst), 4, 0), 4, 1)
    np.testing.assert_array_equal(~there, missing | np.isnan(ndvi) if guided else missing)


@given(scenes(), st.floats(0, 30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_bound_against_its_definition(scene, size, keep_means):
    lst, ndvi = scene
    level = np.repeat(np.repeat(lst, 4, 0), 4, 1)
    detail = size * np.where(np.isfinite(ndvi), ndvi, 0.0)
    for row, column in np.ndindex(lst.shape):
        block = detail[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        block -= block.mean()
    low, high = ends_by_hand(lst)
    found = bound(level + detail, lst, 4, keep_means=keep_means)
    expected = np.clip(
        level + detail,
        np.repeat(np.repeat(low, 4, 0), 4, 1),
        np.repeat(np.repeat(high, 4, 0), 4, 1),
    )
    if keep_means:
        expected = level + detail
        for row, column in np.ndindex(lst.shape):
            place = (slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            most, least = detail[place].max(), detail[place].min()
            up, down = high[row, column] - lst[row, column], low[row, column] - lst[row, column]
            part = min(up / most if most > up else 1.0, down / least if least < down else 1.0)
            expected[place] = lst[row, column] + part * detail[place]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_local_range_leaves_gaps_out():
    lst = np.full((9, 9), np.nan)
    lst[4, 4], lst[4, 6] = 290.0, 300.0
    low, high = local_range(lst)
    assert (low[4, 4], high[4, 4]) == (290.0, 300.0)
    assert (low[4, 3], high[4, 3]) == (290.0, 290.0)
    assert np.isnan(low[0, 0]) and np.isnan(high[8, 8])


def test_what_is_published_is_not_bounded_unless_asked(noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.0, 0.0)
    guide[0, 20, 20] = 30.0
    highest = ends_by_hand(lst)[1].max()
    for method, options in ((tsharp, {}), (atprk, {}), (aatprk, {"report": "averaged"})):
        bounded = method(lst, guide, 4, **options, bounded=True)
        assert bounded.max() <= highest + TOLERANCE_KELVIN
        assert np.abs(method(lst, guide, 4, **options) - bounded).max() > 10


@pytest.mark.parametrize("residual", COHERENT)
def test_bounded_results_keep_block_means(block_means, noisy_scene_with_gaps, residual):
    lst, guide = noisy_scene_with_gaps(0, 0.1, 0.0)
    guide[0, 20, 20] = 30.0
    found = tsharp(lst, guide, 4, regression="local", residual=residual)
    np.testing.assert_allclose(block_means(found), lst, rtol=0, atol=1e-7)


def test_the_overshoot_of_bicubic_is_within_the_bound():
    from keras_lstsr.grids.resample import phase_weights

    for factor in range(2, 20):
        weights = np.abs(phase_weights(factor, "bicubic")).sum(axis=1).max() ** 2
        assert (weights - 1) / 2 < 0.45 < OVERSHOOT
