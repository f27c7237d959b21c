"""Prints the losses of compiled models that are loaded in a process of its own.

Run as ``python -m tests.losses.load_losses CASE.npz MODEL.keras …``.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np

import keras_lstsr.losses  # noqa: F401  (registers them)


def main(case: str, models: list[str]) -> None:
    arrays = np.load(case)
    report = {}
    for path in models:
        loss = keras.saving.load_model(path).loss
        report[path] = {
            "config": loss.get_config(),
            "value": float(loss(arrays["y_true"], arrays["y_pred"])),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
