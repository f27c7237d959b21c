"""Ctrl+C ends what runs, also where a library swallows the exception."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_lstsr.training.interruption import interruptible


def press_and_swallow() -> None:
    """As a C++ library does that calls back into Python."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        return
    raise AssertionError("the signal has raised nothing")


def test_what_was_swallowed_is_raised_at_the_next_step():
    before = signal.getsignal(signal.SIGINT)
    steps = 0
    with pytest.raises(KeyboardInterrupt), interruptible() as interruption:
        for steps in range(5):
            interruption.check()
            if steps == 2:
                press_and_swallow()
    assert steps == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_what_was_swallowed_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), interruptible():
        press_and_swallow()


def test_without_ctrl_c_nothing_changes():
    with interruptible() as interruption:
        interruption.check()
    assert not interruption.pressed


def test_other_threads_get_no_signals():
    seen = []

    def work() -> None:
        with interruptible() as interruption:
            seen.append(interruption.pressed)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_what_never_ends_is_ended():
    code = (
        "import time\n"
        "from keras_lstsr.training import interruption\n"
        "interruption.SECONDS_TO_END = 0.3\n"
        "with interruption.interruptible():\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except KeyboardInterrupt:\n"
        "            pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
