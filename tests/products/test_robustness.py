"""A small part of ``benchmarks/robustness.py``, and the processes of the HDF4 library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from keras_lstsr.errors import ProductError
from keras_lstsr.products import hdf4_pool, open_product
from keras_lstsr.products.hdf4_pool import Hdf4Session
from keras_lstsr.testing import damaged_granules, hostile_rasters
from keras_lstsr.testing.damaged_granules import write_granule
from keras_lstsr.testing.robustness import ACCEPTED, Round, judged, run_trials


@pytest.mark.parametrize("trials", [damaged_granules.trials, hostile_rasters.trials])
def test_bad_files_are_refused_or_read_right(tmp_path, trials):
    outcomes = list(run_trials(trials(Round(tmp_path, seed=1, count=36))))
    assert len(outcomes) >= 36
    bad = [(each.trial.name, each.verdict, each.text) for each in outcomes]
    assert [each for each in bad if each[1] not in ACCEPTED] == []
    assert {each.verdict for each in outcomes} == set(ACCEPTED)


def test_trials_of_one_seed_are_the_same(tmp_path):
    texts = []
    for name in ("first", "second"):
        settings = Round(tmp_path / name, seed=5, count=12)
        trials = list(damaged_granules.trials(settings))
        found = [judged(trial)[1].replace(str(settings.folder), "") for trial in trials]
        texts.append(found)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("product", ["MOD11A1", "MOD09GQ"])
def test_pixels_are_those_that_the_library_reads(tmp_path, product):
    from pyhdf.SD import SD

    path = write_granule(tmp_path, product)
    session, library = Hdf4Session(path), SD(str(path))
    attributes = library.attributes()
    assert session.attributes() == attributes
    assert session.metadata.items() <= attributes.items() and len(session.metadata) == 2
    for name in session.fields:
        stored, attributes = session.read(name)
        dataset = library.select(name)
        np.testing.assert_array_equal(stored, dataset.get())
        assert stored.dtype == dataset.get().dtype and attributes == dataset.attributes()
    session.close()


@pytest.mark.real_data
def test_pixels_of_real_files_are_those_that_the_library_reads(lstsr_data):
    from pyhdf.SD import SD

    for path in sorted((lstsr_data / "modis").glob("*.hdf")):
        session, library = Hdf4Session(path), SD(str(path))
        assert session.metadata.items() <= library.attributes().items()
        # Plain, deflated, in linked blocks and in chunks.
        for name in [name for name, (shape, _) in session.fields.items() if len(shape) == 2][:6]:
            np.testing.assert_array_equal(session.read(name)[0], library.select(name).get())
        session.close()


def test_a_flipped_bit_in_a_stream_is_found_wherever_it_matters(tmp_path):
    path = write_granule(tmp_path)
    content = path.read_bytes()
    expected = open_product(path)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        path.write_bytes(damaged_granules.flip_in_stream(content, rng))
        try:
            found = open_product(path)
        except ProductError as error:
            assert "deflated stream" in str(error)
            refused += 1
        else:  # a bit of a field that is not read
            for name in expected.data_vars:
                np.testing.assert_array_equal(found[name].values, expected[name].values)
    assert refused > 40


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(hdf4_pool, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(hdf4_pool, "POOL", hdf4_pool._Pool())


def in_reader(monkeypatch, tmp_path, code: str) -> None:
    """Lets the processes run the reader after a piece of code, as a damaged file would make it."""
    source = Path(hdf4_pool.hdf4_reader.__file__).read_text(encoding="utf-8")
    changed = tmp_path / "reader.py"
    changed.write_text(source.replace("        self._close()\n        with open(path", code))
    monkeypatch.setattr(hdf4_pool.hdf4_reader, "__file__", str(changed))


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "process ended"),
        ("while True: pass", "took more than 1 s"),
        ("signal.setitimer(signal.ITIMER_REAL, 0)\n        os.abort()", "process ended"),
        ("bytearray(3 << 30)", "MemoryError"),
        ("os.write(2, b'x' * 9); sys.stdout.write('{}')\n        1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_the_library_does_ends_no_process_but_its_own(monkeypatch, tmp_path, fault, told):
    path = write_granule(tmp_path)
    code = f"        {fault}\n        with open(path"
    with monkeypatch.context() as patched:
        in_reader(patched, tmp_path, code)
        with pytest.raises(ProductError, match=told) as caught:
            open_product(path)
        assert str(path) in str(caught.value)
    # The next file gets another process.
    assert open_product(path).sizes == {"y": 64, "x": 64}


@pytest.mark.usefixtures("small_limits")
def test_a_process_that_another_file_has_broken_costs_no_good_file(tmp_path):
    path = write_granule(tmp_path)
    expected = open_product(path)
    (process,) = hdf4_pool.POOL._idle
    os.kill(process._process.pid, signal.SIGKILL)
    found = open_product(path)
    np.testing.assert_array_equal(found.lst_day_kelvin.values, expected.lst_day_kelvin.values)
    assert hdf4_pool.POOL._idle[0] is not process


def test_processes_are_used_again_and_threads_have_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf4_pool, "POOL", hdf4_pool._Pool())
    path = write_granule(tmp_path)
    pids = set()
    for _ in range(5):
        open_product(path)
        pids |= {process._process.pid for process in hdf4_pool.POOL._idle}
    assert len(pids) == 1
    sessions = [Hdf4Session(path) for _ in range(3)]
    assert len({session._process for session in sessions}) == 3
    for session in sessions:
        session.close()


def test_processes_end_with_their_parent_even_if_it_is_killed(tmp_path):
    path = write_granule(tmp_path)
    code = (
        "from keras_lstsr.products import hdf4_pool, open_product; import sys, time;"
        f"open_product({str(path)!r});"
        "print(hdf4_pool.POOL._idle[0]._process.pid, [m for m in ('tensorflow', 'apache_beam')"
        " if m in sys.modules], flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid, modules = parent.stdout.readline().split(maxsplit=1)
    assert modules.strip() == "[]"
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while _alive(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        return state.rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_forked_process_has_processes_of_its_own(tmp_path):
    path = write_granule(tmp_path)
    code = (
        "import os, threading, sys\n"
        "from keras_lstsr.products import hdf4_pool, open_product\n"
        f"path = {str(path)!r}\n"
        "open_product(path)\n"
        "first = hdf4_pool.POOL._idle[0]._process.pid\n"
        "if os.fork():\n"
        "    status = os.wait()[1]\n"
        "    open_product(path)\n"
        "    assert hdf4_pool.POOL._idle[0]._process.pid == first\n"
        "    sys.exit(status != 0)\n"
        "assert not hdf4_pool.POOL._idle\n"
        "open_product(path)\n"
        "assert hdf4_pool.POOL._idle[0]._process.pid != first\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "name", ["MOD11A1.A2021227.h18v04.061.2021228105320.hdf", "LST_2021_08_15_day.tif"]
)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    done = []

    def read():
        try:
            open_product(tmp_path / name)
        except ProductError as error:
            done.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert done and "this is not a file" in done[0] and name in done[0]
