"""Trains a network on records: one call from settings to a finished run folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_lstsr.artifacts.model_folder import RunInfo
from keras_lstsr.config import ExperimentConfig, ModelConfig, NetworkConfig
from keras_lstsr.files import locked
from keras_lstsr.maps import comparison_figure
from keras_lstsr.records.schema import DATASET_FILE, load_metadata
from keras_lstsr.training.baseline import bicubic_rmse_kelvin
from keras_lstsr.training.batches import Plan, plan_batches, resolve, training_batches
from keras_lstsr.training.callbacks import (
    AtomicBackup,
    HistoryRecorder,
    KeptModel,
    Publisher,
    Record,
    ResumedEarlyStopping,
    StopAtInterrupt,
)
from keras_lstsr.training.card import training_card
from keras_lstsr.training.figures import draw_curves, sample_maps
from keras_lstsr.training.initial import InitialModel
from keras_lstsr.training.interruption import Interruption, interruptible
from keras_lstsr.training.network import build_network
from keras_lstsr.training.optimizer import ValidateAverage
from keras_lstsr.training.progress import TrainingProgress
from keras_lstsr.training.run_folder import RunFolder
from keras_lstsr.training.schedules import alpha_callbacks
from keras_lstsr.training.strategy import (
    Strategy,
    describe_devices,
    make_strategy,
    replica_count,
    uses_tensorflow,
)
from keras_lstsr.training.tracking import Tracker


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes:
        run_dir: The run folder.
        model_path: The model that is kept, ``run_dir/model.keras``.
        info: The content of ``run.json``.
        history: One record per epoch: ``epoch`` (from 1), ``loss``, ``learning_rate``,
            ``seconds``, where there is a validation split ``val_loss``, where truth is known
            ``rmse_kelvin``, ``val_rmse_kelvin`` and ``bicubic_val_rmse_kelvin``.
        resumed_from: Epochs that were complete when this call began.
        figures: The figures drawn.
        model_uri: Where MLflow keeps the model; None without MLflow, and on other backends than
            TensorFlow, where ``model.keras`` is kept among the run's files.
    """

    run_dir: Path
    model_path: Path
    info: RunInfo
    history: list[Record]
    resumed_from: int
    figures: list[Path]
    model_uri: str | None


def train(
    config: ExperimentConfig,
    records_dir: str | PathLike[str],
    output_dir: str | PathLike[str],
    *,
    tracker: Tracker | None = None,
    progress: TrainingProgress | None = None,
    overwrite: bool = False,
    init: str | PathLike[str] | None = None,
) -> TrainingResult:
    """Trains a network, or goes on where a killed training of the same settings stopped.

    A restart repeats the epoch in which the training was killed. Weights and their average,
    optimiser, rate, order of the samples, early stopping and history go on as if nothing had
    happened.

    Args:
        config: The settings.
        records_dir: Folder of records.
        output_dir: The run folder; see ``keras_lstsr.training.run_folder``.
        tracker: MLflow's run; None trains without MLflow.
        progress: Shows the training; None shows nothing.
        overwrite: Delete a run folder that is there and start anew.
        init: Where the weights to start from lie: a model folder, or the name of weights that come
            with the package, ``"pretrained"`` for the newest; None starts from random weights.

    Returns:
        The result; ``model.keras`` holds the weights that ``training.keep`` asks for.

    Raises:
        RecordsError: If the records are missing, empty where they must not be, or lack a guide or
            the fine truth.
        ConfigError: If settings and records or settings and devices do not fit, or the settings
            describe another network than the weights to start from belong to, or the run folder
            holds another or a finished run, or the loss is no longer finite.
        ModelError: If there are no weights to start from.
        LstsrError: If another training works in the folder, or its disk is full or read-only.
    """
    with locked(output_dir), interruptible() as interruption:
        return _train(
            config, records_dir, output_dir, init, tracker, progress, overwrite, interruption
        )


def _train(
    config: ExperimentConfig,
    records_dir: str | PathLike[str],
    output_dir: str | PathLike[str],
    init: str | PathLike[str] | None,
    tracker: Tracker | None,
    progress: TrainingProgress | None,
    overwrite: bool,
    interruption: Interruption,
) -> TrainingResult:
    progress = progress or TrainingProgress()
    initial = None if init is None else InitialModel.open(init)
    if initial is not None:
        config = initial.adopted(config)
    metadata = load_metadata(records_dir)
    strategy = make_strategy(config.training.cpu_devices)
    plan = plan_batches(config, metadata, replica_count(strategy), Path(records_dir))
    resolved = resolve(config, metadata, plan.replicas)
    folder = RunFolder(output_dir)
    info = folder.open(
        resolved,
        metadata.fingerprint,
        Path(records_dir) / DATASET_FILE,
        overwrite=overwrite,
        initial=None if initial is None else initial.weights,
    )
    info.devices = describe_devices(strategy)
    run = _Run(
        resolved,
        Path(records_dir),
        folder,
        info,
        plan,
        tracker,
        progress,
        interruption,
        initial,
    )
    try:
        with folder.running(info, tracker):
            if tracker is not None:
                tags = {"devices": info.devices, "resumed": str(info.resumed)}
                tracker.begin(info, resolved, run.records_dir, tags)
            folder.write_run(info)
            result = run.fit(strategy)
        shutil.rmtree(folder.backup, ignore_errors=True)
        return result
    finally:
        progress.finished("")


