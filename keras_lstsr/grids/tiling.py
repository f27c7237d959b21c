"""Windows over a raster, their overlaps and the weights that blend them: pure arithmetic.

A long axis is cut into windows of one length that overlap. Window starts are multiples of an
alignment, so that a network with strides sees every window in the same phase as the whole
raster. The last window ends exactly at the raster's end and may be longer by less than the
alignment. Nothing is padded. Blend weights of an axis sum to one at every pixel; the weight of a
two-dimensional window is the product of its axes' weights, so these sum to one too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.grids.resample import finer_window


@dataclass(frozen=True)
class Tile:
    """A rectangular window: its rows and columns, and the numbers of their spans in the tiling."""

    row: int
    column: int
    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def index(self) -> tuple[slice, slice]:
        """Returns the window as an index into ``[H, W]``."""
        return self.rows, self.columns


def axis_spans(
    length_pixels: int, tile_pixels: int, overlap_pixels: int, alignment_pixels: int = 1
) -> tuple[slice, ...]:
    """Cuts an axis into overlapping spans; lengths are in pixels.

    Every start is a multiple of the alignment. All have ``tile_pixels`` but the last, which is
    longer by less than ``alignment_pixels``, or the only one. Neighbours share
    ``overlap_pixels`` at least.

    Raises:
        GridError: If a length is not positive, or the overlap, or ``tile_pixels`` or
            ``overlap_pixels`` is no multiple of the alignment, or the overlap is more than half
            a tile (three tiles would then share a pixel of a regular tiling).
    """
    _check_lengths(length_pixels, tile_pixels, overlap_pixels, alignment_pixels)
    if length_pixels <= tile_pixels:
        return (slice(0, length_pixels),)
    last_start = (length_pixels - tile_pixels) // alignment_pixels * alignment_pixels
    starts = [*range(0, last_start, tile_pixels - overlap_pixels), last_start]
    stops = [start + tile_pixels for start in starts[:-1]] + [length_pixels]
    return tuple(map(slice, starts, stops))


def _check_lengths(length: int, tile: int, overlap: int, alignment: int) -> None:
    GridError.unless(length >= 1, "length_pixels", length, "at least 1")
    GridError.unless(alignment >= 1, "alignment_pixels", alignment, "at least 1")
    usable = tile >= 1 and tile % alignment == 0
    action = "The network halves its grid several times and needs tiles of such a size."
    expected = f"a positive multiple of {alignment}"
    GridError.unless(usable, "tile_pixels", tile, expected, action=action)
    usable = overlap >= 0 and overlap % alignment == 0 and 2 * overlap <= tile
    expected = f"a multiple of {alignment} from 0 to {tile // 2} (half the tile)"
    action = "Take a smaller overlap or a larger tile."
    GridError.unless(usable, "overlap_pixels", overlap, expected, action=action)


def axis_weights(
    spans: tuple[slice, ...], *, factor: int = 1, trim_fraction: float = 0.25
) -> tuple[NDArray[np.float32], ...]:
    """Computes the blend weights along one axis.

    In the overlap of two neighbours the weight goes from one to the other as sin², over its
    middle part: ``trim_fraction`` of the overlap at either tile's edge gets no weight, since
    there a network sees a border that is none. All weights are then divided by their sum.

    Args:
        spans: Spans of ``axis_spans``.
        factor: Weights are given on a grid that is this many times finer.
        trim_fraction: Share of the overlap, in [0, 0.5), that is unused at each side.

    Returns:
        For each span ``[length · factor]`` weights in 0…1, which sum to one at every pixel.

    Raises:
        GridError: If ``trim_fraction`` is outside [0, 0.5).
    """
    GridError.unless(0 <= trim_fraction < 0.5, "trim_fraction", trim_fraction, "0…0.5")
    fine = [slice(span.start * factor, span.stop * factor) for span in spans]
    total = np.zeros(fine[-1].stop)
    raw = []
    for number, span in enumerate(fine):
        centres = np.arange(span.start, span.stop) + 0.5
        weight = np.ones(len(centres))
        if number > 0:
            weight *= _rise(centres, span.start, fine[number - 1].stop, trim_fraction)
        if number < len(fine) - 1:
            weight *= 1.0 - _rise(centres, fine[number + 1].start, span.stop, trim_fraction)
        raw.append(weight)
        total[span] += weight
    return tuple(
        (weight / total[span]).astype(np.float32) for weight, span in zip(raw, fine, strict=True)
    )


def _rise(
    centres: NDArray[np.floating], start: int, stop: int, trim_fraction: float
) -> NDArray[np.floating]:
    """Goes from 0 to 1 as sin² over the middle of ``start``…``stop``; a step where they meet."""
    margin = trim_fraction * (stop - start)
    width = (stop - start) - 2 * margin
    if width <= 0:
        return (centres >= start).astype(np.float64)
    position = np.clip((centres - start - margin) / width, 0.0, 1.0)
    return np.sin(0.5 * np.pi * position) ** 2


@dataclass(frozen=True)
class Tiling:
    """All windows over a raster, with their blend weights on the fine grid.

    Attributes:
        row_spans: Spans along the rows.
        column_spans: Spans along the columns.
        row_weights: Weights of each row span, ``[length · factor]``.
        column_weights: Weights of each column span, ``[length · factor]``.
        factor: Fine pixels along a coarse pixel's side.
    """

    row_spans: tuple[slice, ...]
    column_spans: tuple[slice, ...]
    row_weights: tuple[NDArray[np.float32], ...]
    column_weights: tuple[NDArray[np.float32], ...]
    factor: int

    def __len__(self) -> int:
        return len(self.row_spans) * len(self.column_spans)

    def __iter__(self) -> Iterator[Tile]:
        for row, rows in enumerate(self.row_spans):
            for column, columns in enumerate(self.column_spans):
                yield Tile(row, column, rows, columns)

    def fine_index(self, tile: Tile) -> tuple[slice, slice]:
        """Returns the window as an index into the fine ``[H · factor, W · factor]``."""
        return finer_window(tile.index(), self.factor)

    def weight(self, tile: Tile) -> NDArray[np.float32]:
        """Returns the window's blend weights, ``[h · factor, w · factor]``."""
        return np.outer(self.row_weights[tile.row], self.column_weights[tile.column])


def make_tiling(
    shape: tuple[int, int],
    *,
    tile_pixels: int,
    overlap_pixels: int,
    factor: int = 1,
    alignment_pixels: int = 1,
    trim_fraction: float = 0.25,
) -> Tiling:
    """Plans the windows over a raster, and their blend weights on the ``factor`` times finer grid.

    Lengths are in pixels of the raster. What they mean, and the errors, is told by ``axis_spans``
    and ``axis_weights``.
    """
    rows, columns = (
        axis_spans(length, tile_pixels, overlap_pixels, alignment_pixels) for length in shape
    )
    row_weights, column_weights = (
        axis_weights(spans, factor=factor, trim_fraction=trim_fraction) for spans in (rows, columns)
    )
    return Tiling(rows, columns, row_weights, column_weights, factor)
