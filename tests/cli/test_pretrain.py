from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from keras_lstsr.cli.main import cli
from keras_lstsr.errors import ConfigError, ProductError
from tests.pairs.made_pairs import make_pair, moved, write_pair

TINY = ("training.steps=2", "training.batch_size=1", "training.patch_size=8", "model.width=1")


def invoke(*arguments):
    return CliRunner().invoke(cli, ["pretrain", *map(str, arguments)], catch_exceptions=False)


def options(*settings):
    return [part for setting in settings for part in ("--set", setting)]


@pytest.mark.slow
@pytest.mark.usefixtures("step_by_step")
def test_from_pairs_to_the_model(tmp_path):
    (tmp_path / "pairs").mkdir()
    for number in range(2):
        made = make_pair(f"{number:03d}", seed=number)
        parts = {"lst": 100, "guide": 400, "truth": 400}
        placed = {name: moved(getattr(made, name), rows=number * by) for name, by in parts.items()}
        write_pair(tmp_path / "pairs", type(made)(made.name, made.group, **placed))
    arguments = ["--pairs", tmp_path / "pairs", "--output", tmp_path / "out", "--folds", 2]
    told = invoke(*arguments, *options(*TINY), "--no-mlflow")
    assert told.exit_code == 0, told.output
    assert "fold 2/2" in told.output and "aster_subpixel, bias-free error: guided" in told.output
    card = json.loads((tmp_path / "out" / "guided.json").read_text())
    assert card["settings"]["folds"] == 2 and card["settings"]["training"]["steps"] == 2
    assert card["mlflow_run_id"] is None
    assert (tmp_path / "out" / "guided.keras").is_file()


@pytest.mark.parametrize(
    ("setting", "words"),
    [("training.step=3", "training.step"), ("folds=1", "folds"), ("model.width=0", "model.width")],
)
def test_wrong_settings_are_named(tmp_path, setting, words):
    with pytest.raises(ConfigError, match=words):
        invoke("--pairs", tmp_path, "--output", tmp_path / "out", "--set", setting)


def test_a_folder_without_pairs(tmp_path):
    with pytest.raises(ProductError, match="holds no pair"):
        invoke("--pairs", tmp_path, "--output", tmp_path / "out", "--no-mlflow")
