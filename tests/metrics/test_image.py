from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from keras_lstsr.errors import GridError
from keras_lstsr.grids.resample import norm_l4, upsample_bicubic
from keras_lstsr.metrics.image import (
    bias,
    mae,
    mean_gradient_error,
    psnr,
    rmse,
    ssim,
    ssim_global,
)

ALL = (rmse, mae, bias, psnr, ssim, ssim_global)


def pair(seed: int = 0, shape: tuple[int, int] = (40, 33)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.cumsum(rng.normal(0, 0.5, shape), axis=1) + 300
    return truth, truth + rng.normal(0.2, 0.8, shape)


def test_hand_values():
    truth = np.array([[300.0, 302.0], [304.0, 310.0]])
    prediction = truth + np.array([[1.0, -1.0], [3.0, 1.0]])
    assert bias(truth, prediction) == pytest.approx(1.0)
    assert mae(truth, prediction) == pytest.approx(1.5)
    assert rmse(truth, prediction) == pytest.approx(np.sqrt(3.0))
    assert psnr(truth, prediction) == pytest.approx(20 * np.log10(10 / np.sqrt(3)))
    assert psnr(truth, prediction, data_range=20) == pytest.approx(20 * np.log10(20 / np.sqrt(3)))


def test_global_ssim_by_hand():
    truth, prediction = np.array([[300.0, 302.0]]), np.array([[301.0, 301.0]])
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    expected = (2 * 301 * 301 + c1) * c2 / ((2 * 301**2 + c1) * (1 + c2))
    assert ssim_global(truth, prediction) == pytest.approx(expected, rel=1e-12)
    assert ssim_global(truth, truth) == pytest.approx(1.0)


def test_without_gaps_they_are_scikit_images():
    truth, prediction = pair()
    extent = np.ptp(truth)
    assert psnr(truth, prediction) == pytest.approx(
        peak_signal_noise_ratio(truth, prediction, data_range=extent)
    )
    assert ssim(truth, prediction) == pytest.approx(
        structural_similarity(truth, prediction, win_size=7, data_range=extent)
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.0, 0.9))
def test_gaps_are_left_out(seed, share):
    truth, prediction = pair(seed)
    rng = np.random.default_rng(seed)
    holed_truth, holed = truth.copy(), prediction.copy()
    holed_truth[rng.random(truth.shape) < share / 2] = np.nan
    holed[rng.random(truth.shape) < share / 2] = np.nan
    kept = ~(np.isnan(holed_truth) | np.isnan(holed))
    for metric in (rmse, mae, bias, psnr, ssim_global):
        assert metric(holed_truth, holed) == pytest.approx(metric(truth[kept], prediction[kept]))


def test_ssim_of_a_scene_with_a_missing_half_is_that_of_the_other():
    truth, prediction = pair(3, (40, 60))
    holed = truth.copy()
    holed[:, 30:] = np.nan
    assert ssim(holed, prediction) == pytest.approx(
        ssim(truth[:, :30], prediction[:, :30]), rel=1e-9
    )


def test_ssim_scores_whole_windows_alone():
    truth, prediction = pair(4)
    holed = truth.copy()
    holed[20, 15] = np.nan
    before, after = ssim(holed, prediction), None
    # Whatever the prediction says in the gap, no scored window sees it.
    prediction[20, 15] = 1e6
    after = ssim(holed, prediction)
    assert after == before


@pytest.mark.parametrize("metric", ALL)
def test_nothing_to_score_is_nan(metric):
    empty = np.full((9, 9), np.nan)
    assert np.isnan(metric(empty, np.zeros((9, 9))))


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_global])
def test_a_truth_without_range_has_no_relative_score(metric):
    assert np.isnan(metric(np.full((9, 9), 300.0), np.full((9, 9), 301.0)))


def test_too_small_for_a_window():
    truth, prediction = pair(0, (6, 20))
    assert np.isnan(ssim(truth, prediction))


def test_perfect():
    truth, _ = pair()
    assert (rmse(truth, truth), bias(truth, truth), psnr(truth, truth)) == (0, 0, np.inf)
    assert ssim(truth, truth) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", ALL)
def test_different_grids_are_refused(metric):
    with pytest.raises(GridError, match=r"\(8, 8\).*\(8, 9\)"):
        metric(np.zeros((8, 8)), np.zeros((8, 9)))


class TestMeanGradientError:
    def test_of_a_ramp_over_flat_ndvi(self):
        rows, columns = np.mgrid[0:9, 0:12].astype(float)
        ramp = 300 + 0.5 * columns - 2 * rows
        flat = np.full(ramp.shape, 0.4)
        assert mean_gradient_error(ramp, flat, ndvi_scale_kelvin=-9) == pytest.approx(4.25)

    def test_follows_ndvi_by_its_scale_and_sign(self):
        ndvi = pair(6)[0] / 500
        error = [
            mean_gradient_error(310 + scale * ndvi, ndvi, ndvi_scale_kelvin=-12)
            for scale in (-12, 0, 12)
        ]
        assert error[0] == pytest.approx(0, abs=1e-20)
        assert error[2] == pytest.approx(4 * error[1])

    def test_gaps_take_their_neighbours_along(self):
        lst, ndvi = pair(7)
        holed = lst.copy()
        holed[:, 15:] = np.nan
        assert mean_gradient_error(holed, ndvi, ndvi_scale_kelvin=1) == pytest.approx(
            mean_gradient_error(lst[:, :15], ndvi[:, :15], ndvi_scale_kelvin=1)
        )
        nothing = np.full(lst.shape, np.nan)
        assert np.isnan(mean_gradient_error(nothing, ndvi, ndvi_scale_kelvin=1))


@pytest.mark.real_data
def test_published_figures_of_bicubic_on_the_papers_own_patches(lstsr_data):
    patches = np.load(lstsr_data / "example_dataset.npy").astype(np.float64)[:, 1]
    scores = []
    for truth in patches:
        bicubic = upsample_bicubic(norm_l4(truth, 4), 4)
        scores.append((psnr(truth, bicubic), ssim(truth, bicubic), rmse(truth, bicubic)))
    mean_psnr, mean_ssim, mean_rmse = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(25.41, abs=0.005)
    assert mean_ssim == pytest.approx(0.686, abs=0.0005)
    assert mean_rmse == pytest.approx(0.617, abs=0.0005)
