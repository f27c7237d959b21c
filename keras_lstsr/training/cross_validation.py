"""Cross-validates a network by place, calibrates it, and trains it on everything.

::

    OUTPUT/                   a model folder, see ``keras_lstsr.artifacts.model_folder``
      model.keras             trained on all samples, its standard deviations calibrated
      card.json               what it is, where it comes from, how good it is on unseen ground
      cross_validation.csv    the scores of each sample by a model that has not seen its ground
      cross_validation_places.csv    those of samples whose LST was made from their truth, if tested
      dataset.json            a copy of the records' description
      folds/fold_N/           the run folder of each fold's training
      folds/fold_N.npz        its predictions of its tested samples: NAME:kelvin and NAME:std
      folds/fold_N.json       ``FoldRecord``; written last, so what has one is whole
      final/                  the run folder of the training on all samples
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from keras_lstsr.artifacts.model_folder import CardData, ModelCard, RunInfo
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.files import locked, sha256_of, write_text_whole, written_whole
from keras_lstsr.records.folds import degraded_folds, fold_records, scene_folds
from keras_lstsr.records.reading import iterate_samples
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import (
    DATASET_FILE,
    ORIGINS,
    SPLITS,
    DatasetMetadata,
    Origin,
    SceneInfo,
    load_metadata,
    require_truth,
)
from keras_lstsr.training.calibration import Calibration, calibrate, standardised_errors
from keras_lstsr.training.card import training_card
from keras_lstsr.training.fit import train
from keras_lstsr.training.network import calibrated
from keras_lstsr.training.progress import TrainingProgress
from keras_lstsr.training.run_folder import RunFolder
from keras_lstsr.training.scores import CrossValidationScores, Scorer
from keras_lstsr.training.tracking import Tracker

FloatArray = NDArray[np.float32]
Predictions = dict[str, tuple[FloatArray, FloatArray | None]]
"""Sample → fine LST and, where the network gives it, its standard deviation, in kelvin."""


class FoldRecord(BaseModel):
    """The content of ``fold_N.json``.

    Attributes:
        fold: Counted from 1.
        tested: The observed scenes whose samples were predicted.
        trained_on: The observed scenes that the model has learnt from.
        tested_degraded: The scenes whose LST was made from their truth and that were predicted.
        trained_on_degraded: Those of them that the model has learnt from.
        truth_share: Part of the fine pixels of those that had truth, after masking; of what two
            instruments observed.
        loss: The last epoch's.
        seconds: What training took.
    """

    fold: int
    tested: list[str]
    trained_on: list[str]
    tested_degraded: list[str] = []
    trained_on_degraded: list[str] = []
    truth_share: float
    loss: float
    seconds: float


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation gave.

    Attributes:
        model_path: The calibrated model, trained on all samples.
        card: The content of ``card.json``.
        scores: Of the predictions on unseen ground.
        place_scores: Of those of samples whose LST was made from their truth; None where none was
            tested or scored.
        calibration: Of the standard deviations; None where the network gives none.
    """

    model_path: Path
    card: ModelCard
    scores: CrossValidationScores
    place_scores: CrossValidationScores | None
    calibration: Calibration | None


def cross_validate(
    config: ExperimentConfig,
    records_dir: str | PathLike[str],
    output_dir: str | PathLike[str],
    *,
    score: Scorer,
    score_degraded: Scorer | None = None,
    tracker: Tracker | None = None,
    progress: TrainingProgress | None = None,
    overwrite: bool = False,
) -> CrossValidation:
    """Cross-validates a network by place, then trains it on all samples.

    Each fold's model learns from the other folds' samples, and from no truth on ground that a
    sample of its own fold covers. Samples whose LST was made from their own truth are tested only
    with ``cross_validation.test_degraded``, and scored apart. The standard deviations are
    calibrated on the predictions of observed samples, and the final model is trained with the same
    settings on everything. A killed run goes on where it stopped.

    Args:
        config: The settings.
        records_dir: Folder of records with fine truth; their splits do not matter.
        output_dir: Folder for the results.
        score: Scores the predictions on unseen ground.
        score_degraded: Scores those of samples whose LST was made from their truth; None leaves
            them in ``folds/fold_N.npz``, unscored.
        tracker: MLflow's run, in which those of the trainings are nested; None trains without
            MLflow.
        progress: Shows the trainings; None shows nothing.
        overwrite: Delete an existing run and start again.

    Returns:
        The result.

    Raises:
        RecordsError: If the records are missing or hold no fine truth.
        ConfigError: If the samples give no folds, the output holds another or a finished run, or
            settings do not fit.
    """
    metadata = load_metadata(records_dir)
    _check(config, metadata, Path(records_dir))
    with locked(output_dir):
        folder = RunFolder(output_dir)
        dataset = Path(records_dir) / DATASET_FILE
        info = folder.open(config, metadata.fingerprint, dataset, overwrite=overwrite)
        run = _Run(
            config,
            Path(records_dir),
            metadata,
            folder,
            info,
            tracker,
            progress or TrainingProgress(),
        )
        with folder.running(info, tracker):
            if tracker is not None:
                tracker.begin(info, config, run.records_dir, {})
            folder.write_run(info)
            return run.whole(score, score_degraded)


