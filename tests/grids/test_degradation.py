"""Degradation by block, area and PSF: brute force, closed forms and one rule for gaps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.ndimage import gaussian_filter

from keras_lstsr.errors import GridError
from keras_lstsr.grids.degradation import (
    DEGRADATIONS,
    Footprint,
    GaussianPsf,
    ModisPsf,
    degrade,
)
from keras_lstsr.grids.resample import block_mean, norm_l4
from keras_lstsr.grids.warp import warp_area
from keras_lstsr.testing.rasters import modis_grid


def temperatures(shape=(16, 24), seed=0):
    return np.random.default_rng(seed).uniform(280, 320, shape)


def test_blocks_are_those_of_resample():
    fine = temperatures().astype(np.float32)
    np.testing.assert_array_equal(degrade(fine, 4), norm_l4(fine, 4))
    np.testing.assert_array_equal(degrade(fine, 4, "mean"), block_mean(fine, 4))
    np.testing.assert_array_equal(degrade(fine, 4, "mean", radiance=True), norm_l4(fine, 4))
    np.testing.assert_allclose(degrade(fine, 4, "area"), block_mean(fine, 4), rtol=1e-6)
    assert degrade(fine, 4, "psf").dtype == np.float32


@settings(deadline=None, max_examples=40)
@given(
    # In eighths, so that no overlap is a sliver, which warp_area takes for rounding noise.
    factor=st.integers(8, 40).map(lambda eighths: eighths / 8),
    height=st.integers(6, 15),
    width=st.integers(6, 15),
    seed=st.integers(0, 99),
)
def test_area_is_the_warp_by_area(factor, height, width, seed):
    fine = modis_grid((height, width)).raster(temperatures((height, width), seed))
    fine.values[2, 3] = np.nan
    coarse = degrade(fine, factor, "area")
    assert coarse.shape == (int(height / factor + 1e-9), int(width / factor + 1e-9))
    # Two ways to the same numbers: weights along each axis, and polygons.
    np.testing.assert_allclose(warp_area(fine, coarse).values, coarse.values, rtol=1e-9)
    nested = fine.rio.transform() @ Affine.scale(factor)
    assert coarse.rio.transform().almost_equals(nested, 1e-6)


@pytest.mark.parametrize("scan_axis", ["rows", "columns"])
@pytest.mark.parametrize("factor", [3, 4])
def test_modis_psf_is_the_integral_of_triangle_and_rectangle(scan_axis, factor):
    size, middle = 5 * factor, 2
    response = np.zeros((size, size))
    for row, column in np.ndindex(size, size):
        fine = np.zeros((size, size))
        fine[row, column] = 1.0
        response[row, column] = degrade(fine, factor, "psf", psf=ModisPsf(scan_axis))[
            middle, middle
        ]

    def integral(function, pixel):
        edges = (np.array([pixel, pixel + 1]) / factor) - (middle + 0.5)
        return quad(function, *edges, points=[0.0] if edges[0] < 0 < edges[1] else None)[0]

    triangle = [integral(lambda x: max(0.0, 1 - abs(x)), p) for p in range(size)]
    box = [1 / factor if middle * factor <= p < (middle + 1) * factor else 0 for p in range(size)]
    expected = np.outer(box, triangle) if scan_axis == "columns" else np.outer(triangle, box)
    np.testing.assert_allclose(response, expected, atol=1e-9)
    assert response.sum() == pytest.approx(1)


@pytest.mark.parametrize("mtf", [0.1, 0.3])
def test_gaussian_psf_has_its_mtf_and_its_width(mtf):
    factor, size = 16, 64
    wave = np.cos(np.pi * (np.arange(size * factor) + 0.5 - factor / 2) / factor)
    fine = np.tile(wave, (factor * 8, 1))
    coarse = degrade(fine, factor, "psf", psf=GaussianPsf.of_mtf(mtf))
    # The finest pattern of the coarse grid keeps the part that the MTF says.
    np.testing.assert_allclose(np.abs(coarse[:, 8:-8]), mtf, rtol=2e-3)
    sigma = GaussianPsf.of_fwhm(1.0).sigma_pixels
    assert math.exp(-0.5 * (0.5 / sigma) ** 2) == pytest.approx(0.5)


@pytest.mark.slow  # imports Keras
def test_gaussian_psf_is_that_of_the_loss():
    taps = pytest.importorskip("keras_lstsr.losses.consistency").gaussian_taps
    reach, weights = taps(4, 0.3)
    fine = np.zeros((40, 40))
    fine[20] = 1.0
    seen = degrade(fine, 4, "psf", psf=GaussianPsf.of_mtf(0.3))[:, 5]
    for coarse in range(2, 8):
        tap = 20 - 4 * coarse + reach
        expected = weights[tap] if 0 <= tap < len(weights) else 0.0
        assert seen[coarse] == pytest.approx(expected, abs=2e-5)


@settings(deadline=None, max_examples=30)
@given(
    method=st.sampled_from(DEGRADATIONS),
    level=st.floats(200, 350),
    radiance=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_constant_stays_and_all_leave_the_same_gaps(method, level, radiance, seed):
    fine = np.full((16, 20), level)
    fine[np.random.default_rng(seed).random(fine.shape) < 0.05] = np.nan
    coarse = degrade(fine, 4, method, radiance=radiance)
    np.testing.assert_allclose(coarse, np.where(np.isnan(norm_l4(fine, 4)), np.nan, level))


def test_a_psf_leaves_out_what_it_does_not_know():
    fine = temperatures((8, 12))
    whole = degrade(fine, 4, "psf")
    fine[:, 8:] = np.nan
    seen = degrade(fine, 4, "psf")
    np.testing.assert_array_equal(seen[:, 0], whole[:, 0])  # the triangle ends before the gap
    triangle = np.maximum(1 - np.abs(np.arange(8) + 0.5 - 6) / 4, 0)
    expected = (fine[:4, :8].mean(axis=0) * triangle).sum() / triangle.sum()
    assert seen[0, 1] == pytest.approx(expected)
    assert np.isnan(seen[:, 2]).all()


@pytest.mark.parametrize("method", DEGRADATIONS)
def test_part_of_a_pixel_is_enough_where_allowed(method):
    fine = np.full((8, 8), 300.0)
    fine[0, :4] = np.nan  # a quarter of the first block
    fine[4:, 4:] = np.nan
    fine[4, 4] = 300.0
    for fraction, expected in [(1.0, 2), (0.75, 1), (1 / 16, 0)]:
        coarse = degrade(fine, 4, method, min_valid_fraction=fraction)
        assert np.isnan(coarse).sum() == expected
        np.testing.assert_allclose(coarse[np.isfinite(coarse)], 300.0)


def test_bands_are_degraded_each():
    fine = temperatures((2, 9, 12))
    coarse = degrade(fine, 2.5, "psf")
    assert coarse.shape == (2, 3, 4)
    np.testing.assert_array_equal(coarse[1], degrade(fine[1], 2.5, "psf"))


def test_radiance_averages_fourth_powers():
    fine = temperatures((4, 4))
    warm = degrade(fine, 4, "area", radiance=True)
    assert warm[0, 0] == pytest.approx((fine**4).mean() ** 0.25)
    assert warm[0, 0] > fine.mean()


def test_bad_settings_are_refused():
    fine = temperatures()
    with pytest.raises(GridError, match="unknown degradation"):
        degrade(fine, 4, "bicubic")
    with pytest.raises(GridError, match="whole factor"):
        degrade(fine, 2.5, "mean")
    with pytest.raises(GridError, match="whole blocks"):
        degrade(fine, 5, "mean", min_valid_fraction=0.5)
    with pytest.raises(GridError, match="factor"):
        degrade(fine, 0.5, "area")
    with pytest.raises(GridError, match="min_valid_fraction"):
        degrade(fine, 4, min_valid_fraction=0.0)
    with pytest.raises(GridError, match="a PSF is given"):
        degrade(fine, 4, "mean", psf=ModisPsf())
    with pytest.raises(GridError, match="mtf_at_nyquist"):
        GaussianPsf.of_mtf(1.0)
    with pytest.raises(GridError, match="sigma_pixels"):
        GaussianPsf.of_fwhm(0.0)
    with pytest.raises(GridError, match="scan_axis"):
        ModisPsf("diagonal")


@pytest.mark.parametrize("kind", ["gaussian", "modis"])
@pytest.mark.parametrize("fwhm_m", [(1400.0, 1100.0), (1100.0, 1400.0)])
def test_a_footprint_has_its_widths_and_keeps_the_mean(kind, fwhm_m):
    psf = Footprint(kind, fwhm_m).psf(1000.0)
    edges = np.linspace(-4, 4, 801)
    middle = (edges[1:] + edges[:-1]) / 2
    for axis, width in zip(("rows", "columns"), fwhm_m, strict=True):
        weights = psf.weights(edges[:-1], edges[1:], axis)
        variance = (weights * middle**2).sum() / weights.sum()
        if kind == "gaussian":
            expected = (width / 1000 / 2.3548200) ** 2 + 1 / 12  # the pixel's own
        elif width == max(fwhm_m):
            expected = (width / 1000) ** 2 / 6  # a triangle
        else:
            expected = (width / 1000) ** 2 / 12
        assert variance == pytest.approx(expected, rel=2e-3)
    plane = 300 + 0.1 * np.add.outer(np.arange(48), 2.0 * np.arange(48))
    seen = degrade(plane, 4, "psf", psf=psf)
    inside = slice(3, -3), slice(3, -3)
    np.testing.assert_allclose(seen[inside], block_mean(plane, 4)[inside], atol=5e-3)
    np.testing.assert_allclose(degrade(np.full((16, 16), 300.0), 4, "psf", psf=psf), 300.0)


def test_the_gaussian_footprint_is_a_blur_and_then_a_mean():
    fine = temperatures((64, 48))
    blurred = gaussian_filter(fine, 930 / 2.3548200450309493 / 250, truncate=6)
    seen = degrade(fine, 4, "psf", psf=Footprint().psf(1000.0))
    expected = block_mean(blurred, 4)
    np.testing.assert_allclose(seen[3:-3, 3:-3], expected[3:-3, 3:-3], atol=1e-3)


def test_bad_footprints_are_refused():
    with pytest.raises(GridError, match="kind"):
        Footprint("box")
    with pytest.raises(GridError, match="fwhm_m"):
        Footprint("modis", (900.0, 0.0))
    with pytest.raises(GridError, match="scan_pixels"):
        ModisPsf(scan_pixels=-1.0)
