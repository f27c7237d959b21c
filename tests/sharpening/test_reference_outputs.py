"""The outputs of the two papers' own routines, reproduced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_lstsr.sharpening.kriging import kriging_weights
from keras_lstsr.sharpening.linear import aatprk, atprk, tsharp
from keras_lstsr.sharpening.regression import global_fit, local_fits
from keras_lstsr.sharpening.variogram import empirical_semivariogram, fit_as_published

pytestmark = pytest.mark.real_data
FACTOR = 4
METRES = 4000.0  # of a coarse pixel
TOLERANCE_KELVIN = {"averaged": 1e-6, "verbatim": 5e-5}


@pytest.fixture(scope="module", params=["00", "03", "07"])
def patch(request, lstsr_reference: Path):
    return np.load(lstsr_reference / "golden" / f"classical_patch{request.param}.npz")


def test_tsharp(patch):
    ours = tsharp(
        patch["lst_coarse"], patch["ndvi_fine"], FACTOR, residual="block", min_lst_kelvin=250.0
    )
    np.testing.assert_allclose(ours, patch["tsharp"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("report", ["averaged", "verbatim"])
@pytest.mark.parametrize("method", [atprk, aatprk])
def test_atprk_and_aatprk(patch, method, report):
    ours = method(
        patch["lst_coarse"], patch["ndvi_fine"], FACTOR, report=report, min_lst_kelvin=250.0
    )
    theirs = patch[f"{method.__name__}_{report}"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE_KELVIN[report])


def test_regressions(patch):
    lst, guide = patch["lst_coarse"], patch["ndvi_coarse"][None]
    scene = global_fit(lst, guide)
    slope, intercept = patch["linear_slope_intercept"]
    assert scene.slopes[0] == pytest.approx(slope, abs=1e-9)
    assert scene.intercept_kelvin == pytest.approx(intercept, abs=1e-9)
    correlation = np.corrcoef(lst.ravel(), scene.trend(guide).ravel())[0, 1]
    assert correlation == pytest.approx(abs(patch["linear_r_p_stderr"][0]), abs=1e-9)
    local = local_fits(lst, guide, scene, whole_windows=True)
    np.testing.assert_allclose(local.slopes[0], patch["aatprk_slope"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        local.intercepts_kelvin, patch["aatprk_intercept"], rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("method", ["atprk", "aatprk"])
def test_variogram_and_weights(patch, method):
    measured = empirical_semivariogram(patch[f"{method}_residual_coarse"], 2, "windows")
    np.testing.assert_allclose(
        np.hypot(*np.transpose(measured.lags)) * METRES, patch["variogram_distances"], rtol=1e-12
    )
    np.testing.assert_allclose(measured.gamma_kelvin2, patch[f"{method}_gamma_coarse"], atol=1e-12)
    for report, tolerance in (("averaged", 1e-5), ("verbatim", 1e-3)):
        coarse, point = fit_as_published(measured, FACTOR, report)
        for fit, key in ((coarse, "coarse"), (point, report)):
            sill, range_ = patch[f"{method}_{key}_sill_range"]
            assert fit.sill_kelvin2 == pytest.approx(sill, rel=tolerance)
            assert fit.range_pixels * METRES == pytest.approx(range_, rel=tolerance)
        range_pixels = patch[f"{method}_{report}_sill_range"][1] / METRES
        weights = kriging_weights(range_pixels, FACTOR).weights
        np.testing.assert_allclose(weights, patch[f"{method}_{report}_lambdas"], atol=1e-11)
