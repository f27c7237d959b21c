"""Keras callbacks that survive a kill: history, backup, the model that is kept, early stopping.

The order at the end of an epoch matters: ``HistoryRecorder`` writes what the epoch gave,
``AtomicBackup`` then makes it count, ``KeptModel`` and ``Publisher`` follow from it. A kill before
the backup repeats the epoch; after a later kill the restart catches up from backup and history.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import keras

from keras_lstsr.artifacts.model_folder import RunInfo
from keras_lstsr.errors import ConfigError
from keras_lstsr.files import check_room, write_text_whole
from keras_lstsr.training.interruption import Interruption
from keras_lstsr.training.network import TrainedNetwork
from keras_lstsr.training.progress import TrainingProgress
from keras_lstsr.training.run_folder import RunFolder
from keras_lstsr.training.tracking import Tracker

MONITORED = "val_loss"
# What names and structure take in a weights file, on the safe side.
_HDF5_BYTES = 2_000_000
Record = dict[str, float]


class HistoryRecorder(keras.callbacks.Callback):
    """Keeps the history: an epoch's metrics, and the rate that it began with.

    Args:
        folder: The run folder.
        history: Records of the epochs that were completed before.
        constants: Figures to add to every record, e.g. the error of bicubic.

    Raises:
        ConfigError: From training, if the loss is no longer finite.
    """

    def __init__(self, folder: RunFolder, history: list[Record], constants: Record) -> None:
        super().__init__()
        self.history = list(history)
        self._folder = folder
        self._constants = constants
        self._began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's clock."""
        self._began = time.monotonic()
        rate = self.model.optimizer.learning_rate
        self._learning_rate = float(keras.ops.convert_to_numpy(rate))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        for name in ("loss", MONITORED):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise ConfigError(
                    f"the {name.replace('_', ' ')} is no longer finite",
                    field="training.learning_rate",
                    found=f"{metrics[name]} after epoch {epoch + 1}",
                    action="Lower the learning rate, and check the temperatures in the records.",
                )
        seconds = round(time.monotonic() - self._began, 3)
        metrics |= {"learning_rate": self._learning_rate, **self._constants}
        self.history.append({"epoch": epoch + 1, **metrics, "seconds": seconds})
        self._folder.write_history(self.history)


class AtomicBackup(keras.callbacks.BackupAndRestore):
    """Keras' backup of weights and optimiser, safe against a kill at any moment.

    Keras writes in place, so a kill while it writes loses the state, and it forgets the epoch
    when it saves inside the first one after a restore. Here weights go to a file of their own,
    and one renamed file says which weights belong to which epoch.

    Args:
        backup_dir: The folder.
        save_freq: Batches between backups inside an epoch; None for none. There is one at the end
            of each epoch in any case. A restart begins the epoch anew, with the weights of the
            last backup.
    """

    def __init__(self, backup_dir: Path, save_freq: int | None = None) -> None:
        super().__init__(str(backup_dir), save_freq=save_freq or "epoch", delete_checkpoint=False)
        self._folder = Path(backup_dir)
        self._pointer = self._folder / "state.json"
        self._saves = 0
        self._between_epochs = False

    def restore(self, model: keras.Model) -> tuple[int, bool]:
        """Loads weights and optimiser.

        Args:
            model: The model, compiled, its optimiser built, made as the one that was backed up.

        Returns:
            Epochs completed, none without a backup; whether the weights are those of an end.
        """
        if not self._pointer.exists():
            return 0, True
        state = json.loads(self._pointer.read_text(encoding="utf-8"))
        model.load_weights(self._folder / state["weights"])
        self._saves = int(state["saves"])
        return int(state["epoch"]), bool(state["between_epochs"])

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Does nothing: ``restore`` was called before, under the distribution strategy."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers how many epochs are complete."""
        self._current_epoch = epoch
        self._between_epochs = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Backs up."""
        self._current_epoch = epoch + 1
        self._last_batch_seen = 0
        self._between_epochs = True
        self._save_model()

    def _save_model(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        variables = [*self.model.variables, *self.model.optimizer.variables]
        size = sum(4 * math.prod(variable.shape) for variable in variables)
        check_room(self._folder, int(1.1 * size) + _HDF5_BYTES)
        self._saves += 1
        weights = self._folder / f"state-{self._saves:06d}.weights.h5"
        self.model.save_weights(weights, overwrite=True)
        state = {
            "epoch": self._current_epoch,
            "between_epochs": self._between_epochs,
            "weights": weights.name,
            "saves": self._saves,
        }
        write_text_whole(self._pointer, json.dumps(state) + "\n")
        for old in self._folder.glob("state-*.weights.h5"):
            if old != weights:
                old.unlink()


class KeptModel(keras.callbacks.Callback):
    """Saves ``model.keras`` after each epoch that ``TrainingConfig.keep`` asks for."""

    def __init__(
        self, folder: RunFolder, recorder: HistoryRecorder, network: TrainedNetwork, keep: str
    ) -> None:
        super().__init__()
        self._folder, self._recorder = folder, recorder
        self._network, self._keep = network, keep

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the model if the last epoch is the one to keep."""
        self.save_if_kept()

    def save_if_kept(self) -> None:
        """Saves the network, which has the weights of the last epoch, if that one is kept."""
        history = self._recorder.history
        if history and is_kept(history[-1], history[:-1], self._keep):
            self._folder.write_model(self._network.with_kept_weights())


class ResumedEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping that has seen the epochs before a restart, whose records it is given."""

    def __init__(self, patience: int, history: list[Record]) -> None:
        super().__init__(monitor=MONITORED, mode="min", patience=patience)
        self._history = list(history)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Goes through the epochs before the restart."""
        super().on_train_begin(logs)
        for record in self._history:
            self.on_epoch_end(int(record["epoch"]) - 1, dict(record))

    def has_stopped(self, model: keras.Model) -> bool:
        """Returns whether the epochs before the restart were already enough."""
        self.set_model(model)
        model.stop_training = False
        self.on_train_begin()
        return bool(model.stop_training)


class StopAtInterrupt(keras.callbacks.Callback):
    """Ends a training in which Ctrl+C was pressed, even if a library swallowed the exception."""

    def __init__(self, interruption: Interruption) -> None:
        super().__init__()
        self._interruption = interruption

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks before a step."""
        self._interruption.check()

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks before a step of the validation."""
        self._interruption.check()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks after an epoch."""
        self._interruption.check()


class Publisher(keras.callbacks.Callback):
    """Tells run.json, MLflow, if there is a tracker, and the screen."""

    def __init__(
        self,
        folder: RunFolder,
        info: RunInfo,
        recorder: HistoryRecorder,
        tracker: Tracker | None,
        progress: TrainingProgress,
        *,
        keep: str,
    ) -> None:
        super().__init__()
        self.info = info
        self._keep = keep
        self._folder = folder
        self._recorder = recorder
        self._tracker = tracker
        self._progress = progress
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows the step, now and then."""
        if logs and self._progress.wants_step():
            self._progress.step(self._epoch, batch + 1, float(logs["loss"]))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Publishes the epoch."""
        history = self._recorder.history
        self.publish_history()
        best = self._keep == "best" and is_kept(history[-1], history[:-1], self._keep)
        self._progress.epoch(history[-1], best=best)

    def publish_history(self) -> None:
        """Brings run.json and MLflow up to the history."""
        history = self._recorder.history
        if not history:
            return
        kept = kept_record(history, self._keep)
        self.info.epochs = len(history)
        self.info.best_epoch = int(kept["epoch"])
        self.info.best_val_loss = kept.get(MONITORED)
        self.info.metrics = {name: value for name, value in kept.items() if name != "epoch"}
        self.info.training_seconds = round(sum(record["seconds"] for record in history), 3)
        self._folder.write_run(self.info)
        if self._tracker is not None:
            for record in history:
                self._tracker.log_epoch(record)


def kept_record(history: list[Record], keep: str) -> Record:
    """Returns the record of the epoch that is kept: the last, or the first of the best."""
    return history[-1] if keep == "last" else min(history, key=lambda record: record[MONITORED])


def is_kept(record: Record, before: list[Record], keep: str) -> bool:
    """Returns whether an epoch is kept, as far as the epochs up to it tell."""
    return keep == "last" or all(record[MONITORED] < other[MONITORED] for other in before)
