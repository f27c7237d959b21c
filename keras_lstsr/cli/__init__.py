"""The commands of ``keras-lstsr``, one module each, and the options that several of them have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*options: Decorator) -> Decorator:
    """Makes one decorator of several; ``--help`` lists the options in this order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def path_option(*names: str, help: str, folder: bool = False, **settings: Any) -> Decorator:
    """An option that takes a path; with ``folder`` it must not be that of a file."""
    return click.option(
        *names, type=click.Path(path_type=Path, file_okay=not folder), help=help, **settings
    )


def config_option(help: str, **settings: Any) -> Decorator:
    """``--config``, which the command gets as ``config_path``."""
    return path_option("--config", "config_path", help=help, **settings)


records_option = path_option(
    "--records",
    required=True,
    help="Folder of records, as `keras-lstsr prepare` writes it.",
)
qc_policy_option = click.option(
    "--qc-policy",
    type=click.Choice(["strict", "default", "lenient"]),
    default="default",
    show_default=True,
    help="Which pixels count as valid: good only; LST error up to 2 K; all that was produced.",
)
value_options = together(
    click.option("--scale", type=float, help="GeoTIFF: units per stored unit, e.g. 0.02."),
    click.option("--offset", type=float, help="GeoTIFF: physical value of a stored zero."),
    click.option(
        "--nodata",
        type=float,
        help="GeoTIFF: stored number that means missing; nan if none does.",
    ),
    click.option("--unit", type=click.Choice(["kelvin", "celsius"]), help="GeoTIFF: its unit."),
)
raster_options = together(
    value_options,
    click.option(
        "--date", metavar="YYYY-MM-DD", help="Acquisition date, if the file does not say it."
    ),
    click.option(
        "--day-night",
        type=click.Choice(["day", "night", "unknown"]),
        help="GeoTIFF: time of day, if the file does not say it.",
    ),
)
token_option = path_option(
    "--token-file",
    help="File of a bearer token  [default: the environment variable LSTSR_TOKEN]",
)
access_options = together(
    click.option("--tls", is_flag=True, help="Server: encrypt, and check its certificate."),
    path_option("--ca", "ca_file", help="Server: PEM file of who signs its certificate; uses TLS."),
    path_option("--client-cert", "certificate_file", help="Server: PEM file to show to it."),
    path_option("--client-key", "key_file", help="Server: PEM file of that certificate's key."),
    token_option,
)


def server_access(options: dict[str, Any]) -> Any:
    """Takes ``access_options`` out of a command's options, as ``ServerAccess``."""
    from keras_lstsr.inference.connection import ServerAccess, read_token

    names = ("tls", "ca_file", "certificate_file", "key_file")
    token = read_token(options.pop("token_file"))
    return ServerAccess(**{name: options.pop(name) for name in names}, token=token)


mlflow_option = click.option(
    "--mlflow/--no-mlflow", default=True, help="Log the training to MLflow."
)
tracking_uri_option = click.option(
    "--tracking-uri",
    help="MLflow's store  [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]",
)
