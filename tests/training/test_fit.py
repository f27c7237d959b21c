from __future__ import annotations

import csv
import json

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, ModelError, RecordsError
from keras_lstsr.grids.resample import norm_l4, upsample_bicubic
from keras_lstsr.testing.records import COUNTS, vegetated_sample, write_made_records
from keras_lstsr.testing.training import Killed, killing, with_settings
from keras_lstsr.training import fit
from keras_lstsr.training.batches import validation_batches
from keras_lstsr.training.callbacks import AtomicBackup, KeptModel
from keras_lstsr.training.fit import train
from keras_lstsr.training.run_folder import RunFolder

RUN_FILES = {
    "config.yaml",
    "dataset.json",
    "run.json",
    "model.keras",
    "card.json",
    "history.json",
    "history.csv",
    "figures",
}


def validation_patches():
    samples = [vegetated_sample(100 + n, "validation") for n in range(COUNTS["validation"])]
    truth = np.stack([sample.lst_kelvin for sample in samples])
    return truth, norm_l4(truth, 4)


def validation_rmse(model_path):
    truth, coarse = validation_patches()
    model = keras.saving.load_model(model_path, compile=False)
    predicted = np.asarray(model({"lst_kelvin": coarse[..., None]}))[..., 0]
    return np.sqrt(np.mean((predicted - truth) ** 2))


