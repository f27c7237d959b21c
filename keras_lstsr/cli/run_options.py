"""Options that commands which train have in common, and the settings read from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def tracking_uri_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--tracking-uri``."""
    return click.option(
        "--tracking-uri",
        help="MLflow's store  [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]",
    )(command)


def run_options(example: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds what a training run is told: settings, MLflow, ``--overwrite`` and ``--quiet``.

    Args:
        example: A setting for the help of ``--set``.
    """
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help=f"Override a setting, e.g. --set {example}; may be given several times.",
        ),
        click.option("--mlflow/--no-mlflow", default=True, help="Log the run to MLflow."),
        tracking_uri_option,
        click.option("--experiment", help="MLflow's experiment  [default: the settings' name]"),
        click.option(
            "--overwrite", is_flag=True, help="Delete a run that is there and start anew."
        ),
        click.option("--quiet", is_flag=True, help="Print the result alone."),
    ]

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


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
