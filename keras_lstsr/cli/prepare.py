"""``keras-lstsr prepare``: the Beam job from rasters to records."""

from __future__ import annotations

import click

from keras_lstsr.errors import MissingExtraError


@click.command(
    "prepare",
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],
    },
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Convert rasters into TFRecords with an Apache Beam job.

    The options are those of ``python -m beam_jobs.rasters_to_tfrecords``; --help lists them.
    """
    metadata = prepare(list(arguments))
    click.echo(metadata or "The job was submitted.")


def prepare(arguments: list[str]) -> str | None:
    """Runs the Beam job ``beam_jobs.rasters_to_tfrecords`` with its arguments.

    Returns:
        What was written, in words; None where the job was only submitted.

    Raises:
        MissingExtraError: If Apache Beam is not installed.
    """
    try:
        from beam_jobs import rasters_to_tfrecords
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "apache_beam":
            raise
        raise MissingExtraError(
            "preparing records needs Apache Beam",
            found=str(error),
            action="Install it with pip install 'keras-lstsr[beam]'.",
        ) from error
    metadata = rasters_to_tfrecords.run(arguments)
    return rasters_to_tfrecords.describe(metadata) if metadata else None
