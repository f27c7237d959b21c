"""Trains one step on two logical CPU devices and on one; run in a process of its own.

TensorFlow's devices cannot be changed once it has started. Prints, for each loss, the largest
difference between the weights of both, the largest change from the start, and the difference
without synchronised BatchNorm.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.models.registry import build_model
from keras_lstsr.training import fit

SETTINGS = {
    "data": {"augment": False, "shuffle_buffer": 0},
    "model": {"width": 4, "depth": 1},
    "loss": {},
    # Adam divides by the gradient's size: a bias before BatchNorm has none but rounding errors,
    # which an epsilon of 1e-8 would blow up to whole steps.
    "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.1, "adam_epsilon": 1.0},
}
LOSSES = {
    "mse": {"data": {"task": "4km_to_1km"}, "loss": {"name": "mse"}},
    "mixgl": {"data": {"task": "1km_to_250m"}, "loss": {"name": "mixgl", "alpha": 0.5}},
    # The guided network, with all that its shipped weights were trained with.
    "detail": {
        "data": {"task": "1km_to_250m", "crop_pixels": 12, "augment": True, "variation": {}},
        "model": {"architecture": "guided", "width": 4, "depth": None, "wide_window_pixels": 7},
        "loss": {"name": "detail"},
        "training": {
            **{"optimizer": "adamw", "weight_decay": 0.01, "clip_norm": 1e-3, "ema_momentum": 0.5},
            **{"schedule": {"kind": "cosine", "warmup_steps": 1}, "keep": "last"},
            **{"adam_epsilon": 1e-3, "steps_per_epoch": 1},
        },
    },
}


def settings(loss: str, devices: int) -> ExperimentConfig:
    content = {name: {**SETTINGS[name], **LOSSES[loss].get(name, {})} for name in SETTINGS}
    content["model"] = {name: value for name, value in content["model"].items() if value}
    content["training"]["cpu_devices"] = devices
    return ExperimentConfig.from_dict(content)


def weights(loss: str, devices: int, records: Path, output: Path) -> list[np.ndarray]:
    result = fit.train(settings(loss, devices), records, output)
    assert result.info.devices == f"{devices} × CPU"
    return keras.saving.load_model(result.model_path, compile=False).get_weights()


def difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def main(records: Path, output: Path) -> None:
    report = {}
    for loss in LOSSES:
        two = weights(loss, 2, records, output / f"{loss}-2")
        one = weights(loss, 1, records, output / f"{loss}-1")
        config = ExperimentConfig.from_yaml(output / f"{loss}-1" / "config.yaml")
        keras.utils.set_random_seed(config.training.seed)
        start = build_model(config.model).get_weights()
        report[loss] = {"difference": difference(one, two), "change": difference(one, start)}
    resolve = fit.resolve
    fit.resolve = lambda config, metadata, replicas: resolve(config, metadata, 1)
    alone = weights("mse", 2, records, output / "alone")
    single = keras.saving.load_model(output / "mse-1" / "model.keras", compile=False)
    report["mse"]["unsynchronised"] = difference(single.get_weights(), alone)
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
