"""``keras-lstsr train``: from records to a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    required=True,
    help="YAML file of settings; configs/ holds examples, docs/configuration.md all of them.",
)
@click.option(
    "--records",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of records, as `keras-lstsr prepare` writes it.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Run folder. A run that was killed goes on where it stopped.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Override a setting, e.g. --set training.epochs=5; may be given several times.",
)
@click.option("--mlflow/--no-mlflow", default=True, help="Log the run to MLflow.")
@click.option(
    "--tracking-uri",
    help="MLflow's store  [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]",
)
@click.option("--experiment", help="MLflow's experiment  [default: the settings' name]")
@click.option("--overwrite", is_flag=True, help="Delete a run that is there and start anew.")
@click.option("--quiet", is_flag=True, help="Print the result alone.")
def command(
    config_path: Path,
    records: Path,
    output: Path,
    settings: tuple[str, ...],
    mlflow: bool,
    tracking_uri: str | None,
    experiment: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Trains a network on records.

    Trains on all GPUs, or on the CPU; with KERAS_BACKEND=jax on one device, and then TensorFlow
    need not be installed. Writes the best model, the settings, the history and
    figures to the run folder, and all of it to MLflow. Starting a killed run again with the same
    command continues it.
    """
    from rich.console import Console

    config = apply_settings(config_path, settings)
    # MLflow is looked for before TensorFlow starts: a missing extra should not take seconds.
    from keras_lstsr.training.tracking import Tracker

    tracker = Tracker(experiment=experiment, tracking_uri=tracking_uri) if mlflow else None
    from keras_lstsr.training.fit import train
    from keras_lstsr.training.progress import RichProgress

    console = Console()
    result = train(
        config,
        records,
        output,
        tracker=tracker,
        progress=None if quiet else RichProgress(console),
        overwrite=overwrite,
    )
    info = result.info
    console.print(f"Model: {result.model_path}", highlight=False, soft_wrap=True)
    line = f"Best epoch {info.best_epoch} of {info.epochs}"
    if "val_rmse_kelvin" in info.metrics:
        line += (
            f": validation RMSE {info.metrics['val_rmse_kelvin']:.3f} K, "
            f"bicubic {info.metrics['bicubic_val_rmse_kelvin']:.3f} K"
        )
    console.print(line, highlight=False, soft_wrap=True)
    if info.mlflow_run_id and info.tracking_uri:
        look = f"mlflow ui --backend-store-uri {info.tracking_uri}"
        if info.tracking_uri.startswith("http"):
            look = info.tracking_uri
        console.print(f"MLflow: {look}", highlight=False, soft_wrap=True)
        if result.model_uri is None:
            console.print(
                "MLflow keeps model.keras as a file of the run: its models of Keras need "
                "TensorFlow.",
                highlight=False,
                soft_wrap=True,
            )


def apply_settings(
    config_path: Path | None, settings: tuple[str, ...], kind: type[Any] | None = None
) -> Any:
    """Reads the settings and overrides single ones.

    Args:
        config_path: The YAML file; None starts from the defaults.
        settings: ``section.name=value``; values are read as YAML, so ``null``, ``true`` and
            numbers are what they look like.
        kind: What the settings are of; ``ExperimentConfig`` by default.

    Returns:
        The validated settings, of ``kind``.

    Raises:
        ConfigError: If the file or a setting is invalid.
    """
    import yaml

    from keras_lstsr.config import ExperimentConfig
    from keras_lstsr.errors import ConfigError

    kind = kind or ExperimentConfig
    config = kind() if config_path is None else kind.from_yaml(config_path)
    if not settings:
        return config
    # What the file leaves out is filled in once more: defaults depend on the architecture.
    text = "" if config_path is None else config_path.read_text(encoding="utf-8")
    content = yaml.safe_load(text) or {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        *sections, last = name.strip().split(".")
        if not separator or not last:
            raise ConfigError(
                "a setting has no value",
                field="--set",
                found=repr(setting),
                expected="NAME=VALUE, e.g. training.epochs=5",
            )
        place = content
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                "a setting's value is no valid YAML", field=f"--set {name}", found=repr(text)
            ) from error
        if not isinstance(place, dict):
            raise ConfigError(
                "no such setting",
                field=f"--set {name}",
                action="docs/configuration.md lists all settings.",
            )
        place[last] = value
    return kind.from_dict(content, source=config_path)
