"""``keras-lstsr demo``: the whole way on simulated scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keras_lstsr.cli import path_option


@click.command()
@path_option(
    "--output",
    folder=True,
    default=Path("demo_output"),
    show_default=True,
    help="Folder for everything the demo makes; an earlier demo in it is replaced.",
)
@click.option("--scenes", type=click.IntRange(min=2), default=8, show_default=True)
@click.option(
    "--size",
    "size_pixels",
    type=click.IntRange(min=128),
    default=384,
    show_default=True,
    help="Side of a scene in 1 km pixels.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Default: as in the demo's settings.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--mlflow/--no-mlflow", default=True, help="Track the training run in MLflow.")
def command(output: Path, **options: Any) -> None:
    """Makes a first map, then simulates, prepares, trains, evaluates, exports, serves, predicts.

    The first map, made with the weights of the package, is ready within about a minute. The end
    says where everything is and how to open the MLflow page.
    """
    from keras_lstsr.demo import run_demo

    run_demo(output, **options)
