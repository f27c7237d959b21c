"""The weights that come with the package: size, card, and what they do on scenes never seen."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_lstsr.artifacts.loading import shipped_folder, shipped_weights
from keras_lstsr.artifacts.model_folder import ModelFolder
from keras_lstsr.config import ExperimentConfig, GuidedModelConfig
from keras_lstsr.evaluation.compare import compare
from keras_lstsr.evaluation.methods import PredictorMethod, SharpeningMethod
from keras_lstsr.evaluation.simulated import simulated_samples
from keras_lstsr.evaluation.sources import pairs_set
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.resample import interpolated
from keras_lstsr.grids.warp import guide_on_fine_grid
from keras_lstsr.grids.water import water_from_ndvi
from keras_lstsr.inference.predictor import load_predictor
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.records.pairs import find_pairs

FOLDER = ModelFolder(shipped_folder("guided-2"))

GUIDES = ("ndvi", "water", "reference")


@pytest.fixture(scope="module")
def card():
    return FOLDER.read_card()


@pytest.fixture(scope="module")
def predictor():
    return load_predictor("pretrained")


@pytest.fixture(scope="module")
def scored(predictor):
    """Pair → time of day, errors of the model and of bicubic, and standardised errors."""
    found = {}
    for source in simulated_samples(scenes=4, seed=77):
        pair = source.load()
        truth = pair.truth.values
        results = {
            guided: predict_scene(pair.lst, predictor, guides)
            for guided, guides in ((True, pair.guides), (False, None))
        }
        bicubic = interpolated(pair.lst.values, 4, "bicubic")
        for guided, result in results.items():
            kelvin, std = (result[name].values for name in ("lst_kelvin_fine", "lst_std_kelvin"))
            there = np.isfinite(kelvin) & np.isfinite(truth)
            error, plain = ((values - truth)[there] for values in (kelvin, bicubic))
            standard = (error - error.mean()) / std[there]
            found[pair.name, guided] = (np.std(error), np.std(plain), standard)
    return found


def test_small_enough_to_ship():
    assert FOLDER.model.stat().st_size < 8e6


def test_the_newest_weights_are_these(predictor):
    assert shipped_weights() == ["guided-1", "guided-2"]
    assert predictor.provenance["run_name"] == "guided-2"


def test_the_card_is_of_these_weights(card):
    run = FOLDER.read_run()
    assert card.model_sha256 == sha256_of(FOLDER.model)
    assert card.parameters == run.parameters > 0
    assert card.dataset_fingerprint == run.dataset_fingerprint != ""
    assert card.guides == FOLDER.read_config().model.guides == GUIDES
    assert len(card.data["observed"].files) == 3 * 54
    assert len(card.data["degraded"].files) == 85
    pairs = {name: files for name, files in card.learnt_from.items() if name.isdecimal()}
    assert len(pairs) == 54
    assert {sha256 for files in pairs.values() for sha256 in files} == set(
        card.data["observed"].files.values()
    )
    for file in (FOLDER.card, FOLDER.run, FOLDER.config):
        text = file.read_text(encoding="utf-8")
        assert "/home" not in text and "/tmp" not in text and "/work" not in text


def test_the_settings_are_those_of_the_network_by_default(card):
    config = FOLDER.read_config()
    assert config.model == GuidedModelConfig(guides=GUIDES)
    assert ExperimentConfig.from_dict(card.settings) == config


def test_what_the_card_promises(card):
    """The figures that the README shows, with those of bicubic beside them."""
    pairs = card.scores["aster"]["pairs"]
    assert len(pairs) == 54 and {pair["fold"] for pair in pairs.values()} == {1, 2, 3, 4}
    errors = {
        method: np.array([pair[method]["bias_free_rmse_kelvin"] for pair in pairs.values()])
        for method in ("guided", "bicubic", "tsharp")
    }
    assert errors["bicubic"].mean() == pytest.approx(1.613, abs=2e-3)
    assert errors["guided"].mean() <= 1.06
    assert (errors["guided"] < errors["bicubic"]).all()
    assert (errors["guided"] < errors["tsharp"]).sum() >= 52
    means = card.scores["aster"]["means"][card.name]
    assert means["bias_free_rmse_kelvin"] == pytest.approx(errors["guided"].mean(), abs=1e-4)
    assert means["ssim"] >= 0.80
    assert 0.85 <= card.calibration["coverage_out_of_fold"] <= 0.95
    assert all(0.8 <= share <= 0.97 for share in card.calibration["coverage_by_fold"])


def test_on_simulated_days_better_than_bicubic_on_average(scored):
    """Their 1 km LST is not blurred, as a satellite's is: by itself the network sharpens it."""
    days = [
        error / bicubic
        for (name, guided), (error, bicubic, _) in scored.items()
        if guided and name.endswith("day")
    ]
    assert len(days) == 4
    assert max(days) < 0.92
    assert np.mean(days) < 0.88


