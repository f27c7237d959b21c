"""``keras-lstsr evaluate``: trained models and classical methods beside bicubic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keras_lstsr.cli import path_option

_PROTOCOLS = ("aster", "report", "4km")


@click.command()
@click.argument("model", required=False)
@path_option(
    "--pairs",
    help="Folder of NNN_lst_1km.tif, NNN_ndvi_250m.tif and NNN_aster_lst_232m.tif, and optionally "
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
@path_option(
    "--records",
    help="Records folder: the samples of --split, from 4 km to 1 km, and from 1 km to 250 m where "
    "they hold the truth.",
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
    help="250 m LST rasters on the grid that nests in --lst; each belongs to the scene of its "
    "tile, date and time of day.",
)
@click.option(
    "--guide",
    "guides",
    multiple=True,
    metavar="NAME=GLOB",
    help="Rasters of a guide for --lst, each for the scenes of its tile and date; may be given "
    "several times, e.g. --guide ndvi='scenes/MOD09GQ*.hdf'.",
)
@click.option("--ndvi", metavar="GLOB", help="Short for --guide ndvi=GLOB.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME[:OPTION=VALUE,…]",
    help="Classical method to score, e.g. tsharp:residual=block; may be given several times  "
    "[default: all; if no model is given, also the pretrained one]",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[LABEL=]PATH",
    help="Model to score: model folder, .keras file, SavedModel or the word pretrained; may be "
    "given several times.",
)
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice(_PROTOCOLS),
    multiple=True,
    help="How pairs are scored; may be given several times  [default: aster]",
)
@click.option(
    "--coregister",
    type=click.Choice(["pixel", "subpixel", "both"]),
    is_flag=False,
    flag_value="pixel",
    help="How to shift the truth of pairs, by the shift found for the whole set: in whole pixels, "
    "in fractions of pixels, or score both with whole pixels and without a shift  [default: pixel]",
)
@click.option("--no-coregister", is_flag=True, help="Do not shift the truth.")
@click.option(
    "--warp",
    type=click.Choice(["gdal", "exact"]),
    default="gdal",
    show_default=True,
    help="How results come onto ASTER's grid: GDAL's bilinear warp, as for the known figures, or "
    "bilinear at exact coordinates.",
)
@path_option(
    "--places",
    help="Folder of places: PLACE/DATE_day_lst_77m.tif, and optionally …_ndvi_77m.tif, degraded to "
    "1 km; all classical methods and the model (the pretrained one by default) are scored.",
)
@click.option(
    "--footprint-m",
    type=click.FloatRange(min=0, min_open=True),
    default=930.0,
    show_default=True,
    help="Of --places: full width at half maximum of the Gaussian that makes 1 km LST.",
)
@path_option(
    "--output",
    folder=True,
    default=Path("evaluation"),
    show_default=True,
    help="Folder for the tables and the HTML report.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Score at most this many samples.")
@click.option(
    "--mlflow/--no-mlflow",
    default=True,
    help="Add the figures to the MLflow run of a model folder; without one, to a run of their own.",
)
@click.option("--tracking-uri", help="MLflow's store for a run of their own.")
@click.option("--experiment", help="Its experiment  [default: lstsr-evaluation]")
def command(model: str | None, **options: Any) -> None:
    """Scores MODEL, each --model and each --method beside bicubic.

    MODEL is a model folder, a .keras file or a SavedModel. All are scored on the same samples and
    pixels: --pairs of 1 km LST, guides and true 250 m LST, --simulated scenes, --places of fine LST
    that is degraded, --records, or scenes (--lst and --truth, with --guide or --ndvi for methods
    that take one). The folder gets tables (CSV, JSON, Markdown) with 95 % intervals, and
    report.html.

    Protocols of pairs: "aster" on ASTER's grid; "report" as in the Mixed Gradient Loss report, on
    the 250 m grid without edges and in 1, 4 and 16 sub-images; "4km" from 4 km to 1 km.
    """
    from rich.console import Console

    from keras_lstsr.artifacts.loading import PRETRAINED, shipped_weights
    from keras_lstsr.evaluation.methods import COMPARED, choose_methods
    from keras_lstsr.evaluation.run import evaluate

    models = [*([model] if model is not None else []), *options["models"]]
    # What is wrong with the samples shows before a model is loaded.
    sets = _sample_sets(options)
    if options["mlflow"]:
        _check_mlflow()
    guided = all(samples.guided for samples in sets)
    texts = options["methods"]
    if options["places"] is not None:
        texts = texts or COMPARED
        models = models or ([PRETRAINED] if shipped_weights() else [])
    methods = choose_methods(texts, models, guided=guided)
    console = Console()
    with console.status("") as status:
        evaluations, paths = evaluate(
            sets,
            methods,
            options["output"],
            progress=lambda step, sample: status.update(f"{step}: {sample} done"),
        )
    for result in (result for evaluation in evaluations for result in evaluation.results):
        console.print(f"\n[bold]{result.title}[/bold]")
        console.print(_places(result) if options["places"] is not None else _table(result))
    if options["mlflow"]:
        _log(evaluations, paths, models, options)
    for note in (note for evaluation in evaluations for note in evaluation.learnt_from):
        console.print(f"[yellow]{note}[/yellow]", highlight=False)
    for report in (path for path in paths if path.suffix == ".html"):
        console.print(f"Report: {report}; tables beside it", highlight=False, soft_wrap=True)


def _sample_sets(options: dict[str, Any]) -> list[Any]:
    from keras_lstsr.evaluation import sources

    _check(options)
    protocols, limit = options["protocols"], options["limit"]
    if options["pairs"] is not None:
        coregister: Any = options["coregister"] or "pixel"
        return [
            sources.pairs_set(
                options["pairs"],
                protocols=protocols or ("aster",),
                coregister="none" if options["no_coregister"] else coregister,
                warp=options["warp"],
                limit=limit,
            )
        ]
    if options["places"] is not None:
        width = options["footprint_m"]
        return [sources.places_set(options["places"], footprint_m=width, limit=limit)]
    if options["simulated"] is not None:
        return [sources.simulated_set(options["simulated"], protocols=protocols, limit=limit)]
    sets = []
    if options["records"] is not None:
        sets.append(sources.records_set(options["records"], options["split"], limit=limit))
    if options["lst"] is not None:
        guides = dict(map(_guide, options["guides"]))
        guides |= {} if options["ndvi"] is None else {"ndvi": options["ndvi"]}
        sets.append(sources.scenes_set(options["lst"], options["truth"], guides, limit=limit))
    return sets


def _guide(text: str) -> tuple[str, str]:
    from keras_lstsr.config.guides import guide_named
    from keras_lstsr.errors import ConfigError

    name, sign, pattern = text.partition("=")
    if not (sign and pattern):
        raise ConfigError("--guide cannot be read", found=repr(text), expected="NAME=GLOB")
    return guide_named(name).name, pattern


def _check(options: dict[str, Any]) -> None:
    """Finds what does not go together, before anything is read."""
    from keras_lstsr.errors import ConfigError

    alone = ("pairs", "simulated", "places")
    given = [f"--{n}" for n in (*alone, "records", "lst") if options[n] is not None]
    if (options["lst"] is None) != (options["truth"] is None) or not given:
        raise ConfigError(
            "nothing to score on",
            found=", ".join(given) or "no samples",
            action="Give --pairs DIR, --simulated, --places DIR, --records DIR, or --lst GLOB "
            "together with --truth GLOB.",
        )
    if len(given) > 1 and {f"--{name}" for name in alone} & set(given):
        raise ConfigError(
            "several sources of samples are given",
            found=", ".join(given),
            expected="--pairs, --simulated or --places alone",
        )
    if options["no_coregister"] and options["coregister"]:
        raise ConfigError("--coregister and --no-coregister contradict each other")
    if options["simulated"] is not None and (
        options["coregister"] or not set(options["protocols"]) <= {"4km"}
    ):
        raise ConfigError(
            "simulated truth needs no shift, and lies on the results' own grid",
            found="--coregister, or another --protocol than 4km",
            action="Leave it out; --protocol 4km may be added.",
        )
    of_pairs = [name for name in ("coregister", "no_coregister", "protocols") if options[name]]
    if of_pairs and given[0] not in ("--pairs", "--simulated"):
        raise ConfigError(
            "these options are for pairs",
            found=", ".join(f"--{name.rstrip('s').replace('_', '-')}" for name in of_pairs),
            action="Leave them out, or give --pairs DIR.",
        )
    if (options["guides"] or options["ndvi"]) and options["lst"] is None:
        raise ConfigError(
            "--guide and --ndvi are for --lst",
            action="Leave them out: pairs and records bring their guides.",
        )


def _table(result: Any) -> Any:
    from rich.table import Table

    from keras_lstsr.evaluation.report.tables import HEADINGS, SHOWN_METRICS, format_value

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


def _places(result: Any) -> Any:
    """Errors over bicubic's, place by place."""
    from rich.table import Table

    from keras_lstsr.evaluation.places import TO_BICUBIC, number, place_rows

    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("error over\nbicubic’s")
    others = [name for name in result.methods if name != "bicubic"]
    for name in others:
        table.add_column(name.replace(":", ":\n").replace("_", "_\n"), justify="right")
    for row in place_rows(result):
        table.add_row(row.label, *(number(row, name, TO_BICUBIC) for name in others))
    return table


def _check_mlflow() -> None:
    from importlib.util import find_spec

    from keras_lstsr.errors import MissingExtraError

    if find_spec("mlflow") is None:
        raise MissingExtraError(
            "MLflow is not installed",
            action="pip install keras-lstsr[mlflow], or score without it: --no-mlflow.",
        )


def _log(
    evaluations: list[Any], paths: list[Path], models: list[str], options: dict[str, Any]
) -> None:
    from keras_lstsr.evaluation.methods import label_and_path
    from keras_lstsr.evaluation.run import log_to_mlflow

    results = [result for evaluation in evaluations for result in evaluation.results]
    labelled = {label: Path(path) for label, path in map(label_and_path, models)}
    log_to_mlflow(
        results,
        paths,
        run_folders={n: p for n, p in labelled.items() if (p / "run.json").is_file()},
        run_name=options["output"].name,
        parameters={
            "data": ", ".join(evaluation.data for evaluation in evaluations),
            "samples": sum(len(evaluation.files) for evaluation in evaluations),
            "methods": ", ".join(results[0].methods),
            "protocols": ", ".join(result.name for result in results),
            "warp": options["warp"],
        },
        tracking_uri=options["tracking_uri"],
        experiment=options["experiment"],
    )
