"""``keras-lstsr inspect``: what a raster holds."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.products import POLICIES, open_product, product_names
from keras_lstsr.products.quality import QualityRow
from keras_lstsr.products.summary import LayerSummary, SceneSummary, summarise


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--qc-policy",
    type=click.Choice(list(POLICIES)),
    default="default",
    show_default=True,
    help="; ".join(f"{name}: {meaning}" for name, meaning in POLICIES.items()) + ".",
)
@click.option(
    "--product", type=click.Choice(product_names()), help="Fail if the file is not of this product."
)
@click.option("--quantity", type=click.Choice(["lst", *GUIDES]), help="What a GeoTIFF holds.")
@click.option("--scale", type=float, help="Units per stored unit of a GeoTIFF, e.g. 0.02.")
@click.option("--offset", type=float, help="Physical value of a stored zero of a GeoTIFF.")
@click.option("--nodata", type=float, help="Stored number of a GeoTIFF that means missing.")
@click.option("--unit", type=click.Choice(["kelvin", "celsius"]), help="Unit of a GeoTIFF's LST.")
@click.option("--date", help="Acquisition date, e.g. 2021-08-15.")
@click.option(
    "--day-night",
    type=click.Choice(["day", "night", "unknown"]),
    help="Time of day of a GeoTIFF's LST.",
)
@click.option(
    "--date-pattern",
    help="Regular expression for the file name: (?P<year>), and (?P<doy>) or (?P<month>) and "
    "(?P<day>).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: Path,
    qc_policy: str,
    product: str | None,
    quantity: str | None,
    scale: float | None,
    offset: float | None,
    nodata: float | None,
    unit: str | None,
    date: str | None,
    day_night: str | None,
    date_pattern: str | None,
    as_json: bool,
) -> None:
    """Print product, tile, date, grid, valid share, range and QC table of FILE."""
    scene = open_product(
        file,
        qc_policy=qc_policy,
        product=product,
        quantity=quantity,
        scale=scale,
        offset=offset,
        nodata=nodata,
        unit=unit,
        date=date,
        day_night=day_night,
        date_pattern=date_pattern,
    )
    summary = summarise(scene)
    if as_json:
        click.echo(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False))
    else:
        render(summary, Console())


def render(summary: SceneSummary, console: Console) -> None:
    """Prints a summary as tables.

    Args:
        summary: What the scene holds.
        console: Where to print.
    """
    _render_facts(summary, console)
    _render_layers(summary.layers, console)
    _render_rejected(summary.layers, console)
    for name, rows in summary.quality.items():
        _render_quality(name, rows, console)
    for layer in summary.layers:
        if not layer.valid_pixels:
            console.print(
                f"[bold yellow]{layer.name} has no valid pixel[/]: {_main_reason(layer)}.",
                soft_wrap=True,
            )


def _main_reason(layer: LayerSummary) -> str:
    if not layer.rejected_pixels:
        return "the raster is empty"
    reason, count = max(layer.rejected_pixels.items(), key=lambda item: item[1])
    return f"{count / layer.pixels:.1%} rejected as {reason}"


def _render_facts(summary: SceneSummary, console: Console) -> None:
    grid, unit = summary.grid, summary.grid.unit
    facts = {
        **summary.attributes,
        "crs": grid.crs,
        "shape": f"{grid.height} rows × {grid.width} columns",
        f"pixel_size_{unit}": " × ".join(f"{size:.10g}" for size in grid.pixel_size),
        f"upper_left_corner_{unit}": f"x {grid.corner[0]:.6f}, y {grid.corner[1]:.6f}",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, value or "unknown")
    console.print(table)


def _render_layers(layers: tuple[LayerSummary, ...], console: Console) -> None:
    table = Table(title="Layers", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("time")
    for heading in ("valid", "share", "min", "mean", "max"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    for layer in layers:
        numbers = (layer.minimum, layer.mean, layer.maximum)
        decimals = 2 if layer.units == "K" else 4
        table.add_row(
            layer.name,
            layer.day_night,
            f"{layer.valid_pixels}",
            f"{layer.valid_share:.2%}",
            *("–" if number is None else f"{number:.{decimals}f}" for number in numbers),
            layer.units,
        )
    console.print(table)


def _render_rejected(layers: tuple[LayerSummary, ...], console: Console) -> None:
    table = Table(title="Rejected pixels", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("reason")
    table.add_column("pixels", justify="right")
    table.add_column("share", justify="right")
    for layer in layers:
        for reason, count in layer.rejected_pixels.items():
            table.add_row(layer.name, reason, f"{count}", f"{count / layer.pixels:.2%}")
    if table.row_count:
        console.print(table)


def _render_quality(name: str, rows: list[QualityRow], console: Console) -> None:
    table = Table(title=f"QC: {name}", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("bits")
    table.add_column("field", overflow="fold")
    table.add_column("code")
    table.add_column("meaning", overflow="fold")
    table.add_column("pixels", justify="right")
    for row in rows:
        table.add_row(row.bits, row.field, row.code, row.meaning, f"{row.pixels}")
    console.print(table)
