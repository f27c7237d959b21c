"""Cross-validation: folds, scores, calibration, the final model, and going on after a kill."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from numpy.typing import NDArray

from keras_lstsr.artifacts.loading import PRETRAINED, shipped_folder
from keras_lstsr.artifacts.model_folder import ModelFolder
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, RecordsError
from keras_lstsr.evaluation import cross_validation as unseen
from keras_lstsr.evaluation.cross_validation import ModelsOfFolds
from keras_lstsr.evaluation.methods import PredictorMethod
from keras_lstsr.grids.resample import upsample_bicubic
from keras_lstsr.inference.predictor import KerasPredictor, load_predictor
from keras_lstsr.records.sample import Sample
from keras_lstsr.testing.records import vegetated_sample, write_made_records, write_samples
from keras_lstsr.testing.samples import made_scene
from keras_lstsr.testing.training import Killed, killing, with_settings
from keras_lstsr.training import cross_validation as module
from keras_lstsr.training.cross_validation import cross_validate
from keras_lstsr.training.scores import CrossValidationScores, SampleScore
from keras_lstsr.training.tracking import Tracker

ROOT = Path(__file__).resolve().parents[2]

CONFIG = ExperimentConfig.from_dict(
    {
        "name": "made",
        "data": {
            **{"task": "1km_to_250m", "crop_pixels": 8, "variation": {}, "degraded_share": 0.3},
        },
        "model": {"architecture": "guided", "width": 2, "wide_window_pixels": 7},
        "loss": {"name": "detail"},
        "training": {
            **{"epochs": 2, "steps_per_epoch": 2, "batch_size": 2, "keep": "last"},
            **{"ema_momentum": 0.5, "learning_rate": 1e-3},
        },
        "cross_validation": {"folds": 2},
    }
)

pytestmark = pytest.mark.usefixtures("step_by_step")


def made_samples() -> list[Sample]:
    """Four observed scenes at four places, and a degraded one on the ground of the first in part.

    NDVI tells all of the truth but for some noise.
    """
    rng = np.random.default_rng(0)
    samples = [vegetated_sample(number, truth=True, side=14) for number in range(4)]
    for sample in samples:
        sample.truth_kelvin[:] += rng.normal(0, 0.3, sample.truth_kelvin.shape)
    fine = vegetated_sample(9, truth=True, side=14)
    fine.guides["ndvi"][:] = np.nan
    overlapping = samples[0].grid.shifted(7, 0)
    return [*samples, replace(fine, origin="degraded", grid=overlapping)]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "made"
    write_samples(folder, made_samples(), num_shards=1)
    return folder


def score(predictions: Mapping[str, NDArray[np.floating]]) -> CrossValidationScores:
    """Scores predictions beside bicubic by what is left of the error without its mean."""
    samples = {sample.name: sample for sample in made_samples()}
    rows = []
    for name, kelvin in predictions.items():
        sample = samples[name]
        for method, fine in (
            ("bicubic", upsample_bicubic(sample.lst_kelvin, 4)),
            ("guided", kelvin),
        ):
            value = float(np.nanstd(fine - sample.truth_kelvin))
            rows.append(SampleScore("made", name, method, {"bias_free_rmse_kelvin": value}))
    means = {
        method: {
            "bias_free_rmse_kelvin": float(
                np.mean([r.values["bias_free_rmse_kelvin"] for r in rows if r.method == method])
            )
        }
        for method in ("bicubic", "guided")
    }
    return CrossValidationScores(rows, {"made": means}, {"made": {"how": "by hand"}})


@pytest.fixture(scope="module")
def done(records, tmp_path_factory):
    """A finished run, its output and the address of MLflow's store."""
    place = tmp_path_factory.mktemp("run")
    store = f"sqlite:///{place}/mlflow.db"
    tracker = Tracker(experiment="made", tracking_uri=store)
    return cross_validate(CONFIG, records, place / "out", score=score, tracker=tracker), store


