"""What hostile and damaged input does: ``python benchmarks/robustness.py``.

``LSTSR_DATA`` may name a folder of real data, whose granules are damaged as well.

Prints for each section how many inputs of each kind were refused well, read right, read wrong
without a word, or ended in a crash, a hang or an exception that is none of the project's.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from keras_lstsr.errors import LstsrError
from keras_lstsr.records.rasters import LST, RasterReader
from keras_lstsr.testing import (
    damaged_granules,
    damaged_records,
    hostile_models,
    hostile_rasters,
    hostile_requests,
)
from keras_lstsr.testing.robustness import ACCEPTED, Round, Section, Trial, run_trials, table

_RUNS = 20
_GOOD = 16


def job_trials(settings: Round) -> Iterator[Trial]:
    """Puts good and damaged granules through the Beam job again and again.

    Each run has to name every damaged granule, to hold every good one whole, and to be like the
    first byte for byte. Of ``count`` damaged granules those stay that cannot be read; there are
    fewer runs of few granules, and 20 of 100.
    """
    folder = settings.folder / "granules"
    good = [
        damaged_granules.write_granule(folder, seed=settings.seed + number, day=100 + number).name
        for number in range(_GOOD)
    ]
    bad = []
    round_of_damages = Round(settings.folder / "damages", settings.seed, settings.count)
    round_of_damages.folder.mkdir()
    for number, trial in enumerate(damaged_granules.trials(round_of_damages)):
        damaged = trial.call.args[0] if isinstance(trial.call, partial) else None
        if damaged is None or trial.kind == "whole" or "MOD09GQ" in damaged.name:
            continue
        try:
            RasterReader(LST).open(damaged)
        except LstsrError:
            bad.append(f"{number}_{damaged.name}")
            shutil.copy(damaged, folder / bad[-1])
    first = settings.folder / "run 0"
    for run in range(max(2, _RUNS * settings.count // 100)):
        output = settings.folder / f"run {run}"
        call = partial(runs_alike, folder, output, first, tuple(good), tuple(bad))
        yield Trial("run of the job", output.name, call, limit_s=300)


def runs_alike(
    folder: Path, output: Path, first: Path, good: tuple[str, ...], bad: tuple[str, ...]
) -> bool:
    """Returns whether a run of the job is whole, and like the first."""
    from beam_jobs.rasters_to_tfrecords import run

    metadata = run(
        [
            *("--input", str(folder / "*"), "--output", str(output), "--patch_size", "16"),
            *("--max_missing_fraction", "0.5", "--num_shards", "2"),
        ]
    )
    assert metadata is not None
    letters = json.loads((output / "dead_letter.json").read_text(encoding="utf-8"))
    whole = sorted(Path(letter["path"]).name for letter in letters) == sorted(bad)
    read = {Path(source.path).name: source.accepted for source in metadata.sources}
    expected = {"day": 16, "night": 16}
    whole &= sorted(read) == sorted(good) and all(found == expected for found in read.values())
    names = sorted(path.name for path in first.iterdir())
    return whole and all(
        (output / name).read_bytes() == (first / name).read_bytes() for name in names
    )


SECTIONS: dict[str, Section] = {
    "granules": damaged_granules.trials,
    "rasters": hostile_rasters.trials,
    "job": job_trials,
    "records": damaged_records.trials,
    "models": hostile_models.trials,
    "requests": hostile_requests.trials,
}
"""Others have modules of their own in ``keras_lstsr.testing``."""


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)), help="Sections to run.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other inputs.")
@click.option("--count", default=100, show_default=True, help="About how many inputs per section.")
@click.option("--verbose", is_flag=True, help="Print each refusal, too.")
def main(only: tuple[str, ...], seed: int, count: int, verbose: bool) -> None:
    """Runs the sections; the exit status is 1 if anything came out that may not."""
    named = os.environ.get("LSTSR_DATA")
    real_data = Path(named) if named else None
    failed = False
    for name in only or SECTIONS:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lstsr-robustness-") as folder:
            outcomes = []
            for outcome in run_trials(SECTIONS[name](Round(Path(folder), seed, count, real_data))):
                outcomes.append(outcome)
                bad = outcome.verdict not in ACCEPTED
                failed |= bad
                if bad or verbose:
                    print(f"{outcome.trial.name}: {outcome.verdict}: {outcome.text}", flush=True)
        print(f"\n## {name}, seed {seed}, {time.monotonic() - start:.0f} s\n\n{table(outcomes)}\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
