"""The Beam job from rasters to records.

    python -m beam_jobs.rasters_to_tfrecords --input 'GLOB' --output DIR [--guide ndvi='GLOB'] …

It matches and reads the rasters, pairs LST with its guides by ground and date, cuts samples,
rejects them by policy, splits them by place, and writes sharded TFRecords with a ``dataset.json``.
With ``--truth``, ``--pairs``, ``--fine-scenes`` or ``--places`` the samples hold the fine truth,
each in its place. All further options are Beam's own, e.g. ``--runner``, ``--direct_num_workers``
or ``--setup_file``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_jobs.options import Inputs, build_parser, inputs_of
from beam_jobs.publish import (
    check_file_system,
    check_output,
    ensure_folder,
    remove_staging,
    staging_folder,
)
from beam_jobs.shards import WriteShards
from beam_jobs.transforms import (
    Cut,
    Gathered,
    OutlineRasters,
    PlanTruths,
    Publication,
    PublishRecords,
    local_copy,
)
from keras_lstsr.errors import ConfigError, LstsrError, RecordsError
from keras_lstsr.records.planning import plan_job
from keras_lstsr.records.rasters import LST, TRUTH
from keras_lstsr.records.scenes import RasterScene
from keras_lstsr.records.schema import DATASET_FILE, REJECTED_FILE, DatasetMetadata, DeadLetter

_LOGGER = logging.getLogger(__name__)

# Beam's DirectRunner first tries to download and start Prism, a runner written in Go; the
# in-process runner needs nothing but Python.
_IN_PROCESS_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


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


def run(argv: Sequence[str] | None = None) -> DatasetMetadata | None:
    """Runs the job.

    Args:
        argv: Options as on the command line, without the program's name; None takes them from
            ``sys.argv``.

    Returns:
        The metadata of the records; None if the runner works on after this returns.

    Raises:
        ConfigError: If an option is invalid, or no file matches a pattern.
        ProductError: If a folder of pairs or scenes is not there or lacks a raster.
        RecordsError: If not a single sample is left; ``rejected.json`` says why.
    """
    options, flags = build_parser().parse_known_args(argv)
    beam_options = _beam_options(flags)
    output = options.output
    check_file_system(output, "output")
    inputs = inputs_of(options)
    if FileSystems.get_scheme(output) is None:
        output = str(Path(output).expanduser().absolute())
    check_output(output, overwrite=options.overwrite)
    described: dict[str, Any] = {
        "readers": {role: asdict(reader) for role, reader in inputs.readers.items()},
        **asdict(inputs.settings),
        "references": options.references,
    }
    publication = Publication(staging_folder(output), output, inputs.settings, described)
    ensure_folder(publication.staging)
    try:
        pipeline = beam.Pipeline(options=beam_options)
        build_pipeline(pipeline, inputs, publication, options)
        state = pipeline.run().wait_until_finish()
    except BaseException:
        # A kill leaves the staging folder, whose name says that it is incomplete.
        remove_staging(publication.staging)
        raise
    _LOGGER.info("The pipeline ended with state %s.", state)
    return _result(output)


def build_pipeline(
    pipeline: beam.Pipeline,
    inputs: Inputs,
    publication: Publication,
    options: argparse.Namespace,
) -> None:
    """Adds the job's steps to an empty pipeline."""
    settings, readers = inputs.settings, inputs.readers
    dead: list[Any] = []
    sources: list[Any] = []
    items: list[Any] = []
    scenes: list[Any] = []
    if inputs.lst:
        outlines = []
        for role, patterns in {LST: inputs.lst, **inputs.guides, TRUTH: inputs.truth}.items():
            if patterns:
                found = pipeline | f"Outline {role}" >> OutlineRasters(patterns, readers[role])
                outlines.append(found.outlines)
                dead.append(found.dead)
        plan = outlines | beam.Flatten() | "Plan" >> Gathered(plan_job, settings)
        items.append(plan | "Work items" >> beam.FlatMap(lambda plan: plan.items))
        dead.append(plan | "Unusable" >> beam.FlatMap(lambda plan: plan.dead_letters))
        sources.append(plan | "Other sources" >> beam.FlatMap(lambda plan: plan.sources))
        scenes.append(
            plan
            | "Raster scenes"
            >> beam.FlatMap(
                lambda plan: [RasterScene(item, readers, local_copy) for item in plan.truths]
            )
        )
    if settings.truth:
        if inputs.files:
            scenes.append(pipeline | "Files" >> beam.Create(inputs.files, reshuffle=False))
        planned = scenes | "All scenes" >> beam.Flatten() | "Plan scenes" >> PlanTruths(settings)
        items.append(planned["items"])
        sources.append(planned["rejected"])
        dead.append(planned["dead"])
    work = items | "All work" >> beam.Flatten()
    cut = work | "Cut" >> Cut(readers, settings)
    dead.append(cut.dead)
    shards = cut.records | "Write" >> WriteShards(
        publication.staging, options.num_shards, options.records_per_shard
    )
    _ = {
        "reports": cut.reports,
        "other_sources": sources | "All sources" >> beam.Flatten(),
        "shards": shards,
        "dead_letters": dead | "All dead letters" >> beam.Flatten(),
    } | "Publish" >> PublishRecords(publication)


