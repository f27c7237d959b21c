"""``keras-lstsr export``: a trained model as a SavedModel for TF Serving."""

from __future__ import annotations

import os
from pathlib import Path

import click

from keras_lstsr.cli import path_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@path_option(
    "--output",
    folder=True,
    default=Path("models/lstsr"),
    show_default=True,
    help="The model's folder; the export becomes its next version.",
)
def command(model: Path, output: Path) -> None:
    """Exports MODEL (a folder of `keras-lstsr train`) as the next version.

    MODEL may also be a .keras file, or the word pretrained: the model that comes with this package.
    The version has named signatures, contract.json and warm-up requests, and appears in one step:
    a server that watches the folder loads it by itself.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

    from rich.console import Console

    from keras_lstsr.artifacts.contract import Contract
    from keras_lstsr.artifacts.export import export_model

    console = Console(highlight=False, soft_wrap=True)
    with console.status("Exporting"):
        version = export_model(model, output)
    contract = Contract.read(version)
    least = contract.minimum_size_pixels
    sizes = f"×{contract.scale_factor}, smallest input {least} × {least} pixels"
    console.print(f"{version}: version {contract.model_version} ({sizes})", markup=False)
    console.print(f"Weights: sha256 {contract.provenance['weights_sha256']}", markup=False)
    console.print(f"Serve it: keras-lstsr serve {output}", markup=False)