def _check(config: ExperimentConfig, metadata: DatasetMetadata, records_dir: Path) -> None:
    task = config.data.task
    ConfigError.unless(
        task != "4km_to_1km",
        "data.task",
        task,
        "1km_to_250m or 4km_to_1km_to_250m",
        "cross-validation scores against fine truth, at which these settings do not aim",
    )
    require_truth(metadata, records_dir, "cross-validation needs")


@dataclass(frozen=True)
class _Run:
    """A cross-validation with all that its stages share."""

    config: ExperimentConfig
    records_dir: Path
    metadata: DatasetMetadata
    folder: RunFolder
    info: RunInfo
    tracker: Tracker | None
    progress: TrainingProgress

    @property
    def folds_dir(self) -> Path:
        return self.folder.path / "folds"

    def whole(self, score: Scorer, score_degraded: Scorer | None) -> CrossValidation:
        count = self.config.cross_validation.folds
        assigned = scene_folds(self.metadata, count)
        if self.config.cross_validation.test_degraded:
            assigned |= degraded_folds(self.metadata, count)
        records: list[FoldRecord] = []
        predictions: Predictions = {}
        fold_of: dict[str, int] = {}
        for fold in range(1, count + 1):
            record, predicted = self._fold(fold, assigned)
            records.append(record)
            predictions |= predicted
            fold_of |= dict.fromkeys(predicted, fold)
        observed, degraded = (
            {name: p for name, p in predictions.items() if self._scene(name).origin == origin}
            for origin in ORIGINS
        )
        scores = self._scored(score, observed, fold_of, self.folder.scores)
        of_places = None
        if score_degraded is not None and degraded:
            of_places = self._scored(score_degraded, degraded, fold_of, self.folder.place_scores)
        every = [each for each in (scores, of_places) if each is not None]
        calibration = self._calibration(observed, fold_of)
        with self._derived(None) as derived:
            final = self._trained(derived, self.folder.path / "final")
            card = training_card(self.config, derived, final.read_run(), final.model)
        model = keras.saving.load_model(final.model, compile=False)
        if calibration is not None:
            model = calibrated(model, self.config, calibration.factor)
        self.folder.write_model(model)
        card = card.model_copy(
            update={
                "model_sha256": sha256_of(self.folder.model),
                "data": card.data | {"observed": _also_for_validation(card.data["observed"])},
                "dataset_fingerprint": self.metadata.fingerprint,
                "folds": [record.model_dump() for record in records],
                "scores": {k: v for each in every for k, v in each.as_json(fold_of).items()},
                "calibration": {} if calibration is None else calibration.as_json(),
            }
        )
        self.folder.write_card(card)
        self._finish(records, every, calibration, final.read_run())
        return CrossValidation(self.folder.model, card, scores, of_places, calibration)

    def _scored(
        self, score: Scorer, predictions: Predictions, fold_of: Mapping[str, int], table: Path
    ) -> CrossValidationScores:
        """Scores predictions, writes the table and shows the means."""
        scores = score({name: kelvin for name, (kelvin, _) in predictions.items()})
        groups = {name: self._scene(name).group for name in predictions}
        write_text_whole(table, scores.as_csv(fold_of, groups))
        for line in scores.lines():
            self.progress.note(line)
        return scores

    def _scene(self, sample: str) -> SceneInfo:
        """Returns the scene of a sample, which has its name from it."""
        scenes = self.metadata.scenes
        return scenes[sample if sample in scenes else sample.rpartition("/")[0]]

    def _fold(self, fold: int, assigned: Mapping[str, int]) -> tuple[FoldRecord, Predictions]:
        written = self.folds_dir / f"fold_{fold}.json"
        arrays = written.with_suffix(".npz")
        title = f"fold {fold}/{self.config.cross_validation.folds}"
        if written.exists():
            self.progress.note(f"{title}: finished before")
            found = FoldRecord.model_validate_json(written.read_text(encoding="utf-8"))
            return found, _read_predictions(arrays)
        tested = [name for name, own in assigned.items() if own == fold - 1]
        with self._derived(fold) as derived:
            learnt, also_learnt = self._learnt(derived, fold)
            share = float(np.mean([valid for _, valid in learnt]))
            self.progress.note(
                f"{title}: learns from {len(learnt)} samples, truth on {share:.1%} of their "
                f"pixels, and {len(also_learnt)} degraded ones; {len(tested)} of {len(assigned)} "
                "scenes are kept out"
            )
            run = self._trained(derived, self.folds_dir / f"fold_{fold}")
            model = keras.saving.load_model(run.model, compile=False)
            predictions = {
                sample.name: predict_sample(model, sample)
                for sample in iterate_samples(derived, "test")
            }
        record = FoldRecord(
            fold=fold,
            tested=[name for name in tested if self._scene(name).origin == "observed"],
            trained_on=sorted({scene for scene, _ in learnt}),
            tested_degraded=[n for n in predictions if self._scene(n).origin == "degraded"],
            trained_on_degraded=sorted({scene for scene, _ in also_learnt}),
            truth_share=round(share, 4),
            loss=run.read_history()[-1]["loss"],
            seconds=run.read_run().training_seconds,
        )
        _write_predictions(arrays, predictions)
        write_text_whole(written, record.model_dump_json(indent=2) + "\n")
        return record, predictions

    def _learnt(
        self, derived: Path, fold: int
    ) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
        """Returns scene and share of truth of each observed, and degraded, sample of a training."""
        found: dict[Origin, list[tuple[str, float]]] = {origin: [] for origin in ORIGINS}
        if load_metadata(derived).counts["train"]:
            for sample in iterate_samples(derived, "train"):
                found[sample.origin].append((sample.scene, sample.valid_share))
        learnt = found["observed"]
        if not learnt:
            raise ConfigError(
                "no truth is left to learn from: it lies on the ground that the fold tests",
                path=self.records_dir,
                field="cross_validation.folds",
                found=f"fold {fold} of {self.config.cross_validation.folds}",
                action="Prepare records of more places.",
            )
        return learnt, found["degraded"]

    @contextlib.contextmanager
    def _derived(self, fold: int | None) -> Iterator[Path]:
        """Lends the records of a fold, or of all samples, for the time of its training."""
        path = self.folds_dir / ("records_all" if fold is None else f"records_{fold}")
        if not (path / DATASET_FILE).exists():
            shutil.rmtree(path, ignore_errors=True)
            number = None if fold is None else fold - 1
            settings = self.config.cross_validation
            fold_records(
                self.records_dir,
                number,
                settings.folds,
                path,
                test_degraded=settings.test_degraded,
            )
        yield path
        shutil.rmtree(path)

    def _trained(self, records_dir: Path, output: Path) -> RunFolder:
        folder = RunFolder(output)
        if not folder.run.exists() or folder.read_run().status != "finished":
            tracker = None if self.tracker is None else self.tracker.nested()
            train(self.config, records_dir, output, tracker=tracker, progress=self.progress)
        return folder

    def _calibration(
        self, predictions: Predictions, fold_of: Mapping[str, int]
    ) -> Calibration | None:
        errors: dict[int, list[NDArray[np.float64]]] = {}
        for split in SPLITS:
            if not self.metadata.counts.get(split):
                continue
            for sample in iterate_samples(self.records_dir, split):
                kelvin, std = predictions.get(sample.name, (None, None))
                if kelvin is None or std is None or sample.truth_kelvin is None:
                    continue
                truth = sample.truth_kelvin
                fold = errors.setdefault(fold_of[sample.name], [])
                fold.append(standardised_errors(kelvin, std, truth))
        if not errors:
            return None
        calibration = calibrate(dict(sorted(errors.items())))
        coverage = ", ".join(f"{share:.1%}" for share in calibration.coverage_by_fold)
        self.progress.note(
            f"standard deviations × {calibration.factor:.3f}; intervals of "
            f"{calibration.share:.0%} hold {coverage} of a fold when calibrated on the others"
        )
        return calibration

    def _finish(
        self,
        records: Sequence[FoldRecord],
        scores: Sequence[CrossValidationScores],
        calibration: Calibration | None,
        final: RunInfo,
    ) -> None:
        """Sums up in run.json and in MLflow."""
        info = self.info
        summary = {name: value for each in scores for name, value in each.figures().items()}
        if calibration is not None:
            summary["calibration_factor"] = calibration.factor
            for record, share in zip(records, calibration.coverage_by_fold, strict=False):
                summary[f"fold_{record.fold}_coverage"] = share
        for record in records:
            summary[f"fold_{record.fold}_loss"] = record.loss
        info.metrics = summary
        info.epochs, info.best_epoch = final.epochs, final.best_epoch
        info.devices, info.parameters = final.devices, final.parameters
        info.training_seconds = round(
            sum(record.seconds for record in records) + final.training_seconds, 1
        )
        if self.tracker is not None:
            self.tracker.log_summary({**summary, "training_seconds": info.training_seconds})
            folder = self.folder
            tables = [table for table in (folder.scores, folder.place_scores) if table.exists()]
            self.tracker.log_files([folder.model, folder.card, *tables, folder.config])


