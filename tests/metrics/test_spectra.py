from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import j0

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.metrics.spectra import (
    fourier_ring_correlation,
    radial_power_spectrum,
)

PIXEL_M = 250.0


def wave(
    wavelength_m: float, angle_degrees: float = 0.0, shape: tuple[int, int] = (96, 120)
) -> np.ndarray:
    """A plane wave of 1 K around 300 K."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] * PIXEL_M
    angle = np.deg2rad(angle_degrees)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    return 300 + np.sin(2 * np.pi * along / wavelength_m + 0.4)


def noise(seed: int = 0, shape: tuple[int, int] = (96, 120), deviation: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(300, deviation, shape)


def holed(image: np.ndarray) -> np.ndarray:
    gaps = image.copy()
    gaps[10:30, 40:80] = np.nan
    gaps[70, 5] = np.nan
    return gaps


class TestPowerSpectrum:
    @pytest.mark.parametrize("angle_degrees", [0, 30, 90, 135])
    @pytest.mark.parametrize("wavelength_m", [750.0, 1000.0, 3000.0])
    @pytest.mark.parametrize("gaps", [False, True])
    def test_a_wave_has_its_power_at_its_wavelength(self, wavelength_m, angle_degrees, gaps):
        image = wave(wavelength_m, angle_degrees)
        frequency, power = radial_power_spectrum(holed(image) if gaps else image, PIXEL_M)
        width = frequency[1] - frequency[0]
        assert frequency[power.argmax()] == pytest.approx(1000 / wavelength_m, abs=width)
        far = np.abs(frequency - 1000 / wavelength_m) > 5 * width
        assert power[far].max() < power.max() * (1e-2 if gaps else 1e-4)

    def test_frequencies_reach_nyquist_in_cycles_per_km(self):
        frequency, power = radial_power_spectrum(noise(), PIXEL_M)
        assert frequency.shape == power.shape == (48,)
        assert frequency[-1] == pytest.approx(2.0)
        assert frequency[0] == pytest.approx(2.0 / 48)

    @pytest.mark.parametrize("gaps", [False, True])
    def test_white_noise_has_its_variance_at_each_frequency(self, gaps):
        spectra = []
        for seed in range(30):
            image = noise(seed)
            spectra.append(radial_power_spectrum(holed(image) if gaps else image, PIXEL_M)[1])
        # The mean and window take a little of the first rings.
        assert np.mean(spectra, axis=0)[2:] == pytest.approx(4.0, rel=0.12)
        assert np.mean(np.array(spectra)[:, 2:]) == pytest.approx(4.0, rel=0.02)

    @pytest.mark.parametrize("shape", [(16, 16), (17, 24), (24, 17), (19, 21)])
    def test_of_whole_plane_by_brute_force(self, shape):
        image = noise(3, shape)
        height, width = shape
        window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width)))
        centred = (image - np.average(image, weights=window)) * window
        modes = np.abs(np.fft.fft2(centred)) ** 2 / np.sum(window**2)
        rings = min(shape) // 2
        powers: dict[int, list[float]] = {}
        for row, fy in enumerate(np.fft.fftfreq(height)):
            for column, fx in enumerate(np.fft.fftfreq(width)):
                ring = round(np.hypot(fy, fx) * 2 * rings)
                powers.setdefault(ring, []).append(modes[row, column])
        _, power = radial_power_spectrum(image, PIXEL_M)
        assert power == pytest.approx([np.mean(powers[k]) for k in range(1, rings + 1)], rel=1e-9)

    def test_scales_with_the_square_and_not_with_the_mean(self):
        image = noise(1)
        _, power = radial_power_spectrum(image, PIXEL_M)
        _, scaled = radial_power_spectrum(3 * (image - 300) + 250, PIXEL_M)
        assert scaled == pytest.approx(9 * power)

    def test_blur_takes_power_at_short_wavelengths(self):
        image = noise(2)
        frequency, power = radial_power_spectrum(image, PIXEL_M)
        _, blurred = radial_power_spectrum(ndimage.gaussian_filter(image, 2, mode="wrap"), PIXEL_M)
        # Transfer function of a Gaussian of σ = 500 m.
        expected = np.exp(-((2 * np.pi * frequency * 0.5) ** 2))
        compared = expected > 0.05
        assert (blurred / power)[compared] == pytest.approx(expected[compared], rel=0.35)

    def test_images_of_all_sizes_share_frequencies_for_equal_rings(self):
        frequency, power = radial_power_spectrum(noise(0, (40, 64)), PIXEL_M, rings=20)
        other, finer = radial_power_spectrum(noise(0, (97, 51)), PIXEL_M, rings=20)
        assert np.array_equal(frequency, other)
        assert np.isfinite(power).all()
        assert np.isfinite(finer).all()

    def test_a_ring_without_a_mode_is_nan(self):
        _, power = radial_power_spectrum(noise(0, (8, 8)), PIXEL_M, rings=40)
        assert np.isnan(power[0])
        assert np.isfinite(power[9])  # one cycle in eight pixels

    def test_of_nothing_is_nan_and_of_a_constant_zero(self):
        assert np.isnan(radial_power_spectrum(np.full((16, 16), np.nan), PIXEL_M)[1]).all()
        constant = holed(np.full((96, 120), 300.1))
        assert (radial_power_spectrum(constant, PIXEL_M)[1] == 0).all()

    @pytest.mark.parametrize("shape", [(16,), (7, 30), (2, 16, 16)])
    def test_what_is_no_image_is_refused(self, shape):
        with pytest.raises(GridError, match="no spectrum"):
            radial_power_spectrum(np.zeros(shape), PIXEL_M)

    def test_bad_settings_are_refused(self):
        with pytest.raises(ConfigError, match="pixel size"):
            radial_power_spectrum(noise(), 0.0)
        with pytest.raises(ConfigError, match="rings"):
            radial_power_spectrum(noise(), PIXEL_M, rings=0)


class TestRingCorrelation:
    @pytest.mark.parametrize("gaps", [False, True])
    def test_of_an_image_with_itself_is_one(self, gaps):
        image = holed(noise()) if gaps else noise()
        _, correlation = fourier_ring_correlation(image, 2 * (image - 300) + 280, PIXEL_M)
        assert correlation == pytest.approx(1.0)
        _, opposite = fourier_ring_correlation(image, 600 - image, PIXEL_M)
        assert opposite == pytest.approx(-1.0)

    def test_of_independent_noise_is_about_zero(self):
        _, correlation = fourier_ring_correlation(noise(1), noise(2), PIXEL_M)
        assert np.abs(correlation[10:]).max() < 0.35
        assert abs(correlation[10:].mean()) < 0.05

    def test_of_noise_on_top_has_a_closed_form(self):
        values = []
        for seed in range(30):
            truth = noise(seed)
            prediction = truth + noise(1000 + seed, deviation=2.0 * np.sqrt(3)) - 300
            values.append(fourier_ring_correlation(truth, prediction, PIXEL_M)[1])
        # 1 / √(1 + noise / signal)
        assert np.mean(values, axis=0)[8:] == pytest.approx(0.5, abs=0.06)

    def test_of_a_shift_falls_with_frequency(self):
        rng = np.random.default_rng(5)
        image = rng.normal(300, 1, (128, 128))
        moved = np.roll(image, 1, axis=1)
        frequency, correlation = fourier_ring_correlation(image, moved, PIXEL_M)
        # Mean over directions of cos(2π f d cos θ) is Bessel's J0; d is a pixel.
        assert correlation[4:] == pytest.approx(
            j0(2 * np.pi * frequency[4:] * PIXEL_M / 1000), abs=0.2
        )

    def test_gaps_of_either_are_left_out_of_both(self):
        truth, prediction = noise(1), noise(2)
        prediction[20:40, 20:40] = np.nan
        _, expected = fourier_ring_correlation(truth, prediction, PIXEL_M)
        truth[20:40, 20:40] = 1e6
        _, correlation = fourier_ring_correlation(truth, prediction, PIXEL_M)
        assert np.array_equal(correlation, expected)

    def test_without_power_it_is_nan(self):
        for flat in (np.full((96, 120), 300.1), np.full((96, 120), np.nan)):
            assert np.isnan(fourier_ring_correlation(noise(), flat, PIXEL_M)[1]).all()

    def test_different_grids_are_refused(self):
        with pytest.raises(GridError, match="equal shapes"):
            fourier_ring_correlation(noise(), noise()[:-1], PIXEL_M)

    def test_a_sharp_low_pass_is_cut_at_its_wavelength(self):
        truth = noise(7, (128, 128))
        spectrum = np.fft.fft2(truth)
        distance = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
        rng = np.random.default_rng(8)
        lost = np.fft.fft2(rng.normal(0, 2, truth.shape))
        prediction = np.fft.ifft2(np.where(distance < 0.25, spectrum, lost)).real
        frequency, correlation = fourier_ring_correlation(truth, prediction, PIXEL_M)
        # A quarter of a cycle a pixel is a wave of four pixels, a kilometre.
        assert frequency[correlation < 0.5][0] == pytest.approx(1, rel=0.03)