@dataclass(frozen=True)
class _Run:
    """A training with all that its stages share."""

    config: ExperimentConfig
    records_dir: Path
    folder: RunFolder
    info: RunInfo
    plan: Plan
    tracker: Tracker | None
    progress: TrainingProgress
    interruption: Interruption
    initial: InitialModel | None = None

    def fit(self, strategy: Strategy) -> TrainingResult:
        """Fits the network from the last backup on, and finishes the folder."""
        config, training, folder = self.config, self.config.training, self.folder
        keras.utils.set_random_seed(training.seed)
        start = None if self.initial is None else self.initial.model
        network = build_network(config, self.plan.steps, strategy, start)
        backup = AtomicBackup(folder.backup, training.save_freq)
        with strategy.scope():
            done, between_epochs = backup.restore(network.trained)
        self.info.parameters = network.whole.count_params()
        batches = training_batches(config, self.records_dir, self.plan, first_epoch=done)
        constants: Record = {}
        if config.knows_truth and batches.validation is not None:
            rmse = bicubic_rmse_kelvin(batches.validation, config.model.scale_factor)
            constants["bicubic_val_rmse_kelvin"] = rmse
        recorder = HistoryRecorder(folder, folder.read_history()[:done], constants)
        kept = KeptModel(folder, recorder, network, training.keep)
        publisher = Publisher(
            folder, self.info, recorder, self.tracker, self.progress, keep=training.keep
        )
        if between_epochs:
            kept.save_if_kept()  # the kill may have come between backup and model
        publisher.publish_history()
        callbacks = [
            *batches.callbacks,
            *alpha_callbacks(config.loss),
            ValidateAverage(),
            StopAtInterrupt(self.interruption),
            recorder,
            backup,
            kept,
            publisher,
        ]
        stopping = None
        if training.early_stopping_patience is not None:
            stopping = ResumedEarlyStopping(training.early_stopping_patience, recorder.history)
            callbacks.append(stopping)
        self.progress.started(
            self._facts(done), epochs=training.epochs, first=done + 1, steps=self.plan.steps
        )
        if done < training.epochs and not (stopping and stopping.has_stopped(network.trained)):
            network.trained.fit(
                batches.training,
                epochs=training.epochs,
                initial_epoch=done,
                # The NumPy feed ends an epoch by itself; tf.data repeats for ever.
                steps_per_epoch=self.plan.steps if uses_tensorflow() else None,
                validation_data=batches.validation,
                callbacks=callbacks,
                shuffle=False,  # done already; Keras warns if it is asked to as well
                verbose=0,
            )
        self.interruption.check()
        self.info.stopped_early = len(recorder.history) < training.epochs
        publisher.publish_history()
        sample = ("Training sample", batches.training)
        if batches.validation is not None:
            sample = ("Validation sample", batches.validation)
        figures, model_uri = self._finish(recorder.history, *sample)
        return TrainingResult(
            run_dir=folder.path,
            model_path=folder.model,
            info=self.info,
            history=recorder.history,
            resumed_from=done,
            figures=figures,
            model_uri=model_uri,
        )

    def _facts(self, done: int) -> dict[str, str]:
        model, training, info, plan = self.config.model, self.config.training, self.info, self.plan
        crop = self.config.data.crop_pixels
        what = "samples" if crop is None else f"crops of {crop} × {crop} LST pixels"
        facts = {
            "network": f"{_described(model)}: {info.parameters:,} parameters",
            "task": self.config.data.task.replace("_", " "),
            "devices": info.devices,
            "batches": f"{plan.steps} × {training.batch_size} {what} per epoch, "
            f"{training.batch_size // plan.replicas} on each replica",
        }
        if isinstance(model, ModelConfig):
            facts["normalised"] = f"(T − {model.offset_kelvin:.2f} K) / {model.scale_kelvin:.2f} K"
        if info.initial_weights is not None:
            start = info.initial_weights
            facts["starts from"] = f"{start.name}, weights {start.weights_sha256[:12]}"
        if done:
            facts["resumed"] = f"after epoch {done}"
        if info.mlflow_run_id:
            facts["MLflow"] = f"run {info.mlflow_run_id}" + (
                f" at {info.tracking_uri}" if info.tracking_uri else ""
            )
        return facts

    def _finish(
        self, history: list[Record], title: str, batches: Any
    ) -> tuple[list[Path], str | None]:
        """Draws, writes the card, tells MLflow, and marks the folder as finished."""
        folder, info, tracker = self.folder, self.info, self.tracker
        before = None if self.initial is None else self.initial.card
        folder.write_card(training_card(self.config, self.records_dir, info, folder.model, before))
        model = keras.saving.load_model(folder.model, compile=False)
        figures = draw_curves(history, info.best_epoch, folder.figures)
        title, maps = sample_maps(model, batches, self.config, title)
        figures.append(folder.figures / "maps.png")
        comparison_figure(maps, title=title).savefig(figures[-1], dpi=120)
        model_uri = None
        if tracker is not None:
            summary = {"best_epoch": info.best_epoch, "training_seconds": info.training_seconds}
            best = {f"best_{name}": value for name, value in info.metrics.items() if "val_" in name}
            tracker.log_summary({**summary, **best})
            tracker.log_files(figures, "figures")
            tracker.log_files([folder.config, folder.dataset, folder.card, folder.history_table])
            if uses_tensorflow():
                model_uri = tracker.log_model(model, scale_factor=self.config.model.scale_factor)
            else:
                # MLflow's flavour for Keras models with code and signature is TensorFlow's.
                tracker.log_files([folder.model])
        message = f"model of epoch {info.best_epoch}"
        if info.best_val_loss is not None:
            message += f", validation loss {info.best_val_loss:.5g}"
        self.progress.finished(message + (", stopped early" if info.stopped_early else ""))
        return figures, model_uri


def _described(model: NetworkConfig) -> str:
    shape = {name: value for name, value in model.shape.items() if name != "variant"}
    sizes = (f"{name.replace('_', ' ')} {value}" for name, value in shape.items())
    return ", ".join([model.network.replace("_", " "), *sizes])
