"""``keras-lstsr train``: from records to a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from keras_lstsr.cli import config_option, path_option, records_option
from keras_lstsr.cli.run_options import RunOptions, apply_settings, run_options


@click.command()
@config_option(
    "YAML file of settings; configs/ holds examples, docs/configuration.md all of them.",
    required=True,
)
@records_option
@path_option(
    "--output",
    required=True,
    help="Run folder. A run that was killed continues where it stopped.",
)
@click.option(
    "--init",
    metavar="MODEL",
    help="Start from these weights: a model folder, or the name of weights that come with the "
    "package, `pretrained` for the newest. Settings without a section model take its network "
    " [default: random weights]",
)
@run_options
def command(
    config_path: Path, records: Path, output: Path, init: str | None, options: RunOptions
) -> None:
    """Trains a network on records.

    Trains on all GPUs, or on the CPU; with KERAS_BACKEND=jax on one device, without
    TensorFlow. Writes the model, the settings, the history and figures to the run folder, and all
    of it to MLflow. The same command continues a run that was killed.
    """
    from rich.console import Console

    network = None
    if init is not None:
        from keras_lstsr.artifacts.initial import network_settings

        network = network_settings(init)
    config = apply_settings(config_path, options.settings, network)
    # MLflow is looked for before TensorFlow starts: a missing extra should not take seconds.
    tracker = options.tracker()
    from keras_lstsr.training.fit import train
    from keras_lstsr.training.progress import RichProgress

    console = Console(highlight=False, soft_wrap=True)
    result = train(
        config,
        records,
        output,
        tracker=tracker,
        progress=None if options.quiet else RichProgress(console),
        overwrite=options.overwrite,
        init=init,
    )
    info = result.info
    console.print(f"Model: {result.model_path}")
    which = "Last epoch" if config.training.keep == "last" else "Best epoch"
    line = f"{which} {info.best_epoch} of {info.epochs}"
    if "val_rmse_kelvin" in info.metrics:
        line += (
            f": validation RMSE {info.metrics['val_rmse_kelvin']:.3f} K, "
            f"bicubic {info.metrics['bicubic_val_rmse_kelvin']:.3f} K"
        )
    console.print(line)
    if info.mlflow_run_id and info.tracking_uri:
        look = f"mlflow ui --backend-store-uri {info.tracking_uri}"
        if info.tracking_uri.startswith("http"):
            look = info.tracking_uri
        console.print(f"MLflow: {look}")
        if result.model_uri is None:
            console.print(
                "MLflow keeps model.keras as a file of the run: a model in MLflow's format needs "
                "TensorFlow.",
                highlight=False,
                soft_wrap=True,
            )
