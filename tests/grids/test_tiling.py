from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lstsr.errors import GridError
from keras_lstsr.grids.tiling import axis_spans, axis_weights, make_tiling


@st.composite
def axes(draw):
    alignment = draw(st.sampled_from([1, 2, 4, 16]))
    tile = alignment * draw(st.integers(1, 12))
    overlap = alignment * draw(st.integers(0, tile // alignment // 2))
    return draw(st.integers(1, 300)), tile, overlap, alignment


@given(axes())
def test_spans_cover_the_axis_aligned_and_with_the_overlap_asked_for(axis):
    length, tile, overlap, alignment = axis
    spans = axis_spans(*axis)
    covered = np.zeros(length, int)
    for span in spans:
        assert 0 <= span.start < span.stop <= length
        assert span.start % alignment == 0
        covered[span] += 1
    assert covered.min() >= 1
    assert spans[0].start == 0
    assert spans[-1].stop == length
    if len(spans) > 1:
        assert {span.stop - span.start for span in spans[:-1]} == {tile}
        assert tile <= spans[-1].stop - spans[-1].start < tile + alignment
        shared = [left.stop - right.start for left, right in itertools.pairwise(spans)]
        assert min(shared) >= overlap
    else:
        assert length < tile + alignment


@given(axes(), st.sampled_from([1, 2, 4]), st.sampled_from([0.0, 0.25, 0.4]))
def test_axis_weights_are_a_partition_of_unity(axis, factor, trim):
    spans = axis_spans(*axis)
    total = np.zeros(axis[0] * factor)
    for span, weight in zip(
        spans, axis_weights(spans, factor=factor, trim_fraction=trim), strict=True
    ):
        assert weight.shape == ((span.stop - span.start) * factor,)
        assert weight.min() >= 0
        assert weight.max() <= 1
        total[span.start * factor : span.stop * factor] += weight
    np.testing.assert_allclose(total, 1.0, atol=3e-7)


@given(st.integers(1, 150), st.integers(1, 150))
def test_tile_weights_are_a_partition_of_unity_in_two_dimensions(height, width):
    tiling = make_tiling(
        (height, width), tile_pixels=32, overlap_pixels=8, factor=4, alignment_pixels=4
    )
    total = np.zeros((4 * height, 4 * width))
    tiles = list(tiling)
    assert len(tiles) == len(tiling)
    for tile in tiles:
        total[tiling.fine_index(tile)] += tiling.weight(tile)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


def test_two_tiles_by_hand():
    spans = axis_spans(12, 8, 4, 4)
    assert spans == (slice(0, 8), slice(4, 12))
    first, second = axis_weights(spans, trim_fraction=0.25)
    # Overlap 4…8, its outer quarters unused: sin² over 5…7, pixel centres at 5.5 and 6.5.
    ramp = np.sin(np.pi / 8) ** 2
    np.testing.assert_allclose(second[:4], [0, ramp, 1 - ramp, 1], atol=1e-7)
    np.testing.assert_allclose(first[4:], [1, 1 - ramp, ramp, 0], atol=1e-7)
    assert (first[:4] == 1).all()
    assert (second[4:] == 1).all()


def test_no_overlap_means_each_pixel_has_one_owner():
    weights = axis_weights(axis_spans(16, 8, 0, 1))
    assert all((weight == 1).all() for weight in weights)


def test_raster_smaller_than_a_tile_is_one_window():
    tiles = list(make_tiling((5, 7), tile_pixels=64, overlap_pixels=16, factor=4))
    assert [tile.shape for tile in tiles] == [(5, 7)]


def test_last_span_reaches_the_end_without_losing_its_phase():
    spans = axis_spans(487, 128, 32, 16)
    assert spans[-1] == slice(352, 487)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 8, 0, 1), "length_pixels"),
        ((10, 0, 0, 1), "tile_pixels"),
        ((10, 7, 0, 2), "multiple of 2"),
        ((10, 8, 5, 1), "overlap_pixels"),
        ((10, 8, -1, 1), "overlap_pixels"),
        ((10, 8, 3, 2), "multiple of 2"),
        ((10, 8, 0, 0), "alignment"),
    ],
)
def test_unusable_arguments_are_refused(arguments, named):
    with pytest.raises(GridError, match=named):
        axis_spans(*arguments)


@pytest.mark.parametrize("trim", [-0.1, 0.5])
def test_unusable_trim_fraction_is_refused(trim):
    with pytest.raises(GridError, match="trim_fraction"):
        axis_weights(axis_spans(12, 8, 4, 4), trim_fraction=trim)
