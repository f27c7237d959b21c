"""Trains the guided network on pairs: cross-validation by place, calibration, the final model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_lstsr.config import PretrainConfig
from keras_lstsr.files import write_text_whole, written_whole
from keras_lstsr.pairs.degraded import degraded_pair
from keras_lstsr.pairs.files import PairFiles
from keras_lstsr.pairs.folds import assign_folds
from keras_lstsr.pairs.simulated import simulated_pairs
from keras_lstsr.pairs.training_pairs import PairSet, TrainingPair, nested_pair, without_ground
from keras_lstsr.training.calibration import Calibration, calibrate, standardised_errors
from keras_lstsr.training.guided_fit import GuidedFit, calibrated, fit_guided, predict_pair
from keras_lstsr.training.pretrain_folder import (
    FoldRecord,
    Predictions,
    PretrainFolder,
    PretrainState,
    files_of,
    files_of_scenes,
    fingerprint_of,
)
from keras_lstsr.training.pretrain_progress import PretrainProgress, SilentPretrainProgress
from keras_lstsr.training.pretrain_report import (
    CARD_METRICS,
    GUIDED,
    CrossValidationScores,
    Scorer,
    model_card,
    write_scores,
)
from keras_lstsr.training.run_folder import flatten
from keras_lstsr.training.tracking import Tracker


@dataclass(frozen=True)
class PretrainResult:
    """What a pretraining gave.

    Attributes:
        model_path: The calibrated model, trained on all pairs.
        card: The content of ``guided.json``.
        scores: Of the out-of-fold predictions.
        calibration: Of the standard deviations.
    """

    model_path: Path
    card: dict[str, Any]
    scores: CrossValidationScores
    calibration: Calibration


def pretrain(
    config: PretrainConfig,
    sources: Sequence[PairFiles],
    output: str | PathLike[str],
    *,
    score: Scorer,
    fine_scenes: Sequence[Path] = (),
    tracker: Tracker | None = None,
    progress: PretrainProgress | None = None,
    overwrite: bool = False,
) -> PretrainResult:
    """Cross-validates the guided network by place, then trains it on all pairs.

    Each fold's model learns from the other folds' pairs, and from no pixel on ground that a pair
    of its own fold covers. The standard deviations are calibrated on the predictions so made, and
    the final model is trained with the same settings on everything. A killed run goes on with the
    first fold that is not finished.

    Args:
        config: The settings.
        sources: The pairs.
        output: Folder for the results; see ``training.pretrain_folder``.
        score: Scores the out-of-fold predictions.
        fine_scenes: GeoTIFFs of fine LST without guide, mixed into every training; they must lie
            elsewhere than the pairs.
        tracker: MLflow's run; None trains without MLflow.
        progress: Shows the training; None shows nothing.
        overwrite: Delete a run that is there and start anew.

    Returns:
        The result.

    Raises:
        ConfigError: If the pairs give no folds or no patches, the output holds another or a
            finished run, or the loss is no longer finite.
        ProductError: If a raster cannot be read.
        GridError: If no pair of a fold can be registered.
    """
    files, scenes = files_of(sources), files_of_scenes(fine_scenes)
    folder, fingerprint = PretrainFolder(output), fingerprint_of(sources, files, scenes)
    state = folder.open(config, fingerprint, overwrite=overwrite)
    run = _Run(config, sources, fine_scenes, folder, state, files, scenes, tracker, progress)
    state.status = "running"
    try:
        run.start_tracking()
        folder.write_state(state)
        result = run.whole(score)
        state.status = "finished"
        folder.write_state(state)
        if tracker is not None:
            tracker.finish("FINISHED")
        return result
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        state.status = "interrupted" if interrupted else "failed"
        folder.write_state(state)
        if tracker is not None:
            tracker.finish("KILLED" if interrupted else "FAILED")
        raise
    finally:
        run.progress.finished()


class _Run:
    """A pretraining with all that its stages share."""

    def __init__(
        self,
        config: PretrainConfig,
        sources: Sequence[PairFiles],
        fine_scenes: Sequence[Path],
        folder: PretrainFolder,
        state: PretrainState,
        files: dict[str, str],
        scene_files: dict[str, str],
        tracker: Tracker | None,
        progress: PretrainProgress | None,
    ) -> None:
        self.config, self.sources, self.folder, self.state = config, sources, folder, state
        self.fine_scenes, self.files, self.scene_files = fine_scenes, files, scene_files
        self.tracker = tracker
        self.progress = progress or SilentPretrainProgress()
        self._degraded: list[TrainingPair] | None = None
        self._simulated: list[TrainingPair] | None = None

    def start_tracking(self) -> None:
        if self.tracker is None:
            return
        self.state.mlflow_run_id = self.tracker.start(
            run_name=self.folder.path.name,
            experiment=self.config.name,
            parameters=flatten(self.config),
            tags={"task": "1km_to_250m", "model": GUIDED},
            run_id=self.state.mlflow_run_id,
            tracking_uri=self.state.tracking_uri,
        )
        self.state.tracking_uri = self.tracker.recordable_uri
        where = self.sources[0].lst.parent.resolve()
        self.tracker.log_dataset(where.name, self.state.dataset_fingerprint, where)

    def whole(self, score: Scorer) -> PretrainResult:
        pairs = self._registered()
        assigned = assign_folds(
            pairs.groups, [pairs.footprints[name] for name in pairs.names], self.config.folds
        )
        records: list[FoldRecord] = []
        predictions: Predictions = {}
        for fold in range(1, self.config.folds + 1):
            tested = [n for n, own in zip(pairs.names, assigned, strict=True) if own == fold - 1]
            record, predicted = self._fold(fold, pairs, tested)
            records.append(record)
            predictions |= predicted
        scores = self._scored(score, predictions, records, pairs)
        calibration = self._calibrated(pairs, predictions, records)
        fit, final = self._train("all pairs", 0, pairs, pairs.names, ())
        model = calibrated(fit.model, self.config.model, calibration.factor)
        with written_whole(self.folder.model) as partial:
            model.save(partial)
        coverage = calibration.coverage_by_fold
        card = model_card(
            self.config,
            data_name=self.sources[0].lst.parent.resolve().name,
            files=self.files,
            scene_files=self.scene_files,
            fingerprint=self.state.dataset_fingerprint,
            records=records,
            scores=scores,
            calibration=calibration,
            coverage=float(np.mean(coverage)),
            final=final,
            model=model,
            model_path=self.folder.model,
            mlflow_run_id=self.state.mlflow_run_id,
        )
        write_text_whole(self.folder.card, json.dumps(card, indent=2) + "\n")
        self._log(scores, calibration, records, final)
        return PretrainResult(self.folder.model, card, scores, calibration)

    def _registered(self) -> PairSet:
        count = 0

        def told(name: str) -> None:
            nonlocal count
            count += 1
            self.progress.step(count, name)

        self.progress.started("registering", len(self.sources), "pairs")
        pairs = PairSet(self.sources, self.config.model.scale_factor, progress=told)
        self.progress.finished()
        unclear = [name for name in pairs.names if pairs.shifts[name] is None]
        words = f"{len(pairs.names)} pairs registered one by one"
        self.progress.note(words + (f", but for {', '.join(unclear)}" if unclear else ""))
        return pairs

    def _fold(self, fold: int, pairs: PairSet, tested: list[str]) -> tuple[FoldRecord, Predictions]:
        done = self.folder.read_fold(fold)
        title = f"fold {fold}/{self.config.folds}"
        if done is not None:
            self.progress.note(f"{title}  finished before")
            return done
        others = [name for name in pairs.names if name not in tested]
        fit, record = self._train(title, fold, pairs, others, tested)
        # What stands in for a test pair's own shift comes from the training pairs, too.
        predictions = {
            pair.name: predict_pair(fit.model, pair) for pair in pairs.selected(tested, others)
        }
        self.folder.write_fold(record, predictions, fit.model)
        return record, predictions

    def _train(
        self, title: str, fold: int, pairs: PairSet, names: list[str], tested: Sequence[str]
    ) -> tuple[GuidedFit, FoldRecord]:
        chosen = pairs.selected(names, names, tested)
        share = float(np.mean([pair.valid_share for pair in chosen]))
        self.progress.note(f"{title}  {len(chosen)} pairs, truth on {share:.1%} of their pixels")
        fine_scenes, simulated = self._degraded_pairs(pairs), self._simulated_pairs()
        self.progress.started(title, self.config.training.steps, "steps")
        fit = fit_guided(
            self.config,
            chosen,
            fine_scenes=fine_scenes,
            simulated=simulated,
            progress=lambda step, loss: self.progress.step(step, f"loss {loss:.4g}"),
        )
        self.progress.finished()
        record = FoldRecord(
            fold=fold,
            pairs=list(tested),
            trained_on=names,
            truth_share=round(share, 4),
            common_shift=[pair.name for pair in chosen if not pair.own_shift],
            curve=fit.curve,
            seconds=round(fit.seconds, 1),
        )
        loss = list(fit.curve.values())[-1]
        self.progress.note(f"{title}  loss {loss:.4g} after {fit.seconds:.0f} s")
        return fit, record

    def _degraded_pairs(self, pairs: PairSet) -> list[TrainingPair]:
        if self._degraded is None:
            factor = self.config.model.scale_factor
            self._degraded = []
            self.progress.started("degrading", len(self.fine_scenes), "scenes")
            for count, path in enumerate(self.fine_scenes, 1):
                pair = degraded_pair(path, factor)
                # No scene shows the ground of any pair, whichever fold that is tested in.
                self._degraded.append(without_ground(pair, list(pairs.footprints.values())))
                self.progress.step(count, path.name)
            self.progress.finished()
        return self._degraded

    def _simulated_pairs(self) -> list[TrainingPair]:
        training = self.config.training
        if not training.simulated_steps:
            return []
        if self._simulated is None:
            factor = self.config.model.scale_factor
            made = simulated_pairs(scenes=training.simulated_scenes, seed=training.seed)
            self._simulated = [nested_pair(pair, factor) for pair in made]
        return self._simulated

    def _scored(
        self,
        score: Scorer,
        predictions: Predictions,
        records: Sequence[FoldRecord],
        pairs: PairSet,
    ) -> CrossValidationScores:
        scores = score({name: kelvin for name, (kelvin, _) in predictions.items()})
        folds = {name: record.fold for record in records for name in record.pairs}
        groups = dict(zip(pairs.names, pairs.groups, strict=True))
        write_scores(self.folder.scores, scores, folds, groups)
        for variant, means in scores.means.items():
            for method, values in means.items():
                shown = "  ".join(f"{name} {values[name]:.4g}" for name in CARD_METRICS)
                self.progress.note(f"{variant}  {method:<8} {shown}")
        return scores

    def _calibrated(
        self, pairs: PairSet, predictions: Predictions, records: Sequence[FoldRecord]
    ) -> Calibration:
        errors = {
            record.fold: [
                standardised_errors(*predictions[pair.name], pair.truth_kelvin)
                for pair in pairs.selected(record.pairs, record.trained_on)
            ]
            for record in records
        }
        calibration = calibrate(errors)
        coverage = ", ".join(f"{share:.1%}" for share in calibration.coverage_by_fold)
        self.progress.note(
            f"standard deviations × {calibration.factor:.3f}; intervals of "
            f"{calibration.share:.0%} hold {coverage} of a fold when calibrated on the others"
        )
        return calibration

    def _log(
        self,
        scores: CrossValidationScores,
        calibration: Calibration,
        records: Sequence[FoldRecord],
        final: FoldRecord,
    ) -> None:
        if self.tracker is None:
            return
        curves = {f"fold_{record.fold}_loss": record.curve for record in records}
        curves["loss"] = final.curve
        for step in final.curve:
            at_step = {name: curve[step] for name, curve in curves.items() if step in curve}
            self.tracker.log_epoch({"epoch": step, **at_step})
        summary = {
            f"{variant}_{method}_{name}": float(value)
            for variant, means in scores.means.items()
            for method, values in means.items()
            for name, value in values.items()
            if np.isfinite(value)
        }
        summary["calibration_factor"] = calibration.factor
        for record, share in zip(records, calibration.coverage_by_fold, strict=False):
            summary[f"fold_{record.fold}_coverage"] = share
        summary["training_seconds"] = sum(each.seconds for each in (*records, final))
        self.tracker.log_summary(summary)
        self.tracker.log_files(
            [self.folder.model, self.folder.card, self.folder.scores, self.folder.config]
        )
