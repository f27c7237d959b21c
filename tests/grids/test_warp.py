"""Warping between CRSs: where values land, what gaps do, and that nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from keras_lstsr.errors import GridError
from keras_lstsr.grids import warp
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import modis_sinusoidal_crs
from keras_lstsr.grids.warp import bilinear_samples, warp_area, warp_bilinear, warp_spline
from keras_lstsr.testing.rasters import coordinate_raster, coordinate_value, modis_grid

SINUSOIDAL = modis_sinusoidal_crs()
UTM = CRS(32631)


def ground(like, columns, rows):
    """Sinusoidal coordinates of positions on a grid."""
    x, y = like.transform @ (columns, rows)
    return Transformer.from_crs(like.crs, SINUSOIDAL, always_xy=True).transform(x, y)


def grid_of(height, width, pixels_per_tile=4800):
    """Somewhere in France."""
    return modis_grid((height, width), pixels_per_tile=pixels_per_tile, row=1984, column=1196)


def raster_of(values, pixels_per_tile=4800):
    return grid_of(*values.shape, pixels_per_tile).raster(values)


def target_over(source, pixel_m, shape, margin_m=2000.0):
    """A UTM grid that begins so many metres inside the source's bounds."""
    to_utm = Transformer.from_crs(SINUSOIDAL, UTM, always_xy=True)
    west, _, _, north = to_utm.transform_bounds(*source.rio.bounds())
    return Grid(UTM, Affine(pixel_m, 0, west + margin_m, 0, -pixel_m, north - margin_m), shape)


def test_bilinear_puts_values_where_they_lie_across_crs():
    grid = grid_of(60, 70)
    source = coordinate_raster(grid)
    like = target_over(source, 232.0, (30, 40), 3000.0)
    result = warp_bilinear(source, like)
    rows, columns = np.mgrid[:30, :40] + 0.5
    np.testing.assert_allclose(
        result.values, coordinate_value(grid, *ground(like, columns, rows)), atol=1e-6
    )
    assert Grid.of(result) == like
    assert result.attrs["units"] == "K" and result.name == "lst_kelvin"
    assert result.dtype == source.dtype


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    row=st.one_of(st.floats(-1, 7), st.integers(-2, 14).map(lambda n: n / 2)),
    column=st.one_of(st.floats(-1, 7), st.integers(-2, 14).map(lambda n: n / 2)),
)
def test_bilinear_is_brute_force_with_gaps(seed, shape, row, column):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(shape) < 0.2, np.nan, rng.uniform(280, 310, shape))
    sample = float(bilinear_samples(values, np.array([row]), np.array([column]))[0])
    height, width = shape
    if not (-1e-5 <= row <= height + 1e-5 and -1e-5 <= column <= width + 1e-5):
        assert np.isnan(sample)
        return
    r, c = np.clip(row - 0.5, 0, height - 1), np.clip(column - 0.5, 0, width - 1)
    r = round(r) if abs(r - round(r)) < 1e-5 else r
    c = round(c) if abs(c - round(c)) < 1e-5 else c
    expected = 0.0
    for i in range(height):
        for j in range(width):
            weight = max(0.0, 1 - abs(r - i)) * max(0.0, 1 - abs(c - j))
            if weight > 0:
                expected += weight * values[i, j]
    assert sample == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_bilinear_on_its_own_grid_is_a_copy_and_gaps_do_not_spread():
    grid = grid_of(8, 9)
    source = coordinate_raster(grid)
    source.values[3, 4] = np.nan
    shifted_by_noise = grid.shifted(0, 1e-7)
    np.testing.assert_array_equal(warp_bilinear(source, shifted_by_noise).values, source.values)


def test_half_a_pixel_beyond_the_centres_the_outermost_value_holds_and_then_nothing():
    source = raster_of(np.array([[1.0, 2.0]]))
    quarters = source.rio.transform() @ Affine.translation(-0.25, 0) @ Affine.scale(0.25, 1)
    like = Grid(SINUSOIDAL, quarters, (1, 10))
    expected = [np.nan, 1, 1, 1.125, 1.375, 1.625, 1.875, 2, 2, np.nan]
    np.testing.assert_allclose(warp_bilinear(source, like).values[0], expected, atol=1e-12)


def test_off_the_map_is_nan():
    source = coordinate_raster(grid_of(4, 4))
    # A UTM position half the Earth away, and one that PROJ cannot place at all.
    for x in (9e6, 1e12):
        like = Grid(UTM, Affine(1000, 0, x, 0, -1000, 5e6), (2, 2))
        assert np.isnan(warp_bilinear(source, like).values).all()
        assert np.isnan(warp_area(source, like).values).all()


def brute_force_area(source, like):
    """Exact polygons on the source's grid, one target pixel and one source pixel at a time."""
    rows, columns = np.mgrid[: like.height + 1, : like.width + 1].astype(float)
    inverse = ~source.rio.transform()
    column, row = inverse @ ground(like, columns, rows)
    result = np.full(like.shape, np.nan)
    share = np.zeros(like.shape)
    cells = [
        (i, j, shapely.box(j, i, j + 1, i + 1))
        for i in range(source.sizes["y"])
        for j in range(source.sizes["x"])
    ]
    for i, j in np.ndindex(*like.shape):
        corners = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)]
        pixel = shapely.Polygon([(column[k], row[k]) for k in corners])
        total = weight = 0.0
        for r, c, cell in cells:
            area = pixel.intersection(cell).area
            if area and np.isfinite(source.values[r, c]):
                total += area * source.values[r, c]
                weight += area
        share[i, j] = weight / pixel.area
        if weight:
            result[i, j] = total / weight
    return result, share


