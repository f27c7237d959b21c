"""Time, memory and scores of the demo: ``python benchmarks/demo.py``.

Prints a Markdown table of the demo's steps, the peak memory of its whole process tree (resident,
sampled five times a second; pages that processes share are counted in each), and the scores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.2


def peak_memory(process: subprocess.Popen, done: threading.Event) -> float:
    """Returns the highest resident memory of a process and its children in GiB."""
    peak = 0
    root = psutil.Process(process.pid)
    while not done.wait(SAMPLE_SECONDS):
        total = 0
        try:
            for member in [root, *root.children(recursive=True)]:
                total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # a child ended between listing and reading
        peak = max(peak, total)
    return peak / 2**30


def main() -> None:
    """Runs the demo and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, help="keep the demo here; default: a temporary folder"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        output = arguments.output or Path(temporary) / "demo"
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_lstsr.cli.main", "demo", "--output", str(output)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        done = threading.Event()
        peaks: list[float] = []
        sampler = threading.Thread(target=lambda: peaks.append(peak_memory(process, done)))
        sampler.start()
        printed = process.communicate()[0]
        done.set()
        sampler.join()
        if process.returncode:
            sys.exit(printed)
        seconds = time.monotonic() - start
        took = printed[printed.index("Took ") :].split(".")[0].replace("\n", " ")
        print(f"{took}.\nWall clock {seconds:.0f} s, peak memory {peaks[0]:.2f} GiB\n")
        for table in sorted((output / "evaluation").glob("*.md")):
            print(table.read_text())


if __name__ == "__main__":
    main()
