"""Scores agree with the metrics' definitions, on the same pixels for all methods."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.result import (
    METRICS,
    QUARTER_METRICS,
    SCORED_METRICS,
    ImageMaps,
    score_maps,
)
from keras_lstsr.metrics import image
from keras_lstsr.testing.samples import texture


def test_scores_are_those_of_the_whole_image():
    """Scoring looks at the box around the scored pixels alone; that must change nothing."""
    truth = 320 - 25 * texture(90, seed=3)
    result = truth + np.random.default_rng(4).normal(size=truth.shape)
    truth[:30] = truth[:, 70:] = np.nan
    other = np.full_like(truth, 290.0)
    other[50:52, 40] = np.nan
    maps = ImageMaps("000", truth, {"m": result, "o": other}, 250.0, {"m": 0.5, "o": 0.25})
    score = score_maps(maps)[0]
    scored = np.where(np.isfinite(other), truth, np.nan)
    expected = {name: metric(scored, result) for name, metric in SCORED_METRICS.items()}
    quarters = image.rmse_by_gradient_quartile(scored, result)
    expected |= dict(zip(QUARTER_METRICS, quarters, strict=True)) | {"consistency_kelvin": 0.5}
    assert score.values == pytest.approx(expected, rel=1e-9)
    assert tuple(score.values) == METRICS
    assert score.scored_pixels == 60 * 70 - 2


def _score(truth, results):
    return score_maps(ImageMaps("a", truth, results, 250.0))


def test_hand_values():
    truth = (295 + 10 * texture(32, seed=0)).astype(np.float32)
    scores = _score(truth, {"off": truth + 2, "right": truth.copy()})
    by_method = {score.method: score.values for score in scores}
    assert by_method["off"]["rmse_kelvin"] == pytest.approx(2, rel=1e-5)
    assert by_method["off"]["bias_kelvin"] == pytest.approx(2, rel=1e-5)
    assert by_method["off"]["bias_free_rmse_kelvin"] == pytest.approx(0, abs=1e-4)
    expected_psnr = 20 * np.log10(np.ptp(truth.astype(float)) / 2)
    assert by_method["off"]["psnr_db"] == pytest.approx(expected_psnr, rel=1e-5)
    assert by_method["right"]["rmse_kelvin"] == 0
    assert by_method["right"]["ssim"] == pytest.approx(1)


def test_all_methods_are_scored_on_the_same_pixels():
    truth = 295 + 10 * texture(32, seed=0)
    holed, spoilt = truth + 1, truth + 1
    holed[:10] = np.nan
    spoilt[:10] = 500  # scored only where the other result exists as well
    scores = _score(truth, {"holed": holed, "spoilt": spoilt})
    assert [score.scored_pixels for score in scores] == [22 * 32] * 2
    assert scores[0].values["rmse_kelvin"] == scores[1].values["rmse_kelvin"]


def test_results_of_another_shape_are_refused():
    maps = ImageMaps("000", np.full((9, 9), 290.0), {"m": np.full((8, 9), 290.0)}, 250.0)
    with pytest.raises(GridError, match=r"shape \(8, 9\)"):
        score_maps(maps)


def test_too_few_pixels_give_no_score():
    truth = np.full((20, 20), np.nan)
    truth[:6, :8] = 290.0
    assert score_maps(ImageMaps("000", truth, {"m": np.full((20, 20), 291.0)}, 250.0)) == []
