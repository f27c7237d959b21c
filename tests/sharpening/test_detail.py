"""Slopes of detail: what is known comes back, water stays apart, little evidence says little."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.degradation import Footprint, degrade
from keras_lstsr.sharpening.detail import fit_detail
from keras_lstsr.sharpening.linear import aatprk, tsharp


def _smooth(values):
    """A field whose neighbours are alike, as land's are."""
    for axis in (0, 1):
        values = sum(np.roll(values, step, axis) for step in range(6)) / 6
    return values


def _land(seed, shape=(20, 24)):
    field = _smooth(np.random.default_rng(seed).standard_normal((4 * shape[0], 4 * shape[1])))
    return 0.5 + 0.1 * field / field.std()


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.2, 0.6]), st.integers(1, 2))
@settings(max_examples=20, deadline=None)
def test_the_slopes_of_an_exact_relation_come_back(block_means, seed, gaps, guides):
    bands = np.stack([_land(seed + k) for k in range(guides)])
    bands[0][np.random.default_rng(seed).random(bands.shape[1:]) < gaps] = np.nan
    known = np.array([-15.0, 6.0])[:guides]
    fine = 300 + np.tensordot(known, bands, axes=1)
    lst = block_means(np.where(np.isnan(bands).any(axis=0), np.nan, fine))
    found = fit_detail(lst, bands, 4)
    np.testing.assert_allclose(
        found.slopes, np.broadcast_to(known[:, None, None], found.slopes.shape), rtol=1e-6
    )


def test_a_partly_covered_pixel_counts_in_part(block_means):
    guide = _land(0)
    lst = block_means(300 - 15 * guide)
    off = lst.copy()
    off[8, 9] += 6.0
    slope = {}
    for covered in (16, 8, 1):
        band = guide.copy()
        band[32:36, 36:40].flat[covered:] = np.nan
        block = band[32:36, 36:40]
        block.flat[covered:] = np.nan
        slope[covered] = fit_detail(off, band[None], 4, prior_pixels=0.0).slopes[0, 8, 9]
    # The less of the false pixel is seen, the nearer the slope is to the true one.
    assert abs(slope[1] + 15) < abs(slope[8] + 15) < abs(slope[16] + 15)


def test_trend_across_the_scene_does_not_set_the_slope_of_detail(block_means):
    # NDVI rises inland by a gradient that LST follows four times as strongly as it follows detail.
    rise = np.linspace(0, 0.6, 96)
    detail = 0.05 * _land(1) / 0.1
    guide = detail + rise
    lst = block_means(300 - 5 * detail - 20 * rise)
    found = fit_detail(lst, guide[None], 4).slopes[0]
    assert np.median(found) == pytest.approx(-5, abs=0.5)


@pytest.mark.parametrize("fwhm", [1.0, 1.4])
def test_a_footprint_does_not_weaken_the_slopes(fwhm):
    guide = 0.5 + 0.2 * np.random.default_rng(0).standard_normal((160, 160))
    fine = 300 - 15 * guide
    lst = degrade(fine, 4, "psf", psf=Footprint("gaussian", (fwhm, fwhm)).psf(1.0))
    found = np.median(fit_detail(lst, guide[None], 4).slopes)
    as_if_sharp = np.polyfit(guide.reshape(40, 4, 40, 4).mean((1, 3)).ravel(), lst.ravel(), 1)[0]
    assert abs(found + 15) < 0.5 * abs(as_if_sharp + 15)


def test_noise_is_not_followed_and_a_relation_in_noise_is():
    rng = np.random.default_rng(0)
    guide = _land(0, (40, 40))
    coarse = guide.reshape(40, 4, 40, 4).mean(axis=(1, 3))
    noise = rng.normal(0, 1, coarse.shape)
    scale = np.std(coarse - coarse.mean())
    nothing = fit_detail(300 + noise, guide[None], 4).slopes * scale
    much = fit_detail(300 - 15 * coarse + 0.2 * noise, guide[None], 4).slopes
    assert np.abs(nothing).max() < 0.2
    assert np.median(much) == pytest.approx(-15, rel=0.15)


def test_few_pixels_say_little():
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(200):
        guide = rng.uniform(0, 1, (1, 12, 12))
        lst = 300 + rng.normal(0, 1, (3, 3))
        coarse = guide[0].reshape(3, 4, 3, 4).mean(axis=(1, 3))
        line = np.polyfit(coarse.ravel(), lst.ravel(), 1)[0]
        sizes.append((np.abs(fit_detail(lst, guide, 4).slopes).mean(), abs(line)))
    drawn, plain = np.mean(sizes, axis=0)
    assert drawn < 0.5 * plain


def _shore(seed=0, shape=(20, 24)):
    guide = _land(seed, shape)
    wet = np.zeros(guide.shape, bool)
    wet[:, : 2 * shape[1] + 2] = True  # the shore runs through pixels
    guide[wet] = -0.2
    return guide, wet


@pytest.mark.parametrize("method", [tsharp, aatprk])
def test_water_is_kept_apart(block_means, method):
    guide, wet = _shore()
    fine = np.where(wet, 290.0, 312.0 - 15 * guide)
    lst = block_means(fine)
    options = {"bounded": False} | ({"regression": "local"} if method is tsharp else {})
    known = method(lst, guide, 4, water=wet.astype(float), **options)
    blind = method(lst, guide, 4, **options)
    error = {"known": np.abs(known - fine), "blind": np.abs(blind - fine)}
    # Land and sea, and not only the shore, are nearer to the truth.
    assert error["known"].mean() < 0.5 * error["blind"].mean()
    assert np.ptp(known[:, :32]) < 0.05


def test_waters_lst_says_nothing_of_lands_slopes(block_means):
    guide, wet = _shore()
    water = wet.astype(float)
    slopes = []
    for level in (280.0, 290.0, 330.0):
        lst = block_means(np.where(wet, level, 312.0 - 15 * guide))
        slopes.append(fit_detail(lst, guide[None], 4, water=water).slopes[0])
    np.testing.assert_allclose(slopes[0][:, 15:], -15, atol=0.5)
    np.testing.assert_allclose(slopes[2][:, 15:], slopes[0][:, 15:], atol=0.5)


def test_water_that_is_everywhere_or_nowhere_changes_nothing(block_means):
    guide = _land(0)[None]
    lst = block_means(300 - 15 * guide[0] + np.random.default_rng(0).normal(0, 1, (80, 96)))
    plain = fit_detail(lst, guide, 4)
    for water in (0.0, 1.0, np.nan):
        same = fit_detail(lst, guide, 4, water=np.full(guide.shape[1:], water))
        np.testing.assert_array_equal(same.slopes, plain.slopes)


@pytest.mark.parametrize("options", [{"radius_pixels": 0}, {"prior_pixels": -1.0}])
def test_unusable_options(options):
    with pytest.raises(ConfigError):
        fit_detail(np.full((3, 3), 300.0), np.ones((1, 12, 12)), 4, **options)
