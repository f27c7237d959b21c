"""Which rasters share ground: against brute force, across CRSs."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from keras_lstsr.errors import GridError
from keras_lstsr.grids import ground
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.ground import covered, share_ground

UTM = CRS(32631)


def grid(west: float, north: float, height: int, width: int, crs: object = UTM) -> Grid:
    return Grid(crs, Affine(100, 0, west, 0, -100, north), (height, width))


boxes = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 8), st.integers(1, 8)),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(boxes)
def test_groups_hang_together_by_shared_pixels(given_boxes):
    grids = [
        grid(5e5 + 100 * column, 5e6 - 100 * row, height, width)
        for row, column, height, width in given_boxes
    ]
    pixels = [
        {(r, c) for r in range(row, row + height) for c in range(column, column + width)}
        for row, column, height, width in given_boxes
    ]
    groups = list(range(len(grids)))
    for _ in grids:
        for i, ours in enumerate(pixels):
            for j, theirs in enumerate(pixels):
                if ours & theirs:
                    groups[i] = groups[j] = min(groups[i], groups[j])
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    assert share_ground(grids) == [order[group] for group in groups]


def test_grids_of_other_crs_share_the_ground_they_show():
    first = grid(5e5, 5e6, 50, 50)
    longitude, latitude = first.longitude_latitude
    degrees = Grid(CRS(4326), Affine(0.001, 0, longitude, 0, -0.001, latitude), (9, 9))
    x, y = Transformer.from_crs(UTM, 32632, always_xy=True).transform(5.1e5, 4.99e6)
    other_zone = grid(x, y, 20, 20, CRS(32632))
    assert share_ground([first, other_zone, degrees]) == [0, 1, 0]


def test_beyond_the_globe_there_is_no_ground():
    with pytest.raises(GridError, match="beyond the globe"):
        share_ground([grid(9e9, 9e9, 5, 5)])


@settings(deadline=None, max_examples=60)
@given(st.integers(-12, 12), st.integers(-12, 12), st.sampled_from([0.0, 0.5]))
def test_covered_pixels_are_those_that_overlap(row, column, part):
    ours = grid(5e5, 5e6, 10, 10)
    theirs = grid(5e5 + 100 * (column + part), 5e6 - 100 * (row + part), 6, 7)
    marked = covered(ours, [theirs])
    for r, c in np.ndindex(10, 10):
        overlap = min(r + 1, row + part + 6) - max(r, row + part)
        beside = min(c + 1, column + part + 7) - max(c, column + part)
        assert marked[r, c] == (overlap > 0 and beside > 0)
    assert not covered(ours, []).any()


def test_covered_across_crs_marks_all_that_touch():
    ours = grid(5e5, 5e6, 40, 40)
    to_degrees = Transformer.from_crs(UTM, 4326, always_xy=True)
    longitude, latitude = to_degrees.transform(5e5 + 1000, 5e6 - 1000)
    theirs = Grid(CRS(4326), Affine(0.001, 0, longitude, 0, -0.001, latitude), (10, 10))
    marked = covered(ours, [theirs])
    x, y = np.meshgrid(5e5 + 100 * (np.arange(40) + 0.5), 5e6 - 100 * (np.arange(40) + 0.5))
    x, y = to_degrees.transform(x, y)
    west, south, east, north = theirs.bounds
    inside = (x > west) & (x < east) & (y > south) & (y < north)
    assert marked[inside].all()
    assert inside.sum() < marked.sum() < inside.sum() + 80
    assert not marked[:9].any()


@given(row=st.floats(-30, 30), column=st.floats(-30, 30), south=st.booleans())
@settings(deadline=None, max_examples=60)
def test_what_is_left_out_at_a_glance_touches_nothing(row, column, south):
    """Grids of two CRSs, near and beside each other: the glance changes nothing."""
    ours = Grid(CRS.from_epsg(32633), Affine(250, 0, 4e5, 0, -250, 5e6), (12, 12))
    x, y = Transformer.from_crs(ours.crs, "EPSG:3035", always_xy=True).transform(4e5, 5e6)
    size = 900.0 if south else 70.0
    corner = Affine(size, 0, x + 250 * column, 0, -size, y - 250 * row)
    theirs = Grid(CRS.from_epsg(3035), corner, (9, 15))
    np.testing.assert_array_equal(covered(ours, [theirs]), ground._covered_by(ours, theirs))
