"""From pairs to the model, in one command and step by step."""

from __future__ import annotations

import csv
import json

import pytest
from click.testing import CliRunner

from keras_lstsr.cli.main import cli
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.records.schema import load_metadata
from keras_lstsr.testing.samples import made_scene, moved, write_pair, write_places

TINY = (
    "training.epochs=1",
    "training.steps_per_epoch=2",
    "training.batch_size=1",
    "data.crop_pixels=8",
    "model.width=1",
    "model.wide_window_pixels=7",
)


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)


def options(*settings):
    return [part for setting in settings for part in ("--set", setting)]


def write_pairs(folder, count):
    """Writes pairs at places of their own."""
    folder.mkdir()
    for number in range(count):
        write_pair(folder, moved(made_scene(f"{number:03d}", seed=number), rows=100 * number))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("step_by_step")
def test_from_pairs_to_the_model(tmp_path):
    pairs = write_pairs(tmp_path / "pairs", 2)
    arguments = ["--output", tmp_path / "out", "--folds", 2, *options(*TINY), "--no-mlflow"]
    told = invoke("pretrain", "--pairs", pairs, *arguments)
    assert told.exit_code == 0, told.output
    assert "fold 2/2" in told.output and "aster_subpixel, bias-free error: guided" in told.output
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["settings"]["cross_validation"]["folds"] == 2
    assert card["settings"]["training"]["steps_per_epoch"] == 2
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["mlflow_run_id"] is None and run["status"] == "finished"
    # Who scores it on the pairs that it has learnt from is told.
    scored = ["--pairs", pairs, "--model", tmp_path / "out", "--method", "tsharp"]
    told = invoke("evaluate", *scored, "--output", tmp_path / "scores")
    assert told.exit_code == 0, told.output
    assert "has learnt from 2 of these 2 samples" in " ".join(told.output.split())
    # The records are there now: other pairs are noticed, and cross-validation takes them.
    with pytest.raises(ConfigError, match="made from other files"):
        invoke("pretrain", "--pairs", write_pairs(tmp_path / "others", 3), *arguments)
    records = tmp_path / "out" / "records"
    again = ["--records", records, "--config", tmp_path / "out" / "config.yaml", "--no-mlflow"]
    told = invoke("cross-validate", *again, "--output", tmp_path / "again", "--quiet")
    assert told.exit_code == 0, told.output
    assert told.output.startswith("unseen_ground, bias-free error: guided")
    with (tmp_path / "again" / "cross_validation.csv").open() as stream:
        assert {row["method"] for row in csv.DictReader(stream)} == {"guided", "bicubic", "tsharp"}


@pytest.mark.slow
def test_places_and_references_reach_the_records(tmp_path, monkeypatch):
    """What is trained on them is tested elsewhere: here the training is left out."""
    pairs, places = write_pairs(tmp_path / "pairs", 2), write_places(tmp_path / "places")
    trained = []
    monkeypatch.setattr(
        "keras_lstsr.cli.pretrain.run_cross_validation", lambda *given: trained.append(given[1])
    )
    given = ["pretrain", "--pairs", pairs, "--output", tmp_path / "out", "--no-mlflow"]
    options = ["--places", places, "--draws", "1", "--references"]
    for each in (options, ["--references", "true", *options[:-1]]):  # as `mlflow run -P` says it
        told = invoke(*given, *each)
        assert told.exit_code == 0, told.output
    assert trained == [tmp_path / "out" / "records"] * 2
    metadata = load_metadata(trained[0])
    assert metadata.guides == ["ndvi", "water", "reference"]
    degraded = {name for name, scene in metadata.scenes.items() if scene.origin == "degraded"}
    assert degraded == {
        *(f"coast/{stem}#1" for stem in ("20230601_day", "2023170201530_day")),
        *("coast/20230620_morning#1", "coast/20230602_night#1", "river/unknown-warm_day#1"),
    }
    assert "reference" in load_metadata(trained[0]).guides  # without the option: the network's
    invoke(*given, *options[:-1])
    for other in (
        [*options[:2], "--draws", "2", "--references"],
        [*options, "false"],
    ):
        with pytest.raises(ConfigError, match="with other options"):
            invoke(*given, *other)
    with pytest.raises(ConfigError, match="from other files"):
        invoke(*given, "--references")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.step=3", "training.step"),
        ("cross_validation.folds=1", "cross_validation.folds"),
        ("model.width=0", "model.width"),
        ("training.steps=3", r"training.epochs times training.steps_per_epoch"),
    ],
)
def test_wrong_settings_are_named(tmp_path, setting, words):
    with pytest.raises(ConfigError, match=words):
        invoke("pretrain", "--pairs", tmp_path, "--output", tmp_path / "out", "--set", setting)


def test_a_folder_without_pairs(tmp_path):
    with pytest.raises(ProductError, match="holds no pair"):
        invoke("pretrain", "--pairs", tmp_path, "--output", tmp_path / "out", "--no-mlflow")
