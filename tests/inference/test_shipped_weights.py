"""The weights that come with the package: size, card, and what they do on scenes never seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import keras_lstsr
from keras_lstsr.config import PretrainConfig
from keras_lstsr.files import sha256_of
from keras_lstsr.inference.predictor import load_predictor
from keras_lstsr.inference.pretrained import PRETRAINED_CARD_FILE, PRETRAINED_FILE
from keras_lstsr.inference.scene import predict_scene_with_std
from keras_lstsr.pairs.simulated import simulated_pairs
from keras_lstsr.sharpening.interpolation import interpolated
from tests.conftest import ROOT

PACKAGE = Path(keras_lstsr.__file__).parent


@pytest.fixture(scope="module")
def card():
    return json.loads((PACKAGE / PRETRAINED_CARD_FILE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def predictor():
    return load_predictor("pretrained")


@pytest.fixture(scope="module")
def scored(predictor):
    """Pair → time of day, errors of the model and of bicubic, and standardised errors."""
    found = {}
    for pair in simulated_pairs(scenes=4, seed=77):
        truth = pair.truth.values
        results = {
            guided: predict_scene_with_std(pair.lst, predictor, guide=guide)
            for guided, guide in ((True, pair.guide), (False, None))
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
    assert (PACKAGE / PRETRAINED_FILE).stat().st_size < 8e6


def test_the_card_is_of_these_weights_and_of_the_settings_that_come_along(card):
    assert card["model_sha256"] == sha256_of(PACKAGE / PRETRAINED_FILE)
    assert PretrainConfig.from_dict(card["settings"]) == PretrainConfig()
    assert card["dataset"]["pairs"] == 54
    assert len(card["dataset"]["files"]) == 3 * 54
    assert len(card["dataset"]["fine_scenes"]) == 20
    text = json.dumps(card)
    assert "/home" not in text and "/tmp" not in text and "/work" not in text


def test_what_the_card_promises(card):
    """The figures that the README shows, with those of bicubic beside them."""
    pairs = card["cross_validation"]["aster"]["pairs"]
    assert len(pairs) == 54 and {pair["fold"] for pair in pairs.values()} == {1, 2, 3, 4}
    errors = {
        method: np.array([pair[method]["bias_free_rmse_kelvin"] for pair in pairs.values()])
        for method in ("guided", "bicubic", "tsharp")
    }
    assert errors["bicubic"].mean() == pytest.approx(1.613, abs=2e-3)
    assert errors["guided"].mean() <= 1.15
    assert (errors["guided"] < errors["bicubic"]).all()
    assert (errors["guided"] < errors["tsharp"]).sum() >= 52
    means = card["cross_validation"]["aster"]["means"]["guided"]
    assert means["bias_free_rmse_kelvin"] == pytest.approx(errors["guided"].mean(), abs=1e-4)
    assert means["ssim"] >= 0.80
    assert 0.85 <= card["calibration"]["coverage_out_of_fold"] <= 0.95
    assert all(0.8 <= share <= 0.97 for share in card["calibration"]["coverage_by_fold"])


def test_better_than_bicubic_on_simulated_days(scored):
    for (name, guided), (error, bicubic, _) in scored.items():
        if guided and name.endswith("day"):
            assert error < bicubic, name


def test_by_night_hardly_worse_than_bicubic_and_better_on_average(scored):
    nights = [
        error / bicubic for (name, _), (error, bicubic, _) in scored.items() if "night" in name
    ]
    assert len(nights) == 2 * 4
    assert max(nights) < 1.03
    assert np.mean(nights) < 1


def test_without_ndvi_hardly_worse_than_bicubic_and_better_on_average(scored):
    bare = [error / bicubic for (_, guided), (error, bicubic, _) in scored.items() if not guided]
    assert len(bare) == 8
    assert max(bare) < 1.05
    assert np.mean(bare) < 1


def test_intervals_hold_at_least_what_they_promise_on_simulated_days(scored):
    inside = [
        np.mean(np.abs(z) < 1.645) for (name, _), (_, _, z) in scored.items() if "day" in name
    ]
    assert 0.85 < np.mean(inside) < 0.99


def test_the_settings_file_makes_these_weights(card):
    assert (
        json.loads(PretrainConfig.from_yaml(ROOT / "configs" / "pretrain.yaml").model_dump_json())
        == (card["settings"])
    )


@pytest.mark.real_data
def test_the_checksums_are_those_of_the_pairs(card, lstsr_data):
    for name in ("000_lst_1km.tif", "216_aster_lst_232m.tif"):
        expected = card["dataset"]["files"][name]
        assert sha256_of(lstsr_data / "modis_aster" / name) == expected
