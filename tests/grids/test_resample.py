"""Degradation and upsampling against closed forms, brute force and the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_lstsr.errors import GridError
from keras_lstsr.grids import resample

temperatures = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda s: (s[0] * 4, s[1] * 4)),
    elements=st.floats(200, 350),
)


@settings(deadline=None, max_examples=50)
@given(temperatures)
def test_norm_l4_is_brute_force(lst_kelvin):
    coarse = resample.norm_l4(lst_kelvin, 4)
    for row in range(coarse.shape[0]):
        for column in range(coarse.shape[1]):
            block = lst_kelvin[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            expected = (sum(float(t) ** 4 for t in block.ravel()) / 16) ** 0.25
            assert coarse[row, column] == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(temperatures)
def test_norm_l4_lies_between_mean_and_maximum(lst_kelvin):
    coarse = resample.norm_l4(lst_kelvin, 4)
    assert np.all(coarse >= resample.block_mean(lst_kelvin, 4) - 1e-9)
    assert np.all(coarse <= lst_kelvin.max() + 1e-9)


def test_one_gap_takes_its_block_and_no_other():
    lst_kelvin = np.full((8, 8), 300.0)
    lst_kelvin[5, 2] = np.nan
    for degrade in (resample.norm_l4, resample.block_mean):
        missing = np.isnan(degrade(lst_kelvin, 4))
        assert missing.tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize("shape", [(7, 8), (8, 9)])
def test_odd_sizes_are_refused(shape):
    with pytest.raises(GridError, match=f"{shape[0]} × {shape[1]}"):
        resample.norm_l4(np.zeros(shape), 4)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_weights_sum_to_one(factor, method):
    np.testing.assert_allclose(resample.phase_weights(factor, method).sum(axis=1), 1, atol=1e-15)


@pytest.mark.parametrize("upsample", [resample.upsample_bicubic, resample.upsample_bilinear])
def test_constant_and_ramp(upsample):
    np.testing.assert_allclose(upsample(np.full((3, 5), 290.0), 4), 290.0)
    if upsample is resample.upsample_bilinear:
        ramp = np.tile(np.arange(8.0), (8, 1))
        fine = upsample(ramp, 4)[16, 4:-4]
        np.testing.assert_allclose(fine, (np.arange(4, 28) + 0.5) / 4 - 0.5, atol=1e-12)


def test_gap_spreads_no_farther_than_the_kernel():
    values = np.full((9, 9), 290.0)
    values[4, 4] = np.nan
    for upsample, reach in [(resample.upsample_bicubic, 2), (resample.upsample_bilinear, 1)]:
        rows, columns = np.nonzero(np.isnan(upsample(values, 4)))
        assert rows.min() >= 4 * (4 - reach) and rows.max() < 4 * (5 + reach)
        assert columns.min() >= 4 * (4 - reach) and columns.max() < 4 * (5 + reach)
    assert np.isnan(resample.upsample_nearest(values, 4)).sum() == 16


def test_keeps_float32_and_batches():
    values = np.random.default_rng(0).uniform(280, 300, (2, 3, 4)).astype(np.float32)
    fine = resample.upsample_bicubic(values, 4)
    assert fine.dtype == np.float32
    np.testing.assert_array_equal(fine[1], resample.upsample_bicubic(values[1], 4))


@pytest.mark.real_data
def test_reference_outputs(lstsr_reference):
    with np.load(lstsr_reference / "golden" / "preprocess.npz") as golden:
        lst_kelvin = np.where(golden["lst_with_zeros"] == 0, np.nan, golden["lst_with_zeros"])
        for factor in (2, 4):
            expected = golden[f"norm4_factor{factor}"]
            ours = np.nan_to_num(resample.norm_l4(lst_kelvin.astype(np.float64), factor), nan=0.0)
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
        coarse = golden["coarse_patch0"]
        np.testing.assert_allclose(
            resample.upsample_bicubic(coarse, 4), golden["upsampled_true_bicubic"], atol=1e-9
        )
        np.testing.assert_allclose(
            resample.upsample_bilinear(coarse, 4),
            golden["upsampled_positional_argument"],
            atol=1e-9,
        )


def test_coarse_guide_averages_the_pixels_that_all_guides_have():
    rng = np.random.default_rng(0)
    guide = rng.uniform(size=(2, 4 * 70, 8)).astype(np.float32)  # more rows than a strip
    guide[0, 0, 0] = np.nan
    guide[1, 1, 1] = np.inf
    guide[0, 4:8, 4:8] = np.nan
    mean, share = resample.coarse_guide_and_share(guide, 4)
    there = np.ones((4, 4), bool)
    there[0, 0] = there[1, 1] = False
    np.testing.assert_allclose(mean[:, 0, 0], guide[:, :4, :4][:, there].mean(axis=1), rtol=1e-6)
    assert share[0, 0] == 14 / 16 and share[1, 1] == 0.0 and share[2, 0] == 1.0
    assert np.isnan(mean[:, 1, 1]).all() and np.isnan(mean).sum() == 2
    np.testing.assert_allclose(mean[1, 69, 1], guide[1, -4:, 4:].mean(), rtol=1e-6)
    assert resample.coarse_guide(guide[0], 4).shape == (1, 70, 2)
    with pytest.raises(GridError, match="multiples of 4"):
        resample.coarse_guide(np.ones((6, 8)), 4)