@pytest.mark.parametrize("pixel_m", [400.0, 150.0, 1700.0])
def test_area_is_exact_polygons_with_gaps_and_borders(pixel_m, monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.uniform(280, 310, (9, 11))
    values[rng.random((9, 11)) < 0.15] = np.nan
    source = raster_of(values, 2400)
    like = target_over(source, pixel_m, (5, 6), -300.0)
    expected, share = brute_force_area(source, like)
    monkeypatch.setattr(warp, "_POSITIONS_AT_A_TIME", 60)  # several strips
    for fraction in (0.0, 0.5, 1.0):
        result = warp_area(source, like, min_valid_fraction=fraction).values
        enough = (share >= fraction - 1e-4) & (share > 1e-4)
        np.testing.assert_allclose(
            result, np.where(enough, expected, np.nan), atol=1e-7, equal_nan=True
        )
        assert fraction == 1.0 or np.isfinite(result).any()


def test_area_keeps_the_sum_over_a_large_area():
    rng = np.random.default_rng(1)
    source = raster_of(rng.uniform(280, 310, (80, 80)))
    # The target covers all of the source, so that what it holds must be all that there was.
    like = target_over(source, 1000.0, (30, 30), -4000.0)
    result = warp_area(source, like, min_valid_fraction=0.0).values
    ones = source.copy(data=np.ones(source.shape))
    _, share = brute_force_share(ones, like)
    assert np.nansum(result * share) == pytest.approx(source.values.sum(), rel=1e-9)


def brute_force_share(source, like):
    """Source pixels' worth of ground in each target pixel, from polygons."""
    rows, columns = np.mgrid[: like.height + 1, : like.width + 1].astype(float)
    column, row = ~source.rio.transform() @ ground(like, columns, rows)
    everything = shapely.box(0, 0, source.sizes["x"], source.sizes["y"])
    corners = np.stack([column, row], axis=-1)
    rings = np.stack(
        [corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]], axis=2
    )
    pixels = shapely.polygons(rings)
    return pixels, shapely.area(shapely.intersection(pixels, everything))


def test_area_of_nested_blocks_is_their_mean_and_a_gap_takes_its_own():
    rng = np.random.default_rng(2)
    values = rng.uniform(280, 310, (12, 8)).astype(np.float32)
    values[5, 2] = np.nan
    fine = raster_of(values)
    result = warp_area(fine, Grid.of(fine).coarser(4))
    expected = values.reshape(3, 4, 2, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(result.values, expected, rtol=1e-6)
    assert result.dtype == np.float32 and np.isnan(result.values).sum() == 1
    # And back: a coarse pixel's value fills its fine pixels.
    back = warp_area(result, fine).values
    np.testing.assert_allclose(
        back, np.repeat(np.repeat(expected, 4, axis=0), 4, axis=1), rtol=1e-6
    )


def test_a_constant_stays_itself():
    source = raster_of(np.full((40, 40), 300.1))
    like = target_over(source, 700.0, (6, 6), 2500.0)
    np.testing.assert_array_equal(warp_area(source, like).values, 300.1)


def test_errors_name_the_raster():
    source = coordinate_raster(grid_of(4, 4))
    bare = source.drop_vars("spatial_ref")
    with pytest.raises(GridError, match="lst_kelvin: the raster has no CRS"):
        warp_bilinear(source, bare)
    rotated = source.rio.write_transform(source.rio.transform() @ Affine.rotation(3))
    rotated = rotated.drop_vars(["x", "y"])
    with pytest.raises(GridError, match="lst_kelvin: the raster is rotated"):
        warp_area(rotated, source)
    with pytest.raises(GridError, match="min_valid_fraction"):
        warp_area(source, source, min_valid_fraction=1.2)


def test_spline_puts_values_where_they_lie_across_crs():
    grid = grid_of(60, 70)
    source = coordinate_raster(grid)
    like = target_over(source, 232.0, (30, 40), 3000.0)
    result = warp_spline(source, like)
    rows, columns = np.mgrid[:30, :40] + 0.5
    np.testing.assert_allclose(
        result.values, coordinate_value(grid, *ground(like, columns, rows)), atol=0.05
    )
    assert Grid.of(result) == like and result.dtype == source.dtype


def test_spline_keeps_waves_that_bilinear_smooths():
    rows, columns = np.mgrid[:60, :60] + 0.5

    def wave(row, column):
        return 300 + 5 * np.sin(row * 2 * np.pi / 5) * np.cos(column * 2 * np.pi / 6)

    source = raster_of(wave(rows, columns))
    like = Grid.of(source).window(slice(0, 40), slice(0, 40)).shifted(9.7, 10.4)
    true = wave(rows[:40, :40] + 9.7, columns[:40, :40] + 10.4)
    errors = [
        np.std(np.asarray(how(source, like).values) - true) for how in (warp_spline, warp_bilinear)
    ]
    assert errors[0] < 0.1 < 0.5 < errors[1]


def test_spline_has_the_gaps_of_bilinear():
    source = coordinate_raster(grid_of(60, 70))
    source.values[20:24, 30:33] = np.nan
    like = target_over(source, 232.0, (60, 70), -1000.0)
    gaps = np.isnan(warp_spline(source, like).values)
    np.testing.assert_array_equal(gaps, np.isnan(warp_bilinear(source, like).values))
    assert 0 < gaps.mean() < 1
    assert np.isnan(warp_spline(source * np.nan, like).values).all()
