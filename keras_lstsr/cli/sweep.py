"""``keras-lstsr sweep``: variations of one experiment, as nested runs."""

from __future__ import annotations

from pathlib import Path

import click

from keras_lstsr.cli import (
    config_option,
    mlflow_option,
    path_option,
    records_option,
    tracking_uri_option,
)
from keras_lstsr.cli.run_options import put_settings, settings_option


@click.command()
@config_option(
    "YAML file with name, base (settings) and runs (name → settings that differ).", required=True
)
@records_option
@path_option(
    "--output",
    required=True,
    help="Folder for the run folders and summary.csv. Finished runs are not repeated.",
)
@settings_option
@mlflow_option
@tracking_uri_option
def command(
    config_path: Path,
    records: Path,
    output: Path,
    settings: tuple[str, ...],
    mlflow: bool,
    tracking_uri: str | None,
) -> None:
    """Trains every run of a sweep, e.g. the weights of MixGL in configs/report_alpha_sweep.yaml."""
    import csv

    from rich.console import Console
    from rich.table import Table

    from keras_lstsr.training.progress import RichProgress, TrainingProgress
    from keras_lstsr.training.sweep import Sweep, run_sweep, write_summary

    console = Console()
    sweep = Sweep.from_yaml(config_path)
    if settings:
        content = sweep.model_dump()
        put_settings(content["base"], settings)
        sweep = Sweep.from_dict(content, source=config_path)

    def announce(name: str) -> TrainingProgress:
        console.rule(f"[bold]{name}", align="left")
        return RichProgress(console)

    run_sweep(sweep, records, output, mlflow=mlflow, tracking_uri=tracking_uri, progress=announce)
    path = write_summary(sweep, output)
    with path.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    table = Table(*header)
    for row in rows:
        table.add_row(*(_short(cell) for cell in row))
    console.print(table)
    console.print(str(path), highlight=False, soft_wrap=True)


def _short(cell: str) -> str:
    try:
        return f"{float(cell):.5g}"
    except ValueError:
        return cell
