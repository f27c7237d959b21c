"""Options that commands which train have in common, and the settings read from them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_lstsr.cli import Decorator, mlflow_option, together, tracking_uri_option

if TYPE_CHECKING:
    from keras_lstsr.config import ExperimentConfig
    from keras_lstsr.training.tracking import Tracker


@dataclass(frozen=True)
class RunOptions:
    """What a training run is told on the command line beside its settings file.

    Attributes:
        settings: ``NAME=VALUE`` each.
        mlflow: Log the run to MLflow.
        tracking_uri: MLflow's store; None as in ``training.tracking.Tracker``.
        experiment: MLflow's experiment; None takes the settings' name.
        overwrite: Delete a run that is there.
        quiet: Print only the result.
    """

    settings: tuple[str, ...]
    mlflow: bool
    tracking_uri: str | None
    experiment: str | None
    overwrite: bool
    quiet: bool

    def with_folds(self, folds: int | None) -> tuple[str, ...]:
        """Returns the settings, with that of ``--folds`` where it was given."""
        if folds is None:
            return self.settings
        return (*self.settings, f"cross_validation.folds={folds}")

    def tracker(self) -> Tracker | None:
        """Returns MLflow's run; None where it is not wanted.

        Raises:
            MissingExtraError: If MLflow is wanted and not installed.
            ConfigError: If its store does not answer.
        """
        if not self.mlflow:
            return None
        from keras_lstsr.training.tracking import Tracker

        tracker = Tracker(experiment=self.experiment, tracking_uri=self.tracking_uri)
        tracker.check_reachable()
        return tracker


settings_option: Decorator = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Override a setting, e.g. --set training.epochs=5; may be given several times.",
)
_RUN_OPTIONS: Decorator = together(
    settings_option,
    mlflow_option,
    tracking_uri_option,
    click.option("--experiment", help="MLflow's experiment  [default: the settings' name]"),
    click.option("--overwrite", is_flag=True, help="Delete an existing run and start again."),
    click.option("--quiet", is_flag=True, help="Print only the result."),
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what a training run is told; the command gets it as one argument, ``options``."""

    @functools.wraps(command)
    def called(**given: Any) -> Any:
        told = {field.name: given.pop(field.name) for field in fields(RunOptions)}
        return command(**given, options=RunOptions(**told))

    return _RUN_OPTIONS(called)


def apply_settings(
    config_path: Path,
    settings: tuple[str, ...],
    network: Mapping[str, Any] | None = None,
) -> ExperimentConfig:
    """Reads the settings of a YAML file and overrides single ones: ``section.name=value``.

    Values are read as YAML, so ``null``, ``true`` and numbers are what they look like.

    Args:
        config_path: The file.
        settings: What to override.
        network: The section ``model`` where the file has none.

    Raises:
        ConfigError: If the file or a setting is invalid.
    """
    from keras_lstsr.config import ExperimentConfig
    from keras_lstsr.errors import ConfigError
    from keras_lstsr.files import read_mapping

    if network is None:
        config = ExperimentConfig.from_yaml(config_path)
        if not settings:
            return config
    # What the file leaves out is filled in once more: defaults depend on the architecture.
    content = read_mapping(config_path, ConfigError)
    if network is not None:
        content.setdefault("model", dict(network))
    put_settings(content, settings)
    return ExperimentConfig.from_dict(content, source=config_path)


def put_settings(content: dict[str, Any], settings: Sequence[str]) -> None:
    """Sets settings, ``section.name=value`` each, in a mapping of settings.

    Raises:
        ConfigError: If one has no value, or none that is YAML.
    """
    import yaml

    from keras_lstsr.config.settings import put_by_name
    from keras_lstsr.errors import ConfigError

    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or not name.strip():
            raise ConfigError(
                "a setting has no value",
                field="--set",
                found=repr(setting),
                expected="NAME=VALUE, e.g. training.epochs=5",
            )
        try:
            put_by_name(content, name, yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ConfigError(
                "a setting's value is not valid YAML", field=f"--set {name}", found=repr(text)
            ) from error
