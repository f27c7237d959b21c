"""Places and splits: stable, agreed on by subsets, and disjoint on the ground."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import MODIS_TILE_SIZE_M, modis_sinusoidal_crs
from keras_lstsr.records.cutting import CutSettings, SceneContext, place_and_split
from keras_lstsr.records.places import (
    RasterWindow,
    SplitSettings,
    hash_to_unit,
    locate,
    merge_places,
    patch_blocks,
    patch_corners,
    place_name,
    split_of,
)
from keras_lstsr.testing.rasters import UTM, modis_grid

PIXEL = MODIS_TILE_SIZE_M / 1200


def modis_window(row: int, column: int, height: int, width: int, per_tile: int = 1200):
    """A raster in tile h18v04 whose corner is at (row, column) of the tile."""
    shape = (height, width)
    return locate(modis_grid(shape, pixels_per_tile=per_tile, row=row, column=column))


def utm_window(left: float, top: float, height: int, width: int, pixel: float = 1000.0):
    return locate(Grid(UTM, Affine(pixel, 0, left, 0, -pixel, top), (height, width)))


def test_hash_is_the_same_on_every_machine_and_spread_evenly():
    digest = hashlib.sha256(b"7:somewhere").hexdigest()
    assert hash_to_unit("somewhere", 7) == int(digest[:16], 16) // 2048 / 2**53
    values = [hash_to_unit(f"place {i}", 3) for i in range(20000)]
    histogram, _ = np.histogram(values, bins=10, range=(0, 1))
    assert histogram.min() > 1850 and histogram.max() < 2150


def test_splits_have_their_shares():
    settings = SplitSettings((0.75, 0.125, 0.125), seed=5)
    counts = Counter(split_of(f"place {i}", settings) for i in range(20000))
    assert counts["train"] == pytest.approx(15000, abs=250)
    assert counts["validation"] == pytest.approx(2500, abs=200)
    nothing_for_test = SplitSettings((0.9, 0.1, 0.0))
    assert "test" not in {split_of(f"place {i}", nothing_for_test) for i in range(5000)}


@pytest.mark.parametrize(
    "settings",
    [
        {"fractions": (0.5, 0.5, 0.5)},
        {"fractions": (1.0, 0.0)},
        {"fractions": (1.5, -0.5, 0.0)},
        {"by": "tile"},
    ],
)
def test_impossible_splits_are_errors(settings):
    with pytest.raises(ConfigError, match="split"):
        SplitSettings(**settings)


def test_whole_tile_has_18_by_18_patches_within_the_tile():
    window = modis_window(0, 0, 1200, 1200)
    corners = patch_corners(window, 64, 64)
    assert corners == [(64 * i, 64 * j) for i in range(18) for j in range(18)]
    names = {place_name(window.family, b) for c in corners for b in patch_blocks(window, c, 64)}
    assert len(names) == 324
    assert "modis1200/h18v04/r003c011" in names


@settings(deadline=None, max_examples=60)
@given(
    row=st.integers(0, 300),
    column=st.integers(0, 300),
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    stride=st.sampled_from([16, 32, 48, 64, 100]),
)
def test_subsets_of_a_tile_cut_the_tiles_own_patches(row, column, height, width, stride):
    tile = modis_window(0, 0, 1200, 1200)
    subset = modis_window(row, column, height, width)
    assert subset.family == tile.family
    expected = [
        (r, c)
        for r, c in patch_corners(tile, 64, stride)
        if row <= r and r + 64 <= row + height and column <= c and c + 64 <= column + width
    ]
    found = [(r + row, c + column) for r, c in patch_corners(subset, 64, stride)]
    assert found == expected
    for r, c in found:
        assert patch_blocks(subset, (r - row, c - column), 64) == patch_blocks(tile, (r, c), 64)


def test_mosaic_of_two_tiles_cuts_the_patches_of_both():
    mosaic = modis_window(0, 0, 200, 2400)
    columns = sorted({c for _, c in patch_corners(mosaic, 64, 64)})
    assert columns == [64 * i for i in range(18)] + [1200 + 64 * i for i in range(18)]
    last = patch_corners(mosaic, 64, 64)[-1]
    assert (
        place_name(mosaic.family, patch_blocks(mosaic, last, 64)[0]) == "modis1200/h19v04/r002c017"
    )


def test_delivered_corners_with_rounding_noise_are_on_the_grid():
    # As StructMetadata.0 of h14v09 has them.
    transform = Affine(926.6254331383334, 0.0, -4447802.079066, 0.0, -926.6254331391667, 0.0)
    window = locate(Grid(modis_sinusoidal_crs(), transform, (1200, 1200)))
    assert (window.row, window.column) == (9 * 1200, 14 * 1200)


def test_off_grid_and_other_crs_are_families_of_their_own():
    off = locate(modis_grid((100, 100), column=0.3))
    assert off.family.pixels_per_tile == 0
    anchored = locate(modis_grid((100, 100)), anchor="raster")
    assert anchored.family.pixels_per_tile == 0
    assert utm_window(5e5, 5e6, 10, 10).family.name.startswith("epsg32633-1000x1000@")


@given(row=st.integers(0, 200), column=st.integers(0, 200), size=st.integers(1, 64))
def test_blocks_are_exactly_those_that_pixels_of_the_patch_lie_in(row, column, size):
    window = modis_window(0, 0, 1200, 1200)
    pixels = {
        (4, 18, r // size, c // size)
        for r in (row, row + size - 1)
        for c in (column, column + size - 1)
    }
    assert set(patch_blocks(window, (row, column), size)) == pixels


def split_patches(windows: list[RasterWindow], cut: CutSettings, date="2020-01-01"):
    """All patches of all windows with their split, and why the others have none."""
    merged = merge_places(windows, cut.patch_size, cut.stride)
    kept, reasons = [], Counter()
    for window in windows:
        context = SceneContext("", window, merged)
        for corner in patch_corners(window, cut.patch_size, cut.stride):
            _, split, reason = place_and_split(context, corner, date, cut)
            if split is None:
                reasons[reason] += 1
            else:
                kept.append((window, corner, split))
    return kept, reasons


def pixel_centres(window: RasterWindow, corner: tuple[int, int], size: int) -> np.ndarray:
    first = window.family.first.transform
    rows, columns = np.mgrid[:size, :size]
    x = first.c + (window.column + corner[1] + columns.ravel() + 0.5) * first.a
    y = first.f + (window.row + corner[0] + rows.ravel() + 0.5) * first.e
    return np.column_stack([x, y])


def assert_no_ground_in_two_splits(kept, size: int) -> None:
    """Brute force: no pixel centre of a patch lies in a patch of another split.

    Per raster and split the patches are painted, pixel by pixel; every pixel centre of the
    patches of other splits is then looked up in that painting.
    """
    painted: dict[tuple, np.ndarray] = {}
    points: dict[tuple, list] = {}
    for window, corner, split in kept:
        mask = painted.setdefault(
            (window, split), np.zeros((window.height, window.width), dtype=bool)
        )
        mask[corner[0] : corner[0] + size, corner[1] : corner[1] + size] = True
        points.setdefault((window, split), []).append(pixel_centres(window, corner, size))
    for (window, split), lists in points.items():
        x, y = np.concatenate(lists).T
        for (other, other_split), mask in painted.items():
            if split == other_split:
                continue
            there_x, there_y = Transformer.from_crs(
                window.family.first.crs, other.family.first.crs, always_xy=True
            ).transform(x, y)
            first = other.family.first.transform
            column = np.floor((there_x - first.c) / first.a) - other.column
            row = np.floor((there_y - first.f) / first.e) - other.row
            inside = (row >= 0) & (row < other.height) & (column >= 0) & (column < other.width)
            assert not mask[row[inside].astype(int), column[inside].astype(int)].any()


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    stride=st.sampled_from([3, 4, 8]),
    row=st.integers(0, 20),
    column=st.integers(0, 20),
)
def test_overlapping_subsets_of_one_tile_share_no_ground_across_splits(seed, stride, row, column):
    cut = CutSettings(patch_size=8, stride=stride, split=SplitSettings((0.4, 0.3, 0.3), seed=seed))
    windows = [modis_window(0, 0, 32, 32), modis_window(row, column, 30, 30)]
    kept, reasons = split_patches(windows, cut)
    assert kept
    assert_no_ground_in_two_splits(kept, 8)
    # On whole blocks nothing is lost.
    assert (stride == 8) == (not reasons)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    dx=st.floats(-20000, 20000),
    dy=st.floats(-20000, 20000),
    pixel=st.sampled_from([250.0, 700.0, 1000.0]),
)
def test_rasters_on_different_grids_share_no_ground_across_splits(seed, dx, dy, pixel):
    cut = CutSettings(patch_size=8, stride=8, split=SplitSettings((0.4, 0.3, 0.3), seed=seed))
    to_utm = Transformer.from_crs(modis_sinusoidal_crs(), UTM, always_xy=True)
    left, top = to_utm.transform(1000 * PIXEL, 5 * MODIS_TILE_SIZE_M - 400 * PIXEL)
    windows = [
        modis_window(400, 1000, 24, 24),
        utm_window(left + dx, top + dy, 24, 24, pixel),
        utm_window(left - dy, top + dx, 16, 24),
    ]
    kept, _ = split_patches(windows, cut)
    assert len(kept) >= 9
    assert_no_ground_in_two_splits(kept, 8)


def test_without_merging_different_grids_would_leak():
    # The brute force above can fail: it does so as soon as nothing is merged.
    cut = CutSettings(patch_size=8, stride=8, split=SplitSettings((0.4, 0.3, 0.3)))
    windows = [utm_window(5e5, 5e6, 32, 32), utm_window(5e5 + 4000, 5e6, 32, 32)]
    leaky = []
    for window in windows:
        context = SceneContext("", window)
        for corner in patch_corners(window, 8, 8):
            _, split, _ = place_and_split(context, corner, "", cut)
            leaky.append((window, corner, split))
    with pytest.raises(AssertionError):
        assert_no_ground_in_two_splits(leaky, 8)


def test_touching_blocks_and_nested_grids():
    # Side by side, on different anchors: nothing in common.
    beside = [utm_window(5e5, 5e6, 16, 16), utm_window(5e5 + 16000, 5e6, 16, 16)]
    assert merge_places(beside, 8, 8) == {}
    # 250 m blocks lie nested in 1 km blocks: sixteen to one.
    nested = [modis_window(0, 0, 16, 16), modis_window(0, 0, 64, 64, per_tile=4800)]
    merged = merge_places(nested, 8, 8)
    assert len(merged) == 4 + 64
    assert len(set(merged.values())) == 4
    assert Counter(merged.values()).most_common(1)[0][1] == 17


def test_plan_does_not_depend_on_the_order_of_rasters():
    windows = [utm_window(5e5 + 3000 * i, 5e6 - 2000 * i, 16, 16) for i in range(5)]
    assert merge_places(windows, 8, 8) == merge_places(windows[::-1], 8, 8)


def test_place_and_date_must_agree():
    window = modis_window(0, 0, 256, 256)
    for by in ("place", "date", "place_and_date"):
        cut = CutSettings(
            patch_size=8, stride=8, split=SplitSettings((0.5, 0.25, 0.25), by=by, seed=1)
        )
        kept, reasons = split_patches([window], cut, "2020-03-04")
        splits = {split for _, _, split in kept}
        if by == "place":
            assert splits == {"train", "validation", "test"} and not reasons
        else:
            assert splits == {split_of("2020-03-04", cut.split)}
        if by == "place_and_date":
            assert reasons.keys() == {"split_mismatch"}
            assert len(kept) + reasons["split_mismatch"] == 32 * 32