_UNUSABLE_TOLD = 3
# By the start of the commonest reason; the last stands for what pixels lack.
_ADVICE = {
    "no_partner:": "Give guides of the same dates and the same ground.",
    "missing:": "Give guides that cover the scenes, or allow gaps with --max_missing_fraction.",
    "straddles_splits": "Give a smaller --patch_size, so that samples lie within places.",
    "split_mismatch": "Give a smaller --patch_size, so that samples lie within places.",
    "": "Add clearer scenes, allow gaps with --max_missing_fraction, or give a smaller "
    "--patch_size.",
}


def _read(path: str) -> str:
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        content: bytes = stream.read()
    return content.decode()


def _result(output: str) -> DatasetMetadata | None:
    rejected = FileSystems.join(output, REJECTED_FILE)
    if FileSystems.exists(rejected):
        raise _nothing_left(json.loads(_read(rejected)), rejected)
    dataset = FileSystems.join(output, DATASET_FILE)
    if not FileSystems.exists(dataset):
        return None
    metadata = DatasetMetadata.model_validate_json(_read(dataset))
    for warning in metadata.warnings:
        _LOGGER.warning("%s", warning)
    return metadata


def _nothing_left(content: dict[str, Any], path: str) -> RecordsError:
    """Says what came in the way most often, and what to do about that."""
    reasons = Counter(content["rejected"])
    unusable = [DeadLetter.model_validate(each) for each in content["dead_letters"]]
    counts = ", ".join(f"{name} {count}" for name, count in reasons.most_common())
    found = [f"rejected samples: {counts or 'none'}", f"unusable inputs: {len(unusable)}"]
    found += [f"{letter.path}: {letter.reason}" for letter in unusable[:_UNUSABLE_TOLD]]
    if reasons:
        most = reasons.most_common(1)[0][0]
        action = next(text for start, text in _ADVICE.items() if most.startswith(start))
    elif unusable:
        action = "Mend the unusable inputs, or leave them out."
    else:
        action = "The scenes are smaller than --patch_size: give a smaller one."
    return RecordsError(
        "no sample is left, so no records were written",
        path=path,
        found="; ".join(found),
        action=f"{action} The file lists the reasons by source.",
    )


def describe(metadata: DatasetMetadata) -> str:
    """Returns a few lines for the operator."""
    lines = [f"{split}: {count} records" for split, count in metadata.counts.items()]
    for kind, counts in (
        ("sensor", metadata.counts_by_sensor),
        ("season", metadata.counts_by_season),
    ):
        total = sum((Counter(own) for own in counts.values()), Counter())
        lines += [f"{kind} {name or 'unknown'}: {count} records" for name, count in total.items()]
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
