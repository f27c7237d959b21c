"""``keras-lstsr pretrain``: from pairs to the guided model."""

from __future__ import annotations

from pathlib import Path

import click

from keras_lstsr.cli.run_options import apply_settings, run_options


@click.command()
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of pairs: NNN_lst_1km.tif, NNN_ndvi_250m.tif, NNN_aster_lst_232m.tif; pairs.csv "
    "(id, overlap_group) may say which share ground.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for guided.keras, guided.json, cross_validation.csv and the folds' models. A run "
    "that was killed goes on with the first fold that is not finished.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="YAML file of settings, such as configs/pretrain.yaml  [default: built-in defaults]",
)
@click.option(
    "--fine-scenes",
    type=click.Path(path_type=Path),
    help="Folder of LST GeoTIFFs finer than 250 m, such as ECOSTRESS's with their cloud masks: "
    "degraded to 1 km, they teach what can be done without NDVI.",
)
@click.option("--folds", type=int, help="Parts of the pairs, by place  [default: the settings']")
@run_options("training.steps=400")
def command(
    pairs: Path,
    output: Path,
    config_path: Path | None,
    fine_scenes: Path | None,
    settings: tuple[str, ...],
    folds: int | None,
    mlflow: bool,
    tracking_uri: str | None,
    experiment: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Trains the guided model on pairs of 1 km LST, NDVI and true fine LST.

    The pairs are split into folds by place. Each fold is predicted by a model that has seen no
    ground of it, scored as `keras-lstsr evaluate --pairs` scores, and used to calibrate the
    standard deviations. Then the model is trained on all pairs. Runs on one device; with
    KERAS_BACKEND=jax without TensorFlow.
    """
    from functools import partial

    from rich.console import Console

    from keras_lstsr.config import PretrainConfig
    from keras_lstsr.pairs.degraded import find_fine_scenes
    from keras_lstsr.pairs.files import find_pairs
    from keras_lstsr.records import pairs as samples

    if folds is not None:
        settings = (*settings, f"folds={folds}")
    config = apply_settings(config_path, settings, PretrainConfig)
    sources = find_pairs(pairs)
    scenes = [] if fine_scenes is None else find_fine_scenes(fine_scenes)
    # MLflow is looked for before the backend starts: a missing extra should not take seconds.
    from keras_lstsr.training.tracking import Tracker

    tracker = Tracker(experiment=experiment, tracking_uri=tracking_uri) if mlflow else None
    from keras_lstsr.evaluation.cross_validation import score_out_of_fold
    from keras_lstsr.training.pretrain import pretrain
    from keras_lstsr.training.pretrain_progress import RichPretrainProgress
    from keras_lstsr.training.pretrain_report import GUIDED

    console = Console()
    result = pretrain(
        config,
        sources,
        output,
        score=partial(
            score_out_of_fold, samples.find_pairs(pairs), factor=config.model.scale_factor
        ),
        fine_scenes=scenes,
        tracker=tracker,
        progress=None if quiet else RichPretrainProgress(console),
        overwrite=overwrite,
    )
    for variant, means in result.scores.means.items():
        line = ", ".join(
            f"{method} {values['bias_free_rmse_kelvin']:.3f} K"
            for method, values in sorted(means.items(), key=lambda item: item[0] != GUIDED)
        )
        console.print(f"{variant}, bias-free error: {line}", highlight=False, soft_wrap=True)
    console.print(f"Model: {result.model_path}", highlight=False, soft_wrap=True)
