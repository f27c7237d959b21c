from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from keras_lstsr.errors import GridError
from keras_lstsr.grids.resample import norm_l4, upsample_bicubic, upsample_nearest
from keras_lstsr.metrics.image import (
    bias,
    bias_free_rmse,
    consistency_error,
    correlation,
    gradient_correlation,
    high_pass_correlation,
    mae,
    mean_gradient_error,
    psnr,
    rmse,
    rmse_by_gradient_quartile,
    ssim,
)

CORRELATIONS = (correlation, gradient_correlation, high_pass_correlation)
ALL = (rmse, mae, bias, psnr, ssim, bias_free_rmse, *CORRELATIONS)


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
    assert bias_free_rmse(truth, prediction) == pytest.approx(np.sqrt(2.0))
    assert psnr(truth, prediction) == pytest.approx(20 * np.log10(10 / np.sqrt(3)))
    assert psnr(truth, prediction, data_range=20) == pytest.approx(20 * np.log10(20 / np.sqrt(3)))


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
    for metric in (rmse, mae, bias, psnr, bias_free_rmse, correlation):
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


@pytest.mark.parametrize("metric", [psnr, ssim])
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


class TestCorrelations:
    def test_by_hand(self):
        # Deviations (−1, 0, 1) and (−1, 1, 0): 1 / 2.
        assert correlation([299.0, 300.0, 301.0], [280.0, 282.0, 281.0]) == pytest.approx(0.5)

    def test_are_numpys(self):
        truth, prediction = pair(1)
        assert correlation(truth, prediction) == pytest.approx(
            np.corrcoef(truth.ravel(), prediction.ravel())[0, 1]
        )
        detail = [i - ndimage.gaussian_filter(i, 3.0) for i in (truth, prediction)]
        assert high_pass_correlation(truth, prediction, sigma_pixels=3.0) == pytest.approx(
            np.corrcoef(detail[0].ravel(), detail[1].ravel())[0, 1]
        )

    def test_gradients_by_brute_force(self):
        truth, prediction = pair(2, (9, 8))
        holed = truth.copy()
        holed[4, 3] = np.nan
        kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        gradients: list[list[list[float]]] = [[[], []], [[], []]]
        for row in range(1, 8):
            for column in range(1, 7):
                part = slice(row - 1, row + 2), slice(column - 1, column + 2)
                if np.isnan(holed[part]).any():
                    continue
                for image, found in zip((truth, prediction), gradients, strict=True):
                    found[0].append((image[part] * kernel).sum())
                    found[1].append((image[part] * kernel.T).sum())
        x, y = (np.array(g) - np.mean(g, axis=1, keepdims=True) for g in gradients)
        expected = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
        assert gradient_correlation(holed, prediction) == pytest.approx(expected)

    @pytest.mark.parametrize("metric", CORRELATIONS)
    def test_know_neither_offset_nor_scale_but_sign(self, metric):
        truth, _ = pair(3)
        truth[5:9, 20:25] = np.nan
        assert metric(truth, 0.3 * truth + 200) == pytest.approx(1.0)
        assert metric(truth, 600 - truth) == pytest.approx(-1.0)

    @pytest.mark.parametrize("metric", CORRELATIONS)
    def test_with_a_constant_there_is_none(self, metric):
        truth, _ = pair(4)
        flat = np.full(truth.shape, 300.1)
        flat[3, 3] = np.nan
        assert np.isnan(metric(truth, flat))
        assert np.isnan(metric(flat, truth))

    def test_detail_knows_no_slow_difference(self):
        truth, _ = pair(5, (60, 60))
        rows, columns = np.mgrid[:60, :60] / 60.0
        slow = truth + 8 * np.sin(3 * rows) + 5 * columns
        assert high_pass_correlation(truth, slow) > 0.95
        assert correlation(truth, slow) < 0.8

    def test_detail_beside_a_gap_is_from_what_is_there(self):
        truth, prediction = pair(6, (40, 60))
        truth[:, 30:] = prediction[:, 30:] = np.nan
        scored = np.isfinite(truth)
        weight = ndimage.gaussian_filter(scored.astype(float), 4)[scored]
        details = [
            i[scored] - ndimage.gaussian_filter(np.nan_to_num(i, nan=0.0), 4)[scored] / weight
            for i in (truth, prediction)
        ]
        assert high_pass_correlation(truth, prediction) == pytest.approx(np.corrcoef(details)[0, 1])

    @pytest.mark.parametrize("metric", CORRELATIONS)
    def test_what_the_prediction_says_in_a_gap_is_not_seen(self, metric):
        truth, prediction = pair(7)
        truth[10:14, 10:14] = np.nan
        before = metric(truth, prediction)
        prediction[10:14, 10:14] = 1e5
        assert metric(truth, prediction) == before

    @pytest.mark.parametrize("metric", [gradient_correlation, rmse_by_gradient_quartile])
    def test_gradients_want_an_image(self, metric):
        with pytest.raises(GridError, match="two-dimensional"):
            metric(np.zeros(5), np.zeros(5))


