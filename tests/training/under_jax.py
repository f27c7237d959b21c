"""Trains, goes on after a kill, scores and predicts where TensorFlow cannot be imported.

Run in a process of its own with KERAS_BACKEND=jax:
``python tests/without_tensorflow.py tests/training/under_jax.py FOLDER``.
The folder holds ``settings.yaml`` and ``records``, and ``guided.yaml`` and ``guided_records`` of
the guided network. Prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_lstsr.cli.main import cli
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.inference.predictor import load_predictor
from keras_lstsr.testing.training import Killed, killing
from keras_lstsr.training import fit


def command(*arguments: object) -> str:
    """Runs the command line; returns what it printed, or the error that it ended with."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return result.output if result.exception is None else repr(result.exception)


def trained_with_a_kill(
    settings: Path, records: Path, output: Path, *, at_step: int
) -> fit.TrainingResult:
    config = ExperimentConfig.from_yaml(settings)
    with pytest.MonkeyPatch.context() as patch:
        method = killing(fit.Publisher.on_train_batch_end, at_step)
        patch.setattr(fit.Publisher, "on_train_batch_end", method)
        with pytest.raises(Killed):
            fit.train(config, records, output)
    return fit.train(config, records, output)


def weights(run: Path) -> list[np.ndarray]:
    return keras.saving.load_model(run / "model.keras", compile=False).get_weights()


def differences(one: Path, other: Path) -> list[float]:
    """Returns the largest difference of each weight of two runs."""
    pairs = zip(weights(one), weights(other), strict=True)
    return [float(np.abs(left - right).max()) for left, right in pairs]


def guided(output: Path) -> dict[str, object]:
    """Trains the guided network, once with a kill, and predicts."""
    settings, records = output / "guided.yaml", output / "guided_records"
    run, again = output / "guided", output / "guided_again"
    result = fit.train(ExperimentConfig.from_yaml(settings), records, run)
    resumed = trained_with_a_kill(settings, records, again, at_step=5)
    given = np.load(output / "guided.npz")
    predicted = load_predictor(run).predict(given["lst_kelvin"], {"ndvi": given["ndvi"]})
    np.savez(output / "guided_fine.npz", kelvin=predicted.lst_kelvin, std=predicted.std_kelvin)
    return {
        "resumed_from": resumed.resumed_from,
        "differences": differences(run, again),
        "losses": [record["loss"] for record in result.history],
    }


def main(output: Path) -> None:
    settings, records = output / "settings.yaml", output / "records"
    run, store = output / "run", f"sqlite:///{output / 'mlflow.db'}"
    told = command(
        "train", "--config", settings, "--records", records, "--output", run,
        "--tracking-uri", store,
    )  # fmt: skip
    again = trained_with_a_kill(settings, records, output / "again", at_step=10)
    predictor = load_predictor(run)
    coarse = np.load(output / "coarse.npy")
    np.save(output / "fine.npy", predictor.predict(coarse).lst_kelvin)
    report = {
        "train": told,
        "resumed_from": again.resumed_from,
        "differences": differences(run, output / "again"),
        "guided": guided(output),
        "software": sorted(predictor.provenance["software"]),
        "evaluate": command(
            "evaluate", run, "--records", records, "--output", output / "scores", "--split", "test"
        ),
        "export": command("export", run, "--output", output / "models"),
        "serve": command("serve", output / "models"),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