def read_folds(folder: str | PathLike[str]) -> list[FoldRecord]:
    """Reads what a cross-validation has written of its folds, those that are finished, in order."""
    paths = (Path(folder) / "folds").glob("fold_*.json")
    records = (FoldRecord.model_validate_json(p.read_text(encoding="utf-8")) for p in paths)
    return sorted(records, key=lambda record: record.fold)


def predict_sample(model: keras.Model, sample: Sample) -> tuple[FloatArray, FloatArray | None]:
    """Predicts a whole sample at once; its truth is not read. Guides that it lacks are missing.

    Returns:
        Fine LST ``[h · f, w · f]`` in kelvin and, where the model gives it, its standard deviation;
        NaN where LST is missing.
    """
    inputs = {"lst_kelvin": sample.lst_kelvin[None, ..., None]}
    fine = tuple(side * sample.scale_factor for side in sample.lst_kelvin.shape)
    for name in {each.name for each in model.inputs} - {"lst_kelvin"}:
        guide = sample.guides.get(name, np.full(fine, np.nan, np.float32))
        inputs[name] = guide[None, ..., None]
    outputs = model(inputs, training=False)
    if not isinstance(outputs, dict):
        outputs = {"lst_kelvin_fine": outputs}

    def plane(name: str) -> FloatArray:
        return np.asarray(keras.ops.convert_to_numpy(outputs[name]), np.float32)[0, ..., 0]

    std = plane("lst_std_kelvin") if "lst_std_kelvin" in outputs else None
    return plane("lst_kelvin_fine"), std


def _also_for_validation(data: CardData) -> CardData:
    return data.model_copy(update={"purpose": "training, cross-validation and calibration"})


def _write_predictions(path: Path, predictions: Predictions) -> None:
    named: dict[str, Any] = {}
    for name, (kelvin, std) in predictions.items():
        named[f"{name}:kelvin"] = kelvin
        if std is not None:
            named[f"{name}:std"] = std
    with written_whole(path) as partial:
        np.savez_compressed(partial, **named)


def _read_predictions(path: Path) -> Predictions:
    with np.load(path) as arrays:
        return {
            key.removesuffix(":kelvin"): (arrays[key], _or_none(arrays, key[: -len("kelvin")]))
            for key in arrays
            if key.endswith(":kelvin")
        }


def _or_none(arrays: Any, prefix: str) -> FloatArray | None:
    return arrays.get(f"{prefix}std")
