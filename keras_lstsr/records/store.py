"""Decoded samples that can be taken in any order, as often as wanted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import numpy as np

from keras_lstsr.errors import RecordsError
from keras_lstsr.records.arrays import FloatArray, Rasters

_LST, _TRUTH = "lst_kelvin", "truth_kelvin"


def stored(samples: Iterable[Rasters], *, in_memory: bool = False) -> list[Rasters]:
    """Returns samples whose values lie in memory, or in a nameless temporary file.

    Shards are compressed and can only be read from the start, so samples are decoded once. The
    system maps the file (``TMPDIR`` says where it lies) into memory as far as there is room, and
    removes it with the process.

    Raises:
        RecordsError: If there is no room for the file, or ``samples`` raises it.
    """
    if in_memory:
        return list(samples)
    shapes: list[tuple[bool, str, dict[str, tuple[int, ...]]]] = []
    with tempfile.TemporaryFile() as file:
        try:
            for sample in samples:
                parts = {_LST: sample.lst_kelvin, **sample.guides}
                if sample.truth_kelvin is not None:
                    parts[_TRUTH] = sample.truth_kelvin
                for values in parts.values():
                    file.write(np.ascontiguousarray(values, np.float32).tobytes())
                known = {n: v.shape for n, v in parts.items()}
                shapes.append((sample.observed, sample.group, known))
            file.flush()
        except OSError as error:
            raise RecordsError(
                "there is not enough room for the decoded samples",
                path=tempfile.gettempdir(),
                found=error.strerror,
                action="Set TMPDIR to a folder with more room.",
            ) from error
        # The map keeps the nameless file alive when Python has closed it; none maps nothing.
        values = np.asarray(np.memmap(file, np.float32, "r")) if shapes else np.empty(0, np.float32)
    place = 0
    result = []
    for observed, group, named in shapes:
        found: dict[str, FloatArray] = {}
        for name, shape in named.items():
            first, place = place, place + int(np.prod(shape))
            found[name] = values[first:place].reshape(shape)
        result.append(Rasters(found.pop(_LST), found, found.pop(_TRUTH, None), observed, group))
    return result
