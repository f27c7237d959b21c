"""Pretraining: folds, calibration, the final model, and going on after a kill."""

from __future__ import annotations

import csv
import json
from functools import partial

import keras
import mlflow
import numpy as np
import pytest
import yaml

from keras_lstsr.config import PretrainConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.evaluation.cross_validation import score_out_of_fold
from keras_lstsr.pairs.files import find_pairs
from keras_lstsr.pairs.training_pairs import nested_pair
from keras_lstsr.records import pairs as samples
from keras_lstsr.training import pretrain as module
from keras_lstsr.training.guided_fit import calibrated, fit_guided, optimizer, predict_pair
from keras_lstsr.training.pretrain import pretrain
from keras_lstsr.training.pretrain_folder import PretrainFolder
from keras_lstsr.training.tracking import Tracker
from tests.conftest import ROOT
from tests.pairs.made_pairs import make_pair, moved, write_pair
from tests.pairs.test_degraded import NAME as FINE_NAME
from tests.pairs.test_degraded import write_scene

SETTINGS = {
    "folds": 2,
    "model": {"width": 2, "wide_window_pixels": 7},
    "training": {"steps": 4, "batch_size": 2, "patch_size": 8, "ema_momentum": 0.5}
    | {"fine_scene_share": 0.3},
}
CONFIG = PretrainConfig.from_dict(SETTINGS)


pytestmark = pytest.mark.usefixtures("step_by_step")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pairs at four places; the guide tells all that LST has, but for some noise."""
    pairs = tmp_path_factory.mktemp("data") / "made"
    pairs.mkdir()
    for number in range(4):
        made = make_pair(f"{number:03d}", seed=number, coarse_pixels=20, noise_kelvin=0.3)
        parts = {"lst": 100, "guide": 400, "truth": 400}
        placed = {name: moved(getattr(made, name), rows=number * by) for name, by in parts.items()}
        write_pair(pairs, type(made)(made.name, made.group, **placed))
    return pairs


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A scene of fine LST, at the place of the first pair in part."""
    folder = tmp_path_factory.mktemp("fine")
    return [write_scene(folder, size=400)[0]]


def run(folder, output, scenes, config=CONFIG, **keywords):
    sources = find_pairs(folder)
    score = partial(score_out_of_fold, samples.find_pairs(folder))
    return pretrain(config, sources, output, score=score, fine_scenes=scenes, **keywords)


@pytest.fixture(scope="module")
def done(folder, scenes, tmp_path_factory):
    """A finished run, its output and the address of MLflow's store."""
    place = tmp_path_factory.mktemp("run")
    store = f"sqlite:///{place}/mlflow.db"
    tracker = Tracker(experiment="made", tracking_uri=store)
    return run(folder, place / "out", scenes, tracker=tracker), place / "out", store


