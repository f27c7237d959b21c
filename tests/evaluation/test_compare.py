"""Every method is scored on every pair, with and without co-registration."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.evaluation.benchmark import BenchmarkResult, ImageScore
from keras_lstsr.evaluation.compare import evaluate_pairs, representative_images
from keras_lstsr.evaluation.methods import choose_methods
from keras_lstsr.evaluation.protocols import (
    AsterProtocol,
    FourKilometreProtocol,
    ReportProtocol,
)
from keras_lstsr.evaluation.scoring import PAIR_METRICS
from keras_lstsr.pairs.files import LoadedPair, find_pairs


@pytest.fixture(scope="module")
def evaluation(pairs_dir):
    return evaluate_pairs(
        find_pairs(pairs_dir),
        choose_methods(["bicubic", "tsharp"]),
        [AsterProtocol(), ReportProtocol(2), FourKilometreProtocol()],
        coregister="both",
    )


def test_each_protocol_has_its_results(evaluation):
    assert {result.name: len(result.images) for result in evaluation.results} == {
        "aster": 4,
        "aster_unshifted": 4,
        "report_2x2": 16,
        "report_2x2_unshifted": 16,
        "4km": 4,
    }
    registered = evaluation.results[0]
    assert registered.methods == ["bicubic", "tsharp"]
    assert registered.metrics == PAIR_METRICS
    assert registered.details["shift_applied_pixels"] == {"rows": -1, "columns": -1}
    assert (evaluation.applied_shift.rows, evaluation.applied_shift.columns) == (-1, -1)
    assert registered.groups == {"000": "0", "001": "0", "002": "1", "003": "1"}
    assert evaluation.results[2].groups["003/1.0"] == "1"
    assert evaluation.left_out == [] and evaluation.fallbacks == {}


def test_only_co_registration_shows_what_tsharp_is_worth(evaluation):
    registered, unshifted = evaluation.results[:2]
    found = registered.summary()["tsharp"]
    # The truth is TsHARP's result and noise of 0.3 K.
    assert found["bias_free_rmse_kelvin"] == pytest.approx(0.3, abs=0.01)
    assert found["worse_than_bicubic"] == 0
    assert found["rmse_kelvin_low"] <= found["rmse_kelvin"] <= found["rmse_kelvin_high"]
    assert unshifted.summary()["tsharp"]["rmse_kelvin"] > 3 * found["rmse_kelvin"]


def test_maps_spectra_and_scatter_are_those_of_the_first_result(evaluation):
    registered = evaluation.results[0]
    assert 1 <= len(evaluation.scenes) <= 3
    for scene in evaluation.scenes:
        errors = (scene.maps["tsharp"] - scene.truth_kelvin)[np.isfinite(scene.truth_kelvin)]
        (score,) = (s for s in registered.scores if s.image == scene.name and s.method == "tsharp")
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(score.values["rmse_kelvin"], rel=1e-5)
        assert errors.size == score.scored_pixels
    truth, predicted = evaluation.scatter["tsharp"]
    assert np.std(predicted - truth) == pytest.approx(0.3, abs=0.02)


def test_spectra_need_images_that_are_large_enough(make_pair, evaluation):
    assert evaluation.spectra is None  # 68 scored pixels a side; 64 rings need 128
    large = LoadedPair(make_pair(coarse_pixels=36))
    spectra = evaluate_pairs(
        [large], choose_methods(["tsharp"]), [AsterProtocol()], coregister="none"
    ).spectra
    np.testing.assert_allclose(spectra.methods["tsharp"], spectra.truth, rtol=1e-3)
    assert (spectra.ring_correlation["tsharp"] > 0.999).all()
    assert (spectra.methods["bicubic"][-20:] < 0.1 * spectra.truth[-20:]).all()


def test_without_co_registration_nothing_is_shifted(pairs_dir):
    plain = evaluate_pairs(
        find_pairs(pairs_dir)[:1], choose_methods(["bicubic"]), [AsterProtocol()], coregister="none"
    )
    assert plain.registration is None and plain.applied_shift is None
    assert [result.name for result in plain.results] == ["aster_unshifted"]


def test_subpixel_shift(pairs_dir):
    exact = evaluate_pairs(
        find_pairs(pairs_dir)[:2],
        choose_methods(["tsharp"]),
        [AsterProtocol()],
        coregister="subpixel",
    )
    assert exact.results[0].name == "aster_subpixel"
    assert exact.applied_shift is exact.registration.constant


def test_a_cloudy_pair_is_left_out(make_pair):
    clear, cloudy = make_pair("clear"), make_pair("cloudy", seed=1)
    cloudy.lst.values[:] = np.nan
    sources = [LoadedPair(pair) for pair in (cloudy, clear)]
    methods, protocols = choose_methods(["tsharp"]), [AsterProtocol()]
    evaluation = evaluate_pairs(sources, methods, protocols, coregister="none")
    assert evaluation.left_out == ["cloudy"]
    assert evaluation.results[0].images == ["clear"]
    with pytest.raises(ProductError, match="no pair can be scored"):
        evaluate_pairs(sources[:1], methods, protocols, coregister="none")


def test_what_falls_back_is_told(make_pair):
    pair = make_pair()
    pair.guide.values[:] = 0.5
    evaluation = evaluate_pairs(
        [LoadedPair(pair)], choose_methods(["tsharp"]), [AsterProtocol()], coregister="none"
    )
    (case,) = evaluation.fallbacks["tsharp"]
    assert case.startswith("000: bicubic, since")


def test_a_result_off_the_grid_is_refused(make_pair):
    methods = choose_methods(["nearest"]) | {"odd": lambda lst, guide: guide[1:]}
    with pytest.raises(GridError, match="odd does not lie"):
        evaluate_pairs([LoadedPair(make_pair())], methods, [AsterProtocol()], coregister="none")


def test_any_callable_with_a_guide_is_a_method(make_pair):
    """What a network that takes the guide will be."""

    def truth_from_guide(lst, guide):
        return 320 - 25 * guide

    methods = choose_methods(["bicubic"]) | {"guided": truth_from_guide}
    evaluation = evaluate_pairs(
        [LoadedPair(make_pair())], methods, [AsterProtocol()], coregister="none"
    )
    assert evaluation.results[0].summary()["guided"]["rmse_kelvin"] < 1e-3


def test_representative_images_are_best_median_and_worst():
    gains = {"a": -0.1, "b": -0.5, "c": 0.2, "d": -0.2, "e": -0.3}
    result = BenchmarkResult("r", "t", metrics=("rmse_kelvin",))
    for image, gain in gains.items():
        for method, value in {"bicubic": 2.0, "good": 2.0 + gain, "bad": 5.0}.items():
            result.scores.append(ImageScore(image, method, 100, {"rmse_kelvin": value}))
    images, rule = representative_images(result)
    assert images == ["b", "d", "c"]
    assert "good" in rule
