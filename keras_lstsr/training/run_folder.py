"""The run folder: what a training leaves behind, and how it is found again after a kill.

::

    RUN/
      config.yaml     the settings with every default, scaling of temperature filled in
      dataset.json    a copy of the records' description; not where weights were imported
      run.json        ``RunInfo``
      model.keras     the best model so far: float32, uncompiled, ready to be exported
      history.json    one record per epoch; history.csv is the same table
      backup/         the state after the last epoch; removed once the run has finished
      figures/        loss, error beside bicubic, maps of one patch
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, ModelError
from keras_lstsr.files import write_text_whole, written_whole

Status = Literal["running", "finished", "failed", "interrupted"]

# Devices may change between a kill and the restart: the weights do not depend on them.
DEVICE_SETTINGS = frozenset({"training.cpu_devices", "model.synchronised_batch_norm"})


class ImportedWeights(BaseModel):
    """Where the weights of a network come from that was not trained here.

    Attributes:
        file: Name of the file.
        sha256: Its SHA-256.
        architecture: The reference network, e.g. ``"mrunet-strided"``.
        entries: Entries imported.
        ignored: Entries without influence that were left out, counted by group.
    """

    file: str
    sha256: str
    architecture: str
    entries: int
    ignored: dict[str, int] = Field(default_factory=dict)


class RunInfo(BaseModel):
    """The content of ``run.json``. Its keys are stable; new ones may be added.

    Attributes:
        run_name: Name of the run, in MLflow too.
        mlflow_run_id: MLflow's run, None where MLflow was not used.
        tracking_uri: Where that run is kept.
        status: ``"running"`` until training ends; a killed run keeps it.
        dataset_fingerprint: Identity of the records; empty where weights were imported.
        epochs: Epochs completed.
        best_epoch: Epoch of ``model.keras``, counted from 1; 0 before the first is complete.
        best_val_loss: Its validation loss.
        metrics: Metrics of the best epoch, and ``bicubic_val_rmse_kelvin`` where truth is known.
        stopped_early: Whether early stopping ended the run.
        devices: What it was trained on.
        parameters: Number of the model's parameters.
        versions: Versions of the libraries.
        started: When training first began, ISO 8601 in UTC.
        finished: When it ended; None before.
        resumed: How often it was started again.
        training_seconds: Time spent in the epochs that count.
        imported_weights: Where the weights come from, if they were not trained here.
    """

    run_name: str
    mlflow_run_id: str | None = None
    tracking_uri: str | None = None
    status: Status = "running"
    dataset_fingerprint: str
    epochs: int = 0
    best_epoch: int = 0
    best_val_loss: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    stopped_early: bool = False
    devices: str = ""
    parameters: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    started: str = Field(default_factory=lambda: utc_now())
    finished: str | None = None
    resumed: int = 0
    training_seconds: float = 0.0
    imported_weights: ImportedWeights | None = None


def utc_now() -> str:
    """Returns the time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunFolder:
    """Reads and writes a run folder; every file is replaced whole or not at all.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.dataset = self.path / "dataset.json"
        self.info = self.path / "run.json"
        self.model = self.path / "model.keras"
        self.history = self.path / "history.json"
        self.history_table = self.path / "history.csv"
        self.backup = self.path / "backup"
        self.figures = self.path / "figures"

    def create(
        self, config: ExperimentConfig, dataset: Path | None, info: RunInfo, model: Any = None
    ) -> None:
        """Makes the folder with its settings; it appears whole, so that a kill leaves no half.

        Args:
            config: The settings.
            dataset: The records' description, if there are records.
            info: The content of ``run.json``.
            model: A Keras model for ``model.keras``, if there is one already.
        """
        with written_whole(self.path) as partial:
            staged = RunFolder(partial)
            partial.mkdir()
            config.to_yaml(staged.config)
            if dataset is not None:
                shutil.copyfile(dataset, staged.dataset)
            if model is not None:
                model.save(staged.model)
            staged.write_info(info)

    def is_free(self) -> bool:
        """Returns whether there is nothing at the folder's path, or an empty folder."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and not any(self.path.iterdir())

    def read_info(self) -> RunInfo:
        """Reads ``run.json``.

        Raises:
            ModelError: If it is missing or damaged.
        """
        try:
            return RunInfo.model_validate_json(self.info.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(
                "this is no run folder",
                path=self.path,
                found="no readable run.json",
                action="Give the folder that `keras-lstsr train --output` wrote.",
            ) from error
        except ValidationError as error:
            raise ModelError(
                "run.json is damaged", path=self.info, found=str(error.errors()[0]["msg"])
            ) from error

    def write_info(self, info: RunInfo) -> None:
        """Writes ``run.json``."""
        write_text_whole(self.info, info.model_dump_json(indent=2) + "\n")

    def read_history(self) -> list[dict[str, float]]:
        """Returns the records of the epochs so far, an empty list before the first."""
        if not self.history.exists():
            return []
        records: list[dict[str, float]] = json.loads(self.history.read_text(encoding="utf-8"))
        return records

    def write_history(self, records: list[dict[str, float]]) -> None:
        """Writes ``history.json`` and ``history.csv``."""
        write_text_whole(self.history, json.dumps(records, indent=1) + "\n")
        table = io.StringIO()
        columns = list(dict.fromkeys(key for record in records for key in record))
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        write_text_whole(self.history_table, table.getvalue())

    def check_resumable(self, info: RunInfo, config: ExperimentConfig, fingerprint: str) -> None:
        """Checks that the folder holds an unfinished run of the same settings and records.

        Raises:
            ConfigError: If it does not; the message names the first difference.
        """
        overwrite = "Choose another --output, or start anew with --overwrite."
        if info.status == "finished":
            raise ConfigError(
                "this run has finished",
                path=self.path,
                found=f"{info.epochs} epochs, best in epoch {info.best_epoch}",
                action=overwrite,
            )
        if info.dataset_fingerprint != fingerprint:
            raise ConfigError(
                "this run was started on other records",
                path=self.path,
                field="dataset_fingerprint",
                found=fingerprint,
                expected=info.dataset_fingerprint,
                action=f"Give the records it was started on. {overwrite}",
            )
        before, now = flatten(ExperimentConfig.from_yaml(self.config)), flatten(config)
        for name in sorted((before.keys() | now.keys()) - DEVICE_SETTINGS):
            if before.get(name) != now.get(name):
                raise ConfigError(
                    "this run was started with other settings",
                    path=self.path,
                    field=name,
                    found=repr(now.get(name)),
                    expected=repr(before.get(name)),
                    action=f"Give the settings it was started with. {overwrite}",
                )


def flatten(config: BaseModel) -> dict[str, Any]:
    """Returns the settings by dotted name, e.g. ``{"training.epochs": 100}``."""
    flat: dict[str, Any] = {}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and (value or not prefix):
            for key, item in value.items():
                collect(f"{prefix}.{key}" if prefix else key, item)
        else:
            flat[prefix] = value

    collect("", config.model_dump(mode="json"))
    return flat
