"""Runs in MLflow; the only module that imports it."""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel

from keras_lstsr import __version__
from keras_lstsr.artifacts.model_folder import InitialWeights, ModelFolder, RunInfo
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, MissingExtraError
from keras_lstsr.files import trouble_within

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]

# What loading a logged model needs beside the package's own code, which is logged with it.
MODEL_REQUIREMENTS = ("tensorflow", "keras", "numpy", "pydantic", "pyyaml", "cloudpickle")
# MLflow refuses longer parameter values and dataset digests.
LONGEST_PARAMETER = 6000
LONGEST_DIGEST = 36

MOST_REACH_SECONDS = 10.0
_SCHEMES_OF_FILES = ("", "file", "sqlite")
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
# While it is only looked for, a store that does not answer is not asked again and again.
_IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_SQLALCHEMYSTORE_MAX_RETRIES": "0",
}


class Tracker:
    """One run in MLflow, from start to end, continued after a kill.

    Args:
        experiment: Experiment for new runs; made where it does not exist. None: what
            ``MLFLOW_EXPERIMENT_NAME`` or ``MLFLOW_EXPERIMENT_ID`` say, else the settings' name.
        tracking_uri: Where runs are kept. None: where the run to continue was kept, else
            ``MLFLOW_TRACKING_URI``, else MLflow's default, ``sqlite:///mlflow.db`` here.

    Raises:
        MissingExtraError: If MLflow is not installed.
    """

    def __init__(self, *, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        self._mlflow = _import_mlflow()
        self._experiment = experiment
        self._tracking_uri = tracking_uri
        self._run_id: str | None = None
        self._logged_epochs: set[int] = set()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None before ``start``."""
        return self._run_id

    @property
    def tracking_uri(self) -> str:
        """Where the run is kept."""
        return str(self._mlflow.get_tracking_uri())

    @property
    def recordable_uri(self) -> str | None:
        """``tracking_uri`` if it may be written to a file: None where it holds a password."""
        return None if urlsplit(self.tracking_uri).password else self.tracking_uri

    def check_reachable(self, tracking_uri: str | None = None) -> None:
        """Asks the store something, before anything is computed.

        MLflow itself tries a store that is away for minutes, without a word.

        Args:
            tracking_uri: The store; by default the one where new runs will be kept.

        Raises:
            ConfigError: If it does not answer within 10 s, or refuses.
        """
        uri = tracking_uri or self._tracking_uri or self.tracking_uri
        problem = trouble_within(MOST_REACH_SECONDS, lambda: self._ask(uri))
        if problem is not None:
            raise ConfigError(
                "MLflow's store cannot be used",
                field="tracking_uri",
                found=f"{_without_password(uri)}: {problem}",
                action="Start it or correct --tracking-uri (MLFLOW_TRACKING_URI), or run without "
                "MLflow: --no-mlflow.",
            )

    def _ask(self, uri: str) -> None:
        parts = urlsplit(uri)
        if parts.hostname and parts.scheme not in _SCHEMES_OF_FILES:
            port = parts.port or _PORTS.get(parts.scheme.partition("+")[0], 443)
            socket.create_connection((parts.hostname, port), timeout=MOST_REACH_SECONDS).close()
        before = {name: os.environ.get(name) for name in _IMPATIENT}
        os.environ.update(_IMPATIENT)
        try:
            client = self._mlflow.MlflowClient(tracking_uri=uri)
            name = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
            experiment = client.get_experiment_by_name(name)
            location = getattr(experiment, "artifact_location", None)
            if location and urlsplit(location).scheme not in ("", "file", "mlflow-artifacts"):
                registry = importlib.import_module(
                    "mlflow.store.artifact.artifact_repository_registry"
                )
                registry.get_artifact_repository(location).list_artifacts()
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def start(
        self,
        *,
        run_name: str,
        experiment: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        run_id: str | None = None,
        tracking_uri: str | None = None,
    ) -> str:
        """Starts a run or continues one.

        Under ``mlflow run`` the run that it has made is used, by the first tracker that starts;
        those that start later nest in it. Parameters that it has logged are left as they are:
        MLflow refuses to log one again in other words.

        Args:
            run_name: Name of a new run.
            experiment: Name of a new run's experiment, where nothing else names it.
            parameters: The settings, by dotted name.
            tags: Tags to set.
            run_id: The run to continue.
            tracking_uri: Where the run to continue was kept.

        Returns:
            The run's id.

        Raises:
            ConfigError: If the store cannot be reached, or the run to continue is not there.
        """
        mlflow = self._mlflow
        uri = self._tracking_uri or (tracking_uri if run_id else None)
        if uri:
            mlflow.set_tracking_uri(uri)
        self.check_reachable(uri)
        # Taken away, or MLflow would hand the launched run to the nested ones as well.
        launched = os.environ.pop("MLFLOW_RUN_ID", None)
        nested = mlflow.active_run() is not None
        if run_id or launched:
            self._run_id = self._continue(run_id or str(launched), nested=nested)
            if run_id and launched and run_id != launched:
                # `mlflow run` made a run of its own for the restart: leave a pointer in it.
                mlflow.MlflowClient().set_tag(launched, "continued_run", run_id)
        else:
            experiment_id = self._experiment_id(experiment)
            run = mlflow.start_run(experiment_id=experiment_id, run_name=run_name, nested=nested)
            self._run_id = str(run.info.run_id)
        mlflow.set_tags({**tags, "keras_lstsr_version": __version__})
        self._log_parameters(parameters)
        return self._run_id

    def begin(
        self, run: RunInfo, config: ExperimentConfig, records_dir: Path, tags: Mapping[str, str]
    ) -> None:
        """Starts or continues the run of a training, and notes in ``run`` where it is kept."""
        run.mlflow_run_id = self.start(
            run_name=run.run_name,
            experiment=config.name,
            parameters=flatten(config),
            tags={
                "task": config.data.task,
                "architecture": config.model.network,
                **_tags_of(run.initial_weights),
                **tags,
            },
            run_id=run.mlflow_run_id,
            tracking_uri=run.tracking_uri,
        )
        run.tracking_uri = self.recordable_uri
        name = records_dir.resolve().name
        self.log_dataset(name, run.dataset_fingerprint, records_dir)

    def nested(self) -> Tracker:
        """Returns the tracker of another run, to be nested in this one, in the same experiment."""
        return Tracker(experiment=self._experiment, tracking_uri=self.tracking_uri)

    def _continue(self, run_id: str, *, nested: bool) -> str:
        try:
            run = self._mlflow.start_run(run_id=run_id, nested=nested)
        except self._mlflow.MlflowException as error:
            raise ConfigError(
                "the run to continue is not in MLflow's store",
                field="mlflow_run_id",
                found=f"{run_id} at {self.tracking_uri}: {error.message.splitlines()[0]}",
                action="Give its store with --tracking-uri, or run without MLflow: --no-mlflow.",
            ) from error
        points = self._mlflow.MlflowClient().get_metric_history(run_id, "loss")
        self._logged_epochs = {int(point.step) for point in points}
        return str(run.info.run_id)

    def _experiment_id(self, default: str) -> str | None:
        name = self._experiment
        if name is None:
            if {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys():
                return None
            name = default
        known = self._mlflow.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        location = None
        if self._tracking_uri and self._tracking_uri.startswith("sqlite:///"):
            # MLflow would put the artifacts into the current folder, away from their database.
            database = Path(self._tracking_uri.removeprefix("sqlite:///")).resolve()
            folder = re.sub(r"[^\w.-]+", "_", name)
            location = (database.parent / "mlartifacts" / folder).as_uri()
        return str(self._mlflow.create_experiment(name, artifact_location=location))

    def _log_parameters(self, parameters: Mapping[str, Any]) -> None:
        present = self._mlflow.MlflowClient().get_run(self._run_id).data.params
        new = {
            name: str(value)[:LONGEST_PARAMETER]
            for name, value in parameters.items()
            if name not in present
        }
        self._mlflow.log_params(new)

    def log_dataset(self, name: str, fingerprint: str, folder: str | PathLike[str]) -> None:
        """Names the records as the run's input: their fingerprint as a tag, and in the digest."""
        # MLflow's own dataset classes hash the data; MetaDataset takes our fingerprint.
        registry = importlib.import_module("mlflow.data.dataset_source_registry")
        with warnings.catch_warnings():
            # Two of MLflow's sources, local and local, feel called for a folder.
            warnings.simplefilter("ignore", UserWarning)
            source = registry.resolve_dataset_source(Path(folder).resolve().as_uri())
        dataset = importlib.import_module("mlflow.data.meta_dataset").MetaDataset(
            source, name=name, digest=fingerprint[:LONGEST_DIGEST]
        )
        self._mlflow.log_input(dataset, context="training")
        self._mlflow.set_tag("dataset_fingerprint", fingerprint)

    def log_epoch(self, record: Mapping[str, float]) -> None:
        """Logs the metrics of an epoch, once; ``record["epoch"]`` is the step."""
        epoch = int(record["epoch"])
        if epoch not in self._logged_epochs:
            metrics = {name: float(value) for name, value in record.items() if name != "epoch"}
            self._mlflow.log_metrics(metrics, step=epoch)
            self._logged_epochs.add(epoch)

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Logs figures of the whole run."""
        self._mlflow.log_metrics(dict(metrics))

    def log_files(self, paths: Iterable[Path], folder: str | None = None) -> None:
        """Stores files with the run, in a folder of its artifacts."""
        for path in paths:
            self._mlflow.log_artifact(str(path), folder)

    def log_model(self, model: Any, *, scale_factor: int) -> str:
        """Stores the uncompiled model with its signature, requirements and this package's code.

        Returns the URI by which ``mlflow.pyfunc`` and ``mlflow.tensorflow`` load it.
        """
        info = importlib.import_module("mlflow.tensorflow").log_model(
            model,
            name="model",
            signature=_signature(self._mlflow, model),
            pip_requirements=[f"{name}=={version(name)}" for name in MODEL_REQUIREMENTS],
            code_paths=[str(Path(__file__).parents[1])],
            metadata={"scale_factor": scale_factor, "keras_lstsr_version": __version__},
        )
        return str(info.model_uri)

    def finish(self, status: EndStatus = "FINISHED") -> None:
        """Ends the run."""
        if self._run_id is not None:
            self._mlflow.end_run(status)
            self._run_id = None


def _tags_of(initial: InitialWeights | None) -> dict[str, str]:
    if initial is None:
        return {}
    return {"init": initial.name, "init_weights_sha256": initial.weights_sha256}


def _without_password(uri: str) -> str:
    """Returns an address as it may be printed."""
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


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


def log_evaluation(
    run_dir: str | PathLike[str],
    metrics: Mapping[str, float],
    files: Iterable[Path] = (),
    *,
    folder: str = "evaluation",
) -> str | None:
    """Adds figures and files to the MLflow run of a finished training.

    Args:
        run_dir: The run folder.
        metrics: Figures by name; MLflow allows letters, digits and ``_ - . / :`` and spaces.
        files: Tables and figures.
        folder: Folder of the run's artifacts for the files.

    Returns:
        The run's id; None if it was trained without MLflow.

    Raises:
        ModelError: If this is no run folder.
        MissingExtraError: If MLflow is not installed.
    """
    info = ModelFolder(run_dir).read_run()
    if info.mlflow_run_id is None:
        return None
    client = _import_mlflow().MlflowClient(tracking_uri=info.tracking_uri)
    for name, value in metrics.items():
        client.log_metric(info.mlflow_run_id, name, float(value))
    for path in files:
        client.log_artifact(info.mlflow_run_id, str(path), folder)
    return info.mlflow_run_id


def _import_mlflow() -> Any:
    # MLflow tells of every migration of a new database, some fifty lines.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    try:
        return importlib.import_module("mlflow")
    except ImportError as error:
        raise MissingExtraError(
            "MLflow is not installed",
            found=str(error),
            action="pip install keras-lstsr[mlflow], or train without it: --no-mlflow.",
        ) from error


def _signature(mlflow: Any, model: Any) -> Any:
    numpy = importlib.import_module("numpy")
    types = importlib.import_module("mlflow.types")
    any_size = (-1, -1, -1, 1)

    def schema(names: Iterable[str]) -> Any:
        specs = [types.TensorSpec(numpy.dtype("float32"), any_size, name) for name in names]
        return types.Schema(specs)

    outputs = model.output if isinstance(model.output, dict) else ("lst_kelvin_fine",)
    return mlflow.models.ModelSignature(
        inputs=schema(each.name for each in model.inputs), outputs=schema(outputs)
    )
