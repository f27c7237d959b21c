"""The guided network from records: two outputs, crops, averaged weights, a restart, MLflow."""

from __future__ import annotations

import keras
import mlflow
import numpy as np
import pytest

from keras_lstsr.artifacts.model_folder import ModelFolder
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, RecordsError
from keras_lstsr.inference.predictor import load_predictor
from keras_lstsr.testing.records import vegetated_sample, write_made_records
from keras_lstsr.testing.training import Killed, killing, with_settings
from keras_lstsr.training import fit
from keras_lstsr.training.fit import train
from keras_lstsr.training.network import calibrated
from keras_lstsr.training.tracking import Tracker

CONFIG = ExperimentConfig.from_dict(
    {
        "name": "guided-test",
        "description": "A test.",
        "data": {
            **{"task": "1km_to_250m", "crop_pixels": 8, "variation": {}},
            "licences": {"observed": "none"},
        },
        "model": {"architecture": "guided", "width": 2, "wide_window_pixels": 7},
        "loss": {"name": "detail", "options": {"std_weight": 0.2}},
        "training": {
            **{"epochs": 2, "steps_per_epoch": 3, "batch_size": 2, "keep": "last"},
            **{"optimizer": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0, "ema_momentum": 0.5},
            **{"schedule": {"kind": "cosine", "warmup_steps": 1}, "learning_rate": 0.01},
        },
    }
)

pytestmark = pytest.mark.usefixtures("step_by_step")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Three training samples with truth, one for validation."""
    folder = tmp_path_factory.mktemp("guided") / "records"
    return write_made_records(folder, {"train": 3, "validation": 1}, truth=True, side=12)


@pytest.fixture(scope="module")
def done(records, tmp_path_factory):
    """A finished run and the address of MLflow's store."""
    place = tmp_path_factory.mktemp("run")
    store = f"sqlite:///{place}/mlflow.db"
    return train(CONFIG, records, place / "run", tracker=Tracker(tracking_uri=store)), store


def inputs(sample) -> dict[str, np.ndarray]:
    return {
        "lst_kelvin": sample.lst_kelvin[None, ..., None],
        "ndvi": sample.guides["ndvi"][None, ..., None],
    }


def test_what_is_kept_has_both_outputs_and_predicts(done):
    result, _ = done
    model = keras.saving.load_model(result.model_path, compile=False)
    assert {"lst_kelvin_fine", "lst_std_kelvin"} <= set(model.output)
    sample = vegetated_sample(200, "test", truth=True, side=12)
    predictor = load_predictor(result.run_dir)
    given = inputs(sample)
    prediction = predictor.predict(given["lst_kelvin"], {"ndvi": given["ndvi"]})
    # The first guess alone is a regression on NDVI, which made these samples.
    error = np.sqrt(np.nanmean((prediction.lst_kelvin[0, ..., 0] - sample.truth_kelvin) ** 2))
    assert error < 0.5
    assert np.all(prediction.std_kelvin[np.isfinite(prediction.lst_kelvin)] > 0)


def test_what_is_scored_is_what_is_kept(done):
    result, _ = done
    record = result.history[-1]
    sample = vegetated_sample(100, "validation", truth=True, side=12)
    model = keras.saving.load_model(result.model_path, compile=False)
    kelvin = np.asarray(model(inputs(sample))["lst_kelvin_fine"])[0, ..., 0]
    rmse = np.sqrt(np.nanmean((kelvin - sample.truth_kelvin) ** 2))
    assert rmse == pytest.approx(record["val_rmse_kelvin"], rel=1e-3)
    assert record["val_rmse_kelvin"] < record["bicubic_val_rmse_kelvin"]
    assert result.info.best_epoch == 2