def test_run_folder_holds_all_that_was_promised(records, tiny, tmp_path):
    result = train(tiny, records, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == RUN_FILES
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["run_name"] == "run"
    assert info["epochs"] == 3
    assert info["mlflow_run_id"] is None
    metadata = json.loads((records / "dataset.json").read_text())
    assert info["dataset_fingerprint"] == metadata["fingerprint"]
    libraries = {"keras", keras.config.backend(), "keras_lstsr", "python", "numpy"}
    assert libraries <= info["versions"].keys()
    assert info["finished"] >= info["started"]
    losses = [record["val_loss"] for record in result.history]
    assert info["best_epoch"] == 1 + int(np.argmin(losses))
    assert info["best_val_loss"] == min(losses)
    with (tmp_path / "run" / "history.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["val_loss"]) for row in rows] == losses
    resolved = ExperimentConfig.from_yaml(tmp_path / "run" / "config.yaml")
    assert resolved.model.offset_kelvin == pytest.approx(
        metadata["statistics"]["lst_kelvin"]["mean"]
    )
    assert resolved.model.scale_kelvin == pytest.approx(metadata["statistics"]["lst_kelvin"]["std"])


@pytest.mark.usefixtures("shallow")
def test_model_is_the_best_and_bicubic_is_numpys(records, tiny, tmp_path):
    config = with_settings(tiny, "training", learning_rate=0.5, epochs=6)
    result = train(config, records, tmp_path / "run")
    losses = [record["val_loss"] for record in result.history]
    assert len(set(losses)) == 6, "a wild rate should make every epoch different"
    assert validation_rmse(result.model_path) == pytest.approx(
        result.info.metrics["val_rmse_kelvin"], rel=1e-4
    )
    truth, coarse = validation_patches()
    bicubic = np.sqrt(np.mean((upsample_bicubic(coarse, 4) - truth) ** 2))
    assert bicubic == pytest.approx(result.info.metrics["bicubic_val_rmse_kelvin"], rel=1e-4)


@pytest.mark.usefixtures("shallow")
def test_the_last_epoch_needs_no_validation(tiny, tmp_path):
    records = write_made_records(tmp_path / "records", {"train": 4})
    config = with_settings(tiny, "training", keep="last", epochs=2)
    result = train(config, records, tmp_path / "run")
    assert result.info.best_epoch == 2 and result.info.best_val_loss is None
    assert "val_loss" not in result.history[0] and "rmse_kelvin" in result.history[0]
    assert {path.name for path in result.figures} == {"loss.png", "maps.png"}
    with pytest.raises(RecordsError, match=r"counts\.validation.*training\.keep last"):
        train(with_settings(config, "training", early_stopping_patience=1), records, tmp_path / "b")


@pytest.mark.slow
def test_training_learns(records, tiny, tmp_path):
    # Eight patches can be learnt by heart; noise at random places cannot be beaten in validation.
    config = with_settings(tiny, "training", epochs=25, learning_rate=3e-3)
    config = with_settings(config, "data", augment=False)
    history = train(config, records, tmp_path / "run").history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


@pytest.mark.usefixtures("shallow")
def test_same_seed_same_weights_and_another_seed_others(records, tiny, tmp_path):
    def weights(name, config):
        path = train(config, records, tmp_path / name).model_path
        return keras.saving.load_model(path, compile=False).get_weights()

    first, again = weights("first", tiny), weights("again", tiny)
    other = weights("other", with_settings(tiny, "training", seed=4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)
    assert any(np.abs(one - two).max() > 1e-2 for one, two in zip(first, other, strict=True))


@pytest.mark.usefixtures("shallow")
def test_steps_per_epoch_caps_the_steps(records, tiny, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        fit.Publisher, "on_train_batch_end", lambda self, batch, logs=None: seen.append(batch)
    )
    train(with_settings(tiny, "training", steps_per_epoch=1, epochs=2), records, tmp_path / "run")
    assert seen == [0, 0]


@pytest.mark.usefixtures("shallow")
def test_rate_drops_from_its_epoch_on(records, tiny, tmp_path):
    drop = {"kind": "drop", "drop_epoch": 2}
    config = with_settings(tiny, "training", schedule=drop)
    rates = [record["learning_rate"] for record in train(config, records, tmp_path / "r").history]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-5])


@pytest.mark.usefixtures("shallow")
def test_early_stopping(records, tiny, tmp_path):
    config = with_settings(
        tiny, "training", epochs=20, learning_rate=0.3, early_stopping_patience=2
    )
    result = train(config, records, tmp_path / "run")
    assert result.info.stopped_early
    assert result.info.epochs == result.info.best_epoch + 2 < 20


def test_mixgl_learns_250_m_from_ndvi(records, tiny, tmp_path):
    content = tiny.model_dump()
    content["data"]["task"], content["loss"] = "1km_to_250m", {"name": "mixgl"}
    config = ExperimentConfig.from_dict(content)
    result = train(with_settings(config, "training", epochs=1), records, tmp_path / "run")
    assert np.isfinite(result.info.best_val_loss)
    assert "val_rmse_kelvin" not in result.info.metrics, "there is no truth at 250 m"
    assert {path.name for path in result.figures} == {"loss.png", "maps.png"}


def test_mixed_precision_leaves_a_float32_model(records, tiny, tmp_path):
    config = with_settings(tiny, "training", mixed_precision=True, epochs=1)
    result = train(config, records, tmp_path / "run")
    model = keras.saving.load_model(result.model_path, compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_xla(records, tiny, tmp_path):
    config = with_settings(tiny, "training", epochs=1)
    plain = train(config, records, tmp_path / "plain").history[0]
    compiled = train(with_settings(config, "training", xla=True), records, tmp_path / "xla")
    assert compiled.history[0]["loss"] == pytest.approx(plain["loss"], rel=1e-3)


@pytest.mark.usefixtures("shallow")
class TestResume:
    def test_ends_with_the_weights_of_an_unbroken_run(self, records, tiny, tmp_path, monkeypatch):
        # Weights, optimiser, rate and the order of the patches all have to come back for this.
        config = with_settings(
            tiny, "training", schedule={"kind": "drop", "drop_epoch": 2}, epochs=4
        )
        unbroken = train(config, records, tmp_path / "unbroken")
        with monkeypatch.context() as patch:
            method = killing(fit.Publisher.on_train_batch_end, 5)
            patch.setattr(fit.Publisher, "on_train_batch_end", method)
            with pytest.raises(Killed):
                train(config, records, tmp_path / "run")
        resumed = train(config, records, tmp_path / "run")
        assert resumed.resumed_from == 2
        assert resumed.info.resumed == 1
        assert not (tmp_path / "run" / "backup").exists()
        for key in ("epoch", "loss", "val_loss", "learning_rate"):
            expected = [record[key] for record in unbroken.history]
            np.testing.assert_allclose([r[key] for r in resumed.history], expected, rtol=1e-5)
        models = [keras.saving.load_model(r.model_path, compile=False) for r in (unbroken, resumed)]
        for one, two in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("keep", ["best", "last"])
    def test_averaged_weights_and_their_cosine_go_on(
        self, records, tiny, tmp_path, monkeypatch, keep
    ):
        config = with_settings(
            tiny,
            "training",
            **{"optimizer": "adamw", "weight_decay": 0.01, "clip_norm": 0.5, "ema_momentum": 0.8},
            schedule={"kind": "cosine", "warmup_steps": 2},
            **{"learning_rate": 0.01, "epochs": 4, "keep": keep},
        )
        unbroken = train(config, records, tmp_path / "unbroken")
        with monkeypatch.context() as patch:
            method = killing(fit.Publisher.on_train_batch_end, 6)
            patch.setattr(fit.Publisher, "on_train_batch_end", method)
            with pytest.raises(Killed):
                train(config, records, tmp_path / "run")
        with monkeypatch.context() as patch:
            patch.setattr(fit, "draw_curves", killing(fit.draw_curves, 1))
            with pytest.raises(Killed):
                train(config, records, tmp_path / "run")
        # Killed in the third epoch and once more after the last.
        resumed = train(config, records, tmp_path / "run")
        assert (resumed.resumed_from, resumed.info.resumed) == (4, 2)
        for key in ("loss", "val_loss", "learning_rate"):
            expected = [record[key] for record in unbroken.history]
            np.testing.assert_allclose([r[key] for r in resumed.history], expected, rtol=1e-5)
        models = [keras.saving.load_model(r.model_path, compile=False) for r in (unbroken, resumed)]
        for one, two in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)
        # What is kept is what was scored, and not the weights of the last step.
        assert validation_rmse(resumed.model_path) == pytest.approx(
            resumed.info.metrics["val_rmse_kelvin"], rel=1e-4
        )
        if keep == "last":
            assert resumed.info.best_epoch == 4

    @pytest.mark.parametrize(
        ("owner", "name", "resumes_from"),
        [
            (AtomicBackup, "_save_model", 1),
            (KeptModel, "save_if_kept", 2),
            (fit.Publisher, "on_epoch_end", 2),
        ],
        ids=["before backup", "before the model", "before publication"],
    )
    def test_killed_at_the_end_of_an_epoch(
        self, records, tiny, tmp_path, monkeypatch, owner, name, resumes_from
    ):
        config = tiny
        with monkeypatch.context() as patch:
            # KeptModel is asked once more, at the start.
            call = 3 if owner is KeptModel else 2
            patch.setattr(owner, name, killing(getattr(owner, name), call))
            with pytest.raises(Killed):
                train(config, records, tmp_path / "run")
        result = train(config, records, tmp_path / "run")
        assert result.resumed_from == resumes_from
        assert [record["epoch"] for record in result.history] == [1, 2, 3]
        assert validation_rmse(result.model_path) == pytest.approx(
            result.info.metrics["val_rmse_kelvin"], rel=1e-4
        )

    def test_killed_while_the_backup_is_written(self, records, tiny, tmp_path, monkeypatch):
        real = keras.Model.save_weights
        saves = []

        def broken(self, path, **kwargs):
            saves.append(path)
            real(self, path, **kwargs)
            if len(saves) == 2:
                path.write_bytes(path.read_bytes()[:1000])
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(keras.Model, "save_weights", broken)
            with pytest.raises(Killed):
                train(tiny, records, tmp_path / "run")
        result = train(tiny, records, tmp_path / "run")
        assert result.resumed_from == 1
        assert len(result.history) == 3

    def test_backup_inside_an_epoch_keeps_the_epoch(self, records, tiny, tmp_path, monkeypatch):
        config = with_settings(tiny, "training", save_freq=1)
        for _ in range(2):  # Keras' own callback counts from 0 again at the second kill
            with monkeypatch.context() as patch:
                method = killing(fit.Publisher.on_train_batch_end, 4)
                patch.setattr(fit.Publisher, "on_train_batch_end", method)
                with pytest.raises(Killed):
                    train(config, records, tmp_path / "run")
        state = json.loads((tmp_path / "run" / "backup" / "state.json").read_text())
        assert state["epoch"] == 2
        assert not state["between_epochs"]
        result = train(config, records, tmp_path / "run")
        assert [record["epoch"] for record in result.history] == [1, 2, 3]

    def test_killed_after_the_last_epoch(self, records, tiny, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(fit, "draw_curves", killing(fit.draw_curves, 1))
            with pytest.raises(Killed):
                train(tiny, records, tmp_path / "run")
        result = train(tiny, records, tmp_path / "run")
        assert result.resumed_from == 3
        assert len(result.history) == 3
        assert {path.name for path in (tmp_path / "run").iterdir()} == RUN_FILES

    def test_early_stopping_remembers(self, records, tiny, tmp_path, monkeypatch):
        config = with_settings(
            tiny, "training", epochs=20, learning_rate=0.3, early_stopping_patience=2
        )
        with monkeypatch.context() as patch:
            patch.setattr(fit, "draw_curves", killing(fit.draw_curves, 1))
            with pytest.raises(Killed):
                train(config, records, tmp_path / "run")
        before = RunFolder(tmp_path / "run").read_history()
        result = train(config, records, tmp_path / "run")
        assert result.history == before, "patience had run out before the kill"
        assert result.info.stopped_early

    def test_other_settings_are_refused_by_name(self, records, tiny, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            method = killing(fit.Publisher.on_train_batch_end, 3)
            patch.setattr(fit.Publisher, "on_train_batch_end", method)
            with pytest.raises(Killed):
                train(tiny, records, tmp_path / "run")
        with pytest.raises(ConfigError, match=r"training\.learning_rate.*other settings.*0\.01"):
            train(with_settings(tiny, "training", learning_rate=0.01), records, tmp_path / "run")
        other = write_made_records(tmp_path / "other", {**COUNTS, "train": 9})
        with pytest.raises(ConfigError, match=r"started on other records.*--overwrite"):
            train(tiny, other, tmp_path / "run")

    def test_finished_run_is_refused_unless_overwritten(self, records, tiny, tmp_path):
        config = with_settings(tiny, "training", epochs=1)
        train(config, records, tmp_path / "run")
        with pytest.raises(ConfigError, match=r"this run has finished.*--overwrite"):
            train(config, records, tmp_path / "run")
        result = train(config, records, tmp_path / "run", overwrite=True)
        assert (result.resumed_from, result.info.resumed) == (0, 0)


@pytest.mark.usefixtures("shallow")
class TestErrors:
    def test_a_foreign_folder_is_left_alone(self, records, tiny, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match="not empty and not a run folder"):
                train(tiny, records, tmp_path, overwrite=overwrite)
        assert (tmp_path / "thesis.tex").read_text() == "years of work"

    def test_missing_records(self, tiny, tmp_path):
        with pytest.raises(RecordsError, match="no records folder"):
            train(tiny, tmp_path / "nowhere", tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_empty_validation_split(self, tiny, tmp_path):
        records = write_made_records(tmp_path / "records", {"train": 4})
        with pytest.raises(RecordsError, match=r"counts\.validation.*found 0 samples"):
            train(tiny, records, tmp_path / "run")

    def test_less_than_one_batch(self, records, tiny, tmp_path):
        with pytest.raises(ConfigError, match=r"batch_size.*a batch of 16 and 8 training samples"):
            train(with_settings(tiny, "training", batch_size=16), records, tmp_path / "run")

    def test_mixgl_without_ndvi(self, tiny, tmp_path):
        records = write_made_records(tmp_path / "records", guides=())
        content = {**tiny.model_dump(), "loss": {"name": "mixgl"}}
        with pytest.raises(RecordsError, match=r"lack NDVI.*--guide ndvi="):
            train(ExperimentConfig.from_dict(content), records, tmp_path / "run")

    def test_fine_truth_is_missing(self, records, tiny, tmp_path):
        with pytest.raises(RecordsError, match=r"hold no fine truth.*--truth"):
            train(with_settings(tiny, "data", task="1km_to_250m"), records, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_diverging_loss_keeps_the_last_good_state(self, records, tiny, tmp_path):
        config = with_settings(tiny, "training", learning_rate=1e30, epochs=9)
        with pytest.raises(ConfigError, match=r"training\.learning_rate.*no longer finite"):
            train(config, records, tmp_path / "run")
        assert RunFolder(tmp_path / "run").read_run().status == "failed"
        for record in RunFolder(tmp_path / "run").read_history():
            assert np.isfinite(record["val_loss"])

    def test_interrupted(self, records, tiny, tmp_path, monkeypatch):
        def interrupt(self, batch, logs=None):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(fit.Publisher, "on_train_batch_end", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train(tiny, records, tmp_path / "run")
        assert RunFolder(tmp_path / "run").read_run().status == "interrupted"
        assert train(tiny, records, tmp_path / "run").info.status == "finished"

    def test_damaged_run_json(self, records, tiny, tmp_path):
        (tmp_path / "run.json").write_text('{"run_name": "x"}')
        with pytest.raises(ModelError, match=r"run\.json.*damaged"):
            train(tiny, records, tmp_path)


@given(patches=st.integers(1, 500), share=st.integers(1, 40), replicas=st.integers(1, 8))
def test_validation_batches_feed_every_replica(patches, share, replicas):
    assume(patches >= replicas)
    used, size = validation_batches(patches, share * replicas, replicas)
    assert patches - replicas < used <= patches
    assert size <= share * replicas
    for first in range(0, used, size):
        batch = list(range(first, min(first + size, used)))
        part = size // replicas
        assert all(batch[part * index : part * (index + 1)] for index in range(replicas))


def test_validation_batches_of_one_device_are_as_large_as_can_be():
    assert validation_batches(3, 4, 1) == (3, 3)
    assert validation_batches(10, 4, 1) == (10, 4)