class TestRun:
    def test_every_scene_is_predicted_by_a_model_that_has_not_seen_it(self, done):
        result, _ = done
        observed = {f"train-{number}" for number in range(4)}
        tested = [scene for fold in result.card.folds for scene in fold["tested"]]
        assert sorted(tested) == sorted(observed), "the degraded one is in no fold"
        for fold in result.card.folds:
            assert set(fold["tested"]) | set(fold["trained_on"]) == observed
            assert not set(fold["tested"]) & set(fold["trained_on"])
        assert set(result.card.learnt_from) == {*observed, "train-9"}

    def test_scores_are_of_every_sample_and_method(self, done):
        result, _ = done
        with (result.model_path.parent / "cross_validation.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 2 * 4
        assert {row["method"] for row in rows} == {"bicubic", "guided"}
        assert {row["group"] for row in rows} == {f"train-{number}" for number in range(4)}
        assert {row["fold"] for row in rows} == {"1", "2"}
        means = result.card.scores["made"]["means"]
        # The first guess alone is a regression on NDVI, which made these samples.
        assert means["guided"]["bias_free_rmse_kelvin"] < (
            0.7 * means["bicubic"]["bias_free_rmse_kelvin"]
        )
        assert result.card.scores["made"]["scored"] == {"how": "by hand"}
        assert result.card.scores["made"]["pairs"]["train-0"]["fold"] in (1, 2)

    def test_the_model_is_calibrated_and_ready_for_use(self, done):
        result, _ = done
        model = keras.saving.load_model(result.model_path, compile=False)
        factor = model.get_layer("standard_deviation").calibration
        assert factor == result.calibration.factor == result.card.calibration["factor"]
        assert 0 < factor != 1
        held = result.calibration.coverage_by_fold
        assert len(held) == 2 and all(0.5 < share < 1 for share in held)
        assert result.card.calibration["coverage_out_of_fold"] == pytest.approx(np.mean(held))
        predictor = load_predictor(result.model_path.parent)
        prediction = predictor.predict(np.full((1, 9, 7, 1), 300, np.float32))
        assert np.isfinite(prediction.lst_kelvin).all()

    def test_it_is_a_model_folder(self, done, records):
        result, _ = done
        folder = ModelFolder(result.model_path.parent)
        assert folder.read_card() == result.card
        assert folder.read_config() == CONFIG
        assert folder.read_run().status == "finished"
        assert folder.read_run().metrics["calibration_factor"] == result.calibration.factor
        assert set(result.card.data) == {"observed", "degraded"}
        assert len(result.card.data["observed"].files) == 4
        assert result.card.settings == json.loads(CONFIG.model_dump_json())
        assert str(records) not in folder.card.read_text()
        left = {path.name for path in (folder.path / "folds").iterdir()}
        assert left == {f"fold_{n}{end}" for n in (1, 2) for end in ("", ".json", ".npz")}

    def test_mlflow_has_it_all(self, done):
        result, store = done
        client = mlflow.MlflowClient(store)
        (experiment,) = [e for e in client.search_experiments() if e.name == "made"]
        runs = client.search_runs([experiment.experiment_id])
        (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        nested = [run for run in runs if run is not parent]
        assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
        assert {run.info.run_name for run in nested} == {"fold_1", "fold_2", "final"}
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert parent.data.params["training.epochs"] == "2"
        assert parent.data.tags["dataset_fingerprint"] == result.card.dataset_fingerprint
        wanted = {"fold_1_loss", "fold_2_coverage", "calibration_factor", "training_seconds"}
        assert wanted < parent.data.metrics.keys()
        assert parent.data.metrics["made_guided_bias_free_rmse_kelvin"] > 0
        names = {item.path for item in client.list_artifacts(parent.info.run_id)}
        assert names == {"model.keras", "card.json", "cross_validation.csv", "config.yaml"}

    def test_a_finished_run_and_another_one_are_not_overwritten(self, done, records):
        output = done[0].model_path.parent
        with pytest.raises(ConfigError, match=r"has finished.*--overwrite"):
            cross_validate(CONFIG, records, output, score=score)
        with pytest.raises(ConfigError, match="not empty and not a run folder"):
            cross_validate(CONFIG, records, records, score=score)


def test_goes_on_with_what_is_not_finished(done, records, tmp_path, monkeypatch):
    trained = []

    def counted(config, derived, output, **keywords):
        trained.append(output.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(config, derived, output, **keywords)

    train = module.train
    monkeypatch.setattr(module, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(CONFIG, records, tmp_path / "out", score=score)
    assert ModelFolder(tmp_path / "out").read_run().status == "interrupted"
    other = with_settings(CONFIG, "training", seed=5)
    with pytest.raises(ConfigError, match=r"training\.seed.*other settings"):
        cross_validate(other, records, tmp_path / "out", score=score)
    # Killed between the training of a fold and its predictions.
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_predictions", killing(module._write_predictions, 1))
        with pytest.raises(Killed):
            cross_validate(CONFIG, records, tmp_path / "out", score=score)
    result = cross_validate(CONFIG, records, tmp_path / "out", score=score)
    assert trained == ["fold_1", "fold_2", "fold_2", "final"]
    # As if nothing had happened: the same as the unbroken run.
    whole, _ = done
    assert result.card.scores == whole.card.scores
    assert result.card.calibration == whole.card.calibration


def test_a_network_without_standard_deviations_has_no_calibration(tmp_path):
    records = write_made_records(tmp_path / "records", {"train": 2}, truth=True, side=14)
    config = ExperimentConfig.from_dict(
        {
            "data": {"task": "1km_to_250m"},
            "model": {"architecture": "srcnn", "width": 2},
            "training": {"epochs": 1, "batch_size": 1, "keep": "last"},
            "cross_validation": {"folds": 2},
        }
    )

    def none(predictions: Mapping[str, NDArray[np.floating]]) -> CrossValidationScores:
        assert {kelvin.shape for kelvin in predictions.values()} == {(56, 56)}
        return CrossValidationScores([], {})

    result = cross_validate(config, records, tmp_path / "out", score=none)
    assert result.calibration is None and result.card.calibration == {}
    fine = load_predictor(tmp_path / "out").predict(np.full((1, 5, 4, 1), 300, np.float32))
    assert fine.lst_kelvin.shape == (1, 20, 16, 1) and fine.std_kelvin is None


def test_what_cannot_be_cross_validated_is_refused(records, tmp_path):
    single = ExperimentConfig.from_dict({"cross_validation": {"folds": 2}})
    with pytest.raises(ConfigError, match=r"data\.task.*1km_to_250m"):
        cross_validate(single, records, tmp_path / "out", score=score)
    lacking = write_made_records(tmp_path / "lacking", {"train": 2}, side=8)
    with pytest.raises(RecordsError, match="no fine"):
        cross_validate(CONFIG, lacking, tmp_path / "out", score=score)
    assert not (tmp_path / "out").exists()
    same = [replace(sample, grid=made_samples()[0].grid) for sample in made_samples()[:2]]
    write_samples(tmp_path / "same", same, num_shards=1)
    with pytest.raises(ConfigError, match=r"no truth is left.*fold 1 of 2"):
        cross_validate(CONFIG, tmp_path / "same", tmp_path / "out", score=score)


def test_the_settings_in_configs_are_those_of_the_shipped_weights():
    shipped = ModelFolder(shipped_folder(PRETRAINED))
    config = ExperimentConfig.from_yaml(ROOT / "configs" / "pretrain.yaml")
    assert shipped.read_config() == config
    # Settings that came later have the defaults that they had without saying.
    assert ExperimentConfig.from_dict(shipped.read_card().settings) == config


@pytest.fixture(scope="module")
def with_places(tmp_path_factory):
    """Two degraded places, one of them in two draws, beside the four observed scenes: the result,
    its folder, and the predictions of places that were scored."""
    tmp_path = tmp_path_factory.mktemp("places")
    samples = made_samples()[:4]
    for number, name in enumerate(("a/1_day#1", "a/1_day#2", "b/1_night#1")):
        grid = samples[0].grid.shifted(1000 + 100 * (number // 2), 0)
        made = vegetated_sample(20 + number, truth=True, side=14)
        group = name.partition("/")[0]
        samples.append(
            replace(made, name=name, scene=name, group=group, grid=grid, origin="degraded")
        )
    write_samples(tmp_path / "records", samples, num_shards=1)
    config = with_settings(CONFIG, "cross_validation", test_degraded=True)
    seen = []

    def score_degraded(predictions: Mapping[str, NDArray[np.floating]]) -> CrossValidationScores:
        seen.append(predictions)
        rows = [SampleScore("a", name, "guided", {"ratio_to_bicubic": 1.0}) for name in predictions]
        return CrossValidationScores(rows, {"a": {"guided": {"ratio_to_bicubic": 1.0}}})

    out = tmp_path / "out"
    result = cross_validate(
        config, tmp_path / "records", out, score=score, score_degraded=score_degraded
    )
    return result, out, *seen


def test_places_are_tested_and_scored_apart(with_places):
    result, out, predictions = with_places
    assert set(predictions) == {"a/1_day#1", "b/1_night#1"}
    assert all(np.isfinite(kelvin).all() for kelvin in predictions.values())
    assert {row.sample for row in result.scores.rows} == {f"train-{n}" for n in range(4)}
    assert set(result.card.scores) == {"made", "a"}
    folds = [json.loads((out / "folds" / f"fold_{n}.json").read_text()) for n in (1, 2)]
    assert [fold["tested_degraded"] for fold in folds] == [["a/1_day#1"], ["b/1_night#1"]]
    learnt = [fold["trained_on_degraded"] for fold in folds]
    assert learnt == [["b/1_night#1"], ["a/1_day#1", "a/1_day#2"]]
    assert sorted(name for fold in folds for name in fold["tested"]) == [
        f"train-{n}" for n in range(4)
    ]
    with np.load(out / "folds" / "fold_1.npz") as arrays:
        kelvin, std = arrays["a/1_day#1:kelvin"], arrays["a/1_day#1:std"]
    np.testing.assert_array_equal(kelvin, predictions["a/1_day#1"])
    assert std.shape == kelvin.shape == (56, 56) and (std > 0).all()
    with (out / "cross_validation_places.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["sample"], row["fold"], row["group"]) for row in rows] == [
        ("a/1_day#1", "1", "a"),
        ("b/1_night#1", "2", "b"),
    ]
    with (out / "cross_validation.csv").open() as stream:
        assert {row["group"] for row in csv.DictReader(stream)} == {f"train-{n}" for n in range(4)}
    # The calibration is that of the observed samples alone.
    assert len(result.calibration.coverage_by_fold) == 2


def test_a_place_gets_the_model_that_left_it_out(with_places, monkeypatch):
    result, out, _ = with_places
    loaded = []

    def recorded(predictor: KerasPredictor) -> PredictorMethod:
        loaded.append(predictor.provenance["run_name"])
        return PredictorMethod(predictor)

    monkeypatch.setattr(unseen, "PredictorMethod", recorded)
    method = ModelsOfFolds(out)
    scene = made_scene("a/2_day", coarse_pixels=14)
    for name, known in (("a/2_day", 1), ("b/3_day", 2), ("a/9_night", 2)):
        ours = method(replace(scene, name=name)).lst_kelvin
        assert loaded == ["fold_1", "fold_2"][:known]
    own = PredictorMethod(load_predictor(out / "folds" / "fold_1"))(scene).lst_kelvin
    np.testing.assert_allclose(ours.values, own.values, atol=1e-3)
    # The models of folds are not calibrated; the whole is, and the scene's check takes a part back.
    ratio = ours.coords["lst_std_kelvin"].values / own.coords["lst_std_kelvin"].values
    low, high = sorted((result.calibration.factor, result.calibration.factor**0.5))
    assert low < np.median(ratio) < high
    with pytest.raises(ConfigError, match=r"left this place out.*found c/1_day; expected a, b"):
        method(replace(scene, name="c/1_day"))


def test_places_of_an_unfinished_run_are_not_scored(with_places, tmp_path):
    _, out, _ = with_places
    shutil.copytree(out / "folds", tmp_path / "folds")
    with pytest.raises(ConfigError, match="has not finished"):
        ModelsOfFolds(tmp_path)(made_scene("a/1_day"))
    # Nor are those of a run whose folds have tested pairs alone.
    for path in (tmp_path / "folds").glob("fold_*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "tested_degraded": []}))
    with pytest.raises(ConfigError, match="test_degraded"):
        ModelsOfFolds(tmp_path)
