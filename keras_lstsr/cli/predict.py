"""``keras-lstsr predict``: a 1 km raster in, a 250 m cloud-optimised GeoTIFF out."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from keras_lstsr.cli import (
    access_options,
    path_option,
    qc_policy_option,
    raster_options,
    server_access,
)

_RASTER_OPTIONS = ("scale", "offset", "nodata", "unit", "quantity", "date", "day_night")
_TILE_OPTIONS = ("tile_pixels", "overlap_pixels", "batch_size")


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@path_option(
    "--model",
    help="A model folder, a .keras file, or a SavedModel (a version, or the folder of versions). "
    "Default: the pretrained model, which takes --ndvi.",
)
@click.option("--server", metavar="HOST:PORT", help="A server to ask instead of --model.")
@click.option("--model-name", default="lstsr", show_default=True, help="Name of its model.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="GeoTIFF to write; the quicklook gets the same name with .png  [default: INPUT's name and "
    "_fine.tif, in the current folder]",
)
@path_option(
    "--ndvi",
    help="NDVI of 250 m of about the same day: MOD09GQ or MYD09GQ HDF, or a GeoTIFF on any grid.",
)
@click.option(
    "--guide",
    "guides",
    metavar="NAME=FILE",
    multiple=True,
    help="A guide that the model takes, by its name; may be given several times. --ndvi FILE is "
    "short for --guide ndvi=FILE.",
)
@click.option(
    "--guide-option",
    "guide_options",
    metavar="NAME.OPTION=VALUE",
    multiple=True,
    help="scale, offset, nodata, class or date of a guide's GeoTIFF, e.g. elevation.nodata=-9999, "
    "or water.class=17: the class of a land cover map that is water.",
)
@click.option(
    "--consistency",
    type=click.Choice(["none", "block", "psf"]),
    default="none",
    show_default=True,
    help="Correct the result until it agrees with INPUT: its mean over each pixel (block), or what "
    "MODIS would see there (psf). It then has INPUT's totals, and INPUT's noise: it is less "
    "accurate.",
)
@click.option(
    "--self-check/--no-self-check",
    "check",
    default=True,
    show_default=True,
    help="Follow guides as far as they help one scale coarser, where INPUT itself is the truth.",
)
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Also write OUTPUT_std.tif: the standard deviation of the error of detail, in kelvin.",
)
@click.option(
    "--layer", type=click.Choice(["day", "night"]), help="Default: day, or the only layer."
)
@qc_policy_option
@click.option(
    "--tile",
    "tile_pixels",
    type=int,
    help="Side of a tile in coarse pixels. Default: 128, or 228 for a model that takes guides.",
)
@click.option(
    "--overlap",
    "overlap_pixels",
    type=int,
    help="Overlap of neighbouring tiles in coarse pixels. Default: 32, or what the model needs.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Tiles per call of the model. Default: 4, or 1 for a model that takes guides.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "uint16"]),
    default="float32",
    show_default=True,
    help="float32 with NaN, or uint16 in steps of 0.01 K with 0 where there is no value.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of the network's arithmetic; temperatures are always float32. auto: bfloat16 on a "
    "processor that is fast in it (AMX), which changes the map by about 0.01 K.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Write a result, too, that leaves what INPUT makes plausible; its tags say so.",
)
@click.option(
    "--max-guide-days",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Days that NDVI may be taken before or after INPUT.",
)
@click.option("--quicklook/--no-quicklook", default=True, show_default=True)
@click.option("--quantity", type=click.Choice(["lst"]), help="GeoTIFF: say that it is LST.")
@raster_options
@click.option("--ndvi-scale", type=float, help="NDVI GeoTIFF: units per stored unit, e.g. 0.0001.")
@click.option("--ndvi-offset", type=float, help="NDVI GeoTIFF: NDVI of a stored zero.")
@click.option("--ndvi-nodata", type=float, help="NDVI GeoTIFF: value that marks missing pixels.")
@click.option("--ndvi-date", metavar="YYYY-MM-DD", help="NDVI's date, if the file does not say it.")
@click.option(
    "--timeout", default=300.0, show_default=True, help="Seconds to wait for a server's answer."
)
@click.option(
    "--retry",
    "retry_seconds",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="Seconds to try again while a server is away, e.g. started anew.",
)
@access_options
def command(
    source: Path, model: Path | None, server: str | None, output: Path | None, **options: Any
) -> None:
    """Predicts INPUT (MOD11A1 or MYD11A1 HDF, or an LST GeoTIFF) on a grid four times finer.

    The result is a cloud-optimised GeoTIFF on exactly nested pixels, in kelvin, NaN where the
    input has no valid temperature, with its provenance in the tags, and a quicklook beside it.

    Without --model and --server, the pretrained model is used. Give it NDVI with --ndvi: without
    NDVI its result is only a little better than bicubic upsampling.
    """
    if model is not None and server is not None:
        raise click.UsageError("Give only one of --model and --server.")
    # A termination must run the clean-up of the file being written, as Ctrl+C does.
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    click.get_current_context().call_on_close(lambda: signal.signal(signal.SIGTERM, previous))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from keras_lstsr.artifacts.loading import PRETRAINED, shipped_folder
    from keras_lstsr.inference.inputs import LstInput
    from keras_lstsr.inference.predictor import load_predictor
    from keras_lstsr.inference.product import Outputs, predict_product
    from keras_lstsr.inference.tiles import TileSettings

    guides = _guide_inputs(options)
    written = {name: options[name] for name in ("uncertainty", "quicklook", "dtype", "force")}
    outputs = Outputs(output or f"{source.stem}_fine.tif", **written)
    outputs.check([source, *(guide.path for guide in guides.values())])
    console = Console(highlight=False, soft_wrap=True)
    with console.status("Loading the model"):
        predictor = load_predictor(
            shipped_folder(PRETRAINED) if model is None and server is None else model,
            server=server,
            model_name=options["model_name"],
            timeout_seconds=options["timeout"],
            precision=options["precision"],
            access=None if server is None else server_access(options),
            retry_seconds=options["retry_seconds"],
            announce=lambda note: console.print(f"Note: {note}", markup=False),
        )
    tiles = {name: options[name] for name in _TILE_OPTIONS}
    raster = {name: options[name] for name in _RASTER_OPTIONS if options[name] is not None}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Tiles", total=None)
        done = predict_product(
            LstInput(source, options["layer"], options["qc_policy"], raster),
            predictor,
            outputs,
            guides,
            tiles=TileSettings.for_contract(predictor.contract, **tiles),
            consistency=options["consistency"],
            check=options["check"],
            max_guide_days=options["max_guide_days"],
            progress=lambda tiles, total: progress.update(task, completed=tiles, total=total),
            announce=lambda note: console.print(f"Note: {note}", markup=False),
        )
    used, _ = predictor.contract.taken(guides)
    for line in _report(done, used):
        console.print(line, markup=False)


def _guide_inputs(options: dict[str, Any]) -> dict[str, Any]:
    """Reads ``--guide``, ``--guide-option`` and their short forms for NDVI."""
    from keras_lstsr.config.guides import guide_named
    from keras_lstsr.inference.inputs import GuideInput

    paths = {} if options["ndvi"] is None else {"ndvi": options["ndvi"]}
    for text in options["guides"]:
        name, separator, path = text.partition("=")
        if not separator or not path:
            raise click.UsageError(f"--guide {text}: expected NAME=FILE.")
        if guide_named(name).name in paths:
            raise click.UsageError(f"--guide {text}: a file of {name} is given already.")
        paths[name] = Path(path)
    of_guide: dict[str, dict[str, Any]] = {name: {} for name in paths}
    if "ndvi" in of_guide:
        of_ndvi = {name: options[f"ndvi_{name}"] for name in ("scale", "offset", "nodata", "date")}
        of_guide["ndvi"] = {name: value for name, value in of_ndvi.items() if value is not None}
    for text in options["guide_options"]:
        place, _, value = text.partition("=")
        name, _, option = place.partition(".")
        if name not in of_guide or option not in _GUIDE_OPTIONS or not value:
            raise click.UsageError(
                f"--guide-option {text}: expected NAME.OPTION=VALUE with the name of a guide that "
                f"is given and one of {', '.join(_GUIDE_OPTIONS)}."
            )
        keyword, kind = _GUIDE_OPTIONS[option]
        try:
            of_guide[name][keyword] = kind(value)
        except ValueError as error:
            raise click.UsageError(f"--guide-option {text}: {error}.") from error
    return {name: GuideInput(path, of_guide[name]) for name, path in paths.items()}


_GUIDE_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    **{name: (name, float) for name in ("scale", "offset", "nodata")},
    "class": ("class_value", float),
    "date": ("date", str),
}


def _report(done: Any, guides: dict[str, Any]) -> Iterator[str]:
    """Tells what was written, line by line."""
    from keras_lstsr.config.guides import GUIDES
    from keras_lstsr.inference.quality import share_text

    outputs = done.outputs
    yield (
        f"{outputs.map}: {done.shape[0]} × {done.shape[1]} pixels, layer {done.layer}, "
        f"{done.valid_share:.1%} valid, {done.minimum_kelvin:.2f} to {done.maximum_kelvin:.2f} K"
    )
    if done.guide_missing_share is not None:
        names = ", ".join(GUIDES[name].long_name for name in guides)
        missing = share_text(done.guide_missing_share)
        yield f"{names}: missing on {missing} of the fine pixels with LST"
    if done.correction is not None:
        yield (
            f"Consistency ({done.correction.mode}): residual {done.correction.before_kelvin:.2f} K "
            f"(RMS) before, at most {done.correction.left_kelvin:.2f} K after"
        )
    if outputs.std is not None:
        yield f"{outputs.std}: standard deviation, median {done.median_std_kelvin:.2f} K"
    if outputs.picture is not None:
        yield f"{outputs.picture}: quicklook"
