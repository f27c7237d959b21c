"""Every method is scored on every sample, with and without co-registration."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.evaluation.compare import SampleSet, compare
from keras_lstsr.evaluation.methods import Refined, choose_methods
from keras_lstsr.evaluation.protocols import (
    AsterProtocol,
    FourKilometreProtocol,
    NestedProtocol,
    ReportProtocol,
)
from keras_lstsr.evaluation.result import METRICS
from keras_lstsr.evaluation.sources import pairs_set
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.testing.samples import made_scene


def compared(scenes, methods, protocol=None, coregister="none"):
    """Scores methods on scenes in memory."""
    return compare(SampleSet("made", scenes, [protocol or AsterProtocol()], coregister), methods)


@pytest.fixture(scope="module")
def evaluation(pairs_dir):
    protocols = [AsterProtocol(), ReportProtocol(2), FourKilometreProtocol()]
    samples = SampleSet("pairs", find_pairs(pairs_dir), protocols, "both")
    return compare(samples, choose_methods(["bicubic", "tsharp"]))


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
    assert registered.metrics == METRICS
    assert registered.details["shift_applied_pixels"] == {"rows": -1, "columns": -1}
    assert (evaluation.applied_shift.rows, evaluation.applied_shift.columns) == (-1, -1)
    assert registered.groups == {"000": "0", "001": "0", "002": "1", "003": "1"}
    assert evaluation.results[2].groups["003/1.0"] == "1"
    assert evaluation.left_out == [] and evaluation.method_notes == {}
    assert registered.details["samples"] == 4
    assert [len(files) for files in evaluation.files.values()] == [3] * 4


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


def test_spectra_need_images_that_are_large_enough(evaluation):
    assert evaluation.spectra is None  # 68 scored pixels a side; 64 rings need 128
    spectra = compared([made_scene(coarse_pixels=36)], choose_methods(["tsharp"])).spectra
    np.testing.assert_allclose(spectra.methods["tsharp"], spectra.truth, rtol=1e-3)
    assert (spectra.ring_correlation["tsharp"] > 0.999).all()
    assert (spectra.methods["bicubic"][-20:] < 0.1 * spectra.truth[-20:]).all()


def test_without_co_registration_nothing_is_shifted(pairs_dir):
    samples = pairs_set(pairs_dir, coregister="none", limit=1)
    plain = compare(samples, choose_methods(["bicubic"]))
    assert plain.registration is None and plain.applied_shift is None
    assert [result.name for result in plain.results] == ["aster_unshifted"]


def test_subpixel_shift(pairs_dir):
    samples = pairs_set(pairs_dir, coregister="subpixel", limit=2)
    exact = compare(samples, choose_methods(["tsharp"]))
    assert exact.results[0].name == "aster_subpixel"
    assert exact.applied_shift is exact.registration.constant


def test_a_cloudy_sample_is_left_out():
    clear, cloudy = made_scene("clear"), made_scene("cloudy", seed=1)
    cloudy.lst.values[:] = np.nan
    methods = choose_methods(["tsharp"])
    evaluation = compared([cloudy, clear], methods)
    assert evaluation.left_out == ["cloudy"]
    assert evaluation.results[0].images == ["clear"]
    with pytest.raises(ProductError, match="no sample can be scored"):
        compared([cloudy], methods)


def test_a_sample_without_guide_is_scored_where_no_method_needs_one():
    whole, bare = made_scene("whole"), made_scene("bare", seed=1)
    bare.guides["ndvi"].values[:] = np.nan
    protocol = FourKilometreProtocol(cropped=False)
    assert compared([whole, bare], choose_methods(["nearest"]), protocol).left_out == []
    evaluation = compared([whole, bare], choose_methods(["tsharp"]), protocol)
    assert evaluation.left_out == ["bare"]
    assert evaluation.results[0].images == ["whole"]


def test_what_falls_back_is_told_once_for_each_sample():
    scene = made_scene()
    scene.guides["ndvi"].values[:] = 0.5
    evaluation = compared([scene], choose_methods(["tsharp"]))
    (case,) = evaluation.method_notes["tsharp"]
    assert case.startswith("000: bicubic, since")
    assert any(
        note.startswith("tsharp: bicubic, since") and "(1 ×)" in note
        for note in evaluation.all_notes()
    )


def test_a_result_off_the_grid_is_refused():
    methods = choose_methods(["nearest"]) | {"odd": lambda s: Refined(s.guides["ndvi"][1:])}
    with pytest.raises(GridError, match="odd does not lie"):
        compared([made_scene()], methods)


def test_a_method_sees_name_guides_and_time_of_day_but_no_truth():
    seen = []

    def truth_from_guide(sample):
        seen.append(sample)
        return Refined(320 - 25 * sample.guides["ndvi"])

    methods = choose_methods(["bicubic"]) | {"guided": truth_from_guide}
    evaluation = compared([made_scene("017")], methods)
    assert evaluation.results[0].summary()["guided"]["rmse_kelvin"] < 1e-3
    assert {(sample.name, sample.day_night, tuple(sample.guides)) for sample in seen} == {
        ("017", "day", ("ndvi",))
    }
    assert all(sample.truth is None for sample in seen)


def test_without_a_guide_the_whole_scene_is_scored():
    scene = made_scene()
    bare = replace(scene, guides={})
    results = [
        compared([one], choose_methods(["nearest"]), NestedProtocol()).results[0]
        for one in (scene, bare)
    ]
    assert results[0].summary() == results[1].summary()
    assert results[1].scores[0].scored_pixels == 80 * 80


def test_only_a_foreign_truth_is_compared_by_the_bias_free_error():
    scene = made_scene()
    methods = choose_methods(["nearest"])
    foreign = compared([scene], methods, AsterProtocol()).results[0]
    own = compared([scene], methods, NestedProtocol()).results[0]
    assert foreign.main_metric == "bias_free_rmse_kelvin" and own.main_metric == "rmse_kelvin"


def test_samples_are_loaded_one_at_a_time(pairs_dir):
    """Memory must not grow with the set: nothing keeps a sample that has been scored."""
    alive = []

    class Source:
        def __init__(self, files):
            self._files, self.name, self.group = files, files.name, files.group

        def load(self):
            gc.collect()  # rasters and their accessors refer to each other
            assert sum(reference() is not None for reference in alive) <= 1
            scene = self._files.load()
            alive.append(weakref.ref(scene.lst))
            return scene

    sources = [Source(files) for files in find_pairs(pairs_dir)]
    compare(SampleSet("pairs", sources, [NestedProtocol()]), choose_methods(["nearest"]))
    assert len(alive) > 4
