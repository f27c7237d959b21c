"""Trains variations of one experiment, as nested runs in MLflow, and compares them."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import Field

from keras_lstsr.config import ExperimentConfig, SettingsFile
from keras_lstsr.config.settings import put_by_name
from keras_lstsr.files import write_text_whole
from keras_lstsr.training.fit import TrainingResult, train
from keras_lstsr.training.progress import TrainingProgress
from keras_lstsr.training.run_folder import RunFolder
from keras_lstsr.training.tracking import EndStatus, Tracker

SUMMARY_FILE = "summary.csv"


class Sweep(SettingsFile):
    """A sweep's file.

    Attributes:
        name: Names the sweep and its experiment in MLflow.
        base: Settings that all runs share, by section.
        runs: Run name → settings that differ, by dotted name (``loss.alpha: 0.01``).
    """

    name: str
    base: dict[str, Any]
    runs: dict[str, dict[str, Any]] = Field(min_length=1)

    @classmethod
    def from_dict(
        cls, content: dict[str, Any], *, source: str | PathLike[str] | None = None
    ) -> Sweep:
        """Validates a sweep and each of its runs.

        Raises:
            ConfigError: If it is no sweep or one of its runs is invalid; the message names the run
                and the setting.
        """
        sweep = super().from_dict(content, source=source)
        for name in sweep.runs:
            sweep.config(name, source=source)
        return sweep

    def config(self, name: str, source: str | PathLike[str] | None = None) -> ExperimentConfig:
        """Returns the settings of a run.

        Raises:
            ConfigError: If they are invalid.
        """
        content = {**copy.deepcopy(self.base), "name": self.name}
        for setting, value in self.runs[name].items():
            put_by_name(content, setting, value)
        return ExperimentConfig.from_dict(content, source=f"{source or 'sweep'}: runs.{name}")


def run_sweep(
    sweep: Sweep,
    records_dir: str | PathLike[str],
    output_dir: str | PathLike[str],
    *,
    mlflow: bool = True,
    tracking_uri: str | None = None,
    progress: Callable[[str], TrainingProgress | None] = lambda name: None,
) -> dict[str, TrainingResult | None]:
    """Trains every run of a sweep that has not been finished yet.

    Args:
        sweep: The sweep.
        records_dir: Folder of records.
        output_dir: Gets a run folder per run and ``summary.csv``.
        mlflow: Track the runs, nested in one parent run.
        tracking_uri: MLflow's store; None as in ``Tracker``.
        progress: Called with the run's name before it starts.

    Returns:
        Run name → result; None for a run that was finished before.

    Raises:
        LstsrError: As ``train`` does.
    """
    output_dir = Path(output_dir)
    results: dict[str, TrainingResult | None] = {}
    parent = Tracker(experiment=sweep.name, tracking_uri=tracking_uri) if mlflow else None
    if parent is not None:
        tags = {"sweep": sweep.name}
        parent.start(run_name=sweep.name, experiment=sweep.name, parameters={}, tags=tags)
    status: EndStatus = "FAILED"
    try:
        for name in sweep.runs:
            folder = RunFolder(output_dir / name)
            if not folder.is_free() and folder.read_run().status == "finished":
                results[name] = None
                continue
            results[name] = train(
                sweep.config(name),
                records_dir,
                output_dir / name,
                tracker=None if parent is None else parent.nested(),
                progress=progress(name),
            )
            write_summary(sweep, output_dir)
        status = "FINISHED"
    finally:
        if parent is not None:
            parent.finish(status)
    return results


def write_summary(sweep: Sweep, output_dir: Path) -> Path:
    """Writes the last figures of all finished runs as a table, one row a run; returns its path."""
    rows = []
    for name in sweep.runs:
        folder = RunFolder(output_dir / name)
        if folder.is_free():
            continue
        info = folder.read_run()
        rows.append({"run": name, "best_epoch": info.best_epoch, **info.metrics})
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    path = output_dir / SUMMARY_FILE
    write_text_whole(path, text.getvalue())
    return path
