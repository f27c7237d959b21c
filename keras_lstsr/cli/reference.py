"""``keras-lstsr reference``: the mean detail of fine LST of other dates, as a guide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_lstsr.cli import path_option, value_options

if TYPE_CHECKING:
    from keras_lstsr.grids.grid import Grid

_RASTER_OPTIONS = ("scale", "offset", "nodata", "unit", "quantity")


@click.command()
@click.argument(
    "sources", metavar="FINE_LST...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@path_option("--output", required=True, help="GeoTIFF to write.")
@path_option("--grid", "grid_path", help="A raster with the wanted pixels, of about 250 m.")
@path_option("--lst", "lst_path", help="The 1 km LST to refine: the reference nests in its pixels.")
@click.option(
    "--day-night",
    type=click.Choice(["day", "night"]),
    help="Which files to take. Must be given where there are files of both.",
)
@value_options
@click.option("--quantity", type=click.Choice(["lst"]), help="GeoTIFF: say that it is LST.")
def command(sources: tuple[Path, ...], output: Path, **options: Any) -> None:
    """Makes a reference of FINE_LST: what detail LST has on this ground on other dates.

    FINE_LST are files, or folders of files, of LST with pixels of 250 m or finer: ASTER AST_08,
    ECOSTRESS, Landsat Collection 2 (ST_B10), or maps of `keras-lstsr predict`. Cloud masks beside
    them are used. Give the result to `keras-lstsr predict` with --guide reference=OUTPUT.

    Without --grid and --lst, the reference has the first file's pixels if they are of about 250 m,
    else pixels of 250 m in its UTM zone.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from keras_lstsr.inference.reference import make_reference

    if options["grid_path"] and options["lst_path"]:
        raise click.UsageError("Give only one of --grid and --lst.")
    console = Console(highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("Files", total=None)
        made = make_reference(
            sources,
            output,
            grid=_grid(options["grid_path"], options["lst_path"]),
            day_night=options["day_night"],
            options={name: options[name] for name in _RASTER_OPTIONS if options[name] is not None},
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            announce=lambda note: console.print(f"Note: {note}", markup=False),
        )
    line = (
        f"{made.path}: {made.shape[0]} × {made.shape[1]} pixels, {made.day_night}, "
        f"files {sum(weight > 0 for weight in made.files.values())} of {len(made.files)}, "
        f"{len(made.shifts)} moved, {made.valid_share:.1%} valid, "
        f"standard deviation {made.spread_kelvin:.2f} K"
    )
    console.print(line, markup=False)


def _grid(grid_path: Path | None, lst_path: Path | None) -> Grid | None:
    from keras_lstsr.grids.grid import Grid
    from keras_lstsr.products import lst_layers, open_product

    if grid_path is not None:
        return Grid.of(grid_path)
    if lst_path is None:
        return None
    if lst_path.suffix.lower() in (".tif", ".tiff"):
        return Grid.of(lst_path).finer(4)
    return Grid.of(next(iter(lst_layers(open_product(lst_path)).values()))).finer(4)
