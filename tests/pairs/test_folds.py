"""No pair of a fold shows ground that the fold's model has learnt from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS, Transformer

from keras_lstsr.errors import ConfigError
from keras_lstsr.pairs.files import find_pairs, load_pairs
from keras_lstsr.pairs.folds import Footprint, assign_folds, covered_ground
from keras_lstsr.pairs.training_pairs import PairSet
from tests.pairs.made_pairs import raster

UTM = CRS.from_epsg(32633)


def footprint(row: float, column: float, *, size: int = 8, crs: CRS = UTM) -> Footprint:
    """A square raster with pixels of 250 m, its corner so many pixels off (400 km, 5000 km)."""
    transform = Affine(250, 0, 4e5 + 250 * column, 0, -250, 5e6 - 250 * row)
    return Footprint(crs, transform, size, size)


def test_a_track_is_cut_across_and_groups_stay_whole():
    rng = np.random.default_rng(0)
    rows = rng.permutation(12)
    track = [footprint(6 * row, 2 * (row % 2)) for row in rows]
    others = [footprint(0, 500 + 100 * number) for number in range(6)]
    groups = ["track"] * 12 + ["b", "b", "c", "d", "d", "d"]
    folds = assign_folds(groups, track + others, 3)
    # From north to south, four to a fold.
    assert [folds[int(np.flatnonzero(rows == place)[0])] for place in range(12)] == [
        *[0] * 4,
        *[1] * 4,
        *[2] * 4,
    ]
    assert len({folds[k] for k in (12, 13)}) == len({folds[k] for k in (15, 16, 17)}) == 1
    assert Counter(folds) == {0: 7, 1: 6, 2: 5}
    assert folds == assign_folds(groups, track + others, 3)


def test_an_east_west_track_is_cut_from_west_to_east():
    folds = assign_folds(["a"] * 4, [footprint(0, 6 * column) for column in (3, 1, 0, 2)], 2)
    assert folds == [1, 0, 0, 1]


@pytest.mark.parametrize(("groups", "folds"), [(["a"], 2), (["a", "b"], 1), (["a", "b"], 3)])
def test_impossible_folds(groups, folds):
    with pytest.raises(ConfigError, match="folds"):
        assign_folds(groups, [footprint(0, 20 * k) for k in range(len(groups))], folds)


def test_fewer_places_than_folds():
    groups = ["a", "a", "b", "b"]
    with pytest.raises(ConfigError, match="fewer places"):
        assign_folds(groups, [footprint(0, 20 * k) for k in range(4)], 3)


def test_covered_ground_on_one_lattice_is_exact():
    marked = covered_ground(footprint(0, 0), [footprint(5, 3), footprint(-7, -6)])
    expected = np.zeros((8, 8), bool)
    expected[5:, 3:] = expected[:1, :2] = True
    np.testing.assert_array_equal(marked, expected)
    # A raster that only touches covers nothing; one that begins inside a pixel covers it.
    assert not covered_ground(footprint(0, 0), [footprint(8, 0)]).any()
    beside = covered_ground(footprint(0, 0), [footprint(7.5, 0.5)])
    assert beside[7].all() and not beside[:7].any()


def test_covered_ground_across_crss_holds_every_point_that_is_covered():
    ours = footprint(0, 0, size=20)
    sinusoidal = CRS.from_proj4("+proj=sinu +R=6371007.181 +units=m")
    x, y = Transformer.from_crs(UTM, sinusoidal, always_xy=True).transform(4e5, 5e6)
    theirs = Footprint(sinusoidal, Affine(231.7, 0, x + 1500, 0, -231.7, y - 2000), 12, 15)
    marked = covered_ground(ours, [theirs])
    assert 0.1 < marked.mean() < 0.9
    # Brute force: 9 × 9 points in each pixel.
    points = (np.arange(20 * 9) + 0.5) / 9
    column, row = np.meshgrid(points, points)
    x, y = Transformer.from_crs(UTM, sinusoidal, always_xy=True).transform(
        *(ours.transform @ (column, row))
    )
    column, row = ~theirs.transform @ (np.asarray(x), np.asarray(y))
    hit = (row > 0) & (row < 12) & (column > 0) & (column < 15)
    touched = hit.reshape(20, 9, 20, 9).any(axis=(1, 3))
    assert not (touched & ~marked).any()
    # Along the borders a box is larger than the pixel that it stands for, by a few.
    assert (marked & ~touched).sum() < 20


def no_point_of_training_lies_in_a_test_pair(pairs: PairSet, folds: int) -> int:
    """Looks at the centre of each training pixel with truth, by degrees; counts hidden ones."""
    assigned = assign_folds(pairs.groups, [pairs.footprints[n] for n in pairs.names], folds)
    hidden = 0
    for fold in range(folds):
        tested = [n for n, own in zip(pairs.names, assigned, strict=True) if own == fold]
        others = [n for n in pairs.names if n not in tested]
        whole = pairs.selected(others, others)
        for pair, before in zip(pairs.selected(others, others, tested), whole, strict=True):
            rows, columns = np.nonzero(np.isfinite(pair.truth_kelvin))
            hidden += int(np.isfinite(before.truth_kelvin).sum()) - len(rows)
            x, y = pair.footprint.transform @ (columns + 0.5, rows + 0.5)
            for name in tested:
                other = pairs.footprints[name]
                there = Transformer.from_crs(pair.footprint.crs, other.crs, always_xy=True)
                column, row = ~other.transform @ there.transform(x, y)
                inside = (column > 0) & (column < other.width) & (row > 0) & (row < other.height)
                assert not inside.any(), (pair.name, name)
    return hidden


def test_made_pairs_do_not_leak(make_track):
    assert no_point_of_training_lies_in_a_test_pair(PairSet(make_track(5), 4), 2) > 100


@pytest.mark.real_data
@pytest.mark.slow
def test_real_pairs_do_not_leak(lstsr_data):
    pairs = PairSet(find_pairs(lstsr_data / "modis_aster"), 4)
    assert no_point_of_training_lies_in_a_test_pair(pairs, 4) > 10_000


@pytest.mark.real_data
def test_real_pairs_fall_into_even_folds(lstsr_data):
    pairs = load_pairs(lstsr_data / "modis_aster")
    groups = [pair.group for pair in pairs]
    folds = assign_folds(groups, [Footprint.of(pair.lst) for pair in pairs])
    assert sorted(Counter(folds).values()) == [13, 13, 14, 14]
    largest = Counter(groups).most_common(1)[0][0]
    for group in set(groups) - {largest}:
        assert len({f for f, own in zip(folds, groups, strict=True) if own == group}) == 1


def test_footprint_of_a_raster():
    found = Footprint.of(raster(np.zeros((4, 6)), 250.0, row=2, name="ndvi"))
    assert (found.height, found.width, found.transform.f) == (4, 6, 5_000_000 - 500)
    longitude, latitude = found.longitude_latitude
    assert (round(longitude, 1), round(latitude, 1)) == (13.7, 45.1)
