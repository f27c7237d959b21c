"""The run folder: what a training leaves behind, and how it is found again after a kill.

::

    RUN/
      model.keras, config.yaml, card.json, run.json: see ``keras_lstsr.artifacts.model_folder``
      dataset.json    a copy of the records' description
      history.json    one record per epoch; history.csv is the same table
      backup/         the state after the last epoch; removed once the run has finished
      figures/        loss, error beside bicubic, maps of one sample
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from keras_lstsr.artifacts.model_folder import (
    InitialWeights,
    ModelFolder,
    RunInfo,
    Status,
    library_versions,
    utc_now,
)
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.files import write_text_whole
from keras_lstsr.training.tracking import EndStatus, Tracker, flatten

RECORDS = "records"
"""Folder of records that may stand in a run folder before it is one."""

_END_STATUS: dict[Status, EndStatus] = {
    "finished": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
# Devices may change between a kill and the restart: the weights do not depend on them.
DEVICE_SETTINGS = frozenset({"training.cpu_devices", "model.synchronised_batch_norm"})


class RunFolder(ModelFolder):
    """A model folder with what training needs to go on after a kill; files are written whole."""

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(path)
        self.dataset = self.path / "dataset.json"
        self.history = self.path / "history.json"
        self.history_table = self.path / "history.csv"
        self.backup = self.path / "backup"
        self.figures = self.path / "figures"
        self.scores = self.path / "cross_validation.csv"
        self.place_scores = self.path / "cross_validation_places.csv"

    def open(
        self,
        config: ExperimentConfig,
        fingerprint: str,
        dataset: Path,
        *,
        overwrite: bool = False,
        initial: InitialWeights | None = None,
    ) -> RunInfo:
        """Makes the folder, or finds the unfinished run that stands there.

        Args:
            config: The settings.
            fingerprint: Identity of the records.
            dataset: Their description, to be copied.
            overwrite: Delete a run that is there.
            initial: The weights that the training starts from; None: random ones.

        Returns:
            The content of ``run.json``, of this run or of the killed one that it continues.

        Raises:
            ConfigError: If the folder holds a finished run, one of other settings or records, or
                something else.
            LstsrError: If it cannot be written to.
        """
        if overwrite and self.run.exists():
            shutil.rmtree(self.path)
        beside = set() if self.is_free() else {path.name for path in self.path.glob("*")}
        if not beside or (RECORDS in beside and beside <= {RECORDS, "config.yaml", "dataset.json"}):
            run = RunInfo(
                run_name=self.path.resolve().name,
                dataset_fingerprint=fingerprint,
                versions=library_versions(),
                initial_weights=initial,
            )
            if not beside:
                self.create(config, run, copied=[dataset])
                return run
            config.to_yaml(self.config)
            shutil.copyfile(dataset, self.dataset)
            self.write_run(run)  # last: what has it is whole
            return run
        if not self.run.exists():
            raise ConfigError(
                "the folder is not empty and not a run folder",
                path=self.path,
                found="no run.json",
                action="Choose another --output.",
            )
        run = self.read_run()
        self.check_resumable(run, config, fingerprint, initial)
        run.status, run.resumed, run.finished = "running", run.resumed + 1, None
        return run

    @contextlib.contextmanager
    def running(self, run: RunInfo, tracker: Tracker | None) -> Iterator[None]:
        """Writes down how what happens meanwhile ends, in run.json and in MLflow."""
        try:
            yield
            run.status, run.finished = "finished", utc_now()
        except BaseException as error:
            run.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            raise
        finally:
            self.write_run(run)
            if tracker is not None:
                tracker.finish(_END_STATUS[run.status])

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

    def check_resumable(
        self,
        info: RunInfo,
        config: ExperimentConfig,
        fingerprint: str,
        initial: InitialWeights | None = None,
    ) -> None:
        """Checks that the folder holds an unfinished run of the same settings, records and start.

        Raises:
            ConfigError: If it does not; the message names the first difference.
        """
        overwrite = "Choose another --output, or start again with --overwrite."
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
                action=f"Give the records that it was started on. {overwrite}",
            )
        if info.initial_weights != initial:
            raise ConfigError(
                "this run was started from other weights",
                path=self.path,
                field="--init",
                found="random ones" if initial is None else initial.name,
                expected="random ones"
                if info.initial_weights is None
                else f"{info.initial_weights.name}, {info.initial_weights.weights_sha256[:12]}…",
                action=f"Give the weights that it was started from. {overwrite}",
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
                    action=f"Give the settings that it was started with. {overwrite}",
                )
