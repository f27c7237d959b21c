"""Trains a network on records: one call from settings to a finished run folder."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_lstsr.artifacts.model_folder import RunInfo, library_versions, utc_now
from keras_lstsr.config import ExperimentConfig, ModelConfig, NetworkConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import build_loss, build_loss_metrics
from keras_lstsr.maps import comparison_figure
from keras_lstsr.metrics.streaming import RootMeanSquareErrorKelvin
from keras_lstsr.models import build_model
from keras_lstsr.records.dataset import load_metadata
from keras_lstsr.records.schema import DATASET_FILE, DatasetMetadata
from keras_lstsr.training.baseline import bicubic_rmse_kelvin, sample_maps
from keras_lstsr.training.batches import training_batches
from keras_lstsr.training.callbacks import (
    AtomicBackup,
    BestModel,
    HistoryRecorder,
    Publisher,
    Record,
    ResumedEarlyStopping,
)
from keras_lstsr.training.figures import draw_curves
from keras_lstsr.training.plan import Plan, learning_rate, plan_batches, resolve
from keras_lstsr.training.progress import SilentProgress, TrainingProgress
from keras_lstsr.training.run_folder import RunFolder, flatten
from keras_lstsr.training.schedules import alpha_callbacks
from keras_lstsr.training.strategy import (
    describe_devices,
    make_strategy,
    on_gpu,
    replica_count,
    uses_tensorflow,
)
from keras_lstsr.training.tracking import Tracker

TRUTH_TASK = "4km_to_1km"


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes:
        run_dir: The run folder.
        model_path: The best model, ``run_dir/model.keras``.
        info: The content of ``run.json``.
        history: One record per epoch: ``epoch`` (from 1), ``loss``, ``val_loss``,
            ``learning_rate``, ``seconds``, where truth is known ``rmse_kelvin``,
            ``val_rmse_kelvin`` and ``bicubic_val_rmse_kelvin``.
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
) -> TrainingResult:
    """Trains a network, or goes on where a killed training of the same settings stopped.

    A restart repeats the epoch in which the training was killed. Weights, optimiser, rate, order
    of the patches, early stopping and history go on as if nothing had happened.

    Args:
        config: The settings.
        records_dir: Folder of records.
        output_dir: The run folder; see ``keras_lstsr.training.run_folder``.
        tracker: MLflow's run; None trains without MLflow.
        progress: Shows the training; None shows nothing.
        overwrite: Delete a run folder that is there and start anew.

    Returns:
        The result; ``model.keras`` holds the weights of the epoch with the lowest validation loss.

    Raises:
        RecordsError: If the records are missing, empty where they must not be, or lack NDVI.
        ConfigError: If settings and records or settings and devices do not fit, or the run
            folder holds another or a finished run, or the loss is no longer finite.
    """
    progress = progress or SilentProgress()
    metadata = load_metadata(records_dir)
    strategy = make_strategy(config.training.cpu_devices)
    plan = plan_batches(config, metadata, replica_count(strategy), Path(records_dir))
    resolved = resolve(config, metadata, plan.replicas)
    folder = RunFolder(output_dir)
    info = _open_folder(folder, resolved, metadata, Path(records_dir), overwrite=overwrite)
    info.devices = describe_devices(strategy)
    try:
        if tracker is not None:
            _start_tracking(tracker, resolved, metadata, records_dir, info)
        folder.write_run(info)
        with _precision(resolved):
            return _fit(resolved, records_dir, folder, info, plan, strategy, tracker, progress)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        info.status = "interrupted" if interrupted else "failed"
        folder.write_run(info)
        if tracker is not None:
            tracker.finish("KILLED" if interrupted else "FAILED")
        raise
    finally:
        progress.finished("")


def _open_folder(
    folder: RunFolder,
    config: ExperimentConfig,
    metadata: DatasetMetadata,
    records_dir: Path,
    *,
    overwrite: bool,
) -> RunInfo:
    if overwrite and folder.run.exists():
        shutil.rmtree(folder.path)
    if not folder.is_free():
        if not folder.run.exists():
            raise ConfigError(
                "the folder is no run folder and not empty",
                path=folder.path,
                found="no run.json",
                action="Choose another --output.",
            )
        info = folder.read_run()
        folder.check_resumable(info, config, metadata.fingerprint)
        info.status, info.resumed, info.finished = "running", info.resumed + 1, None
        return info
    info = RunInfo(
        run_name=folder.path.resolve().name,
        dataset_fingerprint=metadata.fingerprint,
        versions=library_versions(),
    )
    folder.create(config, info, copied=[records_dir / DATASET_FILE])
    return info


def _start_tracking(
    tracker: Tracker,
    config: ExperimentConfig,
    metadata: DatasetMetadata,
    records_dir: str | PathLike[str],
    info: RunInfo,
) -> None:
    info.mlflow_run_id = tracker.start(
        run_name=info.run_name,
        experiment=config.name,
        parameters=flatten(config),
        tags={
            "task": config.data.task,
            "architecture": config.model.network,
            "devices": info.devices,
            "resumed": str(info.resumed),
        },
        run_id=info.mlflow_run_id,
        tracking_uri=info.tracking_uri,
    )
    info.tracking_uri = tracker.recordable_uri
    tracker.log_dataset(
        Path(records_dir).resolve().name, fingerprint=metadata.fingerprint, folder=records_dir
    )


@contextlib.contextmanager
def _precision(config: ExperimentConfig) -> Iterator[None]:
    before = keras.config.dtype_policy()
    if config.training.mixed_precision:
        # float16 needs a GPU's tensor cores and a scaled loss, which Keras adds by itself.
        keras.config.set_dtype_policy("mixed_float16" if on_gpu() else "mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build(config: ExperimentConfig) -> keras.Model:
    model = build_model(config.model)
    training = config.training
    loss = build_loss(config.loss)
    metrics = build_loss_metrics(config.loss, loss)
    if config.data.task == TRUTH_TASK:
        metrics.append(RootMeanSquareErrorKelvin(name="rmse_kelvin"))
    model.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate, epsilon=training.adam_epsilon),
        loss=loss,
        metrics=metrics,
        # Without compilation JAX would run the step operation by operation.
        jit_compile=training.xla or not uses_tensorflow(),
        run_eagerly=False,
    )
    return model


def _serving_twin(config: ExperimentConfig) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        single = config.model.model_copy(update={"synchronised_batch_norm": False})
        return build_model(single)
    finally:
        keras.config.set_dtype_policy(before)


def _fit(
    config: ExperimentConfig,
    records_dir: str | PathLike[str],
    folder: RunFolder,
    info: RunInfo,
    plan: Plan,
    strategy: Any,
    tracker: Tracker | None,
    progress: TrainingProgress,
) -> TrainingResult:
    training = config.training
    keras.utils.set_random_seed(training.seed)
    backup = AtomicBackup(folder.backup, training.save_freq)
    with strategy.scope():
        model = _build(config)
        # Built now, its variables lie on all replicas, and the step is traced once, not twice.
        model.optimizer.build(model.trainable_variables)
        restored = backup.restore(model)
    info.parameters = model.count_params()
    done = restored.epochs
    batches, validation, feeding = training_batches(config, records_dir, plan, first_epoch=done)
    constants: Record = {}
    if config.data.task == TRUTH_TASK:
        rmse = bicubic_rmse_kelvin(validation, config.model.scale_factor)
        constants["bicubic_val_rmse_kelvin"] = rmse

    recorder = HistoryRecorder(folder, folder.read_history()[:done], constants)
    best = BestModel(folder, recorder, _serving_twin(config))
    publisher = Publisher(folder, info, recorder, tracker, progress)
    if restored.between_epochs:
        best.save_if_best(model)  # the kill may have come between backup and best model
    publisher.publish_history()
    callbacks = [
        *feeding,
        keras.callbacks.LearningRateScheduler(lambda epoch: learning_rate(config, epoch)),
        *alpha_callbacks(config.loss),
        recorder,
        backup,
        best,
        publisher,
    ]
    stopping = None
    if training.early_stopping_patience is not None:
        stopping = ResumedEarlyStopping(training.early_stopping_patience, recorder.history)
        callbacks.append(stopping)
    progress.started(
        _facts(config, info, plan, done), epochs=training.epochs, first=done + 1, steps=plan.steps
    )
    if done < training.epochs and not (stopping and stopping.has_stopped(model)):
        model.fit(
            batches,
            epochs=training.epochs,
            initial_epoch=done,
            # The NumPy feed ends an epoch by itself; tf.data repeats for ever.
            steps_per_epoch=plan.steps if uses_tensorflow() else None,
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,  # done already; Keras warns if it is asked to as well
            verbose=0,
        )
    info.stopped_early = len(recorder.history) < training.epochs
    return _finish(config, validation, folder, publisher, recorder, tracker, progress, backup, done)


def _describe_network(model: NetworkConfig) -> str:
    shape = {name: value for name, value in model.shape.items() if name != "variant"}
    sizes = (f"{name.replace('_', ' ')} {value}" for name, value in shape.items())
    return ", ".join([model.network.replace("_", " "), *sizes])


def _facts(config: ExperimentConfig, info: RunInfo, plan: Plan, done: int) -> dict[str, str]:
    model, training = config.model, config.training
    facts = {
        "network": f"{_describe_network(model)}: {info.parameters:,} parameters",
        "task": config.data.task.replace("_", " "),
        "devices": info.devices,
        "batches": f"{plan.steps} × {training.batch_size} patches per epoch, "
        f"{training.batch_size // plan.replicas} on each replica",
    }
    if isinstance(model, ModelConfig):
        facts["normalised"] = f"(T − {model.offset_kelvin:.2f} K) / {model.scale_kelvin:.2f} K"
    if done:
        facts["resumed"] = f"after epoch {done}"
    if info.mlflow_run_id:
        facts["MLflow"] = f"run {info.mlflow_run_id}" + (
            f" at {info.tracking_uri}" if info.tracking_uri else ""
        )
    return facts


def _finish(
    config: ExperimentConfig,
    validation: Any,
    folder: RunFolder,
    publisher: Publisher,
    recorder: HistoryRecorder,
    tracker: Tracker | None,
    progress: TrainingProgress,
    backup: AtomicBackup,
    resumed_from: int,
) -> TrainingResult:
    info, history = publisher.info, recorder.history
    publisher.publish_history()
    model = keras.saving.load_model(folder.model, compile=False)
    figures = draw_curves(history, folder.figures)
    title, maps = sample_maps(model, validation, config)
    figures.append(folder.figures / "maps.png")
    comparison_figure(maps, title=title).savefig(figures[-1], dpi=120)
    info.status, info.finished = "finished", utc_now()
    model_uri = None
    if tracker is not None:
        summary = {"best_epoch": info.best_epoch, "training_seconds": info.training_seconds}
        best = {f"best_{name}": value for name, value in info.metrics.items() if "val_" in name}
        tracker.log_summary({**summary, **best})
        tracker.log_files(figures, "figures")
        tracker.log_files([folder.config, folder.dataset, folder.history_table])
        if uses_tensorflow():
            model_uri = tracker.log_model(model, scale_factor=config.model.scale_factor)
        else:
            # MLflow's flavour for Keras models with code and signature is TensorFlow's.
            tracker.log_files([folder.model])
        tracker.finish("FINISHED")
    folder.write_run(info)
    backup.delete()
    message = f"best model: epoch {info.best_epoch}, validation loss {info.best_val_loss:.5g}"
    progress.finished(message + (", stopped early" if info.stopped_early else ""))
    return TrainingResult(
        run_dir=folder.path,
        model_path=folder.model,
        info=info,
        history=history,
        resumed_from=resumed_from,
        figures=figures,
        model_uri=model_uri,
    )
