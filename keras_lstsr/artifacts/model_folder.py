"""The model folder: what a training leaves behind, and what predicts, scores and exports.

::

    MODEL/
      model.keras     the model: float32, uncompiled
      config.yaml     its settings with every default, scaling of temperature filled in
      card.json       ``ModelCard``: what it is, what it has learnt from, how good it is
      run.json        ``RunInfo``: how it came about
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from keras_lstsr import __version__
from keras_lstsr.errors import ModelError
from keras_lstsr.files import read_mapping, validated, write_text_whole, written_whole

if TYPE_CHECKING:
    from keras_lstsr.config import ExperimentConfig

MODEL_FILE = "model.keras"
Status = Literal["running", "finished", "failed", "interrupted"]


def utc_now() -> str:
    """Returns the time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def library_versions() -> dict[str, str]:
    """Returns the versions of keras-lstsr, Python, Keras, its backend and NumPy."""
    import keras

    libraries = {name: version(name) for name in ("keras", keras.config.backend(), "numpy")}
    return {"keras_lstsr": __version__, "python": platform.python_version(), **libraries}


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


class InitialWeights(BaseModel):
    """The weights that a training started from.

    Attributes:
        name: Of their model folder, e.g. ``"guided-2"``.
        weights_sha256: See ``keras_lstsr.artifacts.loading.weights_sha256``.
    """

    name: str
    weights_sha256: str


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
        initial_weights: The weights that the training started from, if not from random ones.
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
    started: str = Field(default_factory=utc_now)
    finished: str | None = None
    resumed: int = 0
    training_seconds: float = 0.0
    imported_weights: ImportedWeights | None = None
    initial_weights: InitialWeights | None = None


class CardData(BaseModel):
    """Data that a model was made from.

    Attributes:
        purpose: What they were for, e.g. training and cross-validation.
        files: Name of each file → its SHA-256.
        licence: Under which they may be used; empty where that is not known.
    """

    purpose: str
    files: dict[str, str]
    licence: str = ""


class ModelCard(BaseModel):
    """The content of ``card.json``. Its keys are stable; new ones may be added.

    Attributes:
        name: What the model is called among the methods that are scored.
        description: What it does, in sentences.
        created: When it was made, ISO 8601 in UTC.
        task: As ``data.task`` of the settings.
        guides: Names of the guides that it takes.
        parameters: Number of its parameters.
        model_sha256: Of ``model.keras``.
        data: Name → what it was made from.
        dataset_fingerprint: Identity of all of it.
        settings: The settings with every default.
        folds: The folds of its cross-validation: the samples tested in each and what its model
            learnt from.
        scores: Variant of the protocol → ``scored`` (how), ``means`` (method → metric → mean over
            the samples) and ``pairs`` (sample → fold, and method → metric → value), all of them of
            predictions on ground that the model had not seen.
        calibration: Of its standard deviations: ``factor``, and what the intervals hold.
        learnt_from: Name of each sample that the model has learnt from → SHA-256 of its files; with
            those that the weights had learnt from with which the training started.
        initial_weights: The weights that the training started from, if not from random ones.
        versions: Versions of the libraries.
    """

    name: str
    description: str = ""
    created: str = Field(default_factory=utc_now)
    task: str = ""
    guides: tuple[str, ...] = ()
    parameters: int = 0
    model_sha256: str = ""
    data: dict[str, CardData] = Field(default_factory=dict)
    dataset_fingerprint: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    folds: list[dict[str, Any]] = Field(default_factory=list)
    scores: dict[str, dict[str, Any]] = Field(default_factory=dict)
    calibration: dict[str, Any] = Field(default_factory=dict)
    learnt_from: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    initial_weights: InitialWeights | None = None
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def known_files(self) -> frozenset[str]:
        """SHA-256 of all files that the model has learnt from."""
        return frozenset(sha256 for files in self.learnt_from.values() for sha256 in files)

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_layout(cls, content: Any) -> Any:
        """Reads ``guided.json``, as it was before there was ``card.json``."""
        if not isinstance(content, dict) or "dataset" not in content:
            return content
        try:
            return cls._from_older(content)
        except (AttributeError, TypeError, KeyError) as error:
            raise ValueError("neither a card nor one of the older layout") from error

    @staticmethod
    def _from_older(content: dict[str, Any]) -> dict[str, Any]:
        dataset = content["dataset"]
        pairs, scenes = dataset.get("files", {}), dataset.get("fine_scenes", {})
        learnt = {
            name: [sha256 for file, sha256 in pairs.items() if file.startswith(f"{name}_")]
            for name in content.get("final", {}).get("trained_on", ())
        }
        data = {dataset.get("name", "pairs"): CardData(purpose="pairs with truth", files=pairs)}
        if scenes:
            data["fine_scenes"] = CardData(purpose="fine LST, degraded", files=scenes)
        return {
            **content,
            "guides": ("ndvi",),
            "data": data,
            "scores": content.get("cross_validation", {}),
            "learnt_from": learnt | {name: [sha256] for name, sha256 in scenes.items()},
        }