class TestGradientQuartiles:
    def test_by_hand(self):
        # A parabola: the slope grows with the column, and the error from part to part.
        columns = np.tile(np.arange(42.0), (20, 1))
        errors = np.ceil(columns / 10) / 10
        errors[:, [0, -1]] = 99  # without whole 3 × 3 neighbours, not scored
        parts = rmse_by_gradient_quartile(columns**2, columns**2 + errors)
        assert parts == pytest.approx([0.1, 0.2, 0.3, 0.4])

    def test_parts_make_up_the_whole(self):
        truth, prediction = pair(8, (42, 42))
        truth[0, 0] = np.nan
        inner = np.full(truth.shape, np.nan)
        inner[1:-1, 1:-1] = truth[1:-1, 1:-1]
        inner[1, 1] = np.nan
        parts = rmse_by_gradient_quartile(truth, prediction)
        assert np.sqrt(np.mean(parts**2)) == pytest.approx(rmse(inner, prediction), rel=1e-3)

    def test_on_a_ramp_all_pixels_are_alike(self):
        ramp = np.tile(np.arange(16.0), (12, 1))
        parts = rmse_by_gradient_quartile(ramp, ramp + 2)
        assert parts[0] == pytest.approx(2.0)
        assert np.isnan(parts[1:]).all()

    def test_nothing_to_score_is_nan(self):
        empty = np.full((9, 9), np.nan)
        assert np.isnan(rmse_by_gradient_quartile(empty, empty)).all()


class TestConsistency:
    def test_by_hand(self):
        coarse = np.array([[300.0, 310.0]])
        fine = upsample_nearest(coarse, 2)
        assert consistency_error(fine, coarse, 2) == 0
        fine[0, 0] += 4
        assert consistency_error(fine, coarse, 2) == pytest.approx(np.sqrt(0.5))

    def test_of_the_aggregate_itself_is_zero(self):
        truth, _ = pair(9, (40, 32))
        assert consistency_error(truth, norm_l4(truth, 4), 4, aggregate="norm_l4") < 1e-9
        assert consistency_error(truth, norm_l4(truth, 4), 4) > 1e-4

    def test_blocks_with_gaps_are_left_out(self):
        coarse = np.array([[300.0, 310.0], [np.nan, 290.0]])
        fine = upsample_nearest(coarse, 4)
        fine[0, 0] = np.nan
        fine[0:4, 4:] += 3
        assert consistency_error(fine, coarse, 4) == pytest.approx(3 / np.sqrt(2))
        assert np.isnan(consistency_error(np.full((8, 8), np.nan), coarse, 4))

    def test_other_grids_and_aggregates_are_refused(self):
        with pytest.raises(GridError, match="same grid"):
            consistency_error(np.zeros((8, 8)), np.zeros((3, 2)), 4)
        with pytest.raises(GridError, match="whole blocks"):
            consistency_error(np.zeros((9, 8)), np.zeros((2, 2)), 4)
        with pytest.raises(GridError, match="median"):
            consistency_error(np.zeros((8, 8)), np.zeros((2, 2)), 4, aggregate="median")


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
