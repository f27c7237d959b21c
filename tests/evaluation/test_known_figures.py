"""The figures known for the 54 real pairs come out, with the shift found in the data and without.

Nearest, bilinear, bicubic and TsHARP are defined to the last digit, so their figures must be met
closely; ATPRK's and AATPRK's are those of another implementation.
"""

from __future__ import annotations

import pytest

from keras_lstsr.evaluation.compare import compare
from keras_lstsr.evaluation.methods import choose_methods
from keras_lstsr.evaluation.sources import pairs_set

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

METRICS = ("rmse_kelvin", "bias_free_rmse_kelvin", "psnr_db", "ssim", "high_pass_correlation")
TOLERANCES = (0.01, 0.01, 0.05, 0.01, 0.01)
REGISTERED = {
    "nearest": (1.980, 1.715, 21.64, 0.492, 0.478),
    "bilinear": (1.919, 1.646, 21.92, 0.495, 0.553),
    "bicubic": (1.891, 1.613, 22.04, 0.532, 0.560),
    "tsharp:residual=block": (1.818, 1.527, 22.39, 0.702, 0.684),
    "tsharp:residual=bicubic": (1.758, 1.458, 22.69, 0.728, 0.717),
}
UNSHIFTED = {
    "bicubic": (1.936, 1.666, 21.83, 0.514, 0.532),
    "tsharp:residual=block": (2.138, 1.890, 20.99, 0.536, 0.506),
}
# RMSE and bias-free RMSE, to be met within 0.05 K.
KRIGED = {"atprk": (1.859, 1.575), "aatprk": (1.765, 1.468)}


@pytest.fixture(scope="module")
def evaluation(lstsr_data):
    pairs = pairs_set(lstsr_data / "modis_aster", coregister="both")
    return compare(pairs, choose_methods([*REGISTERED, *KRIGED]))


def test_shift_is_found(evaluation):
    whole = evaluation.registration.whole_pixels
    assert (whole.rows, whole.columns) == (-1, -1)
    assert evaluation.registration.constant.count == 54


@pytest.mark.parametrize(
    ("number", "known"), [(0, REGISTERED), (1, UNSHIFTED)], ids=["registered", "unshifted"]
)
def test_known_figures(evaluation, number, known):
    summary = evaluation.results[number].summary()
    for method, figures in known.items():
        for metric, figure, tolerance in zip(METRICS, figures, TOLERANCES, strict=True):
            found = summary[method][metric]
            assert found == pytest.approx(figure, abs=tolerance), (method, metric)


def test_kriging_is_near_another_implementation(evaluation):
    summary = evaluation.results[0].summary()
    for method, figures in KRIGED.items():
        for metric, figure in zip(METRICS, figures, strict=False):
            assert summary[method][metric] == pytest.approx(figure, abs=0.05), (method, metric)


def test_registration_decides_whether_sharpening_looks_useful(evaluation):
    worse = [
        result.summary()["tsharp:residual=bicubic"]["worse_than_bicubic"]
        for result in evaluation.results
    ]
    assert worse[0] < 54 / 4 and worse[1] > 3 * 54 / 4