class ModelFolder:
    """Reads and writes a model folder; every file is replaced whole or not at all.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.model = self.path / MODEL_FILE
        self.config = self.path / "config.yaml"
        self.card = self.path / "card.json"
        self.run = self.path / "run.json"

    def is_free(self) -> bool:
        """Returns whether there is nothing at the folder's path, or an empty folder."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and not any(self.path.iterdir())

    def create(
        self,
        config: ExperimentConfig,
        run: RunInfo,
        *,
        model: Any = None,
        card: ModelCard | None = None,
        copied: Sequence[Path] = (),
    ) -> None:
        """Makes the folder; it appears whole, so that a kill leaves no half.

        A Keras model and a card go in if they are there already; files ``copied`` are put beside.
        """
        with written_whole(self.path) as partial:
            staged = ModelFolder(partial)
            partial.mkdir()
            config.to_yaml(staged.config)
            for file in copied:
                shutil.copyfile(file, partial / file.name)
            if model is not None:
                staged.write_model(model)
            if card is not None:
                staged.write_card(card)
            staged.write_run(run)

    def read_config(self) -> ExperimentConfig | None:
        """Reads ``config.yaml``; None where there is none.

        Raises:
            ConfigError: If a setting is unknown or invalid.
        """
        # To predict, no settings need be read: those of everything that trains stay away.
        from keras_lstsr.config import ExperimentConfig

        return ExperimentConfig.from_yaml(self.config) if self.config.is_file() else None

    def read_card(self) -> ModelCard | None:
        """Reads ``card.json``; None where there is none.

        Raises:
            ModelError: If it is damaged.
        """
        if not self.card.is_file():
            return None
        content = read_mapping(self.card, ModelError)
        return validated(ModelCard, content, ModelError, path=self.card)

    def read_run(self) -> RunInfo:
        """Reads ``run.json``.

        Raises:
            ModelError: If it is missing or damaged.
        """
        return validated(RunInfo, self._run_as_it_is(), ModelError, path=self.run)

    def write_model(self, model: Any) -> None:
        """Writes ``model.keras``."""
        with written_whole(self.model) as partial:
            model.save(partial)

    def write_card(self, card: ModelCard) -> None:
        """Writes ``card.json``."""
        write_text_whole(self.card, card.model_dump_json(indent=2) + "\n")

    def write_run(self, run: RunInfo) -> None:
        """Writes ``run.json``."""
        write_text_whole(self.run, run.model_dump_json(indent=2) + "\n")

    def provenance(self) -> dict[str, Any]:
        """Collects what the folder says of its model: run, settings, data, card.

        Returns:
            ``run_name``, ``dataset_fingerprint``, ``run`` (all of run.json), and, where the files
            are there, ``config`` (config.yaml as it is) and ``model_card``.

        Raises:
            ModelError: If run.json is missing, or one of the files is damaged.
        """
        run = self._run_as_it_is()
        for name in ("run_name", "dataset_fingerprint"):
            kind = type(run.get(name, "")).__name__
            problem = "the RunInfo is damaged"
            ModelError.unless(kind == "str", name, kind, "a text", problem, path=self.run)
        provenance: dict[str, Any] = {
            "run_name": run.get("run_name", self.path.resolve().name),
            "dataset_fingerprint": run.get("dataset_fingerprint", ""),
            "run": run,
        }
        if self.config.is_file():
            provenance["config"] = read_mapping(self.config, ModelError)
        card = self.read_card()
        if card is not None:
            provenance["model_card"] = card.model_dump(mode="json")
        return provenance

    def _run_as_it_is(self) -> dict[str, Any]:
        if not self.run.is_file():
            raise ModelError(
                "this is not a model folder",
                path=self.run,
                found="no such file",
                expected="a folder that `keras-lstsr train` wrote",
                action="Name the folder that was given to train as --output.",
            )
        return read_mapping(self.run, ModelError)


def card_of(provenance: Any) -> ModelCard | None:
    """Returns the card of a model from its provenance; None where it has none, or no readable one.

    Args:
        provenance: As a predictor or a contract has it.
    """
    try:
        return ModelCard.model_validate(provenance["model_card"])
    except (KeyError, ValidationError):
        return None
