"""Shifts found from the data: sign, sub-pixel truth, gaps, sets, and the real pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from keras_lstsr.errors import GridError
from keras_lstsr.grids import registration
from keras_lstsr.grids.registration import Shift, constant_shift, coregister, shifted
from keras_lstsr.grids.warp import warp_bilinear
from keras_lstsr.testing.rasters import modis_grid


def texture(shape=(90, 80), seed=0, grain=1.5):
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), grain, mode="wrap")
    return 300 + 3 * values / values.std()


def moved(image, rows, columns):
    """What a raster shows whose pixels lie (rows, columns) beyond: exact for periodic texture."""
    frequencies = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :]
    phase = np.exp(-2j * np.pi * (frequencies[0] * rows + frequencies[1] * columns))
    return np.fft.ifft2(np.fft.fft2(image) * phase).real


@settings(deadline=None, max_examples=15)
@given(rows=st.floats(-3.5, 3.5), columns=st.floats(-3.5, 3.5), seed=st.integers(0, 50))
def test_finds_a_known_shift_to_a_few_hundredths(rows, columns, seed):
    moving = texture(seed=seed)
    # What moving shows at r must show in fixed at r + rows.
    found = coregister(moving, moved(moving, rows, columns))
    assert found.rows == pytest.approx(rows, abs=0.05)
    assert found.columns == pytest.approx(columns, abs=0.05)
    assert found.quality > 0.5


def test_a_raster_that_encodes_its_position_comes_to_lie_on_the_ground():
    rng = np.random.default_rng(3)
    truth = modis_grid((60, 64)).raster(gaussian_filter(rng.normal(size=(60, 64)), 1))
    # Its transform claims two rows too far down and one and a half columns too far left.
    off = shifted(truth, Shift(2.0, -1.5, 1.0))
    assert off.rio.transform().f < truth.rio.transform().f  # down is south
    fixed = warp_bilinear(truth, off)
    found = coregister(off, fixed)
    assert (found.rows, found.columns) == (
        pytest.approx(-2, abs=0.03),
        pytest.approx(1.5, abs=0.03),
    )
    back = shifted(off, Shift(-2.0, 1.5, 1.0))
    assert back.rio.transform().almost_equals(truth.rio.transform(), 1e-6)
    np.testing.assert_allclose(back.x, truth.x, atol=1e-6)
    np.testing.assert_allclose(back.y, truth.y, atol=1e-6)
    np.testing.assert_array_equal(back.values, truth.values)


def test_shifted_moves_all_but_the_values():
    grid = modis_grid((4, 5))
    source = grid.raster(texture((4, 5)).astype(np.float32), attrs={"units": "K"})
    source.encoding = {"dtype": "uint16", "scale_factor": 0.02}
    result = shifted(source, Shift(-1.0, -1.0, 0.5))
    pixel = source.rio.transform().a
    assert result.rio.transform().c == source.rio.transform().c - pixel
    assert result.rio.transform().f == source.rio.transform().f + pixel
    np.testing.assert_allclose(result.x, source.x - pixel)
    np.testing.assert_allclose(result.y, source.y + pixel)
    assert result.encoding == {**source.encoding, "grid_mapping": "spatial_ref"}
    assert result.attrs == source.attrs
    assert source.rio.transform() == grid.transform
    with pytest.raises(GridError, match="unknown shift"):
        shifted(source, Shift(math.nan, math.nan, 0.0))


def test_gaps_calibration_and_gradients_do_not_mislead():
    moving = texture()
    fixed = 0.7 * moved(moving, -1.0, 2.0) - 40
    rows, columns = np.indices(fixed.shape)
    fixed += 0.2 * rows - 0.1 * columns
    # A ring of fill values beyond the image is what makes unmasked correlation prefer no shift.
    moving = moving.copy()
    for image, corner in ((moving, np.s_[:20, :30]), (fixed, np.s_[70:, 50:])):
        image[corner] = np.nan
    found = coregister(moving, fixed)
    assert (found.rows, found.columns) == (pytest.approx(-1, abs=0.05), pytest.approx(2, abs=0.05))


def test_correlations_are_brute_force():
    rng = np.random.default_rng(5)
    moving, fixed = rng.normal(size=(2, 14, 12))
    moving[2, 3] = fixed[5, 5] = np.nan
    surface = registration._correlations(
        registration._high_passed(moving, None), registration._high_passed(fixed, None), 3
    )
    for rows in range(-3, 4):
        for columns in range(-3, 4):
            a, b = [], []
            for r in range(14):
                for c in range(12):
                    if 0 <= r + rows < 14 and 0 <= c + columns < 12:
                        pair = moving[r, c], fixed[r + rows, c + columns]
                        if np.isfinite(pair).all():
                            a.append(pair[0])
                            b.append(pair[1])
            expected = np.corrcoef(a, b)[0, 1]
            assert surface[rows + 3, columns + 3] == pytest.approx(expected, abs=1e-12)


def test_a_negative_image_needs_either_sign():
    moving = texture()
    fixed = 600 - moved(moving, 1.0, -2.0)
    found = coregister(moving, fixed, sign="either")
    assert (found.rows, found.columns) == (pytest.approx(1, abs=0.05), pytest.approx(-2, abs=0.05))
    assert coregister(moving, fixed).quality < 0.3


def test_quality_tells_noise_border_and_nothing():
    moving = texture()
    noise = coregister(moving, texture(seed=9))
    clear = coregister(moving, moved(moving, 1, 1) + np.random.default_rng(0).normal(size=(90, 80)))
    assert noise.quality < 0.1 < 0.5 < clear.quality
    assert coregister(moving, moved(moving, 7.0, 0.0)).quality == 0.0
    for hopeless in (np.full_like(moving, 300.1), np.full_like(moving, np.nan)):
        found = coregister(moving, hopeless)
        assert math.isnan(found.rows) and math.isnan(found.columns) and found.quality == 0.0


def test_the_set_survives_wrong_shifts_and_weighs_by_quality():
    rng = np.random.default_rng(0)
    shifts = [Shift(-1 + rng.normal(0, 0.1), -1 + rng.normal(0, 0.1), 0.5) for _ in range(21)]
    shifts += [Shift(4.0, 3.0, 0.2)] * 3 + [Shift(math.nan, math.nan, 0.0), Shift(5.0, 5.0, 0.0)]
    found = constant_shift(shifts)
    assert found.count == 24
    assert (found.rows, found.columns) == (pytest.approx(-1, abs=0.1), pytest.approx(-1, abs=0.1))
    assert 0.03 < found.row_spread < 0.3
    whole = constant_shift(shifts, round_to=1.0)
    assert (whole.rows, whole.columns) == (-1.0, -1.0)
    assert whole.row_spread == found.row_spread
    # Half of the weight on either side.
    assert constant_shift([Shift(0, 0, 0.1), Shift(1, 1, 0.1), Shift(2, 2, 0.9)]).rows == 2
    assert constant_shift([Shift(0, 0, 0.4), Shift(1, 3, 0.4)]).columns == 1.5
    assert math.copysign(1, constant_shift([Shift(-0.1, 0, 1)], round_to=1.0).rows) == 1


def test_bad_input_is_refused():
    image = texture((20, 20))
    with pytest.raises(GridError, match=r"\(20, 20\) and \(20, 19\)"):
        coregister(image, image[:, :-1])
    here = modis_grid(image.shape).raster(image)
    with pytest.raises(GridError, match="one transform"):
        coregister(here, shifted(here, Shift(0.5, 0.0, 1.0)))
    for options in (
        {"max_shift_pixels": 1},
        {"upsample": 0},
        {"high_pass_sigma_pixels": 0.0},
        {"sign": "negative"},
    ):
        with pytest.raises(GridError, match=next(iter(options))):
            coregister(image, image, **options)
    with pytest.raises(GridError, match="1 shifts without quality"):
        constant_shift([Shift(0, 0, 0.0)])
    with pytest.raises(GridError, match="round_to"):
        constant_shift([Shift(0, 0, 1.0)], round_to=0.0)


@pytest.mark.real_data
def test_the_real_pairs_are_off_by_one_row_and_one_column(lstsr_data):
    """ASTER against NDVI, which is cold where it is high: from the data alone."""
    from keras_lstsr.products import open_product

    shifts = []
    for path in sorted((lstsr_data / "modis_aster").glob("*_aster_lst_232m.tif"))[::4]:
        aster = open_product(path)["lst_kelvin"]
        aster = aster.where(aster >= 270)  # the ring that resampling left
        ndvi = open_product(path.with_name(path.name[:4] + "ndvi_250m.tif"))["ndvi"]
        shifts.append(coregister(aster, warp_bilinear(ndvi, aster), sign="either"))
    found = constant_shift(shifts)
    assert found.count == 14
    # The columns scatter by 0.4 pixel from pair to pair, the rows by 0.1.
    assert found.rows == pytest.approx(-0.8, abs=0.15)
    assert found.columns == pytest.approx(-1.05, abs=0.25)
    whole = constant_shift(shifts, round_to=1.0)
    assert (whole.rows, whole.columns) == (-1.0, -1.0)
