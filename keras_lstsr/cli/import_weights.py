"""``keras-lstsr import-weights``: weights of the papers' PyTorch code as a model folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from keras_lstsr.cli import path_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--architecture",
    type=click.Choice(["mrunet-strided", "mrunet-maxpool", "vdsr", "dmcn"]),
    required=True,
    help="The network that the weights belong to.",
)
@path_option("--output", folder=True, required=True, help="Model folder; must not exist yet.")
@click.option(
    "--normalisation-scale",
    "scale_kelvin",
    type=click.FloatRange(min=0, min_open=True),
    default=333.32,
    show_default=True,
    metavar="KELVIN",
    help="Maximum of the training data, by which the network's input is divided. It is not in "
    "the file; the default is the report's.",
)
@click.option(
    "--upsampling",
    type=click.Choice(["bilinear", "bicubic"]),
    default="bilinear",
    show_default=True,
    help="How the input is upsampled to the fine grid; bilinear in the papers' code.",
)
@click.option("--scale-factor", type=click.IntRange(min=2), default=4, show_default=True)
@click.option("--width", type=click.IntRange(min=1), help="Channels  [default: as published, 64]")
@click.option("--depth", type=int, help="Levels or convolutions  [default: as published]")
@click.option(
    "--bridge-blocks", type=click.IntRange(min=0), help="For mrunet  [default: as published, 1]"
)
def command(file: Path, architecture: str, output: Path, **settings: Any) -> None:
    """Turns FILE, a state_dict of the papers' PyTorch code, into a model folder.

    FILE is a .pth or .pt (needs PyTorch; no code in it is run) or an .npz of the same arrays
    (needs nothing). Weights that do not fit are refused, and named. The folder can be given
    to export, predict and evaluate.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

    from rich.console import Console

    from keras_lstsr.artifacts.imported import import_weights

    console = Console(highlight=False, soft_wrap=True)
    with console.status("Importing"):
        report = import_weights(file, architecture, output, **settings)
    console.print(
        f"{architecture}: {report.parameters:,} parameters in {len(report.imported)} entries",
        markup=False,
    )
    for group, count in report.ignored_groups().items():
        console.print(f"Ignored, without influence: {group} ({count})", markup=False)
    scaled = f"T / {settings['scale_kelvin']:g} K, upsampled {settings['upsampling']}"
    console.print(f"Input: {scaled}", markup=False)
    console.print(f"Export it: keras-lstsr export {output}", markup=False)