def test_the_card_says_where_the_model_comes_from(done, records):
    result, _ = done
    card = ModelFolder(result.run_dir).read_card()
    assert (card.name, card.description, card.guides) == ("guided", "A test.", ("ndvi",))
    assert set(card.learnt_from) == {"train-0", "train-1", "train-2"}
    assert card.data["observed"].licence == "none" and len(card.data["observed"].files) == 4
    assert card.settings["training"]["ema_momentum"] == 0.5
    assert card.dataset_fingerprint == result.info.dataset_fingerprint
    assert {"keras", "numpy", "keras_lstsr"} < card.versions.keys()
    assert str(records) not in card.model_dump_json()


def test_mlflow_has_the_model_with_all_it_takes_and_gives(done):
    result, store = done
    mlflow.set_tracking_uri(store)
    try:
        loaded = mlflow.pyfunc.load_model(result.model_uri)
        given = inputs(vegetated_sample(200, "test", side=12))
        fine = loaded.predict(given)["lst_kelvin_fine"]
    finally:
        mlflow.set_tracking_uri(None)
    assert [field.name for field in loaded.metadata.signature.inputs] == ["lst_kelvin", "ndvi"]
    names = {field.name for field in loaded.metadata.signature.outputs}
    assert {"lst_kelvin_fine", "lst_std_kelvin"} <= names
    model = keras.saving.load_model(result.model_path, compile=False)
    np.testing.assert_allclose(fine, model(given)["lst_kelvin_fine"], atol=1e-4)


def test_a_killed_training_goes_on(done, records, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        method = killing(fit.Publisher.on_train_batch_end, 5)
        patch.setattr(fit.Publisher, "on_train_batch_end", method)
        with pytest.raises(Killed):
            train(CONFIG, records, tmp_path / "run")
    resumed = train(CONFIG, records, tmp_path / "run")
    assert resumed.resumed_from == 1
    unbroken, _ = done
    models = [keras.saving.load_model(r.model_path, compile=False) for r in (unbroken, resumed)]
    for one, two in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


def test_a_calibrated_twin_differs_in_its_spread_alone(done):
    result, _ = done
    model = keras.saving.load_model(result.model_path, compile=False)
    given = inputs(vegetated_sample(200, "test", side=12))
    before, after = model(given), calibrated(model, CONFIG, 2.0)(given)
    np.testing.assert_array_equal(before["lst_kelvin_fine"], after["lst_kelvin_fine"])
    np.testing.assert_allclose(2 * before["lst_std_kelvin"], after["lst_std_kelvin"], rtol=1e-5)


def test_divergence_stops(records, tmp_path):
    wild = with_settings(CONFIG, "training", learning_rate=1e30, schedule={}, ema_momentum=None)
    with pytest.raises(ConfigError, match="no longer finite"):
        train(wild, records, tmp_path / "run")


def test_records_without_what_it_takes_are_refused(tmp_path):
    for name, missing in (("guide", r"lack NDVI.*--guide ndvi="), ("truth", "no fine truth")):
        lacks = {"guides": ()} if name == "guide" else {"truth": False}
        held = {"truth": True} | lacks
        lacking = write_made_records(tmp_path / name, {"train": 2}, **held, side=8)
        with pytest.raises(RecordsError, match=missing):
            train(CONFIG, lacking, tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_learns_what_ndvi_does_not_tell(tmp_path):
    from keras_lstsr.testing.records import write_samples

    samples = [vegetated_sample(number, "train", truth=True, side=24) for number in range(3)]
    for sample in samples:  # here LST falls with NDVI squared
        sample.truth_kelvin[:] -= 40 * (sample.guides["ndvi"] - 0.5) ** 2
    write_samples(tmp_path / "records", samples, num_shards=1)
    config = with_settings(CONFIG, "model", width=4)
    config = with_settings(
        config, "data", crop_pixels=12, variation={"guide_absent_share": 0, "cloud_share": 0}
    )
    config = with_settings(
        config, "training", epochs=12, steps_per_epoch=10, batch_size=4, ema_momentum=0.8
    )
    history = train(config, tmp_path / "records", tmp_path / "run").history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
