"""The ``keras-lstsr`` command: a group whose commands are imported only when they run."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click

from keras_lstsr import __version__
from keras_lstsr.errors import LstsrError, OldLayoutWarning
from keras_lstsr.files import disk_error
from keras_lstsr.registration import load_extensions

# name -> (module, one line for --help): the help page must not import TensorFlow.
COMMANDS = {
    "inspect": "Print product, tile, date, grid, valid share, range and QC table of a raster.",
    "simulate": "Write physically plausible scenes with known truth.",
    "prepare": "Convert rasters into TFRecords with an Apache Beam job.",
    "train": "Train a network on records.",
    "cross-validate": "Cross-validate a network by place, then train it on all samples.",
    "pretrain": "Train the guided model on pairs: prepare and cross-validate in one.",
    "import-weights": "Turn weights of the papers' PyTorch code into a model folder.",
    "sweep": "Train variations of one experiment, as nested runs.",
    "evaluate": "Score models and classical methods beside bicubic; writes an HTML report.",
    "export": "Export a trained run as a SavedModel for TF Serving.",
    "serve": "Serve a SavedModel with TF Serving's gRPC API.",
    "reference": "Make a guide of fine LST of other dates.",
    "predict": "Turn a 1 km raster into a 250 m cloud-optimised GeoTIFF.",
    "demo": "Run all steps on simulated scenes.",
}


class LazyGroup(click.Group):
    """A click group that imports ``keras_lstsr.cli.<name>``, ``-`` as ``_``, when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module and returns its ``command``."""
        if cmd_name not in COMMANDS:
            return None
        load_extensions()
        module = importlib.import_module(f"keras_lstsr.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the command list without importing a single one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keras-lstsr")
def cli() -> None:
    """From 1 km MODIS land surface temperature to 250 m maps."""


def _shown(otherwise: Callable[..., None]) -> Callable[..., None]:
    """Prints our own warnings as notes, without the place in the code, and others as before."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, OldLayoutWarning):
            click.echo(f"Note: {message}.", err=True)
        else:
            otherwise(message, category, *place, **options)

    return show


def _run() -> int:
    """Runs the command; click's own way ends with status 1 after Ctrl+C, and hides where."""
    try:
        status = cli(prog_name="keras-lstsr", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    # --help and ctx.exit() return their status; commands return nothing.
    return status if isinstance(status, int) else 0


def main() -> None:
    """Runs the command line; a user's error is printed without traceback, exit status 2.

    Ctrl+C ends with status 130.
    """
    # On a machine without a GPU, TensorFlow's C++ side reports that as an error at each start. What
    # concerns the user comes as a Python exception all the same.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.showwarning = _shown(warnings.showwarning)
    try:
        sys.exit(_run())
    except LstsrError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except OSError as error:
        known = disk_error(error)
        if known is None:
            raise
        click.echo(f"Error: {known}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        click.echo(
            "Error: TensorFlow is not installed. Install it with `pip install tensorflow`; train, "
            "evaluate and predict also run with KERAS_BACKEND=jax.",
            err=True,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
