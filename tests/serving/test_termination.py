"""Signals end a process that listens for them: always, and within the time that it was given."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTENING = (
    "import os, time\n"
    "from serving.termination import Termination\n"
    "with Termination({most_seconds}) as termination:\n"
    "    os.write(1, b'ready')\n"
    "    {work}\n"
    "    os.write(1, b'+ended')\n"
    "    os._exit(7)\n"
)


def ended_by(*signals, work="termination.requested.wait()", most_seconds=20.0):
    """Returns what a process wrote, its status, and the seconds from the first signal on."""
    code = LISTENING.format(work=work, most_seconds=most_seconds)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        written = child.stdout.read(5)
        start = time.monotonic()
        for number in signals:
            child.send_signal(number)
            time.sleep(0.05 * (len(signals) > 1))
        try:
            written += child.stdout.read()
            return written, child.wait(30), time.monotonic() - start
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_every_time(number):
    # At once after "ready": the moment at which an event set by a handler blocked its own thread.
    for _ in range(12):
        written, status, seconds = ended_by(number)
        assert (written, status) == (b"ready+ended", 7)
        assert seconds < 15


def test_what_does_not_end_by_itself_is_ended():
    written, status, seconds = ended_by(signal.SIGTERM, work="time.sleep(60)", most_seconds=0.5)
    assert (written, status) == (b"ready", 0)
    assert 0.4 < seconds < 15


def test_the_second_signal_ends_it_at_once():
    number = signal.SIGINT
    written, status, seconds = ended_by(number, number, work="time.sleep(60)", most_seconds=40.0)
    assert (written, status) == (b"ready", 0)
    assert seconds < 20
