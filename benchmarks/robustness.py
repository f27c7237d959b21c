"""What hostile and damaged input does: ``python benchmarks/robustness.py``.

Prints for each section how many inputs of each kind were refused well, read right, read wrong
without a word, or ended in a crash, a hang or an exception that is none of the project's.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import click

from keras_lstsr.testing import damaged_granules, hostile_rasters
from keras_lstsr.testing.robustness import ACCEPTED, Round, Section, run_trials, table

SECTIONS: dict[str, Section] = {
    "granules": damaged_granules.trials,
    "rasters": hostile_rasters.trials,
}


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
