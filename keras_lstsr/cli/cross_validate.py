"""``keras-lstsr cross-validate``: from records with fine truth to a model and its scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_lstsr.cli import config_option, path_option
from keras_lstsr.cli.run_options import RunOptions, apply_settings, run_options

if TYPE_CHECKING:
    from keras_lstsr.config import ExperimentConfig


@click.command()
@config_option("YAML file of settings, such as configs/pretrain.yaml.", required=True)
@path_option(
    "--records",
    required=True,
    help="Folder of records with fine truth, as `keras-lstsr prepare --truth` writes it; its "
    "splits do not matter.",
)
@path_option(
    "--output",
    folder=True,
    required=True,
    help="Folder for the model, its card and cross_validation.csv. A run that was killed "
    "continues where it stopped.",
)
@path_option(
    "--pairs",
    help="Folder of the pairs that the records were made from: scores are then those of "
    "`keras-lstsr evaluate --pairs`  [default: against the records' truth]",
)
@click.option("--folds", type=int, help="Parts of the samples, by place  [default: the settings']")
@run_options
def command(
    config_path: Path,
    records: Path,
    output: Path,
    pairs: Path | None,
    folds: int | None,
    options: RunOptions,
) -> None:
    """Cross-validates a network by place, then trains it on all samples.

    Each fold of samples is predicted by a model that was not trained on its ground. The predictions
    are scored, and the standard deviations are calibrated on them. Then the model is trained on all
    samples. With cross_validation.test_degraded, places of degraded fine LST are tested likewise,
    and scored apart.
    """
    config = apply_settings(config_path, options.with_folds(folds))
    run_cross_validation(config, records, output, pairs, options)


def run_cross_validation(
    config: ExperimentConfig, records: Path, output: Path, pairs: Path | None, options: RunOptions
) -> None:
    """Cross-validates on a folder of records and prints what came out.

    Scores are those of ``pairs``, which the records were made from; None: of the records' truth.
    """
    from rich.console import Console

    # MLflow is looked for before the backend starts: a missing extra should not take seconds.
    tracker = options.tracker()
    from keras_lstsr.evaluation.cross_validation import (
        pairs_scorer,
        places_scorer,
        records_scorer,
    )
    from keras_lstsr.training.cross_validation import cross_validate
    from keras_lstsr.training.progress import RichProgress

    console = Console(highlight=False, soft_wrap=True)
    name = config.model.network
    result = cross_validate(
        config,
        records,
        output,
        score=records_scorer(records, name) if pairs is None else pairs_scorer(pairs, name),
        score_degraded=places_scorer(records, name),
        tracker=tracker,
        progress=None if options.quiet else RichProgress(console),
        overwrite=options.overwrite,
    )
    told = [(result.scores, "bias_free_rmse_kelvin", "bias-free error", " K")]
    if result.place_scores is not None:
        told.append((result.place_scores, "ratio_to_bicubic", "error over bicubic’s", ""))
    for scores, metric, words, unit in told:
        for variant, means in scores.means.items():
            line = ", ".join(
                f"{method} {values[metric]:.3f}{unit}"
                for method, values in sorted(means.items(), key=lambda item: item[0] != name)
                if metric in values
            )
            console.print(f"{variant}, {words}: {line}")
    console.print(f"Model: {result.model_path}")
