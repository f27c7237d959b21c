"""The Beam job from rasters to records.

    python -m beam_jobs.rasters_to_tfrecords --input 'GLOB' --output DIR [--ndvi 'GLOB'] …

It matches and reads the rasters, pairs LST with NDVI by ground and date, cuts patches, rejects
them by policy, splits them by place, and writes sharded TFRecords with a ``dataset.json``. All
further options are Beam's own, e.g. ``--runner``, ``--direct_num_workers`` or ``--setup_file``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_jobs.publish import check_output, find, make_staging, remove_staging, staging_folder
from beam_jobs.transforms import (
    CutScenes,
    OutlineRasters,
    PlanWork,
    Publication,
    PublishRecords,
    WriteShards,
)
from keras_lstsr.errors import ConfigError, LstsrError, RecordsError
from keras_lstsr.products import POLICIES
from keras_lstsr.records.patches import CutSettings
from keras_lstsr.records.places import SplitSettings
from keras_lstsr.records.rasters import RasterReader
from keras_lstsr.records.schema import DATASET_FILE, REJECTED_FILE, DatasetMetadata
from keras_lstsr.records.summary import ndvi_source

_LOGGER = logging.getLogger(__name__)

# Beam's DirectRunner first tries to download and start Prism, a runner written in Go; the
# in-process runner needs nothing but Python.
_IN_PROCESS_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected three numbers, e.g. 0.75,0.125,0.125") from error


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the job's own options."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.rasters_to_tfrecords",
        description="Convert rasters of land surface temperature into TFRecords.",
        epilog="All further options go to Apache Beam, e.g. --runner, --direct_num_workers 2 "
        "--direct_running_mode multi_processing, --setup_file ./setup.py.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", nargs="+", required=True, help="patterns of LST rasters (HDF4-EOS or GeoTIFF)")
    add("--output", required=True, help="records folder to write")
    add("--ndvi", nargs="+", default=None, help="patterns of NDVI rasters (MOD09GQ or GeoTIFF)")
    add("--overwrite", action="store_true", help="replace records that are there")
    add("--patch_size", type=int, default=64, help="LST pixels along a patch's side")
    add("--stride", type=int, default=None, help="LST pixels between patches; default: patch_size")
    add(
        "--anchor",
        choices=("tile", "raster"),
        default="tile",
        help="count patches from the MODIS tile's corner, or from each raster's own",
    )
    add("--qc_policy", choices=tuple(POLICIES), default="default", help="which pixels are good")
    add(
        "--max_missing_fraction",
        type=float,
        default=0.0,
        help="share of missing pixels a patch may have",
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
    add("--split_seed", type=int, default=0, help="another seed deals places out anew")
    add("--num_shards", type=int, default=None, help="shards per split; default: by their records")
    add("--records_per_shard", type=int, default=256, help="records per shard, about")
    for role, prefix in (("LST", ""), ("NDVI", "ndvi_")):
        group = parser.add_argument_group(f"{role} GeoTIFF, where their tags do not tell")
        add_option = group.add_argument
        add_option(f"--{prefix}scale", type=float, help="units per integer")
        add_option(f"--{prefix}offset", type=float, help="units at integer 0")
        add_option(f"--{prefix}nodata", type=float, help="stored number that means missing")
        if role == "LST":
            add_option("--unit", choices=("kelvin", "celsius"), help="unit after scale and offset")
            add_option("--day_night", choices=("day", "night", "unknown"), help="time of day")
        add_option(
            f"--{prefix}date_pattern",
            help="regular expression of file names with groups year and doy, or year, month, day; "
            "optionally day_night",
        )
    return parser


def _beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options; an option that nobody knows is an error, not silently dropped."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for kind in _subclasses(PipelineOptions):
        try:
            kind._add_argparse_args(parser)
        except argparse.ArgumentError:
            continue  # two runners define one option: once is enough here
    known, unknown = parser.parse_known_args(list(flags))
    runner = getattr(known, "runner", None) or "DirectRunner"
    direct = runner in ("DirectRunner", "direct", "FnApiRunner")
    # Runners of other packages and portable job servers have options that only they know.
    if unknown and direct:
        raise ConfigError(
            "unknown options",
            found=" ".join(unknown),
            action="See --help for the job's options and Beam's documentation for the others.",
        )
    options = PipelineOptions(list(flags))
    if direct:
        options.view_as(StandardOptions).runner = _IN_PROCESS_RUNNER
    return options


def _subclasses(kind: Any) -> Iterator[Any]:
    for subclass in kind.__subclasses__():
        if "_add_argparse_args" in vars(subclass):
            yield subclass
        yield from _subclasses(subclass)


def _patterns(patterns: Sequence[str], option: str) -> list[str]:
    """Makes local patterns absolute (workers may run elsewhere) and checks that each matches."""
    absolute = [
        pattern if FileSystems.get_scheme(pattern) else str(Path(pattern).expanduser().absolute())
        for pattern in patterns
    ]
    for pattern in absolute:
        if not find(pattern):
            raise ConfigError(
                "no file matches the pattern",
                path=pattern,
                field=option,
                action="Correct the path; put quotes around a pattern with * or ?.",
            )
    return absolute


def _readers(options: argparse.Namespace) -> tuple[RasterReader, RasterReader]:
    lst = RasterReader(
        "lst",
        qc_policy=options.qc_policy,
        scale=options.scale,
        offset=options.offset,
        nodata=options.nodata,
        unit=options.unit,
        day_night=options.day_night,
        date_pattern=options.date_pattern,
    )
    ndvi = RasterReader(
        "ndvi",
        qc_policy=options.qc_policy,
        scale=options.ndvi_scale,
        offset=options.ndvi_offset,
        nodata=options.ndvi_nodata,
        date_pattern=options.ndvi_date_pattern,
    )
    return lst, ndvi


def _positive(options: argparse.Namespace, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError("must be 1 or more", field=name, found=value)


def _settings(options: argparse.Namespace) -> CutSettings:
    return CutSettings(
        patch_size=options.patch_size,
        stride=options.patch_size if options.stride is None else options.stride,
        max_missing_fraction=options.max_missing_fraction,
        anchor=options.anchor,
        need_ndvi=options.ndvi is not None,
        split=SplitSettings(
            fractions=options.split_fractions, by=options.split_by, seed=options.split_seed
        ),
    )


def run(argv: Sequence[str] | None = None) -> DatasetMetadata | None:
    """Runs the job.

    Args:
        argv: Options as on the command line, without the program's name; None takes them from
            ``sys.argv``.

    Returns:
        The metadata of the records; None if the runner works on after this returns.

    Raises:
        ConfigError: If an option is invalid, or no file matches a pattern.
        RecordsError: If not a single patch is left; ``rejected.json`` says why.
    """
    options, flags = build_parser().parse_known_args(argv)
    settings = _settings(options)
    _positive(options, ("num_shards", "records_per_shard"))
    beam_options = _beam_options(flags)
    inputs = _patterns(options.input, "input")
    guides = _patterns(options.ndvi, "ndvi") if options.ndvi is not None else []
    output = options.output
    if FileSystems.get_scheme(output) is None:
        output = str(Path(output).expanduser().absolute())
    check_output(output, overwrite=options.overwrite)
    lst_reader, ndvi_reader = _readers(options)
    described: dict[str, Any] = {
        "lst_reader": asdict(lst_reader),
        "ndvi_reader": asdict(ndvi_reader) if guides else None,
        **asdict(settings),
    }
    publication = Publication(staging_folder(output), output, settings, described)
    make_staging(publication.staging)
    try:
        pipeline = beam.Pipeline(options=beam_options)
        build_pipeline(pipeline, inputs, guides, lst_reader, ndvi_reader, publication, options)
        state = pipeline.run().wait_until_finish()
    except BaseException:
        # A kill leaves the staging folder, whose name says that it is incomplete.
        remove_staging(publication.staging)
        raise
    _LOGGER.info("The pipeline ended with state %s.", state)
    return _result(output)


def build_pipeline(
    pipeline: beam.Pipeline,
    inputs: Sequence[str],
    guides: Sequence[str],
    lst_reader: RasterReader,
    ndvi_reader: RasterReader,
    publication: Publication,
    options: argparse.Namespace,
) -> None:
    """Adds the job's steps to a pipeline.

    Args:
        pipeline: An empty pipeline.
        inputs: Patterns of LST rasters.
        guides: Patterns of NDVI rasters; none for records without guide.
        lst_reader: Opens LST rasters.
        ndvi_reader: Opens NDVI rasters.
        publication: Where the records go.
        options: Needs ``num_shards`` and ``records_per_shard``.
    """
    lst = pipeline | "Outline LST" >> OutlineRasters(inputs, lst_reader)
    outlines, dead = [lst.outlines], [lst.dead]
    if guides:
        ndvi = pipeline | "Outline NDVI" >> OutlineRasters(guides, ndvi_reader)
        outlines.append(ndvi.outlines)
        dead.append(ndvi.dead)
    plan = outlines | beam.Flatten() | "Plan" >> PlanWork(publication.settings)
    items = plan | "Work items" >> beam.FlatMap(lambda plan: plan.items)
    dead.append(plan | "Unusable" >> beam.FlatMap(lambda plan: plan.dead_letters))
    cut = items | "Cut" >> CutScenes(lst_reader, ndvi_reader, publication.settings)
    dead.append(cut.dead)
    shards = cut.records | "Write" >> WriteShards(
        publication.staging, options.num_shards, options.records_per_shard
    )
    ndvi_sources = plan | "NDVI sources" >> beam.FlatMap(
        lambda plan: [ndvi_source(outline) for outline in plan.sources if outline.role == "ndvi"]
    )
    _ = {
        "reports": cut.reports,
        "ndvi_sources": ndvi_sources,
        "shards": shards,
        "dead_letters": dead | "All dead letters" >> beam.Flatten(),
    } | "Publish" >> PublishRecords(publication)


def _read(path: str) -> str:
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        content: bytes = stream.read()
    return content.decode()


def _result(output: str) -> DatasetMetadata | None:
    rejected = FileSystems.join(output, REJECTED_FILE)
    if FileSystems.exists(rejected):
        content = json.loads(_read(rejected))
        reasons = ", ".join(f"{name} {count}" for name, count in content["rejected"].items())
        raise RecordsError(
            "no patch is left, so no records were written",
            path=rejected,
            found=f"rejected patches: {reasons or 'none'}; unusable inputs: "
            f"{len(content['dead_letters'])}",
            action="The file lists the reasons by source. Add clearer scenes, allow gaps with "
            "--max_missing_fraction, or give a smaller --patch_size.",
        )
    dataset = FileSystems.join(output, DATASET_FILE)
    if not FileSystems.exists(dataset):
        return None
    metadata = DatasetMetadata.model_validate_json(_read(dataset))
    for warning in metadata.warnings:
        _LOGGER.warning("%s", warning)
    return metadata


def describe(metadata: DatasetMetadata) -> str:
    """Returns a few lines for the operator."""
    lines = [f"{split}: {count} records" for split, count in metadata.counts.items()]
    lines += [f"rejected, {reason}: {count}" for reason, count in metadata.rejected.items()]
    lines.append(f"unusable inputs: {metadata.dead_letters}")
    lines += [f"Warning: {warning}" for warning in metadata.warnings]
    lines.append(f"fingerprint: {metadata.fingerprint}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job from the command line and returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        metadata = run(argv)
    except LstsrError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(describe(metadata) if metadata else "The job was submitted.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
