"""Fine LST that agrees with the coarse one: exactly, with gaps, and no more than that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import GridError
from keras_lstsr.grids.consistency import (
    ConsistencyWarning,
    consistency_residual,
    enforce_consistency,
)
from keras_lstsr.grids.degradation import GaussianPsf, ModisPsf, degrade
from keras_lstsr.testing.rasters import modis_grid


def fine_and_coarse(seed=0, shape=(6, 7), factor=4):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(285, 315, shape)
    fine = rng.uniform(285, 315, (shape[0] * factor, shape[1] * factor))
    return fine, coarse


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 999),
    factor=st.integers(1, 5),
    mode=st.sampled_from(["block", "psf"]),
    radiance=st.booleans(),
    upsampling=st.sampled_from(["nearest", "bilinear"]),
)
def test_degraded_it_is_the_coarse_lst(seed, factor, mode, radiance, upsampling):
    fine, coarse = fine_and_coarse(seed, factor=factor)
    result = enforce_consistency(
        fine, coarse, mode, radiance=radiance, upsampling=upsampling, tolerance_kelvin=0.01
    )
    residual = consistency_residual(result, coarse, mode, radiance=radiance)
    assert np.abs(residual).max() <= 0.01


def test_block_moves_each_block_by_one_number():
    fine, coarse = fine_and_coarse()
    before = fine.copy()
    result = enforce_consistency(fine, coarse, tolerance_kelvin=1e-9)
    step = (result - fine).reshape(6, 4, 7, 4)
    expected = coarse - fine.reshape(6, 4, 7, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(
        step, np.broadcast_to(expected[:, None, :, None], step.shape), atol=1e-9
    )
    np.testing.assert_array_equal(fine, before)
    np.testing.assert_array_equal(enforce_consistency(fine, coarse, "none"), fine)


def test_what_agrees_stays():
    fine, _ = fine_and_coarse()
    for mode, coarse in (("block", degrade(fine, 4, "mean")), ("psf", degrade(fine, 4, "psf"))):
        np.testing.assert_array_equal(enforce_consistency(fine, coarse, mode), fine)


def test_residual_is_coarse_less_degraded():
    fine, coarse = fine_and_coarse()
    gaussian = GaussianPsf.of_mtf(0.3)
    np.testing.assert_array_equal(
        consistency_residual(fine, coarse, "psf", psf=gaussian),
        coarse - degrade(fine, 4, "psf", psf=gaussian),
    )
    assert consistency_residual(fine, fine[::4, ::4] + 2.0).shape == (6, 7)
    np.testing.assert_allclose(
        consistency_residual(np.full((8, 8), 300.0), np.full((2, 2), 301.5)), 1.5
    )


@pytest.mark.parametrize("mode", ["block", "psf"])
def test_gaps_stay_and_spoil_no_neighbour(mode):
    fine, coarse = fine_and_coarse()
    coarse[2, 3] = np.nan  # a cloud in the coarse LST only
    fine[17, 9] = np.nan  # a gap inside coarse pixel (4, 2)
    result = enforce_consistency(fine, coarse, mode)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(fine))
    for row, column in ((2, 3), (4, 2)):
        block = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        np.testing.assert_array_equal(result[block], fine[block])
    residual = consistency_residual(result, coarse, mode)
    assert np.isnan(residual).sum() == 2
    assert np.nanmax(np.abs(residual)) <= 0.01


def test_psf_lifts_the_finest_coarse_pattern_by_two_as_documented():
    # MODIS leaves [1/8, 6/8, 1/8] of neighbouring blocks: half of an alternating pattern.
    coarse = np.tile([301.0, 299.0], (4, 20))
    flat = np.full((16, 160), 300.0)
    result = enforce_consistency(flat, coarse, "psf", psf=ModisPsf(), tolerance_kelvin=1e-6)
    np.testing.assert_allclose(np.abs(result[:, 60:100] - 300.0), 2.0, atol=1e-3)


def test_too_few_iterations_are_told():
    fine, coarse = fine_and_coarse()
    with pytest.warns(ConsistencyWarning, match="after 2 corrections"):
        enforce_consistency(fine, coarse, "psf", max_iterations=2)


def test_rasters_keep_what_they_are():
    fine, coarse = fine_and_coarse()
    grid = modis_grid(coarse.shape)
    coarse_raster = grid.raster(coarse.astype(np.float32), attrs={"units": "K"})
    fine_raster = grid.finer(4).raster(fine.astype(np.float32), attrs={"units": "K"})
    result = enforce_consistency(fine_raster, coarse_raster)
    assert result.dtype == np.float32 and result.attrs == fine_raster.attrs
    assert result.rio.transform() == fine_raster.rio.transform()
    np.testing.assert_allclose(consistency_residual(result, coarse_raster), 0, atol=1e-3)
    elsewhere = grid.finer(4).shifted(1, 0).raster(fine)
    with pytest.raises(GridError, match="do not nest"):
        enforce_consistency(elsewhere, coarse_raster)


def test_bad_input_is_refused():
    fine, coarse = fine_and_coarse()
    with pytest.raises(GridError, match="do not nest"):
        enforce_consistency(fine[:-1], coarse)
    with pytest.raises(GridError, match="mode"):
        consistency_residual(fine, coarse, "none")
    for options in (
        {"mode": "exact"},
        {"upsampling": "cubic"},
        {"tolerance_kelvin": 0.0},
        {"max_iterations": 0},
    ):
        with pytest.raises(GridError, match=next(iter(options))):
            enforce_consistency(fine, coarse, **options)
