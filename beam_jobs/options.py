"""The options of the job from rasters to records, and what they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apache_beam.io.filesystems import FileSystems

from beam_jobs.publish import check_file_system, find
from keras_lstsr.config.guides import GUIDES, guide_named
from keras_lstsr.errors import ConfigError
from keras_lstsr.products import POLICIES
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.fine_scenes import find_fine_scenes
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.place_scenes import DEFAULT_DRAWS, find_places
from keras_lstsr.records.places import SplitSettings
from keras_lstsr.records.rasters import LST, TRUTH, RasterReader
from keras_lstsr.records.scene_sample import FileSource


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected three numbers, e.g. 0.75,0.125,0.125") from error


def _named(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError("expected NAME=VALUE, e.g. ndvi=…")
    return name, value


def _named_number(text: str) -> tuple[str, float]:
    name, value = _named(text)
    try:
        return name, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number, found {value}") from error


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the job's own options."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.rasters_to_tfrecords",
        description="Convert rasters of land surface temperature into TFRecords.",
        epilog="All other options go to Apache Beam, e.g. --runner, --direct_num_workers 2 "
        "--direct_running_mode multi_processing, --setup_file ./setup.py.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", nargs="+", default=[], help="patterns of LST rasters (HDF4-EOS or GeoTIFF)")
    add("--output", required=True, help="records folder to write")
    add(
        "--guide",
        nargs="+",
        action="extend",
        type=_named,
        default=[],
        metavar="NAME=GLOB",
        help=f"patterns of a guide's rasters; guides: {', '.join(GUIDES)}",
    )
    add("--ndvi", nargs="+", default=[], help="short form of --guide ndvi=GLOB (MOD09GQ, GeoTIFF)")
    add(
        "--truth",
        nargs="+",
        default=[],
        help="patterns of fine LST (ASTER or other) of the same ground and time as --input; it is "
        "registered, and every sample holds it",
    )
    add(
        "--pairs",
        help="folder of pairs: NNN_lst_1km.tif, NNN_ndvi_250m.tif, NNN_aster_lst_232m.tif",
    )
    add(
        "--references",
        action="store_true",
        help="pairs hold the guides water, from NDVI, and reference, from other pairs' fine LST",
    )
    add(
        "--fine-scenes",
        "--fine_scenes",
        help="folder of GeoTIFFs of LST finer than 250 m; it is the truth, and the input degraded",
    )
    add(
        "--places",
        help="folder of places: PLACE/DATE_day_lst_77m.tif and optionally …_ndvi_77m.tif; fine LST "
        "is the truth, and the input is what footprints of 0.9 to 2 km see of it",
    )
    add(
        "--draws",
        type=int,
        default=DEFAULT_DRAWS,
        help="footprints drawn for each scene of --places",
    )
    add("--overwrite", action="store_true", help="replace records that are there")
    add("--patch_size", type=int, default=64, help="LST pixels along a sample's side")
    add("--stride", type=int, default=None, help="LST pixels between samples; default: patch_size")
    add(
        "--anchor",
        choices=("tile", "raster"),
        default="tile",
        help="count samples from the MODIS tile's corner, or from each raster's own; those with "
        "truth always from the raster's",
    )
    add("--qc_policy", choices=tuple(POLICIES), default="default", help="which pixels are good")
    add(
        "--max_missing_fraction",
        type=float,
        default=0.0,
        help="largest share of missing pixels in a sample without truth",
    )
    add(
        "--split_fractions",
        type=_fractions,
        default=(0.75, 0.125, 0.125),
        help="expected shares of train, validation and test",
    )
    add(
        "--split_by",
        choices=("place", "date", "place_and_date"),
        default="place",
        help="what no two splits have in common",
    )
    add("--split_seed", type=int, default=0, help="another seed assigns the places differently")
    add("--num_shards", type=int, default=None, help="shards per split; default: by their records")
    add("--records_per_shard", type=int, default=256, help="about how many records a shard gets")
    pattern = (
        "regular expression of file names with groups year and doy, or year, month, day; "
        "optionally day_night"
    )
    for title, prefix in (("LST", ""), ("true fine LST", "truth_")):
        group = parser.add_argument_group(f"GeoTIFF of {title}, where the tags do not say")
        add_option = group.add_argument
        add_option(f"--{prefix}scale", type=float, help="units per integer")
        add_option(f"--{prefix}offset", type=float, help="units at integer 0")
        add_option(f"--{prefix}nodata", type=float, help="stored number that means missing")
        units = ("kelvin", "celsius")
        add_option(f"--{prefix}unit", choices=units, help="unit after scale and offset")
        times = ("day", "night", "unknown")
        add_option(f"--{prefix}day_night", choices=times, help="time of day")
        add_option(f"--{prefix}date_pattern", help=pattern)
    group = parser.add_argument_group("GeoTIFF of guides, where their tags do not say")
    for name, words in (
        ("scale", "units per integer"),
        ("offset", "units at integer 0"),
        ("nodata", "stored number that means missing"),
        ("date_pattern", pattern),
    ):
        group.add_argument(
            f"--guide_{name}",
            nargs="+",
            action="extend",
            type=_named if name == "date_pattern" else _named_number,
            default=[],
            metavar="NAME=VALUE",
            help=words,
        )
    return parser


def _patterns(patterns: Sequence[str], option: str) -> list[str]:
    """Makes local patterns absolute (workers may run elsewhere) and checks that each matches."""
    absolute = [
        pattern if FileSystems.get_scheme(pattern) else str(Path(pattern).expanduser().absolute())
        for pattern in patterns
    ]
    for pattern in absolute:
        check_file_system(pattern, option)
        if not find(pattern):
            raise ConfigError(
                "no file matches the pattern",
                path=pattern,
                field=option,
                action="Correct the path; put quotes around a pattern with * or ?.",
            )
    return absolute


def _guide_patterns(options: argparse.Namespace) -> dict[str, list[str]]:
    """Returns the patterns of each guide's rasters, in the order of the guides' registration."""
    found: dict[str, list[str]] = {"ndvi": list(options.ndvi)} if options.ndvi else {}
    for name, pattern in options.guide:
        guide_named(name)
        found.setdefault(name, []).append(pattern)
    return {name: _patterns(found[name], f"guide {name}") for name in GUIDES if name in found}


def _readers(options: argparse.Namespace, guides: Iterable[str]) -> dict[str, RasterReader]:
    """Returns the reader of each role."""

    def of_lst(role: str, prefix: str) -> RasterReader:
        names = ("scale", "offset", "nodata", "unit", "day_night", "date_pattern")
        known = {name: getattr(options, prefix + name) for name in names}
        return RasterReader(role, qc_policy=options.qc_policy, **known)

    readers = {LST: of_lst(LST, "")}
    if options.truth:
        readers[TRUTH] = of_lst(TRUTH, "truth_")
    named: dict[str, dict[str, Any]] = {name: {} for name in guides}
    for option in ("scale", "offset", "nodata", "date_pattern"):
        for guide, value in getattr(options, f"guide_{option}"):
            if guide not in named:
                raise ConfigError(
                    "the option is for a guide that is not given",
                    field=f"guide_{option}",
                    found=guide,
                    expected=", ".join(named) or "--guide NAME=GLOB",
                )
            named[guide][option] = value
    return readers | {
        name: RasterReader(name, qc_policy=options.qc_policy, **known)
        for name, known in named.items()
    }


@dataclass(frozen=True)
class Inputs:
    """What a job makes records of.

    Attributes:
        lst: Patterns of LST rasters.
        guides: Guide → patterns of its rasters.
        truth: Patterns of fine LST.
        files: Pairs, scenes of fine LST and those of places.
        readers: By role.
        settings: What to cut.
    """

    lst: list[str]
    guides: dict[str, list[str]]
    truth: list[str]
    files: list[FileSource]
    readers: dict[str, RasterReader]
    settings: CutSettings


def inputs_of(options: argparse.Namespace) -> Inputs:
    """Finds what the options ask for.

    Raises:
        ConfigError: If an option is invalid, or no file matches a pattern.
        ProductError: If a folder of pairs or scenes is not there or lacks a raster.
    """
    for name in ("num_shards", "records_per_shard", "draws"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError("must be 1 or more", field=name, found=value)
    settings = CutSettings(
        patch_size=options.patch_size,
        stride=options.patch_size if options.stride is None else options.stride,
        max_missing_fraction=options.max_missing_fraction,
        anchor=options.anchor,
        split=SplitSettings(
            fractions=options.split_fractions, by=options.split_by, seed=options.split_seed
        ),
    )
    guides = _guide_patterns(options)
    files: list[FileSource] = []
    if options.pairs is not None:
        folder = Path(options.pairs).expanduser().absolute()
        files += find_pairs(folder, references=options.references)
    if options.fine_scenes is not None:
        files += find_fine_scenes(Path(options.fine_scenes).expanduser().absolute())
    if options.places is not None:
        files += find_places(Path(options.places).expanduser().absolute(), draws=options.draws)
    if not (options.input or files):
        raise ConfigError(
            "there is nothing to make records of",
            field="input",
            expected="--input, --pairs, --fine-scenes or --places",
        )
    for option in ("guide", "ndvi", "truth"):
        if getattr(options, option) and not options.input:
            raise ConfigError("the option needs --input", field=option)
    if files and options.input and not options.truth:
        raise ConfigError(
            "all records have truth, or none",
            field="truth",
            found="no --truth for --input beside --pairs, --fine-scenes or --places",
            action="Give --truth too, or make two folders.",
        )
    held = {*guides, *(name for each in files for name in each.guide_names)}
    return Inputs(
        _patterns(options.input, "input"),
        guides,
        _patterns(options.truth, "truth"),
        files,
        _readers(options, guides),
        replace(
            settings,
            guides=tuple(name for name in GUIDES if name in held),
            truth=bool(options.truth or files),
        ),
    )
