"""The folder of a pretraining: what it leaves behind, and how it goes on after a kill.

::

    OUTPUT/
      guided.keras            the model: trained on all pairs, calibrated, float32, uncompiled
      guided.json             what it is, where it comes from, what cross-validation says of it
      cross_validation.csv    the scores of each pair by a model that has not seen its ground
      config.yaml             the settings with every default
      pretrain.json           ``PretrainState``
      folds/fold_N.keras      the model of each fold, uncalibrated
      folds/fold_N.npz        its predictions of its test pairs: NAME_kelvin and NAME_std
      folds/fold_N.json       ``FoldRecord``; written last, so what has one is whole
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from keras_lstsr.artifacts.model_folder import Status, utc_now
from keras_lstsr.config import PretrainConfig
from keras_lstsr.errors import ConfigError, LstsrError
from keras_lstsr.files import sha256_of, write_text_whole, written_whole
from keras_lstsr.pairs.degraded import cloud_mask_of
from keras_lstsr.pairs.files import PairFiles

FloatArray = NDArray[np.float32]
Predictions = dict[str, tuple[FloatArray, FloatArray]]
"""Pair → fine LST and its standard deviation in kelvin."""


class PretrainState(BaseModel):
    """The content of ``pretrain.json``.

    Attributes:
        settings: The settings with every default.
        dataset_fingerprint: Identity of the pairs.
        status: ``"running"`` until the end; a killed run keeps it.
        mlflow_run_id: MLflow's run, None where MLflow was not used.
        tracking_uri: Where that run is kept.
        started: When pretraining first began, ISO 8601 in UTC.
    """

    settings: dict[str, Any]
    dataset_fingerprint: str
    status: Status = "running"
    mlflow_run_id: str | None = None
    tracking_uri: str | None = None
    started: str = Field(default_factory=utc_now)


class FoldRecord(BaseModel):
    """The content of ``fold_N.json``.

    Attributes:
        fold: Counted from 1.
        pairs: The pairs that were predicted.
        trained_on: The pairs that the model has learnt from.
        truth_share: Part of the fine pixels of those that had truth, after masking.
        common_shift: Pairs whose truth was moved by the common shift, for lack of a clear own one.
        curve: Step → running mean of the loss.
        seconds: What training took.
    """

    fold: int
    pairs: list[str]
    trained_on: list[str]
    truth_share: float
    common_shift: list[str] = Field(default_factory=list)
    curve: dict[int, float]
    seconds: float


class PretrainFolder:
    """Reads and writes the folder; every file is replaced whole or not at all.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.model = self.path / "guided.keras"
        self.card = self.path / "guided.json"
        self.scores = self.path / "cross_validation.csv"
        self.config = self.path / "config.yaml"
        self.state = self.path / "pretrain.json"
        self.folds = self.path / "folds"

    def open(
        self, config: PretrainConfig, fingerprint: str, *, overwrite: bool = False
    ) -> PretrainState:
        """Makes the folder, or finds the run that stands there.

        Args:
            config: The settings.
            fingerprint: Identity of the pairs.
            overwrite: Delete a run that is there.

        Returns:
            The state, of this run or of the killed one that it continues.

        Raises:
            ConfigError: If the folder holds a finished run, one of other settings or pairs, or
                something else.
            LstsrError: If it cannot be written to.
        """
        if overwrite and self.state.exists():
            shutil.rmtree(self.path)
        settings = json.loads(config.model_dump_json())
        if self.state.exists():
            return self._continued(settings, fingerprint)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ConfigError(
                "the output holds something else",
                path=self.path,
                expected="an empty or new folder, or one of a killed pretraining",
                action="Choose another output.",
            )
        state = PretrainState(settings=settings, dataset_fingerprint=fingerprint)
        try:
            self.folds.mkdir(parents=True, exist_ok=True)
            config.to_yaml(self.config)
            self.write_state(state)
        except OSError as error:
            raise LstsrError(
                "the output cannot be written to", path=self.path, found=error.strerror
            ) from error
        return state

    def _continued(self, settings: dict[str, Any], fingerprint: str) -> PretrainState:
        try:
            state = PretrainState.model_validate_json(self.state.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise ConfigError(
                "the state of the run cannot be read",
                path=self.state,
                found=str(error).splitlines()[0],
                action="Start anew with --overwrite.",
            ) from error
        differing = [name for name in settings if state.settings.get(name) != settings[name]] + (
            ["pairs"] if state.dataset_fingerprint != fingerprint else []
        )
        if state.status == "finished" or differing:
            raise ConfigError(
                "the output holds a finished run"
                if not differing
                else "the output holds a run of other settings or pairs",
                path=self.path,
                field=", ".join(differing) or None,
                action="Choose another output, or start anew with --overwrite.",
            )
        return state

    def write_state(self, state: PretrainState) -> None:
        """Writes ``pretrain.json``."""
        write_text_whole(self.state, state.model_dump_json(indent=2) + "\n")

    def fold_model(self, fold: int) -> Path:
        """Where the model of a fold, counted from 1, is kept."""
        return self.folds / f"fold_{fold}.keras"

    def read_fold(self, fold: int) -> tuple[FoldRecord, Predictions] | None:
        """Reads a finished fold; None where it is not finished."""
        record = self.folds / f"fold_{fold}.json"
        if not record.exists():
            return None
        found = FoldRecord.model_validate_json(record.read_text(encoding="utf-8"))
        with np.load(self.folds / f"fold_{fold}.npz") as arrays:
            predictions = {
                name: (arrays[f"{name}_kelvin"], arrays[f"{name}_std"]) for name in found.pairs
            }
        return found, predictions

    def write_fold(self, record: FoldRecord, predictions: Predictions, model: Any) -> None:
        """Writes a finished fold."""
        with written_whole(self.fold_model(record.fold)) as partial:
            model.save(partial)
        named: dict[str, Any] = {}
        for name, (kelvin, std) in predictions.items():
            named |= {f"{name}_kelvin": kelvin, f"{name}_std": std}
        with written_whole(self.folds / f"fold_{record.fold}.npz") as partial:
            np.savez_compressed(partial, **named)
        write_text_whole(
            self.folds / f"fold_{record.fold}.json", record.model_dump_json(indent=2) + "\n"
        )


def files_of(sources: Sequence[PairFiles]) -> dict[str, str]:
    """Returns the name of each file of the pairs and its SHA-256."""
    paths = [path for source in sources for path in (source.lst, source.guide, source.truth)]
    return {path.name: sha256_of(path) for path in paths}


def files_of_scenes(scenes: Sequence[Path]) -> dict[str, str]:
    """Returns the name of each scene of fine LST and of each cloud mask, and its SHA-256."""
    masks = (cloud_mask_of(scene) for scene in scenes)
    paths = [*scenes, *(mask for mask in masks if mask is not None)]
    return {path.name: sha256_of(path) for path in paths}


def fingerprint_of(
    sources: Sequence[PairFiles], files: Mapping[str, str], scenes: Mapping[str, str]
) -> str:
    """Returns the identity of the data: contents and names of its files, and the pairs' groups.

    Args:
        sources: The pairs.
        files: Name → SHA-256 of their files.
        scenes: The same of scenes of fine LST.
    """
    content = {"files": dict(files), "groups": {source.name: source.group for source in sources}}
    if scenes:
        content["fine_scenes"] = dict(scenes)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
