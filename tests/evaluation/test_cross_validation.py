"""Out-of-fold predictions are scored as ``evaluate --pairs`` scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.compare import compare
from keras_lstsr.evaluation.cross_validation import (
    places_scorer,
    records_scorer,
    score_out_of_fold,
)
from keras_lstsr.evaluation.methods import SharpeningMethod
from keras_lstsr.evaluation.protocols import NestedProtocol
from keras_lstsr.evaluation.sources import pairs_set
from keras_lstsr.grids.resample import upsample_bicubic
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.scene_sample import cropped_to_guides
from keras_lstsr.testing.records import vegetated_sample, write_made_records, write_samples
from keras_lstsr.testing.samples import made_scene


@pytest.fixture(scope="module")
def predictions(pairs_dir):
    """What TsHARP says, 1 K too warm."""
    found = {}
    for source in find_pairs(pairs_dir):
        sample = cropped_to_guides(source.load(), 4)
        found[sample.name] = SharpeningMethod("tsharp")(sample).lst_kelvin.values + np.float32(1)
    return found


def test_scores_are_those_of_the_same_maps_as_a_method(pairs_dir, predictions):
    sources = find_pairs(pairs_dir)
    scores = score_out_of_fold(sources, predictions)
    methods = {name: SharpeningMethod(name) for name in ("bicubic", "tsharp")}
    for variant, coregister in (("aster", "pixel"), ("aster_subpixel", "subpixel")):
        known = compare(pairs_set(pairs_dir, coregister=coregister), methods)
        summary = known.results[0].summary()
        for method in methods:
            assert scores.means[variant][method] == summary[method]
        ours, tsharp = scores.means[variant]["guided"], summary["tsharp"]
        for metric in ("bias_free_rmse_kelvin", "ssim", "high_pass_correlation"):
            assert ours[metric] == pytest.approx(tsharp[metric], rel=1e-3)
        assert ours["bias_kelvin"] == pytest.approx(tsharp["bias_kelvin"] + 1, abs=1e-3)
        assert scores.details[variant]["shift_found_pixels"]["rows"] == pytest.approx(-1, abs=0.1)
    assert len(scores.rows) == 2 * 3 * len(sources)


def test_records_are_scored_against_their_own_truth(tmp_path):
    write_made_records(tmp_path / "records", {"train": 2, "test": 1}, truth=True, side=14)
    samples = [vegetated_sample(n, truth=True, side=14) for n in range(2)]
    predictions = {each.name: each.truth_kelvin + np.float32(0.5) for each in samples}
    scores = records_scorer(tmp_path / "records", "own")(predictions)
    (means,) = scores.means.values()
    assert means["own"]["bias_kelvin"] == pytest.approx(0.5, abs=1e-4)
    assert means["own"]["bias_free_rmse_kelvin"] < 1e-4 < means["bicubic"]["bias_free_rmse_kelvin"]
    # The third sample was not predicted, as a degraded one is not.
    assert {row.sample for row in scores.rows} == set(predictions)


def test_degraded_samples_are_scored_by_place_and_half_of_the_day(tmp_path):
    rng = np.random.default_rng(0)
    wanted = {"a/1_day#1": "day", "a/2_day#1": "day", "a/3_night#1": "night", "b/1_day#1": "day"}
    samples, predictions = [], {}
    for number, (name, half) in enumerate(wanted.items()):
        made = vegetated_sample(number, truth=True, side=14)
        if half == "night":
            made = replace(made, guides={"ndvi": np.full_like(made.truth_kelvin, np.nan)})
        made = replace(
            made, name=name, scene=name, group=name[0], day_night=half, origin="degraded"
        )
        samples.append(made)
        noise = rng.normal(0, 0.5, made.truth_kelvin.shape).astype(np.float32)
        predictions[name] = made.truth_kelvin + np.float32(3) + noise
    write_samples(tmp_path / "records", [*samples, vegetated_sample(9, truth=True, side=14)])
    scores = places_scorer(tmp_path / "records", "own")(predictions)
    assert set(scores.means) == {
        *("a_day", "a_night", "b_day", "places_day_guided", "places_night_alone")
    }
    assert {row.sample for row in scores.rows} == set(wanted)
    assert {row.variant for row in scores.rows} == {"a_day", "a_night", "b_day"}
    for variant, images in (("a_day", 2), ("a_night", 1), ("places_day_guided", 3)):
        own = scores.means[variant]["own"]
        assert own["bias_free_rmse_kelvin"] == pytest.approx(0.5, rel=0.05)
        assert own["bias_kelvin"] == pytest.approx(3, abs=0.05) and own["images"] == images
    # By hand: bicubic's error, further than four fine pixels from the edge.
    sample = samples[2]
    error = upsample_bicubic(sample.lst_kelvin, 4) - sample.truth_kelvin
    bicubic = float(error[4:-4, 4:-4].astype(np.float64).std())
    night = scores.means["a_night"]
    assert night["bicubic"]["bias_free_rmse_kelvin"] == pytest.approx(bicubic, rel=1e-4)
    assert night["own"]["ratio_to_bicubic"] == pytest.approx(0.5 / bicubic, rel=0.05)
    # Places count alike, not dates; without NDVI no method is scored that needs it.
    day = [scores.means[place]["own"]["ratio_to_bicubic"] for place in ("a_day", "b_day")]
    assert scores.means["places_day_guided"]["own"]["ratio_to_bicubic"] == pytest.approx(
        np.mean(day)
    )
    assert set(night) == {"bicubic", "own"} and "tsharp" in scores.means["a_day"]


def test_records_whose_guide_ends_within_them_are_scored_whole(tmp_path):
    sample = vegetated_sample(0, truth=True, side=14)
    ndvi = sample.guides["ndvi"].copy()
    ndvi[:4] = np.nan
    write_samples(tmp_path / "records", [replace(sample, guides={"ndvi": ndvi})])
    prediction = sample.truth_kelvin + np.float32(0.5)
    scores = records_scorer(tmp_path / "records", "own")({sample.name: prediction})
    (means,) = scores.means.values()
    assert means["own"]["bias_kelvin"] == pytest.approx(0.5, abs=1e-4)


def test_a_prediction_must_be_there_and_fit(pairs_dir, predictions):
    sources = find_pairs(pairs_dir)
    with pytest.raises(GridError, match="no prediction"):
        score_out_of_fold(sources, {})
    wrong = {name: values[1:] for name, values in predictions.items()}
    with pytest.raises(GridError, match="found shape"):
        score_out_of_fold(sources, wrong)


def test_truth_that_lies_in_its_place_is_scored_without_a_shift():
    scene = made_scene("017", coarse_pixels=8)
    fine = scene.truth.values[5:-5, 5:-5] + np.float32(0.5)
    scores = score_out_of_fold([scene], {"017": fine}, protocol=NestedProtocol())
    assert set(scores.means) == {"simulated"}
    assert scores.means["simulated"]["guided"]["bias_kelvin"] == pytest.approx(0.5, abs=1e-4)
    assert scores.means["simulated"]["guided"]["bias_free_rmse_kelvin"] < 1e-4
