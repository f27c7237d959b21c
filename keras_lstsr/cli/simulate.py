"""``keras-lstsr simulate``: scenes with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from keras_lstsr.simulate import DEFAULT_NOISE_KELVIN, SimulatedScene, simulate_scenes


@click.command("simulate")
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--scenes", type=int, required=True, metavar="N", help="Number of scenes.")
@click.option("--seed", type=int, required=True, metavar="S", help="Seed of the landscapes.")
@click.option(
    "--size",
    "size_pixels",
    type=int,
    default=1200,
    show_default=True,
    metavar="PIXELS",
    help="1 km pixels along a side, from the tile's upper left corner; 1200 is a whole tile.",
)
@click.option(
    "--noise",
    "noise_kelvin",
    type=float,
    default=DEFAULT_NOISE_KELVIN,
    show_default=True,
    metavar="KELVIN",
    help="Standard deviation of the noise of a good 1 km LST pixel.",
)
@click.option(
    "--cloud-fraction",
    type=float,
    metavar="SHARE",
    help="Share of each overpass under cloud, 0 to 1; by default drawn from 0.05 to 0.45.",
)
def command(output: Path, scenes: int, size_pixels: int, **options: Any) -> None:
    """Write physically plausible scenes with known truth into OUT.

    Each scene is a MOD11A1 and a MOD09GQ granule (HDF4-EOS) of one tile and day, and in
    OUT/truth the true 250 m LST by day and by night (GeoTIFF). The same arguments give the same
    bytes.
    """
    console = Console()
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("simulating", total=scenes)

        def advance(scene: SimulatedScene) -> None:
            bar.update(task, advance=1, description=f"{scene.tile} {scene.date.isoformat()}")

        written = simulate_scenes(
            output, scenes=scenes, size_pixels=size_pixels, progress=advance, **options
        )
    side = f"{size_pixels} × {size_pixels} pixels of 1 km"
    click.echo(f"{len(written)} scenes of {side} in {output}, their truth in {output / 'truth'}")