@pytest.mark.parametrize(
    ("half", "guided", "most"),
    [("night", True, 1.02), ("night", False, 1.04), ("day", False, 1.04)],
)
def test_how_much_worse_than_bicubic_on_other_simulated_scenes(scored, half, guided, most):
    ratios = [
        error / bicubic
        for (name, with_guide), (error, bicubic, _) in scored.items()
        if name.endswith(half) and with_guide is guided
    ]
    assert len(ratios) == 4
    assert max(ratios) <= most


@pytest.mark.real_data
def test_without_ndvi_better_than_bicubic_on_average_of_real_pairs(predictor, lstsr_data):
    network = PredictorMethod(predictor)
    methods = {
        "bicubic": SharpeningMethod("bicubic"),
        "network": lambda sample: network(replace(sample, guides={})),
    }
    samples = pairs_set(lstsr_data / "modis_aster", limit=12)
    (result,) = compare(samples, methods).results
    errors = [result.values(name, "bias_free_rmse_kelvin").mean() for name in methods]
    assert errors[1] < errors[0]


def test_intervals_hold_at_least_what_they_promise_on_simulated_days(scored):
    inside = [
        np.mean(np.abs(z) < 1.645) for (name, _), (_, _, z) in scored.items() if "day" in name
    ]
    assert 0.85 < np.mean(inside) < 0.999


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["guided-1", "guided-2"])
def test_the_pairs_come_out_as_when_the_weights_were_made(name, lstsr_data):
    """Means over each pair and single pixels, as the graph gave them that the weights came with."""
    predictor = load_predictor(name)
    on_pairs = Path(__file__).with_name(f"{name.replace('-', '_')}_on_pairs.csv")
    with on_pairs.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["pair"] for row in rows}) == 54
    for source in find_pairs(lstsr_data / "modis_aster"):
        pair = source.load()
        ndvi = guide_on_fine_grid(pair.guides["ndvi"], pair.lst, 4).values
        guides = {"ndvi": ndvi, "water": water_from_ndvi(ndvi)}
        taken = {n: guides[n][None, ..., None] for n in predictor.contract.guides if n in guides}
        result = predictor.predict(pair.lst.values[None, ..., None], taken)
        kelvin, std = result.lst_kelvin[0, ..., 0], result.std_kelvin[0, ..., 0]
        for row in (row for row in rows if row["pair"] == source.name):
            at = (int(row["row"]), int(row["column"])) if row["row"] != "mean" else ...
            found = [np.nanmean(values[at], dtype=np.float64) for values in (kelvin, std)]
            expected = [float(row[column]) for column in ("kelvin", "std_kelvin")]
            assert found == pytest.approx(expected, abs=1e-3), row


@pytest.mark.real_data
def test_the_checksums_are_those_of_the_pairs(card, lstsr_data):
    for name in ("000_lst_1km.tif", "216_aster_lst_232m.tif"):
        expected = card.data["observed"].files[name]
        assert sha256_of(lstsr_data / "modis_aster" / name) == expected
