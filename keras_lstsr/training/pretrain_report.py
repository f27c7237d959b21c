"""What a pretraining says of itself: scores pair by pair, and the model's card."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.model_folder import library_versions, utc_now
from keras_lstsr.config import PretrainConfig
from keras_lstsr.files import sha256_of, write_text_whole
from keras_lstsr.training.calibration import Calibration
from keras_lstsr.training.pretrain_folder import FoldRecord
from keras_lstsr.training.strategy import describe_devices, make_strategy

GUIDED = "guided"
"""Names the guided model among the methods that are scored."""

CARD_METRICS = (
    "bias_free_rmse_kelvin",
    "rmse_kelvin",
    "psnr_db",
    "ssim",
    "high_pass_correlation",
)


@dataclass(frozen=True)
class PairScore:
    """The scores of one method on one pair.

    Attributes:
        variant: How the truth was registered, e.g. ``"aster"``, ``"aster_subpixel"``.
        pair: The pair.
        method: ``"guided"``, or a baseline.
        values: Metric → value.
    """

    variant: str
    pair: str
    method: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class CrossValidationScores:
    """The scores of out-of-fold predictions.

    Attributes:
        rows: One per variant, pair and method.
        means: Variant → method → metric → mean over the pairs, and what else sums them up.
        details: Variant → how it was scored.
    """

    rows: list[PairScore]
    means: Mapping[str, Mapping[str, Mapping[str, float]]]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Scorer = Callable[[Mapping[str, NDArray[np.float32]]], CrossValidationScores]
"""Pair → its fine LST ``[h · f, w · f]`` predicted by a model that has not seen its ground, on the
guide's grid, cropped to what the guide covers; scored by who knows the protocols."""


def write_scores(
    path: Path, scores: CrossValidationScores, folds: Mapping[str, int], groups: Mapping[str, str]
) -> None:
    """Writes the scores pair by pair as CSV.

    Args:
        path: Where to.
        scores: The scores.
        folds: Pair → fold, from 1 on.
        groups: Pair → group.
    """
    metrics = list(dict.fromkeys(name for row in scores.rows for name in row.values))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["variant", "pair", "fold", "group", "method", *metrics])
    for row in scores.rows:
        values = [f"{row.values.get(name, float('nan')):.6g}" for name in metrics]
        writer.writerow(
            [row.variant, row.pair, folds[row.pair], groups[row.pair], row.method, *values]
        )
    write_text_whole(path, stream.getvalue())


def model_card(
    config: PretrainConfig,
    *,
    data_name: str,
    files: Mapping[str, str],
    scene_files: Mapping[str, str],
    fingerprint: str,
    records: Sequence[FoldRecord],
    scores: CrossValidationScores,
    calibration: Calibration,
    coverage: float,
    final: FoldRecord,
    model: Any,
    model_path: Path,
    mlflow_run_id: str | None,
) -> dict[str, Any]:
    """Puts together what is to be known of the model.

    Args:
        config: The settings.
        data_name: What the folder of pairs is called.
        files: Name → SHA-256 of the pairs' files.
        scene_files: The same of scenes of fine LST that were mixed in.
        fingerprint: Identity of the pairs.
        records: The folds.
        scores: Of the out-of-fold predictions.
        calibration: Of the standard deviations.
        coverage: What intervals hold on average over the folds, each calibrated on the others.
        final: Of the training on all pairs.
        model: The model.
        model_path: Where it is saved.
        mlflow_run_id: MLflow's run.

    Returns:
        Values that JSON knows.
    """
    folds = {pair: record.fold for record in records for pair in record.pairs}
    per_pair: dict[str, Any] = {}
    for row in scores.rows:
        entry = per_pair.setdefault(row.variant, {}).setdefault(row.pair, {"fold": folds[row.pair]})
        entry[row.method] = {name: round(row.values[name], 4) for name in CARD_METRICS}
    return {
        "name": GUIDED,
        "created": utc_now(),
        "task": "1km_to_250m",
        "parameters": int(model.count_params()),
        "model_sha256": sha256_of(model_path),
        "dataset": {"name": data_name, "pairs": len(final.trained_on), "files": dict(files)}
        | ({"fine_scenes": dict(scene_files)} if scene_files else {}),
        "dataset_fingerprint": fingerprint,
        "settings": json.loads(config.model_dump_json()),
        "cross_validation": {
            variant: {
                "scored": dict(scores.details.get(variant, {})),
                "means": {
                    method: {name: round(float(value), 5) for name, value in values.items()}
                    for method, values in means.items()
                },
                "pairs": per_pair.get(variant, {}),
            }
            for variant, means in scores.means.items()
        },
        "calibration": {
            **asdict(calibration),
            "coverage_by_fold": list(calibration.coverage_by_fold),
            "coverage_out_of_fold": coverage,
        },
        "folds": [record.model_dump(exclude={"curve"}) for record in records],
        "final": final.model_dump(exclude={"curve", "fold", "pairs"}),
        "training_seconds": round(sum(r.seconds for r in records) + final.seconds, 1),
        "devices": describe_devices(make_strategy()),
        "backend": keras.config.backend(),
        "versions": library_versions(),
        "mlflow_run_id": mlflow_run_id,
    }