class TestRun:
    def test_every_pair_is_predicted_by_a_model_that_has_not_seen_it(self, done):
        result, _, _ = done
        tested = [pair for fold in result.card["folds"] for pair in fold["pairs"]]
        assert sorted(tested) == ["000", "001", "002", "003"]
        for fold in result.card["folds"]:
            assert set(fold["pairs"]) | set(fold["trained_on"]) == set(tested)
            assert not set(fold["pairs"]) & set(fold["trained_on"])
        assert result.card["final"]["trained_on"] == sorted(tested)

    def test_scores_are_of_both_registrations_and_of_all_methods(self, done):
        result, output, _ = done
        with (output / "cross_validation.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 2 * 3 * 4
        assert {row["variant"] for row in rows} == {"aster", "aster_subpixel"}
        assert {row["method"] for row in rows} == {"bicubic", "tsharp", "guided"}
        errors = [
            float(row["bias_free_rmse_kelvin"])
            for row in rows
            if (row["variant"], row["method"]) == ("aster", "guided")
        ]
        mean = result.card["cross_validation"]["aster"]["means"]["guided"]["bias_free_rmse_kelvin"]
        assert mean == pytest.approx(np.mean(errors), abs=1e-4)
        # The first guess alone is a regression on NDVI, which made these pairs.
        bicubic = result.scores.means["aster"]["bicubic"]["bias_free_rmse_kelvin"]
        assert mean < 0.7 * bicubic

    def test_the_model_is_calibrated_and_ready_for_use(self, done):
        result, output, _ = done
        assert result.model_path == output / "guided.keras"
        model = keras.saving.load_model(result.model_path, compile=False)
        assert not model.compiled
        factor = model.get_layer("standard_deviation").calibration
        assert factor == result.calibration.factor == result.card["calibration"]["factor"]
        assert 0 < factor != 1
        held = result.calibration.coverage_by_fold
        assert len(held) == 2 and all(0.5 < share < 1 for share in held)
        assert result.card["calibration"]["coverage_out_of_fold"] == pytest.approx(np.mean(held))
        inputs = {
            "lst_kelvin": np.full((1, 9, 7, 1), 300, np.float32),
            "ndvi": np.full((1, 36, 28, 1), np.nan, np.float32),
        }
        assert np.isfinite(model(inputs)["lst_kelvin_fine"]).all()

    def test_the_card_says_where_it_comes_from(self, done, folder):
        result, output, _ = done
        card = json.loads((output / "guided.json").read_text())
        assert card == result.card
        assert len(card["dataset"]["files"]) == 12 and card["dataset"]["name"] == "made"
        assert list(card["dataset"]["fine_scenes"]) == [FINE_NAME]
        assert len(card["dataset_fingerprint"]) == 64
        assert card["settings"] == json.loads(CONFIG.model_dump_json())
        assert {"keras", "numpy", "keras_lstsr"} < card["versions"].keys()
        assert str(folder) not in (output / "guided.json").read_text()
        assert yaml.safe_load((output / "config.yaml").read_text())["training"]["steps"] == 4

    def test_mlflow_has_it_all(self, done):
        result, _, store = done
        client = mlflow.MlflowClient(store)
        logged = client.get_run(result.card["mlflow_run_id"])
        assert logged.info.status == "FINISHED"
        assert logged.data.params["training.steps"] == "4"
        assert logged.data.tags["dataset_fingerprint"] == result.card["dataset_fingerprint"]
        metrics = logged.data.metrics
        assert {"loss", "fold_1_loss", "fold_2_coverage", "calibration_factor"} < metrics.keys()
        assert metrics["aster_guided_bias_free_rmse_kelvin"] > 0
        names = {item.path for item in client.list_artifacts(logged.info.run_id)}
        assert names == {"guided.keras", "guided.json", "cross_validation.csv", "config.yaml"}

    def test_a_finished_run_and_another_one_are_not_overwritten(self, done, folder, scenes):
        _, output, _ = done
        with pytest.raises(ConfigError, match="finished run"):
            run(folder, output, scenes)
        other = CONFIG.model_copy(update={"name": "other"})
        with pytest.raises(ConfigError, match=r"name: the output holds a run of other settings"):
            run(folder, output, scenes, other)
        with pytest.raises(ConfigError, match=r"pairs: the output holds a run of other"):
            run(folder, output, [])
        with pytest.raises(ConfigError, match="something else"):
            run(folder, folder, scenes)


def test_goes_on_with_the_first_unfinished_fold(done, folder, scenes, tmp_path, monkeypatch):
    trained = []

    def killed(config, pairs, **keywords):
        trained.append([pair.name for pair in pairs])
        if len(trained) == 2:
            raise KeyboardInterrupt
        return fit_guided(config, pairs, **keywords)

    monkeypatch.setattr(module, "fit_guided", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", scenes)
    state = json.loads((tmp_path / "out" / "pretrain.json").read_text())
    assert state["status"] == "interrupted"
    result = run(folder, tmp_path / "out", scenes)
    # Fold 1, fold 2 killed, fold 2 again, all pairs.
    assert [len(names) for names in trained] == [2, 2, 2, 4]
    assert trained[1] == trained[2] != trained[0]
    # As if nothing had happened: the same as the unbroken run.
    whole, _, _ = done
    for name in ("cross_validation", "calibration"):
        assert json.dumps(result.card[name]) == json.dumps(whole.card[name]), name


def test_other_pairs_are_noticed(folder, scenes, tmp_path):
    sources = find_pairs(folder)
    place = PretrainFolder(tmp_path / "out")
    place.open(CONFIG, "a" * 64)
    with pytest.raises(ConfigError, match=r"pairs: the output holds a run of other"):
        run(folder, tmp_path / "out", scenes)
    assert place.open(CONFIG, "b" * 64, overwrite=True).dataset_fingerprint == "b" * 64
    assert len(sources) == 4


class TestFit:
    @pytest.mark.slow
    def test_learns(self):
        """What NDVI does not tell: here LST falls with NDVI squared."""
        pairs = [nested_pair(make_pair(seed=seed, coarse_pixels=24), 4) for seed in range(3)]
        for pair in pairs:
            pair.truth_kelvin[:] -= 40 * (pair.ndvi - 0.5) ** 2
        config = PretrainConfig.from_dict(
            {
                "model": {"width": 4, "wide_window_pixels": 7},
                "training": {"steps": 30, "batch_size": 4, "patch_size": 12, "warmup_steps": 5}
                | {"learning_rate": 1e-2, "ema_momentum": 0.8},
                "augmentation": {"guide_absent_share": 0, "cloud_share": 0},
            }
        )
        losses = []
        fit = fit_guided(config, pairs, progress=lambda step, loss: losses.append(loss))
        assert len(losses) == 30 and losses[-1] < 0.8 * max(losses[:10])
        assert list(fit.curve) == [20, 30]
        kelvin, std = predict_pair(fit.model, pairs[0])
        assert kelvin.shape == std.shape == pairs[0].ndvi.shape
        twin = calibrated(fit.model, config.model, 2.0)
        np.testing.assert_allclose(predict_pair(twin, pairs[0])[1], 2 * std, rtol=1e-5)
        np.testing.assert_array_equal(predict_pair(twin, pairs[0])[0], kelvin)

    @pytest.mark.slow
    def test_simulated_scenes_come_first(self):
        pair = nested_pair(make_pair(coarse_pixels=10), 4)
        first = CONFIG.model_copy(
            update={"training": CONFIG.training.model_copy(update={"simulated_steps": 2})}
        )
        weights = [
            fit_guided(config, [pair], simulated=[pair]).model.get_weights()
            for config in (CONFIG, first)
        ]
        assert any(not np.array_equal(a, b) for a, b in zip(*weights, strict=True))

    def test_divergence_stops(self):
        pair = nested_pair(make_pair(coarse_pixels=10), 4)
        wild = CONFIG.training.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
        with pytest.raises(ConfigError, match="no longer finite"):
            fit_guided(CONFIG.model_copy(update={"training": wild}), [pair])

    def test_the_rate_rises_and_falls(self):
        training = PretrainConfig().training
        made = optimizer(training, 1600)
        rates = [float(made._learning_rate(step)) for step in (0, 100, 850, 1600)]
        assert rates == pytest.approx([2e-4, 2e-3, 1.01e-3, 2e-5], rel=1e-3)


def test_the_shipped_settings_are_the_defaults():
    assert PretrainConfig.from_yaml(ROOT / "configs" / "pretrain.yaml") == PretrainConfig()
