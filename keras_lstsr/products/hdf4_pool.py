"""Processes in which the HDF4 library reads, so that a damaged file ends none but its own.

The library writes beyond its memory on some damaged files and loops on others. A process that has
shown a fault is replaced, and the file is read once more in a new one: then it is the file's fault
and not that of another that was read before. Processes wait for the next file and end with theirs.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.products import hdf4_reader

REQUEST_SECONDS = 60.0
"""Opening a file, or reading one field, may take so long; a whole tile takes about one."""

_GRACE_SECONDS = 5.0
_IDLE = 4  # so many processes wait for work; threads that read at once have one each
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # fcntl.F_SETPIPE_SZ of Linux


class Hdf4Failure(Exception):
    """The library cannot read the file; the text says how it failed."""


class Lost(Hdf4Failure):
    """The process crashed or ran beyond a limit."""


class Hdf4Process:
    """One process with the library."""

    def __init__(self) -> None:
        self.files = 0
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        # Isolated, and without site: only pyhdf and NumPy are needed, from where they are here.
        arguments = [
            os.fsdecode(get_executable()),
            "-I",
            "-S",
            str(Path(hdf4_reader.__file__).resolve()),
            json.dumps([entry for entry in sys.path if entry]),
            str(hdf4_reader.MEMORY_BYTES),
            str(REQUEST_SECONDS),
        ]
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.fcntl(self._stdout, _SET_PIPE_SIZE, _PIPE_BYTES)

    @property
    def _stdout(self) -> Any:
        return self._process.stdout

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Sends a request and returns the answer, with the bytes that come with it.

        Raises:
            Lost: If the process ends instead, or takes too long.
        """
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(REQUEST_SECONDS + _GRACE_SECONDS, stop)
        timer.daemon = True
        timer.start()
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._stdout.readline(2 * hdf4_reader.ATTRIBUTE_BYTES)
            answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
            size = answer["bytes"]
            if isinstance(size, int) and 0 <= size <= hdf4_reader.FIELD_BYTES:
                content = bytearray(size)
                if self._stdout.readinto(content) == size:
                    return answer, content
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            pass  # the process ended, or wrote something else: both are told below
        finally:
            timer.cancel()
        self.end()
        took_long = late.is_set() or self._process.returncode == -14  # its own alarm
        if took_long:
            raise Lost(f"the library took more than {REQUEST_SECONDS:g} s")
        raise Lost("the library's process ended")

    def end(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Closes the pipes, by which the process sees that no more requests come."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class _Pool:
    """Processes that wait for a file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Hdf4Process] = []

    def take(self, *, new: bool = False) -> Hdf4Process:
        """Returns a process that is nobody else's."""
        with self._lock:
            if self._idle and not new:
                return self._idle.pop()
        return Hdf4Process()

    def give_back(self, process: Hdf4Process) -> None:
        """Keeps a process for the next file."""
        with self._lock:
            if len(self._idle) < _IDLE:
                self._idle.append(process)
                return
        process.end()

    def end(self) -> None:
        """Ends all that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def forget(self) -> None:
        """Closes the pipes to processes of the process that this one was forked from."""
        idle, self._idle, self._lock = self._idle, [], threading.Lock()
        for process in idle:
            process.forget()


POOL = _Pool()
atexit.register(POOL.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


class Hdf4Session:
    """One file, open in a process of the pool.

    Attributes:
        metadata: The attributes with the structural and core metadata, by name.
        fields: Shape and NumPy type of each field, by name.

    Raises:
        Hdf4Failure: If the library cannot open it.
    """

    def __init__(self, path: Path) -> None:
        self._open = {"do": "open", "path": str(path)}
        self._process: Hdf4Process | None = POOL.take()
        self._faulty = False
        opened, _ = self._ask(self._open)
        self.metadata: dict[str, Any] = opened["metadata"]
        self.fields: dict[str, tuple[tuple[int, ...], str]] = {
            name: (tuple(shape), dtype) for name, (shape, dtype) in opened["fields"].items()
        }

    def attributes(self) -> dict[str, Any]:
        """Returns all attributes of the file, by name.

        Raises:
            Hdf4Failure: If they cannot be read.
        """
        answer, _ = self._ask({"do": "attributes"})
        found: dict[str, Any] = answer["attributes"]
        return found

    def read(self, name: str) -> tuple[NDArray[Any], dict[str, Any]]:
        """Returns a field as stored and its attributes.

        Raises:
            Hdf4Failure: If it cannot be read, or its deflated stream does not fit its checksum.
        """
        shape, dtype = self.fields[name]
        answer, content = self._ask({"do": "read", "name": name, "shape": shape})
        if answer["dtype"] != dtype:
            raise Hdf4Failure(f"the field's type changed to {answer['dtype']}")
        stored: NDArray[Any] = np.frombuffer(content, dtype)
        if not np.dtype(dtype).newbyteorder(answer["order"]).isnative:
            stored.byteswap(inplace=True)
        return stored.reshape(shape), answer["attributes"]

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Asks once, and where the library fails once more in a new process."""
        if self._process is None:
            raise Hdf4Failure("the file is closed")
        opening = request is self._open
        self._process.files += opening
        try:
            return self._told(request)
        except Hdf4Failure:
            if self._process.files == 1 or not self._faulty:
                self.close()
                raise
        self._process.end()
        self._process, self._faulty = POOL.take(new=True), False
        self._process.files = 1
        try:
            if not opening:
                self._told(self._open)
            return self._told(request)
        except Hdf4Failure:
            self.close()
            raise

    def _told(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        assert self._process is not None
        try:
            answer, content = self._process.ask(request)
        except Lost:
            self._faulty = True
            raise
        if "error" in answer:
            # What this package found itself does not depend on what was read before.
            self._faulty = not answer.get("certain")
            raise Hdf4Failure(answer["error"])
        return answer, content

    def close(self) -> None:
        """Gives the process back, or ends it if it may be faulty."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._faulty:
            process.end()
            return
        try:
            answer, _ = process.ask({"do": "close"})
        except Lost:
            return  # it has ended; the next file gets another
        if "error" in answer:
            process.end()
        else:
            POOL.give_back(process)
