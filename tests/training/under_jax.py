"""Trains, goes on after a kill, scores and predicts where TensorFlow cannot be imported.

Run in a process of its own with KERAS_BACKEND=jax: ``python -m tests.training.under_jax SETTINGS
RECORDS OUTPUT``. Prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tests.without_tensorflow  # noqa: F401  # before anything that might import TensorFlow

# isort: split
import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_lstsr.cli.main import cli
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.inference.loading import load_predictor
from keras_lstsr.training import fit
from tests.training.test_fit import Killed, killing


def command(*arguments: object) -> str:
    """Runs the command line; returns what it printed, or the error that it ended with."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return result.output if result.exception is None else repr(result.exception)


def trained_again_with_a_kill(settings: Path, records: Path, output: Path) -> fit.TrainingResult:
    config = ExperimentConfig.from_yaml(settings)
    with pytest.MonkeyPatch.context() as patch:
        method = killing(fit.Publisher.on_train_batch_end, 10)
        patch.setattr(fit.Publisher, "on_train_batch_end", method)
        with pytest.raises(Killed):
            fit.train(config, records, output)
    return fit.train(config, records, output)


def weights(run: Path) -> list[np.ndarray]:
    return keras.saving.load_model(run / "model.keras", compile=False).get_weights()


def main(settings: Path, records: Path, output: Path) -> None:
    run, store = output / "run", f"sqlite:///{output / 'mlflow.db'}"
    told = command(
        "train", "--config", settings, "--records", records, "--output", run,
        "--tracking-uri", store,
    )  # fmt: skip
    again = trained_again_with_a_kill(settings, records, output / "again")
    predictor = load_predictor(run)
    coarse = np.load(output / "coarse.npy")
    np.save(output / "fine.npy", predictor.predict(coarse).lst_kelvin)
    report = {
        "train": told,
        "resumed_from": again.resumed_from,
        "differences": [
            float(np.abs(one - other).max())
            for one, other in zip(weights(run), weights(output / "again"), strict=True)
        ],
        "software": sorted(predictor.provenance["software"]),
        "evaluate": command(
            "evaluate", run, "--records", records, "--output", output / "scores", "--split", "test"
        ),
        "export": command("export", run, "--output", output / "models"),
        "serve": command("serve", output / "models"),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
