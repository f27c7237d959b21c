"""``keras-lstsr pretrain``: from pairs to the guided model, in one command."""

from __future__ import annotations

from pathlib import Path

import click

from keras_lstsr.cli import config_option, path_option
from keras_lstsr.cli.cross_validate import run_cross_validation
from keras_lstsr.cli.run_options import RunOptions, apply_settings, run_options


@click.command()
@path_option(
    "--pairs",
    required=True,
    help="Folder of pairs: NNN_lst_1km.tif, NNN_ndvi_250m.tif, NNN_aster_lst_232m.tif; pairs.csv "
    "(id, overlap_group) may say which pairs share ground.",
)
@path_option(
    "--output",
    folder=True,
    required=True,
    help="Folder for the records, the model, its card and cross_validation.csv. A run that was "
    "killed continues where it stopped.",
)
@config_option("YAML file of settings  [default: those of the weights that come with the package]")
@path_option(
    "--fine-scenes",
    help="Folder of LST GeoTIFFs finer than 250 m, such as ECOSTRESS's with their cloud masks: "
    "degraded to 1 km, they teach what can be done without NDVI.",
)
@click.option("--folds", type=int, help="Parts of the pairs, by place  [default: the settings']")
@run_options
def command(
    pairs: Path,
    output: Path,
    config_path: Path | None,
    fine_scenes: Path | None,
    folds: int | None,
    options: RunOptions,
) -> None:
    """Trains the guided model on pairs of 1 km LST, NDVI and true fine LST.

    This is `keras-lstsr prepare --pairs`, with the records in OUTPUT/records, and
    `keras-lstsr cross-validate` on them, scored as `keras-lstsr evaluate --pairs` scores.
    """
    from keras_lstsr.artifacts.loading import PRETRAINED, shipped_folder

    if config_path is None:
        shipped = shipped_folder(PRETRAINED)
        assert shipped is not None
        config_path = shipped / "config.yaml"
    config = apply_settings(config_path, options.with_folds(folds))
    records = prepared(pairs, fine_scenes, output, options)
    run_cross_validation(config, records, output, pairs, options)


def prepared(pairs: Path, fine_scenes: Path | None, output: Path, options: RunOptions) -> Path:
    """Returns the folder of records of pairs and fine scenes, made now if it is not there yet.

    Raises:
        ConfigError: If the records that are there were made from other files.
    """
    import shutil

    from keras_lstsr.cli.prepare import prepare
    from keras_lstsr.errors import ConfigError
    from keras_lstsr.files import sha256_of
    from keras_lstsr.records.fine_scenes import find_fine_scenes
    from keras_lstsr.records.pairs import find_pairs
    from keras_lstsr.records.schema import DATASET_FILE, load_metadata
    from keras_lstsr.training.run_folder import RECORDS

    records = output / RECORDS
    if options.overwrite and records.exists():
        shutil.rmtree(records)
    if not (records / DATASET_FILE).exists():
        arguments = ["--pairs", str(pairs), "--output", str(records)]
        if fine_scenes is not None:
            arguments += ["--fine-scenes", str(fine_scenes)]
        prepare(arguments)
        return records
    paths = [path for pair in find_pairs(pairs) for path in pair.paths]
    if fine_scenes is not None:
        paths += [path for scene in find_fine_scenes(fine_scenes) for path in scene.paths]
    wanted = {sha256_of(path) for path in paths}
    scenes = load_metadata(records).scenes.values()
    if wanted != {sha256 for scene in scenes for sha256 in scene.files.values()}:
        raise ConfigError(
            "the records were made from other files",
            path=records,
            expected=f"those of {pairs}" + (f" and {fine_scenes}" if fine_scenes else ""),
            action="Choose another --output, or start again with --overwrite.",
        )
    return records
