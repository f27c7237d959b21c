"""``keras-lstsr evaluate``: a trained model beside bicubic."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
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
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the tables and figures.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Score at most this many patches.")
@click.option(
    "--mlflow/--no-mlflow", default=True, help="Add the figures to the MLflow run of a run folder."
)
def command(
    model: Path,
    records: Path | None,
    split: str,
    lst: str | None,
    truth: str | None,
    output: Path,
    limit: int | None,
    mlflow: bool,
) -> None:
    """Scores MODEL (a run folder, a .keras file or a SavedModel) beside bicubic.

    With --records on the patches of a split (4 km → 1 km), with --lst and --truth on whole scenes
    (1 km → 250 m). RMSE, bias, PSNR (range of the truth) and SSIM (7 × 7 windows) are means over
    images.
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from keras_lstsr.errors import ConfigError
    from keras_lstsr.evaluation.report import markdown_table, summary_metrics
    from keras_lstsr.evaluation.run import evaluate_model
    from keras_lstsr.inference.predictor import load_predictor
    from keras_lstsr.training.tracking import log_evaluation

    if (lst is None) != (truth is None) or (records is None and lst is None):
        raise ConfigError(
            "nothing to score",
            found="; ".join(
                f"--{name} {value}"
                for name, value in {"records": records, "lst": lst, "truth": truth}.items()
                if value is not None
            )
            or "neither --records nor --lst with --truth",
            action="Give --records DIR, or --lst GLOB together with --truth GLOB, or all three.",
        )
    predictor = load_predictor(model)
    results, paths = evaluate_model(
        predictor, output, records_dir=records, split=split, lst=lst, truth=truth, limit=limit
    )
    console = Console()
    for result in results:
        console.print(f"\n[bold]{result.title}[/bold]")
        console.print(Markdown(markdown_table(result)))
    if mlflow and (model / "run.json").is_file():
        log_evaluation(model, summary_metrics(results), paths)
    console.print(f"Tables and figures: {output}", highlight=False, soft_wrap=True)
