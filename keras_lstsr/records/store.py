"""Decoded samples that can be taken in any order, as often as wanted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, overload

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import RecordsError
from keras_lstsr.records.arrays import FloatArray, Rasters


class RasterStore(Sequence[Rasters]):
    """Rasters that lie in memory, or in a nameless temporary file.

    Shards are compressed and can only be read from the start, so samples are decoded once. The
    system maps the file (``TMPDIR`` says where it lies) into memory as far as there is room, and
    removes it with the process.

    Args:
        samples: All samples.
        in_memory: Keep them in memory.

    Raises:
        RecordsError: If there is no room for the file, or ``samples`` raises it.
    """

    def __init__(self, samples: Iterable[Rasters], *, in_memory: bool = False) -> None:
        self._samples: list[Rasters] = []
        if in_memory:
            self._samples += samples
            return
        with tempfile.TemporaryFile() as file:
            try:
                shapes = list(_written(samples, file))
                file.flush()
            except OSError as error:
                raise RecordsError(
                    "there is no room for the decoded samples",
                    path=tempfile.gettempdir(),
                    found=error.strerror,
                    action="Set TMPDIR to a folder with more room.",
                ) from error
            if shapes:
                # The map keeps the nameless file alive when Python has closed it.
                mapped = np.asarray(np.memmap(file, np.float32, "r"))
                self._samples += _mapped(shapes, mapped)

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Rasters: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Rasters]: ...

    def __getitem__(self, index: int | slice) -> Rasters | Sequence[Rasters]:
        return self._samples[index]


# Of a sample: shape of the input and of the truth, names of the guides, and whether observed.
_Shapes = tuple[tuple[int, ...], tuple[int, ...] | None, dict[str, tuple[int, ...]], bool]


def _written(samples: Iterable[Rasters], file: IO[bytes]) -> Iterator[_Shapes]:
    for sample in samples:
        truth = sample.truth_kelvin
        parts = [sample.lst_kelvin, *sample.guides.values(), *([] if truth is None else [truth])]
        for values in parts:
            file.write(np.ascontiguousarray(values, np.float32).tobytes())
        yield (
            sample.lst_kelvin.shape,
            None if truth is None else truth.shape,
            {name: guide.shape for name, guide in sample.guides.items()},
            sample.observed,
        )


def _mapped(shapes: Iterable[_Shapes], values: NDArray[np.float32]) -> Iterator[Rasters]:
    place = 0

    def taken(shape: tuple[int, ...]) -> FloatArray:
        nonlocal place
        first, place = place, place + int(np.prod(shape))
        return values[first:place].reshape(shape)

    for lst, truth, guides, observed in shapes:
        yield Rasters(
            taken(lst),
            {name: taken(shape) for name, shape in guides.items()},
            None if truth is None else taken(truth),
            observed,
        )
