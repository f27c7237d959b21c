"""``keras-lstsr inspect``: what a raster holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from keras_lstsr.cli import qc_policy_option, raster_options
from keras_lstsr.config.guides import GUIDES
from keras_lstsr.products import open_product, product_names
from keras_lstsr.products.summary import summarise


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@qc_policy_option
@click.option("--product", type=click.Choice(product_names()), help="Refuse other products.")
@click.option("--quantity", type=click.Choice(["lst", *GUIDES]), help="What a GeoTIFF holds.")
@raster_options
@click.option(
    "--date-pattern",
    help="Regular expression for the file name: (?P<year>), and (?P<doy>) or (?P<month>) and "
    "(?P<day>).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, as_json: bool, **options: Any) -> None:
    """Print product, tile, date, grid, valid share, range and QC table of FILE."""
    summary = summarise(open_product(file, **options))
    if as_json:
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        _render(summary, Console())


def _render(summary: dict[str, Any], console: Console) -> None:
    _render_facts(summary, console)
    _render_layers(summary["layers"], console)
    _render_rejected(summary["layers"], console)
    for name, rows in summary["quality"].items():
        _render_quality(name, rows, console)
    for layer in summary["layers"]:
        if not layer["valid_pixels"]:
            console.print(
                f"[bold yellow]{layer['name']} has no valid pixel[/]: {_main_reason(layer)}.",
                soft_wrap=True,
            )


def _main_reason(layer: dict[str, Any]) -> str:
    if not layer["rejected_pixels"]:
        return "the raster is empty"
    reason, count = max(layer["rejected_pixels"].items(), key=lambda item: item[1])
    return f"{count / layer['pixels']:.1%} rejected as {reason}"


def _render_facts(summary: dict[str, Any], console: Console) -> None:
    grid, unit = summary["grid"], summary["grid"]["unit"]
    facts = {
        **summary["attributes"],
        "crs": grid["crs"],
        "shape": f"{grid['height']} rows × {grid['width']} columns",
        f"pixel_size_{unit}": " × ".join(f"{size:.10g}" for size in grid["pixel_size"]),
        f"upper_left_corner_{unit}": "x {:.6f}, y {:.6f}".format(*grid["corner"]),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, value or "unknown")
    console.print(table)


def _table(title: str, *columns: str, folded: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in columns:
        table.add_column(
            name,
            overflow="fold" if name in folded else "ellipsis",
            justify="right" if name in numbers else "left",
        )
    return table


def _render_layers(layers: list[dict[str, Any]], console: Console) -> None:
    numbers = ("valid", "share", "min", "mean", "max")
    table = _table("Layers", "layer", "time", *numbers, "unit", folded=("layer",), numbers=numbers)
    for layer in layers:
        figures = (layer["minimum"], layer["mean"], layer["maximum"])
        decimals = 2 if layer["units"] == "K" else 4
        table.add_row(
            layer["name"],
            layer["day_night"],
            f"{layer['valid_pixels']}",
            f"{layer['valid_share']:.2%}",
            *("–" if number is None else f"{number:.{decimals}f}" for number in figures),
            layer["units"],
        )
    console.print(table)


def _render_rejected(layers: list[dict[str, Any]], console: Console) -> None:
    numbers = ("pixels", "share")
    table = _table(
        "Rejected pixels", "layer", "reason", *numbers, folded=("layer",), numbers=numbers
    )
    for layer in layers:
        for reason, count in layer["rejected_pixels"].items():
            share = count / layer["pixels"]
            table.add_row(layer["name"], reason, f"{count}", f"{share:.2%}")
    if table.row_count:
        console.print(table)


def _render_quality(name: str, rows: list[dict[str, Any]], console: Console) -> None:
    columns = ("bits", "field", "code", "meaning", "pixels")
    table = _table(f"QC: {name}", *columns, folded=("field", "meaning"), numbers=("pixels",))
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    console.print(table)
