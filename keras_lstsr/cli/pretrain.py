"""``keras-lstsr pretrain``: from pairs to the guided model, in one command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_lstsr.cli import config_option, path_option
from keras_lstsr.cli.cross_validate import run_cross_validation
from keras_lstsr.cli.run_options import RunOptions, apply_settings, run_options

if TYPE_CHECKING:
    from keras_lstsr.records.scene_sample import FileSource


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
@path_option(
    "--places",
    help="Folder of places: PLACE/DATE_day_lst_77m.tif, with guides beside it: fine LST of other "
    "ground, degraded to 1 km. --set cross_validation.test_degraded=true tests them, too.",
)
@click.option("--draws", type=int, help="Footprints drawn for each scene of places  [default: 2]")
@click.option(
    "--references",
    # With an optional value: `mlflow run -P` gives every option one.
    is_flag=False,
    flag_value=True,
    type=bool,
    default=None,
    help="Make the guides water and reference for the pairs, too  [default: if the settings' "
    "network takes one of them]",
)
@click.option("--folds", type=int, help="Parts of the pairs, by place  [default: the settings']")
@run_options
def command(
    pairs: Path,
    output: Path,
    config_path: Path | None,
    fine_scenes: Path | None,
    places: Path | None,
    draws: int | None,
    references: bool | None,
    folds: int | None,
    options: RunOptions,
) -> None:
    """Trains the guided model on pairs of 1 km LST, NDVI and true fine LST.

    This is `keras-lstsr prepare --pairs`, with the records in OUTPUT/records, and
    `keras-lstsr cross-validate` on them, scored as `keras-lstsr evaluate --pairs` scores.
    """
    from keras_lstsr.artifacts.loading import PRETRAINED, shipped_folder
    from keras_lstsr.config.guides import REFERENCE

    if config_path is None:
        shipped = shipped_folder(PRETRAINED)
        assert shipped is not None
        config_path = shipped / "config.yaml"
    config = apply_settings(config_path, options.with_folds(folds))
    if references is None:
        references = bool({"water", REFERENCE} & set(config.model.guides))
    data = TrainingData(pairs, fine_scenes, places, draws, references)
    records = prepared(data, output, options)
    run_cross_validation(config, records, output, pairs, options)


@dataclass(frozen=True)
class TrainingData:
    """What the records are made of: options of ``keras-lstsr prepare``.

    Attributes:
        pairs: Folder of pairs.
        fine_scenes: Folder of fine LST; None where there is none.
        places: Folder of places; None where there is none.
        draws: Footprints drawn for each scene of places; None: the job's default.
        references: Whether pairs get the guides ``water`` and ``reference``.
    """

    pairs: Path
    fine_scenes: Path | None = None
    places: Path | None = None
    draws: int | None = None
    references: bool = False

    @property
    def arguments(self) -> list[str]:
        """The options as the job takes them."""
        given = {
            "--pairs": self.pairs,
            "--fine-scenes": self.fine_scenes,
            "--places": self.places,
            "--draws": self.draws,
        }
        found = [
            part for name, value in given.items() if value is not None for part in (name, value)
        ]
        return [*map(str, found), *(["--references"] if self.references else [])]

    def sources(self) -> list[FileSource]:
        """Finds the scenes, as the job does.

        Raises:
            ProductError: If a folder is not there or lacks a raster.
        """
        from keras_lstsr.records.fine_scenes import find_fine_scenes
        from keras_lstsr.records.pairs import find_pairs
        from keras_lstsr.records.place_scenes import DEFAULT_DRAWS, find_places

        found: list[FileSource] = [*find_pairs(self.pairs, references=self.references)]
        if self.fine_scenes is not None:
            found += find_fine_scenes(self.fine_scenes)
        if self.places is not None:
            draws = DEFAULT_DRAWS if self.draws is None else self.draws
            found += find_places(self.places, draws=draws)
        return found


def prepared(data: TrainingData, output: Path, options: RunOptions) -> Path:
    """Returns the folder of records of the training data, made now if it is not there yet.

    Raises:
        ConfigError: If the records that are there were made from other files or in another way.
    """
    import shutil

    from keras_lstsr.cli.prepare import prepare
    from keras_lstsr.errors import ConfigError
    from keras_lstsr.files import sha256_of
    from keras_lstsr.records.place_scenes import without_draw
    from keras_lstsr.records.schema import DATASET_FILE, load_metadata
    from keras_lstsr.training.run_folder import RECORDS

    records = output / RECORDS
    if options.overwrite and records.exists():
        shutil.rmtree(records)
    if not (records / DATASET_FILE).exists():
        prepare([*data.arguments, "--output", str(records)])
        return records
    sources, metadata = data.sources(), load_metadata(records)
    wanted = {sha256_of(path) for path in {path for each in sources for path in each.paths}}
    known = {sha256 for scene in metadata.scenes.values() for sha256 in scene.files.values()}
    action = "Choose another --output, or start again with --overwrite."
    if wanted != known:
        folders = filter(None, (data.pairs, data.fine_scenes, data.places))
        raise ConfigError(
            "the records were made from other files",
            path=records,
            expected=f"those of {' and '.join(map(str, folders))}",
            action=action,
        )
    names = [[each.name for each in sources], list(metadata.scenes)]
    draws = [max(without_draw(name)[1] for name in each) for each in names]
    # Records that do not say so yet may have them.
    references = metadata.settings.get("references", data.references)
    if draws[0] != draws[1] or references != data.references:
        raise ConfigError(
            "the records were made with other options",
            path=records,
            found=f"draws {draws[1]}, references {references}",
            expected=f"draws {draws[0]}, references {data.references}",
            action=action,
        )
    return records
