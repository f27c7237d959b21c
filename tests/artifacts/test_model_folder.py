from __future__ import annotations

import json

import keras
import pytest

from keras_lstsr.artifacts.loading import holds_keras_model, open_model, weights_sha256
from keras_lstsr.artifacts.model_folder import (
    CardData,
    ModelCard,
    ModelFolder,
    RunInfo,
    card_of,
)
from keras_lstsr.config import ExperimentConfig, LossConfig
from keras_lstsr.errors import ConfigError, ModelError, OldLayoutWarning
from keras_lstsr.inference.predictor import load_predictor
from keras_lstsr.testing.models import write_model_folder

CARD = ModelCard(
    name="ours",
    guides=("ndvi",),
    data={"pairs": CardData(purpose="training", files={"a_lst.tif": "1" * 64})},
    dataset_fingerprint="f" * 64,
    scores={"aster": {"means": {"ours": {"ssim": 0.8}}}},
    learnt_from={"a": ("1" * 64, "2" * 64), "b": ("3" * 64,)},
)


def test_a_folder_gives_back_what_was_written(tmp_path, tiny_model):
    config = ExperimentConfig(loss=LossConfig(name="mae"))
    folder = write_model_folder(
        tmp_path / "run", tiny_model, config=config, card=CARD, best_epoch=3
    )
    assert {path.name for path in folder.path.iterdir()} == {
        "model.keras", "config.yaml", "card.json", "run.json",
    }  # fmt: skip
    assert folder.read_config() == config
    assert folder.read_card() == CARD
    assert folder.read_run().best_epoch == 3
    assert list(tmp_path.iterdir()) == [folder.path]


def test_what_is_not_there_is_none_but_for_the_run(tmp_path):
    folder = ModelFolder(tmp_path)
    assert folder.is_free()
    assert folder.read_config() is None
    assert folder.read_card() is None
    with pytest.raises(ModelError, match=r"run\.json: this is not a model folder"):
        folder.read_run()
    assert not holds_keras_model(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", '{"name": 3}'])
def test_damaged_files_are_named(tmp_path, content):
    folder = ModelFolder(tmp_path)
    for file in (folder.card, folder.run, folder.config):
        file.write_text(content)
    with pytest.raises(ModelError, match=r"card\.json"):
        folder.read_card()
    with pytest.raises(ModelError, match=r"run\.json"):
        folder.read_run()
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        folder.read_config()


def test_a_folder_that_is_not_free_is_not_replaced(tmp_path, tiny_model):
    (tmp_path / "theirs").touch()
    with pytest.raises(OSError, match="not empty"):
        ModelFolder(tmp_path).create(
            ExperimentConfig(), RunInfo(run_name="r", dataset_fingerprint="")
        )
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_card_and_run_come_with_the_model_however_it_is_named(tmp_path, tiny_guided_model):
    folder = write_model_folder(tmp_path / "mine", tiny_guided_model, card=CARD)
    for source in (folder.path, folder.model):
        predictor = load_predictor(source)
        assert predictor.provenance["run_name"] == "mine"
        assert predictor.provenance["run"]["status"] == "finished"
        assert predictor.provenance["config"]["name"] == "lstsr"
        assert card_of(predictor.provenance) == CARD
    alone = folder.model.rename(tmp_path / "alone.keras")
    model, provenance = open_model(alone)
    assert provenance == {"run_name": "alone"}
    assert card_of(provenance) is None
    assert weights_sha256(model) == weights_sha256(tiny_guided_model)


def test_the_files_that_a_model_knows():
    assert CARD.known_files == {"1" * 64, "2" * 64, "3" * 64}
    assert card_of({"model_card": {"no": "name"}}) is None


OLD_CARD = {
    "name": "guided",
    "created": "2026-01-01T00:00:00+00:00",
    "task": "1km_to_250m",
    "dataset": {
        "name": "places",
        "pairs": 2,
        "files": {"a_lst.tif": "1" * 64, "a_ndvi.tif": "2" * 64, "b_lst.tif": "3" * 64},
        "fine_scenes": {"fine.tif": "4" * 64},
    },
    "dataset_fingerprint": "f" * 64,
    "cross_validation": {"aster": {"means": {"guided": {"ssim": 0.8}}}},
    "folds": [{"fold": 1, "pairs": ["a"]}],
    "final": {"trained_on": ["a", "b"]},
    "training_seconds": 3.0,
}


@pytest.fixture
def old_folder(tmp_path, tiny_guided_model):
    """As `pretrain` left it: two outputs, and another layout of the card."""
    outputs = {
        name: tiny_guided_model.output[name] for name in ("lst_kelvin_fine", "lst_std_kelvin")
    }
    keras.Model(tiny_guided_model.input, outputs).save(tmp_path / "guided.keras")
    (tmp_path / "guided.json").write_text(json.dumps(OLD_CARD))
    return tmp_path


@pytest.mark.parametrize("name", ["", "guided.keras"])
def test_an_old_folder_is_read_with_a_note(old_folder, tiny_guided_model, name):
    with pytest.warns(OldLayoutWarning, match=r"guided\.keras.*next release"):
        predictor = load_predictor(old_folder / name)
    assert list(predictor.contract.guides) == ["ndvi"]
    assert predictor.contract.gives("lst_std_kelvin")
    assert not predictor.contract.gives("guide_followed")
    assert predictor.provenance["weights_sha256"] == weights_sha256(tiny_guided_model)
    assert predictor.provenance["dataset_fingerprint"] == "f" * 64
    card = card_of(predictor.provenance)
    assert card.data["places"].files == OLD_CARD["dataset"]["files"]
    assert card.learnt_from == {
        "a": ("1" * 64, "2" * 64), "b": ("3" * 64,), "fine.tif": ("4" * 64,),
    }  # fmt: skip
    assert card.scores == OLD_CARD["cross_validation"]
    assert card_of({"model_card": OLD_CARD}) == card  # as it lies in older SavedModels


def test_an_old_folder_without_its_card_has_none(old_folder):
    (old_folder / "guided.json").unlink()
    with pytest.warns(OldLayoutWarning):
        _, provenance = open_model(old_folder)
    assert provenance == {"run_name": old_folder.name}
