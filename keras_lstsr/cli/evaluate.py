"""``keras-lstsr evaluate``: trained models and classical methods beside bicubic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_PROTOCOLS = ("aster", "report", "4km")


@click.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--records",
    type=click.Path(path_type=Path),
    help="Records folder: scores the 4 km → 1 km task on patches of --split.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
    help="Split of the records.",
)
@click.option("--lst", metavar="GLOB", help="1 km scenes to score at 250 m against --truth.")
@click.option(
    "--truth",
    metavar="GLOB",
    help="250 m LST rasters; each is paired with a scene by tile, date and day or night.",
)
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    help="Folder of NNN_lst_1km.tif, NNN_ndvi_250m.tif and NNN_aster_lst_232m.tif, and perhaps "
    "pairs.csv (id, overlap_group).",
)
@click.option(
    "--simulated",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=16,
    metavar="[SCENES]",
    help="Instead of --pairs: simulated scenes with known truth  [16 if no number is given]",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME[:OPTION=VALUE,…]",
    help="Classical method to score on the pairs, e.g. tsharp:residual=block; may be given several "
    "times  [default: all, and the pretrained model, if there is no model]",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[LABEL=]PATH",
    help="Model to score on the pairs: run folder, .keras file, SavedModel or the word pretrained; "
    "may be given several times.",
)
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice(_PROTOCOLS),
    multiple=True,
    default=("aster",),
    show_default=True,
    help="How pairs are scored; may be given several times.",
)
@click.option(
    "--coregister",
    type=click.Choice(["pixel", "subpixel", "both"]),
    is_flag=False,
    flag_value="pixel",
    help="Shift the truth by what the whole set says: by whole pixels, by fractions, or score "
    "both with whole pixels and without  [default: pixel]",
)
@click.option("--no-coregister", is_flag=True, help="Take the truth to lie where it says.")
@click.option(
    "--warp",
    type=click.Choice(["gdal", "exact"]),
    default="gdal",
    show_default=True,
    help="How results come onto ASTER's grid: GDAL's bilinear warp, as for the figures known, or "
    "bilinear at exact coordinates.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("evaluation"),
    show_default=True,
    help="Folder for the tables, figures and the HTML report.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Score at most this many patches or pairs."
)
@click.option(
    "--mlflow/--no-mlflow",
    default=True,
    help="Add the figures to the MLflow run of a run folder; with pairs and no such model, to a "
    "run of their own.",
)
@click.option("--tracking-uri", help="MLflow's store for a run of their own.")
@click.option("--experiment", help="Its experiment  [default: lstsr-evaluation]")
def command(model: Path | None, **options: Any) -> None:
    """Scores MODEL (a run folder, a .keras file or a SavedModel) beside bicubic.

    With --records on the patches of a split (4 km → 1 km), with --lst and --truth on whole scenes
    (1 km → 250 m). RMSE, bias, PSNR (range of the truth) and SSIM (7 × 7 windows) are means over
    images.

    With --pairs or --simulated, MODEL, each --model and each --method are scored on pairs of 1 km
    LST, NDVI and true 250 m LST: tables (CSV, JSON, Markdown) with 95 % intervals, and report.html.
    Protocols: "aster" on ASTER's grid; "report" as in the Mixed Gradient Loss report, on the 250 m
    grid without edges and in 1, 4 and 16 sub-images; "4km" from 4 km to 1 km.
    """
    from keras_lstsr.errors import ConfigError

    if options["pairs"] is not None or options["simulated"] is not None:
        _on_pairs(model, options)
        return
    needing_pairs = {
        "method": options["methods"],
        "model": options["models"],
        "coregister": options["coregister"],
    }
    for name, value in needing_pairs.items():
        if value:
            raise ConfigError(
                f"--{name} needs pairs", found=value, action="Give --pairs DIR or --simulated."
            )
    if model is None:
        raise ConfigError(
            "nothing to score",
            found="no MODEL",
            action="Give MODEL with --records or --lst and --truth, or --pairs DIR.",
        )
    _on_records_and_scenes(model, options)


def _on_records_and_scenes(model: Path, options: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from keras_lstsr.errors import ConfigError
    from keras_lstsr.evaluation.report import markdown_table, summary_metrics
    from keras_lstsr.evaluation.run import evaluate_model
    from keras_lstsr.inference.loading import load_predictor
    from keras_lstsr.training.tracking import log_evaluation

    records, lst, truth = (options[name] for name in ("records", "lst", "truth"))
    if (lst is None) != (truth is None) or (records is None and lst is None):
        raise ConfigError(
            "nothing to score",
            found="; ".join(
                f"--{name} {value}"
                for name, value in {"records": records, "lst": lst, "truth": truth}.items()
                if value is not None
            )
            or "neither --records nor --lst with --truth",
            action="Give --records DIR, or --lst GLOB together with --truth GLOB, or all three; "
            "or --pairs DIR.",
        )
    predictor = load_predictor(model)
    results, paths = evaluate_model(
        predictor,
        options["output"],
        records_dir=records,
        split=options["split"],
        lst=lst,
        truth=truth,
        limit=options["limit"],
    )
    console = Console()
    for result in results:
        console.print(f"\n[bold]{result.title}[/bold]")
        console.print(Markdown(markdown_table(result)))
    if options["mlflow"] and (model / "run.json").is_file():
        log_evaluation(model, summary_metrics(results), paths)
    console.print(f"Tables and figures: {options['output']}", highlight=False, soft_wrap=True)


def _on_pairs(model: Path | None, options: dict[str, Any]) -> None:
    from rich.console import Console

    from keras_lstsr.evaluation.run import evaluate_methods

    coregister = _checked_coregister(options)
    models = [*([str(model)] if model is not None else []), *options["models"]]
    if options["mlflow"]:
        _check_mlflow()
    console = Console()
    with console.status("") as status:
        evaluation, paths = evaluate_methods(
            options["output"],
            pairs=options["pairs"],
            simulated_scenes=options["simulated"],
            methods=options["methods"],
            models=models,
            protocols=options["protocols"],
            coregister=coregister,
            warp=options["warp"],
            limit=options["limit"],
            progress=lambda step, pair: status.update(f"{step}: {pair} done"),
        )
    for result in evaluation.results:
        console.print(f"\n[bold]{result.title}[/bold]")
        console.print(_table(result))
    if options["mlflow"]:
        _log(evaluation, paths, models, coregister, options)
    for note in evaluation.training_notes:
        console.print(f"[yellow]{note}[/yellow]", highlight=False)
    report = options["output"] / "report.html"
    console.print(f"Report: {report}; tables beside it", highlight=False, soft_wrap=True)


def _table(result: Any) -> Any:
    from rich.table import Table

    from keras_lstsr.evaluation.publish import SHOWN_METRICS
    from keras_lstsr.evaluation.report import HEADINGS, format_value

    summary = result.summary()
    shown = [name for name in SHOWN_METRICS if name in next(iter(summary.values()))]
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    for name in shown:
        # Broken at every space, eight columns fit into a terminal of 80.
        table.add_column(HEADINGS[name].replace(" ", "\n"), justify="right", no_wrap=True)
    for method, row in summary.items():
        table.add_row(method, *(format_value(name, row[name]) for name in shown))
    return table


def _checked_coregister(options: dict[str, Any]) -> Any:
    from keras_lstsr.errors import ConfigError

    given = {name: options[name] for name in ("pairs", "simulated", "records", "lst", "truth")}
    present = [f"--{name}" for name, value in given.items() if value is not None]
    if len(present) > 1:
        raise ConfigError(
            "several things to score at a time",
            found=", ".join(present),
            expected="--pairs or --simulated alone",
        )
    if options["no_coregister"] and options["coregister"]:
        raise ConfigError("--coregister and --no-coregister contradict each other")
    if options["simulated"] is not None:
        if options["coregister"] or set(options["protocols"]) & {"report"}:
            raise ConfigError(
                "simulated truth lies where it says, on the results' own grid",
                found="--coregister or --protocol report",
                action="Leave it out; --protocol 4km may be added.",
            )
        return "none"
    return "none" if options["no_coregister"] else options["coregister"] or "pixel"


def _check_mlflow() -> None:
    from importlib.util import find_spec

    from keras_lstsr.errors import MissingExtraError

    if find_spec("mlflow") is None:
        raise MissingExtraError(
            "MLflow is not installed",
            action="pip install keras-lstsr[mlflow], or score without it: --no-mlflow.",
        )


def _log(
    evaluation: Any, paths: list[Path], models: list[str], coregister: str, options: dict[str, Any]
) -> None:
    from keras_lstsr.evaluation.methods import label_and_path
    from keras_lstsr.evaluation.publish import log_to_mlflow

    labelled = {label: Path(path) for label, path in map(label_and_path, models)}
    data = options["pairs"] if options["pairs"] is not None else "simulated"
    log_to_mlflow(
        evaluation.results,
        paths,
        run_folders={n: p for n, p in labelled.items() if (p / "run.json").is_file()},
        run_name=options["output"].name,
        parameters={
            "data": data,
            "pairs": len(set(evaluation.results[0].groups)),
            "methods": ", ".join(evaluation.results[0].methods),
            "protocols": ", ".join(options["protocols"]),
            "coregister": coregister,
            "warp": options["warp"],
        },
        tracking_uri=options["tracking_uri"],
        experiment=options["experiment"],
    )
